//! What is said when a repository does not fit, and a user's own map.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use ir::{DType, Model, ModelBuilder, TensorTable};
use regex::Regex;
use serde_json::{Value, json};
use support::{goldens, model};
use weightbridge_arch::{LowerOptions, RaiseOptions, Table, gguf_to_hf, hf_to_gguf, tables};

fn golden(name: &str) -> Value {
    goldens().into_iter().find(|(n, _)| n == name).unwrap().1
}

fn error(model: &Model, config: &Value, options: &LowerOptions<'_>) -> String {
    hf_to_gguf(model, config, options).unwrap_err().to_string()
}

#[test]
fn an_unknown_class_names_the_nearest_and_the_way_out() {
    let golden = golden("qwen3moe");
    let mut config = golden["config"].clone();
    config["architectures"] = json!(["QwenFiveMoeForCausalLM"]);
    config["model_type"] = json!("qwen5_moe");
    let text = error(&model(&golden), &config, &LowerOptions::default());
    assert!(text.contains("QwenFiveMoeForCausalLM"), "{text}");
    let nearest = text.split("the nearest are ").nth(1).unwrap();
    let nearest = nearest.split(". Name").next().unwrap();
    assert!(nearest.split(", ").any(|name| name == "qwen3moe"), "{text}");
    assert!(
        text.contains("--arch NAME") && text.contains("--as container"),
        "{text}"
    );
    let named = LowerOptions {
        arch: Some("qwen3moe"),
        ..LowerOptions::default()
    };
    hf_to_gguf(&model(&golden), &config, &named).unwrap();
    let wrong = LowerOptions {
        arch: Some("qwen3mo"),
        ..LowerOptions::default()
    };
    let text = error(&model(&golden), &config, &wrong);
    assert!(text.contains("the nearest are qwen3moe"), "{text}");
}

#[test]
fn tensors_without_a_place_are_named_and_can_be_dropped() {
    let golden = golden("qwen2");
    let mut tensors = model(&golden).tensors.into_tensors();
    let extra =
        ModelBuilder::new().tensor("model.layers.0.extra.weight", DType::F32, [1], vec![0; 4]);
    tensors.extend(extra.build().unwrap().tensors.into_tensors());
    let odd = Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    };
    let text = error(&odd, &golden["config"], &LowerOptions::default());
    assert!(
        text.contains("no place for 1 tensor: model.layers.0.extra.weight"),
        "{text}"
    );
    assert!(text.contains("--drop"), "{text}");
    let drop = LowerOptions {
        drop: vec![Regex::new("extra").unwrap()],
        ..LowerOptions::default()
    };
    let lowered = hf_to_gguf(&odd, &golden["config"], &drop).unwrap();
    assert!(
        lowered
            .records
            .iter()
            .any(|r| r.what == "model.layers.0.extra.weight")
    );
}

#[test]
fn missing_keys_and_experts_are_named() {
    let golden = golden("mixtral");
    let mut config = golden["config"].clone();
    config.as_object_mut().unwrap().remove("num_hidden_layers");
    let text = error(&model(&golden), &config, &LowerOptions::default());
    assert!(
        text.contains("llama.block_count") || text.contains("block_count"),
        "{text}"
    );
    let mut tensors = model(&golden).tensors.into_tensors();
    tensors.retain(|t| t.name != "model.layers.1.block_sparse_moe.experts.2.w2.weight");
    let cut = Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    };
    let text = error(&cut, &golden["config"], &LowerOptions::default());
    assert!(text.contains("blk.1.ffn_down_exps.weight"), "{text}");
    assert!(text.contains("experts.2.w2.weight"), "{text}");
}

#[test]
fn a_map_of_ones_own_is_read_like_ours() {
    let text = r#"
        name = "mine"
        tensors = [
            ["tok.weight", "token_embd.weight"],
            ["blocks.{bid}.mix.{s}", "blk.{bid}.ffn_up.{s}", "transpose"],
        ]
        kv = [["block_count", "u32!", "layers"], ["note", "str", "kind ?? 'none'"]]
        [hf]
        class = "Mine"
        model_type = "mine"
        config = [["layers", "block_count"]]
    "#;
    let map = Table::parse(text, "mine.toml").unwrap();
    let source = ModelBuilder::new()
        .tensor("tok.weight", DType::F32, [1, 2], vec![0; 8])
        .tensor(
            "blocks.0.mix.weight",
            DType::U8,
            [2, 3],
            vec![1, 2, 3, 4, 5, 6],
        )
        .build()
        .unwrap();
    let options = LowerOptions {
        map: Some(&map),
        ..LowerOptions::default()
    };
    let lowered = hf_to_gguf(&source, &json!({"layers": 1}), &options).unwrap();
    assert_eq!(lowered.gguf_arch, "mine");
    assert_eq!(
        lowered.tensors[1].tensor.read_all().unwrap(),
        [1, 4, 2, 5, 3, 6]
    );
    let file = Model {
        tensors: TensorTable::from_tensors(lowered.tensors.iter().map(|p| p.tensor.clone()))
            .unwrap(),
        metadata: lowered.metadata(&[], &[]),
        ..Model::default()
    };
    let options = RaiseOptions {
        map: Some(&map),
        ..RaiseOptions::default()
    };
    let raised = gguf_to_hf(&file, options).unwrap();
    assert_eq!(raised.config["layers"], json!(1));
    let mix = raised.tensors.by_name("blocks.0.mix.weight").unwrap();
    assert_eq!(mix.read_all().unwrap(), [1, 2, 3, 4, 5, 6]);
    for (broken, why) in [
        (text.replace("transpose", "explode"), "there is no verb"),
        (text.replace("u32!", "u33"), "there is no type"),
        (text.replace("layers\"]", "1 +\"]"), "mine"),
        (
            text.replace("blk.{bid}", "blk"),
            "{bid} must be in all names",
        ),
    ] {
        let error = Table::parse(&broken, "mine.toml").unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_gguf_file_that_is_no_known_model() {
    let error = gguf_to_hf(&Model::default(), RaiseOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no general.architecture"));
    assert!(tables().len() > 50);
}

#[test]
fn sizes_that_are_missing_or_that_the_tensors_contradict_are_refused() {
    let golden = golden("llama");
    for (key, value, words) in [
        ("hidden_size", Value::Null, "embedding_length"),
        ("num_attention_heads", Value::Null, "config.json"),
        ("hidden_size", json!(128), "rows of the embedding have 64"),
        (
            "num_attention_heads",
            json!(8),
            "into the 64 rows of a query",
        ),
        ("num_key_value_heads", json!(4), "not the 32 rows of a key"),
    ] {
        let mut config = golden["config"].clone();
        config.as_object_mut().unwrap().remove(key);
        if !value.is_null() {
            config[key] = value;
        }
        let text = error(&model(&golden), &config, &LowerOptions::default());
        assert!(text.contains(key) && text.contains(words), "{text}");
    }
}
