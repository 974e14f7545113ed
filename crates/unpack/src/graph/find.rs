//! The forms quantized weights have in graphs.

use super::affine::{Laid, affine, nbits};
use super::codes::{is_code, joined};
use super::scene::{Origin, Scene, count, int};
use crate::read::floats;
use ir::{
    AttributeValue, BlockFormat, DType, Node, Region, Result, Shape, Tensor, TensorId, ValueId,
    View,
};
use quant::{MXFP4_VALUES, PER_BLOCK, mxfp4_scales};
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
            ("", "MatMulInteger" | "ConvInteger") => {
                integer(scene, index, node).into_iter().collect()
            }
            _ => linear(scene, index, node)?,
        };
        for found in found {
            // A weight that is taken twice is one.
            match by_parts.get(&found.parts).and_then(|at| list.get_mut(*at)) {
                Some(first) => {
                    first.places.extend(found.places);
                    first.nodes.extend(found.nodes);
                    first.free.extend(found.free);
                }
                None => {
                    by_parts.insert(found.parts.clone(), list.len());
                    list.push(found);
                }
            }
        }
    }
    Ok(list)
}

/// The name of the weight whose codes have this one.
fn weight_name(codes: &str) -> &str {
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
    let zero = scene.input(node, 2).map(|_| scene.origin(node, 2));
    if zero.is_none()
        && let Some(found) = blocks(scene, index, node, &codes, &scale)?
    {
        return Ok(Some(found));
    }
    let rank = own.spec.shape.len();
    let one = scales.spec.elements() == Some(1);
    let axis = int(node, "axis").unwrap_or(1);
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
    let dtype = match int(node, "output_dtype") {
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
    let Some(out) = scene.output(node) else {
        return Ok(None);
    };
    let mut nodes = scale.nodes;
    let place = match codes.rows {
        Some((gather, _)) => Place::Slot(gather, 0),
        None => {
            nodes.push(index);
            Place::Value(out)
        }
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

/// What stands behind the `DequantizeLinear` of a block's codes.
struct Chain {
    end: ValueId,
    /// The other part there is, beside codes and scales.
    scale: Option<Origin>,
    min: Option<Origin>,
    nodes: Vec<usize>,
    mxfp4: bool,
}

/// ggml's blocks, as they are written into graphs here.
fn blocks(
    scene: &Scene<'_>,
    index: usize,
    node: &Node,
    codes: &Origin,
    scale: &Origin,
) -> Result<Option<Found>> {
    let (Some(own), Some(out)) = (scene.tensor(codes.tensor), scene.output(node)) else {
        return Ok(None);
    };
    let half = scene
        .tensor(scale.tensor)
        .is_some_and(|t| t.dtype() == DType::F16);
    let chain = if count(node, "block_size") == Some(PER_BLOCK as u64)
        && scale.cast == Some(DType::F32)
        && half
    {
        minima(scene, out).unwrap_or(Chain {
            end: out,
            scale: None,
            min: None,
            nodes: Vec::new(),
            mxfp4: false,
        })
    } else {
        match looked_up(scene, node, out)? {
            Some(chain) => chain,
            None => return Ok(None),
        }
    };
    let scale = chain.scale.as_ref().unwrap_or(scale);
    let others = [Some(scale), chain.min.as_ref()];
    let ids = |origin: &Origin| origin.rows.map(|(_, ids)| ids);
    if others
        .iter()
        .flatten()
        .any(|other| ids(other) != ids(codes))
    {
        return Ok(None);
    }
    // Parts of codes of 32 have blocks as a dimension.
    let dims = &own.spec.shape;
    let blocked = chain.mxfp4 || chain.min.is_some();
    let shape = match &dims[..] {
        [outer @ .., n, per] if blocked && *per == PER_BLOCK as u64 => {
            let row = n.saturating_mul(*per);
            outer.iter().copied().chain([row]).collect::<Shape>()
        }
        _ if blocked => return Ok(None),
        _ => dims.clone(),
    };
    let axis = int(node, "axis").unwrap_or(1);
    let last = i64::try_from(dims.len()).unwrap_or(0) - 1;
    if codes.rows.is_none() && !chain.mxfp4 && axis != last && axis != -1 {
        return Ok(None);
    }
    if codes.rows.is_none() && blocked && !is_shape(scene, chain.end, &shape) {
        return Ok(None);
    }
    let (name, noted) = named(scene, own, chain.end);
    let usual = match (own.dtype(), chain.min.is_some()) {
        _ if chain.mxfp4 => BlockFormat::MXFP4,
        (DType::I4, false) => BlockFormat::Q4_0,
        (DType::I8, false) => BlockFormat::Q8_0,
        (DType::U4, true) => BlockFormat::Q4_1,
        (DType::U8, true) => BlockFormat::Q5_1,
        _ => return Ok(None),
    };
    // Five bits in a byte are told by the note alone.
    if noted.is_none() && usual == BlockFormat::Q5_1 {
        return Ok(None);
    }
    let dtype = noted.unwrap_or(DType::Block(usual));
    let min = chain.min.as_ref().map(|min| scene.tensor(min.tensor));
    let parts = [Some(own), scene.tensor(scale.tensor), min.flatten()];
    let row = |t: &Tensor| t.spec.shape.last().copied().unwrap_or(0);
    let per_row = if blocked {
        1
    } else {
        row(own) / PER_BLOCK as u64
    };
    if parts.iter().skip(1).flatten().any(|t| row(t) != per_row) {
        return Ok(None);
    }
    let Some(tensor) = joined(&name, dtype, shape, parts) else {
        return Ok(None);
    };
    let mut nodes: Vec<usize> = chain.nodes;
    nodes.push(index);
    nodes.extend(
        others
            .iter()
            .flatten()
            .flat_map(|origin| origin.nodes.iter().copied()),
    );
    let place = match codes.rows {
        Some((gather, _)) => Place::Slot(gather, 0),
        None => Place::Value(chain.end),
    };
    let min = chain.min.and_then(|min| min.tensor);
    let mut parts: Vec<TensorId> = [codes.tensor, scale.tensor, min]
        .into_iter()
        .flatten()
        .collect();
    if chain.mxfp4 {
        // The tables go with the last weight that takes them.
        let tables = nodes.iter().filter_map(|at| scene.node(*at));
        let tables = tables.filter(|node| node.op == "Gather" || node.op == "DequantizeLinear");
        let one = scene.constant(node, 1);
        parts.extend(
            tables
                .filter_map(|node| scene.constant(node, 0))
                .filter(|id| {
                    scene
                        .tensor(Some(*id))
                        .is_some_and(|t| t.dtype() == DType::F32)
                }),
        );
        parts.extend(one);
    }
    Ok(Some(Found {
        tensor,
        scheme: dtype.to_string(),
        noted: noted.is_some(),
        parts,
        places: vec![place],
        nodes,
        free: Vec::new(),
    }))
}

/// The weight's name, and the type of blocks that is noted for it.
fn named(scene: &Scene<'_>, codes: &Tensor, end: ValueId) -> (String, Option<DType>) {
    let end = scene
        .body
        .value(end)
        .map_or("", |value| value.name.as_str());
    for name in [end, weight_name(&codes.name)] {
        if let Some(dtype) = scene.notes.get(name) {
            return (name.to_owned(), Some(*dtype));
        }
    }
    (weight_name(&codes.name).to_owned(), None)
}

/// `Add` of minima and `Reshape`.
fn minima(scene: &Scene<'_>, out: ValueId) -> Option<Chain> {
    let (at, add) = scene.taker(out)?;
    if add.op != "Add" || !add.domain.is_empty() {
        return None;
    }
    let slot = usize::from(scene.input(add, 0) == Some(out));
    let min = scene.origin(add, slot);
    let half = scene.tensor(min.tensor)?.dtype() == DType::F16;
    if !half || min.cast != Some(DType::F32) {
        return None;
    }
    let (reshape, end, mut nodes) = reshaped(scene, scene.output(add)?)?;
    nodes.extend([at, reshape]);
    Some(Chain {
        end,
        scale: None,
        min: Some(min),
        nodes,
        mxfp4: false,
    })
}

/// The `Reshape` behind a value, what comes of it, and the constant it takes.
fn reshaped(scene: &Scene<'_>, value: ValueId) -> Option<(usize, ValueId, Vec<usize>)> {
    let (at, node) = scene.taker(value)?;
    if node.op != "Reshape" || !node.domain.is_empty() || scene.input(node, 0) != Some(value) {
        return None;
    }
    let to = scene.input(node, 1)?;
    let constant = scene.maker(to).filter(|(_, node)| node.op == "Constant");
    let alone = scene.taker(to).is_some();
    let own = constant.filter(|_| alone).map(|(at, _)| at);
    Some((at, scene.output(node)?, own.into_iter().collect()))
}

/// Whether the `Reshape` that gives `end` gives it this shape.
fn is_shape(scene: &Scene<'_>, end: ValueId, shape: &Shape) -> bool {
    let Some((_, node)) = scene.maker(end) else {
        return false;
    };
    let constant = scene.input(node, 1).and_then(|value| scene.maker(value));
    let ints = constant.and_then(|(_, node)| {
        node.attributes.iter().find_map(|a| match &a.value {
            AttributeValue::Ints(list) if a.name == "value_ints" => Some(list.clone()),
            _ => None,
        })
    });
    let stored = || -> Option<Vec<i64>> {
        let tensor = scene.tensor(scene.constant(node, 1))?;
        if tensor.dtype() != DType::I64 || tensor.spec.elements()? > 16 {
            return None;
        }
        let bytes = tensor.read_all().ok()?;
        Some(
            bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| i64::from_le_bytes(*b))
                .collect(),
        )
    };
    let Some(list) = ints.or_else(stored) else {
        return false;
    };
    let dims = list.iter().map(|n| u64::try_from(*n).ok());
    dims.eq(shape.iter().map(|n| Some(*n)))
}

/// MXFP4: codes and scales that are looked up in its tables.
fn looked_up(scene: &Scene<'_>, node: &Node, out: ValueId) -> Result<Option<Chain>> {
    let one = scene.tensor(scene.constant(node, 1));
    if !one.is_some_and(|t| t.dtype() == DType::F32 && t.spec.elements() == Some(1)) {
        return Ok(None);
    }
    let walk = || -> Option<(Chain, [TensorId; 2])> {
        let (cast, node) = scene.taker(out)?;
        let whole = node.op == "Cast" && int(node, "to") == Some(6);
        let (gather, node) = scene.taker(scene.output(node)?).filter(|_| whole)?;
        let values = scene.constant(node, 0).filter(|_| node.op == "Gather")?;
        let code = scene.output(node)?;
        let (mul, node) = scene.taker(code)?;
        if node.op != "Mul" {
            return None;
        }
        let slot = usize::from(scene.input(node, 0) == Some(code));
        let (scales_at, lookup) = scene.maker(scene.input(node, slot)?)?;
        let scales = scene
            .constant(lookup, 0)
            .filter(|_| lookup.op == "Gather")?;
        let scale = scene.origin(lookup, 1);
        if scale.cast != Some(DType::I32) {
            return None;
        }
        let (reshape, end, mut nodes) = reshaped(scene, scene.output(node)?)?;
        nodes.extend([cast, gather, mul, scales_at, reshape]);
        let chain = Chain {
            end,
            scale: Some(scale),
            min: None,
            nodes,
            mxfp4: true,
        };
        Some((chain, [values, scales]))
    };
    let Some((chain, [values, scales])) = walk() else {
        return Ok(None);
    };
    let bytes = |list: &[f32]| {
        list.iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let same = |id, list: &[f32]| -> Result<bool> {
        let Some(tensor) = scene.tensor(Some(id)) else {
            return Ok(false);
        };
        let fits = tensor.dtype() == DType::F32 && tensor.spec.shape[..] == [list.len() as u64];
        Ok(fits && tensor.read_all()? == bytes(list))
    };
    let known = same(values, &MXFP4_VALUES.map(f32::from))? && same(scales, &mxfp4_scales())?;
    let unit = one.map(Tensor::read_all).transpose()? == Some(bytes(&[1.0]));
    Ok(Some(chain).filter(|_| known && unit))
}

fn matmul_nbits(scene: &Scene<'_>, index: usize, node: &Node) -> Result<Option<Found>> {
    let part = |slot| scene.constant(node, slot);
    let zero = scene.input(node, 3).is_some();
    // Rows in another order than they are stored in.
    let reordered = scene.input(node, 4).is_some();
    let (Some(own), Some(scale), false) = (part(1), part(2), reordered) else {
        return Ok(None);
    };
    if zero && part(3).is_none() {
        return Ok(None);
    }
    let size = |name| count(node, name).unwrap_or(0);
    let (bits, block) = (count(node, "bits").unwrap_or(4), size("block_size"));
    let Some(codes) = scene.tensor(Some(own)) else {
        return Ok(None);
    };
    let parts = [
        Some(codes),
        scene.tensor(Some(scale)),
        scene.tensor(part(3)),
    ];
    let name = weight_name(&codes.name);
    let Some(tensor) = nbits(name, parts, [size("N"), size("K")], bits, block)? else {
        return Ok(None);
    };
    Ok(Some(Found {
        tensor,
        scheme: format!("MatMulNBits of {bits} bits in blocks of {block}"),
        noted: false,
        parts: [Some(own), Some(scale), part(3)]
            .into_iter()
            .flatten()
            .collect(),
        places: vec![Place::Slot(index, 1)],
        nodes: Vec::new(),
        free: vec![(index, 2), (index, 3)],
    }))
}

/// `MatMulInteger` and `ConvInteger`, whose scale comes in behind them.
fn integer(scene: &Scene<'_>, index: usize, node: &Node) -> Option<Found> {
    let own = scene.constant(node, 1)?;
    let codes = scene.tensor(Some(own))?;
    let (_, cast) = scene.taker(scene.output(node)?)?;
    let value = scene.output(cast).filter(|_| cast.op == "Cast")?;
    let (_, mul) = scene.taker(value).filter(|(_, node)| node.op == "Mul")?;
    let slot = usize::from(scene.input(mul, 0) == Some(value));
    let (at, both) = scene.maker(scene.input(mul, slot)?)?;
    if both.op != "Mul" {
        return None;
    }
    let scale = scene
        .constant(both, 0)
        .or_else(|| scene.constant(both, 1))?;
    let zero = match scene.input(node, 3) {
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
    let across = op.1 == "QLinearConv" || op.1 == "QGemm" && int(node, "transB") == Some(1);
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
