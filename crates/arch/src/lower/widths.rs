//! Widths that `config.json` does not give.
//!
//! The reference converter takes the defaults of transformers' class for them. Where the tensors
//! tell, they are believed instead, with a record. A key that is there and that the tensors
//! contradict is refused.

use super::Planned;
use crate::error::ArchError;
use crate::expr::Scope;
use crate::table::{Key, Table};
use ir::{MetaValue, Record, Result};
use serde_json::{Map, Value, json};

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

const SHARED: Width = Width {
    key: "expert_shared_feed_forward_length",
    parts: &["ffn_down_shexp"],
    name: "shared_expert_intermediate_size",
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
    let widths: &[Width] = if apart {
        &[DENSE, EXPERTS, SHARED]
    } else {
        &[ONE, SHARED]
    };
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
