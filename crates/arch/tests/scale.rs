//! A model of DeepSeek V3's number of tensors is planned without reading any.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

mod support;

use ir::{DType, Model, PatternCompute, TensorTable};
use serde_json::json;
use std::time::{Duration, Instant};
use support::{goldens, model};
use weightbridge_arch::{LowerOptions, hf_to_gguf};

#[test]
fn tens_of_thousands_of_experts_are_planned_in_seconds() {
    let Some((_, golden)) = goldens().into_iter().find(|(name, _)| name == "deepseek3") else {
        return;
    };
    let mut config = golden["config"].clone();
    config["num_hidden_layers"] = json!(61);
    config["n_routed_experts"] = json!(256);
    config["first_k_dense_replace"] = json!(0);
    let (blocks, mut tensors): (Vec<_>, Vec<_>) = model(&golden)
        .tensors
        .into_tensors()
        .into_iter()
        .partition(|t| t.name.starts_with("model.layers."));
    let block: Vec<_> = blocks
        .into_iter()
        .filter(|t| t.name.starts_with("model.layers.1."))
        .collect();
    for layer in 0..61 {
        for tensor in &block {
            let name = tensor
                .name
                .replace(".layers.1.", &format!(".layers.{layer}."));
            if !name.contains(".experts.") {
                let shape = tensor.spec.shape.to_vec();
                tensors.push(PatternCompute::tensor(&name, DType::BF16, shape));
            } else if name.contains(".experts.0.") {
                for expert in 0..256 {
                    let name = name.replace(".experts.0.", &format!(".experts.{expert}."));
                    let shape = tensor.spec.shape.to_vec();
                    tensors.push(PatternCompute::tensor(&name, DType::BF16, shape));
                }
            }
        }
    }
    let large = Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    };
    assert!(large.tensors.len() > 46_000);
    let begin = Instant::now();
    let lowered = hf_to_gguf(&large, &config, &LowerOptions::default()).unwrap();
    let took = begin.elapsed();
    let stacks = lowered
        .tensors
        .iter()
        .filter(|p| p.tensor.name.contains("_exps."));
    assert_eq!(stacks.count(), 61 * 3);
    println!("{} tensors in {took:?}", large.tensors.len());
    assert!(took < Duration::from_secs(30), "{took:?}");
}
