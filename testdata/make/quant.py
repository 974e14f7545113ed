"""Makes testdata/quant: what ggml's own quantizers give for rows chosen to catch every shortcut.

    python testdata/make/quant.py        (numpy; WEIGHTBRIDGE_GGML_BASE or a place ggml_ref knows)

| file | what |
|---|---|
| rows-0.f32, rows-1.f32 | 62 rows of 512 little-endian f32, 31 a file |
| importance.f32 | 512 weights |
| expected.txt | a line each format and mode: one FNV-1a 64 of the output bytes a row, `-` where ggml aborts |

Modes: `plain`, `weighted` (with the importance), `decode` (one hash of the values ggml reads from
64 KiB of bytes of a fixed generator, cut to whole blocks; every NaN hashed as 7fc00000).
Tool: libggml-base.so of npm @node-llama-cpp/linux-x64 3.22.1 (ggml 0.25, MIT).
"""
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/interop/quant"))
import ggml_ref as g  # noqa: E402

OUT = ROOT / "testdata/quant"
WIDTH = 512


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def generated(length):
    state, out = 1, bytearray()
    for _ in range(length):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        out.append(state >> 24)
    return bytes(out)


def main():
    edges = g.edge_rows(WIDTH, 11)
    parts = [edges]
    for rows in g.inputs(WIDTH, 5, 12).values():
        parts.append(rows)
    rows = np.concatenate(parts)[:62]
    assert rows.shape == (62, WIDTH), rows.shape
    importance = g.importance(WIDTH, 13)
    OUT.mkdir(exist_ok=True)
    for i in range(2):
        (OUT / f"rows-{i}.f32").write_bytes(rows[31 * i:31 * i + 31].astype("<f4").tobytes())
    (OUT / "importance.f32").write_bytes(importance.astype("<f4").tobytes())
    lib = g.Ggml(g.library_path())
    lines = []
    for name, (per, size) in g.BLOCKS.items():
        if name in ("F16", "BF16"):
            continue
        for mode, weights in (("plain", None), ("weighted", importance)):
            if weights is None and name in g.NEEDS_IMPORTANCE:
                continue
            keep = np.ones(62, bool)
            if name in g.IQ_SMALL:
                keep = g.survivors(lib, name, rows, weights)
            hashes = [fnv(lib.quantize(name, rows[i:i + 1], weights)) if keep[i] else "-"
                      for i in range(62)]
            lines.append(f"{name} {mode} " + " ".join(hashes))
        values = lib.dequantize(name, generated(65536 // size * size))
        bits = values.view(np.uint32).copy()
        bits[np.isnan(values)] = 0x7FC00000
        lines.append(f"{name} decode " + fnv(bits.astype("<u4").tobytes()))
    (OUT / "expected.txt").write_text("\n".join(lines) + "\n")


main()
