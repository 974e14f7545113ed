//! Adapters through the tables: names, rows, and what is refused. `tests/interop/test_lora.py` holds
//! the bytes against the real converter.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use ir::{DType, Model, ModelBuilder, TensorTable};
use serde_json::{Value, json};
use weightbridge_arch::{
    AdapterConfig, LowerOptions, OutType, RaiseOptions, adapter_to_gguf, gguf_to_adapter,
};

const PREFIX: &str = "base_model.model.";

fn base() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 16,
        "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 24,
    })
}

/// An adapter of F32 tensors.
fn adapter(parts: &[(&str, [u64; 2])]) -> Model {
    let mut builder = ModelBuilder::new();
    for (name, shape) in parts {
        let name = format!("{PREFIX}{name}");
        let bytes = support::pattern(&name, DType::F32, shape[0] * shape[1]);
        builder = builder.tensor(&name, DType::F32, *shape, bytes);
    }
    builder.build().unwrap()
}

const LAYER: &str = "model.layers.0.self_attn.q_proj";

fn usual() -> Model {
    adapter(&[
        ("model.embed_tokens.lora_embedding_A", [2, 24]),
        ("model.embed_tokens.lora_embedding_B", [16, 2]),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", [4, 16]),
        ("model.layers.0.self_attn.q_proj.lora_B.weight", [16, 4]),
        ("model.layers.1.self_attn.q_proj.lora_A.weight", [4, 16]),
        ("model.layers.1.self_attn.q_proj.lora_B.weight", [16, 4]),
    ])
}

fn options() -> LowerOptions<'static> {
    LowerOptions {
        out: OutType::Auto,
        ..LowerOptions::default()
    }
}

/// The GGUF model of an adapter.
fn lowered(model: &Model) -> Model {
    let config = AdapterConfig::parse(&json!({"lora_alpha": 8})).unwrap();
    let lowered = adapter_to_gguf(model, &base(), &options()).unwrap();
    let general = weightbridge_arch::general(&weightbridge_arch::GeneralInput {
        folder: "adapter",
        adapter: true,
        ..weightbridge_arch::GeneralInput::default()
    });
    Model {
        metadata: lowered.metadata(&general, &config),
        tensors: TensorTable::from_tensors(lowered.tensors.into_iter().map(|p| p.tensor)).unwrap(),
        ..Model::default()
    }
}

#[test]
fn there_and_back_is_the_same() {
    let model = usual();
    let gguf = lowered(&model);
    let names: Vec<&str> = gguf.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(
        names[..4],
        [
            "token_embd.weight.lora_a",
            "token_embd.weight.lora_b",
            "blk.0.attn_q.weight.lora_a",
            "blk.0.attn_q.weight.lora_b",
        ]
    );
    assert_eq!(gguf.tensors.iter().next().unwrap().spec.shape[..], [24, 2]);
    let moved = gguf.tensors.by_name("blk.0.attn_q.weight.lora_b").unwrap();
    let was = model
        .tensors
        .by_name(&format!("{PREFIX}{LAYER}.lora_B.weight"));
    assert_ne!(moved.read_all().unwrap(), was.unwrap().read_all().unwrap());
    let back = gguf_to_adapter(&gguf, Some(&base()), RaiseOptions::default()).unwrap();
    assert_eq!(back.tensors.len(), model.tensors.len());
    for tensor in &model.tensors {
        let same = back.tensors.by_name(&tensor.name).unwrap();
        assert_eq!(same.spec, tensor.spec);
        assert_eq!(same.read_all().unwrap(), tensor.read_all().unwrap());
    }
    assert_eq!(back.config["r"], 4);
    assert_eq!(back.config["lora_alpha"], 8);
    assert_eq!(
        back.config["rank_pattern"],
        json!({"model.embed_tokens": 2})
    );
    assert_eq!(
        back.config["target_modules"],
        json!(["embed_tokens", "q_proj"])
    );
    assert_eq!(back.config["task_type"], "CAUSAL_LM");
}

#[test]
fn heads_are_in_the_base_model_only() {
    let gguf = lowered(&usual());
    let error = gguf_to_adapter(&gguf, None, RaiseOptions::default()).unwrap_err();
    assert!(error.to_string().contains("blk.0.attn_q.weight"), "{error}");
    let mut other = base();
    other["architectures"] = json!(["Qwen2ForCausalLM"]);
    let error = gguf_to_adapter(&gguf, Some(&other), RaiseOptions::default()).unwrap_err();
    assert!(error.to_string().contains("qwen2"), "{error}");
}

#[test]
fn what_does_not_go_together_is_named() {
    let a = ("model.layers.0.self_attn.q_proj.lora_A.weight", [4, 16]);
    let b = ("model.layers.0.self_attn.q_proj.lora_B.weight", [16, 4]);
    for (parts, words) in [
        (vec![a], ["q_proj.lora_A.weight", "lora_B"]),
        (vec![b], ["q_proj.lora_B.weight", "lora_A"]),
        (vec![a, (b.0, [16, 3])], [LAYER, "[16, 3]"]),
        (vec![a, (b.0, [15, 4])], ["q_proj.lora_B", "4 heads"]),
        (
            vec![a, b, ("lm_head.weight", [24, 16])],
            ["lm_head.weight", "embedding"],
        ),
        (
            vec![a, b, ("x.lora_magnitude_vector", [1, 16])],
            ["x.lora_magnitude_vector", "neither"],
        ),
        (
            vec![
                ("model.layers.0.fancy.lora_A.weight", [4, 16]),
                ("model.layers.0.fancy.lora_B.weight", [16, 4]),
            ],
            ["model.layers.0.fancy.weight", "llama"],
        ),
        (
            vec![("model.norm.weight", [4, 4])],
            ["output_norm.weight", "neither"],
        ),
        (vec![], ["no tensor", "adapter"]),
    ] {
        let error = adapter_to_gguf(&adapter(&parts), &base(), &options()).unwrap_err();
        for word in words {
            assert!(error.to_string().contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn a_layer_the_model_lacks_is_refused() {
    let further = adapter(&[
        ("model.layers.2.self_attn.q_proj.lora_A.weight", [4, 16]),
        ("model.layers.2.self_attn.q_proj.lora_B.weight", [16, 4]),
    ]);
    let error = adapter_to_gguf(&further, &base(), &options()).unwrap_err();
    assert!(error.to_string().contains("2 layers"), "{error}");
}

#[test]
fn a_head_the_model_ties_is_refused() {
    let mut config = base();
    config["architectures"] = json!(["GemmaForCausalLM"]);
    let parts = [
        ("lm_head.lora_A.weight", [4, 16]),
        ("lm_head.lora_B.weight", [24, 4]),
    ];
    let error = adapter_to_gguf(&adapter(&parts), &config, &options()).unwrap_err();
    assert!(error.to_string().contains("lm_head"), "{error}");
}

#[test]
fn experts_are_stacked_and_come_apart() {
    let mut config = base();
    config["architectures"] = json!(["MixtralForCausalLM"]);
    config["model_type"] = json!("mixtral");
    config["num_local_experts"] = json!(2);
    let names: Vec<String> = (0..2)
        .flat_map(|x| {
            ["A", "B"]
                .map(|f| format!("model.layers.0.block_sparse_moe.experts.{x}.w1.lora_{f}.weight"))
        })
        .collect();
    let shapes = [[2, 16], [32, 2]];
    let parts: Vec<(&str, [u64; 2])> = names
        .iter()
        .zip(shapes.iter().cycle())
        .map(|(name, shape)| (name.as_str(), *shape))
        .collect();
    let model = adapter(&parts);
    let made = adapter_to_gguf(&model, &config, &options()).unwrap();
    let shapes: Vec<(&str, &[u64])> = made
        .tensors
        .iter()
        .map(|p| (p.tensor.name.as_str(), &p.tensor.spec.shape[..]))
        .collect();
    assert_eq!(
        shapes,
        [
            ("blk.0.ffn_gate_exps.weight.lora_a", &[2, 2, 16][..]),
            ("blk.0.ffn_gate_exps.weight.lora_b", &[2, 32, 2][..]),
        ]
    );
    let mut gguf = lowered(&usual());
    gguf.tensors = TensorTable::from_tensors(made.tensors.into_iter().map(|p| p.tensor)).unwrap();
    let back = gguf_to_adapter(&gguf, Some(&config), RaiseOptions::default()).unwrap();
    for tensor in &model.tensors {
        let same = back.tensors.by_name(&tensor.name).unwrap();
        assert_eq!(same.read_all().unwrap(), tensor.read_all().unwrap());
    }
    let error = adapter_to_gguf(&adapter(&parts[..2]), &config, &options()).unwrap_err();
    assert!(error.to_string().contains("experts.1.w1"), "{error}");
}
