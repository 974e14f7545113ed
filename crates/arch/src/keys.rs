//! GGUF keys from a config: rows of a table become typed values.

use crate::error::ArchError;
use crate::expr::Scope;
use crate::hparams::LAYERS;
use crate::table::{Key, Kind, Table};
use ir::{Array, MetaValue, Result};
use serde_json::{Map, Value};

/// The pairs of `keys`, in the order in which each key first got a value. A later row for the
/// same key changes the value in its place, as gguf-py's writer does.
pub(crate) fn pairs(
    table: &Table,
    keys: &[Key],
    root: &Map<String, Value>,
) -> Result<Vec<(String, MetaValue)>> {
    let mut list: Vec<(String, MetaValue)> = Vec::new();
    let scope = Scope::new(root);
    for key in keys {
        let name = full_name(table, &key.name);
        let value = key.value.eval(&scope).map_err(|why| ArchError::BadValue {
            what: name.clone(),
            why,
        })?;
        if value.is_null() {
            if key.required && !list.iter().any(|(known, _)| *known == name) {
                let mut keys = key.value.keys();
                if keys == ["block_count"] {
                    keys = LAYERS.map(str::to_owned).to_vec();
                }
                // What is there is not what is missing; `rope` is a name for a part of the config.
                keys.retain(|key| key == "rope" || root.get(key).is_none_or(Value::is_null));
                for key in keys.iter_mut().filter(|key| *key == "rope") {
                    "rope_parameters".clone_into(key);
                }
                let gguf_key = name;
                return Err(ArchError::MissingKey { gguf_key, keys }.into());
            }
            continue;
        }
        let typed = typed(key.kind, &value).ok_or_else(|| ArchError::BadValue {
            what: name.clone(),
            why: format!("`{}` is {value}", key.value),
        })?;
        match list.iter_mut().find(|(known, _)| *known == name) {
            Some(slot) => slot.1 = typed,
            None => list.push((name, typed)),
        }
    }
    Ok(list)
}

/// A key with its architecture's prefix, if it is not one of the common ones.
pub(crate) fn full_name(table: &Table, key: &str) -> String {
    if key.starts_with("general.") || key.starts_with("tokenizer.") {
        key.to_owned()
    } else {
        format!("{}.{key}", table.gguf)
    }
}

fn typed(kind: Kind, value: &Value) -> Option<MetaValue> {
    if let Value::Array(items) = value {
        return array(kind, items).map(MetaValue::Array);
    }
    Some(match kind {
        Kind::U32 => MetaValue::U32(u32::try_from(whole(value)?).ok()?),
        Kind::I32 => MetaValue::I32(i32::try_from(whole(value)?).ok()?),
        Kind::F32 => MetaValue::F32(single(value)?),
        Kind::Bool => MetaValue::Bool(value.as_bool()?),
        Kind::Str => MetaValue::text(value.as_str()?),
    })
}

/// Python's lists of whole numbers are I32 in GGUF, whatever a single one would be.
fn array(kind: Kind, items: &[Value]) -> Option<Array> {
    Some(match kind {
        Kind::U32 | Kind::I32 => Array::I32(
            items
                .iter()
                .map(|item| i32::try_from(whole(item)?).ok())
                .collect::<Option<_>>()?,
        ),
        Kind::F32 => Array::F32(items.iter().map(single).collect::<Option<_>>()?),
        Kind::Bool => Array::Bool(items.iter().map(Value::as_bool).collect::<Option<_>>()?),
        Kind::Str => Array::Str(
            items
                .iter()
                .map(|item| item.as_str().map(|text| text.to_owned().into()))
                .collect::<Option<_>>()?,
        ),
    })
}

fn whole(value: &Value) -> Option<i64> {
    if let Some(whole) = value.as_i64() {
        return Some(whole);
    }
    let real = value
        .as_f64()
        .filter(|real| real.fract() == 0.0 && real.abs() < 9e15)?;
    #[allow(clippy::cast_possible_truncation)] // whole and bounded
    Some(real as i64)
}

fn single(value: &Value) -> Option<f32> {
    #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
    value.as_f64().map(|real| real as f32)
}
