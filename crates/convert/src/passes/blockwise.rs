//! Blocks in a graph: codes and scales as tensors, and the operators that give their values.
//!
//! | format | codes | scales | operators, all standard |
//! |---|---|---|---|
//! | Q4_0 | I4 `[.., K]` | F16 `[.., K/32]` | `DequantizeLinear` in blocks of 32 |
//! | Q5_0, Q8_0 | I8 `[.., K]` | F16 `[.., K/32]` | the same |
//! | Q4_1 | U4 `[.., K/32, 32]` | F16 `[.., K/32, 1]` | the same, `Add` of F16 minima, `Reshape` |
//! | Q5_1 | U8 `[.., K/32, 32]` | F16 `[.., K/32, 1]` | the same |
//! | MXFP4 | U4 `[.., K/32, 32]` | U8 `[.., K/32, 1]` | code and scale looked up (`Gather`), `Mul`, `Reshape` |
//!
//! One block in one dimension is written as a row, `[1, 32]`, with a `Reshape` behind it: runtimes take
//! a scale that is alone for a scale of all codes, and refuse `block_size` beside it.
//!
//! Scales go through a `Cast` to F32, in which the values are exactly those that blocks stand for;
//! F16 would round them. Of a table in which rows are looked up, only those rows become numbers;
//! its codes have a byte each, since runtimes look up nothing in halves of bytes.
//!
//! A matrix that lies across its blocks is those of `NAME::transposed`, with a `Transpose` behind them.
//!
//! A note `blocks.NAME` tells each format, for the way back.

mod nodes;

use super::parts::{Part, part};
use ir::{
    About, DType, Fault, Graph, GraphBody, Initializer, MetaValue, Model, Node, Record, Result,
    Shape, Tensor, TensorId, TensorTable, Value, ValueId, ValueType, ns,
};
use nodes::looked_up;
use quant::{PER_BLOCK, PartLayout};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What the name of blocks has behind that of a matrix that lies across them.
const ACROSS: &str = "::transposed";
/// The first operator set with blocks in `DequantizeLinear`.
const OPSET: i64 = 21;

/// The blocks that a tensor is, or lies across, if they have a form here.
fn blocks_of(tensor: &Tensor) -> Option<(&Tensor, PartLayout)> {
    let blocks = tensor.blocks_across().unwrap_or(tensor);
    match blocks.dtype() {
        DType::Block(format) => Some((blocks, PartLayout::of(format)?)),
        _ => None,
    }
}

/// Whether blocks of this type have a form in graphs that gives their very values.
pub fn blockwise_type(dtype: DType) -> bool {
    matches!(dtype, DType::Block(format) if PartLayout::of(format).is_some())
}

/// Writes every tensor of such blocks as its parts, in the model's graph; a model without one gets
/// a graph of its tensors alone, marked as a container.
pub fn blockwise(model: &mut Model) -> Result<()> {
    if model.tensors.iter().all(|t| blocks_of(t).is_none()) {
        return Ok(());
    }
    let graph = match model.graph.take() {
        Some(graph) => graph,
        None => bare(model)?,
    };
    let mut work = Work {
        taken: names(&graph.body, &model.tensors),
        weights: BTreeMap::new(),
        table: TensorTable::new(),
        tables: None,
        body: GraphBody::default(),
    };
    let mut nodes = Vec::new();
    let (mut graph, old) = split_nodes(graph);
    work.body = std::mem::take(&mut graph.body);
    work.parts(&model.tensors, &old)?;
    for node in old {
        work.before(node, &mut nodes)?;
    }
    work.rest(&mut nodes)?;
    graph.body = work.body;
    graph.body.nodes = nodes;
    model.tensors = work.table;
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for weight in work.weights.values() {
        let format = weight.format.name();
        let note = format!("blocks.{}", weight.name);
        model.metadata.set(ns::NOTE, note, MetaValue::text(format));
        *counts.entry(weight.format.to_string()).or_default() += 1;
    }
    for (format, n) in counts {
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let why = "stay quantized: codes, scales and the operators that give the same values";
        let record = Record::carried("blockwise", format!("{n} {format} {tensors}"), why);
        model.provenance.records.push(record.flag("--dtype"));
    }
    model.graph = Some(graph);
    Ok(())
}

/// The graph of a model without one, and the note that it is none.
fn bare(model: &mut Model) -> Result<Graph> {
    let mut body = GraphBody::of_tensors(&model.tensors)?;
    "weights".clone_into(&mut body.name);
    for value in &mut body.values {
        if let Some(ValueType::Tensor(Some(dtype), _)) = &mut value.ty
            && blockwise_type(*dtype)
        {
            *dtype = DType::F32;
        }
    }
    let container = MetaValue::text("container");
    model.metadata.set(ns::NOTE, "kind", container);
    Ok(Graph {
        opsets: vec![(String::new(), OPSET)],
        body,
        about: About {
            producer: "weightbridge".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..About::default()
        },
        ..Graph::default()
    })
}

fn names(body: &GraphBody, tensors: &TensorTable) -> HashSet<String> {
    let values = body.values.iter().map(|value| value.name.clone());
    let nodes = body.nodes.iter().map(|node| node.name.clone());
    let tensors = tensors.iter().map(|tensor| tensor.name.clone());
    values.chain(nodes).chain(tensors).collect()
}

fn split_nodes(mut graph: Graph) -> (Graph, Vec<Node>) {
    let nodes = std::mem::take(&mut graph.body.nodes);
    (graph, nodes)
}

/// A tensor of blocks as the graph has it.
struct Weight {
    name: String,
    format: DType,
    shape: Shape,
    min: bool,
    /// Whether what nodes take is the transpose of it.
    across: bool,
    /// Values of codes, scales and minima.
    parts: [Option<ValueId>; 3],
    /// Whether its numbers are in the graph.
    written: bool,
}

impl Weight {
    fn mxfp4(&self) -> bool {
        self.format == DType::Block(ir::BlockFormat::MXFP4)
    }

    /// Whether a lookup takes rows: in one dimension, and across blocks, it takes numbers out of
    /// blocks.
    fn has_rows(&self) -> bool {
        self.shape.len() > 1 && !self.across
    }

    /// Whether blocks are a dimension of the parts.
    fn blocked(&self) -> bool {
        self.min || self.mxfp4()
    }

    /// Whether it is one block in one dimension, written as a row.
    fn alone(&self) -> bool {
        !self.blocked() && self.shape[..] == [PER_BLOCK as u64]
    }

    /// The shapes of the codes and of the other parts.
    fn shapes(&self) -> (Shape, Shape) {
        let per = PER_BLOCK as u64;
        if self.alone() {
            return (Shape::new([1, per]), Shape::new([1, 1]));
        }
        let (row, outer) = self
            .shape
            .split_last()
            .map_or((0, &[][..]), |(k, o)| (*k, o));
        let shape = |last: &[u64]| outer.iter().chain(last).copied().collect();
        if self.blocked() {
            return (shape(&[row / per, per]), shape(&[row / per, 1]));
        }
        (self.shape.clone(), shape(&[row / per]))
    }
}

struct Work {
    taken: HashSet<String>,
    /// By the value that stands for the weight.
    weights: BTreeMap<usize, Weight>,
    /// Codes in the places of their blocks, other parts behind all.
    table: TensorTable,
    /// Values of MXFP4's tables: codes, scales, and the scale of codes.
    tables: Option<[ValueId; 3]>,
    body: GraphBody,
}

impl Work {
    fn name(&mut self, wanted: String) -> String {
        let mut name = wanted;
        while !self.taken.insert(name.clone()) {
            name.push('~');
        }
        name
    }

    fn value(&mut self, name: String) -> Result<ValueId> {
        let name = self.name(name);
        let value = Value {
            name,
            ..Value::default()
        };
        self.body.add_value(value).ok_or_else(|| {
            let what = "more values than 32 bits count".to_owned();
            Fault::Invalid { what }.into()
        })
    }

    /// Enters a tensor behind all others as an initializer.
    fn add(&mut self, name: &str, tensor: impl FnOnce(String) -> Tensor) -> Result<ValueId> {
        let value = self.value(name.to_owned())?;
        let name = self.body.value(value).map(|value| value.name.clone());
        let id = self.table.push(tensor(name.unwrap_or_default()))?;
        self.body.initializers.push(Initializer::Dense(value, id));
        Ok(value)
    }

    /// Enters the parts of each weight.
    fn parts(&mut self, tensors: &TensorTable, nodes: &[Node]) -> Result<()> {
        let initializers = std::mem::take(&mut self.body.initializers);
        let looked_up = looked_up(&self.body, nodes);
        let mut codes: HashMap<TensorId, Tensor> = HashMap::new();
        let mut found = Vec::new();
        for initializer in initializers {
            let weight = match &initializer {
                Initializer::Dense(value, id) => tensors.get(*id).and_then(|tensor| {
                    let (blocks, layout) = blocks_of(tensor)?;
                    Some((*value, *id, blocks, layout))
                }),
                Initializer::Sparse(..) => None,
            };
            let Some((value, id, blocks, layout)) = weight else {
                self.body.initializers.push(initializer);
                continue;
            };
            let name = self.body.value(value).map(|value| value.name.clone());
            let mut name = name.unwrap_or_default();
            let across = tensors.get(id).is_some_and(|t| t.dtype() != blocks.dtype());
            if across {
                name.push_str(ACROSS);
            }
            let quantized = self.value(format!("{name}_quantized"))?;
            let own = self.body.value(quantized).map(|value| value.name.clone());
            let weight = Weight {
                name,
                format: blocks.dtype(),
                shape: blocks.spec.shape.clone(),
                min: layout.min > 0,
                across,
                parts: [Some(quantized), None, None],
                written: false,
            };
            let small = layout.bits == 4 && !(weight.has_rows() && looked_up.contains(&value));
            let dtype = match (layout.signed(), small) {
                (true, true) => DType::I4,
                (true, false) => DType::I8,
                (false, true) => DType::U4,
                (false, false) => DType::U8,
            };
            let (all, _) = weight.shapes();
            let made = part(
                blocks,
                layout,
                Part::Codes,
                dtype,
                all,
                own.unwrap_or_default(),
            );
            codes.insert(id, made);
            let initializer = Initializer::Dense(quantized, id);
            self.body.initializers.push(initializer);
            found.push((value, weight, blocks, layout));
        }
        for (id, tensor) in tensors.ids() {
            let tensor = codes.remove(&id).unwrap_or_else(|| tensor.clone());
            self.table.push(tensor)?;
        }
        for (value, mut weight, blocks, layout) in found {
            let (_, one) = weight.shapes();
            let scales = if layout.scale == 1 {
                DType::U8
            } else {
                DType::F16
            };
            let name = format!("{}_scale", weight.name);
            let scale = self.add(&name, |name| {
                part(blocks, layout, Part::Scale, scales, one.clone(), name)
            })?;
            let mut min = None;
            if weight.min {
                let name = format!("{}_min", weight.name);
                min = Some(self.add(&name, |name| {
                    part(blocks, layout, Part::Min, DType::F16, one, name)
                })?);
            }
            weight.parts = [weight.parts[0], Some(scale), min];
            self.weights.insert(value.index(), weight);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
