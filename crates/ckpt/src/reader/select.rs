//! Which tensors: the rule of `docs` for what a checkpoint's state dict is.

use super::children::Name;
use super::forest::{Forest, Node};
use super::structure::{Counts, Holds};
use crate::error::CkptError;
use ir::{ReadOptions, Result};
use std::collections::HashMap;

/// Keys under which training programs keep their state dict, in the order they are tried.
pub(crate) const KEYS: [&str; 9] = [
    "state_dict",
    "model_state_dict",
    "model",
    "module",
    "params_ema",
    "params",
    "net",
    "ema",
    "generator",
];

/// A chosen subtree.
#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) node: Node,
    /// The names on the way to it.
    pub(crate) path: Vec<String>,
    /// The mappings on the way to it, each with what was taken of it.
    pub(crate) passed: Vec<(Node, Node)>,
    pub(crate) why: String,
}

impl Choice {
    fn root(node: Node, why: impl Into<String>) -> Self {
        Self {
            node,
            path: Vec::new(),
            passed: Vec::new(),
            why: why.into(),
        }
    }
}

/// How well an object serves as a state dict.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    /// A module, or a mapping with tensors and no tensors deeper down.
    State,
    /// A mapping whose tensors all lie in mappings and modules below it.
    Nested,
    No,
}

/// A search for state dicts. It remembers what it found out: the same object may come under a
/// hundred thousand keys, at every level.
struct Search<'a> {
    forest: &'a Forest,
    counts: &'a Counts,
    /// By object and levels that may follow.
    fits: HashMap<(Node, u8), Fit>,
    listed: HashMap<(Node, u8), bool>,
}

impl Search<'_> {
    fn fit(&mut self, node: Node, depth: u8) -> Fit {
        if let Some(fit) = self.fits.get(&(node, depth)) {
            return *fit;
        }
        let fit = self.fit_anew(node, depth);
        self.fits.insert((node, depth), fit);
        fit
    }

    fn fit_anew(&mut self, node: Node, depth: u8) -> Fit {
        if self.counts.of(node) == 0 {
            return Fit::No;
        }
        let (holds, children) = self.forest.children(node);
        match holds {
            Holds::Module => return Fit::State,
            Holds::Mapping => {}
            _ => return Fit::No,
        }
        let (mut direct, mut deeper, mut mappings) = (false, false, true);
        for (_, child) in children {
            match self.forest.build(child) {
                Some(build) => direct |= build.is_tensor(),
                None if self.counts.of(child) > 0 => {
                    deeper = true;
                    mappings = mappings && depth > 0 && self.fit(child, depth - 1) != Fit::No;
                }
                None => {}
            }
        }
        match (direct, deeper) {
            (true, false) => Fit::State,
            _ if deeper && mappings => Fit::Nested,
            _ => Fit::No,
        }
    }

    /// The first of the known keys under which a mapping holds something like a state dict.
    fn listed_key(&mut self, node: Node) -> Option<(&'static str, Node)> {
        let (holds, children) = self.forest.children(node);
        if holds != Holds::Mapping {
            return None;
        }
        let mut known: [Option<Node>; KEYS.len()] = [None; KEYS.len()];
        for (name, child) in children {
            let Name::Key(key) = name else { continue };
            let place = self
                .forest
                .str(key)
                .and_then(|key| KEYS.iter().position(|known| *known == key));
            if let Some(slot) = place.and_then(|place| known.get_mut(place)) {
                slot.get_or_insert(child);
            }
        }
        let mut found = KEYS.iter().zip(known);
        found.find_map(|(&key, child)| {
            let child = child?;
            let fits = self.fit(child, NESTED) != Fit::No || self.listed_below(child, NESTED);
            fits.then_some((key, child))
        })
    }

    /// Whether there is such a key further down.
    fn listed_below(&mut self, node: Node, depth: u8) -> bool {
        if depth == 0 || self.counts.of(node) == 0 {
            return false;
        }
        if let Some(known) = self.listed.get(&(node, depth)) {
            return *known;
        }
        let (holds, children) = self.forest.children(node);
        let found = holds == Holds::Mapping
            && children.into_iter().any(|(name, child)| {
                let known = match name {
                    Name::Key(key) => self.forest.str(key).is_some_and(|key| KEYS.contains(&key)),
                    Name::Index(_) => false,
                };
                known && (self.fit(child, NESTED) != Fit::No || self.listed_below(child, depth - 1))
            });
        self.listed.insert((node, depth), found);
        found
    }
}

/// How deep nested mappings may be state dicts.
const NESTED: u8 = 6;

/// Chooses by the options, or by the rule.
pub(crate) fn choose(
    forest: &Forest,
    counts: &Counts,
    root: Node,
    options: &ReadOptions,
) -> Result<Choice> {
    if let Some(key) = &options.key {
        return by_key(forest, counts, root, key);
    }
    if options.all {
        return Ok(Choice::root(
            root,
            "every tensor of the file, as --all asks",
        ));
    }
    let mut search = Search {
        forest,
        counts,
        fits: HashMap::new(),
        listed: HashMap::new(),
    };
    let mut choice = Choice::root(root, "");
    for _ in 0..NESTED {
        let node = choice.node;
        let found = search.fit(node, NESTED);
        if found == Fit::State {
            let module = forest.children(node).0 == Holds::Module;
            choice.why = if module {
                format!(
                    "a whole module, {}: its parameters and buffers",
                    forest.describe(node)
                )
            } else {
                "a mapping of tensors".to_owned()
            };
            return Ok(choice);
        }
        let Some((key, child)) = search.listed_key(node) else {
            break;
        };
        choice.passed.push((node, child));
        choice.path.push(key.to_owned());
        choice.node = child;
    }
    choice.why = if choice.path.is_empty() {
        "no key known to hold a state dict: every tensor under its full path".to_owned()
    } else {
        "mappings of tensors".to_owned()
    };
    Ok(choice)
}

/// Follows a dotted path; a key may hold dots itself.
fn by_key(forest: &Forest, counts: &Counts, root: Node, wanted: &str) -> Result<Choice> {
    let mut choice = Choice::root(root, "as --key asks");
    let mut rest = wanted;
    while !rest.is_empty() {
        let (_, children) = forest.children(choice.node);
        let mut best: Option<(String, Node)> = None;
        for (name, child) in children {
            let name = forest.show(&name);
            let fits = rest == name
                || rest
                    .strip_prefix(&name)
                    .is_some_and(|tail| tail.starts_with('.'));
            if fits
                && best
                    .as_ref()
                    .is_none_or(|(best, _)| best.len() < name.len())
            {
                best = Some((name, child));
            }
        }
        let Some((name, child)) = best else {
            return Err(no_such_key(forest, counts, choice.node, wanted));
        };
        rest = rest.get(name.len()..).unwrap_or_default();
        rest = rest.strip_prefix('.').unwrap_or(rest);
        choice.passed.push((choice.node, child));
        choice.path.push(name);
        choice.node = child;
    }
    if counts.of(choice.node) == 0 && counts.of(root) > 0 {
        return Err(CkptError::tensor(format!("{wanted:?} holds no tensors")).into());
    }
    Ok(choice)
}

fn no_such_key(forest: &Forest, counts: &Counts, at: Node, key: &str) -> ir::Error {
    const SHOWN: usize = 20;
    let (_, children) = forest.children(at);
    let holding = children
        .into_iter()
        .filter(|(_, child)| counts.of(*child) > 0);
    let mut names: Vec<String> = holding
        .take(SHOWN + 1)
        .map(|(name, _)| forest.show(&name))
        .collect();
    if names.len() > SHOWN {
        names.truncate(SHOWN);
        names.push("…".to_owned());
    }
    let available = if names.is_empty() {
        "none with tensors".to_owned()
    } else {
        names.join(", ")
    };
    CkptError::NoSuchKey {
        key: key.to_owned(),
        available,
    }
    .into()
}
