//! Distributions of scipy: the text of the functions that read their arguments is in their state, and
//! `exec` runs it while they are loaded.
//!
//! See `rv_generic` in scipy's `_distn_infrastructure.py`, and its `parse_arg_template`.

use crate::calls::full_name;
use crate::objects::{Bench, DETAIL_CHARS};
use crate::render::render;
use crate::rules;
use crate::standing::canonical;
use ir::{Call, Object, ObjectId, Objects};

/// Methods that loading calls, which a state may put itself in the place of.
const CALLED: &[&str] = &["_attach_argparser_methods", "_attach_methods"];
/// Lines of a template.
const LINES: usize = 32;

/// Whether a class is one of scipy's distributions.
pub(crate) fn is_distribution(module: &str, name: &str) -> bool {
    let module = canonical(module);
    let home = ["_continuous_distns", "_discrete_distns"];
    let inside = module.strip_prefix("scipy.stats.");
    inside.is_some_and(|inside| home.contains(&inside))
        && name.ends_with("_gen")
        && !name.contains('.')
}

/// Notes a distribution whose state brings other code than scipy writes.
pub(crate) fn judge(bench: &mut Bench<'_>, call: &Call, module: &str, name: &str, at: u64) {
    let objects = bench.objects;
    if !is_distribution(module, name) {
        return;
    }
    let bad = |state: &&ObjectId| !is_own(objects, **state);
    if let Some(state) = call.states().iter().find(bad) {
        let what = full_name(module, name);
        bench.ledger.note(rules::CODE_EXECUTION, &what, at, || {
            render(objects, *state, DETAIL_CHARS)
        });
    }
}

/// Whether a state is as scipy writes it.
fn is_own(objects: &Objects, state: ObjectId) -> bool {
    let Object::Dict(pairs) = objects.get(state) else {
        return false;
    };
    pairs.iter().all(|(key, value)| match objects.str(*key) {
        Some("_parse_arg_template") => objects.str(*value).is_some_and(is_template),
        Some(key) => !CALLED.contains(&key),
        None => false,
    })
}

/// Whether a text defines functions that give back their arguments, and does nothing else.
fn is_template(text: &str) -> bool {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines.len() <= LINES
        && lines
            .iter()
            .all(|line| is_definition(line) || is_return(line))
}

/// `def _parse_args(self, a, b, loc=0, scale=1):`
fn is_definition(line: &str) -> bool {
    let inside = line
        .strip_prefix("def _parse_args")
        .and_then(|rest| rest.split_once('('))
        .and_then(|(name, rest)| Some((name, rest.trim_end().strip_suffix("):")?)));
    inside.is_some_and(|(name, parameters)| {
        matches!(name, "" | "_rvs" | "_stats") && parameters.split(',').all(is_parameter)
    })
}

fn is_parameter(text: &str) -> bool {
    let (name, default) = text.split_once('=').unwrap_or((text, "0"));
    let name = name.trim();
    (name.is_empty() || is_word(name)) && matches!(default.trim(), "0" | "1" | "None" | "'mv'")
}

/// `    return (a, b), loc, scale` or `    return self._argcheck_rvs(a, b, loc, scale, size=size)`
fn is_return(line: &str) -> bool {
    let Some(given) = line.strip_prefix("    return ") else {
        return false;
    };
    let given = given.trim_end();
    let given = match given.strip_prefix("self._argcheck_rvs(") {
        Some(checked) => checked.strip_suffix(')'),
        None => given.strip_prefix('(').and_then(|rest| {
            let (shapes, rest) = rest.split_once(')')?;
            shapes.split(',').all(is_blank_or_word).then_some(rest)
        }),
    };
    given.is_some_and(|names| {
        let names = names.strip_suffix("size=size").unwrap_or(names);
        names
            .split(',')
            .all(|name| is_blank_or_word(name) || matches!(name.trim(), "0" | "1"))
    })
}

fn is_blank_or_word(text: &str) -> bool {
    text.trim().is_empty() || is_word(text.trim())
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.starts_with(|c: char| !c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::is_template;
    use crate::testing::Builder;

    const OWN: &str = "\ndef _parse_args(self, a, b, loc=0, scale=1):\n    return (a, b), loc, scale\n\n\
        def _parse_args_rvs(self, a, b, loc=0, scale=1, size=None):\n    return self._argcheck_rvs(a, b, loc, scale, size=size)\n\n\
        def _parse_args_stats(self,  loc=0, moments='mv'):\n    return (), loc, 1, moments\n";

    #[test]
    fn only_scipy_s_own_functions_pass() {
        assert!(is_template(OWN) && is_template(""));
        for text in [
            "import os",
            "def _parse_args(self, a=print(1)):\n    return (), a\n",
            "def _parse_args(self):\n    return (print(1),)\n",
            "def _parse_args(self):\n    return self._argcheck_rvs(print(1))\n",
            "def _parse_args(self): import os\n",
            "def other(self):\n    return ()\n",
            "@print\ndef _parse_args(self):\n    return ()\n",
            "def _parse_args(self):\n    return ().__class__, loc\n",
            "def _parse_args(self,\n  x=print(1)):\n    return ()\n",
        ] {
            assert!(!is_template(text), "{text}");
        }
    }

    fn distribution(key: &str, text: &str) -> Vec<String> {
        let mut b = Builder::new();
        let object = b.new_object("scipy.stats._continuous_distns", "norm_gen");
        let text = b.str(text);
        let state = b.dict(&[(key, text)]);
        b.build(object, state);
        b.findings()
    }

    #[test]
    fn a_state_that_brings_code_is_told() {
        let told = ["code-execution scipy.stats._continuous_distns.norm_gen"];
        assert_eq!(distribution("_parse_arg_template", "import os"), told);
        assert_eq!(distribution("_attach_methods", "x"), told);
        assert_eq!(distribution("_parse_arg_template", OWN), [""; 0]);
        assert_eq!(distribution("name", "norm"), [""; 0]);
    }
}
