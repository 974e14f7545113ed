//! Jinja's expressions, read with what is known of their values.

use super::SPRINGBOARDS;
use super::calls::{self, Args};
use super::computed::{Block, Found};
use super::lex::{self, Part, Token};
use super::value::Value;
use std::rc::Rc;

/// How deep expressions nest. Jinja's own parser stops at some 70 brackets.
const DEPTH: u16 = 200;

/// Where a value came from, if it can be changed there.
#[derive(Clone)]
enum Origin<'a> {
    Name(&'a str),
    Member(Rc<str>, Value),
    Other,
}

impl<'a> Block<'_, 'a> {
    pub(super) fn token(&self, ahead: usize) -> Option<Token<'a>> {
        match self.tokens.get(self.at.checked_add(ahead)?)? {
            (_, Part::Token(token)) => Some(*token),
            _ => None,
        }
    }

    fn offset(&self) -> usize {
        let here = self.tokens.get(self.at).or(self.tokens.last());
        here.map_or(0, |(at, _)| *at)
    }

    fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.token(0) == Some(token);
        self.at += usize::from(found);
        found
    }

    pub(super) fn sign(&mut self, sign: &str) -> bool {
        self.eat(Token::Sign(sign))
    }

    pub(super) fn word(&mut self, word: &str) -> bool {
        self.eat(Token::Word(word))
    }

    pub(super) fn any_word(&mut self) -> Option<&'a str> {
        let Some(Token::Word(word)) = self.token(0) else {
            return None;
        };
        self.at += 1;
        Some(word)
    }

    /// All expressions up to the end of the block.
    pub(super) fn all(&mut self) {
        while self.at < self.tokens.len() {
            let from = self.at;
            self.expression();
            if self.at == from {
                self.at += 1;
            }
        }
    }

    /// Expressions with commas between them are a tuple.
    pub(super) fn tuple(&mut self, choice: bool) -> Value {
        let one = |block: &mut Self| {
            if choice {
                block.expression()
            } else {
                block.binary(0)
            }
        };
        let first = one(self);
        if self.token(0) != Some(Token::Sign(",")) {
            return first;
        }
        let mut items = vec![first];
        while self.sign(",") {
            items.push(one(self));
        }
        Value::list(items)
    }

    pub(super) fn expression(&mut self) -> Value {
        let mut value = self.binary(0);
        while self.word("if") {
            self.binary(0);
            if self.word("else") {
                let other = self.binary(0);
                value = value.join(&other);
            }
        }
        value
    }

    /// The operator here: how strongly it binds, and its tokens.
    fn operator(&self) -> Option<(&'a str, u8, usize)> {
        match self.token(0)? {
            Token::Word("or") => Some(("or", 0, 1)),
            Token::Word("and") => Some(("and", 1, 1)),
            Token::Word("in") => Some(("in", 3, 1)),
            Token::Word("not") if self.token(1) == Some(Token::Word("in")) => Some(("in", 3, 2)),
            Token::Sign(sign) => match sign {
                "==" | "!=" | "<" | ">" | "<=" | ">=" => Some((sign, 3, 1)),
                "+" | "-" => Some((sign, 4, 1)),
                "~" => Some((sign, 5, 1)),
                "*" | "/" | "//" | "%" => Some((sign, 6, 1)),
                "**" => Some((sign, 7, 1)),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn binary(&mut self, least: u8) -> Value {
        if self.depth >= DEPTH {
            // The whole block is left: to try again a token later would take forever.
            self.known.find(self.offset(), Found::Deep);
            self.at = self.tokens.len();
            return Value::Made(true);
        }
        self.depth += 1;
        let mut left = self.unary();
        while let Some((sign, level, tokens)) = self.operator()
            && level >= least
        {
            self.at += tokens;
            let right = self.binary(level + 1);
            left = match sign {
                "or" | "and" => left.join(&right),
                "+" => left.plus(&right),
                "-" => left.minus(&right),
                "~" => left.beside(&right),
                "*" => left.times(&right),
                "%" => match &right {
                    Value::List(items) => left.percent(items),
                    one => left.percent(std::slice::from_ref(one)),
                },
                _ => Value::Plain,
            };
        }
        self.depth -= 1;
        left
    }

    fn unary(&mut self) -> Value {
        let mut minus = false;
        let mut not = false;
        loop {
            if self.sign("-") {
                minus = !minus;
            } else if self.word("not") {
                not = true;
            } else if !self.sign("+") {
                break;
            }
        }
        let value = self.operand();
        match value {
            _ if not => Value::Plain,
            Value::Int(number) if minus => number.checked_neg().map_or(Value::Plain, Value::Int),
            other => other,
        }
    }

    /// A value and what follows it: attributes, items, calls, filters and tests.
    fn operand(&mut self) -> Value {
        let (mut value, mut origin) = self.primary();
        // What is fetched of a container of its own may be what the template is given.
        let mut own = self.own;
        let mut owner = own;
        loop {
            self.own = own;
            let at = self.offset();
            if self.sign(".") {
                match self.token(0) {
                    Some(Token::Word(name)) => {
                        self.at += 1;
                        self.bound(name);
                        origin = Origin::Member(name.into(), value.clone());
                        value = self.member(&value, name);
                        owner = own;
                        own = own && value != Value::Plain;
                    }
                    Some(Token::Number(number)) => {
                        self.at += 1;
                        value = value.at(&integer(number));
                        origin = Origin::Other;
                    }
                    _ => {}
                }
            } else if self.sign("[") {
                (value, origin) = self.item(&value, at);
                owner = own;
                own = own && value != Value::Plain;
            } else if self.sign("(") {
                let args = self.args();
                self.own = owner;
                value = self.call(&value, &origin, &args, at);
                origin = Origin::Other;
            } else if self.sign("|") {
                let mut name = self.any_word().unwrap_or_default();
                while self.sign(".") {
                    name = self.any_word().unwrap_or_default();
                }
                let args = if self.sign("(") {
                    self.args()
                } else {
                    Args::default()
                };
                self.filtered(name, &args, at);
                value = calls::filter(name, &value, &args);
                origin = Origin::Other;
            } else if self.word("is") {
                self.test();
                value = Value::Plain;
                origin = Origin::Other;
            } else {
                return value;
            }
        }
    }

    /// The name of a test; what it is given comes as another value behind it.
    fn test(&mut self) {
        self.word("not");
        self.any_word();
        while self.sign(".") {
            self.any_word();
        }
        let is_value = match self.token(0) {
            Some(Token::Word(word)) => {
                !matches!(word, "else" | "or" | "and" | "if" | "is" | "in" | "not")
            }
            Some(Token::Text(_) | Token::Number(_)) => true,
            _ => false,
        };
        if is_value {
            self.primary();
        }
    }

    fn member(&self, value: &Value, name: &str) -> Value {
        if name.starts_with('_') {
            // Jinja's own, as the name of what is not defined.
            return Value::Made(true);
        }
        let own = value.member(name);
        match self.known.members.get(name) {
            Some(set) if own == Value::Plain => set.clone(),
            Some(set) => own.join(set),
            None => own,
        }
    }

    /// What stands in square brackets, the first of which is passed.
    fn item(&mut self, value: &Value, at: usize) -> (Value, Origin<'a>) {
        let own = self.own;
        let mut bounds = [None, None, None];
        let mut bound = 0;
        let mut indices = Vec::new();
        while self.at < self.tokens.len() && !self.sign("]") {
            if self.sign(":") {
                bound += 1;
            } else if self.sign(",") {
                bound = 0;
            } else {
                let from = self.at;
                let index = self.expression();
                if self.at == from {
                    self.at += 1;
                    continue;
                }
                if let Some(slot) = bounds.get_mut(bound) {
                    *slot = Some(index.clone());
                }
                indices.push(index);
            }
        }
        if bound > 0 {
            return (value.slice(&bounds), Origin::Other);
        }
        for index in &indices {
            self.known.reach(index, at);
        }
        match indices.first() {
            Some(Value::Str(name, _)) => {
                let name = Rc::clone(name);
                self.own = own;
                self.bound(&name);
                let inner = match value {
                    Value::Dict(_) => self.member(value, &name),
                    other => self.member(other, &name).join(&other.element()),
                };
                (inner, Origin::Member(name, value.clone()))
            }
            Some(index) => (value.at(index), Origin::Other),
            None => (Value::Plain, Origin::Other),
        }
    }

    /// A method that fills what the template is given, kept to be called under another name.
    fn bound(&mut self, name: &str) {
        let called = self.token(0) == Some(Token::Sign("("));
        if calls::FILLING.contains(&name) && !called && !self.own {
            self.known.give(&Value::Made(true));
        }
    }

    /// Arguments up to the closing parenthesis, the opening one passed.
    fn args(&mut self) -> Args<'a> {
        let mut args = Args::default();
        while self.at < self.tokens.len() && !self.sign(")") {
            let from = self.at;
            if self.sign("*") || self.sign("**") {
                let value = self.expression();
                let all = args.spread.take().unwrap_or(Value::Plain);
                args.spread = Some(all.join(&value.worst()));
            } else if let (Some(Token::Word(name)), Some(Token::Sign("="))) =
                (self.token(0), self.token(1))
            {
                self.at += 2;
                let value = self.expression();
                args.named.push((name, value));
            } else if !self.sign(",") {
                let value = self.expression();
                if self.at == from {
                    self.at += 1;
                } else {
                    args.places.push(value);
                }
            }
        }
        args
    }

    fn call(&mut self, value: &Value, origin: &Origin<'a>, args: &Args<'a>, at: usize) -> Value {
        let worst = args.worst();
        match origin {
            Origin::Name(name) if self.known.macros.contains_key(name) => {
                self.hand_over(name, args);
                self.known.returns.get(name).cloned().unwrap_or_default()
            }
            Origin::Name("caller") => {
                let body = self.known.returns.get("caller");
                body.cloned().unwrap_or_default()
            }
            Origin::Name("range" | "raise_exception") => Value::Plain,
            Origin::Name("strftime_now") => Value::Made(true),
            Origin::Name("loop") => {
                for items in &args.places {
                    self.known.go_through(&items.element());
                }
                Value::Made(true)
            }
            Origin::Name("namespace" | "dict") => {
                let named = args.named.iter();
                let mut items: Vec<_> = named.map(|(n, v)| ((*n).into(), v.clone())).collect();
                for place in args.places.iter().chain(&args.spread) {
                    match place {
                        Value::Dict(more) => items.extend(more.iter().cloned()),
                        other => items.push(("".into(), other.worst())),
                    }
                }
                Value::dict(items)
            }
            Origin::Member(name, owner) => {
                if matches!(&**name, "format" | "format_map") && owner.is_made() {
                    self.formats(owner, at);
                }
                let fills = calls::FILLING.contains(&&**name) && worst.is_text();
                if fills && !self.own {
                    self.known.give(&worst);
                }
                if fills || (worst.is_made() && !is_method(name)) {
                    self.known.pour(&if worst.is_made() {
                        worst.reworked()
                    } else {
                        Value::Lit(worst.underscored())
                    });
                }
                // A macro that is a member of something.
                let kept = matches!(value, Value::Dict(_)) || self.known.members.contains_key(name);
                if kept && value.is_made() {
                    self.known.hand(worst.is_made());
                    return Value::Made(true);
                }
                calls::method(name, owner, args)
            }
            _ => {
                self.known.hand(worst.is_made());
                if worst.is_text() || value.is_made() {
                    Value::Made(true)
                } else {
                    Value::Plain
                }
            }
        }
    }

    /// A text that was put together is a format: what it holds is a path to attributes.
    fn formats(&mut self, text: &Value, at: usize) {
        match text {
            Value::Str(text, _) if !text.contains("__") => {}
            other => self.known.reach(other, at),
        }
    }

    /// Gives a macro its arguments. Those that it does not name are in `varargs` and `kwargs`.
    fn hand_over(&mut self, name: &str, args: &Args<'a>) {
        let Some(params) = self.known.macros.get(name).cloned() else {
            return;
        };
        if args.spread.is_some() || args.named("caller").is_some() {
            self.known.set_return("caller", &Value::Made(true));
        }
        let more = |value: &Value| Value::dict(vec![("".into(), value.clone())]);
        let mut rest = params.iter();
        for value in &args.places {
            match rest.next() {
                Some(param) => self.known.set(param, value),
                None => self.known.set("varargs", &more(value)),
            }
        }
        for (name, value) in &args.named {
            if params.contains(name) {
                self.known.set(name, value);
            } else {
                let more = Value::dict(vec![((*name).into(), value.clone())]);
                self.known.set("kwargs", &more);
            }
        }
        if let Some(value) = &args.spread {
            for param in &params {
                self.known.set(param, value);
            }
            self.known.set("varargs", &more(value));
            self.known.set("kwargs", &more(value));
        }
    }

    /// Filters that fetch attributes by a name that they are given.
    fn filtered(&mut self, name: &str, args: &Args<'a>, at: usize) {
        let first = match name {
            "map" | "select" | "reject" => {
                // The name of a filter: `attr` is one.
                if let Some(filter) = args.places.first() {
                    if filter.text() == Some("attr") {
                        self.known.find(at, Found::Name("attr".to_owned()));
                    } else if filter.is_made() {
                        self.known.find(at, Found::Hidden);
                    }
                }
                1
            }
            "join" => 1,
            "selectattr" | "rejectattr" | "groupby" | "sum" | "sort" | "unique" | "min" | "max" => {
                0
            }
            _ => return,
        };
        let place = args.places.get(first).filter(|_| name != "map");
        for value in args.named("attribute").into_iter().chain(place) {
            self.known.reach(value, at);
        }
        if args.spread.as_ref().is_some_and(Value::is_text) {
            self.known.find(at, Found::Hidden);
        }
    }

    fn primary(&mut self) -> (Value, Origin<'a>) {
        let (value, origin, own) = self.first();
        self.own = own;
        (value, origin)
    }

    /// A value by itself, and whether it is a container of the template's own.
    fn first(&mut self) -> (Value, Origin<'a>, bool) {
        let other = |value: Value| {
            let own = matches!(value, Value::List(_) | Value::Dict(_));
            (value, Origin::Other, own)
        };
        let Some(token) = self.token(0) else {
            return other(Value::Plain);
        };
        match token {
            Token::Word(name) => {
                self.at += 1;
                let value = self.known.names.get(name).cloned();
                // What Jinja brings along gives texts of the template back.
                let brought = name == "caller" || SPRINGBOARDS.contains(&name);
                let value = value.or(brought.then_some(Value::Made(true)));
                let held = matches!(value, Some(Value::List(_) | Value::Dict(_)));
                let given = value.is_none()
                    && !matches!(
                        name,
                        "loop" | "true" | "false" | "none" | "True" | "False" | "None"
                    );
                let value = match value.unwrap_or_default() {
                    Value::Plain if given && self.known.given.is_text() => self.known.given.clone(),
                    all @ (Value::List(_) | Value::Dict(_)) if self.known.poured.is_text() => {
                        all.join(&self.known.poured)
                    }
                    value => value,
                };
                (value, Origin::Name(name), held)
            }
            Token::Text(first) => {
                self.at += 1;
                let mut text = lex::value(first);
                let mut several = false;
                // Strings side by side are one.
                while let Some(Token::Text(more)) = self.token(0) {
                    self.at += 1;
                    several = true;
                    if text.len() < 1000 {
                        text.push_str(&lex::value(more));
                    }
                }
                other(if several {
                    Value::made(&text)
                } else {
                    Value::literal(&text)
                })
            }
            Token::Number(number) => {
                self.at += 1;
                other(integer(number))
            }
            Token::Sign("(") => {
                self.at += 1;
                if self.sign(")") {
                    return other(Value::list(Vec::new()));
                }
                let value = self.tuple(true);
                self.sign(")");
                other(value)
            }
            Token::Sign("[") => {
                self.at += 1;
                let mut items = Vec::new();
                while self.at < self.tokens.len() && !self.sign("]") {
                    self.next_item(&mut items);
                }
                other(Value::list(items))
            }
            Token::Sign("{") => {
                self.at += 1;
                let mut items = Vec::new();
                while self.at < self.tokens.len() && !self.sign("}") {
                    self.next_item(&mut items);
                    if self.sign(":") {
                        let value = self.expression();
                        items.push(value);
                    }
                }
                let pairs = items.chunks(2).map(|pair| match pair {
                    [key, value] => {
                        let name = key.text().unwrap_or_default().into();
                        let hidden = key.is_made() || value.is_made();
                        let value = if hidden {
                            key.join(value)
                        } else {
                            value.clone()
                        };
                        (name, value)
                    }
                    _ => ("".into(), Value::Made(true)),
                });
                other(Value::dict(pairs.collect()))
            }
            Token::Sign(_) => other(Value::Plain),
        }
    }

    fn next_item(&mut self, items: &mut Vec<Value>) {
        if self.sign(",") {
            return;
        }
        let from = self.at;
        let value = self.expression();
        if self.at == from {
            self.at += 1;
        } else if items.len() < 1000 {
            items.push(value);
        }
    }
}

/// Methods of texts, which keep nothing.
fn is_method(name: &str) -> bool {
    matches!(
        name,
        "format"
            | "join"
            | "replace"
            | "get"
            | "split"
            | "strip"
            | "lstrip"
            | "rstrip"
            | "startswith"
            | "endswith"
            | "find"
            | "index"
            | "count"
            | "cycle"
            | "pop"
    )
}

/// The value of a number; those that are no integers are of no interest.
fn integer(number: &str) -> Value {
    let digits = number.replace('_', "").to_ascii_lowercase();
    let parsed = match digits.get(..2) {
        Some("0x") => i64::from_str_radix(digits.get(2..).unwrap_or_default(), 16),
        Some("0o") => i64::from_str_radix(digits.get(2..).unwrap_or_default(), 8),
        Some("0b") => i64::from_str_radix(digits.get(2..).unwrap_or_default(), 2),
        _ => digits.parse(),
    };
    parsed.map_or(Value::Plain, Value::Int)
}
