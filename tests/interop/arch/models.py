"""The small models reference.py makes: one for each architecture and layout worth telling apart.

`class` and `config_class` are transformers' names; `config` its arguments. `forget` takes keys out
of the saved config.json, as older repositories lack them; `override` puts others in. Where
transformers has no such class, `tensors` lists names, types and shapes as the hub's files have
them. `repo` are facts of the repository beside its config, which `files` put there.
"""

SMALL = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128)

# Gemma's converter counts the tokens there really are: 80 of 96 here.
VOCAB80 = {
    "repo": {"vocab_tokens": 80},
    "files": {"tokenizer.json": {"model": {"type": "BPE", "vocab": {str(i): i for i in range(78)}, "merges": []},
                                 "added_tokens": [{"id": 78, "content": "a"}, {"id": 79, "content": "b"}]}},
}
VOCAB96 = {
    "files": {"tokenizer.json": {"model": {"type": "BPE", "vocab": {str(i): i for i in range(96)}, "merges": []},
                                 "added_tokens": []}},
}
POOLING = {"modules.json": [{"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}],
           "1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}
CLS = dict(POOLING, **{"1_Pooling/config.json": {"pooling_mode_cls_token": True}})
WORDPIECE = {"tokenizer.json": {"model": {"type": "WordPiece", "vocab": {}}}}
UNIGRAM = {"tokenizer.json": {"model": {"type": "Unigram", "vocab": []}}}
BERT = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
            max_position_embeddings=128)
MLA = dict(kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=24)
NOMIC = dict(architectures=["NomicBertModel"], model_type="nomic_bert_remote", vocab_size=96, n_embd=64, n_layer=2, n_head=4,
             n_inner=96, n_positions=8192, max_trained_positions=2048, activation_function="swiglu", causal=False,
             qkv_proj_bias=False, mlp_fc1_bias=False, mlp_fc2_bias=False, prenorm=False, rotary_emb_fraction=1.0,
             rotary_emb_interleaved=False, rotary_emb_scale_base=None, rotary_emb_base=1000, layer_norm_epsilon=1e-12,
             type_vocab_size=2, pad_token_id=0)
NOMIC_MOE = dict(NOMIC, n_positions=2048, activation_function="gelu", qkv_proj_bias=True, mlp_fc1_bias=True,
                 mlp_fc2_bias=True, moe_every_n_layers=2, num_experts=4, moe_top_k=2, pad_token_id=1,
                 max_position_embeddings=514)
GPT_OSS = dict(architectures=["GptOssForCausalLM"], model_type="gpt_oss", vocab_size=96, hidden_size=64,
               intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
               num_local_experts=4, num_experts_per_tok=2, experts_per_token=2, sliding_window=64,
               max_position_embeddings=131072, initial_context_length=4096, rms_norm_eps=1e-5, rope_theta=150000,
               layer_types=["sliding_attention", "full_attention"],
               rope_scaling=dict(beta_fast=32.0, beta_slow=1.0, factor=32.0, original_max_position_embeddings=4096,
                                 rope_type="yarn", truncate=False),
               quantization_config=dict(quant_method="mxfp4", modules_to_not_convert=["model.layers.*.self_attn"]))
QWEN35 = dict(num_hidden_layers=4, head_dim=32, linear_key_head_dim=16, linear_value_head_dim=8, linear_num_key_heads=2,
              linear_num_value_heads=4, linear_conv_kernel_dim=4)


def nomic(layers):
    yield from [["embeddings.word_embeddings.weight", "F32", [96, 64]], ["embeddings.token_type_embeddings.weight", "F32", [2, 64]],
                ["emb_ln.weight", "F32", [64]], ["emb_ln.bias", "F32", [64]]]
    for i in range(layers):
        p = f"encoder.layers.{i}."
        yield from [[p + "attn.Wqkv.weight", "F32", [192, 64]], [p + "attn.out_proj.weight", "F32", [64, 64]],
                    [p + "mlp.fc11.weight", "F32", [96, 64]], [p + "mlp.fc12.weight", "F32", [96, 64]],
                    [p + "mlp.fc2.weight", "F32", [64, 96]]]
        for norm in ("norm1", "norm2"):
            yield from [[p + norm + ".weight", "F32", [64]], [p + norm + ".bias", "F32", [64]]]


def nomic_moe(layers):
    for name, kind, shape in nomic(layers):
        if ".mlp." not in name:
            yield [name, kind, shape]
    for i in range(layers):
        p = f"encoder.layers.{i}."
        yield from [[p + "attn.Wqkv.bias", "F32", [192]], [p + "attn.out_proj.bias", "F32", [64]]]
        if i % 2:
            yield from [[p + "mlp.experts.mlp.w1", "F32", [4 * 96, 64]], [p + "mlp.experts.mlp.w2", "F32", [4 * 96, 64]],
                        [p + "mlp.experts.bias", "F32", [64]], [p + "mlp.router.layer.weight", "F32", [4, 64]]]
        else:
            yield from [[p + "mlp.fc1.weight", "F32", [96, 64]], [p + "mlp.fc1.bias", "F32", [96]],
                        [p + "mlp.fc2.weight", "F32", [64, 96]], [p + "mlp.fc2.bias", "F32", [64]]]


def gpt_oss(layers):
    yield from [["model.embed_tokens.weight", "BF16", [96, 64]], ["model.norm.weight", "BF16", [64]],
                ["lm_head.weight", "BF16", [96, 64]]]
    for i in range(layers):
        p = f"model.layers.{i}."
        yield from [[p + "input_layernorm.weight", "BF16", [64]], [p + "post_attention_layernorm.weight", "BF16", [64]],
                    [p + "self_attn.sinks", "BF16", [4]]]
        for name, rows, columns in (("q", 64, 64), ("k", 32, 64), ("v", 32, 64), ("o", 64, 64)):
            yield from [[p + f"self_attn.{name}_proj.weight", "BF16", [rows, columns]],
                        [p + f"self_attn.{name}_proj.bias", "BF16", [rows]]]
        yield from [[p + "mlp.router.weight", "BF16", [4, 64]], [p + "mlp.router.bias", "BF16", [4]],
                    [p + "mlp.experts.gate_up_proj_blocks", "U8", [4, 128, 2, 16]],
                    [p + "mlp.experts.gate_up_proj_scales", "U8", [4, 128, 2]],
                    [p + "mlp.experts.gate_up_proj_bias", "BF16", [4, 128]],
                    [p + "mlp.experts.down_proj_blocks", "U8", [4, 64, 2, 16]],
                    [p + "mlp.experts.down_proj_scales", "U8", [4, 64, 2]],
                    [p + "mlp.experts.down_proj_bias", "BF16", [4, 64]]]


def on_the_hub(tensors):
    """Qwen3-VL's released experts: `[expert, from, to]`, where transformers 5 saves `[expert, to, from]`."""
    turned = lambda t: t.reshape(t.shape[0], t.shape[2], t.shape[1])
    return {name: turned(t) if ".mlp.experts." in name else t for name, t in tensors.items()}


def mtp(tensors, like="model.layers.3."):
    """Adds a multi-token-prediction block as the hub's files have it: transformers does not keep it."""
    import torch
    from reference import pattern

    extra = {"mtp.fc.weight": (64, 128), "mtp.norm.weight": (64,), "mtp.pre_fc_norm_embedding.weight": (64,),
             "mtp.pre_fc_norm_hidden.weight": (64,)}
    for name in tensors:
        if name.startswith(like):
            extra["mtp.layers.0." + name[len(like):]] = tuple(tensors[name].shape)
    made = {n: torch.from_numpy(pattern(n, s, "F32")) for n, s in extra.items()}
    return dict(tensors, **made)


mtp_moe = mtp


def nextn(tensors):
    """The same for models that keep the block beside the others, under the next number."""
    import torch
    from reference import pattern

    p = "model.layers.2."
    extra = {p + "eh_proj.weight": (64, 128), p + "enorm.weight": (64,), p + "hnorm.weight": (64,),
             p + "shared_head.norm.weight": (64,), p + "shared_head.head.weight": (96, 64), p + "embed_tokens.weight": (96, 64)}
    for name in tensors:
        if name.startswith("model.layers.1."):
            extra[p + name[len(p):]] = tuple(tensors[name].shape)
    made = {n: torch.from_numpy(pattern(n, s, "F32")) for n, s in extra.items()}
    return dict(tensors, **made)


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
    lm("qwen3moe", "Qwen3Moe", config=dict(head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                           decoder_sparse_step=1)),
    lm("gemma2", "Gemma2", config=dict(head_dim=32, sliding_window=64, query_pre_attn_scalar=32)),
    lm("gemma2-bf16", "Gemma2", table="gemma2", dtype="bfloat16", config=dict(head_dim=16)),
    lm("gemma3", "Gemma3", config_class="Gemma3TextConfig", config=dict(head_dim=32, sliding_window=64), **VOCAB80),
    lm("gemma3-old", "Gemma3", table="gemma3", dtype="float16", config_class="Gemma3TextConfig",
       config=dict(head_dim=32, sliding_window=64), forget=ROPE + ["layer_types"],
       override={"rope_theta": 1000000.0, "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6,
                 "rope_scaling": {"rope_type": "linear", "factor": 8.0}}, **VOCAB80),
    lm("gemma3-untied", "Gemma3", table="gemma3", config_class="Gemma3TextConfig",
       config=dict(head_dim=32, sliding_window=64, tie_word_embeddings=False), **VOCAB96),
    {"name": "gemma3-vlm", "table": "gemma3", "class": "Gemma3ForConditionalGeneration", "config_class": "Gemma3Config",
     "config": {"text_config": dict(SMALL, head_dim=32, sliding_window=64), "mm_tokens_per_image": 4,
                "vision_config": dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                                      image_size=16, patch_size=8)}, **VOCAB80},
    {"name": "embeddinggemma", "table": "gemma-embedding", "class": "Gemma3TextModel", "config_class": "Gemma3TextConfig",
     "config": dict(SMALL, head_dim=32, sliding_window=64, use_bidirectional_attention=True),
     "override": {"sliding_window": 64}, "repo": {"vocab_tokens": 80, "pooling_type": 1},
     "files": dict(VOCAB80["files"], **POOLING)},
    lm("mixtral", "Mixtral", config=dict(num_local_experts=4, num_experts_per_tok=2)),
    {"name": "gpt2", "class": "GPT2LMHeadModel", "config_class": "GPT2Config",
     "config": dict(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128), "override": {"n_ctx": 128}},
    {"name": "bert", "class": "BertModel", "config_class": "BertConfig", "config": BERT,
     "repo": {"pooling_type": 2}, "files": CLS},
    {"name": "bert-classes", "table": "bert", "class": "BertForSequenceClassification", "config_class": "BertConfig",
     "config": dict(BERT, num_labels=3)},
    {"name": "roberta", "class": "RobertaModel", "config_class": "RobertaConfig", "config": dict(BERT, max_position_embeddings=130)},
    {"name": "xlm-roberta", "class": "XLMRobertaModel", "config_class": "XLMRobertaConfig",
     "config": dict(BERT, max_position_embeddings=130), "files": UNIGRAM},
    {"name": "bge-reranker", "table": "xlm-roberta", "class": "XLMRobertaForSequenceClassification",
     "config_class": "XLMRobertaConfig", "config": dict(BERT, max_position_embeddings=130, num_labels=1), "files": UNIGRAM},
    {"name": "nomic-bert", "config": NOMIC, "files": WORDPIECE, "tensors": nomic(2)},
    {"name": "nomic-bert-moe", "config": NOMIC_MOE, "files": UNIGRAM, "tensors": nomic_moe(2)},
    lm("phi3", "Phi3", config=dict(pad_token_id=0, sliding_window=64, original_max_position_embeddings=128)),
    lm("phi3-long", "Phi3", table="phi3", dtype="bfloat16", config=dict(
        pad_token_id=0, max_position_embeddings=512, original_max_position_embeddings=128,
        rope_parameters={"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0 + i / 8 for i in range(8)],
                         "long_factor": [2.0 + i / 4 for i in range(8)]})),
    lm("gpt-oss-bf16", "GptOss", table="gpt-oss", dtype="bfloat16", config=dict(
        head_dim=16, num_local_experts=4, num_experts_per_tok=2, sliding_window=64, hidden_size=64, intermediate_size=64)),
    {"name": "gpt-oss", "config": GPT_OSS, "tensors": gpt_oss(2)},
    lm("olmo2", "Olmo2"),
    lm("olmo3", "Olmo3", table="olmo2", config=dict(num_hidden_layers=4, sliding_window=64)),
    lm("smollm3", "SmolLM3", config=dict(pad_token_id=0)),
    lm("smollm3-untied", "SmolLM3", table="smollm3", config=dict(pad_token_id=0, tie_word_embeddings=False)),
    lm("granite", "Granite", config=dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22,
                                         attention_multiplier=0.0625)),
    lm("ministral3", "Ministral3", table="mistral3", config=dict(head_dim=16, pad_token_id=0, rope_parameters={
        "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 16.0, "original_max_position_embeddings": 16384,
        "beta_fast": 32.0, "beta_slow": 1.0, "mscale_all_dim": 1.0, "mscale": 1.0, "llama_4_scaling_beta": 0.1})),
    {"name": "mistral3-vlm", "table": "mistral3", "class": "Mistral3ForConditionalGeneration", "config_class": "Mistral3Config",
     "config": {"text_config": dict(SMALL, head_dim=16, model_type="mistral"), "image_token_index": 10,
                "vision_config": dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
                                      image_size=16, patch_size=8, head_dim=16, model_type="pixtral")}},
    lm("deepseek2", "DeepseekV2", config=dict(num_key_value_heads=4, q_lora_rank=24, **MLA, first_k_dense_replace=1,
                                              num_experts_per_tok=2, n_routed_experts=4, moe_intermediate_size=32)),
    lm("deepseek2-lite", "DeepseekV2", table="deepseek2", config=dict(
        num_key_value_heads=4, q_lora_rank=None, **MLA, first_k_dense_replace=1, num_experts_per_tok=2, n_routed_experts=4,
        moe_intermediate_size=32)),
    lm("deepseek3", "DeepseekV3", config=dict(
        num_key_value_heads=4, q_lora_rank=24, **MLA, first_k_dense_replace=1, num_experts_per_tok=2, n_routed_experts=4,
        moe_intermediate_size=32, n_group=2, topk_group=1,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 40.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                         "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 4096}),
       override={"scoring_func": "sigmoid"}),
    lm("glm4-flash", "Glm4MoeLite", table="deepseek2-glm", config=dict(
        num_key_value_heads=4, q_lora_rank=24, **MLA, num_experts_per_tok=2, n_routed_experts=4, moe_intermediate_size=32,
        first_k_dense_replace=1, mlp_layer_types=["dense", "sparse"]), names=nextn, override={"num_nextn_predict_layers": 1}),
    lm("glm4", "Glm4", config=dict(head_dim=16, pad_token_id=0)),
    lm("glm4moe", "Glm4Moe", config=dict(head_dim=16, pad_token_id=0, n_routed_experts=4, num_experts_per_tok=2,
                                         moe_intermediate_size=32, first_k_dense_replace=1, use_qk_norm=True,
                                         num_nextn_predict_layers=1), names=nextn),
    lm("qwen35", "Qwen3_5", config_class="Qwen3_5TextConfig", config=QWEN35, names=mtp, override={"mtp_num_hidden_layers": 1}),
    lm("qwen35moe", "Qwen3_5Moe", config_class="Qwen3_5MoeTextConfig", without=["intermediate_size"], names=mtp_moe,
       override={"mtp_num_hidden_layers": 1},
       config=dict(QWEN35, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                   shared_expert_intermediate_size=48)),
    lm("gemma4", "Gemma4", config_class="Gemma4TextConfig", config=dict(
        num_hidden_layers=4, head_dim=16, global_head_dim=32, num_kv_shared_layers=1, sliding_window=64,
        hidden_size_per_layer_input=8, vocab_size_per_layer_input=96, use_double_wide_mlp=True,
        layer_types=["sliding_attention", "full_attention", "sliding_attention", "full_attention"]), **VOCAB80),
    lm("gemma4-moe", "Gemma4", table="gemma4", config_class="Gemma4TextConfig", config=dict(
        head_dim=16, global_head_dim=32, num_kv_shared_layers=0, sliding_window=64, hidden_size_per_layer_input=0,
        num_global_key_value_heads=1, attention_k_eq_v=True, enable_moe_block=True, num_experts=4, top_k_experts=2,
        moe_intermediate_size=32, layer_types=["sliding_attention", "full_attention"]), **VOCAB80),
    lm("gemma4-untied", "Gemma4", table="gemma4", config_class="Gemma4TextConfig", config=dict(
        head_dim=16, global_head_dim=32, num_kv_shared_layers=0, sliding_window=64, hidden_size_per_layer_input=0,
        tie_word_embeddings=False, layer_types=["sliding_attention", "full_attention"]), **VOCAB96),
    # Tier 2.
    lm("qwen2moe", "Qwen2Moe", config=dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                           shared_expert_intermediate_size=48, decoder_sparse_step=1)),
    {"name": "qwen2vl", "class": "Qwen2_5_VLForConditionalGeneration", "config_class": "Qwen2_5_VLConfig", "config": {
        "text_config": dict(SMALL, rope_parameters=dict(rope_type="default", rope_theta=1000000.0, mrope_section=[2, 3, 3])),
        "vision_config": dict(depth=1, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=8)}},
    {"name": "qwen3vl", "class": "Qwen3VLForConditionalGeneration", "config_class": "Qwen3VLConfig", "config": {
        "text_config": dict(SMALL, head_dim=16, rope_parameters=dict(rope_type="default", rope_theta=1000000.0, mrope_section=[4, 2, 2])),
        "vision_config": dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=8,
                              deepstack_visual_indexes=[0, 1], num_position_embeddings=16)}},
    {"name": "qwen3vlmoe", "names": on_the_hub, "class": "Qwen3VLMoeForConditionalGeneration", "config_class": "Qwen3VLMoeConfig", "config": {
        "text_config": dict(SMALL, head_dim=16, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                            rope_parameters=dict(rope_type="default", rope_theta=1000000.0, mrope_section=[4, 2, 2])),
        "vision_config": dict(depth=2, hidden_size=32, intermediate_size=48, num_heads=2, out_hidden_size=64, patch_size=8,
                              deepstack_visual_indexes=[0, 1], num_position_embeddings=16)}},
    lm("qwen3next", "Qwen3Next", names=mtp, config=dict(QWEN35, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32,
                                             shared_expert_intermediate_size=48, decoder_sparse_step=1)),
    lm("llama4", "Llama4", config_class="Llama4TextConfig", config=dict(
        head_dim=16, intermediate_size=48, intermediate_size_mlp=96, num_local_experts=4, num_experts_per_tok=1,
        interleave_moe_layer_step=2, pad_token_id=0)),
    lm("command-r", "Cohere", config=dict(pad_token_id=0)),
    lm("command-r-qk", "Cohere", table="command-r", config=dict(pad_token_id=0, use_qk_norm=True)),
    lm("cohere2", "Cohere2", config=dict(pad_token_id=0, num_hidden_layers=4, sliding_window=64), override={"rotary_pct": 1.0}),
    # With the model type transformers knows, the reference converter fails: its config class hides rotary_pct.
    lm("gptneox", "GPTNeoX", without=["num_key_value_heads"], override={"rotary_pct": 0.25, "model_type": "gpt_neox_raw"}),
    {"name": "falcon-40b", "class": "FalconForCausalLM", "config_class": "FalconConfig", "config": dict(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, new_decoder_architecture=True, num_kv_heads=2)},
    {"name": "falcon", "class": "FalconForCausalLM", "config_class": "FalconConfig", "config": dict(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, multi_query=True), "override": {"num_kv_heads": 1}},
    {"name": "starcoder", "class": "GPTBigCodeForCausalLM", "config_class": "GPTBigCodeConfig", "config": dict(
        vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128)},
    lm("starcoder2", "Starcoder2"),
    {"name": "falcon-untied", "table": "falcon", "class": "FalconForCausalLM", "config_class": "FalconConfig", "config": dict(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, multi_query=True, tie_word_embeddings=False),
     "override": {"num_kv_heads": 1}},
    {"name": "starcoder-untied", "table": "starcoder", "class": "GPTBigCodeForCausalLM", "config_class": "GPTBigCodeConfig",
     "config": dict(vocab_size=96, n_embd=64, n_layer=2, n_head=4, n_positions=128, tie_word_embeddings=False)},
    lm("starcoder2-untied", "Starcoder2", table="starcoder2", config=dict(tie_word_embeddings=False)),
    lm("stablelm", "StableLm"),
    # (StableLM 2 12B with norms of each head: the reference converter itself fails on it.)
    lm("phi2", "Phi", without=["num_key_value_heads"], config=dict(intermediate_size=256)),
    lm("olmo", "Olmo", config=dict(clip_qkv=8.0)),
    lm("olmoe", "Olmoe", config=dict(num_experts=4, num_experts_per_tok=2)),
    lm("exaone4", "Exaone4", config=dict(num_hidden_layers=4, sliding_window=64, sliding_window_pattern=4)),
    lm("seed-oss", "SeedOss", table="seed_oss", config=dict(head_dim=16)),
    lm("ernie4_5", "Ernie4_5", config=dict(head_dim=16)),
    lm("nemotron", "Nemotron", config=dict(head_dim=16)),
    lm("granitemoe", "GraniteMoe", config=dict(num_local_experts=4, num_experts_per_tok=2)),
    lm("lfm2", "Lfm2", config=dict(layer_types=["conv", "full_attention"], block_multiple_of=32)),
    lm("lfm2-untied", "Lfm2", table="lfm2", config=dict(
        layer_types=["conv", "full_attention"], block_multiple_of=32, tie_word_embeddings=False)),
    {"name": "mamba", "class": "MambaForCausalLM", "config_class": "MambaConfig", "config": dict(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, state_size=16)},
    {"name": "mamba2", "class": "Mamba2ForCausalLM", "config_class": "Mamba2Config", "config": dict(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, state_size=16, num_heads=4, head_dim=32, n_groups=2)},
    {"name": "modern-bert", "class": "ModernBertModel", "config_class": "ModernBertConfig", "config": dict(
        BERT, num_hidden_layers=4, local_attention=32, global_attn_every_n_layers=3, pad_token_id=0, cls_token_id=1, sep_token_id=2,
        bos_token_id=1, eos_token_id=2), "repo": {"pooling_type": 1}, "files": POOLING},
    lm("minimax-m2", "MiniMaxM2", config=dict(head_dim=16, num_local_experts=4, num_experts_per_tok=2, rotary_dim=8)),
    lm("arcee", "Arcee", config=dict(head_dim=16)),
    lm("gemma1", "Gemma", table="gemma", config=dict(head_dim=32)),
    {"name": "bloom", "class": "BloomForCausalLM", "config_class": "BloomConfig", "config": dict(
        vocab_size=96, hidden_size=64, n_layer=2, n_head=4)},
]
