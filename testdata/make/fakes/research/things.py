"""Objects that training code leaves in checkpoints."""

import dataclasses
import enum

import torch


class Phase(enum.Enum):
    WARMUP = "warmup"
    DECAY = "decay"


@dataclasses.dataclass
class TrainConfig:
    name: str
    rate: float
    phase: Phase
    layers: list = dataclasses.field(default_factory=list)


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left, right):
        self.left, self.right = left, right


class NamedTensor(torch.Tensor):
    """A subclass that keeps its data and adds attributes: pickled by _rebuild_from_type_v2."""


class TrainState:
    """An object that is no mapping but holds tensors."""

    def __init__(self, step, weights):
        self.step, self.weights = step, weights


class SecretParameter(torch.nn.Parameter):
    pass
