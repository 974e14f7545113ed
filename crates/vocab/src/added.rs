//! Which tokens are added, as transformers has it once all files are read: those of
//! `tokenizer.json`, those of `tokenizer_config.json` that differ, and every named special token.

use crate::json::{Added, TokenizerJson, Words};
use crate::special::token_text;
use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// Keys of special tokens that transformers knows.
const NAMED: &[&str] = &[
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];

/// The added tokens by content, in the order of their ids.
#[derive(Debug, Default)]
pub(crate) struct AddedTokens {
    list: Vec<Added>,
    by_content: HashMap<String, usize>,
    /// Those that have a role.
    named: HashSet<String>,
    /// One past the highest id of the model's own vocabulary or of an added token.
    next: u32,
}

impl AddedTokens {
    /// Gathers them.
    pub(crate) fn gather(
        json: &TokenizerJson,
        config: Option<&Map<String, Value>>,
        map: Option<&Map<String, Value>>,
    ) -> Self {
        let mut own = Self {
            next: u32::try_from(json.model.vocab.len()).unwrap_or(u32::MAX),
            ..Self::default()
        };
        for token in &json.added_tokens {
            own.put(token.clone());
        }
        let more: Vec<Added> = decoder(config);
        let roles: Vec<Added> = named(config, map);
        let wanted: HashSet<&str> = more
            .iter()
            .chain(&roles)
            .map(|token| token.content.as_str())
            .collect();
        let ids: HashMap<String, u32> = match &json.model.vocab {
            Words::Ids(words) if !wanted.is_empty() => words
                .iter()
                .filter(|(word, _)| wanted.contains(word.as_str()))
                .cloned()
                .collect(),
            Words::Pieces(pieces) if !wanted.is_empty() => (0u32..)
                .zip(pieces)
                .filter(|(_, (word, _))| wanted.contains(word.as_str()))
                .map(|(id, (word, _))| (word.clone(), id))
                .collect(),
            _ => HashMap::new(),
        };
        for token in more {
            own.add(token, &ids);
        }
        for token in roles {
            own.named.insert(token.content.clone());
            own.add(token, &ids);
        }
        own.list.sort_by_key(|token| token.id);
        own.by_content = own
            .list
            .iter()
            .enumerate()
            .map(|(at, t)| (t.content.clone(), at))
            .collect();
        own
    }

    fn put(&mut self, token: Added) {
        self.next = self.next.max(token.id.saturating_add(1));
        let place = self.by_content.get(&token.content);
        if let Some(own) = place.and_then(|at| self.list.get_mut(*at)) {
            *own = token;
        } else {
            self.by_content
                .insert(token.content.clone(), self.list.len());
            self.list.push(token);
        }
    }

    /// Adds one under the id it has already, or else the next.
    fn add(&mut self, mut token: Added, ids: &HashMap<String, u32>) {
        if token.content.is_empty() {
            return;
        }
        let own = self.get(&token.content).map(|own| own.id);
        token.id = own
            .or_else(|| ids.get(token.content.as_str()).copied())
            .unwrap_or(self.next);
        self.put(token);
    }

    /// The token of this content.
    pub(crate) fn get(&self, content: &str) -> Option<&Added> {
        self.list.get(*self.by_content.get(content)?)
    }

    /// Whether a token has a role: bos, eos, or one of the additional special tokens.
    pub(crate) fn is_named(&self, content: &str) -> bool {
        self.named.contains(content)
    }

    /// All, by id.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Added> {
        self.list.iter()
    }
}

/// `added_tokens_decoder` of `tokenizer_config.json`, by id.
fn decoder(config: Option<&Map<String, Value>>) -> Vec<Added> {
    let object = config.and_then(|config| config.get("added_tokens_decoder")?.as_object());
    let mut list: Vec<(u32, Added)> = object
        .into_iter()
        .flatten()
        .filter_map(|(id, value)| Some((id.parse().ok()?, flags(value)?)))
        .collect();
    list.sort_by_key(|(id, _)| *id);
    list.into_iter().map(|(_, token)| token).collect()
}

/// A token that is written as an object; what it does not say is `tokenizers`' default.
fn flags(value: &Value) -> Option<Added> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool);
    let special = flag("special").unwrap_or(false);
    Some(Added {
        id: 0,
        content: value.get("content")?.as_str()?.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

/// The named special tokens: all are special, and not normalized unless they say so.
fn named(config: Option<&Map<String, Value>>, map: Option<&Map<String, Value>>) -> Vec<Added> {
    let find = |key: &str| {
        let value = config.and_then(|config| config.get(key));
        value.or_else(|| map.and_then(|map| map.get(key)))
    };
    let mut values: Vec<&Value> = NAMED.iter().filter_map(|key| find(key)).collect();
    for key in ["additional_special_tokens", "extra_special_tokens"] {
        if let Some(Value::Array(list)) = find(key) {
            values.extend(list);
        }
    }
    let tokens = values.into_iter().filter_map(|value| {
        let mut token = match value {
            Value::Object(_) => flags(value)?,
            _ => Added {
                content: token_text(value)?.to_owned(),
                ..Added::default()
            },
        };
        token.special = true;
        Some(token)
    });
    tokens.collect()
}
