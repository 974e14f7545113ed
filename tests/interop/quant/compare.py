"""Quick comparison from a shell: compare.py [KERNELS] [TYPE ...]."""
import subprocess
import sys

import numpy as np

import ggml_ref as g
from test_quant import PIPE, build, decode, encode


def main():
    kernels = sys.argv[1] if len(sys.argv) > 1 else "best"
    names = sys.argv[2:] or [n for n in g.BLOCKS]
    build()
    lib = g.Ggml(g.library_path())
    for name in names:
        per, size = g.BLOCKS[name]
        line = []
        slow = name in g.IQ_SMALL
        for weighted in (False, True):
            if not weighted and name in g.NEEDS_IMPORTANCE:
                continue
            for width, count in ((256, 64), (4096 + 256, 12 if slow else 60)):
                sets = dict(g.inputs(width, count, 3), edges=g.edge_rows(width))
                for label, rows in sets.items():
                    w = g.importance(width, 5) if weighted else None
                    if slow:
                        rows = rows[g.survivors(lib, name, rows, w)]
                    want = np.frombuffer(lib.quantize(name, rows, w), np.uint8).reshape(-1, size)
                    try:
                        got = encode(name, rows, w, kernels)
                    except subprocess.CalledProcessError as e:
                        line.append("refused")
                        break
                    got = np.frombuffer(got, np.uint8).reshape(-1, size)
                    bad = np.nonzero((want != got).any(axis=1))[0]
                    if bad.size:
                        per_row = width // per
                        line.append(f"{'w ' if weighted else ''}{label}/{width}: {bad.size} of {len(want)} blocks"
                                    f" (rows {sorted(set((bad // per_row).tolist()))[:6]})")
                    if name not in ("F16", "BF16"):
                        a = lib.dequantize(name, want.tobytes())
                        b = decode(name, want.tobytes(), kernels)
                        if a.tobytes() != b:
                            line.append(f"decode {label}")
        print(name, kernels, "; ".join(line) or "equal", flush=True)


main()
