//! `--modelfile`: what Ollama is told about a GGUF file.
//!
//! Ollama's templates are Go templates, a model's are Jinja. A family is told by the marks its Jinja
//! template writes; a template of no known family is left to Ollama, which then looks at the file
//! itself. Format: Ollama's documentation of the Modelfile.

use ir::{Array, MetaValue, Metadata, ns};
use std::path::Path;

/// How a family marks its turns.
struct Family {
    /// Text that only templates of this family hold.
    mark: &'static str,
    template: &'static str,
    stops: &'static [&'static str],
}

const FAMILIES: &[Family] = &[
    Family {
        mark: "<|start_header_id|>",
        template: "{{ range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n\
                   {{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n",
        stops: &["<|eot_id|>", "<|end_of_text|>"],
    },
    Family {
        mark: "<|im_start|>",
        template: "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n\
                   {{ end }}<|im_start|>assistant\n",
        stops: &["<|im_end|>"],
    },
    Family {
        mark: "<start_of_turn>",
        template: "{{ range .Messages }}<start_of_turn>\
                   {{ if eq .Role \"assistant\" }}model{{ else }}user{{ end }}\n{{ .Content }}\
                   <end_of_turn>\n{{ end }}<start_of_turn>model\n",
        stops: &["<end_of_turn>"],
    },
    Family {
        mark: "[INST]",
        template: "{{ range .Messages }}{{ if eq .Role \"assistant\" }} {{ .Content }}</s>\
                   {{ else }}[INST] {{ .Content }} [/INST]{{ end }}{{ end }}",
        stops: &["[INST]", "[/INST]"],
    },
    Family {
        mark: "<|end|>",
        template: "{{ range .Messages }}<|{{ .Role }}|>\n{{ .Content }}<|end|>\n{{ end }}\
                   <|assistant|>\n",
        stops: &["<|end|>"],
    },
    Family {
        mark: "<|START_OF_TURN_TOKEN|>",
        template: "{{ range .Messages }}<|START_OF_TURN_TOKEN|>\
                   {{ if eq .Role \"assistant\" }}<|CHATBOT_TOKEN|>\
                   {{ else if eq .Role \"system\" }}<|SYSTEM_TOKEN|>{{ else }}<|USER_TOKEN|>{{ end }}\
                   {{ .Content }}<|END_OF_TURN_TOKEN|>{{ end }}\
                   <|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        stops: &["<|END_OF_TURN_TOKEN|>"],
    },
];

/// The keys that are parameters of Ollama, under their names there.
const PARAMETERS: &[(&str, &str)] = &[
    ("general.sampling.temp", "temperature"),
    ("general.sampling.top_k", "top_k"),
    ("general.sampling.top_p", "top_p"),
    ("general.sampling.min_p", "min_p"),
    ("general.sampling.penalty_repeat", "repeat_penalty"),
    ("general.sampling.penalty_last_n", "repeat_last_n"),
];

/// The text of a `Modelfile` for a GGUF file of this name and with this metadata.
pub(crate) fn modelfile(file: &Path, metadata: &Metadata) -> String {
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
    for (key, parameter) in PARAMETERS {
        if let Some(value) = metadata.get(ns::GGUF, key) {
            text += &format!("PARAMETER {parameter} {value}\n");
        }
    }
    let mut stops: Vec<String> = family
        .into_iter()
        .flat_map(|family| family.stops)
        .map(|stop| (*stop).to_owned())
        .collect();
    for key in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        let token = token(metadata, &format!("tokenizer.ggml.{key}"));
        stops.extend(token.filter(|token| !stops.contains(token)));
    }
    for stop in stops {
        text += &format!("PARAMETER stop {}\n", serde_json::Value::from(stop));
    }
    text
}

/// The token that a key names by its id.
fn token(metadata: &Metadata, key: &str) -> Option<String> {
    let id = usize::try_from(metadata.get(ns::GGUF, key)?.as_u64()?).ok()?;
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
        let text = modelfile(Path::new("out/m.gguf"), &metadata);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "FROM ./m.gguf");
        assert!(lines[1].starts_with("TEMPLATE \"\"\"{{ range .Messages }}<|im_start|>"));
        assert!(lines.contains(&"PARAMETER top_k 20"));
        assert!(lines.contains(&"PARAMETER stop \"<|im_end|>\""));
        assert!(lines.contains(&"PARAMETER stop \"<|end\\\"|>\""));
    }
}
