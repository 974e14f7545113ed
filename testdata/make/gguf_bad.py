"""GGUF files that must be refused: every class of llama.cpp's tests/test-gguf.cpp and of the advisories.

With WEIGHTBRIDGE_GGML set to a libggml-base.so, ggml's own reader is asked too, each time in a
process of its own, and must refuse what is not marked as ours to refuse.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import common
from common import finish, raw_bytes
from gguf_bytes import ARR, F64, I32, I64, STR, U8, U32, U64, Out, Raw, file, tensor, tools

BAD = "gguf/bad"
GGML = os.environ.get("WEIGHTBRIDGE_GGML")
ASK = """
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
class Params(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p)]
ctx = ctypes.c_void_p()
lib.gguf_init_from_file.restype = ctypes.c_void_p
lib.gguf_init_from_file.argtypes = [ctypes.c_char_p, Params]
params = Params(False, ctypes.addressof(ctx))
sys.exit(0 if lib.gguf_init_from_file(sys.argv[2].encode(), params) else 3)
"""


def ggml(data):
    """What ggml's reader does with a file: accepts, refuses or aborts."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.gguf"
        path.write_bytes(data)
        code = subprocess.run([sys.executable, "-c", ASK, GGML, path], capture_output=True).returncode
    return {0: "accepts", 3: "refuses"}.get(code, "aborts")


def bad(name, data, note, why, ggml_does="refuses", **facts):
    """`why` are words that the error must hold. `ggml_does` is what ggml's reader does."""
    if GGML:
        found = ggml(data)
        assert found == ggml_does, f"{name}: ggml {found}"
    common.put(f"{BAD}/{name}.gguf", data, note=note, why=why, ggml=ggml_does, tool=tools(), **facts)


BYTES = raw_bytes(4096, seed=1).tobytes()
KEYS = [("general.architecture", STR, "test"), ("n", U32, 7)]


def one(name="t", dims=(4, 2), kind=0, data=None, **wrong):
    return tensor(name, list(dims), kind, BYTES[:32] if data is None else data, **wrong)


GOOD = file(KEYS, [one()])
MAX = (1 << 64) - 1


def key(kind, raw):
    """A file of one key with these bytes for a value."""
    return file([("k", kind, Raw(raw))], pad_end=False)


def array(kind, count, raw=b""):
    out = Out()
    out.pack("I", kind)
    out.length(count)
    return bytes(out.data) + raw


def nested(depth):
    out = Out()
    for _ in range(depth):
        out.pack("I", ARR)
        out.length(1)
    out.pack("I", U8)
    out.length(0)
    return bytes(out.data)


def header():
    bad("magic", b"FUGG" + GOOD[4:], "bad magic", "begins with \"FUGG\"")
    bad("magic_old", b"tjgg" + GOOD[4:], "the magic of a format before GGUF", "from before GGUF")
    bad("empty", b"", "no bytes at all", "the magic at byte 0")
    bad("magic_only", b"GGUF", "nothing but the magic", "the version at byte 4")
    bad("version_0", file(version_field=0), "version 0", "the version is 0")
    bad("version_1", file(version_field=1), "version 3 marked as 1", "says version 1")
    bad("version_4", file(version_field=4), "a future version", "the version is 4")
    bad("version_big", file(version_field=0x04000000), "a future version, big endian", "the version is 4")
    bad("n_tensors_max", file(n_tensors=MAX), "2^64 - 1 tensors", "number of tensors is 18446744073709551615")
    bad("n_kv_max", file(n_pairs=MAX), "2^64 - 1 keys", "number of keys is 18446744073709551615")
    bad("n_tensors_wrap", file(KEYS, [one()], n_tensors=MAX // 88 + 2),
        "times the size of a record wraps: CVE-2024-25666, CVE-2024-21836", "number of tensors is")
    bad("n_kv_wrap", file(KEYS, [one()], n_pairs=MAX // 72 + 2),
        "times the size of a record wraps: CVE-2024-25664, CVE-2024-23605", "number of keys is")
    bad("n_tensors_more", file(KEYS, [one()], n_tensors=2), "a tensor too many", "the length of the name is")
    bad("n_kv_more", file(KEYS, [one()], n_pairs=3), "a key too many", "the length of the name is")
    bad("header_cut", GOOD[:40], "cut inside a key", "hold at most")


def keys():
    bad("key_length_max", file([("k", U8, 1, MAX)]), "a key of 2^64 - 1 bytes: CVE-2024-25665, CVE-2024-23496",
        "length of the key is 18446744073709551615")
    bad("key_empty", file([("", U8, 1)]), "an empty key", "the key is empty")
    bad("key_not_utf8", file([(b"\xff\xfe", U8, 1)]), "a key that is not text", "not UTF-8", "accepts")
    bad("key_nul", file([("general.name\0x", STR, "y")]), "a NUL in a key: for ggml it is general.name",
        "the key holds a NUL byte", "accepts")
    bad("key_nul_alignment", file([*KEYS, ("general.alignment\0x", U32, 64)], [one("a"), one("b")], alignment=64),
        "a NUL in a key: ggml takes the data to be aligned to 64, gguf-py to 32", "the key holds a NUL byte", "accepts")
    bad("key_twice", file([("k", U8, 1), ("k", U8, 2)]), "one key twice", "there twice")
    bad("value_type", key(13, b"\0"), "value type 13", "value type is 13")
    bad("value_type_max", key(0xFFFFFFFF, b"\0"), "value type 2^32 - 1", "value type is 4294967295")
    bad("array_type", key(ARR, array(99, 1, b"\0" * 8)), "element type 99", "value type is 99")
    bad("string_length_max", key(STR, b"\xff" * 8), "a string of 2^64 - 1 bytes: CVE-2024-23496",
        "length of the string is 18446744073709551615")
    bad("string_length_wrap", key(STR, (MAX - 1).to_bytes(8, "little") + b"x"),
        "a length that wraps when one is added", "length of the string")
    bad("string_cut", key(STR, (100).to_bytes(8, "little") + b"short"), "a string longer than the file",
        "length of the string is 100")
    bad("array_2_40", key(ARR, array(U8, 1 << 40)), "2^40 bytes: gguf-py hangs", "elements is 1099511627776")
    bad("array_wrap", key(ARR, array(F64, (1 << 61) + 1, b"\0" * 8)),
        "times the size of an element wraps: CVE-2024-25667, CVE-2024-21825", "number of elements")
    bad("array_strings_wrap", key(ARR, array(STR, (1 << 60) + 1, b"\0" * 16)),
        "an array of 2^60 strings: CVE-2024-25668", "number of elements")
    bad("array_cut", key(ARR, array(I64, 9, b"\0" * 64)), "one element short", "number of elements is 9")
    bad("array_string_cut", key(ARR, array(STR, 1, b"\xff" * 8)), "a string in an array of 2^64 - 1 bytes",
        "length of the string")
    bad("array_nested_513", key(ARR, nested(513)), "513 arrays in one another", "nested arrays")
    bad("array_nested_5000", key(ARR, nested(5000)), "5000 arrays in one another", "nested arrays")
    bad("array_nested_2_20", key(ARR, array(ARR, 1 << 20, nested(1) * 8)), "2^20 arrays in an array: gguf-py hangs",
        "number of elements is 1048576")
    for name, kind, value in (("alignment_0", U32, 0), ("alignment_13", U32, 13), ("alignment_24", U32, 24), ("alignment_33", U32, 33),
                              ("alignment_i32", I32, 32), ("alignment_u64", U64, 32),
                              ("alignment_string", STR, "32"), ("alignment_array", ARR, (U32, [32]))):
        bad(name, file([*KEYS, ("general.alignment", kind, value)], [one()], alignment=32),
            "an alignment that is not a power of two of type u32", "power of two of type u32")


def tensors():
    def case(name, broken, note, why, **facts):
        bad(name, file(KEYS, [broken] if isinstance(broken, dict) else broken), note, why, **facts)

    case("name_64", one("n" * 64), "a name of 64 bytes", "the name has 64 bytes")
    case("name_length_max", one(name_length=MAX), "a name of 2^64 - 1 bytes: CVE-2024-25665", "length of the name")
    case("name_not_utf8", one(b"\xff"), "a name that is not text", "not UTF-8", ggml_does="accepts")
    case("name_nul", one("a\0b"), "a NUL in a name: for ggml it is a", "the name holds a NUL byte", ggml_does="accepts")
    case("name_nul_only", one("\0"), "a name of a NUL: for ggml it is empty", "the name holds a NUL byte", ggml_does="accepts")
    case("name_nul_twice", [one("a\0b"), one("a\0c")], "two names that are one up to the NUL",
         "the name holds a NUL byte")
    case("name_twice", [one(), one()], "one name twice", "used twice")
    case("dims_5", one(dims=(2, 2, 2, 1, 1)), "five dimensions: CVE-2024-21802", "5 dimensions")
    case("dims_max", one(n_dims=0xFFFFFFFF), "2^32 - 1 dimensions: CVE-2024-21802", "4294967295 dimensions")
    case("dim_negative", one(dims=(MAX,)), "a dimension of -1", "does not fit 63 bits")
    case("dim_2_63", one(dims=(1 << 63,)), "a dimension of 2^63", "does not fit 63 bits")
    case("dims_overflow", one(dims=(1 << 32, 1 << 32)), "2^64 elements", "does not fit 63 bits")
    case("dims_overflow_zero", one(dims=(1 << 40, 1 << 40, 0)), "overflows before its zero", "does not fit 63 bits")
    case("dims_wrap_small", one(dims=(1 << 32, 1 << 31, 2, 1), kind=24),
         "wraps to 0 elements: CVE-2026-33298", "does not fit 63 bits")
    case("bytes_overflow", one(dims=((1 << 61), 3), kind=27), "elements fit, bytes do not: CVE-2026-33298",
         "no size")
    case("bytes_pad_wrap", one(dims=(4, (1 << 30) - 1, (1 << 30) + 1)), "2^64 - 16 bytes: padding wraps",
         "more bytes than 64 bits")
    case("bytes_sum_wrap", [one("a", (0x7FFFFFFFFFFFFFC0,), 24, b"", offset=0),
                            one("b", (0x7FFFFFFFFFFFFFC0,), 24, b"", offset=0x7FFFFFFFFFFFFFC0),
                            one("c", (0x7FFFFFFFFFFFFFC0,), 24, b"", offset=0xFFFFFFFFFFFFFF80)],
         "the sum of sizes wraps: CVE-2025-53630, CVE-2026-27940", "more bytes than 64 bits")
    case("bytes_1_tb", one(dims=(1 << 38,)), "a terabyte in a small file: ggml allocates first", "the file ends",
         ggml_does="aborts")
    case("blocks_cut", one(dims=(31,), kind=2), "31 elements of a type with blocks of 32", "whole blocks")
    case("blocks_row", one(dims=(4, 64), kind=12), "rows shorter than a block", "whole blocks")
    for kind, was in ((4, "Q4_2"), (5, "Q4_3"), (31, "Q4_0_4_4"), (32, "Q4_0_4_8"), (33, "Q4_0_8_8"),
                      (36, "IQ4_NL_4_4"), (37, "IQ4_NL_4_8"), (38, "IQ4_NL_8_8")):
        case(f"type_{kind}", one(dims=(64,), kind=kind), f"the removed type {was}", f"{kind}, {was}, which ggml")
    case("type_43", one(kind=43), "the first type that does not exist", "is 43, which is not known")
    case("type_max", one(kind=0xFFFFFFFF), "type 2^32 - 1", "is 4294967295, which is not known")


def offsets():
    two = [one("a"), one("b")]

    def case(name, second, note, why, **facts):
        bad(name, file(KEYS, [one("a"), one("b", offset=second)], **facts), note, why)

    case("offset_overlap", 0, "two tensors in one place", "expected 32: it overlaps")
    case("offset_partly", 16, "half over the tensor before", "expected 32: it is not aligned")
    case("offset_misaligned", 33, "not aligned", "expected 32: it is not aligned")
    case("offset_gap", 64, "bytes between two tensors", "belong to no tensor")
    case("offset_max", MAX, "2^64 - 1", "expected 32: it is not aligned")
    case("offset_wrap", MAX - 31, "wraps when the size is added", "belong to no tensor")
    case("offset_beyond", 1 << 40, "beyond the file", "belong to no tensor")
    bad("offset_first", file(KEYS, [one(offset=32)]), "the first tensor is not at 0", "belong to no tensor")
    bad("offset_order", file(KEYS, [one("a", offset=32), one("b", offset=0)]), "in another order than the infos",
        "expected 0")
    many = [one(f"t{n}", offset=0) for n in range(400)]
    bad("offset_400_times", file(KEYS, many)[:40_000], "400 tensors in one place", "it overlaps")
    bad("alignment_inconsistent", file(KEYS, [one("a", (3,), 24, b"abc"), one("b", (3,), 24, b"abc")], alignment=1),
        "offsets for another alignment", "expected 32")
    bad("data_none", file(KEYS, two)[:-64 - 16], "the file ends before the data", "the file ends")
    bad("data_cut", GOOD[:-1], "one byte short", "the file ends")
    bad("data_cut_much", file(KEYS, [one(dims=(1024,), data=BYTES)])[:-4000],
        "most of a tensor is missing: CVE-2026-7482", "the file ends")
    bad("data_no_header_padding", file(KEYS, [one(dims=(0,), data=b"")], pad_end=False)[:-1],
        "the data section would begin after the end", "the data section begins")
    bad("padding_cut", file(KEYS, [one(dims=(1,), data=BYTES[:4])])[:-3], "cut inside the last padding",
        "the padding ends")


def big_endian():
    swapped = file(KEYS, [one(dims=(32,), kind=6, data=BYTES[:22])], big=True)
    bad("big_endian_q5_0", swapped, "big-endian blocks whose byte order is nowhere laid down",
        "not defined")


def sets():
    """Shards whose keys or names do not agree, or that are not all there."""
    def shard(no, count, total, tensors, keys=()):
        return file([*keys, ("split.no", 2, no), ("split.tensors.count", I32, total), ("split.count", 2, count)],
                    tensors)

    a, b = one("a"), one("b")
    accepted = {"ggml_does": "accepts"}
    bad("split/renamed", shard(0, 2, 2, [a], KEYS), "a shard whose name does not say so", "its name does not say so",
        **accepted)
    bad("split/alone-00001-of-00002", shard(0, 2, 2, [a], KEYS), "the second shard is missing", "it is not there",
        **accepted)
    bad("split/number-00002-of-00002", shard(0, 2, 2, [a], KEYS), "split.no is not what the name says",
        "its name does not say so", **accepted)
    for name, first, second, note, why in (
        ("no", shard(0, 2, 2, [a], KEYS), shard(0, 2, 2, [b]), "two shards of the same number", "split.no is 0"),
        ("count", shard(0, 2, 2, [a], KEYS), shard(1, 3, 2, [b]), "another count", "split.count is 3"),
        ("total", shard(0, 2, 3, [a], KEYS), shard(1, 2, 3, [b]), "a tensor is missing from the set",
         "split.tensors.count is 3"),
        ("twice", shard(0, 2, 2, [a], KEYS), shard(1, 2, 2, [a]), "a tensor in both shards", "used twice"),
        ("plain", shard(0, 2, 2, [a], KEYS), file([("split.count", 2, 2)], [b]),
         "the second shard has no number", "split.no is no number"),
    ):
        bad(f"split/{name}-00001-of-00002", first, note, why, **accepted)
        bad(f"split/{name}-00002-of-00002", second, f"{note}; the other shard", "", "accepts")


def main():
    header()
    keys()
    tensors()
    offsets()
    big_endian()
    sets()
    finish(__file__)


if __name__ == "__main__":
    main()
