"""Archives that are no checkpoints and would run code all the same, each beside a harmless twin.

Exported programs (`torch.export`), changed in what a node calls or in a size; `.npz` archives packed by bzip2
and LZMA with an array of objects. Nothing here is loaded: the calls are only ever written.
"""

import io
import json
import os
import zipfile

import numpy
import torch
from torch import nn

import assemble as asm
from common import dumps, entries, finish, put, rezip

BAD, GOOD = "scan/hostile", "scan/harmless"


class Doubled(nn.Module):
    def forward(self, x):
        return torch.relu(torch.cat([x, x])).sum(1)


def exported():
    """The entries of an exported program with a size that is not fixed."""
    buffer = io.BytesIO()
    rows = torch.export.Dim("rows")
    torch.export.save(torch.export.export(Doubled(), (torch.ones(8, 3),), dynamic_shapes=({0: rows},)), buffer)
    return [(name, without_places(body) if name.endswith(".json") else body)
            for name, body in entries(buffer.getvalue())]


def without_places(body):
    """A graph without the texts that tell where on this machine its code stood."""
    def clean(value):
        if isinstance(value, list):
            return [clean(item) for item in value]
        if isinstance(value, dict):
            return {key: "" if key in ("stack_trace", "torch_fn", "nn_module_stack", "from_node") else clean(item)
                    for key, item in value.items()}
        return value

    return json.dumps(clean(json.loads(body))).encode()


def programs():
    twin = exported()
    put(f"{GOOD}/export.pt2", rezip(twin), note="a program of torch.export with a dynamic size", rules=[])
    relu, size = b'"torch.ops.aten.relu.default"', b'"expr_str": "'
    for name, old, new, rules, note in (
            ("target", relu, b'"torch.serialization.os.mkdir"', ["config-callable"], "a node that calls os.mkdir"),
            ("system", relu, b'"torch.serialization.os.system"', ["config-callable"], "a node that calls os.system"),
            ("file", relu, b'"torch.ops.aten.from_file.default"', ["torchscript-file-access"], "a node that opens a file"),
            ("size", size, size + json.dumps(f"eval({asm.EVAL!r}) or ")[1:-1].encode(), ["code-execution"],
             "a size that sympy evaluates while the program is loaded")):
        changed = [(path, body.replace(old, new) if path.endswith(".json") else body) for path, body in twin]
        assert changed != twin, name
        put(f"{BAD}/export_{name}.pt2", rezip(changed), note=note, rules=rules)


class System:
    def __reduce__(self):
        return os.system, (asm.SHELL,)


def saved(array):
    buffer = io.BytesIO()
    numpy.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def objects(value):
    """An array of one object, its pickle of protocol 2: the same in every version of numpy."""
    array = numpy.empty(1, dtype=object)
    array[0] = value
    header = saved(numpy.array([None], dtype=object))
    return header[: header.index(b"\n") + 1] + dumps(array, 2)


def arrays():
    numbers = saved(numpy.eye(3, dtype="float32"))
    for packed, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        def archive(*last, method=method):
            return rezip([(f"{name}.npy", body) for name, body in zip("xyz", (numbers, *last))], method)

        put(f"{GOOD}/{packed}.npz", archive(objects({"steps": [1, 2], "name": "os.system"}), numbers),
            note=f"an .npz packed by {packed}, with an array of an honest object", rules=[])
        put(f"{BAD}/{packed}.npz", archive(objects(System()), numbers),
            note=f"an .npz packed by {packed}: its array of objects calls os.system", rules=["process"])
        put(f"{BAD}/{packed}_behind.npz", archive(numbers + objects(System())),
            note=f"the same behind an array of numbers, where a second np.load reads on, by {packed}",
            rules=["process"])


def main():
    programs()
    arrays()
    finish(__file__)


if __name__ == "__main__":
    main()
