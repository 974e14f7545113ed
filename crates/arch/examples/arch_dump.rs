//! Prints what a repository would become as GGUF, for comparison with the reference converter:
//!
//! ```text
//! arch_dump FOLDER [f32|f16|bf16|q8_0|auto]        keys and tensors as JSON
//! arch_dump FOLDER --back OUT                      there and back: a repository in OUT
//! ```
//!
//! Reads `config.json` and the safetensors files of the folder by hand; a real conversion goes
//! through the readers and writers of the other crates.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)] // a tool for tests
#![allow(clippy::cast_possible_truncation, clippy::format_collect)] // of tests' sizes

use ir::{DType, MetaValue, Model, Region, Tensor, TensorSpec, TensorTable, View};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use weightbridge_arch::{
    GeneralInput, LowerOptions, OutType, RaiseOptions, RepoFacts, front_matter, general,
    gguf_to_hf, hf_to_gguf,
};

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(args.first().expect("a folder"));
    let back = args
        .iter()
        .position(|arg| arg == "--back")
        .map(|i| PathBuf::from(&args[i + 1]));
    let out = match args.get(1).map(String::as_str) {
        Some("f16") => OutType::F16,
        Some("bf16") => OutType::BF16,
        Some("q8_0") => OutType::Q8_0,
        Some("auto") => OutType::Auto,
        _ => OutType::F32,
    };
    let config = read_json(&folder.join("config.json")).expect("config.json");
    let generation = read_json(&folder.join("generation_config.json"));
    let card = std::fs::read_to_string(folder.join("README.md"))
        .ok()
        .map(|text| front_matter(&text).expect("a model card"));
    let model = model(&folder);
    let options = LowerOptions {
        out,
        repo: repo(&folder),
        ..LowerOptions::default()
    };
    let lowered = hf_to_gguf(&model, &config, &options).unwrap_or_else(|error| panic!("{error}"));
    let pairs = general(&GeneralInput {
        folder: &folder
            .file_name()
            .map_or(String::new(), |n| n.to_string_lossy().into_owned()),
        card: card.as_ref(),
        config: Some(&config),
        generation: generation.as_ref(),
        counts: lowered.parameter_counts(),
        adapter: false,
    });
    let metadata = lowered.metadata(&pairs, &[]);
    if let Some(back) = back {
        let tensors = lowered.tensors.iter().map(|p| p.tensor.clone());
        let file = Model {
            tensors: TensorTable::from_tensors(tensors).unwrap(),
            metadata,
            ..Model::default()
        };
        let options = RaiseOptions {
            arch: Some(&lowered.table),
            ..RaiseOptions::default()
        };
        let raised = gguf_to_hf(&file, options).unwrap_or_else(|error| panic!("{error}"));
        write(&back, &raised.tensors, &raised.config);
        return;
    }
    let keys = metadata.of(ir::ns::GGUF);
    let keys = keys.map(|(key, value)| json!([key, kind(value), value.to_string()]));
    let tensors = lowered.tensors.iter().map(|p| {
        let shape: Vec<u64> = p.tensor.spec.shape.to_vec();
        json!([p.tensor.name, p.target.name(), shape, hash(&p.tensor)])
    });
    let records: Vec<String> = lowered.records.iter().map(ToString::to_string).collect();
    let dump = json!({
        "table": lowered.table,
        "keys": keys.collect::<Vec<_>>(),
        "tensors": tensors.collect::<Vec<_>>(),
        "records": records,
    });
    println!("{dump:#}");
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

fn repo(folder: &Path) -> RepoFacts {
    let pooling = read_json(&folder.join("1_Pooling/config.json"));
    let yes = |key: &str| pooling.as_ref().is_some_and(|p| p[key] == json!(true));
    let modes = [
        "pooling_mode_mean_tokens",
        "pooling_mode_cls_token",
        "pooling_mode_lasttoken",
    ];
    RepoFacts {
        pooling_type: (1u32..)
            .zip(modes)
            .find(|(_, key)| yes(key))
            .map(|(n, _)| n),
        ..RepoFacts::default()
    }
}

/// Every tensor of the folder's safetensors files, in the order of the files.
fn model(folder: &Path) -> Model {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "safetensors"))
        .collect();
    files.sort();
    let mut tensors = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let region = Region::memory(bytes);
        let mut here: Vec<(u64, Tensor)> = Vec::new();
        for (name, entry) in header.as_object().unwrap() {
            if name == "__metadata__" {
                continue;
            }
            let dtype: DType = entry["dtype"].as_str().unwrap().parse().unwrap();
            let shape: Vec<u64> = entry["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_u64().unwrap())
                .collect();
            let start = entry["data_offsets"][0].as_u64().unwrap();
            let end = entry["data_offsets"][1].as_u64().unwrap();
            let view = region.slice(8 + len as u64 + start, end - start).unwrap();
            let spec = TensorSpec::new(dtype, shape);
            here.push((
                start,
                Tensor::stored(name.clone(), spec, View::contiguous(view)),
            ));
        }
        here.sort_by_key(|(start, _)| *start);
        tensors.extend(here.into_iter().map(|(_, tensor)| tensor));
    }
    Model {
        tensors: TensorTable::from_tensors(tensors).unwrap(),
        ..Model::default()
    }
}

fn as_f32(tensor: &Tensor) -> Vec<u8> {
    let bytes = tensor.read_all().unwrap();
    match tensor.dtype() {
        DType::BF16 => bytes
            .chunks_exact(2)
            .flat_map(|b| [0, 0, b[0], b[1]])
            .collect(),
        DType::F16 => bytes
            .chunks_exact(2)
            .flat_map(|b| half([b[0], b[1]]).to_le_bytes())
            .collect(),
        _ => bytes,
    }
}

fn half(bytes: [u8; 2]) -> f32 {
    let bits = u16::from_le_bytes(bytes);
    let (exponent, fraction) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
    };
    if bits >> 15 == 1 { -size } else { size }
}

fn hash(tensor: &Tensor) -> String {
    Sha256::digest(as_f32(tensor))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn kind(value: &MetaValue) -> &'static str {
    match value {
        MetaValue::U32(_) => "UINT32",
        MetaValue::I32(_) => "INT32",
        MetaValue::F32(_) => "FLOAT32",
        MetaValue::Bool(_) => "BOOL",
        MetaValue::Str(_) => "STRING",
        MetaValue::Array(_) => "ARRAY",
        _ => "OTHER",
    }
}

/// A repository with F32 weights (U8 stays).
fn write(folder: &Path, tensors: &TensorTable, config: &Value) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("config.json"), format!("{config:#}")).unwrap();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut body = Vec::new();
    for tensor in tensors {
        let bytes = as_f32(tensor);
        let dtype = if tensor.dtype() == DType::U8 {
            "U8"
        } else {
            "F32"
        };
        let shape: Vec<u64> = tensor.spec.shape.to_vec();
        let offsets = [body.len(), body.len() + bytes.len()];
        header.insert(
            tensor.name.clone(),
            json!({"dtype": dtype, "shape": shape, "data_offsets": offsets}),
        );
        body.extend(bytes);
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text);
    file.extend(body);
    std::fs::write(folder.join("model.safetensors"), file).unwrap();
}
