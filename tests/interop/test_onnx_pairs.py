"""ONNX among the other formats: weights out of graphs, graphs over weights, GGUF out of either, and back.

What PyTorch exports is the truth for names and numbers, onnxruntime for what a graph computes, the
reference libraries for what a file holds.
"""

import json
import shutil
import struct

import numpy as np
import pytest

from judge import REFUSED, TESTDATA, USAGE, convert, run

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
transformers = pytest.importorskip("transformers")
import torch  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402
from safetensors.torch import load_file as load_torch  # noqa: E402


onnxruntime.set_default_logger_severity(4)
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

WORDS = 427
# The tokenizer of the test data is cut down, which its fingerprint shows.
PRE = ["--pre", "llama-bpe"]
IDS = np.arange(9)[None] * 40
FEED = {"input_ids": IDS, "attention_mask": np.ones_like(IDS)}


def repository(folder, tied):
    config = transformers.LlamaConfig(
        vocab_size=WORDS, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied, bos_token_id=420,
        eos_token_id=421, pad_token_id=None)
    torch.manual_seed(20261121)
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    sample = json.loads((TESTDATA / "vocab" / "bpe-llama3.json").read_text())
    for name, body in sample["files"].items():
        (folder / name).write_text(json.dumps(body["json"]) if "json" in body else body["text"])
    return model


class Whole(torch.nn.Module):
    """The model as people export it: logits of ids and mask."""

    def __init__(self, model):
        super().__init__()
        self.model, self.lm_head = model.model, model.lm_head

    def forward(self, input_ids, attention_mask):
        return self.lm_head(self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)[0])


def export(model, path):
    feed = tuple(torch.tensor(FEED[name]) for name in ("input_ids", "attention_mask"))
    axes = {name: {0: "batch", 1: "length"} for name in FEED}
    torch.onnx.export(Whole(model), feed, str(path), input_names=list(FEED), output_names=["logits"], dynamo=False,
                      opset_version=17, dynamic_axes=axes)


@pytest.fixture(scope="module", params=[False, True], ids=["untied", "tied"])
def exported(request, tmp_path_factory):
    """A repository, and the model exported from it with its side files: both folders are called tiny."""
    top = tmp_path_factory.mktemp("exported")
    repo, graph = top / "hf" / "tiny", top / "onnx" / "tiny"
    for folder in (repo, graph):
        folder.mkdir(parents=True)
    model = repository(repo, request.param)
    export(model, graph / "model.onnx")
    for side in repo.glob("*.j*"):
        shutil.copy(side, graph)
    return model, repo, graph, request.param


def logits(path, feed=FEED):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feed)[0]


def outside(path):
    """Tensors with data in other files, by location, and bytes that stayed in the model."""
    found, inside = {}, 0
    for tensor in onnx.load(path, load_external_data=False).graph.initializer:
        pairs = {pair.key: pair.value for pair in tensor.external_data}
        if pairs:
            found.setdefault(pairs["location"], []).append(tensor.name)
        inside += len(tensor.raw_data)
    return found, inside


def test_weights_come_out_under_their_names(exported, tmp_path):
    model, _, graph, tied = exported
    convert(graph / "model.onnx", tmp_path / "w.safetensors")
    found = load_torch(tmp_path / "w.safetensors")
    state = model.state_dict()
    if tied:
        state.pop("lm_head.weight")
        with open(tmp_path / "w.safetensors", "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        assert header["__metadata__"]["lm_head.weight"] == "model.embed_tokens.weight"
    for name, value in state.items():
        assert torch.equal(found[name], value), name
    assert ("lm_head.weight" in found) is not tied


@pytest.mark.parametrize("more", [[], ["--raw-names"], ["--shard-size", "100KB"]], ids=["named", "raw", "shards"])
def test_a_kept_graph_computes_over_the_same_bytes(exported, tmp_path, more):
    _, _, graph, _ = exported
    convert(graph / "model.onnx", tmp_path / "w.safetensors", "--keep-graph", *more)
    kept = tmp_path / "w.onnx"
    onnx.checker.check_model(str(kept), full_check=True)
    found, inside = outside(kept)
    assert all(name.endswith(".safetensors") for name in found), found
    assert (len(found) > 1) is ("--shard-size" in more)
    assert inside < 20_000
    assert np.array_equal(logits(kept), logits(graph / "model.onnx"))
    for name in found:
        assert load_file(tmp_path / name)


def test_a_kept_graph_appears_with_its_weights_or_not_at_all(exported, tmp_path):
    _, _, graph, _ = exported
    (tmp_path / "w.onnx").write_bytes(b"mine")
    arguments = ["convert", graph / "model.onnx", tmp_path / "w.safetensors", "--keep-graph"]
    assert run(*arguments).returncode == USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["w.onnx"]
    # The graph would be written over the input.
    shutil.copy(graph / "model.onnx", tmp_path / "m.onnx")
    arguments = ["convert", tmp_path / "m.onnx", tmp_path / "m.safetensors", "--keep-graph", "--overwrite"]
    assert run(*arguments).returncode == USAGE
    assert not (tmp_path / "m.safetensors").exists()
    assert run("convert", graph / "model.onnx", tmp_path / "m.gguf", "--keep-graph").returncode == USAGE


def test_a_decoder_over_the_repository_s_own_file(exported, tmp_path):
    _, repo, graph, _ = exported
    home = tmp_path / "tiny"
    shutil.copytree(repo, home)
    before = (home / "model.safetensors").read_bytes()
    convert(home, home / "decoder.onnx", "--external-into")
    assert (home / "model.safetensors").read_bytes() == before
    found, _ = outside(home / "decoder.onnx")
    assert list(found) == ["model.safetensors"]
    assert (home / "decoder.onnx").stat().st_size < 60_000
    onnx.checker.check_model(str(home / "decoder.onnx"), full_check=True)
    past = {f"past_key_values.{i}.{part}": np.zeros((1, 2, 0, 16), np.float32) for i in (0, 1) for part in ("key", "value")}
    feed = {**FEED, **past, "position_ids": np.arange(9)[None]}
    assert np.abs(logits(home / "decoder.onnx", feed) - logits(graph / "model.onnx")).max() < 1e-4


def test_a_container_over_a_file(tmp_path):
    tensors = {"a.weight": np.arange(600, dtype=np.float32).reshape(20, 30), "b": np.array([1, 2], np.int64)}
    save_file(tensors, tmp_path / "w.safetensors")
    convert(tmp_path / "w.safetensors", tmp_path / "w.onnx", "--as", "container", "--external-into")
    found, inside = outside(tmp_path / "w.onnx")
    assert list(found) == ["w.safetensors"] and inside == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "w.onnx"))
    for value, got in zip(session.get_outputs(), session.run(None, {})):
        assert np.array_equal(got, tensors[value.name])
    # What must be changed, or lies elsewhere, cannot be pointed to.
    (tmp_path / "below").mkdir()
    for output, why, *more in [("x.onnx", "not stored as", "--dtype", "f16"), ("below/x.onnx", "not below the model's")]:
        done = run("convert", tmp_path / "w.safetensors", tmp_path / output, "--as", "container", "--external-into", *more)
        assert done.returncode == REFUSED and why in done.stderr, done.stderr
        assert not (tmp_path / output).exists()


@pytest.mark.parametrize("layout", ["file", "folder", "js-file", "js-folder", "decoder", "decoder-js"])
def test_the_gguf_is_the_repository_s(exported, tmp_path, layout):
    _, repo, graph, _ = exported
    convert(repo, tmp_path / "straight.gguf", *PRE)
    home = tmp_path / layout / "tiny"
    if layout == "decoder":
        convert(repo, f"{home}/", "--to", "onnx")
        assert {"model.onnx", "config.json", "tokenizer.json"} <= {path.name for path in home.iterdir()}
    elif layout == "decoder-js":
        convert(repo, f"{home}/onnx/", "--to", "onnx")
        assert {"onnx", "config.json", "tokenizer.json"} <= {path.name for path in home.iterdir()}
        assert [path.name for path in (home / "onnx").iterdir()] == ["model.onnx"]
    else:
        shutil.copytree(graph, home)
        if layout.startswith("js"):
            (home / "onnx").mkdir()
            (home / "model.onnx").rename(home / "onnx" / "model.onnx")
    model = {"file": home / "model.onnx", "js-file": home / "onnx" / "model.onnx"}.get(layout, home)
    convert(model, tmp_path / "made.gguf", *PRE)
    assert (tmp_path / "made.gguf").read_bytes() == (tmp_path / "straight.gguf").read_bytes()


@pytest.mark.parametrize("way", ["shards", "gguf"])
def test_the_order_of_weights_is_kept(tmp_path, way):
    """A repository of several files has its head in the last; a GGUF has the order of its maker."""
    home = tmp_path / "tiny"
    home.mkdir()
    model = repository(home, tied=False)
    if way == "shards":
        (home / "model.safetensors").unlink()
        model.save_pretrained(home, max_shard_size="60KB")
        assert len(list(home.glob("*.safetensors"))) > 2
    convert(home, tmp_path / "straight.gguf", *PRE)
    source = tmp_path / "straight.gguf" if way == "gguf" else home
    convert(source, f"{tmp_path}/graph/tiny/", "--to", "onnx")
    convert(tmp_path / "graph" / "tiny", tmp_path / "made.gguf", *PRE)
    names = [[tensor.name for tensor in pytest.importorskip("gguf").GGUFReader(path).tensors]
             for path in (tmp_path / "straight.gguf", tmp_path / "made.gguf")]
    assert names[0] == names[1]


def test_a_gguf_with_nameless_weights_is_refused(exported, tmp_path):
    _, _, graph, _ = exported
    shutil.copytree(graph, tmp_path / "tiny")
    model = onnx.load(tmp_path / "tiny" / "model.onnx")
    for node in model.graph.node:
        if node.name == "/model/layers.1/mlp/up_proj/MatMul":
            node.name = ""
            for other in model.graph.node:
                other.input[:] = ["y" if name == node.output[0] else name for name in other.input]
            node.output[0] = "y"
    onnx.save(model, tmp_path / "tiny" / "model.onnx")
    done = run("convert", tmp_path / "tiny", tmp_path / "x.gguf", *PRE)
    assert done.returncode == REFUSED and "onnx::MatMul" in done.stderr, done.stderr


@pytest.mark.parametrize("way", ["safetensors", "gguf", "pt"])
def test_a_graph_travels(exported, tmp_path, way):
    _, _, graph, _ = exported
    there, back = tmp_path / f"there.{way}", tmp_path / "back.onnx"
    convert(graph / "model.onnx", there, "--as", "container", "--carry", "metadata,graph")
    convert(there, back)
    assert np.array_equal(logits(back), logits(graph / "model.onnx"))
    whole = [onnx.load(path) for path in (graph / "model.onnx", back)]
    assert whole[0].graph.node == whole[1].graph.node
    assert [t.name for t in whole[0].graph.initializer] == [t.name for t in whole[1].graph.initializer]


def test_gguf_through_safetensors_is_the_same_file(tmp_path):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_uint32("llama.block_count", 7)
    writer.add_float32("llama.scale", 0.1)
    writer.add_array("tokenizer.ggml.tokens", ["a\nb", "c\t", ""])
    writer.add_array("tokenizer.ggml.scores", [0.1, -0.0])
    writer.add_bool("x.flag", True)
    rng = np.random.default_rng(1)
    writer.add_tensor("z.weight", rng.standard_normal((4, 8)).astype(np.float32))
    q8 = gguf.quants.quantize(rng.standard_normal((4, 64)).astype(np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("b.weight", q8, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("a.weight", rng.standard_normal(5).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for way in ("safetensors", "onnx", "pt"):
        there, back = tmp_path / f"there.{way}", tmp_path / f"{way}.gguf"
        convert(tmp_path / "a.gguf", there, "--as", "container", "--keep-blocks", "--carry", "metadata")
        convert(there, back, "--as", "container", "--carry", "metadata")
        assert back.read_bytes() == (tmp_path / "a.gguf").read_bytes(), way


# The types that onnxruntime 1.31 makes tensors of.
RUNS = ["FLOAT", "UINT8", "INT8", "UINT16", "INT16", "INT32", "INT64", "STRING", "BOOL", "FLOAT16", "DOUBLE", "UINT32",
        "UINT64", "BFLOAT16", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "UINT4", "INT4",
        "UINT2", "INT2", "FLOAT4E2M1", "FLOAT8E8M0"]
# Those it has not, and what they are in a container.
OTHERS = {"COMPLEX64": ("FLOAT", [2, 2, 2]), "COMPLEX128": ("DOUBLE", [2, 2, 2]), "FLOAT6E2M3": ("UINT8", [3]),
          "FLOAT6E3M2": ("UINT8", [3])}


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("way", ["safetensors", "gguf", "pt"])
def test_containers_load_in_onnxruntime(tmp_path, kind, way):
    """From the type as onnx writes it, by another format, to a container of the same type."""
    code = getattr(onnx.TensorProto, kind)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(code)
    values = np.array([b"a", b"", b"cd", b"\xff"], object) if kind == "STRING" else np.array([1, 0, 1, 1]).astype(dtype)
    tensors = {"m": values.reshape(2, 2), "scalar": values[0].reshape(()) if kind != "STRING" else values[:1].reshape(()),
               "empty": values[:0].reshape(0, 3)}
    initializers = [onnx.numpy_helper.from_array(array, name) if kind != "STRING" else
                    onnx.helper.make_tensor(name, code, array.shape, list(array.ravel())) for name, array in tensors.items()]
    outputs = [onnx.helper.make_tensor_value_info(name, code, array.shape) for name, array in tensors.items()]
    graph = onnx.helper.make_graph([], "g", [], outputs, initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / f"there.{way}", "--as", "container")
    convert(tmp_path / f"there.{way}", tmp_path / "back.onnx", "--as", "container")
    back = onnx.load(tmp_path / "back.onnx")
    assert [tensor.name for tensor in back.graph.initializer] == list(tensors)
    for tensor, first in zip(back.graph.initializer, initializers):
        assert tensor.data_type == code and tensor.dims == first.dims
        if kind == "STRING":
            assert list(tensor.string_data) == list(first.string_data)
        else:
            got, want = map(onnx.numpy_helper.to_array, (tensor, first))
            assert got.tobytes() == want.tobytes()
    onnxruntime.InferenceSession(str(tmp_path / "back.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("way", ["safetensors", "gguf", "pt"])
def test_containers_of_types_that_onnxruntime_lacks_load_too(tmp_path, kind, way):
    code = getattr(onnx.TensorProto, kind)
    raw = bytes(range(1, 33))[:3 if kind.startswith("FLOAT6") else 32 if kind == "COMPLEX64" else 64]
    raw = raw * (2 if kind == "COMPLEX128" else 1)
    first = onnx.helper.make_tensor("m", code, [2, 2], raw, raw=True)
    graph = onnx.helper.make_graph([], "g", [], [onnx.helper.make_tensor_value_info("m", code, [2, 2])], [first])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / f"there.{way}", "--as", "container")
    done = convert(tmp_path / f"there.{way}", tmp_path / "b.onnx", "--as", "container", "--strict")
    assert "is written to onnx: carried as" in done.stderr
    [tensor] = onnx.load(tmp_path / "b.onnx").graph.initializer
    stands, shape = OTHERS[kind]
    assert tensor.data_type == getattr(onnx.TensorProto, stands) and list(tensor.dims) == shape
    assert onnx.numpy_helper.to_array(tensor).tobytes() == raw
    session = onnxruntime.InferenceSession(str(tmp_path / "b.onnx"), providers=["CPUExecutionProvider"])
    assert session.run(None, {})[0].tobytes() == raw
    # What it was stands in a note: the tensor is of its own type again.
    back = tmp_path / "back" / f"there.{way}"
    back.parent.mkdir()
    convert(tmp_path / "b.onnx", back, "--as", "container")
    assert back.read_bytes() == (tmp_path / f"there.{way}").read_bytes()


def test_a_tensor_that_changed_under_its_graph_is_told(tmp_path):
    weight = onnx.numpy_helper.from_array(np.arange(6, dtype="float32").reshape(2, 3), "fc.weight")
    value = lambda name, *shape: onnx.helper.make_tensor_value_info(name, 1, shape)  # noqa: E731
    node = onnx.helper.make_node("MatMul", ["x", "fc.weight"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value("x", 1, 2)], [value("y", 1, 3)], [weight])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "a.onnx")
    convert(tmp_path / "a.onnx", tmp_path / "b.safetensors", "--carry", "graph")
    with safe_open(tmp_path / "b.safetensors", "np") as file:
        noted = file.metadata()
    halves = {name: tensor.astype("float16") for name, tensor in load_file(tmp_path / "b.safetensors").items()}
    save_file(halves, tmp_path / "c.safetensors", metadata=noted)
    done = run("convert", tmp_path / "c.safetensors", tmp_path / "d.onnx")
    assert done.returncode == REFUSED
    assert '"fc.weight" of F32 [2, 3], which is F16 [2, 3] now' in done.stderr
    assert "damaged" not in done.stderr
    convert(tmp_path / "c.safetensors", tmp_path / "d.onnx", "--as", "container")
    kept = onnx.load(tmp_path / "d.onnx").graph.initializer
    assert [onnx.numpy_helper.to_array(tensor).dtype for tensor in kept] == [np.float16]
