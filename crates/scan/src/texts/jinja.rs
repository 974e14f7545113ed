//! Chat templates: Jinja that reaches for Python (CVE-2024-34359).
//!
//! A template is handed a few plain values and functions. Whoever runs it without a sandbox lets
//! it walk from any of them to the whole of Python, always by names with two underscores: so it is
//! those that are looked for, spelt out, escaped, cut in two or built from letters.

mod body;
mod calls;
mod computed;
mod expression;
mod lex;
mod value;

use crate::ledger::Ledger;
use crate::rules::{self, Rule};
use lex::{Lexer, Part, Token};

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

/// Dangerous findings of one template; what follows cannot make it worse.
const MOST_ESCAPES: usize = 2000;

/// Tokens and texts of a template whose expressions are followed. The longest honest one has 9000.
const MOST_PARTS: usize = 100_000;

/// Judges a template. `base` is added to offsets.
pub(super) fn judge(text: &str, base: u64, ledger: &mut Ledger<'_>) {
    let mut notes = Notes {
        text,
        base,
        escapes: 0,
        ledger,
    };
    let mut before = None;
    let mut here: Option<(usize, Token<'_>)> = None;
    // Whether the token here is the name of a statement.
    let mut named = false;
    let mut begins = false;
    let mut parts = Vec::new();
    let mut long = None;
    for (at, part) in Lexer::new(text) {
        let next = match part {
            Part::Token(token) => Some((at, token)),
            _ => None,
        };
        if let Some((at, token)) = here {
            let after = next.map(|(_, token)| token);
            judge_token(at, token, before, after, named, &mut notes);
        }
        before = here.filter(|_| next.is_some()).map(|(_, token)| token);
        here = next;
        named = begins && next.is_some();
        begins = part == Part::Open { statement: true };
        if notes.escapes > MOST_ESCAPES {
            return;
        }
        if parts.len() < MOST_PARTS {
            parts.push((at, part));
        } else {
            long.get_or_insert(at);
        }
    }
    if let Some((at, token)) = here {
        judge_token(at, token, before, None, named, &mut notes);
    }
    match long {
        Some(at) => notes.odd("more than can be followed", at),
        None => computed::judge(&parts, &mut notes),
    }
}

/// Where findings of a template go.
struct Notes<'a, 'b> {
    text: &'a str,
    base: u64,
    escapes: usize,
    ledger: &'a mut Ledger<'b>,
}

impl Notes<'_, '_> {
    /// What a finding shows is asked for only if it is shown: a template can have a million.
    fn note(&mut self, rule: Rule, what: &str, at: usize) {
        let text = self.text;
        self.ledger
            .note(rule, what, self.base + at as u64, || shown(text, at));
    }

    fn escape(&mut self, what: &str, at: usize) {
        self.escapes += 1;
        self.note(rules::TEMPLATE_ESCAPE, what, at);
    }

    fn odd(&mut self, what: &str, at: usize) {
        self.note(rules::TEMPLATE_ODDITY, what, at);
    }
}

/// Judges a token by itself and those beside it in its block. `named` is the name of a statement.
fn judge_token(
    at: usize,
    token: Token<'_>,
    before: Option<Token<'_>>,
    after: Option<Token<'_>>,
    named: bool,
    notes: &mut Notes<'_, '_>,
) {
    match token {
        Token::Word(word) => {
            let attribute = before == Some(Token::Sign("."));
            let called = after == Some(Token::Sign("("));
            let filter = before == Some(Token::Sign("|"));
            // Names of variables, arguments and macros can be had as texts.
            let inward = INWARD.contains(&word) && (attribute || word.contains('_'));
            let runs = attribute && called && CALLED.contains(&word);
            let springboard = !attribute && SPRINGBOARDS.contains(&word) && is_value(before, after);
            if has_double(word) || inward || runs || (filter && FETCHING.contains(&word)) {
                notes.escape(word, at);
            } else if springboard || (named && LOADING.contains(&word)) {
                notes.odd(word, at);
            }
        }
        Token::Text(literal) => {
            let value = lex::value(literal);
            let inward = value.contains('_') && INWARD.contains(&value.as_str());
            if inward || reaches(&value) {
                notes.escape(&value, at);
            } else if FETCHING.contains(&value.as_str()) && before == Some(Token::Sign("(")) {
                // `map("attr", …)` is the filter by another way.
                notes.escape("attr", at);
            }
        }
        Token::Number(_) | Token::Sign(_) => {}
    }
}

/// Whether a name stands for a value: not as a keyword argument, nor where it is set.
fn is_value(before: Option<Token<'_>>, after: Option<Token<'_>>) -> bool {
    let set = matches!(before, Some(Token::Word("set" | "macro" | "for")));
    !set && after != Some(Token::Sign("="))
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
    use crate::testing::noted;

    fn findings(text: &str) -> Vec<(&'static str, String)> {
        noted("chat_template", |ledger| judge(text, 0, ledger))
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
            "{{ messages[0]['role'] ~ message['content'][1:] + messages[loop.index0 + 1].content }}",
            "{{ roles[m.role] ~ roles['user' if x else 'tool'] ~ messages[(x|length) - 1]['a' or y] }}",
            "{{ x['con' ~ 'tent'] }}{{ m['tool_calls'][0]|tojson }}{{ types[name|lower|trim] }}",
            "{% set ns = namespace(i=0, out='') %}{% for m in messages %}{% set ns.out = ns.out ~ 'a' \
             %}{% set ns.i = ns.i + 1 %}{{ messages[ns.i - 1] }}{{ messages[ns.i] }}{% endfor %}",
            "{% set l = [] %}{{ l.append('a' ~ x) }}{{ l|join('_') ~ messages[l|length] }}",
            "{% set _ = messages.append(messages[0]) %}{{ roles[messages[0].role] }}",
            "{% set l = [] %}{% set _ = l.append('a' ~ x) %}{{ roles[messages[0].role] ~ l|join }}",
            "{% set n = namespace(l=[]) %}{% for m in messages %}{% set _ = n.l.append('a' ~ m.x) %}{{ roles[m.role] }}{% endfor %}",
            "{{ tools[x.find('a') + 1]|selectattr('role', 'equalto', 'user')|map(attribute='b.c') }}",
            "{{ '{} and {}'.format(a ~ 'b', c) ~ m.get('role')[0] ~ x[m.get('k', 'name')] }}",
            "{% macro t(m, i) %}{{ m[i] ~ m['x'] }}{% endmacro %}{{ t('a' ~ b, loop.index) }}",
            "{% set d = {'user': 'U', 'tool': 'T'} %}{{ d[m.role] ~ x[d['user']] }}",
            "{% raw %}{{ ''.__class__ }} {#{% endraw %}{{ {'a':{'b':1}}.a }}",
            "{% macro f() %}{{ m[loop.index0] ~ caller() }}{% endmacro %}{% call f() %}role{% endcall %}",
            "{% set k | trim %}{{ m.content }}_{% endset %}{{ k.split('_')[-1] ~ k[0] }}",
            "{% macro t(p) %}{{ p.type }}_{% endmacro %}{% for k, v in p.items() %}{{ t(p[k]) ~ v[k] }}{% endfor %}",
            "{{ '{# __class' if x else \"}}{{\" }} it's {# ' #} __class__ {{ x }}",
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
            "{% set _ = messages.append({'role': '~~class~~'.translate({126: 95})}) %}{% for m in messages %}{{ ''[m['role']] }}{% endfor %}",
            "{% set _ = messages[0].update(content='~~class~~'.translate({126: 95})) %}{{ ''[messages[0].content] }}",
            "{% set f = messages.append %}{% set _ = f({'role': '~~class~~'.translate({126: 95})}) %}{{ ''[messages[0].role] }}",
            "{% set _ = (messages.append)({'role': '~~class~~'.translate({126: 95})}) %}{{ ''[messages[0].role] }}",
            "{% set x = messages or [] %}{% set _ = x.append({'role': '~~class~~'.translate({126: 95})}) %}{{ ''[messages[0].role] }}",
            "{% set n = namespace(m=messages) %}{% set _ = n.m.append('~~class~~'.translate({126: 95})) %}{{ ''[messages[-1]] }}",
            "{% set _ = messages[0].update(content='5f5f') %}{% for m in messages %}{{ ''[m.content.encode().fromhex(m.content).decode()] }}{% endfor %}",
            "{{ messages['__cla' ~ 'ss__'] }}",
            "{{ [messages]|map('attr', x)|list }}",
            "{{ '{0.__class__}'.format(messages) }}",
            "{{ dict(__cla=1, ss__=2)|join }}",
            "{% set x = '__ssalc__'[::-1] %}",
            "{{ ('%c' * 2) % (95, 95) }}",
            "{{ x.gi_frame.f_back }}",
            "{%- if x.popen('id') -%}{%- endif -%}",
            "{{ self._TemplateReference__context }}",
            // Brackets are balanced, raw blocks are text, strings are Jinja's and not Python's.
            "{{ {'a':{'b':1}}.__class__.__mro__ }}",
            "{% if {'a':{'%}':{}}}.__class__ %}{% endif %}",
            "{% raw %}{#{% endraw %}{{ ''.__class__ }}",
            "{% raw %}{{ \" {% endraw %}{{ ''|attr(x) }}",
            "{{ '''' }}{{ ''|attr(x) }}",
            "{{ messages['\\N{LOW LINE}_class_\\N{LOW LINE}'] }}",
            // Names that are computed, and come out.
            "{% set u='_'*2 %}{{ m[u~'init'~u] }}",
            "{% set u=['_','_']|join %}{{ m[u~'init'~u] }}",
            "{{ m['init'|center(8)|replace(' ','_')] }}",
            "{{ m['{:_^8}'.format('init')] }}",
            "{{ m['%s%sinit%s%s'%('_','_','_','_')] }}",
            "{{ m['XXinitXX'|replace('X','_')] }}",
            "{{ m['__INIT__'|lower] }}",
            "{{ ['']|map(attribute='_'*2~'class'~'_'*2)|list }}",
            "{{ m['_' '_cla' 'ss_' '_'] }}",
            "{{ m[['_','_','INIT','_','_']|map('lower')|join] }}",
            "{% set k %}_{% endset %}{{ m[k*2~'init'~k*2] }}",
            "{% set k %}__init__{% endset %}{{ m[k] }}",
            "{% set f = 'attr' %}{{ [m]|map(f, x)|list }}",
            "{{ x['gi_' + 'frame'] }}{{ x['mro'] }}",
            "{{ x['tini'[::-1].join(['_'*2]*2)] }}",
            "{% set ns = namespace(u='_') %}{{ m[ns.u*2~'init'~ns.u*2] }}",
            "{{ m[('_'*2).join(['', 'init', ''])] }}",
            // What the bodies of calls, macros and blocks write.
            "{% set n=namespace(o=namespace) %}{% macro f() %}{% set c=caller() %}{% set n.o=n.o[c] or \
             n.o %}{% endmacro %}{% call f() %}__init__{% endcall %}{% call f() %}__globals__\
             {% endcall %}{{ n.o['o'~'s']['popen']('x') }}",
            "{% macro f() %}{{ ''[caller()] }}{% endmacro %}{% call f() %}__class__{% endcall %}",
            "{% macro f() %}{{ ''[caller()] }}{% endmacro %}{% macro g() %}__class__{% endmacro %}\
             {{ f(caller=g) }}",
            "{% macro f() %}{% set c=caller %}{{ ''[c()] }}{% endmacro %}{% call f() %}__class__{% endcall %}",
            "{% macro f() %}__class__{% endmacro %}{% set g=[f] %}{{ ''[g[0]()] }}",
            "{% macro f() %}__class__{% endmacro %}{% set n=namespace(g=f) %}{{ ''[n.g()] }}",
            "{% macro a() %}__class__{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ ''[b()] }}",
            "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ ''[f('_'~'_cla', 'ss_'~'_')] }}",
            "{% set k | replace('x','_') %}xxclassxx{% endset %}{{ ''[k] }}",
            "{% set k %}{% filter lower %}__CLASS__{% endfilter %}{% endset %}{{ ''[k] }}",
            "{% set k %}{% for c in ['_','_','class','_','_'] %}{{ c }}{% endfor %}{% endset %}{{ ''[k] }}",
            "{% set k %}{% if true %}__class__{% endif %}{% endset %}{{ ''[k] }}",
            "{% block x %}__class__{% endblock %}{{ ''[self.x()] }}",
            "{% set n=namespace(s='') %}{% for x in ['_','_class','_'] %}{% set n.s=n.s~x %}{% endfor %}\
             {{ ''[n.s] }}",
            "{% for x in ['a', 'XclassX'.swapcase()|replace('x', '__')] %}{{ ''[loop.nextitem] }}{% endfor %}",
            "{% for i in [['--class--'|replace('-', '_')]] recursive %}{{ ''[i] if i is string else loop(i) \
             }}{% endfor %}",
            // Other ways to letters and names.
            "{{ ''['XXclassXX'.translate({88: 95})] }}",
            "{{ ''['_\\t_class__'.expandtabs(0)] }}",
            "{{ ''['_<b>_class_</b>_'|striptags] }}",
            "{{ ''['_' ~ undefined ~ '_class_' ~ undefined ~ '_'] }}",
            "{% macro gi_frame() %}{% endmacro %}{{ (x|map('upper'))[gi_frame.name] }}",
            "{{ (x|map('upper'))[dict(gi_frame=1)|list|first] }}",
            "{{ x[_._undefined_name * 2 ~ 'cl' ~ 'ass'] }}",
            "{% macro n() %}__init__{% endmacro %}{{ x[n()] }}",
            "{% for c in '_i' %}{{ m[c*2 ~ 'init'] }}{% endfor %}",
            "{% macro n(k) %}{{ x[k] }}{% endmacro %}{{ n(y ~ 'init') }}",
            "{% macro n(k) %}{{ x[k] }}{% endmacro %}{% set o = n %}{{ o(y ~ 'init') }}",
            "{% set ns.k = y.replace('a', '_') %}{{ x[ns.k] }}",
            "{{ x[messages[0].get('z', '_') * 2] }}",
            "{% set l=[] %}{{ l.append('_') }}{{ l.append('c') }}{{ x[l[0]*2 + l[1] + l[0]*2] }}",
            "{{ x|map(*['attr', y])|list }}",
            "{{ x|selectattr(y ~ 'class')|list }}",
            "{{ x[strftime_now('_') + strftime_now('_')] }}",
        ] {
            let found = findings(text);
            let hit = found.iter().any(|(rule, _)| *rule == "template-escape");
            assert!(hit, "{text}: {found:?}");
        }
        for text in [
            "{{ lipsum|string }}",
            // Computed, and not told how it comes out.
            "{% set l = [] %}{{ l.append(y ~ 'init') }}{{ x[l[0]] }}",
            "{% call(k) m() %}{{ x[k] }}{% endcall %}{% macro m() %}{{ caller(y~'c') }}{% endmacro %}",
            "{% macro m() %}{{ x[kwargs.a] }}{% endmacro %}{{ m(a=y ~ 'c') }}",
            "{% macro m() %}{{ x[varargs[0]] }}{% endmacro %}{{ m(y ~ 'c') }}",
            "{{ ('{0.' ~ y ~ '}').format(x) }}",
            "{% for i in x %}{{ x[ns.a] }}{% set ns.a = ns.b %}{% set ns.b = y ~ 'x' %}{% endfor %}",
        ] {
            let found = findings(text);
            assert!(
                found.iter().any(|f| f.0 == "template-oddity"),
                "{text}: {found:?}"
            );
        }
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
