#!/usr/bin/env python3
"""Runs a weightbridge migration plan on a Ray cluster: one Ray task a slice of the plan.

    weightbridge migrate plan /shared/models --to safetensors --dest /shared/safe -o /shared/plan.jsonl
    python ray_migrate.py /shared/plan.jsonl --address auto

Plan, tree and destination must lie where every node sees them under the same path. Without --tasks
there is a task a model. A task that dies with its node is started again elsewhere by Ray, and goes on
from the plan's journal: slices are idempotent, and what is verified is not done again.

Exit codes are weightbridge's: 0 all done, 1 some models failed, 4 a task could not be run.
"""

import argparse
import json
import subprocess
import sys
import time

import ray


def size(text):
    """Bytes of a size as weightbridge's --memory takes it: 256MiB, 1GB."""
    units = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
    number = text.rstrip("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ ")
    try:
        return int(float(number) * units[text[len(number):].strip().lower()])
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 256MiB") from None


def slice_of(command):
    """One slice, on whichever node Ray chose. Raises only what another node may not suffer from."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode in (0, 1):
        return json.loads(done.stdout)
    if done.returncode == 2:
        return {"error": done.stderr.strip()}
    # A full disk or a lost mount: worth another try, perhaps elsewhere.
    raise RuntimeError(done.stderr.strip() or f"weightbridge ended with {done.returncode}")


def lines_of(plan):
    with open(plan, encoding="utf-8") as lines:
        return max(1, sum(1 for line in lines if line.strip()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan")
    parser.add_argument("--address", help="the cluster; a local one is started without it")
    parser.add_argument("--weightbridge", default="weightbridge", help="the program, as nodes find it")
    parser.add_argument("--tasks", type=int, help="slices; one a line of the plan if not given")
    parser.add_argument("--cpus", type=int, default=1, help="cores a task")
    parser.add_argument("--memory", type=str, default="256MiB", help="weightbridge's buffers a task")
    parser.add_argument("--retries", type=int, default=5, help="times a task is started again")
    parser.add_argument("--delete-originals", action="store_true")
    args = parser.parse_args()

    count = args.tasks or lines_of(args.plan)
    # What the program takes besides its buffers: code, headers, names of tensors.
    memory = size(args.memory) + 128 * 2**20
    # Ray talks on stdout, which is for the answer.
    sys.stdout = sys.stderr
    ray.init(address=args.address, log_to_driver=False)
    task = ray.remote(slice_of).options(
        num_cpus=args.cpus, memory=memory, max_retries=args.retries, retry_exceptions=True)

    waiting = {}
    for index in range(count):
        command = [args.weightbridge, "migrate", "run", args.plan, "--task", f"{index}/{count}",
                   "--json", "--quiet", "--threads", str(args.cpus), "--memory", args.memory]
        if args.delete_originals:
            command.append("--delete-originals")
        waiting[task.remote(command)] = index

    start, ended, failed, broken = time.monotonic(), 0, {}, []
    written = models = 0
    while waiting:
        ready, _ = ray.wait(list(waiting), num_returns=1)
        for ref in ready:
            index = waiting.pop(ref)
            ended += 1
            try:
                report = ray.get(ref)
            except ray.exceptions.RayError as error:
                report = {"error": str(error)}
            if "error" in report:
                broken.append(f"task {index}/{count}: {report['error']}")
                continue
            models += report["done"] + report["already"]
            written += report["nbytes_out"]
            # A line that nobody can read is told by every slice.
            failed.update({failure["line"]: failure for failure in report["failed"]})
            seconds = time.monotonic() - start
            left = seconds / ended * (count - ended)
            print(f"[{ended}/{count}] {models} models, {written / 1e6:.1f} MB written, "
                  f"{len(failed)} failed, {left:.0f} s left", file=sys.stderr, flush=True)

    for _, failure in sorted(failed.items()):
        help_text = f" {failure['help']}" if failure["help"] else ""
        print(f"line {failure['line']} {failure['model']}: {failure['message']}.{help_text}", file=sys.stderr)
    for text in broken:
        print(text, file=sys.stderr)
    print(json.dumps({"tasks": count, "models": models, "nbytes_out": written,
                      "failed": [failure for _, failure in sorted(failed.items())], "broken": broken}),
          file=sys.__stdout__)
    return 4 if broken else 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
