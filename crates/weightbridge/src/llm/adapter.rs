//! LoRA adapters: PEFT's folder to a GGUF adapter, and back.
//!
//! An adapter tells its base model by a name. Of the base only `config.json` is needed: the sizes of
//! heads, by which rows move. It is taken from `--base`, or from the folder that the name stands
//! for, if there is one; nothing is ever fetched.

use super::lower::{card, folder_name};
use super::raise::{asset, common, dequantized, json_text, narrowed, tell};
use super::{files, left, out_type, own_table};
use crate::open::open_with;
use crate::{ConvertRequest, FacadeError, Intent};
use arch::{
    AdapterConfig, GeneralInput, LowerOptions, ParameterCounts, RaiseOptions, adapter_to_gguf,
    base_model, describe, general, gguf_to_adapter, gguf_to_hf,
};
use convert::{CastCounts, DTypeChoice, to_types};
use ir::{Context, Error, Fault, Limits, Model, Result, ns};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The file that makes a folder an adapter.
pub(crate) const CONFIG: &str = "adapter_config.json";

/// Keys of a GGUF adapter that PEFT's settings tell.
const TOLD: &[&str] = &[
    "adapter.type",
    "adapter.lora.alpha",
    "adapter.alora.invocation_tokens",
];

/// Whether a model is an adapter: a GGUF file says so, PEFT's files or tensors are named so.
pub(crate) fn is_adapter(model: &Model) -> bool {
    let named = || model.tensors.iter().any(|t| arch::is_lora(&t.name));
    is_peft(model) || model.provenance.format != gguf::FORMAT.id && named()
}

/// Whether it is one that PEFT can load: other libraries have other names for their files.
pub(crate) fn is_peft(model: &Model) -> bool {
    if model.provenance.format == gguf::FORMAT.id {
        return arch::is_adapter(model);
    }
    let mut files = model.provenance.files.iter();
    files.any(|(path, _)| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("adapter_model.")
    })
}

/// Refuses what is only for whole models, and for models what is only for adapters.
pub(crate) fn check(request: &ConvertRequest, model: &Model) -> Result<()> {
    let adapter = is_adapter(model);
    let carried = request.intent == Some(Intent::Container);
    let what = if !adapter && request.llm.base.is_some() {
        "--base is for LoRA adapters"
    } else if adapter && !carried && !request.quantize.is_empty() {
        "--quantize is for whole models; an adapter takes --dtype, q8_0 at the smallest"
    } else if adapter && !carried && request.llm.modelfile {
        "--modelfile is for whole models"
    } else {
        return Ok(());
    };
    let what = what.to_owned();
    Err(Fault::Usage { what }.into())
}

/// Makes the GGUF adapter of PEFT's.
pub(crate) fn lower(
    mut model: Model,
    request: &ConvertRequest,
    cx: &Context,
) -> Result<(Model, CastCounts)> {
    let (options, limits) = (&request.llm, &cx.limits);
    let Some(config) = files::json(&model, CONFIG, limits)? else {
        return Err(FacadeError::NoAdapterConfig.into());
    };
    let config = AdapterConfig::parse(&config).map_err(|error| error.at(CONFIG.to_owned()))?;
    let Some(base) = base_config(request, config.base.as_deref(), cx)? else {
        let named = config.base.clone();
        return Err(FacadeError::NoBase { named }.into());
    };
    let map = own_table(options.arch_map.as_deref())?;
    let lowering = LowerOptions {
        out: out_type(request.dtype)?,
        arch: options.arch.as_deref(),
        map: map.as_ref(),
        ..LowerOptions::default()
    };
    let lowered = adapter_to_gguf(&model, &base, &lowering)?;
    let card = card(&mut model, limits)?;
    let own = files::json(&model, "config.json", limits)?;
    let generation = files::json(&model, super::GENERATION, limits)?;
    let general = general(&GeneralInput {
        folder: &folder_name(&request.input, &cx.places),
        card: card.as_ref(),
        config: own.as_ref(),
        generation: generation.as_ref(),
        counts: ParameterCounts {
            total: lowered.parameter_count(),
            ..ParameterCounts::default()
        },
        adapter: true,
    });
    let mut metadata = lowered.metadata(&general, &config);
    left::join(&mut model, &mut metadata, request.carry.metadata);
    model.metadata = metadata;
    model.provenance.records.extend(config.records);
    model.provenance.records.extend(lowered.records);
    let casts = CastCounts::default();
    let planned = lowered.tensors.into_iter();
    model.tensors = to_types(planned.map(|row| (row.tensor, row.target)), &casts)?;
    model.assets.clear();
    model.objects = None;
    Ok((model, casts))
}

/// Makes PEFT's adapter of a GGUF adapter.
pub(crate) fn raise(
    mut model: Model,
    request: &ConvertRequest,
    cx: &Context,
) -> Result<(Model, CastCounts)> {
    let options = &request.llm;
    let to = match request.dtype {
        DTypeChoice::Keep => common(&model),
        DTypeChoice::To(dtype) => dtype,
    };
    let named = base_model(&model);
    let base = base_config(request, named.as_deref(), cx)?;
    let map = own_table(options.arch_map.as_deref())?;
    let casts = CastCounts::default();
    dequantized(&mut model, to, &casts)?;
    let raising = RaiseOptions {
        arch: options.arch.as_deref(),
        map: map.as_ref(),
    };
    let raised = gguf_to_adapter(&model, base.as_ref(), raising)?;
    model.provenance.records.extend(raised.records);
    model.tensors = narrowed(raised.tensors, to, request.dtype, &casts)?;
    let mut config = raised.config;
    if let (None, Some(path), Value::Object(map)) = (&named, &options.base, &mut config) {
        let path = path.to_string_lossy().into_owned();
        map.insert("base_model_name_or_path".to_owned(), path.into());
    }
    model.assets = vec![asset(CONFIG, json_text(&config)?)];
    let described = describe(&model.metadata);
    let own = model.metadata.of(ns::GGUF).map(|(key, _)| key);
    let untold = own.filter(|key| key.starts_with("adapter.") && !TOLD.contains(key));
    let untold = untold.map(str::to_owned).collect();
    tell(&mut model, described.card, described.left, untold);
    model.objects = None;
    Ok((model, casts))
}

/// The base model's `config.json`: of `--base`, or of the folder its name stands for, seen from
/// here or from the adapter.
fn base_config(
    request: &ConvertRequest,
    named: Option<&str>,
    cx: &Context,
) -> Result<Option<Value>> {
    if let Some(path) = &request.llm.base {
        return read_base(path, cx).map(Some);
    }
    let Some(named) = named else {
        return Ok(None);
    };
    let input = request.input.as_path();
    let folder = if cx.places.is_folder(input) {
        Some(input)
    } else {
        input.parent()
    };
    let beside = folder.map(|folder| folder.join(named));
    let mut places = [Some(PathBuf::from(named)), beside].into_iter().flatten();
    match places.find(|place| cx.places.is_file(&place.join("config.json"))) {
        Some(place) => read_base(&place, cx).map(Some),
        None => Ok(None),
    }
}

/// The configuration in a folder, in a file, or of a GGUF model.
fn read_base(path: &Path, cx: &Context) -> Result<Value> {
    let file = if cx.places.is_folder(path) {
        path.join("config.json")
    } else {
        path.to_owned()
    };
    if !cx.places.is_file(&file) {
        let named = Some(path.to_string_lossy().into_owned());
        return Err(FacadeError::NoBase { named }.into());
    }
    let read = || -> Result<Value> {
        let region = cx.places.region(&file)?;
        let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
        if region.bytes(0, len.min(4))?.as_ref() == b"GGUF" {
            let base = open_with(&cx.places.open(&file)?, Some(gguf::FORMAT.id), cx)?;
            return gguf_to_hf(&base.model, RaiseOptions::default()).map(|raised| raised.config);
        }
        Limits::check("bytes of a side file", region.len(), cx.limits.header_bytes)?;
        let parsed = serde_json::from_slice(&region.bytes(0, len)?);
        parsed.map_err(|error| {
            let what = format!("not JSON: {error}");
            Error::from(Fault::Invalid { what })
        })
    };
    read().map_err(|error| error.in_file(&file))
}
