"""The small models reference.py makes: one for each architecture and layout worth telling apart.

`class` and `config_class` are transformers' names; `config` its arguments. `forget` takes keys out
of the saved config.json, as older repositories lack them; `override` puts others in.
"""

SMALL = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)


def lm(name, prefix, **more):
    spec = {"name": name, "class": f"{prefix}ForCausalLM", "config_class": f"{prefix}Config"}
    config = dict(SMALL, **more.pop("config", {}))
    for key in more.pop("without", []):
        config.pop(key)
    return dict(spec, config=config, **more)


ROPE = ["rope_parameters"]

MODELS = [
    lm("qwen2", "Qwen2"),
    lm("qwen2-old", "Qwen2", table="qwen2", dtype="bfloat16", forget=ROPE, override={"rope_theta": 1000000.0}),
    lm("qwen3", "Qwen3", config=dict(head_dim=32, tie_word_embeddings=True)),
    lm("llama", "Llama", dtype="float16"),
    lm("llama-bias", "Llama", table="llama", config=dict(attention_bias=True, mlp_bias=False),
       forget=ROPE + ["head_dim", "num_key_value_heads"],
       override={"rope_scaling": {"type": "linear", "factor": 2.0}, "num_key_value_heads": 2}),
    lm("llama3", "Llama", table="llama", config=dict(
        tie_word_embeddings=True, head_dim=32,
        rope_parameters={"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192, "rope_theta": 500000.0})),
    lm("llama-yarn", "Llama", table="llama", config=dict(
        rope_parameters={"rope_type": "yarn", "factor": 4.0, "beta_fast": 32, "beta_slow": 1,
                         "original_max_position_embeddings": 32, "rope_theta": 10000.0})),
    lm("mistral", "Mistral", table="llama", config=dict(sliding_window=64, head_dim=32)),
]
