//! What filters, methods and functions make of values, as far as names can be built with them.

use super::value::Value;
use Value::{Around, Dict, Int, List, Lit, Made, Plain, Str};

/// The arguments of a call.
#[derive(Debug, Default)]
pub(super) struct Args<'a> {
    pub(super) places: Vec<Value>,
    pub(super) named: Vec<(&'a str, Value)>,
    /// Those behind `*` and `**`.
    pub(super) spread: Option<Value>,
}

impl Args<'_> {
    /// What any of them can be.
    pub(super) fn worst(&self) -> Value {
        let named = self.named.iter().map(|(_, value)| value);
        let all = self.places.iter().chain(named).chain(&self.spread);
        all.fold(Plain, |worst, value| worst.join(&value.worst()))
    }

    fn get(&self, at: usize) -> Option<&Value> {
        self.places.get(at)
    }

    fn text(&self, at: usize) -> Option<&str> {
        self.get(at)?.text()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Value> {
        let mut found = self.named.iter().filter(|(n, _)| *n == name);
        found.next().map(|(_, value)| value)
    }
}

/// `value|name(args)`.
pub(super) fn filter(name: &str, value: &Value, args: &Args<'_>) -> Value {
    match name {
        "length" | "count" | "int" | "float" | "abs" | "round" | "wordcount" => Plain,
        "first" => value.at(&Int(0)),
        "last" => value.at(&Int(-1)),
        "list" => match value {
            Str(text, made) => {
                let letter = |c: char| Str(c.to_string().into(), *made);
                Value::list(text.chars().map(letter).collect())
            }
            other => other.clone(),
        },
        "random" | "min" | "max" | "sum" | "sort" | "unique" | "batch" | "slice" | "select"
        | "reject" | "selectattr" | "rejectattr" | "groupby" | "items" | "dictsort" => {
            with_made(value.element(), args)
        }
        "map" => match (value, args.text(0)) {
            (List(items), Some(inner)) => {
                let rest = Args {
                    places: args.places.get(1..).unwrap_or_default().to_vec(),
                    ..Args::default()
                };
                // One deep: `map('map', …)` says nothing that is known.
                let each = |item: &Value| match inner {
                    "map" => item.join(&args.worst()),
                    _ => filter(inner, item, &rest),
                };
                Value::list(items.iter().map(each).collect())
            }
            (_, Some(inner)) if inner != "map" => filter(inner, &value.element(), &Args::default()),
            _ => with_made(value.element(), args),
        },
        "default" | "d" => value.join(&args.get(0).cloned().unwrap_or(Plain)),
        "reverse" => match value {
            Str(text, _) => Value::made(&text.chars().rev().collect::<String>()),
            List(items) => Value::list(items.iter().rev().cloned().collect()),
            Lit(_) | Around(_) => value.reworked(),
            other => other.clone(),
        },
        "string" | "safe" | "e" | "escape" | "forceescape" => match value {
            Str(..) | Around(_) | Made(_) => value.clone(),
            Int(number) => Value::literal(&number.to_string()),
            // Objects are written with their names.
            _ => Lit(true),
        },
        "join" => {
            let between = args
                .get(0)
                .or(args.named("d"))
                .map_or(Some(""), Value::text);
            joined(value, between)
        }
        "format" => value.percent(&args.places),
        "trim" if args.places.is_empty() && args.named.is_empty() => method("strip", value, args),
        "lower" | "upper" | "title" | "capitalize" | "center" | "replace" => {
            method(name, value, args)
        }
        _ => unknown(value, args),
    }
}

/// What a filter gives that can give an argument back, as `default=` of `groupby`.
fn with_made(value: Value, args: &Args<'_>) -> Value {
    let worst = args.worst();
    if worst.is_made() {
        value.join(&worst)
    } else {
        value
    }
}

/// A text that something unknown gives.
fn unknown(value: &Value, args: &Args<'_>) -> Value {
    if value.is_text() || args.worst().is_text() {
        Made(true)
    } else {
        Lit(true)
    }
}

fn joined(items: &Value, between: Option<&str>) -> Value {
    let texts: Option<Vec<String>> = match items {
        List(items) => items.iter().map(Value::written).collect(),
        Dict(items) => Some(items.iter().map(|(name, _)| name.to_string()).collect()),
        Str(text, _) => Some(text.chars().map(String::from).collect()),
        _ => None,
    };
    match (texts, between) {
        (Some(texts), Some(between)) => Value::made(&texts.join(between)),
        _ => Made(true),
    }
}

/// Methods that change what they belong to.
pub(super) const FILLING: &[&str] = &[
    "__setitem__",
    "add",
    "append",
    "extend",
    "insert",
    "setdefault",
    "update",
];

/// `value.name(args)`.
pub(super) fn method(name: &str, value: &Value, args: &Args<'_>) -> Value {
    let made = |text: String| Value::made(&text);
    let bare = args.places.is_empty() && args.named.is_empty() && args.spread.is_none();
    match (name, value) {
        ("find" | "rfind" | "index" | "rindex" | "count" | "startswith" | "endswith", _) => Plain,
        (name, _) if name.starts_with("is") => Plain,
        ("lower" | "casefold", Str(text, _)) => made(text.to_lowercase()),
        ("upper", Str(text, _)) => made(text.to_uppercase()),
        ("strip", Str(text, _)) if bare => made(text.trim().to_owned()),
        ("replace", Str(text, _)) => match (args.text(0), args.text(1)) {
            // Each letter can become many.
            (Some(from), Some(to)) if args.places.len() == 2 && to.len() < 16 => {
                made(text.replace(from, to))
            }
            _ => Made(true),
        },
        ("center", Str(text, _)) => centered(text, args).map_or(Made(true), made),
        ("format", Str(text, _)) => formatted(text, args).map_or(Made(true), made),
        ("join", Str(..) | Plain) => match args.get(0) {
            Some(items) => joined(items, value.text()),
            None => Made(true),
        },
        ("get" | "pop" | "setdefault", _) => {
            let found = args.get(0).map_or(Plain, |index| value.at(index));
            match args.get(1) {
                Some(other) => found.join(other),
                None if *value == Plain => Plain,
                None => found,
            }
        }
        ("keys" | "values" | "items" | "copy" | "popitem" | "cycle", _) => {
            value.element().join(&args.worst())
        }
        ("split" | "rsplit" | "partition" | "rpartition" | "splitlines", _) => value.element(),
        // Of what the template is given: as it comes, or in other letters.
        (
            "lower" | "upper" | "title" | "capitalize" | "strip" | "lstrip" | "rstrip" | "casefold",
            Plain,
        ) => Plain,
        ("strip" | "lstrip" | "rstrip", Lit(_)) if bare => value.clone(),
        ("lower" | "upper" | "strip" | "lstrip" | "rstrip" | "casefold", Around(_) | Made(_)) => {
            value.reworked()
        }
        (_, Plain | Int(_)) if !args.worst().is_text() => Plain,
        (
            "replace" | "join" | "format" | "format_map" | "center" | "ljust" | "rjust" | "zfill"
            | "translate",
            _,
        ) => Made(true),
        (_, Plain | Int(_)) if !args.worst().is_made() => Lit(true),
        (name, _) if FILLING.contains(&name) => Plain,
        _ if bare && !value.is_text() => Plain,
        _ => Made(true),
    }
}

/// `text.center(width, fill)`, as Python shares out an odd number of letters.
fn centered(text: &str, args: &Args<'_>) -> Option<String> {
    let Some(Int(width)) = args.get(0).or(args.named("width")) else {
        return None;
    };
    let fill = args.get(1).map_or(Some(" "), Value::text)?;
    padded(text, fill, usize::try_from(*width).ok()?, '^')
}

fn padded(text: &str, fill: &str, width: usize, side: char) -> Option<String> {
    if width > 256 {
        return None;
    }
    let len = text.chars().count();
    let pad = width.saturating_sub(len);
    let left = match side {
        '<' => 0,
        '>' => pad,
        _ => pad / 2,
    };
    Some(format!(
        "{}{text}{}",
        fill.repeat(left),
        fill.repeat(pad - left)
    ))
}

/// `text.format(args)` with fields of the forms `{}`, `{0}`, `{name}` and `{:_^8}`.
fn formatted(text: &str, args: &Args<'_>) -> Option<String> {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(rest.get(..at)?);
        let sign = rest.get(at..=at)?;
        rest = rest.get(at + 1..)?;
        if let Some(after) = rest.strip_prefix(sign) {
            out.push_str(sign);
            rest = after;
            continue;
        }
        let (field, after) = rest.split_once('}').filter(|_| sign == "{")?;
        rest = after;
        let (name, form) = field.split_once(':').unwrap_or((field, ""));
        let value = if name.is_empty() {
            next += 1;
            args.get(next - 1)
        } else if let Ok(at) = name.parse::<usize>() {
            args.get(at)
        } else {
            args.named(name)
        };
        let value = value?.written()?;
        let mut letters = form.chars();
        let padding = (letters.next(), letters.next(), letters.as_str());
        match padding {
            (None, ..) => out.push_str(&value),
            (Some(fill), Some(side @ ('<' | '>' | '^')), width) => {
                let width = width.trim_end_matches('s').parse().ok()?;
                out.push_str(&padded(&value, &fill.to_string(), width, side)?);
            }
            _ => return None,
        }
        if out.len() > 1024 {
            return None;
        }
    }
    out.push_str(rest);
    Some(out)
}
