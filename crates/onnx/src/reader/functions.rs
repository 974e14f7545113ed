//! A model's own functions: which one a node calls, and which of them call each other.

use super::rules::contradiction;
use crate::OnnxError;
use ir::{Function, Graph, GraphBody, Node, Result};
use std::collections::{HashMap, HashSet};

/// The number of each function, by its domain, name and overload.
pub(super) type ByName<'a> = HashMap<[&'a str; 3], usize>;

/// The functions of a model by name, of which no two may have the same.
pub(super) fn by_name(functions: &[Function]) -> Result<ByName<'_>> {
    let mut by_name = HashMap::new();
    for (number, function) in functions.iter().enumerate() {
        let key = [&function.domain[..], &function.name, &function.overload];
        if by_name.insert(key, number).is_some() {
            let what = "the function is there twice, expected one of its domain, name and overload";
            return Err(contradiction(what.to_owned()).at(title(function)));
        }
    }
    Ok(by_name)
}

/// By what a node names the function that it calls, where it calls one.
pub(super) fn called(node: &Node) -> [&str; 3] {
    [&node.domain, &node.op, &node.overload]
}

/// How messages name a function.
pub(super) fn title(function: &Function) -> String {
    format!("function {:?}", function.name)
}

/// Whether no function comes to itself: whoever writes them out would never end.
pub(super) fn calls(functions: &[Function], by_name: &ByName<'_>) -> Result<()> {
    // A function is left once, when all that it calls are.
    let mut left = vec![false; functions.len()];
    let mut open = vec![false; functions.len()];
    for first in 0..functions.len() {
        let mut way = vec![(first, None)];
        while let Some((at, called)) = way.pop() {
            let Some(function) = functions.get(at) else {
                continue;
            };
            if left.get(at).copied().unwrap_or(true) {
                continue;
            }
            let mut called: Vec<usize> = called.unwrap_or_else(|| {
                mark(&mut open, at);
                callees(&function.body, by_name)
            });
            let Some(next) = called.pop() else {
                mark(&mut left, at);
                continue;
            };
            way.push((at, Some(called)));
            let is_left = left.get(next).copied().unwrap_or(true);
            if !is_left && open.get(next).copied().unwrap_or(false) {
                let what = format!("function {:?} comes to call itself", function.name);
                return Err(OnnxError::Contradiction { what }.into());
            }
            way.push((next, None));
        }
    }
    Ok(())
}

fn mark(list: &mut [bool], at: usize) {
    if let Some(slot) = list.get_mut(at) {
        *slot = true;
    }
}

/// The functions that the nodes of a body call, each once.
fn callees(body: &GraphBody, by_name: &ByName<'_>) -> Vec<usize> {
    let (mut bodies, mut found) = (vec![body], HashSet::new());
    while let Some(body) = bodies.pop() {
        for node in &body.nodes {
            found.extend(by_name.get(&called(node)));
            bodies.extend(node.bodies());
        }
    }
    let mut found: Vec<usize> = found.into_iter().collect();
    found.sort_unstable();
    found
}

/// The functions that the model's graph calls, itself or through others.
pub(super) fn reached(graph: &Graph, functions: &ByName<'_>) -> HashSet<usize> {
    let mut reached = HashSet::new();
    let mut next = callees(&graph.body, functions);
    while let Some(number) = next.pop() {
        if reached.insert(number) {
            let function = graph.functions.get(number);
            next.extend(function.iter().flat_map(|it| callees(&it.body, functions)));
        }
    }
    reached
}
