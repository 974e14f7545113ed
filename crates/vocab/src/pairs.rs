//! Keys in the order in which they are first set, as gguf-py's writer keeps them.

use bytes::Bytes;
use ir::{Array, MetaValue};

/// `tokenizer.ggml.NAME`.
pub(crate) fn key(name: &str) -> String {
    format!("tokenizer.ggml.{name}")
}

/// The pairs. A key set again keeps its place; empty texts and lists are not written.
#[derive(Debug, Default)]
pub(crate) struct Pairs(pub(crate) Vec<(String, MetaValue)>);

impl Pairs {
    pub(crate) fn set(&mut self, key: impl Into<String>, value: MetaValue) {
        let empty = match &value {
            MetaValue::Str(text) => text.is_empty(),
            MetaValue::Array(array) => array.is_empty(),
            _ => false,
        };
        if empty {
            return;
        }
        let key = key.into();
        match self.0.iter_mut().find(|(own, _)| *own == key) {
            Some((_, old)) => *old = value,
            None => self.0.push((key, value)),
        }
    }

    pub(crate) fn text(&mut self, name: &str, text: impl Into<String>) {
        self.set(key(name), MetaValue::text(text));
    }

    pub(crate) fn bool(&mut self, name: &str, value: bool) {
        self.set(key(name), MetaValue::Bool(value));
    }

    pub(crate) fn u32(&mut self, name: &str, value: u32) {
        self.set(key(name), MetaValue::U32(value));
    }

    pub(crate) fn texts(&mut self, name: &str, list: Vec<Bytes>) {
        self.set(key(name), MetaValue::Array(Array::Str(list)));
    }

    pub(crate) fn i32s(&mut self, name: &str, list: Vec<i32>) {
        self.set(key(name), MetaValue::Array(Array::I32(list)));
    }

    pub(crate) fn f32s(&mut self, name: &str, list: Vec<f32>) {
        self.set(key(name), MetaValue::Array(Array::F32(list)));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&MetaValue> {
        let key = key(name);
        self.0.iter().find(|(own, _)| *own == key).map(|(_, v)| v)
    }
}

/// The kinds of tokens of `tokenizer.ggml.token_type`.
pub(crate) mod kind {
    pub(crate) const NORMAL: i32 = 1;
    pub(crate) const UNKNOWN: i32 = 2;
    pub(crate) const CONTROL: i32 = 3;
    pub(crate) const USER_DEFINED: i32 = 4;
    pub(crate) const UNUSED: i32 = 5;
    pub(crate) const BYTE: i32 = 6;
}

/// Tokens with their types, and scores where the kind of tokenizer has them.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    pub(crate) texts: Vec<Bytes>,
    pub(crate) scores: Option<Vec<f32>>,
    pub(crate) types: Vec<i32>,
}

impl Tokens {
    /// `[PADn]` all over, to be filled.
    pub(crate) fn padded(n: usize) -> Self {
        Self {
            texts: (0..n).map(pad).collect(),
            scores: Some(vec![-10000.0; n]),
            types: vec![kind::UNUSED; n],
        }
    }

    /// Adds one at the end.
    pub(crate) fn push(&mut self, text: impl Into<Bytes>, score: f32, kind: i32) {
        self.texts.push(text.into());
        self.types.push(kind);
        if let Some(scores) = &mut self.scores {
            scores.push(score);
        }
    }

    /// Puts one in its place; says whether there is such a place.
    pub(crate) fn put(&mut self, id: usize, text: impl Into<Bytes>, score: f32, kind: i32) -> bool {
        let (Some(own), Some(own_kind)) = (self.texts.get_mut(id), self.types.get_mut(id)) else {
            return false;
        };
        *own = text.into();
        *own_kind = kind;
        if let Some(own) = self.scores.as_mut().and_then(|scores| scores.get_mut(id)) {
            *own = score;
        }
        true
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// The three lists, as every method writes them.
    pub(crate) fn write(self, pairs: &mut Pairs) {
        pairs.texts("tokens", self.texts);
        if let Some(scores) = self.scores {
            pairs.f32s("scores", scores);
        }
        pairs.i32s("token_type", self.types);
    }
}

/// The name of a place that no token has.
pub(crate) fn pad(id: usize) -> Bytes {
    Bytes::from(format!("[PAD{id}]"))
}
