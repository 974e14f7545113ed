//! `--modelfile`: what Ollama is told about a GGUF file.
//!
//! Format: Ollama's documentation of the Modelfile. The template is the room of [`super::turns`].

use super::jinja::Special;
use super::turns::Turns;
use super::{GENERATION, files};
use ir::{Array, Limits, MetaValue, Metadata, Model, Record, Result, ns};
use serde_json::Value;
use std::path::Path;

/// The parameters that Ollama has, where `generation_config.json` and where GGUF's keys tell them.
const PARAMETERS: &[(&str, &str, &str)] = &[
    ("temperature", "temperature", "temp"),
    ("top_k", "top_k", "top_k"),
    ("top_p", "top_p", "top_p"),
    ("min_p", "min_p", "min_p"),
    ("repeat_penalty", "repetition_penalty", "penalty_repeat"),
    ("repeat_last_n", "", "penalty_last_n"),
    ("num_predict", "max_new_tokens", ""),
];

/// Those that choose among tokens: none does where the most likely one is always taken.
const CHOOSING: &[&str] = &["temperature", "top_k", "top_p", "min_p"];

/// The text of a `Modelfile` for a GGUF file of this name: of its metadata, and of the generation
/// settings that came with the model. And what it does not say.
pub(crate) fn modelfile(
    file: &Path,
    model: &Model,
    limits: &Limits,
) -> Result<(String, Vec<Record>)> {
    let generation = files::json(model, GENERATION, limits)?.unwrap_or_default();
    Ok(text(file, &model.metadata, &generation))
}

fn text(file: &Path, metadata: &Metadata, generation: &Value) -> (String, Vec<Record>) {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("FROM ./{name}\n");
    let mut records = Vec::new();
    let template = metadata.get(ns::GGUF, TEMPLATE).and_then(MetaValue::as_str);
    let turns = template.and_then(|template| match turns(template, metadata) {
        Ok(turns) => {
            if !turns.0.takes_system() {
                records.push(Record::carried("modelfile-system", TEMPLATE, NO_SYSTEM));
            }
            if template.contains("strftime_now") && !turns.0.tells_day() {
                records.push(Record::carried("modelfile-day", TEMPLATE, FIXED_DAY));
            }
            Some(turns)
        }
        Err(why) => {
            text += "# The chat template is left to Ollama, which reads it from the file: no template\n\
                     # of its own could be made of it.\n";
            let why = format!("no template for Ollama could be made of it: {}", wording::printable(&why));
            records.push(Record::carried("modelfile-template", TEMPLATE, why));
            None
        }
    });
    if let Some((turns, template)) = &turns {
        text += &format!("TEMPLATE {template}\n");
        if let Some(message) = turns.default_system().and_then(quoted) {
            text += &format!("SYSTEM {message}\n");
        }
    }
    for (parameter, value) in parameters(metadata, generation) {
        text += &format!("PARAMETER {parameter} {value}\n");
    }
    let marks = turns.as_ref().map(|(turns, _)| turns.after_answer());
    for stop in stops(marks.unwrap_or_default(), metadata, generation) {
        if let Some(stop) = quoted(&stop) {
            text += &format!("PARAMETER stop {stop}\n");
        } else {
            let what = format!("stop {}", Value::from(stop));
            let why = "a Modelfile has no way to write it";
            records.push(Record::carried("modelfile-stop", what, why));
        }
    }
    (text, records)
}

const TEMPLATE: &str = "tokenizer.chat_template";
const FIXED_DAY: &str =
    "it writes the day it is used on: the Modelfile writes the one that it falls back to";
const NO_SYSTEM: &str =
    "it has no place for a system message: the Modelfile puts one before the first question";

/// A text as a Modelfile has it: between quotes as it is, there are no escapes. None where it cannot be
/// told from its quotes.
fn quoted(text: &str) -> Option<String> {
    const THREE: &str = "\"\"\"";
    if !text.contains(['"', '\n', '\r']) {
        return Some(match text.len() {
            0..=60 => format!("\"{text}\""),
            _ => format!("{THREE}{text}{THREE}"),
        });
    }
    let plain = !text.contains(THREE) && !text.starts_with('"') && !text.ends_with('"');
    plain.then(|| format!("{THREE}{text}{THREE}"))
}

/// The turns of the model's template, and Ollama's template of them.
fn turns(template: &str, metadata: &Metadata) -> std::result::Result<(Turns, String), String> {
    let special = |role: &str| {
        let id = metadata.get(ns::GGUF, &format!("tokenizer.ggml.{role}_token_id"))?;
        token(metadata, id.as_u64()?)
    };
    let special = Special {
        bos: special("bos"),
        eos: special("eos"),
    };
    let mut turns = Turns::of(template, &special)?;
    let adds = metadata.get(ns::GGUF, "tokenizer.ggml.add_bos_token");
    if let (Some(bos), true) = (&special.bos, adds != Some(&MetaValue::Bool(false))) {
        turns = turns.without_first(bos);
    }
    let go = quoted(&turns.to_go()).ok_or("a Modelfile cannot hold its text")?;
    Ok((turns, go))
}

fn parameters(metadata: &Metadata, generation: &Value) -> Vec<(&'static str, String)> {
    let greedy = generation.get("do_sample").and_then(Value::as_bool) == Some(false);
    let told = |&(parameter, name, key): &(&'static str, &str, &str)| {
        let own = generation.get(name).filter(|value| value.is_number());
        let held = metadata.get(ns::GGUF, &format!("general.sampling.{key}"));
        let value = own
            .map(ToString::to_string)
            .or_else(|| held.map(ToString::to_string));
        Some((parameter, value?))
    };
    let mut all: Vec<_> = PARAMETERS.iter().filter_map(told).collect();
    if greedy {
        all.retain(|(parameter, _)| !CHOOSING.contains(parameter));
        all.insert(0, ("temperature", "0".to_owned()));
    }
    all
}

/// Where an answer ends: at the marks that stand between it and the next question, at the tokens the
/// settings name by id, and at the texts they name.
fn stops(marks: &str, metadata: &Metadata, generation: &Value) -> Vec<String> {
    let held = ["eos", "eot", "eom"].into_iter().filter_map(|role| {
        let key = format!("tokenizer.ggml.{role}_token_id");
        metadata.get(ns::GGUF, &key)?.as_u64()
    });
    let further = one_or_many(generation.get("eos_token_id"));
    let further = further.filter_map(Value::as_u64);
    let tokens = held.chain(further).filter_map(|id| token(metadata, id));
    let texts = one_or_many(generation.get("stop_strings"));
    let texts = texts.filter_map(Value::as_str).map(str::to_owned);
    let mut all: Vec<String> = Vec::new();
    for stop in control_tokens(marks, metadata).chain(tokens).chain(texts) {
        if !stop.is_empty() && !all.contains(&stop) {
            all.push(stop);
        }
    }
    all
}

/// The control tokens within a text, in its order; not the one that a text begins with.
fn control_tokens(text: &str, metadata: &Metadata) -> impl Iterator<Item = String> {
    let array = |key| match metadata.get(ns::GGUF, key) {
        Some(MetaValue::Array(array)) => Some(array),
        _ => None,
    };
    let mut found: Vec<(usize, String)> = Vec::new();
    if let (Some(Array::Str(tokens)), Some(Array::I32(types))) = (
        array("tokenizer.ggml.tokens"),
        array("tokenizer.ggml.token_type"),
    ) {
        let bos = metadata.get(ns::GGUF, "tokenizer.ggml.bos_token_id");
        let bos = bos.and_then(MetaValue::as_u64);
        for (id, (token, kind)) in (0_u64..).zip(tokens.iter().zip(types.iter())) {
            const CONTROL: i32 = 3;
            if *kind != CONTROL || Some(id) == bos {
                continue;
            }
            let Ok(token) = std::str::from_utf8(token) else {
                continue;
            };
            if let (false, Some(place)) = (token.is_empty(), text.find(token)) {
                found.push((place, token.to_owned()));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, token)| token)
}

/// A setting that is one value or a list of them.
fn one_or_many(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    let many = value.and_then(Value::as_array);
    let one = value.filter(|value| !value.is_array());
    many.into_iter().flatten().chain(one)
}

/// The text of a token.
fn token(metadata: &Metadata, id: u64) -> Option<String> {
    let id = usize::try_from(id).ok()?;
    let MetaValue::Array(Array::Str(tokens)) = metadata.get(ns::GGUF, "tokenizer.ggml.tokens")?
    else {
        return None;
    };
    let token = tokens.get(id)?;
    Some(String::from_utf8_lossy(token).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_around_the_turns_is_the_template_s() {
        let mut metadata = Metadata::new();
        let template = "{% for m in messages %}<|im_start|>{{ m.role }}\n\
                        {{ m.content }}<|im_end|>\n{% endfor %}{{ '<|im_start|>assistant\\n' }}";
        metadata.set(
            ns::GGUF,
            "tokenizer.chat_template",
            MetaValue::text(template),
        );
        metadata.set(ns::GGUF, "general.sampling.top_k", MetaValue::I32(20));
        metadata.set(ns::GGUF, "tokenizer.ggml.eos_token_id", MetaValue::U32(1));
        let tokens = ["a", "<|end\"|>", "<|im_start|>", "<|im_end|>"];
        let tokens = tokens.map(|text| text.as_bytes().to_vec().into());
        let tokens = MetaValue::Array(Array::Str(tokens.to_vec()));
        metadata.set(ns::GGUF, "tokenizer.ggml.tokens", tokens);
        let types = MetaValue::Array(Array::I32(vec![1, 3, 3, 3]));
        metadata.set(ns::GGUF, "tokenizer.ggml.token_type", types);
        let (text, records) = text(Path::new("out/m.gguf"), &metadata, &Value::Null);
        assert!(records.is_empty(), "{records:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FROM ./m.gguf");
        assert!(lines[1].starts_with("TEMPLATE \"\"\"{{ if .System }}<|im_start|>system"));
        assert!(lines.contains(&"PARAMETER top_k 20"));
        let stops = [
            "PARAMETER stop \"<|im_end|>\"",
            "PARAMETER stop \"<|im_start|>\"",
            "PARAMETER stop \"\"\"<|end\"|>\"\"\"",
        ];
        assert!(lines.ends_with(&stops), "{lines:?}");
    }

    #[test]
    fn generation_settings_count_where_gguf_has_no_key_for_them() {
        let mut metadata = Metadata::new();
        let tokens = ["a", "<|eot|>", "<|call|>"].map(|text| text.as_bytes().to_vec().into());
        let tokens = MetaValue::Array(Array::Str(tokens.to_vec()));
        metadata.set(ns::GGUF, "tokenizer.ggml.tokens", tokens);
        metadata.set(ns::GGUF, "tokenizer.ggml.eos_token_id", MetaValue::U32(1));
        metadata.set(ns::GGUF, "general.sampling.temp", MetaValue::F32(0.5));
        let generation = serde_json::json!({
            "eos_token_id": [1, 2, 99], "stop_strings": ["END", "a\\\nb", "\"\"\""], "max_new_tokens": 512,
            "temperature": 0.5, "top_k": 40, "repetition_penalty": 1.1, "do_sample": false,
        });
        let (text, _) = text(Path::new("m.gguf"), &metadata, &generation);
        let lines: Vec<&str> = text.lines().collect();
        let want = [
            "FROM ./m.gguf",
            "PARAMETER temperature 0",
            "PARAMETER repeat_penalty 1.1",
            "PARAMETER num_predict 512",
            "PARAMETER stop \"<|eot|>\"",
            "PARAMETER stop \"<|call|>\"",
            "PARAMETER stop \"END\"",
            "PARAMETER stop \"\"\"a\\",
            "b\"\"\"",
        ];
        assert_eq!(lines, want);
    }
}
