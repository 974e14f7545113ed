//! The `tokenizers` library, kept within bounds: strangers' files say what it runs.
//!
//! Regexes have a length, normalizers may not blow a text up, and `fancy-regex` itself stops a
//! match after a million steps back.

use crate::fingerprint::CHECK_TEXT;
use crate::json::{Added, TokenizerJson};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::{
    AddedToken, DecoderWrapper, Model, NormalizedString, Normalizer, NormalizerWrapper,
    PostProcessorWrapper, PreTokenizerWrapper, Token, TokenizerImpl,
};

/// Bytes of one regex: the longest of a known model has 900.
const MAX_REGEX: usize = 8 << 10;
/// How often the counted repetitions of a regex may repeat, all multiplied: compiled, each copy takes
/// memory. Those of known models come to 27.
const MAX_REPEATS: u64 = 512;
/// Bytes a normalizer may put in the place of one match.
const MAX_CONTENT: usize = 256;
/// Steps of normalizers and pre-tokenizers in all.
const MAX_STEPS: usize = 128;
/// Byte-level steps: each may double a text.
const MAX_BYTE_LEVEL: usize = 4;
/// Bytes the check text may grow to.
const MAX_TEXT: usize = 64 << 10;

/// Bytes that a step may put in if all of the text matches.
const MAX_REPLACED: usize = 512 << 10;

/// The most bytes that a step puts into a text of this length.
fn most_bytes(step: &NormalizerWrapper, len: usize) -> usize {
    match step {
        NormalizerWrapper::Replace(replace) => len.saturating_mul(replace.content.len()),
        _ => 0,
    }
}

/// A tokenizer whose normalizer is watched.
pub(crate) type Bounded<M> =
    TokenizerImpl<M, Guard, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

type Library<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Normalizers one after the other, with a look at the size after each.
pub(crate) struct Guard {
    steps: Vec<NormalizerWrapper>,
    blown: Blown,
}

/// Whether a text grew too large: the library goes on after a normalizer's error, so it is told
/// here.
#[derive(Clone, Default)]
pub(crate) struct Blown(Arc<AtomicBool>);

impl Blown {
    /// An error if it did.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.0.load(Ordering::Relaxed) {
            return Err("a normalizer blows the text up".to_owned());
        }
        Ok(())
    }
}

impl Normalizer for Guard {
    fn normalize(&self, text: &mut NormalizedString) -> Library<()> {
        for step in &self.steps {
            // Before it is done: each byte takes some 50 while it is.
            if most_bytes(step, text.get().len()) > MAX_REPLACED {
                self.blown.0.store(true, Ordering::Relaxed);
                text.clear();
            }
            step.normalize(text)?;
            if text.get().len() > MAX_TEXT {
                self.blown.0.store(true, Ordering::Relaxed);
                text.clear();
            }
        }
        Ok(())
    }
}

/// Takes down the words a model is given.
pub(crate) struct Recorder {
    words: Arc<Mutex<HashSet<String>>>,
    ids: HashMap<String, u32>,
}

impl Recorder {
    pub(crate) fn new(added: &[&Added]) -> Self {
        let ids = added.iter().map(|token| (token.content.clone(), token.id));
        Self {
            words: Arc::default(),
            ids: ids.collect(),
        }
    }

    /// The words, to be read when all have come.
    pub(crate) fn words(&self) -> Arc<Mutex<HashSet<String>>> {
        Arc::clone(&self.words)
    }
}

impl Model for Recorder {
    type Trainer = BpeTrainer;

    fn tokenize(&self, word: &str) -> Library<Vec<Token>> {
        if let Ok(mut words) = self.words.lock() {
            words.insert(word.to_owned());
        }
        Ok(vec![Token::new(0, word.to_owned(), (0, word.len()))])
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    fn id_to_token(&self, _: u32) -> Option<String> {
        None
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        self.ids.clone()
    }

    fn get_vocab_size(&self) -> usize {
        self.ids.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> Library<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn get_trainer(&self) -> BpeTrainer {
        BpeTrainer::default()
    }
}

/// Whether an added token can come up in the check text. Those that are matched before
/// normalization must be in it as they are.
pub(crate) fn may_match(token: &Added) -> bool {
    !token.content.is_empty() && (token.normalized || CHECK_TEXT.contains(&token.content))
}

/// A tokenizer of this model with the file's normalizer, pre-tokenizer and these added tokens.
pub(crate) fn build<M: Model>(
    model: M,
    json: &TokenizerJson,
    added: &[&Added],
    blown: &Blown,
) -> Result<Bounded<M>, String> {
    let mut tokenizer: Bounded<M> = TokenizerImpl::new(model);
    let mut steps = Vec::new();
    flatten(&json.normalizer, "normalizers", &mut steps);
    let steps = steps
        .into_iter()
        .map(|step| serde_json::from_value(step.clone()));
    let steps: Vec<NormalizerWrapper> = steps.collect::<Result<_, _>>().map_err(text)?;
    if !steps.is_empty() {
        tokenizer
            .with_normalizer(Some(Guard {
                steps,
                blown: blown.clone(),
            }))
            .map_err(text)?;
    }
    if !json.pre_tokenizer.is_null() {
        let pre: PreTokenizerWrapper =
            serde_json::from_value(json.pre_tokenizer.clone()).map_err(text)?;
        tokenizer.with_pre_tokenizer(Some(pre));
    }
    let tokens = added.iter().map(|token| {
        AddedToken::from(token.content.clone(), token.special)
            .single_word(token.single_word)
            .lstrip(token.lstrip)
            .rstrip(token.rstrip)
            .normalized(token.normalized)
    });
    tokenizer.add_tokens(tokens).map_err(text)?;
    Ok(tokenizer)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// The steps of sequences in sequences. JSON nests at most 128 deep.
fn flatten<'v>(from: &'v Value, inner: &str, steps: &mut Vec<&'v Value>) {
    if from.is_null() {
        return;
    }
    match from.get(inner).and_then(Value::as_array) {
        Some(list) => list.iter().for_each(|one| flatten(one, inner, steps)),
        None => steps.push(from),
    }
}

/// Keeps the bounds before anything is built.
pub(crate) fn inspect(normalizer: &Value, pre_tokenizer: &Value) -> Result<(), String> {
    let mut steps = Vec::new();
    flatten(normalizer, "normalizers", &mut steps);
    flatten(pre_tokenizer, "pretokenizers", &mut steps);
    if steps.len() > MAX_STEPS {
        return Err(format!("{} steps, {MAX_STEPS} are allowed", steps.len()));
    }
    let is_bytes = |step: &&&Value| step.get("type").and_then(Value::as_str) == Some("ByteLevel");
    let n_byte_level = steps.iter().filter(is_bytes).count();
    if n_byte_level > MAX_BYTE_LEVEL {
        return Err(format!(
            "{n_byte_level} byte-level steps, {MAX_BYTE_LEVEL} are allowed"
        ));
    }
    for step in &steps {
        if let Some(regex) = regex_of(step).filter(|regex| regex.len() > MAX_REGEX) {
            return Err(format!(
                "a regex of {} bytes, {MAX_REGEX} are allowed",
                regex.len()
            ));
        }
        if let Some(repeats) = regex_of(step).map(repeats).filter(|n| *n > MAX_REPEATS) {
            return Err(format!(
                "a regex whose repetitions come to {repeats}, {MAX_REPEATS} are allowed"
            ));
        }
        for key in ["content", "prepend"] {
            let content = step.get(key).and_then(Value::as_str).unwrap_or_default();
            if content.len() > MAX_CONTENT {
                let len = content.len();
                return Err(format!(
                    "a normalizer puts {len} bytes in, {MAX_CONTENT} are allowed"
                ));
            }
        }
    }
    Ok(())
}

/// The product of all counted repetitions, `{n}`, `{n,}` and `{n,m}`, wherever they stand: nested
/// ones multiply, and no others are worth telling apart.
fn repeats(regex: &str) -> u64 {
    let counts = regex.split('{').skip(1).filter_map(|rest| {
        let (counts, _) = rest.split_once('}')?;
        let counts = counts.split(',').filter(|count| !count.is_empty());
        // A name, as in `\p{Lu}`, is none.
        counts.map(|count| count.trim().parse().ok()).max()?
    });
    counts.fold(1, |all, count: u64| all.saturating_mul(count.max(1)))
}

fn regex_of(step: &Value) -> Option<&str> {
    step.get("pattern")?.get("Regex")?.as_str()
}

/// The regexes a pre-tokenizer splits by, in order.
pub(crate) fn regexes(pre_tokenizer: &Value) -> Vec<String> {
    let mut steps = Vec::new();
    flatten(pre_tokenizer, "pretokenizers", &mut steps);
    let list = steps.into_iter().filter_map(|step| {
        if let Some(regex) = regex_of(step) {
            return Some(regex.to_owned());
        }
        let kind = step.get("type")?.as_str()?;
        let flag = |key: &str| step.get(key).and_then(Value::as_bool);
        match kind {
            "ByteLevel" if flag("use_regex") != Some(false) => Some(crate::pre::GPT2.to_owned()),
            "Digits" if flag("individual_digits") == Some(true) => Some(r"\p{N}".to_owned()),
            "Digits" => Some(r"\p{N}+".to_owned()),
            _ => None,
        }
    });
    list.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_multiply() {
        for (regex, n) in [
            (r"\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]{2,}", 6),
            (r"((a{10}){10}){10}", 1000),
            (r"a{99999999999999999999}b{3}", 3),
            (r"\{a}{", 1),
        ] {
            assert_eq!(repeats(regex), n, "{regex}");
        }
    }
}
