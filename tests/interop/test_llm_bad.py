"""Repositories that are no whole model: exit 3, what is missing by its name, and the flag that gets further.

Each case breaks a good repository (llm/zoo.py) in one way. Where the message names a flag, the flag is
tried: it has to give a file. Where the tensors tell what the config does not, the file has to be the one
that the whole config gives.
"""

import json
import shutil

import pytest

import judge
from llama_tree import MODELS  # first: it finds the modules of llm

from safetensors.torch import load_file, save_file

import ggufs
import runtime
import zoo

INDEX, CONFIG = "model.safetensors.index.json", "config.json"
CONTAINER = ("--as", "container")
PARTIAL = "--partial"
RUNS = pytest.mark.skipif(runtime.folder() is None, reason="no llama.cpp libraries")


@pytest.fixture(scope="session")
def good(tmp_path_factory):
    """Repositories by name, each made when it is first asked for. `llama` comes in two shards."""
    made = {}

    def of(name):
        if name not in made:
            folder = tmp_path_factory.mktemp(name) / "hf"
            made[name] = zoo.build(zoo.BY_NAME[name], folder, MODELS)
        return made[name]
    return of


def edit(path, change):
    text = json.loads(path.read_text())
    change(text)
    path.write_text(json.dumps(text))


# ------------------------------------------------------------------- ways to break a repository

def config(**keys):
    """Keys of the config changed; None takes one away."""
    def change(text):
        text.update(keys)
        for key in [key for key, value in keys.items() if value is None]:
            text.pop(key)
    return lambda folder: edit(folder / CONFIG, change)


def weights(change):
    """What `change` makes of the tensors of each file."""
    def of(folder):
        for path in folder.glob("*.safetensors"):
            save_file(change(load_file(path)), path, metadata={"format": "pt"})
    return of


def without(*names):
    """Tensors gone from weights and index alike."""
    def of(folder):
        weights(lambda tensors: {k: v for k, v in tensors.items() if k not in names})(folder)
        if (folder / INDEX).exists():
            edit(folder / INDEX, lambda index: [index["weight_map"].pop(name) for name in names])
    return of


def everywhere(*ends):
    """The tensors of these ends gone from every block."""
    return weights(lambda tensors: {name: tensor for name, tensor in tensors.items() if not name.endswith(ends)})


def both(*changes):
    return lambda folder: [change(folder) for change in changes]


def shard(folder, number):
    return sorted(folder.glob("model-*.safetensors"))[number]


def cut(folder):
    """The second half of a shard never came."""
    path = shard(folder, 1)
    path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])


def short_embedding(folder):
    """The tokenizer has 32000 tokens; the embedding keeps 31000 rows."""
    rows = lambda name, tensor: tensor[:31000].clone() if name in ("model.embed_tokens.weight", "lm_head.weight") else tensor
    weights(lambda tensors: {name: rows(name, tensor) for name, tensor in tensors.items()})(folder)
    config(vocab_size=31000)(folder)


UP = "model.layers.1.mlp.up_proj.weight"
LOST = "model.layers.9.mlp.up_proj.weight"

# Repository, what is done to it, what the message says, options that get further (none: nothing does).
BAD = {
    "a missing shard": ("llama", lambda folder: shard(folder, 1).unlink(),
                        ["model-00002-of-00002.safetensors", "Download", "--partial"], (*CONTAINER, PARTIAL)),
    "a missing shard, and a runtime asked for": (
        "llama", both(lambda folder: shard(folder, 1).unlink(), lambda folder: (folder / INDEX).unlink()),
        ["model-00002-of-00002.safetensors", "--partial"], (*CONTAINER, PARTIAL)),
    "a shard cut short": ("llama", cut, ["model-00002-of-00002.safetensors", "fetch it again"], None),
    "an index that names a tensor no shard has": (
        "llama", lambda folder: edit(folder / INDEX, lambda index: index["weight_map"].update({LOST: shard(folder, 0).name})),
        [LOST, "take the index away", "--partial"], lambda folder: (folder / INDEX).unlink()),
    "an index that names one more tensor, and the flag": (
        "llama", lambda folder: edit(folder / INDEX, lambda index: index["weight_map"].update({LOST: shard(folder, 0).name})),
        [LOST, "--partial"], (PARTIAL,)),
    "an added token beyond the embedding": (
        "llama", lambda folder: (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": 32000, "<far>": 32007})),
        ["added_tokens.json", "32000 rows", '"[PAD]" of id 32000', "--partial"], (PARTIAL,)),
    "an index that has a tensor in another shard": (
        "llama", lambda folder: edit(folder / INDEX, lambda index: index["weight_map"].update({UP: shard(folder, 1).name})),
        [UP, "it is in model-00001", "--partial"], (PARTIAL,)),
    "a vocabulary larger than the embedding of a Phi 3": (
        "phi3", both(weights(lambda tensors: {name: tensor[:31993].clone() if tensor.shape[0] == 32000 else tensor
                                              for name, tensor in tensors.items()}), config(vocab_size=31993)),
        ["tokenizer.model", "31993", "--as container"], CONTAINER),
    "a shard with a tensor the index lacks": (
        "llama", lambda folder: edit(folder / INDEX, lambda index: index["weight_map"].pop(UP)),
        [UP, "--as container", "take the index away"], CONTAINER),
    "an unknown architecture": (
        "llama", config(architectures=["FancyForCausalLM"], model_type="fancy"),
        ["FancyForCausalLM", "--arch", "--as container"], ("--arch", "llama")),
    "no class and no model type we know": (
        "llama", config(architectures=[], model_type="fancy"), ['model type "fancy"', "--as container"], CONTAINER),
    "a vocabulary larger than the embedding": (
        "llama", short_embedding, ["32000", "31000", "--as container"], CONTAINER),
    "a vocabulary larger than the config says": (
        "qwen2", config(vocab_size=100), ["vocab_size of config.json", "100 rows", "--as container"], CONTAINER),
    "no hidden_size": ("llama", config(hidden_size=None), ["hidden_size", "--as container"], CONTAINER),
    "no num_hidden_layers": ("llama", config(num_hidden_layers=None), ["num_hidden_layers", "--as container"], CONTAINER),
    "no num_attention_heads": ("llama", config(num_attention_heads=None), ["num_attention_heads", "--as container"], CONTAINER),
    "no number of heads at all": (
        "llama", config(num_attention_heads=None, num_key_value_heads=None, head_dim=None),
        ['"num_attention_heads"', "lacks the key", "--as container"], CONTAINER),
    "heads that do not fit": ("llama", config(num_attention_heads=7), ["num_attention_heads", "--as container"], CONTAINER),
    "key heads that do not fit": (
        "llama", config(num_key_value_heads=1), ['"num_key_value_heads"', "128 rows", "--as container"], CONTAINER),
    "no n_head": ("gpt2", config(n_head=None), ['"n_head"', "12 heads", "--as container"], CONTAINER),
    "an intermediate_size that is another model's": (
        "llama", config(intermediate_size=640), ['"intermediate_size"', "640", "512", "--as container"], CONTAINER),
    "more layers than there are": (
        "llama", config(num_hidden_layers=9), ["num_hidden_layers is 9", "layer 2-8", "--as container"], CONTAINER),
    "fewer layers than there are": (
        "llama", config(num_hidden_layers=1), ['"num_hidden_layers"', "layer 1", "--drop"], ("--drop", r"layers\.1\.")),
    "a matrix of one block missing": ("llama", without(UP), [f"{UP} (block 0 has it)", "--as container"], CONTAINER),
    "a norm of one block missing": (
        "llama", without("model.layers.0.input_layernorm.weight"),
        ["model.layers.0.input_layernorm.weight (block 1 has it)"], CONTAINER),
    "a bias of one block missing": (
        "qwen2", without("model.layers.1.self_attn.q_proj.bias"),
        ["model.layers.1.self_attn.q_proj.bias (block 0 has it)"], CONTAINER),
    "one bias of three missing everywhere": (
        "qwen2", everywhere("k_proj.bias"), ["model.layers.*.self_attn.k_proj.bias (of every block)", "--as container"], CONTAINER),
    "biases that the class has, missing everywhere": (
        "qwen2", everywhere("q_proj.bias", "k_proj.bias", "v_proj.bias"),
        ["model.layers.*.self_attn.q_proj.bias (of every block)", "model.layers.*.self_attn.v_proj.bias"], CONTAINER),
    "biases that the config asks for, missing everywhere": (
        "llama-bias", everywhere("o_proj.bias"), ["model.layers.*.self_attn.o_proj.bias (of every block)"], CONTAINER),
    "no correction of the experts' choice": (
        "deepseek3", everywhere("e_score_correction_bias"),
        ["model.layers.*.mlp.gate.e_score_correction_bias (of every block)"], CONTAINER),
    "no shared experts": (
        "deepseek3", everywhere(*(f"shared_experts.{part}_proj.weight" for part in ("gate", "up", "down"))),
        ["model.layers.*.mlp.shared_experts.up_proj.weight (of every block)"], CONTAINER),
    "no token types": (
        "bert", everywhere("token_type_embeddings.weight"), ["embeddings.token_type_embeddings.weight", "--as container"], CONTAINER),
    "no head of GPT-2, and none tied": (
        "gpt2", both(everywhere("lm_head.weight"), config(tie_word_embeddings=False)),
        ["1 tensor that is not there: lm_head.weight", "--as container"], CONTAINER),
    "a tensor of no place": (
        "qwen2", weights(lambda tensors: dict(tensors, **{"model.mystery.weight": tensors.pop("model.norm.weight")})),
        ["1 tensor: model.mystery.weight", "--as container", "--drop REGEX", "--rename REGEX=NAME"],
        ("--rename", "model.mystery=model.norm")),
    "no n_embd": ("gpt2", config(n_embd=None), ['"n_embd" (the rows of the embedding have 256 values)', "--as container"], CONTAINER),
    "no n_layer": ("gpt2", config(n_layer=None), ['"n_layer" (there are tensors of 2 layers)', "--as container"], CONTAINER),
    "no kv_lora_rank": ("deepseek3", config(kv_lora_rank=None), ['"kv_lora_rank"', "lacks the key", "--as container"], CONTAINER),
    "no q_lora_rank": ("deepseek3", config(q_lora_rank=None), ['"q_lora_rank"', "96 values", "lacks the key"], CONTAINER),
    "no number of heads of latent attention": (
        "deepseek3", config(num_attention_heads=None), ['"num_attention_heads"', "--as container"], CONTAINER),
    "no n_group": ("deepseek3", config(n_group=None), ['"n_group"', "4 experts", "lacks the key"], CONTAINER),
    "no qk_rope_head_dim": (
        "deepseek3", config(qk_rope_head_dim=None, head_dim=None), ['"qk_rope_head_dim"', "lacks the key", "--as container"], CONTAINER),
    "more experts used than there are": (
        "deepseek3", config(num_experts_per_tok=99), ['"num_experts_per_tok"', "99 of", "--as container"], CONTAINER),
    "no embedding": ("llama", without("model.embed_tokens.weight"), ["model.embed_tokens.weight", "--as container"], CONTAINER),
    "no output norm": ("llama", without("model.norm.weight"), ["model.norm.weight", "--as container"], CONTAINER),
    "no head, and none tied": ("llama", without("lm_head.weight"), ["lm_head.weight", "--as container"], CONTAINER),
    "an expert missing": (
        "mixtral", without("model.layers.1.block_sparse_moe.experts.2.w2.weight"),
        ["model.layers.1.block_sparse_moe.experts.2.w2.weight", "--as container"], CONTAINER),
    "no router": (
        "mixtral", without("model.layers.0.block_sparse_moe.gate.weight", "model.layers.1.block_sparse_moe.gate.weight"),
        ["model.layers.*.block_sparse_moe.gate.weight (of every block)"], CONTAINER),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_repository(name, good, tmp_path):
    base, spoil, words, further = BAD[name]
    folder, out = tmp_path / "hf", tmp_path / "out.gguf"
    shutil.copytree(good(base), folder)
    spoil(folder)
    done = judge.run("convert", folder, out, timeout=300)
    assert done.returncode == judge.REFUSED, f"exit {done.returncode}: {done.stderr}"
    assert not out.exists()
    missing = [word for word in words if word not in done.stderr]
    assert not missing, f"says nothing of {missing}: {done.stderr}"
    if further is None:
        assert judge.run("convert", folder, out, *CONTAINER).returncode == judge.REFUSED
        return
    options = further
    if callable(further):
        further(folder)
        options = ()
    done = judge.run("convert", folder, out, *options, timeout=300)
    assert done.returncode == judge.DONE and out.exists(), f"exit {done.returncode}: {done.stderr}"


def test_what_is_missing_is_a_loss_each(good, tmp_path):
    """--partial: the tensors there are, one record for each other; a runtime's file still needs all of them."""
    folder, out = tmp_path / "hf", tmp_path / "out.safetensors"
    shutil.copytree(good("llama"), folder)
    gone = load_file(shard(folder, 1))
    shard(folder, 1).unlink()
    assert judge.run("convert", folder, out, PARTIAL, "--strict").returncode == judge.REFUSED
    report = json.loads(judge.convert(folder, out, PARTIAL, "--json").stdout)
    lost = {record["what"] for record in report["report"] if record["kind"] == "missing"}
    assert lost == {*gone, "model-00002-of-00002.safetensors"}
    assert load_file(out).keys() == load_file(shard(folder, 0)).keys()
    done = judge.run("convert", folder, tmp_path / "out.gguf", PARTIAL)
    assert done.returncode == judge.REFUSED and next(iter(gone)).split(".")[-2] in done.stderr, done.stderr


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "0" + "\nsize 12345\n"


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja",
                                  "added_tokens.json", "config.json"])
def test_a_pointer_in_the_place_of_a_file_that_matters(name, good, tmp_path):
    folder, out = tmp_path / "hf", tmp_path / "out.gguf"
    shutil.copytree(good("llama"), folder)
    (folder / name).write_text(POINTER)
    done = judge.run("convert", folder, out)
    assert done.returncode == judge.REFUSED and not out.exists(), done.stderr
    assert f"{folder / name}: this is a Git LFS pointer" in done.stderr and "git lfs pull" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["README.md", "special_tokens_map.json"])
def test_a_pointer_in_the_place_of_a_file_that_does_not(name, good, tmp_path):
    """The SentencePiece model has the special tokens already, and a card only a description: the file is written."""
    folder, out, plain = tmp_path / "hf", tmp_path / "out.gguf", tmp_path / "plain.gguf"
    shutil.copytree(good("llama"), folder)
    (folder / name).unlink(missing_ok=True)
    judge.convert(folder, plain)
    (folder / name).write_text(POINTER)
    done = judge.convert(folder, out, "--strict")
    assert name in done.stderr and "this is a Git LFS pointer" in done.stderr, done.stderr
    assert out.read_bytes() == plain.read_bytes()


def test_a_whole_file_that_lacks_a_field(good, tmp_path):
    folder, out = tmp_path / "hf", tmp_path / "out.gguf"
    shutil.copytree(good("qwen2"), folder)
    edit(folder / "tokenizer.json", lambda text: text["model"].pop("merges"))
    done = judge.run("convert", folder, out)
    assert done.returncode == judge.REFUSED, done.stderr
    assert f'{folder / "tokenizer.json"}: it has no "model.merges"' in done.stderr and "cut short" not in done.stderr, done.stderr
    (folder / "generation_config.json").write_text('{"eos_token_id": ')
    shutil.copy(good("qwen2") / "tokenizer.json", folder)
    done = judge.run("convert", folder, out)
    assert f'{folder / "generation_config.json"}: ' in done.stderr and "cut short" in done.stderr, done.stderr


def test_added_tokens_without_rows_are_left_out_as_the_reference_does(good, tmp_path):
    folder, out, plain = tmp_path / "hf", tmp_path / "out.gguf", tmp_path / "plain.gguf"
    shutil.copytree(good("llama"), folder)
    judge.convert(folder, plain)
    (folder / "added_tokens.json").write_text(json.dumps({"[PAD]": 32000}))
    done = judge.convert(folder, out, PARTIAL)
    assert "[PAD]" in done.stderr and "32000" in done.stderr, done.stderr
    assert out.read_bytes() == plain.read_bytes()


# Keys that the tensors tell, or the class of transformers: repository, key, and what the report says.
TOLD = {
    "intermediate_size": ("llama", ["intermediate_size", "512, that of the tensors"]),
    "intermediate_size of experts": ("mixtral", ["intermediate_size", "that of the tensors"]),
    "num_local_experts": ("mixtral", ["num_local_experts", "4, the rows of the router"]),
    "n_routed_experts": ("deepseek3", ["n_routed_experts", "4, the rows of the router"]),
    "vocab_size": ("qwen2", ["vocab_size", "the rows of the embedding"]),
}


@RUNS
@pytest.mark.parametrize("name", TOLD)
def test_a_size_that_the_tensors_tell(name, good, tmp_path):
    base, words = TOLD[name]
    folder, out, whole = tmp_path / "hf", tmp_path / "out.gguf", tmp_path / "whole.gguf"
    shutil.copytree(good(base), folder)
    judge.convert(folder, whole)
    config(**{name.split()[0]: None})(folder)
    done = judge.convert(folder, out)
    assert all(word in done.stderr for word in words), done.stderr
    assert out.read_bytes() == whole.read_bytes()


def test_the_default_of_a_class_is_told(good, tmp_path):
    """GPT-2's 12 heads, which go into a width of 768, and into that of this model: transformers takes them."""
    folder, out = tmp_path / "hf", tmp_path / "out.gguf"
    shutil.copytree(good("gpt2"), folder)

    def wide(tensors):
        import torch
        size = lambda n: {256: 192, 768: 576, 1024: 768}.get(n, n)
        return {name: torch.zeros([size(n) for n in tensor.shape], dtype=tensor.dtype) if "wte" not in name and "wpe" not in name
                else tensor[:, :192].clone() for name, tensor in tensors.items()}

    weights(wide)(folder)
    config(n_head=None, n_embd=192)(folder)
    done = judge.convert(folder, out)
    assert "n_head" in done.stderr and "12" in done.stderr, done.stderr
    assert ggufs.Gguf(out).value("gpt2.attention.head_count") == 12


def test_an_empty_list_of_classes(good, tmp_path):
    folder = tmp_path / "hf"
    shutil.copytree(good("llama"), folder)
    config(architectures=[])(folder)
    done = judge.convert(folder, tmp_path / "out.gguf")
    assert "config.json names no class" in done.stderr and 'class ""' not in done.stderr, done.stderr
