//! What the tests share: the small models of `testdata/arch`, made anew from their names.
#![allow(dead_code, unreachable_pub)] // each test uses some of it

use ir::{DType, MetaValue, Model, ModelBuilder, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Every file of `testdata/arch`, parsed.
pub fn goldens() -> Vec<(String, Value)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/arch");
    let mut list: Vec<(String, Value)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            (
                name,
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap(),
            )
        })
        .filter(|(_, value): &(String, Value)| value.get("source").is_some())
        .collect();
    list.sort_by(|a, b| a.0.cmp(&b.0));
    let only = std::env::var("ARCH_ONLY").ok();
    list.retain(|(name, _)| {
        only.as_ref()
            .is_none_or(|only| only.split(',').any(|o| o == name))
    });
    list
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The bytes `reference.py` gives a tensor: `pattern` there.
pub fn pattern(name: &str, dtype: DType, elements: u64) -> Vec<u8> {
    let seed = crc32(name.as_bytes());
    let mut out = Vec::new();
    for index in 0..u32::try_from(elements).unwrap() {
        let mut mixed = (index ^ seed).wrapping_mul(2_654_435_761);
        mixed = (mixed ^ (mixed >> 15)).wrapping_mul(2_246_822_519);
        let byte = (mixed >> 24) as u8;
        let value = (f32::from(byte) - 128.0) / 256.0;
        match dtype {
            DType::U8 => out.push(byte),
            DType::F32 => out.extend(value.to_le_bytes()),
            DType::BF16 => out.extend(&value.to_le_bytes()[2..]),
            DType::F16 => out.extend(half(value).to_le_bytes()),
            other => panic!("no pattern for {other}"),
        }
    }
    out
}

/// Exact for the pattern's values, which have at most 8 bits.
fn half(value: f32) -> u16 {
    if value == 0.0 {
        return 0;
    }
    let bits = value.to_bits();
    let exponent = ((bits >> 23) & 0xff) as i32 - 127 + 15;
    ((bits >> 16) & 0x8000) as u16 | (exponent as u16) << 10 | ((bits >> 13) & 0x3ff) as u16
}

pub fn model(golden: &Value) -> Model {
    let mut builder = ModelBuilder::new();
    for row in golden["source"].as_array().unwrap() {
        let name = row[0].as_str().unwrap();
        let dtype: DType = row[1].as_str().unwrap().parse().unwrap();
        let shape: Vec<u64> = row[2]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_u64().unwrap())
            .collect();
        let elements = shape.iter().product();
        builder = builder.tensor(name, dtype, shape, pattern(name, dtype, elements));
    }
    builder.build().unwrap()
}

/// A tensor's values as F32; the bytes themselves for blocks and bytes.
pub fn as_f32(tensor: &Tensor) -> Vec<u8> {
    let bytes = tensor.read_all().unwrap();
    match tensor.dtype() {
        DType::F32 | DType::U8 | DType::Block(_) => bytes,
        DType::BF16 => bytes
            .chunks_exact(2)
            .flat_map(|b| [0, 0, b[0], b[1]])
            .collect(),
        DType::F16 => bytes
            .chunks_exact(2)
            .flat_map(|b| {
                let bits = u16::from_le_bytes([b[0], b[1]]);
                let (exponent, fraction) = (i32::from((bits >> 10) & 31), f32::from(bits & 1023));
                let size = if exponent == 0 {
                    fraction * 2f32.powi(-24)
                } else {
                    (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15)
                };
                (if bits >> 15 == 1 { -size } else { size }).to_le_bytes()
            })
            .collect(),
        other => panic!("no values of {other}"),
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// gguf-py's name of a value's type, and the value.
pub fn described(value: &MetaValue) -> (String, Value) {
    use ir::Array;
    use serde_json::json;
    let f32s = |v: &[f32]| json!(v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
    match value {
        MetaValue::U32(n) => ("UINT32".into(), json!(n)),
        MetaValue::I32(n) => ("INT32".into(), json!(n)),
        MetaValue::F32(n) => ("FLOAT32".into(), json!(f64::from(*n))),
        MetaValue::Bool(b) => ("BOOL".into(), json!(b)),
        MetaValue::Str(_) => ("STRING".into(), json!(value.as_str().unwrap())),
        MetaValue::Array(Array::I32(v)) => ("ARRAY[INT32]".into(), json!(v)),
        MetaValue::Array(Array::F32(v)) => ("ARRAY[FLOAT32]".into(), f32s(v)),
        MetaValue::Array(Array::Bool(v)) => ("ARRAY[BOOL]".into(), json!(v)),
        MetaValue::Array(Array::Str(v)) => {
            let texts: Vec<_> = v
                .iter()
                .map(|s| String::from_utf8_lossy(s).into_owned())
                .collect();
            ("ARRAY[STRING]".into(), json!(texts))
        }
        other => panic!("no description of {other:?}"),
    }
}

/// Equal, numbers as F32.
pub fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b))
        }
        (Value::Number(a), Value::Number(b)) => {
            a.as_f64().unwrap() as f32 == b.as_f64().unwrap() as f32
        }
        _ => a == b,
    }
}
