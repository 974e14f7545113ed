//! `tokenizer.json`, read once and without a tree of values for its large parts.

use crate::error::VocabError;
use crate::files::{json_error, utf8};
use bytes::Bytes;
use ir::{Error, Limits, Result};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use serde_json::Value;
use std::fmt;

/// The name of the file, for messages.
pub(crate) const TOKENIZER_JSON: &str = "tokenizer.json";

/// `tokenizer.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TokenizerJson {
    #[serde(deserialize_with = "or_default")]
    pub(crate) added_tokens: Vec<Added>,
    pub(crate) normalizer: Value,
    pub(crate) pre_tokenizer: Value,
    pub(crate) post_processor: Value,
    pub(crate) decoder: Value,
    #[serde(deserialize_with = "or_default")]
    pub(crate) model: Model,
}

/// An added token.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Added {
    pub(crate) id: u32,
    pub(crate) content: String,
    #[serde(default)]
    pub(crate) single_word: bool,
    #[serde(default)]
    pub(crate) lstrip: bool,
    #[serde(default)]
    pub(crate) rstrip: bool,
    #[serde(default)]
    pub(crate) normalized: bool,
    #[serde(default)]
    pub(crate) special: bool,
}

/// The model inside.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Model {
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    pub(crate) vocab: Words,
    pub(crate) merges: Merges,
    pub(crate) byte_fallback: Option<bool>,
    pub(crate) ignore_merges: Option<bool>,
    pub(crate) fuse_unk: Option<bool>,
    pub(crate) unk_token: Option<String>,
    pub(crate) unk_id: Option<u32>,
    pub(crate) continuing_subword_prefix: Option<String>,
    pub(crate) end_of_word_suffix: Option<String>,
    pub(crate) max_input_chars_per_word: Option<u64>,
}

impl Model {
    /// What every such file has and this one does not.
    fn lacks(&self) -> Option<&'static str> {
        let words = self.vocab.len() > 0;
        match self.kind.as_deref() {
            None if !words && !self.merges.said => Some("model"),
            _ if !words => Some("model.vocab"),
            Some("BPE") if !self.merges.said => Some("model.merges"),
            _ => None,
        }
    }

    /// The kind: old files do not tell it, and are then BPE if they have merges.
    pub(crate) fn kind(&self) -> &str {
        match (&self.kind, &self.vocab) {
            (Some(kind), _) => kind,
            (None, Words::Pieces(_)) => "Unigram",
            (None, _) if !self.merges.is_empty() => "BPE",
            (None, _) => "WordPiece",
        }
    }
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// The vocabulary: ids by token, or for Unigram the tokens in order with their scores.
#[derive(Debug)]
pub(crate) enum Words {
    /// Token and id, in the file's order.
    Ids(Vec<(String, u32)>),
    /// Piece and score, by id.
    Pieces(Vec<(String, f64)>),
}

impl Default for Words {
    fn default() -> Self {
        Self::Ids(Vec::new())
    }
}

impl Words {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Ids(words) => words.len(),
            Self::Pieces(words) => words.len(),
        }
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Words;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tokens to ids or a list of pieces with scores")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(pair) = map.next_entry::<String, u32>()? {
                    words.push(pair);
                }
                Ok(Words::Ids(words))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Words, A::Error> {
                let mut words = Vec::new();
                while let Some(pair) = seq.next_element::<(String, f64)>()? {
                    words.push(pair);
                }
                Ok(Words::Pieces(words))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Words, E> {
                Ok(Words::default())
            }
        }
        from.deserialize_any(V)
    }
}

/// The merges in one text, each as GGUF has it: both parts with a space between, and `Ġ` for a
/// space inside a part.
#[derive(Debug, Default)]
pub(crate) struct Merges {
    text: String,
    /// Where the space stands and where the merge ends.
    marks: Vec<(u32, u32)>,
    /// Whether a part had a space inside.
    pub(crate) had_spaces: bool,
    /// Whether the file says anything of them, none included.
    said: bool,
}

impl Merges {
    pub(crate) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.marks.len()
    }

    /// Both parts of each.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut start = 0;
        self.marks.iter().map(move |&(split, end)| {
            let (split, end) = (split as usize, end as usize);
            let left = self.text.get(start..split).unwrap_or_default();
            let right = self.text.get(split + 1..end).unwrap_or_default();
            start = end;
            (left, right)
        })
    }

    /// Each as one text of GGUF, slices of one buffer.
    pub(crate) fn joined(&self) -> Vec<Bytes> {
        let all = Bytes::from(self.text.clone());
        let mut start = 0;
        let slices = self.marks.iter().map(|&(_, end)| {
            let slice = all.slice(start..end as usize);
            start = end as usize;
            slice
        });
        slices.collect()
    }

    /// Adds a merge; says whether the text still fits.
    fn push(&mut self, left: &str, right: &str, encode: bool) -> bool {
        self.part(left, encode);
        let split = self.text.len();
        self.text.push(' ');
        self.part(right, encode);
        match (u32::try_from(split), u32::try_from(self.text.len())) {
            (Ok(split), Ok(end)) => {
                self.marks.push((split, end));
                true
            }
            _ => false,
        }
    }

    fn part(&mut self, part: &str, encode: bool) {
        if encode && part.contains(' ') {
            self.had_spaces = true;
            self.text
                .extend(part.chars().map(|c| if c == ' ' { 'Ġ' } else { c }));
        } else {
            self.text.push_str(part);
        }
    }

    /// The merges of a `merges.txt`: two words a line, after a first line that may be a comment.
    pub(crate) fn from_text(text: &str) -> Self {
        let mut merges = Self::default();
        for (number, line) in text.lines().enumerate() {
            if number == 0 && line.trim_start().starts_with('#') {
                continue;
            }
            let mut words = line.split_whitespace();
            if let (Some(left), Some(right), None) = (words.next(), words.next(), words.next()) {
                merges.push(left, right, false);
            }
        }
        merges
    }
}

impl<'de> Deserialize<'de> for Merges {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Merges;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of merges")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Merges, A::Error> {
                let mut merges = Merges {
                    said: true,
                    ..Merges::default()
                };
                while seq.next_element_seed(One(&mut merges))?.is_some() {}
                Ok(merges)
            }
            fn visit_unit<E: de::Error>(self) -> Result<Merges, E> {
                Ok(Merges::default())
            }
        }
        from.deserialize_any(All)
    }
}

/// One merge: `"a b"` or `["a", "b"]`.
struct One<'m>(&'m mut Merges);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("two tokens with a space between, or a list of two tokens")
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        // The reference takes such a text as it is; a part never has a space in this form.
        let Some((left, right)) = text.split_once(' ') else {
            return Err(E::custom(format!("merge {text:?} is not two tokens")));
        };
        full(self.0.push(left, right, false))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let pair: (Option<String>, Option<String>) = (seq.next_element()?, seq.next_element()?);
        let (Some(left), Some(right)) = pair else {
            return Err(A::Error::custom(
                "a merge is a list of fewer than two tokens",
            ));
        };
        if seq.next_element::<de::IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(
                "a merge is a list of more than two tokens",
            ));
        }
        full(self.0.push(&left, &right, true))
    }
}

fn full<E: de::Error>(fits: bool) -> Result<(), E> {
    if fits {
        Ok(())
    } else {
        Err(E::custom("the merges are longer than 4 GiB"))
    }
}

impl TokenizerJson {
    /// Reads the file.
    pub(crate) fn read(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let text = utf8(bytes, TOKENIZER_JSON)?;
        let read: Self =
            serde_json::from_str(text).map_err(|error| json_error(&error, TOKENIZER_JSON))?;
        read.check_within(limits, TOKENIZER_JSON)?;
        match read.model.lacks() {
            None => Ok(read),
            Some(field) => Err(Error::from(VocabError::lacks(field)).in_file(TOKENIZER_JSON)),
        }
    }

    /// Keeps the limits of a file of this name.
    pub(crate) fn check_within(&self, limits: &Limits, file: &'static str) -> Result<()> {
        self.check(limits).map_err(|error| error.in_file(file))
    }

    fn check(&self, limits: &Limits) -> Result<()> {
        let n_tokens = self.model.vocab.len() + self.added_tokens.len();
        Limits::check("tokens", n_tokens as u64, limits.entries)?;
        let n_merges = self.model.merges.len() as u64;
        Limits::check("merges", n_merges, limits.entries.saturating_mul(4))?;
        if let Words::Ids(words) = &self.model.vocab
            && let Some((token, id)) = words.iter().max_by_key(|(_, id)| *id)
        {
            id_within(token, *id, limits)?;
        }
        for added in &self.added_tokens {
            id_within(&added.content, added.id, limits)?;
        }
        Ok(())
    }
}

fn id_within(token: &str, id: u32, limits: &Limits) -> Result<()> {
    if u64::from(id) >= limits.entries {
        let why = format!(
            "token {token:?} has id {id}, more than {} tokens",
            limits.entries
        );
        return Err(Error::from(VocabError::malformed(why)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_merges() {
        let text = r#"{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b",["c d","e"]]}}"#;
        let json = TokenizerJson::read(text.as_bytes(), &Limits::default()).unwrap();
        let pairs: Vec<_> = json.model.merges.pairs().collect();
        assert_eq!(pairs, [("a", "b"), ("cĠd", "e")]);
        assert_eq!(json.model.merges.joined(), ["a b", "cĠd e"]);
        assert!(json.model.merges.had_spaces);
    }

    #[test]
    fn what_a_whole_file_lacks_is_named() {
        let words = |text: &str| {
            let error = TokenizerJson::read(text.as_bytes(), &Limits::default()).unwrap_err();
            assert!(!error.to_string().contains("cut short"), "{error}");
            error.message()
        };
        assert_eq!(words("{}"), "it has no \"model\"");
        assert_eq!(words(r#"{"model":null}"#), "it has no \"model\"");
        let vocab = words(r#"{"model":{"type":"BPE","merges":[]}}"#);
        assert_eq!(vocab, "it has no \"model.vocab\"");
        let merges = words(r#"{"model":{"type":"BPE","vocab":{"a":0}}}"#);
        assert_eq!(merges, "it has no \"model.merges\"");
        let added = words(r#"{"added_tokens":[{"id":3}],"model":{"vocab":{"a":0}}}"#);
        assert_eq!(added, "missing field `content`");
        let cut = TokenizerJson::read(b"{\"model\": {", &Limits::default()).unwrap_err();
        assert!(cut.to_string().contains("cut short"), "{cut}");
    }

    #[test]
    fn says_where_a_file_breaks() {
        let error = TokenizerJson::read(b"{\"model\": {\n\"vocab\": 3", &Limits::default());
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("tokenizer.json: line 2, column"), "{text}");
        let error = TokenizerJson::read(
            br#"{"model":{"vocab":{"a":4000000000}}}"#,
            &Limits::default(),
        );
        assert!(error.unwrap_err().to_string().contains("4000000000"));
    }
}
