//! Ordered, typed key-value pairs.

use bytes::Bytes;
use std::fmt;

/// The namespaces of metadata keys.
pub mod ns {
    /// GGUF key-values, with their exact types.
    pub const GGUF: &str = "gguf";
    /// The `__metadata__` of safetensors.
    pub const SAFETENSORS: &str = "safetensors";
    /// Scalars found in a checkpoint beside its tensors.
    pub const CKPT: &str = "ckpt";
    /// ONNX model properties.
    pub const ONNX: &str = "onnx";
    /// Notes this project leaves so that its own readers can restore what a format cannot say:
    /// `dtype.NAME`, `shape.NAME`, `tied.NAME`.
    pub const NOTE: &str = "weightbridge";
}

/// A metadata value, every integer width kept.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it all
pub enum MetaValue {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    /// Text, usually UTF-8; GGUF does not promise it.
    Str(Bytes),
    Array(Array),
}

impl MetaValue {
    /// A text value.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Str(Bytes::from(text.into()))
    }

    /// The text, if it is text and UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The value as an unsigned number, if it is an integer that fits.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::U8(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::U64(n) => Some(n),
            Self::I8(n) => n.try_into().ok(),
            Self::I16(n) => n.try_into().ok(),
            Self::I32(n) => n.try_into().ok(),
            Self::I64(n) => n.try_into().ok(),
            _ => None,
        }
    }
}

impl fmt::Display for MetaValue {
    /// The value as text: what a format that only knows strings stores.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U8(n) => n.fmt(f),
            Self::I8(n) => n.fmt(f),
            Self::U16(n) => n.fmt(f),
            Self::I16(n) => n.fmt(f),
            Self::U32(n) => n.fmt(f),
            Self::I32(n) => n.fmt(f),
            Self::U64(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::Bool(b) => b.fmt(f),
            Self::Str(bytes) => String::from_utf8_lossy(bytes).fmt(f),
            Self::Array(array) => array.fmt(f),
        }
    }
}

/// An array of one element type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the names say it all
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Str(Vec<Bytes>),
    Array(Vec<Array>),
}

/// Calls `$body` with `$items` bound to the vector of whichever variant `$array` is.
macro_rules! each {
    ($array:expr, $items:ident => $body:expr) => {
        match $array {
            Array::U8($items) => $body,
            Array::I8($items) => $body,
            Array::U16($items) => $body,
            Array::I16($items) => $body,
            Array::U32($items) => $body,
            Array::I32($items) => $body,
            Array::U64($items) => $body,
            Array::I64($items) => $body,
            Array::F32($items) => $body,
            Array::F64($items) => $body,
            Array::Bool($items) => $body,
            Array::Str($items) => $body,
            Array::Array($items) => $body,
        }
    };
}

impl Array {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        each!(self, items => items.len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(items) => f
                .debug_list()
                .entries(items.iter().map(|s| String::from_utf8_lossy(s)))
                .finish(),
            Self::Array(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    f.write_str(if i == 0 { "" } else { ", " })?;
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
            _ => each!(self, items => f.debug_list().entries(items).finish()),
        }
    }
}

/// One pair.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Whose key it is: see [`ns`].
    pub namespace: &'static str,
    /// The key.
    pub key: String,
    /// Its value.
    pub value: MetaValue,
}

/// Ordered pairs; a key is unique within its namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata(Vec<Entry>);

impl Metadata {
    /// No pairs.
    pub fn new() -> Self {
        Self::default()
    }

    /// Pairs of one namespace, whose keys the caller knows to differ.
    pub fn from_pairs<K: Into<String>>(
        namespace: &'static str,
        pairs: impl IntoIterator<Item = (K, MetaValue)>,
    ) -> Self {
        let mut metadata = Self::new();
        for (key, value) in pairs {
            metadata.push_new(namespace, key.into(), value);
        }
        metadata
    }

    /// Sets a value: in its place if the key is there, at the end if not.
    pub fn set(&mut self, namespace: &'static str, key: impl Into<String>, value: MetaValue) {
        let key = key.into();
        match self
            .0
            .iter_mut()
            .find(|e| e.namespace == namespace && e.key == key)
        {
            Some(entry) => entry.value = value,
            None => self.0.push(Entry {
                namespace,
                key,
                value,
            }),
        }
    }

    /// Adds a pair that the caller knows to be new: a reader that has checked for duplicates.
    pub fn push_new(&mut self, namespace: &'static str, key: String, value: MetaValue) {
        self.0.push(Entry {
            namespace,
            key,
            value,
        });
    }

    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&MetaValue> {
        self.0
            .iter()
            .find(|e| e.namespace == namespace && e.key == key)
            .map(|e| &e.value)
    }

    /// Removes a key and answers its value.
    pub fn remove(&mut self, namespace: &str, key: &str) -> Option<MetaValue> {
        let at = self
            .0
            .iter()
            .position(|e| e.namespace == namespace && e.key == key)?;
        Some(self.0.remove(at).value)
    }

    /// Keeps the pairs that `keep` accepts.
    pub fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.0.retain(keep);
    }

    /// All pairs, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Entry> {
        self.0.iter()
    }

    /// The pairs of one namespace, in order.
    pub fn of<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = (&'a str, &'a MetaValue)> {
        self.0
            .iter()
            .filter(move |e| e.namespace == namespace)
            .map(|e| (e.key.as_str(), &e.value))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_types() {
        let mut metadata = Metadata::new();
        metadata.set(ns::GGUF, "b", MetaValue::U8(1));
        metadata.set(
            ns::GGUF,
            "a",
            MetaValue::Array(Array::Str(vec!["x".into()])),
        );
        metadata.set(ns::ONNX, "b", MetaValue::text("other"));
        metadata.set(ns::GGUF, "b", MetaValue::U16(2));
        let keys: Vec<_> = metadata.of(ns::GGUF).map(|(key, _)| key).collect();
        assert_eq!(keys, ["b", "a"]);
        assert_eq!(metadata.get(ns::GGUF, "b"), Some(&MetaValue::U16(2)));
        assert_eq!(metadata.get(ns::GGUF, "a").unwrap().to_string(), "[\"x\"]");
        assert!(metadata.remove(ns::ONNX, "b").is_some());
        assert_eq!(metadata.len(), 2);
    }
}
