"""What training code leaves behind: the layouts people really hold."""

import argparse
import collections
import datetime
import io
import pathlib
import types
from collections import OrderedDict, defaultdict

import numpy
import torch
from torch import nn

from common import finish, legacy_save, put, randn, rng, torch_save
from fairseq.data.dictionary import Dictionary
from lightning_fabric.utilities.data import AttributeDict
from research.models import Net
from research.things import Phase, Slotted, TrainConfig, TrainState

GOOD = "ckpt/good/layouts"


def fill(module):
    """Gives every parameter and buffer repeatable numbers."""
    with torch.no_grad():
        for index, tensor in enumerate([*module.parameters(), *module.buffers()]):
            if tensor.is_floating_point():
                tensor.copy_(randn(*tensor.shape, seed=index))
    return module


def convolutional():
    return fill(nn.Sequential(OrderedDict([
        ("conv", nn.Conv2d(2, 3, 3, bias=False)), ("norm", nn.BatchNorm2d(3)),
        ("act", nn.ReLU()), ("head", nn.Sequential(nn.Flatten(), nn.Linear(12, 2)))])))


def adam(model, steps=2):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for step in range(steps):
        for index, parameter in enumerate(model.parameters()):
            parameter.grad = randn(*parameter.shape, seed=step * 31 + index)
        optimizer.step()
    return optimizer


def lightning(hyper_parameters):
    model = fill(nn.Linear(3, 2))
    return {
        "epoch": 4, "global_step": 1250, "pytorch-lightning_version": "2.1.3",
        "state_dict": OrderedDict((f"model.{k}", v) for k, v in model.state_dict().items()),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 5}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': 'val_loss', 'mode': 'min'}": {
                "monitor": "val_loss", "best_model_score": torch.tensor(0.25),
                "best_model_path": "checkpoints/epoch=4.ckpt",
                "best_k_models": {"checkpoints/epoch=4.ckpt": torch.tensor(0.25)},
                "kth_value": torch.tensor(0.25), "dirpath": pathlib.PurePosixPath("checkpoints")},
            "EarlyStopping": {"wait_count": 0, "patience": 3, "best_score": torch.tensor(0.25)}},
        "optimizer_states": [adam(model).state_dict()],
        "lr_schedulers": [{"last_epoch": 4, "_step_count": 5, "base_lrs": [1e-3]}],
        "hparams_name": "kwargs", "hyper_parameters": hyper_parameters,
    }


def fairseq():
    model = OrderedDict([("encoder.version", torch.tensor([3.0])),
                         ("encoder.embed_tokens.weight", randn(8, 4)),
                         ("encoder.layers.0.fc1.weight", randn(6, 4, dtype=torch.float16)),
                         ("encoder.layers.0.fc1.bias", randn(6, seed=2, dtype=torch.float16))])
    return {
        "args": argparse.Namespace(arch="transformer_tiny", lr=[0.0005], task="translation",
                                   data=None, share_all_embeddings=True),
        "model": model,
        "optimizer_history": [{"criterion_name": "CrossEntropyCriterion", "num_updates": 10,
                               "optimizer_name": "FairseqAdam", "lr_scheduler_state": {"best": None}}],
        "extra_state": {"epoch": 2, "val_loss": 4.25, "train_iterator": {"epoch": 2, "offset": 0}},
        "last_optimizer_state": {"state": {0: {"step": 10, "exp_avg": randn(8, 4)}},
                                 "param_groups": [{"lr": 0.0005, "betas": (0.9, 0.98), "params": [0]}]},
        "task_state": {"src_dict": Dictionary(["hello", "world"]), "tgt_dict": Dictionary(["ja"])},
    }


def random_states():
    """Generator states, as trainers keep them for resuming."""
    mersenne = numpy.random.RandomState(7).get_state()
    import random

    return {"python": random.Random(7).getstate(), "numpy": mersenne,
            "cpu": torch.Generator().manual_seed(7).get_state()[:64].clone(),
            "pcg": rng(7).bit_generator.state}


def objects():
    """Every kind of harmless value seen beside weights."""
    return {
        "model": {"w": randn(2, 3)},
        "numbers": {"np_f64": numpy.float64(0.1), "np_f32": numpy.float32(0.5),
                    "np_i64": numpy.int64(-3), "np_bool": numpy.bool_(True), "big": 1 << 80,
                    "negative": -(1 << 70), "float": float("inf"), "complex": 1 + 2j},
        "array": numpy.arange(6, dtype="float32").reshape(2, 3),
        "strings": ["", "é", "日本", "\U0001f600", "x" * 300], "bytes": b"\x00\xff" * 3,
        "bytearray": bytearray(b"abc"), "none": None, "true": True, "ellipsis": ...,
        "set": {3}, "frozenset": frozenset({"a"}), "range": range(0, 10, 2),
        "slice": slice(1, None, 2), "deque": collections.deque([1, 2], maxlen=4),
        "counter": collections.Counter("aab"), "defaultdict": defaultdict(list, {"k": [1]}),
        "when": datetime.datetime(2024, 5, 6, 7, 8, 9), "span": datetime.timedelta(days=1),
        "path": pathlib.PurePosixPath("a/b"), "space": types.SimpleNamespace(a=1),
        "namespace": argparse.Namespace(lr=0.1, tags=["x"]), "size": torch.Size([2, 3]),
        "device": torch.device("cpu"), "dtype": torch.float16, "layout": torch.strided,
    }


def own_classes():
    return {
        "state_dict": {"w": randn(2, 3)},
        "config": TrainConfig("tiny", 0.1, Phase.DECAY, [1, 2]), "phase": Phase.WARMUP,
        "slots": Slotted(1, [2, 3]), "state": TrainState(5, {"m": randn(2)}),
    }


def nested():
    inner = [randn(2), (randn(3), {"deep": randn(1, 1), "tuple": (randn(2, seed=9),)})]
    return {"layers": inner, "table": {0: randn(2, seed=5), 1: {"w": randn(2, seed=6)}},
            "named": OrderedDict([("x.y", randn(1))]), "empty": {}, "none": None}


def cyclic():
    """A dictionary that holds itself, and a list that does."""
    state = {"model": {"w": randn(2)}}
    state["self"] = state
    loop = [1]
    loop.append(loop)
    state["loop"] = loop
    return state


def main():
    model = convolutional()
    put(f"{GOOD}/state_dict_metadata.pt", torch_save(model.state_dict()),
        note="model.state_dict(): an OrderedDict with `_metadata`")
    ddp = OrderedDict((f"module.{k}", v) for k, v in model.state_dict().items())
    put(f"{GOOD}/ddp.pt", torch_save(ddp), note="names with the `module.` of DDP")
    put(f"{GOOD}/training.pt", torch_save({
        "epoch": 3, "model_state_dict": model.state_dict(), "loss": 0.5,
        "optimizer_state_dict": adam(fill(nn.Linear(2, 2))).state_dict()}),
        note="the tutorial's training checkpoint")
    put(f"{GOOD}/optimizer.pt", torch_save(adam(fill(nn.Linear(2, 2))).state_dict()),
        note="an optimizer's state dict alone: int keys, lists")
    put(f"{GOOD}/lightning_namespace.ckpt",
        torch_save(lightning(argparse.Namespace(lr=1e-3, layers=[1, 2]))),
        note="Lightning, hyper_parameters as argparse.Namespace")
    put(f"{GOOD}/lightning_attributes.ckpt",
        torch_save(lightning(AttributeDict(lr=1e-3, name="tiny"))), verdict="suspicious",
        note="Lightning, hyper_parameters as AttributeDict")
    put(f"{GOOD}/stable_diffusion.ckpt", torch_save({
        "global_step": 470000, "state_dict": OrderedDict([
            ("model.diffusion_model.time_embed.0.weight", randn(4, 2)),
            ("model_ema.decay", torch.tensor(0.9999)),
            ("first_stage_model.encoder.conv_in.weight", randn(2, 3, 1, 1)),
            ("cond_stage_model.transformer.position_ids", torch.arange(5).view(1, 5)),
            ("betas", randn(6))])}), note="Stable Diffusion")
    put(f"{GOOD}/gan.pt", torch_save({"generator": fill(nn.Linear(2, 3)).state_dict(),
                                     "discriminator": fill(nn.Linear(3, 1)).state_dict()}),
        note="two state dicts; `generator` is chosen")
    put(f"{GOOD}/esrgan.pth", torch_save({"params_ema": {"conv.weight": randn(2, 2, 3, 3)},
                                         "params": {"conv.weight": randn(2, 2, 3, 3, seed=4)}}),
        note="`params_ema` before `params`")
    put(f"{GOOD}/ema.pt", torch_save({"ema": {"w": randn(3)}, "ema_decay": 0.999,
                                     "optimizer": {"state": {}, "param_groups": []}}), note="`ema`")
    put(f"{GOOD}/net.pth", torch_save({"net": {"w": randn(3)}, "acc": 91.5, "epoch": 10}),
        note="`net`")
    put(f"{GOOD}/fairseq.pt", torch_save(fairseq()), verdict="suspicious",
        note="fairseq: Dictionary and argparse.Namespace")
    put(f"{GOOD}/list.pt", torch_save([randn(2), randn(2, 2), torch.arange(3)]),
        note="a list of tensors")
    put(f"{GOOD}/tensor.pt", torch_save(randn(3, 3)), note="one tensor, no name",
        nameless=True)
    put(f"{GOOD}/int_keys.pt", torch_save({0: randn(2), 1: randn(3), 10: randn(1)}),
        note="int keys")
    put(f"{GOOD}/mixed.pt", torch_save({"w": randn(2), "b": randn(1), "version": 3, "tag": "x"}),
        note="tensors and scalars side by side")
    put(f"{GOOD}/nested.pt", torch_save(nested()), note="lists, tuples and mappings within")
    put(f"{GOOD}/objects.pt", torch_save(objects()), note="every harmless standard value")
    put(f"{GOOD}/objects_protocol4.pt", torch_save(objects(), pickle_protocol=4),
        note="the same, protocol 4")
    put(f"{GOOD}/objects_protocol5.pt", torch_save(objects(), pickle_protocol=5),
        note="the same, protocol 5")
    put(f"{GOOD}/own_classes.pt", torch_save(own_classes()), verdict="suspicious",
        note="dataclass, enum, slots, plain object")
    put(f"{GOOD}/random_states.pt",
        torch_save({"model": {"w": randn(2)}, "rng": random_states()}),
        note="Python, numpy and torch generator states")
    put(f"{GOOD}/cyclic.pt", torch_save(cyclic()), note="values that hold themselves")
    buffer = io.BytesIO(b"extra")
    extra = OrderedDict([("w", randn(2)), ("_extra_state", {"scale": 2.0}), ("n", None)])
    put(f"{GOOD}/extra_state.pt", torch_save(extra), note="`_extra_state` and None among tensors")
    put(f"{GOOD}/held_bytes.pt", torch_save({"model": {"w": randn(2)}, "blob": buffer}),
        note="an io.BytesIO (as quantized modules keep)")
    modules(model)
    for name, obj in (("state_dict", model.state_dict()), ("fairseq", fairseq()),
                      ("objects", objects()), ("whole_net", fill(Net())),
                      ("lightning", lightning(argparse.Namespace(lr=0.1)))):
        suspicious = {"verdict": "suspicious"} if name in ("fairseq", "whole_net") else {}
        put(f"ckpt/good/legacy/{name}.pt", legacy_save(obj), note=f"{name}, legacy format",
            **suspicious)
    finish(__file__)


def modules(model):
    """Whole modules: the names are those state_dict() would give."""
    put(f"{GOOD}/whole_sequential.pt", torch_save(model), note="torch.save(model): torch's own classes")
    put(f"{GOOD}/whole_net.pt", torch_save(fill(Net())), verdict="suspicious",
        note="torch.save(model): own classes, tied weights, non-persistent buffers")
    put(f"{GOOD}/whole_in_dict.pt", torch_save({"epoch": 1, "model": fill(Net(tied=False)),
                                               "ema": None}), verdict="suspicious",
        note="a whole module under `model`, as detector trainers save")
    put(f"{GOOD}/whole_data_parallel.pt", torch_save(nn.DataParallel(fill(nn.Linear(2, 2)))),
        note="a DataParallel around a module")


if __name__ == "__main__":
    main()
