//! What the newer exporter computed a constant from, as it says itself (`folded_from`): all values
//! that are in it, in no order.
//!
//! | constant | from | it is |
//! |---|---|---|
//! | `val_0` | `fc.weight` | what the node's operator makes of the parameter: transposed, for a linear layer |
//! | `permute` | `fc.weight` | the parameter, transposed by the model's code |
//! | `val_0` | `fc.weight`, `t` | the same, transposed again by the operator |
//! | `abs_1` | `fc.weight` | other numbers |
//! | `val_9` | `fc.weight`, `val_7`, `val_8` | who knows |
//!
//! Values of the code have the name of their operator, and a number from the second on; those that
//! an operator was written with are `val_` and a number.

use super::nodes::{Role, hidden, strings};
use ir::{GraphBody, Initializer, TensorId, TensorTable, Value};
use std::collections::HashMap;

/// Operators of code that swap the dimensions of a matrix.
const SWAPS: [&str; 4] = ["numpy_t", "permute", "t", "transpose"];
/// Those that leave all numbers where they are.
const COPIES: [&str; 4] = ["alias", "clone", "contiguous", "detach"];

/// What a constant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold<'a> {
    /// A parameter of this name.
    Parameter {
        name: &'a str,
        /// Whether the code transposed it.
        turned: bool,
        /// Whether the operator of its node then made of it what that takes.
        lowered: bool,
    },
    /// No parameter: numbers that were computed, or that lie as only their node knows.
    Computed,
}

impl<'a> Fold<'a> {
    /// None for what the exporter says nothing of.
    fn of(value: &'a Value) -> Option<Self> {
        let from = folds(value)?;
        let lowered = made(&value.name);
        let own = Some(value.name.as_str()).filter(|_| !lowered);
        let mut names = from.iter().copied().filter(|name| !step(name));
        let (name, others) = (names.next(), names.next());
        let code = from.iter().copied().filter(|name| step(name)).chain(own);
        let (mut turned, mut known) = (false, true);
        for name in code {
            let swaps = SWAPS.contains(&operator(name));
            turned ^= swaps;
            known &= swaps || COPIES.contains(&operator(name));
        }
        Some(match name {
            Some(name) if others.is_none() && known && !made(name) => Self::Parameter {
                name,
                turned,
                lowered,
            },
            _ => Self::Computed,
        })
    }

    /// Whether the constant lies transposed, where a node has it in this role.
    pub(super) fn transposed(turned: bool, lowered: bool, role: Role) -> bool {
        turned ^ (lowered && role.transposed)
    }
}

/// What constants with names of the exporter's own are, by tensor.
pub(super) fn find<'a>(body: &'a GraphBody, tensors: &TensorTable) -> HashMap<TensorId, Fold<'a>> {
    let dense = body.initializers.iter().filter_map(|initializer| {
        let Initializer::Dense(value, id) = initializer else {
            return None;
        };
        let raw = tensors.get(*id).is_some_and(|t| hidden(&t.name));
        Some((*id, Fold::of(body.value(*value).filter(|_| raw)?)?))
    });
    dense.collect()
}

/// The one parameter that a constant is.
pub(super) fn parameter(value: &Value) -> Option<&str> {
    match Fold::of(value)? {
        Fold::Parameter { name, .. } => Some(name),
        Fold::Computed => None,
    }
}

/// All values that the exporter computed a constant from.
pub(super) fn folds(value: &Value) -> Option<Vec<&str>> {
    const KEY: &str = "pkg.onnxscript.optimizer.folded_from";
    let (_, text) = value.metadata.iter().find(|(key, _)| key == KEY)?;
    strings(text)
}

/// A name of the exporter's own making. A parameter of the model itself has no dot in its name.
fn made(name: &str) -> bool {
    let number = name.strip_prefix("val_").unwrap_or(name);
    hidden(name) && (name.contains([':', '/']) || number.bytes().all(|c| c.is_ascii_digit()))
}

/// A value of the code that is a parameter's numbers again.
fn step(name: &str) -> bool {
    let operator = operator(name);
    SWAPS.contains(&operator) || COPIES.contains(&operator)
}

/// The operator that a value has its name from: `permute` of `permute_1`.
fn operator(name: &str) -> &str {
    let Some((operator, number)) = name.rsplit_once('_') else {
        return name;
    };
    let counts = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    if counts { operator } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(name: &str, from: &str) -> Option<(String, bool, bool)> {
        let key = "pkg.onnxscript.optimizer.folded_from".to_owned();
        let value = Value {
            name: name.to_owned(),
            metadata: vec![(key, from.to_owned())],
            ..Value::default()
        };
        match Fold::of(&value).unwrap() {
            Fold::Parameter {
                name,
                turned,
                lowered,
            } => Some((name.to_owned(), turned, lowered)),
            Fold::Computed => None,
        }
    }

    #[test]
    fn a_parameter_is_told_from_what_is_computed_of_it() {
        // As torch 2.15's exporter writes `F.linear(x, W)`, `x @ W.T`, `F.linear(x, W.t())`,
        // `x @ W.t().t()`, `x @ W.t().contiguous()` and `x @ W.detach()`.
        let parameters = [
            ("val_0", "['m.W']", (false, true)),
            ("permute", "['m.W']", (true, false)),
            ("val_0", "['m.W', 't']", (true, true)),
            ("t_1", "['m.W', 't']", (false, false)),
            ("clone", "['m.W', 't']", (true, false)),
            ("detach", "['m.W']", (false, false)),
            ("permute_12", "['W']", (true, false)),
        ];
        for (name, from, (turned, lowered)) in parameters {
            let what = from[2..].split('\'').next().unwrap().to_owned();
            assert_eq!(fold(name, from), Some((what, turned, lowered)), "{from}");
        }
        let computed = [
            ("abs_1", "['m.W']"),
            ("val_0", "['exp', 'm.W']"),
            ("val_0", "['cat', 'm.W1', 'm.W2']"),
            ("val_12", "['m.W', 'slice_1', 'val_0', 'val_1']"),
            ("val_0", "['_to_copy', '_to_copy_1', 'm.W']"),
            ("val_31", "['b.weight', 'slice_1', 'val_24']"),
            ("val_3", "['val_1', 'val_2']"),
            ("t_1", "['t']"),
        ];
        for (name, from) in computed {
            assert_eq!(fold(name, from), None, "{name} of {from}");
        }
    }
}
