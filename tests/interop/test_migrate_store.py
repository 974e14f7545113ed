"""Migrations of trees in object storage: a real S3 server, bad networks, kills, and other people's keys."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

import judge
from bad_network import Proxy
from journal import verified
from storage import bucket, environment, killed_in_an_upload, needs_server, run, server  # noqa: F401  (fixtures)

pytestmark = needs_server

TREE = "s3://models/tree"
DEST = "s3://models/dest"


def state(number, mib=0):
    torch.manual_seed(number)
    many = {f"layers.{n}.weight": torch.randn(1024, 1024) for n in range(mib // 4)}
    return {"small": torch.arange(float(number + 1)), "half": torch.randn(33, 65).half(), **many}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A tree as files, and what a migration in folders makes of it."""
    base = tmp_path_factory.mktemp("models")
    tree = base / "tree"
    for number in range(5):
        folder = tree / f"org/m{number}"
        folder.mkdir(parents=True)
        # The last is larger than a part of an upload.
        torch.save(state(number, 24 if number == 4 else 0), folder / "pytorch_model.bin")
        (folder / "config.json").write_text('{"n": %d}' % number)
    (tree / "loose").mkdir()
    (tree / "loose/notes.txt").write_text("words")
    plan = base / "plan.jsonl"
    migrate(1, "plan", tree, "--to", "safetensors", "--dest", base / "dest", "-o", plan)
    migrate(1, "run", plan)
    return tree, files_of(base / "dest")


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def objects_of(bucket, prefix):
    return {key.removeprefix(prefix): bucket.get(key) for key in bucket.keys() if key.startswith(prefix)}


def fill(bucket, tree):
    for name, body in files_of(tree).items():
        bucket.put(f"tree/{name}", body)


def migrate(port, step, *arguments, code=0):
    done = run(port, "migrate", step, *arguments)
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stderr


def planned(bucket, tmp_path, root=TREE, dest=DEST, name="plan.jsonl"):
    plan = tmp_path / name
    migrate(bucket.port, "plan", root, "--to", "safetensors", "--dest", dest, "-o", plan)
    return plan


def clean(bucket):
    assert not [key for key in bucket.keys() if ".weightbridge-" in key]
    assert bucket.uploads() == []


def test_a_prefix_becomes_a_prefix(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    before = objects_of(bucket, "tree/")
    plan = planned(bucket, tmp_path)
    lines = [json.loads(line) for line in plan.read_text().splitlines()]
    assert not any(line.get("problem") for line in lines), lines
    assert all(file["tag"] for line in lines for file in line.get("inputs", []))
    report = migrate(bucket.port, "run", plan, "--json")
    assert (report["done"], report["already"], report["failed"]) == (6, 0, [])
    assert objects_of(bucket, "dest/") == expected
    assert objects_of(bucket, "tree/") == before
    for line in expected["org/m4/SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(bucket.get(f"dest/org/m4/{name}")).hexdigest() == digest
    clean(bucket)
    # What is done costs a look at each object, and nothing is written.
    with Proxy(bucket.port) as proxy:
        report = migrate(proxy.port, "run", plan, "--json")
        assert (report["done"], report["already"]) == (0, 6)
        assert {method for method, *_ in proxy.log} == {"HEAD"}
    assert migrate(bucket.port, "status", plan, "--json")["pending"] == 0


@pytest.mark.parametrize("way", ["from a folder", "to a folder"])
def test_folders_and_prefixes_mix(bucket, models, tmp_path, way):
    tree, expected = models
    if way == "from a folder":
        plan = planned(bucket, tmp_path, root=tree)
        assert not any(json.loads(line).get("problem") for line in plan.read_text().splitlines())
        migrate(bucket.port, "run", plan)
        assert objects_of(bucket, "dest/") == expected
    else:
        fill(bucket, tree)
        migrate(bucket.port, "run", planned(bucket, tmp_path, dest=tmp_path / "dest"))
        assert files_of(tmp_path / "dest") == expected
        assert not list((tmp_path / "dest").rglob(".weightbridge-*"))
    clean(bucket)


def test_a_plan_is_made_of_headers(bucket, models, tmp_path):
    tree, _ = models
    for number in range(3):
        bucket.put(f"tree/m{number}/pytorch_model.bin", (tree / "org/m4/pytorch_model.bin").read_bytes())
    with Proxy(bucket.port) as proxy:
        migrate(proxy.port, "plan", TREE, "--to", "safetensors", "--dest", DEST, "-o", tmp_path / "plan.jsonl")
        assert all(method in ("GET", "HEAD") for method, *_ in proxy.log)
        assert sum(n for *_, n in proxy.log) < 3 * (4 << 20), "of 72 MiB"


def test_keys_that_are_no_paths_are_told(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    odd = ["a%5C..%5Cevil.bin", "org//double.bin", "org/m0/%01.bin"]
    for key in odd:
        bucket.put(f"tree/{key}", b"x")
    plan = tmp_path / "plan.jsonl"
    report = migrate(bucket.port, "plan", TREE, "--to", "safetensors", "--dest", DEST, "-o", plan, "--json")
    told = [remark["path"] for remark in report["passed_over"]]
    assert sorted(told) == ["a\\..\\evil.bin", "org//double.bin", "org/m0/\x01.bin"], told
    assert report["convert"] == 5
    migrate(bucket.port, "run", plan)
    assert objects_of(bucket, "dest/") == expected


@pytest.mark.parametrize("seed", range(3))
def test_a_bad_network(bucket, models, tmp_path, seed):
    """Never a wrong byte under a final name; what a run could not do, the next does."""
    tree, expected = models
    fill(bucket, tree)
    plan = planned(bucket, tmp_path)
    with Proxy(bucket.port, seed=seed, rate=0.15) as proxy:
        for _ in range(4):
            done = run(proxy.port, "migrate", "run", plan, "--json")
            assert done.returncode in (0, 1), done.stderr
            there = objects_of(bucket, "dest/")
            for name, body in there.items():
                assert ".weightbridge-" in name or body == expected[name], name
            if done.returncode == 0:
                break
        assert proxy.faults
    assert done.returncode == 0, done.stdout
    assert objects_of(bucket, "dest/") == expected
    clean(bucket)


def test_kills(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    plan = planned(bucket, tmp_path)
    rng = random.Random(5)
    unfinished = 0
    with Proxy(bucket.port, pause=0.02) as proxy:
        start = time.monotonic()
        migrate(proxy.port, "run", plan)
        whole = time.monotonic() - start
        for _ in range(int(os.environ.get("WEIGHTBRIDGE_STORE_KILLS", "12"))):
            process = subprocess.Popen([judge.PROGRAM, "-q", "migrate", "run", str(plan)], env=environment(proxy.port),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(rng.uniform(0, whole))
            process.send_signal(signal.SIGKILL)
            process.wait()
            unfinished += len(bucket.uploads())
            for name, body in objects_of(bucket, "dest/").items():
                assert ".weightbridge-" in name or body == expected[name], name
            if migrate(bucket.port, "status", plan, "--json")["pending"] == 0:
                migrate(bucket.port, "run", plan)
                assert objects_of(bucket, "dest/") == expected
                assert set(verified(plan).values()) == {1}, "verified twice"
                clean(bucket)
                for key in bucket.keys():
                    if key.startswith("dest/"):
                        bucket.ask("DELETE", key)
                shutil.rmtree(f"{plan}.journal")
        migrate(proxy.port, "run", plan)
    print(f"{unfinished} uploads were cut off")
    assert objects_of(bucket, "dest/") == expected
    assert set(verified(plan).values()) == {1}
    clean(bucket)


def test_runs_that_are_killed_again_and_again_gain_ground(bucket, models, tmp_path):
    """Each is killed before the first four models can be named: the others have their turn, too."""
    tree, _ = models
    for number in range(12):
        bucket.put(f"tree/m{number:02}/pytorch_model.bin", (tree / "org/m3/pytorch_model.bin").read_bytes())
        bucket.put(f"tree/m{number:02}/config.json", b"{}")
    plan = planned(bucket, tmp_path)
    with Proxy(bucket.port, pause=0.03) as proxy:
        for _ in range(60):
            process = subprocess.Popen([judge.PROGRAM, "-q", "migrate", "run", str(plan)], env=environment(proxy.port),
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2)
            process.send_signal(signal.SIGKILL)
            process.wait()
            if migrate(bucket.port, "status", plan, "--json")["pending"] == 0:
                break
    assert migrate(bucket.port, "status", plan, "--json")["pending"] == 0
    migrate(bucket.port, "run", plan)
    assert set(verified(plan).values()) == {1}
    clean(bucket)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_stop_in_the_middle_of_an_upload(bucket, models, tmp_path, how):
    tree, expected = models
    fill(bucket, tree)
    plan = planned(bucket, tmp_path)
    code = killed_in_an_upload(bucket, how, "-q", "migrate", "run", plan)
    if how == signal.SIGTERM:
        assert code == 130
        clean(bucket)
    else:
        assert bucket.uploads() != []
    migrate(bucket.port, "run", plan)
    assert objects_of(bucket, "dest/") == expected
    clean(bucket)


def test_originals_go_after_verification(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    plan = tmp_path / "plan.jsonl"
    migrate(bucket.port, "plan", TREE, "--to", "safetensors", "--in-place", "-o", plan)
    migrate(bucket.port, "run", plan)
    both = objects_of(bucket, "tree/")
    weights = {name for name in both if name.endswith(".bin")}
    assert len(weights) == 5
    # An output that is not what was verified keeps its originals.
    good = bucket.get("tree/org/m1/model.safetensors")
    bucket.put("tree/org/m1/model.safetensors", good[:-1] + b"?")
    # So does a source that was replaced.
    bucket.put("tree/org/m2/pytorch_model.bin", b"other")
    report = migrate(bucket.port, "run", plan, "--delete-originals", "--json", code=1)
    assert sorted(failure["model"] for failure in report["failed"]) == [
        "org/m1/pytorch_model.bin", "org/m2/pytorch_model.bin"], report
    left = {name for name in objects_of(bucket, "tree/") if name.endswith(".bin")}
    assert left == {"org/m1/pytorch_model.bin", "org/m2/pytorch_model.bin"}
    for name, body in both.items():
        if name not in weights and name != "org/m1/model.safetensors":
            assert bucket.get(f"tree/{name}") == body
    clean(bucket)


def test_two_runs_and_two_journals(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    plan = planned(bucket, tmp_path)
    command = [judge.PROGRAM, "-q", "migrate", "run", "--json"]
    runs = [subprocess.Popen([*command, str(plan)], env=environment(bucket.port), stdout=subprocess.PIPE)
            for _ in range(2)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    assert sum(report["done"] for report in reports) == 6
    assert set(verified(plan).values()) == {1}
    assert objects_of(bucket, "dest/") == expected
    # Machines that share nothing but the bucket, each with its part; and then the whole plan again.
    parts = []
    for task in range(2):
        folder = tmp_path / f"machine{task}"
        folder.mkdir()
        parts.append(Path(shutil.copy(plan, folder)))
    for key in bucket.keys():
        if key.startswith("dest/"):
            bucket.ask("DELETE", key)
    runs = [subprocess.Popen([*command, str(part), "--task", f"{task}/2"], env=environment(bucket.port),
                             stdout=subprocess.PIPE) for task, part in enumerate(parts)]
    reports = [json.loads(process.communicate(timeout=300)[0]) for process in runs]
    assert [process.returncode for process in runs] == [0, 0]
    assert sum(report["done"] for report in reports) == 6
    runs = [subprocess.Popen([*command, str(part)], env=environment(bucket.port), stdout=subprocess.PIPE)
            for part in parts]
    assert [process.wait(300) for process in runs] == [0, 0]
    assert objects_of(bucket, "dest/") == expected
    clean(bucket)


def test_what_is_wrong_is_told_and_the_rest_is_done(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    bucket.put("tree/org/evil/pytorch_model.bin", b"cos\nsystem\n(S'true'\ntR.")
    bucket.put("tree/org/cut/pytorch_model.bin", (tree / "org/m4/pytorch_model.bin").read_bytes()[:-1000])
    plan = planned(bucket, tmp_path)
    lines = [json.loads(line) for line in plan.read_text().splitlines()]
    evil = next(line for line in lines if line["model"].startswith("org/evil"))
    assert evil["findings"][0]["severity"] == "dangerous"
    twin = {**next(line for line in lines if line["model"].startswith("org/m3")), "model": "twin"}
    plan.write_text("".join(json.dumps(line) + "\n" for line in [*lines, twin]) + '{"version": 1}\n')
    bucket.put("tree/org/m0/pytorch_model.bin", (tree / "org/m1/pytorch_model.bin").read_bytes())
    bucket.ask("DELETE", "tree/org/m1/pytorch_model.bin")
    bucket.put("dest/org/m2/model.safetensors", b"precious")
    report = migrate(bucket.port, "run", plan, "--json", code=1)
    said = {failure["model"] or failure["line"]: failure["message"] for failure in report["failed"]}
    for model, word in [("org/evil", "refused"), ("org/cut", ""), ("org/m0", "changed since the plan"),
                        ("org/m1", "is gone"), ("org/m2", "is there already")]:
        assert word in said.pop(f"{model}/pytorch_model.bin"), said
    assert sum("and so does line" in message for message in said.values()) == 2 and len(said) == 3, said
    assert bucket.get("dest/org/m2/model.safetensors") == b"precious"
    there = objects_of(bucket, "dest/")
    assert {name for name in there if name.startswith("org/m4")} == {
        name for name in expected if name.startswith("org/m4")}
    assert there["loose/notes.txt"] == b"words"
    assert not any(name.startswith(("org/evil", "org/cut", "org/m0", "org/m1/")) for name in there), list(there)
    clean(bucket)


def test_one_object_behind_http(bucket, models, tmp_path):
    tree, expected = models
    fill(bucket, tree)
    url = f"http://127.0.0.1:{bucket.port}/models/tree/org/m4/pytorch_model.bin"
    plan = planned(bucket, tmp_path, root=url, dest=tmp_path / "dest")
    migrate(bucket.port, "run", plan)
    assert (tmp_path / "dest/model.safetensors").read_bytes() == expected["org/m4/model.safetensors"]
    safetensors.torch.load_file(tmp_path / "dest/model.safetensors")
    for arguments in [(url, "--in-place"), (url, "--dest", "http://127.0.0.1/x")]:
        done = run(bucket.port, "migrate", "plan", *arguments, "--to", "safetensors", "-o", tmp_path / "no.jsonl")
        assert done.returncode == 2 and "for reading" in done.stderr, done.stderr
    for root, code, word in [("s3://models/none/", 4, ""), ("http://127.0.0.1:9/x/", 4, ""),
                             ("ftp://host/x", 2, "ftp"), ("s3://u:secret@b/x", 2, "credentials")]:
        done = run(bucket.port, "migrate", "plan", root, "--to", "safetensors", "--dest", DEST, "-o",
                   tmp_path / "no.jsonl")
        assert done.returncode == code and word in done.stderr, (root, done.stderr)
        assert "secret" not in done.stderr
    nested = run(bucket.port, "migrate", "plan", TREE, "--to", "safetensors", "--dest", f"{TREE}/x/", "-o",
                 tmp_path / "no.jsonl")
    assert nested.returncode == 2 and "in each other" in nested.stderr
