//! What a GGUF file tells, as names for the tables' `[hf]` expressions.
//!
//! The architecture's keys stand at the top without their prefix, dots nested: `rope.freq_base`.
//! `tokenizer` and `general` are whole, and beside them stand a few facts of the tensors.

use crate::generate::llama3_factors;
use ir::{Array, BlockFormat, DType, MetaValue, Model, Result, Tensor, ns};
use serde_json::{Map, Value, json};

/// Small tensors only: nobody's rope factors are larger.
const MAX_FACTORS: u64 = 1 << 16;

/// The names.
pub(crate) fn facts(model: &Model, arch: &str) -> Result<Map<String, Value>> {
    let mut root = Map::new();
    for (key, value) in model.metadata.of(ns::GGUF) {
        let path = match key
            .strip_prefix(arch)
            .and_then(|rest| rest.strip_prefix('.'))
        {
            Some(own) => own,
            None if key.starts_with("tokenizer.") || key.starts_with("general.") => key,
            None => continue,
        };
        if let Some(value) = plain(value) {
            insert(&mut root, path, value);
        }
    }
    let names: Vec<Value> = model.tensors.iter().map(|t| json!(t.name)).collect();
    root.insert("tensors".to_owned(), Value::Array(names));
    let embedding = model.tensors.by_name("token_embd.weight");
    let rows = embedding.and_then(|t| t.spec.shape.first().copied());
    root.insert("vocab_rows".to_owned(), json!(rows));
    let has = |name: &str| model.tensors.by_name(name).is_some();
    root.insert("has_output".to_owned(), json!(has("output.weight")));
    root.insert(
        "has_q_norm".to_owned(),
        json!(has("blk.0.attn_q_norm.weight")),
    );
    let mxfp4 = DType::Block(BlockFormat::MXFP4);
    let packed = model.tensors.iter().any(|t| t.spec.dtype == mxfp4);
    root.insert("has_mxfp4".to_owned(), json!(packed));
    for (fact, name) in [
        ("token_type_rows", "token_types.weight"),
        ("per_layer_rows", "per_layer_token_embd.weight"),
    ] {
        let rows = model
            .tensors
            .by_name(name)
            .and_then(|t| t.spec.shape.first().copied());
        root.insert(fact.to_owned(), json!(rows));
    }
    for name in ["rope_factors_long", "rope_factors_short"] {
        if let Some(tensor) = model.tensors.by_name(&format!("{name}.weight")) {
            let list = numbers(tensor)?;
            root.insert(format!("values_of_{name}"), json!(list));
        }
    }
    if let Some(tensor) = model.tensors.by_name("rope_freqs.weight") {
        rope_freqs(&mut root, &numbers(tensor)?);
    }
    Ok(root)
}

/// What `rope_freqs.weight` was made of: the share of dimensions that turn, or Llama 3's figures
/// if the usual ones give exactly these factors.
fn rope_freqs(root: &mut Map<String, Value>, factors: &[f64]) {
    let ones = factors
        .iter()
        .take_while(|f| (**f - 1.0).abs() < f64::EPSILON)
        .count();
    let share = ones as f64 / factors.len().max(1) as f64;
    root.insert("rope_freqs_share".to_owned(), json!(share));
    let number = |key: &str| {
        root.get("rope")
            .and_then(|rope| rope.get(key))
            .and_then(Value::as_f64)
    };
    let base = number("freq_base").unwrap_or(10000.0);
    let dim = number("dimension_count").unwrap_or(factors.len() as f64 * 2.0);
    // One factor for two dimensions: any other number was not made of these figures.
    if ((dim / 2.0).ceil() - factors.len() as f64).abs() > 0.5 {
        return;
    }
    let factor = factors.iter().copied().fold(1.0, f64::max);
    let near = |(a, b): (&f64, &f32)| (a - f64::from(*b)).abs() <= 1e-5 * a.abs();
    // Nearly all models began with 8192; others, like that, with a power of two.
    let contexts = std::iter::once(8192).chain((5..=17).map(|bits| 1u32 << bits));
    for context in contexts {
        let made = llama3_factors(base, dim, factor, 1.0, 4.0, f64::from(context));
        if factors.iter().zip(&made).all(near) {
            let scaling = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": context,
            });
            root.insert("rope_llama3".to_owned(), scaling);
            return;
        }
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>> {
    let small = tensor.spec.elements().is_some_and(|n| n <= MAX_FACTORS);
    if tensor.spec.dtype != DType::F32 || !small {
        return Err(crate::verb::bad(tensor, "a short list of F32"));
    }
    let bytes = tensor.read_all()?;
    let floats = bytes.chunks_exact(4).map(|b| match *b {
        [a, b, c, d] => decimal(f32::from_le_bytes([a, b, c, d])),
        _ => 0.0,
    });
    Ok(floats.collect())
}

fn insert(map: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            map.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = map.entry(first.to_owned()).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The shortest decimal that is this single: 1e-6 comes back as it was in the config.
fn decimal(single: f32) -> f64 {
    single
        .to_string()
        .parse()
        .unwrap_or_else(|_| f64::from(single))
}

/// A value as JSON. Long lists are a tokenizer's and of no use here.
fn plain(value: &MetaValue) -> Option<Value> {
    const MAX: usize = 4096;
    Some(match value {
        MetaValue::Bool(b) => json!(b),
        MetaValue::F32(n) => json!(decimal(*n)),
        MetaValue::F64(n) => json!(n),
        MetaValue::Str(_) => json!(value.as_str()?),
        MetaValue::I8(n) => json!(n),
        MetaValue::I16(n) => json!(n),
        MetaValue::I32(n) => json!(n),
        MetaValue::I64(n) => json!(n),
        MetaValue::Array(array) if array.len() > MAX => return None,
        MetaValue::Array(array) => match array {
            Array::Bool(list) => json!(list),
            Array::I8(list) => json!(list),
            Array::U8(list) => json!(list),
            Array::I16(list) => json!(list),
            Array::U16(list) => json!(list),
            Array::I32(list) => json!(list),
            Array::U32(list) => json!(list),
            Array::I64(list) => json!(list),
            Array::U64(list) => json!(list),
            Array::F32(list) => json!(list.iter().map(|n| decimal(*n)).collect::<Vec<_>>()),
            Array::F64(list) => json!(list),
            Array::Str(list) => {
                let texts = list.iter().map(|s| String::from_utf8_lossy(s).into_owned());
                json!(texts.collect::<Vec<_>>())
            }
            Array::Array(_) => return None,
        },
        _ => json!(value.as_u64()?),
    })
}
