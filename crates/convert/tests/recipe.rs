//! The recipe's choices against those of the real `llama-quantize`, as `testdata/recipe` has them
//! (made by `tests/interop/recipe/make_golden.py`).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};
use std::path::Path;

/// Reads models and requests, and asks the recipe.
#[allow(dead_code)]
#[path = "../examples/recipe_dump.rs"]
mod recipe_dump;

/// The answer of the golden file in the form of ours: name and type of each tensor in order.
fn spelled_out(golden: &Value, letters: &str) -> Value {
    let order = golden["order"].as_array().unwrap().iter();
    order
        .zip(letters.chars())
        .map(|(place, letter)| {
            let place = usize::try_from(place.as_u64().unwrap()).unwrap();
            json!([
                golden["tensors"][place][0],
                golden["types"][letter.to_string()]
            ])
        })
        .collect()
}

#[test]
fn every_tensor_gets_the_type_llama_quantize_gives_it() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/recipe");
    let (mut files, mut requests) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        files += 1;
        let golden: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let (tensors, metadata) = recipe_dump::model(&golden).unwrap();
        for answer in golden["answers"].as_array().unwrap() {
            let letters = answer["answer"].as_str().unwrap();
            for request in answer["of"].as_array().unwrap() {
                requests += 1;
                let mut words = request.as_str().unwrap().split(' ').peekable();
                let file_type = words.next();
                let imatrix = words.next_if_eq(&"+imatrix").is_some();
                let flags: Vec<&str> = words.chain(["--dry-run"]).collect();
                let request = json!({"type": file_type, "imatrix": imatrix, "flags": flags});
                let ours = recipe_dump::answer(&tensors, &metadata, &request);
                let at = format!("{}: {request}", path.display());
                match (letters, ours) {
                    ("error", ours) => assert!(ours.is_err(), "{at}"),
                    (_, Err(error)) => unreachable!("{at}: {error}"),
                    (_, Ok(ours)) => assert_eq!(ours, spelled_out(&golden, letters), "{at}"),
                }
            }
        }
    }
    assert!(
        files >= 14 && requests > 1000,
        "{files} files, {requests} requests"
    );
}
