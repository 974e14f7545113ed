//! From a GGUF model back to a repository's tensors and `config.json`.

use crate::choose::{Choice, for_gguf};
use crate::compute::{Dim, decay, remap};
use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::facts::facts;
use crate::hparams::hparams;
use crate::table::{Hf, Row, Table, slot_of};
use crate::tables::base_hf;
use crate::template::Places;
use crate::verb::Verb;
use ir::{BlockFormat, DType, Limits, Model, Record, Result, Tensor, TensorTable, ns};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};

/// What a raising is asked to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct RaiseOptions<'a> {
    /// `--arch NAME`: a table by its name, whatever the file says.
    pub arch: Option<&'a str>,
    /// `--arch-map FILE.toml`: the user's own table.
    pub map: Option<&'a Table>,
}

/// A model ready to be a repository.
#[derive(Debug)]
pub struct Raised {
    /// The table that was used.
    pub table: String,
    /// The class `architectures` names.
    pub class: String,
    /// `config.json`.
    pub config: Value,
    /// The tensors under their HF names, sorted by name as transformers saves them.
    pub tensors: TensorTable,
    /// Keys of the architecture that the table does not know, and no config tells.
    pub unread: Vec<String>,
    /// What is not as it was, and which keys of the config are defaults.
    pub records: Vec<Record>,
}

/// Most experts a stack is taken apart into. Real models have some hundred.
pub(crate) const EXPERTS_MAX: u64 = 8192;

/// Keys of a config that several families share: what to call a value if a table reads it under
/// several names and its config class knows none of them.
const COMMON: &[&str] = &[
    "max_position_embeddings",
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_key_value_heads",
    "rms_norm_eps",
    "layer_norm_eps",
    "num_experts_per_tok",
    "num_experts",
];

/// Turns a GGUF model into a repository's. Tensors of block types keep them where rows only move;
/// where a verb must reach inside a block, dequantize first.
pub fn gguf_to_hf(model: &Model, options: RaiseOptions<'_>) -> Result<Raised> {
    let gguf = model
        .metadata
        .get(ns::GGUF, "general.architecture")
        .and_then(|v| v.as_str());
    let gguf = gguf.ok_or_else(|| ArchError::Nothing {
        what: "the metadata has no general.architecture: this is no language model".to_owned(),
    })?;
    let keys = facts(model, gguf)?;
    let choice = Choice {
        name: options.arch,
        map: options.map,
    };
    let table = for_gguf(gguf, &keys, choice)?;
    let hf = table.hf.as_ref().ok_or_else(|| ArchError::Table {
        table: table.name.clone(),
        why: "it has no way back: a [hf] part".to_owned(),
    })?;
    let mut records = Vec::new();
    records.extend(unexplained(hf, &keys));
    let config = config(table, &keys, &mut records)?;
    let root = hparams(table, &Value::Object(config.clone()), &Map::new())?;
    let mut tensors = tensors(table, model, &root, &mut records)?;
    if let Some((inside, when)) = &hf.inside
        && when.eval(&Scope::new(&keys)).is_ok_and(|v| truthy(&v))
    {
        for tensor in &mut tensors {
            if !tensor.name.starts_with("classifier.") {
                tensor.name.insert_str(0, inside);
            }
        }
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Raised {
        table: table.name.clone(),
        class: hf.class.clone(),
        config: Value::Object(config),
        tensors: TensorTable::from_tensors(tensors)?,
        unread: unread(table, model, gguf),
        records,
    })
}

/// The keys of an architecture that none of its table's rows writes.
fn unread(table: &Table, model: &Model, gguf: &str) -> Vec<String> {
    let rows = [
        &table.early,
        &table.kv,
        &table.vocab_head,
        &table.vocab_tail,
    ];
    let known: HashSet<&str> = rows.into_iter().flatten().map(|row| &*row.name).collect();
    let keys = model.metadata.of(ns::GGUF).filter(|(key, _)| {
        let own = key.strip_prefix(gguf).and_then(|key| key.strip_prefix('.'));
        own.is_some_and(|own| !known.contains(own))
    });
    keys.map(|(key, _)| key.to_owned()).collect()
}

/// Rope factors that no kind of rope in a config makes: the model that comes back turns otherwise
/// over long distances.
fn unexplained(hf: &Hf, keys: &Map<String, Value>) -> Option<Record> {
    let share = keys.get("rope_freqs_share")?.as_f64()?;
    let mut used = hf.config.iter().flat_map(|(_, value)| value.keys());
    if share >= 1.0 || keys.contains_key("rope_llama3") || used.any(|k| k == "rope_freqs_share") {
        return None;
    }
    let why = "no rope type of a config makes these factors: they are left out";
    Some(Record::changed("rope-factors", "rope_freqs.weight", why))
}

/// `config.json`: the inverse of the table's keys, then what all share, then the table's own.
fn config(
    table: &Table,
    keys: &Map<String, Value>,
    records: &mut Vec<Record>,
) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    let Some(hf) = &table.hf else {
        return Ok(config);
    };
    config.insert("architectures".to_owned(), json!([hf.class]));
    config.insert("model_type".to_owned(), json!(hf.model_type));
    let class = table.class_of(&hf.model_type);
    let known = |key: &str| {
        class.is_some_and(|class| {
            class
                .defaults
                .iter()
                .any(|(name, _)| name.trim_end_matches('?') == key)
        })
    };
    for row in table.early.iter().chain(&table.kv) {
        let Some(first) = row.value.plain_key() else {
            continue;
        };
        let names = row.value.keys();
        let name = names.iter().find(|name| known(name));
        let name = name.or_else(|| names.iter().find(|name| COMMON.contains(&name.as_str())));
        let name = name.map_or(first, String::as_str);
        let made = ["block_count", "file_type", "rope_scaling_kind"].contains(&name);
        if made || table.set.iter().any(|(set, _)| set == name) {
            continue;
        }
        let value = dotted(keys, &row.name);
        if !value.is_null() {
            config.insert(name.to_owned(), value);
        }
    }
    let scope = Scope::new(keys);
    for (key, value) in base_hf().iter().chain(&hf.config) {
        let result = value.eval(&scope).map_err(|why| ArchError::BadValue {
            what: key.clone(),
            why,
        })?;
        // `key!` writes a null, where leaving the key out would mean the class's default.
        let (key, nulls) = match key.strip_suffix('!') {
            Some(key) => (key, true),
            None => (key.as_str(), false),
        };
        if result.is_null() && !nulls {
            config.remove(key);
            continue;
        }
        if value.keys().iter().all(|name| !keys.contains_key(name)) {
            let why = format!("not in the GGUF file, set to {result}");
            records.push(Record::changed("config-default", key, why).wanted());
        }
        config.insert(key.to_owned(), result);
    }
    Ok(config)
}

/// The value of a key with dots in nested keys.
fn dotted(keys: &Map<String, Value>, key: &str) -> Value {
    let mut parts = key.split('.');
    let mut here = parts
        .next()
        .and_then(|first| keys.get(first))
        .cloned()
        .unwrap_or(Value::Null);
    for part in parts {
        here = match here {
            Value::Object(mut map) => map.remove(part).unwrap_or(Value::Null),
            _ => Value::Null,
        };
    }
    here
}

/// GGUF tensors that become HF tensors together.
struct Gathered<'a> {
    places: Places,
    parts: BTreeMap<usize, &'a Tensor>,
}

fn tensors(
    table: &Table,
    model: &Model,
    root: &Map<String, Value>,
    records: &mut Vec<Record>,
) -> Result<Vec<Tensor>> {
    let mut groups: BTreeMap<(usize, Places), Gathered<'_>> = BTreeMap::new();
    let mut leftover = Vec::new();
    for tensor in &model.tensors {
        if table.generate.iter().any(|extra| extra.gguf == tensor.name) {
            let why = "made of the config, which has it";
            records.push(Record::carried("generated", &tensor.name, why));
            continue;
        }
        let Some((row, slot, places)) = find(table, tensor) else {
            leftover.push(tensor.name.clone());
            continue;
        };
        let group = groups
            .entry((row, places.clone()))
            .or_insert_with(|| Gathered {
                places,
                parts: BTreeMap::new(),
            });
        group.parts.insert(slot, tensor);
    }
    if !leftover.is_empty() {
        return Err(ArchError::Leftover {
            table: table.name.clone(),
            count: leftover.len(),
            names: leftover.into_iter().take(8).collect(),
        }
        .into());
    }
    let last = root.get("num_hidden_layers").and_then(Value::as_u64);
    let mut list = Vec::new();
    for ((row, _), group) in &groups {
        let Some(row) = table.rows.get(*row) else {
            continue;
        };
        for tensor in group.raise(row, root, records)? {
            let name = last.and_then(|last| table.beyond_out(&tensor.name, last));
            let name = name.unwrap_or_else(|| tensor.name.clone());
            list.push(Tensor { name, ..tensor });
        }
    }
    Ok(list)
}

/// The row for a GGUF tensor. Blocks that were repacked have a row of their own beside the one
/// for floats.
pub(crate) fn find(table: &Table, tensor: &Tensor) -> Option<(usize, usize, Places)> {
    let found = table.by_gguf(&tensor.name)?;
    let row = table.rows.get(found.0)?;
    let packed = tensor.spec.dtype == DType::Block(BlockFormat::MXFP4);
    if packed || !row.verbs.iter().any(Verb::early) {
        return Some(found);
    }
    let mut rows = table
        .rows
        .iter()
        .enumerate()
        .filter(|(_, row)| row.accept_only);
    rows.find_map(|(i, row)| slot_of(&row.gguf, &tensor.name).map(|(slot, p)| (i, slot, p)))
}

impl Gathered<'_> {
    fn raise(
        &self,
        row: &Row,
        root: &Map<String, Value>,
        records: &mut Vec<Record>,
    ) -> Result<Vec<Tensor>> {
        if self.parts.len() != row.gguf.len() {
            let slots = row.gguf.iter().enumerate();
            let gone = slots.filter(|(slot, _)| !self.parts.contains_key(slot));
            return Err(ArchError::MissingParts {
                target: row
                    .hf
                    .first()
                    .map_or(String::new(), |t| t.fill(&self.places)),
                missing: gone.map(|(_, t)| t.fill(&self.places)).collect(),
            }
            .into());
        }
        let scope = Scope::new(root).with("bid", json!(self.places.bid));
        let parts: Vec<Tensor> = self.parts.values().map(|t| (*t).clone()).collect();
        for verb in row.verbs.iter().filter(|verb| verb.loses()) {
            let name = parts.first().map_or("", |t| t.name.as_str());
            let why = format!("{} left rows out that no file has any more", verb.name());
            records.push(Record::changed("rows", name, why));
        }
        for tensor in parts
            .iter()
            .filter(|_| row.verbs.iter().any(|v| v.name() == "neg_exp"))
        {
            let (_, misses) = decay(tensor)?;
            if misses > 0 {
                let why = format!(
                    "{misses} of its numbers are the exponential of no F32: the nearest was taken, \
                     and converting again may differ in the last bits"
                );
                records.push(Record::changed("rounded", &tensor.name, why));
            }
        }
        if row.stacks() {
            return self.unstack(row, &parts, &scope);
        }
        let parts = backward(&row.verbs, parts, &scope)?;
        let named = parts.into_iter().zip(&row.hf);
        Ok(named
            .map(|(tensor, template)| Tensor {
                name: template.fill(&self.places),
                ..tensor
            })
            .collect())
    }

    /// Each expert by itself.
    fn unstack(&self, row: &Row, parts: &[Tensor], scope: &Scope<'_>) -> Result<Vec<Tensor>> {
        let (Some(stack), Some(template)) = (parts.first(), row.hf.first()) else {
            return Ok(Vec::new());
        };
        let Some((&n, rest)) = stack.spec.shape.split_first() else {
            return Err(crate::verb::bad(stack, "a stack of experts"));
        };
        // A stack of nothing may have any number of planes.
        Limits::check("experts of a layer", n, EXPERTS_MAX)?;
        let each = rest.iter().fold(1u64, |all, dim| all.saturating_mul(*dim));
        let mut list = Vec::new();
        for xid in 0..n {
            let dims = [Dim::new(each, 1)];
            let one = remap(stack, "unstack_experts", xid * each, &dims, rest.to_vec())?;
            let places = Places {
                xid: Some(xid),
                ..self.places.clone()
            };
            for tensor in backward(&row.verbs, vec![one], scope)? {
                list.push(Tensor {
                    name: template.fill(&places),
                    ..tensor
                });
            }
        }
        Ok(list)
    }
}

pub(crate) fn backward(
    verbs: &[Verb],
    mut parts: Vec<Tensor>,
    scope: &Scope<'_>,
) -> Result<Vec<Tensor>> {
    for verb in verbs.iter().rev() {
        parts = verb.backward(parts, scope)?;
    }
    Ok(parts)
}
