"""Loads every hostile file in a process of its own and notes whether its payload ran.

The payloads print a word or create a file in a temporary folder (assemble.py). Those of the
first attack of the article are never loaded, and neither is any file marked `inert`.
"""

import json
import os
import subprocess
import sys
import tempfile

import assemble
import common

LOAD = """
import pickle, sys, warnings
warnings.simplefilter("ignore")
path, loads, torchscript = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "1"
if path.endswith(".pkl"):
    with open(path, "rb") as file:
        for _ in range(loads):
            pickle.load(file)
elif torchscript:
    import torch
    torch.jit.load(path)
else:
    import torch
    torch.load(path, weights_only=False)
"""


def ran(fact):
    path = common.TESTDATA / fact["path"]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WEIGHTBRIDGE_CANARY": assemble.CANARY}
        environment.pop("WEIGHTBRIDGE_ARMED", None)
        done = subprocess.run(
            [sys.executable, "-c", LOAD, str(path), str(fact.get("loads", 1)),
             "1" if fact["family"] == "torchscript_code" else "0"],
            cwd=folder, env=environment, capture_output=True, text=True)
        printed = fact.get("prints", "\0") in done.stdout
        return printed or os.path.exists(os.path.join(folder, assemble.CANARY)), done.stderr


def main():
    live = {}
    for fact in common.catalogue():
        if not fact["path"].startswith("ckpt/hostile/"):
            continue
        if fact.get("inert"):
            continue
        live[fact["path"]], error = ran(fact)
        if not live[fact["path"]]:
            print("not live:", fact["path"], error.strip().splitlines()[-1:])
    out = common.CATALOGUE.parent / "live.json"
    out.write_text(json.dumps(live, indent=1, sort_keys=True) + "\n")
    print(f"live: {sum(live.values())} of {len(live)} loaded")


if __name__ == "__main__":
    main()
