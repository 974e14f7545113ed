//! What is known of a value of a template: the text itself, that the template put it together, or
//! that it comes from outside.

use std::rc::Rc;

/// Letters and items of one value that are followed. Names of attributes are short.
const MOST: usize = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, or what the template is given.
    #[default]
    Plain,
    Int(i64),
    /// A text, and whether the template put it together.
    Str(Rc<str>, bool),
    List(Rc<[Value]>),
    Dict(Rc<[(Rc<str>, Value)]>),
    /// One of the texts that stand in the template, or a text of what it is given; and whether it
    /// may hold an underscore.
    Lit(bool),
    /// What the template writes before, between and behind what it is given.
    Around(Rc<str>),
    /// A text that the template puts together and that is not known; and whether it may hold an
    /// underscore that the template brought.
    Made(bool),
}

use Value::{Around, Dict, Int, List, Lit, Made, Plain, Str};

impl Value {
    /// A text as it stands in the template.
    pub(super) fn literal(text: &str) -> Self {
        if text.len() > MOST {
            return Lit(text.contains('_'));
        }
        Str(text.into(), false)
    }

    /// A text that was put together.
    pub(super) fn made(text: &str) -> Self {
        if text.len() > MOST {
            return Made(text.contains('_'));
        }
        Str(text.into(), true)
    }

    /// A text that holds this one's letters, and how is not known.
    pub(super) fn reworked(&self) -> Self {
        Made(self.underscored())
    }

    /// Whether the template's part of it has an underscore, or may have one.
    pub(super) fn underscored(&self) -> bool {
        match self {
            Plain | Int(_) => false,
            Str(text, _) | Around(text) => text.contains('_'),
            Lit(has) | Made(has) => *has,
            List(items) => items.iter().any(Self::underscored),
            Dict(items) => items
                .iter()
                .any(|(name, item)| name.contains('_') || item.underscored()),
        }
    }

    pub(super) fn list(items: Vec<Self>) -> Self {
        let list = List(items.into());
        list.bounded()
    }

    pub(super) fn dict(items: Vec<(Rc<str>, Self)>) -> Self {
        Dict(items.into()).bounded()
    }

    fn bounded(self) -> Self {
        if self.weight() > MOST {
            self.worst()
        } else {
            self
        }
    }

    fn weight(&self) -> usize {
        match self {
            Str(text, _) => 1 + text.len(),
            List(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Dict(items) => {
                let weight = |(name, value): &(Rc<str>, Self)| name.len() + value.weight();
                1 + items.iter().map(weight).sum::<usize>()
            }
            _ => 1,
        }
    }

    /// What any of it can be.
    pub(super) fn worst(&self) -> Self {
        match self {
            List(items) => items
                .iter()
                .fold(Plain, |all, item| all.join(&item.worst())),
            Dict(items) => items
                .iter()
                .fold(Plain, |all, (_, item)| all.join(&item.worst())),
            other => other.clone(),
        }
    }

    /// One value or the other.
    pub(super) fn join(&self, other: &Self) -> Self {
        if self == other {
            return self.clone();
        }
        let holds = |value: &Self| matches!(value, List(_) | Dict(_));
        let holding = holds(self) || holds(other);
        match (self.worst(), other.worst()) {
            (Made(_) | Around(_) | Str(_, true), _) | (_, Made(_) | Around(_) | Str(_, true)) => {
                Made(self.underscored() || other.underscored())
            }
            // What may be a list may be filled with texts later.
            (Plain | Int(_), Plain | Int(_)) if !holding => Plain,
            _ => Lit(self.underscored() || other.underscored()),
        }
    }

    /// Whether it is or holds a text of the template.
    pub(super) fn is_text(&self) -> bool {
        matches!(self.worst(), Str(..) | Lit(_) | Around(_) | Made(_))
    }

    pub(super) fn is_made(&self) -> bool {
        matches!(self.worst(), Str(_, true) | Around(_) | Made(_))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Str(text, _) => Some(text),
            _ => None,
        }
    }

    /// As `~` and `%s` write it.
    pub(super) fn written(&self) -> Option<String> {
        match self {
            Str(text, _) => Some(text.to_string()),
            Int(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// Any item of it.
    pub(super) fn element(&self) -> Self {
        match self {
            Str(_, true) | Around(_) => self.reworked(),
            Str(..) => Lit(self.underscored()),
            Dict(items) if !items.is_empty() => Lit(self.underscored()).join(&self.worst()),
            other => other.worst(),
        }
    }

    /// A member that is named.
    pub(super) fn member(&self, name: &str) -> Self {
        match self {
            Dict(items) => {
                let found = items.iter().rev().find(|(n, _)| **n == *name);
                found.map_or_else(|| self.worst(), |(_, value)| value.clone())
            }
            Around(_) | Made(_) => self.reworked(),
            _ => Plain,
        }
    }

    /// `value[index]`.
    pub(super) fn at(&self, index: &Self) -> Self {
        match (self, index) {
            (Str(text, _), Int(at)) => {
                let chars: Vec<char> = text.chars().collect();
                let found = place(*at, chars.len()).and_then(|at| chars.get(at));
                found.map_or(Plain, |c| Self::made(&c.to_string()))
            }
            (List(items), Int(at)) => {
                let found = place(*at, items.len()).and_then(|at| items.get(at));
                found.cloned().unwrap_or(Plain)
            }
            (Dict(_), Str(name, _)) => self.member(name),
            (_, _) => self.element(),
        }
    }

    /// `value[from:to:step]`. A bound that was left out is `None`; one that is not known is no
    /// number.
    pub(super) fn slice(&self, bounds: &[Option<Self>; 3]) -> Self {
        let bound = |at: usize| match bounds.get(at) {
            Some(Some(Int(number))) => Some(Some(*number)),
            Some(None) => Some(None),
            _ => None,
        };
        let known = match (bound(0), bound(1), bound(2)) {
            (Some(from), Some(to), Some(step)) => Some((from, to, step)),
            _ => None,
        };
        match (self, known) {
            (Str(text, _), Some((from, to, step))) => {
                let chars: Vec<char> = text.chars().collect();
                let places = places(from, to, step, chars.len());
                let text: String = places.iter().filter_map(|at| chars.get(*at)).collect();
                Self::made(&text)
            }
            (List(items), Some((from, to, step))) => {
                let places = places(from, to, step, items.len());
                Self::list(
                    places
                        .iter()
                        .filter_map(|at| items.get(*at).cloned())
                        .collect(),
                )
            }
            (Str(..), None) | (Around(_), _) => self.reworked(),
            (Lit(_), _) if bounds.get(2).is_some_and(Option::is_some) => self.reworked(),
            _ => self.worst(),
        }
    }

    pub(super) fn plus(&self, other: &Self) -> Self {
        match (self, other) {
            (Int(a), Int(b)) => a.checked_add(*b).map_or(Plain, Int),
            (Str(a, _), Str(b, _)) => Self::made(&format!("{a}{b}")),
            (List(a), List(b)) => Self::list(a.iter().chain(b.iter()).cloned().collect()),
            // A number is added to numbers only.
            (Int(_), _) | (_, Int(_)) => Plain,
            (List(_), _) | (_, List(_)) => self.join(other).worst(),
            _ if self.is_text() || other.is_text() => self.beside(other),
            _ => Plain,
        }
    }

    /// `a ~ b`, a text whatever they are.
    pub(super) fn beside(&self, other: &Self) -> Self {
        if let (Some(a), Some(b)) = (self.written(), other.written()) {
            return Self::made(&format!("{a}{b}"));
        }
        let around = |value: &Self| match value {
            Plain => Some(String::new()),
            Around(text) => Some(text.to_string()),
            other => other.written(),
        };
        match (around(self), around(other)) {
            (Some(a), Some(b)) if a.len() + b.len() <= MOST => Around(format!("{a}{b}").into()),
            _ => Made(self.underscored() || other.underscored()),
        }
    }

    pub(super) fn times(&self, other: &Self) -> Self {
        let often = |n: &i64| usize::try_from(*n).unwrap_or(0);
        match (self, other) {
            (Int(a), Int(b)) => a.checked_mul(*b).map_or(Plain, Int),
            (Str(text, _), Int(n)) | (Int(n), Str(text, _)) => {
                if often(n).saturating_mul(text.len()) > MOST {
                    return self.join(other).reworked();
                }
                Self::made(&text.repeat(often(n)))
            }
            (List(items), Int(n)) | (Int(n), List(items)) => {
                if often(n).saturating_mul(items.len()) > MOST {
                    return self.join(other).worst();
                }
                let all = (0..often(n)).flat_map(|_| items.iter().cloned());
                Self::list(all.collect())
            }
            _ if self.is_text() || other.is_text() => {
                Made(self.underscored() || other.underscored())
            }
            _ => Plain,
        }
    }

    pub(super) fn minus(&self, other: &Self) -> Self {
        match (self, other) {
            (Int(a), Int(b)) => a.checked_sub(*b).map_or(Plain, Int),
            _ => Plain,
        }
    }

    /// `a % b`: a remainder, or a text that is filled in.
    pub(super) fn percent(&self, args: &[Self]) -> Self {
        match self {
            Str(text, _) => filled(text, args).map_or(Made(true), |text| Self::made(&text)),
            // `%c` makes an underscore of a number.
            Lit(_) | Around(_) | Made(_) => Made(true),
            _ => Plain,
        }
    }
}

/// A place counted from either end.
fn place(at: i64, len: usize) -> Option<usize> {
    if at < 0 {
        let back = usize::try_from(at.unsigned_abs()).ok()?;
        return len.checked_sub(back);
    }
    usize::try_from(at).ok()
}

/// The places that a slice takes, as Python counts them.
fn places(from: Option<i64>, to: Option<i64>, step: Option<i64>, len: usize) -> Vec<usize> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let step = step.unwrap_or(1).clamp(-len - 1, len + 1);
    let (low, high) = if step < 0 { (-1, len - 1) } else { (0, len) };
    let clamp = |at: i64| {
        let at = if at < 0 { at.saturating_add(len) } else { at };
        at.clamp(low, high)
    };
    let mut at = from.map_or(if step < 0 { high } else { low }, clamp);
    let end = to.map_or(if step < 0 { low } else { high }, clamp);
    let mut out = Vec::new();
    while (step > 0 && at < end) || (step < 0 && at > end) {
        out.extend(usize::try_from(at));
        at += step;
    }
    out
}

/// `%s`, `%d` and `%c` filled in; no other.
fn filled(text: &str, args: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        match chars.next()? {
            '%' => out.push('%'),
            's' => out.push_str(&args.next()?.written()?),
            'd' => match args.next()? {
                Int(number) => out.push_str(&number.to_string()),
                _ => return None,
            },
            'c' => match args.next()? {
                Int(number) => out.push(char::from_u32(u32::try_from(*number).ok()?)?),
                Str(text, _) => out.push_str(text),
                _ => return None,
            },
            _ => return None,
        }
        if out.len() > MOST {
            return None;
        }
    }
    Some(out)
}
