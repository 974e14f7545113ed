//! What the readers find in files made by the original tools equals what those tools say.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use ir::{Model, Payload, ReadOptions, Tensor};
use serde_json::Value;
use weightbridge::Session;
use weightbridge_tests::{expected, sha256, short};

/// Names, types, shapes, values and order, all of them, or the list of what differs.
fn compare(model: &Model, truth: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let nameless = truth["nameless"] == true;
    let tensors: Vec<&Value> = truth["tensors"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|t| t["meta"] != true)
        .collect();
    let names: Vec<&str> = tensors
        .iter()
        .map(|t| t["name"].as_str().unwrap())
        .collect();
    let mut list: Vec<&Tensor> = model.tensors.iter().collect();
    if model.provenance.format == "safetensors" {
        // The library answers in an order of its own, and leaves ties in the metadata.
        list.retain(|tensor| names.contains(&tensor.name.as_str()));
        list.sort_by_key(|tensor| names.iter().position(|name| *name == tensor.name));
    }
    let found: Vec<&str> = list.iter().map(|t| t.name.as_str()).collect();
    if nameless && found.len() == 1 {
        // One tensor: any name will do.
    } else if found != names {
        wrong.push(format!("names {found:?}, expected {names:?}"));
        return wrong;
    }
    for (tensor, truth) in list.into_iter().zip(tensors) {
        let shape: Vec<u64> = truth["shape"]
            .as_array()
            .unwrap()
            .iter()
            .map(|d| d.as_u64().unwrap())
            .collect();
        let dtype = truth["dtype"].as_str().unwrap();
        if tensor.dtype().name() != dtype || *tensor.spec.shape != *shape {
            wrong.push(format!(
                "{}: {} {}, expected {dtype} {shape:?}",
                tensor.name,
                tensor.dtype(),
                tensor.spec.shape
            ));
        } else if sha256(&bytes_of(tensor)) != truth["sha256"] {
            wrong.push(format!("{}: other values", tensor.name));
        }
    }
    wrong
}

/// A tensor's bytes; of strings, a line each.
fn bytes_of(tensor: &Tensor) -> Vec<u8> {
    match &tensor.payload {
        Payload::Strings(list) => list.join(&b'\n'),
        _ => tensor.read_all().unwrap(),
    }
}

fn check(folder: &str, format: &str, at_least: usize) {
    let session = Session::default();
    let mut wrong = Vec::new();
    let cases = expected(folder);
    assert!(
        cases.len() >= at_least,
        "only {} files described in {folder}",
        cases.len()
    );
    for (path, truth) in cases {
        if truth["frozen"] == true {
            continue;
        }
        // A shard by itself: without a word it stands for its set.
        // One of GGUF stands for it whatever is said, and the truth is that of the set.
        let shard = path.to_string_lossy().contains("-of-0") && format != "gguf";
        let alone = shard.then_some(format);
        match weightbridge::open(&path, alone, ReadOptions::default(), &session) {
            Ok(opened) => wrong.extend(
                compare(&opened.model, &truth)
                    .into_iter()
                    .map(|w| format!("{}: {w}", short(&path))),
            ),
            Err(error) => wrong.push(error.to_string()),
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn checkpoints_hold_what_torch_says() {
    check("ckpt/good", "ckpt", 100);
}

#[test]
fn safetensors_hold_what_the_library_says() {
    check("safetensors/good", "safetensors", 15);
}

#[test]
fn gguf_files_hold_what_gguf_py_says() {
    check("gguf/good", "gguf", 36);
}

#[test]
fn onnx_models_hold_what_the_package_says() {
    check("onnx/good", "onnx", 11);
}
