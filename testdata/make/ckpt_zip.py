"""Zip containers as torch.save writes them, and every lawful variation of the container."""

import io
import struct
import zipfile
from collections import OrderedDict

import torch

from common import entries, finish, put, randn, rezip, torch_save

GOOD = "ckpt/good/zip"


def small():
    return OrderedDict([("weight", randn(3, 4)), ("bias", randn(3, seed=1)),
                        ("steps", torch.tensor(7))])


def with_prefix(data, prefix, compress=zipfile.ZIP_STORED, zip64=False, keep=lambda name: True):
    """The same records under another top folder, packed by another zip writer."""
    items = [(name.split("/", 1)[1], body) for name, body in entries(data)]
    return rezip([(prefix + name, body) for name, body in items if keep(name)], compress, zip64)


def big_endian():
    """What a big-endian machine writes: swapped storages, byteorder `big`."""
    state = OrderedDict([("f32", randn(2, 3)), ("i64", torch.arange(5)),
                         ("bf16", randn(4, dtype=torch.bfloat16)),
                         ("c64", torch.view_as_complex(randn(3, 2))),
                         ("bytes", torch.arange(6, dtype=torch.uint8)),
                         ("f64.t", randn(2, 3, dtype=torch.float64).t())])
    widths = {str(key): tensor.element_size() for key, tensor in enumerate(state.values())}
    widths["3"] = 4  # complex numbers are swapped part by part
    items = []
    for name, body in entries(torch_save(state)):
        key = name.rsplit("/", 1)[1]
        if name.endswith("/byteorder"):
            body = b"big"
        elif "/data/" in name:
            width = widths[key]
            body = b"".join(body[at:at + width][::-1] for at in range(0, len(body), width))
        items.append((name, body))
    data = rezip(items)
    check(data, state)
    return data


def check(data, state):
    loaded = torch.load(io.BytesIO(data), weights_only=True)
    for name, tensor in state.items():
        assert torch.equal(loaded[name], tensor), name


def set_comment(data, comment):
    end = data.rindex(b"PK\x05\x06")
    return data[:end + 20] + struct.pack("<H", len(comment)) + comment


def main():
    state = small()
    saved = torch_save(state)
    put(f"{GOOD}/state_dict.pt", torch_save(state, "state_dict.pt"), note="as saved to a path")
    put(f"{GOOD}/bytesio.pt", saved, note="saved to a BytesIO: top folder `archive`")
    put(f"{GOOD}/renamed.bin", torch_save(state, "first_name.pt"), note="renamed after saving")
    put(f"{GOOD}/odd_name.pt", torch_save(state, "été 2024 (final).v2.pt"),
        note="top folder with a space, dots and letters outside ASCII")
    put(f"{GOOD}/checkpoint_named.safetensors", torch_save(state, "weights"),
        note="a checkpoint under the wrong extension")
    put(f"{GOOD}/no_extension", torch_save(state, "weights"), note="no extension")
    for protocol in (2, 3, 4, 5):
        put(f"{GOOD}/protocol{protocol}.pt", torch_save(state, pickle_protocol=protocol),
            note=f"torch.save with pickle_protocol={protocol}")
    put(f"{GOOD}/big_endian.pt", big_endian(), note="storages swapped, byteorder `big`")
    put(f"{GOOD}/deflated.pt", with_prefix(saved, "archive/", zipfile.ZIP_DEFLATED),
        note="re-zipped with deflate")
    put(f"{GOOD}/zip64.pt", with_prefix(saved, "archive/", zip64=True),
        note="re-zipped with zip64 local records")
    put(f"{GOOD}/no_markers.pt",
        with_prefix(saved, "archive/", keep=lambda n: n.startswith("data") or n == "version"),
        note="only data.pkl, data/ and version, as torch 1.6 wrote")
    many = OrderedDict((f"layer.{index}.weight", randn(2, seed=index)) for index in range(40))
    put(f"{GOOD}/many_tensors.pt", torch_save(many), note="40 storages: keys 0 to 39")
    empty = torch_save(OrderedDict())
    put(f"{GOOD}/empty.pt", empty, note="an empty state dict")
    storage = torch_save({"state_dict": {"w": randn(2, 2)}, "raw": randn(5).untyped_storage()})
    put(f"{GOOD}/bare_storage.pt", storage, note="a bare storage beside the state dict")
    put(f"{GOOD}/comment.pt", set_comment(with_prefix(saved, "archive/"), b"made by hand"),
        note="with an archive comment")
    from torch.utils.serialization import config
    before = config.save.storage_alignment
    config.save.storage_alignment = 4096
    put(f"{GOOD}/aligned4096.pt", torch_save({"a": randn(3), "b": randn(2, 2)}),
        note="storage_alignment 4096")
    config.save.storage_alignment = before
    finish(__file__)


if __name__ == "__main__":
    main()
