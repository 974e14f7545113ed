//! Pickles that texts of JSON hold in base64: stable-baselines3 keeps them so, under `:serialized:`.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Pickles taken from one document.
pub(super) const MOST: usize = 1000;
/// The key under which every text is unpickled, however it begins.
const SERIALIZED: &str = ":serialized:";

/// The keys and bytes of texts that may be pickles. A document that is no JSON has none.
pub(super) fn pickles(text: &str) -> Vec<(String, Vec<u8>)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Most documents have none, and are not parsed for it.
    if !text.contains("gA") && !text.contains("\\u") && !text.contains(SERIALIZED) {
        return Vec::new();
    }
    let Texts(found) = serde_json::from_str(&scan::standard_json(text)).unwrap_or_default();
    found
}

#[derive(Default)]
struct Texts(Vec<(String, Vec<u8>)>);

impl Texts {
    fn take(&mut self, key: &str, other: Self) {
        for (name, bytes) in other.0 {
            let name = if name.is_empty() {
                key.to_owned()
            } else {
                name
            };
            // One more tells that there are more.
            if self.0.len() <= MOST {
                self.0.push((name, bytes));
            }
        }
    }

    /// A text, whatever it stands under.
    fn of(key: &str, text: &str) -> Self {
        let begins = text.trim_start().as_bytes();
        let protocol = matches!(begins, [b'g', b'A', b'E'..=b'X', ..]);
        if key != SERIALIZED && !protocol {
            return Self::default();
        }
        let mut found = vec![(key.to_owned(), decode(text, false))];
        if text.contains(['-', '_']) {
            found.push((key.to_owned(), decode(text, true)));
        }
        Self(found)
    }
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Walk)
    }
}

/// A value: its texts are looked at, and all it holds.
struct Walk;

impl<'de> Visitor<'de> for Walk {
    type Value = Texts;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_str<E>(self, text: &str) -> Result<Texts, E> {
        Ok(Texts::of("", text))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_unit<E>(self) -> Result<Texts, E> {
        Ok(Texts::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Texts, A::Error> {
        let mut all = Texts::default();
        while let Some(item) = from.next_element::<Texts>()? {
            all.take("", item);
        }
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Texts, A::Error> {
        let mut all = Texts::default();
        while let Some(key) = from.next_key::<String>()? {
            let value = if key == SERIALIZED {
                let value: serde_json::Value = from.next_value()?;
                let text = value.as_str();
                text.map(|text| Texts::of(&key, text)).unwrap_or_default()
            } else {
                from.next_value::<Texts>()?
            };
            all.take(&key, value);
        }
        Ok(all)
    }
}

/// Base64 as Python's `b64decode` reads it: what is not of its alphabet is passed over, and so is all
/// that follows a whole padding. `address` says that the alphabet is the one for addresses.
fn decode(text: &str, address: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    // Bits not yet given out, how many, the place in a group of four, and signs of padding.
    let (mut bits, mut held, mut place, mut pads) = (0u32, 0u32, 0u32, 0u32);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' if !address => 62,
            b'-' if address => 62,
            b'/' if !address => 63,
            b'_' if address => 63,
            b'=' => {
                pads += 1;
                if place >= 2 && place + pads >= 4 {
                    break;
                }
                continue;
            }
            _ => continue,
        };
        pads = 0;
        place = (place + 1) % 4;
        bits = ((bits << 6) | u32::from(value)) & 0xfff;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).unwrap_or_default());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_decoded_as_python_does() {
        assert_eq!(decode("gASVAA==", false), [0x80, 4, 0x95, 0]);
        // Python's `base64.b64decode("g!A\nSV-AA==XYZ")`.
        assert_eq!(decode("g!A\nSV-AA==XYZ", false), [0x80, 4, 0x95, 0]);
        assert_eq!(decode("-_-_", true), [0xfb, 0xff, 0xbf]);
        assert_eq!(decode("=A=B=", false), [0]);
    }

    #[test]
    fn only_what_may_be_a_pickle_is_taken() {
        let keys = |text: &str| {
            let all = pickles(text).into_iter();
            all.map(|(key, _)| key).collect::<Vec<_>>()
        };
        let policy =
            r#"{"policy_class": {":type:": "x", ":serialized:": "gASVAA=="}, "n": [1, 2.5, null]}"#;
        assert_eq!(keys(policy), [":serialized:"]);
        let text = r#"{"policy_class": {":serialized:": "Y29zCg=="}}"#;
        assert_eq!(
            pickles(text),
            [(":serialized:".to_owned(), b"cos\n".to_vec())]
        );
        assert_eq!(keys(r#"{"a": [["gAJ9Lg=="], NaN]}"#), ["a"]);
        assert_eq!(keys(r#"{"a": "\u0067AN9Lg=="}"#), ["a"]);
        for text in [
            r#"{"vocab": {"gAJ9Lg": 1, "gA": 2}, "x": "gAzette"}"#,
            r#"{"a": "Y29zCg==", "gA": 1}"#,
            "[1, gA",
        ] {
            assert_eq!(keys(text), [""; 0], "{text}");
        }
    }
}
