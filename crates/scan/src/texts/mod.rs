//! Text that a loader runs or interprets, each kind by its own judge.

mod config;
mod export;
mod jinja;
mod json;
mod keras;
mod lex;
mod long;
mod python;
mod tensorflow;
mod yaml;

use crate::finding::Finding;
use crate::ledger::Ledger;
use crate::{rules, script};
use ir::Text;

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
        "yaml" => yaml::judge(&text.text, &mut ledger),
        "keras" | "json" => match json::parse(&text.text) {
            Ok(value) if text.language == "keras" => keras::judge(&value, &mut ledger),
            Ok(value) => {
                keras::judge(&value, &mut ledger);
                config::judge(&value, &mut ledger);
            }
            Err(what) => {
                let what = what.to_string();
                ledger.note(rules::UNREADABLE, "JSON", 0, || what);
            }
        },
        _ => {}
    }
    ledger.close()
}
