//! Properties of a model (`metadata_props`) and namespaces of metadata, one to one.
//!
//! | namespace | property |
//! |---|---|
//! | `onnx` | the key itself |
//! | `weightbridge`, notes | `weightbridge.` and the key |
//! | `safetensors`, `gguf`, `ckpt` | the namespace, `.` and the key |
//!
//! A property is text. What is not text is written as `TYPE:VALUE` with a `weightbridge.typed.`
//! before its key, so that programs which look for `gguf.general.name` find its plain text, and
//! numbers come back with their types.

use crate::wire::NOTE_PREFIX;
use ir::{Entry, MetaValue, ns, typed_text};

const PREFIXES: &[(&str, &str)] = &[
    (ns::SAFETENSORS, "safetensors."),
    (ns::GGUF, "gguf."),
    (ns::CKPT, "ckpt."),
];
const TYPED: &str = "typed.";

/// Namespace, key and value of a property.
pub(crate) fn of_property(key: &str, text: String) -> (&'static str, String, MetaValue) {
    if let Some(rest) = key.strip_prefix(NOTE_PREFIX) {
        if let Some(typed) = rest.strip_prefix(TYPED)
            && let Some(value) = typed_text::parse(&text)
        {
            let (namespace, key) = plain(typed);
            return (namespace, key.to_owned(), value);
        }
        return (ns::NOTE, rest.to_owned(), MetaValue::text(text));
    }
    let (namespace, key) = plain(key);
    (namespace, key.to_owned(), MetaValue::text(text))
}

fn plain(key: &str) -> (&'static str, &str) {
    for (namespace, prefix) in PREFIXES {
        if let Some(rest) = key.strip_prefix(prefix) {
            return (namespace, rest);
        }
    }
    (ns::ONNX, key)
}

/// The property of an entry.
pub(crate) fn property(entry: &Entry) -> (String, String) {
    let key = match PREFIXES.iter().find(|row| row.0 == entry.namespace) {
        Some((_, prefix)) => format!("{prefix}{}", entry.key),
        None if entry.namespace == ns::NOTE => format!("{NOTE_PREFIX}{}", entry.key),
        None => entry.key.clone(),
    };
    match entry.value.as_str() {
        Some(text) => (key, text.to_owned()),
        // A note is always text to those who read it.
        None if entry.namespace == ns::NOTE => (key, entry.value.to_string()),
        None => (
            format!("{NOTE_PREFIX}{TYPED}{key}"),
            typed_text::render(&entry.value),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Array;

    #[test]
    fn every_value_comes_back() {
        let strings = vec!["a\nb".into(), "\\n".into(), "".into()];
        let wild = MetaValue::Str(bytes::Bytes::from_static(b"\xff\0"));
        let nested = Array::Array(vec![
            Array::Str(strings.clone()),
            Array::Array(vec![Array::U8(vec![])]),
        ]);
        let values = [
            MetaValue::text("plain"),
            MetaValue::U8(7),
            MetaValue::I64(-5),
            MetaValue::F32(0.1),
            MetaValue::F64(f64::NEG_INFINITY),
            MetaValue::Bool(true),
            wild.clone(),
            MetaValue::Array(Array::Str(strings)),
            MetaValue::Array(Array::Str(vec![bytes::Bytes::from_static(b"\xff")])),
            MetaValue::Array(Array::Str(vec![])),
            MetaValue::Array(Array::F32(vec![1.5, -0.0])),
            MetaValue::Array(nested),
        ];
        for namespace in [ns::GGUF, ns::CKPT, ns::SAFETENSORS, ns::ONNX] {
            for value in &values {
                let entry = Entry {
                    namespace,
                    key: "a.b".into(),
                    value: value.clone(),
                };
                let (key, text) = property(&entry);
                let back = of_property(&key, text);
                assert_eq!(back, (namespace, "a.b".to_owned(), value.clone()));
            }
        }
        let note = of_property("weightbridge.dtype.x", "F4".to_owned());
        assert_eq!(note.0, ns::NOTE);
        assert_eq!(note.1, "dtype.x");
    }
}
