//! Is every tensor there that the architecture needs?
//!
//! A runtime refuses a file without one of them, or computes something else. What is needed is the
//! table's to say: `need` has the rules.

use super::Gathered;
use crate::error::ArchError;
use crate::expr::{Expr, Scope, truthy};
use crate::need::{beside, part};
use crate::table::Table;
use crate::template::{Places, Template};
use ir::Result;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Parts that are named in an error.
const NAMED: usize = 8;

/// A tensor that rows make: of each block, or one for all.
struct Part<'a> {
    name: &'a str,
    /// It is the bias beside the part of this name.
    bias: bool,
    /// Of `weight` and `bias` in one row, the one it is.
    s: Option<&'static str>,
    /// What the row is called in HF.
    hf: &'a Template,
    in_block: bool,
}

/// The source's tensors by the parts that they become.
#[derive(Default)]
struct Source<'a> {
    /// The blocks that have a part; none for one outside blocks.
    found: BTreeMap<&'a str, BTreeSet<u64>>,
    /// The biases beside them.
    biases: BTreeMap<&'a str, BTreeSet<u64>>,
    blocks: BTreeSet<u64>,
    /// How the names of the source begin, and those of the table in their place.
    heads: (String, String),
}

/// Refuses a model that lacks a tensor.
pub(super) fn check(
    table: &Table,
    gathered: &[Gathered<'_>],
    root: &Map<String, Value>,
) -> Result<()> {
    let source = Source::of(table, gathered);
    let mut missing = Vec::new();
    let mut count = 0usize;
    let mut keys = Vec::new();
    for part in parts(table) {
        let gone = source.lacks(table, &part, root);
        if gone.is_empty() {
            continue;
        }
        let words = source.words(&part, &gone);
        // One source tensor may become several.
        if !missing.contains(&words) {
            count = count.saturating_add(gone.len());
            missing.push(words);
            let asked = table.needs.asked(part.name, part.bias);
            let when = asked.chain(table.needs.only_if(part.name));
            keys.extend(when.flat_map(Expr::keys));
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let parts = missing.len();
    missing.truncate(NAMED);
    if parts > NAMED {
        missing.push(format!("{} more", parts - NAMED));
    }
    let table = table.name.clone();
    Err(ArchError::MissingTensors {
        table,
        count,
        missing,
        keys,
    }
    .into())
}

/// What the table's rows make. Rows that are only read make nothing that others do not.
fn parts(table: &Table) -> Vec<Part<'_>> {
    let mut list = Vec::new();
    for row in table.rows.iter().filter(|row| !row.accept_only) {
        for (slot, gguf) in row.gguf.iter().enumerate() {
            let Some(hf) = row.hf.get(slot).or(row.hf.first()) else {
                continue;
            };
            let both: &[_] = if gguf.has("{s}") {
                &[Some("weight"), Some("bias")]
            } else {
                &[None]
            };
            list.extend(both.iter().map(|s| Part {
                name: part(gguf.text()),
                bias: *s == Some("bias"),
                s: *s,
                hf,
                in_block: gguf.has("{bid}"),
            }));
        }
    }
    list
}

impl<'a> Source<'a> {
    fn of(table: &'a Table, gathered: &[Gathered<'_>]) -> Self {
        let mut source = Self::default();
        for group in gathered {
            let Some(row) = table.rows.get(group.row) else {
                continue;
            };
            source.blocks.extend(group.places.bid);
            let list = match group.places.s.as_deref() {
                Some("bias") => &mut source.biases,
                _ => &mut source.found,
            };
            for gguf in &row.gguf {
                let blocks = list.entry(part(gguf.text())).or_default();
                blocks.extend(group.places.bid);
            }
        }
        // Blocks beyond the last have names of their own.
        let inside = gathered.iter().filter(|group| group.places.bid.is_some());
        let first = inside.min_by_key(|group| group.places.bid);
        source.heads = first
            .or(gathered.first())
            .and_then(|group| heads(table, group))
            .unwrap_or_default();
        source
    }

    fn get(&self, name: &str, bias: bool) -> Option<&BTreeSet<u64>> {
        if bias {
            self.biases.get(name)
        } else {
            self.found.get(name)
        }
    }

    /// Whether a block has anything of a set.
    fn touches(&self, set: &[String], block: u64) -> bool {
        set.iter().any(|name| {
            let both = [false, true].iter();
            both.filter_map(|bias| self.get(name, *bias))
                .any(|blocks| blocks.contains(&block))
        })
    }

    /// The blocks in which it is missed; one `None` for a tensor outside blocks.
    fn lacks(&self, table: &Table, part: &Part<'_>, root: &Map<String, Value>) -> Vec<Option<u64>> {
        let needs = &table.needs;
        let has = |name: &str, bias| self.get(name, bias).is_some();
        let scope = Scope::new(root);
        let says = |when: &Expr| when.eval(&scope).is_ok_and(|value| truthy(&value));
        let usual = if part.bias && !needs.biased(part.name) {
            beside(part.name).iter().any(|name| has(name, true))
        } else {
            let group = needs.optional(part.name);
            group.is_none_or(|names| names.iter().any(|name| has(name, false)))
        };
        if !usual && !needs.asked(part.name, part.bias).any(says) {
            return Vec::new();
        }
        let wanted = |block: Option<u64>| {
            needs.only_if(part.name).is_none_or(|when| {
                let scope = Scope::new(root).with("bid", json!(block));
                when.eval(&scope).is_ok_and(|value| truthy(&value))
            })
        };
        if !part.in_block {
            return if has(part.name, part.bias) || !wanted(None) {
                Vec::new()
            } else {
                vec![None]
            };
        }
        let sets = needs.set_of(part.name);
        let in_set = |block: u64| {
            let Some((list, set)) = sets else {
                return true;
            };
            let Some(sets) = needs.either.get(list) else {
                return true;
            };
            let touched = |set: &Vec<String>| self.touches(set, block);
            match sets.get(set) {
                Some(own) if touched(own) => true,
                // A block with nothing of any set is one that lacks the usual set.
                _ => !sets.iter().any(touched) && set == self.usual(sets),
            }
        };
        let have = self.get(part.name, part.bias);
        let lacking = self.blocks.iter().copied().filter(|block| {
            !have.is_some_and(|have| have.contains(block)) && in_set(*block) && wanted(Some(*block))
        });
        lacking.map(Some).collect()
    }

    /// The set that most blocks have.
    fn usual(&self, sets: &[Vec<String>]) -> usize {
        let blocks = |set: &Vec<String>| {
            let all = set.iter().filter_map(|name| self.get(name, false));
            all.map(BTreeSet::len).max().unwrap_or(0)
        };
        // The first of those that are alike.
        let most = (0..sets.len()).rev();
        most.max_by_key(|number| sets.get(*number).map_or(0, blocks))
            .unwrap_or(0)
    }

    /// What the source calls it, and who has one.
    fn words(&self, part: &Part<'_>, gone: &[Option<u64>]) -> String {
        let have = self.get(part.name, part.bias).filter(|b| !b.is_empty());
        let places = Places {
            bid: gone.first().copied().flatten().filter(|_| have.is_some()),
            s: part.s.map(str::to_owned),
            ..Places::default()
        };
        let name = part.hf.fill(&places);
        let name = name.replace("{bid}", "*").replace("{xid}", "*");
        let (source, table) = &self.heads;
        let name = match name.strip_prefix(table.as_str()) {
            Some(rest) => format!("{source}{rest}"),
            None => name,
        };
        match (have, gone.len()) {
            _ if !part.in_block => name,
            (None, _) => format!("{name} (of every block)"),
            (Some(have), 1) => format!("{name} ({})", holders(have)),
            (Some(have), n) => {
                let others = n - 1;
                format!("{name} and that of {others} more ({})", holders(have))
            }
        }
    }
}

/// How the name of a source tensor begins, and what stands there in the table's name for it.
fn heads(table: &Table, group: &Gathered<'_>) -> Option<(String, String)> {
    let row = table.rows.get(group.row)?;
    let (number, tensor) = group.parts.iter().next()?;
    let slot = usize::try_from(*number).ok();
    let template = slot.and_then(|slot| row.hf.get(slot)).or(row.hf.first())?;
    let places = Places {
        xid: row.stacks().then_some(*number),
        ..group.places.clone()
    };
    let wanted = template.fill(&places);
    let (one, other) = (tensor.name.rsplit('.'), wanted.rsplit('.'));
    let alike = one.zip(other).take_while(|(a, b)| a == b);
    let tail: usize = alike.map(|(word, _)| word.len() + 1).sum();
    let head = |name: &str| {
        let end = (name.len() + 1).saturating_sub(tail);
        name.get(..end).map(str::to_owned)
    };
    Some((head(&tensor.name)?, head(&wanted)?))
}

/// `block 0 has it`, `blocks 0-2, 4 have it`.
fn holders(blocks: &BTreeSet<u64>) -> String {
    let (thing, verb) = match blocks.len() {
        1 => ("block", "has"),
        _ => ("blocks", "have"),
    };
    format!("{thing} {} {verb} it", ranges(blocks))
}

/// Numbers as `0-2, 4`, the first few of them.
pub(super) fn ranges(numbers: &BTreeSet<u64>) -> String {
    const SHOWN: usize = 4;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let mut words: Vec<String> = runs
        .iter()
        .take(SHOWN)
        .map(|(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        })
        .collect();
    if runs.len() > SHOWN {
        words.push("…".to_owned());
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_ranges() {
        let set = |list: &[u64]| list.iter().copied().collect::<BTreeSet<u64>>();
        assert_eq!(ranges(&set(&[0, 1, 2, 4])), "0-2, 4");
        assert_eq!(ranges(&set(&[1, 3, 5, 7, 9])), "1, 3, 5, 7, …");
    }
}
