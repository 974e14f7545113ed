//! ggml's blocks, as they are written into graphs here.

use super::codes::{STEP, integers, joined};
use super::find::{Found, Place, weight_name};
use super::scene::{Origin, Scene, count, input, output};
use ir::{AttributeValue, BlockFormat, DType, Node, Result, Shape, Tensor, TensorId, ValueId};
use quant::{MXFP4_VALUES, PER_BLOCK, mxfp4_scales};
use std::ops::RangeInclusive;

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
    let usual = match noted {
        Some(dtype) => Some(dtype),
        None if chain.mxfp4 => Some(DType::Block(BlockFormat::MXFP4)),
        None => usual(own, chain.min.is_some())?.map(DType::Block),
    };
    let Some(dtype) = usual else {
        return Ok(None);
    };
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

/// The type of blocks that has such codes.
///
/// Codes of a byte are of eight bits, of five, or of the four that onnxruntime looks up no rows of:
/// each type's own codes reach further than the smaller one's, as the largest number of a block has
/// the outermost.
fn usual(codes: &Tensor, min: bool) -> Result<Option<BlockFormat>> {
    let format = match (codes.dtype(), min) {
        (DType::I4, false) => BlockFormat::Q4_0,
        (DType::U4, true) => BlockFormat::Q4_1,
        (DType::I8, false) => match reach(codes, -16..=15)? {
            // Nothing but zeros.
            Some((0, 0)) | None => BlockFormat::Q8_0,
            Some((low, high)) if low >= -8 && high < 8 => BlockFormat::Q4_0,
            Some(_) => BlockFormat::Q5_0,
        },
        (DType::U8, true) => match reach(codes, 0..=31)? {
            Some((_, high)) if high < 16 => BlockFormat::Q4_1,
            Some(_) => BlockFormat::Q5_1,
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(format))
}

/// The smallest and the largest code; none as soon as one is beyond `most`.
fn reach(codes: &Tensor, most: RangeInclusive<i32>) -> Result<Option<(i32, i32)>> {
    let (mut low, mut high) = (0, 0);
    let elements = codes.spec.elements().unwrap_or(0);
    let mut at = 0;
    while at < elements {
        let end = elements.min(at.saturating_add(STEP));
        for code in integers(codes, at..end)? {
            if !most.contains(&code) {
                return Ok(None);
            }
            (low, high) = (low.min(code), high.max(code));
        }
        at = end;
    }
    Ok(Some((low, high)))
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
pub(super) fn is_shape(scene: &Scene<'_>, end: ValueId, shape: &Shape) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::tensor;

    #[test]
    fn codes_of_a_byte_are_told_by_how_far_they_reach() {
        let told = |dtype, codes: [i8; 2], min| {
            let bytes = codes.iter().map(|code| code.cast_unsigned());
            // Beyond what is looked at at once, too.
            let mut all = vec![0; 70_000];
            all.splice(69_998.., bytes);
            usual(&tensor("w", dtype, &[70_000], all), min).unwrap()
        };
        let signed = |codes| told(DType::I8, codes, false);
        assert_eq!(signed([-8, 7]), Some(BlockFormat::Q4_0));
        for codes in [[-9, 0], [0, 8], [-16, 15]] {
            assert_eq!(signed(codes), Some(BlockFormat::Q5_0), "{codes:?}");
        }
        for codes in [[0, 0], [-17, 0], [0, 16], [127, -127]] {
            assert_eq!(signed(codes), Some(BlockFormat::Q8_0), "{codes:?}");
        }
        let unsigned = |codes| told(DType::U8, codes, true);
        assert_eq!(unsigned([15, 0]), Some(BlockFormat::Q4_1));
        assert_eq!(unsigned([16, 31]), Some(BlockFormat::Q5_1));
        assert_eq!(unsigned([0, 32]), None);
        assert_eq!(told(DType::I8, [1, 1], true), None);
        assert_eq!(told(DType::U8, [1, 1], false), None);
    }
}
