//! Names that settings have imported and called with nobody asked: no `trust_remote_code` stands
//! before them.

use super::config::walks;
use crate::ledger::Ledger;
use crate::rules::{self, Rule};
use crate::standing::{Standing, is_dangerous_module, is_told, standing};
use crate::tables::loaders::{LOADERS, loads};

/// Functions that frameworks call from settings and that only compute, or seed what is random.
const COMPUTING: &[(&str, &str)] = &[
    ("functools", "partial"),
    ("numpy", "array"),
    ("numpy.random", "seed"),
    ("huggingface_hub.constants", "HUGGINGFACE_HUB_CACHE"),
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
    let parts = split(name).filter(|_| !is_computing(name));
    let Some((module, function)) = parts else {
        return;
    };
    if walks(name) || matches!(standing(module, function), Standing::Dangerous(_)) {
        ledger.note(rule, name, at, || format!("{key} {name}"));
    }
}

/// The module and the function of a name. One without a module is looked for among Python's own, as
/// `pydoc.locate` does; a word that none of them has is no name.
fn split(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once('.')
        .or_else(|| is_told("builtins", name).then_some(("builtins", name)))
}

/// Whether a dotted name is that of a function that only computes, or seeds what is random.
pub(super) fn is_computing(name: &str) -> bool {
    split(name).is_some_and(|parts| COMPUTING.contains(&parts))
}

/// Judges a dotted name that is imported and called: `rule` for what is dangerous, or a function
/// nobody knows.
pub(super) fn called(rule: Rule, key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    judge((rule, rule), key, name, at, ledger);
}

/// The same for one that is kept, for code of the model's own to call.
pub(super) fn handed(rule: Rule, key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    judge((rule, rules::REMOTE_CODE), key, name, at, ledger);
}

/// The rules are for what is dangerous and for a function nobody knows.
fn judge((rule, unknown): (Rule, Rule), key: &str, name: &str, at: u64, ledger: &mut Ledger<'_>) {
    let more = || format!("{key} {name}");
    let Some((module, function)) = split(name) else {
        return;
    };
    if is_computing(name) {
        return;
    }
    match standing(module, function) {
        Standing::Dangerous(_) | Standing::Conditional(_) => ledger.note(rule, name, at, more),
        _ if walks(name) => ledger.note(rule, name, at, more),
        Standing::LibraryFunction | Standing::UnknownFunction if computes(module) => {}
        // Recipes of SpeechBrain have its functions called, as they have its classes; so does GluonTS.
        Standing::UnknownFunction if !HOMES.iter().any(|home| within(module, home)) => {
            ledger.note(unknown, name, at, more);
        }
        Standing::LibraryFunction | Standing::UnknownFunction => {
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        // Classes that fetch or open what they are told, as pickles must not have them.
        _ if loads(LOADERS, module, function).is_some() => {
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
