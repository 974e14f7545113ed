"""What the interop tests share: the program under test, the test files, exact comparison."""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTDATA = ROOT / "testdata"
sys.path.insert(0, str(TESTDATA / "make"))

import numpy  # noqa: E402
import torch  # noqa: E402

import common  # noqa: E402
import oracle  # noqa: E402

PROGRAM = os.environ.get("WEIGHTBRIDGE", str(ROOT / "target/release/weightbridge"))

# Exit codes of the contract.
DONE, ANSWER_NO, USAGE, REFUSED, MACHINE = 0, 1, 2, 3, 4


def run(*arguments, cwd=None, env=None, timeout=60):
    """Runs the program; never raises for its exit code."""
    environment = {**os.environ, **(env or {})}
    return subprocess.run([PROGRAM, *map(str, arguments)], cwd=cwd, env=environment, text=True,
                          capture_output=True, timeout=timeout)


def convert(source, target, *options):
    """Converts, and fails the test with the program's own words when that fails."""
    done = run("convert", source, target, *options)
    assert done.returncode == DONE, f"exit {done.returncode}: {done.stderr}"
    assert Path(target).exists() or options, "exit 0 and no output"
    return done


def refused(path, out, *words):
    """Sees that converting is refused in the given words, the file's name among them, and leaves nothing behind."""
    done = run("convert", path, out)
    assert done.returncode == REFUSED and not Path(out).exists(), done.stderr
    for word in (str(path), *words):
        assert word in done.stderr, done.stderr
    assert "panicked" not in done.stderr and len(done.stderr.splitlines()) > 1, done.stderr


def facts(prefix, **wanted):
    """Catalogue entries below a folder whose facts fit."""
    return [fact for fact in common.catalogue() if fact["path"].startswith(prefix)
            and all(fact.get(key) == value for key, value in wanted.items())]


def expected(path):
    return json.loads((TESTDATA / "expected" / f"{path}.json").read_text())


def good_checkpoints():
    """(path, expected) of every single-file checkpoint that must convert."""
    return [(fact["path"], expected(fact["path"])) for fact in facts("ckpt/good/")
            if not fact.get("index") and not fact.get("shard")]


def paths_of(items):
    return [item["path"] if isinstance(item, dict) else item[0] for item in items]


def read_safetensors(path):
    """(metadata, {name: (dtype, shape, bytes)}), by the format text and nothing else."""
    data = Path(path).read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8:8 + length])
    metadata = header.pop("__metadata__", {})
    start = 8 + length
    return metadata, {
        name: (entry["dtype"], entry["shape"],
               data[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]])
        for name, entry in header.items()}


def carried(dtype, shape):
    """How safetensors holds a dtype it lacks."""
    target, last = oracle.CARRIED.get(dtype, (dtype, None))
    return target, list(shape) + ([last] if last else [])


def check_safetensors(path, document):
    """The file at `path` holds exactly the tensors of an expected document, ties noted."""
    metadata, found = read_safetensors(path)
    wanted = [entry for entry in document["tensors"] if not entry.get("meta")]
    if document.get("nameless"):
        assert len(found) == 1
        wanted = [{**wanted[0], "name": next(iter(found))}]
    dropped = {}
    empty = {entry["name"] for entry in wanted if 0 in entry["shape"]}
    for group in document["ties"]:
        if empty.issuperset(group):
            continue  # of no bytes nothing is shared
        kept = [name for name in group if name in found]
        assert len(kept) == 1, f"of the tied names {group} these were written: {kept}"
        dropped |= {name: kept[0] for name in group if name != kept[0]}
    for name, kept in dropped.items():
        assert metadata.get(name) == kept, f"{name} is not noted as {kept}"
    names = [entry["name"] for entry in wanted if entry["name"] not in dropped]
    assert sorted(found) == sorted(names)
    for entry in wanted:
        dtype, shape, raw = found[dropped.get(entry["name"], entry["name"])]
        assert (dtype, shape) == carried(entry["dtype"], entry["shape"]), entry["name"]
        assert common.sha256(raw) == entry["sha256"], f"{entry['name']}: other bytes"
    return metadata


def named(root):
    """{name: (dtype, shape, hash)} and ties of whatever torch.load gave."""
    _, subtree = oracle.choose(root)
    tensors = oracle.named_tensors(subtree)
    kept = [item for item in tensors
            if isinstance(item[1], numpy.ndarray) or item[1].device.type != "meta"]
    table = {name: (oracle.dtype_name(tensor), oracle.shape_of(tensor),
                    common.sha256(oracle.tensor_bytes(tensor)))
             for name, tensor, _, _ in kept}
    # Of no bytes nothing is shared.
    full = [item for item in kept if 0 not in oracle.shape_of(item[1])]
    return table, sorted(sorted(group) for group in oracle.ties_of(full))


def table_of(document):
    """The same table from an expected document."""
    tensors = [entry for entry in document["tensors"] if not entry.get("meta")]
    table = {entry["name"]: (entry["dtype"], entry["shape"], entry["sha256"]) for entry in tensors}
    full = [group for group in document["ties"] if 0 not in table[group[0]][1]]
    return table, sorted(sorted(group) for group in full)


def load_safely(path, **options):
    """torch's own safe loader."""
    return torch.load(str(path), map_location="cpu", weights_only=True, **options)


def same_tree(left, right, at="top"):
    """Two object trees are equal, tensors bit for bit, mappings in order."""
    if oracle.is_tensor(left):
        assert oracle.is_tensor(right), f"{at}: no tensor any more"
        if isinstance(left, numpy.ndarray):
            left, right = numpy.asarray(left), numpy.asarray(right)
        else:
            assert left.requires_grad == right.requires_grad, f"{at}: requires_grad"
            assert isinstance(right, torch.nn.Parameter) == isinstance(left, torch.nn.Parameter), at
        assert oracle.dtype_name(left) == oracle.dtype_name(right), at
        assert list(left.shape) == list(right.shape), at
        assert oracle.tensor_bytes(left) == oracle.tensor_bytes(right), f"{at}: other bytes"
        return
    assert type(left) is type(right), f"{at}: {type(left)} became {type(right)}"
    if isinstance(left, Mapping):
        assert list(left) == list(right), f"{at}: other keys"
        for key in left:
            same_tree(left[key], right[key], f"{at}.{key}")
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right), f"{at}: another length"
        for index, (one, other) in enumerate(zip(left, right)):
            same_tree(one, other, f"{at}.{index}")
    elif isinstance(left, float) and left != left:
        assert right != right, at
    else:
        assert left == right, f"{at}: {left!r} became {right!r}"
