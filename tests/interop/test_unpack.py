"""Repositories whose weights are quantized already: what `convert` makes of them, held to the real
converter where it knows the method, and to the method's own library where it does not.

One small llama is packed by each method; testdata/make/unpack.py has the single layers.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

import judge
from llama_tree import HERE, MODELS, TREE  # first: it finds the modules of llm

import torch
from safetensors.torch import load_file, save_file

import ggufs
import zoo

LINEAR = ("_proj.weight",)


def words(seed, *shape):
    maker = torch.Generator().manual_seed(seed)
    return torch.randint(-2**31, 2**31, shape, generator=maker, dtype=torch.int64).to(torch.int32)


def scales(seed, *shape):
    maker = torch.Generator().manual_seed(seed)
    return (torch.rand(shape, generator=maker) * 0.01 + 0.001).to(torch.float16)


def fp8(name, weight, block):
    rows, columns = weight.shape
    if block is None:
        scale = weight.float().abs().max() / 448
        spread = scale
    else:
        scale = torch.nn.functional.max_pool2d(weight.float().abs()[None], block, ceil_mode=True)[0] / 448
        spread = scale.repeat_interleave(block[0], 0)[:rows].repeat_interleave(block[1], 1)[:, :columns]
    return {name: (weight.float() / spread).to(torch.float8_e4m3fn), name + "_scale_inv": scale}


def gptq(name, weight, bits, order):
    base, (n, m), group = name.removesuffix(".weight"), weight.shape, 64
    seed = len(name) + bits
    groups = torch.arange(m, dtype=torch.int32) // group
    if order:
        groups = groups[torch.randperm(m, generator=torch.Generator().manual_seed(seed))]
    return {base + ".qweight": words(seed, m * bits // 32, n), base + ".qzeros": words(seed + 1, m // group, n * bits // 32),
            base + ".scales": scales(seed + 2, m // group, n), base + ".g_idx": groups}


def channel(name, weight, kind):
    top = 448 if kind == torch.float8_e4m3fn else 127
    scale = weight.float().abs().amax(1, keepdim=True) / top
    codes = weight.float() / scale
    return {name: (codes.round() if kind == torch.int8 else codes).to(kind), name + "_scale": scale.to(torch.bfloat16)}


def pack(name, weight, zeros):
    (n, m), group, seed = weight.shape, 32, len(name)
    parts = {name + "_packed": words(seed, n, m // 8), name + "_scale": scales(seed, n, m // group).to(torch.bfloat16),
             name + "_shape": torch.tensor([n, m])}
    if zeros:
        parts[name + "_zero_point"] = words(seed + 1, n // 8, m // group)
    return parts


def bitnet(name, weight, _):
    (n, m), seed = weight.shape, len(name)
    codes = torch.randint(0, 256, (n // 4, m), generator=torch.Generator().manual_seed(seed), dtype=torch.int64)
    # Each two bits are 0, 1 or 2.
    codes = sum((((codes >> shift) & 3) % 3) << shift for shift in (0, 2, 4, 6)).to(torch.uint8)
    return {name: codes, name + "_scale": torch.tensor([37.5], dtype=torch.bfloat16)}


def groups(**weights):
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}}}


METHODS = {
    "fp8-block": (fp8, (128, 128), {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "fp8-odd-block": (fp8, (96, 160), {"quant_method": "fp8", "weight_block_size": [96, 160]}),
    "fp8-tensor": (fp8, None, {"quant_method": "fp8"}),
    "gptq-4": (lambda n, w, o: gptq(n, w, 4, o), False, {"quant_method": "gptq", "bits": 4, "group_size": 64}),
    "gptq-4-order": (lambda n, w, o: gptq(n, w, 4, o), True,
                     {"quant_method": "gptq", "bits": 4, "group_size": 64, "desc_act": True}),
    "gptq-2": (lambda n, w, o: gptq(n, w, 2, o), False, {"quant_method": "gptq", "bits": 2, "group_size": 64}),
    "gptq-8-v2": (lambda n, w, o: gptq(n, w, 8, o), False,
                  {"quant_method": "gptq", "bits": 8, "group_size": 64, "checkpoint_format": "gptq_v2"}),
    "ct-fp8": (channel, torch.float8_e4m3fn, {"quant_method": "compressed-tensors", "format": "float-quantized",
                                            **groups(num_bits=8, type="float", strategy="channel")}),
    "ct-int8": (channel, torch.int8, {"quant_method": "compressed-tensors", "format": "int-quantized",
                                    **groups(num_bits=8, type="int", strategy="channel")}),
    "ct-pack": (pack, False, {"quant_method": "compressed-tensors", "format": "pack-quantized",
                              **groups(num_bits=4, type="int", strategy="group", group_size=32)}),
    "ct-pack-zeros": (pack, True, {"quant_method": "compressed-tensors", "format": "pack-quantized",
                                   **groups(num_bits=4, type="int", strategy="group", group_size=32)}),
    "bitnet": (bitnet, None, {"quant_method": "bitnet"}),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain") / "llama"
    zoo.build(zoo.BY_NAME["llama"], folder, MODELS)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def packed(plain, folder, pack, settings):
    """The same repository with its linear layers packed."""
    shutil.copytree(plain, folder)
    parts = {}
    for path in folder.glob("*.safetensors"):
        for name, weight in load_file(path).items():
            parts.update(pack(name, weight) if name.endswith(LINEAR) else {name: weight})
        path.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file({name: part.contiguous() for name, part in parts.items()}, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(config, quantization_config=settings)))
    return folder


def ours(repository, out, *options):
    done = judge.run("convert", repository, out, *options, timeout=300)
    assert done.returncode == judge.DONE, f"exit {done.returncode}: {done.stderr}"
    return done


@pytest.mark.parametrize("name", METHODS)
def test_the_file_is_the_reference_converters(name, plain, tmp_path):
    pack, how, settings = METHODS[name]
    folder = packed(plain, tmp_path / "llama", lambda n, w: pack(n, w, how), settings)
    kinds = ["f32", "auto"]
    # Its lazy tensors cannot shift bytes with torch 2.15.
    options = {"CONVERTER_OPTIONS": "--no-lazy"} if name == "bitnet" else {}
    subprocess.run([sys.executable, HERE / "llm/converter.py", TREE, folder, tmp_path / "theirs.{ftype}.gguf", *kinds],
                   capture_output=True, text=True, timeout=600, env={**os.environ, **options})
    for kind in kinds:
        path = tmp_path / f"theirs.{kind}.gguf"
        error = path.with_suffix(".error")
        assert path.exists(), error.read_text() if error.exists() else "the converter said nothing"
        ours(folder, tmp_path / f"ours.{kind}.gguf", "--dtype", kind)
        a, b = ggufs.Gguf(tmp_path / f"ours.{kind}.gguf"), ggufs.Gguf(path)
        lines = ggufs.key_differences(a, b) + ggufs.tensor_differences(a, b)
        assert not lines, "\n".join(lines[:20])
        assert a.raw == b.raw, "padding"


@pytest.mark.parametrize("kind", ["nf4", "fp4", "int8"])
def test_bitsandbytes_is_what_the_library_unpacks(kind, plain, tmp_path):
    """The reference converter refuses these: the library's own floats, converted, are the measure."""
    f = pytest.importorskip("bitsandbytes.functional")

    def pack(name, weight):
        if kind == "int8":
            codes, scale, _ = f.int8_vectorwise_quant(weight.to(torch.float16))
            floats[name] = f.int8_vectorwise_dequant(codes, scale)
            return {name: codes, name.replace(".weight", ".SCB"): scale}
        codes, state = f.quantize_4bit(weight, quant_type=kind, compress_statistics=kind == "nf4")
        floats[name] = f.dequantize_4bit(codes, state)
        return {name: codes, **{f"{name}.{key}": part for key, part in state.as_dict(packed=True).items()}}

    floats = {}
    folder = packed(plain, tmp_path / "llama", pack, {"quant_method": "bitsandbytes"})
    same = tmp_path / "same" / "llama"
    shutil.copytree(plain, same)
    weights = {}
    for path in same.glob("*.safetensors"):
        weights.update(load_file(path))
        path.unlink()
    (same / "model.safetensors.index.json").unlink(missing_ok=True)
    save_file({**weights, **floats}, same / "model.safetensors")
    for path, repository in (("ours.gguf", folder), ("same.gguf", same)):
        ours(repository, tmp_path / path, "--dtype", "f32")
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "same.gguf").read_bytes()


@pytest.mark.parametrize("told", ["fp8", "modelopt", "nothing"])
def test_scales_of_other_writers(told, plain, tmp_path):
    """`weight_scale` beside scales of activations and caches; settings in the config, in a file, or nowhere."""
    def pack(name, weight):
        parts = fp8(name, weight, None)
        scale = parts.pop(name + "_scale_inv")
        base = name.removesuffix("weight")
        more = {base + "k_scale": torch.ones(1)} if "k_proj" in name else {}
        return {**parts, name + "_scale": scale, base + "input_scale": torch.ones(1), **more}

    def unpacked(name, weight):
        parts = fp8(name, weight, None)
        return {name: parts[name].float() * parts[name + "_scale_inv"]}

    folder = packed(plain, tmp_path / "llama", pack, {"quant_method": "fp8"})
    same = packed(plain, tmp_path / "same" / "llama", unpacked, {})
    for repository, keep in ((folder, told == "fp8"), (same, False)):
        path = repository / "config.json"
        config = json.loads(path.read_text())
        settings = config.pop("quantization_config")
        path.write_text(json.dumps(dict(config, quantization_config=settings) if keep else config))
    if told == "modelopt":
        (folder / "hf_quant_config.json").write_text(json.dumps(
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}))
    for path, repository in (("ours.gguf", folder), ("same.gguf", same)):
        ours(repository, tmp_path / path, "--dtype", "f32")
    assert (tmp_path / "ours.gguf").read_bytes() == (tmp_path / "same.gguf").read_bytes()


def test_in_one_step_is_as_in_two(plain, tmp_path):
    pack, how, settings = METHODS["gptq-4"]
    folder = packed(plain, tmp_path / "llama", lambda n, w: pack(n, w, how), settings)
    ours(folder, tmp_path / "one.gguf", "--quantize", "Q4_K_M")
    ours(folder, tmp_path / "half.gguf", "--dtype", "auto")
    done = judge.run("quantize", tmp_path / "half.gguf", tmp_path / "two.gguf", "Q4_K_M")
    assert done.returncode == judge.DONE, done.stderr
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_what_is_wrong_is_named(plain, tmp_path):
    pack, how, settings = METHODS["gptq-4"]
    folder = packed(plain, tmp_path / "llama", lambda n, w: pack(n, w, how), settings)
    config = json.loads((folder / "config.json").read_text())

    def refused(**change):
        text = dict(config, quantization_config={**settings, **change})
        (folder / "config.json").write_text(json.dumps(text))
        done = judge.run("convert", folder, tmp_path / "x.gguf")
        assert done.returncode == judge.REFUSED, done.stderr
        assert not (tmp_path / "x.gguf").exists()
        return done.stderr

    assert "aqlm" in refused(quant_method="aqlm")
    assert "bits" in refused(bits=5)
    assert "shape" in refused(bits=8)
    path = folder / "model.safetensors"
    parts = load_file(path)
    gone = next(name for name in parts if name.endswith(".scales"))
    save_file({name: part for name, part in parts.items() if name != gone}, path)
    assert gone in refused()
