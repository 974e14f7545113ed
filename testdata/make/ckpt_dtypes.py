"""Every dtype torch can save, bit patterns included."""

from collections import OrderedDict

import torch

from common import finish, put, randn, raw_bytes, torch_save

GOOD = "ckpt/good/dtypes"

EIGHT_BIT_FLOATS = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                    "float8_e8m0fnu")


def bits(dtype, *shape, seed=0):
    """A tensor of random bits, read as any dtype."""
    size = torch.empty(0, dtype=dtype).element_size()
    count = 1
    for dim in shape:
        count *= dim
    flat = torch.from_numpy(raw_bytes(count * size, seed).copy())
    out = torch.empty(shape, dtype=dtype)
    torch.empty(0, dtype=torch.uint8).set_(out.untyped_storage()).copy_(flat)
    return out


def floats():
    special = torch.tensor([0.0, -0.0, 1.0, float("inf"), -float("inf"), float("nan"), 1e-42,
                            65504.0, 65520.0, 3.4e38, 1.0000001, 2.0 ** -24])
    state = OrderedDict()
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        state[f"{name}.normal"] = randn(2, 5, dtype=dtype)
        state[f"{name}.special"] = special.to(dtype)
    return state


def integers():
    state = OrderedDict()
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        dtype = getattr(torch, name)
        info = torch.iinfo(dtype)
        state[name] = torch.tensor([info.min, 0, 1, info.max], dtype=dtype)
    state["bool"] = torch.tensor([[True, False, True], [False, False, True]])
    return state


def quantized():
    source = randn(4, 6)
    state = OrderedDict()
    for name, zero in (("qint8", 3), ("quint8", 120), ("qint32", -5)):
        dtype = getattr(torch, name)
        state[f"tensor.{name}"] = torch.quantize_per_tensor(source, 0.05, zero, dtype)
        state[f"channel.{name}"] = torch.quantize_per_channel(
            source, torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64),
            torch.tensor([0, 1, 2, 3]), 0, dtype)
    state["transposed"] = torch.quantize_per_tensor(source, 0.05, 0, torch.qint8).t()
    state["plain"] = randn(3)
    return state


def shapes():
    state = OrderedDict([
        ("scalar", torch.tensor(3.5)), ("scalar_bool", torch.tensor(True)),
        ("empty", torch.empty(0)), ("zero_rows", torch.empty(0, 4)),
        ("zero_middle", torch.empty(2, 0, 3, dtype=torch.int16)),
        ("one", torch.ones(1)), ("ones", torch.ones(1, 1, 1, 1, 1)),
        ("six_dims", randn(1, 2, 1, 2, 1, 3)),
    ])
    return state


def main():
    put(f"{GOOD}/floats.pt", torch_save(floats()), note="f64 f32 f16 bf16, special values too")
    put(f"{GOOD}/integers.pt", torch_save(integers()), note="signed, unsigned, bool")
    complexes = OrderedDict([
        ("complex128", torch.view_as_complex(randn(3, 2, dtype=torch.float64))),
        ("complex64", torch.view_as_complex(randn(2, 3, 2))),
        ("complex32", torch.view_as_complex(randn(3, 2, dtype=torch.float16))),
    ])
    put(f"{GOOD}/complex.pt", torch_save(complexes), note="complex128, 64 and 32")
    eights = OrderedDict((name, bits(getattr(torch, name), 16, 16)) for name in EIGHT_BIT_FLOATS)
    put(f"{GOOD}/float8.pt", torch_save(eights), note="the five 8-bit floats, random bits")
    for name in EIGHT_BIT_FLOATS[:2]:
        every = torch.arange(256, dtype=torch.uint8).view(getattr(torch, name))
        put(f"{GOOD}/{name}_all.pt", torch_save({"all": every}), note=f"all 256 values of {name}")
    fours = OrderedDict([("packed", bits(torch.float4_e2m1fn_x2, 3, 8)),
                         ("scale", bits(torch.float8_e4m3fn, 3))])
    put(f"{GOOD}/float4.pt", torch_save(fours), note="float4_e2m1fn_x2: a byte holds two numbers")
    exotic = OrderedDict((name, bits(getattr(torch, name), 4)) for name in
                         ("bcomplex32", "bits8", "bits16", "bits1x8", "bits2x4", "bits4x2"))
    put(f"{GOOD}/exotic.pt", torch_save(exotic), note="bcomplex32 and the bits types")
    put(f"{GOOD}/quantized.pt", torch_save(quantized()), note="quantized per tensor, per channel")
    packed = torch.quantize_per_channel(
        randn(4, 6), torch.tensor([0.1, 0.2, 0.3, 0.4]), torch.zeros(4), 0, torch.quint4x2)
    put(f"{GOOD}/quantized_4bit.pt", torch_save({"w": packed}),
        note="quint4x2: packed storage, per_channel_affine_float_qparams")
    put(f"{GOOD}/shapes.pt", torch_save(shapes()), note="0-d, empty and zero dimensions, rank 6")
    finish(__file__)


if __name__ == "__main__":
    main()
