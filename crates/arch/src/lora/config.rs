//! `adapter_config.json`, as PEFT writes it: what of it reaches a GGUF adapter, and what cannot.

use crate::error::ArchError;
use ir::{Record, Result};
use serde_json::Value;

/// What a GGUF adapter takes from `adapter_config.json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AdapterConfig {
    /// `lora_alpha`: a runtime scales by it over the rank.
    pub alpha: f32,
    /// `base_model_name_or_path`: an id or a folder.
    pub base: Option<String>,
    /// `alora_invocation_tokens`: what switches an activated LoRA on.
    pub invocation: Vec<u32>,
    /// What PEFT would do and a runtime does not.
    pub records: Vec<Record>,
}

/// Ways of starting that change the base model's own weights: without that base, the adapter is
/// not what was trained.
const CHANGED_BASE: &[&str] = &["pissa", "olora", "corda", "loftq", "lora_ga", "eva"];

impl AdapterConfig {
    /// Reads the file's JSON. Kinds of adapter that GGUF does not have are refused by their names.
    pub fn parse(config: &Value) -> Result<Self> {
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        let kind = text("peft_type").unwrap_or("LORA");
        if !kind.eq_ignore_ascii_case("LORA") {
            return Err(refused(format!("it is a {kind} adapter")));
        }
        for (key, name) in [("use_dora", "DoRA"), ("use_qalora", "QALoRA")] {
            if config.get(key).and_then(Value::as_bool) == Some(true) {
                return Err(refused(format!("it is a {name} adapter")));
            }
        }
        if config.get("layer_replication").is_some_and(filled) {
            let why = "layer_replication makes layers that the base model does not have";
            return Err(refused(why.to_owned()));
        }
        let bad = |what: &str, why: String| {
            let what = what.to_owned();
            Err(ArchError::AdapterValue { what, why }.into())
        };
        let Some(alpha) = config.get("lora_alpha") else {
            return bad("lora_alpha", "it is not there".to_owned());
        };
        let Some(number) = alpha.as_f64().filter(|number| number.is_finite()) else {
            return bad("lora_alpha", format!("it is {alpha}, not a number"));
        };
        let mut invocation = Vec::new();
        match config.get("alora_invocation_tokens") {
            Some(Value::Array(tokens)) => {
                for token in tokens {
                    let id = token.as_u64().and_then(|id| u32::try_from(id).ok());
                    let Some(id) = id else {
                        let why = format!("{token} is no token id");
                        return bad("alora_invocation_tokens", why);
                    };
                    invocation.push(id);
                }
            }
            None | Some(Value::Null) => {}
            Some(other) => return bad("alora_invocation_tokens", format!("it is {other}")),
        }
        if invocation.is_empty() && text("invocation_string").is_some_and(|s| !s.is_empty()) {
            let why = "there is an invocation_string and no token ids of it".to_owned();
            return bad("alora_invocation_tokens", why);
        }
        #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
        Ok(Self {
            alpha: number as f32,
            base: text("base_model_name_or_path")
                .filter(|base| !base.is_empty())
                .map(str::to_owned),
            invocation,
            records: records(config, number),
        })
    }
}

fn refused(what: String) -> ir::Error {
    ArchError::AdapterKind { what }.into()
}

fn filled(value: &Value) -> bool {
    match value {
        Value::Object(map) => !map.is_empty(),
        Value::Array(list) => !list.is_empty(),
        other => !other.is_null(),
    }
}

/// What is lost: a GGUF adapter has one alpha, and runtimes divide it by the rank.
fn records(config: &Value, alpha: f64) -> Vec<Record> {
    let mut records = Vec::new();
    if config.get("use_rslora").and_then(Value::as_bool) == Some(true) {
        let rank = config.get("r").and_then(Value::as_f64).unwrap_or(1.0);
        let why = format!(
            "runtimes scale by alpha / r, rank-stabilised LoRA by alpha / sqrt(r); \
             adapter.lora.alpha=f32:{} gives its scale at rank {rank}",
            alpha * rank.sqrt()
        );
        records.push(Record::changed("scale", "use_rslora", why).flag("--set"));
    }
    if config.get("alpha_pattern").is_some_and(filled) {
        let why = format!("a GGUF adapter has one alpha for all modules, {alpha}");
        records.push(Record::changed("scale", "alpha_pattern", why));
    }
    let start = config.get("init_lora_weights").and_then(Value::as_str);
    let changed = |start: &&str| {
        let start = start.to_ascii_lowercase();
        CHANGED_BASE.iter().any(|name| start.starts_with(name))
    };
    if let Some(start) = start.filter(changed) {
        let why = format!(
            "{start} takes the start of the adapter out of the base model: it only fits the base \
             that was saved with it"
        );
        records.push(Record::carried("base", "init_lora_weights", why));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_alpha_and_base() {
        let config = json!({
            "peft_type": "LORA", "lora_alpha": 16, "r": 8, "use_dora": false,
            "base_model_name_or_path": "org/name", "alora_invocation_tokens": [1, 2],
        });
        let read = AdapterConfig::parse(&config).unwrap();
        assert_eq!((read.alpha, read.base.as_deref()), (16.0, Some("org/name")));
        assert_eq!(read.invocation, [1, 2]);
        assert!(read.records.is_empty());
    }

    #[test]
    fn other_kinds_are_refused_by_name() {
        for (config, word) in [
            (json!({"peft_type": "IA3"}), "IA3"),
            (json!({"lora_alpha": 1, "use_dora": true}), "DoRA"),
            (
                json!({"lora_alpha": 1, "layer_replication": [[0, 2]]}),
                "layer_replication",
            ),
            (json!({"peft_type": "LORA"}), "lora_alpha"),
            (json!({"lora_alpha": "x"}), "lora_alpha"),
            (
                json!({"lora_alpha": 1, "alora_invocation_tokens": [-1]}),
                "token id",
            ),
            (
                json!({"lora_alpha": 1, "invocation_string": "<go>"}),
                "invocation_string",
            ),
        ] {
            let error = AdapterConfig::parse(&config).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn what_a_runtime_does_otherwise_is_told() {
        let config = json!({
            "lora_alpha": 16, "r": 4, "use_rslora": true, "alpha_pattern": {"q_proj": 3},
            "init_lora_weights": "pissa_niter_4",
        });
        let records = AdapterConfig::parse(&config).unwrap().records;
        assert_eq!(records.len(), 3);
        assert!(records[0].why.contains("f32:32"), "{}", records[0].why);
        assert!(records[0].loss && records[1].loss && !records[2].loss);
    }
}
