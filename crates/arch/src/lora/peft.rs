//! `adapter_config.json` of an adapter that comes back.

use crate::table::Table;
use ir::{MetaValue, Model, ns};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A module that the adapter changes.
#[derive(Debug)]
pub(super) struct Adapted {
    /// `model.layers.0.self_attn.q_proj`.
    pub(super) module: String,
    pub(super) rank: u64,
    pub(super) bid: Option<u64>,
    /// A Conv1D.
    pub(super) conv: bool,
}

/// The file, with the keys that decide what PEFT does.
pub(super) fn peft_config(
    model: &Model,
    table: &Table,
    root: &Map<String, Value>,
    base: Option<&Value>,
    adapted: &[Adapted],
    whole: &[String],
) -> Value {
    let rank = usual_rank(adapted);
    let mut others = Map::new();
    for one in adapted.iter().filter(|one| one.rank != rank) {
        others.insert(one.module.clone(), json!(one.rank));
    }
    let alpha = match model.metadata.get(ns::GGUF, "adapter.lora.alpha") {
        Some(MetaValue::F32(alpha)) if *alpha != 0.0 => Some(*alpha),
        _ => None,
    };
    let layers = root.get("block_count").and_then(Value::as_u64);
    let saved: BTreeSet<&str> = whole.iter().map(|module| leaf(module)).collect();
    let mut config = json!({
        "peft_type": "LORA",
        "task_type": task(table, base),
        "base_model_name_or_path": base_model(model),
        "r": rank,
        "lora_alpha": alpha.map_or_else(|| json!(rank), number),
        "lora_dropout": 0.0,
        "target_modules": targets(adapted, layers),
        "rank_pattern": others,
        // Without an alpha a runtime does not scale at all.
        "alpha_pattern": if alpha.is_none() { others.clone() } else { Map::new() },
        "modules_to_save": if saved.is_empty() { Value::Null } else { json!(saved) },
        "bias": "none",
        "fan_in_fan_out": adapted.iter().any(|one| one.conv),
        "inference_mode": true,
        "use_dora": false,
        "use_rslora": false,
    });
    let tokens = model
        .metadata
        .get(ns::GGUF, "adapter.alora.invocation_tokens");
    if let (Some(MetaValue::Array(ir::Array::U32(tokens))), Value::Object(map)) =
        (tokens, &mut config)
    {
        map.insert("alora_invocation_tokens".to_owned(), json!(tokens));
    }
    config
}

/// The rank that most modules have; of two the larger.
fn usual_rank(adapted: &[Adapted]) -> u64 {
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    for one in adapted {
        *counts.entry(one.rank).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(rank, n)| (*n, *rank));
    most.map_or(0, |(rank, _)| rank)
}

/// Whole numbers as such, as people write them.
fn number(alpha: f32) -> Value {
    let text = alpha.to_string();
    match (text.parse::<i64>(), text.parse::<f64>()) {
        (Ok(whole), _) => json!(whole),
        (_, Ok(real)) => json!(real),
        _ => Value::Null,
    }
}

fn leaf(module: &str) -> &str {
    module.rsplit_once('.').map_or(module, |(_, leaf)| leaf)
}

/// The last parts of the modules' names where those stand for the same modules in each layer, and
/// the whole names where some layers have other modules than others.
fn targets(adapted: &[Adapted], layers: Option<u64>) -> Vec<String> {
    let mut by_leaf: BTreeMap<&str, BTreeSet<Option<u64>>> = BTreeMap::new();
    for one in adapted {
        by_leaf
            .entry(leaf(&one.module))
            .or_default()
            .insert(one.bid);
    }
    let highest = adapted.iter().filter_map(|one| one.bid).max();
    let n = layers.or(highest.map(|bid| bid.saturating_add(1)));
    let all: BTreeSet<Option<u64>> = (0..n.unwrap_or(0).min(MAX_LAYERS)).map(Some).collect();
    let even = by_leaf
        .values()
        .all(|bids| *bids == all || bids.len() == 1 && bids.contains(&None));
    if even {
        return by_leaf.keys().map(|leaf| (*leaf).to_owned()).collect();
    }
    let names: BTreeSet<&String> = adapted.iter().map(|one| &one.module).collect();
    names.into_iter().cloned().collect()
}

/// More layers than any model has.
const MAX_LAYERS: u64 = 1 << 16;

fn task(table: &Table, base: Option<&Value>) -> &'static str {
    let class = base.and_then(|base| base.get("architectures")?.get(0)?.as_str());
    let class = class.or(table.hf.as_ref().map(|hf| hf.class.as_str()));
    let speaks = ["ForCausalLM", "LMHeadModel", "ForConditionalGeneration"];
    match class {
        Some(class) if !speaks.iter().any(|end| class.ends_with(end)) => "FEATURE_EXTRACTION",
        _ => "CAUSAL_LM",
    }
}

/// The name of a GGUF adapter's base model, as the file tells it.
pub fn base_model(model: &Model) -> Option<String> {
    let url = model
        .metadata
        .get(ns::GGUF, "general.base_model.0.repo_url");
    let url = url.and_then(MetaValue::as_str);
    let id = url.and_then(|url| url.strip_prefix("https://huggingface.co/"));
    id.filter(|id| !id.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapted(names: &[(&str, Option<u64>, u64)]) -> Vec<Adapted> {
        let one = |(module, bid, rank): &(&str, Option<u64>, u64)| Adapted {
            module: (*module).to_owned(),
            rank: *rank,
            bid: *bid,
            conv: false,
        };
        names.iter().map(one).collect()
    }

    #[test]
    fn short_names_where_layers_are_alike() {
        let even = adapted(&[
            ("model.layers.0.self_attn.q_proj", Some(0), 8),
            ("model.layers.1.self_attn.q_proj", Some(1), 8),
            ("model.embed_tokens", None, 4),
        ]);
        assert_eq!(targets(&even, Some(2)), ["embed_tokens", "q_proj"]);
        assert_eq!(targets(&even, Some(3)).len(), 3);
        assert_eq!(usual_rank(&even), 8);
        let odd = adapted(&[
            ("model.layers.0.self_attn.q_proj", Some(0), 8),
            ("model.layers.1.self_attn.v_proj", Some(1), 8),
        ]);
        assert_eq!(
            targets(&odd, None),
            [
                "model.layers.0.self_attn.q_proj",
                "model.layers.1.self_attn.v_proj"
            ]
        );
    }

    #[test]
    fn alpha_as_people_write_it() {
        assert_eq!(number(16.0), json!(16));
        assert_eq!(number(0.1), json!(0.1));
    }
}
