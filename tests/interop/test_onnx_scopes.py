"""Names of a graph and of those in its nodes, and functions in ONNX's own domain: refused is what onnx's checker and
onnxruntime both refuse, and nothing that onnxruntime loads."""

import onnx
import pytest
from onnx import TensorProto, helper

from judge import DONE, REFUSED, convert, run

onnxruntime = pytest.importorskip("onnxruntime")


def info(name, dtype=TensorProto.FLOAT, shape=(1,)):
    return helper.make_tensor_value_info(name, dtype, list(shape))


def flag(name):
    return info(name, TensorProto.BOOL, [])


def tensor(name):
    return helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0])


def node(op, inputs, outputs, **more):
    return helper.make_node(op, inputs.split(), outputs.split(), **more)


def model(nodes, inputs, output, tensors=(), functions=()):
    graph = helper.make_graph(nodes, "g", inputs, [info(output)], [tensor(name) for name in tensors])
    return helper.make_model(graph, functions=list(functions), ir_version=8, opset_imports=[
        helper.make_opsetid("", 17), helper.make_opsetid("my", 1)])


def branch(nodes, output, tensors=()):
    return helper.make_graph(nodes, "then", [], [info(output)], [tensor(name) for name in tensors])


def choice(then, output="y"):
    other = helper.make_graph([node("Identity", "x", f"e_{output}")], "else", [], [info(f"e_{output}")])
    return node("If", "c", output, then_branch=then, else_branch=other)


def chosen(then, tensors=("w", "u"), functions=()):
    """`a` comes before the choice, `b` behind it."""
    nodes = [node("Neg", "x", "a"), choice(then), node("Add", "a w", "b"), node("Add", "y b", "z")]
    return model(nodes, [flag("c"), info("x")], "z", tensors, functions)


def looped(inputs, nodes, outputs):
    body = helper.make_graph([node("Identity", "more", "go"), *nodes], "body",
                             [info("i", TensorProto.INT64, []), flag("more"), info(inputs)], [flag("go"), info(outputs)])
    nodes = [node("Neg", "x", "a"), node("Loop", "n k x", "y", body=body), node("Neg", "y", "z")]
    return model(nodes, [info("n", TensorProto.INT64, []), flag("k"), info("x")], "z", ["w"])


def function(domain, name, nodes, inputs="p"):
    return helper.make_function(domain, name, inputs.split(), ["q"], nodes, [helper.make_opsetid("", 17)])


def calling(domain, name, functions, inputs="x"):
    return model([node(name, inputs, "z", domain=domain)], [flag("c"), info("x")], "z", functions=functions)


NEG = [node("Neg", "p", "q")]
CASES = {
    "siblings": chosen(branch([node("Neg", "x", "e_y")], "e_y")),
    "an output that is a tensor of its own": chosen(branch([], "k", ["k"])),
    "two deep": chosen(branch([choice(branch([node("Neg", "x", "a")], "a"), "m")], "m")),
    "two deep, a name of its own": chosen(branch([choice(branch([node("Neg", "x", "s")], "s"), "m")], "m")),
    "no order": model([node("Neg", "b", "a"), choice(branch([node("Neg", "x", "a")], "a")), node("Neg", "x", "b"),
                       node("Add", "y a", "z")], [flag("c"), info("x")], "z"),
    "a loop": looped("v", [node("Neg", "v", "vo")], "vo"),
    "a loop's output that is its input": looped("v", [], "v"),
    "a loop's output of the graph around": looped("v", [], "w"),
    "a function calls one of ONNX's domain": calling("my", "F", [
        function("my", "F", [node("Bar", "p", "q")]), function("", "Bar", NEG)]),
    "in a function": calling("my", "F", [function("my", "F", [
        node("Neg", "x", "a"), choice(branch([node("Neg", "x", "a")], "a"), "q")], "c x")], "c x"),
    "in a function, its input": calling("my", "F", [function("my", "F", [
        choice(branch([node("Abs", "c", "x")], "x"), "q")], "c x")], "c x"),
    "in a function that nothing calls": calling("", "Neg", [function("my", "F", [
        node("Neg", "x", "a"), choice(branch([node("Neg", "x", "a")], "a"), "q")], "c x")]),
    "in a function, an output of the graph around": calling("my", "F", [function("my", "F", [
        choice(branch([], "x"), "q")], "c x")], "c x"),
}
for what, name in {"an input": "x", "a tensor": "w", "a tensor that nothing takes": "u", "an earlier node's": "a",
                   "a later node's": "b", "its own node's": "y"}.items():
    CASES[f"a branch's node gives {what}"] = chosen(branch(
        [node("Neg", "w" if name == "x" else "x", name), node("Neg", name, "t")], "t"))
    CASES[f"a branch's tensor is named as {what}"] = chosen(branch([node("Neg", name, "t")], "t", [name]))
    CASES[f"a branch hands on {what}"] = chosen(branch([node("Neg", "x", "t")], name))
    CASES[f"a loop's input is named as {what}"] = looped(name, [node("Neg", name, "vo")], "vo")
    CASES[f"a loop's node gives {what}"] = looped("v", [node("Neg", "v", name)], name)
for domain in ("", "ai.onnx", "my"):
    for name in ("Foo", "Relu"):
        CASES[f"{domain}:{name}, called"] = calling(domain, name, [function(domain, name, NEG)])
        CASES[f"{domain}:{name}, there"] = calling("", "Neg", [function(domain, name, NEG)])


def loads(path):
    try:
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def holds(path):
    try:
        onnx.checker.check_model(path)
    except Exception:
        return False
    return True


VERDICTS = set()


@pytest.mark.parametrize("what", CASES)
def test_refused_is_what_both_refuse(what, tmp_path):
    path, out = str(tmp_path / "m.onnx"), str(tmp_path / "out.onnx")
    onnx.save(CASES[what], path)
    read = loads(path) or holds(path)
    VERDICTS.add(read)
    done = run("inspect", path)
    assert done.returncode == (DONE if read else REFUSED), done.stderr
    if read:
        convert(path, out)
        assert loads(out) or not loads(path)


def test_there_were_both(request):
    if len(request.session.items) > len(CASES):
        assert VERDICTS == {True, False}
