//! BPE with merges: GPT-2's kind, and Gemma 4's over SentencePiece's characters.

use super::{around, sequence, tokenizer_json};
use crate::back::facts::Facts;
use crate::error::VocabError;
use crate::pre::{GPT2, Shape, family};
use ir::Result;
use serde_json::{Map, Value, json};

/// `tokenizer.json`.
pub(crate) fn files(facts: &Facts<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let pre = if facts.model == "gemma4" {
        "gemma4"
    } else {
        facts.pre
    };
    let Some(family) = family(pre) else {
        let what = format!("what the pre-tokenizer {pre:?} does is not known");
        return Err(VocabError::Unsupported { what }.into());
    };
    let mut normalizers = Vec::new();
    if family.nfc {
        normalizers.push(json!({"type": "NFC"}));
    }
    if facts.flag("normalizer.lowercase") == Some(true) {
        normalizers.push(json!({"type": "Lowercase"}));
    }
    if facts.flag("normalizer.strip_accents") == Some(true) {
        normalizers.push(json!({"type": "StripAccents"}));
    }
    if family.shape == Shape::Spaces {
        normalizers.push(json!({
            "type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}",
        }));
    }
    // What llama.cpp does for these names when the file does not say.
    let adds_bos = family.names.contains(&"llama-bpe") || ["tekken", "chameleon"].contains(&pre);
    let [bos, eos] = facts.around(adds_bos, false);
    let bytes = family.shape == Shape::Bytes;
    let second = facts.second(bos, eos);
    let post = match (bos, eos, bytes) {
        (None, None, true) => byte_level(false),
        (None, None, false) => Value::Null,
        (_, _, true) => json!({
            "type": "Sequence", "processors": [byte_level(false), around(bos, eos, second)],
        }),
        (_, _, false) => around(bos, eos, second),
    };
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": facts.role("unknown").filter(|_| !bytes).map(|(text, _)| text),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": !bytes,
        "byte_fallback": family.shape == Shape::Spaces,
        "ignore_merges": family.ignore_merges,
        "vocab": vocab(facts),
        "merges": merges(facts)?,
    });
    let parts = [
        ("normalizer", sequence("normalizers", normalizers)),
        ("pre_tokenizer", splits(family.regexes, family.shape)),
        ("post_processor", post),
        ("decoder", decoder(family.shape)),
    ];
    Ok(vec![tokenizer_json(facts, parts, model)?])
}

fn byte_level(use_regex: bool) -> Value {
    json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false,
        "use_regex": use_regex,
    })
}

fn splits(regexes: &[&str], shape: Shape) -> Value {
    if shape == Shape::Bytes && regexes == [GPT2] {
        return byte_level(true);
    }
    let split = |pattern: Value, behavior: &str| json!({"type": "Split", "pattern": pattern, "behavior": behavior, "invert": false});
    let mut steps: Vec<Value> = regexes
        .iter()
        .map(|regex| split(json!({"Regex": regex}), "Isolated"))
        .collect();
    match shape {
        Shape::Bytes => steps.push(byte_level(false)),
        // Spaces are gone by then, so this splits nothing; Gemma's own files have it.
        Shape::Spaces => steps.push(split(json!({"String": " "}), "MergedWithPrevious")),
        Shape::Plain => {}
    }
    sequence("pretokenizers", steps)
}

fn decoder(shape: Shape) -> Value {
    match shape {
        Shape::Bytes => json!({
            "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true,
        }),
        Shape::Spaces => json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]}),
        Shape::Plain => Value::Null,
    }
}

/// Every token by its text: added ones too, so that each keeps its id.
pub(crate) fn vocab(facts: &Facts<'_>) -> Map<String, Value> {
    let mut map = Map::new();
    for (id, text) in facts.used() {
        map.insert(text.to_owned(), json!(id));
    }
    map
}

/// A merge as two parts. Spaces inside a part are written as `Ġ`, so there is one space only.
fn merges(facts: &Facts<'_>) -> Result<Value> {
    let mut list = Vec::with_capacity(facts.merges.len());
    for merge in &facts.merges {
        let Some((left, right)) = merge
            .split_once(' ')
            .filter(|(l, r)| !l.is_empty() && !r.is_empty())
        else {
            let why = format!("tokenizer.ggml.merges: {merge:?} is not two tokens");
            return Err(VocabError::malformed(why).into());
        };
        list.push(json!([left, right]));
    }
    Ok(Value::Array(list))
}
