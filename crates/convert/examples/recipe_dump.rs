//! Prints what the recipe chooses for a model described in JSON, for the tests that compare it
//! with the real `llama-quantize`.
//!
//! ```text
//! recipe_dump < description.json
//! {"metadata": {"llama.block_count": 4, ...}, "tensors": [["output.weight", [32, 256], "F32"], ...],
//!  "requests": [{"type": "Q4_K_M", "imatrix": false, "flags": ["--pure"]}, ...]}
//! ```
//!
//! The answer is a list: for each request the tensors in output order, `[name, type]`, or the
//! text of the error.

use convert::recipe::{
    FileType, ModelFacts, QuantizeOptions, TensorFacts, choose, parse_layers, parse_type,
};
use ir::{Array, DType, MetaValue, Metadata, ns};
use serde_json::{Value, json};
use std::error::Error;
use std::io::Write;
use weightbridge_convert as convert;

/// A tensor of a description.
pub(crate) struct Described {
    name: String,
    shape: Vec<u64>,
    dtype: DType,
}

impl TensorFacts for Described {
    fn name(&self) -> &str {
        &self.name
    }

    fn shape(&self) -> &[u64] {
        &self.shape
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

fn described(value: &Value) -> Option<Described> {
    let shape = value.get(1)?.as_array()?.iter().map(Value::as_u64);
    Some(Described {
        name: value.get(0)?.as_str()?.to_owned(),
        shape: shape.collect::<Option<_>>()?,
        dtype: value.get(2)?.as_str()?.parse().ok()?,
    })
}

fn meta_value(value: &Value) -> Option<MetaValue> {
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    Some(match value {
        Value::String(text) => MetaValue::text(text.as_str()),
        Value::Array(items) => {
            MetaValue::Array(Array::U32(items.iter().map(number).collect::<Option<_>>()?))
        }
        other => MetaValue::U32(number(other)?),
    })
}

fn options(request: &Value) -> Result<QuantizeOptions, Box<dyn Error>> {
    let mut options = QuantizeOptions::default();
    let flags = request["flags"].as_array().cloned().unwrap_or_default();
    let mut flags = flags.iter().filter_map(Value::as_str);
    while let Some(flag) = flags.next() {
        let mut value = || flags.next().unwrap_or_default();
        match flag {
            "--pure" => options.pure = true,
            "--leave-output-tensor" => options.leave_output = true,
            "--allow-requantize" => options.allow_requantize = true,
            "--dry-run" => options.dry_run = true,
            "--output-tensor-type" => options.output_type = Some(parse_type(value())?),
            "--token-embedding-type" => options.embedding_type = Some(parse_type(value())?),
            "--tensor-type" => options.tensor_types.push(value().parse()?),
            "--prune-layers" => options.prune_layers = parse_layers(value())?,
            "--override-kv" => options.overrides.push(value().parse()?),
            other => return Err(format!("unknown flag {other}").into()),
        }
    }
    Ok(options)
}

/// What the recipe chooses: `[name, type]` of each tensor in output order.
pub(crate) fn answer(
    tensors: &[Described],
    metadata: &Metadata,
    request: &Value,
) -> Result<Value, Box<dyn Error>> {
    let file_type: FileType = request["type"].as_str().unwrap_or_default().parse()?;
    let options = options(request)?;
    let facts = ModelFacts::of(metadata, &options.overrides, tensors);
    let imatrix = request["imatrix"].as_bool().unwrap_or_default();
    let recipe = choose(tensors, &facts, file_type, &options, imatrix)?;
    let pairs = recipe.choices.iter();
    Ok(pairs.map(|c| json!([c.name, c.to.name()])).collect())
}

/// The tensors and the metadata of a description.
pub(crate) fn model(model: &Value) -> Result<(Vec<Described>, Metadata), Box<dyn Error>> {
    let tensors = model["tensors"].as_array().ok_or("no tensors")?;
    let tensors = tensors.iter().map(described).collect::<Option<Vec<_>>>();
    let tensors = tensors.ok_or("a tensor is not [name, shape, type]")?;
    let mut metadata = Metadata::new();
    for (key, value) in model["metadata"].as_object().ok_or("no metadata")? {
        if let Some(value) = meta_value(value) {
            metadata.set(ns::GGUF, key, value);
        }
    }
    Ok((tensors, metadata))
}

fn main() -> Result<(), Box<dyn Error>> {
    let input: Value = serde_json::from_reader(std::io::stdin().lock())?;
    let (tensors, metadata) = model(&input)?;
    let requests = input["requests"].as_array().ok_or("no requests")?;
    let answers: Value = requests
        .iter()
        .map(|request| {
            answer(&tensors, &metadata, request).unwrap_or_else(|error| json!(error.to_string()))
        })
        .collect();
    writeln!(std::io::stdout().lock(), "{answers}")?;
    Ok(())
}
