//! Names that OmegaConf puts together for Hydra: `${a.b}` stands for the value of `b` in `a`.

use super::config;
use crate::ledger::Ledger;
use crate::rules;

/// Names that are put together for one.
const STEPS: usize = 64;

/// Judges a name of what is called. `values` gives what a document has under a key; what it has not, or a
/// resolver finds (`${oc.env:X}`), somebody else says.
pub(super) fn callable(
    name: &str,
    at: u64,
    values: &dyn Fn(&str) -> Vec<String>,
    ledger: &mut Ledger<'_>,
) {
    let mut todo = vec![name.to_owned()];
    for _ in 0..STEPS {
        let Some(known) = todo.pop() else { return };
        let Some((before, rest)) = known.split_once("${") else {
            config::callable(&known, at, ledger);
            continue;
        };
        let Some((path, after)) = rest.split_once('}') else {
            continue;
        };
        let key = path.rsplit('.').next().unwrap_or(path);
        let elsewhere = path.contains([':', '$']);
        let found = if elsewhere { Vec::new() } else { values(key) };
        if found.is_empty() {
            let more = || format!("_target_: {name}");
            ledger.note(rules::REMOTE_CODE, name, at, more);
        }
        let made = found.iter().map(|value| format!("{before}{value}{after}"));
        todo.extend(made.filter(|made| made.len() <= 1024).take(STEPS));
    }
    let more = || format!("_target_: {name}");
    ledger.note(rules::REMOTE_CODE, name, at, more);
}
