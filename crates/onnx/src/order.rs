//! The order in which the nodes of a body can compute.

use ir::{GraphBody, Node, Result, ValueId};
use std::collections::{HashMap, HashSet};

/// Values of a body that nodes take within the bodies in their attributes, by the number of the node.
pub(crate) type Within = Vec<(usize, ValueId)>;

/// Shows `see` a body and all in it, inner ones first, each with what its nodes take within theirs.
///
/// Answers the names that the body takes from those around it. The nesting is that of the reader and
/// of `Model::validate`, which bound it.
pub(crate) fn walk<'a>(
    body: &'a GraphBody,
    see: &mut impl FnMut(&'a GraphBody, &Within) -> Result<()>,
) -> Result<HashSet<&'a str>> {
    let outer = body.values.iter().filter(|value| value.outer);
    let mut taken: HashSet<&str> = outer.map(|value| value.name.as_str()).collect();
    let mut within = Within::new();
    if body.nodes.iter().any(|node| node.bodies().next().is_some()) {
        let made = body.values.iter().enumerate().filter(|(_, it)| !it.outer);
        let made: HashMap<&str, usize> = made.map(|(at, it)| (it.name.as_str(), at)).collect();
        // By the place in the table of values, so that the order is the file's and not the hasher's.
        let ids = ids(body);
        for (number, node) in body.nodes.iter().enumerate() {
            let first = within.len();
            for inner in node.bodies() {
                for name in walk(inner, see)? {
                    match made.get(name) {
                        Some(at) => within.extend(ids.get(at).map(|id| (number, *id))),
                        None => {
                            taken.insert(name);
                        }
                    }
                }
            }
            if let Some(new) = within.get_mut(first..) {
                new.sort_unstable_by_key(|(_, id)| id.index());
            }
        }
    }
    see(body, &within)?;
    Ok(taken)
}

/// The ids of what nodes give, by their place in the table of values.
fn ids(body: &GraphBody) -> HashMap<usize, ValueId> {
    let given = body.nodes.iter().flat_map(|node| &node.outputs).flatten();
    given.map(|id| (id.index(), *id)).collect()
}

/// Which node gives each value; none gives an input or a tensor.
fn makers(body: &GraphBody) -> Vec<Option<usize>> {
    let mut makers = vec![None; body.values.len()];
    for (number, node) in body.nodes.iter().enumerate() {
        for id in node.outputs.iter().flatten() {
            if let Some(slot) = makers.get_mut(id.index()) {
                *slot = Some(number);
            }
        }
    }
    makers
}

/// The first node that takes what it or a later one gives, and that value.
pub(crate) fn early(body: &GraphBody, within: &Within) -> Option<(usize, ValueId)> {
    let makers = makers(body);
    let late = |number: usize, id: ValueId| {
        let maker = makers.get(id.index()).copied().flatten();
        maker.is_some_and(|maker| maker >= number)
    };
    let plain = body.nodes.iter().enumerate().find_map(|(number, node)| {
        let mut inputs = node.inputs.iter().flatten();
        Some((number, *inputs.find(|id| late(number, **id))?))
    });
    let inner = within.iter().copied().find(|(n, id)| late(*n, *id));
    plain.into_iter().chain(inner).min_by_key(|found| found.0)
}

/// What a node is known to be while the order is found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    New,
    /// What it takes is being placed.
    Open,
    Placed,
}

/// The nodes in an order in which each comes behind what it takes, otherwise that of the body.
///
/// # Errors
///
/// The number of a node that takes, by others or by itself, what it gives.
pub(crate) fn sequence(
    body: &GraphBody,
    within: &Within,
) -> std::result::Result<Vec<usize>, usize> {
    let makers = makers(body);
    let mut marks = vec![Mark::New; body.nodes.len()];
    let mut order = Vec::with_capacity(body.nodes.len());
    // A list instead of calls: a chain may be as long as the file.
    let mut open = Vec::new();
    for first in 0..body.nodes.len() {
        if marks.get(first) == Some(&Mark::New) {
            set(&mut marks, first, Mark::Open);
            open.push((first, 0));
        }
        while let Some((at, next)) = open.pop() {
            let Some(node) = body.nodes.get(at) else {
                continue;
            };
            let id = match taken(node, at, next, within) {
                Taken::Value(id) => Some(id),
                Taken::Nothing => None,
                Taken::Behind => {
                    set(&mut marks, at, Mark::Placed);
                    order.push(at);
                    continue;
                }
            };
            open.push((at, next + 1));
            let maker = id.and_then(|id| makers.get(id.index()).copied().flatten());
            match maker.and_then(|maker| Some((maker, *marks.get(maker)?))) {
                Some((maker, Mark::Open)) => return Err(maker),
                Some((maker, Mark::New)) => {
                    set(&mut marks, maker, Mark::Open);
                    open.push((maker, 0));
                }
                Some((_, Mark::Placed)) | None => {}
            }
        }
    }
    Ok(order)
}

fn set(marks: &mut [Mark], at: usize, mark: Mark) {
    if let Some(slot) = marks.get_mut(at) {
        *slot = mark;
    }
}

/// What a node takes at one of its places.
enum Taken {
    Value(ValueId),
    /// An input is left out.
    Nothing,
    /// There are no more places.
    Behind,
}

/// What node `at` takes as number `next`, those behind its inputs being what it takes within.
fn taken(node: &Node, at: usize, next: usize, within: &Within) -> Taken {
    if let Some(input) = node.inputs.get(next) {
        return input.map_or(Taken::Nothing, Taken::Value);
    }
    let from = within.partition_point(|(number, _)| *number < at);
    let found = within.get(from.saturating_add(next - node.inputs.len()));
    match found {
        Some((number, id)) if *number == at => Taken::Value(*id),
        _ => Taken::Behind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Value;

    /// A body of nodes by what they take and give.
    fn body(nodes: &[(&str, &str)]) -> GraphBody {
        let (mut body, mut ids) = (GraphBody::default(), HashMap::new());
        for (takes, gives) in nodes {
            let mut list = |names: &str| {
                let names = names.split_whitespace().map(|name| {
                    let made = ids.entry(name.to_owned()).or_insert_with(|| {
                        let name = name.to_owned();
                        body.add_value(Value {
                            name,
                            ..Value::default()
                        })
                        .unwrap()
                    });
                    Some(*made)
                });
                names.collect()
            };
            let (inputs, outputs) = (list(takes), list(gives));
            let op = "Relu".to_owned();
            body.nodes.push(Node {
                op,
                inputs,
                outputs,
                ..Node::default()
            });
        }
        body
    }

    fn of(nodes: &[(&str, &str)]) -> std::result::Result<Vec<usize>, usize> {
        sequence(&body(nodes), &Within::new())
    }

    #[test]
    fn nodes_stay_where_they_are_if_they_can() {
        let sorted = [("x", "a"), ("a x", "b"), ("", "c"), ("b c", "d")];
        assert_eq!(of(&sorted), Ok(vec![0, 1, 2, 3]));
        assert_eq!(early(&body(&sorted), &Within::new()), None);
        let late = [("x", "a"), ("c", "b"), ("b", "d"), ("a", "c")];
        assert_eq!(of(&late), Ok(vec![0, 3, 1, 2]));
        let found = early(&body(&late), &Within::new()).unwrap();
        assert_eq!(found.0, 1);
    }

    #[test]
    fn a_cycle_has_a_node_in_it() {
        assert_eq!(of(&[("a", "a")]), Err(0));
        // The first node takes what the cycle gives, and is not in it.
        let found = of(&[("b", "y"), ("b", "a"), ("a", "b")]);
        assert!(matches!(found, Err(1 | 2)), "{found:?}");
    }

    #[test]
    fn what_is_taken_within_counts() {
        let mut two = body(&[("x", "a"), ("x", "b")]);
        let b = two.nodes[1].outputs[0].unwrap();
        assert_eq!(sequence(&two, &vec![(0, b)]), Ok(vec![1, 0]));
        let a = two.nodes[0].outputs.clone();
        two.nodes[1].inputs.extend(a);
        assert!(sequence(&two, &vec![(0, b)]).is_err());
    }

    #[test]
    fn a_long_chain_takes_no_stack() {
        let names: Vec<String> = (0..200_000).map(|n| format!("v{n}")).collect();
        let nodes = names.windows(2).rev();
        let nodes: Vec<_> = nodes.map(|it| (it[0].as_str(), it[1].as_str())).collect();
        let order = of(&nodes).unwrap();
        assert_eq!(order.first(), Some(&(nodes.len() - 1)));
    }
}
