"""Small models of several architectures, random weights, made with gguf-py.

llama-quantize reads hyperparameters, names and shapes; it does not check that they fit each
other. So rows are few and layers are many: the rules look at layer numbers.
"""

import gguf
import numpy as np

F32, F16, BF16 = (gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "BF16"))


def decoder(layers, embd=256, ff=512, rows=4, gqa=1, output=True, gate=True, experts=0,
            qkv=False, norms=("attn_norm", "ffn_norm"), extra=()):
    """`(name, row-major shape)` of a usual decoder."""
    tensors = [("token_embd.weight", (rows * 2, embd)), ("output_norm.weight", (embd,))]
    if output:
        tensors.append(("output.weight", (rows * 2, embd)))
    tensors += extra
    stack = (experts,) if experts else ()
    suffix = "_exps" if experts else ""
    for i in range(layers):
        block = f"blk.{i}."
        tensors += [(f"{block}{norm}.weight", (embd,)) for norm in norms]
        if qkv:
            tensors.append((f"{block}attn_qkv.weight", (rows * 3, embd)))
            tensors.append((f"{block}attn_qkv.bias", (rows * 3,)))
        else:
            tensors += [(f"{block}attn_q.weight", (rows * gqa, embd)),
                        (f"{block}attn_k.weight", (rows, embd)),
                        (f"{block}attn_v.weight", (rows, embd))]
        tensors.append((f"{block}attn_output.weight", (rows, embd)))
        if gate:
            tensors.append((f"{block}ffn_gate{suffix}.weight", (*stack, rows, embd)))
        if experts:
            tensors.append((f"{block}ffn_gate_inp.weight", (experts, embd)))
        tensors += [(f"{block}ffn_up{suffix}.weight", (*stack, rows, embd)),
                    (f"{block}ffn_down{suffix}.weight", (*stack, rows, ff))]
    return tensors


def hyper(arch, layers, heads=8, kv=8, embd=256, ff=512, rms=True, **more):
    keys = {
        "context_length": 128, "embedding_length": embd, "block_count": layers,
        "feed_forward_length": ff, "attention.head_count": heads,
        "attention.head_count_kv": kv,
        "attention.layer_norm_rms_epsilon" if rms else "attention.layer_norm_epsilon": 1e-5,
        **more,
    }
    return {"general.architecture": arch,
            **{f"{arch}.{key.replace('__', '.')}": value for key, value in keys.items()}}


def deepseek(layers):
    tensors = [("token_embd.weight", (8, 256)), ("output.weight", (8, 256))]
    for i in range(layers):
        block = f"blk.{i}."
        tensors += [(block + "attn_norm.weight", (256,)), (block + "attn_q_a.weight", (4, 256)),
                    (block + "attn_q_b.weight", (4, 256)), (block + "attn_kv_a_mqa.weight", (4, 256)),
                    (block + "attn_kv_b.weight", (4, 256)), (block + "attn_k_b.weight", (2, 4, 128)),
                    (block + "attn_v_b.weight", (2, 4, 256)), (block + "attn_output.weight", (4, 256)),
                    (block + "exp_probs_b.bias", (16,))]
        if i == 0:
            tensors += [(block + f"ffn_{kind}.weight", (4, 256)) for kind in ("gate", "up", "down")]
        else:
            tensors += [(block + f"ffn_{kind}_{part}.weight", (*stack, 4, 256))
                        for kind in ("gate", "up", "down")
                        for part, stack in (("exps", (16,)), ("shexp", ()))]
            tensors.append((block + "ffn_gate_inp.weight", (16, 256)))
    return tensors


def encoder(layers):
    tensors = [("token_embd.weight", (8, 256)), ("position_embd.weight", (8, 256)),
               ("token_types.weight", (2, 256)), ("token_embd_norm.weight", (256,))]
    for i in range(layers):
        tensors += [(f"blk.{i}.{name}.weight", (4, 512 if name == "ffn_down" else 256))
                    for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")]
        tensors += [(f"blk.{i}.attn_output_norm.weight", (256,)), (f"blk.{i}.attn_q.bias", (4,))]
    return tensors


def odd():
    """Row lengths that hold few blocks, and shapes with ones."""
    tensors = [("token_embd.weight", (8, 96)), ("output.weight", (8, 320)),
               ("rope_freqs.weight", (48,)), ("a.b.c", (4, 256)), ("lm_hd", (4, 256))]
    widths = (32, 48, 64, 96, 128, 160, 192, 224, 320, 384, 2, 1)
    for i, width in enumerate(widths):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_gate", "ffn_down"):
            tensors.append((f"blk.{i}.{name}.weight", (4, width)))
        tensors += [(f"blk.{i}.one_row.weight", (1, 256)), (f"blk.{i}.one_stack.weight", (1, 4, 256)),
                    (f"blk.{i}.stack_of_rows.weight", (3, 1, 256))]
    return tensors


RWKV = [(f"blk.{i}.{name}.weight", (4, 256)) for i in range(3) for name in (
    "time_mix_w0", "time_mix_w1", "time_mix_a1", "time_mix_g1", "time_mix_key", "time_mix_value",
    "time_mix_lerp_fused", "time_mix_first", "time_mix_decay_w1", "channel_mix_key", "altup_proj",
    "laurel_l", "ssm_conv1d", "shortconv.conv", "ssm_in", "indexer.k_proj", "indexer.proj",
    "cross_attn_q", "attn_rel_b", "ffn_gate_tid2eid", "per_layer_model_proj", "attn_q_norm")]

MOE = {"expert_used_count": 2}

MODELS = {
    "llama": (hyper("llama", 16), decoder(16)),
    "llama-gqa-tied": (hyper("llama", 17, kv=2), decoder(17, gqa=4, output=False)),
    "llama-70b": (hyper("llama", 80, heads=64, kv=8), decoder(80, rows=2, gqa=8)),
    "mixtral": (hyper("llama", 16, kv=2, expert_count=8, **MOE), decoder(16, experts=8, rows=2)),
    "qwen2": (hyper("qwen2", 24, heads=14, kv=2, ff=352), decoder(24, gqa=7, ff=352, output=False)),
    "qwen3moe": (hyper("qwen3moe", 10, kv=1, expert_count=4, **MOE),
                 decoder(10, experts=4, rows=2)),
    "gemma2": (hyper("gemma2", 26, kv=4, attention__key_length=32, attention__value_length=32,
                     attention__sliding_window=64),
               decoder(26, output=False, norms=("attn_norm", "post_attention_norm", "ffn_norm",
                                                "post_ffw_norm"))),
    "gpt2": (hyper("gpt2", 12, rms=False),
             decoder(12, qkv=True, gate=False, extra=[("position_embd.weight", (8, 256))])),
    "falcon": (hyper("falcon", 32, heads=8, kv=1, rms=False),
               decoder(32, qkv=True, gate=False, norms=("attn_norm",))),
    "phi3": (hyper("phi3", 9, rope__dimension_count=32), decoder(9, qkv=True, gate=False)),
    "bert": (hyper("bert", 12, rms=False, attention__causal=False), encoder(12)),
    "deepseek2": (hyper("deepseek2", 9, kv=1, expert_count=16, expert_feed_forward_length=4,
                        expert_shared_count=1, leading_dense_block_count=1,
                        attention__kv_lora_rank=128, attention__q_lora_rank=64,
                        expert_weights_scale=1.0, **MOE), deepseek(9)),
    "odd": (hyper("llama", 12, kv=2), odd()),
    "names": (hyper("llama", 3), [("token_embd.weight", (8, 256)),
                                  ("per_layer_token_embd.weight", (8, 256)), *RWKV]),
}


def write(path, metadata, tensors, dtype=F32, seed=1, scale=1.0, split=0):
    """Writes the model; answers nothing. Matrices get `dtype`, vectors stay F32."""
    rng = np.random.default_rng(seed)
    kinds = {} if not split else {"split_max_tensors": split}
    arch = metadata.get("general.architecture", "")
    writer = gguf.GGUFWriter(path, arch, **kinds)
    for key, value in metadata.items():
        if key == "general.architecture":
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        else:
            writer.add_array(key, value)
    writer.add_file_type(int({F32: 0, F16: 1, BF16: 32}.get(dtype, 0)))
    writer.add_string("general.name", "a model")
    for name, shape in tensors:
        data = (rng.standard_normal(shape) * scale).astype(np.float32)
        kind = dtype if len(shape) > 1 else F32
        if kind == F32:
            writer.add_tensor(name, data)
        else:
            packed = gguf.quants.quantize(data, kind)
            writer.add_tensor(name, packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def description(metadata, tensors, dtype="F32"):
    """The model as `recipe_dump` and the golden files describe it."""
    keys = {key: value for key, value in metadata.items()
            if isinstance(value, (int, str)) and not isinstance(value, bool)}
    return {"metadata": keys,
            "tensors": [[name, list(shape), dtype if len(shape) > 1 else "F32"]
                        for name, shape in tensors]}
