"""Random state dicts over every dtype, shape and stride, both ways. Seeded: a failure repeats."""

from collections import OrderedDict

import numpy
import pytest
import torch

from ckpt_dtypes import bits
from common import legacy_save, torch_save
from judge import check_safetensors, convert, load_safely, named, oracle

CASES = 50
DTYPES = [getattr(torch, name) for name in (
    "float64", "float32", "float16", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "complex64", "complex128", "complex32", "float8_e4m3fn",
    "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")]
# Those the legacy stream holds and torch can read back from it.
OLD_DTYPES = [dtype for dtype in DTYPES if dtype not in torch.storage._new_dtypes()]


def random_tensor(rng, dtypes, pool):
    """A fresh tensor, or a view of one already made."""
    if pool and rng.random() < 0.3:
        base = pool[rng.integers(len(pool))]
        return random_view(rng, base)
    rank = int(rng.integers(0, 5))
    shape = [int(rng.choice([0, 1, 2, 3, 7], p=[0.04, 0.2, 0.3, 0.3, 0.16])) for _ in range(rank)]
    if rng.random() < 0.1:
        tensor = torch.from_numpy(numpy.array(rng.integers(0, 2, shape), dtype=bool))
    else:
        tensor = bits(dtypes[rng.integers(len(dtypes))], *shape, seed=int(rng.integers(1 << 30)))
    pool.append(tensor)
    return random_view(rng, tensor) if rng.random() < 0.3 else tensor


def random_view(rng, tensor):
    choice = int(rng.integers(0, 5))
    if choice == 0 and tensor.dim() > 1:
        return tensor.permute(*[int(dim) for dim in rng.permutation(tensor.dim())])
    if choice == 1 and tensor.dim() and tensor.shape[0] > 1:
        return tensor[1:]
    if choice == 2 and tensor.dim() and tensor.shape[-1] > 2:
        return tensor[..., ::2]
    if choice == 3:
        return tensor.unsqueeze(0).expand(3, *tensor.shape)
    return tensor


def random_state(seed, dtypes):
    rng = numpy.random.default_rng(seed)
    pool = []
    return OrderedDict((f"layer{index % 5}.t{index}", random_tensor(rng, dtypes, pool))
                       for index in range(int(rng.integers(1, 24))))


@pytest.mark.parametrize("seed", range(CASES))
def test_both_ways(seed, tmp_path):
    legacy = seed % 5 == 4
    state = random_state(seed, OLD_DTYPES if legacy else DTYPES)
    source = tmp_path / "source.pt"
    source.write_bytes(legacy_save(state) if legacy else torch_save(state))
    document = oracle.describe(source)
    convert(source, tmp_path / "out.safetensors")
    check_safetensors(tmp_path / "out.safetensors", document)
    convert(tmp_path / "out.safetensors", tmp_path / "back.pt")
    table, _ = named(load_safely(tmp_path / "back.pt"))
    assert table == named(state)[0]
    convert(source, tmp_path / "straight.pt")
    assert named(load_safely(tmp_path / "straight.pt")) == named(state)
