"""Makes testdata/onnx-quantized: quantized models, and the values their own tools compute.

    python testdata/make/onnx_quantized.py

| file | made and read by |
|---|---|
| qdq, qdq-channels, qoperator, dynamic .onnx | onnxruntime 1.31.1, quantize_static and quantize_dynamic |
| nbits{4,8}{,-even}.onnx, nbits4-qdq.onnx | onnxruntime 1.31.1, MatMulNBitsQuantizer (wants onnx-ir) |
| blocks.gguf | gguf 0.19.0, random bytes as blocks |

NAME.safetensors holds what comes of the weights: onnxruntime's DequantizeLinear of the model's own constants, or
MatMulNBits of the unit matrix, under the modules' names; of blocks.gguf what gguf-py's dequantize gives.
"""
import pathlib
import sys
import tempfile

import gguf
import numpy as np
import onnx
import onnxruntime
from gguf import GGMLQuantizationType as Q
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).resolve().parents[1] / "onnx-quantized"
RANDOM = np.random.default_rng(20261121)
NAMES = {"onnx::MatMul_7": "fc1.weight"}


def real(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def network(path):
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["c"], "/conv/Conv", kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], "/pool/GlobalAveragePool"),
        helper.make_node("Flatten", ["p"], ["f"], "/Flatten"),
        helper.make_node("MatMul", ["f", "onnx::MatMul_7"], ["m"], "/fc1/MatMul"),
        helper.make_node("Add", ["m", "fc1.bias"], ["a"], "/fc1/Add"),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], "/fc2/Gemm", transB=1)]
    weights = {"conv.weight": real(40, 3, 3, 3), "conv.bias": real(40), "onnx::MatMul_7": real(40, 24),
               "fc1.bias": real(24), "fc2.weight": real(10, 24), "fc2.bias": real(10)}
    graph = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("x", 1, ["n", 3, 6, 6])],
                              [helper.make_tensor_value_info("y", 1, ["n", 10])],
                              [numpy_helper.from_array(value, name) for name, value in weights.items()])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return weights


class Batches(CalibrationDataReader):
    def __init__(self):
        self.items = iter([{"x": real(2, 3, 6, 6)} for _ in range(3)])

    def get_next(self):
        return next(self.items, None)


def dequantized(parts, attributes):
    """onnxruntime's DequantizeLinear of tensors."""
    inputs = [part.name for part in parts]
    node = helper.make_node("DequantizeLinear", inputs, ["y"], **attributes)
    value = helper.make_tensor_value_info("y", 1, list(parts[0].dims))
    graph = helper.make_graph([node], "g", [], [value], parts)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})[0]


def save(name, weights):
    made = {}
    for key, value in weights.items():
        made[NAMES.get(key, key)] = np.ascontiguousarray(value.T if key in NAMES else value)
    save_file(made, OUT / f"{name}.safetensors")


def operators(name, plain, axes, biases=()):
    """The values of a model whose weights have the names of its plain ones."""
    parts = {t.name: t for t in onnx.load(OUT / f"{name}.onnx").graph.initializer}
    made = {}
    for key, value in plain.items():
        if f"{key}_quantized" not in parts:
            made[key] = value
            continue
        if key in biases:
            x, w = (numpy_helper.to_array(parts[part]) for part in biases[key])
            made[key] = numpy_helper.to_array(parts[f"{key}_quantized"]).astype(np.float32) * (x * w)
            continue
        prefix = key if f"{key}_scale" in parts else f"{key}_quantized"
        own = [parts[f"{key}_quantized"], parts[f"{prefix}_scale"], parts[f"{prefix}_zero_point"]]
        if list(own[1].dims) == [1]:
            for part in own[1:]:
                del part.dims[:]
        made[key] = dequantized(own, {"axis": axes[key]} if own[1].dims else {})
    save(name, made)


def main():
    OUT.mkdir(exist_ok=True)
    source = str(pathlib.Path(tempfile.mkdtemp()) / "f.onnx")
    plain = network(source)
    rows = {"conv.weight": 0, "conv.bias": 0, "onnx::MatMul_7": 1, "fc1.bias": 0, "fc2.weight": 0, "fc2.bias": 0}
    eight = dict(activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)
    for name, channels in [("qdq", False), ("qdq-channels", True)]:
        quantize_static(source, OUT / f"{name}.onnx", Batches(), quant_format=QuantFormat.QDQ, per_channel=channels,
                        **eight)
        operators(name, plain, rows)
    quantize_static(source, OUT / "qoperator.onnx", Batches(), quant_format=QuantFormat.QOperator, per_channel=True,
                    **eight)
    operators("qoperator", plain, rows, {"conv.bias": ("x_scale", "conv.weight_scale"),
                                         "fc2.bias": ("a_scale", "fc2.weight_scale")})
    quantize_dynamic(source, OUT / "dynamic.onnx", per_channel=True)
    operators("dynamic", plain, rows | {"fc2.weight": 1})
    for name, more in [("nbits4", dict(bits=4, is_symmetric=False)), ("nbits4-even", dict(bits=4, is_symmetric=True)),
                       ("nbits8", dict(bits=8, is_symmetric=False)), ("nbits8-even", dict(bits=8, is_symmetric=True)),
                       ("nbits4-qdq", dict(bits=4, is_symmetric=False, quant_format=QuantFormat.QDQ))]:
        quantizer = MatMulNBitsQuantizer(onnx.load(source),
                                         algo_config=DefaultWeightOnlyQuantConfig(block_size=16, **more))
        quantizer.process()
        quantizer.model.save_model_to_file(str(OUT / f"{name}.onnx"))
        model = onnx.load(OUT / f"{name}.onnx")
        [node] = [node for node in model.graph.node if node.op_type in ("MatMulNBits", "DequantizeLinear")]
        own = {t.name: t for t in model.graph.initializer}
        if node.op_type == "DequantizeLinear":
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            value = dequantized([own[part] for part in node.input], attributes)
        else:
            node.attribute.append(helper.make_attribute("accuracy_level", 1))
            graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(node.input[0], 1, [40, 40])],
                                      [helper.make_tensor_value_info(node.output[0], 1, [40, 24])],
                                      [own[part] for part in node.input if part in own])
            alone = helper.make_model(graph, opset_imports=model.opset_import, ir_version=10)
            session = onnxruntime.InferenceSession(alone.SerializeToString())
            [value] = session.run(None, {node.input[0]: np.eye(40, dtype=np.float32)})
        save(name, plain | {"onnx::MatMul_7": value})
    writer, values = gguf.GGUFWriter(OUT / "blocks.gguf", "test"), {}
    for kind in (Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.MXFP4):
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        raw = RANDOM.integers(0, 256, (3 * 96 // elements, size), dtype=np.uint8)
        if kind == Q.MXFP4:
            raw[:, 0] = RANDOM.integers(0, 250, len(raw))
        else:
            raw[:, 1] &= 0xBF
        if kind in (Q.Q4_1, Q.Q5_1):
            raw[:, 3] &= 0xBF
        data = raw.reshape(3, -1)
        writer.add_tensor(f"{kind.name}.weight", data, raw_dtype=kind)
        values[f"{kind.name}.weight"] = gguf.dequantize(data, kind).astype(np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save("blocks", values)


if __name__ == "__main__":
    sys.exit(main())
