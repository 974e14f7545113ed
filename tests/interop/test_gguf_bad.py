"""GGUF files at the edge of the format: ggml's own reader, gguf-py and we, side by side.

What ggml refuses is refused here, but for what no ggml reads and other programs write (versions 1, big-endian files,
long names of images, ends without padding). What ggml reads is read here with the same names, keys and alignment, unless
two readers would find two different things in it. Table: docs/formats/gguf.md.
"""

import json
import os
import subprocess
import sys

import pytest

import judge
from gguf_bytes import ARR, BOOL, I32, STR, U8, U16, U32, U64, file, tensor
from judge import DONE, REFUSED, TESTDATA, facts, paths_of, run

BASE = os.environ.get("WEIGHTBRIDGE_GGML_BASE", "")
pytestmark = pytest.mark.skipif(not os.path.exists(BASE), reason="no libggml-base.so")

ASK = """
import ctypes as C, json, sys
lib = C.CDLL(sys.argv[1])
class Params(C.Structure):
    _fields_ = [("no_alloc", C.c_bool), ("ctx", C.c_void_p)]
lib.gguf_init_from_file.restype, lib.gguf_init_from_file.argtypes = C.c_void_p, [C.c_char_p, Params]
tensors = C.c_void_p()
file = lib.gguf_init_from_file(sys.argv[2].encode(), Params(sys.argv[3] == "header", C.addressof(tensors)))
if not file:
    sys.exit(3)
def ask(name, *kinds, gives=C.c_int64):
    function = getattr(lib, name)
    function.restype, function.argtypes = gives, [C.c_void_p, *kinds]
    return lambda *values: function(file, *values)
names, keys = (ask(f"gguf_get_{what}", C.c_int64, gives=C.c_char_p) for what in ("tensor_name", "key"))
out = {"tensors": [names(i).decode(errors="replace") for i in range(ask("gguf_get_n_tensors")())],
       "keys": [keys(i).decode(errors="replace") for i in range(ask("gguf_get_n_kv")())],
       "alignment": ask("gguf_get_alignment", gives=C.c_size_t)()}
print(json.dumps(out))
"""
DATA = bytes(range(32))
ARCH, ALIGN = "general.architecture", "general.alignment"
KEYS = [(ARCH, STR, "test")]


def ggml(path, how="header"):
    """What ggml's reader finds, None where it refuses. `how`: the header as llama.cpp asks for it, or all data too."""
    done = subprocess.run([sys.executable, "-c", ASK, BASE, str(path), how], capture_output=True, text=True)
    assert done.returncode in (0, 3), f"ggml ended with {done.returncode}"
    return json.loads(done.stdout) if done.returncode == 0 else None


def one(name="t", data=DATA):
    return tensor(name, [len(data) // 4], 0, data)


# Legal, or of no harm: read by all, whatever the specification says of good manners.
READ = {
    "a name of no bytes": file(KEYS, [one("")]),
    "a name of 63 bytes": file(KEYS, [one("n" * 63)]),
    "names with spaces and letters of other scripts": file(KEYS, [one("a b\tc"), one("é/Ü")]),
    "no architecture": file([], [one()]),
    "an architecture that is a number": file([(ARCH, U32, 1)], [one()]),
    "an architecture that is a list": file([(ARCH, ARR, (STR, ["llama"]))], [one()]),
    "an architecture of no letters": file([(ARCH, STR, "")], [one()]),
    "keys outside the specification's letters": file([*KEYS, ("Ünter-Key /x", U8, 1), (" ", U8, 1)], [one()]),
    "a key of 65535 bytes": file([*KEYS, ("k" * 65535, U8, 1)], [one()]),
    "a key of one byte more than the specification's": file([*KEYS, ("k" * 65536, U8, 1)], [one()]),
    "a NUL in a value": file([*KEYS, ("general.name", STR, "a\0b")], [one()]),
    "an alignment of 1": file([*KEYS, (ALIGN, U32, 1)], [one("a", DATA[:4]), one("b")]),
    "an alignment of 4, no multiple of 8": file([*KEYS, (ALIGN, U32, 4)], [one("a", DATA[:4]), one("b")]),
    "an alignment of 4096": file([*KEYS, (ALIGN, U32, 4096)], [one("a"), one("b")]),
    "no padding behind the last tensor": file(KEYS, [one(data=DATA[:4])], pad_end=False),
    "a string that is not UTF-8": file([*KEYS, ("x", STR, b"\xff\xfe"), ("y", ARR, (STR, [b"\xed\xa0\x80"]))], [one()]),
    "a lone file that says it is the sixth of one": file(
        [*KEYS, ("split.no", U16, 5), ("split.count", U16, 1), ("split.tensors.count", I32, 1)], [one()]),
    "a lone file of a set of none": file(
        [*KEYS, ("split.no", U16, 0), ("split.count", U16, 0), ("split.tensors.count", I32, 1)], [one()]),
    "bytes behind the last tensor": file(KEYS, [one()], tail=b"more"),
}
# Read by ggml, refused here: the words of the refusal.
REFUSED_HERE = {
    "a NUL in a name": (file(KEYS, [one("a\0b")]), "the name holds a NUL byte"),
    "a name of a NUL": (file(KEYS, [one("\0")]), "the name holds a NUL byte"),
    "a NUL in a key": (file([("general.name\0x", STR, "y"), *KEYS], [one()]), "the key holds a NUL byte"),
    "a NUL in a second alignment": (
        file([*KEYS, (ALIGN + "\0x", U32, 64)], [one("a"), one("b")], alignment=64), "the key holds a NUL byte"),
    "an end inside the last padding": (file(KEYS, [one(data=DATA[:4])])[:-3], "inside it"),
}
# Refused by ggml and here.
REFUSED_BY_BOTH = {
    "two names that are one up to the NUL": file(KEYS, [one("a\0b"), one("a\0c")]),
    "two names of no bytes": file(KEYS, [one(""), one("")]),
    "a name twice": file(KEYS, [one(), one()]),
    "a name of 64 bytes": file(KEYS, [one("n" * 64)]),
    "a name of 1000 bytes": file(KEYS, [one("n" * 1000)]),
    "a key of no bytes": file([*KEYS, ("", U8, 1)], [one()]),
    "a key twice": file([*KEYS, ("k", U8, 1), ("k", U8, 1)], [one()]),
    "a key twice, of two types": file([*KEYS, ("k", U8, 1), ("k", U32, 1)], [one()]),
    "an alignment of type u64": file([(ALIGN, U64, 32)], [one()]),
    "an alignment of type text": file([(ALIGN, STR, "32")], [one()]),
    "an alignment of 0": file([(ALIGN, U32, 0)], [one()], alignment=32),
    "an alignment of 24, a multiple of 8": file([(ALIGN, U32, 24)], [one()]),
}


def ours(path):
    return json.loads(run("inspect", "--json", path).stdout)


@pytest.mark.parametrize("name", READ)
def test_what_ggml_reads_is_read(name, tmp_path):
    import gguf
    path, out = tmp_path / "a.gguf", tmp_path / "b.gguf"
    path.write_bytes(READ[name])
    theirs = ggml(path)
    assert theirs is not None
    assert [tensor.name for tensor in gguf.GGUFReader(path).tensors] == theirs["tensors"]
    done = run("convert", path, out, "--verify")
    assert done.returncode == DONE, done.stderr
    assert [tensor["name"] for tensor in ours(path)["tensors"]] == theirs["tensors"]
    # The file that is written is the one that was read, keys and alignment included.
    assert ggml(out) == theirs
    assert out.read_bytes() == READ[name].removesuffix(b"more")


def test_a_bool_of_another_byte_is_told_of(tmp_path):
    """The specification forbids it; ggml and gguf-py read it as true, and what is written is a 1."""
    import gguf
    path, out = tmp_path / "a.gguf", tmp_path / "b.gguf"
    path.write_bytes(file([*KEYS, ("x", BOOL, 2), ("y", ARR, (BOOL, [0, 3]))], [one()]))
    assert ggml(path) is not None and gguf.GGUFReader(path).fields["x"].contents()
    done = run("convert", path, out, "--strict")
    assert done.returncode == REFUSED and 'key "x" and 1 more' in done.stderr and not out.exists(), done.stderr
    assert run("convert", path, out).returncode == DONE
    assert out.read_bytes() == file([*KEYS, ("x", BOOL, 1), ("y", ARR, (BOOL, [0, 1]))], [one()])


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_what_two_readers_would_read_differently_is_refused(name, tmp_path):
    data, words = REFUSED_HERE[name]
    path, out = tmp_path / "a.gguf", tmp_path / "b.safetensors"
    path.write_bytes(data)
    assert ggml(path) is not None, "ggml has changed its mind"
    judge.refused(path, out, words)


def test_a_nul_is_where_ggml_and_gguf_py_part(tmp_path):
    """Why it is refused: one file, its data at two places."""
    import gguf
    path = tmp_path / "a.gguf"
    path.write_bytes(REFUSED_HERE["a NUL in a second alignment"][0])
    assert (ggml(path)["alignment"], int(gguf.GGUFReader(path).alignment)) == (64, 32)


@pytest.mark.parametrize("name", REFUSED_BY_BOTH)
def test_what_ggml_refuses_is_refused(name, tmp_path):
    path, out = tmp_path / "a.gguf", tmp_path / "b.safetensors"
    path.write_bytes(REFUSED_BY_BOTH[name])
    assert ggml(path) is None
    judge.refused(path, out)


BAD = facts("gguf/bad/")
# Products that wrap: the reader of these libraries lets them pass, later ones do not.
NEWER = {"dims_overflow", "dims_overflow_zero", "dims_wrap_small", "bytes_pad_wrap"}


@pytest.mark.parametrize("fact", BAD, ids=paths_of(BAD))
def test_the_catalogue_is_right_about_ggml(fact, tmp_path):
    name = fact["path"].rsplit("/", 1)[1].removesuffix(".gguf")
    done = run("convert", TESTDATA / fact["path"], tmp_path / "out.safetensors")
    assert done.returncode == REFUSED, done.stderr
    if name in NEWER or fact["ggml"] == "aborts":
        return
    assert (ggml(TESTDATA / fact["path"], "all") is not None) == (fact["ggml"] == "accepts")


def test_what_other_formats_name_with_a_nul_is_written_for_every_reader(tmp_path):
    """safetensors allows such names: the file has one that ggml reads whole, and the way back has the old one."""
    header = {name: {"dtype": "F32", "shape": [8], "data_offsets": [at, at + 32]} for at, name in ((0, "a\0b"), (32, "a"))}
    import common
    source, target, back = (tmp_path / name for name in ("a.safetensors", "b.gguf", "c.safetensors"))
    source.write_bytes(common.st_bytes(header, DATA + DATA))
    judge.convert(source, target, "--as", "container", "--strict")
    theirs = ggml(target)
    assert theirs["tensors"][1] == "a" and theirs["tensors"][0].startswith("a~")
    judge.convert(target, back)
    assert judge.read_safetensors(back)[1] == judge.read_safetensors(source)[1]
