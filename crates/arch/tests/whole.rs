//! A model without one of its tensors. `testdata/arch/needed` has what llama.cpp does not load
//! without (`tests/interop/arch/needed.py`): all of that is to be refused, and named.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use ir::{Model, TensorTable};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashSet};
use support::{goldens, model};
use weightbridge_arch::{LowerOptions, RepoFacts, Table, hf_to_gguf};

fn without(golden: &Value, gone: &dyn Fn(&str) -> bool) -> Model {
    let mut tensors = model(golden).tensors.into_tensors();
    tensors.retain(|tensor| !gone(&tensor.name));
    Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    }
}

fn options(golden: &Value) -> LowerOptions<'static> {
    let rows = golden["source"].as_array().unwrap().iter();
    let mut embeddings = rows.filter(|row| {
        let name = row[0].as_str().unwrap();
        [
            "embed_tokens.weight",
            "wte.weight",
            "word_embeddings.weight",
            "embeddings.weight",
            "embed_in.weight",
        ]
        .iter()
        .any(|end| name.ends_with(end))
    });
    LowerOptions {
        repo: RepoFacts {
            vocab_tokens: golden["repo"]["vocab_tokens"].as_u64(),
            embedding_rows: embeddings.next().and_then(|row| row[2][0].as_u64()),
            ..RepoFacts::default()
        },
        ..LowerOptions::default()
    }
}

fn lower(model: &Model, config: &Value, golden: &Value) -> Result<Vec<String>, String> {
    let lowered = hf_to_gguf(model, config, &options(golden)).map_err(|error| error.to_string())?;
    Ok(lowered.tensors.into_iter().map(|p| p.tensor.name).collect())
}

fn golden(name: &str) -> Value {
    goldens().into_iter().find(|(n, _)| n == name).unwrap().1
}

fn refused(name: &str, gone: &[&str]) -> String {
    let golden = golden(name);
    let cut = without(&golden, &|name| gone.contains(&name));
    lower(&cut, &golden["config"], &golden).unwrap_err()
}

#[test]
fn what_llama_cpp_does_not_load_without_is_refused() {
    let text = include_str!("../../../testdata/arch/needed/without.json");
    let loads: Value = serde_json::from_str(text).unwrap();
    let mut wrong = Vec::new();
    let mut refused = 0;
    for (name, golden) in goldens() {
        let Some(loads) = loads.get(&name).and_then(Value::as_array) else {
            continue;
        };
        let loads: HashSet<&str> = loads.iter().map(|name| name.as_str().unwrap()).collect();
        let all = lower(&model(&golden), &golden["config"], &golden).unwrap();
        for row in golden["source"].as_array().unwrap() {
            let source = row[0].as_str().unwrap();
            let cut = without(&golden, &|name| name == source);
            match lower(&cut, &golden["config"], &golden) {
                Ok(left) => {
                    // Buffers and parts that are not the model's become nothing.
                    let gone = all.iter().filter(|name| !left.contains(name));
                    let needed: Vec<_> =
                        gone.filter(|name| !loads.contains(name.as_str())).collect();
                    if !needed.is_empty() {
                        wrong.push(format!(
                            "{name}: {source} is not missed, nor are {needed:?}"
                        ));
                    }
                }
                Err(error) => {
                    refused += 1;
                    let (first, _) = error.split_once(". ").unwrap_or((&error, ""));
                    let named = error.contains(source) || first.contains(&pattern(source));
                    if !named {
                        wrong.push(format!("{name}: without {source}: {error}"));
                    }
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(refused > 1000, "{refused}");
}

/// A name with `*` for its block, and for its expert.
fn pattern(name: &str) -> String {
    let star = |part: &str| match part.parse::<u32>() {
        Ok(_) => "*".to_owned(),
        Err(_) => part.to_owned(),
    };
    name.split('.').map(star).collect::<Vec<_>>().join(".")
}

#[test]
fn the_message_tells_who_has_it_and_the_way_out() {
    let up = "model.layers.1.mlp.up_proj.weight";
    let text = refused("llama", &[up]);
    assert!(text.contains(&format!("{up} (block 0 has it)")), "{text}");
    assert!(text.contains("--as container"), "{text}");
    let text = refused("llama", &["model.norm.weight", "model.embed_tokens.weight"]);
    assert!(text.contains("2 tensors"), "{text}");
    assert!(text.contains("model.norm.weight"), "{text}");
    // A bias that other blocks have, a norm that some releases of the architecture lack.
    let bias = "model.layers.1.self_attn.q_proj.bias";
    assert!(refused("qwen2", &[bias]).contains(bias));
    let norm = "model.layers.0.self_attn.q_norm.weight";
    assert!(refused("glm4moe", &[norm]).contains(norm));
    // Blocks of one kind among others: full attention, linear attention, experts.
    let golden = golden("qwen3next");
    for row in golden["source"].as_array().unwrap() {
        let name = row[0].as_str().unwrap();
        let of_kind = name.contains("self_attn") || name.contains("linear_attn");
        if of_kind && !name.starts_with("mtp.") {
            assert!(refused("qwen3next", &[name]).contains(name), "{name}");
        }
    }
    // What is named is what the source calls it.
    let text = refused(
        "gemma3-vlm",
        &["language_model.model.layers.1.mlp.up_proj.weight"],
    );
    assert!(
        text.contains("language_model.model.layers.1.mlp.up_proj.weight"),
        "{text}"
    );
}

#[test]
fn a_head_is_missed_only_where_the_config_wants_one() {
    let golden = golden("llama");
    let head = "lm_head.weight";
    let cut = without(&golden, &|name| name == head);
    assert!(
        lower(&cut, &golden["config"], &golden)
            .unwrap_err()
            .contains(head)
    );
    let mut config = golden["config"].clone();
    for (key, value) in [
        ("tie_word_embeddings", json!(true)),
        ("tie_word_embeddings", Value::Null),
    ] {
        config[key] = value;
        lower(&cut, &config, &golden).unwrap();
    }
    // Saved as the bare model, under the class it was made of.
    let bare = without(&golden, &|name| name == head);
    let tensors = bare.tensors.into_tensors().into_iter().map(|mut tensor| {
        tensor.name = tensor.name.trim_start_matches("model.").to_owned();
        tensor
    });
    let bare = Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    };
    lower(&bare, &golden["config"], &golden).unwrap();
}

#[test]
fn a_size_that_the_config_lacks_is_that_of_the_tensors() {
    for (name, golden) in goldens() {
        let lowered = |config: &Value| {
            let options = LowerOptions::default();
            hf_to_gguf(&model(&golden), config, &options).map_err(|error| error.to_string())
        };
        let of = |records: &[ir::Record]| {
            let mut records = records.iter();
            records.any(|record| record.kind == "of-tensors" && record.what == "intermediate_size")
        };
        // Falcon's and GPT-2's tables take four times the width, which these models have.
        let mut config = golden["config"].clone();
        let Ok(whole) = lowered(&config) else {
            continue;
        };
        let given = config.get("intermediate_size").is_some();
        assert!(
            !given || !of(&whole.records),
            "{name}: a note on what is there"
        );
        if ["llama", "gemma3", "qwen3", "deepseek3"].contains(&&name[..]) {
            config.as_object_mut().unwrap().remove("intermediate_size");
            let lacking = lowered(&config).unwrap();
            assert!(of(&lacking.records), "{name}");
            assert_eq!(lacking.params, whole.params, "{name}");
            config["intermediate_size"] = json!(7);
            let error = lowered(&config).unwrap_err();
            assert!(error.contains("\"intermediate_size\""), "{name}: {error}");
        }
    }
}

#[test]
fn a_map_says_what_may_be_missing() {
    let text = r#"
        name = "mine"
        tensors = [["tok.weight", "token_embd.weight"], ["b.{bid}.{s}", "blk.{bid}.ffn_up.{s}"]]
    "#;
    let lower = |map: &str, names: &[&str]| {
        let map = Table::parse(map, "mine")?;
        let mut builder = ir::ModelBuilder::new();
        for name in names {
            builder = builder.tensor(name, ir::DType::F32, [1, 1], vec![0; 4]);
        }
        let model = builder.build()?;
        let options = LowerOptions {
            map: Some(&map),
            ..LowerOptions::default()
        };
        hf_to_gguf(&model, &json!({}), &options).map(|_| ())
    };
    let all = ["tok.weight", "b.0.weight", "b.1.weight", "b.1.bias"];
    let error = lower(text, &all).unwrap_err().to_string();
    assert!(error.contains("b.0.bias (block 1 has it)"), "{error}");
    lower(text, &all[..3]).unwrap();
    let error = lower(text, &all[1..3]).unwrap_err().to_string();
    assert!(error.contains("tok.weight"), "{error}");
    lower(&format!("{text}\noptional = [\"token_embd\"]"), &all[1..3]).unwrap();
    let only = format!("{text}\nonly_if = [[\"token_embd\", \"wanted\"]]");
    lower(&only, &all[1..3]).unwrap();
    let biased = format!("{text}\nbiased = [\"*\"]");
    let error = lower(&biased, &all[..3]).unwrap_err().to_string();
    assert!(error.contains("b.*.bias (of every block)"), "{error}");
    let error = lower(&format!("{text}\noptional = [\"ffn\"]"), &all).unwrap_err();
    assert!(
        error.to_string().contains("no row makes \"ffn\""),
        "{error}"
    );
}

/// Parts that a model may be without in all blocks although this one has them: what a runtime takes
/// instead is the same, or the config says nothing of it.
const FREE: [&str; 10] = [
    "glm4-flash: model.layers.*.embed_tokens.weight",
    "glm4-flash: model.layers.*.shared_head.head.weight",
    "glm4-flash: model.layers.*.shared_head.norm.weight",
    "glm4moe: model.layers.*.embed_tokens.weight",
    "glm4moe: model.layers.*.shared_head.head.weight",
    "glm4moe: model.layers.*.shared_head.norm.weight",
    "qwen35: mtp.norm.weight",
    "qwen35moe: mtp.norm.weight",
    "qwen3next: mtp.norm.weight",
    "qwen3vlmoe: lm_head.weight",
];

/// What a config may leave out, with other keys or none in its place: the class of the model, what
/// few models have (rope that is scaled, a clamp), and what says the same as no key.
const OPEN: [&str; 16] = [
    "architectures",
    "model_type",
    "rope_scaling",
    "rope_parameters",
    "layer_types",
    "clip_qkv",
    "id2label",
    "pad_token_id",
    "head_dim",
    "sliding_window",
    "moe_every_n_layers",
    "new_decoder_architecture",
    "global_attn_every_n_layers",
    "num_nextn_predict_layers",
    "n_groups",
    "state_size",
];

#[test]
fn what_all_blocks_lack_is_missed() {
    let mut found = Vec::new();
    for (name, golden) in goldens() {
        let all = lower(&model(&golden), &golden["config"], &golden).unwrap();
        let rows = golden["source"].as_array().unwrap();
        let patterns: BTreeSet<String> = rows
            .iter()
            .map(|row| pattern(row[0].as_str().unwrap()))
            .collect();
        for gone in patterns {
            let cut = without(&golden, &|name| pattern(name) == gone);
            let left = lower(&cut, &golden["config"], &golden);
            if left.is_ok_and(|left| all.iter().any(|name| !left.contains(name))) {
                found.push(format!("{name}: {gone}"));
            }
        }
    }
    assert_eq!(found, FREE);
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let mut wrong = Vec::new();
    for (name, golden) in goldens() {
        let nested = golden["config"].get("text_config").is_some();
        let text = match nested {
            true => &golden["config"]["text_config"],
            false => &golden["config"],
        };
        let whole = hf_to_gguf(&model(&golden), &golden["config"], &options(&golden)).unwrap();
        for key in text.as_object().unwrap().keys() {
            let mut config = golden["config"].clone();
            let text = match nested {
                true => &mut config["text_config"],
                false => &mut config,
            };
            text.as_object_mut().unwrap().remove(key);
            match hf_to_gguf(&model(&golden), &config, &options(&golden)) {
                Err(error) => {
                    let error = error.to_string();
                    if !error.contains(key.as_str()) && !OPEN.contains(&key.as_str()) {
                        wrong.push(format!("{name} without {key}: {error}"));
                    }
                }
                Ok(lowered) if lowered.params != whole.params => {
                    let told = lowered.records.iter().any(|record| record.what == *key);
                    if !told && !OPEN.contains(&key.as_str()) {
                        let other = lowered
                            .params
                            .iter()
                            .filter(|pair| !whole.params.contains(pair));
                        let gone = whole
                            .params
                            .iter()
                            .filter(|pair| !lowered.params.iter().any(|(k, _)| *k == pair.0));
                        wrong.push(format!(
                            "{name} without {key}: {:?} gone {:?}",
                            other.collect::<Vec<_>>(),
                            gone.collect::<Vec<_>>()
                        ));
                    }
                }
                Ok(_) => {}
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn fused_experts_are_read_in_both_orders() {
    let golden = golden("qwen3vlmoe");
    let whole = hf_to_gguf(&model(&golden), &golden["config"], &options(&golden)).unwrap();
    // As transformers 5 saves them: rows first.
    let turned = model(&golden)
        .tensors
        .into_tensors()
        .into_iter()
        .map(|tensor| {
            let &[n, a, b] = &tensor.spec.shape[..] else {
                return tensor;
            };
            let (bytes, step) = (tensor.read_all().unwrap(), 4);
            let mut out = Vec::with_capacity(bytes.len());
            for (expert, column, row) in
                (0..n).flat_map(|e| (0..b).flat_map(move |c| (0..a).map(move |r| (e, c, r))))
            {
                let at = usize::try_from((expert * a + row) * b + column).unwrap() * step;
                out.extend_from_slice(&bytes[at..at + step]);
            }
            let mut one = ir::ModelBuilder::new();
            one = one.tensor(&tensor.name, tensor.dtype(), [n, b, a], out);
            one.build().unwrap().tensors.into_tensors().remove(0)
        });
    let turned = Model {
        tensors: TensorTable::from_tensors(turned).unwrap(),
        ..Model::default()
    };
    let again = hf_to_gguf(&turned, &golden["config"], &options(&golden)).unwrap();
    assert_eq!(again.tensors.len(), whole.tensors.len());
    for (one, other) in again.tensors.iter().zip(&whole.tensors) {
        assert_eq!(one.tensor.name, other.tensor.name);
        assert_eq!(one.tensor.spec, other.tensor.spec);
        assert_eq!(
            one.tensor.read_all().unwrap(),
            other.tensor.read_all().unwrap(),
            "{}",
            one.tensor.name
        );
    }
}

#[test]
fn what_no_runtime_has_a_place_for_says_why() {
    let golden = golden("starcoder2");
    let mut config = golden["config"].clone();
    config["use_bias"] = json!(false);
    let cut = without(&golden, &|name| {
        name.ends_with("proj.bias") || name.ends_with("c_fc.bias")
    });
    let error = lower(&cut, &config, &golden).unwrap_err();
    assert!(error.contains("use_bias false"), "{error}");
    assert!(error.contains("--as container"), "{error}");
}
