//! What the bodies of macros, calls and blocks write.

use super::value::Value;

/// What is done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// `{% set name %}`.
    Set(&'a str),
    /// `{% set name | filter %}`.
    Filtered(&'a str),
    /// A macro by its name, or what `caller()` gives.
    Macro(&'a str),
    /// `{% filter name %}`: it is written when the filter has gone over it.
    Filter,
}

struct Body<'a> {
    kind: Kind<'a>,
    written: Value,
    /// A statement in it decides what is written, or how often.
    unsure: bool,
}

/// The bodies that are open.
#[derive(Default)]
pub(super) struct Bodies<'a> {
    open: Vec<Body<'a>>,
}

impl<'a> Bodies<'a> {
    pub(super) fn open(&mut self, kind: Kind<'a>) {
        self.open.push(Body {
            kind,
            written: Value::made(""),
            unsure: false,
        });
    }

    pub(super) fn write(&mut self, value: &Value) {
        if let Some(body) = self.open.last_mut() {
            body.written = body.written.beside(value);
        }
    }

    /// A statement that begins no body. Answers the body that it ends, if one has to be kept.
    pub(super) fn statement(&mut self, word: &str) -> Option<(Kind<'a>, Value)> {
        let body = self.open.last_mut()?;
        let end = match (body.kind, body.kind == Kind::Macro("caller")) {
            (Kind::Set(_) | Kind::Filtered(_), _) => "endset",
            (Kind::Macro(_), true) => "endcall",
            (Kind::Macro(_), false) => "endmacro",
            (Kind::Filter, _) => "endfilter",
        };
        if word != end {
            body.unsure |= !matches!(word, "set" | "do");
            return None;
        }
        let body = self.open.pop()?;
        let written = if body.unsure {
            body.written.reworked()
        } else {
            body.written
        };
        match body.kind {
            Kind::Filtered(name) => Some((Kind::Set(name), Value::Made(true))),
            Kind::Filter => {
                self.write(&Value::Made(true));
                None
            }
            kind => {
                // What a macro makes of the body of a call.
                if end == "endcall" {
                    self.write(&Value::Made(true));
                }
                Some((kind, written))
            }
        }
    }
}
