//! The forms quantized weights have in graphs.

use super::affine::{Laid, affine, grouped, nbits};
use super::blocks::{blocks, is_shape};
use super::codes::is_code;
use super::scene::{Scene, count, input, output};
use crate::read::floats;
use ir::{DType, Node, Region, Result, Shape, Tensor, TensorId, ValueId, View};
use std::collections::HashMap;

/// Where a weight is taken.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// As this value.
    Value(ValueId),
    /// By an input of a node.
    Slot(usize, usize),
}

/// A weight.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) tensor: Tensor,
    pub(super) scheme: String,
    /// Whether a note tells which blocks it is made of.
    pub(super) noted: bool,
    /// Codes first.
    pub(super) parts: Vec<TensorId>,
    pub(super) places: Vec<Place>,
    /// Nodes that have no work left.
    pub(super) nodes: Vec<usize>,
    /// Inputs of nodes, by node and slot, that are left empty: scales and zero points.
    pub(super) free: Vec<(usize, usize)>,
}

/// What quantizers put behind a weight's name.
const SUFFIXES: [&str; 8] = [
    "_quantized",
    "_DQ_Q4",
    "_DQ_Q8",
    "_DQ_Q2",
    "_Q4",
    "_Q8",
    "_Q2",
    ".qweight",
];

/// All quantized weights, in the order of the nodes that take them first.
pub(super) fn find(scene: &Scene<'_>) -> Result<Vec<Found>> {
    let mut list: Vec<Found> = Vec::new();
    let mut by_parts: HashMap<Vec<TensorId>, usize> = HashMap::new();
    for (index, node) in scene.body.nodes.iter().enumerate() {
        let found = match (node.domain.as_str(), node.op.as_str()) {
            ("" | "com.microsoft", "DequantizeLinear") => {
                dequantize(scene, index, node)?.into_iter().collect()
            }
            ("com.microsoft", "MatMulNBits") => {
                matmul_nbits(scene, index, node)?.into_iter().collect()
            }
            ("com.microsoft", "GatherBlockQuantized") => {
                gather_block(scene, index, node)?.into_iter().collect()
            }
            ("", "MatMulInteger" | "ConvInteger") => integer(scene, index, node),
            _ => linear(scene, index, node)?,
        };
        for found in found {
            // A weight that is taken twice is one.
            if let Some(first) = by_parts.get(&found.parts).and_then(|at| list.get_mut(*at)) {
                first.places.extend(found.places);
                first.nodes.extend(found.nodes);
                first.free.extend(found.free);
            } else {
                by_parts.insert(found.parts.clone(), list.len());
                list.push(found);
            }
        }
    }
    Ok(list)
}

/// The name of the weight whose codes have this one.
pub(super) fn weight_name(codes: &str) -> &str {
    let found = SUFFIXES.iter().find_map(|end| codes.strip_suffix(end));
    found.filter(|name| !name.is_empty()).unwrap_or(codes)
}

fn dequantize(scene: &Scene<'_>, index: usize, node: &Node) -> Result<Option<Found>> {
    let codes = scene.origin(node, 0);
    let scale = scene.origin(node, 1);
    let (Some(own), Some(scales)) = (scene.tensor(codes.tensor), scene.tensor(scale.tensor)) else {
        return Ok(None);
    };
    if codes.cast.is_some() || !is_code(own.dtype()) {
        return Ok(None);
    }
    let zero = input(node, 2).map(|_| scene.origin(node, 2));
    if zero.is_none()
        && let Some(found) = blocks(scene, index, node, &codes, &scale)?
    {
        return Ok(Some(found));
    }
    let rank = own.spec.shape.len();
    let one = scales.spec.elements() == Some(1);
    let axis = node.int("axis").unwrap_or(1);
    let axis = if axis < 0 {
        axis.saturating_add_unsigned(rank as u64)
    } else {
        axis
    };
    let laid = Laid {
        axis: if one {
            0
        } else {
            usize::try_from(axis).unwrap_or(usize::MAX)
        },
        block: count(node, "block_size").unwrap_or(0),
    };
    let zeros = match &zero {
        Some(zero) => match scene.tensor(zero.tensor) {
            Some(tensor) if zero.cast.is_none() => Some(tensor),
            _ => return Ok(None),
        },
        None => None,
    };
    let dtype = match node.int("output_dtype") {
        None | Some(0) => scale.cast.unwrap_or(scales.dtype()),
        Some(1) => DType::F32,
        Some(10) => DType::F16,
        Some(16) => DType::BF16,
        Some(_) => return Ok(None),
    };
    // Looked-up rows have another shape than the table: no axis of theirs is one of its.
    let plain = scale.rows.is_none() && zero.as_ref().is_none_or(|zero| zero.rows.is_none());
    if !matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
        || !plain
        || codes.rows.is_some() && !one
    {
        return Ok(None);
    }
    let name = weight_name(&own.name);
    let parts = [
        codes.tensor,
        scale.tensor,
        zero.and_then(|zero| zero.tensor),
    ];
    let Some(tensor) = affine(name, [Some(own), Some(scales), zeros], laid, dtype) else {
        return Ok(None);
    };
    let Some(out) = output(node) else {
        return Ok(None);
    };
    let mut nodes = scale.nodes;
    let place = if let Some((gather, _)) = codes.rows {
        Place::Slot(gather, 0)
    } else {
        nodes.push(index);
        Place::Value(out)
    };
    Ok(Some(Found {
        tensor,
        scheme: scheme("DequantizeLinear", own, laid.block),
        noted: false,
        parts: parts.into_iter().flatten().collect(),
        places: vec![place],
        nodes,
        free: Vec::new(),
    }))
}

fn scheme(op: &str, codes: &Tensor, block: u64) -> String {
    let blocks = if block > 0 {
        format!(" in blocks of {block}")
    } else {
        String::new()
    };
    format!("{op} of {}{blocks}", codes.dtype())
}

fn matmul_nbits(scene: &Scene<'_>, index: usize, node: &Node) -> Result<Option<Found>> {
    let part = |slot| scene.constant(node, slot);
    let zero = input(node, 3).is_some();
    // Columns whose scales are another block's than the one they stand in.
    let reordered = input(node, 4).is_some();
    let (Some(own), Some(scale)) = (part(1), part(2)) else {
        return Ok(None);
    };
    if zero && part(3).is_none() || reordered && (zero || part(4).is_none()) {
        return Ok(None);
    }
    let size = |name| count(node, name).unwrap_or(0);
    let (bits, block) = (count(node, "bits").unwrap_or(4), size("block_size"));
    let Some(codes) = scene.tensor(Some(own)) else {
        return Ok(None);
    };
    let other = if reordered { part(4) } else { part(3) };
    let parts = [Some(codes), scene.tensor(Some(scale)), scene.tensor(other)];
    let (name, shape) = (weight_name(&codes.name), [size("N"), size("K")]);
    let tensor = if reordered {
        grouped(name, parts, shape, bits, block)?
    } else {
        nbits(name, parts, shape, bits, block)?
    };
    let Some(tensor) = tensor else {
        return Ok(None);
    };
    Ok(Some(Found {
        tensor,
        scheme: format!("MatMulNBits of {bits} bits in blocks of {block}"),
        noted: false,
        parts: [Some(own), Some(scale), other]
            .into_iter()
            .flatten()
            .collect(),
        places: vec![Place::Slot(index, 1)],
        nodes: Vec::new(),
        free: vec![(index, 2), (index, 3), (index, 4)],
    }))
}

/// `GatherBlockQuantized`: rows of codes that are looked up, in blocks along an axis. Codes in bytes
/// lie as those of `MatMulNBits`, and are the same tensor where a head is tied.
fn gather_block(scene: &Scene<'_>, index: usize, node: &Node) -> Result<Option<Found>> {
    let [own, scale, zero] = [0, 2, 3].map(|slot| scene.constant(node, slot));
    // A head that shares its codes has them block by block, as MatMulNBits takes them.
    let rows = flattened(scene, node);
    let own = own.or(rows.as_ref().map(|(id, ..)| *id));
    let (Some(codes), Some(scales)) = (scene.tensor(own), scene.tensor(scale)) else {
        return Ok(None);
    };
    let shape = rows.as_ref().map_or(&codes.spec.shape, |(.., shape)| shape);
    if input(node, 3).is_some() && zero.is_none() {
        return Ok(None);
    }
    let rank = shape.len() as u64;
    let axis = node.int("quantize_axis").unwrap_or(1);
    let axis = if axis < 0 {
        axis.saturating_add_unsigned(rank)
    } else {
        axis
    };
    let laid = Laid {
        axis: usize::try_from(axis).unwrap_or(usize::MAX),
        block: count(node, "block_size").unwrap_or(128),
    };
    let parts = [Some(codes), Some(scales), scene.tensor(zero)];
    let name = weight_name(&codes.name);
    let bits = count(node, "bits").unwrap_or(4);
    let dtype = match scales.dtype() {
        half @ (DType::F16 | DType::BF16) => half,
        _ => DType::F32,
    };
    let tensor = match (codes.dtype(), &shape[..]) {
        (DType::I4 | DType::U4, _) if laid.block > 0 && rows.is_none() => {
            affine(name, parts, laid, dtype)
        }
        (DType::U8, [rows, bytes]) if laid.axis == 1 && matches!(bits, 4 | 8) => {
            // Rows of whole blocks: others are padded there and are not here.
            match bytes.checked_mul(8 / bits) {
                Some(row) if laid.block > 0 && row.is_multiple_of(laid.block) => {
                    nbits(name, parts, [*rows, row], bits, laid.block)?
                }
                _ => None,
            }
        }
        _ => None,
    };
    Ok(tensor.map(|tensor| Found {
        tensor,
        scheme: format!(
            "GatherBlockQuantized of {bits} bits in blocks of {}",
            laid.block
        ),
        noted: false,
        parts: [own, scale, zero].into_iter().flatten().collect(),
        places: vec![Place::Slot(index, 0)],
        nodes: rows.into_iter().map(|(_, reshape, _)| reshape).collect(),
        free: vec![(index, 2), (index, 3)],
    }))
}

/// Codes in three dimensions whose last two a `Reshape` makes one, for the node that looks rows up.
fn flattened(scene: &Scene<'_>, node: &Node) -> Option<(TensorId, usize, Shape)> {
    let value = input(node, 0)?;
    let (at, reshape) = scene.maker(value).filter(|(_, n)| n.op == "Reshape")?;
    let id = scene.constant(reshape, 0)?;
    let &[rows, blocks, bytes] = &scene.tensor(Some(id))?.spec.shape[..] else {
        return None;
    };
    let shape = Shape::new([rows, blocks.checked_mul(bytes)?]);
    let alone = scene.taker(value).is_some() && is_shape(scene, value, &shape);
    alone.then_some((id, at, shape))
}

/// `MatMulInteger` and `ConvInteger`, whose scales come in behind them: the product of both inputs'.
/// Rows that are looked up in a table are multiplied as the codes they are.
fn integer(scene: &Scene<'_>, index: usize, node: &Node) -> Vec<Found> {
    let weight = multiplied(scene, index, node);
    let rows = looked_up(scene, index, node);
    weight.into_iter().chain(rows).collect()
}

/// The product of scales behind a node, and its place.
fn scales<'a>(scene: &Scene<'a>, node: &Node) -> Option<(usize, &'a Node)> {
    let (_, cast) = scene.taker(output(node)?)?;
    let value = output(cast).filter(|_| cast.op == "Cast")?;
    let (_, mul) = scene.taker(value).filter(|(_, node)| node.op == "Mul")?;
    let slot = usize::from(input(mul, 0) == Some(value));
    let found = scene.maker(input(mul, slot)?)?;
    Some(found).filter(|(_, both)| both.op == "Mul")
}

/// The table of the rows that a `MatMulInteger` multiplies.
fn looked_up(scene: &Scene<'_>, index: usize, node: &Node) -> Option<Found> {
    let codes = scene.origin(node, 0);
    let (gather, _) = codes.rows.filter(|_| codes.cast.is_none())?;
    let (_, both) = scales(scene, node)?;
    let scale = scene.constant(both, 0)?;
    if scene.tensor(Some(scale))?.spec.elements() != Some(1) {
        return None;
    }
    let zero = match input(node, 2) {
        Some(_) => Some(scene.constant(node, 2)?),
        None => None,
    };
    let mut found = constant(scene, node, [codes.tensor?, scale], zero, 0, (gather, 0))?;
    found.free.push((index, 2));
    Some(found)
}

fn multiplied(scene: &Scene<'_>, index: usize, node: &Node) -> Option<Found> {
    let own = scene.constant(node, 1)?;
    let codes = scene.tensor(Some(own))?;
    let (at, both) = scales(scene, node)?;
    // The input's comes first, and is a constant too where the input is looked up in a table.
    let scale = scene
        .constant(both, 1)
        .or_else(|| scene.constant(both, 0))?;
    let zero = match input(node, 3) {
        Some(_) => Some(scene.constant(node, 3)?),
        None => None,
    };
    let axis = match node.op.as_str() {
        "ConvInteger" => 0,
        _ => codes.spec.shape.len().checked_sub(1)?,
    };
    let mut found = constant(scene, node, [own, scale], zero, axis, (index, 1))?;
    found.nodes.push(at);
    found.free.push((index, 3));
    Some(found)
}

/// Operators that take all parts themselves: codes, scale and zero point one after the other.
fn linear(scene: &Scene<'_>, index: usize, node: &Node) -> Result<Vec<Found>> {
    let op = (node.domain.as_str(), node.op.as_str());
    let (weights, bias): (&[usize], Option<usize>) = match op {
        ("", "QLinearConv") => (&[3], Some(8)),
        ("com.microsoft", "QGemm") => (&[3], Some(6)),
        ("", "QLinearMatMul") => (&[3, 0], None),
        ("com.microsoft", "QLinearAdd" | "QLinearMul") => (&[0, 3], None),
        _ => return Ok(Vec::new()),
    };
    let across = op.1 == "QLinearConv" || op.1 == "QGemm" && node.int("transB") == Some(1);
    let mut list = Vec::new();
    for &slot in weights {
        let [own, scale, zero] = [slot, slot + 1, slot + 2].map(|slot| scene.constant(node, slot));
        let (Some(own), Some(scale)) = (own, scale) else {
            continue;
        };
        let rank = scene.tensor(Some(own)).map_or(0, |t| t.spec.shape.len());
        let axis = if across { 0 } else { rank.saturating_sub(1) };
        if let Some(mut found) = constant(scene, node, [own, scale], zero, axis, (index, slot)) {
            found.free.extend([(index, slot + 1), (index, slot + 2)]);
            list.push(found);
        }
    }
    list.extend(match bias {
        Some(slot) => added(scene, index, node, slot)?,
        None => None,
    });
    Ok(list)
}

/// A bias of I32, in steps of the input's scale times the weight's.
fn added(scene: &Scene<'_>, index: usize, node: &Node, slot: usize) -> Result<Option<Found>> {
    /// Most outputs of a layer whose scales are multiplied here.
    const MOST: u64 = 1 << 20;
    let [own, input, weight] = [slot, 1, 4].map(|slot| scene.constant(node, slot));
    let (Some(own), Some(x), Some(w)) = (own, scene.tensor(input), scene.tensor(weight)) else {
        return Ok(None);
    };
    let Some(codes) = scene.tensor(Some(own)).filter(|t| t.dtype() == DType::I32) else {
        return Ok(None);
    };
    let few = |t: &Tensor, most| t.dtype() == DType::F32 && t.spec.elements() <= Some(most);
    if !few(x, 1) || !few(w, MOST) {
        return Ok(None);
    }
    let floats = |tensor: &Tensor| floats(tensor, 0..tensor.spec.elements().unwrap_or(0));
    let x = floats(x)?.first().copied().unwrap_or(f32::NAN);
    let products: Vec<u8> = floats(w)?
        .iter()
        .flat_map(|w| (x * w).to_le_bytes())
        .collect();
    let view = View::contiguous(Region::memory(products));
    let scale = Tensor::stored("scale", w.spec.clone(), view);
    let laid = Laid { axis: 0, block: 0 };
    let parts = [Some(codes), Some(&scale), None];
    let tensor = affine(weight_name(&codes.name), parts, laid, DType::F32);
    Ok(tensor.map(|tensor| Found {
        tensor,
        scheme: scheme(&node.op, codes, 0),
        noted: false,
        parts: vec![own],
        places: vec![Place::Slot(index, slot)],
        nodes: Vec::new(),
        free: Vec::new(),
    }))
}

fn constant(
    scene: &Scene<'_>,
    node: &Node,
    [own, scale]: [TensorId; 2],
    zero: Option<TensorId>,
    axis: usize,
    (index, slot): (usize, usize),
) -> Option<Found> {
    let codes = scene.tensor(Some(own))?;
    let parts = [Some(codes), scene.tensor(Some(scale)), scene.tensor(zero)];
    let laid = Laid { axis, block: 0 };
    let tensor = affine(weight_name(&codes.name), parts, laid, DType::F32)?;
    Some(Found {
        tensor,
        scheme: scheme(&node.op, codes, 0),
        noted: false,
        parts: [Some(own), Some(scale), zero]
            .into_iter()
            .flatten()
            .collect(),
        places: vec![Place::Slot(index, slot)],
        nodes: Vec::new(),
        free: Vec::new(),
    })
}
