//! Names and size labels against what gguf-py gave for them.
#![allow(clippy::pedantic, missing_docs, clippy::unwrap_used, clippy::panic)] // a test's own helpers

use serde_json::Value;
use weightbridge_arch::{GeneralInput, ParameterCounts, general, size_label};

fn names() -> Value {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../testdata/arch/general/names.json"
    );
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn names_are_taken_apart_as_gguf_py_does() {
    for (folder, sizes) in names()["by_directory_name"].as_object().unwrap() {
        for (total, wanted) in sizes.as_object().unwrap() {
            let input = GeneralInput {
                folder,
                counts: ParameterCounts {
                    total: total.parse().unwrap(),
                    ..ParameterCounts::default()
                },
                ..GeneralInput::default()
            };
            let pairs = general(&input);
            for field in ["name", "version", "finetune", "basename", "size_label"] {
                let key = format!("general.{field}");
                let ours = pairs
                    .iter()
                    .find(|(k, _)| *k == key)
                    .and_then(|(_, v)| v.as_str());
                let theirs = wanted[field].as_str();
                // The tables tell what the name gives; a size is then counted if it gives none.
                if field == "size_label" && theirs.is_none() {
                    continue;
                }
                assert_eq!(ours, theirs, "{field} of {folder} with {total}");
            }
        }
    }
}

#[test]
fn sizes_are_rounded_as_gguf_py_does() {
    for row in names()["size_label"].as_array().unwrap() {
        let n = |i: usize| row[i].as_u64().unwrap();
        let counts = ParameterCounts {
            total: n(0),
            shared: n(1),
            expert: n(2),
            experts: n(3),
        };
        assert_eq!(size_label(&counts), row[4].as_str().unwrap());
    }
}
