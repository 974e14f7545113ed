"""Writes `expected/<path>.json` for every good checkpoint and safetensors file: what the real libraries find in it.

Those of GGUF come after it from `gguf_expected.py`, those of ONNX before it from `onnx_good.py`.
"""

import json
import shutil
import struct

import common
import oracle

OWN = ("ckpt/", "safetensors/")


def checkpoint(fact):
    """A checkpoint's truth, or that of the twin torch can read."""
    return oracle.describe(common.TESTDATA / fact.get("twin", fact["path"]))


def safetensors_file(path):
    """Read by hand from the header, checked against the library where it knows the dtype."""
    data = (common.TESTDATA / path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = []
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = (8 + length + at for at in entry["data_offsets"])
        tensors.append({"name": name, "dtype": entry["dtype"], "shape": entry["shape"],
                        "sha256": common.sha256(data[begin:end])})
    return {"container": "safetensors", "metadata": metadata, "tensors": tensors, "ties": []}


def sharded(index_path):
    """A set: the tensors of all shards, in the order of shards."""
    folder = (common.TESTDATA / index_path).parent
    weight_map = json.loads((common.TESTDATA / index_path).read_text())["weight_map"]
    tensors = []
    for shard in sorted(set(weight_map.values())):
        relative = str((folder / shard).relative_to(common.TESTDATA))
        part = (safetensors_file(relative) if shard.endswith(".safetensors")
                else oracle.describe(folder / shard))
        tensors += [{**tensor, "file": shard} for tensor in part["tensors"]]
    assert sorted(weight_map) == sorted(tensor["name"] for tensor in tensors)
    return {"container": "sharded", "selected": "", "tensors": tensors, "ties": []}


def document_for(fact):
    path = fact["path"]
    if fact.get("index"):
        document = sharded(path)
    elif path.startswith("safetensors/"):
        document = safetensors_file(path)
    else:
        document = checkpoint(fact)
        document["verdict"] = fact.get("verdict", "clean")
    for key in ("twin", "nameless", "frozen"):
        if key in fact:
            document[key] = fact[key]
    return {"file": path, **document}


def main():
    for name in OWN:
        shutil.rmtree(common.TESTDATA / "expected" / name, ignore_errors=True)
    count = 0
    for fact in common.catalogue():
        path = fact["path"]
        if "/good/" not in path or not path.startswith(OWN):
            continue
        target = common.TESTDATA / "expected" / f"{path}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document_for(fact), indent=1, ensure_ascii=False) + "\n")
        count += 1
    print(f"expected: {count} files")


if __name__ == "__main__":
    main()
