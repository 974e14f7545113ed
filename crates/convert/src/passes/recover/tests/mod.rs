//! Names of small graphs, by who tells them.

mod computed;
mod forms;
mod listed;
mod traced;

use super::*;
use ir::{Attribute, AttributeValue, DType, Graph, GraphBody, Initializer, Node, Value};

/// Operator, name of the node, inputs, output.
type Step<'a> = (&'a str, &'a str, &'a [&'a str], &'a str);

fn floats(count: u64, from: u64) -> Vec<u8> {
    let numbers = (from..from + count).map(|n| f32::from(u16::try_from(n).unwrap()));
    numbers.flat_map(f32::to_le_bytes).collect()
}

/// A graph over F32 tensors, each with numbers of its own.
fn model(tensors: &[(&str, &[u64])], nodes: &[Step<'_>]) -> Model {
    let mut model = Model::default();
    let mut body = GraphBody::default();
    let mut ids: HashMap<String, ir::ValueId> = HashMap::new();
    let mut value = |body: &mut GraphBody, name: &str| {
        *ids.entry(name.to_owned()).or_insert_with(|| {
            let value = Value {
                name: name.to_owned(),
                ..Value::default()
            };
            body.add_value(value).unwrap()
        })
    };
    let mut from = 0;
    for (name, shape) in tensors {
        let spec = TensorSpec::new(DType::F32, shape.to_vec());
        let count = spec.elements().unwrap();
        let view = View::contiguous(Region::memory(floats(count, from)));
        from += count;
        let id = model
            .tensors
            .push(Tensor::stored(*name, spec, view))
            .unwrap();
        let value = value(&mut body, name);
        body.initializers.push(Initializer::Dense(value, id));
    }
    for (op, name, inputs, output) in nodes {
        let inputs = inputs.iter().map(|name| Some(value(&mut body, name)));
        let inputs = inputs.collect();
        let outputs = vec![Some(value(&mut body, output))];
        body.nodes.push(Node {
            name: (*name).to_owned(),
            op: (*op).to_owned(),
            inputs,
            outputs,
            ..Node::default()
        });
    }
    model.graph = Some(Graph {
        body,
        ..Graph::default()
    });
    model
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors.iter().map(|t| t.name.as_str()).collect()
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    let bytes = model.tensors.by_name(name).unwrap().read_all().unwrap();
    let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    values.collect()
}

/// The kinds and subjects of all records.
fn told(model: &Model) -> Vec<(&str, &str)> {
    let records = model.provenance.records.iter();
    records.map(|r| (r.kind, r.what.as_str())).collect()
}

/// Gives nodes properties, by their place.
fn note(model: &mut Model, notes: &[(usize, &str, &str)]) {
    let body = &mut model.graph.as_mut().unwrap().body;
    for (at, key, text) in notes {
        let note = ((*key).to_owned(), (*text).to_owned());
        body.nodes[*at].metadata.push(note);
    }
}
