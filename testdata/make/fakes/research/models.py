"""Small modules as a research repository would define them."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, width, bias=False)
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("window", torch.arange(width, dtype=torch.int64))
        self.register_buffer("mask", torch.ones(width, dtype=torch.bool), persistent=False)
        self.register_buffer("unset", None)

    def forward(self, x):
        return x + self.project(self.norm(x)) * self.scale


class Net(nn.Module):
    """Submodules, a list, a dictionary of modules, tied weights, non-persistent buffers."""

    def __init__(self, vocabulary=11, width=6, tied=True):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(2))
        self.heads = nn.ModuleDict({"main": nn.Linear(width, vocabulary, bias=False)})
        self.gains = nn.ParameterList([nn.Parameter(torch.full((2,), 0.5))])
        self.frozen = nn.Parameter(torch.zeros(3), requires_grad=False)
        if tied:
            self.heads["main"].weight = self.embed.weight
        self.note = {"made by": "research", "version": 3}

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["main"](x)
