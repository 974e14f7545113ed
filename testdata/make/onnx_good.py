"""ONNX files by the onnx package, and `expected/onnx/good/….json`: what numpy_helper finds in them."""

import json

import numpy as np
import onnx
from onnx import TensorProto as T
from onnx import helper, numpy_helper

import common
from common import finish, put

GOOD = "onnx/good"
NAMES = {T.FLOAT: "F32", T.UINT8: "U8", T.INT8: "I8", T.UINT16: "U16", T.INT16: "I16", T.INT32: "I32",
         T.INT64: "I64", T.STRING: "STR", T.BOOL: "BOOL", T.FLOAT16: "F16", T.DOUBLE: "F64", T.UINT32: "U32",
         T.UINT64: "U64", T.COMPLEX64: "C64", T.COMPLEX128: "C128", T.BFLOAT16: "BF16",
         T.FLOAT8E4M3FN: "F8_E4M3", T.FLOAT8E4M3FNUZ: "F8_E4M3FNUZ", T.FLOAT8E5M2: "F8_E5M2",
         T.FLOAT8E5M2FNUZ: "F8_E5M2FNUZ", T.UINT4: "U4", T.INT4: "I4", T.FLOAT4E2M1: "F4",
         T.FLOAT8E8M0: "F8_E8M0", T.UINT2: "U2", T.INT2: "I2", T.FLOAT6E2M3: "F6_E2M3", T.FLOAT6E3M2: "F6_E3M2"}


def numbers(dtype, shape):
    """An array of a type that has every kind of value."""
    count = int(np.prod(shape))
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    if dtype == T.STRING:
        return np.array([f"wort-{n}\u00e9" for n in range(count)], dtype=object).reshape(shape)
    if dtype == T.BOOL:
        return (np.arange(count) % 3 == 0).reshape(shape)
    if dtype in (T.COMPLEX64, T.COMPLEX128):
        return (np.arange(count) + 1j * np.arange(count, 0, -1)).astype(kind).reshape(shape)
    if dtype in (T.UINT4, T.INT4, T.UINT2, T.INT2):
        low, high = {T.UINT4: (0, 16), T.INT4: (-8, 8), T.UINT2: (0, 4), T.INT2: (-2, 2)}[dtype]
        return (np.arange(count) % (high - low) + low).astype(np.int8).astype(kind).reshape(shape)
    if dtype in (T.INT8, T.INT16, T.INT32, T.INT64):
        return (np.arange(count, dtype=np.int64) * -37 % 251 - 125).astype(kind).reshape(shape)
    if np.issubdtype(kind, np.integer):
        return (np.arange(count, dtype=np.int64) * 37 % 251).astype(kind).reshape(shape)
    return (np.arange(count, dtype=np.float32) / 2 - 3).astype(kind).reshape(shape)


def typed(name, dtype, shape):
    """The same numbers in the typed field."""
    values = numbers(dtype, shape).flatten()
    if dtype == T.STRING:
        return helper.make_tensor(name, dtype, shape, [text.encode() for text in values])
    return helper.make_tensor(name, dtype, shape, values)


def info(name, dtype=T.FLOAT, shape=(None,)):
    return helper.make_tensor_value_info(name, dtype, shape)


def model(nodes, initializers, inputs=(), outputs=(), sparse=(), functions=(), opsets=(("", 21),), ir=14):
    graph = helper.make_graph(nodes, "main", list(inputs), list(outputs), list(initializers),
                              sparse_initializer=list(sparse), doc_string="a graph")
    opsets = [helper.make_opsetid(*opset) for opset in opsets]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions),
                             producer_name="testdata", producer_version="1")


def container(*initializers):
    outputs = [info(t.name, t.data_type, list(t.dims)) for t in initializers]
    return model([], initializers, outputs=outputs)


def tensors(graph):
    """Names and tensors as the reader has them: initializers, then what nodes hold, in order."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for sparse in graph.sparse_initializer:
        yield f"{sparse.values.name}.values", sparse.values
        yield f"{sparse.values.name}.indices", sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            owner = node.output[0] if node.op_type == "Constant" else f"{node.output[0]}.{attribute.name}"
            if attribute.HasField("t"):
                yield owner, attribute.t
            if attribute.HasField("sparse_tensor"):
                name = attribute.sparse_tensor.values.name or owner
                yield f"{name}.values", attribute.sparse_tensor.values
                yield f"{name}.indices", attribute.sparse_tensor.indices
            if attribute.HasField("g"):
                yield from tensors(attribute.g)


def raw(tensor, folder):
    """The bytes as a file holds them in `raw_data`."""
    if tensor.data_type == T.STRING:
        return b"\n".join(tensor.string_data)
    if tensor.data_location == T.EXTERNAL:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
    return numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data


def good(name, proto, note):
    path = f"{GOOD}/{name}.onnx"
    put(path, proto if isinstance(proto, bytes) else proto.SerializeToString(), note=note)
    proto = onnx.load(common.TESTDATA / path, load_external_data=False)
    onnx.checker.check_model(str(common.TESTDATA / path))
    found, seen = [], {}
    for own, tensor in tensors(proto.graph):
        seen[own] = seen.get(own, 0) + 1
        shown = own if seen[own] == 1 else f"{own}~{seen[own]}"
        data = raw(tensor, (common.TESTDATA / path).parent)
        found.append({"name": shown, "dtype": NAMES[tensor.data_type], "shape": list(tensor.dims),
                      "sha256": common.sha256(data)})
    truth = {"file": path, "container": "onnx", "nodes": len(proto.graph.node), "tensors": found, "ties": []}
    out = common.TESTDATA / "expected" / f"{path}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(truth, indent=1) + "\n")


def branches():
    """Subgraphs with tensors of the same names, and everything else a graph may hold."""
    same = numpy_helper.from_array(np.float32([1, 2]), "same")
    other = numpy_helper.from_array(np.float32([3, 4]), "same")
    then = helper.make_graph([helper.make_node("Add", ["x", "same"], ["a"])], "then", [], [info("a")], [same])
    orelse = helper.make_graph([helper.make_node("Mul", ["x", "same"], ["b"])], "else", [], [info("b")], [other])
    sparse = helper.make_sparse_tensor(
        helper.make_tensor("picked", T.FLOAT, [2], [5, 6]),
        helper.make_tensor("", T.INT64, [2], [1, 3]), [5])
    constant = helper.make_sparse_tensor(
        helper.make_tensor("", T.FLOAT, [1], [7]), helper.make_tensor("", T.INT64, [1], [0]), [2])
    scale = helper.make_node("Mul", ["u", "c"], ["v"])
    value = helper.make_node("Constant", [], ["c"])
    reference = value.attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "factor"
    function = helper.make_function("local", "Scaled", ["u"], ["v"], [value, scale],
                                    [helper.make_opsetid("", 21)],
                                    attribute_protos=[helper.make_attribute("factor", 2.0)])
    nodes = [
        helper.make_node("Constant", [], ["half"], value=helper.make_tensor("", T.FLOAT, [], [0.5])),
        helper.make_node("Constant", [], ["thin"], sparse_value=constant),
        helper.make_node("Constant", [], ["list"], value_ints=[1, -2, 3]),
        helper.make_node("If", ["flag"], ["chosen"], "branch", then_branch=then, else_branch=orelse),
        helper.make_node("Scaled", ["chosen"], ["scaled"], "call", domain="local", factor=3.0),
        helper.make_node("Clip", ["scaled", "", "half"], ["y"], doc_string="the lower bound is left out"),
        helper.make_node("ConstantOfShape", ["list"], ["full"], value=helper.make_tensor("v", T.INT8, [1], [3])),
    ]
    sequence = helper.make_value_info("z", helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(T.FLOAT, ["N", 2])))
    proto = model(nodes, [numpy_helper.from_array(np.float32([9]), "weight")],
                  [info("x", shape=["N"]), info("flag", T.BOOL, [])], [info("y", shape=["N"])],
                  sparse=[sparse], functions=[function], opsets=[("", 21), ("local", 1)])
    proto.graph.value_info.append(sequence)
    proto.graph.input[0].type.denotation = "IMAGE"
    proto.graph.input[0].type.tensor_type.shape.dim[0].denotation = "DATA_BATCH"
    proto.graph.initializer[0].doc_string = "a weight"
    note = proto.graph.quantization_annotation.add(tensor_name="weight")
    note.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="half")
    helper.set_model_props(proto, {"author": "testdata", "licence": "CC0"})
    proto.graph.node[3].metadata_props.add(key="pkg", value="here")
    training = proto.training_info.add()
    training.algorithm.CopyFrom(helper.make_graph(
        [helper.make_node("Identity", ["weight"], ["grown"])], "step", [], [info("grown")]))
    training.update_binding.add(key="weight", value="grown")
    return proto


def one_by_one():
    """Numbers of typed fields sent each with its own key, as parsers must take them too."""
    def tensor(name, code, *fields):
        body = b"\x08" + bytes([len(fields)]) + b"\x10" + bytes([code]) + b"".join(fields)
        body += b"\x42" + bytes([len(name)]) + name.encode()
        return b"\x2a" + bytes([len(body)]) + body
    graph = b"\x12\x01g" + tensor("f", 1, b"\x25\0\0\x80\x3f", b"\x25\0\0\0\x40")
    graph += tensor("i", 7, b"\x38\x05", b"\x38" + b"\xff" * 9 + b"\x01", b"\x38\x80\x01")
    for name in ("f", "i"):
        value = info(name, T.FLOAT if name == "f" else T.INT64, [2 if name == "f" else 3]).SerializeToString()
        graph += b"\x62" + bytes([len(value)]) + value
    return b"\x08\x0a\x42\x04\x0a\x00\x10\x15\x3a" + bytes([len(graph)]) + graph


def main():
    every = [dtype for dtype in NAMES if dtype != T.STRING]
    good("every_dtype", container(*(numpy_helper.from_array(numbers(d, (4, 8)), f"t.{NAMES[d].lower()}")
                                    for d in every)), "every element type, in raw_data")
    good("typed_fields", container(*(typed(f"t.{NAMES[d].lower()}", d, (4, 8)) for d in every)),
         "every element type, in the field made for it")
    packed = [T.UINT4, T.INT4, T.FLOAT4E2M1, T.UINT2, T.INT2, T.FLOAT6E2M3, T.FLOAT6E3M2]
    good("odd_counts", container(*(numpy_helper.from_array(numbers(d, s), f"{NAMES[d].lower()}.{len(s)}")
                                   for d in packed for s in ((), (3,), (1, 5)))),
         "packed types that end within a byte")
    good("odd_counts_typed", container(*(typed(f"{NAMES[d].lower()}.{len(s)}", d, s)
                                         for d in packed for s in ((3,), (1, 5)))),
         "the same in int32_data")
    good("strings", container(typed("words", T.STRING, (2, 3)), typed("one", T.FLOAT, (1,))), "a tensor of strings")
    good("shapes", container(*(numpy_helper.from_array(np.zeros(s, np.float32), f"z{n}")
                               for n, s in enumerate(((), (0,), (3, 0, 2), (1, 1, 1, 1, 1, 2))))),
         "no dimensions, dimensions of none, many dimensions")
    good("long_list", container(typed("n", T.INT64, (7000,)), typed("h", T.FLOAT16, (20, 150))),
         "long lists of varints")
    good("one_by_one", one_by_one(), "numbers of typed fields that are not packed")
    good("graph", branches(), "subgraphs, functions, sparse tensors, training, annotations, types")
    good("no_tensors", model([helper.make_node("Relu", ["x"], ["y"])], [], [info("x")], [info("y")]),
         "a graph without weights")
    data = common.raw_bytes(512).tobytes()
    put(f"{GOOD}/beside.bin", data, note="tensor data of external.onnx")
    outside = []
    for name, offset, length in (("a", None, None), ("b", 64, 64), ("c", 256, 64)):
        tensor = T(name=name, data_type=T.FLOAT16, dims=[4, 8] if length else [256], data_location=T.EXTERNAL)
        tensor.external_data.add(key="location", value="beside.bin")
        if length:
            tensor.external_data.add(key="offset", value=str(offset))
            tensor.external_data.add(key="length", value=str(length))
        if name == "c":
            import hashlib
            tensor.external_data.add(key="checksum", value=hashlib.sha1(data).hexdigest())
        outside.append(tensor)
    good("external", container(*outside), "tensor data in a file beside it")
    finish(__file__)


if __name__ == "__main__":
    main()
