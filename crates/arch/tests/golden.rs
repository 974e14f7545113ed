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
