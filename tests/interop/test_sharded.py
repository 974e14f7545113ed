"""Sharded sets, read and written, with the index other tools rely on."""

import json
from collections import OrderedDict

import pytest
import safetensors
import torch

import oracle
from ckpt_sharded import weights
from common import randn, torch_save
from judge import TESTDATA, check_safetensors, convert, expected, load_safely

BIN = "ckpt/good/sharded_bin/pytorch_model.bin.index.json"
SAFETENSORS = "safetensors/good/sharded/model.safetensors.index.json"


def big_state():
    """40 tensors of 4 KB: some shards of 32 KB."""
    return OrderedDict((f"layers.{index}.weight", randn(32, 32, seed=index)) for index in range(40))


def written_index(folder):
    found = list(folder.glob("*.index.json"))
    assert len(found) == 1, f"index files: {found}"
    return found[0], json.loads(found[0].read_text())


def all_inputs():
    for index in (BIN, SAFETENSORS):
        yield index
        folder = (TESTDATA / index).parent
        for shard in sorted(set(json.loads((TESTDATA / index).read_text())["weight_map"].values())):
            yield str((folder / shard).relative_to(TESTDATA))


@pytest.mark.parametrize("path", list(all_inputs()))
def test_a_set_into_one_file(path, tmp_path):
    """By its index, or by any one shard."""
    convert(TESTDATA / path, tmp_path / "out.safetensors")
    whole = BIN if "sharded_bin" in path else SAFETENSORS
    check_safetensors(tmp_path / "out.safetensors", expected(whole))
    convert(TESTDATA / path, tmp_path / "out.pt")
    loaded = load_safely(tmp_path / "out.pt")
    for name, tensor in weights().items():
        assert torch.equal(loaded[name], tensor), name


def check_index(document, read, folder):
    """Every tensor in the shard the index names, and in no other; total_size right."""
    truth = big_state()
    assert sorted(document["weight_map"]) == sorted(truth)
    shards = sorted(set(document["weight_map"].values()))
    assert len(shards) > 1
    seen = {}
    for number, shard in enumerate(shards, 1):
        assert f"-{number:05}-of-{len(shards):05}." in shard
        for name, tensor in read(folder / shard).items():
            assert document["weight_map"][name] == shard
            seen[name] = tensor
    assert sorted(seen) == sorted(truth)
    for name, tensor in truth.items():
        assert oracle.tensor_bytes(seen[name]) == oracle.tensor_bytes(tensor), name
    assert document["metadata"]["total_size"] == sum(
        tensor.numel() * tensor.element_size() for tensor in truth.values())


def read_shard(path):
    with safetensors.safe_open(path, framework="pt") as file:
        assert file.metadata().get("format") == "pt"
        return {name: file.get_tensor(name) for name in file.keys()}


@pytest.mark.parametrize("extension, read", [("safetensors", read_shard), ("bin", load_safely)])
def test_shards_written(extension, read, tmp_path):
    source, folder = tmp_path / "in.pt", tmp_path / "out"
    source.write_bytes(torch_save(big_state()))
    folder.mkdir()
    stem = "model" if extension == "safetensors" else "pytorch_model"
    convert(source, folder / f"{stem}.{extension}", "--shard-size", "32KB")
    path, document = written_index(folder)
    assert path.name == f"{stem}.{extension}.index.json"
    check_index(document, read, folder)
    convert(path, tmp_path / "again.pt")
    again = load_safely(tmp_path / "again.pt")
    assert all(torch.equal(again[name], tensor) for name, tensor in big_state().items())


def test_one_shard_needs_no_index(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    convert(TESTDATA / "ckpt/good/zip/state_dict.pt", folder / "model.safetensors",
            "--shard-size", "5GB")
    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]


def test_bin_set_to_safetensors_set_and_back(tmp_path):
    (tmp_path / "st").mkdir()
    (tmp_path / "bin").mkdir()
    convert(TESTDATA / BIN, tmp_path / "st/model.safetensors", "--shard-size", "150B")
    index, _ = written_index(tmp_path / "st")
    convert(index, tmp_path / "bin/pytorch_model.bin", "--shard-size", "150B")
    _, document = written_index(tmp_path / "bin")
    loaded = {}
    for shard in set(document["weight_map"].values()):
        loaded.update(load_safely(tmp_path / "bin" / shard))
    for name, tensor in weights().items():
        assert torch.equal(loaded[name], tensor), name
