//! Names that settings have imported and called with nobody asked: no `trust_remote_code` stands
//! before them.

use super::config::walks;
use crate::ledger::Ledger;
use crate::rules::{self, Rule};
use crate::standing::{Standing, is_dangerous_module, is_told, standing};
use crate::tables::loaders::loads;

/// Functions that frameworks call from settings and that only compute, or seed what is random.
const COMPUTING: &[(&str, &str)] = &[
    ("functools", "partial"),
    ("numpy", "array"),
    ("numpy.random", "seed"),
    ("operator", "not_"),
    ("pandas.tseries.frequencies", "to_offset"),
    ("random", "seed"),
    ("speechbrain.utils", "seed_everything"),
    ("torch", "manual_seed"),
    ("torch", "hamming_window"),
    ("torch", "hann_window"),
    ("torch", "stft"),
    ("torch", "tensor"),
    ("torch", "zeros"),
    ("torch.cuda", "manual_seed"),
    ("torch.cuda", "manual_seed_all"),
];
/// Packages that call their own functions by such names.
const HOMES: &[&str] = &["gluonts", "speechbrain"];
/// Packages whose functions only compute.
const COMPUTING_IN: &[&str] = &[
    "speechbrain.nnet",
    "speechbrain.processing",
    "torch.nn.functional",
    "torch.nn.init",
];

/// Judges a dotted name that is imported and only kept: `rule` for what is dangerous.
pub(super) fn kept(rule: Rule, key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    let (module, function) = name.rsplit_once('.').unwrap_or(("builtins", name));
    let told = module != "builtins" || is_told(module, function);
    let dangerous = matches!(standing(module, function), Standing::Dangerous(_));
    let computes = COMPUTING.contains(&(module, function));
    if !computes && (told && dangerous || walks(name)) {
        ledger.note(rule, name, at, || format!("{key} {name}"));
    }
}

/// Judges a dotted name that is imported and called, or kept to be called: `rule` for what is
/// dangerous, or a function nobody knows.
pub(super) fn called(rule: Rule, key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    let more = || format!("{key} {name}");
    let Some((module, function)) = name.rsplit_once('.') else {
        // `pydoc.locate` finds a name without a module among Python's own.
        let builtin = is_told("builtins", name);
        if builtin && matches!(standing("builtins", name), Standing::Dangerous(_)) {
            ledger.note(rule, name, at, more);
        }
        return;
    };
    if COMPUTING.contains(&(module, function)) {
        return;
    }
    match standing(module, function) {
        Standing::Dangerous(_) | Standing::Conditional(_) => ledger.note(rule, name, at, more),
        _ if walks(name) => ledger.note(rule, name, at, more),
        Standing::LibraryFunction | Standing::UnknownFunction if computes(module) => {}
        // Recipes of SpeechBrain have its functions called, as they have its classes; so does GluonTS.
        Standing::UnknownFunction if !HOMES.iter().any(|home| within(module, home)) => {
            ledger.note(rule, name, at, more);
        }
        Standing::LibraryFunction | Standing::UnknownFunction => {
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        // Classes that fetch or open what they are told, as pickles must not have them.
        _ if loads(module.split('.').next().unwrap_or(module), function).is_some() => {
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        _ => {}
    }
}

/// Judges a module that is imported: `rule` for what is dangerous, and for a module of nobody's
/// that it runs as code of its own.
pub(super) fn imported(rule: Rule, key: &str, module: &str, at: u64, ledger: &mut Ledger<'_>) {
    let more = || format!("{key} {module}");
    if is_dangerous_module(module) || walks(&format!("{module}.x")) {
        return ledger.note(rule, module, at, more);
    }
    match standing(module, "x") {
        Standing::Dangerous(_) | Standing::UnknownFunction if !within(module, "speechbrain") => {
            ledger.note(rules::REMOTE_CODE, module, at, more);
        }
        _ => {}
    }
}

fn computes(module: &str) -> bool {
    COMPUTING_IN.iter().any(|package| within(module, package))
}

/// Whether a module is a package or lies in it.
fn within(module: &str, package: &str) -> bool {
    let rest = module.strip_prefix(package);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
