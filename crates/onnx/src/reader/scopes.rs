//! What the body in a node may not do with the names around it, as both onnx's checker and
//! onnxruntime see it: give one again that is there before the node, or hand one on as its own output.
//! An input or a tensor of its own may have such a name.

use super::rules::contradiction;
use ir::{GraphBody, Initializer, Result, Value};
use std::collections::HashSet;

/// Whether the bodies in a body's nodes keep to that. Which names are there before a node is known only
/// where the nodes stand in the order in which they compute.
pub(super) fn check(top: &GraphBody, sorted: bool) -> Result<()> {
    let mut scopes = Scopes {
        sorted,
        known: HashSet::new(),
    };
    scopes.body(top, false)
}

struct Scopes<'a> {
    sorted: bool,
    /// The names around a body.
    known: HashSet<&'a str>,
}

impl<'a> Scopes<'a> {
    /// One body. The nesting is that of the reader, which bounds it.
    fn body(&mut self, here: &'a GraphBody, nested: bool) -> Result<()> {
        if !nested && here.nodes.iter().all(|node| node.bodies().next().is_none()) {
            return Ok(());
        }
        let value = |id| here.value(id);
        let mut handed = here.outputs.iter().filter_map(|id| value(*id));
        if let Some(Value { name, .. }) = handed.find(|value| nested && value.outer) {
            let what = format!(
                "its output {name:?} is a value of the graph around it, expected one that it gives itself"
            );
            return Err(contradiction(what));
        }
        let mut own: Vec<&str> = Vec::new();
        let tensors = here.initializers.iter().map(|it| match it {
            Initializer::Dense(id, _) | Initializer::Sparse(id, _) => *id,
        });
        for value in tensors.chain(here.inputs.iter().copied()).filter_map(value) {
            self.add(&value.name, &mut own);
        }
        for node in &here.nodes {
            for inner in node.bodies() {
                self.body(inner, true)
                    .map_err(|error| error.at(node.title(here)))?;
            }
            for Value { name, .. } in node.outputs.iter().flatten().filter_map(|id| value(*id)) {
                if !self.add(name, &mut own) && nested && self.sorted {
                    let what = format!(
                        "it gives {name:?}, which the graph around it has already, expected another name"
                    );
                    return Err(contradiction(what).at(node.title(here)));
                }
            }
        }
        for name in own {
            self.known.remove(name);
        }
        Ok(())
    }

    /// Adds a name, unless it is there. What a body adds it takes away again.
    fn add(&mut self, name: &'a str, own: &mut Vec<&'a str>) -> bool {
        let new = self.known.insert(name);
        if new {
            own.push(name);
        }
        new
    }
}
