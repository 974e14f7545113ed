"""GGUF files byte by byte, for what gguf-py does not write; and what this folder's gguf scripts share."""

import struct
import sys

import numpy

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
PACK = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q",
        I64: "q", F64: "d"}
DEFAULT_ALIGNMENT = 32


def tools(*more):
    """What a file was made with, for the README."""
    names = [f"Python {sys.version.split()[0]}", f"numpy {numpy.__version__}"]
    return ", ".join([*names, *more])


def gguf_py():
    from importlib.metadata import version

    return f"gguf {version('gguf')}"


class Raw(bytes):
    """The bytes of a value, whatever its type."""


class Out:
    """Bytes of one version and byte order."""

    def __init__(self, version=3, big=False):
        self.version, self.big, self.data = version, big, bytearray()

    def pack(self, code, *values):
        self.data += struct.pack((">" if self.big else "<") + code, *values)

    def length(self, value):
        self.pack("I" if self.version == 1 else "Q", value & ((1 << (32 if self.version == 1 else 64)) - 1))

    def string(self, value, length=None):
        raw = value.encode() if isinstance(value, str) else value
        self.length(len(raw) if length is None else length)
        self.data += raw

    def value(self, kind, value):
        if kind == STR:
            self.string(value)
        elif kind == ARR:
            item, items, *count = value
            self.pack("I", item)
            self.length(count[0] if count else len(items))
            for one in items:
                self.value(item, one)
        else:
            self.pack(PACK[kind], value)


def tensor(name, dims, type_id, data, **wrong):
    """`dims` as the file has them, innermost first. `wrong` replaces what follows from these."""
    return {"name": name, "dims": dims, "type": type_id, "data": data, **wrong}


def file(pairs=(), tensors=(), version=3, big=False, alignment=None, pad_end=True, magic=b"GGUF",
         n_tensors=None, n_pairs=None, cut=None, tail=b"", version_field=None):
    """A file of `[(key, kind, value)]` and `tensor(...)`s; every other argument breaks something."""
    if alignment is None:
        alignment = next((value for key, kind, value, *_ in pairs
                          if key == "general.alignment" and kind == U32), DEFAULT_ALIGNMENT)
    out = Out(version, big)
    out.data += magic
    out.pack("I", version if version_field is None else version_field)
    out.length(len(tensors) if n_tensors is None else n_tensors)
    out.length(len(pairs) if n_pairs is None else n_pairs)
    for key, kind, value, *length in pairs:
        out.string(key, *length)
        out.pack("I", kind)
        if isinstance(value, Raw):
            out.data += value
        else:
            out.value(kind, value)
    offset = 0
    for one in tensors:
        out.string(one["name"], one.get("name_length"))
        out.pack("I", one.get("n_dims", len(one["dims"])))
        for dim in one["dims"]:
            out.length(dim)
        out.pack("I", one["type"])
        out.pack("Q", one.get("offset", offset))
        offset += padded(len(one["data"]), alignment)
    if tensors or pad_end:
        out.data += bytes(padded(len(out.data), alignment) - len(out.data))
    for number, one in enumerate(tensors):
        out.data += one["data"]
        if pad_end or number + 1 < len(tensors):
            out.data += bytes(padded(len(one["data"]), alignment) - len(one["data"]))
    data = bytes(out.data)
    return (data if cut is None else data[:cut]) + tail


def padded(size, alignment):
    return (size + alignment - 1) // alignment * alignment if alignment > 0 else size
