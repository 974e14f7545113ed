"""ONNX files that must be refused: every class of the published advisories, and encodings that do not hold.

Links cannot be files of a repository: `crates/onnx/tests/advisories.rs` makes them.
"""

import struct

import onnx
from onnx import TensorProto as T
from onnx import helper

from common import finish, put
from onnx_good import container, info, model

BAD = "onnx/bad"


def bad(name, data, note):
    put(f"{BAD}/{name}.onnx", data if isinstance(data, bytes) else data.SerializeToString(), note=note)


def varint(n):
    out = b""
    while n >= 0x80:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def wrap(field, body):
    return varint(field << 3 | 2) + varint(len(body)) + body


def tensor(name="w", dtype=T.FLOAT, dims=(2,), **fields):
    return T(name=name, data_type=dtype, dims=dims, **fields)


def outside(location="data.bin", **entries):
    out = tensor(data_location=T.EXTERNAL)
    if location is not None:
        out.external_data.add(key="location", value=location)
    for key, value in entries.items():
        out.external_data.add(key=key, value=str(value))
    return out


def alone(proto):
    return model([], [proto], outputs=[info("w", T.FLOAT, [2])])


def external():
    put(f"{BAD}/external/data.bin", bytes(64), note="64 bytes for the files that point to it")
    for name, location, note in (
        ("dotdot", "../good/beside.bin", "CVE-2022-25882: a location that begins with .."),
        ("inner_dotdot", "a/../../good/beside.bin", "CVE-2024-27318: .. behind a name"),
        ("absolute", "/etc/hostname", "an absolute location"),
        ("device", "/dev/zero", "a device"),
        ("nul", "data.bin\0.txt", "a NUL, where loaders cut the location"),
        ("empty_location", "", "an empty location"),
        ("drive", "C:\\secret", "a drive"),
        ("backslash", "a\\..\\..\\secret", "backslashes"),
        ("folder", ".", "the folder itself"),
        ("not_there", "none.bin", "a file that is not there"),
        ("no_location", None, "no location at all"),
    ):
        bad(f"external/{name}", alone(outside(location)), note)
    for name, note, entries in (
        ("offset_beyond", "an offset beyond the file", {"offset": 60}),
        ("offset_petabytes", "GHSA-538c-55jv-c5g9: an offset of petabytes", {"offset": 1 << 60}),
        ("offset_wraps", "offset and length wrap 64 bits", {"offset": (1 << 64) - 4, "length": 8}),
        ("offset_negative", "a negative offset", {"offset": -8}),
        ("offset_digits", "a digit of another script", {"offset": "\u0661"}),
        ("offset_text", "an offset that is no number", {"offset": "8x"}),
        ("length_short", "a length below the shape's", {"length": 4}),
        ("length_long", "a length above the shape's", {"length": 64}),
        ("length_negative", "a negative length", {"length": -1}),
        ("checksum_text", "a checksum that is no SHA-1", {"checksum": "xyz"}),
    ):
        bad(f"external/{name}", alone(outside(**entries)), note)
    twice = outside()
    twice.external_data.add(key="location", value="other.bin")
    bad("external/location_twice", alone(twice), "two locations")
    hidden = outside("../secret")
    bad("external/constant", model([helper.make_node("Constant", [], ["y"], "hidden", value=hidden)], [],
                                   outputs=[info("y")]), "an escape in the tensor of a Constant node")
    branch = helper.make_graph([helper.make_node("Identity", ["w"], ["b"])], "branch", [], [info("b")], [hidden])
    node = helper.make_node("If", ["c"], ["y"], "branches", then_branch=branch, else_branch=branch)
    bad("external/branch", model([node], [], [info("c", T.BOOL, [])], [info("y")]), "an escape in a branch of an If")
    sparse = onnx.SparseTensorProto(values=hidden, indices=tensor("", T.INT64, (2,), int64_data=[0, 1]), dims=[4])
    bad("external/sparse", model([], [], outputs=[info("w")], sparse=[sparse]), "an escape in a sparse initializer")
    many = [tensor(f"w{n}", T.FLOAT, (1 << 20,), data_location=T.EXTERNAL) for n in range(500)]
    for one in many:
        one.external_data.add(key="location", value="data.bin")
    bad("external/bomb", model([], many, outputs=[info("w0")]), "500 tensors of 4 MB in a file of 64 bytes")


def data():
    ok = struct.pack("<2f", 1, 2)
    for name, proto, note in (
        ("negative_dim", tensor(dims=(-2,), raw_data=ok), "a negative dimension"),
        ("negative_dims", tensor(dims=(-1, -2), raw_data=ok), "two, whose product is positive"),
        ("dims_wrap", tensor(dims=(1 << 62, 4), raw_data=b""), "dimensions whose product wraps to none"),
        ("dims_huge", tensor(dims=(1 << 40, 1 << 20), raw_data=ok), "an exabyte and eight bytes of data"),
        ("raw_short", tensor(raw_data=ok[:7]), "raw_data shorter than the shape"),
        ("raw_long", tensor(raw_data=ok + ok), "raw_data longer than the shape"),
        ("raw_and_floats", tensor(raw_data=ok, float_data=[1, 2]), "data in two places"),
        ("raw_and_outside", tensor(raw_data=ok, data_location=T.EXTERNAL), "data here and elsewhere"),
        ("floats_few", tensor(dims=(3,), float_data=[1, 2]), "fewer floats than the shape"),
        ("ints_many", tensor(dtype=T.INT64, int64_data=[1, 2, 3]), "more integers than the shape"),
        ("wrong_field", tensor(dtype=T.INT64, float_data=[1, 2]), "integers in float_data"),
        ("no_data", tensor(), "no data"),
        ("no_type", T(name="w", dims=[2], raw_data=ok), "no element type"),
        ("unknown_type", tensor(dtype=99, raw_data=ok), "element type 99"),
        ("no_name", tensor(name="", raw_data=ok), "an initializer without a name"),
        ("segment", tensor(raw_data=ok, segment=T.Segment(begin=0, end=2)), "a segment of a tensor"),
        ("strings_in_raw", tensor(dtype=T.STRING, raw_data=ok), "strings in raw_data"),
        ("strings_few", tensor(dtype=T.STRING, string_data=[b"a"]), "fewer strings than the shape"),
        ("many_dims", tensor(dims=[1] * 5000, raw_data=ok[:4]), "five thousand dimensions"),
    ):
        bad(f"tensor/{name}", alone(proto), note)
    one = tensor(raw_data=ok)
    bad("tensor/twice", model([], [one, one], outputs=[info("w")]), "two initializers of one name")
    body = one.SerializeToString()
    bad("tensor/raw_twice", wrap(7, wrap(5, body + wrap(9, ok))) + b"\x08\x0a", "raw_data twice")


def branches(levels):
    """An If in a branch of an If, and so on."""
    body = b""
    for _ in range(levels):
        attribute = wrap(1, b"then_branch") + wrap(6, body) + b"\xa0\x01\x05"
        body = wrap(1, wrap(4, b"If") + wrap(5, attribute))
    return body


def nested(levels, fields):
    """A message in a message, each step down through `fields`."""
    body = b""
    for _ in range(levels):
        for field in fields:
            body = wrap(field, body)
    return body


def shape():
    good = container(tensor(raw_data=bytes(8))).SerializeToString()
    bad("graph/deep", b"\x08\x0a" + wrap(7, branches(1500)), "1500 graphs in graphs")
    bad("graph/deep_types", b"\x08\x0a" + wrap(7, wrap(11, wrap(2, nested(3000, (1, 4))))), "3000 types in types")
    bad("graph/missing", b"\x08\x0a" + wrap(8, b"\x10\x15"), "no graph")
    twice = container(tensor(raw_data=bytes(8))).graph.SerializeToString()
    bad("graph/twice", good + wrap(7, twice), "two pieces of a graph, each of which has the tensor")
    node = onnx.NodeProto(input=["x"], output=["y"], name="nameless")
    bad("graph/no_operator", model([node], [], [info("x")], [info("y")]), "a node without an operator")
    node = helper.make_node("Relu", ["x"], ["y"])
    node.attribute.add(name="a", type=onnx.AttributeProto.INT, i=1, f=2.0)
    bad("graph/two_kinds", model([node], [], [info("x")], [info("y")]), "an attribute of two kinds")
    node = helper.make_node("Concat", ["x", "x"], ["y"])
    node.attribute.add(name="axis", i=0)
    bad("graph/no_kind", model([node], [], [info("x")], [info("y")]), "an attribute that does not say its kind")
    node = helper.make_node("If", ["x"], ["y"])
    node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH)
    bad("graph/no_branch", model([node], [], [info("x")], [info("y")]), "an If without its graph")
    bad("encoding/length_bomb", b"\x08\x0a\x3a" + b"\xff" * 8 + b"\x7f", "a graph of 2^63 bytes")
    bad("encoding/length_inner", b"\x08\x0a" + wrap(7, wrap(1, b"\x22\xff\xff\xff\xff\x07Relu")), "a text of 2 GB")
    bad("encoding/long_varint", b"\x08\x0a" + wrap(7, b"\x12\x01g") + b"\x28" + b"\xff" * 11, "a number of 77 bits")
    bad("encoding/group", b"\x08\x0a" + wrap(7, b"\x13\x14"), "a group")
    bad("encoding/wire_type", b"\x08\x0a" + wrap(7, b"\x0d\0\0\0\0"), "a node of four bytes")
    bad("encoding/field_zero", b"\x08\x0a" + wrap(7, b"\x00\x00"), "field number 0")
    bad("encoding/not_utf8", b"\x08\x0a" + wrap(7, b"\x12\x02\xff\xfe"), "a name that is not UTF-8")
    bad("encoding/cut", good[:-9], "the end is missing")
    bad("encoding/packed_floats", b"\x08\x0a" + wrap(7, wrap(5, b"\x08\x01\x10\x01\x42\x01w" + wrap(4, bytes(5)))),
        "five bytes of packed floats")


def main():
    external()
    data()
    shape()
    finish(__file__)


if __name__ == "__main__":
    main()
