//! Values of a config that no GGUF key takes: a runtime computes with the one its graph has.
//!
//! A table lists them as `fixed`: the key, what the runtime computes with, and, where it matters
//! only sometimes, when. What the config says otherwise is a loss, as the model then computes
//! something else, and what comes back from the file has the class's own value again.

use crate::expr::{Expr, Scope, contains, truthy};
use ir::Record;
use serde_json::{Map, Value};

/// The longest value that is told as it is.
const MAX_TOLD: usize = 60;

/// One such key.
#[derive(Debug)]
pub(crate) struct Fixed {
    /// The key, or where in the config it is.
    value: Expr,
    /// What a runtime computes with; any of a list, if the key itself is none. `none` is without it.
    runtime: Expr,
    /// When it matters.
    when: Option<Expr>,
}

impl Fixed {
    /// A row of a table: `[key, what a runtime computes with]`, and an expression when.
    pub(crate) fn build(row: &[String]) -> Result<Self, String> {
        let ([value, runtime], when) = match row {
            [value, runtime] => ([value, runtime], None),
            [value, runtime, when] => ([value, runtime], Some(Expr::parse(when)?)),
            _ => return Err("a fixed row is [key, value] or [key, value, when]".to_owned()),
        };
        Ok(Self {
            value: Expr::parse(value)?,
            runtime: Expr::parse(runtime)?,
            when,
        })
    }

    /// The loss, if the config says something else. What is not there, and null, is no word.
    fn lost(&self, scope: &Scope<'_>, given: &Map<String, Value>) -> Option<Record> {
        let value = self.value.eval(scope).ok()?;
        let when = self.when.as_ref().map(|when| when.eval(scope));
        if value.is_null() || when.is_some_and(|when| !when.is_ok_and(|when| truthy(&when))) {
            return None;
        }
        let runtime = self.runtime.eval(scope).ok()?;
        let same = match &runtime {
            Value::Null => !truthy(&value),
            Value::Array(_) if !value.is_array() => contains(&runtime, &value),
            one => contains(&Value::Array(vec![one.clone()]), &value),
        };
        if same {
            return None;
        }
        let with = match &runtime {
            Value::Null => "without it".to_owned(),
            Value::Array(any) if !value.is_array() => {
                format!("with {}", told(any.first().unwrap_or(&Value::Null)))
            }
            one => format!("with {}", told(one)),
        };
        let what = format!("config.json {} {}", self.name(given), told(&value));
        let why = format!(
            "GGUF has no key for it: llama.cpp computes {with}, and what comes back from the file \
             has its class's own"
        );
        Some(Record::dropped("config-value", what, why))
    }

    /// What the config calls it.
    fn name(&self, given: &Map<String, Value>) -> String {
        let path = self.value.to_string();
        let rope = ["rope_parameters", "rope_scaling"];
        let rope = rope
            .into_iter()
            .find(|key| given.get(*key).is_some_and(Value::is_object));
        match (path.strip_prefix("rope."), rope) {
            (Some(key), Some(rope)) => format!("{rope}.{key}"),
            _ => path,
        }
    }
}

/// The losses of all rows. `root` is the config as tables see it, with `tensors` and `written` for
/// the names of tensors and keys that the file has; `given` the config as it was.
pub(crate) fn losses(
    rows: &[Fixed],
    root: &Map<String, Value>,
    given: &Map<String, Value>,
) -> Vec<Record> {
    let scope = Scope::new(root);
    let lost = rows.iter().filter_map(|row| row.lost(&scope, given));
    lost.collect()
}

fn told(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_TOLD) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lost(row: &[&str], config: &Value) -> Option<String> {
        let row: Vec<String> = row.iter().map(|&text| text.to_owned()).collect();
        let root = config.as_object().unwrap();
        let found = losses(&[Fixed::build(&row).unwrap()], root, root);
        found
            .first()
            .map(|one| format!("{}: {}", one.what, one.why))
    }

    #[test]
    fn only_what_is_said_otherwise_is_lost() {
        let act = ["hidden_act", "['silu', 'swish']"];
        assert_eq!(lost(&act, &json!({})), None);
        assert_eq!(lost(&act, &json!({"hidden_act": null})), None);
        assert_eq!(lost(&act, &json!({"hidden_act": "swish"})), None);
        let words = lost(&act, &json!({"hidden_act": "relu"})).unwrap();
        assert!(
            words.starts_with("config.json hidden_act \"relu\": "),
            "{words}"
        );
        assert!(words.contains("computes with \"silu\""), "{words}");
    }

    #[test]
    fn none_is_without_and_false_is_a_word_where_true_is_computed() {
        let window = ["sliding_window", "none", "sliding_window < context"];
        assert_eq!(
            lost(&window, &json!({"sliding_window": 64, "context": 32})),
            None
        );
        let words = lost(&window, &json!({"sliding_window": 64, "context": 128}));
        assert!(words.unwrap().contains("computes without it"));
        assert_eq!(lost(&["a", "none"], &json!({"a": false})), None);
        assert!(lost(&["a", "true"], &json!({"a": false})).is_some());
        assert_eq!(lost(&["a", "1.0"], &json!({"a": 1})), None);
    }

    #[test]
    fn lists_are_compared_whole_and_told_short() {
        let row = ["a", "[(i + 1) % 2 for i in range(2)]"];
        assert_eq!(lost(&row, &json!({"a": [1, 0]})), None);
        let words = lost(&row, &json!({"a": vec![1; 99]})).unwrap();
        assert!(words.len() < 250 && words.contains('…'), "{words}");
    }

    #[test]
    fn rope_has_the_name_it_has_in_the_config() {
        let config = json!({"rope": {"rope_type": "dynamic"}, "rope_scaling": {}});
        let words = lost(&["rope.rope_type", "'default'"], &config).unwrap();
        assert!(words.contains("config.json rope_scaling.rope_type \"dynamic\""));
    }
}
