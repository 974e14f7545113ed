//! The ids a tokenizer gives for the reference's check text, and their fingerprint.
//!
//! Building a tokenizer of 150,000 tokens and 300,000 merges takes most of a second, and the check
//! text needs a few hundred of them. So the text goes through the real added tokens, normalizer
//! and pre-tokenizer first, with a model that only takes down which words reach it. A BPE or
//! WordPiece model looks up nothing but substrings of those words, so the real model is then made
//! of the tokens that are such substrings, and gives the same ids.

use crate::bpe::Loaded;
use crate::engine::{self, Bounded, Recorder};
use crate::error::VocabError;
use crate::json::{Merges, Model, Words};
use crate::special::token_text;
use ir::{Error, Result};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::{ModelWrapper, PostProcessorWrapper};

/// The reference's text: whitespace, digits, emoji, scripts, quotes and contractions.
pub(crate) const CHECK_TEXT: &str = concat!(
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n",
    "\u{1f680} (normal) \u{1f636}\u{200d}\u{1f32b}\u{fe0f} (multiple emojis concatenated) \u{2705} ",
    "\u{1f999}\u{1f999} 3 33 333 3333 33333 333333 3333333 33333333 3.3 3..3 3...3 ",
    "\u{1780}\u{17b6}\u{1793}\u{17cb}\u{178f}\u{17c2}\u{1796}\u{17b7}\u{179f}\u{17c1}\u{179f}",
    "\u{17a2}\u{17b6}\u{1785}\u{1f601} ?\u{6211}\u{60f3}\u{5728}apple\u{5de5}\u{4f5c}1314151\u{5929}",
    "\u{ff5e} ------======= \u{43d}\u{435}\u{449}\u{43e} \u{43d}\u{430} ",
    "\u{411}\u{44a}\u{43b}\u{433}\u{430}\u{440}\u{441}\u{43a}\u{438} ",
    "''''''```````\"\"\"\"......!!!!!!?????? I've been 'told he's there, 'RE you sure? ",
    "'M not sure I'll make it, 'D you like some tea? We'Ve a'lL",
);

/// Ids of the check text: first as transformers would give them, then with other special tokens
/// around, for repositories whose tokenizer class adds what no file says.
pub(crate) fn candidates(loaded: &Loaded) -> Result<Vec<Vec<u32>>> {
    // A library that is given strangers' files shall not take the program down with it.
    let run = catch_unwind(AssertUnwindSafe(|| encode(loaded)));
    let run = run.unwrap_or_else(|_| Err("the tokenizers library gave up".to_owned()));
    let (plain, processed) = run.map_err(|why| {
        let why = format!("the tokenizer cannot be built: {why}");
        Error::from(VocabError::malformed(why)).in_file(loaded.file)
    })?;
    let config = loaded.config.as_ref();
    let flag = |key: &str| {
        let value = config.and_then(|config| config.get(key));
        (
            value.is_some(),
            value.and_then(Value::as_bool) == Some(true),
        )
    };
    let ((has_bos, bos), (has_eos, eos)) = (flag("add_bos_token"), flag("add_eos_token"));
    let around = |bos: bool, eos: bool| {
        let id = |add: bool, key: &str| {
            let text = token_text(config?.get(key)?)?;
            add.then(|| loaded.added.get(text).map(|token| token.id))?
        };
        let mut ids: Vec<u32> = id(bos, "bos_token").into_iter().collect();
        ids.extend(&plain);
        ids.extend(id(eos, "eos_token"));
        ids
    };
    let mut all = Vec::new();
    if !(has_bos || has_eos) {
        all.extend(processed.clone());
    }
    all.push(around(bos, eos));
    all.extend(processed);
    all.push(plain.clone());
    all.push(around(true, false));
    all.push(around(true, true));
    let mut seen = HashSet::new();
    all.retain(|ids| seen.insert(ids.clone()));
    Ok(all)
}

/// SHA-256 of the ids as Python prints a list.
pub(crate) fn fingerprint(ids: &[u32]) -> String {
    let words: Vec<String> = ids.iter().map(u32::to_string).collect();
    let digest = Sha256::digest(format!("[{}]", words.join(", ")));
    hex(&digest)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Ids without special tokens around, and with those of the post-processor if there is one.
fn encode(loaded: &Loaded) -> Result<(Vec<u32>, Option<Vec<u32>>), String> {
    let json = &loaded.json;
    engine::inspect(&json.normalizer, &json.pre_tokenizer)?;
    let added: Vec<_> = loaded
        .added
        .iter()
        .filter(|token| engine::may_match(token))
        .collect();
    let blown = engine::Blown::default();
    let recorder = Recorder::new(&added);
    let words = recorder.words();
    let tokenizer = engine::build(recorder, json, &added, &blown)?;
    tokenizer.encode_fast(CHECK_TEXT, false).map_err(text)?;
    blown.check()?;
    let words = words.lock().map_err(text)?.clone();
    let model = match json.model.kind() {
        "BPE" | "WordPiece" | "WordLevel" => small(&json.model, &words, &added),
        kind => {
            return Err(format!(
                "its model is {kind}, BPE or WordPiece was expected"
            ));
        }
    };
    let model: ModelWrapper = serde_json::from_value(model).map_err(text)?;
    let mut tokenizer: Bounded<ModelWrapper> = engine::build(model, json, &added, &blown)?;
    let plain = tokenizer.encode_fast(CHECK_TEXT, false).map_err(text)?;
    let plain = plain.get_ids().to_vec();
    if json.post_processor.is_null() {
        return Ok((plain, None));
    }
    let post: PostProcessorWrapper =
        serde_json::from_value(json.post_processor.clone()).map_err(text)?;
    tokenizer.with_post_processor(Some(post));
    let processed = tokenizer.encode_fast(CHECK_TEXT, true).map_err(text)?;
    Ok((plain, Some(processed.get_ids().to_vec())))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The model with only the tokens that can come up in these words.
fn small(model: &Model, words: &HashSet<String>, added: &[&crate::json::Added]) -> Value {
    let inside = Substrings::of(words);
    let prefix = model
        .continuing_subword_prefix
        .as_deref()
        .unwrap_or_default();
    let suffix = model.end_of_word_suffix.as_deref().unwrap_or_default();
    let unk = model.unk_token.as_deref();
    let bytes = model.byte_fallback == Some(true);
    let wanted = |token: &str| {
        let bare = token.strip_prefix(prefix).unwrap_or(token);
        let bare = bare.strip_suffix(suffix).unwrap_or(bare);
        inside.has(bare)
            || (bare.len() != token.len() && inside.has(token))
            || unk == Some(token)
            || (bytes && token.len() == 6 && token.starts_with("<0x"))
    };
    let mut vocab = Map::new();
    if let Words::Ids(all) = &model.vocab {
        for (token, id) in all.iter().filter(|(token, _)| wanted(token)) {
            vocab.insert(token.clone(), json!(id));
        }
    }
    for token in added {
        vocab.entry(&token.content).or_insert(json!(token.id));
    }
    let mut small = Map::new();
    let kind = model.kind();
    small.insert("type".into(), json!(kind));
    if kind == "BPE" {
        small.insert(
            "merges".into(),
            merges(&model.merges, &vocab, prefix, &inside),
        );
        let plain = [
            ("unk_token", json!(unk)),
            (
                "continuing_subword_prefix",
                json!(model.continuing_subword_prefix),
            ),
            ("end_of_word_suffix", json!(model.end_of_word_suffix)),
            ("fuse_unk", json!(model.fuse_unk.unwrap_or(false))),
            ("byte_fallback", json!(bytes)),
            ("ignore_merges", json!(model.ignore_merges.unwrap_or(false))),
        ];
        small.extend(plain.map(|(key, value)| (key.to_owned(), value)));
    } else {
        small.insert("unk_token".into(), json!(unk.unwrap_or("[UNK]")));
        if kind == "WordPiece" {
            let prefix = model.continuing_subword_prefix.as_deref().unwrap_or("##");
            small.insert("continuing_subword_prefix".into(), json!(prefix));
            let max = model.max_input_chars_per_word.unwrap_or(100);
            small.insert("max_input_chars_per_word".into(), json!(max));
        }
    }
    small.insert("vocab".into(), Value::Object(vocab));
    Value::Object(small)
}

/// The merges whose parts and result are all there, in their order.
fn merges(
    all: &Merges,
    vocab: &Map<String, Value>,
    prefix: &str,
    inside: &Substrings<'_>,
) -> Value {
    // Most merges are of letters that are not in the text, and a look at two bytes tells.
    let may = |part: &str| {
        let bare = part.strip_prefix(prefix).unwrap_or(part);
        start(bare.as_bytes()).is_none_or(|start| inside.starts.contains(&start))
    };
    let mut list = Vec::new();
    let mut whole = String::new();
    for (left, right) in all.pairs() {
        let (left, right) = if all.had_spaces {
            (left.replace('Ġ', " "), right.replace('Ġ', " "))
        } else if may(left) && may(right) && vocab.contains_key(left) && vocab.contains_key(right) {
            (left.to_owned(), right.to_owned())
        } else {
            continue;
        };
        whole.clear();
        whole.push_str(&left);
        whole.push_str(right.strip_prefix(prefix).unwrap_or(&right));
        if [&left, &right, &whole]
            .iter()
            .all(|part| vocab.contains_key(*part))
        {
            list.push(json!([left, right]));
        }
    }
    Value::Array(list)
}

/// All substrings of some words, as sorted suffixes.
struct Substrings<'w> {
    suffixes: Vec<&'w [u8]>,
    /// The first two bytes of each suffix: most tokens are told by these alone.
    starts: HashSet<[u8; 2]>,
}

impl<'w> Substrings<'w> {
    fn of(words: &'w HashSet<String>) -> Self {
        let suffixes = words.iter().flat_map(|word| {
            let starts = word.char_indices().map(|(at, _)| at);
            starts.filter_map(|at| word.as_bytes().get(at..))
        });
        let mut list: Vec<&[u8]> = suffixes.collect();
        list.sort_unstable();
        let starts = list.iter().filter_map(|suffix| start(suffix));
        Self {
            starts: starts.collect(),
            suffixes: list,
        }
    }

    fn has(&self, token: &str) -> bool {
        let token = token.as_bytes();
        if start(token).is_some_and(|start| !self.starts.contains(&start)) {
            return false;
        }
        let at = self.suffixes.partition_point(|suffix| *suffix < token);
        self.suffixes
            .get(at)
            .is_some_and(|suffix| suffix.starts_with(token))
    }
}

fn start(bytes: &[u8]) -> Option<[u8; 2]> {
    bytes.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_text_is_the_reference_s() {
        let hash = "a36179c1e2b1cfcfbfad1dc779addad2ffc778201e4cf0d538bddeafa2c526da";
        assert_eq!(hex(&Sha256::digest(CHECK_TEXT)), hash);
    }

    #[test]
    fn prints_a_list_as_python_does() {
        // sha256(str([1, 2]).encode()) in Python
        let hash = "3a316d6d3226f84c1e46e4447fa8d5fd800bff4a1bc6498152523cd4a602b69b";
        assert_eq!(fingerprint(&[1, 2]), hash);
    }

    #[test]
    fn finds_substrings() {
        let words = HashSet::from(["hello".to_owned(), "\u{e9}t\u{e9}".to_owned()]);
        let inside = Substrings::of(&words);
        for token in ["ell", "hello", "o", "t\u{e9}"] {
            assert!(inside.has(token), "{token}");
        }
        assert!(!inside.has("lo\u{e9}") && !inside.has("hellos"));
    }
}
