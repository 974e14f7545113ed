//! From syntax tree to value.

use super::{Binary, Node, Unary};
use serde_json::{Map, Value, json};

/// Lists longer than this are nobody's config.
const MAX_LIST: u64 = 1 << 20;

/// Where names are looked up: loop variables first, then the config.
#[derive(Clone, Debug)]
pub(crate) struct Scope<'a> {
    root: &'a Map<String, Value>,
    locals: Vec<(String, Value)>,
}

impl<'a> Scope<'a> {
    /// Names are the keys of `root`.
    pub(crate) fn new(root: &'a Map<String, Value>) -> Self {
        Self {
            root,
            locals: Vec::new(),
        }
    }

    /// The same with one more name.
    #[must_use]
    pub(crate) fn with(&self, name: &str, value: Value) -> Self {
        let mut scope = self.clone();
        scope.locals.push((name.to_owned(), value));
        scope
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let local = self.locals.iter().rev().find(|(known, _)| known == name);
        local
            .map(|(_, value)| value)
            .or_else(|| self.root.get(name))
    }
}

/// Python's idea of truth.
pub(crate) fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Functions with the least and greatest number of arguments; the verbs of the tensor rows are
/// parsed as calls too.
const FUNCTIONS: &[(&str, usize, usize)] = &[
    ("find", 1, 16),
    ("int", 1, 1),
    ("float", 1, 1),
    ("len", 1, 1),
    ("sqrt", 1, 1),
    ("log", 1, 1),
    ("near", 2, 2),
    ("min", 2, 8),
    ("max", 2, 8),
    ("range", 1, 1),
    ("sum", 1, 1),
    ("lower", 1, 1),
    ("str", 1, 1),
    ("values", 1, 1),
    ("numbered", 1, 1),
    ("pad", 3, 3),
    ("dict", 0, 32),
    ("uniform", 1, 1),
];

pub(super) fn check_call(name: &str, n_args: usize) -> Result<(), String> {
    let row = FUNCTIONS.iter().find(|row| row.0 == name);
    let verb = crate::verb::arity(name);
    let (least, most) = row
        .map(|row| (row.1, row.2))
        .or(verb)
        .ok_or_else(|| format!("there is no function {name:?}"))?;
    if (least..=most).contains(&n_args) {
        return Ok(());
    }
    Err(format!(
        "{name} takes {least} to {most} arguments, not {n_args}"
    ))
}

pub(super) fn eval(node: &Node, scope: &Scope<'_>) -> Result<Value, String> {
    Ok(match node {
        Node::Literal(value) => value.clone(),
        Node::Name(name) => scope.get(name).cloned().unwrap_or(Value::Null),
        Node::Attribute(of, name) => match eval(of, scope)? {
            Value::Object(mut map) => map.remove(name).unwrap_or(Value::Null),
            Value::Null => return Ok(Value::Null),
            other => return Err(format!("{other} has no attribute {name}")),
        },
        Node::Index(of, index) => {
            let of = eval(of, scope)?;
            let index = eval(index, scope)?;
            at(&of, &index)?
        }
        Node::List(items) => {
            let items: Result<Vec<_>, _> = items.iter().map(|item| eval(item, scope)).collect();
            Value::Array(items?)
        }
        Node::Each {
            element,
            name,
            items,
            filter,
        } => {
            let items = match eval(items, scope)? {
                Value::Array(items) => items,
                Value::Null => return Ok(Value::Null),
                other => return Err(format!("{other} is not a list")),
            };
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let inner = scope.with(name, item);
                let wanted = match filter {
                    Some(filter) => truthy(&eval(filter, &inner)?),
                    None => true,
                };
                if wanted {
                    list.push(eval(element, &inner)?);
                }
            }
            Value::Array(list)
        }
        Node::Unary(Unary::Not, of) => Value::Bool(!truthy(&eval(of, scope)?)),
        Node::Unary(Unary::Minus, of) => {
            arithmetic(Binary::Subtract, &json!(0), &eval(of, scope)?)?
        }
        Node::If {
            condition,
            then,
            otherwise,
        } => {
            let branch = if truthy(&eval(condition, scope)?) {
                then
            } else {
                otherwise
            };
            eval(branch, scope)?
        }
        Node::Binary(operator, left, right) => binary(*operator, left, right, scope)?,
        Node::Call(name, args) => call(name, args, scope)?,
    })
}

fn at(of: &Value, index: &Value) -> Result<Value, String> {
    Ok(match (of, index) {
        (Value::Array(items), Value::Number(i)) => {
            let i = i.as_i64().ok_or("an index is a whole number")?;
            let len = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let i = if i < 0 { i + len } else { i };
            usize::try_from(i)
                .ok()
                .and_then(|i| items.get(i))
                .cloned()
                .unwrap_or(Value::Null)
        }
        (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or(Value::Null),
        // What has no items: a key that is a list in some models and a number in others.
        (Value::Null | Value::Number(_) | Value::Bool(_), _) => Value::Null,
        (of, index) => return Err(format!("{of} has no item {index}")),
    })
}

fn binary(operator: Binary, left: &Node, right: &Node, scope: &Scope<'_>) -> Result<Value, String> {
    let left = eval(left, scope)?;
    // The three that may leave the right side alone.
    match operator {
        Binary::Or if truthy(&left) => return Ok(left),
        Binary::And if !truthy(&left) => return Ok(left),
        Binary::Coalesce if !left.is_null() => return Ok(left),
        Binary::Or | Binary::And | Binary::Coalesce => return eval(right, scope),
        _ => {}
    }
    let right = eval(right, scope)?;
    Ok(match operator {
        Binary::Equal => Value::Bool(same(&left, &right)),
        Binary::NotEqual => Value::Bool(!same(&left, &right)),
        Binary::In => Value::Bool(contains(&right, &left)),
        Binary::NotIn => Value::Bool(!contains(&right, &left)),
        Binary::Less | Binary::LessEqual | Binary::Greater | Binary::GreaterEqual => {
            let (Some(a), Some(b)) = (left.as_f64(), right.as_f64()) else {
                return Ok(Value::Bool(false));
            };
            Value::Bool(match operator {
                Binary::Less => a < b,
                Binary::LessEqual => a <= b,
                Binary::Greater => a > b,
                _ => a >= b,
            })
        }
        _ => arithmetic(operator, &left, &right)?,
    })
}

fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(a), Some(b)) => a.to_bits() == b.to_bits() || a - b == 0.0,
        _ => left == right,
    }
}

/// Whether an item is in a list, a key in a mapping, a part in a text.
pub(crate) fn contains(container: &Value, item: &Value) -> bool {
    match container {
        Value::Array(items) => items.iter().any(|known| same(known, item)),
        Value::Object(map) => item.as_str().is_some_and(|key| map.contains_key(key)),
        Value::String(text) => item.as_str().is_some_and(|part| text.contains(part)),
        _ => false,
    }
}

fn arithmetic(operator: Binary, left: &Value, right: &Value) -> Result<Value, String> {
    if left.is_null() || right.is_null() {
        return Ok(Value::Null);
    }
    if let (Binary::Add, Value::Array(a), Value::Array(b)) = (operator, left, right) {
        return Ok(Value::Array(a.iter().chain(b).cloned().collect()));
    }
    if let (Binary::Multiply, Value::Array(a), Some(n)) = (operator, left, right.as_u64()) {
        let n = usize::try_from(n.min(MAX_LIST)).unwrap_or(0);
        return Ok(Value::Array(
            std::iter::repeat_n(a.clone(), n).flatten().collect(),
        ));
    }
    let bad = || format!("{left} and {right} cannot be reckoned with");
    if let (Some(a), Some(b)) = (left.as_i64(), right.as_i64()) {
        let whole = match operator {
            Binary::Add => a.checked_add(b),
            Binary::Subtract => a.checked_sub(b),
            Binary::Multiply => a.checked_mul(b),
            Binary::FloorDivide => floor_divide(a, b),
            Binary::Remainder => floor_divide(a, b).and_then(|q| a.checked_sub(q.checked_mul(b)?)),
            Binary::Power => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
            _ => None,
        };
        if let Some(whole) = whole {
            return Ok(json!(whole));
        }
        if matches!(operator, Binary::FloorDivide | Binary::Remainder) {
            return Err(format!("{a} cannot be divided by {b}"));
        }
    }
    let (Some(a), Some(b)) = (left.as_f64(), right.as_f64()) else {
        return Err(bad());
    };
    let real = match operator {
        Binary::Add => a + b,
        Binary::Subtract => a - b,
        Binary::Multiply => a * b,
        Binary::Divide => a / b,
        Binary::FloorDivide => (a / b).floor(),
        Binary::Remainder => a - b * (a / b).floor(),
        Binary::Power => a.powf(b),
        _ => return Err(bad()),
    };
    if real.is_finite() {
        Ok(json!(real))
    } else {
        Err(bad())
    }
}

fn floor_divide(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    let inexact = a.checked_rem(b)? != 0;
    Some(quotient - i64::from(inexact && (a < 0) != (b < 0)))
}

fn call(name: &str, args: &[Node], scope: &Scope<'_>) -> Result<Value, String> {
    let args: Result<Vec<Value>, String> = args.iter().map(|arg| eval(arg, scope)).collect();
    let args = args?;
    let first = args.first().cloned().unwrap_or(Value::Null);
    if first.is_null() && !matches!(name, "find" | "dict") {
        return Ok(Value::Null);
    }
    let number = || {
        first
            .as_f64()
            .ok_or_else(|| format!("{first} is not a number"))
    };
    Ok(match name {
        "find" => args
            .iter()
            .filter_map(Value::as_str)
            .find_map(|key| scope.get(key))
            .cloned()
            .unwrap_or(Value::Null),
        "int" => {
            if first.as_i64().is_some() {
                return Ok(first);
            }
            let whole = number()?.trunc();
            if whole.abs() > 9e15 {
                return Err(format!("{first} is too large"));
            }
            #[allow(clippy::cast_possible_truncation)] // bounded just above
            let whole = whole as i64;
            json!(whole)
        }
        "float" => json!(number()?),
        "sqrt" => json!(number()?.sqrt()),
        "log" => json!(number()?.ln()),
        // Within what a rounding or another's float makes of it.
        "near" => {
            let other = args.get(1).and_then(Value::as_f64);
            let other = other.ok_or("near takes two numbers")?;
            json!((number()? - other).abs() <= 1e-4)
        }
        "len" => match &first {
            Value::Array(items) => json!(items.len()),
            Value::String(text) => json!(text.chars().count()),
            Value::Object(map) => json!(map.len()),
            Value::Number(_) => Value::Null,
            other => return Err(format!("{other} has no length")),
        },
        "min" | "max" => {
            let mut best = first.clone();
            for arg in args.iter().filter(|arg| !arg.is_null()) {
                let (a, b) = (arg.as_f64(), best.as_f64());
                if if name == "min" { a < b } else { a > b } {
                    best = arg.clone();
                }
            }
            best
        }
        "range" => {
            let n = first.as_u64().filter(|n| *n <= MAX_LIST);
            let n = n.ok_or_else(|| format!("{first} is no length of a list"))?;
            Value::Array((0..n).map(|i| json!(i)).collect())
        }
        "sum" => {
            let items = first.as_array().ok_or("sum takes a list")?;
            let mut total = json!(0);
            for item in items {
                total = arithmetic(Binary::Add, &total, item)?;
            }
            total
        }
        "str" => match first {
            Value::String(_) => first,
            other => json!(other.to_string()),
        },
        "lower" => json!(first.as_str().unwrap_or("").to_lowercase()),
        "values" => {
            // In the order of their keys as numbers: id2label.
            let map = first.as_object().ok_or("values takes a mapping")?;
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(key, _)| key.parse::<u64>().unwrap_or(u64::MAX));
            Value::Array(pairs.into_iter().map(|(_, value)| value.clone()).collect())
        }
        // The way back from `values`.
        "numbered" => {
            let list = first.as_array().ok_or("numbered takes a list")?;
            let pairs = list.iter().enumerate();
            Value::Object(
                pairs
                    .map(|(n, value)| (n.to_string(), value.clone()))
                    .collect(),
            )
        }
        // pad(list, length, filler), cut to the length too.
        "pad" => {
            let mut items = first.as_array().cloned().ok_or("pad takes a list")?;
            let len = args
                .get(1)
                .and_then(Value::as_u64)
                .unwrap_or(0)
                .min(MAX_LIST);
            items.resize(
                usize::try_from(len).unwrap_or(0),
                args.get(2).cloned().unwrap_or(Value::Null),
            );
            Value::Array(items)
        }
        // dict('a', 1, 'b', 2), without the pairs whose value is none.
        "dict" => {
            let mut map = Map::new();
            for pair in args.chunks_exact(2) {
                if let [Value::String(key), value] = pair
                    && !value.is_null()
                {
                    map.insert(key.clone(), value.clone());
                }
            }
            if map.is_empty() {
                Value::Null
            } else {
                Value::Object(map)
            }
        }
        // A list whose items are all one value is that value.
        "uniform" => match &first {
            Value::Array(items) => match items.split_first() {
                Some((one, rest)) if rest.iter().all(|item| same(item, one)) => one.clone(),
                _ => first,
            },
            _ => first,
        },
        other => return Err(format!("{other} belongs into a tensor row")),
    })
}
