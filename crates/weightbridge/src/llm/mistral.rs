//! Mistral's own layout: `params.json` beside `consolidated*.safetensors`.

use super::files;
use crate::FacadeError;
use ir::{Limits, Model, Record, Result};
use serde_json::{Map, Value, json};

const PARAMS: &str = "params.json";

/// The class that tables and tokenizer methods know the layout by. It has none of its own.
const CLASS: &str = "MistralConsolidated";

/// Keys that every dense model of this layout has. Llama's first releases, whose `params.json` has
/// most of them too, lack the third.
const NEEDED: [&str; 6] = [
    "dim",
    "n_layers",
    "hidden_dim",
    "n_heads",
    "n_kv_heads",
    "norm_eps",
];

/// `params.json` as a configuration that tables read, if the model came with one and without a
/// `config.json`; what looks wrong about it becomes records.
pub(super) fn config(model: &mut Model, limits: &Limits) -> Result<Option<Value>> {
    if model.provenance.format != st::FORMAT.id {
        return Ok(None);
    }
    let Some(params) = files::json(model, PARAMS, limits)? else {
        return Ok(None);
    };
    let Value::Object(params) = params else {
        return Err(refused("it is no object").at(PARAMS.to_owned()));
    };
    let config = configured(params).map_err(|error| error.at(PARAMS.to_owned()))?;
    if config.get("max_position_embeddings").is_none() {
        let why = "params.json tells no max_position_embeddings, and llama.cpp does not load a \
                   model without: give it with --set ARCHITECTURE.context_length=N";
        let record = Record::carried("no-context", "context_length", why);
        model.provenance.records.push(record);
    }
    Ok(Some(config))
}

fn configured(mut params: Map<String, Value>) -> Result<Value> {
    // A key that is null is one that is not there, in all that comes after.
    params.retain(|_, value| !value.is_null());
    if params.contains_key("moe") {
        return Err(refused(
            "a model with experts (\"moe\") is not read from Mistral's own layout",
        ));
    }
    if let Some(missing) = NEEDED.iter().find(|key| !params.contains_key(**key)) {
        return Err(refused(&format!("there is no {missing:?} in it")));
    }
    if let Some(settings) = params.get("quantization") {
        let kind = settings.get("qformat_weight");
        if kind.and_then(Value::as_str) != Some("fp8_e4m3") {
            let found = kind.map_or("nothing".to_owned(), Value::to_string);
            return Err(refused(&format!(
                "quantization.qformat_weight is {found}, \"fp8_e4m3\" is what is read"
            )));
        }
        // One scale for a whole tensor: there are no blocks.
        let settings = json!({"quant_method": "fp8", "activation_scheme": "static"});
        params.insert("quantization_config".to_owned(), settings);
    }
    // Older ones have the same under another name.
    let longest = params.get("max_seq_len").cloned();
    if let Some(longest) = longest.filter(|_| !params.contains_key("max_position_embeddings")) {
        params.insert("max_position_embeddings".to_owned(), longest);
    }
    params.insert("architectures".to_owned(), json!([CLASS]));
    Ok(Value::Object(params))
}

fn refused(what: &str) -> ir::Error {
    FacadeError::Params {
        what: what.to_owned(),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> Map<String, Value> {
        let dense = json!({"dim": 64, "n_layers": 2, "hidden_dim": 96, "n_heads": 4,
            "n_kv_heads": 2, "norm_eps": 1e-5, "max_seq_len": 512, "moe": null});
        dense.as_object().cloned().unwrap()
    }

    fn why(key: &str, value: Value) -> String {
        let mut params = params();
        params.insert(key.to_owned(), value);
        configured(params).unwrap_err().to_string()
    }

    #[test]
    fn tables_get_what_they_ask_for() {
        let mut params = params();
        let fp8 = json!({"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"});
        params.insert("quantization".to_owned(), fp8);
        let config = configured(params).unwrap();
        assert_eq!(config["architectures"], json!([CLASS]));
        assert_eq!(config["max_position_embeddings"], json!(512));
        assert_eq!(config["quantization_config"]["quant_method"], json!("fp8"));
    }

    #[test]
    fn what_is_not_read_is_named() {
        assert!(why("moe", json!({"num_experts": 8})).contains("experts"));
        assert!(why("hidden_dim", Value::Null).contains("\"hidden_dim\""));
        let int4 = json!({"qformat_weight": "int4"});
        assert!(why("quantization", int4).contains("\"int4\""));
    }
}
