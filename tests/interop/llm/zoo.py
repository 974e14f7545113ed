"""The small random models of the suite: every tier-1 architecture, at sizes llama.cpp runs.

`class` and `config_class` are transformers' names, `config` its arguments, `vocab` a recipe of
vocab.py, `dtype` what the weights are saved as. `override` and `forget` change the saved config.json;
`extra` adds tensors that the hub's files have and transformers leaves out; `pre` names the pre-tokenizer.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch

import vocab

SEED = 20261121
SMALL = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512)
BERT = dict(hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=512)
# Sizes of latent attention that the runtime has seen: key length 96+32, value length 96.
MLA = dict(num_key_value_heads=4, kv_lora_rank=64, qk_rope_head_dim=32, qk_nope_head_dim=64, v_head_dim=64)
# Released configs say this; transformers, which knows no other function here, does not save it. Without it the
# runtime takes softmax, save for a model of exactly GLM-4.7-Flash's size.
SIGMOID = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
EXPERTS = dict(num_experts_per_tok=2, n_routed_experts=4, moe_intermediate_size=256)
POOLING = {"modules.json": [{"idx": 1, "name": "1", "path": "1_Pooling",
                             "type": "sentence_transformers.models.Pooling"}],
           "1_Pooling/config.json": {"pooling_mode_cls_token": True}}
MEAN = dict(POOLING, **{"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}})
QWEN35 = dict(num_hidden_layers=4, head_dim=64, linear_key_head_dim=64, linear_value_head_dim=64,
              linear_num_key_heads=2, linear_num_value_heads=4, linear_conv_kernel_dim=4)
NOMIC = dict(architectures=["NomicBertModel"], model_type="nomic_bert_remote", n_embd=256, n_layer=2,
             n_head=4, n_inner=512, n_positions=8192, max_trained_positions=2048,
             activation_function="swiglu", causal=False, qkv_proj_bias=False, mlp_fc1_bias=False,
             mlp_fc2_bias=False, prenorm=False, rotary_emb_fraction=1.0, rotary_emb_interleaved=False,
             rotary_emb_scale_base=None, rotary_emb_base=1000, layer_norm_epsilon=1e-12,
             type_vocab_size=2, pad_token_id=0)


def lm(name, prefix, vocab="chat", **more):
    config = dict(SMALL, **more.pop("config", {}))
    for key in more.pop("without", []):
        config.pop(key)
    return {"name": name, "table": name, "class": f"{prefix}ForCausalLM", "config_class": f"{prefix}Config",
            "vocab": vocab, "dtype": "bfloat16", "config": config, **more}


def encoder(name, prefix, vocab, **more):
    return {"name": name, "table": name, "class": f"{prefix}Model", "config_class": f"{prefix}Config",
            "vocab": vocab, "dtype": "float16", "encoder": True, "files": POOLING, **more}


def nomic_tensors(rows, experts):
    size, inner = 256, 512
    yield from [("embeddings.word_embeddings.weight", (rows, size)), ("emb_ln.weight", (size,)),
                ("emb_ln.bias", (size,)), ("embeddings.token_type_embeddings.weight", (1 if experts else 2, size))]
    for i in range(2):
        p = f"encoder.layers.{i}."
        yield from [(p + "attn.Wqkv.weight", (3 * size, size)), (p + "attn.out_proj.weight", (size, size))]
        for norm in ("norm1", "norm2"):
            yield from [(p + norm + ".weight", (size,)), (p + norm + ".bias", (size,))]
        if not experts:
            yield from [(p + "mlp.fc11.weight", (inner, size)), (p + "mlp.fc12.weight", (inner, size)),
                        (p + "mlp.fc2.weight", (size, inner))]
            continue
        yield from [(p + "attn.Wqkv.bias", (3 * size,)), (p + "attn.out_proj.bias", (size,))]
        if i % 2:
            yield from [(p + "mlp.experts.mlp.w1", (4 * inner, size)), (p + "mlp.experts.mlp.w2", (4 * inner, size)),
                        (p + "mlp.experts.bias", (size,)), (p + "mlp.router.layer.weight", (4, size))]
        else:
            yield from [(p + "mlp.fc1.weight", (inner, size)), (p + "mlp.fc1.bias", (inner,)),
                        (p + "mlp.fc2.weight", (size, inner)), (p + "mlp.fc2.bias", (size,))]


def gpt_oss_tensors(rows, experts):
    size, heads, inner = 256, 64, 256
    yield from [("model.embed_tokens.weight", (rows, size)), ("model.norm.weight", (size,)),
                ("lm_head.weight", (rows, size))]
    for i in range(2):
        p = f"model.layers.{i}."
        yield from [(p + "input_layernorm.weight", (size,)), (p + "post_attention_layernorm.weight", (size,)),
                    (p + "self_attn.sinks", (4,))]
        for part, out, into in (("q", 4, size), ("k", 2, size), ("v", 2, size)):
            yield from [(p + f"self_attn.{part}_proj.weight", (out * heads, into)),
                        (p + f"self_attn.{part}_proj.bias", (out * heads,))]
        yield from [(p + "self_attn.o_proj.weight", (size, 4 * heads)), (p + "self_attn.o_proj.bias", (size,)),
                    (p + "mlp.router.weight", (4, size)), (p + "mlp.router.bias", (4,)),
                    (p + "mlp.experts.gate_up_proj_blocks", (4, 2 * inner, size // 32, 16)),
                    (p + "mlp.experts.gate_up_proj_scales", (4, 2 * inner, size // 32)),
                    (p + "mlp.experts.gate_up_proj_bias", (4, 2 * inner)),
                    (p + "mlp.experts.down_proj_blocks", (4, size, inner // 32, 16)),
                    (p + "mlp.experts.down_proj_scales", (4, size, inner // 32)),
                    (p + "mlp.experts.down_proj_bias", (4, size))]


def nextn(tensors, spec):
    """A multi-token-prediction block kept beside the others, under the next number."""
    block, size = "model.layers.2.", 256
    rows = tensors["lm_head.weight"].shape[0]
    extra = {"eh_proj.weight": (size, 2 * size), "enorm.weight": (size,), "hnorm.weight": (size,),
             "shared_head.norm.weight": (size,), "shared_head.head.weight": (rows, size),
             "embed_tokens.weight": (rows, size)}
    for name, tensor in tensors.items():
        if name.startswith("model.layers.1."):
            extra[name.removeprefix("model.layers.1.")] = tuple(tensor.shape)
    kind = tensors["lm_head.weight"].dtype
    return dict(tensors, **{block + n: values(spec["name"], block + n, s).to(kind) for n, s in extra.items()})


def mtp(tensors, spec):
    """Qwen's multi-token-prediction block: a full attention layer like the last, under names of its own."""
    size, last = 256, "model.layers.3."
    extra = {"mtp.fc.weight": (size, 2 * size), "mtp.pre_fc_norm_embedding.weight": (size,),
             "mtp.pre_fc_norm_hidden.weight": (size,), "mtp.norm.weight": (size,)}
    for name, tensor in tensors.items():
        if name.startswith(last):
            extra["mtp.layers.0." + name.removeprefix(last)] = tuple(tensor.shape)
    kind = tensors["lm_head.weight"].dtype
    return dict(tensors, **{n: values(spec["name"], n, s).to(kind) for n, s in extra.items()})


GEMMA = dict(head_dim=64, sliding_window=64, query_pre_attn_scalar=64, tie_word_embeddings=True)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192, "rope_theta": 500000.0}

MODELS = [
    lm("llama", "Llama", "llama2", dtype="float16", shards=2),
    lm("llama3", "Llama", "llama3", table="llama", config=dict(
        tie_word_embeddings=True, rope_parameters=LLAMA3, max_position_embeddings=16384)),
    lm("llama-bias", "Llama", table="llama", dtype="float32", config=dict(
        attention_bias=True, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0})),
    lm("stablelm-bias", "StableLm", table="stablelm", config=dict(use_qkv_bias=True)),
    lm("mistral", "Mistral", "llama2", table="llama", config=dict(head_dim=64, sliding_window=None)),
    lm("qwen2", "Qwen2", "qwen2", config=dict(tie_word_embeddings=True)),
    lm("qwen3", "Qwen3", "qwen2", config=dict(head_dim=128, tie_word_embeddings=True)),
    lm("qwen3moe", "Qwen3Moe", config=dict(head_dim=64, num_experts=4, num_experts_per_tok=2, norm_topk_prob=True,
                                           moe_intermediate_size=256, decoder_sparse_step=1)),
    # Tokens of another vocabulary: the pre-tokenizer is named to both converters.
    lm("qwen35", "Qwen3_5", "qwen35", pre="qwen35", config_class="Qwen3_5TextConfig", config=QWEN35, extra=mtp,
       override={"mtp_num_hidden_layers": 1}),
    lm("qwen35moe", "Qwen3_5Moe", "qwen35", pre="qwen35", config_class="Qwen3_5MoeTextConfig",
       without=["intermediate_size"], extra=mtp, override={"mtp_num_hidden_layers": 1},
       config=dict(QWEN35, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=256,
                   shared_expert_intermediate_size=256)),
    lm("mixtral", "Mixtral", "llama2", config=dict(num_local_experts=4, num_experts_per_tok=2)),
    lm("ministral3", "Ministral3", table="mistral3", config=dict(head_dim=64, rope_parameters={
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1},
        max_position_embeddings=262144)),
    lm("gemma2", "Gemma2", "noprefix", config=GEMMA),
    lm("gemma3", "Gemma3", "noprefix", config_class="Gemma3TextConfig", config=dict(GEMMA, num_hidden_layers=6)),
    {"name": "embeddinggemma", "table": "gemma-embedding", "class": "Gemma3TextModel",
     "config_class": "Gemma3TextConfig", "vocab": "noprefix", "dtype": "float32", "encoder": True, "files": MEAN,
     "config": dict(SMALL, **GEMMA, num_hidden_layers=6, use_bidirectional_attention=True)},
    lm("gemma3-untied", "Gemma3", "noprefix", table="gemma3", config_class="Gemma3TextConfig",
       config=dict(GEMMA, tie_word_embeddings=False)),
    # Shared keys come from the last two layers that have their own: a sliding one and a full one, as released.
    lm("gemma4", "Gemma4", "noprefix", config_class="Gemma4TextConfig", config=dict(
        tie_word_embeddings=True,
        num_hidden_layers=4, head_dim=64, global_head_dim=128, num_kv_shared_layers=2, sliding_window=64,
        hidden_size_per_layer_input=32, vocab_size_per_layer_input=32000, use_double_wide_mlp=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"])),
    lm("gemma4-moe", "Gemma4", "noprefix", table="gemma4", config_class="Gemma4TextConfig", config=dict(
        tie_word_embeddings=False,
        head_dim=64, global_head_dim=128, num_kv_shared_layers=0, sliding_window=64, hidden_size_per_layer_input=0,
        num_global_key_value_heads=1, attention_k_eq_v=True, enable_moe_block=True, num_experts=4, top_k_experts=2,
        moe_intermediate_size=256, layer_types=["sliding_attention", "full_attention"])),
    {"name": "gpt-oss", "table": "gpt-oss", "vocab": "chat", "dtype": "bfloat16", "tensors": gpt_oss_tensors,
     "class": "GptOssForCausalLM", "config": dict(
        architectures=["GptOssForCausalLM"], model_type="gpt_oss", **dict(SMALL, intermediate_size=256), head_dim=64,
        num_local_experts=4, num_experts_per_tok=2, experts_per_token=2, sliding_window=128, rms_norm_eps=1e-5,
        rope_theta=150000, layer_types=["sliding_attention", "full_attention"], swiglu_limit=7.0,
        attention_bias=True, attention_dropout=0.0, hidden_act="silu", tie_word_embeddings=False,
        rope_scaling=dict(beta_fast=32.0, beta_slow=1.0, factor=32.0, original_max_position_embeddings=4096,
                          rope_type="yarn", truncate=False),
        quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=[
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])),
     "override": {"max_position_embeddings": 131072, "initial_context_length": 4096}},
    lm("gpt-oss-bf16", "GptOss", table="gpt-oss", config=dict(
        head_dim=64, num_local_experts=4, num_experts_per_tok=2, sliding_window=128, intermediate_size=256,
        layer_types=["sliding_attention", "full_attention"])),
    lm("phi3", "Phi3", "llama2", config=dict(sliding_window=None, original_max_position_embeddings=512)),
    lm("phi3-long", "Phi3", "chat", table="phi3", tokenizer_class="GPT2Tokenizer", config=dict(
        max_position_embeddings=1024, original_max_position_embeddings=512,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0,
                         "short_factor": [1.0 + i / 32 for i in range(32)],
                         "long_factor": [2.0 + i / 16 for i in range(32)]})),
    lm("deepseek2", "DeepseekV2", config=dict(MLA, **EXPERTS, q_lora_rank=96, first_k_dense_replace=1, topk_method="greedy",
                                              n_shared_experts=1, routed_scaling_factor=1.0)),
    lm("deepseek3", "DeepseekV3", config=dict(
        MLA, **EXPERTS, q_lora_rank=96, first_k_dense_replace=1, n_group=1, topk_group=1, n_shared_experts=1),
       override=SIGMOID),
    # Queries without a latent, as a null says.
    lm("deepseek3-noq", "DeepseekV3", table="deepseek3", config=dict(
        MLA, **EXPERTS, q_lora_rank=None, first_k_dense_replace=1, n_group=1, topk_group=1, n_shared_experts=1),
       override=SIGMOID),
    lm("granitemoe-shared", "GraniteMoeShared", table="granitemoe", config=dict(
        num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=256, embedding_multiplier=12.0,
        logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.015625)),
    lm("glm4-flash", "Glm4MoeLite", table="deepseek2-glm", config=dict(
        MLA, **EXPERTS, q_lora_rank=96, first_k_dense_replace=1, mlp_layer_types=["dense", "sparse"],
        n_shared_experts=1), extra=nextn, override={"num_nextn_predict_layers": 1, **SIGMOID}),
    lm("granite", "Granite", config=dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
                                         attention_multiplier=0.015625)),
    lm("smollm3", "SmolLM3", config=dict(num_hidden_layers=4)),
    lm("olmo2", "Olmo2"),
    lm("olmo3", "Olmo3", table="olmo2", config=dict(num_hidden_layers=4, sliding_window=64)),
    lm("glm4", "Glm4", config=dict(head_dim=64)),
    lm("glm4moe", "Glm4Moe", config=dict(EXPERTS, head_dim=64, first_k_dense_replace=1, use_qk_norm=True,
                                         n_shared_experts=1, num_nextn_predict_layers=1), extra=nextn),
    encoder("bert", "Bert", "bert", config=BERT),
    # GPT-2's tokens in another order than RoBERTa's, which llama.cpp's tree does not have: no converter can
    # know the ids it recognizes a pre-tokenizer by, so it is named to both.
    encoder("roberta", "Roberta", "roberta", pre="roberta-bpe", config=dict(BERT, max_position_embeddings=514, type_vocab_size=1)),
    encoder("xlm-roberta", "XLMRoberta", "unigram", config=dict(BERT, max_position_embeddings=514, type_vocab_size=1)),
    {"name": "nomic-bert", "table": "nomic-bert", "vocab": "bert", "dtype": "float32", "encoder": True, "files": MEAN,
     "tensors": nomic_tensors, "config": NOMIC},
    {"name": "nomic-bert-moe", "table": "nomic-bert-moe", "vocab": "unigram", "dtype": "float32", "encoder": True,
     "files": MEAN, "tensors": nomic_tensors, "experts": True, "config": dict(
        NOMIC, n_positions=2048, activation_function="gelu", qkv_proj_bias=True, mlp_fc1_bias=True, mlp_fc2_bias=True,
        moe_every_n_layers=2, num_experts=4, moe_top_k=2, pad_token_id=1, max_position_embeddings=512,
        type_vocab_size=1)},
    {"name": "gpt2", "table": "gpt2", "class": "GPT2LMHeadModel", "config_class": "GPT2Config", "vocab": "gpt2",
     "dtype": "float16", "config": dict(n_embd=256, n_layer=2, n_head=4, n_positions=512), "override": {"n_ctx": 512}},
]
BY_NAME = {spec["name"]: spec for spec in MODELS}

# What CI runs: one for each kind of vocabulary and each kind of work on tensors.
CROSS_SECTION = ["llama", "qwen2", "gemma3", "mixtral", "gpt2", "bert", "deepseek3"]


def values(model, name, shape):
    """Seeded values for one tensor, of a spread that keeps activations near one."""
    seed = np.frombuffer(f"{SEED}/{model}/{name}".encode(), np.uint8)
    x = np.random.Generator(np.random.PCG64(seed.astype(np.uint32))).standard_normal(shape, dtype=np.float32)
    leaf = name.rsplit(".", 1)[-1]
    if any(part in name for part in ("embed_tokens", "wte", "word_embeddings", "lm_head")):
        x *= 0.0625
    elif any(part in name for part in ("wpe", "position_embeddings", "token_type")):
        x *= 0.05
    elif leaf in ("bias", "sinks", "dt_bias") or leaf.endswith("_bias"):
        x *= 0.05
    elif len(shape) <= 1:
        x = 0.1 * x + 1.0
    elif name.endswith(("gate.weight", "router.weight", "router.layer.weight", "router.proj.weight")):
        x *= 0.2
    else:
        x *= min(0.1, max(0.045, 1.28 / shape[-1] ** 0.5))
    return torch.from_numpy(np.ascontiguousarray(x))


def build(spec, folder, models):
    """Writes the repository of a model; `models` is llama.cpp's folder of vocabularies."""
    import transformers
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, bos, eos, pad = vocab.write(spec["vocab"], folder, models)
    if "tokenizer_class" in spec:
        path = folder / "tokenizer_config.json"
        text = json.loads(path.read_text(encoding="utf-8"))
        vocab.dump(path, dict(text, tokenizer_class=spec["tokenizer_class"]))
    kind = getattr(torch, spec["dtype"])
    if "tensors" in spec:
        from safetensors.torch import save_file
        made = {}
        for name, shape in spec["tensors"](rows, spec.get("experts", False)):
            if name.endswith("_blocks"):
                made[name] = (values(spec["name"], name, shape) * 64).to(torch.int32).bitwise_and(255).to(torch.uint8)
            elif name.endswith("_scales"):
                made[name] = (122 + values(spec["name"], name, shape).round().clip(-1, 1)).to(torch.uint8)
            else:
                made[name] = values(spec["name"], name, shape).to(kind)
        save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
        config = dict(spec["config"], vocab_size=rows, torch_dtype=spec["dtype"])
        for key, value in (("bos_token_id", bos), ("eos_token_id", eos)):
            if value is not None:
                config[key] = value
    else:
        ends = {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad}
        arguments = dict({"tie_word_embeddings": False} if not spec.get("encoder") else {},
                         **spec["config"], vocab_size=rows, **ends)
        made = getattr(transformers, spec["config_class"])(**arguments)
        torch.manual_seed(SEED)  # for A_log, which keeps what its class gives it
        model = getattr(transformers, spec["class"])._from_config(made, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
                learned = isinstance(parameter, torch.nn.Parameter) or name.endswith("e_score_correction_bias")
                if learned and not name.endswith("A_log"):
                    parameter.copy_(values(spec["name"], name, tuple(parameter.shape)))
        model = model.to(kind)
        size = sum(p.numel() * p.element_size() for p in model.parameters())
        most = size * 3 // 5 if spec.get("shards") else size + (64 << 20)
        model.save_pretrained(folder, max_shard_size=most)
        if "extra" in spec:
            from safetensors.torch import load_file, save_file
            path = folder / "model.safetensors"
            save_file(spec["extra"](load_file(path), spec), path, metadata={"format": "pt"})
        config = json.loads((folder / "config.json").read_text())
    for key in spec.get("forget", []):
        config.pop(key, None)
    config.update(spec.get("override", {}))
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name, text in spec.get("files", {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(text))
    (folder / "generation_config.json").unlink(missing_ok=True)
    if not spec.get("encoder") and eos is not None:
        text = {"do_sample": True, "eos_token_id": eos, "temperature": 0.7, "top_p": 0.9, "top_k": 40}
        (folder / "generation_config.json").write_text(json.dumps(dict(text, bos_token_id=bos) if bos else text))
    return folder


os.environ.setdefault("HF_HUB_OFFLINE", "1")
