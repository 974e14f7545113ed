//! From text to syntax tree: a Pratt parser over a handful of tokens.

use super::{Binary, Node, Unary, eval};
use serde_json::Value;

/// Nesting deeper than this is nobody's table.
const MAX_DEPTH: usize = 48;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Number(serde_json::Number),
    Text(String),
    Word(String),
    Sign(&'static str),
    End,
}

/// Longest first, so that `//` is not two `/`.
const SIGNS: [&str; 21] = [
    "??", "==", "!=", "<=", ">=", "//", "**", "(", ")", "[", "]", ",", ".", "+", "-", "*", "/",
    "%", "<", ">", "=",
];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut list = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let Some(first) = rest.chars().next() else {
            list.push(Token::End);
            return Ok(list);
        };
        if first.is_ascii_digit() {
            let end = number_len(rest);
            let (number, tail) = rest.split_at(end);
            let parsed =
                serde_json::from_str(number).map_err(|_| format!("{number:?} is not a number"))?;
            list.push(Token::Number(parsed));
            rest = tail;
        } else if first == '\'' {
            let body = rest.get(1..).unwrap_or("");
            let (inside, tail) = body.split_once('\'').ok_or("a text has no closing quote")?;
            list.push(Token::Text(inside.to_owned()));
            rest = tail;
        } else if first.is_alphabetic() || first == '_' {
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(rest.len());
            let (word, tail) = rest.split_at(end);
            list.push(Token::Word(word.to_owned()));
            rest = tail;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            list.push(Token::Sign(sign));
            rest = rest.get(sign.len()..).unwrap_or("");
        } else {
            return Err(format!("{first:?} has no meaning here"));
        }
    }
}

/// Length of the JSON number `rest` begins with; a dot counts only before a digit.
fn number_len(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let digits = |mut i: usize| {
        while digit(i) {
            i += 1;
        }
        i
    };
    let mut end = digits(0);
    if bytes.get(end) == Some(&b'.') && digit(end + 1) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'-' | b'+')));
        if digit(end + 1 + sign) {
            end = digits(end + 1 + sign);
        }
    }
    end
}

/// The tree of `text`.
pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        at: 0,
        depth: 0,
    };
    let node = parser.conditional()?;
    match parser.peek() {
        Token::End => Ok(node),
        other => Err(format!("{text:?}: unexpected {other:?}")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn takes(&mut self, sign: &str) -> bool {
        let yes = matches!(self.peek(), Token::Sign(s) if *s == sign);
        self.at += usize::from(yes);
        yes
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let yes = matches!(self.peek(), Token::Word(w) if w == word);
        self.at += usize::from(yes);
        yes
    }

    fn expect(&mut self, sign: &str) -> Result<(), String> {
        if self.takes(sign) {
            return Ok(());
        }
        Err(format!("expected {sign:?}, found {:?}", self.peek()))
    }

    /// `a if b else c`, or less.
    fn conditional(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deep".to_owned());
        }
        let then = self.binary(0)?;
        let node = if self.takes_word("if") {
            let condition = Box::new(self.binary(0)?);
            if !self.takes_word("else") {
                return Err(format!("expected else, found {:?}", self.peek()));
            }
            Node::If {
                condition,
                then: Box::new(then),
                otherwise: Box::new(self.conditional()?),
            }
        } else {
            then
        };
        self.depth -= 1;
        Ok(node)
    }

    /// The operator at hand and how tightly it binds.
    fn operator(&self) -> Option<(Binary, u8, usize)> {
        let one = |operator, power| Some((operator, power, 1));
        match self.peek() {
            Token::Word(word) => match word.as_str() {
                "or" => one(Binary::Or, 1),
                "and" => one(Binary::And, 2),
                "in" => one(Binary::In, 4),
                "not" if matches!(self.tokens.get(self.at + 1), Some(Token::Word(w)) if w == "in") => {
                    Some((Binary::NotIn, 4, 2))
                }
                _ => None,
            },
            Token::Sign(sign) => match *sign {
                "==" => one(Binary::Equal, 4),
                "!=" => one(Binary::NotEqual, 4),
                "<" => one(Binary::Less, 4),
                "<=" => one(Binary::LessEqual, 4),
                ">" => one(Binary::Greater, 4),
                ">=" => one(Binary::GreaterEqual, 4),
                "??" => one(Binary::Coalesce, 5),
                "+" => one(Binary::Add, 6),
                "-" => one(Binary::Subtract, 6),
                "*" => one(Binary::Multiply, 7),
                "/" => one(Binary::Divide, 7),
                "//" => one(Binary::FloorDivide, 7),
                "%" => one(Binary::Remainder, 7),
                "**" => one(Binary::Power, 9),
                _ => None,
            },
            _ => None,
        }
    }

    fn binary(&mut self, least: u8) -> Result<Node, String> {
        let mut left = self.unary()?;
        while let Some((operator, power, len)) = self.operator() {
            if power < least {
                break;
            }
            self.at += len;
            let right = self.binary(power + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deep".to_owned());
        }
        let node = if self.takes_word("not") {
            Node::Unary(Unary::Not, Box::new(self.binary(4)?))
        } else if self.takes("-") {
            Node::Unary(Unary::Minus, Box::new(self.binary(8)?))
        } else {
            self.postfix()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn postfix(&mut self) -> Result<Node, String> {
        let mut node = self.atom()?;
        loop {
            if self.takes(".") {
                match self.next() {
                    Token::Word(name) => node = Node::Attribute(Box::new(node), name),
                    other => return Err(format!("expected a name after the dot, found {other:?}")),
                }
            } else if self.takes("[") {
                let index = self.conditional()?;
                self.expect("]")?;
                node = Node::Index(Box::new(node), Box::new(index));
            } else {
                return Ok(node);
            }
        }
    }

    fn atom(&mut self) -> Result<Node, String> {
        match self.next() {
            Token::Number(number) => Ok(Node::Literal(Value::Number(number))),
            Token::Text(text) => Ok(Node::Literal(Value::String(text))),
            Token::Word(word) => match word.as_str() {
                "none" => Ok(Node::Literal(Value::Null)),
                "true" => Ok(Node::Literal(Value::Bool(true))),
                "false" => Ok(Node::Literal(Value::Bool(false))),
                _ if self.takes("(") => {
                    let args = self.items(")")?;
                    eval::check_call(&word, args.len())?;
                    Ok(Node::Call(word, args))
                }
                _ => Ok(Node::Name(word)),
            },
            Token::Sign("(") => {
                let inside = self.conditional()?;
                self.expect(")")?;
                Ok(inside)
            }
            Token::Sign("[") => self.list(),
            other => Err(format!("expected a value, found {other:?}")),
        }
    }

    fn items(&mut self, close: &str) -> Result<Vec<Node>, String> {
        let mut items = Vec::new();
        while !self.takes(close) {
            items.push(self.conditional()?);
            if !self.takes(",") {
                self.expect(close)?;
                break;
            }
        }
        Ok(items)
    }

    fn list(&mut self) -> Result<Node, String> {
        if self.takes("]") {
            return Ok(Node::List(Vec::new()));
        }
        let first = self.conditional()?;
        if self.takes_word("for") {
            let Token::Word(name) = self.next() else {
                return Err("expected a name after for".to_owned());
            };
            if !self.takes_word("in") {
                return Err("expected in".to_owned());
            }
            let items = Box::new(self.binary(0)?);
            let filter = if self.takes_word("if") {
                Some(Box::new(self.binary(0)?))
            } else {
                None
            };
            self.expect("]")?;
            return Ok(Node::Each {
                element: Box::new(first),
                name,
                items,
                filter,
            });
        }
        let mut items = vec![first];
        if self.takes(",") {
            items.extend(self.items("]")?);
        } else {
            self.expect("]")?;
        }
        Ok(Node::List(items))
    }
}
