//! Byte-level BPE and WordPiece: the reference's `get_vocab_base` and what is built on it.

use crate::added::AddedTokens;
use crate::error::VocabError;
use crate::files::{Files, utf8};
use crate::json::{Added, Merges, Model, TOKENIZER_JSON, TokenizerJson, Words};
use crate::pairs::{Tokens, kind, pad};
use crate::pre::{Family, family};
use crate::special::TOKENIZER_CONFIG;
use bytes::Bytes;
use ir::{Limits, Result};
use serde_json::{Map, Value};
use tokenizers::{Decoder, DecoderWrapper};

/// A tokenizer of a file of its own, with all that the other files say of it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) json: TokenizerJson,
    pub(crate) added: AddedTokens,
    pub(crate) config: Option<Map<String, Value>>,
    /// The file the vocabulary is from.
    pub(crate) file: &'static str,
}

impl Loaded {
    /// Reads `tokenizer.json`, or what older repositories have in its place.
    pub(crate) fn read(files: &Files<'_>) -> Result<Self> {
        let (mut json, file) = if let Some(bytes) = files.bytes(TOKENIZER_JSON)? {
            (TokenizerJson::read(&bytes, files.limits)?, TOKENIZER_JSON)
        } else if let Some(json) = vocab_json(files)? {
            (json, "vocab.json")
        } else if let Some(json) = vocab_txt(files)? {
            (json, "vocab.txt")
        } else {
            let names = vec![TOKENIZER_JSON, "vocab.json", "vocab.txt"];
            return Err(VocabError::Missing { names }.into());
        };
        if json.model.kind() == "BPE"
            && json.model.merges.is_empty()
            && let Some(text) = files.bytes("merges.txt")?
        {
            json.model.merges = Merges::from_text(utf8(&text, "merges.txt")?);
        }
        let config = files.object(TOKENIZER_CONFIG)?;
        let map = files.object("special_tokens_map.json")?;
        let added = AddedTokens::gather(&json, config.as_ref(), map.as_ref());
        Ok(Self {
            json,
            added,
            config,
            file,
        })
    }

    /// Tokens by id, with the highest id there is.
    fn by_id(&self, limits: &Limits) -> Result<Vec<Option<&str>>> {
        let words = match &self.json.model.vocab {
            Words::Ids(words) => words.iter().map(|(w, id)| (w.as_str(), *id)).collect(),
            Words::Pieces(pieces) => {
                let numbered = pieces.iter().zip(0u32..);
                numbered
                    .map(|((w, _), id)| (w.as_str(), id))
                    .collect::<Vec<_>>()
            }
        };
        let added = self.added.iter().map(|t| (t.content.as_str(), t.id));
        let top = words.iter().copied().chain(added.clone());
        let n = top.map(|(_, id)| u64::from(id) + 1).max().unwrap_or(0);
        Limits::check("tokens", n, limits.entries)?;
        let mut list = vec![None; usize::try_from(n).unwrap_or(0)];
        for (word, id) in words.into_iter().chain(added) {
            if let Some(place) = list.get_mut(id as usize) {
                *place = Some(word);
            }
        }
        Ok(list)
    }

    /// How many tokens there are, if the config does not say.
    pub(crate) fn n_tokens(&self) -> u64 {
        let own = self.json.model.vocab.len();
        let Words::Ids(words) = &self.json.model.vocab else {
            return own as u64;
        };
        let inside: std::collections::HashSet<&str> =
            words.iter().map(|(word, _)| word.as_str()).collect();
        let more = self
            .added
            .iter()
            .filter(|t| !inside.contains(t.content.as_str()));
        (own + more.count()) as u64
    }

    /// `get_vocab_base`: `rows` tokens with their types.
    pub(crate) fn tokens(&self, rows: u64, from: &'static str, limits: &Limits) -> Result<Tokens> {
        Limits::check("tokens", rows, limits.entries)?;
        let list = self.by_id(limits)?;
        if list.len() as u64 > rows {
            let last = list.last().copied().flatten().unwrap_or_default();
            let error = VocabError::TooLarge {
                token: last.to_owned(),
                id: list.len() as u64 - 1,
                rows,
                rows_from: from,
            };
            return Err(ir::Error::from(error).in_file(self.file));
        }
        let decoder = decoder(&self.json.decoder);
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let mut tokens = Tokens {
            texts: Vec::with_capacity(rows),
            scores: None,
            types: Vec::with_capacity(rows),
        };
        for id in 0..rows {
            match list.get(id).copied().flatten() {
                None => tokens.push(pad(id), 0.0, kind::UNUSED),
                Some(token) => match self.added.get(token) {
                    None => {
                        let text = Bytes::copy_from_slice(token.as_bytes());
                        tokens.push(text, 0.0, kind::NORMAL);
                    }
                    Some(added) => {
                        let (text, kind) = added_token(added, decoder.as_ref());
                        tokens.push(text, 0.0, kind);
                    }
                },
            }
        }
        Ok(tokens)
    }
}

/// An added token as it is written: decoded, if it is matched before normalization.
fn added_token(added: &Added, decoder: Option<&DecoderWrapper>) -> (String, i32) {
    let mut text = added.content.clone();
    if !added.normalized
        && let Some(decoded) = decoder.and_then(|d| d.decode(vec![text.clone()]).ok())
    {
        text = decoded;
    }
    if added.special || looks_special(&text) {
        (text, kind::CONTROL)
    } else {
        // llama.cpp matches user-defined tokens in plain text, where a space is a space.
        (text.replace('\u{2581}', " "), kind::USER_DEFINED)
    }
}

fn decoder(from: &Value) -> Option<DecoderWrapper> {
    if from.is_null() {
        return None;
    }
    serde_json::from_value(from.clone()).ok()
}

/// Tokens that repositories forget to mark as special: command-r, deepseek-coder, gemma
/// (`does_token_look_special` of the reference).
pub(crate) fn looks_special(token: &str) -> bool {
    let between = |start: &str, end: &str| token.starts_with(start) && token.ends_with(end);
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&token)
        || between("<|", "|>")
        || between("<\u{ff5c}", "\u{ff5c}>")
        || between("<unused", ">")
}

/// `vocab.json` with `merges.txt`, which is always byte-level: GPT-2's way, or that of the class.
fn vocab_json(files: &Files<'_>) -> Result<Option<TokenizerJson>> {
    let (Some(vocab), Some(merges)) = (files.bytes("vocab.json")?, files.bytes("merges.txt")?)
    else {
        return Ok(None);
    };
    let vocab: Words = crate::files::json(utf8(&vocab, "vocab.json")?, "vocab.json")?;
    let mut json = TokenizerJson {
        model: Model {
            kind: Some("BPE".to_owned()),
            vocab,
            merges: Merges::from_text(utf8(&merges, "merges.txt")?),
            ..Model::default()
        },
        pre_tokenizer: byte_level(),
        decoder: byte_level(),
        post_processor: byte_level(),
        ..TokenizerJson::default()
    };
    if let Some(family) = family_of_class(files)? {
        json.pre_tokenizer = split(family.regexes);
        if family.nfc {
            json.normalizer = serde_json::json!({"type": "NFC"});
        }
    }
    json.added_tokens = added_tokens_json(files)?;
    json.check_within(files.limits, "vocab.json")?;
    Ok(Some(json))
}

/// What the tokenizer's class puts in the place of GPT-2's regex, as in transformers: a class
/// that is not named is that of the model.
fn family_of_class(files: &Files<'_>) -> Result<Option<&'static Family>> {
    let text = |name: &str, key: &str| -> Result<String> {
        let object = files.object(name)?.unwrap_or_default();
        let value = object.get(key).and_then(Value::as_str);
        Ok(value.unwrap_or_default().to_owned())
    };
    let class = text(TOKENIZER_CONFIG, "tokenizer_class")?;
    let of_model = if class.is_empty() {
        text("config.json", "model_type")?
    } else {
        class
    };
    let qwen = ["Qwen2", "qwen2", "qwen3"];
    let qwen = qwen.iter().any(|start| of_model.starts_with(start));
    Ok(if qwen { family("qwen2") } else { None })
}

/// Regexes one after the other, and then bytes.
fn split(regexes: &[&str]) -> Value {
    let regexes = regexes.iter().map(|regex| {
        serde_json::json!({
            "type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false,
        })
    });
    let mut bytes = byte_level();
    bytes["use_regex"] = false.into();
    let steps: Vec<Value> = regexes.chain([bytes]).collect();
    serde_json::json!({"type": "Sequence", "pretokenizers": steps})
}

fn byte_level() -> Value {
    serde_json::json!({
        "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true,
    })
}

/// `added_tokens.json`: names and ids of what was added to an older tokenizer.
fn added_tokens_json(files: &Files<'_>) -> Result<Vec<Added>> {
    let Some(object) = files.object("added_tokens.json")? else {
        return Ok(Vec::new());
    };
    let mut list: Vec<Added> = object
        .into_iter()
        .filter_map(|(content, id)| {
            Some(Added {
                id: u32::try_from(id.as_u64()?).ok()?,
                content,
                normalized: true,
                ..Added::default()
            })
        })
        .collect();
    list.sort_by_key(|token| token.id);
    Ok(list)
}

/// `vocab.txt`: one WordPiece a line.
fn vocab_txt(files: &Files<'_>) -> Result<Option<TokenizerJson>> {
    let Some(bytes) = files.bytes("vocab.txt")? else {
        return Ok(None);
    };
    let config = files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
    let lower = config
        .get("do_lower_case")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let chinese = config
        .get("tokenize_chinese_chars")
        .and_then(Value::as_bool)
        .unwrap_or(true);
    let accents = config.get("strip_accents").cloned().unwrap_or_default();
    let text = utf8(&bytes, "vocab.txt")?;
    let words = text
        .lines()
        .zip(0u32..)
        .map(|(w, id)| (w.trim_end_matches('\r').to_owned(), id));
    let words: Vec<(String, u32)> = words.collect();
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let added = words
        .iter()
        .filter(|(word, _)| special.contains(&word.as_str()));
    let added_tokens = added.map(|(word, id)| Added {
        id: *id,
        content: word.clone(),
        special: true,
        ..Added::default()
    });
    let id = |name: &str| {
        words
            .iter()
            .find(|(word, _)| word == name)
            .map(|(_, id)| *id)
    };
    let post_processor = match (id("[CLS]"), id("[SEP]")) {
        (Some(cls), Some(sep)) => crate::back::template("[CLS]", cls, "[SEP]", sep),
        _ => Value::Null,
    };
    let json = TokenizerJson {
        added_tokens: added_tokens.collect(),
        normalizer: serde_json::json!({
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": chinese,
            "strip_accents": accents, "lowercase": lower,
        }),
        pre_tokenizer: serde_json::json!({"type": "BertPreTokenizer"}),
        post_processor,
        decoder: serde_json::json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        model: Model {
            kind: Some("WordPiece".to_owned()),
            vocab: Words::Ids(words),
            unk_token: Some("[UNK]".to_owned()),
            continuing_subword_prefix: Some("##".to_owned()),
            max_input_chars_per_word: Some(100),
            ..Model::default()
        },
    };
    json.check_within(files.limits, "vocab.txt")?;
    Ok(Some(json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_special() {
        for token in ["<|im_end|>", "<unused7>", "<pad>", "<\u{ff5c}end\u{ff5c}>"] {
            assert!(looks_special(token), "{token}");
        }
        for token in ["<tool_call>", "<|x", "pad"] {
            assert!(!looks_special(token), "{token}");
        }
    }
}
