//! The tokenizer keys of a repository as JSON lines, and the way back, for tests against the
//! reference converter: `vocab_dump FOLDER [--class NAME] [--pre NAME] [--back OUT]`.
//!
//! Lists are told by their length and SHA-256: over the elements' little-endian bytes, and for
//! texts over each length as 8 bytes and the text.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a tool for tests

use bytes::Bytes;
use ir::{Array, Limits, MetaValue, Metadata, ns};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use weightbridge_vocab::{Request, from_gguf, to_gguf};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(3)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (mut folder, mut class, mut pre, mut back) = (None, None, None, None);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--class" => class = args.next(),
            "--pre" => pre = args.next(),
            "--back" => back = args.next().map(PathBuf::from),
            _ => folder = Some(PathBuf::from(arg)),
        }
    }
    let folder = folder.ok_or("a folder is missing")?;
    let mut files = Vec::new();
    collect(&folder, "", &mut files)?;
    let config = files.iter().find(|(name, _)| name == "config.json");
    let config: Value = config.map_or(Ok(Value::Null), |(_, b)| serde_json::from_slice(b))?;
    let own = config["architectures"][0]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let limits = Limits::default();
    let request = Request {
        hf_class: class.as_deref().unwrap_or(&own),
        config: &config,
        vocab_size: None,
        embedding_rows: None,
        partial: true,
        pre: pre.as_deref(),
        method: None,
        limits: &limits,
    };
    let start = Instant::now();
    let source: &[(String, Bytes)] = &files;
    let made = to_gguf(&source, &request).map_err(|error| error.to_string())?;
    eprintln!("seconds {:.3}", start.elapsed().as_secs_f64());
    for record in &made.records {
        eprintln!("{record}");
    }
    for (key, value) in &made.pairs {
        println!("{}", json!([key, told(value)]));
    }
    let Some(out) = back else { return Ok(()) };
    let metadata = Metadata::from_pairs(ns::GGUF, made.pairs);
    let start = Instant::now();
    for (name, bytes) in
        from_gguf(&metadata, serde_json::Map::new(), &limits).map_err(|error| error.to_string())?
    {
        let path = out.join(name);
        std::fs::create_dir_all(path.parent().unwrap_or(&out))?;
        std::fs::write(path, bytes)?;
    }
    eprintln!("back seconds {:.3}", start.elapsed().as_secs_f64());
    Ok(())
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<(String, Bytes)>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files)?;
        } else if !name.ends_with(".safetensors") {
            files.push((format!("{prefix}{name}"), std::fs::read(&path)?.into()));
        }
    }
    Ok(())
}

fn told(value: &MetaValue) -> Value {
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
            let bytes = all.iter().flat_map(|text| {
                (text.len() as u64)
                    .to_le_bytes()
                    .into_iter()
                    .chain(text.to_vec())
            });
            list("str", all.len(), bytes.collect())
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
        other => json!({"other": other.to_string()}),
    }
}
