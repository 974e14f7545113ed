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
use ir::{Array, Entry, MetaValue, ns};
use std::fmt::Write as _;

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
            && let Some(value) = parse(&text)
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
        None => (format!("{NOTE_PREFIX}{TYPED}{key}"), render(&entry.value)),
    }
}

/// `u32:7`, `[str]:a\nb`: items stand one a line, their own line ends and backslashes escaped.
fn render(value: &MetaValue) -> String {
    let (name, text) = match value {
        MetaValue::U8(n) => ("u8", n.to_string()),
        MetaValue::I8(n) => ("i8", n.to_string()),
        MetaValue::U16(n) => ("u16", n.to_string()),
        MetaValue::I16(n) => ("i16", n.to_string()),
        MetaValue::U32(n) => ("u32", n.to_string()),
        MetaValue::I32(n) => ("i32", n.to_string()),
        MetaValue::U64(n) => ("u64", n.to_string()),
        MetaValue::I64(n) => ("i64", n.to_string()),
        // The bits, so that a NaN's are kept too.
        MetaValue::F32(x) => ("f32", format!("{:08x}", x.to_bits())),
        MetaValue::F64(x) => ("f64", format!("{:016x}", x.to_bits())),
        MetaValue::Bool(b) => ("bool", b.to_string()),
        MetaValue::Str(bytes) => ("bytes", hex(bytes)),
        MetaValue::Array(array) => return render_array(array),
    };
    format!("{name}:{text}")
}

fn render_array(array: &Array) -> String {
    fn list<T>(name: &str, items: &[T], each: impl Fn(&T) -> String) -> String {
        let items: Vec<String> = items.iter().map(each).collect();
        format!("[{name}]{}:{}", items.len(), items.join("\n"))
    }
    match array {
        Array::U8(items) => list("u8", items, u8::to_string),
        Array::I8(items) => list("i8", items, i8::to_string),
        Array::U16(items) => list("u16", items, u16::to_string),
        Array::I16(items) => list("i16", items, i16::to_string),
        Array::U32(items) => list("u32", items, u32::to_string),
        Array::I32(items) => list("i32", items, i32::to_string),
        Array::U64(items) => list("u64", items, u64::to_string),
        Array::I64(items) => list("i64", items, i64::to_string),
        Array::F32(items) => list("f32", items, |x| format!("{:08x}", x.to_bits())),
        Array::F64(items) => list("f64", items, |x| format!("{:016x}", x.to_bits())),
        Array::Bool(items) => list("bool", items, bool::to_string),
        Array::Str(items) => {
            if items.iter().all(|s| std::str::from_utf8(s).is_ok()) {
                list("str", items, |s| escape(&String::from_utf8_lossy(s)))
            } else {
                list("bytes", items, |s| hex(s))
            }
        }
        Array::Array(items) => list("array", items, |a| escape(&render_array(a))),
    }
}

fn parse(text: &str) -> Option<MetaValue> {
    if text.starts_with('[') {
        return parse_array(text, 0).map(MetaValue::Array);
    }
    let (name, text) = text.split_once(':')?;
    Some(match name {
        "u8" => MetaValue::U8(text.parse().ok()?),
        "i8" => MetaValue::I8(text.parse().ok()?),
        "u16" => MetaValue::U16(text.parse().ok()?),
        "i16" => MetaValue::I16(text.parse().ok()?),
        "u32" => MetaValue::U32(text.parse().ok()?),
        "i32" => MetaValue::I32(text.parse().ok()?),
        "u64" => MetaValue::U64(text.parse().ok()?),
        "i64" => MetaValue::I64(text.parse().ok()?),
        "f32" => MetaValue::F32(f32::from_bits(u32::from_str_radix(text, 16).ok()?)),
        "f64" => MetaValue::F64(f64::from_bits(u64::from_str_radix(text, 16).ok()?)),
        "bool" => MetaValue::Bool(text.parse().ok()?),
        "bytes" => MetaValue::Str(unhex(text)?.into()),
        _ => return None,
    })
}

/// Arrays nest no deeper than this; GGUF readers stop long before.
const DEPTH: u32 = 8;

fn parse_array(text: &str, depth: u32) -> Option<Array> {
    fn list<T>(items: &[&str], each: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
        items.iter().map(|item| each(item)).collect()
    }
    let (head, rest) = text.split_once(':')?;
    let (name, count) = head.strip_prefix('[')?.split_once(']')?;
    let count: usize = count.parse().ok()?;
    let items: Vec<&str> = match count {
        0 => Vec::new(),
        _ => rest.split('\n').collect(),
    };
    if items.len() != count || depth > DEPTH {
        return None;
    }
    Some(match name {
        "u8" => Array::U8(list(&items, |t| t.parse().ok())?),
        "i8" => Array::I8(list(&items, |t| t.parse().ok())?),
        "u16" => Array::U16(list(&items, |t| t.parse().ok())?),
        "i16" => Array::I16(list(&items, |t| t.parse().ok())?),
        "u32" => Array::U32(list(&items, |t| t.parse().ok())?),
        "i32" => Array::I32(list(&items, |t| t.parse().ok())?),
        "u64" => Array::U64(list(&items, |t| t.parse().ok())?),
        "i64" => Array::I64(list(&items, |t| t.parse().ok())?),
        "f32" => Array::F32(list(&items, |t| {
            u32::from_str_radix(t, 16).ok().map(f32::from_bits)
        })?),
        "f64" => Array::F64(list(&items, |t| {
            u64::from_str_radix(t, 16).ok().map(f64::from_bits)
        })?),
        "bool" => Array::Bool(list(&items, |t| t.parse().ok())?),
        "str" => Array::Str(list(&items, |t| unescape(t).map(Into::into))?),
        "bytes" => Array::Str(list(&items, |t| unhex(t).map(Into::into))?),
        "array" => Array::Array(list(&items, |t| parse_array(&unescape(t)?, depth + 1))?),
        _ => return None,
    })
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                '\\' => '\\',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
