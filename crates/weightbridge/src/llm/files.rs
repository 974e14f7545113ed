//! The side files of a repository, read whole.

use crate::FacadeError;
use ir::{Asset, DType, Error, Fault, Limits, Model, Record, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Refuses a repository whose shards and index do not say the same: it may be of two models.
pub(crate) fn whole(model: &Model) -> Result<()> {
    let records = &model.provenance.records;
    match records.iter().find(|record| record.kind == "not-in-index") {
        Some(record) => {
            let what = record.what.clone();
            Err(FacadeError::NotInIndex { what }.into())
        }
        None => Ok(()),
    }
}

/// A side file by its path in the repository.
pub(crate) fn text(model: &Model, name: &str, limits: &Limits) -> Result<Option<Vec<u8>>> {
    let Some(asset) = model.assets.iter().find(|asset| asset.name == name) else {
        return Ok(None);
    };
    let len = asset.bytes.len();
    Limits::check("bytes of a side file", len, limits.header_bytes)
        .and_then(|()| asset.bytes.bytes(0, usize::try_from(len).unwrap_or(0)))
        .map(|bytes| Some(bytes.to_vec()))
        .map_err(|error| error.in_file(path_of(asset)))
}

/// Where a side file lies.
fn path_of(asset: &Asset) -> PathBuf {
    let path = asset.bytes.path().map(Path::to_owned);
    path.unwrap_or_else(|| PathBuf::from(&asset.name))
}

/// Names a side file, which those who read it know by its name alone, by its path.
pub(crate) fn placed<T>(model: &Model) -> impl FnOnce(Result<T>) -> Result<T> + use<T> {
    let assets = model.assets.iter();
    let paths: Vec<(String, PathBuf)> = assets
        .map(|asset| (asset.name.clone(), path_of(asset)))
        .collect();
    move |result| {
        let whole = |short: &Path| {
            let found = paths.iter().find(|(name, _)| Path::new(name) == short);
            found.map(|(_, path)| path.clone())
        };
        result.map_err(|error| error.found_at(whole))
    }
}

/// Bytes of a file that may stand in the place of another: pointers and messages are short.
const SHORT: u64 = 1024;

/// Remarks on side files that nothing was taken from, as something else stands in their place.
pub(crate) fn placeholders(model: &Model) -> Vec<Record> {
    let short = model
        .assets
        .iter()
        .filter(|asset| asset.bytes.len() < SHORT);
    let found = short.filter_map(|asset| {
        let len = usize::try_from(asset.bytes.len()).ok()?;
        let bytes = asset.bytes.bytes(0, len).ok()?;
        let found = ir::sniff(&bytes).filter(|found| found.placeholder)?;
        let why = format!(
            "this is {}: nothing was taken from it. {}",
            found.what, found.help
        );
        Some(Record::carried("placeholder", &asset.name, why))
    });
    found.collect()
}

/// A side file as JSON.
pub(crate) fn json(model: &Model, name: &str, limits: &Limits) -> Result<Option<Value>> {
    let Some(bytes) = text(model, name, limits)? else {
        return Ok(None);
    };
    let asset = model.assets.iter().find(|asset| asset.name == name);
    let path = || asset.map_or_else(|| name.into(), path_of);
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| {
        if let Some(found) = ir::sniff(&bytes).filter(|found| found.placeholder) {
            let what = format!("this is {}", found.what);
            let error = Error::from(Fault::Invalid { what }).in_file(path());
            return error.with_help(found.help);
        }
        let what = format!("not JSON: {error}");
        Error::from(Fault::Invalid { what }).in_file(path())
    })
}

/// How the weights were quantized, if they are: in the configuration, in that of a multimodal
/// model's text part, or in the side files that came before both.
pub(crate) fn quantization(
    model: &Model,
    config: &Value,
    limits: &Limits,
) -> Result<Option<Value>> {
    const KEY: &str = "quantization_config";
    let text = config.get("text_config");
    // The second is what compressed-tensors called it first.
    let old = || config.get("compression_config");
    let told = config.get(KEY).or_else(|| text?.get(KEY)).or_else(old);
    if let Some(settings) = told.filter(|settings| settings.is_object()) {
        return Ok(Some(settings.clone()));
    }
    // Model Optimizer's own file, where nothing is said in the configuration.
    if let Some(file) = json(model, "hf_quant_config.json", limits)?
        && file.get("quantization").is_some()
    {
        return Ok(Some(serde_json::json!({"quant_method": "modelopt"})));
    }
    for name in ["quantize_config.json", "quant_config.json"] {
        if let Some(settings) = json(model, name, limits)? {
            return Ok(Some(settings));
        }
    }
    // Numbers of eight bits with a scale beside them mean one thing only.
    let scaled = model.tensors.iter().any(|tensor| {
        let scale = |end: &str| {
            model
                .tensors
                .by_name(&format!("{}{end}", tensor.name))
                .is_some()
        };
        tensor.dtype() == DType::F8E4M3 && (scale("_scale_inv") || scale("_scale"))
    });
    Ok(scaled.then(|| serde_json::json!({"quant_method": "fp8"})))
}
