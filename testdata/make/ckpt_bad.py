"""Zip checkpoints that must be refused: cut, lying, contradictory or built to exhaust."""

import io
import struct
import zipfile

import torch

import assemble as asm
from ckpt_zip import small
from common import entries, finish, put, rezip, torch_save
from hostile_torch import pickle_zip

BAD = "ckpt/bad/zip"
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"


def bad(name, data, note, **facts):
    put(f"{BAD}/{name}.pt", bytes(data), note=note, **facts)


def tensor(key=b"", offset=0, size=(2, 2), stride=(2, 1), numel=4, kind="FloatStorage"):
    """Opcodes that build one tensor, with any numbers."""
    key = key or asm.text("0")

    def number(value):
        if isinstance(value, bytes):
            return value
        if 0 <= value < 256:
            return asm.byte(value)
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw

    def dims(values):
        return asm.tuple_of(*map(number, values))

    storage = asm.tuple_of(asm.text("storage"), asm.glob("torch", kind), key, asm.text("cpu"),
                           number(numel)) + b"Q"
    return asm.call(asm.glob("torch._utils", "_rebuild_tensor_v2"), storage, number(offset),
                    dims(size), dims(stride), b"\x89",
                    asm.call(asm.glob("collections", "OrderedDict")))


def state(*pairs):
    items = b"".join(asm.text(name) + value for name, value in pairs)
    return asm.proto(2) + asm.EMPTY_DICT + asm.MARK + items + b"u" + asm.STOP


def one(**numbers):
    return pickle_zip(state(("w", tensor(**numbers))))


def patched(data, changes):
    """Bytes replaced at (marker, which one, distance): new bytes."""
    out = bytearray(data)
    for (marker, nth, distance), new in changes.items():
        at = -1
        for _ in range(nth + 1):
            at = out.index(marker, at + 1)
        out[at + distance:at + distance + len(new)] = new
    return out


def cut():
    saved = torch_save(small(), "state_dict.pt")
    bad("empty_file", b"", "no bytes at all")
    bad("cut_in_storage", saved[:saved.index(b"data/0") + 40], "ends within a storage")
    bad("cut_in_directory", saved[:saved.rindex(CENTRAL) + 20], "ends within the directory")
    bad("cut_last_byte", saved[:-1], "the last byte is missing")
    bad("no_directory", saved[:saved.index(CENTRAL)], "records without a directory")
    bad("empty_zip", END + bytes(18), "a zip of nothing")
    bad("text", b"this is no checkpoint\n" * 8, "plain text")
    bad("not_ours", rezip([("word/document.xml", b"<w/>"), ("mimetype", b"text")]),
        "a zip of something else")


def entries_missing():
    items = entries(torch_save(small(), "state_dict.pt"))

    def without(end):
        return rezip([item for item in items if not item[0].endswith(end)])

    bad("no_data_pkl", without("/data.pkl"), "data.pkl is missing")
    bad("no_storage", without("/data/1"), "storage 1 is missing")
    short = [(name, body[:-4] if name.endswith("/data/0") else body) for name, body in items]
    bad("short_storage", rezip(short), "storage 0 is four bytes shorter than declared")
    order = [(name, b"middle" if name.endswith("byteorder") else body) for name, body in items]
    bad("unknown_byteorder", rezip(order), "byteorder `middle`")
    bad("duplicate_storage", rezip([*items, (items[4][0], bytes(len(items[4][1])))]),
        "two entries of one name, with different bytes")
    two = [*items, *[(f"other/{name.split('/', 1)[1]}", body) for name, body in items]]
    bad("two_roots", rezip(two), "two top folders, each with a data.pkl")


def numbers():
    bad("numel_too_big", one(numel=400), "the storage declares 400 elements, the record has 4")
    bad("numel_2_60", one(numel=1 << 60), "the storage declares 2^60 elements")
    bad("offset_outside", one(offset=3), "the view ends beyond its storage")
    bad("offset_2_62", one(offset=1 << 62), "an offset of 2^62")
    bad("offset_negative", one(offset=-1), "an offset of -1")
    bad("shape_too_big", one(size=(3, 3), stride=(3, 1)), "the shape needs 9 elements of 4")
    bad("shape_overflow", one(size=(1 << 40, 1 << 40), stride=(1 << 40, 1)), "2^80 elements")
    bad("shape_negative", one(size=(-2, 2)), "a dimension of -2")
    bad("shape_bomb", one(size=(1 << 40,), stride=(0,)), "2^40 elements by a stride of 0")
    bad("stride_outside", one(stride=(1 << 61, 1)), "a stride of 2^61")
    bad("stride_negative", one(stride=(2, -1)), "a stride of -1")
    bad("stride_count", one(stride=(1,)), "two dimensions, one stride")
    bad("rank_5000", one(size=(1,) * 5000, stride=(1,) * 5000), "5000 dimensions")
    bad("size_is_text", pickle_zip(state(("w", tensor(size=(asm.text("two"),), stride=(1,))))),
        "a dimension that is a string")
    bad("key_nul", pickle_zip(state(("w", tensor(key=asm.text("0\0x"))))), "storage key `0\\0x`")
    bad("key_dotdot", pickle_zip(state(("w", tensor(key=asm.text("../data.pkl"))))),
        "storage key `../data.pkl`")
    both = state(("a", tensor()), ("b", tensor(kind="DoubleStorage")))
    bad("two_dtypes", pickle_zip(both), "one storage read as f32 and, beyond its end, as f64")
    bad("unknown_storage", one(kind="WeirdStorage"), "a storage class that does not exist")


def directory():
    stored = pickle_zip(state(("w", tensor())))
    bad("crc_storage", patched(stored, {(b"archive/data/0", 0, 14): b"\xff"}),
        "a bit of a storage flipped: its CRC does not fit")
    bad("size_lie", patched(stored, {(CENTRAL, 0, 24): struct.pack("<I", 1 << 30)}),
        "the directory says data.pkl has 2^30 bytes")
    bad("size_mismatch", patched(stored, {(LOCAL, 0, 22): struct.pack("<I", 7)}),
        "record and directory disagree about a size")
    bad("name_mismatch", patched(stored, {(LOCAL, 0, 30): b"archive/data.txt"}),
        "record and directory disagree about a name")
    bad("offset_outside_file", patched(stored, {(CENTRAL, 2, 42): struct.pack("<I", 1 << 30)}),
        "the record of data/0 lies beyond the file")
    bad("overlapping", patched(stored, {(CENTRAL, 2, 42): bytes(4)}),
        "two entries share one record")
    bad("method_unknown", patched(stored, {(CENTRAL, 2, 10): struct.pack("<H", 97),
                                           (LOCAL, 2, 8): struct.pack("<H", 97)}),
        "compression method 97")
    bad("count_lie", patched(stored, {(END, 0, 8): struct.pack("<HH", 60000, 60000)}),
        "the end record says 60000 entries")
    items = entries(stored)
    dotted = [(name.replace("archive/", "archive/../../"), body) for name, body in items]
    bad("name_dotdot", rezip(dotted), "entry names with `..`")
    absolute = [(f"/etc/{name}", body) for name, body in items]
    bad("name_absolute", rezip(absolute), "entry names that begin with `/`")


def bombs():
    zeros = bytes(40 << 20)
    items = entries(pickle_zip(state(("w", tensor(numel=10 << 20)))))
    named = {name: body for name, body in items}
    honest = deflated({**named, "archive/data/0": zeros})
    bad("bomb_lying", patched(honest, {(CENTRAL, 2, 24): struct.pack("<I", 16)}),
        "40 MiB deflated to 40 KiB; the directory says 16 bytes")
    bad("bomb_unused", deflated({**named, "archive/data.pkl": state(("w", tensor(numel=4))),
                                 "archive/data/0": zeros}),
        "40 MiB deflated where 16 bytes are declared")
    levels = 1_000_000
    bad("deep_tuples", deflated({**named, "archive/data.pkl": asm.proto(2) + asm.EMPTY_TUPLE
                                 + b"\x85" * levels + asm.STOP}), "a million nested tuples")
    bad("deep_lists", deflated({**named, "archive/data.pkl": asm.proto(2) + b"]" * levels
                                + b"a" * (levels - 1) + asm.STOP}), "a million nested lists")
    bad("deep_dicts", deflated({**named, "archive/data.pkl": asm.proto(2) + b"}K\0" * levels
                                + asm.NONE + b"s" * levels + asm.STOP}), "a million nested dicts")
    bad("deep_marks", deflated({**named, "archive/data.pkl": asm.proto(2) + b"(" * levels
                                + b"t" * levels + asm.STOP}), "a million open marks")
    double = b"".join(asm.put(slot) + asm.list_of(asm.get(slot), asm.get(slot))
                      for slot in range(60))
    bad("memo_bomb", pickle_zip(asm.proto(2) + tensor() + double + asm.STOP),
        "60 times [x, x]: 2^60 names of one tensor")


def deflated(named):
    return rezip(list(named.items()), zipfile.ZIP_DEFLATED)


def main():
    for part in (cut, entries_missing, numbers, directory, bombs):
        part()
    assert torch.load(io.BytesIO(one()), weights_only=True)["w"].shape == (2, 2)
    finish(__file__)


if __name__ == "__main__":
    main()
