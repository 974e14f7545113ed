"""Checkpoints to safetensors: the real libraries read the result, value for value."""

import pytest
import safetensors
import safetensors.torch
import torch

import common
import oracle
from judge import (DONE, REFUSED, TESTDATA, check_safetensors, convert, good_checkpoints, paths_of,
                   read_safetensors, run)
from research.models import Net

GOOD = good_checkpoints()


def writable(document):
    return [entry for entry in document["tensors"] if not entry.get("meta")]


@pytest.mark.parametrize("path, document", GOOD, ids=paths_of(GOOD))
def test_values_names_and_ties(path, document, tmp_path):
    target = tmp_path / "out.safetensors"
    done = run("convert", TESTDATA / path, target)
    if not writable(document):
        assert done.returncode in (DONE, REFUSED), done.stderr
        assert target.exists() == (done.returncode == DONE)
        return
    assert done.returncode == DONE, done.stderr
    metadata = check_safetensors(target, document)
    assert metadata["format"] == "pt"
    loaded = safetensors.torch.load_file(target)
    _, found = read_safetensors(target)
    assert {name: oracle.tensor_bytes(tensor) for name, tensor in loaded.items()} == {
        name: raw for name, (_, _, raw) in found.items()}


@pytest.mark.parametrize("path, document", GOOD, ids=paths_of(GOOD))
def test_torch_agrees_at_run_time(path, document, tmp_path):
    """The same against what torch.load gives now, not what was written down."""
    if not writable(document) or "twin" in document:
        pytest.skip("nothing that torch loads")
    target = tmp_path / "out.safetensors"
    convert(TESTDATA / path, target)
    fresh = oracle.describe(TESTDATA / path)
    if document.get("nameless"):
        fresh["nameless"] = True
    check_safetensors(target, fresh)


@pytest.mark.parametrize("path", [
    "ckpt/good/views/tied.pt", "ckpt/good/legacy/tied.pt", "ckpt/good/torch2.6/state_dict.pt"])
def test_shared_copy_writes_every_name(path, tmp_path):
    target = tmp_path / "out.safetensors"
    convert(TESTDATA / path, target, "--shared", "copy")
    document = oracle.describe(TESTDATA / path)
    check_safetensors(target, {**document, "ties": []})


@pytest.mark.parametrize("path", [
    "ckpt/good/layouts/whole_net.pt", "ckpt/good/legacy/whole_net.pt"])
def test_load_model_of_a_tied_module(path, tmp_path):
    target = tmp_path / "out.safetensors"
    convert(TESTDATA / path, target)
    model = Net()
    missing, unexpected = safetensors.torch.load_model(model, target)
    assert not missing and not unexpected
    truth = oracle.load(TESTDATA / path).state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, truth[name]), name
    assert model.heads["main"].weight is model.embed.weight


def test_key_picks_a_subtree(tmp_path):
    target = tmp_path / "out.safetensors"
    convert(TESTDATA / "ckpt/good/layouts/gan.pt", target, "--key", "discriminator")
    truth = oracle.load(TESTDATA / "ckpt/good/layouts/gan.pt")["discriminator"]
    _, found = read_safetensors(target)
    assert {name: raw for name, (_, _, raw) in found.items()} == {
        name: oracle.tensor_bytes(tensor) for name, tensor in truth.items()}


def test_all_keeps_everything(tmp_path):
    target = tmp_path / "out.safetensors"
    path = TESTDATA / "ckpt/good/layouts/gan.pt"
    convert(path, target, "--all")
    _, found = read_safetensors(target)
    assert sorted(found) == sorted(name for name, _ in oracle.flatten(oracle.load(path)))


@pytest.mark.parametrize("path, document", GOOD, ids=paths_of(GOOD))
def test_the_source_is_left_alone_and_output_is_not_replaced(path, document, tmp_path):
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"mine")
    before = common.sha256((TESTDATA / path).read_bytes())
    assert run("convert", TESTDATA / path, target).returncode not in (DONE,)
    assert target.read_bytes() == b"mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.safetensors"]
    assert common.sha256((TESTDATA / path).read_bytes()) == before


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_same_bytes_at_any_thread_count(threads, tmp_path):
    source = TESTDATA / "ckpt/good/views/shared.pt"
    convert(source, tmp_path / "a.safetensors", "--threads", "1")
    convert(source, tmp_path / "b.safetensors", "--threads", threads)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
