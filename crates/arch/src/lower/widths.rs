//! Sizes that `config.json` does not give.
//!
//! The reference converter takes the defaults of transformers' class for them. Where the tensors
//! tell, they are believed instead, with a record; where nothing tells, the class is, with a record
//! too. A key that is there and that the tensors contradict is refused.

use super::Planned;
use crate::error::ArchError;
use crate::expr::Scope;
use crate::hparams::lifted;
use crate::table::{Key, Table};
use ir::{MetaValue, Record, Result};
use serde_json::{Map, Value, json};

/// Keys whose default the tensors need not contradict, and without which a runtime computes
/// something else.
const TOLD: [&str; 16] = [
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "sliding_window",
    "kv_lora_rank",
    "q_lora_rank",
    "qk_nope_head_dim",
    "qk_rope_head_dim",
    "v_head_dim",
    "num_experts_per_tok",
    "n_routed_experts",
    "num_experts",
    "num_local_experts",
    "n_shared_experts",
    "first_k_dense_replace",
];

/// Says which of these numbers are the class's and not the config's.
pub(super) fn defaults(table: &Table, text: &Map<String, Value>) -> Vec<Record> {
    let model_type = text.get("model_type").and_then(Value::as_str).unwrap_or("");
    let Some(class) = table.class_of(model_type) else {
        return Vec::new();
    };
    let given = |key: &str| {
        let known = text.get(key).is_some_and(|value| !value.is_null());
        let renamed = class
            .rename
            .iter()
            .any(|(from, to)| to == key && text.contains_key(from));
        known || renamed
    };
    let assumed = class
        .defaults
        .iter()
        .filter(|(key, _)| TOLD.contains(&key.as_str()));
    let assumed = assumed.filter(|(key, _)| !given(key));
    let assumed = assumed.filter_map(|(key, value)| Some((key, value.as_literal_u64()?)));
    let record = |(key, value): (&String, u64)| {
        let why = format!(
            "config.json has none: it is {value}, which transformers takes for model type \
             {model_type:?}; put the model's own number there if it is another"
        );
        Record::carried("class-default", key, why)
    };
    assumed.map(record).collect()
}

/// A size of the vocabulary that the config does not give: it has the rows of the embedding.
pub(super) fn vocabulary(config: &mut Value, rows: Option<u64>) -> Option<Record> {
    let rows = rows.filter(|_| !lifted(config).contains_key("vocab_size"))?;
    crate::hparams::set(config, "vocab_size", json!(rows));
    let why = format!("config.json has none: it is {rows}, the rows of the embedding");
    Some(Record::carried("of-tensors", "vocab_size", why))
}

/// A size that a GGUF key holds, and the parts whose rows have it.
struct Width {
    key: &'static str,
    parts: &'static [&'static str],
    /// The config's name for it, if it has none of those that the table asks for.
    name: &'static str,
}

const DENSE: Width = Width {
    key: "feed_forward_length",
    parts: &["ffn_down"],
    name: "intermediate_size",
};

/// Of tables that have one size for all.
const ONE: Width = Width {
    key: "feed_forward_length",
    parts: &["ffn_down", "ffn_down_exps"],
    name: "intermediate_size",
};

const EXPERTS: Width = Width {
    key: "expert_feed_forward_length",
    parts: &["ffn_down_exps"],
    name: "moe_intermediate_size",
};

/// Compares the widths of the feed-forward layers with what the table makes of the config. What
/// the config does not give goes into `root`, or comes back as keys to change.
pub(super) fn feed_forward(
    table: &Table,
    text: &Map<String, Value>,
    root: &mut Map<String, Value>,
    tensors: &[Planned],
    records: &mut Vec<Record>,
) -> Result<Vec<(&'static str, MetaValue)>> {
    let mut changes = Vec::new();
    let apart = table.kv.iter().any(|key| key.name == EXPERTS.key);
    let widths: &[Width] = if apart { &[DENSE, EXPERTS] } else { &[ONE] };
    for Width { key, parts, name } in widths {
        let rows: Vec<&Key> = table.kv.iter().filter(|row| row.name == *key).collect();
        if rows.is_empty() {
            continue;
        }
        let Some(width) = row_length(tensors, parts) else {
            continue;
        };
        // The last row that gives a value counts, as it does for the key.
        let scope = Scope::new(root);
        let values = rows
            .iter()
            .rev()
            .filter_map(|row| row.value.eval(&scope).ok());
        let now = values.into_iter().find(|value| !value.is_null());
        let now = now.unwrap_or(Value::Null);
        if now.is_array() || now.as_u64() == Some(width) {
            continue;
        }
        let keys: Vec<String> = rows.iter().flat_map(|row| row.value.keys()).collect();
        // Where the config has no size for experts, the table reads that of dense layers.
        let asked = keys.iter().filter(|asked| apart_from(name, asked));
        let contradicted = asked
            .clone()
            .find(|asked| !now.is_null() && text.get(asked.as_str()) == Some(&now));
        if let Some(what) = contradicted {
            let why = format!(
                "it is {now}, and the rows of {} have {width}",
                parts.join(" and ")
            );
            let what = what.clone();
            return Err(ArchError::BadValue { what, why }.into());
        }
        if now.is_null() && keys.iter().any(|key| key == name) {
            root.insert((*name).to_owned(), json!(width));
        } else {
            let width = u32::try_from(width).map_err(|_| ArchError::BadValue {
                what: (*name).to_owned(),
                why: format!("{width} is more than a GGUF key holds"),
            })?;
            changes.push((*key, MetaValue::U32(width)));
        }
        let why = format!("config.json does not give it: it is {width}, that of the tensors");
        records.push(Record::carried("of-tensors", *name, why));
    }
    Ok(changes)
}

/// Whether a key of the config is the one for this size.
fn apart_from(name: &str, asked: &str) -> bool {
    name != EXPERTS.name || asked != DENSE.name
}

/// The length of the rows of these parts, if all blocks agree.
fn row_length(tensors: &[Planned], parts: &[&str]) -> Option<u64> {
    let mut lengths = tensors.iter().filter_map(|planned| {
        let name = planned.tensor.name.strip_prefix("blk.")?;
        let name = name.split_once('.')?.1.strip_suffix(".weight")?;
        let shape = &planned.tensor.spec.shape;
        (parts.contains(&name) && shape.len() >= 2).then(|| shape.row_len())
    });
    let first = lengths.next()?;
    lengths.all(|length| length == first).then_some(first)
}
