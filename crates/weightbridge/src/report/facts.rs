//! What matters most of metadata and configuration.

use ::report::Fact;
use convert::recipe::FileType;
use ir::{Array, MetaValue, Model, ns};
use serde_json::Value;

/// Keys of GGUF, `{arch}` standing for the architecture's name.
const GGUF_KEYS: &[&str] = &[
    "general.architecture",
    "general.name",
    "general.size_label",
    "general.license",
    "general.file_type",
    "{arch}.context_length",
    "{arch}.embedding_length",
    "{arch}.block_count",
    "{arch}.feed_forward_length",
    "{arch}.attention.head_count",
    "{arch}.attention.head_count_kv",
    "{arch}.attention.key_length",
    "{arch}.attention.sliding_window",
    "{arch}.expert_count",
    "{arch}.expert_used_count",
    "{arch}.rope.freq_base",
    "{arch}.rope.scaling.type",
    "tokenizer.ggml.model",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.tokens",
    "quantize.imatrix.file",
];

/// Keys of `config.json`, a part below a dot.
const CONFIG_KEYS: &[&str] = &[
    "architectures",
    "model_type",
    "hidden_size",
    "n_embd",
    "num_hidden_layers",
    "n_layer",
    "intermediate_size",
    "num_attention_heads",
    "n_head",
    "num_key_value_heads",
    "head_dim",
    "num_local_experts",
    "num_experts_per_tok",
    "max_position_embeddings",
    "sliding_window",
    "rope_theta",
    "vocab_size",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "quantization_config.quant_method",
    "quantization_config.bits",
];

/// Most bytes of a `config.json` that is looked at.
const CONFIG_MAX: u64 = 4 << 20;
/// Longest text of a value, and elements of a list that are shown.
const TEXT: usize = 2000;
const ITEMS: usize = 6;

/// The facts for the head of the page.
pub(super) fn facts(model: &Model) -> Vec<Fact> {
    let mut facts = Vec::new();
    let arch = model.metadata.get(ns::GGUF, "general.architecture");
    let arch = arch.and_then(MetaValue::as_str).unwrap_or_default();
    for key in GGUF_KEYS {
        let key = key.replace("{arch}", arch);
        let Some(value) = model.metadata.get(ns::GGUF, &key) else {
            continue;
        };
        let value = if key == "general.file_type" {
            file_type(value)
        } else {
            text(value)
        };
        facts.push(Fact { key, value });
    }
    if let Some(config) = config(model) {
        for key in CONFIG_KEYS {
            // Models of several kinds of input keep the language model's settings one level down.
            let inside = config.get("text_config");
            let found = at(&config, key).or_else(|| at(inside?, key));
            if let Some(value) = found.filter(|value| !value.is_null()) {
                let key = (*key).to_owned();
                let value = plain(value);
                facts.push(Fact { key, value });
            }
        }
    }
    facts
}

fn at<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.')
        .try_fold(config, |value, part| value.get(part))
}

fn config(model: &Model) -> Option<Value> {
    let asset = model
        .assets
        .iter()
        .find(|asset| asset.name == "config.json")?;
    let len = asset.bytes.len();
    if len > CONFIG_MAX {
        return None;
    }
    let bytes = asset.bytes.bytes(0, usize::try_from(len).ok()?).ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn plain(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items: Vec<&str> = items.iter().take(ITEMS).filter_map(Value::as_str).collect();
            items.join(", ")
        }
        other => other.to_string(),
    };
    cut(text)
}

/// The file type's name beside its number.
fn file_type(value: &MetaValue) -> String {
    let id = value.as_u64();
    let known = FileType::all().find(|it| id.is_some() && it.id().map(u64::from) == id);
    match known {
        Some(known) => format!("{} ({value})", known.name()),
        None => text(value),
    }
}

/// All metadata, namespaces other than the format's own before the key.
pub(super) fn metadata(model: &Model) -> Vec<Fact> {
    let own = model.provenance.format;
    let pairs = model.metadata.iter().map(|entry| Fact {
        key: if entry.namespace == own {
            entry.key.clone()
        } else {
            format!("{}:{}", entry.namespace, entry.key)
        },
        value: text(&entry.value),
    });
    pairs.collect()
}

/// A value as text of a bounded length: a vocabulary is one of them.
fn text(value: &MetaValue) -> String {
    match value {
        MetaValue::Str(bytes) => {
            cut(String::from_utf8_lossy(bytes.get(..TEXT * 4).unwrap_or(bytes)).into_owned())
        }
        MetaValue::Array(Array::Str(items)) if items.len() > ITEMS => {
            let shown = items.iter().take(ITEMS);
            let shown: Vec<_> = shown.map(|item| format!("{:?}", text_of(item))).collect();
            format!("{} texts: {}, …", items.len(), shown.join(", "))
        }
        MetaValue::Array(array) if array.len() > ITEMS * 8 => format!("{} values", array.len()),
        other => cut(other.to_string()),
    }
}

fn text_of(bytes: &[u8]) -> String {
    cut(String::from_utf8_lossy(bytes.get(..200).unwrap_or(bytes)).into_owned())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Asset, Region};

    #[test]
    fn facts_of_both_worlds() {
        let mut model = Model::default();
        model
            .metadata
            .set(ns::GGUF, "general.architecture", MetaValue::text("llama"));
        model
            .metadata
            .set(ns::GGUF, "general.file_type", MetaValue::U32(15));
        model
            .metadata
            .set(ns::GGUF, "llama.block_count", MetaValue::U32(2));
        let tokens = vec!["tok".into(); 32_000];
        let tokens = MetaValue::Array(Array::Str(tokens));
        model
            .metadata
            .set(ns::GGUF, "tokenizer.ggml.tokens", tokens);
        let config =
            br#"{"model_type":"llama","text_config":{"hidden_size":64},"sliding_window":null}"#;
        model.assets.push(Asset {
            name: "config.json".to_owned(),
            bytes: Region::memory(config.to_vec()),
        });
        let facts = facts(&model);
        let value = |key: &str| {
            facts
                .iter()
                .find(|f| f.key == key)
                .map(|f| f.value.as_str())
        };
        assert_eq!(value("general.file_type"), Some("Q4_K_M (15)"));
        assert_eq!(value("llama.block_count"), Some("2"));
        assert!(
            value("tokenizer.ggml.tokens")
                .unwrap()
                .starts_with("32000 texts: \"tok\"")
        );
        assert_eq!(value("hidden_size"), Some("64"));
        assert_eq!(value("sliding_window"), None);
    }
}
