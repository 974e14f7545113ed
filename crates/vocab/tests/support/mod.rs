//! Cases of `testdata/vocab`, made by tests/interop/vocab/make_golden.py.

#![allow(dead_code)] // each test uses its part

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use ir::{Array, Limits, MetaValue, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use weightbridge_vocab::{Request, Vocabulary, to_gguf};

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) class: String,
    pub(crate) pre: Option<String>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) config: Value,
    pub(crate) files: Vec<(String, Bytes)>,
    pub(crate) expected: Vec<Value>,
}

pub(crate) fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/vocab");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    assert!(paths.len() > 15, "{} cases", paths.len());
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Case {
    let case: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let text = |key: &str| case[key].as_str().map(str::to_owned);
    let files = case["files"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, content)| {
            let bytes = if let Some(text) = content["text"].as_str() {
                text.as_bytes().to_vec()
            } else if let Some(text) = content["base64"].as_str() {
                BASE64.decode(text).unwrap()
            } else {
                serde_json::to_vec(&content["json"]).unwrap()
            };
            (name.clone(), Bytes::from(bytes))
        });
    Case {
        name: path.file_stem().unwrap().to_string_lossy().into_owned(),
        class: text("class").unwrap(),
        pre: text("pre"),
        fingerprint: text("fingerprint"),
        config: case["config"].clone(),
        files: files.collect(),
        expected: case["expected"].as_array().unwrap().clone(),
    }
}

impl Case {
    pub(crate) fn run(&self, pre: Option<&str>) -> Result<Vocabulary> {
        self.run_files(&self.files, pre)
    }

    /// As the reference converter does it, without tokens that the model has no row for.
    pub(crate) fn run_files(
        &self,
        files: &[(String, Bytes)],
        pre: Option<&str>,
    ) -> Result<Vocabulary> {
        self.run_as(files, pre, true)
    }

    pub(crate) fn run_as(
        &self,
        files: &[(String, Bytes)],
        pre: Option<&str>,
        partial: bool,
    ) -> Result<Vocabulary> {
        let limits = Limits::default();
        let request = Request {
            hf_class: &self.class,
            config: &self.config,
            vocab_size: None,
            embedding_rows: None,
            partial,
            pre,
            method: None,
            limits: &limits,
        };
        to_gguf(&files, &request)
    }
}

/// Pairs as the reference tells them: lists by length and SHA-256.
pub(crate) fn told(pairs: &[(String, MetaValue)]) -> Vec<Value> {
    pairs
        .iter()
        .map(|(key, value)| json!([key, one(value)]))
        .collect()
}

fn one(value: &MetaValue) -> Value {
    let list = |kind: &str, n: usize, bytes: Vec<u8>| {
        let digest = Sha256::digest(bytes);
        let hex = digest
            .iter()
            .fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        json!({"list": kind, "n": n, "sha256": hex})
    };
    match value {
        MetaValue::U32(n) => json!({"u32": n}),
        MetaValue::Bool(b) => json!({"bool": b}),
        MetaValue::Str(_) => json!({"str": value.as_str()}),
        MetaValue::Array(Array::Str(all)) => {
            let mut bytes = Vec::new();
            for text in all {
                bytes.extend((text.len() as u64).to_le_bytes());
                bytes.extend(text);
            }
            list("str", all.len(), bytes)
        }
        MetaValue::Array(Array::I32(all)) => list(
            "i32",
            all.len(),
            all.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ),
        MetaValue::Array(Array::F32(all)) => list(
            "f32",
            all.len(),
            all.iter().flat_map(|n| n.to_le_bytes()).collect(),
        ),
        MetaValue::Array(Array::U8(all)) => list("u8", all.len(), all.clone()),
        other => panic!("{other:?}"),
    }
}
