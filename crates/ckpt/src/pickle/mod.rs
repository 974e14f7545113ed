//! The pickle machine: runs a pickle and builds records of what it would make.
//!
//! It follows CPython's C unpickler: stack, marks, memo, names of Python 2, dotted names, the
//! extension registry. It imports nothing and calls nothing. A call is a record, and what is done
//! to its result is written down in that record.
//!
//! | file | holds |
//! |---|---|
//! | `opcode` | the codes |
//! | `cursor` | reading forward through a region |
//! | `number`, `text` | literals, as laxly as CPython reads them |
//! | `names` | Python 2 names |
//! | `stack` | stack, marks and memo |
//! | `budget` | limits shared by all pickles of one input |
//! | `machine` | the loop over opcodes |
//! | `literal` | reading their arguments |
//! | `effect` | calls and changes to objects |
//! | `joblib` | arrays between the opcodes |

mod budget;
mod cursor;
mod effect;
mod joblib;
mod literal;
mod machine;
mod names;
mod number;
pub(crate) mod opcode;
mod stack;
mod text;

pub(crate) use budget::{Budget, REFERENCES_AN_OBJECT};
pub(crate) use cursor::Cursor;
pub(crate) use machine::{Outcome, Reading, run, run_as, run_behind};
pub(crate) use number::show as show_big;

/// The callee of a `STACK_GLOBAL` whose module or name is itself the result of a call, so that
/// only running the pickle could tell it. The record is a call of this name with the two parts
/// as arguments.
pub const COMPUTED_GLOBAL: (&str, &str) = ("pickle", "Unpickler.find_class");

#[cfg(test)]
mod tests;
