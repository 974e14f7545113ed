//! Text that a loader runs or interprets, each kind by its own judge.

mod called;
mod config;
mod export;
mod hyperpyyaml;
mod interpolation;
mod jinja;
mod json;
mod keras;
mod lex;
mod long;
mod objects;
mod python;
mod requirements;
mod tensorflow;
mod yaml;

use crate::finding::Finding;
use crate::ledger::Ledger;
use crate::{rules, script};
use ir::Text;
use std::borrow::Cow;

pub use objects::is_library;

/// Judges a text by the language its reader says it is in.
pub(crate) fn judge(text: &Text) -> Vec<Finding> {
    let mut ledger = Ledger::new(&text.place);
    match text.language {
        "torchscript" => script::judge(&text.text, &mut ledger),
        "jinja" => jinja::judge(&text.text, 0, &mut ledger),
        "python" => python::judge(&text.text, &mut ledger),
        "export" => export::judge(&text.text, &mut ledger),
        "tensorflow" => tensorflow::judge(&text.text, &mut ledger),
        "long json" => long::judge(&text.text, &mut ledger),
        "requirements" => requirements::judge(&text.text, &mut ledger),
        "environment" => {
            yaml::judge(&text.text, &mut ledger);
            requirements::environment(&text.text, &mut ledger);
        }
        "yaml" => yaml::judge(&text.text, &mut ledger),
        "keras" | "json" | "pipeline" | "json with its library" => {
            document(text.language, &text.text, &mut ledger);
        }
        _ => {}
    }
    ledger.close()
}

/// Where Python's `splitlines` ends a line, and so pip and, from Python 3.13 on, `site`.
pub const LINE_ENDS: &[char] = &[
    '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}',
];

/// A text of JSON as others parse it: without the `NaN` and `Infinity` that Python writes.
pub fn standard_json(text: &str) -> Cow<'_, str> {
    json::standard(text).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// What a finding says that is about JSON which is nested too deep, or holds too much, to be read here.
pub const LARGE_JSON: &str = "JSON beyond limits";

/// A document in JSON.
fn document(language: &str, text: &str, ledger: &mut Ledger<'_>) {
    match json::parse(text) {
        Ok(value) if language == "keras" => keras::judge(&value, ledger),
        Ok(value) => {
            keras::judge(&value, ledger);
            config::judge(&value, language == "pipeline", ledger);
            objects::judge(&value, language == "json with its library", ledger);
        }
        Err(what) => {
            // Editors allow comments in their settings.
            if text.contains("\"folderOpen\"") {
                let more = || "a command that an editor runs when it opens the folder".to_owned();
                ledger.note(rules::REMOTE_CODE, "folderOpen", 0, more);
            }
            // What is nested so deeply, or has so much in it, is no fragment.
            let beyond = what.is_data() || what.to_string().contains("recursion limit");
            let of = if beyond { LARGE_JSON } else { "JSON" };
            ledger.note(rules::UNREADABLE, of, 0, || what.to_string());
        }
    }
}
