//! What a GGUF file says of its tokenizer.

use crate::error::VocabError;
use crate::pairs::kind;
use ir::{Array, Limits, MetaValue, Metadata, Result, ns};
use serde_json::{Map, Value, json};

/// The keys, looked up once.
pub(crate) struct Facts<'a> {
    metadata: &'a Metadata,
    pub(crate) model: &'a str,
    pub(crate) pre: &'a str,
    pub(crate) tokens: Vec<&'a str>,
    pub(crate) types: &'a [i32],
    pub(crate) scores: &'a [f32],
    pub(crate) merges: Vec<&'a str>,
}

/// Roles with their keys and the names of a repository.
pub(crate) const ROLES: &[(&str, &str)] = &[
    ("bos", "bos_token"),
    ("eos", "eos_token"),
    ("unknown", "unk_token"),
    ("seperator", "sep_token"),
    ("padding", "pad_token"),
    ("mask", "mask_token"),
];

fn get<'a>(metadata: &'a Metadata, name: &str) -> Option<&'a MetaValue> {
    metadata.get(ns::GGUF, &crate::pairs::key(name))
}

impl<'a> Facts<'a> {
    /// The facts, or `None` if the file has no tokenizer.
    pub(crate) fn of(metadata: &'a Metadata, limits: &Limits) -> Result<Option<Self>> {
        let text = |name: &str| get(metadata, name).and_then(MetaValue::as_str);
        let Some(model) = text("model").filter(|model| *model != "none") else {
            return Ok(None);
        };
        let tokens = texts(metadata, "tokens", limits.entries)?;
        let types = match get(metadata, "token_type") {
            Some(MetaValue::Array(Array::I32(list))) => list.as_slice(),
            None => &[],
            Some(_) => return Err(wrong("token_type", "a list of I32")),
        };
        let scores = match get(metadata, "scores") {
            Some(MetaValue::Array(Array::F32(list))) => list.as_slice(),
            None => &[],
            Some(_) => return Err(wrong("scores", "a list of F32")),
        };
        for (name, len) in [("token_type", types.len()), ("scores", scores.len())] {
            if len != 0 && len != tokens.len() {
                let why = format!("{len} values for {} tokens", tokens.len());
                return Err(
                    VocabError::malformed(format!("{}: {why}", crate::pairs::key(name))).into(),
                );
            }
        }
        if tokens.is_empty() {
            return Err(wrong("tokens", "at least one token"));
        }
        let merges = if get(metadata, "merges").is_some() {
            texts(metadata, "merges", limits.entries.saturating_mul(4))?
        } else {
            Vec::new()
        };
        Ok(Some(Self {
            metadata,
            model,
            pre: text("pre").unwrap_or("default"),
            tokens,
            types,
            scores,
            merges,
        }))
    }

    /// The kind of a token; where the file has none, all are normal.
    pub(crate) fn kind(&self, id: usize) -> i32 {
        self.types.get(id).copied().unwrap_or(kind::NORMAL)
    }

    pub(crate) fn score(&self, id: usize) -> f32 {
        self.scores.get(id).copied().unwrap_or(0.0)
    }

    /// Whether this is a row that stands for no token.
    pub(crate) fn is_pad(&self, id: usize) -> bool {
        self.kind(id) == kind::UNUSED
            && self
                .tokens
                .get(id)
                .is_some_and(|text| text.ends_with(&format!("[PAD{id}]")))
    }

    /// Ids that are tokens, with their texts.
    pub(crate) fn used(&self) -> impl Iterator<Item = (usize, &'a str)> {
        let all = self.tokens.iter().copied().enumerate();
        all.filter(|(id, _)| !self.is_pad(*id))
    }

    pub(crate) fn flag(&self, name: &str) -> Option<bool> {
        match get(self.metadata, name) {
            Some(MetaValue::Bool(value)) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn bytes(&self, name: &str) -> &'a [u8] {
        match get(self.metadata, name) {
            Some(MetaValue::Array(Array::U8(list))) => list,
            _ => &[],
        }
    }

    /// The token of a role and its id.
    pub(crate) fn role(&self, role: &str) -> Option<(&'a str, u32)> {
        let id = get(self.metadata, &format!("{role}_token_id"))?.as_u64()?;
        let text = self.tokens.get(usize::try_from(id).ok()?)?;
        Some((text, u32::try_from(id).ok()?))
    }

    /// bos and eos where they are put around a text, with what llama.cpp does if the file is silent.
    pub(crate) fn around(&self, bos: bool, eos: bool) -> [Option<(&'a str, u32)>; 2] {
        let add = |flag: &str, silent: bool| self.flag(flag).unwrap_or(silent);
        let bos = add("add_bos_token", bos)
            .then(|| self.role("bos"))
            .flatten();
        let eos = add("add_eos_token", eos)
            .then(|| self.role("eos"))
            .flatten();
        [bos, eos]
    }

    /// What stands before the second of two texts: an end of its own where the file says that one
    /// separates them, else the `usual`.
    pub(crate) fn second<'b>(
        &self,
        usual: Option<(&'b str, u32)>,
        end: Option<(&'b str, u32)>,
    ) -> Option<(&'b str, u32)> {
        match self.flag("add_sep_token") {
            Some(true) => end.or(usual),
            _ => usual,
        }
    }

    /// Whether a token is added: told apart before the text is split.
    pub(crate) fn is_added(&self, id: usize) -> bool {
        [kind::CONTROL, kind::USER_DEFINED, kind::UNKNOWN].contains(&self.kind(id))
    }

    /// The added tokens of `tokenizer.json`.
    pub(crate) fn added_tokens(&self) -> Value {
        let list = self.used().filter(|(id, _)| self.is_added(*id));
        let list = list.map(|(id, text)| {
            let mut one = self.flags(id, text);
            one.insert("id".to_owned(), json!(id));
            Value::Object(one)
        });
        Value::Array(list.collect())
    }

    /// A token as `added_tokens_decoder` has it.
    pub(crate) fn flags(&self, id: usize, text: &str) -> Map<String, Value> {
        let special = self.kind(id) != kind::USER_DEFINED;
        let mask = self
            .role("mask")
            .is_some_and(|(_, mask)| mask as usize == id);
        let mut one = Map::new();
        one.insert("content".to_owned(), json!(text));
        one.insert(
            "lstrip".to_owned(),
            json!(mask && self.pre == "roberta-bpe"),
        );
        one.insert("normalized".to_owned(), json!(false));
        one.insert("rstrip".to_owned(), json!(false));
        one.insert("single_word".to_owned(), json!(false));
        one.insert("special".to_owned(), json!(special));
        one
    }
}

fn texts<'a>(metadata: &'a Metadata, name: &str, max: u64) -> Result<Vec<&'a str>> {
    let Some(MetaValue::Array(Array::Str(list))) = get(metadata, name) else {
        return Err(wrong(name, "a list of texts"));
    };
    Limits::check("entries of a tokenizer list", list.len() as u64, max)?;
    let texts = list.iter().enumerate().map(|(at, bytes)| {
        std::str::from_utf8(bytes).map_err(|_| {
            let why = format!("{}: entry {at} is not UTF-8", crate::pairs::key(name));
            VocabError::malformed(why).into()
        })
    });
    texts.collect()
}

fn wrong(name: &str, wanted: &str) -> ir::Error {
    let why = format!("{} is not {wanted}", crate::pairs::key(name));
    VocabError::malformed(why).into()
}
