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
//! Scales go through a `Cast` to F32, in which the values are exactly those that blocks stand for;
//! F16 would round them. Of a table in which rows are looked up, only those rows become numbers;
//! its codes have a byte each, since runtimes look up nothing in halves of bytes.
//!
//! A note `blocks.NAME` tells each format, for the way back.

use super::parts::{Part, part};
use ir::{
    About, Attribute, AttributeValue, DType, Fault, Graph, GraphBody, Initializer, MetaValue,
    Model, Node, Record, Result, Shape, Tensor, TensorId, TensorSpec, TensorTable, Value, ValueId,
    ValueType, ns,
};
use quant::{MXFP4_VALUES, PER_BLOCK, PartLayout, mxfp4_scales};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The first operator set with blocks in `DequantizeLinear`.
const OPSET: i64 = 21;
/// Codes of types, of those used here (`TensorProto.DataType`).
const FLOAT: i64 = 1;
const INT32: i64 = 6;

fn layout(tensor: &Tensor) -> Option<PartLayout> {
    match tensor.dtype() {
        DType::Block(format) => PartLayout::of(format),
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
    if !model.tensors.iter().any(|t| blockwise_type(t.dtype())) {
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
    /// Values of codes, scales and minima.
    parts: [Option<ValueId>; 3],
    /// Whether its numbers are in the graph.
    written: bool,
}

impl Weight {
    fn mxfp4(&self) -> bool {
        self.format == DType::Block(ir::BlockFormat::MXFP4)
    }

    /// Whether blocks are a dimension of the parts.
    fn blocked(&self) -> bool {
        self.min || self.mxfp4()
    }

    /// The shapes of the codes and of the other parts.
    fn shapes(&self) -> (Shape, Shape) {
        let per = PER_BLOCK as u64;
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
                Initializer::Dense(value, id) => tensors.get(*id).and_then(|blocks| {
                    let layout = layout(blocks)?;
                    Some((*value, *id, blocks, layout))
                }),
                Initializer::Sparse(..) => None,
            };
            let Some((value, id, blocks, layout)) = weight else {
                self.body.initializers.push(initializer);
                continue;
            };
            let name = self.body.value(value).map(|value| value.name.clone());
            let name = name.unwrap_or_default();
            let quantized = self.value(format!("{name}_quantized"))?;
            let own = self.body.value(quantized).map(|value| value.name.clone());
            let weight = Weight {
                name,
                format: blocks.dtype(),
                shape: blocks.spec.shape.clone(),
                min: layout.min > 0,
                parts: [Some(quantized), None, None],
                written: false,
            };
            let small = layout.bits == 4 && !looked_up.contains(&value);
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

    /// Writes a node behind what gives its weights' numbers.
    fn before(&mut self, node: Node, nodes: &mut Vec<Node>) -> Result<()> {
        let first = node.inputs.first().copied().flatten();
        if let (Some(table), Some(rank)) = (first, lookup(&self.body, &node))
            && let Some(weight) = self.weights.remove(&table.index())
        {
            self.rows(&weight, &node, rank, nodes)?;
            self.weights.insert(table.index(), weight);
            return Ok(());
        }
        for value in node.inputs.iter().flatten() {
            self.dense(*value, nodes)?;
        }
        nodes.push(node);
        Ok(())
    }

    /// What nothing took yet and something wants: the outputs.
    fn rest(&mut self, nodes: &mut Vec<Node>) -> Result<()> {
        for value in self.body.outputs.clone() {
            self.dense(value, nodes)?;
        }
        Ok(())
    }

    /// All of a weight's numbers, once.
    fn dense(&mut self, value: ValueId, nodes: &mut Vec<Node>) -> Result<()> {
        let Some(mut weight) = self.weights.remove(&value.index()) else {
            return Ok(());
        };
        if !weight.written {
            let shape: Vec<i64> = weight.shape.iter().map(|n| signed(*n)).collect();
            let rank = weight.shape.len();
            let prefix = weight.name.clone();
            self.numbers(&weight, weight.parts, rank, &prefix, &shape, value, nodes)?;
            weight.written = true;
        }
        self.weights.insert(value.index(), weight);
        Ok(())
    }

    /// The numbers of some rows.
    fn rows(
        &mut self,
        weight: &Weight,
        node: &Node,
        rank: usize,
        nodes: &mut Vec<Node>,
    ) -> Result<()> {
        let (Some(ids), Some(out)) = (
            node.inputs.get(1).copied().flatten(),
            node.outputs.first().copied().flatten(),
        ) else {
            nodes.push(node.clone());
            return Ok(());
        };
        let prefix = format!("{}/rows", weight.name);
        let mut parts = [None; 3];
        for (slot, of) in parts.iter_mut().zip(weight.parts) {
            if let Some(of) = of {
                *slot = Some(self.node(&prefix, "Gather", &[of, ids], Vec::new(), nodes)?);
            }
        }
        // 0 stands for the dimension as it is: that of the indices.
        let rest = weight.shape.iter().skip(1).map(|n| signed(*n));
        let shape: Vec<i64> = std::iter::repeat_n(0, rank).chain(rest).collect();
        let rank = shape.len();
        self.numbers(weight, parts, rank, &prefix, &shape, out, nodes)
    }

    #[allow(clippy::too_many_arguments)] // what a weight is, where, and where it goes
    fn numbers(
        &mut self,
        weight: &Weight,
        parts: [Option<ValueId>; 3],
        rank: usize,
        prefix: &str,
        shape: &[i64],
        out: ValueId,
        nodes: &mut Vec<Node>,
    ) -> Result<()> {
        let [Some(codes), Some(scale), min] = parts else {
            return Ok(());
        };
        let cast = |to| vec![attribute("to", AttributeValue::Int(to))];
        if weight.mxfp4() {
            let [values, scales, one] = self.tables()?;
            let code = self.node(prefix, "DequantizeLinear", &[codes, one], Vec::new(), nodes)?;
            let code = self.node(prefix, "Cast", &[code], cast(INT32), nodes)?;
            let value = self.node(prefix, "Gather", &[values, code], Vec::new(), nodes)?;
            let scale = self.node(prefix, "Cast", &[scale], cast(INT32), nodes)?;
            let scale = self.node(prefix, "Gather", &[scales, scale], Vec::new(), nodes)?;
            let value = self.node(prefix, "Mul", &[value, scale], Vec::new(), nodes)?;
            return self.reshaped(prefix, value, shape, out, nodes);
        }
        let axis = if weight.blocked() {
            rank
        } else {
            rank.saturating_sub(1)
        };
        let attributes = vec![
            attribute("axis", AttributeValue::Int(signed(axis as u64))),
            attribute("block_size", AttributeValue::Int(signed(PER_BLOCK as u64))),
        ];
        let scale = self.node(prefix, "Cast", &[scale], cast(FLOAT), nodes)?;
        let Some(min) = min else {
            let op = "DequantizeLinear";
            nodes.push(self.node_to(out, prefix, op, &[codes, scale], attributes));
            return Ok(());
        };
        let value = self.node(
            prefix,
            "DequantizeLinear",
            &[codes, scale],
            attributes,
            nodes,
        )?;
        let min = self.node(prefix, "Cast", &[min], cast(FLOAT), nodes)?;
        let value = self.node(prefix, "Add", &[value, min], Vec::new(), nodes)?;
        self.reshaped(prefix, value, shape, out, nodes)
    }

    fn reshaped(
        &mut self,
        prefix: &str,
        value: ValueId,
        shape: &[i64],
        out: ValueId,
        nodes: &mut Vec<Node>,
    ) -> Result<()> {
        let ints = AttributeValue::Ints(shape.to_vec());
        let to = attribute("value_ints", ints);
        let to = self.node(prefix, "Constant", &[], vec![to], nodes)?;
        nodes.push(self.node_to(out, prefix, "Reshape", &[value, to], Vec::new()));
        Ok(())
    }

    fn node(
        &mut self,
        prefix: &str,
        op: &str,
        inputs: &[ValueId],
        attributes: Vec<Attribute>,
        nodes: &mut Vec<Node>,
    ) -> Result<ValueId> {
        let name = self.name(format!("{prefix}/{op}"));
        let out = self.value(format!("{name}_output_0"))?;
        nodes.push(node_of(name, op, inputs, attributes, out));
        Ok(out)
    }

    /// A node of a result that has its name.
    fn node_to(
        &mut self,
        out: ValueId,
        prefix: &str,
        op: &str,
        inputs: &[ValueId],
        attributes: Vec<Attribute>,
    ) -> Node {
        let name = self.name(format!("{prefix}/{op}"));
        node_of(name, op, inputs, attributes, out)
    }

    /// MXFP4's tables, entered once.
    fn tables(&mut self) -> Result<[ValueId; 3]> {
        if let Some(tables) = self.tables {
            return Ok(tables);
        }
        let floats = |values: &[f32], shape: &[u64], name: String| {
            let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
            let view = ir::View::contiguous(ir::Region::memory(bytes));
            Tensor::stored(name, TensorSpec::new(DType::F32, shape.to_vec()), view)
        };
        let values = MXFP4_VALUES.map(f32::from);
        let made = [
            self.add("mxfp4.values", |name| floats(&values, &[16], name))?,
            self.add("mxfp4.scales", |name| floats(&mxfp4_scales(), &[256], name))?,
            self.add("mxfp4.one", |name| floats(&[1.0], &[], name))?,
        ];
        self.tables = Some(made);
        Ok(made)
    }
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn attribute(name: &str, value: AttributeValue) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value,
        doc: String::new(),
    }
}

fn node_of(
    name: String,
    op: &str,
    inputs: &[ValueId],
    attributes: Vec<Attribute>,
    out: ValueId,
) -> Node {
    Node {
        name,
        op: op.to_owned(),
        inputs: inputs.iter().copied().map(Some).collect(),
        outputs: vec![Some(out)],
        attributes,
        ..Node::default()
    }
}

/// Whether a node looks rows up, and the rank of its indices, where that is declared.
fn lookup(body: &GraphBody, node: &Node) -> Option<usize> {
    if node.op != "Gather" || !node.domain.is_empty() {
        return None;
    }
    let axis = node.attributes.iter().find(|a| a.name == "axis");
    if !matches!(axis.map(|a| &a.value), None | Some(AttributeValue::Int(0))) {
        return None;
    }
    let ids = node.inputs.get(1).copied().flatten()?;
    match &body.value(ids)?.ty {
        Some(ValueType::Tensor(_, Some(dims))) => Some(dims.len()),
        _ => None,
    }
}

/// The values in which rows are looked up.
fn looked_up(body: &GraphBody, nodes: &[Node]) -> HashSet<ValueId> {
    let lookups = nodes.iter().filter(|node| lookup(body, node).is_some());
    lookups
        .filter_map(|node| node.inputs.first().copied().flatten())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{BlockFormat, Dim, DimSize, Limits, ModelBuilder, PatternCompute};

    fn blocks(name: &str, format: BlockFormat, shape: &[u64]) -> Tensor {
        PatternCompute::tensor(name, DType::Block(format), shape.to_vec())
    }

    fn ops(model: &Model) -> Vec<&str> {
        let body = &model.graph.as_ref().unwrap().body;
        body.nodes.iter().map(|node| node.op.as_str()).collect()
    }

    #[test]
    fn tensors_alone_become_a_container() {
        let mut model = ModelBuilder::new()
            .push(blocks("a", BlockFormat::Q4_0, &[3, 64]))
            .push(PatternCompute::tensor("a_scale", DType::F32, [2]))
            .push(blocks("b", BlockFormat::Q5_1, &[64]))
            .build()
            .unwrap();
        blockwise(&mut model).unwrap();
        model.validate(&Limits::default()).unwrap();
        let specs: Vec<(&str, DType, &[u64])> = (model.tensors.iter())
            .map(|t| (t.name.as_str(), t.dtype(), &t.spec.shape[..]))
            .collect();
        assert_eq!(
            specs,
            [
                ("a_quantized", DType::I4, &[3, 64][..]),
                ("a_scale", DType::F32, &[2]),
                ("b_quantized", DType::U8, &[2, 32]),
                ("a_scale~", DType::F16, &[3, 2]),
                ("b_scale", DType::F16, &[2, 1]),
                ("b_min", DType::F16, &[2, 1]),
            ]
        );
        let wanted = [
            "Cast",
            "DequantizeLinear",
            "Cast",
            "DequantizeLinear",
            "Cast",
            "Add",
            "Constant",
            "Reshape",
        ];
        assert_eq!(ops(&model), wanted);
        let note = |key: &str| model.metadata.get(ns::NOTE, key).and_then(|v| v.as_str());
        assert_eq!(note("kind"), Some("container"));
        assert_eq!(note("blocks.b"), Some("Q5_1"));
        // Parts in any range: codes pair by pair, scales one by one.
        let codes = model.tensors.by_name("a_quantized").unwrap();
        let whole = codes.read_all().unwrap();
        let mut part = [0; 20];
        codes.read(30..70, &mut part).unwrap();
        assert_eq!(part[..], whole[15..35]);
        let scales = model.tensors.by_name("a_scale~").unwrap();
        let (all, mut one) = (scales.read_all().unwrap(), [0; 2]);
        scales.read(4..5, &mut one).unwrap();
        assert_eq!(one[..], all[8..10]);
        assert_eq!(one[0], PatternCompute::byte(4 * 18));
    }

    #[test]
    fn rows_that_are_looked_up_become_numbers_alone() {
        let table = blocks("w", BlockFormat::Q4_0, &[8, 32]);
        let mut model = ModelBuilder::new().push(table).build().unwrap();
        let mut body = GraphBody::of_tensors(&model.tensors).unwrap();
        body.outputs.clear();
        let dims = vec![
            Dim {
                size: DimSize::Unknown,
                denotation: String::new()
            };
            2
        ];
        let mut value = |name: &str, ty| {
            let name = name.to_owned();
            body.add_value(Value {
                name,
                ty,
                ..Value::default()
            })
            .unwrap()
        };
        let ids = value("ids", Some(ValueType::Tensor(Some(DType::I64), Some(dims))));
        let (rows, y) = (value("rows", None), value("y", None));
        let Initializer::Dense(w, _) = body.initializers[0] else {
            panic!("sparse");
        };
        body.nodes = vec![
            node_of("g".to_owned(), "Gather", &[w, ids], Vec::new(), rows),
            node_of("m".to_owned(), "Gemm", &[rows, w], Vec::new(), y),
        ];
        model.graph = Some(Graph {
            body,
            ..Graph::default()
        });
        blockwise(&mut model).unwrap();
        model.validate(&Limits::default()).unwrap();
        let wanted = [
            "Gather",
            "Gather",
            "Cast",
            "DequantizeLinear",
            "Cast",
            "DequantizeLinear",
            "Gemm",
        ];
        assert_eq!(ops(&model), wanted);
        assert_eq!(
            model.tensors.by_name("w_quantized").unwrap().dtype(),
            DType::I8
        );
        assert!(model.metadata.get(ns::NOTE, "kind").is_none());
    }
}
