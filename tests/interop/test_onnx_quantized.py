"""Quantized weights in ONNX: GGUF's blocks there and back, and what onnxruntime's quantizers write.

Values come from onnxruntime and from gguf-py, never from our own output.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from judge import PROGRAM, REFUSED, USAGE, convert, run
from test_decoder import Graph, batch, build, tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parent / "llm"))
import runtime  # noqa: E402

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
gguf = pytest.importorskip("gguf")
from gguf import GGMLQuantizationType as Q  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

ort.set_default_logger_severity(4)
KEPT = [Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.MXFP4]
CODES = {Q.Q4_0: TensorProto.INT4, Q.Q4_1: TensorProto.UINT4, Q.Q5_0: TensorProto.INT8, Q.Q5_1: TensorProto.UINT8,
         Q.Q8_0: TensorProto.INT8, Q.MXFP4: TensorProto.UINT4}
SHAPES = ([512], [6, 256], [2, 3, 256], [2, 2, 2, 512])
# One block, and few: a scale that stands alone means something else to runtimes.
FEW = ([32], [64], [1, 32], [1, 1, 32])


def blocks(path, kinds):
    """Tensors of random bytes in every rank. Scales and minima of F16 are finite; many are subnormal or below zero."""
    rng = np.random.default_rng(20261121)
    writer = gguf.GGUFWriter(path, "test")
    for kind in kinds:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        for shape in SHAPES:
            raw = rng.integers(0, 256, (int(np.prod(shape)) // elements, size), dtype=np.uint8)
            if kind == Q.Q6_K:
                raw[:, -1] &= 0xBF
            elif kind != Q.MXFP4:
                raw[:, 1] &= 0xBF
                if kind in (Q.Q4_1, Q.Q5_1):
                    raw[:, 3] &= 0xBF
                raw[::7, 1] &= 0x83  # subnormal
            writer.add_tensor(f"{kind.name}.{len(shape)}.weight", raw.reshape(*shape[:-1], -1), raw_dtype=kind)
    writer.add_tensor("norm.weight", np.arange(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tensors(path):
    return {t.name: t for t in gguf.GGUFReader(path).tensors}


def contents(path):
    """The keys of a file that are one value."""
    values = {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}
    return {key: value for key, value in values.items() if not isinstance(value, list)}


def adds(path):
    """Whether llama.cpp puts bos and eos around a text."""
    out = path.with_suffix(".json")
    command = [sys.executable, runtime.__file__, path, out]
    subprocess.run(command, input="{}", text=True, check=True, capture_output=True)
    return json.loads(out.read_text())["adds"]


def same_blocks(a, b, ordered=True):
    a, b = tensors(a), tensors(b)
    assert list(a) == list(b) if ordered else sorted(a) == sorted(b)
    for name in a:
        assert a[name].tensor_type == b[name].tensor_type, name
        assert list(a[name].shape) == list(b[name].shape), name
        assert a[name].data.tobytes() == b[name].data.tobytes(), name


def bits(values):
    return np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint32)


@pytest.mark.parametrize("kind", KEPT)
def test_few_blocks(kind, tmp_path):
    source, path, back = tmp_path / "a.gguf", tmp_path / "a.onnx", tmp_path / "b.gguf"
    rng = np.random.default_rng(7)
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    writer = gguf.GGUFWriter(source, "test")
    for shape in FEW:
        raw = rng.integers(0, 0x3c, (int(np.prod(shape)) // elements, size), dtype=np.uint8)
        writer.add_tensor("x".join(map(str, shape)), raw.reshape(*shape[:-1], -1), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(source, path, "--as", "container", "--strict")
    onnx.checker.check_model(str(path), full_check=True)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = dict(zip([value.name for value in session.get_outputs()], session.run(None, {})))
    for name, tensor in tensors(source).items():
        assert list(made[name].shape) == [int(n) for n in tensor.shape[::-1]], name
        assert np.array_equal(bits(made[name]), bits(gguf.dequantize(tensor.data, kind))), name
    convert(path, back, "--as", "container")
    assert source.read_bytes() == back.read_bytes()
    # Saved by another program, notes and all.
    onnx.save(onnx.load(path), path)
    convert(path, back, "--as", "container", "--overwrite")
    same_blocks(source, back)


@pytest.mark.parametrize("flags", [[], ["--external-data"], ["--threads", "1"]])
def test_values_are_ggmls(flags, tmp_path):
    source, path = blocks(tmp_path / "a.gguf", KEPT), tmp_path / "a.onnx"
    convert(source, path, "--as", "container", "--strict", *flags)
    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {""}
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    made = dict(zip([value.name for value in session.get_outputs()], session.run(None, {})))
    wanted = tensors(source)
    assert sorted(made) == sorted(wanted)
    kinds = {t.name: t.data_type for t in model.graph.initializer}
    with np.errstate(over="ignore"):
        for name, tensor in wanted.items():
            values = tensor.data
            if tensor.tensor_type in KEPT:
                values = gguf.dequantize(tensor.data, tensor.tensor_type)
                assert kinds[f"{name}_quantized"] == CODES[tensor.tensor_type]
            assert list(made[name].shape) == [int(n) for n in tensor.shape[::-1]]
            assert np.array_equal(bits(made[name]), bits(values)), name
    # As many bytes as the blocks have; fifth bits alone take a whole byte more for three.
    four = [t for t in model.graph.initializer if t.name.startswith(("Q4_0.2", "Q4_1.2", "Q8_0.2", "MXFP4.2"))]
    held = sum(len(t.raw_data) for t in four)
    assert held == sum(t.data.nbytes for t in wanted.values() if t.name[:6] in ("Q4_0.2", "Q4_1.2", "Q8_0.2", "MXFP4."))\
        - sum(t.data.nbytes for t in wanted.values() if t.name.startswith("MXFP4.") and t.name[6] != "2")


def test_container_and_back(tmp_path):
    source = blocks(tmp_path / "a.gguf", [*KEPT, Q.Q6_K])
    path, back = tmp_path / "a.onnx", tmp_path / "b.gguf"
    done = convert(source, path, "--as", "container", "--keep-blocks")
    assert "stay quantized" in done.stderr and "Q6_K" in done.stderr
    convert(path, back, "--as", "container")
    assert source.read_bytes() == back.read_bytes()
    convert(path, tmp_path / "a.safetensors", "--keep-blocks")
    convert(tmp_path / "a.safetensors", back, "--as", "container", "--overwrite")
    same_blocks(source, back, ordered=False)
    # Without the flag K-quants are numbers, and the report says so.
    done = convert(source, path, "--as", "container", "--overwrite")
    assert "4 Q6_K tensors" in done.stderr
    convert(path, back, "--as", "container", "--overwrite")
    kinds = {t.name: t.tensor_type for t in gguf.GGUFReader(back).tensors}
    assert {k for name, k in kinds.items() if name.startswith("Q6_K")} == {Q.F32}
    # A type that is asked for is every tensor's.
    convert(source, path, "--as", "container", "--dtype", "f16", "--overwrite")
    assert not onnx.load(path).graph.node


def test_a_saved_again_model_and_one_that_lies(tmp_path):
    """onnx writes the file anew: the blocks are still found. A code that does not fit its type is an error."""
    source, path, back = blocks(tmp_path / "a.gguf", KEPT), tmp_path / "a.onnx", tmp_path / "b.gguf"
    convert(source, path, "--as", "container")
    model, again = onnx.load(path), onnx.load(path)
    onnx.save(again, path, save_as_external_data=True, size_threshold=0, location="x.bin")
    convert(path, back, "--as", "container")
    same_blocks(source, back)
    for tensor in model.graph.initializer:
        if tensor.name == "Q5_0.2.weight_quantized":
            tensor.raw_data = b"\x55" + tensor.raw_data[1:]
    onnx.save(model, tmp_path / "c.onnx")
    done = run("convert", tmp_path / "c.onnx", tmp_path / "c.gguf", "--as", "container")
    assert done.returncode == REFUSED and "Q5_0" in done.stderr
    assert not (tmp_path / "c.gguf").exists()


@pytest.mark.parametrize("name, kind, tied", [
    ("llama", "Q4_0", False), ("llama", "Q8_0", False), ("llama", "Q4_1", False), ("llama", "Q5_0", False),
    ("llama", "Q4_K_M", False), ("qwen2", "Q4_0", True), ("qwen2", "Q8_0", True), ("qwen2", "Q5_1", True),
    ("llama", "MXFP4_MOE", False), ("gpt2", "Q8_0", False), ("gpt2", "Q4_1", False), ("gpt2", "Q5_1", False), ("qwen3", "Q4_1", False)])
def test_decoder_logits_and_back(name, kind, tied, tmp_path):
    more = dict(n_embd=64) if name == "gpt2" else dict(hidden_size=64, use_sliding_window=False) if tied else {}
    folder = build(name, tmp_path / "hf", **more)
    tokenizer(folder)
    quantized, path = tmp_path / "q.gguf", tmp_path / "q.onnx"
    convert(folder, quantized, "--quantize", kind, "--pre", "gpt-2")
    convert(quantized, path, "--strict")
    there = tensors(quantized)
    exact = {n for n, t in there.items() if t.tensor_type in KEPT}
    graph = Graph(path)
    codes = [t for t in graph.model.graph.initializer if t.name.endswith("_quantized")]
    assert len(codes) == len(exact)
    # The graph of the very numbers that gguf-py makes of the blocks.
    plain = tmp_path / "f.gguf"
    reader = gguf.GGUFReader(quantized)
    writer = gguf.GGUFWriter(plain, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], of)
    for tensor in reader.tensors:
        values = tensor.data
        if tensor.tensor_type not in (Q.F32, Q.F16, Q.BF16):
            values = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(plain, tmp_path / "f.onnx", "--dtype", "f32")
    ids, mask, positions = batch(26)
    other = Graph(tmp_path / "f.onnx")
    wanted, _ = other.step(ids, mask, positions, other.empty(len(ids)))
    assert np.abs(wanted[mask.astype(bool)]).max() > 0.5
    assert graph.distance(wanted) <= 1e-4
    # And back: a folder with the graph is a repository.
    convert(quantized, f"{tmp_path}/out/", "--to", "onnx")
    done = convert(tmp_path / "out", tmp_path / "back.gguf", "--pre", "gpt-2")
    assert "put together again" in done.stderr
    back = tensors(tmp_path / "back.gguf")
    kept = {t.name for t in codes}
    assert len(kept) == sum(back[n].tensor_type in KEPT for n in exact)
    for n in exact:
        assert back[n].tensor_type == there[n].tensor_type, n
        assert back[n].data.tobytes() == there[n].data.tobytes(), n
    # What the file says it is: as the first did, but for mixtures that are none any more.
    said = [contents(file)["general.file_type"] for file in (quantized, tmp_path / "back.gguf")]
    wanted = {"Q4_K_M": said[1], "MXFP4_MOE": gguf.LlamaFileType.MOSTLY_Q8_0}.get(kind, said[0])
    assert said[1] == wanted
    most, _ = Counter(t.tensor_type for t in back.values() if len(t.shape) > 1).most_common(1)[0]
    assert gguf.LlamaFileType(said[1]).name in (f"MOSTLY_{most.name}", f"ALL_{most.name}")
    # Keys that the tokenizer's files say and the first file left to the runtime: as it takes a silent file.
    keys = {f"tokenizer.ggml.add_{token}_token" for token in ("bos", "eos")}
    assert keys <= contents(tmp_path / "back.gguf").keys() - contents(quantized).keys()
    if runtime.folder():
        assert adds(tmp_path / "back.gguf") == adds(quantized)
    # Out of the graph as numbers: those that gguf-py makes of the blocks.
    convert(path, tmp_path / "w.safetensors")
    convert(plain, f"{tmp_path}/w/", "--dtype", "f32")
    assert run("diff", tmp_path / "w.safetensors", tmp_path / "w").returncode == 0
    # Asked for a type, all are numbers.
    convert(quantized, path, "--dtype", "f32", "--overwrite")
    assert not any(t.name.endswith("_quantized") for t in Graph(path).model.graph.initializer)
    assert run("convert", quantized, tmp_path / "n.onnx", "--keep-blocks").returncode == USAGE


@pytest.fixture(scope="module")
def ggml():
    sys.path.insert(0, str(Path(__file__).parent / "quant"))
    import ggml_ref
    library = ggml_ref.library_path()
    if library is None:
        pytest.skip("no libggml-base.so")
    return ggml_ref.Ggml(library)


def stripped(path, to):
    """The model as another program may leave it: without a property, its parts under names of their own."""
    model = onnx.load(path)
    del model.metadata_props[:]
    for holder in [model.graph, *model.graph.node, *model.graph.initializer]:
        del holder.metadata_props[:]
    model.graph.doc_string = model.producer_name = ""
    onnx.save(model, to)


@pytest.mark.parametrize("kind", KEPT)
def test_a_container_without_notes(kind, ggml, tmp_path):
    """Blocks are told by their operators, types and codes: the same bytes come back."""
    rng = np.random.default_rng(11)
    source, path, bare, back = (tmp_path / name for name in ("a.gguf", "a.onnx", "b.onnx", "b.gguf"))
    writer = gguf.GGUFWriter(source, "test")
    for shape in [*SHAPES, [32], [1, 64], [40, 32]]:
        rows = rng.standard_normal(shape).astype(np.float32).reshape(-1, shape[-1])
        if rows.size > 64:  # one block of zeros, but no tensor of them: that one is any type's
            rows[0, :32] = 0
        raw = np.frombuffer(ggml.quantize(kind.name, rows), np.uint8)
        writer.add_tensor("x".join(map(str, shape)), raw.reshape(*shape[:-1], -1), raw_dtype=kind)
    writer.add_tensor("norm.weight", np.arange(8, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(source, path, "--as", "container", "--strict")
    stripped(path, bare)
    ort.InferenceSession(str(bare), providers=["CPUExecutionProvider"])
    convert(bare, back, "--as", "container")
    same_blocks(source, back, ordered=False)


@pytest.mark.parametrize("kind", KEPT)
@pytest.mark.parametrize("model, sizes", [
    ("llama", dict(hidden_size=64, intermediate_size=96, tie_word_embeddings=False)),
    ("llama", dict(hidden_size=64, intermediate_size=96, tie_word_embeddings=True)),
    ("gpt2", dict(n_embd=64))], ids=["untied", "tied", "across"])
def test_a_decoder_without_notes(model, sizes, kind, ggml, tmp_path):
    folder = build(model, tmp_path / "hf", **sizes)
    tokenizer(folder)
    plain, source = tmp_path / "f.gguf", tmp_path / "q.gguf"
    convert(folder, plain, "--dtype", "f32", "--pre", "gpt-2")
    reader = gguf.GGUFReader(plain)
    writer = gguf.GGUFWriter(source, model)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            of = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), field.types[0], of)
    for tensor in reader.tensors:
        if len(tensor.shape) == 2:
            raw = np.frombuffer(ggml.quantize(kind.name, tensor.data), np.uint8)
            writer.add_tensor(tensor.name, raw.reshape(tensor.data.shape[0], -1), raw_dtype=kind)
        else:
            writer.add_tensor(tensor.name, tensor.data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(source, f"{tmp_path}/out/", "--to", "onnx")
    stripped(tmp_path / "out" / "model.onnx", tmp_path / "out" / "model.onnx")
    convert(tmp_path / "out", tmp_path / "back.gguf", "--pre", "gpt-2")
    there, back = tensors(source), tensors(tmp_path / "back.gguf")
    assert sorted(there) == sorted(back)
    for name in there:
        assert back[name].tensor_type == there[name].tensor_type, name
        assert back[name].data.tobytes() == there[name].data.tobytes(), name


def network(path):
    """A convolution and two linear layers, one exported as MatMul, one as Gemm."""
    rng = np.random.default_rng(5)
    real = lambda *shape: rng.standard_normal(shape).astype(np.float32)  # noqa: E731
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "/conv/Conv", kernel_shape=[3, 3],
                         pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "/Relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["p"], ["f"], "/Flatten"),
        helper.make_node("MatMul", ["f", "onnx::MatMul_7"], ["m"], "/fc1/MatMul"),
        helper.make_node("Add", ["m", "fc1.bias"], ["a"], "/fc1/Add"),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], "/fc2/Gemm", transB=1)]
    weights = {"conv.weight": real(80, 3, 3, 3), "conv.bias": real(80), "onnx::MatMul_7": real(80, 96),
               "fc1.bias": real(96), "fc2.weight": real(10, 96), "fc2.bias": real(10)}
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 3, 8, 8])],
                              [helper.make_tensor_value_info("y", 1, ["n", 10])],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def load(path):
    from safetensors.numpy import load_file
    return load_file(path)


def asked(path, outputs):
    """The values of a graph's constants, as onnxruntime computes them."""
    model = onnx.load(path)
    del model.graph.output[:]
    for name in outputs:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = {"x": np.zeros((1, 3, 8, 8), np.float32)}
    return dict(zip(outputs, session.run(outputs, fed)))


class Batches:
    def __init__(self):
        rng = np.random.default_rng(9)
        self.items = iter([{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(3)])

    def get_next(self):
        return next(self.items, None)


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("kind", ["QInt8", "QUInt8", "QInt4"])
def test_qdq(channels, kind, tmp_path):
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    CalibrationDataReader.register(Batches)
    path, out = tmp_path / "q.onnx", tmp_path / "q.safetensors"
    quantize_static(network(tmp_path / "f.onnx"), path, Batches(), quant_format=QuantFormat.QDQ, per_channel=channels,
                    activation_type=QuantType.QUInt8, weight_type=getattr(QuantType, kind))
    nodes = {node.name: node for node in onnx.load(path).graph.node}
    names = {"conv.weight": "conv.weight", "conv.bias": "conv.bias", "onnx::MatMul_7": "fc1.weight",
             "fc1.bias": "fc1.bias", "fc2.weight": "fc2.weight", "fc2.bias": "fc2.bias"}
    values = {nodes[f"{name}_DequantizeLinear"].output[0]: to for name, to in names.items()}
    wanted = {values[name]: value for name, value in asked(path, list(values)).items()}
    done = convert(path, out)
    assert "computed from codes and scales" in done.stderr and "scales and zero points of activations" in done.stderr
    made = load(out)
    assert sorted(made) == sorted(wanted)
    for name, value in wanted.items():
        value = value.T if name == "fc1.weight" else value
        assert made[name].shape == value.shape
        assert np.array_equal(bits(made[name]), bits(value)), name
    told = json.loads(run("inspect", path, "--json").stdout)
    assert sorted(line["name"] for line in told["quantized"]) == sorted(names)
    assert all(line["scheme"].startswith("DequantizeLinear of") for line in told["quantized"])
    # The parts as they are, for those who want them.
    convert(path, out, "--raw-names", "--overwrite")
    assert {"conv.weight_quantized", "conv.weight_scale"} <= set(load(out))
    convert(path, out, "--as", "container", "--overwrite")
    assert {"conv.weight_quantized", "conv.weight_scale"} <= set(load(out))


def test_operators_with_codes(tmp_path):
    """QOperator and dynamic quantization: values as onnxruntime's own DequantizeLinear has them."""
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_dynamic, quantize_static
    source = network(tmp_path / "f.onnx")
    quantize_static(source, tmp_path / "o.onnx", Batches(), quant_format=QuantFormat.QOperator, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    quantize_dynamic(source, tmp_path / "d.onnx", per_channel=True)
    for file, axes in [("o", {"conv.weight": 0, "onnx::MatMul_7": 1, "fc2.weight": 0}),
                       ("d", {"conv.weight": 0, "onnx::MatMul_7": 1, "fc2.weight": 1})]:
        path, out = tmp_path / f"{file}.onnx", tmp_path / f"{file}.safetensors"
        parts = {t.name: t for t in onnx.load(path).graph.initializer}
        convert(path, out)
        made = load(out)
        assert sorted(name for name in made if not name.startswith("c_")) \
            == sorted(f"{layer}.{part}" for layer in ("conv", "fc1", "fc2") for part in ("weight", "bias"))
        if file == "o":
            [x] = [numpy_helper.to_array(parts[name]) for name in ("x_scale",)]
            steps = x * numpy_helper.to_array(parts["conv.weight_scale"])
            whole = numpy_helper.to_array(parts["conv.bias_quantized"]).astype(np.float32)
            assert np.array_equal(bits(made["conv.bias"]), bits(whole * steps))
        for name, axis in axes.items():
            inputs = [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")]
            scalar = not parts[inputs[1]].dims
            node = helper.make_node("DequantizeLinear", inputs, ["y"], **({} if scalar else {"axis": axis}))
            value = helper.make_tensor_value_info("y", 1, list(parts[inputs[0]].dims))
            graph = helper.make_graph([node], "g", [], [value], [parts[part] for part in inputs])
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
            [wanted] = ort.InferenceSession(model.SerializeToString()).run(None, {})
            to = {"onnx::MatMul_7": "fc1.weight"}.get(name, name)
            wanted = wanted.T if to == "fc1.weight" else wanted
            assert np.array_equal(bits(made[to]), bits(wanted)), (file, name)


@pytest.mark.parametrize("block", [16, 32, 64, 128, 256])
@pytest.mark.parametrize("bits_, even", [(4, True), (4, False), (8, True), (8, False)])
def test_matmul_nbits(block, bits_, even, tmp_path):
    pytest.importorskip("onnx_ir", reason="onnxruntime's quantizer wants onnx-ir")
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    path, out = tmp_path / "n.onnx", tmp_path / "n.safetensors"
    config = DefaultWeightOnlyQuantConfig(block_size=block, is_symmetric=even, bits=bits_)
    quantizer = MatMulNBitsQuantizer(onnx.load(network(tmp_path / "f.onnx")), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))
    convert(path, out)
    # The rows of the unit matrix ask for the weights one by one; F32 all the way.
    model = onnx.load(path)
    [node] = [node for node in model.graph.node if node.op_type == "MatMulNBits"]
    node.attribute.append(helper.make_attribute("accuracy_level", 1))
    given = helper.make_tensor_value_info(node.input[0], 1, [80, 80])
    taken = helper.make_tensor_value_info(node.output[0], 1, [80, 96])
    graph = helper.make_graph([node], "g", [given], [taken],
                              [t for t in model.graph.initializer if t.name in node.input])
    alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)
    session = ort.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
    [wanted] = session.run(None, {node.input[0]: np.eye(80, dtype=np.float32)})
    assert sorted(load(out)) == sorted(f"{layer}.{part}" for layer in ("conv", "fc1", "fc2") for part in ("weight", "bias"))
    made = load(out)["fc1.weight"]
    # Sums with zeros lose the sign of zero, and nothing else.
    assert made.shape == (96, 80) and np.array_equal(made, wanted.T)
    told = json.loads(run("inspect", path, "--json").stdout)["quantized"]
    assert [(line["shape"], line["scheme"]) for line in told] \
        == [([96, 80], f"MatMulNBits of {bits_} bits in blocks of {block}")]


@pytest.mark.parametrize("name", ["w", "fc1.w"])
def test_matmul_nbits_under_its_own_name(name, tmp_path):
    """The weight comes out as it does of the graph that was quantized, and that it was turned is told."""
    pytest.importorskip("onnx_ir", reason="onnxruntime's quantizer wants onnx-ir")
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    model = onnx.load(network(tmp_path / "f.onnx"))
    for tensor in model.graph.initializer:
        tensor.name = tensor.name.replace("onnx::MatMul_7", name)
    for node in model.graph.node:
        node.input[:] = [part.replace("onnx::MatMul_7", name) for part in node.input]
        if node.name == "/fc1/MatMul":
            node.name = ""
    onnx.save(model, tmp_path / "f.onnx")
    quantizer = MatMulNBitsQuantizer(model, algo_config=DefaultWeightOnlyQuantConfig(block_size=32, bits=8))
    quantizer.process()
    quantizer.model.save_model_to_file(str(tmp_path / "n.onnx"))
    convert(tmp_path / "f.onnx", tmp_path / "f.safetensors")
    done = convert(tmp_path / "n.onnx", tmp_path / "n.safetensors")
    plain, made = load(tmp_path / "f.safetensors")[name], load(tmp_path / "n.safetensors")[name]
    assert made.shape == plain.shape == (80, 96)
    assert np.abs(made - plain).max() < 0.05
    assert "as the MatMul has it that was quantized" in done.stderr


@pytest.mark.parametrize("even", [True, False])
def test_matmul_nbits_as_qdq(even, tmp_path):
    pytest.importorskip("onnx_ir", reason="onnxruntime's quantizer wants onnx-ir")
    from onnxruntime.quantization import QuantFormat
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    path, out = tmp_path / "n.onnx", tmp_path / "n.safetensors"
    config = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=even, bits=4, quant_format=QuantFormat.QDQ)
    quantizer = MatMulNBitsQuantizer(onnx.load(network(tmp_path / "f.onnx")), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))
    [node] = [node for node in onnx.load(path).graph.node if node.op_type == "DequantizeLinear"]
    wanted = asked(path, [node.output[0]])[node.output[0]]
    convert(path, out)
    made = load(out)["fc1.weight"]
    assert made.shape == (96, 80) and np.array_equal(bits(made), bits(wanted.T))


def test_qdq_of_eight_bit_floats(tmp_path):
    from onnxruntime.quantization import (CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType,
                                          quantize_static)
    CalibrationDataReader.register(Batches)
    path, out, kind = tmp_path / "q.onnx", tmp_path / "q.safetensors", QuantType.QFLOAT8E4M3FN
    quantize_static(network(tmp_path / "f.onnx"), path, Batches(), quant_format=QuantFormat.QDQ, activation_type=kind,
                    weight_type=kind, calibrate_method=CalibrationMethod.Distribution)
    parts = {t.name for t in onnx.load(path).graph.initializer}
    nodes = [n for n in onnx.load(path).graph.node if n.op_type == "DequantizeLinear" and n.input[0] in parts]
    values = {n.output[0]: n.input[0].removesuffix("_quantized").replace("onnx::MatMul_7", "fc1.weight") for n in nodes}
    assert {"conv.weight", "fc1.weight", "fc2.weight"} <= set(values.values())
    wanted = {values[name]: value for name, value in asked(path, list(values)).items()}
    convert(path, out)
    made = load(out)
    # Biases are F32 there, under the name that codes would have.
    assert {"conv.weight", "fc1.weight", "fc2.weight"} <= set(made)
    assert not any(name.endswith(("weight_quantized", "weight_scale", "weight_zero_point")) for name in made)
    for name in ("conv.weight", "fc1.weight", "fc2.weight"):
        value = wanted[name].T if name == "fc1.weight" else wanted[name]
        assert np.array_equal(bits(made[name]), bits(value)), name


@pytest.mark.parametrize("kind", ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT4E2M1",
                                  "INT2", "UINT2"])
@pytest.mark.parametrize("axis, block", [(0, 0), (1, 0), (1, 4)])
def test_small_codes(axis, block, kind, tmp_path):
    """Codes of every bit pattern that is a number, in odd rows: slices do not end where bytes do."""
    path, out = tmp_path / "a.onnx", tmp_path / "a.safetensors"
    wide = "8" in kind
    raw = np.resize(np.arange(256, dtype=np.uint8), 5 * 54 if wide else 5 * 54 // 2)
    per = 1 if wide else 2 if "4" in kind else 4
    shape = [5, raw.size * per // 5]
    code = helper.make_tensor("w_quantized", getattr(TensorProto, kind), shape, raw.tobytes(), raw=True)
    dims = [5, -(-shape[1] // block)] if block else [shape[axis]]
    scale = np.random.default_rng(3).standard_normal(dims).astype(np.float32)
    parts = [code, numpy_helper.from_array(scale, "w_scale")]
    if "2" == kind[-1] and "INT" in kind:
        zeros = helper.make_tensor("w_zero", code.data_type, dims, bytes([0x9C] * -(-int(np.prod(dims)) // 4)), raw=True)
        parts.append(zeros)
    more = dict(block_size=block) if block else {}
    nodes = [helper.make_node("DequantizeLinear", [t.name for t in parts], ["w"], axis=axis, **more)]
    graph = helper.make_graph(nodes, "g", [], [helper.make_tensor_value_info("w", 1, shape)], parts)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13), path)
    if "4E2" in kind:  # onnxruntime has no kernel for it
        [wanted] = onnx.reference.ReferenceEvaluator(str(path)).run(None, {})
    else:
        [wanted] = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {})
    convert(path, out)
    made = load(out)
    assert list(made) == ["w"] and list(made["w"].shape) == shape
    real = ~np.isnan(wanted)
    assert np.array_equal(np.isnan(made["w"]), ~real)
    assert np.array_equal(bits(made["w"][real]), bits(wanted[real]))


def table(path):
    """Rows of an embedding, and a linear layer."""
    rng = np.random.default_rng(6)
    nodes = [helper.make_node("Gather", ["embed.weight", "ids"], ["e"], "/embed/Gather"),
             helper.make_node("MatMul", ["e", "onnx::MatMul_7"], ["y"], "/fc/MatMul")]
    weights = {"embed.weight": rng.standard_normal((50, 64)).astype(np.float32),
               "onnx::MatMul_7": 3 * rng.standard_normal((64, 96)).astype(np.float32)}
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("ids", 7, ["n"])],
                              [helper.make_tensor_value_info("y", 1, ["n", 96])],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return path


def alone(model, nodes, given, output):
    """Some nodes of a model with their constants, in onnxruntime."""
    taken = {name for node in nodes for name in node.input}
    inputs = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
              for name, value in given.items()]
    graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info(output, 1, None)],
                              [t for t in model.graph.initializer if t.name in taken])
    made = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)
    session = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    [value] = session.run(None, given)
    return value


@pytest.mark.parametrize("even", [True, False])
def test_rows_of_blocks(even, tmp_path):
    pytest.importorskip("onnx_ir", reason="onnxruntime's quantizer wants onnx-ir")
    from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
    path, out = tmp_path / "n.onnx", tmp_path / "n.safetensors"
    config = DefaultWeightOnlyQuantConfig(block_size=32, is_symmetric=even, bits=4, op_types_to_quantize=("MatMul", "Gather"),
                                          quant_axes=(("MatMul", 0), ("Gather", 1)))
    quantizer = MatMulNBitsQuantizer(onnx.load(table(tmp_path / "f.onnx")), algo_config=config)
    quantizer.process()
    quantizer.model.save_model_to_file(str(path))
    model = onnx.load(path)
    [node] = [node for node in model.graph.node if node.op_type == "GatherBlockQuantized"]
    wanted = alone(model, [node], {"ids": np.arange(50)}, "e")
    convert(path, out)
    made = load(out)
    assert sorted(made) == ["embed.weight", "fc.weight"]
    assert made["embed.weight"].shape == (50, 64) and np.array_equal(bits(made["embed.weight"]), bits(wanted))
    told = json.loads(run("inspect", path, "--json").stdout)["quantized"]
    assert "GatherBlockQuantized of 4 bits in blocks of 32" in [line["scheme"] for line in told]


@pytest.mark.parametrize("kind, bits_, columns, axis, zero", [
    ("UINT8", 4, 64, 1, False), ("UINT8", 4, 64, 1, True), ("UINT8", 8, 64, 1, False), ("UINT8", 8, 64, 1, True),
    ("UINT4", 4, 40, 1, True), ("INT4", 4, 40, 0, False), ("UINT4", 4, 40, -1, False), ("UINT8", 4, 40, 1, False)])
def test_rows_of_blocks_by_hand(kind, bits_, columns, axis, zero, tmp_path):
    path, out, rng = tmp_path / "a.onnx", tmp_path / "a.safetensors", np.random.default_rng(8)
    of = getattr(TensorProto, kind)
    rows, per = 50, 8 // bits_ if kind == "UINT8" else 1
    scales = [-(-rows // 16), columns] if axis == 0 else [rows, -(-columns // 16)]
    raw = lambda n: rng.integers(0, 256, n, dtype=np.uint8).tobytes()  # noqa: E731
    parts = [helper.make_tensor("w_Q4", of, [rows, columns // per], raw(rows * columns * bits_ // 8), raw=True),
             numpy_helper.from_array(rng.standard_normal(scales).astype(np.float32), "w_scales")]
    if zero:
        dims = [scales[0], -(-scales[1] // per)]
        n = int(np.prod(dims))
        parts.append(helper.make_tensor("w_zp", of, dims, raw(n if kind == "UINT8" else -(-n // 2)), raw=True))
    names = ["w_Q4", "ids", "w_scales", *(["w_zp"] if zero else [])]
    node = helper.make_node("GatherBlockQuantized", names, ["y"], domain="com.microsoft", bits=bits_, block_size=16,
                            gather_axis=0, quantize_axis=axis)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("ids", 7, ["n"])],
                              [helper.make_tensor_value_info("y", 1, None)], parts)
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    onnx.save(model, path)
    done = convert(path, out)
    if kind == "UINT8" and columns % 16:
        # Rows that end within a block: not read, and told.
        assert {"w_Q4", "w_scales"} == set(load(out))
        assert "1 weight quantized for GatherBlockQuantized" in done.stderr
        return
    wanted = alone(model, [node], {"ids": np.arange(rows)}, "y")
    made = load(out)
    assert list(made) == ["w"] and made["w"].shape == wanted.shape == (rows, columns)
    assert np.array_equal(made["w"], wanted)


@pytest.mark.parametrize("only", [True, False])
@pytest.mark.parametrize("channels", [False, True])
def test_dynamic_rows(channels, only, tmp_path):
    """Rows of codes go into a MatMulInteger as they are: its two scales are both constants."""
    from onnxruntime.quantization import quantize_dynamic
    path, out = tmp_path / "d.onnx", tmp_path / "d.safetensors"
    quantize_dynamic(table(tmp_path / "f.onnx"), path, per_channel=channels,
                     op_types_to_quantize=["Gather"] if only else None)
    model = onnx.load(path)
    convert(path, out)
    made = load(out)
    assert sorted(made) == ["embed.weight", "onnx::MatMul_7" if "onnx::MatMul_7" in made else "fc.weight"]
    for name, axis in [("embed.weight", 0)] if only else [("embed.weight", 0), ("onnx::MatMul_7", 1)]:
        node = helper.make_node("DequantizeLinear", [f"{name}_{part}" for part in ("quantized", "scale", "zero_point")],
                                ["y"], axis=axis)
        wanted = alone(model, [node], {}, "y")
        if axis:
            name, wanted = "fc.weight", wanted.T
        assert np.array_equal(bits(made[name]), bits(wanted)), name


@pytest.mark.parametrize("bits_, zero", [(4, False), (4, True), (2, False), (8, False)])
def test_matmul_nbits_in_groups(bits_, zero, tmp_path):
    """`g_idx`: the block that each column's scale is of. onnxruntime takes it with 4 bits, and no zero points then."""
    path, out, rng = tmp_path / "a.onnx", tmp_path / "a.safetensors", np.random.default_rng(8)
    columns, rows, block = 40, 8, 16
    parts = {"w_Q4": rng.integers(0, 256, (rows, 3, block * bits_ // 8), dtype=np.uint8),
             "w_scales": rng.standard_normal((rows, 3)).astype(np.float32),
             **({"w_zero_points": rng.integers(0, 256, (rows, 2), dtype=np.uint8)} if zero else {}),
             "w_g_idx": rng.integers(0, 3, 48).astype(np.int32)}
    names = ["x", "w_Q4", "w_scales", "w_zero_points" if zero else "", "w_g_idx"]
    node = helper.make_node("MatMulNBits", names, ["y"], "/fc/MatMul", domain="com.microsoft", K=columns, N=rows,
                            bits=bits_, block_size=block, accuracy_level=1)
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info("x", 1, ["n", columns])],
                              [helper.make_tensor_value_info("y", 1, ["n", rows])],
                              [numpy_helper.from_array(value, name) for name, value in parts.items()])
    sets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=10)
    onnx.save(model, path)
    done = convert(path, out)
    if zero or bits_ != 4:
        assert set(load(out)) == set(parts)
        assert "1 weight quantized for MatMulNBits" in done.stderr
        return
    wanted = alone(model, [node], {"x": np.eye(columns, dtype=np.float32)}, "y")
    made = load(out)
    # Under its own name as the MatMul had it, or as the linear layer.
    [weight] = made.values()
    # That kernel rounds the product and the sum, each on its own.
    made = weight if weight.shape == wanted.shape else weight.T
    assert np.allclose(made, wanted, rtol=0, atol=2e-6)
