//! Chat templates: Jinja that reaches for Python (CVE-2024-34359).
//!
//! A template is handed a few plain values and functions. Whoever runs it without a sandbox lets
//! it walk from any of them to the whole of Python, always by names with two underscores: so it is
//! those that are looked for, spelt out, escaped, cut in two or built from letters.

use super::lex::{Token, tokens};
use crate::ledger::Ledger;
use crate::rules;

/// Attributes that lead from a value into the interpreter without such a name.
const INWARD: &[&str] = &[
    "ag_frame",
    "co_code",
    "cr_frame",
    "cr_code",
    "f_back",
    "f_builtins",
    "f_code",
    "f_globals",
    "f_locals",
    "func_code",
    "func_globals",
    "gi_code",
    "gi_frame",
    "im_class",
    "im_func",
    "im_self",
    "mro",
    "tb_frame",
    "tb_next",
];
/// What is called at the end of such a walk.
const CALLED: &[&str] = &[
    "Popen",
    "check_output",
    "eval",
    "exec",
    "execv",
    "getoutput",
    "import_module",
    "popen",
    "spawnl",
    "spawnv",
    "system",
];
/// Filters that fetch attributes by names that the template computes.
const FETCHING: &[&str] = &["attr"];
/// Globals of Jinja whose only use in a chat template is to walk on from them.
const SPRINGBOARDS: &[&str] = &["cycler", "joiner", "lipsum", "self"];
/// Statements that load other templates.
const LOADING: &[&str] = &["extends", "from", "import", "include"];

/// Judges a template. `base` is added to offsets.
pub(super) fn judge(text: &str, base: u64, ledger: &mut Ledger<'_>) {
    let mut at = 0;
    while let Some((start, inner, end)) = block(text, at) {
        expression(inner, base + start as u64, ledger);
        at = end;
    }
}

/// The next `{{ … }}` or `{% … %}` from `at`: where its inside starts, the inside, and where it
/// ends. Comments are passed over.
fn block(text: &str, mut at: usize) -> Option<(usize, &str, usize)> {
    loop {
        let rest = text.get(at..)?;
        let open = rest.match_indices('{').find_map(|(i, _)| {
            let second = rest.as_bytes().get(i + 1)?;
            matches!(second, b'{' | b'%' | b'#').then_some((i, *second))
        });
        let (open, sign) = open?;
        let start = at + open + 2;
        let inside = text.get(start..)?;
        if sign == b'#' {
            at = start + inside.find("#}")? + 2;
            continue;
        }
        let close = if sign == b'{' { "}}" } else { "%}" };
        let len = closing(inside, close);
        let end = (start + len + 2).min(text.len());
        let inner = inside.get(..len).unwrap_or_default();
        // What stands in a raw block is text, but a lexer that is fooled would run it.
        return Some((start, inner, end));
    }
}

/// Where a block closes, strings left aside; its whole length if it never does.
fn closing(inside: &str, close: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if inside.get(at..).is_some_and(|r| r.starts_with(close)) => return at,
            _ => {}
        }
    }
    inside.len()
}

fn expression(text: &str, base: u64, ledger: &mut Ledger<'_>) {
    let all: Vec<_> = tokens(text)
        .filter(|(_, token)| *token != Token::Line)
        .collect();
    // `{%-` and `{%+` have a sign before the statement.
    let trimmed = matches!(all.first(), Some((_, Token::Sign('-' | '+'))));
    // What a finding shows is asked for only if it is shown: a template can have a million.
    let note = |rule, ledger: &mut Ledger<'_>, what: &str, at: usize| {
        ledger.note(rule, what, base + at as u64, || shown(text, at));
    };
    let escape = |ledger: &mut Ledger<'_>, what: &str, at: usize| {
        note(rules::TEMPLATE_ESCAPE, ledger, what, at);
    };
    let odd = |ledger: &mut Ledger<'_>, what: &str, at: usize| {
        note(rules::TEMPLATE_ODDITY, ledger, what, at);
    };
    for (i, (at, token)) in all.iter().enumerate() {
        let before = i.checked_sub(1).and_then(|i| all.get(i)).map(|(_, t)| t);
        let after = all.get(i + 1).map(|(_, t)| t);
        match token {
            Token::Word(word) => {
                let attribute = before == Some(&Token::Sign('.'));
                let called = after == Some(&Token::Sign('('));
                let filter = before == Some(&Token::Sign('|'));
                let statement = i == usize::from(trimmed);
                let inward = attribute && INWARD.contains(word);
                let runs = attribute && called && CALLED.contains(word);
                let springboard =
                    !attribute && SPRINGBOARDS.contains(word) && is_value(before, after);
                if has_double(word) || inward || runs || (filter && FETCHING.contains(word)) {
                    escape(ledger, word, *at);
                } else if springboard || (statement && LOADING.contains(word)) {
                    odd(ledger, word, *at);
                }
            }
            Token::Text(value) if reaches(value) => escape(ledger, value, *at),
            // `map("attr", …)` is the filter by another way.
            Token::Text(value)
                if FETCHING.contains(&value.as_str()) && before == Some(&Token::Sign('(')) =>
            {
                escape(ledger, "attr", *at);
            }
            _ => {}
        }
    }
}

/// Whether a name stands for a value: not as a keyword argument, nor where it is set.
fn is_value(before: Option<&Token<'_>>, after: Option<&Token<'_>>) -> bool {
    let set = matches!(before, Some(Token::Word("set" | "macro" | "for")));
    !set && after != Some(&Token::Sign('='))
}

/// Whether a name has two underscores in a row, with something beside them.
fn has_double(word: &str) -> bool {
    word.contains("__") && word.chars().any(|c| c != '_')
}

/// Names of Python's own that open the way.
const KEYS: &[&str] = &[
    "__base__",
    "__bases__",
    "__builtins__",
    "__call__",
    "__class__",
    "__code__",
    "__closure__",
    "__delattr__",
    "__dict__",
    "__func__",
    "__getattr__",
    "__getattribute__",
    "__getitem__",
    "__globals__",
    "__import__",
    "__init__",
    "__loader__",
    "__module__",
    "__mro__",
    "__new__",
    "__reduce__",
    "__reduce_ex__",
    "__self__",
    "__setattr__",
    "__spec__",
    "__subclasses__",
    "__wrapped__",
];

/// Whether a string is such a name or a part of one, or has one in it.
fn reaches(value: &str) -> bool {
    if KEYS.iter().any(|key| value.contains(key)) {
        return true;
    }
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let lettered = value.chars().any(|c| c.is_ascii_alphabetic());
    // One half of a name that was cut in two, or a name written backwards.
    let edged = value.starts_with("__") || value.ends_with("__");
    let built = value == "%c" || value == "{:c}";
    (plain && lettered && edged && !is_token(value)) || built
}

/// Tokens of vocabularies that are written in this manner.
fn is_token(value: &str) -> bool {
    value
        .chars()
        .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// The line around a place, as far as it is shown.
fn shown(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let same_line = |c: &char| *c != '\n';
    let led: usize = before
        .chars()
        .rev()
        .take(60)
        .take_while(same_line)
        .map(char::len_utf8)
        .sum();
    let rest = text.get(at - led..).unwrap_or_default();
    let line: String = rest.chars().take(200).take_while(same_line).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<(&'static str, String)> {
        let mut ledger = Ledger::new("chat_template");
        judge(text, 0, &mut ledger);
        ledger
            .close()
            .into_iter()
            .map(|f| (f.rule, f.what))
            .collect()
    }

    #[test]
    fn honest_templates_say_nothing() {
        for text in [
            "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m.content|trim }}{% endfor %}",
            "{%- set ns = namespace(found=false) -%}{{ raise_exception('No __init__ here') if ns.x }}"
                .replace("__init__", "system prompt").as_str(),
            "{# ''.__class__ #} plain __class__ text {{ bos_token }}",
            "{{ '<__media__>' }}{{ '__CLASS_TOKEN__' }}{{ messages|map(attribute='content')|join('_') }}",
            "{% macro system(x) %}{{ x.system }}{% endmacro %}{{ system(messages) }}",
            "{{ strftime_now('%d %b %Y') }}{% set self = 1 %}",
        ] {
            assert_eq!(findings(text), [], "{text}");
        }
    }

    #[test]
    fn ways_into_python_are_found() {
        for text in [
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "{{ messages['__class__'] }}",
            "{{ messages[\"\\x5f\\x5fclass\\x5f\\x5f\"] }}",
            "{{ messages|attr('cl' ~ 'ass') }}",
            "{{ messages['__cla' ~ 'ss__'] }}",
            "{{ [messages]|map('attr', x)|list }}",
            "{{ '{0.__class__}'.format(messages) }}",
            "{{ dict(__cla=1, ss__=2)|join }}",
            "{% set x = '__ssalc__'[::-1] %}",
            "{{ ('%c' * 2) % (95, 95) }}",
            "{{ x.gi_frame.f_back }}",
            "{%- if x.popen('id') -%}{%- endif -%}",
            "{{ self._TemplateReference__context }}",
        ] {
            let found = findings(text);
            let hit = found.iter().any(|(rule, _)| *rule == "template-escape");
            assert!(hit, "{text}: {found:?}");
        }
        assert_eq!(findings("{{ lipsum|string }}")[0].0, "template-oddity");
        assert_eq!(findings("{%- include 'x' %}")[0].0, "template-oddity");
    }

    #[test]
    fn a_flood_on_one_line_takes_no_longer_than_its_length() {
        let found = findings(&("{{ ".to_owned() + &"__a ".repeat(200_000)));
        assert_eq!(found[0].1, "__a");
    }

    #[test]
    fn any_text_comes_to_an_end() {
        for text in ["{{", "{%", "{#", "{{'", "{{ \\", "{", "é{{é", "{{}}{{", ""] {
            findings(text);
        }
    }
}
