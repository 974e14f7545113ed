"""Commands measured in turn: what the benchmarks beside this file share.

Every row is a process of its own; wall time, CPU time and peak memory are of that whole process.
The rows take turns, so that a slow minute of the machine falls on all alike; the figures are
medians, and a ratio is the median of the ratios of each turn's pair.
"""

import argparse
import glob
import os
import statistics
import subprocess
import time

PROGRAM = os.environ.get("WEIGHTBRIDGE") or os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "target", "release", "weightbridge")

# What everything is held against: label, command, the label its ratio is taken of.
COPY = ("cp A B && sync B",
        ["sh", "-c", 'cp "$1" "$2" && sync "$2"', "cp", "{source}", "{target}.copy"], None)


def ours(*arguments):
    return [PROGRAM, *arguments]


def asked(doc):
    """What the command line asks for, and the rows that are asked for of those there are."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-peers", action="store_true")
    arguments = parser.parse_args()
    return arguments, lambda rows: [row for row in rows if not arguments.without_peers or "--work" not in row[1]]


def clear(paths):
    for path in glob.glob(glob.escape(paths["target"]) + ".*"):
        os.unlink(path)


def measure(command, paths):
    clear(paths)
    os.sync()
    command = [part.format(**paths) for part in command]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        raise SystemExit(f"{command} failed with status {status}")
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def table(title, rows, paths, runs):
    """Runs the rows in turn and prints a table of them in Markdown."""
    seen = {label: [] for label, _, _ in rows}
    for turn in range(runs + 1):
        for label, command, _ in rows:
            figures = measure(command, paths)
            if turn > 0:  # the first turn fills the page cache
                seen[label].append(figures)
    middle = {label: [statistics.median(column) for column in zip(*figures)]
              for label, figures in seen.items()}
    print(f"| {title}, {runs} runs, medians | wall | against cp | CPU | peak |")
    print("|---|---|---|---|---|")
    for label, _, base in rows:
        wall, cpu, peak = middle[label]
        ratio = ""
        if base:
            pairs = zip(seen[label], seen[base])
            ratio = f"{statistics.median(a[0] / b[0] for a, b in pairs):.2f}"
        time_text = f"{wall:.2f} s" if wall > 0.1 else f"{wall * 1000:.1f} ms"
        cpu_text = f"{cpu:.2f} s" if cpu > 0.1 else f"{cpu * 1000:.1f} ms"
        print(f"| {label} | {time_text} | {ratio} | {cpu_text} | {peak:.0f} MiB |")
    clear(paths)
