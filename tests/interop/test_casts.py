"""--dtype: the same bits as torch's own `.to(dtype)`, for every kind of number."""

from collections import OrderedDict

import numpy
import pytest
import safetensors.torch
import torch

from common import torch_save
from judge import convert, load_safely

TARGETS = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
BITS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}


def every_pattern(dtype):
    """All 65536 values of a 16-bit type."""
    return torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16).view(dtype)


def floats32():
    """Random bit patterns, and every tie and its neighbours for f16 and bf16."""
    random = numpy.random.default_rng(5).integers(0, 1 << 32, 100_000, dtype="uint32")
    halves = every_pattern(torch.float16).float().view(torch.int32).numpy().view("uint32")
    near = [halves + numpy.uint32(step) for step in (0x0FFF, 0x1000, 0x1001)]
    tops = numpy.arange(1 << 16, dtype="uint32") << 16
    near += [tops + numpy.uint32(step) for step in (0x7FFF, 0x8000, 0x8001)]
    small = numpy.arange(0, 0x00800000, 997, dtype="uint32")
    every = numpy.concatenate([random, *near, small])
    return torch.from_numpy(every.view("int32").copy()).view(torch.float32)


def sources():
    wide = floats32()
    return OrderedDict([
        ("f32", wide), ("f32.matrix", wide[:300].view(20, 15).t()),
        # Only values that f32 holds: torch rounds f64 to f16 by way of f32.
        ("f64", wide.double()),
        ("f16", every_pattern(torch.float16)), ("bf16", every_pattern(torch.bfloat16)),
        ("special", torch.tensor([0.0, -0.0, float("inf"), -float("inf"), float("nan"), 65504.0,
                                  65519.99, 65520.0, 3.4e38, 1e-45, 2.0 ** -24, 2.0 ** -25])),
    ])


def same_bits(found, wanted):
    """Bit for bit, but any NaN will do for a NaN."""
    assert found.dtype == wanted.dtype and found.shape == wanted.shape
    nan = wanted.isnan()
    assert torch.equal(found.isnan(), nan)
    view = BITS[wanted.dtype]
    left, right = found.contiguous().view(view)[~nan], wanted.contiguous().view(view)[~nan]
    assert torch.equal(left, right), f"{int((left != right).sum())} numbers differ"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("casts") / "source.pt"
    path.write_bytes(torch_save(sources()))
    return path


@pytest.mark.parametrize("container", ["safetensors", "pt"])
@pytest.mark.parametrize("name", TARGETS)
def test_cast_equals_torch(name, container, checkpoint, tmp_path):
    target = tmp_path / f"out.{container}"
    convert(checkpoint, target, "--dtype", name)
    loaded = (safetensors.torch.load_file(target) if container == "safetensors"
              else load_safely(target))
    for key, tensor in sources().items():
        same_bits(loaded[key], tensor.to(TARGETS[name]))


@pytest.mark.parametrize("name", TARGETS)
def test_whole_numbers_and_bools_stay(name, tmp_path):
    state = OrderedDict([("i", torch.arange(4)), ("u", torch.arange(4, dtype=torch.uint8)),
                         ("b", torch.tensor([True, False])), ("f", torch.ones(2))])
    (tmp_path / "in.pt").write_bytes(torch_save(state))
    convert(tmp_path / "in.pt", tmp_path / "out.safetensors", "--dtype", name)
    loaded = safetensors.torch.load_file(tmp_path / "out.safetensors")
    for key in "iub":
        assert loaded[key].dtype == state[key].dtype and torch.equal(loaded[key], state[key])
    assert loaded["f"].dtype == TARGETS[name]


def test_keep_is_the_default(checkpoint, tmp_path):
    convert(checkpoint, tmp_path / "a.safetensors")
    convert(checkpoint, tmp_path / "b.safetensors", "--dtype", "keep")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_ties_stay_tied_under_a_cast(tmp_path):
    weight = torch.ones(3, 2)
    state = OrderedDict([("a", weight), ("b", weight)])
    (tmp_path / "in.pt").write_bytes(torch_save(state))
    convert(tmp_path / "in.pt", tmp_path / "out.pt", "--dtype", "f16")
    loaded = load_safely(tmp_path / "out.pt")
    assert loaded["a"].dtype == torch.float16
    assert loaded["a"].data_ptr() == loaded["b"].data_ptr()
