//! From a chosen subtree to names: every path that ends at a tensor, and what lies beside.

use super::build::Build;
use super::children::Walk;
use super::forest::{Forest, Node};
use super::structure::{Counts, Holds};
use crate::pickle::Budget;
use ir::{Limits, Result};
use std::collections::{HashMap, HashSet};

/// A tensor found, and its name.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) node: Node,
    pub(crate) build: Build,
}

/// Something that is no tensor and holds none.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) name: String,
    pub(crate) node: Node,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Harvest {
    pub(crate) tensors: Vec<Found>,
    pub(crate) beside: Vec<Beside>,
    /// How many more things lie beside than are listed.
    pub(crate) more: u64,
    /// Paths at which an object holds itself.
    pub(crate) cycles: Vec<String>,
}

/// Things beside the tensors that are listed one by one.
pub(crate) const LISTED: usize = 1000;

struct Frame<'a> {
    node: Node,
    holds: Holds,
    children: Walk<'a>,
    /// Length of the path up to here.
    path_len: usize,
}

/// Walks `root`, whose name is `prefix`.
pub(crate) fn walk(
    forest: &Forest,
    counts: &Counts,
    root: Node,
    budget: &mut Budget,
) -> Result<Harvest> {
    // Counted before a single name is made: a few objects can have 2^60 paths.
    Limits::check("tensors", counts.of(root), budget.limits().tensors)?;
    let mut out = Harvest::default();
    if let Some(build) = forest.build(root) {
        out.tensors.push(Found {
            name: String::new(),
            node: root,
            build,
        });
        return Ok(out);
    }
    let mut path = String::new();
    let mut on_path: HashSet<Node> = HashSet::new();
    let enter = |node: Node, path_len: usize| {
        let (holds, children) = forest.children(node);
        Frame {
            node,
            holds,
            children: children.into_iter(),
            path_len,
        }
    };
    // Whether these are modules. Asked once of each: one may come a hundred thousand times.
    let mut bare: HashMap<Node, bool> = HashMap::new();
    let mut stack = vec![enter(root, 0)];
    on_path.insert(root);
    while let Some(frame) = stack.last_mut() {
        path.truncate(frame.path_len);
        let Some((name, child)) = frame.children.next() else {
            on_path.remove(&frame.node);
            stack.pop();
            continue;
        };
        let in_module = frame.holds == Holds::Module;
        let top = stack.len() == 1;
        if !top {
            path.push('.');
        }
        path.push_str(&forest.show(&name));
        if let Some(build) = forest.build(child) {
            budget.hold(path.len() as u64)?;
            out.tensors.push(Found {
                name: path.clone(),
                node: child,
                build,
            });
        } else if counts.of(child) > 0 {
            if on_path.contains(&child) {
                if out.cycles.len() < LISTED {
                    out.cycles.push(path.clone());
                }
            } else {
                Limits::check(
                    "depth of nested objects",
                    stack.len() as u64,
                    budget.limits().depth,
                )?;
                on_path.insert(child);
                stack.push(enter(child, path.len()));
            }
        } else if in_module
            && *bare
                .entry(child)
                .or_insert_with(|| forest.children(child).0 == Holds::Module)
        {
            // A module without tensors is nothing that is lost.
        } else if out.beside.len() < LISTED {
            out.beside.push(Beside {
                name: path.clone(),
                node: child,
            });
        } else {
            out.more += 1;
        }
    }
    Ok(out)
}
