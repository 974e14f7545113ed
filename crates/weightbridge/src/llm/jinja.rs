//! A model's chat template, filled in with conversations.
//!
//! The template is a stranger's program: it gets a number of steps, a depth, an amount of memory and
//! a time, no file and no clock. Names it may use are those that transformers gives it. Source:
//! transformers' `apply_chat_template` and its documentation of chat templates.

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Value, context};
use regex::Regex;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a day is written as by [`render`]: no text of a template has it by itself.
pub(crate) const DAY: &str = "8642-09-17";

const MAX_TEMPLATE: usize = 1 << 20;
const STEPS: u64 = 200_000;
const MEMORY: usize = 64 << 20;
const TIME: Duration = Duration::from_secs(2);

/// Who says what.
pub(crate) type Message = (&'static str, &'static str);

/// Tokens that a template may write by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Special {
    pub(crate) bos: Option<String>,
    pub(crate) eos: Option<String>,
}

/// The texts that `template` makes of the conversations, each up to where an answer begins; an error
/// where it refuses one, says why. None where it is too large, takes too long or too much memory.
pub(crate) fn render(
    template: &str,
    special: &Special,
    conversations: &'static [&'static [Message]],
) -> Option<Vec<Result<String, String>>> {
    if template.len() > MAX_TEMPLATE {
        return None;
    }
    let (template, special) = (template.to_owned(), special.clone());
    native::within(MEMORY, TIME, move || {
        let template = without_training_marks(&template);
        let told = all(&template, &special, conversations, true);
        if told.iter().any(Result::is_ok) {
            return told;
        }
        // A template that writes the day in a form of its own may have a fixed one without a clock.
        all(&template, &special, conversations, false)
    })
}

/// Each conversation in the template, which is compiled once; one error where that fails.
fn all(
    template: &str,
    special: &Special,
    conversations: &[&[Message]],
    clock: bool,
) -> Vec<Result<String, String>> {
    let fill = || {
        let environment = environment(clock)?;
        let template = environment.template_from_str(template)?;
        let texts = conversations.iter().map(|conversation| {
            let text = template.render(names(special, conversation));
            text.map_err(|error| error.to_string())
        });
        Ok(texts.collect())
    };
    fill().unwrap_or_else(|error: Error| vec![Err(error.to_string())])
}

/// What a template may use, and how much of it.
fn environment(clock: bool) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    syntax.trim_blocks(true).lstrip_blocks(true);
    environment.set_syntax(syntax.build()?);
    environment.set_fuel(Some(STEPS));
    environment.set_recursion_limit(100);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |why: String| -> Result<(), Error> {
        Err(Error::new(ErrorKind::InvalidOperation, why))
    });
    environment.add_filter("tojson", to_json);
    // Python counts texts among what can be gone through, and nothing is not.
    environment.add_test("iterable", |value: &Value| {
        let kinds = [
            ValueKind::Seq,
            ValueKind::Map,
            ValueKind::String,
            ValueKind::Iterable,
        ];
        kinds.contains(&value.kind())
    });
    if clock {
        environment.add_function("strftime_now", |format: &str| match format {
            "%Y-%m-%d" => Ok(DAY),
            _ => Err(Error::new(
                ErrorKind::InvalidOperation,
                "a day in another form",
            )),
        });
    }
    Ok(environment)
}

/// The names that transformers gives a template.
fn names(special: &Special, conversation: &[Message]) -> Value {
    let messages: Vec<Value> = conversation
        .iter()
        .map(|(role, content)| context!(role => *role, content => *content))
        .collect();
    let none = Value::from(());
    let mut names = BTreeMap::from([
        ("messages", Value::from(messages)),
        ("add_generation_prompt", Value::from(true)),
        ("tools", none.clone()),
        ("documents", none),
    ]);
    for (name, token) in [("bos_token", &special.bos), ("eos_token", &special.eos)] {
        names.extend(
            token
                .as_ref()
                .map(|token| (name, Value::from(token.as_str()))),
        );
    }
    Value::from(names)
}

/// The marks of what a model is trained on write nothing: transformers reads them, Jinja has none.
fn without_training_marks(template: &str) -> String {
    // A pattern of ours that does not compile would leave the template as it is: it is then refused.
    let Ok(marks) = Regex::new(r"(\{%[-+]?\s*)(end)?generation(\s*[-+]?%\})") else {
        return template.to_owned();
    };
    let plain = |mark: &regex::Captures<'_>| {
        let word = if mark.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{}{word}{}", &mark[1], &mark[3])
    };
    marks.replace_all(template, plain).into_owned()
}

/// `tojson` as transformers has it: characters as they are, whatever else is asked for.
fn to_json(value: &Value, _options: Kwargs) -> Result<String, Error> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    // What has a budget counts.
    #[global_allocator]
    static ALLOCATOR: native::Budgeted = native::Budgeted;

    fn rendered(template: &str) -> Option<Result<String, String>> {
        const TALK: &[&[Message]] = &[&[("system", "s"), ("user", "u")]];
        let special = Special {
            bos: Some("<s>".to_owned()),
            eos: None,
        };
        render(template, &special, TALK).map(|mut texts| texts.remove(0))
    }

    #[test]
    fn names_and_methods_are_those_of_transformers() {
        for (template, text) in [
            (
                "{{ bos_token }}{% for m in messages %}\n<{{ m.role }}>{{ m['content'] }}\n{% endfor %}",
                "<s><system>s\n<user>u\n",
            ),
            (
                "{{ messages[1:][0].content.upper() }}{{ messages[-1]['role'] | capitalize }}",
                "UUser",
            ),
            (
                "{%- generation -%} x {%- endgeneration %}{% if tools is none and not x %}y{% endif %}",
                "xy",
            ),
            (
                "{{ {'b': 'é<', 'a': 1} | tojson }}",
                "{\"b\":\"é<\",\"a\":1}",
            ),
            (
                "{{ tools is iterable }}{{ messages is iterable }}{{ 'a' is iterable }}",
                "FalseTrueTrue",
            ),
            ("{{ strftime_now('%Y-%m-%d') }}", DAY),
            (
                "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}still{% endif %}",
                "still",
            ),
        ] {
            assert_eq!(
                rendered(template).unwrap().as_deref(),
                Ok(text),
                "{template}"
            );
        }
        let refused = rendered("{{ raise_exception('no system') }}").unwrap();
        assert!(refused.unwrap_err().contains("no system"));
    }

    #[test]
    fn a_template_takes_no_more_than_it_is_given() {
        let doubles = "{% set n = namespace(s='ab') %}{% for i in range(60) %}\
                       {% set n.s = n.s ~ n.s %}{% endfor %}";
        let loops = "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}";
        let deep = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}";
        let nested = format!("{{{{ {}{} }}}}", "(".repeat(50_000), ")".repeat(50_000));
        for template in [doubles, loops, deep, &nested] {
            let comes_to = rendered(template);
            assert!(!matches!(comes_to, Some(Ok(_))), "{template:.40}");
        }
        assert_eq!(rendered(&"x".repeat(MAX_TEMPLATE + 1)), None);
    }
}
