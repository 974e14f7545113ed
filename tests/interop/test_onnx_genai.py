"""Graphs that onnxruntime-genai's builder makes: names with the operator in them, and what they are without.

The repository's own tensors are the truth for names and numbers.
"""

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file

from judge import convert
from test_decoder import build, tokenizer

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime_genai")


def built(folder, precision, out):
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", folder, "-o", out, "-p", precision,
               "-e", "cpu", "-c", out / "cache"]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert (out / "model.onnx").exists(), done.stderr[-2000:]
    return out / "model.onnx"


def expected(folder):
    """The repository's tensors under the builder's modules, where queries, keys and values are one."""
    there, found = load_file(folder / "model.safetensors"), {}
    for name, tensor in there.items():
        name = name.replace(".self_attn.", ".attn.")
        if name == "model.norm.weight":
            layers = 1 + max(int(other.split(".")[2]) for other in there if other.startswith("model.layers."))
            name = f"model.layers.{layers}.final_norm_layernorm.weight"
        found[name] = tensor
    for end in ("weight", "bias"):
        for name in [n for n in found if n.endswith(f".attn.q_proj.{end}")]:
            parts = [found.pop(name.replace("q_proj", f"{part}_proj")) for part in "qkv"]
            found[name.replace("q_proj", "qkv_proj")] = np.concatenate(parts)
    return found


@pytest.mark.parametrize("name, tied", [("llama", False), ("llama", True), ("qwen2", False)])
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_names_and_numbers_of_its_graphs(name, tied, precision, tmp_path):
    sizes = dict(hidden_size=128, intermediate_size=160, tie_word_embeddings=tied)
    sizes |= dict(use_sliding_window=False) if name == "qwen2" else {}
    folder = build(name, tmp_path / "hf", **sizes)
    tokenizer(folder)
    path = built(folder, precision, tmp_path / "built")
    done = convert(path, tmp_path / "w.safetensors")
    back, want = load_file(tmp_path / "w.safetensors"), expected(folder)
    own = {n for n in back if n.split(".")[0] in ("model", "lm_head")}
    assert own == set(want)
    for name, tensor in want.items():
        assert back[name].shape == tensor.shape, name
        if precision == "fp32" or tensor.ndim == 1:
            assert np.array_equal(back[name], tensor), name
        else:  # 4 bits in blocks of 32: half a step of the block's largest
            assert np.abs(back[name] - tensor).max() <= np.abs(tensor).max() / 8 + 1e-6, name
            assert np.abs(back[name] - tensor).mean() > 0 or "embed" in name
    if tied:
        assert "one tensor with model.embed_tokens.weight" in done.stderr
    raw = convert(path, tmp_path / "raw.safetensors", "--raw-names")
    assert "without the operator" not in raw.stderr
