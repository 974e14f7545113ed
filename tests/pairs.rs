//! Every reader, every writer, and the way back: the tensors are the same, bit for bit.
//!
//! The pairs come from the registry, so a new format is tested before anyone writes a test for it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use convert::{DiffOptions, Shared};
use ir::ReadOptions;
use weightbridge::{ConvertRequest, Intent, Names, Policy, Session, registry};
use weightbridge_tests::{expected, folder, short};

#[test]
fn there_and_back() {
    let session = Session::default();
    let dir = folder();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, truth) in expected("ckpt/good")
        .into_iter()
        .chain(expected("safetensors/good"))
        .chain(expected("gguf/good"))
        .chain(expected("onnx/good"))
    {
        if truth["frozen"] == true {
            continue;
        }
        let source = weightbridge::open(&path, None, ReadOptions::default(), &session);
        let Ok(source) = source else { continue };
        if source.model.tensors.is_empty() {
            continue;
        }
        // What is chosen from a checkpoint, as one flat file: the point the ways start from.
        let start = dir.path().join("start.safetensors");
        let request = ConvertRequest {
            overwrite: true,
            intent: Some(Intent::Container),
            shared: Shared::KeepOne,
            policy: Policy::Default,
            ..ConvertRequest::new(&path, &start)
        };
        if let Err(error) = weightbridge::convert(&request, &session) {
            wrong.push(format!("{}: {error}", short(&path)));
            continue;
        }
        for target in registry().iter().filter(|format| format.writer.is_some()) {
            let there = dir.path().join(format!("there.{}", target.extensions[0]));
            let back = dir.path().join("back.safetensors");
            for (from, to) in [(&start, &there), (&there, &back)] {
                let request = ConvertRequest {
                    overwrite: true,
                    intent: Some(Intent::Container),
                    ..ConvertRequest::new(from, to)
                };
                if let Err(error) = weightbridge::convert(&request, &session) {
                    wrong.push(format!("{} by {}: {error}", short(&path), target.id));
                }
            }
            let report =
                weightbridge::diff(&start, &back, Names::Raw, DiffOptions::default(), &session);
            match report {
                Ok(report) if report.same() => tried += 1,
                Ok(report) => wrong.push(format!("{} by {}: {report:?}", short(&path), target.id)),
                Err(error) => wrong.push(format!("{} by {}: {error}", short(&path), target.id)),
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(tried >= 100, "only {tried} ways tried");
}

/// Blocks carried as bytes come back as the blocks they were, in every format that has none.
#[test]
fn blocks_come_back() {
    let session = Session::default();
    let dir = folder();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for (path, _) in expected("gguf/good") {
        let has_blocks = weightbridge::open(&path, None, ReadOptions::default(), &session)
            .unwrap()
            .model
            .tensors
            .iter()
            .any(|tensor| matches!(tensor.dtype(), ir::DType::Block(_)));
        for target in registry().iter().filter(|format| format.writer.is_some()) {
            if !has_blocks || target.id == "gguf" {
                continue;
            }
            let there = dir.path().join(format!("there.{}", target.extensions[0]));
            let back = dir.path().join("back.gguf");
            for (from, to) in [(&path, &there), (&there, &back)] {
                let request = ConvertRequest {
                    overwrite: true,
                    keep_blocks: true,
                    intent: Some(Intent::Container),
                    ..ConvertRequest::new(from, to)
                };
                if let Err(error) = weightbridge::convert(&request, &session) {
                    wrong.push(format!("{} by {}: {error}", short(&path), target.id));
                }
            }
            let types = |path| -> Vec<_> {
                let opened = weightbridge::open(path, None, ReadOptions::default(), &session);
                let tensors = opened.unwrap().model.tensors.into_tensors();
                let mut types: Vec<_> = tensors
                    .into_iter()
                    .map(|tensor| {
                        (
                            tensor.name.clone(),
                            tensor.dtype(),
                            tensor.read_all().unwrap(),
                        )
                    })
                    .collect();
                types.sort_by(|a, b| a.0.cmp(&b.0));
                types
            };
            if types(&path) == types(&back) {
                tried += 1;
            } else {
                wrong.push(format!("{} by {}: other blocks", short(&path), target.id));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(tried >= 4, "only {tried} ways tried");
}
