"""LoRA adapters: PEFT's folder to a GGUF adapter and back, judged by the real converter, the real
runtime, transformers and PEFT.

Without WEIGHTBRIDGE_INTEROP=full only some types are taken.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import judge
from llama_tree import HERE, MODELS, TREE  # first: it finds the modules of llm

import numpy as np
import torch

import adapters
import ggufs
import hf
import runtime
import zoo

FULL = os.environ.get("WEIGHTBRIDGE_INTEROP") == "full"
KINDS = ["f32", "f16", "bf16", "q8_0"] if FULL else ["f32", "q8_0"]
RUNS = pytest.mark.skipif(runtime.folder() is None, reason="no llama.cpp libraries")

SIZE, INNER, HEADS, SHARED, TOKENS, LAYERS = 64, 96, 4, 2, 160, 2
SMALL = dict(hidden_size=SIZE, intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
             num_key_value_heads=SHARED, vocab_size=TOKENS, max_position_embeddings=128)
HEAD = SIZE // HEADS
BASES = {
    "llama": dict(SMALL, model_type="llama", architectures=["LlamaForCausalLM"]),
    "qwen2": dict(SMALL, model_type="qwen2", architectures=["Qwen2ForCausalLM"]),
    "gemma": dict(SMALL, model_type="gemma", architectures=["GemmaForCausalLM"], head_dim=HEAD),
    "mixtral": dict(SMALL, model_type="mixtral", architectures=["MixtralForCausalLM"], num_local_experts=2),
    "gpt-neox": dict(model_type="gpt_neox", architectures=["GPTNeoXForCausalLM"], hidden_size=SIZE,
                     intermediate_size=INNER, num_hidden_layers=LAYERS, num_attention_heads=HEADS, vocab_size=TOKENS,
                     rope_parameters={"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25}),
}
LINEAR = {"self_attn.q_proj": (SIZE, SIZE), "self_attn.k_proj": (SHARED * HEAD, SIZE),
          "self_attn.v_proj": (SHARED * HEAD, SIZE), "self_attn.o_proj": (SIZE, SIZE), "mlp.gate_proj": (INNER, SIZE),
          "mlp.up_proj": (INNER, SIZE), "mlp.down_proj": (SIZE, INNER)}
CARD = """---
base_model: some-org/Tiny-Llama-1B-v0.3
library_name: peft
license: mit
tags: [lora]
---
# An adapter
"""


def layers(modules, rank, *kinds, of="model.layers"):
    made = {}
    for i in range(LAYERS):
        for module, (rows, columns) in modules.items():
            made |= adapters.factors(f"{of}.{i}.{module}", rows, columns, rank, kinds or ("float32",) * 2)
    return made


def norms(*names, kind="float32"):
    return {adapters.PREFIX + name: 1 + adapters.values(name, (SIZE,), kind) for name in names}


def experts():
    made = {}
    for i in range(LAYERS):
        for x in range(2):
            for part, shape in (("w1", (INNER, SIZE)), ("w3", (INNER, SIZE)), ("w2", (SIZE, INNER))):
                module = f"model.layers.{i}.block_sparse_moe.experts.{x}.{part}"
                made |= adapters.factors(module, *shape, 8)
    return made


def cases():
    """Name: base, tensors, options of the folder."""
    whole = layers(LINEAR, 8, "bfloat16", "bfloat16")
    whole |= adapters.factors("model.embed_tokens", TOKENS, SIZE, 4, ("bfloat16",) * 2, embedding=True)
    whole |= adapters.factors("lm_head", TOKENS, SIZE, 8, ("bfloat16",) * 2)
    whole |= norms("model.norm.weight", "model.layers.1.input_layernorm.weight", kind="bfloat16")
    base = f"{adapters.PREFIX}model.embed_tokens.base_layer.weight"
    whole[base] = adapters.values(base, (TOKENS, SIZE), "bfloat16")
    two = {name: LINEAR[name] for name in ("self_attn.q_proj", "self_attn.k_proj")}
    return {
        "llama": ("llama", whole, dict(card=CARD, lora_alpha=32)),
        # Ranks and types that differ from module to module; a checkpoint.
        "llama-mixed": ("llama", layers(two, 32, "float16", "float32") | layers({"mlp.down_proj": (SIZE, INNER)}, 4),
                        dict(pickled=True, rank_pattern={"down_proj": 4}, lora_alpha=8.5)),
        "qwen2": ("qwen2", layers(LINEAR, 16), dict(alora_invocation_tokens=[3, 1, 4])),
        "gemma": ("gemma", layers(LINEAR, 8, "float16", "float16") | norms(
            "model.norm.weight", "model.layers.0.input_layernorm.weight", kind="float16"), {}),
        "mixtral": ("mixtral", experts(), {}),
        "gpt-neox": ("gpt-neox", layers({"attention.query_key_value": (3 * SIZE, SIZE)}, 8, of="gpt_neox.layers"), {}),
    }


NAMES = list(cases())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folder of all adapters, bases and reference files."""
    folder = tmp_path_factory.mktemp("lora")
    for name, config in BASES.items():
        (folder / "base" / name).mkdir(parents=True)
        (folder / "base" / name / "config.json").write_text(json.dumps(config))
    jobs = []
    for name, (base, tensors, options) in cases().items():
        adapters.write(folder / name, tensors, **options)
        jobs += [{"adapter": str(folder / name), "base": str(folder / "base" / base), "type": kind,
                  "out": str(folder / f"{name}.reference.{kind}.gguf")} for kind in KINDS]
    done = subprocess.run([sys.executable, HERE / "llm/adapters.py", TREE], input=json.dumps(jobs),
                          capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def convert(source, target, *options):
    done = judge.run("convert", source, target, *options)
    assert done.returncode == judge.DONE, f"exit {done.returncode}: {done.stderr}"
    return done


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_is_the_reference_converters(made, tmp_path, name, kind):
    reference = made / f"{name}.reference.{kind}.gguf"
    error = Path(f"{reference}.error")
    assert reference.exists(), error.read_text() if error.exists() else "no file"
    out = tmp_path / "ours.gguf"
    convert(made / name, out, "--base", made / "base" / cases()[name][0], "--dtype", kind)
    ours, theirs = ggufs.Gguf(out), ggufs.Gguf(reference)
    lines = ggufs.key_differences(ours, theirs) + ggufs.tensor_differences(ours, theirs)
    assert not lines, "\n".join(lines[:20])
    assert bytes(ours.raw) == bytes(theirs.raw)


def stored(path):
    """Tensors of an adapter's folder."""
    from safetensors.torch import load_file
    path = Path(path)
    if (path / "adapter_model.bin").exists():
        return torch.load(path / "adapter_model.bin", weights_only=True)
    return load_file(path / "adapter_model.safetensors")


@pytest.mark.parametrize("name", NAMES)
def test_back_gives_the_same_bits(made, tmp_path, name):
    """Through a file of the type that `--dtype auto` chooses, and through F32."""
    base = made / "base" / cases()[name][0]
    was = {key: value for key, value in stored(made / name).items() if ".base_layer." not in key}
    for kind in ("auto", "f32"):
        convert(made / name, tmp_path / f"{kind}.gguf", "--base", base, "--dtype", kind)
        convert(tmp_path / f"{kind}.gguf", f"{tmp_path / kind}/", "--base", base)
        back = stored(tmp_path / kind)
        assert set(back) == set(was)
        for key, value in was.items():
            if "norm" in key and name == "gemma":
                continue  # one was added to it in F16
            assert back[key].shape == value.shape, key
            assert torch.equal(back[key].to(value.dtype), value), key
            if kind == "auto" and name not in ("llama-mixed",):
                assert back[key].dtype == value.dtype, key
    config = json.loads((tmp_path / "auto/adapter_config.json").read_text())
    told = json.loads((made / name / "adapter_config.json").read_text())
    assert config["lora_alpha"] == told["lora_alpha"]
    assert config["target_modules"] == told["target_modules"]
    assert config.get("alora_invocation_tokens") == told.get("alora_invocation_tokens")
    if name == "llama":
        assert config["base_model_name_or_path"] == "some-org/Tiny-Llama-1B-v0.3"
        assert config["rank_pattern"] == {"model.embed_tokens": 4}


def test_an_architecture_without_moved_rows_comes_back_without_its_base(made, tmp_path):
    convert(made / "qwen2", tmp_path / "a.gguf", "--base", made / "base/qwen2")
    convert(tmp_path / "a.gguf", f"{tmp_path}/back/")
    assert set(stored(tmp_path / "back")) == set(stored(made / "qwen2"))


def test_the_base_is_found_by_its_name(made, tmp_path):
    _, tensors, _ = cases()["qwen2"]
    folder = adapters.write(tmp_path / "a", tensors, base_model_name_or_path="../base")
    shutil.copytree(made / "base/qwen2", tmp_path / "base")
    convert(folder, tmp_path / "a.gguf")


# ---------------------------------------------------------------------- in the real runtime

def small_adapter(spec, folder):
    """An adapter of everything that a zoo model's runtime can adapt."""
    inner = spec["config"].get("intermediate_size", 1024)
    if spec["name"] == "gpt2":
        modules = {"attn.c_attn": (768, 256), "attn.c_proj": (256, 256), "mlp.c_fc": (inner, 256),
                   "mlp.c_proj": (256, inner)}
        return adapters.write(folder, layers(modules, 8, of="transformer.h"), fan_in_fan_out=True)
    head = 64
    modules = dict(zip(LINEAR, [(256, 256), (2 * head, 256), (2 * head, 256), (256, 256), (inner, 256), (inner, 256),
                                (256, inner)]))
    rows = 32000
    tensors = layers(modules, 8)
    tensors |= adapters.factors("model.embed_tokens", rows, 256, 8, embedding=True)
    tensors |= adapters.factors("lm_head", rows, 256, 8)
    return adapters.write(folder, tensors)


def merged(repository, adapter, folder):
    """The repository with the change added to its weights, in F32."""
    from safetensors.torch import load_file, save_file
    shutil.copytree(repository, folder, ignore=shutil.ignore_patterns("*.safetensors*"))
    weights = {}
    for path in Path(repository).glob("*.safetensors"):
        weights |= {name: tensor.float() for name, tensor in load_file(path).items()}
    parts, scale = stored(adapter), 16 / 8
    for name, a in parts.items():
        if ".lora_A" not in name and ".lora_embedding_A" not in name:
            continue
        embedding = ".lora_embedding_A" in name
        b = parts[name.replace("lora_embedding_A" if embedding else "lora_A", "lora_embedding_B" if embedding else "lora_B")]
        matrix = name.removeprefix(adapters.PREFIX).split(".lora_")[0] + ".weight"
        change = scale * (b @ a)
        if change.shape != weights[matrix].shape or embedding or ".c_" in matrix:
            change = change.T
        weights[matrix] = (weights[matrix] + change).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# Largest difference of a logit; GPT-2's GELU goes through a table of halves in ggml.
FAR = {"llama": 2e-4, "gpt2": 2e-2}


@RUNS
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_llama_cpp_adds_what_the_adapter_says(tmp_path, name):
    """GPT-2 too, whose factors the reference converter turns once too often."""
    spec = zoo.BY_NAME[name]
    repository = zoo.build(spec, tmp_path / "hf", MODELS)
    adapter = small_adapter(spec, tmp_path / "adapter")
    convert(repository, tmp_path / "base.gguf", "--dtype", "f32")
    convert(adapter, tmp_path / "adapter.gguf", "--base", tmp_path / "base.gguf", "--dtype", "f32")
    prompts = hf.tokenize(repository)[0][:1]
    both = {}
    for which in ("adapter", "base"):
        request = {"prompts": prompts, "steps": 4}
        if which == "adapter":
            request["adapter"] = str(tmp_path / "adapter.gguf")
        done = subprocess.run([sys.executable, HERE / "llm/runtime.py", tmp_path / "base.gguf", tmp_path / "run.json"],
                              input=json.dumps(request), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr[-2000:]
        answer = json.loads((tmp_path / "run.json").read_text())
        both[which] = np.frombuffer(base64.b64decode(answer["values"][0]), np.float32), answer["greedy"]
    values, greedy = hf.evaluate(merged(repository, adapter, tmp_path / "merged"), spec, prompts, steps=4)
    assert hf.distance(both["adapter"][0], both["base"][0]) > 0.1, "the adapter changes nothing"
    assert hf.distance(both["adapter"][0], values[0]) < FAR[name]
    assert both["adapter"][1] == greedy


def test_peft_loads_what_comes_back(tmp_path):
    peft = pytest.importorskip("peft", reason="no peft in this environment")
    import transformers
    config = transformers.LlamaConfig(**SMALL, tie_word_embeddings=False)
    torch.manual_seed(1)
    base = transformers.LlamaForCausalLM(config)
    base.save_pretrained(tmp_path / "base")
    options = peft.LoraConfig(r=8, lora_alpha=12, target_modules=["q_proj", "k_proj", "down_proj", "lm_head"],
                              rank_pattern={"layers.1.mlp.down_proj": 4}, task_type="CAUSAL_LM", init_lora_weights=False)
    trained = peft.get_peft_model(base, options).eval()
    trained.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    with torch.no_grad():
        wanted = trained(ids).logits
    convert(tmp_path / "adapter", tmp_path / "a.gguf", "--base", tmp_path / "base", "--dtype", "f32")
    convert(tmp_path / "a.gguf", f"{tmp_path}/back/", "--base", tmp_path / "base/config.json")
    base = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
    model = peft.PeftModel.from_pretrained(base, tmp_path / "back").eval()
    with torch.no_grad():
        assert torch.equal(model(ids).logits, wanted)


# -------------------------------------------------------------------------------- bad input

def refused(folder, *words, options=(), code=judge.REFUSED):
    done = judge.run("convert", folder, folder.parent / "out.gguf", *options)
    assert done.returncode == code, f"exit {done.returncode}: {done.stderr}"
    assert not (folder.parent / "out.gguf").exists()
    missing = [word for word in words if word not in done.stderr]
    assert not missing, f"says nothing of {missing}: {done.stderr}"


@pytest.fixture
def broken(made, tmp_path):
    """Makes an adapter of changed tensors and configuration; says the base by its flag."""
    def make(change=None, **config):
        _, tensors, _ = cases()["qwen2"]
        if change:
            change(tensors)
        return adapters.write(tmp_path / "adapter", tensors, **config)
    return make, ("--base", made / "base/qwen2")


Q = f"{adapters.PREFIX}model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize("words, change, config", [
    (("lora_B", f"{Q}.lora_A.weight"), lambda t: t.pop(f"{Q}.lora_B.weight"), {}),
    (("q_proj", "[8, 64]"), lambda t: t.update({f"{Q}.lora_A.weight": torch.zeros(8, SIZE)}), {}),
    (("lm_head.weight", "--drop"), lambda t: t.update(
        {f"{adapters.PREFIX}lm_head.weight": torch.zeros(TOKENS, SIZE)}), {"modules_to_save": ["lm_head"]}),
    (("lora_magnitude_vector",), lambda t: t.update({f"{Q}.lora_magnitude_vector": torch.zeros(SIZE)}), {}),
    (("fancy.weight",), lambda t: t.update(adapters.factors("model.layers.0.fancy", 8, 8, 8)), {}),
    (("DoRA",), None, {"use_dora": True}),
    (("IA3",), None, {"peft_type": "IA3"}),
    (("lora_alpha",), None, {"lora_alpha": "much"}),
], ids=lambda value: value[0] if isinstance(value, tuple) else "")
def test_what_cannot_be_is_named(broken, words, change, config):
    make, base = broken
    refused(make(change, **config), *words, options=base)


def test_without_a_configuration_or_a_base(broken):
    make, base = broken
    folder = make(base_model_name_or_path="some-org/some-model")
    refused(folder, "some-org/some-model", "--base")
    refused(folder, "--base", options=("--base", folder.parent / "nowhere"))
    refused(folder, "--quantize", options=(*base, "--quantize", "Q4_K_M"), code=judge.USAGE)
    (folder / "adapter_config.json").unlink()
    refused(folder, "adapter_config.json", options=base)


def test_what_a_runtime_scales_otherwise_is_a_loss(broken):
    make, base = broken
    refused(make(use_rslora=True, r=16), "use_rslora", "adapter.lora.alpha=f32:64", options=(*base, "--strict"))
