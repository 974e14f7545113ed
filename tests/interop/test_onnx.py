"""ONNX there and back: the onnx package, its checker, its backend suite and onnxruntime judge."""

import copy
import hashlib
import os

import numpy
import pytest

from judge import DONE, REFUSED, TESTDATA, convert, facts, run

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, checker, helper, numpy_helper  # noqa: E402
from onnx.backend.test.case.model import collect_testcases as model_cases  # noqa: E402
from onnx.backend.test.case.node import collect_testcases as node_cases  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

try:
    import onnxruntime
    onnxruntime.set_default_logger_severity(4)
except ImportError:
    onnxruntime = None

# Every so many of the suite's cases are also run.
RUN_EVERY = 7


def suite(folder):
    """Every model of the backend suite as (path, case or None)."""
    for case in [*node_cases(None), *model_cases()]:
        if case.model is not None:
            path = folder / f"{case.name}.onnx"
            path.write_bytes(case.model.SerializeToString())
            yield path, case
    data = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
    for root, _, names in os.walk(data):
        yield from ((os.path.join(root, name), None) for name in names if name.endswith(".onnx"))


def plain_tensor(tensor):
    """The same tensor in `raw_data`, so that where its numbers stand makes no difference."""
    if tensor.data_type == TensorProto.STRING:
        return
    same = TensorProto(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name,
                       doc_string=tensor.doc_string, metadata_props=tensor.metadata_props)
    same.raw_data = numpy_helper.to_array(tensor).tobytes()
    tensor.CopyFrom(same)


def plain(message):
    """A message without empty texts, its tensors plain, all that is said of values in one order."""
    if isinstance(message, TensorProto):
        plain_tensor(message)
    if isinstance(message, onnx.GraphProto):
        ends = {value.name for value in [*message.input, *message.output]}
        infos = sorted((v for v in message.value_info if v.name not in ends), key=lambda v: v.name)
        infos = [copy.deepcopy(value) for value in infos]
        del message.value_info[:]
        message.value_info.extend(infos)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for one in value if field.is_repeated else [value]:
                plain(one)
        elif value == "" and not field.is_repeated:
            message.ClearField(field.name)
        elif field.name == "domain" and value == "":
            message.ClearField(field.name)
    return message


def verdict(model):
    try:
        checker.check_model(model)
        return "passes"
    except Exception as error:
        return str(error).splitlines()[0]


def same_values(left, right):
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same_values, left, right))
    if left is None or right is None:
        return left is right
    left, right = numpy.asarray(left), numpy.asarray(right)
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    return left.tolist() == right.tolist() if left.dtype.hasobject else left.tobytes() == right.tobytes()


def evaluate(model, inputs):
    """What the reference implementation makes of a model; None where it does not know an operator."""
    try:
        with numpy.errstate(all="ignore"):
            return ReferenceEvaluator(model).run(None, dict(inputs))
    except Exception:
        return None


def run_in_onnxruntime(path, inputs):
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        return session.run(None, dict(inputs))
    except Exception:
        return None


def test_backend_suite(tmp_path):
    """Each model read and written again means the same, passes the checker, computes the same."""
    wrong, counts, out = [], {"models": 0, "reference": 0, "onnxruntime": 0}, tmp_path / "out.onnx"
    for number, (path, case) in enumerate(suite(tmp_path)):
        name = os.path.basename(path)
        done = run("convert", path, out, "--overwrite", "-q")
        if done.returncode != DONE:
            wrong.append(f"{name}: {done.stderr}")
            continue
        counts["models"] += 1
        before, after = onnx.load(path), onnx.load(out)
        if verdict(before) != verdict(after):
            wrong.append(f"{name}: the checker said {verdict(before)}, now {verdict(after)}")
        if case is not None and case.data_sets and number % RUN_EVERY == 0:
            inputs = dict(zip([value.name for value in before.graph.input], case.data_sets[0][0]))
            results = {"reference": (evaluate(before, inputs), evaluate(after, inputs))}
            if onnxruntime is not None:
                results["onnxruntime"] = (run_in_onnxruntime(path, inputs), run_in_onnxruntime(out, inputs))
            random = any(node.op_type in ("Bernoulli", "Dropout") or node.op_type.startswith("Random")
                         for node in before.graph.node)
            for by, (left, right) in results.items():
                if (left is None) != (right is None):
                    wrong.append(f"{name}: {by} runs only one of the two")
                elif left is not None and not random:
                    counts[by] += 1
                    if not same_values(left, right):
                        wrong.append(f"{name}: {by} computes something else")
        if plain(before) != plain(after):
            wrong.append(f"{name}: differs")
    print(counts)
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:20])
    assert counts["models"] >= 1900 and counts["reference"] >= 100, counts


def weights(seed=0):
    """Arrays of many types, some large enough to go outside."""
    numbers = numpy.random.default_rng(seed)
    made = {f"layer.{n}.weight": numbers.standard_normal((64, 33 + n)).astype(kind)
            for n, kind in enumerate((numpy.float32, numpy.float16, numpy.float64))}
    made["ids"] = numbers.integers(-9, 9, (5, 7))
    made["small"] = numpy.float32([1, 2, 3])
    made["mask"] = numbers.integers(0, 2, (40, 40)).astype(bool)
    return made


def model_of(arrays):
    first = next(iter(arrays))
    nodes = [helper.make_node("Identity", [first], ["y"])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, arrays[first].shape)
    graph = helper.make_graph(nodes, "g", [], [output], [numpy_helper.from_array(a, n) for n, a in arrays.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def calling(*pairs):
    """Functions in a domain of their own, each of which calls the other of its pair; `Relu` is ONNX's."""
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    return [helper.make_function("my", name, ["a"], ["b"], [
        helper.make_node(called, ["a"], ["b"], domain="" if called == "Relu" else "my")], imports)
        for name, called in pairs]


def graph_of(nodes, functions=(), opset=21):
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    weight = numpy_helper.from_array(numpy.ones(2, numpy.float32), "w")
    model = helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:], [weight]), ir_version=10, functions=functions,
                              opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my", 1)])
    return model


def node(op, inputs, outputs, **more):
    return helper.make_node(op, inputs.split(), outputs.split(), **more)


BROKEN = {
    "nothing gives it": graph_of([node("Add", "x nope", "y")]),
    "given twice": graph_of([node("Add", "x w", "y"), node("Relu", "x", "y")]),
    "an input is given": graph_of([node("Relu", "w", "x"), node("Relu", "x", "y")]),
    "a tensor is given": graph_of([node("Relu", "x", "w"), node("Relu", "w", "y")]),
    "does nothing": graph_of([node("Relu", "x", "y"), node("Relu", "", "")]),
    "calls itself": graph_of([node("F", "x", "y", domain="my")], calling(("F", "F"))),
    "calls itself by another": graph_of([node("F", "x", "y", domain="my")], calling(("F", "G"), ("G", "F"))),
    "nothing within gives it": graph_of([node("Cast", "w", "c", to=TensorProto.BOOL), node("If", "c", "y", **{
        branch: helper.make_graph([node("Add", f"x {name}", "z")], branch, [], [
            helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])])
        for branch, name in [("then_branch", "w"), ("else_branch", "nope")]})]),
}
BROKEN["no operator set"] = graph_of([node("Relu", "x", "y")])
del BROKEN["no operator set"].opset_import[:]
WHOLE = {
    "a function within another": graph_of([node("F", "x", "y", domain="my")], calling(("F", "G"), ("G", "Relu"))),
    "twice the same function": graph_of([node("F", "x", "z", domain="my"), node("F", "z", "y", domain="my")],
                                        calling(("F", "G"), ("G", "Relu"))),
    "a weight for an input": graph_of([node("Add", "x w", "y")]),
}
WHOLE["a weight for an input"].graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))


@pytest.mark.parametrize("what", [*BROKEN, *WHOLE])
def test_graphs_that_do_not_hold(what, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes({**BROKEN, **WHOLE}[what].SerializeToString())
    if what in WHOLE:
        onnx.checker.check_model(path)
        convert(path, tmp_path / "out.onnx")
        return
    with pytest.raises(Exception):
        onnx.checker.check_model(path)
    for command in ["convert", path, tmp_path / "out.onnx"], ["inspect", path], ["scan", path]:
        assert run(*command).returncode == REFUSED, command[0]
    assert not (tmp_path / "out.onnx").exists()



def changed(change, *nodes, functions=(), opset=21):
    """A model of these nodes, or of one that holds, after a change."""
    model = graph_of(list(nodes) or [node("Relu", "x", "y")], list(functions), opset)
    change(model)
    return model


def branches(*nodes):
    """An `If` both of whose branches are these nodes, which give `z`."""
    flag = numpy_helper.from_array(numpy.array(True), "c")
    constant = helper.make_node("Constant", [], ["c"], value=flag)
    output = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2])
    return [constant, helper.make_node("If", ["c"], ["y"], **{
        branch: helper.make_graph(list(nodes), branch, [], [output]) for branch in ("then_branch", "else_branch")})]


def function(*nodes, domains=("", "my"), opset=21):
    return helper.make_function("my", "F", ["a"], ["b"], list(nodes), [
        helper.make_opsetid(domain, 1 if domain == "my" else opset) for domain in domains])


def nothing(_):
    pass


def alpha(*names):
    made = node("Elu", "x", "y")
    made.attribute.extend(helper.make_attribute(name, 1.0) for name in names)
    return made


def imported(domain, version):
    def change(model):
        del model.opset_import[:]
        model.opset_import.extend([helper.make_opsetid(domain, version)])
    return change


def twice(field, number=0):
    return lambda model: getattr(model.graph, field).append(getattr(model.graph, field)[number])


def unnamed(field):
    def change(model):
        getattr(model.graph, field).append(helper.make_tensor_value_info("", TensorProto.FLOAT, [2]))
    return change


CALL = node("F", "x", "y", domain="my")
HOLDS = function(node("Relu", "a", "b"))
# What neither the checker nor onnxruntime takes.
REFUSED_BY_BOTH = {
    "a cycle": changed(nothing, node("Add", "z w", "y"), node("Relu", "y", "z")),
    "a cycle of one": changed(nothing, node("Add", "y w", "y")),
    "a cycle through a branch": changed(nothing, *branches(node("Relu", "q", "z")), node("Relu", "y", "q")),
    "a cycle within a branch": changed(nothing, *branches(node("Add", "q x", "z"), node("Relu", "z", "q"))),
    "a branch in no order": changed(nothing, *branches(node("Relu", "q", "z"), node("Relu", "x", "q"))),
    "a function in no order": changed(nothing, CALL, functions=[function(node("Relu", "q", "b"), node("Relu", "a", "q"))]),
    "an input twice": changed(twice("input")),
    "two inputs without names": changed(lambda model: (unnamed("input")(model), unnamed("input")(model))),
    "an output without a name": changed(unnamed("output")),
    "an attribute twice": changed(nothing, alpha("alpha", "alpha")),
    "an attribute twice in a branch": changed(nothing, *branches(
        helper.make_node("Identity", ["x"], ["q"]), *[alpha("alpha", "alpha")], node("Relu", "q", "z"))),
    "an attribute without a name": changed(nothing, alpha("")),
    "operator set 0": changed(imported("", 0)),
    "operator set -1": changed(imported("ai.onnx", -1)),
    "a domain that is not imported": changed(nothing, node("Relu", "x", "y", domain="foo")),
    "a domain that is not imported, in a branch": changed(nothing, *branches(node("Relu", "x", "z", domain="foo"))),
    "a function whose domain is not imported": changed(imported("", 21), CALL, functions=[HOLDS]),
    "a function without operator sets": changed(nothing, CALL, functions=[function(node("Relu", "a", "b"), domains=["my"])]),
    "a function with the other name of ONNX's": changed(
        nothing, CALL, functions=[function(node("Relu", "a", "b"), domains=["ai.onnx"])]),
    "a function that does not import what is known": changed(
        nothing, functions=[function(node("Gelu", "a", "b", domain="com.microsoft"))]),
    "a function of operator set 0": changed(nothing, CALL, functions=[function(node("Relu", "a", "b"), opset=0)]),
    "a function twice": changed(nothing, CALL, functions=[HOLDS, HOLDS]),
}
# What the checker refuses and onnxruntime loads.
LOADED = {
    "no order": changed(nothing, node("Add", "z w", "y"), node("Relu", "x", "z")),
    "no name of the graph": changed(lambda model: model.graph.ClearField("name")),
    "an input without a name": changed(unnamed("input")),
    "an operator of onnxruntime's, not imported": changed(nothing, node("Gelu", "x", "y", domain="com.microsoft")),
    "an operator of ai.onnx.ml, not imported": changed(nothing, node("Binarizer", "x", "y", domain="ai.onnx.ml")),
    "the other name of ONNX's domain": changed(nothing, node("Relu", "x", "y", domain="ai.onnx")),
    "a cycle in a function that nothing calls": changed(
        nothing, functions=[function(node("Add", "a q", "b"), node("Relu", "b", "q"))]),
    "an input twice that is a tensor": changed(lambda model: model.graph.input.extend([
        helper.make_tensor_value_info("w", TensorProto.FLOAT, [2])] * 2)),
}


@pytest.mark.skipif(onnxruntime is None, reason="no onnxruntime")
@pytest.mark.parametrize("what", [*REFUSED_BY_BOTH, *LOADED])
def test_what_onnxruntime_loads_is_read(what, tmp_path):
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    path.write_bytes({**REFUSED_BY_BOTH, **LOADED}[what].SerializeToString())
    for full in (False, True):
        with pytest.raises(Exception):
            onnx.checker.check_model(path, full_check=full)
    if what in LOADED:
        onnxruntime.InferenceSession(path)
        convert(path, out)
        onnxruntime.InferenceSession(out)
        if what == "no order":
            onnx.checker.check_model(out, full_check=True)
        return
    with pytest.raises(Exception):
        onnxruntime.InferenceSession(path)
    for command in ["convert", path, out], ["inspect", path], ["scan", path]:
        done = run(*command)
        assert done.returncode == REFUSED, (command[0], done.stderr)
    assert not out.exists()


def test_a_graph_in_pieces_is_one(tmp_path):
    """protobuf merges them, and so do onnx's checker and onnxruntime."""
    whole = graph_of([node("Relu", "x", "z"), node("Add", "z w", "y")])
    first, second = copy.deepcopy(whole), copy.deepcopy(whole)
    for field in ("output", "initializer"):
        first.graph.ClearField(field)
    second.graph.ClearField("input")
    second.ClearField("opset_import")
    second.ClearField("ir_version")
    del first.graph.node[1:], second.graph.node[:1]
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    path.write_bytes(first.SerializeToString() + second.SerializeToString())
    assert onnx.load(path).graph == whole.graph
    onnx.checker.check_model(path, full_check=True)
    if onnxruntime is not None:
        onnxruntime.InferenceSession(path)
    convert(path, out)
    assert plain(onnx.load(out)) == plain(whole)


def field(number, message):
    """A message within another, as protobuf writes it."""
    assert len(message) < 128
    return bytes([number << 3 | 2, len(message)]) + message


def test_a_tensor_in_pieces_is_one(tmp_path):
    """Of an attribute there is one, and what comes twice is merged."""
    head = onnx.TensorProto(dims=[2], data_type=TensorProto.FLOAT)
    data = onnx.TensorProto(raw_data=numpy.array([1.5, -2], numpy.float32).tobytes())
    pieces = b"".join(attribute.SerializeToString() for attribute in (
        onnx.AttributeProto(name="value", type="TENSOR", t=head), onnx.AttributeProto(t=data)))
    constant = node("Constant", "", "w2").SerializeToString() + field(5, pieces)
    model = graph_of([])
    model.graph.node.append(node("Add", "x w2", "y"))
    path, out = tmp_path / "m.onnx", tmp_path / "out.safetensors"
    path.write_bytes(field(7, field(1, constant)) + model.SerializeToString())
    onnx.checker.check_model(path)
    if onnxruntime is not None:
        onnxruntime.InferenceSession(path)
    convert(path, out)
    assert read(out)["w2"].tolist() == [1.5, -2]


def read(path):
    safetensors = pytest.importorskip("safetensors.numpy")
    return safetensors.load_file(path)


def equal(left, right):
    assert sorted(left) == sorted(right)
    for name, array in left.items():
        assert array.dtype == right[name].dtype and array.shape == right[name].shape, name
        assert array.tobytes() == right[name].tobytes(), name


@pytest.mark.parametrize("outside", ["inside", "one file", "a file each"])
def test_to_safetensors(outside, tmp_path):
    source, target = tmp_path / "m.onnx", tmp_path / "m.safetensors"
    onnx.save(model_of(weights()), source, save_as_external_data=outside != "inside",
              all_tensors_to_one_file=outside == "one file", location="m.data" if outside == "one file" else None,
              size_threshold=0)
    done = convert(source, target)
    equal(weights(), read(target))
    assert "graph" in done.stderr
    assert run("convert", source, tmp_path / "strict.safetensors", "--strict").returncode == REFUSED


@pytest.mark.parametrize("options", [(), ("--external-data",), ("--shard-size", "9000")])
def test_from_safetensors(options, tmp_path):
    import safetensors.numpy
    source, target = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    safetensors.numpy.save_file(weights(), source, metadata={"format": "pt", "note": "kept"})
    assert run("convert", source, target).returncode == REFUSED
    convert(source, target, "--as", "container", *options)
    checker.check_model(str(target), full_check=True)
    model = onnx.load(target)
    equal(weights(), {t.name: numpy_helper.to_array(t) for t in model.graph.initializer})
    files = sorted(path.name for path in tmp_path.glob("*.data"))
    assert len(files) == {(): 0, ("--external-data",): 1}.get(options, len(files)) and (len(files) > 1) == ("9000" in options)
    if onnxruntime is not None:
        session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
        names = [value.name for value in session.get_outputs()]
        equal(weights(), dict(zip(names, session.run(None, {}))))
    convert(target, tmp_path / "back.safetensors")
    equal(weights(), read(tmp_path / "back.safetensors"))
    assert run("diff", source, tmp_path / "back.safetensors").returncode == DONE


def test_external_data_both_ways(tmp_path):
    """What onnx wrote outside is written outside again, aligned, with no byte that nobody owns."""
    first, second, third = (tmp_path / name for name in ("a.onnx", "b.onnx", "c.onnx"))
    onnx.save(model_of(weights()), first, save_as_external_data=True, location="a.data", size_threshold=0)
    convert(first, second, "--external-data")
    checker.check_model(str(second), full_check=True)
    owned, data = 0, (tmp_path / "b.onnx.data").read_bytes()
    for tensor in onnx.load(second, load_external_data=False).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            assert int(place["offset"]) % 4096 == 0
            end = int(place["offset"]) + int(place["length"])
            assert not any(data[owned:int(place["offset"])]) and int(place["offset"]) - owned < 4096
            owned = end
    assert owned == len(data)
    convert(second, third)
    equal(weights(), {t.name: numpy_helper.to_array(t) for t in onnx.load(third).graph.initializer})
    assert plain(onnx.load(first)) == plain(onnx.load(third))


def test_a_data_file_for_each_tensor(tmp_path):
    """What exporters write for models over 2 GB: more files than a process may have open by default."""
    arrays = {f"t{n}": numpy.full((3,), n, numpy.float32) for n in range(1500)}
    onnx.save(model_of(arrays), tmp_path / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=False,
              size_threshold=0)
    assert len(list(tmp_path.iterdir())) == 1501
    convert(tmp_path / "m.onnx", tmp_path / "m.safetensors")
    equal(arrays, read(tmp_path / "m.safetensors"))


def test_checksums_are_verified(tmp_path):
    path, data = tmp_path / "m.onnx", tmp_path / "m.data"
    onnx.save(model_of(weights()), path, save_as_external_data=True, location="m.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data.add(key="checksum", value=hashlib.sha1(data.read_bytes()).hexdigest())
    path.write_bytes(model.SerializeToString())
    convert(path, tmp_path / "a.safetensors", "--verify")
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.write_bytes(damaged)
    done = run("convert", path, tmp_path / "b.safetensors", "--verify")
    assert done.returncode == REFUSED and "checksum" in done.stderr


@pytest.mark.parametrize("path", [fact["path"] for fact in facts("onnx/good/") if fact["path"].endswith(".onnx")])
def test_files_of_the_repository(path, tmp_path):
    """Our own test files: written again they mean the same, and the checker agrees."""
    target = tmp_path / "out.onnx"
    convert(TESTDATA / path, target)
    checker.check_model(str(target))
    assert plain(onnx.load(TESTDATA / path)) == plain(onnx.load(target)) or "kind" in str(onnx.load(target))


def test_weights_get_their_modules_names(tmp_path):
    """What torch's exporter transposed and renamed comes out as the module's state dict has it."""
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    torch.manual_seed(4)
    blocks = [torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 8, bias=False))
              for _ in range(2)]

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.emb = torch.nn.Embedding(10, 8)
            self.layers = torch.nn.ModuleList(blocks)
            self.head = torch.nn.Linear(8, 3)
            self.conv = torch.nn.Conv1d(8, 4, 3)

        def forward(self, x):
            x = self.emb(x)
            for layer in self.layers:
                x = layer(x)
            return self.head(x), self.conv(x.transpose(1, 2))

    net = Net().eval()
    source = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(2, 5, dtype=torch.long),), source, dynamo=False)
    convert(source, tmp_path / "named.safetensors")
    named, state = safetensors.load_file(tmp_path / "named.safetensors"), net.state_dict()
    assert sorted(named) == sorted(state)
    for name, tensor in state.items():
        assert torch.equal(named[name], tensor), name
    convert(source, tmp_path / "raw.safetensors", "--raw-names")
    assert any(name.startswith("onnx::") for name in safetensors.load_file(tmp_path / "raw.safetensors"))
