//! HF to GGUF and back: the same tensors, and a config that leads to the same GGUF again.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use ir::{MetaValue, Model, Tensor, TensorTable};
use serde_json::Value;
use support::{as_f32, goldens, model};
use weightbridge_arch::{
    LowerOptions, Lowered, OutType, RaiseOptions, RepoFacts, gguf_to_hf, hf_to_gguf,
};

fn repo(golden: &Value) -> RepoFacts {
    let facts = &golden["repo"];
    RepoFacts {
        vocab_tokens: facts["vocab_tokens"].as_u64(),
        pooling_type: facts["pooling_type"].as_u64().map(|n| n as u32),
        ..RepoFacts::default()
    }
}

fn lower(
    model: &Model,
    config: &Value,
    repo: RepoFacts,
    arch: Option<&str>,
) -> Result<Lowered, String> {
    let options = LowerOptions {
        arch,
        out: OutType::F32,
        repo,
        ..LowerOptions::default()
    };
    hf_to_gguf(model, config, &options).map_err(|e| e.to_string())
}

fn gguf(lowered: &Lowered, table: &str) -> Model {
    let mut tokenizer = Vec::new();
    // What tells the kinds of BERT apart.
    let kind = match table {
        "bert" => Some("bert"),
        "roberta" => Some("gpt2"),
        "xlm-roberta" => Some("t5"),
        _ => None,
    };
    if let Some(kind) = kind {
        tokenizer.push(("tokenizer.ggml.model".to_owned(), MetaValue::text(kind)));
    }
    let tensors = lowered.tensors.iter().map(|p| p.tensor.clone());
    Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        metadata: lowered.metadata(&[], &tokenizer),
        ..Model::default()
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    let bytes = as_f32(tensor);
    if tensor.dtype() == ir::DType::U8 {
        return bytes.iter().map(|b| f32::from(*b)).collect();
    }
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}

fn differences(golden: &Value) -> Result<(), String> {
    let source = model(golden);
    let lowered = lower(&source, &golden["config"], repo(golden), None)?;
    let file = gguf(&lowered, &lowered.table);
    let raised = gguf_to_hf(&file, RaiseOptions::default()).map_err(|e| e.to_string())?;
    if raised.table != lowered.table {
        return Err(format!("table {}", raised.table));
    }
    let mut list = Vec::new();
    for tensor in &raised.tensors {
        // A multimodal or classifying model's names lose a prefix; all end alike.
        let original = source.tensors.iter().filter(|t| {
            let (a, b) = (t.name.as_str(), tensor.name.as_str());
            a == b
                || a.ends_with(&format!(".{b}"))
                || b.ends_with(&format!(".{a}"))
                || a.replace("language_model.", "") == b
        });
        let Some(original) = original.min_by_key(|t| t.name.len().abs_diff(tensor.name.len()))
        else {
            list.push(format!("{} is nobody's", tensor.name));
            continue;
        };
        let (a, b) = (floats(original), floats(tensor));
        let rows = &tensor.spec.shape;
        if a.len() != b.len() {
            // Rows that were cut are gone, or come back as zeros.
            if !raised.records.iter().any(|r| r.kind == "rows") {
                list.push(format!("{} has shape {rows}", tensor.name));
            }
            continue;
        }
        let cut = raised.records.iter().any(|r| r.kind == "rows") && rows.len() == 2;
        let differ = a
            .iter()
            .zip(&b)
            .filter(|(x, y)| (**x - **y).abs() > 1e-6)
            .count();
        if original.spec.shape != tensor.spec.shape
            || differ > 0 && !(cut && tensor.name.contains("position"))
        {
            list.push(format!(
                "{}: {differ} values differ, {}",
                tensor.name,
                tensor.history()
            ));
        }
    }
    // And there again, by the config that came back.
    let back = Model {
        tensors: raised.tensors.clone(),
        ..Model::default()
    };
    // (The text part of a multimodal model comes back as a class that has another GGUF name.)
    match lower(&back, &raised.config, repo(golden), Some(&lowered.table)) {
        Err(error) => list.push(format!("again: {error}\n    {}", raised.config)),
        Ok(again) => {
            let pairs = |l: &Lowered| {
                let mut all = [&l.early[..], &l.params, &l.vocab_head, &l.vocab_tail].concat();
                // Labels of a classifier are not kept by the way back.
                all.retain(|(key, _)| !key.ends_with("output_labels"));
                all
            };
            for (key, value) in pairs(&lowered) {
                let other = pairs(&again)
                    .into_iter()
                    .find(|(k, _)| *k == key)
                    .map(|(_, v)| v);
                if other.as_ref() != Some(&value) {
                    list.push(format!("again: {key} is {other:?}, not {value:?}"));
                }
            }
            for (key, value) in pairs(&again) {
                if !pairs(&lowered).iter().any(|(k, _)| *k == key) {
                    list.push(format!("again: {key} is new: {value:?}"));
                }
            }
            for planned in &lowered.tensors {
                let Some(other) = again
                    .tensors
                    .iter()
                    .find(|p| p.tensor.name == planned.tensor.name)
                else {
                    list.push(format!("again: {} is missing", planned.tensor.name));
                    continue;
                };
                let (a, b) = (floats(&planned.tensor), floats(&other.tensor));
                if a.len() != b.len() || a.iter().zip(&b).any(|(x, y)| (x - y).abs() > 1e-6) {
                    list.push(format!("again: {} differs", planned.tensor.name));
                }
            }
        }
    }
    if list.is_empty() {
        Ok(())
    } else {
        Err(list.join("\n  "))
    }
}

#[test]
fn there_and_back_and_there_again() {
    let mut failed = Vec::new();
    for (name, golden) in goldens() {
        if let Err(why) = differences(&golden)
            && !why.contains("it has no way back")
        {
            failed.push(format!("{name}:\n  {why}"));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

/// A stack of experts that hold nothing may claim any number of them, in a header of a few bytes.
#[test]
fn a_stack_of_countless_empty_experts_is_refused() {
    let (_, golden) = goldens()
        .into_iter()
        .find(|(name, _)| name == "mixtral")
        .unwrap();
    let lowered = lower(&model(&golden), &golden["config"], repo(&golden), None).unwrap();
    let mut file = gguf(&lowered, "mixtral");
    let tensors = file.tensors.into_tensors().into_iter().map(|tensor| {
        if tensor.name != "blk.0.ffn_gate_exps.weight" {
            return tensor;
        }
        let spec = ir::TensorSpec::new(ir::DType::F32, [1 << 40, 0, 8]);
        let nothing = ir::View::contiguous(ir::Region::memory(Vec::new()));
        Tensor::stored(tensor.name, spec, nothing)
    });
    file.tensors = TensorTable::from_tensors(tensors).unwrap();
    let error = gguf_to_hf(&file, RaiseOptions::default()).unwrap_err();
    assert_eq!(error.class(), ir::Class::Limit, "{error}");
}
