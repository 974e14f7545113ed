//! From GGUF's keys to the files of a repository.
//!
//! The files are read by `transformers` and `tokenizers` as they are, and give the ids the
//! tokenizer gave that the GGUF file was made from; what GGUF does not hold is told in
//! `docs/tokenizers.md`.

mod bpe;
mod facts;
mod scored;
mod side;
mod wordpiece;

use crate::error::VocabError;
use facts::Facts;
use ir::{Limits, Metadata, Result, ns};
use serde_json::{Map, Value, json};

/// Makes a repository's tokenizer files of a GGUF file's keys: names and bytes. Without
/// `tokenizer.ggml.model`, or with `none`, there are none. `sampling` is what
/// `generation_config.json` holds beside the tokens that begin and end a text.
pub fn from_gguf(
    metadata: &Metadata,
    sampling: Map<String, Value>,
    limits: &Limits,
) -> Result<Vec<(String, Vec<u8>)>> {
    let Some(facts) = Facts::of(metadata, limits)? else {
        return Ok(Vec::new());
    };
    let mut files = match facts.model {
        "gpt2" | "gemma4" | "whitespace" => bpe::files(&facts)?,
        "llama" => scored::llama(&facts)?,
        "t5" => scored::unigram(&facts)?,
        "bert" => wordpiece::files(&facts)?,
        other => {
            let what = format!("tokenizer.ggml.model {other:?} has no form in a repository");
            return Err(VocabError::Unsupported { what }.into());
        }
    };
    side::add(&facts, metadata, sampling, &mut files)?;
    Ok(files)
}

/// Keys `tokenizer.ggml.*` that the files tell, by way of the tokens or as settings.
const TOLD: &[&str] = &[
    "model",
    "pre",
    "tokens",
    "token_type",
    "token_type_count",
    "scores",
    "merges",
    "add_bos_token",
    "add_eos_token",
    "add_sep_token",
    "add_space_prefix",
    "remove_extra_whitespaces",
    "precompiled_charsmap",
    "normalizer.lowercase",
    "normalizer.strip_accents",
    "bos_token_id",
    "eos_token_id",
    "eot_token_id",
    "eom_token_id",
    "unknown_token_id",
    "seperator_token_id",
    "padding_token_id",
    "mask_token_id",
];

/// The keys of a tokenizer that no file of [`from_gguf`] tells: of other programs, or newer.
pub fn untold(metadata: &Metadata) -> Vec<String> {
    let keys = metadata.of(ns::GGUF).map(|(key, _)| key);
    let left = keys.filter(|key| {
        let Some(own) = key.strip_prefix("tokenizer.") else {
            return false;
        };
        let template = own == "chat_templates" || own.starts_with(side::TEMPLATE);
        let told = own
            .strip_prefix("ggml.")
            .is_some_and(|own| TOLD.contains(&own));
        !template && !told
    });
    left.map(str::to_owned).collect()
}

/// A text between two special tokens.
pub(crate) fn template(before: &str, first: u32, after: &str, last: u32) -> Value {
    around(Some((before, first)), Some((after, last)), None)
}

/// The post-processor that puts these around a text; of two texts the second gets what follows
/// it, and `second` before it.
fn around(
    before: Option<(&str, u32)>,
    after: Option<(&str, u32)>,
    second: Option<(&str, u32)>,
) -> Value {
    let special = |token: Option<(&str, u32)>, kind: u32| {
        token.map(|(text, _)| json!({"SpecialToken": {"id": text, "type_id": kind}}))
    };
    let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let mut single: Vec<Value> = special(before, 0).into_iter().collect();
    single.push(text("A", 0));
    single.extend(special(after, 0));
    let mut pair = single.clone();
    pair.extend(special(second, 1));
    pair.push(text("B", 1));
    pair.extend(special(after, 1));
    let mut tokens = Map::new();
    for (text, id) in before.into_iter().chain(after) {
        let one = json!({"id": text, "ids": [id], "tokens": [text]});
        tokens.insert(text.to_owned(), one);
    }
    json!({
        "type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": tokens,
    })
}

/// A whole `tokenizer.json`.
fn tokenizer_json(
    facts: &Facts<'_>,
    parts: [(&str, Value); 4],
    model: Value,
) -> Result<(String, Vec<u8>)> {
    let mut whole = Map::new();
    whole.insert("version".to_owned(), json!("1.0"));
    whole.insert("truncation".to_owned(), Value::Null);
    whole.insert("padding".to_owned(), Value::Null);
    whole.insert("added_tokens".to_owned(), facts.added_tokens());
    for (key, value) in parts {
        whole.insert(key.to_owned(), value);
    }
    whole.insert("model".to_owned(), model);
    json_file("tokenizer.json", &Value::Object(whole))
}

fn json_file(name: &str, value: &Value) -> Result<(String, Vec<u8>)> {
    let mut text = serde_json::to_vec_pretty(value)
        .map_err(|error| VocabError::malformed(format!("{name} cannot be written: {error}")))?;
    text.push(b'\n');
    Ok((name.to_owned(), text))
}

/// Steps as one step.
fn sequence(kind: &str, mut steps: Vec<Value>) -> Value {
    match steps.len() {
        0 => Value::Null,
        1 => steps.remove(0),
        _ => json!({"type": "Sequence", kind: steps}),
    }
}
