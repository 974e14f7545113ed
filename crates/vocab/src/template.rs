//! Chat templates: one, or several with names.

use crate::files::Files;
use crate::pairs::Pairs;
use ir::{Array, Limits, MetaValue, Record, Result};
use serde_json::Value;

const DEFAULT: &str = "tokenizer.chat_template";
const JINJA: &str = "chat_template.jinja";

/// What a repository says of its templates.
#[derive(Debug, PartialEq)]
pub(crate) enum Template {
    /// One template.
    One(String),
    /// Names and templates.
    Named(Vec<(String, String)>),
}

impl Template {
    /// `chat_template.jinja` with those of `additional_chat_templates/`; else that of
    /// `tokenizer_config.json`, if it has the key at all; else `chat_template.json`. transformers
    /// takes them so; the reference converter takes the config's first.
    pub(crate) fn find(
        files: &Files<'_>,
        in_config: Option<&Value>,
        records: &mut Vec<Record>,
    ) -> Result<Option<Self>> {
        const IN_CONFIG: &str = "chat_template of tokenizer_config.json";
        let own = match in_config {
            Some(value @ (Value::String(_) | Value::Array(_))) => Self::of(value),
            None | Some(Value::Null) => None,
            Some(_) => {
                let why = "it is neither a text nor a list";
                records.push(Record::dropped("lint-template", IN_CONFIG, why));
                None
            }
        };
        if let Some(beside) = Self::beside(files)? {
            if own.is_some_and(|own| own != beside) {
                let why = format!(
                    "{JINJA} beside it is another: that counts, as in transformers; llama.cpp's \
                     converter takes this one"
                );
                records.push(Record::carried("lint-template", IN_CONFIG, why));
            }
            return Ok(Some(beside));
        }
        if in_config.is_some() {
            return Ok(own);
        }
        let object = files.object("chat_template.json")?;
        let value = object.as_ref().and_then(|o| o.get("chat_template"));
        Ok(value.and_then(Self::of))
    }

    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::One(text.clone())),
            Value::Array(list) => Some(Self::Named(list.iter().filter_map(named).collect())),
            _ => None,
        }
    }

    fn beside(files: &Files<'_>) -> Result<Option<Self>> {
        let Some(text) = files.text(JINJA)?.map(|text| unix_lines(&text)) else {
            return Ok(None);
        };
        let mut names = files.names();
        names.retain(|name| more(name).is_some());
        names.sort_unstable();
        if names.is_empty() {
            return Ok(Some(Self::One(text)));
        }
        Limits::check("chat templates", names.len() as u64, 256)?;
        let mut all = vec![("default".to_owned(), text)];
        for file in &names {
            if let (Some(name), Some(text)) = (more(file), files.text(file)?) {
                all.push((name.to_owned(), unix_lines(&text)));
            }
        }
        Ok(Some(Self::Named(all)))
    }

    /// Writes the keys. Where the reference writes the names in no order, ours is the source's.
    pub(crate) fn write(self, pairs: &mut Pairs) {
        let all = match self {
            Self::One(text) => {
                pairs.set(DEFAULT, MetaValue::text(text));
                return;
            }
            Self::Named(all) => all,
        };
        let mut names = Vec::new();
        let mut default = None;
        for (name, text) in all {
            let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
            let name: String = name.chars().map(plain).collect();
            if name == "default" {
                default = Some(text);
            } else if !name.is_empty() {
                pairs.set(format!("{DEFAULT}.{name}"), MetaValue::text(text));
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        let names = names.into_iter().map(Into::into).collect();
        pairs.set(
            "tokenizer.chat_templates",
            MetaValue::Array(Array::Str(names)),
        );
        if let Some(text) = default {
            pairs.set(DEFAULT, MetaValue::text(text));
        }
    }
}

/// Line ends as Python reads them from a file of text.
fn unix_lines(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn named(one: &Value) -> Option<(String, String)> {
    let name = one.get("name").and_then(Value::as_str).unwrap_or_default();
    let text = one.get("template")?.as_str()?;
    Some((name.to_owned(), text.to_owned()))
}

/// The name of an additional template's file, without folder and extension.
fn more(file: &str) -> Option<&str> {
    let name = file.strip_prefix("additional_chat_templates/")?;
    let name = name.strip_suffix(".jinja")?;
    (!name.contains('/')).then_some(name)
}
