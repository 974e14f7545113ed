//! JSON, kept as far as it matters: names, texts and their order; every duplicate too.

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Values kept of one document.
const MOST: usize = 200_000;

/// A value without its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Object(Vec<(String, Json)>),
    Array(Vec<Json>),
    Text(String),
    True,
    /// A number, `false` or `null`.
    Other,
}

impl Json {
    /// The last value of a name, which is the one that Python's parser keeps.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Object(pairs) => pairs.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v),
            _ => None,
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }

    /// Names and values, as they stand, duplicates included.
    pub(super) fn pairs(&self) -> &[(String, Self)] {
        match self {
            Self::Object(pairs) => pairs,
            _ => &[],
        }
    }

    /// The beginning of the value, for people.
    pub(super) fn shown(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        if out.len() > 400 {
            return;
        }
        match self {
            Self::Object(pairs) => {
                out.push('{');
                for (at, (name, value)) in pairs.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    out.push_str(name);
                    out.push_str(": ");
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(items) => {
                out.push('[');
                for (at, value) in items.iter().enumerate() {
                    out.push_str(if at == 0 { "" } else { ", " });
                    value.write(out);
                }
                out.push(']');
            }
            Self::Text(text) => out.extend(text.chars().take(400)),
            Self::True => out.push_str("true"),
            Self::Other => out.push('…'),
        }
    }
}

/// Parses a document. A byte order mark before it is passed over, as Python's readers do.
pub(super) fn parse(text: &str) -> Result<Json, serde_json::Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let left = Cell::new(MOST);
    let lenient = standard(text);
    let mut source = serde_json::Deserializer::from_str(lenient.as_deref().unwrap_or(text));
    let value = Seed(&left).deserialize(&mut source)?;
    source.end()?;
    Ok(value)
}

/// The next value of an object that is walked elsewhere; it may hold as much as a document.
pub(super) fn part<'de, A: MapAccess<'de>>(from: &mut A) -> Result<Json, A::Error> {
    from.next_value_seed(Seed(&Cell::new(MOST)))
}

/// Digits of a number that is read as it stands.
const DIGITS: usize = 300;

/// A text without what Python reads and JSON does not have: `NaN`, `Infinity`, halves of a pair of
/// surrogates, numbers larger than any. Real configurations have the first; the others would hide a
/// document. `None` for a text that needs nothing.
pub(super) fn standard(text: &str) -> Option<String> {
    let odd = ["NaN", "Infinity", "\\ud", "\\uD"];
    if !odd.iter().any(|word| text.contains(word)) && !has_large(text) {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        let (len, kept) = if inside {
            inside = c != '"';
            within(rest, c)
        } else {
            inside = c == '"';
            beyond(rest, c)
        };
        out.push_str(kept);
        rest = rest.get(len..).unwrap_or_default();
    }
    Some(out)
}

/// What a text within quotes begins with: its length, and what stands for it.
fn within(rest: &str, first: char) -> (usize, &str) {
    let mut len = first.len_utf8();
    if first == '\\' {
        let next = rest.get(1..).and_then(|rest| rest.chars().next());
        len += next.map_or(0, char::len_utf8);
        match (half(rest), rest.get(6..).and_then(half)) {
            (Some(0xd800..0xdc00), Some(0xdc00..0xe000)) => len = 12,
            (Some(0xd800..0xe000), _) => return (6, "\\ufffd"),
            _ => {}
        }
    }
    (len, rest.get(..len).unwrap_or_default())
}

/// The number of a `\\u0041`.
fn half(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u32::from_str_radix(digits, 16).ok()
}

/// What a text outside of quotes begins with: its length, and what stands for it.
fn beyond(rest: &str, first: char) -> (usize, &str) {
    let words = ["-Infinity", "Infinity", "NaN"];
    if let Some(word) = words.iter().find(|word| rest.starts_with(**word)) {
        return (word.len(), "0");
    }
    if first == '-' || first.is_ascii_digit() {
        let part = |c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let len = rest.find(part).unwrap_or(rest.len()).max(1);
        let number = rest.get(..len).unwrap_or_default();
        return (len, if has_large(number) { "0" } else { number });
    }
    let len = first.len_utf8();
    (len, rest.get(..len).unwrap_or_default())
}

/// Whether digits without end, or behind an `e`, make a number that is larger than any.
fn has_large(text: &str) -> bool {
    let mut run = 0;
    let mut power = false;
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_digit() {
            run += 1;
            if run >= if power { 3 } else { DIGITS } {
                return true;
            }
        } else {
            let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at));
            power = matches!(byte, b'e' | b'E') && before.is_some_and(u8::is_ascii_digit)
                || matches!(byte, b'+' | b'-') && power && run == 0;
            run = 0;
        }
    }
    false
}

struct Seed<'a>(&'a Cell<usize>);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Json;

    fn deserialize<D: serde::Deserializer<'de>>(self, from: D) -> Result<Json, D::Error> {
        match self.0.get().checked_sub(1) {
            Some(left) => self.0.set(left),
            None => return Err(D::Error::custom(format!("more than {MOST} values"))),
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(if value { Json::True } else { Json::Other })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_str<E>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = from.next_element_seed(Seed(self.0))? {
            // Numbers are not looked at, however many; their places are.
            if item != Json::Other || out.len() < 8 {
                out.push(item);
            } else {
                self.0.set(self.0.get() + 1);
            }
        }
        Ok(Json::Array(out))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Json, A::Error> {
        let mut out = Vec::new();
        while let Some(name) = from.next_key::<String>()? {
            let value = from.next_value_seed(Seed(self.0))?;
            if value == Json::Other {
                self.0.set(self.0.get() + 1);
            } else {
                out.push((name, value));
            }
        }
        Ok(Json::Object(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_stay_and_the_last_counts() {
        let value = parse(r#"{"a": "x", "b": [1, true, NaN], "c": null, "a": "y NaN"}"#).unwrap();
        assert_eq!(value.pairs().len(), 3);
        assert_eq!(value.get("a").unwrap().text(), Some("y NaN"));
        assert!(parse(&"[".repeat(5000)).is_err());
        let many = format!("[{}\"\"]", "\"\",".repeat(MOST));
        assert!(parse(&many).is_err());
        let numbers = format!("[{}0]", "0,".repeat(MOST * 2));
        assert!(parse(&numbers).is_ok());
    }

    #[test]
    fn what_python_reads_is_read() {
        for (written, read) in [
            ("1e999", "0"),
            ("-1.5E+0999", "0"),
            ("1e99", "1e99"),
            ("-12.5", "-12.5"),
            ("-Infinity", "0"),
            (r#""NaN 1e999""#, r#""NaN 1e999""#),
            (r#""\ud83d\ude00\ud800""#, r#""\ud83d\ude00\ufffd""#),
            (r#""\uDC00\\ud800""#, r#""\ufffd\\ud800""#),
        ] {
            let text = format!("[{written}, true]");
            let expected = format!("[{read}, true]");
            assert_eq!(standard(&text).unwrap_or(text.clone()), expected);
            assert_eq!(parse(&text).unwrap().items()[1], Json::True, "{text}");
        }
        let long = format!("[{}, true]", "1".repeat(400));
        assert_eq!(parse(&long).unwrap().items()[1], Json::True);
        for text in ["\\ud", "[\"\\ud8", "[\"\\ud800", "1e999é", "[\"\\"] {
            let _ = parse(text);
        }
    }
}
