//! JSON that loaders turn into calls, other than by keys of Hydra's and Keras's kind.
//!
//! | who reads it | how it is told | what is called |
//! |---|---|---|
//! | GluonTS | `__kind__` | `class`, found by `pydoc.locate` |
//! | jsonpickle | `py/object`, `py/type`, `py/function`, `py/reduce`, `py/mod`, `py/repr` | that name; `py/repr` is evaluated |
//! | LangChain | `"type": "constructor"` | `id`, joined by dots |
//! | Haystack | `components` with a `type` each | the module of `type` is imported |
//! | smolagents | `tools` with `code` | the code, as Python |
//! | VS Code | `tasks` with `runOn: folderOpen` | `command` |
//! | onnxruntime-genai | `custom_ops_library`, `provider_options` | a library for the machine |

use super::called::{called, imported, kept};
use super::json::Json;
use super::{config, python};
use crate::ledger::Ledger;
use crate::rules;

/// How deep objects are looked for: deeper than any document that is parsed (128).
const DEPTH: u8 = 130;
/// Keys of jsonpickle's whose texts are names of classes and functions.
const PICKLED: &[&str] = &["py/function", "py/object", "py/type"];
/// Texts of one value that are looked at as libraries.
const LIBRARIES: usize = 1000;

/// Judges every object of a document. `beside` says that a library the document names lies in its
/// own folder.
pub(super) fn judge(value: &Json, beside: bool, ledger: &mut Ledger<'_>) {
    walk(value, beside, DEPTH, ledger);
}

fn walk(value: &Json, beside: bool, depth: u8, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    for inner in value.items() {
        walk(inner, beside, depth, ledger);
    }
    if value.pairs().is_empty() {
        return;
    }
    gluonts(value, ledger);
    langchain(value, ledger);
    haystack(value, ledger);
    agent(value, ledger);
    tasks(value, ledger);
    for (name, inner) in value.pairs() {
        match (name.as_str(), inner) {
            ("custom_ops_library", Json::Text(file)) => library(name, file, beside, ledger),
            ("provider_options", _) => provided(inner, beside, depth, &mut 0, ledger),
            _ => jsonpickle(name, inner, ledger),
        }
        walk(inner, beside, depth, ledger);
    }
}

fn gluonts(value: &Json, ledger: &mut Ledger<'_>) {
    let kinds = || value.pairs().iter().filter(|(key, _)| key == "__kind__");
    if kinds().next().is_none() {
        return;
    }
    // A class or a function that is only named.
    let named = kinds().all(|(_, kind)| kind.text() == Some("type"));
    let judge = if named { kept } else { called };
    // Every value of a name that is there twice: parsers disagree on which counts.
    for (key, class) in value.pairs() {
        if key == "class"
            && let Some(class) = class.text()
        {
            judge(rules::CONFIG_CALLABLE, "GluonTS has", class, 0, ledger);
        }
    }
}

fn jsonpickle(key: &str, value: &Json, ledger: &mut Ledger<'_>) {
    let Some(name) = value.text() else { return };
    if key == "py/repr" {
        let more = || format!("jsonpickle evaluates {name}");
        ledger.note(rules::CONFIG_CALLABLE, key, 0, more);
    } else if key == "py/mod" {
        imported(rules::CONFIG_CALLABLE, key, name, 0, ledger);
    } else if PICKLED.contains(&key) {
        called(rules::CONFIG_CALLABLE, key, name, 0, ledger);
    }
}

fn langchain(value: &Json, ledger: &mut Ledger<'_>) {
    if value.get("type").and_then(Json::text) != Some("constructor") {
        return;
    }
    let parts = value.get("id").map(Json::items).unwrap_or_default();
    let parts: Vec<&str> = parts.iter().take(64).filter_map(Json::text).collect();
    if parts.len() > 1 {
        let name = parts.join(".");
        called(rules::CONFIG_CALLABLE, "LangChain makes", &name, 0, ledger);
    }
}

fn haystack(value: &Json, ledger: &mut Ledger<'_>) {
    let parts = value.get("components").map(Json::pairs).unwrap_or_default();
    for (_, part) in parts {
        if let Some(class) = part.get("type").and_then(Json::text) {
            config::target("type", class, 0, ledger);
        }
    }
}

/// Tools of an agent, which bring their own code.
fn agent(value: &Json, ledger: &mut Ledger<'_>) {
    let tools = value.get("tools").map(Json::items).unwrap_or_default();
    let named = tools.iter().filter(|tool| tool.get("name").is_some());
    let own = matches!(value.get("requirements"), Some(Json::Array(_)))
        && value.get("name").is_some()
        || !tools.is_empty();
    let own = own.then_some(value);
    for code in named.chain(own).filter_map(|tool| tool.get("code")) {
        if let Some(code) = code.text() {
            python::judge(code, ledger);
        }
    }
}

/// Commands that an editor runs when it opens the folder.
fn tasks(value: &Json, ledger: &mut Ledger<'_>) {
    let all = value.get("tasks").map(Json::items).unwrap_or_default();
    for task in all {
        let on = task.get("runOptions").and_then(|run| run.get("runOn"));
        if on.and_then(Json::text) == Some("folderOpen") {
            let more = || task.shown();
            ledger.note(rules::REMOTE_CODE, "folderOpen", 0, more);
        }
    }
}

/// A library that the runtime loads into itself.
fn library(key: &str, file: &str, beside: bool, ledger: &mut Ledger<'_>) {
    let more = || format!("{key}: {file}");
    let path = file.contains(['/', '\\', ':']);
    if path || beside {
        ledger.note(rules::CONFIG_CALLABLE, file, 0, more);
    } else if !file.is_empty() {
        // One that is installed on the machine, if it has one of this name.
        ledger.note(rules::NATIVE_CODE, file, 0, more);
    }
}

/// Libraries that a provider of the runtime loads. Those of a plain name come with the runtime.
fn provided(value: &Json, beside: bool, depth: u8, seen: &mut usize, ledger: &mut Ledger<'_>) {
    let Some(depth) = depth.checked_sub(1).filter(|_| *seen < LIBRARIES) else {
        return;
    };
    for inner in value.items() {
        provided(inner, beside, depth, seen, ledger);
    }
    for (key, inner) in value.pairs() {
        if let Some(file) = inner.text().filter(|file| is_library(file)) {
            *seen += 1;
            if key != "custom_ops_library" && (beside || file.contains(['/', '\\', ':'])) {
                library(key, file, beside, ledger);
            }
        }
        provided(inner, beside, depth, seen, ledger);
    }
}

/// Whether a file is named like a library of the machine.
pub fn is_library(file: &str) -> bool {
    let base = file.rsplit(['/', '\\']).next().unwrap_or(file);
    let base = base.to_ascii_lowercase();
    let ends = [".so", ".dll", ".dylib"];
    ends.iter().any(|end| base.ends_with(end)) || base.contains(".so.")
}

#[cfg(test)]
mod tests {
    use super::super::json::parse;
    use super::*;
    use crate::testing::noted_rules;

    fn findings(text: &str) -> Vec<&'static str> {
        let value = parse(text).unwrap();
        noted_rules("a.json", |ledger| judge(&value, false, ledger))
    }

    #[test]
    fn objects_that_call() {
        for text in [
            r#"{"__kind__": "instance", "class": "os.system", "args": ["id"]}"#,
            r#"[{"a": {"__kind__": "call", "class": "builtins.exec"}}]"#,
            r#"{"__kind__": "instance", "class": "exec", "class": "x"}"#,
            r#"{"__kind__": "instance", "class": "my_code.run"}"#,
            r#"{"__kind__": "type", "class": "os.system"}"#,
            r#"{"__kind__": "type", "class": "exec"}"#,
            r#"{"__kind__": "instance", "class": "torch.nn.functional.torch.hub.load"}"#,
            r#"{"py/reduce": [{"py/function": "os.system"}, {"py/tuple": ["id"]}]}"#,
            r#"{"py/reduce": [{"py/type": "subprocess.Popen"}, {"py/tuple": ["id"]}]}"#,
            r#"{"py/object": "subprocess.Popen", "args": ["id"]}"#,
            r#"{"py/repr": "os/os.system('id')"}"#,
            r#"{"a": {"py/mod": "os"}}"#,
            r#"{"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {}}"#,
            r#"{"components": {"x": {"type": "subprocess.Popen"}}}"#,
            r#"{"model": {"decoder": {"session_options": {"custom_ops_library": "lib/evil.so"}}}}"#,
            r#"{"session_options": {"provider_options": [{"qnn": {"custom_ops_library": "C:\\evil.dll"}}]}}"#,
            r#"{"provider_options": [{"qnn": {"backend_path": "./evil.dll"}}]}"#,
            r#"{"provider_options": [{"x": [{"y": "/tmp/libevil.so.1"}]}]}"#,
        ] {
            assert!(findings(text).contains(&"config-callable"), "{text}");
        }
    }

    #[test]
    fn what_programs_write_is_harmless() {
        for text in [
            r#"{"__kind__": "instance", "class": "gluonts.torch.model.predictor.PyTorchPredictor"}"#,
            r#"{"__kind__": "instance", "class": "torch.nn.Linear", "args": [1]}"#,
            r#"{"__kind__": "type", "class": "gluonts.time_feature._base.hour_of_day"}"#,
            r#"{"__kind__": "type", "class": "my_code.feature"}"#,
            r#"{"__kind__": "instance", "class": "functools.partial", "args": []}"#,
            r#"{"py/object": "collections.OrderedDict", "a": 1}"#,
            r#"{"py/object": "my_code.Config", "py/state": {}}"#,
            r#"{"lc": 1, "type": "constructor", "id": ["langchain", "prompts", "prompt", "PromptTemplate"]}"#,
            r#"{"components": {"x": {"type": "haystack.components.builders.PromptBuilder"}}}"#,
            r#"{"components": {"schemas": {"type": "object"}}, "type": "os.system"}"#,
            r#"{"class": "os.system", "code": "import os", "tools": []}"#,
            r#"{"tools": [{"name": "x", "description": "y"}], "tasks": [{"command": "make"}]}"#,
            r#"{"tasks": [{"command": "make", "runOptions": {"runOn": "default"}}]}"#,
            r#"{"provider_options": [{"qnn": {"backend_path": "QnnHtp.dll", "x": "a/b"}}, {"cuda": {}}]}"#,
            r#"{"custom_ops_library": ""}"#,
        ] {
            assert_eq!(findings(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn code_and_commands_beside_a_model() {
        let tool = r#"{"tools": [{"name": "x", "code": "import os\nos.system('id')"}]}"#;
        assert_eq!(findings(tool), ["python-code", "python-danger"]);
        let own = r#"{"name": "x", "code": "class X: pass", "requirements": ["smolagents"]}"#;
        assert_eq!(findings(own), ["python-code"]);
        let task = r#"{"tasks": [{"command": "x", "runOptions": {"runOn": "folderOpen"}}]}"#;
        assert_eq!(findings(task), ["remote-code"]);
    }

    #[test]
    fn libraries_are_worse_where_they_lie_beside() {
        let text = r#"{"custom_ops_library": "onnx_custom_ops.dll"}"#;
        assert_eq!(findings(text), ["native-code"]);
        let value = parse(text).unwrap();
        let found = noted_rules("a.json", |ledger| judge(&value, true, ledger));
        assert_eq!(found, ["config-callable"]);
    }
}
