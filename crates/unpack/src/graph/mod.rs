//! Graphs whose weights are quantized: codes, scales and zero points as constants, and the
//! operators that take them.
//!
//! | operators | a weight is | becomes |
//! |---|---|---|
//! | `DequantizeLinear` in blocks of 32, F16 scales cast to F32, maybe `Add` of minima | what ggml's blocks stand for | those blocks |
//! | `DequantizeLinear` of U4 codes looked up in MXFP4's tables, `Mul` | the same | the same |
//! | `DequantizeLinear` of constants | `(code - zero) * scale` | floats |
//! | `MatMulNBits` | the same, by rows of `[N, K]` | floats |
//! | the same with `g_idx`: 4 bits, no zero points | each column in steps of the block it names | floats |
//! | `GatherBlockQuantized` | `(code - zero) * scale` by blocks along an axis | floats |
//! | `MatMulInteger`, `ConvInteger` with the `Mul` of scales behind | the same | floats |
//! | `QLinearConv`, `QLinearMatMul`, `QGemm`, `QLinearAdd`, `QLinearMul` | the same; biases in steps of both scales | floats |
//!
//! Floats are computed as onnxruntime computes them, in F32, in the type of the scales. The graph
//! is rewritten to take each weight as a constant under its own name, so that names can be
//! recovered from it; it is no graph to run any more.

mod affine;
mod blocks;
mod codes;
mod find;
mod left;
mod scene;

use find::{Found, Place, find};
use ir::{
    DType, Graph, GraphBody, Initializer, Model, Record, Result, Tensor, TensorId, TensorTable,
    Value, ValueId, ns,
};
use scene::Scene;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A weight that a graph holds quantized.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizedWeight {
    /// Its name without the parts' suffixes.
    pub name: String,
    /// How it is quantized: a type of ggml, or the operator and the codes' type.
    pub scheme: String,
    /// Its dimensions.
    pub shape: Vec<u64>,
    /// The tensors it is made of.
    pub parts: Vec<String>,
}

/// The weights a model's graph holds quantized.
pub fn quantized_weights(model: &Model) -> Result<Vec<QuantizedWeight>> {
    let Some(graph) = &model.graph else {
        return Ok(Vec::new());
    };
    let scene = Scene::new(&graph.body, &model.tensors, &model.metadata);
    let found = find(&scene)?;
    let name = |id: &TensorId| model.tensors.get(*id).map(|t| t.name.clone());
    Ok(found
        .into_iter()
        .map(|found| QuantizedWeight {
            parts: found.parts.iter().filter_map(name).collect(),
            shape: found.tensor.spec.shape.to_vec(),
            name: found.tensor.name,
            scheme: found.scheme,
        })
        .collect())
}

/// Replaces the quantized weights of a model's graph by one tensor each: blocks where they are
/// ggml's, else floats.
///
/// # Errors
/// Parts of an operator that do not fit each other.
pub fn unpack_graph(model: &mut Model) -> Result<()> {
    rewrite(model, |_| true)?;
    let records = left::records(model);
    model.provenance.records.extend(records);
    Ok(())
}

/// Of the same, only what became of blocks, as notes tell.
pub fn rejoin_blocks(model: &mut Model) -> Result<()> {
    rewrite(model, |found| found.noted)
}

/// Undoes the graph of a model that is tensors alone, some of them blocks: `kind` is noted as
/// `container`, or nothing goes into the graph and nothing is computed in it but blocks. One that
/// something was added to stays a graph.
pub fn restore_container(model: &mut Model) -> Result<()> {
    let Some(graph) = &model.graph else {
        return Ok(());
    };
    let kind = model.metadata.get(ns::NOTE, "kind");
    let noted = kind.and_then(|kind| kind.as_str()) == Some("container");
    let alone = is_blocks_alone(&graph.body);
    if !noted && !alone {
        return Ok(());
    }
    let mut tried = model.clone();
    rewrite(&mut tried, |found| {
        found.noted || alone && matches!(found.tensor.dtype(), DType::Block(_))
    })?;
    let bare = |graph: &Graph| {
        let body = &graph.body;
        body.nodes.is_empty()
            && body.inputs.is_empty()
            && body.annotations.is_empty()
            && graph.functions.is_empty()
            && graph.training.is_empty()
    };
    if tried.graph.as_ref().is_some_and(bare) {
        tried.graph = None;
        let kind = |entry: &ir::Entry| entry.namespace == ns::NOTE && entry.key == "kind";
        tried.metadata.retain(|entry| !kind(entry));
        // What a reader says of its own doing is of no interest to anyone.
        tried
            .provenance
            .records
            .clone_from(&model.provenance.records);
        *model = tried;
    }
    Ok(())
}

/// Whether a body could be blocks and nothing else, before any code is looked at.
fn is_blocks_alone(body: &GraphBody) -> bool {
    const OPS: [&str; 7] = [
        "Add",
        "Cast",
        "Constant",
        "DequantizeLinear",
        "Gather",
        "Mul",
        "Reshape",
    ];
    let known = |node: &ir::Node| node.domain.is_empty() && OPS.contains(&node.op.as_str());
    let quantized = |node: &ir::Node| node.op == "DequantizeLinear";
    body.inputs.is_empty() && body.nodes.iter().all(known) && body.nodes.iter().any(quantized)
}

/// Replaces what is found and wanted.
fn rewrite(model: &mut Model, wanted: impl Fn(&Found) -> bool) -> Result<()> {
    let Some(graph) = &model.graph else {
        return Ok(());
    };
    let scene = Scene::new(&graph.body, &model.tensors, &model.metadata);
    let found: Vec<Found> = find(&scene)?.into_iter().filter(|f| wanted(f)).collect();
    if found.is_empty() {
        return Ok(());
    }
    let mut taken: HashSet<String> = model.tensors.iter().map(|t| t.name.clone()).collect();
    let mut at: HashMap<TensorId, (Tensor, ValueId)> = HashMap::new();
    let mut body = graph.body.clone();
    let (mut dead, mut parts) = (BTreeSet::new(), BTreeSet::new());
    let mut counts: BTreeMap<(bool, String), u64> = BTreeMap::new();
    let (mut renamed, mut notes) = (HashMap::new(), HashSet::new());
    for mut found in found {
        let Some(first) = found.parts.first().copied() else {
            continue;
        };
        let own = model
            .tensors
            .get(first)
            .map(|t| t.name.clone())
            .unwrap_or_default();
        if !taken.insert(found.tensor.name.clone()) {
            found.tensor.name = own;
        }
        let name = found.tensor.name.clone();
        let key = (
            matches!(found.tensor.dtype(), DType::Block(_)),
            found.scheme.clone(),
        );
        *counts.entry(key).or_default() += 1;
        let value = new_value(&mut body, &name)?;
        for place in &found.places {
            match place {
                Place::Value(old) => drop(renamed.insert(*old, value)),
                Place::Slot(node, slot) => {
                    let Some(node) = body.nodes.get_mut(*node) else {
                        continue;
                    };
                    if let Some(slot) = node.inputs.get_mut(*slot) {
                        *slot = Some(value);
                    }
                    // Of numbers it is a lookup like any other, by which weights get their names.
                    if node.op == "GatherBlockQuantized"
                        && node.int("gather_axis").unwrap_or(0) == 0
                    {
                        "Gather".clone_into(&mut node.op);
                        node.domain.clear();
                    }
                }
            }
        }
        for (node, slot) in &found.free {
            let node = body.nodes.get_mut(*node);
            if let Some(slot) = node.and_then(|node| node.inputs.get_mut(*slot)) {
                *slot = None;
            }
        }
        dead.extend(found.nodes.iter().copied());
        parts.extend(found.parts.iter().copied());
        notes.insert(format!("blocks.{name}"));
        at.insert(first, (found.tensor, value));
    }
    let inputs = body
        .nodes
        .iter_mut()
        .flat_map(|node| &mut node.inputs)
        .flatten();
    for id in inputs.chain(&mut body.outputs) {
        *id = renamed.get(id).copied().unwrap_or(*id);
    }
    let mut index = 0;
    body.nodes.retain(|_| {
        index += 1;
        !dead.contains(&(index - 1))
    });
    let mut graph = Graph {
        body,
        ..graph.clone()
    };
    let idle = activations(&graph.body, &model.tensors);
    let dropped = settle(model, &mut graph.body, at, &parts, &idle)?;
    graph.remarks.clear();
    model.graph = Some(graph);
    model
        .metadata
        .retain(|entry| entry.namespace != ns::NOTE || !notes.contains(&entry.key));
    model.provenance.records.extend(records(counts, dropped));
    Ok(())
}

fn new_value(body: &mut GraphBody, name: &str) -> Result<ValueId> {
    let value = Value {
        name: name.to_owned(),
        ..Value::default()
    };
    body.add_value(value).ok_or_else(|| {
        let what = "more values than 32 bits count".to_owned();
        ir::Fault::Invalid { what }.into()
    })
}

/// Values that only say how activations are quantized.
fn activations(body: &GraphBody, tensors: &TensorTable) -> HashSet<ValueId> {
    let (mut scales, mut others) = (HashSet::new(), HashSet::new());
    let codes: HashSet<ValueId> = dense(body)
        .filter(|(id, _)| tensors.get(*id).is_some_and(|t| codes::is_code(t.dtype())))
        .map(|(_, value)| value)
        .collect();
    for node in &body.nodes {
        let ends: &[usize] = match node.op.as_str() {
            "QuantizeLinear" | "DequantizeLinear" => &[1, 2],
            "QLinearConv" | "QLinearMatMul" => &[1, 2, 6, 7],
            "QGemm" => &[1, 2, 7, 8],
            "QLinearAdd" | "QLinearMul" => &[1, 2, 4, 5, 6, 7],
            "QLinearGlobalAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu" => &[1, 2, 3, 4],
            _ => &[],
        };
        let taken = node.inputs.iter().enumerate();
        let left = |(slot, value): (usize, &Option<ValueId>)| {
            !ends.contains(&slot) && value.is_some_and(|value| codes.contains(&value))
        };
        // Codes that were not understood keep what tells their meaning.
        let understood = !taken.clone().any(left);
        for (slot, value) in taken {
            let Some(value) = value else { continue };
            if understood && ends.contains(&slot) {
                scales.insert(*value);
            } else {
                others.insert(*value);
            }
        }
    }
    scales.retain(|value| !others.contains(value) && !body.outputs.contains(value));
    scales
}

/// The table and the initializers without the parts that nothing takes any more. Answers how many
/// scales of activations went.
fn settle(
    model: &mut Model,
    body: &mut GraphBody,
    mut at: HashMap<TensorId, (Tensor, ValueId)>,
    parts: &BTreeSet<TensorId>,
    idle: &HashSet<ValueId>,
) -> Result<u64> {
    let inputs = body.nodes.iter().flat_map(|node| &node.inputs).flatten();
    let used: HashSet<ValueId> = inputs.chain(&body.outputs).copied().collect();
    let values: HashMap<TensorId, ValueId> = dense(body).collect();
    let mut table = TensorTable::new();
    let mut moved: HashMap<TensorId, TensorId> = HashMap::new();
    let mut added = Vec::new();
    let mut dropped = 0;
    for (id, tensor) in model.tensors.ids() {
        let made = at.remove(&id);
        if let Some((tensor, value)) = made {
            added.push(Initializer::Dense(value, table.push(tensor)?));
        }
        let value = values.get(&id);
        let gone = match value {
            Some(value) if idle.contains(value) => {
                dropped += u64::from(!parts.contains(&id));
                true
            }
            Some(value) => parts.contains(&id) && !used.contains(value),
            None => parts.contains(&id),
        };
        if !gone && table.id_of(&tensor.name).is_none() {
            moved.insert(id, table.push(tensor.clone())?);
        }
    }
    let old = std::mem::take(&mut body.initializers);
    let kept = old.into_iter().filter_map(|initializer| match initializer {
        Initializer::Dense(value, id) => Some(Initializer::Dense(value, *moved.get(&id)?)),
        // Nothing of the graph but names is asked from here on.
        Initializer::Sparse(..) => None,
    });
    body.initializers = added.into_iter().chain(kept).collect();
    for node in &mut body.nodes {
        node.attributes.retain(|a| {
            matches!(
                a.value,
                ir::AttributeValue::Int(_)
                    | ir::AttributeValue::Ints(_)
                    | ir::AttributeValue::Str(_)
            )
        });
    }
    model.tensors = table;
    Ok(dropped)
}

fn dense(body: &GraphBody) -> impl Iterator<Item = (TensorId, ValueId)> + '_ {
    body.initializers.iter().filter_map(|i| match i {
        Initializer::Dense(value, id) => Some((*id, *value)),
        Initializer::Sparse(..) => None,
    })
}

fn records(counts: BTreeMap<(bool, String), u64>, dropped: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for ((blocks, scheme), n) in counts {
        let weights = if n == 1 {
            "1 weight".to_owned()
        } else {
            format!("{n} weights")
        };
        if blocks {
            let why = "put together again from codes and scales";
            records.push(Record::carried(
                "blocks",
                format!("{weights} of {scheme}"),
                why,
            ));
            continue;
        }
        let why = "computed from codes and scales as onnxruntime does it";
        let what = format!("{weights} quantized as {scheme}");
        records.push(
            Record::changed("unpacked", what, why)
                .flag("--raw-names")
                .wanted(),
        );
    }
    if dropped > 0 {
        let what = format!("{dropped} scales and zero points of activations");
        let why = "a runtime measures them anew";
        let record = Record::dropped("activation-scales", what, why);
        records.push(record.flag("--raw-names").wanted());
    }
    records
}

#[cfg(test)]
mod tests;
