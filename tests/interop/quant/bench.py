"""Rates of our kernels beside ggml's, both timed in turn on the same rows in one loop.

    python tests/interop/quant/bench.py [TYPE ...]

Million elements a second, f32 input, one thread, the best of several rounds of each program.
"""
import subprocess
import sys
import time

import numpy as np

import ggml_ref as g
from test_quant import PIPE, build, levels

ROWS, WIDTH = 64, 4096


def ours(name, data, weights, kernels, rounds):
    head = b"" if weights is None else weights.tobytes()
    done = subprocess.run([PIPE, "bench", name, str(WIDTH), "F32", kernels,
                           "0" if weights is None else "1", str(rounds)],
                          input=head + data.tobytes(), capture_output=True, check=True)
    return float(done.stdout)


def ours_back(name, blocks, kernels, rounds):
    done = subprocess.run([PIPE, "bench-de", name, kernels, str(rounds)], input=blocks,
                          capture_output=True, check=True)
    return float(done.stdout)


def timed(job):
    start = time.perf_counter()
    job()
    return time.perf_counter() - start


def main():
    build()
    lib = g.Ggml(g.library_path())
    rng = np.random.default_rng(1)
    data = (rng.standard_normal((ROWS, WIDTH)) * 0.02).astype(np.float32)
    importance = g.importance(WIDTH, 1)
    names = [n for n in sys.argv[1:] if n != "--decode"] or [n for n in g.BLOCKS if n not in ("F16", "BF16")]
    kinds = [k for k in levels() if k != "scalar"]
    print("| type | mode | ggml | " + " | ".join(kinds) + " | ratio |")
    for name in names:
        modes = [("", None), ("imatrix", importance)]
        if name in g.NEEDS_IMPORTANCE:
            modes = modes[1:]
        if "--decode" in sys.argv:
            modes = []
        for label, weights in modes:
            part = data[:4] if name in g.IQ_SMALL else data
            base, best = 1e9, dict.fromkeys(kinds, 1e9)
            for _ in range(3):
                base = min(base, timed(lambda: lib.quantize(name, part, weights)))
                for k in kinds:
                    best[k] = min(best[k], ours(name, part, weights, k, 3))
            rate = lambda s: part.size / s / 1e6
            print(f"| {name} | {label} | {rate(base):.1f} | "
                  + " | ".join(f"{rate(best[k]):.0f}" for k in kinds) + " | "
                  + " / ".join(f"{base / best[k]:.1f}" for k in kinds) + " |", flush=True)
        weights = importance if name in g.NEEDS_IMPORTANCE else None
        part = data[:1] if name in g.IQ_SMALL else data
        blocks = lib.quantize(name, part, weights) * (data.size // part.size)
        base, best = 1e9, dict.fromkeys(kinds, 1e9)
        for _ in range(3):
            base = min(base, timed(lambda: lib.dequantize(name, blocks)))
            for k in kinds:
                best[k] = min(best[k], ours_back(name, blocks, k, 5))
        rate = lambda s: data.size / s / 1e6
        print(f"| {name} | read | {rate(base):.0f} | "
              + " | ".join(f"{rate(best[k]):.0f}" for k in kinds) + " | "
              + " / ".join(f"{base / best[k]:.1f}" for k in kinds) + " |", flush=True)


main()
