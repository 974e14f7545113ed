//! Metadata values as text from which they come back with their types.
//!
//! What a format that knows only strings is given: `u32:7`, `f32:3dcccccd` (the bits), `[str]2:` and
//! two lines.

use crate::{Array, MetaValue};
use std::fmt::Write as _;

/// `u32:7`, `[str]:a\nb`: items stand one a line, their own line ends and backslashes escaped.
pub fn render(value: &MetaValue) -> String {
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
        MetaValue::Str(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => ("str", text.to_owned()),
            Err(_) => ("bytes", hex(bytes)),
        },
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

/// The value of a text that [`render`] made.
pub fn parse(text: &str) -> Option<MetaValue> {
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
        "str" => MetaValue::text(text),
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

/// `text` on one line and without tabs.
pub fn escape(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('\n', "\\n")
        .replace('\t', "\\t")
}

/// The text that [`escape`] put on one line.
pub fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '\\' => match chars.next()? {
                'n' => '\n',
                't' => '\t',
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
    fn values_come_back() {
        let strings = vec!["a\nb".into(), "\\n".into(), "".into()];
        for value in [
            MetaValue::text("u8:plain\nlines"),
            MetaValue::Str(bytes::Bytes::from_static(b"\xff\0")),
            MetaValue::U64(u64::MAX),
            MetaValue::F32(f32::from_bits(0x7fc0_0001)),
            MetaValue::Array(Array::Str(strings)),
            MetaValue::Array(Array::Array(vec![
                Array::U8(vec![1, 2]),
                Array::Str(vec![]),
            ])),
        ] {
            let back = parse(&render(&value)).unwrap();
            assert_eq!(render(&back), render(&value));
            let line = escape(&render(&value));
            assert!(!line.contains('\n'));
            assert_eq!(unescape(&line), Some(render(&value)));
        }
        for bad in [
            "",
            "u8",
            "u8:256",
            "[u8]2:1",
            "nope:1",
            "bytes:0",
            "[array]1:[u8",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
