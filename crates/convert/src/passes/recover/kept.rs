//! The graph whose weights were named: one that is kept computes as before, of one that is not
//! only its form stays.

use ir::{Attribute, AttributeValue, GraphBody, Initializer, Node, Result, TensorId, Value};
use std::collections::{BTreeMap, HashSet};

/// The initializers that are inputs of the graph too.
pub(super) fn fed(body: &GraphBody) -> HashSet<TensorId> {
    let inputs: HashSet<usize> = body.inputs.iter().map(|value| value.index()).collect();
    let dense = body
        .initializers
        .iter()
        .filter_map(|initializer| match initializer {
            Initializer::Dense(value, id) if inputs.contains(&value.index()) => Some(*id),
            _ => None,
        });
    dense.collect()
}

/// Puts a transposition between each of these tensors, which are the other way round now, and the
/// value that nodes know. Runtimes fold it when they load the graph.
pub(super) fn turn(body: &mut GraphBody, turned: &BTreeMap<TensorId, String>) -> Result<()> {
    let values = body.values.iter();
    let mut taken: HashSet<String> = values.map(|value| value.name.clone()).collect();
    let mut nodes = Vec::new();
    for at in 0..body.initializers.len() {
        let Some(Initializer::Dense(old, id)) = body.initializers.get(at).cloned() else {
            continue;
        };
        let Some(mut name) = turned.get(&id).cloned() else {
            continue;
        };
        while !taken.insert(name.clone()) {
            name.push('~');
        }
        let value = Value {
            name: name.clone(),
            ..Value::default()
        };
        let Some(value) = body.add_value(value) else {
            let what = "more values than 32 bits count".to_owned();
            return Err(ir::Fault::Invalid { what }.into());
        };
        if let Some(place) = body.initializers.get_mut(at) {
            *place = Initializer::Dense(value, id);
        }
        nodes.push(Node {
            name: format!("{name}/Transpose"),
            op: "Transpose".to_owned(),
            inputs: vec![Some(value)],
            outputs: vec![Some(old)],
            attributes: vec![Attribute {
                name: "perm".to_owned(),
                value: AttributeValue::Ints(vec![1, 0]),
                doc: String::new(),
            }],
            ..Node::default()
        });
    }
    body.nodes.splice(0..0, nodes);
    Ok(())
}

/// Leaves of a graph what holds without its tensors: some of them are parts of others now.
pub(super) fn strip(body: &mut GraphBody) {
    body.initializers.clear();
    for node in &mut body.nodes {
        node.attributes.retain(|attribute| {
            let value = &attribute.value;
            matches!(value, AttributeValue::Int(_) | AttributeValue::Ints(_))
        });
    }
}
