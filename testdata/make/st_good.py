"""Lawful safetensors files, by the library where it can, by hand where it cannot."""

import json
import struct
from collections import OrderedDict

import torch
from safetensors import deserialize
from safetensors.numpy import save as save_numpy
from safetensors.torch import save, save_model

from common import finish, put, randn, raw_bytes, rng, st_bytes
from research.models import Net

GOOD = "safetensors/good"

BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8,
        "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16,
        "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "C64": 64, "F64": 64, "I64": 64,
        "U64": 64}


def lawful(data):
    deserialize(data)
    return data


def by_hand(tensors, metadata=None, **options):
    """A file from {name: (dtype, shape, bytes)}."""
    header, body = {}, b""
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape,
                        "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    return st_bytes(header, body, **options)


def sample(dtype, shape, seed=0):
    count = 1
    for dim in shape:
        count *= dim
    raw = raw_bytes(count * BITS[dtype] // 8, seed)
    return (raw % 2 if dtype == "BOOL" else raw).astype("uint8").tobytes()


def every_dtype():
    return {f"t.{dtype.lower()}": (dtype, [4, 8], sample(dtype, (4, 8))) for dtype in BITS}


def main():
    put(f"{GOOD}/every_dtype.safetensors", lawful(by_hand(every_dtype())),
        note="all 22 dtypes of safetensors 0.8")
    for dtype in ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "C64"):
        put(f"{GOOD}/{dtype.lower()}.safetensors",
            lawful(by_hand({"w": (dtype, [3, 8], sample(dtype, (3, 8)))})), note=f"one {dtype} tensor")
    state = OrderedDict([("b.weight", randn(3, 4)), ("a.bias", randn(3, dtype=torch.float16)),
                         ("c.ids", torch.arange(5)), ("d.mask", torch.tensor([True, False])),
                         ("e.bf16", randn(2, 2, dtype=torch.bfloat16))])
    put(f"{GOOD}/library.safetensors", save(state, {"format": "pt"}),
        note="safetensors.torch.save with metadata")
    put(f"{GOOD}/no_metadata.safetensors", save(state), note="safetensors.torch.save without metadata")
    put(f"{GOOD}/numpy.safetensors",
        save_numpy({"w": rng().standard_normal((2, 3)), "i": rng().integers(0, 9, 4)}),
        note="safetensors.numpy.save")
    path = f"{GOOD}/tied_model.safetensors"
    put(path, tied_model(), note="save_model of a tied module: the dropped name is in the metadata")
    put(f"{GOOD}/shapes.safetensors", save({
        "scalar": torch.tensor(1.5), "empty": torch.empty(0), "zero": torch.empty(3, 0, 2),
        "one": torch.ones(1), "six": torch.ones(1, 2, 1, 2, 1, 2)}), note="rank 0, empty, rank 6")
    put(f"{GOOD}/no_tensors.safetensors", lawful(st_bytes({})), note="no tensors")
    put(f"{GOOD}/only_metadata.safetensors", lawful(st_bytes({"__metadata__": {"a": "b"}})),
        note="metadata and no tensors")
    one = {"w": ("F32", [2], struct.pack("<2f", 1, 2))}
    put(f"{GOOD}/metadata.safetensors", lawful(by_hand(one, {
        "format": "pt", "note": "été \"quoted\"\n", "empty": "", "json": "{\"a\": [1]}"})),
        note="several metadata entries, by hand: the library writes them in no fixed order")
    put(f"{GOOD}/unpadded.safetensors", lawful(by_hand(one, pad=False)), note="header not padded")
    wide = st_bytes(json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
                    + b" " * 500, struct.pack("<2f", 1, 2))
    put(f"{GOOD}/wide_padding.safetensors", lawful(wide), note="500 spaces of padding")
    pairs = [("late", "F32", [1], 8), ("early", "F64", [1], 0)]
    header = {name: {"dtype": kind, "shape": shape,
                     "data_offsets": [at, at + (4 if kind == "F32" else 8)]}
              for name, kind, shape, at in pairs}
    put(f"{GOOD}/header_order.safetensors", lawful(st_bytes(header, bytes(range(12)))),
        note="header in another order than the data")
    odd = {"": ("U8", [1], b"a"), "a/b c": ("U8", [1], b"b"), "日本": ("U8", [1], b"c"),
           "x" * 300: ("U8", [1], b"d"), "quote\"\\\n": ("U8", [1], b"e")}
    put(f"{GOOD}/odd_names.safetensors", lawful(by_hand(odd)), note="empty, long and escaped names")
    unaligned = {"a": ("U8", [1], b"\x01"), "b": ("F32", [1], struct.pack("<f", 2.5))}
    put(f"{GOOD}/unaligned.safetensors", lawful(by_hand(unaligned)), note="an unaligned f32")
    put(f"{GOOD}/really_safetensors.pt", save(state, {"format": "pt"}),
        note="safetensors under the wrong extension")
    finish(__file__)


def tied_model():
    import tempfile

    from ckpt_layouts import fill

    with tempfile.NamedTemporaryFile() as file:
        save_model(fill(Net()), file.name)
        file.seek(0)
        return open(file.name, "rb").read()


if __name__ == "__main__":
    main()
