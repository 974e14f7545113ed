//! YAML: tags that make Python objects, and names that a framework resolves.
//!
//! Nothing is parsed: a text can be made so that two parsers split it differently. Tags and keys are
//! looked for wherever they stand, quoted, in comments or not, and only what they lead to decides.

use super::interpolation::Interpolated;
use super::{called, config, hyperpyyaml};
use crate::ledger::Ledger;
use crate::rules;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

/// Where PyYAML's own tags begin.
const PYTHON: &str = "tag:yaml.org,2002:python/";
/// Names of Python's that make plain values.
const PLAIN: &[&str] = &[
    "tuple", "str", "unicode", "int", "long", "float", "bool", "none", "bytes",
];
/// Bytes between keys and their values that are passed over in one text, all together.
const PASSED: usize = 16 << 20;
/// Handles that one text declares for Python's tags.
const HANDLES: usize = 16;
/// Tags with such handles.
const TAGS: usize = 1 << 20;

/// Judges a YAML text.
pub(super) fn judge(text: &str, ledger: &mut Ledger<'_>) {
    tags(text, ledger);
    let mut seen = BTreeSet::new();
    let mut passed = PASSED;
    targets(text, &mut seen, &mut passed, ledger);
    // Keys and values in double quotes may be escaped.
    if text.contains('\\') {
        targets(&unescaped(text), &mut seen, &mut passed, ledger);
    }
    if passed == 0 {
        let what = "too much between keys and their values";
        ledger.note(rules::UNREADABLE, "YAML", 0, || what.to_owned());
    }
}

/// Tags that make objects: in full, behind `!!`, or behind a handle of the text's own, and with
/// characters written as `%6f`.
fn tags(text: &str, ledger: &mut Ledger<'_>) {
    let handles = handles(text, ledger);
    let mut left = TAGS;
    let mut at = 0u64;
    for raw in text.split_inclusive('\n') {
        let shown = || raw.trim().chars().take(200).collect::<String>();
        let line = decoded(raw);
        let mut note = |kind: &str| {
            // A name is short, and its end is looked for no further.
            let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '>' | ']' | '}');
            let mut chars = kind.char_indices().take(256);
            let end = chars.by_ref().find(|(_, c)| ends(*c)).map(|(end, _)| end);
            let end =
                end.unwrap_or_else(|| kind.char_indices().nth(256).map_or(kind.len(), |c| c.0));
            let what = kind.get(..end).unwrap_or_default();
            let first = what.split(':').next().unwrap_or_default();
            let called = what.strip_prefix("object/apply:");
            if !PLAIN.contains(&first)
                && !PLAIN.contains(&what)
                && !called.is_some_and(called::is_computing)
            {
                ledger.note(rules::YAML_OBJECT, what, at, shown);
            }
        };
        for tag in ["!!python/", PYTHON] {
            for (from, _) in line.match_indices(tag) {
                note(line.get(from + tag.len()..).unwrap_or_default());
            }
        }
        let marks = line.match_indices('!').filter(|_| !handles.is_empty());
        for (from, _) in marks {
            let rest = line.get(from..).unwrap_or_default();
            for (handle, prefix) in &handles {
                let Some(rest) = rest.strip_prefix(handle.as_str()) else {
                    continue;
                };
                left = left.saturating_sub(1);
                // What is left of Python's own beginning, if the handle has not all of it. Behind
                // the handle's own declaration is a blank, and no tag.
                let kind = match PYTHON.strip_prefix(prefix.as_str()) {
                    Some(missing) => rest
                        .strip_prefix(missing)
                        .map(|kind| kind.chars().take(257).collect()),
                    None if rest.starts_with(char::is_whitespace) => None,
                    None => {
                        let more: String = rest.chars().take(256).collect();
                        prefix
                            .strip_prefix(PYTHON)
                            .map(|kind| format!("{kind}{more}"))
                    }
                };
                match kind {
                    _ if left == 0 => break,
                    Some(kind) if !kind.starts_with(char::is_whitespace) => note(&kind),
                    _ => {}
                }
            }
        }
        hyperpyyaml::line(&line, at, ledger);
        at += raw.len() as u64;
    }
    if left == 0 || handles.len() >= HANDLES {
        let what = "too many tags with handles of its own";
        ledger.note(rules::UNREADABLE, "YAML", 0, || what.to_owned());
    }
}

/// The handles that `%TAG` lines declare for beginnings of Python's tags. The whole of it is wanted
/// only as far as it can become one.
fn handles(text: &str, ledger: &mut Ledger<'_>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for (from, mark) in text.match_indices("%TAG") {
        let rest = text.get(from + mark.len()..).unwrap_or_default();
        let mut words = rest.split_whitespace();
        let (Some(handle), Some(prefix)) = (words.next(), words.next()) else {
            continue;
        };
        let prefix = decoded(prefix);
        if hyperpyyaml::hides(&prefix) {
            let more = || format!("%TAG {handle} hides a tag that begins with it");
            ledger.note(rules::YAML_OBJECT, &prefix, from as u64, more);
        }
        let begins = PYTHON.starts_with(&*prefix) || prefix.starts_with(PYTHON);
        let pair = (handle.to_owned(), prefix.into_owned());
        if begins
            && handle.len() <= 64
            && pair.1.len() <= 1024
            && out.len() < HANDLES
            && !out.contains(&pair)
        {
            out.push(pair);
        }
    }
    out
}

/// `%6f` resolved, as in tags. What is no text then stays as it is.
fn decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).and_then(|d| std::str::from_utf8(d).ok());
        let byte = digits
            .filter(|d| first == b'%' && d.bytes().all(|b| b.is_ascii_hexdigit()))
            .and_then(|d| u8::from_str_radix(d, 16).ok());
        if let Some(byte) = byte {
            out.push(byte);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            out.push(first);
            rest = tail;
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Keys whose values are names of Python's.
const KEYS: &[&str] = &["target", "loader_module", "type"];

/// Values of `_target_`, which Hydra imports and calls; of `target`, which the configurations of
/// latent diffusion have for the same; of `loader_module`, which MLflow imports; and, beside
/// `components`, of `type`, which Haystack imports.
fn targets(text: &str, seen: &mut BTreeSet<String>, passed: &mut usize, ledger: &mut Ledger<'_>) {
    let haystack = text.contains("components");
    let keys = KEYS.iter().filter(|key| **key != "type" || haystack);
    let mut keys = keys.filter(|key| text.contains(**key)).peekable();
    if keys.peek().is_none() {
        return;
    }
    let anchors = anchors(text, passed);
    let mut put_together = Interpolated::default();
    for key in keys {
        values(text, key, &anchors, seen, &mut put_together, passed, ledger);
    }
    put_together.judge([text].into_iter(), ledger);
}

fn values(
    text: &str,
    key: &str,
    anchors: &HashMap<&str, Vec<&str>>,
    seen: &mut BTreeSet<String>,
    put_together: &mut Interpolated,
    passed: &mut usize,
    ledger: &mut Ledger<'_>,
) {
    for (from, _) in text.match_indices(key) {
        let before = text.get(..from).unwrap_or_default();
        let after = text.get(from + key.len()..).unwrap_or_default();
        let hydra = (before.strip_suffix('_')).zip(after.strip_prefix('_'));
        let (before, after, key) = match hydra.filter(|_| key == "target") {
            Some((before, after)) => (before, after, "_target_"),
            None => (before, after, key),
        };
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
        if before.ends_with(part) {
            continue;
        }
        let after = after.strip_prefix(['"', '\'']).unwrap_or(after);
        let Some(value) = blank(after, passed).strip_prefix(':') else {
            continue;
        };
        let value = value_of(value, passed);
        let values = match value.strip_prefix('*') {
            Some(anchor) => anchors.get(anchor).map_or(&[][..], Vec::as_slice),
            None => &[value][..],
        };
        for value in values {
            // An anchor may have as many values as there are aliases of it.
            *passed = passed.saturating_sub(1 + value.len());
            if *passed == 0 {
                return;
            }
            let at = from as u64;
            let known = key == "_target_" && put_together.take(value, at, ledger);
            if !known && seen.insert(format!("{key} {value}")) {
                judge_target(value, key, at, ledger);
            }
        }
    }
}

fn judge_target(value: &str, key: &str, at: u64, ledger: &mut Ledger<'_>) {
    match key {
        "_target_" => config::callable(value, at, ledger),
        // MLflow's own flavors.
        "loader_module" if value.starts_with("mlflow.") => {}
        "loader_module" => called::imported(rules::CONFIG_CALLABLE, key, value, at, ledger),
        _ => config::target(key, value, at, ledger),
    }
}

/// The texts that stand behind each `&anchor`.
fn anchors<'a>(text: &'a str, passed: &mut usize) -> HashMap<&'a str, Vec<&'a str>> {
    let mut out: HashMap<&str, Vec<&str>> = HashMap::new();
    for (from, _) in text.match_indices('&') {
        let rest = text.get(from + 1..).unwrap_or_default();
        let end = rest.find(ends_word).unwrap_or(rest.len());
        let Some((name, behind)) = rest.split_at_checked(end).filter(|_| end > 0) else {
            continue;
        };
        let value = value_of(behind, passed);
        if value.contains('.') {
            out.entry(name).or_default().push(value);
        }
    }
    out
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}' | '"' | '\'')
}

/// What is left behind blanks, ends of lines and comments.
fn blank<'a>(text: &'a str, passed: &mut usize) -> &'a str {
    let mut rest = text;
    loop {
        let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
        let gone = trimmed.len() < rest.len();
        rest = trimmed;
        if gone && rest.starts_with('#') {
            rest = rest
                .find('\n')
                .and_then(|n| rest.get(n..))
                .unwrap_or_default();
        } else {
            let len = text.len() - rest.len();
            *passed = passed.saturating_sub(len);
            return if *passed == 0 { "" } else { rest };
        }
    }
}

/// The word that a value begins with, behind its tag, its anchor, the sign of a block and a quote.
fn value_of<'a>(text: &'a str, passed: &mut usize) -> &'a str {
    let mut rest = blank(text, passed);
    // A value has one tag, one anchor and one sign.
    for _ in 0..4 {
        let sign = rest.starts_with(['!', '&', '|', '>']);
        if !sign {
            break;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        *passed = passed.saturating_sub(end);
        rest = blank(rest.get(end..).unwrap_or_default(), passed);
    }
    let rest = rest.strip_prefix(['"', '\'']).unwrap_or(rest);
    let rest = rest.trim_start_matches([' ', '\t']);
    // A name is short; what is longer is none.
    // A brace ends a word, but those of `${…}` are in one.
    let (mut before, mut inside) = (' ', false);
    let word = rest.char_indices().take(1025).find(|(_, c)| {
        let ends = match *c {
            '{' if before == '$' => {
                inside = true;
                false
            }
            '}' if inside => {
                inside = false;
                false
            }
            c => ends_word(c),
        };
        before = *c;
        ends
    });
    let end = word.map_or_else(
        || if rest.len() <= 1024 { rest.len() } else { 0 },
        |(end, _)| end,
    );
    rest.get(..end).unwrap_or_default()
}

/// A text with what double quotes may hold resolved, in quotes or not.
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let mut chars = rest.get(at + 1..).unwrap_or_default().chars();
        let digits = match chars.next() {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            // The line goes on, without the blanks the next one begins with.
            Some('\n' | '\r') => {
                rest = chars.as_str().trim_start();
                continue;
            }
            Some('/') => {
                out.push('/');
                rest = chars.as_str();
                continue;
            }
            Some(other) => {
                out.push('\\');
                out.push(other);
                rest = chars.as_str();
                continue;
            }
            None => 0,
        };
        let tail = chars.as_str();
        let number = tail
            .get(..digits)
            .and_then(|d| u32::from_str_radix(d, 16).ok());
        if let Some(c) = number.and_then(char::from_u32) {
            out.push(c);
            rest = tail.get(digits..).unwrap_or_default();
        } else {
            out.push('\\');
            rest = rest.get(at + 1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noted;

    fn findings(text: &str) -> Vec<(&'static str, String)> {
        noted("a.yaml", |ledger| judge(text, ledger))
    }

    #[test]
    fn tags_and_targets() {
        let found = findings(
            "a: !!python/tuple [1]\nb: !!python/object/apply:os.system ['id']\nc:\n  _target_: os.system\n  \
             - _target_: torch.nn.Linear\n",
        );
        assert_eq!(
            found,
            [
                ("yaml-object", "object/apply:os.system".to_owned()),
                ("config-callable", "os.system".to_owned())
            ]
        );
    }

    #[test]
    fn tags_are_found_however_they_are_written() {
        for text in [
            "a: !!pyth%6fn/object/apply:os.mkdir ['x']",
            "a: !!python/tuple [!!python/object/apply:os.mkdir ['x']]",
            "a: !<tag:yaml.org,2002:pyth%6Fn/object/apply:os.mkdir> ['x']",
            "%TAG ! tag:yaml.org,2002:pyth\n---\na: !on/object/apply:os.mkdir ['x']",
            "%TAG !e! tag:yaml.org,2002:python/object/\n---\na: !e!apply:os.mkdir ['x']",
            "%TAG !e! tag:yaml.org,2002:p%79\n---\n[!e!thon/object/apply:os.mkdir ['x']]",
        ] {
            let found = findings(text);
            assert!(
                found.iter().any(|f| f.1.contains("apply:os.mkdir")),
                "{text} {found:?}"
            );
        }
        for text in [
            "a: !!pyth%6fn/tuple [1, 2]\nb: 100%25\n",
            "%TAG ! tag:yaml.org,2002:\n---\na: !str x\nb: !python/tuple [1]\n",
            "%TAG !e! tag:example.org,2026:\n---\na: !e!python/object x\n",
        ] {
            assert_eq!(findings(text), [], "{text}");
        }
    }

    #[test]
    fn many_anchors_of_one_name_and_many_aliases_of_it() {
        let text = |anchor: &str| anchor.repeat(40_000) + &"target: *a\n".repeat(40_000);
        // Minutes, where each alias is held against each anchor.
        assert_eq!(findings(&text("x: &a os.x\n"))[0].0, "config-callable");
        assert_eq!(findings(&text("x: &a b.c\n"))[0].0, "unreadable");
    }

    #[test]
    fn targets_are_found_however_they_are_written() {
        for text in [
            "_target_:\n  os.system\ncommand: id",
            "_target_: # a comment\n\n   # more\n  os.system",
            "{a: 1, _target_: os.system, command: id}",
            "{\"_target_\":\"os.system\"}",
            "\"\\x5ftarget_\": os.system",
            "\"_tar\\\n  get_\": \"os\\x2esystem\"",
            "a: b\\\n_target_: os.system",
            "? _target_\n: os.system",
            "_target_: !!str os.system",
            "_target_: &x os.system",
            "x: &x os.system\n_target_: *x",
            "_target_: ${y}\ny: os.system",
            "_target_: \"${a.y}\"\na:\n  y: '${z}'\nz: os.system",
            "_target_: ${a.y}\na: {x: 1, y: os.system}\nb:\n  y: torch.nn.Linear",
            "_target_: ${y}\ny: &k os.system",
            "_target_: ${y}\ny: !!str os.system",
            "_target_: ${y}\ny: >-\n  os.system",
            "_target_: ${y}\ny: \"os\\x2esystem\"",
            "_target_: ${ y }\n? y\n: os.system",
            "_target_: ${y\n  }\ny: os.system",
            "_target_: ${m}.system\nm: os",
            "_target_: >-\n  os.system\n",
            "a: |\n  'oops\n_target_: os.system\nb: 'x'",
            "model:\n  target: os.system\n  params: {command: id}",
            "model: {target: \"subprocess.Popen\"}",
            "flavors:\n  python_function:\n    loader_module: os\n    env: conda.yaml",
            "components:\n  x:\n    type: subprocess.Popen\n    init_parameters: {args: [id]}",
        ] {
            let found = findings(text);
            assert!(
                found.iter().any(|f| f.0 == "config-callable"),
                "{text} {found:?}"
            );
        }
        for text in [
            "model:\n  target: ldm.models.diffusion.ddpm.LatentDiffusion\n  params:\n    a: 1\n",
            "target: text\ntarget_modules: [q_proj]\nmy_target: os.system\n",
            "target: code.py\nx: &y 1.5\nz: *y\n",
            "_target_: torch.nn.Linear\nc: {_target_: torch.optim.AdamW, lr: 1e-3}\n",
            "a: the _target_ os.system\n",
            "_target_:\n  a: os.system\n",
            "flavors:\n  python_function:\n    loader_module: mlflow.sklearn\n",
            "components:\n  x:\n    type: haystack.components.builders.PromptBuilder\n  y: {type: object}",
        ] {
            assert_eq!(findings(text), [], "{text}");
        }
    }

    #[test]
    fn a_module_of_nobodys_that_mlflow_imports() {
        let found = findings("flavors:\n  python_function:\n    loader_module: evil_loader\n");
        assert_eq!(found, [("remote-code", "evil_loader".to_owned())]);
    }

    #[test]
    fn any_text_comes_to_an_end() {
        for text in [
            "_target_:",
            "_target_",
            "%TAG",
            "%TAG ! ",
            "\\",
            "\"\\x",
            "&",
            "_target_: *",
            "%",
            "é%4",
        ] {
            findings(text);
        }
        findings(&"!!python/x".repeat(100_000));
        findings(&format!(
            "%TAG ! tag:\n%TAG ! tag:y\n{}",
            "!".repeat(100_000)
        ));
        let long = format!("# {}", "_target_ # ".repeat(100_000));
        assert!(findings(&long).iter().all(|f| f.0 == "unreadable"));
    }
}
