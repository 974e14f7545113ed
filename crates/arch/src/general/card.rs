//! The front matter of a model card: YAML between two lines `---` at the head of a `README.md`.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Most bytes of front matter. Cards that list the results of a thousand evaluations have some 100 kB.
const BYTES_MAX: usize = 1 << 20;
/// Deepest nesting, far above that of evaluation results.
const DEPTH_MAX: usize = 64;
/// Most values, those that aliases repeat counted again.
const VALUES_MAX: usize = 1 << 18;

/// The front matter of a `README.md`; `null` if there is none. Numbers and dates stay the texts they
/// are written as; what YAML 1.1 takes for yes or no is a boolean, as it is for gguf-py.
///
/// # Errors
/// Why it cannot be read, as a text that may follow a colon.
pub fn front_matter(readme: &str) -> Result<Value, String> {
    let mut lines = readme.lines();
    if lines.next().map(|line| line.trim_start_matches('\u{feff}')) != Some("---") {
        return Ok(Value::Null);
    }
    let mut text = String::new();
    for line in lines.take_while(|line| *line != "---") {
        if text.len() + line.len() > BYTES_MAX {
            return Err(format!("the front matter has more than {BYTES_MAX} bytes"));
        }
        // What gguf-py mends: Norway in a list of languages, and tabs.
        let line = line.replace('\t', "  ");
        match line.strip_suffix("- no") {
            Some(before) => text.extend([before, "- \"no\"\n"]),
            None => text.extend([line.as_str(), "\n"]),
        }
    }
    Reading::default().read(&text)
}

/// A list or a mapping that has not ended.
enum Open {
    List(Vec<Value>),
    Mapping(Map<String, Value>, Option<Value>),
}

impl Open {
    fn end(self) -> Value {
        match self {
            Self::List(items) => Value::Array(items),
            Self::Mapping(map, _) => Value::Object(map),
        }
    }
}

#[derive(Default)]
struct Reading {
    open: Vec<(Open, usize)>,
    named: HashMap<usize, Value>,
    values: usize,
    whole: Value,
}

impl Reading {
    /// The first document of a text.
    fn read(mut self, text: &str) -> Result<Value, String> {
        for event in Parser::new_from_str(text) {
            let (event, _) = event.map_err(|error| error.to_string())?;
            match event {
                Event::Scalar(text, style, anchor, _) => self.add(scalar(&text, style), anchor)?,
                Event::SequenceStart(anchor, _) => self.begin(Open::List(Vec::new()), anchor)?,
                Event::MappingStart(anchor, _) => {
                    self.begin(Open::Mapping(Map::new(), None), anchor)?;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some((open, anchor)) = self.open.pop() {
                        self.add(open.end(), anchor)?;
                    }
                }
                Event::Alias(anchor) => {
                    let value = self.named.get(&anchor).cloned().unwrap_or_default();
                    self.values += count(&value);
                    self.add(value, 0)?;
                }
                Event::DocumentEnd => break,
                _ => {}
            }
        }
        Ok(self.whole)
    }

    fn begin(&mut self, open: Open, anchor: usize) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("it is nested more than {DEPTH_MAX} deep"));
        }
        self.open.push((open, anchor));
        Ok(())
    }

    fn add(&mut self, value: Value, anchor: usize) -> Result<(), String> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return Err(format!("it has more than {VALUES_MAX} values"));
        }
        if anchor > 0 {
            self.values += count(&value);
            self.named.insert(anchor, value.clone());
        }
        match self.open.last_mut() {
            None => self.whole = value,
            Some((Open::List(items), _)) => items.push(value),
            Some((Open::Mapping(map, key), _)) => match key.take() {
                None => *key = Some(value),
                // Cards have no keys but texts.
                Some(Value::String(key)) => drop(map.insert(key, value)),
                Some(_) => {}
            },
        }
        Ok(())
    }
}

/// How many values a value is.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    plain(text)
}

/// A text without quotes: what YAML 1.1 (section 10, the `bool` and `null` types) makes of it, but
/// for numbers and dates.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Value::Bool(false)
        }
        _ => Value::String(text.to_owned()),
    }
}

/// A card of nothing but front matter, whose values are texts, lists and mappings of them.
pub(super) fn write(map: &Map<String, Value>) -> String {
    let mut text = "---\n".to_owned();
    for (key, value) in map {
        match value {
            Value::Array(items) => {
                text.extend([key, ":\n"]);
                for item in items {
                    write_item(&mut text, item);
                }
            }
            other => text.push_str(&format!("{key}: {}\n", written(other))),
        }
    }
    text.push_str("---\n");
    text
}

fn write_item(text: &mut String, item: &Value) {
    let Value::Object(map) = item else {
        text.push_str(&format!("- {}\n", written(item)));
        return;
    };
    if map.is_empty() {
        text.push_str("- {}\n");
    }
    for (i, (key, value)) in map.iter().enumerate() {
        let lead = if i == 0 { "- " } else { "  " };
        text.push_str(&format!("{lead}{key}: {}\n", written(value)));
    }
}

/// A text as YAML: bare where it can be taken for nothing else, else between quotes with escapes.
fn written(value: &Value) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let word = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
    let bare = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| word(c) || c == ' ')
        && !text.ends_with(' ');
    if bare && plain(text).is_string() {
        return text.clone();
    }
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            // Readers refuse characters that are not printable, and fold other ends of lines.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            '\u{fffe}' | '\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What PyYAML's `safe_load` gives, but that numbers are texts.
    #[test]
    fn reads_what_cards_have() {
        let card = "---\nlicense: other # a comment\nlicense_name: \"x: y\"\ntags: [a, 'b']\n\
                    language:\n  - en\n  - no\nmodel-index:\n- name: m\n  results: []\n\
                    base_model:\n- org/m\nversion: 1.10\ninference: no\ndescription: >\n  two\n  \
                    words\nurl: https://x.org/#a\nof: &o [a]\nagain: *o\n---\nText: here\n";
        let wanted = json!({
            "license": "other", "license_name": "x: y", "tags": ["a", "b"],
            "language": ["en", "no"], "model-index": [{"name": "m", "results": []}],
            "base_model": ["org/m"], "version": "1.10", "inference": false,
            "description": "two words\n", "url": "https://x.org/#a", "of": ["a"], "again": ["a"],
        });
        assert_eq!(front_matter(card), Ok(wanted));
        assert_eq!(front_matter("# no front matter"), Ok(Value::Null));
    }

    #[test]
    fn what_is_no_yaml_is_told() {
        for (card, why) in [
            ("---\na: [1\n---\n", "flow"),
            ("---\na: b: c\n---\n", "mapping values"),
            (&format!("---\na: {}\n---\n", "[".repeat(100)), "64 deep"),
            (&format!("---\n{}\n---\n", "x".repeat(1 << 21)), "bytes"),
        ] {
            let error = front_matter(card).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        let mut bomb = "---\na0: &a0 [x, x]\n".to_owned();
        for n in 1..40 {
            let before = n - 1;
            bomb.push_str(&format!("a{n}: &a{n} [*a{before}, *a{before}]\n"));
        }
        assert!(front_matter(&bomb).unwrap_err().contains("values"));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let texts = [
            "mit",
            "no",
            "1.5",
            "a: b",
            "a #b",
            "",
            " a",
            "a ",
            "-",
            "\"q\"\\",
            "two\nlines\r\n",
            "\u{85}\u{2028}\u{7f}\u{1}é🙂",
            "https://a.b/c",
            "'",
            "null",
            "[a]",
            "\tx",
            "@a",
            "2020-01-01",
        ];
        let map = json!({
            "list": texts, "maps": texts.map(|text| json!({"name": text, "url": text})), "none": [{}],
        });
        let Value::Object(mut map) = map else {
            panic!()
        };
        for (n, text) in texts.iter().enumerate() {
            map.insert(format!("key{n}"), json!(text));
        }
        assert_eq!(front_matter(&write(&map)), Ok(Value::Object(map)));
    }
}
