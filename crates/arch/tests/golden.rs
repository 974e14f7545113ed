//! Every small model of `testdata/arch` against what llama.cpp's converter made of it:
//! `tests/interop/arch/reference.py` wrote the expectations.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use serde_json::{Value, json};
use support::{alike, as_f32, described, goldens, model, sha256};
use weightbridge_arch::{
    GeneralInput, LowerOptions, Lowered, OutType, RepoFacts, general, hf_to_gguf,
};

fn options(golden: &Value, out: OutType) -> LowerOptions<'static> {
    let facts = &golden["repo"];
    LowerOptions {
        out,
        repo: RepoFacts {
            vocab_tokens: facts["vocab_tokens"].as_u64(),
            pooling_type: facts["pooling_type"].as_u64().map(|n| n as u32),
            tokenizer: facts["tokenizer"].as_str().map(str::to_owned),
            ..RepoFacts::default()
        },
        ..LowerOptions::default()
    }
}

fn lower(golden: &Value, out: OutType) -> Result<Lowered, String> {
    hf_to_gguf(&model(golden), &golden["config"], &options(golden, out)).map_err(|e| e.to_string())
}

/// Everything that differs, in words.
fn differences(golden: &Value) -> Vec<String> {
    let mut list = Vec::new();
    let lowered = match lower(golden, OutType::F32) {
        Ok(lowered) => lowered,
        Err(error) => return vec![error],
    };
    if golden["table"] != json!(lowered.table) {
        list.push(format!(
            "table {} instead of {}",
            lowered.table, golden["table"]
        ));
    }
    let general = general(&GeneralInput {
        folder: "hf",
        config: Some(&golden["config"]),
        counts: lowered.parameter_counts(),
        ..GeneralInput::default()
    });
    let ours = lowered.metadata(&general, &[]);
    let ours: Vec<(String, String, Value)> = ours
        .of(ir::ns::GGUF)
        // The reference writes it while it writes the tokenizer, which was left out there.
        .filter(|(key, _)| !key.ends_with(".token_type_count"))
        .map(|(key, value)| {
            let (kind, value) = described(value);
            (key.to_owned(), kind, value)
        })
        .collect();
    let theirs: Vec<&Value> = golden["keys"].as_array().unwrap().iter().collect();
    let our_names: Vec<&str> = ours.iter().map(|row| row.0.as_str()).collect();
    let their_names: Vec<&str> = theirs.iter().map(|row| row[0].as_str().unwrap()).collect();
    if our_names != their_names {
        list.push(format!(
            "keys are\n    {our_names:?}, not\n    {their_names:?}"
        ));
    }
    for row in &theirs {
        if let Some((key, kind, value)) = ours.iter().find(|ours| row[0] == json!(ours.0))
            && !(row[1] == json!(kind) && alike(&row[2], value))
        {
            list.push(format!(
                "{key} is {kind} {value}, not {} {}",
                row[1], row[2]
            ));
        }
    }
    let theirs = golden["tensors"].as_array().unwrap();
    let our_names: Vec<&str> = lowered
        .tensors
        .iter()
        .map(|p| p.tensor.name.as_str())
        .collect();
    let their_names: Vec<&str> = theirs.iter().map(|row| row[0].as_str().unwrap()).collect();
    if our_names != their_names {
        list.push(format!(
            "tensors are\n    {our_names:?}, not\n    {their_names:?}"
        ));
    }
    for row in theirs {
        let Some(planned) = lowered
            .tensors
            .iter()
            .find(|p| row[0] == json!(p.tensor.name))
        else {
            continue;
        };
        let name = &planned.tensor.name;
        let shape: Vec<u64> = planned.tensor.spec.shape.to_vec();
        if row[2] != json!(shape) {
            list.push(format!("{name} has shape {shape:?}, not {}", row[2]));
        }
        let values = as_f32(&planned.tensor);
        // exp's last bit depends on the processor the reference ran on.
        let blurred: Vec<u8> = values
            .chunks_exact(4)
            .flat_map(|b| ((u32::from_le_bytes([b[0], b[1], b[2], b[3]]) + 8) >> 4).to_le_bytes())
            .collect();
        let near = row[4].is_string() && row[4] == json!(sha256(&blurred));
        if row[3] != json!(sha256(&values)) && !near {
            list.push(format!(
                "{name}: other values: {}",
                planned.tensor.history()
            ));
        }
    }
    let outs = [
        ("f16", OutType::F16),
        ("bf16", OutType::BF16),
        ("q8_0", OutType::Q8_0),
        ("auto", OutType::Auto),
    ];
    for (word, out) in outs {
        let lowered = lower(golden, out).unwrap();
        let letters: String = lowered
            .tensors
            .iter()
            .map(|p| match p.target.name() {
                "F32" => 'f',
                "F16" => 'h',
                "BF16" => 'b',
                "Q8_0" => 'q',
                _ => 'm',
            })
            .collect();
        if golden["types"][word] != json!(letters) {
            list.push(format!(
                "types for {word}\n    {letters}, not\n    {}",
                golden["types"][word]
            ));
        }
        let file_type = lowered
            .params
            .iter()
            .find(|(key, _)| key == "general.file_type");
        let file_type = file_type.and_then(|(_, value)| value.as_u64());
        if golden["types"][format!("{word}_file_type")] != json!(file_type) {
            list.push(format!("file type for {word} is {file_type:?}"));
        }
    }
    list
}

#[test]
fn metadata_and_tensors_equal_the_reference() {
    let mut failed = Vec::new();
    for (name, golden) in goldens() {
        let differences = differences(&golden);
        if !differences.is_empty() {
            failed.push(format!("{name}:\n  {}", differences.join("\n  ")));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// What the small models' configs say that no key of their architecture takes: the models were made
/// for shapes, not for llama.cpp, so some of transformers' defaults are among it.
const LOST: &[(&str, &[&str])] = &[
    ("embeddinggemma", &["config.json query_pre_attn_scalar 256"]),
    ("gemma2-bf16", &["config.json query_pre_attn_scalar 256"]),
    ("gemma3", &["config.json query_pre_attn_scalar 256"]),
    ("gemma3-old", &["config.json query_pre_attn_scalar 256"]),
    ("gemma3-untied", &["config.json query_pre_attn_scalar 256"]),
    ("gemma3-vlm", &["config.json query_pre_attn_scalar 256"]),
    ("gpt-oss", &["config.json rope_scaling.truncate false"]),
    (
        "gpt-oss-bf16",
        &["config.json rope_parameters.truncate false"],
    ),
    ("mistral", &["config.json sliding_window 64"]),
    ("qwen3moe", &["config.json norm_topk_prob false"]),
];

#[test]
fn values_that_no_key_takes_are_losses() {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (name, golden) in goldens() {
        let lowered = lower(&golden, OutType::F32).unwrap();
        let lost = lowered.records.iter();
        let lost = lost.filter(|record| record.kind == "config-value" && record.loss);
        let lost: Vec<String> = lost.map(|record| record.what.clone()).collect();
        if !lost.is_empty() {
            found.push((name, lost));
        }
    }
    let expected: Vec<(String, Vec<String>)> = LOST
        .iter()
        .map(|(name, lost)| {
            let lost = lost.iter().map(|&what| what.to_owned()).collect();
            (name.to_string(), lost)
        })
        .collect();
    assert_eq!(found, expected, "\n{found:#?}");
}

#[test]
fn a_value_that_only_the_class_says_is_a_loss_too() {
    let mut golden = goldens()
        .into_iter()
        .find(|one| one.0 == "gemma3")
        .unwrap()
        .1;
    let config = golden["config"].as_object_mut().unwrap();
    assert!(config.remove("query_pre_attn_scalar").is_some());
    let lowered = lower(&golden, OutType::F32).unwrap();
    let mut records = lowered.records.iter();
    assert!(records.any(|one| one.what == "config.json query_pre_attn_scalar 256" && one.loss));
}

/// What the config of a model says more, and what the loss says of it.
fn told(name: &str, more: &Value) -> Vec<String> {
    let mut golden = goldens().into_iter().find(|one| one.0 == name).unwrap().1;
    let config = golden["config"].as_object_mut().unwrap();
    config.extend(more.as_object().unwrap().clone());
    let lowered = lower(&golden, OutType::F32).unwrap();
    let lost = lowered.records.into_iter();
    let lost = lost.filter(|record| record.kind == "config-value");
    lost.map(|record| {
        let what = record.what.strip_prefix("config.json ").unwrap();
        let with = record.why.split(&[':', ','][..]).nth(1).unwrap();
        format!("{what}:{}", with.trim_start_matches(" llama.cpp computes"))
    })
    .collect()
}

/// Rope parameters of a kind, with others.
fn yarn(more: Value) -> Value {
    let mut rope = json!({"rope_type": "yarn", "factor": 4.0, "rope_theta": 10000.0,
        "original_max_position_embeddings": 128});
    rope.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({"rope_parameters": rope})
}

/// The rope parameters of the long Phi-3, with one more.
fn longrope(key: &str, value: f64) -> Value {
    let golden = goldens()
        .into_iter()
        .find(|one| one.0 == "phi3-long")
        .unwrap()
        .1;
    let mut rope = golden["config"]["rope_parameters"].clone();
    rope[key] = json!(value);
    json!({"rope_parameters": rope})
}

#[test]
fn what_a_runtime_computes_otherwise_is_told_with_both_values() {
    let dynamic = json!({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4});
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192, "rope_theta": 5e5});
    let window = json!({"use_sliding_window": true, "sliding_window": 32, "max_window_layers": 1,
        "layer_types": ["full_attention", "sliding_attention"]});
    let cases = [
        ("mistral", json!({"sliding_window": null}), vec![]),
        ("mistral", json!({"sliding_window": 4096}), vec![]),
        (
            "mistral",
            json!({"layer_types": ["full_attention", "full_attention"]}),
            vec![],
        ),
        (
            "mistral",
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            vec!["sliding_window 64: without it"],
        ),
        (
            "smollm3",
            json!({"layer_types": ["full_attention", "sliding_attention"], "sliding_window": 32}),
            vec!["sliding_window 32: without it"],
        ),
        (
            "mixtral",
            json!({"sliding_window": 8}),
            vec!["sliding_window 8: without it"],
        ),
        (
            "qwen2",
            json!({"use_sliding_window": false, "sliding_window": 32}),
            vec![],
        ),
        ("qwen2", window, vec!["sliding_window 32: without it"]),
        (
            "qwen2",
            json!({"rope_parameters": dynamic}),
            vec!["rope_parameters.rope_type \"dynamic\": with \"default\""],
        ),
        (
            "qwen2",
            json!({"rope_parameters": llama3}),
            vec!["rope_parameters.rope_type \"llama3\": with \"default\""],
        ),
        ("smollm3", json!({"no_rope_layers": [1, 1]}), vec![]),
        (
            "smollm3",
            json!({"no_rope_layers": [1, 0]}),
            vec!["no_rope_layers [1,0]: with [1"],
        ),
        (
            "smollm3",
            json!({"no_rope_layers": null, "no_rope_layer_interval": 2}),
            vec!["no_rope_layer_interval 2: with 4"],
        ),
        (
            "gpt-oss-bf16",
            json!({"layer_types": ["full_attention", "full_attention"], "rope_parameters": {"rope_type": "default"}}),
            vec![
                "layer_types [\"full_attention\",\"full_attention\"]: with [\"sliding_attention\"",
            ],
        ),
        (
            "bert",
            json!({"hidden_act": "relu", "is_decoder": false}),
            vec!["hidden_act \"relu\": with \"gelu\""],
        ),
        (
            "gpt2",
            json!({"activation_function": "relu", "scale_attn_by_inverse_layer_idx": true}),
            vec![
                "activation_function \"relu\": with \"gelu_new\"",
                "scale_attn_by_inverse_layer_idx true: without it",
            ],
        ),
        (
            "llama",
            json!({"hidden_act": "gelu"}),
            vec!["hidden_act \"gelu\": with \"silu\""],
        ),
        (
            "gemma2",
            json!({"layer_types": ["full_attention", "sliding_attention"]}),
            vec![
                "layer_types [\"full_attention\",\"sliding_attention\"]: with [\"sliding_attention\"",
            ],
        ),
        ("llama", yarn(json!({})), vec![]),
        ("llama", yarn(json!({"attention_factor": null})), vec![]),
        (
            "llama",
            yarn(json!({"attention_factor": 1.138_629_436_111_989})),
            vec![],
        ),
        (
            "llama",
            yarn(json!({"attention_factor": 1.7})),
            vec!["rope_parameters.attention_factor 1.7: with 1.138629436111989"],
        ),
        ("phi3-long", longrope("factor", 4.0), vec![]),
        (
            "phi3-long",
            longrope("factor", 9.0),
            vec!["rope_parameters.factor 9.0: with 4.0"],
        ),
        (
            "phi3-long",
            longrope("attention_factor", 1.7),
            vec!["rope_parameters.attention_factor 1.7: with 1.1338934190276817"],
        ),
        (
            "falcon",
            json!({"alibi": true, "parallel_attn": false}),
            vec!["alibi true: without it", "parallel_attn false: with true"],
        ),
        (
            "deepseek2",
            json!({"n_group": 2, "topk_group": 1, "topk_method": "group_limited_greedy"}),
            vec!["topk_method \"group_limited_greedy\": with \"noaux_tc\""],
        ),
    ];
    for (name, more, expected) in cases {
        assert_eq!(told(name, &more), expected, "{name} {more}");
    }
}

/// What is told of a model whose config lacks keys, each of whose heads has keys of its own if
/// `whole`.
fn assumed(name: &str, gone: &[&str], whole: bool) -> Vec<String> {
    let mut golden = goldens().into_iter().find(|one| one.0 == name).unwrap().1;
    for key in gone {
        golden["config"]
            .as_object_mut()
            .unwrap()
            .remove(*key)
            .unwrap();
    }
    let parts = [".k_proj.", ".v_proj."];
    for row in golden["source"].as_array_mut().unwrap() {
        if whole
            && parts
                .iter()
                .any(|part| row[0].as_str().unwrap().contains(part))
        {
            row[2][0] = json!(64);
        }
    }
    let lowered = lower(&golden, OutType::F32).unwrap();
    let told = lowered.records.into_iter();
    let told = told.filter(|record| record.kind == "class-default");
    told.map(|record| format!("{}: {}", record.what, record.why))
        .collect()
}

#[test]
fn what_is_assumed_without_a_key_is_told() {
    for (name, gone) in [
        ("llama", ""),
        ("gptneox", ""),
        ("bert", ""),
        ("falcon", "num_kv_heads"),
        ("phi2", "num_key_value_heads"),
    ] {
        // Falcon's `multi_query` says that there is one; Phi 2 has all of them in any case.
        let gone: Vec<&str> = (!gone.is_empty()).then_some(gone).into_iter().collect();
        assert_eq!(assumed(name, &gone, false), [""; 0], "{name}");
    }
    let told = assumed("llama", &["num_key_value_heads"], true);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("num_key_value_heads: config.json has none: it is 4, "),
        "{told:?}"
    );
    let told = assumed("qwen2", &["model_type"], false);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].starts_with("model_type: ") && told[0].contains("\"qwen2\""),
        "{told:?}"
    );
    // Without a class nothing is written of them, and a runtime takes all heads.
    let told = assumed("llama", &["model_type", "num_key_value_heads"], true);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("it is 4, which is the number of all heads"),
        "{told:?}"
    );
}
