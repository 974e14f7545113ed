"""Anything to .pt: torch's safe loader and its mapping loader open the result."""

import struct
import zipfile

import pytest
import torch

import oracle
from judge import (TESTDATA, convert, expected, facts, good_checkpoints, load_safely, named,
                   paths_of, read_safetensors, same_tree, table_of)

SAFETENSORS = [fact["path"] for fact in facts("safetensors/good/")
               if not fact.get("index") and not fact.get("shard")
               and expected(fact["path"])["tensors"]]
SAFE = [item for item in good_checkpoints() if item[1]["weights_only"] and item[1]["tensors"]]
TREES = [f"ckpt/good/layouts/{name}" for name in (
    "state_dict_metadata.pt", "ddp.pt", "training.pt", "optimizer.pt", "stable_diffusion.ckpt",
    "gan.pt", "esrgan.pth", "ema.pt", "net.pth", "list.pt", "tensor.pt", "int_keys.pt", "mixed.pt",
    "nested.pt", "extra_state.pt")] + [
    "ckpt/good/zip/state_dict.pt", "ckpt/good/zip/big_endian.pt", "ckpt/good/zip/many_tensors.pt",
    "ckpt/good/views/parameters.pt", "ckpt/good/views/tied.pt", "ckpt/good/dtypes/integers.pt",
    "ckpt/good/legacy/state_dict.pt", "ckpt/good/torch1.13/state_dict.pt",
    "ckpt/good/torch2.6/legacy.pt"]

# Types safetensors has and torch lacks come back as bytes.
NO_TORCH_DTYPE = {"F6_E2M3", "F6_E3M2"}


@pytest.mark.parametrize("path", SAFETENSORS)
def test_from_safetensors(path, tmp_path):
    target = tmp_path / "out.pt"
    convert(TESTDATA / path, target)
    metadata, truth = read_safetensors(TESTDATA / path)
    aliases = {name: kept for name, kept in metadata.items()
               if kept in truth and name not in truth}
    for loaded in (load_safely(target), load_safely(target, mmap=True)):
        assert sorted(loaded) == sorted([*truth, *aliases])
        for name, (dtype, shape, raw) in truth.items():
            tensor = loaded[name]
            assert oracle.tensor_bytes(tensor) == raw, name
            if dtype not in NO_TORCH_DTYPE:
                assert (oracle.dtype_name(tensor), oracle.shape_of(tensor)) == (dtype, shape), name
        for name, kept in aliases.items():
            assert loaded[name].data_ptr() == loaded[kept].data_ptr(), f"{name} is not {kept}"


@pytest.mark.parametrize("path, document", SAFE, ids=paths_of(SAFE))
def test_from_a_checkpoint(path, document, tmp_path):
    target = tmp_path / "out.pt"
    convert(TESTDATA / path, target)
    root = load_safely(target)
    table, ties = named(root)
    wanted, wanted_ties = table_of(document)
    if document.get("nameless"):
        assert list(table.values()) == list(wanted.values())
        return
    assert table == wanted
    assert ties == wanted_ties
    load_safely(target, mmap=True)


@pytest.mark.parametrize("path", TREES)
def test_object_tree_is_kept(path, tmp_path):
    target = tmp_path / "out.pt"
    convert(TESTDATA / path, target)
    before, after = oracle.load(TESTDATA / path), load_safely(target)
    same_tree(before, after)
    if hasattr(before, "_metadata"):
        assert after._metadata == before._metadata


@pytest.mark.parametrize("path", ["ckpt/good/views/tied.pt", "ckpt/good/layouts/whole_net.pt",
                                  "ckpt/good/legacy/shared.pt"])
def test_ties_survive_a_round_trip(path, tmp_path):
    """checkpoint -> safetensors -> checkpoint: what was one tensor is one tensor again."""
    convert(TESTDATA / path, tmp_path / "between.safetensors")
    convert(tmp_path / "between.safetensors", tmp_path / "out.pt")
    loaded = load_safely(tmp_path / "out.pt")
    document = expected(path)
    assert sorted(loaded) == sorted(entry["name"] for entry in document["tensors"])
    for group in document["ties"]:
        assert len({loaded[name].data_ptr() for name in group}) == 1, group


def data_offsets(path):
    """{entry name: where its bytes begin} from the records themselves."""
    data = path.read_bytes()
    places = {}
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            name_len, extra_len = struct.unpack_from("<HH", data, info.header_offset + 26)
            places[info.filename] = info.header_offset + 30 + name_len + extra_len
    return places


@pytest.mark.parametrize("path", ["safetensors/good/every_dtype.safetensors",
                                  "safetensors/good/unaligned.safetensors",
                                  "ckpt/good/zip/many_tensors.pt", "ckpt/good/views/strided.pt"])
def test_container_is_sound(path, tmp_path):
    """CRCs right, entries stored, storages on 64-byte borders, the markers torch writes."""
    target = tmp_path / "out.pt"
    convert(TESTDATA / path, target)
    with zipfile.ZipFile(target) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
    assert all(info.compress_type == zipfile.ZIP_STORED for info in infos)
    roots = {info.filename.split("/", 1)[0] for info in infos}
    assert len(roots) == 1
    inner = {info.filename.split("/", 1)[1] for info in infos}
    assert {"data.pkl", "byteorder", "version"} <= inner
    for name, at in data_offsets(target).items():
        if "/data/" in name:
            assert at % 64 == 0, f"{name} begins at {at}"


def test_torch_reads_names_as_metadata_only(tmp_path):
    """FakeTensorMode and meta loading, as big-model loaders use them."""
    target = tmp_path / "out.pt"
    convert(TESTDATA / "ckpt/good/zip/many_tensors.pt", target)
    loaded = torch.load(target, map_location="meta", weights_only=True)
    assert all(tensor.device.type == "meta" for tensor in loaded.values())


@pytest.mark.parametrize("way", ["safetensors", "gguf", "onnx"])
def test_a_pair_without_dimensions_comes_back(way, tmp_path):
    pair = lambda *shape: torch.full(shape, 0x21, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)  # noqa: E731
    made = {"lone": pair(), "one": pair(1), "two": pair(3, 2)}
    torch.save(made, tmp_path / "a.pt")
    convert(tmp_path / "a.pt", tmp_path / f"b.{way}", "--as", "container")
    convert(tmp_path / f"b.{way}", tmp_path / "c.pt", "--as", "container")
    loaded = load_safely(tmp_path / "c.pt")
    for name, tensor in made.items():
        assert loaded[name].shape == tensor.shape and loaded[name].dtype == tensor.dtype, name
        assert torch.equal(loaded[name].view(torch.uint8), tensor.view(torch.uint8)), name
