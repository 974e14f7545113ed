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

/// Python writes and reads `NaN` and `Infinity`, which are no JSON: real configurations have them.
pub(super) fn standard(text: &str) -> Option<String> {
    if !text.contains("NaN") && !text.contains("Infinity") {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside = false;
    while let Some(c) = rest.chars().next() {
        let mut len = c.len_utf8();
        if inside {
            if c == '\\' {
                len += rest
                    .get(1..)
                    .and_then(|r| r.chars().next())
                    .map_or(0, char::len_utf8);
            }
            inside = c != '"';
            out.push_str(rest.get(..len).unwrap_or_default());
        } else {
            let word = ["-Infinity", "Infinity", "NaN"];
            if let Some(word) = word.iter().find(|word| rest.starts_with(**word)) {
                out.push('0');
                len = word.len();
            } else {
                inside = c == '"';
                out.push(c);
            }
        }
        rest = rest.get(len..).unwrap_or_default();
    }
    Some(out)
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
}
