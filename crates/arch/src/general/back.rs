//! From the `general.*` keys of a GGUF file to the files of a repository that tell them: the front
//! matter of the model card, and `generation_config.json`.

use super::{CARD, FIELDS, GeneralInput, SAMPLING, SOURCE, card, front_matter, general, source};
use ir::{Array, MetaValue, Metadata, ns};
use serde_json::{Map, Value, json};

/// Keys that tell of the file, or that whoever writes one works out anew.
const OWN: &[&str] = &[
    "general.architecture",
    "general.alignment",
    "general.file_type",
    "general.parameter_count",
    "general.quantization_version",
    "general.type",
];
/// Most base models or data sets that are looked for.
const SOURCES_MAX: u64 = 1024;

/// What the `general.*` keys say, in a repository's own files.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Described {
    /// `README.md`, if there is anything to tell.
    pub card: Option<String>,
    /// What `generation_config.json` tells of sampling.
    pub sampling: Map<String, Value>,
    /// The keys that do not come back from these two.
    pub left: Vec<String>,
}

/// Makes the files that [`general()`] would give these keys of again.
pub fn describe(metadata: &Metadata) -> Described {
    let card = model_card(metadata);
    let text = (!card.is_empty()).then(|| card::write(&card));
    let mut described = Described {
        card: text,
        sampling: sampling(metadata),
        left: Vec::new(),
    };
    let kind = metadata.get(ns::GGUF, "general.type");
    let back = described.card.as_deref().map(front_matter);
    let back = back.and_then(Result::ok);
    let generation = Value::Object(described.sampling.clone());
    let pairs = general(&GeneralInput {
        card: back.as_ref(),
        generation: Some(&generation),
        adapter: kind.and_then(MetaValue::as_str) == Some("adapter"),
        ..GeneralInput::default()
    });
    let keys = metadata.of(ns::GGUF);
    let keys = keys.filter(|(key, _)| key.starts_with("general.") && !OWN.contains(key));
    for (key, value) in keys {
        let told = pairs.iter().any(|(own, told)| own == key && told == value);
        let none =
            is_empty(value) || key.strip_suffix(".count").is_some() && value.as_u64() == Some(0);
        if !told && !none {
            described.left.push(key.to_owned());
        }
    }
    described
}

/// Empty texts and lists say nothing, and no converter writes them.
fn is_empty(value: &MetaValue) -> bool {
    match value {
        MetaValue::Str(text) => text.is_empty(),
        MetaValue::Array(list) => list.is_empty(),
        _ => false,
    }
}

fn model_card(metadata: &Metadata) -> Map<String, Value> {
    let get = |key: &str| metadata.get(ns::GGUF, key);
    let mut map = Map::new();
    for (field, key) in FIELDS {
        let text = get(key).and_then(MetaValue::as_str);
        // Of the names that a card may have for a field the one that says whose it is.
        let names = CARD.iter().filter(|(known, _)| known == field);
        let mut names = names.map(|(_, name)| *name).collect::<Vec<_>>();
        names.sort_by_key(|name| !name.starts_with("model_"));
        if let (Some(text), Some(name)) = (text.filter(|text| !text.is_empty()), names.first()) {
            map.insert((*name).to_owned(), json!(text));
        }
    }
    for (kind, ids, maps) in [
        ("base_model", "base_model", "base_model_sources"),
        ("dataset", "datasets", "dataset_sources"),
    ] {
        let (name, list) = sources(metadata, kind, ids, maps);
        if !list.is_empty() {
            map.insert(name.to_owned(), Value::Array(list));
        }
    }
    for (key, name) in [("general.tags", "tags"), ("general.languages", "language")] {
        if let Some(MetaValue::Array(Array::Str(list))) = get(key) {
            let texts = list.iter().map(|text| String::from_utf8_lossy(text).into());
            map.insert(name.to_owned(), Value::Array(texts.collect()));
        }
    }
    map
}

/// Models or data sets: a list of ids where these say all of it, else one of mappings.
fn sources<'a>(
    metadata: &Metadata,
    kind: &str,
    ids: &'a str,
    maps: &'a str,
) -> (&'a str, Vec<Value>) {
    let count = metadata.get(ns::GGUF, &format!("general.{kind}.count"));
    let count = count.and_then(MetaValue::as_u64).unwrap_or(0);
    let told: Vec<Map<String, Value>> = (0..count.min(SOURCES_MAX))
        .map(|i| {
            let fields = SOURCE.iter().filter_map(|field| {
                let value = metadata.get(ns::GGUF, &format!("general.{kind}.{i}.{field}"))?;
                Some(((*field).to_owned(), json!(value.as_str()?)))
            });
            fields.collect()
        })
        .collect();
    let id = |map: &Map<String, Value>| {
        let url = map.get("repo_url")?.as_str()?;
        let id = url.strip_prefix("https://huggingface.co/")?;
        (source(id, 0) == *map).then(|| json!(id))
    };
    match told.iter().map(id).collect::<Option<Vec<Value>>>() {
        Some(list) => (ids, list),
        None => (maps, told.into_iter().map(Value::Object).collect()),
    }
}

/// How the model samples, by transformers' names where it has one.
fn sampling(metadata: &Metadata) -> Map<String, Value> {
    let mut map = Map::new();
    let get = |key: &str| metadata.get(ns::GGUF, &format!("general.sampling.{key}"));
    for (names, key, _) in SAMPLING {
        let number = match get(key) {
            // The shortest decimal that is this F32, not the F64 it is exactly.
            Some(MetaValue::F32(n)) => n.to_string().parse::<f64>().ok().map(|n| json!(n)),
            Some(MetaValue::I32(n)) => Some(json!(n)),
            Some(value) => value.as_u64().map(|n| json!(n)),
            None => None,
        };
        if let (Some(number), Some(name)) = (number.filter(|n| !n.is_null()), names.last()) {
            map.insert((*name).to_owned(), number);
        }
    }
    if let Some(sequence) = get("sequence").and_then(MetaValue::as_str) {
        map.insert("sequence".to_owned(), json!(sequence));
    }
    if !map.is_empty() {
        map.insert("do_sample".to_owned(), json!(true));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_gives_its_keys_again() {
        let text = MetaValue::text;
        let list = |items: &[&'static str]| {
            let items = items.iter().map(|item| (*item).into());
            MetaValue::Array(Array::Str(items.collect()))
        };
        let told = [
            ("general.architecture", text("llama")),
            ("general.type", text("model")),
            ("general.sampling.temp", MetaValue::F32(0.6)),
            ("general.sampling.top_k", MetaValue::I32(20)),
            ("general.name", text("A: \"b\"")),
            ("general.author", text("nobody")),
            ("general.version", text("1.10")),
            ("general.basename", text("llama")),
            ("general.license", text("apache-2.0")),
            ("general.license.link", text("https://x.org/#l")),
            ("general.source.url", text("https://x.org")),
            ("general.base_model.count", MetaValue::U32(1)),
            ("general.base_model.0.name", text("Meta Llama 3.1 8B")),
            ("general.base_model.0.organization", text("Meta Llama")),
            (
                "general.base_model.0.repo_url",
                text("https://huggingface.co/meta-llama/Meta-Llama-3.1-8B"),
            ),
            ("general.dataset.count", MetaValue::U32(2)),
            ("general.dataset.0.name", text("one")),
            ("general.dataset.1.name", text("two")),
            ("general.dataset.1.url", text("https://x.org/two")),
            ("general.tags", list(&["a", "no"])),
            ("general.languages", list(&["en", "no"])),
        ];
        let described = describe(&Metadata::from_pairs(ns::GGUF, told.clone()));
        assert_eq!(described.left, Vec::<String>::new());
        assert_eq!(
            described.card.as_deref(),
            Some(
                "---\nmodel_name: \"A: \\\"b\\\"\"\nmodel_author: nobody\nmodel_version: \"1.10\"\n\
                 model_basename: llama\nlicense: apache-2.0\nlicense_link: \"https://x.org/#l\"\n\
                 model_url: \"https://x.org\"\nbase_model:\n- meta-llama/Meta-Llama-3.1-8B\n\
                 dataset_sources:\n- name: one\n- name: two\n  url: \"https://x.org/two\"\n\
                 tags:\n- a\n- \"no\"\nlanguage:\n- en\n- \"no\"\n---\n"
            )
        );
        assert_eq!(
            Value::Object(described.sampling),
            json!({"top_k": 20, "temperature": 0.6, "do_sample": true})
        );
    }

    #[test]
    fn keys_without_a_place_are_left() {
        let told = [
            ("general.quantized_by", MetaValue::text("me")),
            ("general.license", MetaValue::U32(3)),
            ("general.description", MetaValue::text("")),
            ("general.sampling.temp", MetaValue::F64(0.5)),
            ("other.key", MetaValue::text("x")),
        ];
        let described = describe(&Metadata::from_pairs(ns::GGUF, told.clone()));
        let left = [
            "general.quantized_by",
            "general.license",
            "general.sampling.temp",
        ];
        assert_eq!(described.left, left);
        assert_eq!(described.card, None);
    }
}
