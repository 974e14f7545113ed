"""A tree of repositories to safetensors: weightbridge beside a shell loop over Python, and `cp -r` and `sync`.

    benches/migrate.py FOLDER [--count 200] [--megabytes 4] [--loop 20] [--runs 3]
    benches/migrate.py FOLDER --memory [--count 8] [--megabytes 1000] [--budget 256MiB]

FOLDER gets the tree and the outputs, and should be on a disk, not in memory. The tree is made once and
stays. Run it with a Python that has torch and safetensors: the loop is what people write, one process a
repository. It is timed over --loop repositories and counted up. The other two go in turn, each over
the whole tree, with the disk synced before and after; medians of wall time, rate and processor time are
printed.

--memory prints the peak resident memory of one run; its repositories are copies of one file.
"""

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("WEIGHTBRIDGE") or str(ROOT / "target/release/weightbridge")

LOOP = """
import sys, torch
from safetensors.torch import save_file
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
save_file({k: v.contiguous() for k, v in state.items()}, sys.argv[2], metadata={"format": "pt"})
"""


def make(tree, count, megabytes, copied):
    import torch
    if tree.exists():
        return
    first = None
    for n in range(count):
        folder = tree / f"org/model-{n:03}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"model_type": "bench"}))
        (folder / "README.md").write_text("words " * 300)
        weights = folder / "pytorch_model.bin"
        if copied and first:
            shutil.copyfile(first, weights)
            continue
        torch.manual_seed(n)
        parts = max(4, megabytes // 64)
        elements = megabytes * 10**6 // 4 // parts
        torch.save({f"layers.{i}.weight": torch.randn(elements) for i in range(parts)}, weights)
        first = weights
    os.sync()


def timed(work):
    """Wall time with the disk synced, and the processor's time of the children."""
    os.sync()
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    os.sync()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (time.perf_counter() - start,
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def median(times):
    return [statistics.median(column) for column in zip(*times)]


def ours(folder, tree, extra=()):
    plan = folder / "plan.jsonl"
    subprocess.run([PROGRAM, "-q", "migrate", "plan", tree, "--to", "safetensors", "--dest", folder / "dest",
                    "-o", plan], check=True)
    subprocess.run([PROGRAM, "-q", "migrate", "run", plan, *extra], check=True)


def clean(folder):
    shutil.rmtree(folder / "dest", ignore_errors=True)
    shutil.rmtree(folder / "copy", ignore_errors=True)
    shutil.rmtree(folder / "plan.jsonl.journal", ignore_errors=True)
    (folder / "plan.jsonl").unlink(missing_ok=True)


def rates(args, folder, tree):
    total = args.count * args.megabytes
    times = {"ours": [], "cp": []}
    for _ in range(args.runs):
        clean(folder)
        times["cp"].append(timed(lambda: subprocess.run(["cp", "-r", tree, folder / "copy"], check=True)))
        clean(folder)
        times["ours"].append(timed(lambda: ours(folder, tree)))
    clean(folder)
    (folder / "dest").mkdir()
    repositories = sorted((tree / "org").iterdir())[: args.loop]

    def loop():
        for repository in repositories:
            subprocess.run([sys.executable, "-c", LOOP, repository / "pytorch_model.bin",
                            folder / "dest" / f"{repository.name}.safetensors"], check=True)

    looped = [figure / len(repositories) * args.count for figure in timed(loop)]
    clean(folder)
    cp, mine = median(times["cp"]), median(times["ours"])
    print(f"{args.count} repositories of {args.megabytes} MB")
    for name, (wall, cpu) in [("plan and run", mine), ("cp -r, sync", cp), ("loop over Python", looped)]:
        print(f"| {name} | {wall:.2f} s | {total / wall:.0f} MB/s | {cpu:.2f} s |")
    print(f"ours is {looped[0] / mine[0]:.1f} times the loop, and takes {mine[0] / cp[0]:.2f} times as long as cp")


def memory(args, folder, tree):
    clean(folder)
    plan = folder / "plan.jsonl"
    subprocess.run([PROGRAM, "-q", "migrate", "plan", tree, "--to", "safetensors", "--dest", folder / "dest",
                    "-o", plan], check=True)
    run = subprocess.Popen([PROGRAM, "-q", "migrate", "run", plan, "--memory", args.budget])
    _, status, usage = os.wait4(run.pid, 0)
    assert status == 0
    clean(folder)
    print(f"{args.count} repositories of {args.megabytes} MB, --memory {args.budget}: "
          f"peak {usage.ru_maxrss / 1024:.0f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--megabytes", type=int)
    parser.add_argument("--loop", type=int, default=20)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--budget", default="256MiB")
    args = parser.parse_args()
    args.count = args.count or (8 if args.memory else 200)
    args.megabytes = args.megabytes or (1000 if args.memory else 4)
    folder = args.folder
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / f"tree-{args.count}x{args.megabytes}"
    # In a process of its own: children are born with the memory of this one, which must stay small.
    maker = multiprocessing.get_context("spawn").Process(target=make, args=(tree, args.count, args.megabytes, args.memory))
    maker.start()
    maker.join()
    if maker.exitcode != 0:
        raise SystemExit(f"{tree} could not be made")
    (memory if args.memory else rates)(args, folder, tree)


if __name__ == "__main__":
    main()
