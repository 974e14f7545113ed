//! Configurations in JSON: what they make a loader import, fetch or run.

use super::jinja;
use super::json::Json;
use crate::ledger::Ledger;
use crate::rules;
use crate::standing::{Standing, standing};

/// How deep settings are looked for: model, parts of it, their quantization.
const DEPTH: u8 = 64;

/// Judges a configuration of transformers, diffusers, PEFT, sentence-transformers or Hydra.
pub(super) fn judge(value: &Json, ledger: &mut Ledger<'_>) {
    object(value, DEPTH, ledger);
    // `modules.json`: a list of layers, each with the class that is imported for it.
    for item in value.items() {
        if let (Some(name), Some(_)) = (item.get("type").and_then(Json::text), item.get("path"))
            && name.contains('.')
        {
            class(name, "type", ledger);
        }
    }
    // `model_index.json`: each part with the library and class it is made by.
    if value.get("_class_name").is_some() && value.get("_diffusers_version").is_some() {
        for (name, part) in value.pairs() {
            if let [Json::Text(library), Json::Text(class)] = part.items() {
                part_of(name, library, class, ledger);
            }
        }
    }
}

fn object(value: &Json, depth: u8, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for item in value.items() {
        object(item, depth, ledger);
    }
    for (name, inner) in value.pairs() {
        let shown = || format!("{name}: {}", inner.shown());
        match (name.as_str(), inner) {
            ("trust_remote_code", Json::True)
            | ("auto_map" | "custom_pipelines", Json::Object(_) | Json::Array(_)) => {
                ledger.note(rules::REMOTE_CODE, name, 0, shown);
            }
            (
                "attn_implementation" | "_attn_implementation" | "_attn_implementation_internal",
                Json::Text(kernel),
            ) if kernel.contains('/') => {
                ledger.note(rules::REMOTE_CODE, name, 0, shown);
            }
            ("parent_library", Json::Text(module)) => {
                class(&format!("{module}.Model"), name, ledger);
            }
            ("_target_", Json::Text(target)) => callable(target, 0, ledger),
            ("chat_template", Json::Text(template)) => jinja::judge(template, 0, ledger),
            ("chat_template" | "chat_templates", _) => templates(inner, ledger),
            ("weight_map", Json::Object(files)) => {
                for (tensor, file) in files {
                    if let Some(file) = file.text().filter(|file| leaves(file)) {
                        let more = || format!("{tensor} lies in {file}");
                        ledger.note(rules::EXTERNAL_PATH, file, 0, more);
                    }
                }
            }
            (_, Json::Text(path)) if name.ends_with("_file") && path.contains("../") => {
                ledger.note(rules::EXTERNAL_PATH, path, 0, shown);
            }
            _ => {}
        }
        object(inner, depth, ledger);
    }
}

/// Whether a name of a file leaves the folder it is looked for in.
fn leaves(file: &str) -> bool {
    let drive = file.as_bytes().get(1) == Some(&b':');
    file.starts_with(['/', '\\']) || drive || file.split(['/', '\\']).any(|part| part == "..")
}

/// Several templates: a list of names and texts, or texts by name.
fn templates(value: &Json, ledger: &mut Ledger<'_>) {
    let listed = value.items().iter().filter_map(|item| item.get("template"));
    let named = value.pairs().iter().map(|(_, inner)| inner);
    for template in listed.chain(named).filter_map(Json::text) {
        jinja::judge(template, 0, ledger);
    }
}

/// Libraries whose classes are imported by design.
const CLASSES_OF: &[&str] = &[
    "sentence_transformers",
    "transformers",
    "diffusers",
    "peft",
    "timm",
];

/// A dotted name of a class that a loader imports by itself.
fn class(name: &str, key: &str, ledger: &mut Ledger<'_>) {
    let Some((module, class)) = name.rsplit_once('.') else {
        return;
    };
    let first = module.split('.').next().unwrap_or_default();
    if CLASSES_OF.contains(&first) {
        return;
    }
    let more = || format!("{key}: {name}");
    match standing(module, class) {
        Standing::Dangerous(_) => ledger.note(rules::CONFIG_CALLABLE, name, 0, more),
        _ => ledger.note(rules::REMOTE_CODE, name, 0, more),
    }
}

/// A dotted name that Hydra and its kind import and call.
pub(super) fn callable(name: &str, at: u64, ledger: &mut Ledger<'_>) {
    let Some((module, function)) = name.rsplit_once('.') else {
        return;
    };
    let more = || format!("_target_: {name}");
    match standing(module, function) {
        Standing::Dangerous(_) | Standing::Conditional(_) => {
            ledger.note(rules::CONFIG_CALLABLE, name, at, more);
        }
        Standing::LibraryFunction | Standing::UnknownFunction => {
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        _ => {}
    }
}

/// A part of a pipeline of diffusers.
fn part_of(name: &str, library: &str, class: &str, ledger: &mut Ledger<'_>) {
    const KNOWN: &[&str] = &[
        "diffusers",
        "transformers",
        "onnxruntime.training",
        "optimum",
        "flax",
        "k_diffusion",
        "stable_diffusion",
        "deprecated",
        "paint_by_example",
        "semantic_stable_diffusion",
    ];
    let first = library.split('.').next().unwrap_or_default();
    if KNOWN.contains(&first) || KNOWN.contains(&library) {
        return;
    }
    let more = || format!("{name}: [{library}, {class}]");
    match standing(library, class) {
        Standing::Dangerous(_) => ledger.note(rules::CONFIG_CALLABLE, library, 0, more),
        _ => ledger.note(rules::REMOTE_CODE, library, 0, more),
    }
}

#[cfg(test)]
mod tests {
    use super::super::json;
    use super::*;

    fn findings(text: &str) -> Vec<(&'static str, String)> {
        let mut ledger = Ledger::new("config.json");
        judge(&json::parse(text).unwrap(), &mut ledger);
        ledger
            .close()
            .into_iter()
            .map(|f| (f.rule, f.what))
            .collect()
    }

    #[test]
    fn honest_configurations_say_nothing() {
        for text in [
            r#"{"architectures": ["LlamaForCausalLM"], "torch_dtype": "bfloat16", "rope": {"f": 1e400}}"#
                .replace("1e400", "1.5").as_str(),
            r#"{"tokenizer_file": "/home/user/.cache/tokenizer.json", "chat_template": "{{ messages }}"}"#,
            r#"[{"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"}]"#,
            r#"{"_class_name": "P", "_diffusers_version": "0", "unet": ["diffusers", "UNet"]}"#,
            r#"{"auto_mapping": {"parent_library": "transformers.models.llama.modeling_llama"}}"#,
            r#"{"_target_": "torch.nn.Linear", "weight_map": {"a": "model-1.safetensors"}}"#,
            r#"{"auto_map": null, "trust_remote_code": false, "attn_implementation": "sdpa"}"#,
        ] {
            assert_eq!(findings(text), [], "{text}");
        }
    }

    #[test]
    fn what_imports_and_fetches_is_told() {
        for (text, rule) in [
            (
                r#"{"auto_map": {"AutoModel": "modeling.M"}}"#,
                "remote-code",
            ),
            (
                r#"{"text_config": {"auto_map": {"AutoConfig": "a--b.C"}}}"#,
                "remote-code",
            ),
            (
                r#"{"attn_implementation": "someone/kernel"}"#,
                "remote-code",
            ),
            (
                r#"{"auto_mapping": {"parent_library": "os"}}"#,
                "config-callable",
            ),
            (
                r#"{"_target_": "os.system", "command": "id"}"#,
                "config-callable",
            ),
            (
                r#"[{"path": "", "type": "subprocess.Popen"}]"#,
                "config-callable",
            ),
            (r#"[{"path": "", "type": "custom.Layer"}]"#, "remote-code"),
            (
                r#"{"chat_template": "{{ x.__class__ }}"}"#,
                "template-escape",
            ),
            (
                r#"{"chat_template": [{"name": "d", "template": "{{ x.__class__ }}"}]}"#,
                "template-escape",
            ),
            (r#"{"weight_map": {"a": "../../secret"}}"#, "external-path"),
            (r#"{"vocab_file": "../../../etc/passwd"}"#, "external-path"),
        ] {
            assert_eq!(findings(text).first().map(|f| f.0), Some(rule), "{text}");
        }
    }
}
