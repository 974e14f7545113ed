"""Files that real programs write, in which nothing is to be found."""

import argparse
import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import gzip
import io
import json
import pathlib
import pickle
import random
import types
import uuid
import zipfile
import zoneinfo

import numpy
import torch
import transformers
from torch import nn

from . import Shelf, twins


@dataclasses.dataclass
class Config:
    """An author's own class: nobody's list has it."""

    width: int = 4
    name: str = "base"


class Schedule(enum.Enum):
    LINEAR = "linear"


class Attributes(dict):
    """What lightning's AttributeDict is."""


def small():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Linear(4, 2))


def state_dicts(shelf):
    family = "state_dict"
    state = small().state_dict()
    torch.save(state, shelf.path(family, "zip.pt"))
    torch.save(state, shelf.path(family, "legacy.pt"), _use_new_zipfile_serialization=False)
    for protocol in range(2, 6):
        torch.save(state, shelf.path(family, f"protocol{protocol}.pt"), pickle_protocol=protocol)
        torch.save(state, shelf.path(family, f"legacy{protocol}.pt"), pickle_protocol=protocol,
                   _use_new_zipfile_serialization=False)
        with open(shelf.path(family, f"plain{protocol}.pkl"), "wb") as file:
            pickle.dump({name: value.numpy() for name, value in state.items()}, file, protocol)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool,
                  torch.complex64, torch.float8_e4m3fn):
        torch.save({"w": torch.zeros(4).to(dtype)}, shelf.path(family, f"{str(dtype)[6:]}.pt"))
    torch.save({"module." + name: value for name, value in state.items()},
               shelf.path(family, "ddp.pt"))
    torch.save(nn.Parameter(torch.ones(3)), shelf.path(family, "parameter.pt"))
    torch.save(torch.eye(4).t(), shelf.path(family, "view.pt"))
    torch.save({"a": torch.eye(3).to_sparse(), "b": torch.eye(3).to_sparse_csr()},
               shelf.path(family, "sparse.pt"))
    torch.save(torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
               shelf.path(family, "quantized.pt"))
    torch.save(torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint8),
               shelf.path(family, "quantized_channels.pt"))
    torch.save([], shelf.path(family, "empty.pt"))
    torch.save(torch.nested.nested_tensor([torch.ones(2, 2), torch.ones(3, 2)], layout=torch.jagged),
               shelf.path(family, "jagged.pt"))
    torch.save(torch.max(torch.ones(2, 2), 0), shelf.path(family, "named_result.pt"))
    torch.save(torch.linalg.svd(torch.eye(2)), shelf.path(family, "svd.pt"))
    # Weights whose bytes look like a pickle: data, all the same.
    words = b"cos\nsystem\n(S'true'\ntR." * 8
    torch.save({"w": torch.frombuffer(bytearray(words), dtype=torch.uint8)},
               shelf.path(family, "bytes_like_code.pt"))


def training(shelf):
    family = "training"
    for name, make in (("sgd", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
                       ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW),
                       ("rmsprop", torch.optim.RMSprop)):
        model = small()
        optimizer = make(model.parameters())
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        torch.save({"epoch": 3, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(), "loss": 0.25},
                   shelf.path(family, f"{name}.pt"))
    steps = transformers.get_linear_schedule_with_warmup(torch.optim.SGD(small().parameters(), 0.1), 2, 9)
    torch.save(steps, shelf.path(family, "schedule.pt"))
    torch.save({"rng": torch.get_rng_state(), "numpy": numpy.random.get_state(),
                "python": random.getstate()}, shelf.path(family, "rng.pt"))
    torch.save({"generator": numpy.random.default_rng(0).bit_generator.state},
               shelf.path(family, "generator.pt"))
    torch.save({"state_dict": small().state_dict(), "hyper_parameters": {"lr": 0.1, "layers": [1, 2]},
                "callbacks": {"ModelCheckpoint": {"best_model_path": pathlib.PurePosixPath("a/b")}},
                "loops": {}, "pytorch-lightning_version": "2.5.0"}, shelf.path(family, "lightning.ckpt"))
    torch.save({"model": small().state_dict(), "args": argparse.Namespace(lr=0.1, arch="x", gpus=[0])},
               shelf.path(family, "namespace.pt"))
    torch.save(small(), shelf.path(family, "module.pt"))
    torch.save(nn.TransformerEncoderLayer(8, 2), shelf.path(family, "transformer.pt"))
    torch.save(nn.LSTM(2, 3), shelf.path(family, "lstm.pt"))
    torch.save(nn.Sequential(nn.LazyConv2d(2, 3), nn.LazyBatchNorm2d(), nn.LazyInstanceNorm2d(), nn.LazyLinear(3)),
               shelf.path(family, "lazy.pt"))
    from transformers import BertConfig, TrainingArguments
    torch.save(TrainingArguments(output_dir="out", report_to=[]), shelf.path(family, "training_args.bin"))
    torch.save(BertConfig(), shelf.path(family, "bert_config.pt"))


def values(shelf):
    family = "values"
    for name, value in {
            "ordered": collections.OrderedDict(a=1), "counter": collections.Counter("aab"),
            "default": collections.defaultdict(list, a=[1]), "deque": collections.deque([1], 5),
            "path": pathlib.PurePosixPath("a/b"), "datetime": datetime.datetime(2024, 1, 2),
            "delta": datetime.timedelta(1), "date": datetime.date(2024, 1, 2),
            "zone": datetime.timezone.utc, "decimal": decimal.Decimal("1.5"),
            "fraction": fractions.Fraction(1, 3), "uuid": uuid.UUID(int=7),
            "simple": types.SimpleNamespace(a=1), "slice": slice(1, 2), "range": range(9),
            "set": {1, 2}, "frozen": frozenset("ab"), "complex": 1 + 2j, "bytes": b"abc\0",
            "bytearray": bytearray(b"x"), "big": 1 << 900, "nested": [[[{"a": (1, None, True)}]]],
            "scalar": numpy.float32(1.5), "dtype": numpy.dtype("<i4"), "array": numpy.eye(3),
            "strings": numpy.array(["a", "bc"]), "structured": numpy.zeros(2, "i4,f8"),
            "masked": numpy.ma.array([1, 2], mask=[0, 1]), "datetime64": numpy.datetime64("2024-01-01"),
            "size": torch.Size([1, 2]), "device": torch.device("cpu"), "torch_dtype": torch.float16,
            "layout": torch.strided, "array_array": array.array("d", [1.0]), "ellipsis": ...,
            "zone_named": zoneinfo.ZoneInfo("UTC"), "poly1d": numpy.poly1d([1, 2]),
            "integers": numpy.iinfo("i4"), "chebyshev": numpy.polynomial.Chebyshev([1]),
            "words": numpy.array(["a"], dtype=numpy.dtypes.StringDType())}.items():
        for protocol in (2, 5):
            with open(shelf.path(family, f"{name}{protocol}.pkl"), "wb") as file:
                pickle.dump(value, file, protocol)
    with open(shelf.path(family, "own_class.pkl", unknown=True), "wb") as file:
        pickle.dump(Config(), file)
    with open(shelf.path(family, "own_enum.pkl", unknown=True), "wb") as file:
        pickle.dump(Schedule.LINEAR, file)
    torch.save({"hparams": Attributes(lr=1)}, shelf.path(family, "own_dict.pt", unknown=True))


def wrapped(shelf):
    family = "wrapped"
    numpy.save(shelf.path(family, "a.npy"), numpy.eye(3))
    numpy.savez(shelf.path(family, "a.npz"), w=numpy.eye(3), b=numpy.zeros(3))
    numpy.savez_compressed(shelf.path(family, "b.npz"), w=numpy.eye(3))
    numpy.save(shelf.path(family, "objects.npy"), numpy.array([{"a": 1}, None], dtype=object),
               allow_pickle=True)
    shelf.add(family, "state.pkl.gz", gzip.compress(pickle.dumps({"w": numpy.eye(2)})))
    buffer = io.BytesIO()
    torch.save(small().state_dict(), buffer)
    shelf.add(family, "state.pt.gz", gzip.compress(buffer.getvalue()))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("model/pytorch_model.bin", buffer.getvalue())
        file.writestr("model/config.json", '{"architectures": ["X"]}')
        file.writestr("model/README.md", "# words\nimport os\n")
    shelf.add(family, "repository.zip", archive.getvalue())
    try:
        import joblib
    except ImportError:
        return
    for number, how in enumerate((0, ("zlib", 3), ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3))):
        joblib.dump({"w": numpy.eye(8), "name": "x"}, shelf.path(family, f"{number}.joblib"), how)
    # What estimators hold: arrays of records and of objects, texts, several in one file.
    nodes = numpy.zeros(3, dtype=[("left", "<i8"), ("value", "<f8")])
    arrays = {"nodes": nodes, "classes": numpy.array(["a", None], dtype=object), "words": numpy.array(["x", "yz"]),
              "copy": numpy.asfortranarray(numpy.eye(3)), "when": numpy.array(["2020"], "M8[D]"), "none": numpy.zeros((0, 2))}
    for protocol in range(2, 6):
        joblib.dump(arrays, shelf.path(family, f"arrays{protocol}.joblib"), protocol=protocol)
        joblib.dump([numpy.random.RandomState(1), collections.Counter("aab"), arrays], shelf.path(family, f"held{protocol}.joblib"),
                    protocol=protocol)


class Scripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)

    def forward(self, x):
        return torch.relu(self.linear(x))


def formats(shelf):
    family = "formats"
    torch.jit.save(torch.jit.trace(Scripted(), torch.zeros(1, 2)), shelf.path(family, "traced.pt"))
    from safetensors.torch import save_file
    save_file(small().state_dict(), shelf.path(family, "a.safetensors"), {"format": "pt"})
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    weight = numpy_helper.from_array(numpy.eye(2, dtype="float32"), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])], [weight])
    onnx.save(helper.make_model(graph), shelf.path(family, "a.onnx"))
    import gguf
    writer = gguf.GGUFWriter(shelf.path(family, "a.gguf"), "llama")
    writer.add_chat_template("{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{% endfor %}")
    writer.add_tensor("w", numpy.zeros(32, "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    layer = {"module": "keras.layers", "class_name": "Dense", "registered_name": None, "config": {
        "units": 2, "activation": "relu", "kernel_initializer": {
            "module": "keras.initializers", "class_name": "GlorotUniform", "config": {"seed": None},
            "registered_name": None}}}
    config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]},
              "registered_name": "Sequential", "compile_config": {"optimizer": {
                  "module": "keras.optimizers", "class_name": "Adam", "config": {"learning_rate": 0.1}}}}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("metadata.json", '{"keras_version": "3.8.0"}')
        file.writestr("config.json", json.dumps(config))
    shelf.add(family, "a.keras", archive.getvalue())
    from transformers import BertConfig, LlamaConfig
    for name, made in (("llama", LlamaConfig()), ("bert", BertConfig())):
        folder = shelf.path(family, f"{name}/config.json").parent
        made.save_pretrained(folder)
    shelf.add(family, "tokenizer/tokenizer_config.json", json.dumps(
        {"chat_template": "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
         "tokenizer_file": "/home/user/.cache/x/tokenizer.json", "model_max_length": 1e30}).encode())
    shelf.add(family, "hydra.yaml", b"model:\n  _target_: torch.nn.Linear\n  in_features: 2\n")


def write(folder):
    shelf = Shelf(folder)
    for family in (state_dicts, training, values, wrapped, formats):
        family(shelf)
    twins.harmless(shelf)
    return shelf.samples
