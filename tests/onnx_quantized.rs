//! Quantized ONNX models as onnxruntime writes them, and GGUF's blocks in ONNX, against the values
//! their own tools compute (`testdata/make/onnx_quantized.py`).

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use ir::{ReadOptions, Tensor};
use std::fs;
use std::path::{Path, PathBuf};
use weightbridge::{ConvertRequest, Intent, Session};
use weightbridge_tests::{folder, repository};

fn data() -> PathBuf {
    repository().join("testdata/onnx-quantized")
}

fn tensors(path: &Path) -> Vec<Tensor> {
    let opened = weightbridge::open(path, None, ReadOptions::default(), &Session::default());
    let mut list = opened.unwrap().model.tensors.into_tensors();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

fn converted(from: &Path, to: &Path, intent: Option<Intent>) {
    let request = ConvertRequest {
        overwrite: true,
        intent,
        ..ConvertRequest::new(from, to)
    };
    weightbridge::convert(&request, &Session::default()).unwrap();
}

/// Bits, except for the sign of zero where values went through a sum.
fn same(name: &str, a: &Tensor, b: &Tensor, summed: bool) {
    assert_eq!((&a.name, &a.spec), (&b.name, &b.spec), "{name}");
    let numbers = |tensor: &Tensor| -> Vec<u32> {
        let bytes = tensor.read_all().unwrap();
        let bits = bytes.as_chunks().0.iter().map(|b| u32::from_le_bytes(*b));
        bits.map(|n| if summed && n == 1 << 31 { 0 } else { n })
            .collect()
    };
    assert!(numbers(a) == numbers(b), "{name}: {}", a.name);
}

#[test]
fn weights_come_out_as_onnxruntime_computes_them() {
    let dir = folder();
    let mut seen = 0;
    for entry in fs::read_dir(data()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "onnx") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let out = dir.path().join("out.safetensors");
        converted(&path, &out, None);
        let mut made = tensors(&out);
        if name == "dynamic" {
            // The shape of a Reshape is a constant like any other.
            made.retain(|tensor| tensor.name != "c_bias_reshape_shape");
        }
        let wanted = tensors(&path.with_extension("safetensors"));
        assert_eq!(made.len(), wanted.len(), "{name}");
        for (a, b) in made.iter().zip(&wanted) {
            if name == "dynamic" && a.name == "fc2.weight" {
                // The quantizer stores it the other way round, under its name.
                assert_eq!(a.spec.shape[..], [24, 10]);
            }
            same(&name, a, b, name.starts_with("nbits"));
        }
        // As a container every part stays what it is.
        converted(&path, &out, Some(Intent::Container));
        let source = tensors(&path);
        let parts = tensors(&out);
        assert!(source.iter().all(|tensor| {
            let part = parts.iter().find(|part| part.name == tensor.name);
            part.is_some_and(|part| part.byte_len() == tensor.byte_len())
        }));
        seen += 1;
    }
    assert_eq!(seen, 9);
}

#[test]
fn blocks_go_there_and_back() {
    let dir = folder();
    let source = data().join("blocks.gguf");
    let [there, back, numbers] =
        ["a.onnx", "b.gguf", "c.safetensors"].map(|name| dir.path().join(name));
    converted(&source, &there, Some(Intent::Container));
    converted(&there, &back, Some(Intent::Container));
    assert!(fs::read(&source).unwrap() == fs::read(&back).unwrap());
    converted(&there, &numbers, Some(Intent::Container));
    let wanted = tensors(&data().join("blocks.safetensors"));
    let made = tensors(&numbers);
    assert_eq!(made.len(), wanted.len());
    for (a, b) in made.iter().zip(&wanted) {
        same("blocks", a, b, false);
    }
}

#[test]
fn inspect_lists_quantized_weights() {
    let path = data().join("nbits4.onnx");
    let session = Session::default();
    let opened = weightbridge::open(&path, None, ReadOptions::default(), &session).unwrap();
    let told = weightbridge::describe(&opened.model);
    let line = &told.quantized[0];
    assert_eq!(told.quantized.len(), 1);
    assert_eq!(line.name, "onnx::MatMul_7");
    assert_eq!(line.scheme, "MatMulNBits of 4 bits in blocks of 16");
    assert_eq!(line.shape, [24, 40]);
    assert_eq!(line.parts.len(), 3);
}
