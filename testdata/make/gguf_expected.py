"""Writes `expected/gguf/good/….json`: what gguf-py finds in every good file.

Files that gguf-py does not read (`skip`) have none; those of another byte order or version and the
shards of a set have a twin of the same contents, and its truth. Floats of keys stand as the numbers
their bits are. `restored` are the names and shapes that keys of a file tell.
"""

import json
import struct

import gguf
from gguf import GGMLQuantizationType as Q
from gguf import GGUFValueType as V

import common

NAMES = {V.UINT8: "u8", V.INT8: "i8", V.UINT16: "u16", V.INT16: "i16", V.UINT32: "u32", V.INT32: "i32",
         V.FLOAT32: "f32", V.BOOL: "bool", V.STRING: "str", V.UINT64: "u64", V.INT64: "i64",
         V.FLOAT64: "f64"}


def item(kind, part):
    """One element."""
    if kind == V.STRING:
        return bytes(part).decode()
    if kind == V.FLOAT32:
        return struct.unpack("<I", part.tobytes())[0]
    if kind == V.FLOAT64:
        return struct.unpack("<Q", part.tobytes())[0]
    return bool(part[0]) if kind == V.BOOL else int(part[0])


def pair(field):
    kind, parts = field.types[-1], [field.parts[index] for index in field.data]
    if field.types[0] == V.ARRAY:
        # Of an empty array gguf-py does not tell the type.
        kind = V(int(field.parts[3][0]))
        value = [item(kind, part) for part in parts]
        return {"key": field.name, "type": f"array of {NAMES[kind]}", "value": value}
    return {"key": field.name, "type": NAMES[kind], "value": item(kind, parts[0])}


def describe(path, restored):
    reader = gguf.GGUFReader(common.TESTDATA / path)
    tensors = []
    for tensor in reader.tensors:
        original = restored.get(tensor.name, {})
        shape = [int(dim) for dim in reversed(tensor.shape.tolist())]
        tensors.append({"name": original.get("name", tensor.name), "stored_name": tensor.name,
                        "dtype": Q(tensor.tensor_type).name, "shape": original.get("shape", shape),
                        "stored_shape": shape, "sha256": common.sha256(tensor.data.tobytes())})
    keys = [pair(field) for field in reader.fields.values() if not field.name.startswith("GGUF.")]
    return {"container": "gguf", "version": int(reader.fields["GGUF.version"].parts[0][0]),
            "alignment": int(reader.alignment), "keys": keys, "tensors": tensors, "ties": []}


def main():
    count = 0
    for fact in common.catalogue():
        path = fact["path"]
        if not path.startswith("gguf/good/") or fact.get("skip"):
            continue
        document = describe(fact.get("twin", path), fact.get("restored", {}))
        for key in ("twin", "set"):
            if key in fact:
                document[key] = fact[key]
        target = common.TESTDATA / "expected" / f"{path}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps({"file": path, **document}, indent=1, ensure_ascii=False) + "\n")
        count += 1
    print(f"gguf_expected: {count} files")


if __name__ == "__main__":
    main()
