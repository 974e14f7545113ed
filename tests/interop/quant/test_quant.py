"""Our kernels against ggml's, byte for byte.

Run: `pytest tests/interop/quant` with numpy installed. A few rows of every kind are compared; with
WEIGHTBRIDGE_INTEROP=full millions of elements, and WEIGHTBRIDGE_INTEROP_ROWS scales that.
"""
import os
import pathlib
import subprocess

import numpy as np
import pytest

import ggml_ref as g

ROOT = pathlib.Path(__file__).resolve().parents[3]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PIPE = TARGET / "release/examples/quant_pipe"
FULL = os.environ.get("WEIGHTBRIDGE_INTEROP") == "full"
WIDTHS = (256, 4096, 5120 + 256) if FULL else (256, 1024 + 256)
DTYPES = {"F32": np.float32, "F16": np.float16}


def build():
    subprocess.run(["cargo", "build", "--release", "-q", "-p", "weightbridge-quant", "--example",
                    "quant_pipe"], cwd=ROOT, check=True)


def encode(name, rows, weights, kernels="best", dtype="F32"):
    args = [PIPE, "quantize", name, str(rows.shape[1]), dtype, kernels,
            "0" if weights is None else "1"]
    head = b"" if weights is None else np.asarray(weights, np.float32).tobytes()
    return subprocess.run(args, input=head + rows.tobytes(), capture_output=True, check=True).stdout


def decode(name, blocks, kernels="best"):
    return subprocess.run([PIPE, "dequantize", name, kernels], input=blocks, capture_output=True,
                          check=True).stdout


@pytest.fixture(scope="session")
def lib():
    path = g.library_path()
    if path is None:
        pytest.skip("libggml-base.so not found: npm pack @node-llama-cpp/linux-x64, unpack it and "
                    "set WEIGHTBRIDGE_GGML_BASE")
    build()
    return g.Ggml(path)


def levels():
    flags = open("/proc/cpuinfo").read()
    yield "scalar"
    yield "baseline"
    if " avx2" in flags:
        yield "avx2"
    if " avx512vl" in flags:
        yield "avx512"


def assert_same(name, want, got, what):
    size = g.BLOCKS[name][1]
    a = np.frombuffer(want, np.uint8).reshape(-1, size)
    b = np.frombuffer(got, np.uint8).reshape(-1, size)
    bad = np.nonzero((a != b).any(axis=1))[0]
    assert bad.size == 0, f"{name} {what}: {bad.size} of {len(a)} blocks differ, first {bad[0]}"


def sets(name, width, seed):
    scale = float(os.environ.get("WEIGHTBRIDGE_INTEROP_ROWS", "1" if FULL else "0.02"))
    count = max(1, int((16 if name in g.IQ_SMALL else 200) * scale))
    return dict(g.inputs(width, count, seed), edges=g.edge_rows(width, seed))


@pytest.mark.parametrize("kernels", levels())
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [n for n in g.BLOCKS if n not in ("F16", "BF16")])
def test_bytes(lib, name, weighted, kernels):
    if not weighted and name in g.NEEDS_IMPORTANCE:
        pytest.skip("ggml needs an importance matrix here")
    for seed, width in enumerate(WIDTHS, 1):
        for label, rows in sets(name, width, seed).items():
            w = g.importance(width, seed) if weighted else None
            if name in g.IQ_SMALL:
                rows = rows[g.survivors(lib, name, rows, w)]
            want = lib.quantize(name, rows, w)
            assert_same(name, want, encode(name, rows, w, kernels), f"{label} {width}")


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [n for n in g.BLOCKS if n not in ("F16", "BF16")])
def test_half_sources(lib, name, weighted, dtype):
    if not weighted and name in g.NEEDS_IMPORTANCE:
        pytest.skip("ggml needs an importance matrix here")
    for seed, width in enumerate(WIDTHS[1:], 4):
        for label, rows in sets(name, width, seed).items():
            with np.errstate(over="ignore"):
                if dtype == "F16":
                    half = np.clip(rows, -65504, 65504).astype(np.float16)
                    wide = half.astype(np.float32)
                else:
                    bits = rows.view(np.uint32)
                    half = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
                    wide = (half.astype(np.uint32) << 16).view(np.float32)
            w = g.importance(width, seed) if weighted else None
            if name in g.IQ_SMALL:
                keep = g.survivors(lib, name, wide, w)
                wide, half = wide[keep], half[keep]
            want = lib.quantize(name, wide, w)
            assert_same(name, want, encode(name, half, w, dtype=dtype), f"{label} {width}")


@pytest.mark.parametrize("name", ["F16", "BF16"])
def test_halves(lib, name):
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2**32, (1, 1 << 20), dtype=np.uint32)
    rows = np.concatenate([bits.view(np.float32), g.edge_rows(1 << 12).reshape(1, -1)], axis=1)
    assert_same(name, lib.quantize(name, rows), encode(name, rows, None), "random bits")


@pytest.mark.parametrize("kernels", levels())
@pytest.mark.parametrize("name", [n for n in g.BLOCKS if n not in ("F16", "BF16")])
def test_decode(lib, name, kernels):
    """Random bytes are blocks too, NaN and infinite scales included."""
    rng = np.random.default_rng(2)
    blocks = rng.integers(0, 256, g.BLOCKS[name][1] * 4096, dtype=np.uint8).tobytes()
    want = lib.dequantize(name, blocks)
    got = np.frombuffer(decode(name, blocks, kernels), np.float32)
    nan = np.isnan(want)
    assert (np.isnan(got) == nan).all()
    assert want[~nan].tobytes() == got[~nan].tobytes()


TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
         "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E4M3FNUZ": "float8_e4m3fnuz",
         "F8_E5M2FNUZ": "float8_e5m2fnuz", "F8_E8M0": "float8_e8m0fnu"}


@pytest.mark.parametrize("source", TORCH)
@pytest.mark.parametrize("target", ["F64", "F32", "F16", "BF16"])
def test_casts_equal_torch(source, target):
    torch = pytest.importorskip("torch")
    build()
    rng = np.random.default_rng(3)
    width = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}.get(source, 1)
    data = rng.integers(0, 256, (1 << 18) * width, dtype=np.uint8)
    if source == "F64":  # mostly in the range of the smaller types, and next to their ties
        halves = rng.integers(0, 1 << 16, 1 << 17, dtype=np.uint16).view(np.float16)
        near = halves.astype(np.float64) * (1 + 2.0**-11) * (1 + rng.choice([-1, 0, 1], 1 << 17) * 2.0**-40)
        data = np.concatenate([data, near.view(np.uint8)])
    tensor = torch.from_numpy(data).view(getattr(torch, TORCH[source]))
    want = tensor.to(getattr(torch, TORCH[target]))
    got = subprocess.run([PIPE, "quantize", target, "1", source, "best", "0"], input=data.tobytes(),
                         capture_output=True, check=True).stdout
    got = torch.frombuffer(bytearray(got), dtype=want.dtype)
    nan = torch.isnan(want)
    assert torch.equal(torch.isnan(got), nan)
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}[want.element_size()]
    assert torch.equal(got.view(bits)[~nan], want.view(bits)[~nan])
