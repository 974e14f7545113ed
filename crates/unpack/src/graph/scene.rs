//! A body with its ways: who makes a value, who takes it, which tensor it is.

use ir::{
    AttributeValue, DType, GraphBody, Initializer, Metadata, Node, Tensor, TensorId, TensorTable,
    ValueId, ns,
};
use std::collections::HashMap;

pub(super) struct Scene<'a> {
    pub(super) body: &'a GraphBody,
    pub(super) tensors: &'a TensorTable,
    /// Types of blocks, by the weight's name.
    pub(super) notes: HashMap<&'a str, DType>,
    makers: HashMap<ValueId, usize>,
    takers: HashMap<ValueId, Vec<usize>>,
    constants: HashMap<ValueId, TensorId>,
}

/// Where a constant comes from, through a lookup of rows and a cast.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    pub(super) tensor: Option<TensorId>,
    /// The type it is cast to.
    pub(super) cast: Option<DType>,
    /// The node that looks rows up, and the indices.
    pub(super) rows: Option<(usize, Option<ValueId>)>,
    /// All nodes on the way.
    pub(super) nodes: Vec<usize>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(body: &'a GraphBody, tensors: &'a TensorTable, notes: &'a Metadata) -> Self {
        let (mut makers, mut takers) = (HashMap::new(), HashMap::<ValueId, Vec<usize>>::new());
        for (index, node) in body.nodes.iter().enumerate() {
            for value in node.outputs.iter().flatten() {
                makers.insert(*value, index);
            }
            for value in node.inputs.iter().flatten() {
                takers.entry(*value).or_default().push(index);
            }
        }
        let mut constants = HashMap::new();
        for initializer in &body.initializers {
            if let Initializer::Dense(value, id) = initializer {
                constants.insert(*value, *id);
            }
        }
        // The tensor of a Constant node is a constant like any other.
        for node in body.nodes.iter().filter(|node| node.op == "Constant") {
            let value = node.outputs.first().copied().flatten();
            let tensor = node.attributes.iter().find_map(|a| match a.value {
                AttributeValue::Tensor(id) => Some(id),
                _ => None,
            });
            if let (Some(value), Some(id)) = (value, tensor) {
                constants.insert(value, id);
            }
        }
        let notes = notes.of(ns::NOTE).filter_map(|(key, value)| {
            let dtype = value.as_str()?.parse().ok()?;
            Some((key.strip_prefix("blocks.")?, dtype))
        });
        let notes = notes.collect();
        // What can also be fed is no constant.
        for value in &body.inputs {
            constants.remove(value);
        }
        Self {
            body,
            tensors,
            notes,
            makers,
            takers,
            constants,
        }
    }

    pub(super) fn node(&self, index: usize) -> Option<&'a Node> {
        self.body.nodes.get(index)
    }

    pub(super) fn tensor(&self, id: Option<TensorId>) -> Option<&'a Tensor> {
        self.tensors.get(id?)
    }

    /// The constant that an input of a node is.
    pub(super) fn constant(&self, node: &Node, slot: usize) -> Option<TensorId> {
        self.constants.get(&input(node, slot)?).copied()
    }

    pub(super) fn maker(&self, value: ValueId) -> Option<(usize, &'a Node)> {
        let index = *self.makers.get(&value)?;
        Some((index, self.node(index)?))
    }

    /// The one node that takes a value, if it is one and no output of the graph.
    pub(super) fn taker(&self, value: ValueId) -> Option<(usize, &'a Node)> {
        let [index] = self.takers.get(&value)?[..] else {
            return None;
        };
        let out = self.body.outputs.contains(&value);
        Some((index, self.node(index)?)).filter(|_| !out)
    }

    /// Follows an input of a node back to a constant.
    pub(super) fn origin(&self, node: &Node, slot: usize) -> Origin {
        let mut origin = Origin::default();
        let mut here = input(node, slot);
        // A cast and a lookup, in this order.
        for _ in 0..3 {
            let Some(value) = here else { break };
            if let Some(id) = self.constants.get(&value) {
                origin.tensor = Some(*id);
                break;
            }
            let Some((index, node)) = self.maker(value).filter(|(_, n)| n.domain.is_empty()) else {
                break;
            };
            match node.op.as_str() {
                "Cast" if origin.cast.is_none() && origin.rows.is_none() => {
                    origin.cast = match node.int("to") {
                        Some(1) => Some(DType::F32),
                        Some(6) => Some(DType::I32),
                        _ => break,
                    };
                }
                "Gather" if origin.rows.is_none() && node.int("axis").unwrap_or(0) == 0 => {
                    origin.rows = Some((index, input(node, 1)));
                }
                _ => break,
            }
            origin.nodes.push(index);
            here = input(node, 0);
        }
        origin
    }
}

/// What an input of a node takes.
pub(super) fn input(node: &Node, slot: usize) -> Option<ValueId> {
    node.inputs.get(slot).copied().flatten()
}

/// What a node gives first.
pub(super) fn output(node: &Node) -> Option<ValueId> {
    node.outputs.first().copied().flatten()
}

/// An attribute that counts something.
pub(super) fn count(node: &Node, name: &str) -> Option<u64> {
    u64::try_from(node.int(name)?).ok()
}
