//! Which table fits a model, and which come near if none does.

use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::hparams::lifted;
use crate::table::Table;
use crate::tables::tables;
use ir::{Model, Result};
use serde_json::{Map, Value};

/// How an HF model's table is chosen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice<'a> {
    /// `--arch NAME`.
    pub(crate) name: Option<&'a str>,
    /// `--arch-map FILE.toml`, read.
    pub(crate) map: Option<&'a Table>,
}

/// The table for a repository.
pub(crate) fn for_hf<'a>(model: &Model, config: &Value, choice: Choice<'a>) -> Result<&'a Table> {
    if let Some(map) = choice.map {
        return Ok(map);
    }
    if let Some(name) = choice.name {
        return named(name);
    }
    let root = lifted(config);
    let text = root.get("architectures").and_then(Value::as_array);
    let outer = config.get("architectures").and_then(Value::as_array);
    let names = |list: Option<&Vec<Value>>| {
        list.and_then(|list| list.first())
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    // The text model's own class wins over the multimodal one around it.
    let classes: Vec<String> = names(text).into_iter().chain(names(outer)).collect();
    let scope = Scope::new(&root);
    let fits = |table: &&Table| {
        table
            .hf_when
            .as_ref()
            .is_none_or(|when| when.eval(&scope).is_ok_and(|v| truthy(&v)))
    };
    for class in &classes {
        let mut fitting: Vec<&Table> = tables()
            .iter()
            .filter(|table| table.classes.contains(class))
            .filter(fits)
            .collect();
        // One with a condition that holds says more than one without.
        fitting.sort_by_key(|table| table.hf_when.is_none());
        if let Some(table) = fitting.first() {
            return Ok(table);
        }
    }
    let model_type = root.get("model_type").and_then(Value::as_str).unwrap_or("");
    if classes.is_empty() {
        let mut fitting = tables()
            .iter()
            .filter(|table| table.class_of(model_type).is_some());
        if let Some(table) = fitting.find(fits) {
            return Ok(table);
        }
    }
    let what = match classes.first() {
        Some(class) => format!("class {class:?}"),
        None if !model_type.is_empty() => format!("model type {model_type:?}"),
        None => "a config.json without architectures or model_type".to_owned(),
    };
    Err(ArchError::Unknown {
        what,
        nearest: nearest(model, &root),
    }
    .into())
}

/// The table for a repository that becomes a graph: classes that the reference converter does not
/// take have one too.
pub(crate) fn for_graph<'a>(
    model: &Model,
    config: &Value,
    choice: Choice<'a>,
) -> Result<&'a Table> {
    let class = config.get("architectures").and_then(|list| list.get(0));
    let class = class.and_then(Value::as_str);
    let mut all = tables().iter();
    match all.find(|table| {
        table
            .graph_classes
            .iter()
            .any(|c| Some(c.as_str()) == class)
    }) {
        Some(table) if choice.name.is_none() && choice.map.is_none() => Ok(table),
        _ => for_hf(model, config, choice),
    }
}

/// The table for a GGUF model.
pub(crate) fn for_gguf<'a>(
    gguf: &str,
    keys: &Map<String, Value>,
    choice: Choice<'a>,
) -> Result<&'a Table> {
    if let Some(map) = choice.map {
        return Ok(map);
    }
    if let Some(name) = choice.name {
        return named(name);
    }
    let scope = Scope::new(keys);
    let fits = |table: &&Table| {
        table
            .gguf_when
            .as_ref()
            .is_none_or(|when| when.eval(&scope).is_ok_and(|v| truthy(&v)))
    };
    let mut fitting: Vec<&Table> = tables()
        .iter()
        .filter(|table| table.gguf == gguf)
        .filter(fits)
        .collect();
    fitting.sort_by_key(|table| table.gguf_when.is_none());
    fitting.first().copied().ok_or_else(|| {
        let mut near: Vec<&Table> = tables().iter().collect();
        near.sort_by_key(|table| distance(&table.gguf, gguf));
        ArchError::Unknown {
            what: format!("general.architecture {gguf:?}"),
            nearest: near
                .iter()
                .take(3)
                .map(|table| table.name.clone())
                .collect(),
        }
        .into()
    })
}

fn named<'a>(name: &str) -> Result<&'a Table> {
    crate::tables::table(name).ok_or_else(|| {
        let mut near: Vec<&Table> = tables().iter().collect();
        near.sort_by_key(|table| distance(&table.name, name));
        ArchError::NoSuch {
            name: name.to_owned(),
            nearest: near
                .iter()
                .take(3)
                .map(|table| table.name.clone())
                .collect(),
        }
        .into()
    })
}

/// The three tables that share most config keys and tensor names with the model.
fn nearest(model: &Model, root: &Map<String, Value>) -> Vec<String> {
    let mut scored: Vec<(u64, &Table)> = tables()
        .iter()
        .map(|table| {
            let keys: Vec<String> = table.kv.iter().flat_map(|key| key.value.keys()).collect();
            let known = root.keys().filter(|key| keys.contains(key)).count() as u64;
            let total = (root.len() as u64).max(1);
            let names = model.tensors.iter().take(512);
            let mut used = vec![false; table.rows.len()];
            let (mut hits, mut n) = (0u64, 0u64);
            for tensor in names {
                if let Some((row, ..)) = table.by_hf(&tensor.name) {
                    hits += 1;
                    if let Some(used) = used.get_mut(row) {
                        *used = true;
                    }
                }
                n += 1;
            }
            let rows = used.iter().filter(|used| **used).count() as u64;
            let of = (used.len() as u64).max(1);
            // In thousandths. Names tell more than keys, and a table whose rows stay unused is
            // for another kind of model.
            let score = known * 1000 / total + 2 * hits * 1000 / n.max(1) + rows * 1000 / of;
            (score, table)
        })
        .collect();
    scored.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    scored
        .iter()
        .take(3)
        .map(|(_, table)| table.name.clone())
        .collect()
}

/// Edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        let mut left = i + 1;
        for (slot, y) in row.iter_mut().skip(1).zip(&b) {
            let cost = (before + usize::from(x != *y)).min(*slot + 1).min(left + 1);
            before = *slot;
            *slot = cost;
            left = cost;
        }
    }
    row.last().copied().unwrap_or(0)
}
