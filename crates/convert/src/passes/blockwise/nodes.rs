//! The operators that give a weight's numbers, written before the nodes that take them.

use super::{Weight, Work};
use ir::{
    Attribute, AttributeValue, DType, GraphBody, Node, Result, Tensor, TensorSpec, ValueId,
    ValueType,
};
use quant::{MXFP4_VALUES, PER_BLOCK, mxfp4_scales};
use std::collections::HashSet;

/// Codes of types, of those used here (`TensorProto.DataType`).
const FLOAT: i64 = 1;
const INT32: i64 = 6;

impl Work {
    /// Writes a node behind what gives its weights' numbers.
    pub(super) fn before(&mut self, node: Node, nodes: &mut Vec<Node>) -> Result<()> {
        let first = node.inputs.first().copied().flatten();
        if let (Some(table), Some(rank)) = (first, lookup(&self.body, &node))
            && self
                .weights
                .get(&table.index())
                .is_some_and(Weight::has_rows)
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
    pub(super) fn rest(&mut self, nodes: &mut Vec<Node>) -> Result<()> {
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
            let mut out = value;
            if weight.across {
                out = self.value(prefix.clone())?;
            }
            self.numbers(&weight, weight.parts, rank, &prefix, &shape, out, nodes)?;
            if weight.across {
                let perm = vec![attribute("perm", AttributeValue::Ints(vec![1, 0]))];
                nodes.push(self.node_to(value, &prefix, "Transpose", &[out], perm));
            }
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
        let axis = if weight.blocked() || weight.alone() {
            rank
        } else {
            rank.saturating_sub(1)
        };
        let attributes = vec![
            attribute("axis", AttributeValue::Int(signed(axis as u64))),
            attribute("block_size", AttributeValue::Int(signed(PER_BLOCK as u64))),
        ];
        let scale = self.node(prefix, "Cast", &[scale], cast(FLOAT), nodes)?;
        let op = "DequantizeLinear";
        if min.is_none() && !weight.alone() {
            nodes.push(self.node_to(out, prefix, op, &[codes, scale], attributes));
            return Ok(());
        }
        let value = self.node(prefix, op, &[codes, scale], attributes, nodes)?;
        let Some(min) = min else {
            return self.reshaped(prefix, value, shape, out, nodes);
        };
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

pub(super) fn node_of(
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
    if !matches!(node.attribute("axis"), None | Some(AttributeValue::Int(0))) {
        return None;
    }
    let ids = node.inputs.get(1).copied().flatten()?;
    match &body.value(ids)?.ty {
        Some(ValueType::Tensor(_, Some(dims))) => Some(dims.len()),
        _ => None,
    }
}

/// The values in which rows are looked up.
pub(super) fn looked_up(body: &GraphBody, nodes: &[Node]) -> HashSet<ValueId> {
    let lookups = nodes.iter().filter(|node| lookup(body, node).is_some());
    lookups
        .filter_map(|node| node.inputs.first().copied().flatten())
        .collect()
}
