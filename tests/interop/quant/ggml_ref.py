"""ggml's base library through ctypes, and inputs that make quantizers show their differences.

The library is `libggml-base.so` of the npm package `@node-llama-cpp/linux-x64` (the released
x86-64 build: no FMA). Its path: $WEIGHTBRIDGE_GGML_BASE, else the usual places below.
"""
import ctypes
import faulthandler
import glob
import os

import numpy as np

TYPES = {
    "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11,
    "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19,
    "IQ4_NL": 20, "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23, "IQ1_M": 29, "BF16": 30, "TQ1_0": 34,
    "TQ2_0": 35, "MXFP4": 39, "NVFP4": 40, "Q1_0": 41, "Q2_0": 42,
}
BLOCKS = {
    "F16": (1, 2), "BF16": (1, 2), "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22),
    "Q5_1": (32, 24), "Q8_0": (32, 34), "Q2_K": (256, 84), "Q3_K": (256, 110),
    "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210), "IQ2_XXS": (256, 66),
    "IQ2_XS": (256, 74), "IQ3_XXS": (256, 98), "IQ1_S": (256, 50), "IQ4_NL": (32, 18),
    "IQ3_S": (256, 110), "IQ2_S": (256, 82), "IQ4_XS": (256, 136), "IQ1_M": (256, 56),
    "TQ1_0": (256, 54), "TQ2_0": (256, 66), "MXFP4": (32, 17), "NVFP4": (64, 36),
    "Q1_0": (128, 18), "Q2_0": (64, 18),
}
NEEDS_IMPORTANCE = {"IQ2_XXS", "IQ2_XS", "IQ1_S"}
IQ_SMALL = {"IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ1_S", "IQ1_M"}


def library_path():
    places = [os.environ.get("WEIGHTBRIDGE_GGML_BASE", "")]
    cache = os.path.expanduser("~/.cache/weightbridge")
    places += glob.glob(f"{cache}/**/libggml-base.so", recursive=True)
    return next((p for p in places if p and os.path.exists(p)), None)


class Ggml:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        f = self.lib.ggml_quantize_chunk
        f.restype = ctypes.c_size_t
        f.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64,
                      ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]

    def quantize(self, name, rows, importance=None):
        rows = np.ascontiguousarray(rows, dtype=np.float32)
        per, size = BLOCKS[name]
        out = np.zeros(rows.size // per * size, dtype=np.uint8)
        if importance is not None:
            importance = np.ascontiguousarray(importance, dtype=np.float32)
            assert importance.size == rows.shape[1]
        done = self.lib.ggml_quantize_chunk(
            TYPES[name], rows.ctypes.data, out.ctypes.data, 0, rows.shape[0], rows.shape[1],
            None if importance is None else importance.ctypes.data)
        assert done == out.size
        return out.tobytes()

    def dequantize(self, name, blocks):
        per, size = BLOCKS[name]
        blocks = np.frombuffer(blocks, dtype=np.uint8)
        out = np.zeros(blocks.size // size * per, dtype=np.float32)
        f = getattr(self.lib, "dequantize_row_" + name.lower().replace("_k", "_K"))
        f.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        f(blocks.ctypes.data, out.ctypes.data, out.size)
        return out


def survivors(lib, name, rows, weights):
    """Which rows ggml quantizes without aborting: the small IQ types assert on extreme values."""
    keep = []
    lib.lib.ggml_quantize_init(TYPES[name])  # or every child would build the tables again
    for i in range(len(rows)):
        child = os.fork()
        if child == 0:
            faulthandler.disable()
            os.environ["GGML_NO_BACKTRACE"] = "1"
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            lib.quantize(name, rows[i:i + 1], weights)
            os._exit(0)
        keep.append(os.waitpid(child, 0)[1] == 0)
    return np.array(keep)


def edge_rows(width, seed=7):
    """Rows with the values that break shortcuts: ties, zeros, extremes, sparse, denormal."""
    rng = np.random.default_rng(seed)
    n = width
    f = np.float32
    normal = rng.standard_normal(n).astype(f)
    rows = [
        np.zeros(n, f), np.full(n, -0.0, f), np.full(n, 0.37, f), np.full(n, -6e4, f),
        np.full(n, 6e4, f), np.where(rng.random(n) < 0.5, f(1.5), f(-1.5)),
        np.where(rng.random(n) < 0.5, f(0.0), f(-0.0)),
        (rng.integers(-64, 65, n) / 64).astype(f), (rng.integers(-8, 9, n)).astype(f),
        (rng.integers(-4, 5, n) / 8 + 0.0625).astype(f),
        np.where(rng.random(n) < 0.02, normal * 100, 0).astype(f),
        np.where(np.arange(n) % 37 == 5, f(50), normal * f(1e-3)).astype(f),
        normal * f(1e-38), normal * f(1e-42), normal * f(1e-45), normal * f(1e-30),
        normal * f(1e-20), normal * f(1e-15), normal * f(1e-8), normal * f(1e8),
        normal * f(1e17), np.abs(normal), -np.abs(normal), normal + f(100), normal * f(1e-4) + f(1),
        (normal * 10.0 ** rng.integers(-12, 12, n)).astype(f),
        np.repeat(rng.standard_normal((n + 31) // 32), 32)[:n].astype(f),
        np.tile([f(1), f(-1)], n // 2), np.linspace(-1, 1, n).astype(f),
        rng.standard_normal(n).astype(np.float16).astype(f),
        (2.0 ** rng.integers(-20, 20, n) * rng.choice([-1, 1], n)).astype(f),
        np.nextafter((2.0 ** rng.integers(-20, 20, n)).astype(f), f(0)),
    ]
    bits = rng.integers(0, 2**32, n, dtype=np.uint32).view(f)
    rows.append(np.where(np.isfinite(bits) & (np.abs(bits) < 1e18), bits, 0).astype(f))
    mixed = [rng.permutation(np.concatenate(rows))[: n] for _ in range(4)]
    rows += [np.where(np.abs(m) < 1e18, m, 0) for m in mixed]
    # Every block its own edge: blocks of 16 and 32 taken from different rows.
    table = np.stack(rows)
    for step in (16, 32):
        pick = rng.integers(0, len(table), n // step)
        rows.append(np.concatenate(
            [table[p, i * step:(i + 1) * step] for i, p in enumerate(pick)]))
    return np.stack([np.asarray(r, f) for r in rows])


def inputs(width, rows, seed):
    """Name -> rows: the distributions weights have, and those they have not."""
    rng = np.random.default_rng(seed)
    f = np.float32
    shape = (rows, width)
    return {
        "normal": rng.standard_normal(shape).astype(f) * f(0.02),
        "student": rng.standard_t(2, shape).astype(f),
        "lattice": (rng.integers(-96, 97, shape) / 64).astype(f),
        "f16 rows": (rng.standard_normal(shape) * 10.0 ** rng.integers(-4, 3, (rows, 1)))
        .astype(np.float16).astype(f),
        "outliers": np.where(rng.random(shape) < 0.003, f(40), f(1))
        * rng.standard_normal(shape).astype(f),
    }


def importance(width, seed):
    rng = np.random.default_rng(seed)
    w = rng.standard_gamma(0.7, width).astype(np.float32)
    w[rng.random(width) < 0.01] = 0
    return w
