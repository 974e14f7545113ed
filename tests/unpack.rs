//! Layers as other quantizers pack them, against what their own libraries make of them.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use ir::{DType, Model, Tensor};
use std::fs;
use std::path::Path;
use weightbridge::Session;

/// A packed layer, its settings, and the values it stands for.
fn layer(path: &Path) -> (Model, serde_json::Value, Tensor) {
    let mut model = weightbridge::open(path, None, ir::ReadOptions::default(), &Session::default())
        .unwrap()
        .model;
    let settings = model.metadata.get(ir::ns::SAFETENSORS, "settings").unwrap();
    let settings = serde_json::from_str(settings.as_str().unwrap()).unwrap();
    let mut tensors = model.tensors.into_tensors();
    let at = tensors.iter().position(|t| t.name == "expected").unwrap();
    let expected = tensors.remove(at);
    model.tensors = ir::TensorTable::from_tensors(tensors).unwrap();
    (model, settings, expected)
}

#[test]
fn every_method_equals_its_library() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/unpack");
    let mut seen = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (mut model, settings, expected) = layer(&path);
        unpack::unpack(&mut model, &settings).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let names: Vec<&str> = model.tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["l.weight"], "{name}");
        let made = model.tensors.by_name("l.weight").unwrap();
        assert_eq!(made.spec, expected.spec, "{name}");
        assert_eq!(
            made.read_all().unwrap(),
            expected.read_all().unwrap(),
            "{name}"
        );
        // Any part of it is the same as that part of the whole.
        let whole = made.read_all().unwrap();
        let width = whole.len() / usize::try_from(made.spec.elements().unwrap()).unwrap();
        let mut part = vec![0; 250 * width];
        made.read(137..387, &mut part).unwrap();
        assert!(part == whole[137 * width..387 * width], "{name}");
        seen += 1;
    }
    assert!(seen >= 14, "{seen} files");
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/unpack");
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let (model, settings, _) = layer(&path);
        for (at, gone) in model.tensors.iter().enumerate() {
            // Each part missing, and each part a number short: an error or a whole result.
            for missing in [true, false] {
                let mut tensors: Vec<Tensor> = model.tensors.iter().cloned().collect();
                if missing {
                    tensors.remove(at);
                } else {
                    let spec = ir::TensorSpec::new(DType::U8, [3]);
                    tensors[at] = Tensor::stored(
                        gone.name.clone(),
                        spec,
                        ir::View::contiguous(ir::Region::memory(vec![1, 2, 3])),
                    );
                }
                let mut broken = model.clone();
                broken.tensors = ir::TensorTable::from_tensors(tensors).unwrap();
                match unpack::unpack(&mut broken, &settings) {
                    Err(error) => {
                        let text = error.message();
                        assert!(text.contains("\"l."), "{path:?} {}: {text}", gone.name);
                    }
                    Ok(()) => {
                        for tensor in &broken.tensors {
                            tensor.read_all().unwrap();
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn unknown_methods_and_settings_are_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/unpack/gptq4.safetensors");
    let (model, _, _) = layer(&path);
    let refused = |settings: serde_json::Value| {
        let error = unpack::unpack(&mut model.clone(), &settings).unwrap_err();
        (error.message(), error.help().unwrap())
    };
    let (text, help) = refused(serde_json::json!({"quant_method": "aqlm"}));
    assert!(text.contains("\"aqlm\"") && text.contains("gptq"), "{text}");
    assert!(help.contains("--as container"), "{help}");
    let (text, _) = refused(serde_json::json!({"quant_method": "gptq", "bits": 5}));
    assert!(
        text.contains("\"bits\" is 5, expected 2, 3, 4 or 8"),
        "{text}"
    );
    let (text, _) = refused(serde_json::json!({"quant_method": "gptq"}));
    assert!(text.contains("missing"), "{text}");
}
