"""safetensors files that must be refused."""

import json
import struct

from safetensors import SafetensorError, deserialize

from common import finish, put, st_bytes

BAD = "safetensors/bad"


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def bad(name, data, note, library="refuses"):
    """`library` says what safetensors itself does; a few rules are the format text's alone."""
    try:
        deserialize(data)
        accepted = True
    except (SafetensorError, ValueError, OverflowError):
        accepted = False
    assert accepted == (library == "accepts"), f"{name}: accepted={accepted}"
    put(f"{BAD}/{name}.safetensors", data, note=note, library=library)


def raw(text, body=b""):
    return st_bytes(text.encode() if isinstance(text, str) else text, body)


def main():
    body = bytes(16)
    bad("empty_file", b"", "no bytes at all")
    bad("seven_bytes", bytes(7), "shorter than the length field")
    bad("length_beyond_file", st_bytes({}, length=5000), "the header is longer than the file")
    bad("length_too_large", st_bytes({}, length=100_000_001), "a header over 100,000,000 bytes")
    bad("length_2_64", st_bytes({}, length=(1 << 64) - 1), "a header of 2^64 - 1 bytes")
    bad("not_json", raw("{not json}"), "the header is no JSON")
    bad("not_an_object", raw("[1, 2]   "), "the header is a list")
    bad("not_utf8", raw(b'{"\xff\xfe":1}'), "the header is not UTF-8")
    bad("deep_json", raw("[" * 5000 + "]" * 5000), "5000 nested lists")
    bad("text_after_json", raw('{} {"a":1}'), "a second value behind the header")
    bad("leading_space", raw(" {}"), "the format wants `{` first", "accepts")
    bad("hole", st_bytes({"a": entry(), "b": entry(offsets=(12, 20))}, bytes(20)),
        "four bytes between two tensors")
    bad("hole_at_start", st_bytes({"a": entry(offsets=(8, 16))}, body), "the first tensor is not at 0")
    bad("overlap", st_bytes({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)), "tensors overlap")
    bad("same_bytes", st_bytes({"a": entry(), "b": entry()}, bytes(8)), "two tensors in one place")
    bad("trailing_bytes", st_bytes({"a": entry()}, body), "bytes behind the last tensor")
    bad("cut_body", st_bytes({"a": entry()}, bytes(5)), "the data is cut short")
    bad("offsets_beyond_file", st_bytes({"a": entry(shape=(400,), offsets=(0, 1600))}, body),
        "a tensor beyond the file")
    bad("offsets_reversed", st_bytes({"a": entry(offsets=(8, 0))}, bytes(8)), "end before begin")
    bad("offsets_huge", st_bytes({"a": entry(offsets=(0, (1 << 64) - 1))}, bytes(8)), "an end of 2^64 - 1")
    bad("offsets_negative", st_bytes({"a": entry(offsets=(-8, 0))}, bytes(8)), "a negative begin")
    bad("size_mismatch", st_bytes({"a": entry(shape=(3,))}, bytes(8)), "shape and offsets disagree")
    bad("shape_overflow", st_bytes({"a": entry(shape=(1 << 40, 1 << 40), offsets=(0, 8))}, bytes(8)),
        "2^80 elements")
    bad("shape_overflow_zero", st_bytes({"a": entry(shape=(1 << 40, 1 << 40, 0), offsets=(0, 0))}),
        "overflows before its zero dimension")
    bad("shape_negative", st_bytes({"a": entry(shape=(-2,))}, bytes(8)), "a negative dimension")
    bad("shape_float", raw(json.dumps({"a": {**entry(), "shape": [2.0]}}), bytes(8)), "a dimension of 2.0")
    bad("dtype_unknown", st_bytes({"a": entry(dtype="F33")}, bytes(8)), "dtype F33")
    bad("dtype_sub_byte", st_bytes({"a": entry(dtype="F4", shape=(3,), offsets=(0, 1))}, bytes(1)),
        "three F4 numbers do not fill whole bytes")
    bad("field_missing", raw('{"a":{"dtype":"F32","shape":[2]}}', bytes(8)), "data_offsets is missing")
    bad("metadata_number", st_bytes({"__metadata__": {"a": 1}}), "a metadata value that is a number")
    bad("metadata_nested", st_bytes({"__metadata__": {"a": {"b": "c"}}}), "nested metadata")
    bad("metadata_twice", raw('{"__metadata__":{},"__metadata__":{"a":"b"}}'), "two __metadata__")
    one = json.dumps(entry(), separators=(",", ":"))
    bad("duplicate_name", raw(f'{{"a":{one},"a":{one}}}', bytes(8)), "one name twice, one place",
        "accepts")
    two = json.dumps(entry(offsets=(8, 16)), separators=(",", ":"))
    bad("duplicate_name_two_places", raw(f'{{"a":{one},"a":{two}}}', body),
        "one name twice, two places")
    bad("pickle_inside", struct.pack("<Q", 1 << 40) + b"\x80\x02cos\nsystem\n.", "a pickle behind a length")
    finish(__file__)


if __name__ == "__main__":
    main()
