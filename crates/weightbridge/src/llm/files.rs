//! The side files of a repository, read whole.

use crate::FacadeError;
use ir::{DType, Error, Fault, Limits, Model, Result};
use serde_json::Value;

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
        .map_err(|error| error.at(name.to_owned()))
}

/// A side file as JSON.
pub(crate) fn json(model: &Model, name: &str, limits: &Limits) -> Result<Option<Value>> {
    let Some(bytes) = text(model, name, limits)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| {
        if let Some(found) = ir::sniff(&bytes).filter(|found| found.placeholder) {
            let what = format!("this is {}", found.what);
            let error = Error::from(Fault::Invalid { what }).at(name.to_owned());
            return error.with_help(found.help);
        }
        let what = format!("not JSON: {error}");
        Error::from(Fault::Invalid { what }).at(name.to_owned())
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
