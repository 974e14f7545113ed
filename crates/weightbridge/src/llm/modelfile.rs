//! `--modelfile`: what Ollama is told about a GGUF file.
//!
//! Ollama's templates are Go templates, a model's are Jinja. A family is told by the marks its Jinja
//! template writes; a template of no known family is left to Ollama, which then looks at the file
//! itself. Format: Ollama's documentation of the Modelfile.

use super::{GENERATION, files};
use ir::{Array, Limits, MetaValue, Metadata, Model, Result, ns};
use serde_json::Value;
use std::path::Path;

/// How a family marks its turns.
struct Family {
    /// Text that only templates of this family hold.
    mark: &'static str,
    template: &'static str,
    /// What stands around a system message, if that is fixed.
    system: Option<(&'static str, &'static str)>,
    stops: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        mark: "<|start_header_id|>",
        template: "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n\
                   {{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
        system: Some((
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "<|eot_id|>",
        )),
        stops: &["<|eot_id|>", "<|end_of_text|>"],
    },
    Family {
        mark: "<|im_start|>",
        template: "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n\
                   {{ end }}<|im_start|>assistant\n",
        system: Some(("<|im_start|>system\n", "<|im_end|>")),
        stops: &["<|im_end|>"],
    },
    Family {
        mark: "<start_of_turn>",
        template: "{{ range .Messages }}<start_of_turn>\
                   {{ if eq .Role \"assistant\" }}model{{ else }}user{{ end }}\n{{ .Content }}\
                   <end_of_turn>\n{{ end }}<start_of_turn>model\n",
        system: None,
        stops: &["<end_of_turn>"],
    },
    Family {
        mark: "[INST]",
        template: "{{ range .Messages }}{{ if eq .Role \"assistant\" }} {{ .Content }}</s>\
                   {{ else }}[INST] {{ .Content }} [/INST]{{ end }}{{ end }}",
        system: None,
        stops: &["[INST]", "[/INST]"],
    },
    Family {
        mark: "<|end|>",
        template: "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}\
                   <|assistant|>\n",
        system: Some(("<|system|>\n", "<|end|>")),
        stops: &["<|end|>"],
    },
    Family {
        mark: "<|START_OF_TURN_TOKEN|>",
        template: "{{ range .Messages }}<|START_OF_TURN_TOKEN|>\
                   {{ if eq .Role \"assistant\" }}<|CHATBOT_TOKEN|>\
                   {{ else if eq .Role \"system\" }}<|SYSTEM_TOKEN|>{{ else }}<|USER_TOKEN|>{{ end }}\
                   {{ .Content }}<|END_OF_TURN_TOKEN|>{{ end }}\
                   <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        system: None,
        stops: &["<|END_OF_TURN_TOKEN|>"],
    },
];

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
/// settings that came with the model.
pub(crate) fn modelfile(file: &Path, model: &Model, limits: &Limits) -> Result<String> {
    let generation = files::json(model, GENERATION, limits)?.unwrap_or_default();
    Ok(text(file, &model.metadata, &generation))
}

fn text(file: &Path, metadata: &Metadata, generation: &Value) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let mut text = format!("FROM ./{name}\n");
    let template = metadata.get(ns::GGUF, "tokenizer.chat_template");
    let template = template.and_then(MetaValue::as_str).unwrap_or_default();
    let family = FAMILIES
        .iter()
        .find(|family| template.contains(family.mark));
    if let Some(family) = family {
        text += &format!("TEMPLATE \"\"\"{}\"\"\"\n", family.template);
    } else if !template.is_empty() {
        text += "# The chat template is of no known family: Ollama reads it from the file.\n";
    }
    // Ollama's template tells only what it is told: the default of the model's own goes beside it.
    if let Some(message) = family.and_then(|family| system(template, family)) {
        text += &format!("SYSTEM \"\"\"{message}\"\"\"\n");
    }
    for (parameter, value) in parameters(metadata, generation) {
        text += &format!("PARAMETER {parameter} {value}\n");
    }
    for stop in stops(family, metadata, generation) {
        text += &format!("PARAMETER stop {}\n", Value::from(stop));
    }
    text
}

/// The system message that a template writes where a conversation has none: the one text that
/// stands, as it is, between the marks of a system turn. None where it is put together of parts, or
/// where there are several.
fn system(template: &str, family: &Family) -> Option<String> {
    let (open, close) = family.system?;
    // A template's texts are literals of Jinja, in which a line's end is spelled out, or stand free.
    let spelled = open.replace('\n', "\\n");
    let mut found: Option<&str> = None;
    for mark in [open, spelled.as_str()] {
        for part in template.split(mark).skip(1) {
            let Some((message, _)) = part.split_once(close) else {
                continue;
            };
            let put_together = ["{{", "{%", "'", "\"", "\\u", "\\x"];
            // An apostrophe in a literal is spelled with a backslash, or the other quotes are around.
            let plain = message.replace("\\'", "").replace("\\\"", "");
            if message.is_empty() || put_together.iter().any(|sign| plain.contains(sign)) {
                continue;
            }
            if found.is_some_and(|other| other != message) {
                return None;
            }
            found = Some(message);
        }
    }
    let message = found?;
    let message = message.replace("\\n", "\n").replace("\\t", "\t");
    let message = message.replace("\\'", "'").replace("\\\"", "\"");
    (!message.contains('\\') && !message.contains("\"\"\"")).then_some(message)
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

/// Where an answer ends: at the marks of the template's family, at the tokens the settings name by
/// id, and at the texts they name.
fn stops(family: Option<&Family>, metadata: &Metadata, generation: &Value) -> Vec<String> {
    let of_family = family.into_iter().flat_map(|family| family.stops);
    let of_family = of_family.map(|stop| (*stop).to_owned());
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
    for stop in of_family.chain(tokens).chain(texts) {
        if !stop.is_empty() && !all.contains(&stop) {
            all.push(stop);
        }
    }
    all
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
    fn a_family_is_told_by_its_marks() {
        let mut metadata = Metadata::new();
        let template = "{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}";
        metadata.set(
            ns::GGUF,
            "tokenizer.chat_template",
            MetaValue::text(template),
        );
        metadata.set(ns::GGUF, "general.sampling.top_k", MetaValue::I32(20));
        metadata.set(ns::GGUF, "tokenizer.ggml.eos_token_id", MetaValue::U32(1));
        let tokens = vec![b"a".to_vec().into(), b"<|end\"|>".to_vec().into()];
        let tokens = MetaValue::Array(Array::Str(tokens));
        metadata.set(ns::GGUF, "tokenizer.ggml.tokens", tokens);
        let text = text(Path::new("out/m.gguf"), &metadata, &Value::Null);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FROM ./m.gguf");
        assert!(lines[1].starts_with("TEMPLATE \"\"\"{{ range .Messages }}<|im_start|>"));
        assert!(lines.contains(&"PARAMETER top_k 20"));
        assert!(lines.contains(&"PARAMETER stop \"<|im_end|>\""));
        assert!(lines.contains(&"PARAMETER stop \"<|end\\\"|>\""));
    }

    #[test]
    fn a_template_s_own_system_message_is_kept() {
        let own = |template: &str| {
            let family = FAMILIES.iter().find(|f| template.contains(f.mark));
            system(template, family.unwrap())
        };
        let tools = "{{- '<|im_start|>system\\n' }}{{- messages[0].content }}";
        let default = "{{- '<|im_start|>system\\nYou are Q.\\nYou\\'re kind.<|im_end|>\\n' }}";
        let both = format!("{tools}{default}");
        assert_eq!(own(&both).unwrap(), "You are Q.\nYou're kind.");
        assert_eq!(own(tools), None);
        let other = default.replace("kind", "good");
        assert_eq!(own(&format!("{both}{other}")), None);
        let built = "{{- '<|im_start|>system\\nIt is ' + date + '.<|im_end|>\\n' }}";
        assert_eq!(own(built), None);
        let free = "<|im_start|>system\nYou are Q.<|im_end|>\n{{ x }}";
        assert_eq!(own(free).unwrap(), "You are Q.");
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
            "eos_token_id": [1, 2, 99], "stop_strings": ["END", "a\nb"], "max_new_tokens": 512,
            "temperature": 0.5, "top_k": 40, "repetition_penalty": 1.1, "do_sample": false,
        });
        let text = text(Path::new("m.gguf"), &metadata, &generation);
        let lines: Vec<&str> = text.lines().collect();
        let want = [
            "FROM ./m.gguf",
            "PARAMETER temperature 0",
            "PARAMETER repeat_penalty 1.1",
            "PARAMETER num_predict 512",
            "PARAMETER stop \"<|eot|>\"",
            "PARAMETER stop \"<|call|>\"",
            "PARAMETER stop \"END\"",
            "PARAMETER stop \"a\\nb\"",
        ];
        assert_eq!(lines, want);
    }
}
