//! What is inside a model, as data: the answer of `inspect`.

use bytes::Bytes;
use ir::{Array, Graph, GraphBody, MetaValue, Model, Object, ObjectId, Objects, Tensor};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The answer of `inspect --json`; its fields are a promise.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// The format's id.
    pub format: String,
    /// Its version and container, in words.
    pub version: String,
    /// The files it lies in.
    pub files: Vec<FileLine>,
    /// Metadata, namespaces apart from the format's own as `namespace:key`.
    pub metadata: Map<String, Value>,
    /// The tensors, in the source's order.
    pub tensors: Vec<TensorLine>,
    /// How many there are.
    pub tensor_count: u64,
    /// How many numbers they hold, ties counted once.
    pub parameter_count: u64,
    /// How many bytes they take, ties counted once.
    pub nbytes: u64,
    /// The graph, where there is one.
    pub graph: Option<GraphLine>,
    /// The weights that the graph holds quantized.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub quantized: Vec<QuantizedLine>,
    /// The Python object tree, where there is one.
    pub tree: Option<Value>,
    /// What the reader has to say.
    pub notes: Vec<String>,
}

/// One file.
#[derive(Clone, Debug, Serialize)]
pub struct FileLine {
    /// Its path.
    pub path: String,
    /// Its size.
    pub nbytes: u64,
}

/// One tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorLine {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Its size.
    pub nbytes: u64,
    /// The file its bytes lie in.
    pub file: Option<String>,
    /// Where in that file.
    pub offset: Option<u64>,
    /// The first tensor that is the very same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub same_as: Option<String>,
}

/// A weight that a graph holds as codes and scales.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizedLine {
    /// Its name.
    pub name: String,
    /// A type of blocks, or the operator and the type of codes.
    pub scheme: String,
    /// Its dimensions, outermost first.
    pub shape: Vec<u64>,
    /// The tensors it is made of.
    pub parts: Vec<String>,
}

/// A graph in short.
#[derive(Clone, Debug, Serialize)]
pub struct GraphLine {
    /// Names of what is fed.
    pub inputs: Vec<String>,
    /// Names of what comes out.
    pub outputs: Vec<String>,
    /// Nodes, those of subgraphs included.
    pub node_count: u64,
    /// How often each operator stands in it.
    pub ops: BTreeMap<String, u64>,
    /// The operator sets it is written in; the standard one's domain is empty.
    pub opsets: BTreeMap<String, i64>,
}

/// Describes a model.
pub fn describe(model: &Model) -> Description {
    let ties = model.tensors.ties();
    let mut parameter_count = 0u64;
    let mut nbytes = 0u64;
    let mut tensors = Vec::with_capacity(model.tensors.len());
    for ((id, tensor), first) in model.tensors.ids().zip(ties) {
        let mut line = tensor_line(tensor);
        if first == id {
            parameter_count = parameter_count.saturating_add(tensor.spec.elements().unwrap_or(0));
            nbytes = nbytes.saturating_add(tensor.byte_len());
        } else {
            line.same_as = model.tensors.get(first).map(|kept| kept.name.clone());
        }
        tensors.push(line);
    }
    let provenance = &model.provenance;
    let file = |(path, nbytes): &(std::path::PathBuf, u64)| FileLine {
        path: path.to_string_lossy().into_owned(),
        nbytes: *nbytes,
    };
    let records = provenance.records.iter().map(ToString::to_string);
    // What does not fit together is said where it is asked for.
    let quantized = unpack::quantized_weights(model).unwrap_or_default();
    let schemes = schemes(&quantized);
    Description {
        format: provenance.format.to_owned(),
        version: provenance.version.clone(),
        files: provenance.files.iter().map(file).collect(),
        metadata: metadata(model),
        tensor_count: tensors.len() as u64,
        tensors,
        parameter_count,
        nbytes,
        graph: model.graph.as_ref().map(graph_line),
        tree: model.objects.as_ref().and_then(|objects| {
            objects
                .root()
                .map(|root| tree(objects, &model.tensors, root))
        }),
        notes: provenance
            .notes
            .iter()
            .cloned()
            .chain(records)
            .chain(schemes)
            .collect(),
        quantized: quantized.into_iter().map(quantized_line).collect(),
    }
}

fn quantized_line(weight: unpack::QuantizedWeight) -> QuantizedLine {
    QuantizedLine {
        name: weight.name,
        scheme: weight.scheme,
        shape: weight.shape,
        parts: weight.parts,
    }
}

/// `12 weights are quantized: Q4_0`, a line for each scheme.
fn schemes(weights: &[unpack::QuantizedWeight]) -> Vec<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for weight in weights {
        *counts.entry(&weight.scheme).or_default() += 1;
    }
    let line = |(scheme, n): (&str, u64)| match n {
        1 => format!("1 weight is quantized: {scheme}"),
        n => format!("{n} weights are quantized: {scheme}"),
    };
    counts.into_iter().map(line).collect()
}

fn tensor_line(tensor: &Tensor) -> TensorLine {
    let view = tensor.view();
    TensorLine {
        name: tensor.name.clone(),
        dtype: tensor.dtype().name().to_owned(),
        shape: tensor.spec.shape.to_vec(),
        nbytes: tensor.byte_len(),
        file: view.and_then(|v| Some(v.region.path()?.to_string_lossy().into_owned())),
        offset: view.map(|v| v.region.start().saturating_add(v.offset)),
        same_as: None,
    }
}

fn metadata(model: &Model) -> Map<String, Value> {
    let own = model.provenance.format;
    let pairs = model.metadata.iter().map(|entry| {
        let key = if entry.namespace == own {
            entry.key.clone()
        } else {
            format!("{}:{}", entry.namespace, entry.key)
        };
        (key, value_json(&entry.value))
    });
    pairs.collect()
}

/// Numbers as numbers, lists as lists; a float that JSON has no way to write is null.
pub(crate) fn value_json(value: &MetaValue) -> Value {
    match value {
        MetaValue::Bool(b) => Value::from(*b),
        MetaValue::U8(n) => Value::from(*n),
        MetaValue::I8(n) => Value::from(*n),
        MetaValue::U16(n) => Value::from(*n),
        MetaValue::I16(n) => Value::from(*n),
        MetaValue::U32(n) => Value::from(*n),
        MetaValue::I32(n) => Value::from(*n),
        MetaValue::U64(n) => Value::from(*n),
        MetaValue::I64(n) => Value::from(*n),
        MetaValue::F32(n) => Value::from(*n),
        MetaValue::F64(n) => Value::from(*n),
        MetaValue::Str(_) => Value::from(value.to_string()),
        MetaValue::Array(array) => array_json(array),
    }
}

fn array_json(array: &Array) -> Value {
    match array {
        Array::Bool(items) => items.iter().copied().collect(),
        Array::U8(items) => items.iter().copied().collect(),
        Array::I8(items) => items.iter().copied().collect(),
        Array::U16(items) => items.iter().copied().collect(),
        Array::I16(items) => items.iter().copied().collect(),
        Array::U32(items) => items.iter().copied().collect(),
        Array::I32(items) => items.iter().copied().collect(),
        Array::U64(items) => items.iter().copied().collect(),
        Array::I64(items) => items.iter().copied().collect(),
        Array::F32(items) => items.iter().copied().collect(),
        Array::F64(items) => items.iter().copied().collect(),
        Array::Str(items) => {
            let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
            items.iter().map(text).collect()
        }
        Array::Array(items) => items.iter().map(array_json).collect(),
    }
}

pub(crate) fn graph_line(graph: &Graph) -> GraphLine {
    let names = |ids: &[ir::ValueId]| {
        ids.iter()
            .filter_map(|id| Some(graph.body.value(*id)?.name.clone()))
            .collect()
    };
    let mut line = GraphLine {
        inputs: names(&graph.body.inputs),
        outputs: names(&graph.body.outputs),
        node_count: 0,
        ops: BTreeMap::new(),
        opsets: graph.opsets.iter().cloned().collect(),
    };
    // Nesting is bounded by the validated model; a list keeps the walk flat all the same.
    let mut bodies: Vec<&GraphBody> = vec![&graph.body];
    while let Some(body) = bodies.pop() {
        for node in &body.nodes {
            line.node_count += 1;
            let name = match node.domain.as_str() {
                "" => node.op.clone(),
                domain => format!("{domain}.{}", node.op),
            };
            *line.ops.entry(name).or_default() += 1;
            bodies.extend(node.bodies());
        }
    }
    line
}

/// How much of a tree is shown: objects in all, and levels.
const TREE_OBJECTS: usize = 20_000;
const TREE_DEPTH: usize = 24;

/// The object tree as JSON: mappings as objects, sequences as arrays, tensors and calls as text.
/// What is shared is shown each time, within a bound on the whole.
fn tree(objects: &Objects, tensors: &ir::TensorTable, root: ObjectId) -> Value {
    let mut budget = TREE_OBJECTS;
    branch(objects, tensors, root, 0, &mut budget)
}

// The recursion is bounded by TREE_DEPTH.
fn branch(
    objects: &Objects,
    tensors: &ir::TensorTable,
    id: ObjectId,
    depth: usize,
    budget: &mut usize,
) -> Value {
    if depth > TREE_DEPTH {
        return Value::from("…");
    }
    // What is left out is one sign, not one for each child: a list that holds itself a hundred times
    // has more children than anyone can count.
    let mut below = |id: ObjectId| {
        *budget = budget.checked_sub(1)?;
        Some(branch(objects, tensors, id, depth + 1, budget))
    };
    if let Some(pairs) = objects.pairs(id) {
        let mut map = Map::new();
        for &(key, value) in pairs {
            let Some(value) = below(value) else {
                map.insert("…".to_owned(), Value::from("…"));
                break;
            };
            map.insert(
                scan::render(objects, key, 80).trim_matches('\'').to_owned(),
                value,
            );
        }
        return Value::Object(map);
    }
    let mut all = |ids: &[ObjectId]| -> Value {
        let mut list = Vec::new();
        for id in ids {
            let Some(value) = below(*id) else {
                list.push(Value::from("…"));
                break;
            };
            list.push(value);
        }
        Value::Array(list)
    };
    match objects.get(id) {
        Object::None => Value::Null,
        Object::Bool(b) => Value::from(*b),
        Object::Int(n) => Value::from(*n),
        Object::Float(n) => Value::from(*n),
        Object::Str(text) if text.len() <= 1000 => Value::from(&**text),
        Object::List(items) | Object::Tuple(items) => all(items),
        Object::Tensor(tensor) => match tensors.get(*tensor) {
            Some(t) => Value::from(format!("tensor {} {}", t.spec.dtype, t.spec.shape)),
            None => Value::Null,
        },
        Object::Call(call) if !call.states().is_empty() => {
            let mut map = Map::new();
            map.insert(
                "object".to_owned(),
                Value::from(scan::render(objects, id, 120)),
            );
            map.insert("state".to_owned(), all(call.states()));
            Value::Object(map)
        }
        _ => Value::from(scan::render(objects, id, 200)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pickle of a kilobyte can make one.
    #[test]
    fn a_list_that_holds_itself_is_shown_in_part() {
        let mut objects = Objects::new();
        let list = objects.push(Object::List(ir::Ids::new()), 0).unwrap();
        if let Some(Object::List(items)) = objects.get_mut(list) {
            items.extend(std::iter::repeat_n(list, 500));
        }
        let text = tree(&objects, &ir::TensorTable::new(), list).to_string();
        assert!(text.len() < 200_000, "{} bytes", text.len());
        assert!(text.contains('…'));
    }
}
