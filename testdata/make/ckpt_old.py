"""Files written by older PyTorch versions; run by each older interpreter in turn.

The names carry the version, so that no version overwrites another's files.
"""

import argparse
import io
import warnings
from collections import OrderedDict

import numpy
import torch
from torch import nn

from common import dumps, finish, legacy_save, put, randn, torch_save

warnings.simplefilter("ignore")
VERSION = ".".join(torch.__version__.split("+")[0].split(".")[:2])
GOOD = f"ckpt/good/torch{VERSION}"




def fill(module):
    with torch.no_grad():
        for index, tensor in enumerate([*module.parameters(), *module.buffers()]):
            if tensor.is_floating_point():
                tensor.copy_(randn(*tensor.shape, seed=index))
    return module


def main():
    flat = randn(12)
    state = OrderedDict([
        ("weight", flat.view(3, 4)), ("tied", flat.view(3, 4)), ("transposed", flat.view(3, 4).t()),
        ("half", randn(4, dtype=torch.float16)), ("bf16", randn(4, dtype=torch.bfloat16)),
        ("count", torch.tensor(7)), ("mask", torch.tensor([True, False])),
        ("parameter", nn.Parameter(randn(2, 2))),
    ])
    put(f"{GOOD}/state_dict.pt", torch_save(state, "model.pt"), note=f"torch {VERSION}, zip")
    put(f"{GOOD}/legacy.pt", legacy_save(state), note=f"torch {VERSION}, legacy format")
    model = fill(nn.Sequential(nn.Conv2d(1, 2, 2), nn.BatchNorm2d(2), nn.LSTM(2, 3)))
    put(f"{GOOD}/whole_model.pt", torch_save(model), note=f"torch {VERSION}, whole model")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    put(f"{GOOD}/training.pt", torch_save({
        "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1,
        "args": argparse.Namespace(lr=0.1), "best": numpy.float64(0.5),
        "history": numpy.arange(3.0)}), note=f"torch {VERSION}, training checkpoint")
    quantized = {"w": torch.quantize_per_channel(randn(2, 3), torch.tensor([0.1, 0.2]),
                                                 torch.tensor([0, 1]), 0, torch.qint8)}
    put(f"{GOOD}/quantized.pt", torch_save(quantized), note=f"torch {VERSION}, quantized")
    arrays = {"a": numpy.arange(6.0).reshape(2, 3), "f": numpy.ones((2, 2), "f4", order="F")}
    put(f"{GOOD}/numpy.pkl", dumps(arrays, 4),
        note=f"numpy {numpy.__version__}: names under numpy.core")
    buffer = io.BytesIO()
    sparse = {"coo": torch.tensor([[0.0, 1.0], [2.0, 0.0]]).to_sparse(), "w": randn(2)}
    torch.save(sparse, buffer)
    put(f"{GOOD}/sparse.pt", buffer.getvalue(), note=f"torch {VERSION}, sparse COO")
    finish(__file__, f"_{VERSION}")


if __name__ == "__main__":
    main()
