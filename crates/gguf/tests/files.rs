//! Every file of `testdata/gguf`, against what gguf-py says of it and against itself rewritten.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod support;

use ir::{Array, Class, MetaValue, Metadata, Model, WriteOptions, ns};
use serde_json::{Value, json};
use std::fs;
use support::{catalogue, open, path_of, sha256, testdata, write, written};

/// A value as `gguf_expected.py` writes it: its type and its value, floats by their bits.
fn told(value: &MetaValue) -> (String, Value) {
    macro_rules! list {
        ($kind:literal, $items:expr) => {
            (format!("array of {}", $kind), json!($items))
        };
    }
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (kind, value) = match value {
        MetaValue::U8(n) => ("u8", json!(n)),
        MetaValue::I8(n) => ("i8", json!(n)),
        MetaValue::U16(n) => ("u16", json!(n)),
        MetaValue::I16(n) => ("i16", json!(n)),
        MetaValue::U32(n) => ("u32", json!(n)),
        MetaValue::I32(n) => ("i32", json!(n)),
        MetaValue::U64(n) => ("u64", json!(n)),
        MetaValue::I64(n) => ("i64", json!(n)),
        MetaValue::F32(n) => ("f32", json!(n.to_bits())),
        MetaValue::F64(n) => ("f64", json!(n.to_bits())),
        MetaValue::Bool(b) => ("bool", json!(b)),
        MetaValue::Str(bytes) => ("str", json!(text(bytes))),
        MetaValue::Array(array) => {
            return match array {
                Array::U8(items) => list!("u8", items),
                Array::I8(items) => list!("i8", items),
                Array::U16(items) => list!("u16", items),
                Array::I16(items) => list!("i16", items),
                Array::U32(items) => list!("u32", items),
                Array::I32(items) => list!("i32", items),
                Array::U64(items) => list!("u64", items),
                Array::I64(items) => list!("i64", items),
                Array::F32(items) => {
                    list!("f32", items.iter().map(|n| n.to_bits()).collect::<Vec<_>>())
                }
                Array::F64(items) => {
                    list!("f64", items.iter().map(|n| n.to_bits()).collect::<Vec<_>>())
                }
                Array::Bool(items) => list!("bool", items),
                Array::Str(items) => {
                    list!("str", items.iter().map(|b| text(b)).collect::<Vec<_>>())
                }
                Array::Array(_) => panic!("gguf-py flattens these"),
            };
        }
    };
    (kind.to_owned(), value)
}

/// Metadata under the file's keys, but for notes that stand for a name or a shape.
fn keys(metadata: &Metadata) -> Vec<Value> {
    let restores = |key: &str| key.starts_with("name.") || key.starts_with("dims.");
    let pairs = metadata
        .iter()
        .filter(|e| !(e.namespace == ns::NOTE && restores(&e.key)));
    pairs
        .map(|entry| {
            let key = match entry.namespace {
                ns::GGUF => entry.key.clone(),
                namespace => format!("{namespace}.{}", entry.key),
            };
            let (kind, value) = told(&entry.value);
            json!({"key": key, "type": kind, "value": value})
        })
        .collect()
}

/// The keys of a file, but for those that a name or a shape was restored from.
fn plain_keys(truth: &Value) -> Vec<Value> {
    let mut restored = Vec::new();
    for tensor in truth["tensors"].as_array().unwrap() {
        let stored = tensor["stored_name"].as_str().unwrap();
        if tensor["name"] != stored {
            restored.push(format!("weightbridge.name.{stored}"));
        }
        if tensor["shape"] != tensor["stored_shape"] {
            restored.push(format!("comfy.gguf.orig_shape.{stored}"));
        }
    }
    let told = |pair: &Value| restored.iter().any(|key| pair["key"] == *key);
    let mut keys = truth["keys"].as_array().unwrap().clone();
    keys.retain(|pair| !told(pair));
    keys
}

fn compare(path: &str, model: &Model, truth: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let tensors = truth["tensors"].as_array().unwrap();
    if tensors.len() != model.tensors.len() {
        return vec![format!("{path}: {} tensors", model.tensors.len())];
    }
    for (tensor, truth) in model.tensors.iter().zip(tensors) {
        let found = json!([tensor.name, tensor.dtype().name(), &tensor.spec.shape[..]]);
        let expected = json!([truth["name"], truth["dtype"], truth["shape"]]);
        if found != expected {
            wrong.push(format!("{path}: {found}, expected {expected}"));
        } else if sha256(&tensor.read_all().unwrap()) != truth["sha256"] {
            wrong.push(format!("{path}: {}: other bytes", tensor.name));
        }
    }
    let (found, expected) = (keys(&model.metadata), plain_keys(truth));
    if found.len() != expected.len() {
        wrong.push(format!(
            "{path}: {} keys, expected {}",
            found.len(),
            expected.len()
        ));
    }
    for (found, expected) in found.iter().zip(&expected) {
        if found != expected {
            wrong.push(format!("{path}: {found}, expected {expected}"));
        }
    }
    wrong
}

#[test]
fn good_files_hold_what_gguf_py_says() {
    let mut wrong = Vec::new();
    let mut n = 0;
    for fact in catalogue("gguf/good/") {
        let path = path_of(&fact);
        let model = match open(&testdata().join(path)) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(error.to_string());
                continue;
            }
        };
        model.validate(&ir::Limits::default()).unwrap();
        if fact["skip"] == true {
            continue;
        }
        let truth = fs::read(testdata().join(format!("expected/{path}.json"))).unwrap();
        wrong.extend(compare(
            path,
            &model,
            &serde_json::from_slice(&truth).unwrap(),
        ));
        n += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(n >= 35, "{n} files");
}

#[test]
fn files_read_and_written_are_the_same() {
    let mut n = 0;
    for fact in catalogue("gguf/good/") {
        let path = testdata().join(path_of(&fact));
        let model = open(&path).unwrap();
        let same = written(&model) == fs::read(&path).unwrap();
        if fact["rewrite"] == false {
            assert!(!same, "{} is rewritten all the same", path.display());
        } else {
            assert!(same, "{} became another file", path.display());
            n += 1;
        }
    }
    assert!(n >= 25, "{n} files");
}

#[test]
fn files_of_other_forms_become_their_twins() {
    let data = testdata();
    for name in ["plain", "blocks"] {
        let model = open(&data.join(format!("gguf/good/{name}_be.gguf"))).unwrap();
        assert!(model.provenance.version.contains("big endian"));
        let twin = fs::read(data.join(format!("gguf/good/{name}.gguf"))).unwrap();
        assert!(written(&model) == twin, "{name}");
    }
    let versions: Vec<_> = ["v1", "v1_be", "v2"]
        .iter()
        .map(|name| written(&open(&data.join(format!("gguf/good/{name}.gguf"))).unwrap()))
        .collect();
    assert!(versions[0] == versions[1] && versions[0] == versions[2]);
    let plain = open(&data.join("gguf/good/trailing.gguf")).unwrap();
    assert_eq!(plain.provenance.records[0].kind, "trailing-bytes");
    assert_eq!(written(&plain), versions[0]);
}

#[test]
fn sets_are_what_llama_gguf_split_makes() {
    let data = testdata().join("gguf/good/split");
    let whole = open(&data.join("whole.gguf")).unwrap();
    for (name, tensors, empty_first) in [("tensors", 5, false), ("empty_first", 6, true)] {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions {
            shard_tensors: Some(tensors),
            shard_empty_first: empty_first,
            ..WriteOptions::default()
        };
        write(folder.path(), &format!("{name}.gguf"), &whole, options).unwrap();
        let mut n = 0;
        for entry in fs::read_dir(folder.path()).unwrap() {
            let entry = entry.unwrap();
            let theirs = fs::read(data.join(entry.file_name())).unwrap();
            assert!(
                fs::read(entry.path()).unwrap() == theirs,
                "{:?}",
                entry.file_name()
            );
            // Any shard opens the whole set, and a set written as one file is the file it was.
            assert!(written(&open(&entry.path()).unwrap()) == written(&whole));
            n += 1;
        }
        assert_eq!(n, 3);
    }
}

#[test]
fn bad_files_are_refused_with_a_reason() {
    let mut wrong = Vec::new();
    for fact in catalogue("gguf/bad/") {
        let path = path_of(&fact);
        let Err(error) = open(&testdata().join(path)) else {
            wrong.push(format!("{path}: opened"));
            continue;
        };
        let why = fact["why"].as_str().unwrap();
        let class = matches!(
            error.class(),
            Class::Malformed | Class::Unsupported | Class::Limit
        );
        if !class || error.help().is_none() || error.path().is_none() {
            wrong.push(format!("{path}: {error:?}"));
        } else if !error.to_string().contains(why) {
            wrong.push(format!("{path}: {error}: no {why:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
