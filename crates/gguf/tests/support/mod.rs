//! What the tests over files share.
#![allow(dead_code, unreachable_pub, missing_docs)] // each test uses a part
#![allow(clippy::unwrap_used, clippy::format_collect)] // helpers of tests

use ir::{Context, Input, Model, Output, Reader, Report, Result, WriteOptions, Writer};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use weightbridge_gguf::{GgufReader, GgufWriter};

pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

/// The facts of every file of the scripts `gguf_*.py` below a folder.
pub fn catalogue(folder: &str) -> Vec<Value> {
    let mut facts = Vec::new();
    for part in ["gguf_good", "gguf_split", "gguf_bad"] {
        let path = testdata().join(format!("make/catalogue/{part}.json"));
        let list: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        facts.extend(
            list.into_iter()
                .filter(|fact| path_of(fact).starts_with(folder)),
        );
    }
    assert!(!facts.is_empty());
    facts
}

pub fn path_of(fact: &Value) -> &str {
    fact["path"].as_str().unwrap()
}

pub fn open(path: &Path) -> Result<Model> {
    GgufReader.open(&Input::open(path)?, &Context::default())
}

/// Writes a model as `NAME` into a folder.
pub fn write(folder: &Path, name: &str, model: &Model, options: WriteOptions) -> Result<Report> {
    let cx = Context {
        write: options,
        ..Context::default()
    };
    let mut out = Output::new(&folder.join(name), true);
    let report = GgufWriter.write(model, &mut out, &cx)?;
    let files = out.commit()?;
    let len: u64 = files.iter().map(|(_, len)| len).sum();
    assert_eq!(len, report.file_bytes);
    Ok(report)
}

/// The bytes of the one file that a model becomes.
pub fn written(model: &Model) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "m.gguf", model, WriteOptions::default()).unwrap();
    fs::read(folder.path().join("m.gguf")).unwrap()
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
