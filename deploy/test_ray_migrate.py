"""ray_migrate.py on a real Ray cluster: two working nodes on one machine, one of them killed half-way.

    python -m venv venv && venv/bin/pip install ray==2.60.0 safetensors==0.8.0 numpy pytest
    WEIGHTBRIDGE=target/release/weightbridge venv/bin/python -m pytest deploy/test_ray_migrate.py
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")
st = pytest.importorskip("safetensors.numpy")

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("WEIGHTBRIDGE") or str(ROOT / "target/release/weightbridge")
CHECKPOINT = ROOT / "testdata/ckpt/good/zip/state_dict.pt"
MODELS = 24


def test_a_node_dies_and_every_model_is_done_once(tmp_path):
    from ray.cluster_utils import Cluster
    tree, dest, plan = tmp_path / "tree", tmp_path / "dest", tmp_path / "plan.jsonl"
    for n in range(MODELS):
        folder = tree / f"m{n:02}"
        folder.mkdir(parents=True)
        (folder / "pytorch_model.bin").write_bytes(CHECKPOINT.read_bytes())
    done = subprocess.run([PROGRAM, "migrate", "plan", tree, "--to", "safetensors", "--dest", dest, "-o", plan])
    assert done.returncode == 0
    # Slow enough to be killed in the middle of one, and telling which node ran it.
    slow = tmp_path / "weightbridge-slow"
    log = tmp_path / "log"
    slow.write_text(f'#!/bin/sh\necho "start $RAY_NODE_OF_TEST" >> {log}\n"{PROGRAM}" "$@"\ncode=$?\nsleep 1\n'
                    f'echo "end $RAY_NODE_OF_TEST" >> {log}\nexit $code\n')
    slow.chmod(0o755)

    small = dict(object_store_memory=100 * 2**20, memory=2 * 2**30)
    cluster = Cluster()
    # The head only coordinates: the two that work are workers, and one of them dies. Not 127.0.0.1: Ray
    # takes that for the machine's outer address when a driver connects.
    cluster.add_node(num_cpus=0, node_ip_address="127.0.0.2", include_dashboard=False, **small)
    nodes = []
    for name, address in [("one", "127.0.0.2"), ("two", "127.0.0.3")]:
        nodes.append(cluster.add_node(num_cpus=2, node_ip_address=address, env_vars={"RAY_NODE_OF_TEST": name}, **small))
    driver = None
    try:
        cluster.wait_for_nodes(120)
        driver = subprocess.Popen(
            [sys.executable, ROOT / "deploy/ray_migrate.py", plan, "--address", cluster.address,
             "--weightbridge", slow], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline and driver.poll() is None:
            text = log.read_text() if log.exists() else ""
            if "end two" in text and text.count("start two") > text.count("end two"):
                break
            time.sleep(0.05)
        assert driver.poll() is None, driver.communicate()
        begun = log.read_text()
        cluster.remove_node(nodes[1], allow_graceful=False)
        out, err = driver.communicate(timeout=300)
    finally:
        if driver and driver.poll() is None:
            driver.kill()
        cluster.shutdown()
    assert driver.returncode == 0, err
    report = json.loads(out)
    assert report["models"] == MODELS and not report["failed"] and not report["broken"]
    assert f"[{MODELS}/{MODELS}]" in err
    assert begun.count("start two") > begun.count("end two"), "the node died while it worked"
    assert log.read_text().count("start one") > MODELS // 2, "its tasks ran elsewhere"
    expected = None
    for n in range(MODELS):
        names = sorted(path.name for path in (dest / f"m{n:02}").iterdir())
        assert names == ["SHA256SUMS", "model.safetensors"], names
        data = (dest / f"m{n:02}/model.safetensors").read_bytes()
        expected = expected or data
        assert data == expected
    assert st.load(expected)
    assert sorted(path.name for path in dest.iterdir()) == [f"m{n:02}" for n in range(MODELS)]
    times = {}
    for file in Path(f"{plan}.journal").glob("*.jsonl"):
        for line in file.read_text().splitlines():
            entry = json.loads(line)
            if entry["event"] == "verified":
                times[entry["id"]] = times.get(entry["id"], 0) + 1
    assert len(times) == MODELS and set(times.values()) == {1}
