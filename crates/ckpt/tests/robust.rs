//! Small real files cut at every byte and flipped in every byte: an error or a model, in time,
//! never a panic.

#![allow(clippy::unwrap_used)] // a test

use ir::{Context, Input, Reader, Region};
use std::path::Path;
use weightbridge_ckpt::CkptReader;

fn read(data: Vec<u8>) {
    let input = Input::from_region("cut.pt", Region::memory(data));
    let cx = Context::default();
    if let Ok(model) = CkptReader.open(&input, &cx) {
        for tensor in &model.tensors {
            // A view may be expanded; what is checked is that reading is safe.
            if tensor.byte_len() < 1 << 20 {
                let _ = tensor.read_all();
            }
        }
    }
    let survey = CkptReader.survey(&input, &cx);
    assert!(survey.error.is_some() || !survey.objects.is_empty());
}

#[test]
fn every_cut_and_flip_is_survived() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/ckpt/good");
    // With the distance between the bytes tried.
    let names = [
        ("zip/deflated.pt", 1),
        ("legacy/tied.pt", 1),
        ("legacy/quantized.pt", 1),
        ("zip/state_dict.pt", 3),
        ("plain/numpy_p2.pkl", 3),
        ("plain/torch_p4.pkl", 5),
        ("torchscript/traced.pt", 5),
        ("views/conjugate.pt", 7),
    ];
    for (name, step) in names {
        let Ok(data) = std::fs::read(good.join(name)) else {
            eprintln!("skipped: no {name} here");
            continue;
        };
        for cut in (0..data.len()).step_by(step) {
            read(data[..cut].to_vec());
        }
        for at in (0..data.len()).step_by(step) {
            let mut flipped = data.clone();
            flipped[at] ^= 1 << (at % 8);
            read(flipped);
        }
    }
}

#[test]
fn a_tar_is_survived() {
    let good = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/ckpt/good");
    let Ok(data) = std::fs::read(good.join("tar/state_dict.pt")) else {
        eprintln!("skipped: no tar here");
        return;
    };
    for at in (0..data.len()).step_by(17) {
        read(data[..at].to_vec());
        let mut flipped = data.clone();
        flipped[at] ^= 0x11;
        read(flipped);
    }
}
