//! A config as the reference converter sees it.
//!
//! That converter reads `config.json` through transformers, whose config class of the model type
//! fills in defaults, renames keys and gathers what is about rope in one place. All of it reaches
//! the GGUF keys, so a table's `[[config]]` says the same as data, and this module does it:
//!
//! 1. a text model inside a multimodal config is lifted to the top;
//! 2. the class's renames and defaults are applied, if the model type is known to the table;
//! 3. `rope_scaling`, `rope_theta` and `partial_rotary_factor` become `rope_parameters`, and
//!    `rope` names those of the full attention layers, `rope_all` the whole;
//! 4. the table's own `set` has the last word.

use crate::error::ArchError;
use crate::expr::Scope;
use crate::table::{ConfigClass, Table};
use ir::Result;
use serde_json::{Map, Value, json};

/// Keys some repositories nest their text model under, and the path inside.
const NESTED: &[&[&str]] = &[
    &["llm_config"],
    &["lm_config"],
    &["thinker_config", "text_config"],
    &["language_config"],
    &["text_config"],
];

/// The text model's part of a config, and its keys lifted over the others.
pub(crate) fn lifted(config: &Value) -> Map<String, Value> {
    let mut root = config.as_object().cloned().unwrap_or_default();
    if let Some(text) = text_part(&root) {
        for (key, value) in text {
            root.insert(key, value);
        }
    }
    root
}

/// Sets a key of the text model.
pub(crate) fn set(config: &mut Value, key: &str, value: Value) {
    let path = config.as_object().and_then(text_path).unwrap_or_default();
    let mut here = config;
    for name in path {
        match here.get_mut(*name) {
            Some(inner) => here = inner,
            None => return,
        }
    }
    if let Value::Object(map) = here {
        map.insert(key.to_owned(), value);
    }
}

/// Where the text model's part is.
fn text_path(root: &Map<String, Value>) -> Option<&'static [&'static str]> {
    let part = |path: &&&[&str]| text_at(root, path).is_some();
    NESTED.iter().find(part).copied()
}

fn text_part(root: &Map<String, Value>) -> Option<Map<String, Value>> {
    text_at(root, text_path(root)?).cloned()
}

fn text_at<'a>(root: &'a Map<String, Value>, path: &[&str]) -> Option<&'a Map<String, Value>> {
    let (first, rest) = path.split_first()?;
    let mut here = root.get(*first)?;
    for key in rest {
        here = here.get(key)?;
    }
    here.as_object()
}

/// What configs call the number of blocks, which tables know as `block_count`.
pub(crate) const LAYERS: [&str; 4] = ["n_layers", "num_hidden_layers", "n_layer", "num_layers"];

/// The config of `table`'s kind of model: see the module's head.
pub(crate) fn hparams(
    table: &Table,
    config: &Value,
    repo: &Map<String, Value>,
) -> Result<Map<String, Value>> {
    let (mut root, _) = of_class(table, config)?;
    if !root.contains_key("block_count")
        && let Some(layers) = LAYERS.iter().find_map(|key| root.get(*key)).cloned()
    {
        root.insert("block_count".to_owned(), layers);
    }
    mirror_rope(&mut root);
    root.insert("repo".to_owned(), Value::Object(repo.clone()));
    for (key, value) in &table.set {
        let value = eval(key, value, &root)?;
        root.insert(key.clone(), value);
    }
    name_rope(&mut root);
    Ok(root)
}

/// The config as its class has it, without what the reference converter adds: its `set` and the
/// other names it finds rope under. A class that the table does not know is read with those names.
pub(crate) fn class_params(table: &Table, config: &Value) -> Result<Map<String, Value>> {
    let (mut root, known) = of_class(table, config)?;
    if !known {
        mirror_rope(&mut root);
    }
    name_rope(&mut root);
    Ok(root)
}

/// The first two steps of the module's head and the third as the class does it, and whether the
/// table knows the class.
fn of_class(table: &Table, config: &Value) -> Result<(Map<String, Value>, bool)> {
    let mut root = config.as_object().cloned().unwrap_or_default();
    let mut text = text_part(&root);
    let inner = text.as_mut().unwrap_or(&mut root);
    let kind = inner.get("model_type").and_then(Value::as_str);
    let class = table.class_of(kind.unwrap_or(""));
    if let Some(class) = class {
        fill(inner, class)?;
    }
    if let Some(text) = text {
        root.extend(text);
    }
    Ok((root, class.is_some()))
}

fn eval(key: &str, value: &crate::expr::Expr, root: &Map<String, Value>) -> Result<Value> {
    value.eval(&Scope::new(root)).map_err(|why| {
        ArchError::BadValue {
            what: key.to_owned(),
            why,
        }
        .into()
    })
}

/// What the config class does.
fn fill(map: &mut Map<String, Value>, class: &ConfigClass) -> Result<()> {
    for (from, to) in &class.rename {
        if let Some(value) = map.remove(from) {
            map.insert(to.clone(), value);
        }
    }
    for (key, value) in &class.defaults {
        // `key?` also replaces a null that is there.
        let (key, nulls) = match key.strip_suffix('?') {
            Some(key) => (key, true),
            None => (key.as_str(), false),
        };
        let there = map
            .get(key)
            .is_some_and(|known| !(nulls && known.is_null()));
        if !there {
            let value = eval(key, value, map)?;
            map.insert(key.to_owned(), value);
        }
    }
    match (class.rope.as_str(), class.theta) {
        ("local_global", Some(theta)) => local_global(map, theta),
        ("full_sliding", Some(theta)) => full_sliding(map, theta),
        (_, Some(theta)) => standard(map, theta),
        _ => {}
    }
    Ok(())
}

/// The first of these keys that has a value that is not empty.
fn rope_source(map: &Map<String, Value>) -> Map<String, Value> {
    let keys = ["rope_scaling", "rope_parameters"];
    let mut found = keys.iter().filter_map(|key| map.get(*key)?.as_object());
    found
        .find(|rope| !rope.is_empty())
        .cloned()
        .unwrap_or_default()
}

fn set_default(map: &mut Map<String, Value>, key: &str, value: Option<Value>) {
    if let Some(value) = value
        && !map.contains_key(key)
    {
        map.insert(key.to_owned(), value);
    }
}

/// The type, the base and the original context, where they are missing.
fn standardize(rope: &mut Map<String, Value>, map: &Map<String, Value>, theta: Value, flat: bool) {
    let kind = rope
        .get("type")
        .cloned()
        .unwrap_or_else(|| json!("default"));
    set_default(rope, "rope_theta", Some(theta));
    set_default(rope, "rope_type", Some(kind));
    let factor = map
        .get("partial_rotary_factor")
        .filter(|value| !value.is_null());
    set_default(rope, "partial_rotary_factor", factor.cloned());
    let scaled = rope.get("rope_type").and_then(Value::as_str);
    if matches!(scaled, Some("llama3" | "yarn" | "longrope")) {
        match map.get("original_max_position_embeddings") {
            Some(original) if flat => {
                rope.insert(
                    "original_max_position_embeddings".to_owned(),
                    original.clone(),
                );
            }
            _ => {
                let context = map.get("max_position_embeddings").cloned();
                set_default(rope, "original_max_position_embeddings", context);
            }
        }
    }
}

/// transformers' `convert_rope_params_to_dict` and `standardize_rope_params`.
fn standard(map: &mut Map<String, Value>, default_theta: f64) {
    let mut rope = rope_source(map);
    let theta = map
        .get("rope_theta")
        .cloned()
        .unwrap_or_else(|| json!(default_theta));
    let kinds: Vec<String> = map
        .get("layer_types")
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter_map(|t| t.as_str().map(str::to_owned))
                .collect()
        })
        .unwrap_or_default();
    let nested: Vec<String> = rope
        .keys()
        .filter(|key| kinds.contains(key))
        .cloned()
        .collect();
    if nested.is_empty() {
        standardize(&mut rope, map, theta.clone(), true);
    }
    for key in nested {
        if let Some(Value::Object(inner)) = rope.get_mut(&key) {
            standardize(inner, map, theta.clone(), false);
        }
    }
    map.remove("rope_scaling");
    map.remove("rope_theta");
    map.insert("rope_parameters".to_owned(), Value::Object(rope));
}

/// Gemma 3 and ModernBERT: one rope for layers that see all, one for those with a window.
fn local_global(map: &mut Map<String, Value>, default_theta: f64) {
    let first = |keys: &[&str]| keys.iter().find_map(|key| map.get(*key)).cloned();
    let theta = first(&["rope_theta", "global_rope_theta"]).unwrap_or_else(|| json!(default_theta));
    let local_theta =
        first(&["rope_local_base_freq", "local_rope_theta"]).unwrap_or_else(|| json!(1e4));
    two_ropes(map, theta, local_theta);
}

/// OLMo 3: the same, but a `rope_theta` beside both is that of the layers that see all, alone.
fn full_sliding(map: &mut Map<String, Value>, default_theta: f64) {
    let theta = map.get("rope_theta").cloned();
    let theta = theta.unwrap_or_else(|| json!(default_theta));
    two_ropes(map, theta, json!(default_theta));
}

/// The parts of both kinds of layers, filled in; what scales is of those that see all.
fn two_ropes(map: &mut Map<String, Value>, theta: Value, local_theta: Value) {
    let part = |rope: Option<&Value>| rope.and_then(Value::as_object).cloned().unwrap_or_default();
    let mut rope = part(map.get("rope_parameters"));
    let mut full = part(rope.get("full_attention"));
    let mut local = part(rope.get("sliding_attention"));
    full.extend(part(map.get("rope_scaling")));
    standardize(&mut full, map, theta, false);
    standardize(&mut local, map, local_theta, false);
    // What stands beside the two stays: transformers reads `truncate` there.
    rope.insert("full_attention".to_owned(), Value::Object(full));
    rope.insert("sliding_attention".to_owned(), Value::Object(local));
    for key in [
        "rope_scaling",
        "rope_theta",
        "rope_local_base_freq",
        "global_rope_theta",
        "local_rope_theta",
    ] {
        map.remove(key);
    }
    map.insert("rope_parameters".to_owned(), Value::Object(rope));
}

/// What the converter's own text model adds to `rope_parameters`.
fn mirror_rope(root: &mut Map<String, Value>) {
    let source = root
        .get("rope_parameters")
        .or_else(|| root.get("rope_scaling"));
    let mut rope = source
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    let first = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| root.get(*key))
            .filter(|v| !v.is_null())
            .cloned()
    };
    if !rope.contains_key("full_attention") && !rope.contains_key("sliding_attention") {
        let local = first(&[
            "local_rope_theta",
            "rope_local_theta",
            "rope_theta_local",
            "swa_rope_theta",
            "rope_local_base_freq",
        ]);
        if let Some(local) = local {
            rope.insert(
                "sliding_attention".to_owned(),
                json!({ "rope_theta": local }),
            );
        }
        let theta = first(&[
            "global_rope_theta",
            "rope_global_theta",
            "rope_theta_global",
            "rope_theta",
            "rotary_emb_base",
        ]);
        set_default(&mut rope, "rope_theta", theta);
        let kind = rope.get("type").cloned();
        set_default(&mut rope, "rope_type", kind);
        let factor = first(&["partial_rotary_factor", "rope_pct", "rope_percent"]);
        set_default(&mut rope, "partial_rotary_factor", factor);
        let original = first(&["original_max_position_embeddings"]);
        set_default(&mut rope, "original_max_position_embeddings", original);
    }
    root.insert("rope_parameters".to_owned(), Value::Object(rope));
}

/// The names `rope`, `rope_all` and `rope_scaling_kind`.
fn name_rope(root: &mut Map<String, Value>) {
    let all = root
        .get("rope_parameters")
        .cloned()
        .unwrap_or_else(|| json!({}));
    let rope = all
        .get("full_attention")
        .cloned()
        .unwrap_or_else(|| all.clone());
    let scaled = rope.get("factor").is_some_and(|factor| !factor.is_null());
    let kind = match rope.get("rope_type").and_then(Value::as_str) {
        Some(kind @ ("linear" | "yarn")) if scaled => json!(kind),
        Some("su" | "longrope") => json!("longrope"),
        _ => Value::Null,
    };
    root.insert("rope_all".to_owned(), all);
    root.insert("rope".to_owned(), rope);
    root.insert("rope_scaling_kind".to_owned(), kind);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathers_rope_as_transformers_does() {
        let mut map = json!({
            "rope_theta": 5e5, "max_position_embeddings": 64,
            "rope_scaling": {"type": "yarn", "factor": 4.0},
        });
        let map = map.as_object_mut().unwrap();
        standard(map, 1e4);
        name_rope(map);
        assert_eq!(map["rope"]["rope_theta"], json!(5e5));
        assert_eq!(map["rope"]["rope_type"], json!("yarn"));
        assert_eq!(map["rope"]["original_max_position_embeddings"], json!(64));
        assert_eq!(map["rope_scaling_kind"], json!("yarn"));
    }

    #[test]
    fn lifts_the_text_model() {
        let config = json!({"model_type": "outer", "text_config": {"model_type": "inner", "a": 1}});
        assert_eq!(lifted(&config)["model_type"], json!("inner"));
        assert_eq!(lifted(&config)["a"], json!(1));
    }
}
