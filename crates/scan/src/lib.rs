//! Judges what a file would do to the person who loads it elsewhere.
//!
//! A pickle is a program. This crate reads the record a reader made of it (an [`ir::Survey`]:
//! every name it imports, every call it makes, whatever becomes of the result) and says what
//! Python would do. The method is default-deny: names known to be harmless are listed one by one,
//! and what is on no list is at least suspicious. A list of dangerous names exists only to say
//! *how* something is dangerous. `docs/scan.md` has every rule with its reason and an example.
//!
//! ```
//! use ir::{CallKind, Object, Objects, Survey, SurveyedObjects};
//! use weightbridge_scan::{Verdict, judge};
//!
//! // What a pickle leaves whose `__reduce__` is `(exec, ("print('hello')",))`.
//! let mut objects = Objects::new();
//! let callee = objects.push(Object::global("builtins", "exec"), 2).unwrap();
//! let code = objects.push(Object::Str("print('hello')".into()), 20).unwrap();
//! let args = objects.push(Object::Tuple(vec![code].into()), 38).unwrap();
//! objects.push(Object::call(CallKind::Reduce, callee, args), 39);
//! let survey = Survey {
//!     format: "ckpt",
//!     objects: vec![SurveyedObjects { place: "data.pkl".into(), objects, complete: true, misread: false }],
//!     ..Survey::default()
//! };
//!
//! let judgement = judge(&survey);
//! assert_eq!(judgement.verdict, Verdict::Dangerous);
//! let finding = &judgement.findings[0];
//! assert_eq!(finding.rule, "code-execution");
//! assert_eq!(finding.where_, "data.pkl, byte 39");
//! assert!(finding.detail.contains(r#"builtins.exec("print('hello')")"#));
//! ```

#![forbid(unsafe_code)]

mod aliases;
mod calls;
mod code;
mod computed;
mod conditions;
mod distributions;
mod finding;
mod graph;
mod instances;
mod judge;
mod ledger;
mod objects;
mod persistent;
mod planted;
mod render;
mod rules;
mod script;
mod standing;
mod states;
mod tables;
#[cfg(test)]
mod testing;
mod texts;
mod weights_only;

pub use finding::{Finding, Judgement, Severity, Verdict};
pub use judge::judge;
pub use objects::judge_objects;
pub use render::render;
pub use rules::{RULES, Rule};
pub use texts::{LARGE_JSON, LINE_ENDS, is_library, standard_json};
pub use weights_only::outside_weights_only;
