"""Mistral's own layout, `params.json` beside `consolidated*.safetensors`, held to the real converter with
`--mistral-format`. Small random models; a tekken.json of all bytes and a few merges.
"""

import base64
import json
import os
import shutil
import subprocess
import sys

import pytest

import judge
from llama_tree import HERE, TREE  # first: it finds the modules of llm

pytest.importorskip("mistral_common", reason="the reference reads tekken.json through mistral-common, which is not here")

import torch
from safetensors.torch import save_file

import ggufs

PARAMS = {"dim": 64, "n_layers": 2, "head_dim": 32, "hidden_dim": 96, "n_heads": 4, "n_kv_heads": 2,
          "rope_theta": 1000000.0, "norm_eps": 1e-05, "vocab_size": 320, "max_position_embeddings": 4096}
YARN = {"original_max_position_embeddings": 1024, "factor": 16, "apply_scale": False, "beta": 32, "alpha": 1}
WORDS = ["th", "the", " t", " the", "in", "ing", " a", "an", " and", " an", "qu", "\u00e9", "\u20ac", "  ", "er"]
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
           "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]",
           "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[ARGS]", "[CALL_ID]"]


def tekken(version, listed):
    """All bytes, then words; more of them than `default_vocab_size` takes, as in real files."""
    texts = [bytes([n]) for n in range(256)]
    for word in WORDS:
        raw = word.encode()
        texts += [raw[:n] for n in range(2, len(raw) + 1) if raw[:n] not in texts]
    texts += [b"zz", b"zzz"]
    vocab = []
    for rank, raw in enumerate(texts):
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = None
        vocab.append({"rank": rank, "token_bytes": base64.b64encode(raw).decode(), "token_str": text})
    n_special = 24
    made = {"config": {"pattern": r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s+", "version": version,
                       "num_vocab_tokens": len(vocab), "default_vocab_size": len(vocab) - 2 + n_special,
                       "default_num_special_tokens": n_special}, "vocab": vocab}
    if listed:
        made["special_tokens"] = [{"rank": n, "token_str": text, "is_control": True} for n, text in enumerate(SPECIAL)]
    return made


def random(seed, *shape):
    return (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1).to(torch.bfloat16)


def weights(params):
    dim, head, hidden = params["dim"], params["head_dim"], params["hidden_dim"]
    q, kv = head * params["n_heads"], head * params["n_kv_heads"]
    shapes = {"tok_embeddings": (params["vocab_size"], dim), "norm": (dim,)}
    if not params.get("tied_embeddings"):
        shapes["output"] = (params["vocab_size"], dim)
    for block in range(params["n_layers"]):
        shapes.update({f"layers.{block}.{name}": shape for name, shape in {
            "attention_norm": (dim,), "ffn_norm": (dim,), "attention.wq": (q, dim), "attention.wk": (kv, dim),
            "attention.wv": (kv, dim), "attention.wo": (dim, q), "feed_forward.w1": (hidden, dim),
            "feed_forward.w2": (dim, hidden), "feed_forward.w3": (hidden, dim)}.items()})
    return {f"{name}.weight": random(n, *shape) for n, (name, shape) in enumerate(shapes.items())}


def fp8(tensors):
    made = {}
    for name, weight in tensors.items():
        base = name.removesuffix(".weight")
        if not name.startswith("layers.") or "norm" in name:
            made[name] = weight
            continue
        scale = weight.float().abs().max() / 448
        made[name] = (weight.float() / scale).to(torch.float8_e4m3fn)
        made[f"{base}.qscale_weight"], made[f"{base}.qscale_act"] = scale, torch.tensor(1.0)
    return made


def build(folder, params, *, tokens=("v3", False), quantized=False, shards=1, template=None, more=None):
    folder.mkdir(parents=True)
    (folder / "params.json").write_text(json.dumps(params))
    if tokens is not None:
        (folder / "tekken.json").write_text(json.dumps(tekken(*tokens)))
    if template:
        (folder / "chat_template.jinja").write_text(template)
    tensors = {**weights(params), **(more or {})}
    tensors = fp8(tensors) if quantized else tensors
    if shards == 1:
        save_file(tensors, folder / "consolidated.safetensors")
        return folder
    names, where = list(tensors), {}
    for n in range(shards):
        file = f"consolidated-{n + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[n::shards]}
        where.update(dict.fromkeys(part, file))
        save_file(part, folder / file)
    (folder / "consolidated.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def sentencepiece(folder, name):
    """A small model of SentencePiece with Mistral's control tokens."""
    import sentencepiece
    texts = folder / "texts"
    texts.write_text("the thing and the other thing, again and again\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(texts), model_prefix=str(folder / "made"), vocab_size=310, model_type="bpe", byte_fallback=True,
        control_symbols=["[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]",
                         "[TOOL_RESULTS]", "[/TOOL_RESULTS]"], hard_vocab_limit=False, minloglevel=2)
    (folder / "made.model").rename(folder / name)
    (folder / "made.vocab").unlink()
    texts.unlink()


CASES = {
    "dense": dict(params=PARAMS),
    "tokens-listed": dict(params=PARAMS, tokens=("v7", True)),
    "shards": dict(params=PARAMS, shards=3),
    "window": dict(params={**PARAMS, "sliding_window": 1024, "max_seq_len": 8192, "model_type": "transformer"}),
    "ministral3": dict(params={**PARAMS, "yarn": YARN, "llama_4_scaling": {"original_max_position_embeddings": 1024,
                                                                             "beta": 0.1}, "tied_embeddings": True},
                       tokens=("v13", True), template="{{ bos_token }}{{ messages }}"),
    "yarn-scaled": dict(params={**PARAMS, "yarn": {**YARN, "apply_scale": True}}),
    "fp8": dict(params={**PARAMS, "quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}},
                quantized=True),
    "vision": dict(params={**PARAMS, "vision_encoder": {"hidden_size": 8, "add_pre_mm_projector_layer_norm": True}},
                   more={"vision_encoder.patch_conv.weight": random(90, 8, 3, 2, 2),
                         "vision_encoder.transformer.layers.0.attention.wq.weight": random(91, 8, 8),
                         "vision_language_adapter.w_in.weight": random(92, 64, 8),
                         "pre_mm_projector_norm.weight": random(93, 8),
                         "patch_merger.merging_layer.weight": random(94, 8, 32)}),
    "sentencepiece": dict(params=PARAMS, tokens=None),
    "sentencepiece-v1": dict(params=PARAMS, tokens=None),
}
FILES = {"sentencepiece": "tokenizer.model.v3", "sentencepiece-v1": "tokenizer.model"}


MANY = """
import json, os, sys, converter
tree = sys.argv[1]
for options, repository, out, kinds in json.load(sys.stdin):
    os.environ["CONVERTER_OPTIONS"] = options
    converter.main(tree, repository, out, kinds)
"""


def kinds_of(name):
    return ["f32", "auto"] if name in ("dense", "fp8") else ["auto"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Each case with what convert_hf_to_gguf.py made of it, in one process: its imports take longest."""
    made = {}
    for name, case in CASES.items():
        made[name] = build(tmp_path_factory.mktemp(name) / "Tiny-7B", **case)
        if name in FILES:
            sentencepiece(made[name], FILES[name])
    made["hub"] = hub(tmp_path_factory.mktemp("hub") / "Tiny-7B")
    work = [("" if name == "hub" else "--mistral-format", str(folder), str(folder.parent / "theirs.{ftype}.gguf"),
             kinds_of(name)) for name, folder in made.items()]
    subprocess.run([sys.executable, "-c", MANY, TREE], input=json.dumps(work), cwd=HERE / "llm", text=True,
                   capture_output=True, timeout=600)
    yield made
    for folder in made.values():
        shutil.rmtree(folder.parent, ignore_errors=True)


def hub(folder):
    """The hub's layout with tekken.json alone for a tokenizer, which the reference reads there as well."""
    build(folder, PARAMS)
    (folder / "consolidated.safetensors").unlink()
    config = {"architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_size": 64, "head_dim": 32,
              "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4, "num_key_value_heads": 2,
              "rms_norm_eps": 1e-05, "rope_theta": 1000000.0, "vocab_size": 320, "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config))
    names = {"tok_embeddings": "model.embed_tokens", "output": "lm_head", "norm": "model.norm",
             "attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
             "feed_forward.w1": "mlp.gate_proj", "feed_forward.w2": "mlp.down_proj", "feed_forward.w3": "mlp.up_proj",
             **{f"attention.w{x}": f"self_attn.{x}_proj" for x in "qkvo"}}
    tensors = {}
    for name, weight in weights(PARAMS).items():
        base = name.removesuffix(".weight")
        inner = base.split(".", 2)
        name = f"model.layers.{inner[1]}.{names[inner[2]]}" if inner[0] == "layers" else names[base]
        tensors[f"{name}.weight"] = weight
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize("name", [*CASES, "hub"])
def test_the_file_is_the_reference_converters(name, folders):
    folder = folders[name]
    for kind in kinds_of(name):
        theirs = folder.parent / f"theirs.{kind}.gguf"
        error = theirs.with_suffix(".error")
        assert theirs.exists(), error.read_text() if error.exists() else "the converter said nothing"
        ours = folder.parent / f"ours.{kind}.gguf"
        judge.convert(folder, ours, "--dtype", kind)
        a, b = ggufs.Gguf(ours), ggufs.Gguf(theirs)
        lines = ggufs.key_differences(a, b) + ggufs.tensor_differences(a, b)
        assert not lines, "\n".join(lines[:20])
        assert a.raw == b.raw, "padding"


def test_a_config_json_makes_it_the_hubs_layout(folders, tmp_path):
    judge.convert(folders["hub"], tmp_path / "alone.gguf")
    folder = shutil.copytree(folders["hub"], tmp_path / "Tiny-7B")
    save_file(weights(PARAMS), folder / "consolidated.safetensors")
    judge.convert(folder, tmp_path / "both.gguf")
    assert (tmp_path / "both.gguf").read_bytes() == (tmp_path / "alone.gguf").read_bytes()


@pytest.mark.parametrize("spoilt", [{"moe": {"num_experts": 8}}, {"hidden_dim": None}, {"quantization": {}}])
def test_what_is_not_read_is_refused_by_its_name(spoilt, tmp_path):
    folder = build(tmp_path / "Tiny-7B", PARAMS)
    (folder / "params.json").write_text(json.dumps({**PARAMS, **spoilt}))
    done = judge.run("convert", folder, tmp_path / "out.gguf")
    assert done.returncode == judge.REFUSED and "params.json" in done.stderr and next(iter(spoilt)) in done.stderr
    assert not (tmp_path / "out.gguf").exists()


def test_a_folder_without_tokenizer_is_refused(tmp_path):
    done = judge.run("convert", build(tmp_path / "Tiny-7B", PARAMS, tokens=None), tmp_path / "out.gguf")
    assert done.returncode == judge.REFUSED and "tekken.json" in done.stderr
