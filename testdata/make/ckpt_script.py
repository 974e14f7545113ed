"""TorchScript archives: only their weights are of interest."""

import io
import os
import zipfile

import torch
from torch import nn

from common import finish, put, randn
from ckpt_layouts import fill

GOOD = "ckpt/good/torchscript"


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 3))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("scratch", torch.zeros(2), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight + self.mean


class Outer(nn.Module):
    scale: float

    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 2, bias=False)])
        self.norm = nn.BatchNorm1d(3)
        self.scale = 0.5
        self.names = ["a", "b"]
        self.table = torch.ones(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.inner(x)) * self.scale
        for layer in self.layers:
            x = layer(x)
        return x


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 4, bias=False)
        self.decode = nn.Linear(3, 4, bias=False)
        self.decode.weight = self.encode.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decode(x) + self.encode(x)


def save(module, **extra):
    """torch.jit.save, without the debug records (they hold folders of this machine)."""
    buffer = io.BytesIO()
    torch.jit.save(module, buffer, _extra_files=extra)
    items = []
    with zipfile.ZipFile(buffer) as archive:
        for info in archive.infolist():
            if not info.filename.endswith(".debug_pkl"):
                body = archive.read(info)
                assert os.path.expanduser("~").encode() not in body, info.filename
                items.append((info, body))
    return repack(items)


def repack(items):
    """Keeps each entry stored or deflated as it was."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for info, body in items:
            fresh = zipfile.ZipInfo(info.filename, (1980, 1, 1, 0, 0, 0))
            fresh.compress_type = info.compress_type
            archive.writestr(fresh, body)
    return buffer.getvalue()


def main():
    outer = fill(Outer()).eval()
    put(f"{GOOD}/scripted.pt", save(torch.jit.script(outer)),
        note="torch.jit.script: parameters, buffers, submodules, a plain tensor attribute")
    put(f"{GOOD}/traced.pt", save(torch.jit.trace(fill(nn.Linear(3, 2)), randn(1, 3))),
        note="torch.jit.trace")
    put(f"{GOOD}/tied.pt", save(torch.jit.script(fill(Tied()))), note="tied weights")
    put(f"{GOOD}/extra_files.pt", save(torch.jit.script(fill(nn.Linear(3, 2))),
                                       **{"config.json": b'{"a": 1}'}), note="with extra files")
    put(f"{GOOD}/frozen.pt", save(torch.jit.freeze(torch.jit.script(fill(nn.Linear(3, 2)).eval()))),
        note="frozen: weights are constants, no state dict", frozen=True)
    finish(__file__)


if __name__ == "__main__":
    main()
