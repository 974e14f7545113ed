//! ggml's blocks, as they are written into graphs here.

use super::codes::joined;
use super::find::{Found, Place, weight_name};
use super::scene::{Origin, Scene, count, input, output};
use ir::{AttributeValue, BlockFormat, DType, Node, Result, Shape, Tensor, TensorId, ValueId};
use quant::{MXFP4_VALUES, PER_BLOCK, mxfp4_scales};

/// What stands behind the `DequantizeLinear` of a block's codes.
struct Chain {
    end: ValueId,
    /// The other part there is, beside codes and scales.
    scale: Option<Origin>,
    min: Option<Origin>,
    nodes: Vec<usize>,
    mxfp4: bool,
}

/// Blocks whose codes a `DequantizeLinear` takes, if that is what they are.
pub(super) fn blocks(
    scene: &Scene<'_>,
    index: usize,
    node: &Node,
    codes: &Origin,
    scale: &Origin,
) -> Result<Option<Found>> {
    let (Some(own), Some(out)) = (scene.tensor(codes.tensor), output(node)) else {
        return Ok(None);
    };
    let half = scene
        .tensor(scale.tensor)
        .is_some_and(|t| t.dtype() == DType::F16);
    let chain = if count(node, "block_size") == Some(PER_BLOCK as u64)
        && scale.cast == Some(DType::F32)
        && half
    {
        let found = minima(scene, out).or_else(|| alone(scene, own, out));
        found.unwrap_or(Chain {
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
        [1, per] if chain.end != out => Shape::new([*per]),
        _ => dims.clone(),
    };
    let axis = node.int("axis").unwrap_or(1);
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
    let slot = usize::from(input(add, 0) == Some(out));
    let min = scene.origin(add, slot);
    let half = scene.tensor(min.tensor)?.dtype() == DType::F16;
    if !half || min.cast != Some(DType::F32) {
        return None;
    }
    let (reshape, end, mut nodes) = reshaped(scene, output(add)?)?;
    nodes.extend([at, reshape]);
    Some(Chain {
        end,
        scale: None,
        min: Some(min),
        nodes,
        mxfp4: false,
    })
}

/// One block in one dimension: a row, and the `Reshape` that gives it the weight's name.
fn alone(scene: &Scene<'_>, codes: &Tensor, out: ValueId) -> Option<Chain> {
    if codes.spec.shape[..] != [1, PER_BLOCK as u64] {
        return None;
    }
    let (reshape, end, mut nodes) = reshaped(scene, out)?;
    let name = scene.body.value(end)?.name.as_str();
    let ours = name == weight_name(&codes.name) || scene.notes.contains_key(name);
    if !ours || !is_shape(scene, end, &Shape::new([PER_BLOCK as u64])) {
        return None;
    }
    nodes.push(reshape);
    Some(Chain {
        end,
        scale: None,
        min: None,
        nodes,
        mxfp4: false,
    })
}

/// The `Reshape` behind a value, what comes of it, and the constant it takes.
fn reshaped(scene: &Scene<'_>, value: ValueId) -> Option<(usize, ValueId, Vec<usize>)> {
    let (at, node) = scene.taker(value)?;
    if node.op != "Reshape" || !node.domain.is_empty() || input(node, 0) != Some(value) {
        return None;
    }
    let to = input(node, 1)?;
    let constant = scene.maker(to).filter(|(_, node)| node.op == "Constant");
    let alone = scene.taker(to).is_some();
    let own = constant.filter(|_| alone).map(|(at, _)| at);
    Some((at, output(node)?, own.into_iter().collect()))
}

/// Whether the `Reshape` that gives `end` gives it this shape.
fn is_shape(scene: &Scene<'_>, end: ValueId, shape: &Shape) -> bool {
    let Some((_, node)) = scene.maker(end) else {
        return false;
    };
    let constant = input(node, 1).and_then(|value| scene.maker(value));
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
        let whole = node.op == "Cast" && node.int("to") == Some(6);
        let (gather, node) = scene.taker(output(node)?).filter(|_| whole)?;
        let values = scene.constant(node, 0).filter(|_| node.op == "Gather")?;
        let code = output(node)?;
        let (mul, node) = scene.taker(code)?;
        if node.op != "Mul" {
            return None;
        }
        let slot = usize::from(input(node, 0) == Some(code));
        let (scales_at, lookup) = scene.maker(input(node, slot)?)?;
        let scales = scene
            .constant(lookup, 0)
            .filter(|_| lookup.op == "Gather")?;
        let scale = scene.origin(lookup, 1);
        if scale.cast != Some(DType::I32) {
            return None;
        }
        let (reshape, end, mut nodes) = reshaped(scene, output(node)?)?;
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
