//! Names of weights that an exporter hid in a graph.
//!
//! PyTorch's exporter keeps the names of parameters it uses as they are. A weight it has transposed
//! or folded is called `onnx::MatMul_123`; what module it belongs to is told by the node that takes
//! it, whose name (or whose output's) is the path of the module and the operator:
//! `/model/layers.0/mlp/up_proj/MatMul`.
//!
//! | node | input | name | stored |
//! |---|---|---|---|
//! | `MatMul`, `MatMulInteger` | 1 | `PATH.weight` | transposed |
//! | `QLinearMatMul` | 3 | `PATH.weight` | transposed |
//! | `MatMulNBits` | 1 | `PATH.weight` | |
//! | `QGemm` | 3 | `PATH.weight` | as `Gemm` |
//! | `Gemm` | 1 | `PATH.weight` | transposed unless `transB` is set |
//! | `Gemm` | 2 | `PATH.bias` | |
//! | `Conv`, `ConvTranspose` | 1, 2 | `PATH.weight`, `PATH.bias` | |
//! | `ConvInteger`, `QLinearConv` | 1, 3 | `PATH.weight` | |
//! | `Gather` | 0 | `PATH.weight` | |
//! | `LayerNormalization`, `GroupNormalization`, `InstanceNormalization`, `RMSNormalization` | 1, 2 | `PATH.weight`, `PATH.bias` | |
//! | `BatchNormalization` | 1 to 4 | `PATH.weight`, `.bias`, `.running_mean`, `.running_var` | |
//! | `Add` behind a weight of the same path | 0, 1 | `PATH.bias` | |
//!
//! A transposed matrix that is, number for number, one that a Gather takes rows of becomes a second
//! name of it: exporters write the head of a model out again that shares it with the embedding.
//!
//! What several nodes name differently, and what would take a name that is taken, stays as it is.

use super::same;
use super::transpose::transposed;
use ir::{
    Attribute, AttributeValue, DType, GraphBody, Initializer, MetaValue, Model, Node, Payload,
    Record, Result, Strides, Tensor, TensorId, TensorSpec, TensorTable, Value, View, ns,
};
use std::collections::{HashMap, HashSet};

/// What a tensor should be called, and whether it lies transposed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    name: String,
    transposed: bool,
}

/// Gives weights of a graph the names their modules have; the graph's own stay in the notes.
///
/// A graph that is kept (`keep_graph`) turns what was transposed back again, by nodes of its own.
pub fn recover_names(model: &mut Model, keep_graph: bool) -> Result<()> {
    let Some(graph) = &model.graph else {
        return Ok(());
    };
    let mut found = candidates(&graph.body, &model.tensors);
    if keep_graph {
        // A caller of the graph may give another value for what is an input too.
        let fed = fed(&graph.body);
        found.retain(|id, found| !(found.transposed && fed.contains(id)));
    }
    let embeddings = gathered(&graph.body);
    let kept: HashSet<String> = model
        .tensors
        .ids()
        .filter(|(id, _)| !found.contains_key(id))
        .map(|(_, tensor)| tensor.name.clone())
        .collect();
    let mut taken = kept;
    let mut table = TensorTable::new();
    let mut records = Vec::new();
    let mut turned = HashMap::new();
    for (id, tensor) in model.tensors.ids() {
        let better = found.get(&id).and_then(|found| {
            let free = !taken.contains(&found.name);
            free.then(|| renamed(tensor, found)).flatten()
        });
        let Some(better) = better else {
            taken.insert(tensor.name.clone());
            if hidden(&tensor.name) && tensor.spec.shape.len() > 1 {
                let why = "no node tells which module it belongs to: it keeps its name";
                records.push(Record::carried("raw-name", &tensor.name, why).flag("--rename"));
            }
            table.push(tensor.clone())?;
            continue;
        };
        taken.insert(better.name.clone());
        let transposed = found.get(&id).is_some_and(|found| found.transposed);
        let how = if transposed {
            "named by the node that takes it, and transposed back"
        } else {
            "named by the node that takes it"
        };
        let what = format!("{} is {}", tensor.name, better.name);
        if transposed {
            turned.insert(id, better.name.clone());
        }
        records.push(Record::carried("recovered", what, how).flag("--raw-names"));
        let key = format!("onnx-name.{}", better.name);
        let raw = MetaValue::text(tensor.name.clone());
        model.metadata.set(ns::NOTE, key, raw);
        table.push(better)?;
    }
    model.tensors = table;
    model.provenance.records.extend(records);
    same::tie(model, &turned.keys().copied().collect(), &embeddings)?;
    if let Some(graph) = model.graph.as_mut().filter(|_| keep_graph) {
        turn(&mut graph.body, &turned)?;
    }
    Ok(())
}

/// Tables of rows that heads are compared with: a model has one, or a few.
const TABLES: usize = 16;

/// The tensors that nodes take rows of.
fn gathered(body: &GraphBody) -> Vec<TensorId> {
    let tables = body.nodes.iter().filter(|node| node.op == "Gather");
    let tables: HashSet<usize> = tables
        .filter_map(|node| Some((*node.inputs.first()?)?.index()))
        .collect();
    let dense = body
        .initializers
        .iter()
        .filter_map(|initializer| match initializer {
            Initializer::Dense(value, id) if tables.contains(&value.index()) => Some(*id),
            _ => None,
        });
    dense.take(TABLES).collect()
}

/// The initializers that are inputs of the graph too.
fn fed(body: &GraphBody) -> HashSet<TensorId> {
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
fn turn(body: &mut GraphBody, turned: &HashMap<TensorId, String>) -> Result<()> {
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

/// A name that is no path of a module.
fn hidden(name: &str) -> bool {
    name.contains("::") || name.starts_with('/') || !name.contains('.')
}

/// The tensor under its module's name. None for blocks, which cannot be looked at crosswise.
fn renamed(tensor: &Tensor, found: &Found) -> Option<Tensor> {
    if !found.transposed {
        return Some(Tensor {
            name: found.name.clone(),
            ..tensor.clone()
        });
    }
    let &[rows, columns] = &tensor.spec.shape[..] else {
        return None;
    };
    tensor.spec.dtype.element_bytes()?;
    let Some(plain) = tensor.as_plain() else {
        return transposed(tensor, &found.name);
    };
    let view = View {
        strides: Some(Strides::new([1, columns])),
        ..View::contiguous(plain)
    };
    Some(Tensor {
        name: found.name.clone(),
        spec: TensorSpec::new(tensor.spec.dtype, [columns, rows]),
        payload: Payload::Stored(view),
    })
}

/// What the nodes of the main body say of hidden tensors; where two disagree, nothing.
fn candidates(body: &GraphBody, tensors: &TensorTable) -> HashMap<TensorId, Found> {
    let mut of_value: HashMap<usize, TensorId> = HashMap::new();
    for initializer in &body.initializers {
        if let Initializer::Dense(value, id) = initializer {
            of_value.insert(value.index(), *id);
        }
    }
    let mut said: HashMap<TensorId, Option<Found>> = HashMap::new();
    let mut modules: HashSet<String> = HashSet::new();
    for node in &body.nodes {
        for (slot, input) in node.inputs.iter().enumerate() {
            let id = input.and_then(|value| of_value.get(&value.index()).copied());
            let Some((id, tensor)) = id.and_then(|id| Some((id, tensors.get(id)?))) else {
                continue;
            };
            let found = path(body, node).and_then(|path| {
                let role = role(node, slot, tensor, &modules, &path)?;
                modules.insert(path.clone());
                Some(Found {
                    name: format!("{path}.{}", role.0),
                    transposed: role.1,
                })
            });
            // Also a tensor with a good name has a module, whose bias may be hidden.
            if !hidden(&tensor.name) {
                continue;
            }
            said.entry(id)
                .and_modify(|before| {
                    if *before != found {
                        *before = None;
                    }
                })
                .or_insert(found);
        }
    }
    let told = said.into_iter();
    told.filter_map(|(id, found)| Some((id, found?))).collect()
}

/// What a node makes of one of its inputs: a parameter's name, and whether it lies transposed.
fn role(
    node: &Node,
    slot: usize,
    tensor: &Tensor,
    modules: &HashSet<String>,
    path: &str,
) -> Option<(&'static str, bool)> {
    let matrix = tensor.spec.shape.len() == 2;
    let numbers = tensor.spec.dtype.is_float() || tensor.spec.dtype == DType::I8;
    if !numbers {
        return None;
    }
    match (node.op.as_str(), slot) {
        ("MatMul" | "MatMulInteger", 1) | ("QLinearMatMul", 3) if matrix => Some(("weight", true)),
        ("MatMulNBits", 1) if matrix => Some(("weight", false)),
        ("Gemm", 1) | ("QGemm", 3) if matrix => Some(("weight", int(node, "transB") != Some(1))),
        ("Gemm" | "Conv" | "ConvTranspose", 2) => Some(("bias", false)),
        ("Conv" | "ConvTranspose" | "ConvInteger", 1) | ("QLinearConv", 3) | ("Gather", 0) => {
            Some(("weight", false))
        }
        (op, 1) if op.ends_with("Normalization") => Some(("weight", false)),
        (op, 2) if op.ends_with("Normalization") => Some(("bias", false)),
        ("BatchNormalization", 3) => Some(("running_mean", false)),
        ("BatchNormalization", 4) => Some(("running_var", false)),
        ("Add", _) if tensor.spec.shape.len() == 1 && modules.contains(path) => {
            Some(("bias", false))
        }
        _ => None,
    }
}

fn int(node: &Node, name: &str) -> Option<i64> {
    let attribute = node.attributes.iter().find(|a| a.name == name)?;
    match attribute.value {
        AttributeValue::Int(n) => Some(n),
        _ => None,
    }
}

/// The module a node was traced in: its name, or its output's, without the operator at the end.
fn path(body: &GraphBody, node: &Node) -> Option<String> {
    let output = node.outputs.first().copied().flatten();
    let output = output
        .and_then(|id| body.value(id))
        .map(|value| value.name.as_str());
    let traced = |name: &&str| name.starts_with('/');
    let name = Some(node.name.as_str())
        .filter(traced)
        .or(output.filter(traced))?;
    let (module, _) = name.trim_start_matches('/').rsplit_once('/')?;
    (!module.is_empty()).then(|| joined(module))
}

/// The parts of a path as one name. A module inside a container repeats the container's name:
/// `layers.0/layers.0.2` is `layers.0.2`.
fn joined(path: &str) -> String {
    let mut name: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if name.last().is_some_and(|last| {
            let rest = part.strip_prefix(last);
            rest.is_some_and(|rest| rest.starts_with('.'))
        }) {
            name.pop();
        }
        name.push(part);
    }
    name.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Graph, ModelBuilder};

    #[test]
    fn containers_are_named_once() {
        assert_eq!(
            joined("model/layers.0/mlp/up_proj"),
            "model.layers.0.mlp.up_proj"
        );
        assert_eq!(joined("net/layers.1/layers.1.2"), "net.layers.1.2");
        assert_eq!(joined("a/a"), "a.a");
    }

    #[test]
    fn modules_are_told_by_nodes() {
        let mut model = ModelBuilder::new().build().unwrap();
        let floats = (0..6u8)
            .flat_map(|n| f32::from(n).to_le_bytes())
            .collect::<Vec<_>>();
        let mut table = TensorTable::new();
        let id = table.push(Tensor::stored(
            "onnx::MatMul_7",
            TensorSpec::new(DType::F32, [2, 3]),
            View::contiguous(ir::Region::memory(floats)),
        ));
        model.tensors = table;
        let mut body = GraphBody::default();
        let mut value = |name: &str| {
            let value = Value {
                name: name.to_owned(),
                ..Value::default()
            };
            body.add_value(value).unwrap()
        };
        let (x, w, y) = (value("x"), value("onnx::MatMul_7"), value("y"));
        body.initializers.push(Initializer::Dense(w, id.unwrap()));
        body.nodes.push(Node {
            name: "/model/layers.0/up_proj/MatMul".to_owned(),
            op: "MatMul".to_owned(),
            inputs: vec![Some(x), Some(w)],
            outputs: vec![Some(y)],
            ..Node::default()
        });
        model.graph = Some(Graph {
            body,
            ..Graph::default()
        });
        let mut kept = model.clone();
        recover_names(&mut model, false).unwrap();
        let tensor = model
            .tensors
            .by_name("model.layers.0.up_proj.weight")
            .unwrap();
        assert_eq!(tensor.spec.shape[..], [3, 2]);
        let bytes = tensor.read_all().unwrap();
        let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        assert_eq!(values.collect::<Vec<_>>(), [0., 3., 1., 4., 2., 5.]);
        assert_eq!(model.graph.unwrap().body.nodes.len(), 1);

        recover_names(&mut kept, true).unwrap();
        let body = kept.graph.unwrap().body;
        let [Initializer::Dense(value, _)] = body.initializers[..] else {
            panic!("{:?}", body.initializers);
        };
        let named = body.value(value).unwrap();
        assert_eq!(named.name, "model.layers.0.up_proj.weight");
        let nodes: Vec<_> = body.nodes.iter().map(|node| node.op.as_str()).collect();
        assert_eq!(nodes, ["Transpose", "MatMul"]);
        assert_eq!(body.nodes[0].outputs, [Some(w)]);
        validate_graph(body, kept.tensors);
    }

    fn validate_graph(body: GraphBody, tensors: TensorTable) {
        let graph = Some(Graph {
            body,
            ..Graph::default()
        });
        let model = Model {
            tensors,
            graph,
            ..Model::default()
        };
        model.validate(&ir::Limits::default()).unwrap();
    }
}
