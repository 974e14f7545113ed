//! Which of the tensors that a table names a model must have.
//!
//! A tensor goes here by its *part*: the GGUF name without `blk.{bid}.` and `.weight`. All that the
//! rows make are needed, in every block, but for what the table says otherwise:
//!
//! * `optional`: a model may be without it. What some blocks have, all have; of a list in the list
//!   a model has all or nothing.
//! * `either`: lists of sets. Each block has at least one set of each list, and all of a set that it
//!   has anything of; parts of a set are missed in no other block.
//! * `only_if`: needed where an expression over the config and `bid` holds, and free elsewhere.
//! * `biased`: of a row for `weight` and `bias` only the weight is needed, and the bias is optional.
//!   The parts named here (`*` is all) need both.

use crate::expr::Expr;
use crate::table::Row;

/// What a table says about it.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) optional: Vec<Vec<String>>,
    pub(crate) biased: Vec<String>,
    pub(crate) either: Vec<Vec<Vec<String>>>,
    pub(crate) only_if: Vec<(String, Expr)>,
}

impl Needs {
    /// Refuses names that no row makes: a slip there would ask for nothing.
    pub(crate) fn check(&self, rows: &[Row]) -> Result<(), String> {
        let known: Vec<String> = rows
            .iter()
            .flat_map(|row| &row.gguf)
            .map(|template| part(template.text()).to_owned())
            .collect();
        let sets = self.either.iter().flatten();
        let named = self.optional.iter().chain(sets).flatten();
        let named = named.chain(self.only_if.iter().map(|(name, _)| name));
        let biased = self.biased.iter().filter(|name| *name != ALL);
        match named.chain(biased).find(|name| !known.contains(name)) {
            Some(name) => Err(format!("no row makes {name:?}")),
            None => Ok(()),
        }
    }

    /// The optional parts that go together with this one, if it is optional.
    pub(crate) fn optional(&self, part: &str) -> Option<&[String]> {
        let mut groups = self.optional.iter();
        let found = groups.find(|group| group.iter().any(|name| name == part));
        found.map(Vec::as_slice)
    }

    /// Whether the bias of this part is needed.
    pub(crate) fn biased(&self, part: &str) -> bool {
        self.biased.iter().any(|name| name == ALL || name == part)
    }

    /// When it is needed, if the table says so.
    pub(crate) fn only_if(&self, part: &str) -> Option<&Expr> {
        let mut rows = self.only_if.iter();
        rows.find(|(name, _)| name == part).map(|(_, when)| when)
    }

    /// The list and the set it stands in.
    pub(crate) fn set_of(&self, part: &str) -> Option<(usize, usize)> {
        let mut lists = self.either.iter().enumerate();
        lists.find_map(|(list, sets)| {
            let has = |set: &Vec<String>| set.iter().any(|name| name == part);
            sets.iter().position(has).map(|set| (list, set))
        })
    }
}

/// In `biased`: every part.
const ALL: &str = "*";

/// The part that a GGUF name, or its template, is.
pub(crate) fn part(name: &str) -> &str {
    let name = name.strip_prefix("blk.{bid}.").unwrap_or(name);
    let stem = name.strip_suffix(".weight");
    stem.or_else(|| name.strip_suffix(".{s}")).unwrap_or(name)
}
