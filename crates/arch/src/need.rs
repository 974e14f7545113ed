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
//!   The parts named here (`*` is all) need both. Biases of [`TOGETHER`] go together.
//! * `asked`: optional parts, and biases (`attn_q.bias`), that are needed where an expression over
//!   the config holds: its class would have them, and without them a runtime computes something
//!   else.

use crate::expr::Expr;
use crate::table::Row;

/// What a table says about it.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    pub(crate) optional: Vec<Vec<String>>,
    pub(crate) biased: Vec<String>,
    pub(crate) either: Vec<Vec<Vec<String>>>,
    pub(crate) only_if: Vec<(String, Expr)>,
    pub(crate) asked: Vec<(Vec<String>, Expr)>,
}

/// Projections beside each other: a model has a bias in all of a list or in none.
const TOGETHER: [&[&str]; 2] = [
    &["attn_q", "attn_k", "attn_v"],
    &["ffn_gate", "ffn_up", "ffn_down"],
];

impl Needs {
    /// Refuses names that no row makes: a slip there would ask for nothing.
    pub(crate) fn check(&self, rows: &[Row]) -> Result<(), String> {
        let templates = || rows.iter().flat_map(|row| &row.gguf);
        let known: Vec<&str> = templates().map(|template| part(template.text())).collect();
        let both = templates().filter(|template| template.has("{s}"));
        let biases: Vec<&str> = both.map(|template| part(template.text())).collect();
        let bias = |name: &str| {
            let name = name.strip_suffix(BIAS);
            name.is_some_and(|name| biases.contains(&name))
        };
        let sets = self.either.iter().flatten();
        let named = self.optional.iter().chain(sets).flatten();
        let named = named.chain(self.only_if.iter().map(|(name, _)| name));
        let biased = self.biased.iter().filter(|name| *name != ALL);
        let asked = self.asked.iter().flat_map(|(names, _)| names);
        let asked = asked.filter(|name| !bias(name));
        let mut all = named.chain(biased).chain(asked);
        match all.find(|name| !known.contains(&name.as_str())) {
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

    /// When the config asks for an optional part, or for the bias beside a part.
    pub(crate) fn asked(&self, part: &str, bias: bool) -> impl Iterator<Item = &Expr> {
        let is = move |name: &String| match name.strip_suffix(BIAS) {
            Some(stem) if bias => stem == part,
            _ => !bias && name == part,
        };
        let rows = self.asked.iter();
        let rows = rows.filter(move |(names, _)| names.iter().any(is));
        rows.map(|(_, when)| when)
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

/// The parts whose biases go together with that of this one, itself among them.
pub(crate) fn beside(part: &str) -> Vec<&str> {
    let list = TOGETHER.iter().find(|list| list.contains(&part));
    list.map_or_else(|| vec![part], |list| list.to_vec())
}

/// In `biased`: every part.
const ALL: &str = "*";

/// In `asked`: the bias of a part.
const BIAS: &str = ".bias";

/// The part that a GGUF name, or its template, is.
pub(crate) fn part(name: &str) -> &str {
    let name = name.strip_prefix("blk.{bid}.").unwrap_or(name);
    let stem = name.strip_suffix(".weight");
    stem.or_else(|| name.strip_suffix(".{s}")).unwrap_or(name)
}
