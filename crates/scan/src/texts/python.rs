//! Python beside a model, which runs when the loader is told to trust it.

use super::lex::{Token, tokens};
use crate::ledger::Ledger;
use crate::rules;
use std::collections::HashMap;

/// Built-in functions that run text as code.
const RUNNERS: &[&str] = &["__import__", "eval", "exec", "execfile"];
/// Modules of which any use starts programs, talks to others or loads code from data.
const MODULES: &[&str] = &["marshal", "pty", "subprocess", "commands", "telnetlib"];
/// Functions by their module.
const FUNCTIONS: &[(&str, &str)] = &[
    ("os", "execl"),
    ("os", "execle"),
    ("os", "execlp"),
    ("os", "execv"),
    ("os", "execve"),
    ("os", "execvp"),
    ("os", "execvpe"),
    ("os", "fork"),
    ("os", "popen"),
    ("os", "posix_spawn"),
    ("os", "spawnl"),
    ("os", "spawnv"),
    ("os", "startfile"),
    ("os", "system"),
    ("posix", "system"),
    ("nt", "system"),
    ("platform", "popen"),
    ("code", "interact"),
    ("runpy", "run_path"),
    ("runpy", "run_module"),
    ("pickle", "loads"),
    ("dill", "loads"),
    ("cloudpickle", "loads"),
    ("asyncio", "create_subprocess_shell"),
    ("asyncio", "create_subprocess_exec"),
    ("socket", "socket"),
    ("types", "CodeType"),
];

/// Judges source text.
pub(crate) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    let why = || "it runs if the loader is told to trust the repository's code".to_owned();
    ledger.note(rules::PYTHON_CODE, "Python", 0, why);
    dangers(text, ledger);
}

/// Tells what starts programs or runs data as code.
pub(super) fn dangers(text: &str, ledger: &mut Ledger<'_>) {
    let all: Vec<_> = tokens(text).collect();
    let word = |i: Option<usize>| match i.and_then(|i| all.get(i)) {
        Some((_, Token::Word(word))) => Some(*word),
        _ => None,
    };
    let aliases = aliases(&all);
    let sign = |i: Option<usize>, c: char| matches!(i.and_then(|i| all.get(i)), Some((_, Token::Sign(s))) if *s == c);
    for (i, (at, token)) in all.iter().enumerate() {
        let Token::Word(name) = token else { continue };
        let (before, after) = (i.checked_sub(1), i.checked_add(1));
        let line = || shown(text, *at);
        let attribute = sign(before, '.');
        let called = sign(after, '(') && word(before) != Some("def");
        let runs = !attribute && called && (RUNNERS.contains(name) || *name == "compile");
        let reaches = matches!(*name, "__builtins__" | "__subclasses__");
        let imports = matches!(word(before), Some("import" | "from")) && MODULES.contains(name);
        if runs || reaches || imports {
            ledger.note(rules::PYTHON_DANGER, name, *at as u64, line);
        } else if attribute {
            let owner = word(before.and_then(|i| i.checked_sub(1)));
            let owner = owner.map(|owner| aliases.get(owner).copied().unwrap_or(owner));
            if owner.is_some_and(|owner| FUNCTIONS.contains(&(owner, name))) {
                let what = format!("{}.{name}", owner.unwrap_or_default());
                ledger.note(rules::PYTHON_DANGER, &what, *at as u64, line);
            }
        } else if let Some(module) = imported_from(&all, i)
            && FUNCTIONS.contains(&(module, name))
        {
            let what = format!("{module}.{name}");
            ledger.note(rules::PYTHON_DANGER, &what, *at as u64, line);
        }
    }
}

/// Whether text that is run as Python starts programs or runs data as code.
pub(super) fn is_dangerous(text: &str) -> bool {
    let mut ledger = Ledger::new("");
    dangers(text, &mut ledger);
    !ledger.close().is_empty()
}

/// Modules by the names that `import module as name` gives them.
fn aliases<'a>(all: &[(usize, Token<'a>)]) -> HashMap<&'a str, &'a str> {
    let named = all.windows(3).filter_map(|three| match three {
        [
            (_, Token::Word(module)),
            (_, Token::Word("as")),
            (_, Token::Word(name)),
        ] => Some((*name, *module)),
        _ => None,
    });
    // `with open(x) as os` and its kind rename no module of ours.
    let ours = |module: &str| FUNCTIONS.iter().any(|(known, _)| *known == module);
    named.filter(|(_, module)| ours(module)).collect()
}

/// The module of a `from module import …, name` that this word is a name of.
fn imported_from<'a>(all: &[(usize, Token<'a>)], at: usize) -> Option<&'a str> {
    let line = all.get(..at)?.iter().rev().take(64);
    let mut names = line.take_while(|(_, t)| *t != Token::Line);
    names.find(|(_, t)| *t == Token::Word("import"))?;
    let Some((_, Token::Word(module))) = names.next() else {
        return None;
    };
    matches!(names.next(), Some((_, Token::Word("from")))).then_some(*module)
}

/// The line a place is in.
fn shown(text: &str, at: usize) -> String {
    let start = text
        .get(..at)
        .and_then(|before| before.rfind('\n'))
        .map_or(0, |n| n + 1);
    let line = text.get(start..).unwrap_or_default();
    let line = line.split('\n').next().unwrap_or_default();
    line.trim().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut ledger = Ledger::new("modeling.py");
        judge(text, &mut ledger);
        let all = ledger
            .close()
            .into_iter()
            .filter(|f| f.rule == "python-danger");
        all.map(|f| f.what).collect()
    }

    #[test]
    fn honest_code_is_only_code() {
        let text = r#"
import os, re, torch
from torch import nn
pattern = re.compile("exec(x)")   # eval(x)
class M(nn.Module):
    def eval(self): return self
    def forward(self, x):
        self.model.eval(); model = torch.compile(self)
        return os.path.join("a", "subprocess")
"#;
        assert_eq!(findings(text), Vec::<String>::new());
    }

    #[test]
    fn modules_keep_what_they_are_under_other_names() {
        assert_eq!(
            findings("import os as o, pickle as p\no.system('id')\np.loads(b)\n"),
            ["os.system", "pickle.loads"]
        );
        assert_eq!(
            findings("import os as o, numpy as np\no.path.join(np.load)\nx.system('id')\n"),
            [""; 0]
        );
    }

    #[test]
    fn code_that_runs_more_is_told() {
        assert_eq!(
            findings(
                "import subprocess\nfrom os import path, system\nexec(x)\nos . system('id')\n\
                 getattr(__builtins__, 'ev' + 'al')\npickle.loads(b)\n"
            ),
            [
                "subprocess",
                "os.system",
                "exec",
                "os.system",
                "__builtins__",
                "pickle.loads"
            ]
        );
    }
}
