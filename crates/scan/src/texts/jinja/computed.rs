//! Attributes reached by names that the template computes: `x['_' * 2 ~ 'init' ~ '_' * 2]`.
//!
//! The expressions are followed with what is known of their values, without regard to which
//! statement runs when: a name has all the values that it is ever given, a macro gives what its
//! body writes. What comes out as a text is looked at. What is put together and cannot be told is
//! odd, for honest templates look up names as they stand; if the template brings an underscore to
//! it, or has such a name around what it is given, it is a way into Python.

use super::body::{Bodies, Kind};
use super::lex::{Part, Token};
use super::value::Value;
use super::{INWARD, Notes};
use std::collections::HashMap;
use std::rc::Rc;

/// Times that the template is gone through, until values no longer change.
const PASSES: usize = 8;
/// Parameters of a macro that are told apart.
const PARAMETERS: usize = 64;
/// Odd places of a template that are told.
const MOST: usize = 100;
/// What stands between the underscores of names that open the way, where it is no other word.
const CORES: &[&str] = &[
    "builtins",
    "class",
    "getattribute",
    "globals",
    "import",
    "init",
    "mro",
    "subclasses",
];

/// Judges a template by its parts.
pub(super) fn judge(parts: &[(usize, Part<'_>)], notes: &mut Notes<'_, '_>) {
    let mut known = Known::default();
    for pass in 0..=PASSES {
        known.changed = false;
        known.found.clear();
        if pass == PASSES {
            // Values that go round and round.
            let names = known.names.values_mut();
            let all = names.chain(known.members.values_mut());
            all.chain(known.returns.values_mut())
                .for_each(|value| *value = Value::Made(true));
        }
        known.template(parts);
        if !known.changed {
            break;
        }
    }
    for (at, found) in known.found {
        match found {
            Found::Name(name) => notes.escape(&name, at),
            Found::Unknown => notes.odd("a computed name", at),
            Found::Hidden => notes.escape("a computed name", at),
            Found::Deep => notes.odd("brackets in brackets, too deep to follow", at),
        }
    }
}

pub(super) enum Found {
    Name(String),
    /// What the template brings to it leads nowhere by itself.
    Unknown,
    /// It can be a name that leads into Python.
    Hidden,
    Deep,
}

/// What is known of the names of a template.
#[derive(Default)]
pub(super) struct Known<'a> {
    pub(super) names: HashMap<&'a str, Value>,
    /// Attributes that are set, of whatever they are.
    pub(super) members: HashMap<Rc<str>, Value>,
    /// Macros and blocks of calls with their parameters.
    pub(super) macros: HashMap<&'a str, Vec<&'a str>>,
    /// What macros write, and the bodies of calls.
    pub(super) returns: HashMap<&'a str, Value>,
    /// What `loop(…)` goes through.
    pub(super) looped: Value,
    /// What was put into lists and dictionaries: into which is not followed.
    pub(super) poured: Value,
    /// What the template puts into what it is given, into which is not followed either.
    pub(super) given: Value,
    /// … or to a function that is not known, which may be any macro by another name.
    handed: bool,
    changed: bool,
    found: Vec<(usize, Found)>,
}

fn store<K: std::hash::Hash + Eq>(all: &mut HashMap<K, Value>, key: K, value: &Value) -> bool {
    let Some(old) = all.get_mut(&key) else {
        all.insert(key, value.clone());
        return true;
    };
    let new = old.join(value);
    let changed = *old != new;
    *old = new;
    changed
}

impl<'a> Known<'a> {
    pub(super) fn set(&mut self, name: &'a str, value: &Value) {
        self.changed |= store(&mut self.names, name, value);
    }

    pub(super) fn set_member(&mut self, name: &str, value: &Value) {
        self.changed |= store(&mut self.members, name.into(), value);
    }

    pub(super) fn set_return(&mut self, name: &'a str, value: &Value) {
        self.changed |= store(&mut self.returns, name, value);
    }

    pub(super) fn go_through(&mut self, items: &Value) {
        let all = self.looped.join(items);
        self.changed |= all != self.looped;
        self.looped = all;
    }

    pub(super) fn find(&mut self, at: usize, what: Found) {
        if self.found.len() < MOST {
            self.found.push((at, what));
        }
    }

    pub(super) fn pour(&mut self, value: &Value) {
        let all = self.poured.join(&value.worst());
        self.changed |= all != self.poured;
        self.poured = all;
    }

    pub(super) fn give(&mut self, value: &Value) {
        let all = self.given.join(&Value::Made(value.underscored()));
        self.changed |= all != self.given;
        self.given = all;
    }

    pub(super) fn hand(&mut self, made: bool) {
        if made {
            self.pour(&Value::Made(true));
        }
        self.changed |= made && !self.handed;
        self.handed |= made;
    }

    /// An attribute or item is fetched by this name.
    pub(super) fn reach(&mut self, name: &Value, at: usize) {
        match name {
            Value::Str(text, made) => {
                let inward = text.split('.').any(|part| INWARD.contains(&part));
                if inward || (*made && text.contains("__")) {
                    self.find(at, Found::Name(text.to_string()));
                }
            }
            Value::Around(text) if leads(text) => self.find(at, Found::Hidden),
            Value::Made(true) => self.find(at, Found::Hidden),
            Value::Around(_) | Value::Made(false) => self.find(at, Found::Unknown),
            _ => {}
        }
    }

    fn template(&mut self, parts: &[(usize, Part<'a>)]) {
        let mut bodies = Bodies::default();
        let mut rest = parts;
        while let Some(((_, part), after)) = rest.split_first() {
            rest = after;
            match part {
                Part::Data(data) => bodies.write(&Value::made(data)),
                Part::Open { statement } => {
                    let end = rest.iter().position(|(_, part)| *part == Part::Close);
                    let (inside, after) = rest.split_at(end.unwrap_or(rest.len()));
                    rest = after;
                    let mut block = Block {
                        tokens: inside,
                        at: 0,
                        depth: 0,
                        own: false,
                        known: self,
                    };
                    if *statement {
                        let opened = block.statement();
                        block.all();
                        self.body(inside, opened, &mut bodies);
                    } else {
                        let value = block.tuple(true);
                        let whole = block.at >= inside.len();
                        block.all();
                        bodies.write(if whole { &value } else { &Value::Made(true) });
                    }
                }
                _ => {}
            }
        }
    }

    /// A statement begins a body, or ends one.
    fn body(
        &mut self,
        inside: &[(usize, Part<'a>)],
        opened: Option<Kind<'a>>,
        bodies: &mut Bodies<'a>,
    ) {
        if let Some(kind) = opened {
            return bodies.open(kind);
        }
        let Some((_, Part::Token(Token::Word(word)))) = inside.first() else {
            return;
        };
        match bodies.statement(word) {
            Some((Kind::Set(name), value)) => self.set(name, &value),
            Some((Kind::Macro(name), value)) => self.set_return(name, &value),
            _ => {}
        }
    }
}

/// Whether a name that leads into Python comes of this with something around or between.
fn leads(text: &str) -> bool {
    text.contains("__")
        || INWARD.iter().any(|name| text.contains(name))
        || CORES.iter().any(|core| text.contains(core))
}

/// The tokens of one block.
pub(super) struct Block<'p, 'a> {
    pub(super) tokens: &'p [(usize, Part<'a>)],
    pub(super) at: usize,
    pub(super) depth: u16,
    /// Whether the value that is looked at is, or is in, a container of the template's own.
    pub(super) own: bool,
    pub(super) known: &'p mut Known<'a>,
}

impl<'a> Block<'_, 'a> {
    /// The beginning of a statement. Answers what it does with its body, if it has one that is not
    /// just written.
    fn statement(&mut self) -> Option<Kind<'a>> {
        match self.any_word()? {
            "set" => return self.set(),
            "with" => {
                while let (Some(Token::Word(name)), Some(Token::Sign("="))) =
                    (self.token(0), self.token(1))
                {
                    self.at += 2;
                    let value = self.expression();
                    self.known.set(name, &value);
                    self.sign(",");
                }
            }
            "for" => {
                let targets = self.targets();
                self.word("in");
                let items = self.tuple(false);
                let item = items.element();
                self.known.set_member("previtem", &item);
                self.known.set_member("nextitem", &item);
                let item = item.join(&self.known.looped);
                for (name, _) in targets {
                    self.known.set(name, &item);
                }
                self.word("if");
            }
            "macro" => {
                let name = self.any_word()?;
                self.parameters(name);
                return Some(Kind::Macro(name));
            }
            "call" => {
                if self.token(0) == Some(Token::Sign("(")) {
                    self.parameters("caller");
                }
                return Some(Kind::Macro("caller"));
            }
            "filter" => return Some(Kind::Filter),
            // Whatever else a statement is called, its words are no values.
            _ => {}
        }
        None
    }

    /// Names that get values, each with its attribute if that is what is set.
    fn targets(&mut self) -> Vec<(&'a str, Option<&'a str>)> {
        let mut targets = Vec::new();
        loop {
            while self.sign("(") || self.sign(",") || self.sign(")") {}
            if matches!(self.token(0), Some(Token::Word("in"))) {
                return targets;
            }
            let Some(name) = self.any_word() else {
                return targets;
            };
            let member = if self.sign(".") {
                self.any_word()
            } else {
                None
            };
            targets.push((name, member));
        }
    }

    fn set(&mut self) -> Option<Kind<'a>> {
        let targets = self.targets();
        if !self.sign("=") {
            let (name, _) = *targets.first()?;
            let filtered = self.at < self.tokens.len();
            return Some(if filtered {
                Kind::Filtered(name)
            } else {
                Kind::Set(name)
            });
        }
        let value = self.tuple(true);
        let parts = match &value {
            Value::List(items) if targets.len() > 1 && items.len() == targets.len() => {
                items.to_vec()
            }
            _ if targets.len() > 1 => vec![value.element(); targets.len()],
            _ => vec![value],
        };
        for ((name, member), value) in targets.iter().zip(&parts) {
            match member {
                Some(member) => self.known.set_member(member, value),
                None => self.known.set(name, value),
            }
        }
        None
    }

    /// The parameters of a macro, with the values they have by themselves.
    fn parameters(&mut self, of: &'a str) {
        self.sign("(");
        let mut names = Vec::new();
        while let Some(name) = self.any_word() {
            // Who has so many hides something: they are followed no further.
            if names.len() < PARAMETERS {
                names.push(name);
            }
            if self.known.handed || names.last() != Some(&name) {
                self.known.set(name, &Value::Made(true));
            }
            if self.sign("=") {
                let value = self.expression();
                self.known.set(name, &value);
            }
            if !self.sign(",") {
                break;
            }
        }
        self.sign(")");
        // A macro knows its name and those of its parameters.
        let mut own = vec![("name".into(), Value::made(of))];
        let all = names.iter().map(|name| Value::made(name)).collect();
        own.push(("arguments".into(), Value::list(all)));
        self.known.set(of, &Value::dict(own));
        // Two of one name: each parameter may be that of either.
        let all = self.known.macros.entry(of).or_default();
        if *all == names {
            return;
        }
        let new: Vec<_> = names
            .into_iter()
            .filter(|name| !all.contains(name))
            .collect();
        if all.is_empty() {
            self.known.changed = true;
            *all = new;
        } else if !new.is_empty() {
            for name in new {
                self.known.set(name, &Value::Made(true));
            }
        }
    }
}
