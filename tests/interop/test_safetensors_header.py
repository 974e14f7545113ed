"""safetensors headers at the edge of the format, each held against the safetensors package.

What the package reads is read here, and what it refuses is refused, but for the few cases of `NOT_HERE`, which the
format's text forbids or a limit holds. Table: docs/formats/safetensors.md.
"""

import json
import struct

import pytest
from safetensors import SafetensorError, deserialize, safe_open

import judge
from judge import DONE, run

BODY = struct.pack("<2f", 1.5, -2.5)
ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def made(header, body=BODY):
    raw = header.encode() if isinstance(header, str) else header
    return struct.pack("<Q", len(raw)) + raw + body


def entry(body=BODY, **fields):
    """One tensor, some fields of it written otherwise."""
    fields = {"dtype": '"F32"', "shape": "[2]", "data_offsets": "[0,8]"} | fields
    return made('{"a":{' + ",".join(f'"{key}":{value}' for key, value in fields.items()) + "}}", body)


def beside(text):
    """One tensor, and something before it."""
    return made("{" + text + ',"a":' + ENTRY + "}")


READ = {
    "metadata that is null": beside('"__metadata__":null'),
    "metadata of nothing": beside('"__metadata__":{}'),
    "metadata at the end": made('{"a":' + ENTRY + ',"__metadata__":{"k":"v"}}'),
    "a dimension of 2^63 beside one of 0": entry(b"", shape="[9223372036854775808,0]", data_offsets="[0,0]"),
    "64 dimensions": entry(shape="[" + "1," * 63 + "2]"),
    "a dtype with an escape": entry(dtype='"F\\u00332"'),
    "an unknown field": entry(extra="1"),
    "an unknown field of lists": entry(extra='{"x":[1,{"y":null}]}'),
    "an unknown field twice": entry(extra='1,"extra":2'),
    "an unknown field 120 deep": entry(extra="[" * 120 + "]" * 120),
    "a name of no letters": made('{"":' + ENTRY + "}"),
    "a name with a NUL": made('{"a\\u0000b":' + ENTRY + "}"),
    "a name of a surrogate pair": made('{"\\ud83d\\ude00":' + ENTRY + "}"),
    "a name of 65536 bytes": made('{"' + "n" * 65536 + '":' + ENTRY + "}"),
    "spaces before": made(' {"a":' + ENTRY + "}"),
    "a line before": made('\n{"a":' + ENTRY + "}"),
    "spaces behind": made('{"a":' + ENTRY + "}" + " " * 9),
    "lines and tabs behind": made('{"a":' + ENTRY + "}\n\t\r "),
    "spaces within": made('{ "a" : {"dtype" : "F32" , "shape" : [ 2 ] ,\n"data_offsets" : [ 0 , 8 ] } }'),
    "no tensor": made("{}", b""),
}
BAD = {
    "metadata that is null, twice": beside('"__metadata__":null,"__metadata__":null'),
    "metadata that is null, then not": beside('"__metadata__":null,"__metadata__":{"a":"b"}'),
    "metadata that is a list": beside('"__metadata__":[]'),
    "metadata that is text": beside('"__metadata__":"x"'),
    "metadata with null": beside('"__metadata__":{"k":null}'),
    "metadata with true": beside('"__metadata__":{"k":true}'),
    "metadata with a number": beside('"__metadata__":{"k":1}'),
    "metadata with a list": beside('"__metadata__":{"k":["a"]}'),
    "metadata with an object": beside('"__metadata__":{"k":{"a":"b"}}'),
    "metadata like a tensor": made('{"__metadata__":' + ENTRY + "}", b""),
    "a dimension of 2.0": entry(shape="[2.0]"),
    "a dimension of 2e0": entry(shape="[2e0]"),
    "a dimension of -2": entry(shape="[-2]"),
    "a dimension of -0": entry(b"", shape="[-0]", data_offsets="[0,0]"),
    "a dimension of 02": entry(shape="[02]"),
    "a dimension of 2^64": entry(shape="[18446744073709551616]"),
    "a dimension of 2^64 - 1": entry(shape="[18446744073709551615]"),
    "a dimension of text": entry(shape='["2"]'),
    "a dimension of true": entry(shape="[true]"),
    "a list as dimension": entry(shape="[[2]]"),
    "a shape of null": entry(shape="null"),
    "a shape that is an object": entry(shape='{"0":2}'),
    "three offsets": entry(data_offsets="[0,8,8]"),
    "one offset": entry(data_offsets="[0]"),
    "no offset": entry(data_offsets="[]"),
    "offsets of 0.0 and 8.0": entry(data_offsets="[0.0,8.0]"),
    "an offset of -0": entry(data_offsets="[-0,8]"),
    "offsets of text": entry(data_offsets='["0","8"]'),
    "offsets that are an object": entry(data_offsets='{"0":0,"1":8}'),
    "a dtype in small letters": entry(dtype='"f32"'),
    "a dtype that does not exist": entry(dtype='"U4"', shape="[16]"),
    "a dtype that is a number": entry(dtype="7"),
    "a dtype of null": entry(dtype="null"),
    "a field twice": entry(dtype='"F32","dtype":"F32"'),
    "an unknown field of NaN": entry(extra="NaN"),
    "an unknown field 200 deep": entry(extra="[" * 200 + "]" * 200),
    "a tensor that is null": made('{"a":null}'),
    "a tensor that is a number": made('{"a":1}', b""),
    "a number beside the tensors": beside('"x":1'),
    "a name of half a surrogate pair": made('{"\\ud800":' + ENTRY + "}"),
    "a name with a control character": made(b'{"a\x01b":' + ENTRY.encode() + b"}"),
    "a byte order mark": made(b'\xef\xbb\xbf{"a":' + ENTRY.encode() + b"}"),
    "a NUL before": made(b'\0{"a":' + ENTRY.encode() + b"}"),
    "NULs behind": made(b'{"a":' + ENTRY.encode() + b"}\0\0"),
    "a letter behind": made('{"a":' + ENTRY + "}x"),
    "a comma behind": made('{"a":' + ENTRY + ",}"),
    "a comment": made('{/**/"a":' + ENTRY + "}"),
    "a header of no bytes": made(b"", b""),
    "a header of spaces": made(b"   ", b""),
    "a header of null": made(b"null", b""),
    "bytes behind a header of no tensor": made(b"{}", b"xx"),
}
# The package reads these, by how its JSON library takes structures; with the words of our refusal.
NOT_HERE = {
    "a metadata key twice": (beside('"__metadata__":{"k":"a","k":"b"}'), 'key "k" is there twice'),
    "a dtype that is an object": (entry(dtype='{"F32":null}'), "expected a string"),
    "a tensor that is a list": (made('{"a":["F32",[2],[0,8]]}'), "expected an object"),
    "65 dimensions": (entry(shape="[" + "1," * 64 + "2]"), "over the limit of 64"),
    "a name of 65537 bytes": (made('{"' + "n" * 65537 + '":' + ENTRY + "}"), "over the limit of 65536"),
}


def package(path):
    """{name: (dtype, shape, bytes)} and the metadata, or None where the package refuses."""
    try:
        tensors = deserialize(path.read_bytes())
    except (SafetensorError, ValueError, OverflowError):
        with pytest.raises((SafetensorError, ValueError, OverflowError)):
            safe_open(path, "np")
        return None
    with safe_open(path, "np") as file:
        metadata = file.metadata() or {}
    return {name: (each["dtype"], each["shape"], bytes(each["data"])) for name, each in tensors}, metadata


@pytest.mark.parametrize("name", READ)
def test_what_the_package_reads_is_read(name, tmp_path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    path.write_bytes(READ[name])
    theirs = package(path)
    assert theirs is not None
    judge.convert(path, out, "--verify")
    tensors, metadata = package(out)
    assert tensors == theirs[0]
    assert {key: value for key, value in metadata.items() if key != "format"} == theirs[1]


@pytest.mark.parametrize("name", BAD)
def test_what_the_package_refuses_is_refused(name, tmp_path):
    path, out = tmp_path / "a.safetensors", tmp_path / "b.pt"
    path.write_bytes(BAD[name])
    assert package(path) is None
    judge.refused(path, out)


@pytest.mark.parametrize("name", NOT_HERE)
def test_what_the_package_lets_pass(name, tmp_path):
    data, words = NOT_HERE[name]
    path, out = tmp_path / "a.safetensors", tmp_path / "b.pt"
    path.write_bytes(data)
    assert package(path) is not None, "the package has changed its mind"
    judge.refused(path, out, words)


def test_a_limit_can_be_raised(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(NOT_HERE["65 dimensions"][0])
    done = run("inspect", "--json", path, "--limit", "rank=65")
    assert done.returncode == DONE and len(json.loads(done.stdout)["tensors"][0]["shape"]) == 65, done.stderr
