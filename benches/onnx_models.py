"""weightbridge on ONNX models beside `cp` and beside the Python libraries, in turn on the same file.

    benches/onnx_models.py FOLDER [--runs N] [--without-peers]

FOLDER gets a model of 1.14 GB fp16 in 93 initializers, in one file and with its data beside it
(made once, by onnx), and the outputs; it should lie on the disk to be measured. Run it with the
Python of the interop environment (`tests/interop/run --venv-only` makes it); `cargo build --release`
first. Our outputs are synced to disk, as are those of `cp A B && sync B`; the peers' are not.
"""

import os
import sys

import turns
from checkpoint import shapes
from turns import COPY, ours


def make(path, external):
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(20)
    tensors = [numpy_helper.from_array((random.standard_normal(shape, dtype=np.float32) * 0.02).astype(np.float16), name)
               for name, shape in shapes()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, [1])
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "weights", [x], [helper.make_tensor_value_info("y", TensorProto.FLOAT16, [1])], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save_model(model, path)
    onnx.save_model(model, external, save_as_external_data=True, location=os.path.basename(external) + ".data")


def work(source, target):
    """One run of the peers, in a process of its own."""
    import onnx
    from onnx import numpy_helper
    from safetensors.numpy import save_file

    model = onnx.load(source)
    save_file({t.name: numpy_helper.to_array(t) for t in model.graph.initializer}, target)


def peer(source):
    return [sys.executable, __file__, "--work", source, "{target}.safetensors"]


ROWS = [
    COPY,
    (".onnx to .safetensors", ours("convert", "-q", "{source}", "{target}.safetensors"), COPY[0]),
    ("external data to .safetensors", ours("convert", "-q", "{external}", "{target}.safetensors"), COPY[0]),
    (".onnx to external data", ours("convert", "-q", "--external-data", "{source}", "{target}.onnx"), COPY[0]),
    ("inspect --json", ours("inspect", "--json", "{source}"), None),
    ("onnx + safetensors, .onnx (not synced)", peer("{source}"), COPY[0]),
    ("onnx + safetensors, external data (not synced)", peer("{external}"), COPY[0]),
]


def main():
    if sys.argv[1:2] == ["--work"]:
        return work(*sys.argv[2:])
    arguments, wanted = turns.asked(__doc__)
    names = (("source", "bench.onnx"), ("external", "outside.onnx"), ("target", "out"))
    paths = {key: os.path.join(arguments.folder, name) for key, name in names}
    if not os.path.exists(paths["external"]):
        make(paths["source"], paths["external"])
    turns.table(f"{os.path.getsize(paths['source']) / 1e9:.2f} GB", wanted(ROWS), paths, arguments.runs)


if __name__ == "__main__":
    main()
