"""Decoder graphs: which keys of `config.json` count, family by family. transformers' class decides.

Each case writes a repository, changes its `config.json`, and compares the logits of the graph with those that
transformers computes from the changed file.
"""

import dataclasses
import json

import numpy as np
import pytest

from judge import REFUSED, convert, run
from test_decoder import CASES, EXACT, Graph, build, truth
import transformers

ROPE = ("rope_parameters", "rope_scaling", "rope_theta")
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 32}
FULL, SLIDING = "full_attention", "sliding_attention"


def configured(base, folder, drop=(), change=None, **set_):
    """A repository of `base`, built with `change`; then its config.json loses `drop` and is given `set_`."""
    build(base, folder, **(change or {}))
    path = folder / "config.json"
    config = {key: value for key, value in json.loads(path.read_text()).items() if key not in drop}
    path.write_text(json.dumps(config | set_))
    return folder


FIVE = dict(num_hidden_layers=5, sliding_window=5)
OWN = {
    # AutoConfig takes a mistral with layer_types for a ministral.
    "mistral-listed": ("mistral", dict(layer_types=[FULL, SLIDING])),
    "mistral-listed-full": ("mistral", dict(layer_types=[FULL, FULL])),
    "mistral-listed-null": ("mistral", dict(layer_types=None)),
    "ministral": ("mistral", dict(model_type="ministral", architectures=["MinistralForCausalLM"], head_dim=16,
                                  layer_types=[FULL, SLIDING])),
    "ministral-unlisted": ("mistral", dict(model_type="ministral", architectures=["MinistralForCausalLM"], head_dim=16)),
    "gemma2-scalar": ("gemma2", dict(drop=["query_pre_attn_scalar"])),
    "gemma3-scalar": ("gemma3", dict(drop=["query_pre_attn_scalar"])),
    "gemma3-caps": ("gemma3", dict(attn_logit_softcapping=3.0, final_logit_softcapping=4.0)),
    "gemma3-pattern": ("gemma3", dict(drop=["layer_types"], sliding_window_pattern=2)),
    "gemma-activation": ("gemma", dict(hidden_activation="relu")),
    "smollm3-window": ("smollm3", dict(change=FIVE, drop=["layer_types"], use_sliding_window=True)),
    "smollm3-window-interval": ("smollm3", dict(change=FIVE, drop=["layer_types", "no_rope_layers"],
                                                use_sliding_window=True, no_rope_layer_interval=2)),
    "smollm3-listed": ("smollm3", dict(change=FIVE, layer_types=[SLIDING, FULL] * 2 + [SLIDING])),
    "smollm3-listed-off": ("smollm3", dict(change=FIVE, layer_types=[SLIDING] * 5, use_sliding_window=False)),
    "granite-head": ("granite", dict(change=dict(head_dim=24))),
    "yarn-attention-0": ("llama", dict(rope_parameters=YARN | {"attention_factor": 0.0})),
    "yarn-mscale-0": ("llama", dict(rope_parameters=YARN | {"mscale": 0.0, "mscale_all_dim": 1.0})),
    "yarn-truncate": ("llama", dict(rope_parameters=YARN | {"truncate": False})),
    "olmo3-theta": ("olmo3", dict(drop=ROPE, rope_theta=1e4)),
    "olmo3-flat": ("olmo3", dict(drop=ROPE, rope_parameters={"rope_type": "default", "rope_theta": 1e4})),
    # transformers reads `truncate` beside the layer types, not below them.
    "olmo3-truncate": ("olmo3", dict(drop=ROPE, rope_parameters={FULL: YARN | {"truncate": False},
                                                                 SLIDING: {"rope_type": "default", "rope_theta": 1e4}})),
}


@pytest.mark.parametrize("name", OWN)
def test_a_familys_own_keys(name, tmp_path):
    base, more = OWN[name]
    folder, path = configured(base, tmp_path / "hf", **more), tmp_path / "m.onnx"
    wanted = truth(folder)
    convert(folder, path)
    assert Graph(path).distance(wanted) <= EXACT


# Every key that any family's graph depends on, with a value that would show.
KEYS = dict(
    n_embd=32, n_head=2, n_layer=1, n_positions=8, n_layers=1, num_layers=1, block_count=1, layer_norm_epsilon=0.3,
    activation_function="relu", scale_attn_weights=False, scale_attn_by_inverse_layer_idx=True, add_cross_attention=True,
    rms_norm_eps=0.3, hidden_act="relu", hidden_activation="relu", num_key_value_heads=1, head_dim=8,
    attn_logit_softcapping=1.0, final_logit_softcapping=1.0, query_pre_attn_scalar=5, use_bidirectional_attention=True,
    embedding_multiplier=3.0, residual_multiplier=0.3, logits_scaling=5.0, attention_multiplier=0.7,
    sliding_window=3, layer_types=None, use_sliding_window=True, max_window_layers=0, sliding_window_pattern=2,
    no_rope_layers=[0] * 8, no_rope_layer_interval=1, rope_local_base_freq=50.0, local_rope_theta=50.0,
    global_rope_theta=50.0, rotary_emb_base=50.0, rope_pct=0.5, rope={"rope_theta": 50.0},
    rope_all={SLIDING: {"rope_theta": 50.0}}, partial_rotary_factor=0.5, original_max_position_embeddings=16,
)
# Not fields of a class, but read by attribute or by the part that reads rope, which all but gpt2 have.
ROPED = {"head_dim", "partial_rotary_factor", "original_max_position_embeddings"}


def foreign(base):
    """The keys that the class of a family has no field for, and the number of its layers."""
    config = getattr(transformers, CASES[base][1])
    own = {field.name for field in dataclasses.fields(config)} | set(config.attribute_map)
    own |= {"gpt2": set(), "gemma3": {"sliding_window_pattern", "rope_local_base_freq"}}.get(base, set())
    own |= ROPED if base != "gpt2" else set()
    # With it a mistral is no mistral: tested above.
    own |= {"layer_types"} if base == "mistral" else set()
    made = {key: value for key, value in KEYS.items() if key not in own}
    if "layer_types" in made:
        layers = CASES[base][2].get("num_hidden_layers", CASES[base][2].get("n_layer"))
        made["layer_types"] = [SLIDING] * layers
    return made


FAMILIES = ["llama", "llama-linear", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "phi3-short", "gpt2",
            "granite", "smollm3", "olmo2", "olmo3"]


@pytest.mark.parametrize("base", FAMILIES)
def test_keys_of_other_families_change_nothing(base, tmp_path):
    keys = foreign(base)
    assert len(keys) > 15
    plain = truth(build(base, tmp_path / "plain"))
    folder = configured(base, tmp_path / "hf", **keys)
    wanted = truth(folder)
    # That is what makes a key foreign.
    assert np.array_equal(plain, wanted)
    convert(folder, tmp_path / "m.onnx")
    assert Graph(tmp_path / "m.onnx").distance(wanted) <= EXACT


@pytest.mark.parametrize("base, key, value, word", [
    ("llama", "is_causal", False, "both directions"),
    ("gemma3", "use_bidirectional_attention", True, "both directions"),
    ("gpt2", "add_cross_attention", True, "cross attention"),
    ("llama", "per_layer_config", {"0": {"sliding_window": 3}}, "per_layer_config"),
    ("mistral", "layer_types", [FULL, "linear_attention"], "linear_attention"),
    ("gemma2", "query_pre_attn_scalar", 0, "query_pre_attn_scalar"),
    # transformers fails at these too: only phi3 turns a part of the dimensions; the window is off.
    ("llama-linear", "partial_rotary_factor", 0.5, "turns 16 of 32"),
    ("qwen3", "layer_types", [SLIDING, FULL], "sliding_window"),
])
def test_keys_that_make_another_model_are_refused(base, key, value, word, tmp_path):
    folder = configured(base, tmp_path / "hf", **{key: value})
    done = run("convert", folder, tmp_path / "m.onnx")
    assert done.returncode == REFUSED and word in done.stderr, done.stderr
