"""Models in Azure storage: conversions both ways, migrations and kills, against a real server."""

import json
import random
import shutil
import signal
import subprocess
import time

import pytest
import safetensors.torch
import torch

import judge
from azure import azurite, container, environment, needs_azurite, run  # noqa: F401  (fixtures)
from journal import verified

pytestmark = needs_azurite


def state(number, mib=0):
    torch.manual_seed(number)
    many = {f"layers.{n}.weight": torch.randn(1024, 1024) for n in range(mib // 4)}
    return {"small": torch.arange(float(number + 1)), "half": torch.randn(33, 65).half(), **many}


def ok(container, *arguments):
    done = run(container.port, *arguments)
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("mib", [0, 24])
def test_conversions_both_ways(container, tmp_path, mib):
    torch.save(state(1, mib), tmp_path / "a.bin")
    ok(container, "convert", tmp_path / "a.bin", "az://models/x/out.safetensors")
    there = safetensors.torch.load(container.get("x/out.safetensors"))
    assert all(torch.equal(there[name], tensor) for name, tensor in state(1, mib).items())
    ok(container, "convert", "az://models/x/out.safetensors", tmp_path / "back.pt")
    back = torch.load(tmp_path / "back.pt", weights_only=True)
    assert all(torch.equal(back[name], tensor) for name, tensor in state(1, mib).items())
    # What is there stays.
    done = run(container.port, "convert", tmp_path / "a.bin", "az://models/x/out.safetensors")
    assert done.returncode == 2 and "exists already" in done.stderr, done.stderr
    assert container.keys() == ["x/out.safetensors"]
    done = run(container.port, "inspect", "az://nobody/a.bin")
    assert done.returncode == 4 and "no such bucket" in done.stderr, done.stderr


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tree, and what a migration in folders makes of it."""
    base = tmp_path_factory.mktemp("models")
    for number in range(4):
        folder = base / f"tree/org/m{number}"
        folder.mkdir(parents=True)
        torch.save(state(number, 24 if number == 3 else 0), folder / "pytorch_model.bin")
        (folder / "config.json").write_text('{"n": %d}' % number)
    plan = base / "plan.jsonl"
    for step in [("plan", base / "tree", "--to", "safetensors", "--dest", base / "dest", "-o", plan), ("run", plan)]:
        assert run(1, "migrate", *step).returncode == 0
    return base / "tree", files_of(base / "dest")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def there(container, prefix="dest/"):
    return {key.removeprefix(prefix): container.get(key) for key in container.keys() if key.startswith(prefix)}


def planned(container, tmp_path, root, dest):
    plan = tmp_path / "plan.jsonl"
    ok(container, "migrate", "plan", root, "--to", "safetensors", "--dest", dest, "-o", plan)
    assert not any(json.loads(line).get("problem") for line in plan.read_text().splitlines())
    return plan


@pytest.mark.parametrize("way", ["inside", "to it", "from it"])
def test_migrations(container, models, tmp_path, way):
    tree, expected = models
    if way != "to it":
        for name, body in files_of(tree).items():
            container.put(f"tree/{name}", body)
    root = tree if way == "to it" else "az://models/tree"
    dest = tmp_path / "dest" if way == "from it" else "az://models/dest"
    plan = planned(container, tmp_path, root, dest)
    report = json.loads(ok(container, "migrate", "run", plan, "--json").stdout)
    assert (report["done"], report["failed"]) == (4, [])
    assert (files_of(dest) if way == "from it" else there(container)) == expected
    report = json.loads(ok(container, "migrate", "run", plan, "--json").stdout)
    assert (report["done"], report["already"]) == (0, 4)
    status = json.loads(ok(container, "migrate", "status", plan, "--json").stdout)
    assert (status["done"], status["pending"]) == (4, 0)


def test_kills(container, models, tmp_path):
    tree, expected = models
    plan = planned(container, tmp_path, tree, "az://models/dest")
    start = time.monotonic()
    ok(container, "migrate", "run", plan)
    whole = time.monotonic() - start
    rng = random.Random(11)
    for _ in range(8):
        for key in container.keys():
            container.ask("DELETE", key)
        shutil.rmtree(f"{plan}.journal")
        for _ in range(2):
            process = subprocess.Popen([judge.PROGRAM, "-q", "migrate", "run", str(plan)],
                                       env=environment(container.port),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, whole))
            process.send_signal(signal.SIGKILL)
            process.wait()
            for name, body in there(container).items():
                assert ".weightbridge-" in name or body == expected[name], name
        ok(container, "migrate", "run", plan)
        assert there(container) == expected
        assert set(verified(plan).values()) == {1}, "verified twice"
