//! From a GGUF model back to a repository.

use super::own_table;
use crate::ConvertRequest;
use arch::{ArchError, RaiseOptions, Raised, gguf_to_hf};
use convert::{CastCounts, DTypeChoice, to_types};
use ir::{Asset, DType, Error, Fault, Limits, Model, Record, Region, Result, TensorTable, ns};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Makes the repository that would give this GGUF model: tensors under their Hugging Face names
/// in one type, `config.json` and the tokenizer's files as assets.
pub(super) fn raise(
    mut model: Model,
    request: &ConvertRequest,
    limits: &Limits,
) -> Result<(Model, CastCounts)> {
    let (dtype, options) = (request.dtype, &request.llm);
    let to = match dtype {
        DTypeChoice::Keep => common(&model),
        DTypeChoice::To(dtype) => dtype,
    };
    let map = own_table(options.arch_map.as_deref())?;
    let casts = CastCounts::default();
    dequantized(&mut model, to, &casts)?;
    let raising = RaiseOptions {
        arch: options.arch.as_deref(),
        map: map.as_ref(),
    };
    let raised = gguf_to_hf(&model, raising)?;
    finish(model, raised, to, dtype, casts, limits)
}

/// The same with blocks that `stay` as they are, where only whole rows move; other blocks become
/// F32, in which every value is kept.
pub(super) fn raise_blocks(
    mut model: Model,
    request: &ConvertRequest,
    limits: &Limits,
    stay: fn(DType) -> bool,
) -> Result<(Model, CastCounts)> {
    let options = &request.llm;
    let to = DType::F32;
    let map = own_table(options.arch_map.as_deref())?;
    let raising = RaiseOptions {
        arch: options.arch.as_deref(),
        map: map.as_ref(),
    };
    let casts = CastCounts::default();
    let mut none = BTreeSet::new();
    loop {
        let mut wanted = Vec::with_capacity(model.tensors.len());
        for tensor in &model.tensors {
            let dtype = tensor.dtype();
            let block = matches!(dtype, DType::Block(_));
            let keep = !block || stay(dtype) && !none.contains(&kind(&tensor.name));
            wanted.push((tensor.clone(), if keep { dtype } else { to }));
        }
        let numbers: Vec<(DType, DType)> = wanted.iter().map(|(t, to)| (t.dtype(), *to)).collect();
        let mut tried = model.clone();
        tried.tensors = to_types(wanted, &casts)?;
        let raised = match gguf_to_hf(&tried, raising) {
            Ok(raised) => raised,
            Err(error) => match error.downcast_ref::<ArchError>() {
                // A verb that reaches into rows: all tensors of that kind become numbers.
                Some(ArchError::Shape { tensor, dtype, .. })
                    if matches!(dtype, DType::Block(_)) && none.insert(kind(tensor)) =>
                {
                    continue;
                }
                _ => return Err(error),
            },
        };
        model
            .provenance
            .records
            .extend(dequantized_records(&numbers));
        return finish(model, raised, to, DTypeChoice::Keep, casts, limits);
    }
}

/// A tensor's name without the number of its layer.
fn kind(name: &str) -> String {
    let parts = name.split('.');
    let kept = parts.filter(|part| !part.bytes().all(|b| b.is_ascii_digit()));
    kept.collect::<Vec<_>>().join(".")
}

fn dequantized_records(numbers: &[(DType, DType)]) -> Vec<Record> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (from, _) in numbers.iter().filter(|(from, to)| from != to) {
        *counts.entry(from.to_string()).or_default() += 1;
    }
    let record = |(from, n): (String, u64)| {
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let why = "to F32, every value is kept: its blocks have no form in a graph of standard \
                   operators";
        Record::changed("dequantized", format!("{n} {from} {tensors}"), why)
            .flag("--dtype")
            .wanted()
    };
    counts.into_iter().map(record).collect()
}

fn finish(
    mut model: Model,
    raised: Raised,
    to: DType,
    dtype: DTypeChoice,
    casts: CastCounts,
    limits: &Limits,
) -> Result<(Model, CastCounts)> {
    model.provenance.records.extend(raised.records);
    model.tensors = narrowed(raised.tensors, to, dtype, &casts)?;
    let mut config = raised.config;
    if let (Value::Object(map), Some(name)) = (&mut config, torch_name(to)) {
        map.insert("torch_dtype".to_owned(), name.into());
    }
    model.assets = vec![asset("config.json", json_text(&config)?)];
    if model
        .metadata
        .get(ns::GGUF, "tokenizer.ggml.model")
        .is_some()
    {
        let files = vocab::from_gguf(&model.metadata, limits)?;
        let files = files.into_iter().map(|(name, bytes)| asset(&name, bytes));
        model.assets.extend(files);
        model.provenance.records.extend(defaults(&model.assets));
    }
    model.metadata = ir::Metadata::new();
    model.objects = None;
    Ok((model, casts))
}

/// What the files say that the GGUF file does not.
fn defaults(assets: &[Asset]) -> Vec<Record> {
    let why = "GGUF has no keys for padding, truncation and the clean-up of spaces: the class's \
               defaults count";
    let mut all = vec![Record::carried(
        "class-defaults",
        "tokenizer_config.json",
        why,
    )];
    let template = assets.iter().find(|a| a.name == "chat_template.jinja");
    if template.is_some_and(|asset| asset.bytes.is_empty()) {
        let why = "all templates of the file have names: the default beside them is empty";
        all.push(Record::carried(
            "class-defaults",
            "chat_template.jinja",
            why,
        ));
    }
    all
}

/// Rows are moved and split: blocks become numbers first.
pub(super) fn dequantized(model: &mut Model, to: DType, casts: &CastCounts) -> Result<()> {
    let numbers = model.tensors.iter().map(|tensor| {
        let dtype = tensor.dtype();
        let wanted = if matches!(dtype, DType::Block(_)) {
            to
        } else {
            dtype
        };
        (tensor.clone(), wanted)
    });
    let numbers: Vec<_> = numbers.collect();
    model.tensors = to_types(numbers, casts)?;
    Ok(())
}

/// Floats in the type asked for; when none was, only where no value is lost by it.
pub(super) fn narrowed(
    tensors: TensorTable,
    to: DType,
    dtype: DTypeChoice,
    casts: &CastCounts,
) -> Result<TensorTable> {
    let mut wanted = Vec::with_capacity(tensors.len());
    for tensor in tensors.into_tensors() {
        let from = tensor.dtype();
        let keep = !from.is_float() || dtype == DTypeChoice::Keep && !exact(&tensor, to)?;
        wanted.push((tensor, if keep { from } else { to }));
    }
    to_types(wanted, casts)
}

/// The type that a repository would have had: that of the first matrix that was not widened, and
/// bfloat16 where it is quantized.
pub(super) fn common(model: &Model) -> DType {
    let matrices = model.tensors.iter().filter(|t| t.spec.shape.len() >= 2);
    let mut types = matrices.map(ir::Tensor::dtype);
    match types.find(|dtype| *dtype != DType::F32) {
        None => DType::F32,
        Some(DType::F16) => DType::F16,
        Some(_) => DType::BF16,
    }
}

/// Tensors of more elements than this are not looked at.
const LOOK_MAX: u64 = 1 << 22;

/// Whether a tensor may become `to` when no type was asked for. GGUF widens vectors and a few
/// small matrices to F32: they come back as they were, but only if no value is lost by it.
fn exact(tensor: &ir::Tensor, to: DType) -> Result<bool> {
    let from = tensor.dtype();
    let small = tensor.spec.elements().is_some_and(|n| n <= LOOK_MAX);
    if from != DType::F32 || to == DType::F32 || !small {
        return Ok(from == to);
    }
    let there = to_types([(tensor.clone(), to)], &CastCounts::default())?;
    let back = to_types(
        there.iter().map(|t| (t.clone(), from)),
        &CastCounts::default(),
    )?;
    let same = back.iter().map(ir::Tensor::read_all).next();
    Ok(same.transpose()? == Some(tensor.read_all()?))
}

/// What transformers calls a type.
fn torch_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => return None,
    })
}

pub(super) fn asset(name: &str, bytes: Vec<u8>) -> Asset {
    Asset {
        name: name.to_owned(),
        bytes: Region::memory(bytes),
    }
}

pub(super) fn json_text(value: &Value) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
        let what = format!("a configuration cannot be written: {error}");
        Error::from(Fault::Invalid { what })
    })?;
    text.push(b'\n');
    Ok(text)
}
