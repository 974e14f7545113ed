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

/// Most numbers in the lists of a configuration: each is held several times over, at 72 bytes, while the
/// keys are made. The longest known lists, factors of longrope, have a few hundred.
const MAX_NUMBERS: u64 = 65_536;

/// How many numbers a value's lists hold. JSON nests 128 deep at most.
fn numbers(value: &Value, listed: bool) -> u64 {
    match value {
        Value::Number(_) => listed.into(),
        Value::Array(list) => list.iter().map(|value| numbers(value, true)).sum(),
        Value::Object(map) => map.values().map(|value| numbers(value, false)).sum(),
        _ => 0,
    }
}

/// A side file as JSON.
pub(crate) fn json(model: &Model, name: &str, limits: &Limits) -> Result<Option<Value>> {
    let Some(bytes) = text(model, name, limits)? else {
        return Ok(None);
    };
    let asset = model.assets.iter().find(|asset| asset.name == name);
    let path = || asset.map_or_else(|| name.into(), path_of);
    let parsed = serde_json::from_slice(&bytes);
    if let Ok(value) = &parsed {
        Limits::check("numbers in lists", numbers(value, false), MAX_NUMBERS)
            .map_err(|error| error.in_file(path()))?;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_lists_are_counted_and_no_others() {
        let config = serde_json::json!({
            "hidden_size": 64,
            "layer_types": ["a", "b"],
            "rope_scaling": {"short_factor": [1, 2.5], "factor": 8, "pairs": [[1, 2], {"n": 3}, [{"l": [4]}]]},
            "id2label": {"0": "x", "1": 2},
        });
        assert_eq!(numbers(&config, false), 5);
    }
}
