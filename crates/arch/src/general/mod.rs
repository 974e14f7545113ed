//! The `general.*` keys: who made the model, what it is called, what it was made from.
//!
//! gguf-py gathers them from the model card, `config.json`, `generation_config.json` and, when
//! nothing else tells, from the folder's name. This does the same, in the same order.

mod back;
mod card;
mod name;

pub use back::{Described, describe};
pub use card::front_matter;
pub use name::{NameParts, name_parts, size_label, title};

use crate::lower::ParameterCounts;
use ir::{Array, MetaValue};
use serde_json::{Map, Value};

/// What the keys are guessed from.
#[derive(Clone, Copy, Debug, Default)]
pub struct GeneralInput<'a> {
    /// The name of the repository's folder.
    pub folder: &'a str,
    /// The front matter of `README.md`: see [`front_matter`].
    pub card: Option<&'a Value>,
    /// `config.json`.
    pub config: Option<&'a Value>,
    /// `generation_config.json`.
    pub generation: Option<&'a Value>,
    /// See [`crate::Lowered::parameter_counts`].
    pub counts: ParameterCounts,
    /// Whether it is a LoRA adapter.
    pub adapter: bool,
}

/// The fields in the order they are written, with their keys.
const FIELDS: &[(&str, &str)] = &[
    ("name", "general.name"),
    ("author", "general.author"),
    ("version", "general.version"),
    ("organization", "general.organization"),
    ("finetune", "general.finetune"),
    ("basename", "general.basename"),
    ("description", "general.description"),
    ("size_label", "general.size_label"),
    ("license", "general.license"),
    ("license_name", "general.license.name"),
    ("license_link", "general.license.link"),
    ("source_url", "general.source.url"),
    ("source_doi", "general.source.doi"),
    ("source_uuid", "general.source.uuid"),
    ("source_repo_url", "general.source.repo_url"),
];

/// Field and card key; the first that is there wins.
const CARD: &[(&str, &str)] = &[
    ("name", "name"),
    ("author", "author"),
    ("version", "version"),
    ("organization", "organization"),
    ("description", "description"),
    ("finetune", "finetune"),
    ("basename", "basename"),
    ("size_label", "size_label"),
    ("source_url", "url"),
    ("source_doi", "doi"),
    ("source_uuid", "uuid"),
    ("source_repo_url", "repo_url"),
    ("name", "model_name"),
    ("author", "model_author"),
    ("version", "model_version"),
    ("organization", "model_organization"),
    ("description", "model_description"),
    ("finetune", "model_finetune"),
    ("basename", "model_basename"),
    ("size_label", "model_size_label"),
    ("source_url", "model_url"),
    ("source_doi", "model_doi"),
    ("source_uuid", "model_uuid"),
    ("source_repo_url", "model_repo_url"),
    ("author", "model_creator"),
    ("basename", "model_type"),
    ("license", "license"),
    ("license_name", "license_name"),
    ("license_link", "license_link"),
];

/// Key of the generation config, key of GGUF, whether it is a whole number.
const SAMPLING: &[(&[&str], &str, bool)] = &[
    (&["top_k"], "top_k", true),
    (&["top_p"], "top_p", false),
    (&["min_p"], "min_p", false),
    (&["xtc_probability"], "xtc_probability", false),
    (&["xtc_threshold"], "xtc_threshold", false),
    (&["temperature"], "temp", false),
    (&["penalty_last_n"], "penalty_last_n", true),
    (
        &["penalty_repeat", "repetition_penalty"],
        "penalty_repeat",
        false,
    ),
    (&["mirostat"], "mirostat", true),
    (&["mirostat_tau"], "mirostat_tau", false),
    (&["mirostat_eta"], "mirostat_eta", false),
];

/// What a model or a data set that this one is made from is told by.
const SOURCE: &[&str] = &[
    "name",
    "author",
    "version",
    "organization",
    "description",
    "url",
    "doi",
    "uuid",
    "repo_url",
];

/// The `general.*` pairs between `general.architecture` and the architecture's own.
pub fn general(input: &GeneralInput<'_>) -> Vec<(String, MetaValue)> {
    let empty = Value::Null;
    let card = input.card.unwrap_or(&empty);
    let total = i64::try_from(input.counts.total).unwrap_or(i64::MAX);
    // gguf-py's sign for an adapter: its factors only hint at the size of the model.
    let total = if input.adapter { -total } else { total };
    let mut fields: Map<String, Value> = Map::new();
    for (field, key) in CARD {
        if let Some(value) = card.get(*key)
            && fields.get(*field).is_none_or(Value::is_null)
        {
            fields.insert((*field).to_owned(), value.clone());
        }
    }
    let known = input
        .config
        .and_then(|config| config.get("_name_or_path")?.as_str());
    // A path on somebody's machine is no name.
    let known = known.filter(|name| name.matches('/').count() <= 1);
    for id in known.into_iter().chain([input.folder]) {
        let parts = name_parts(id, total);
        let mut guess = |field: &str, value: Option<String>| {
            if let Some(value) = value
                && fields.get(field).is_none_or(Value::is_null)
            {
                fields.insert(field.to_owned(), Value::String(value));
            }
        };
        guess("name", parts.full_name.as_deref().map(title));
        guess("organization", parts.organization);
        guess("basename", parts.basename);
        guess("finetune", parts.finetune);
        guess("version", parts.version);
        guess("size_label", parts.size_label);
    }
    if !fields.contains_key("name") {
        fields.insert("name".to_owned(), Value::String(input.folder.to_owned()));
    }
    if !fields.contains_key("size_label") && total > 0 {
        fields.insert(
            "size_label".to_owned(),
            Value::String(size_label(&input.counts)),
        );
    }
    let kind = if input.adapter { "adapter" } else { "model" };
    let mut pairs = vec![("general.type".to_owned(), MetaValue::text(kind))];
    if input.adapter {
        pairs.push(("adapter.type".to_owned(), MetaValue::text("lora")));
    }
    sampling(&mut pairs, input.generation);
    for (field, key) in FIELDS {
        push(
            &mut pairs,
            (*key).to_owned(),
            fields.get(*field).and_then(text),
        );
    }
    sources(
        &mut pairs,
        "base_model",
        total,
        first(card, &["base_model", "base_models", "base_model_sources"]),
    );
    sources(
        &mut pairs,
        "dataset",
        total,
        first(card, &["datasets", "dataset", "dataset_sources"]),
    );
    list(&mut pairs, "general.tags", card, &["tags", "pipeline_tag"]);
    list(
        &mut pairs,
        "general.languages",
        card,
        &["languages", "language"],
    );
    pairs
}

/// Empty texts are not written.
fn push(pairs: &mut Vec<(String, MetaValue)>, key: String, value: Option<String>) {
    if let Some(value) = value.filter(|value| !value.is_empty()) {
        pairs.push((key, MetaValue::text(value)));
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(text).collect();
            Some(items.join(","))
        }
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn first<'a>(card: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().find_map(|key| card.get(*key))
}

fn sampling(pairs: &mut Vec<(String, MetaValue)>, generation: Option<&Value>) {
    let Some(generation) = generation else {
        return;
    };
    push(
        pairs,
        "general.sampling.sequence".to_owned(),
        generation.get("sequence").and_then(text),
    );
    for (keys, name, whole) in SAMPLING {
        let value = first(generation, keys);
        let value = if *whole {
            value
                .and_then(Value::as_i64)
                .and_then(|n| i32::try_from(n).ok())
                .map(MetaValue::I32)
        } else {
            #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
            value
                .and_then(Value::as_f64)
                .map(|n| MetaValue::F32(n as f32))
        };
        if let Some(value) = value {
            pairs.push((format!("general.sampling.{name}"), value));
        }
    }
}

/// `general.base_model.*` and `general.dataset.*`.
fn sources(pairs: &mut Vec<(String, MetaValue)>, kind: &str, total: i64, value: Option<&Value>) {
    let items = match value {
        Some(Value::Array(items)) => items.clone(),
        Some(one @ Value::String(_)) => vec![one.clone()],
        Some(_) => Vec::new(),
        None => return,
    };
    let count = u32::try_from(items.len()).unwrap_or(u32::MAX);
    pairs.push((format!("general.{kind}.count"), MetaValue::U32(count)));
    for (i, item) in items.iter().enumerate() {
        let told = match item {
            Value::String(id) => source(id, total),
            Value::Object(map) => map.clone(),
            _ => Map::new(),
        };
        for field in SOURCE {
            let key = format!("general.{kind}.{i}.{field}");
            push(pairs, key, told.get(*field).and_then(text));
        }
    }
}

/// What the id or the address of a model tells.
fn source(id: &str, total: i64) -> Map<String, Value> {
    let mut map = Map::new();
    let address = ["http://", "https://", "ssh://"]
        .iter()
        .any(|scheme| id.starts_with(scheme));
    let mut name = Some(id);
    if address {
        map.insert("repo_url".to_owned(), id.into());
        let hub = ["https://huggingface.co/", "http://huggingface.co/"];
        name = hub.iter().find_map(|hub| id.strip_prefix(hub));
        name = name.filter(|name| name.matches('/').count() == 1 && !name.ends_with('/'));
    }
    let Some(name) = name else {
        return map;
    };
    let parts = name_parts(name, total);
    if let Some(full) = &parts.full_name {
        map.insert("name".to_owned(), title(full).into());
    }
    if let Some(organization) = &parts.organization {
        map.insert("organization".to_owned(), title(organization).into());
    }
    if let Some(version) = parts.version {
        map.insert("version".to_owned(), version.into());
    }
    if let (false, Some(organization), Some(full)) = (address, parts.organization, parts.full_name)
    {
        let url = format!("https://huggingface.co/{organization}/{full}");
        map.insert("repo_url".to_owned(), url.into());
    }
    map
}

fn list(pairs: &mut Vec<(String, MetaValue)>, key: &str, card: &Value, from: &[&str]) {
    let mut items = Vec::new();
    for value in from.iter().filter_map(|key| card.get(*key)) {
        match value {
            Value::String(one) => items.push(one.clone()),
            Value::Array(more) => items.extend(more.iter().filter_map(text)),
            _ => {}
        }
    }
    if !items.is_empty() {
        let items = items.into_iter().map(Into::into).collect();
        pairs.push((key.to_owned(), MetaValue::Array(Array::Str(items))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_gguf_py_does_for_a_card() {
        let readme = "---\nlanguage:\n- en\n- de\nlicense: llama3.1\ntags:\n- facebook\n- llama-3\n\
                      pipeline_tag: text-generation\nbase_model: meta-llama/Meta-Llama-3.1-8B\n\
                      datasets:\n- wikitext/wikitext-2\n---\n# Tiny\n";
        let card = front_matter(readme).unwrap();
        let input = GeneralInput {
            folder: "hf",
            card: Some(&card),
            counts: ParameterCounts {
                total: 35_000_000,
                ..ParameterCounts::default()
            },
            ..GeneralInput::default()
        };
        let pairs = general(&input);
        let shown: Vec<String> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            shown,
            [
                "general.type=model",
                "general.name=Hf",
                "general.size_label=35M",
                "general.license=llama3.1",
                "general.base_model.count=1",
                "general.base_model.0.name=Meta Llama 3.1 8B",
                "general.base_model.0.organization=Meta Llama",
                "general.base_model.0.repo_url=https://huggingface.co/meta-llama/Meta-Llama-3.1-8B",
                "general.dataset.count=1",
                "general.dataset.0.name=Wikitext 2",
                "general.dataset.0.version=2",
                "general.dataset.0.organization=Wikitext",
                "general.dataset.0.repo_url=https://huggingface.co/wikitext/wikitext-2",
                "general.tags=[\"facebook\", \"llama-3\", \"text-generation\"]",
                "general.languages=[\"en\", \"de\"]",
            ]
        );
    }
}
