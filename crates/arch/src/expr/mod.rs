//! The little language of the tables: what a config key's value is, in Python's spelling.
//!
//! A table must say things like `head_dim ?? hidden_size // num_attention_heads` or
//! `[t == 'sliding_attention' for t in layer_types]`. The language has names with attributes,
//! literals, lists with comprehensions, `if … else`, `and or not`, comparisons, arithmetic,
//! indexing and a closed list of functions. It has no loops and no effects, and depth is capped,
//! so a user's own map cannot do harm.
//!
//! `none` stands for a value that is not there. It runs through arithmetic and attributes, `??`
//! replaces it, and a key whose value is `none` is not written.

mod eval;
mod parse;

pub(crate) use eval::{Scope, contains, truthy};

use serde_json::Value;
use std::fmt;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expr {
    text: String,
    node: Node,
}

/// The syntax tree.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Literal(Value),
    Name(String),
    Attribute(Box<Node>, String),
    Index(Box<Node>, Box<Node>),
    List(Vec<Node>),
    /// `[element for name in items if filter]`
    Each {
        element: Box<Node>,
        name: String,
        items: Box<Node>,
        filter: Option<Box<Node>>,
    },
    Unary(Unary, Box<Node>),
    Binary(Binary, Box<Node>, Box<Node>),
    /// `then if condition else otherwise`
    If {
        condition: Box<Node>,
        then: Box<Node>,
        otherwise: Box<Node>,
    },
    Call(String, Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unary {
    Minus,
    Not,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binary {
    Or,
    And,
    Coalesce,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    NotIn,
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Remainder,
    Power,
}

impl Expr {
    /// Parses `text`; the error says what is wrong and where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Ok(Self {
            text: text.to_owned(),
            node: parse::parse(text)?,
        })
    }

    /// Its value in `scope`.
    pub(crate) fn eval(&self, scope: &Scope<'_>) -> Result<Value, String> {
        eval::eval(&self.node, scope).map_err(|why| format!("`{}`: {why}", self.text))
    }

    /// The call's name and arguments, if it is a call or a bare name.
    pub(crate) fn as_call(&self) -> Option<(&str, Vec<Expr>)> {
        let wrap = |node: &Node| Expr {
            text: self.text.clone(),
            node: node.clone(),
        };
        match &self.node {
            Node::Name(name) => Some((name, Vec::new())),
            Node::Call(name, args) => Some((name, args.iter().map(wrap).collect())),
            _ => None,
        }
    }

    /// The integer it is, if it is an integer literal.
    pub(crate) fn as_literal_u64(&self) -> Option<u64> {
        match &self.node {
            Node::Literal(value) => value.as_u64(),
            _ => None,
        }
    }

    /// Whether it is a number as it stands.
    pub(crate) fn is_number(&self) -> bool {
        matches!(&self.node, Node::Literal(Value::Number(_)))
    }

    /// The config key this expression simply reads: a name, or the first of `find('a', 'b')`.
    pub(crate) fn plain_key(&self) -> Option<&str> {
        match &self.node {
            Node::Name(name) => Some(name),
            Node::Call(name, args) if name == "find" => match args.first() {
                Some(Node::Literal(Value::String(key))) => Some(key),
                _ => None,
            },
            // `key ?? 5`, `key ?? other_key` and `key or none` read the key.
            Node::Binary(Binary::Coalesce | Binary::Or, left, right) => match (&**left, &**right) {
                (Node::Name(name), Node::Literal(_) | Node::Name(_)) => Some(name),
                _ => None,
            },
            _ => None,
        }
    }

    /// Every root name and every key of `find` it reads.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect(&self.node, &mut keys);
        keys
    }
}

fn collect(node: &Node, keys: &mut Vec<String>) {
    match node {
        Node::Literal(_) => {}
        Node::Name(name) => keys.push(name.clone()),
        Node::Attribute(of, _) | Node::Unary(_, of) => collect(of, keys),
        Node::Index(a, b) | Node::Binary(_, a, b) => {
            collect(a, keys);
            collect(b, keys);
        }
        Node::List(items) => items.iter().for_each(|item| collect(item, keys)),
        Node::Each {
            element,
            items,
            filter,
            ..
        } => {
            collect(element, keys);
            collect(items, keys);
            if let Some(filter) = filter {
                collect(filter, keys);
            }
        }
        Node::If {
            condition,
            then,
            otherwise,
        } => {
            collect(condition, keys);
            collect(then, keys);
            collect(otherwise, keys);
        }
        Node::Call(name, args) => {
            for arg in args {
                match arg {
                    Node::Literal(Value::String(key)) if name == "find" => keys.push(key.clone()),
                    other => collect(other, keys),
                }
            }
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Value {
        let root = json!({
            "hidden_size": 64, "num_attention_heads": 4, "head_dim": null,
            "layer_types": ["sliding_attention", "full_attention"],
            "rope": {"rope_theta": 1e4, "factor": 2.5}, "id2label": {"1": "b", "0": "a"},
        });
        let root = root.as_object().unwrap().clone();
        Expr::parse(text).unwrap().eval(&Scope::new(&root)).unwrap()
    }

    #[test]
    fn says_what_tables_say() {
        assert_eq!(
            value("head_dim ?? hidden_size // num_attention_heads"),
            json!(16)
        );
        assert_eq!(value("int(hidden_size * 0.5) // 3"), json!(10));
        assert_eq!(
            value("[t == 'sliding_attention' for t in layer_types]"),
            json!([true, false])
        );
        assert_eq!(
            value("[(i + 1) % 4 != 0 for i in range(4)]"),
            json!([true, true, true, false])
        );
        assert_eq!(
            value("rope.factor if rope.rope_theta > 1 else 1"),
            json!(2.5)
        );
        assert_eq!(value("missing.deeper + 1"), json!(null));
        assert_eq!(value("find('n_head', 'num_attention_heads')"), json!(4));
        assert_eq!(value("not missing and 'a' in ['a']"), json!(true));
        assert_eq!(value("-2 ** 2 + 10 / 4"), json!(-1.5));
        assert_eq!(value("values(id2label)"), json!(["a", "b"]));
        assert_eq!(value("layer_types[1]"), json!("full_attention"));
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(Expr::parse("a +").is_err());
        assert!(Expr::parse(&"(".repeat(1000)).is_err());
        assert!(Expr::parse("nope(1)").is_err());
        let root = serde_json::Map::new();
        assert!(
            Expr::parse("'a' * 2")
                .unwrap()
                .eval(&Scope::new(&root))
                .is_err()
        );
        assert!(
            Expr::parse("1 // 0")
                .unwrap()
                .eval(&Scope::new(&root))
                .is_err()
        );
    }
}
