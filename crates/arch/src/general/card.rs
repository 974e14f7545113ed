//! The front matter of a model card: the little YAML that model cards use.

use serde_json::{Map, Value};

/// The front matter of a `README.md` as an object of its top-level scalars and lists; `null` if
/// there is none. Nested mappings, such as evaluation results, are left out.
pub fn front_matter(readme: &str) -> Value {
    let mut lines = readme.lines();
    if lines.next().map(|line| line.trim_start_matches('\u{feff}')) != Some("---") {
        return Value::Null;
    }
    let body: Vec<&str> = lines.take_while(|line| *line != "---").collect();
    let mut map = Map::new();
    let mut at = 0;
    while let Some(line) = body.get(at) {
        at += 1;
        let top = !line.starts_with([' ', '\t', '-', '#']);
        let Some((key, rest)) = line.split_once(':').filter(|_| top) else {
            continue;
        };
        let rest = rest.trim();
        let mut block = Vec::new();
        while let Some(more) = body
            .get(at)
            .filter(|l| l.is_empty() || l.starts_with([' ', '\t', '-']))
        {
            block.push(*more);
            at += 1;
        }
        let value = match rest {
            "" => items(&block),
            "|" | "|-" | ">" | ">-" => {
                let glue = if rest.starts_with('|') { "\n" } else { " " };
                let lines: Vec<&str> = block.iter().map(|line| line.trim()).collect();
                Some(Value::String(lines.join(glue).trim().to_owned()))
            }
            _ => Some(scalar(rest)),
        };
        if let Some(value) = value {
            map.insert(unquoted(key).to_owned(), value);
        }
    }
    Value::Object(map)
}

/// A block of `- item` lines; none for anything else.
fn items(block: &[&str]) -> Option<Value> {
    let lines: Vec<&str> = block
        .iter()
        .map(|line| line.trim())
        .filter(|l| !l.is_empty())
        .collect();
    if lines.is_empty() {
        return Some(Value::Null);
    }
    let items: Option<Vec<Value>> = lines
        .iter()
        .map(|line| {
            let item = line.strip_prefix('-')?;
            let item = item.trim();
            // A mapping inside a list has a colon and a space; an address has no space.
            if !item.starts_with(['"', '\'']) && (item.contains(": ") || item.ends_with(':')) {
                return None;
            }
            Some(scalar(item))
        })
        .collect();
    items.map(Value::Array)
}

fn scalar(text: &str) -> Value {
    let text = text.trim();
    if let Some(inside) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        let items = inside
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        return Value::Array(items.map(scalar).collect());
    }
    let plain = unquoted(text);
    if plain.len() != text.len() {
        return Value::String(plain.to_owned());
    }
    // A comment begins after a space.
    let plain = plain.split(" #").next().unwrap_or(plain).trim_end();
    match plain {
        "" | "null" | "~" => Value::Null,
        "true" | "True" => Value::Bool(true),
        "false" | "False" => Value::Bool(false),
        _ => Value::String(plain.to_owned()),
    }
}

fn unquoted(text: &str) -> &str {
    for quote in ['"', '\''] {
        let inside = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote));
        if let Some(inside) = inside {
            return inside;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_what_cards_have() {
        let card = "---\nlicense: other # a comment\nlicense_name: \"x: y\"\ntags: [a, 'b']\n\
                    language:\n  - en\n  - no\nmodel-index:\n- name: m\n  results: []\n\
                    base_model:\n- org/m\n---\nText: here\n";
        let wanted = json!({
            "license": "other", "license_name": "x: y", "tags": ["a", "b"],
            "language": ["en", "no"], "base_model": ["org/m"],
        });
        assert_eq!(front_matter(card), wanted);
        assert_eq!(front_matter("# no front matter"), Value::Null);
    }
}
