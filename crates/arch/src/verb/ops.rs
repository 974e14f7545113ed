//! What the verbs do to shapes: each a walk over the input, or a weaving of parts.

use crate::compute::{Dim, mxfp4_blocks, mxfp4_pack, mxfp4_scales, remap, reshape, weave};
use crate::error::ArchError;
use ir::{Result, Shape, Tensor};

pub(super) fn each(
    tensors: &[Tensor],
    work: impl Fn(&Tensor) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let done: Result<Vec<Vec<Tensor>>> = tensors.iter().map(work).collect();
    Ok(done?.into_iter().flatten().collect())
}

pub(crate) fn bad(tensor: &Tensor, wanted: impl Into<String>) -> ir::Error {
    ArchError::Shape {
        tensor: tensor.name.clone(),
        dtype: tensor.spec.dtype,
        shape: tensor.spec.shape.clone(),
        wanted: wanted.into(),
    }
    .into()
}

/// Dimensions before `dim`, the dimension, and those after, as sizes.
pub(super) fn around(tensor: &Tensor, dim: u64) -> Result<(usize, u64, u64, u64)> {
    let shape = &tensor.spec.shape;
    let at = usize::try_from(dim).unwrap_or(usize::MAX);
    let Some(size) = shape.get(at) else {
        return Err(bad(tensor, format!("a dimension {dim}")));
    };
    let product = |dims: &[u64]| dims.iter().fold(1u64, |all, n| all.saturating_mul(*n));
    let outer = product(shape.get(..at).unwrap_or(&[]));
    Ok((
        at,
        outer,
        *size,
        product(shape.get(at + 1..).unwrap_or(&[])),
    ))
}

pub(super) fn with_dim(shape: &Shape, at: usize, size: u64) -> Shape {
    let mut dims = shape.to_vec();
    if let Some(dim) = dims.get_mut(at) {
        *dim = size;
    }
    Shape::new(dims)
}

/// Rows as `[heads, 2, half]` to `[heads, half, 2]`, or the other way.
pub(super) fn permute(tensor: &Tensor, label: &str, heads: u64, there: bool) -> Result<Tensor> {
    let (_, _, rows, inner) = around(tensor, 0)?;
    let per = heads
        .checked_mul(2)
        .filter(|n| *n > 0 && rows.is_multiple_of(*n));
    let Some(per) = per else {
        return Err(bad(
            tensor,
            format!(
                "rows for {heads} heads of an even size (num_attention_heads, num_key_value_heads)"
            ),
        ));
    };
    let half = rows / per;
    let (pair, step) = (Dim::new(2, half * inner), Dim::new(half, inner));
    let head = Dim::new(heads, 2 * half * inner);
    let dims = if there {
        [head, step, pair, Dim::new(inner, 1)]
    } else {
        [
            head,
            Dim::new(2, inner),
            Dim::new(half, 2 * inner),
            Dim::new(inner, 1),
        ]
    };
    remap(tensor, label, 0, &dims, tensor.spec.shape.clone())
}

/// The first `rotary` rows of each head from pairs to halves; the rest of the head stays.
pub(super) fn rot_neox(tensor: &Tensor, heads: u64, rotary: u64, there: bool) -> Result<Tensor> {
    let (_, _, rows, _) = around(tensor, 0)?;
    if rotary == 0 {
        return Ok(tensor.clone());
    }
    if heads == 0
        || !rows.is_multiple_of(heads)
        || !rotary.is_multiple_of(2)
        || rotary > rows / heads
    {
        return Err(bad(
            tensor,
            format!("rows for {heads} heads with {rotary} rotary rows"),
        ));
    }
    let head = rows / heads;
    let parts = split_groups(tensor, heads, &[rotary, head - rotary])?;
    let [turned, rest] = parts.as_slice() else {
        return Err(bad(tensor, "two parts"));
    };
    let turned = permute(turned, "rot_neox", heads, !there)?;
    join_groups(vec![turned, rest.clone()], heads, &[rotary, head - rotary])
}

/// The last two dimensions swapped. Of a matrix that lies across blocks those are its blocks.
pub(crate) fn transpose(tensor: &Tensor) -> Result<Tensor> {
    if let Some(blocks) = tensor.blocks_across() {
        let name = tensor.name.clone();
        return Ok(Tensor {
            name,
            ..blocks.clone()
        });
    }
    let shape = &tensor.spec.shape;
    let [outer @ .., rows, columns] = &shape[..] else {
        return Err(bad(tensor, "at least two dimensions"));
    };
    let planes = outer.iter().fold(1u64, |all, n| all.saturating_mul(*n));
    let dims = [
        Dim::new(planes, rows.saturating_mul(*columns)),
        Dim::new(*columns, 1),
        Dim::new(*rows, *columns),
    ];
    let mut turned = outer.to_vec();
    turned.extend([*columns, *rows]);
    remap(tensor, "transpose", 0, &dims, turned)
}

pub(super) fn squeeze(tensor: &Tensor, dim: u64, away: bool) -> Result<Tensor> {
    let mut dims = tensor.spec.shape.to_vec();
    let at = usize::try_from(dim).unwrap_or(usize::MAX);
    if away && dims.get(at) == Some(&1) {
        dims.remove(at);
    } else if !away && at <= dims.len() {
        dims.insert(at, 1);
    } else if !away || dims.len() > at {
        return Err(bad(tensor, format!("a dimension {dim} of 1")));
    }
    reshape(tensor, dims)
}

pub(super) fn fold(tensor: &Tensor, outer: u64, there: bool) -> Result<Tensor> {
    let mut dims = tensor.spec.shape.to_vec();
    match dims.first().copied() {
        Some(rows) if there && outer > 0 && rows.is_multiple_of(outer) => {
            dims.splice(0..1, [outer, rows / outer]);
        }
        Some(first) if !there && dims.len() >= 2 => {
            let second = dims.get(1).copied().unwrap_or(1);
            dims.splice(0..2, [first.saturating_mul(second)]);
        }
        _ => return Err(bad(tensor, format!("rows in {outer} equal parts"))),
    }
    reshape(tensor, dims)
}

pub(super) fn cut(tensor: &Tensor, first: u64, rows: u64) -> Result<Tensor> {
    let (_, _, all, inner) = around(tensor, 0)?;
    // A vocabulary as large as the embedding cuts nothing.
    let rows = rows.min(all.saturating_sub(first));
    let dims = [Dim::new(rows.saturating_mul(inner), 1)];
    let shape = with_dim(&tensor.spec.shape, 0, rows);
    remap(
        tensor,
        "cut_rows",
        first.saturating_mul(inner),
        &dims,
        shape,
    )
}

pub(super) fn pad(tensor: &Tensor, rows: u64) -> Result<Tensor> {
    let (_, _, all, inner) = around(tensor, 0)?;
    let shape = with_dim(&tensor.spec.shape, 0, rows);
    let len =
        ir::TensorSpec::new(tensor.spec.dtype, shape.clone()).require_byte_len(&tensor.name)?;
    let zeros = vec![0u8; usize::try_from(len.min(1 << 28)).unwrap_or(0)];
    let view = ir::View::contiguous(ir::Region::memory(zeros));
    let zeros = Tensor::stored("zeros", ir::TensorSpec::new(tensor.spec.dtype, shape), view);
    let sizes = [rows.saturating_mul(inner), all.saturating_mul(inner)];
    let shape = with_dim(&tensor.spec.shape, 0, rows.saturating_add(all));
    weave(vec![zeros, tensor.clone()], "pad", &sizes, shape)
}

pub(super) fn split(tensor: &Tensor, label: &str, dim: u64, sizes: &[u64]) -> Result<Vec<Tensor>> {
    let (at, outer, all, inner) = around(tensor, dim)?;
    if sizes.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)) != Some(all) {
        return Err(bad(
            tensor,
            format!("parts of {sizes:?} along dimension {dim}"),
        ));
    }
    let mut start = 0;
    let parts = sizes.iter().map(|size| {
        let dims = [Dim::new(outer, all * inner), Dim::new(size * inner, 1)];
        let shape = with_dim(&tensor.spec.shape, at, *size);
        let part = remap(tensor, label, start * inner, &dims, shape);
        start += size;
        part
    });
    parts.collect()
}

pub(super) fn join(parts: Vec<Tensor>, label: &str, dim: u64, sizes: &[u64]) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        return Err(ArchError::Nothing {
            what: format!("nothing to {label}"),
        }
        .into());
    };
    let (at, _, _, inner) = around(first, dim)?;
    let shape = with_dim(&first.spec.shape, at, sizes.iter().sum());
    let sizes: Vec<u64> = sizes.iter().map(|n| n.saturating_mul(inner)).collect();
    weave(parts, label, &sizes, shape)
}

/// Rows in `groups` groups, each of `sizes` rows for the parts.
pub(super) fn split_groups(tensor: &Tensor, groups: u64, sizes: &[u64]) -> Result<Vec<Tensor>> {
    let (_, _, rows, inner) = around(tensor, 0)?;
    let group = sizes.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    if group.checked_mul(groups) != Some(rows) {
        return Err(bad(tensor, format!("{groups} groups of {sizes:?} rows")));
    }
    let mut start = 0;
    let parts = sizes.iter().map(|size| {
        let dims = [Dim::new(groups, group * inner), Dim::new(size * inner, 1)];
        let shape = with_dim(&tensor.spec.shape, 0, groups * size);
        let part = remap(tensor, "split_groups", start * inner, &dims, shape);
        start += size;
        part
    });
    parts.collect()
}

pub(super) fn join_groups(parts: Vec<Tensor>, groups: u64, sizes: &[u64]) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        return Err(ArchError::Nothing {
            what: "nothing to join".to_owned(),
        }
        .into());
    };
    let (_, _, _, inner) = around(first, 0)?;
    let rows = sizes.iter().sum::<u64>().saturating_mul(groups);
    let shape = with_dim(&first.spec.shape, 0, rows);
    // A part of no rows has nothing to weave.
    let used = parts.into_iter().zip(sizes).filter(|(_, n)| **n > 0);
    let (parts, sizes): (Vec<Tensor>, Vec<u64>) =
        used.map(|(p, n)| (p, n.saturating_mul(inner))).unzip();
    weave(parts, "join_groups", &sizes, shape)
}

pub(super) fn regroup(tensor: &Tensor, groups: u64, sizes: &[u64], there: bool) -> Result<Tensor> {
    if there {
        let parts = split_groups(tensor, groups, sizes)?;
        let rows: Vec<u64> = sizes.iter().map(|n| n * groups).collect();
        return join(parts, "regroup_qkv", 0, &rows);
    }
    let rows: Vec<u64> = sizes.iter().map(|n| n.saturating_mul(groups)).collect();
    join_groups(split(tensor, "split", 0, &rows)?, groups, sizes)
}

pub(super) fn tile_rows(tensor: &Tensor, skip: u64, a: u64, b: u64, inner: u64) -> Result<Tensor> {
    let (_, _, rows, columns) = around(tensor, 0)?;
    let tiled = a.checked_mul(b).and_then(|n| n.checked_mul(inner));
    if tiled.and_then(|n| n.checked_add(skip)) != Some(rows) {
        return Err(bad(
            tensor,
            format!("{skip} rows and {a} x {b} heads of {inner}"),
        ));
    }
    let parts = split(tensor, "tile_rows", 0, &[skip, rows - skip]).map(|parts| {
        let mut parts = parts.into_iter();
        (parts.next(), parts.next())
    })?;
    let (Some(kept), Some(heads)) = parts else {
        return Err(bad(tensor, "two parts"));
    };
    let head = inner * columns;
    let dims = [Dim::new(b, head), Dim::new(a, b * head), Dim::new(head, 1)];
    let turned = remap(&heads, "tile_rows", 0, &dims, heads.spec.shape.clone())?;
    if skip == 0 {
        return Ok(turned);
    }
    join(vec![kept, turned], "tile_rows", 0, &[skip, rows - skip])
}

pub(super) fn tile_columns(tensor: &Tensor, a: u64, b: u64, inner: u64) -> Result<Tensor> {
    let last = (tensor.spec.shape.len() as u64).saturating_sub(1);
    let (_, rows, columns, _) = around(tensor, last)?;
    if a.checked_mul(b).and_then(|n| n.checked_mul(inner)) != Some(columns) {
        return Err(bad(
            tensor,
            format!("columns for {a} x {b} heads of {inner}"),
        ));
    }
    let dims = [
        Dim::new(rows, columns),
        Dim::new(b, inner),
        Dim::new(a, b * inner),
        Dim::new(inner, 1),
    ];
    remap(tensor, "tile_columns", 0, &dims, tensor.spec.shape.clone())
}

pub(super) fn deal(tensor: &Tensor, dim: u64, parts: u64) -> Result<Vec<Tensor>> {
    let (at, outer, all, inner) = around(tensor, dim)?;
    if parts == 0 || !all.is_multiple_of(parts) {
        return Err(bad(
            tensor,
            format!("{parts} equal parts along dimension {dim}"),
        ));
    }
    let part = |which: u64| {
        let dims = [
            Dim::new(outer, all * inner),
            Dim::new(all / parts, parts * inner),
            Dim::new(inner, 1),
        ];
        let shape = with_dim(&tensor.spec.shape, at, all / parts);
        remap(tensor, "deal", which * inner, &dims, shape)
    };
    (0..parts).map(part).collect()
}

pub(super) fn shuffle(tensors: Vec<Tensor>, dim: u64, parts: u64) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        return Err(ArchError::Nothing {
            what: "nothing to shuffle".to_owned(),
        }
        .into());
    };
    let (at, _, size, inner) = around(first, dim)?;
    let shape = with_dim(&first.spec.shape, at, size.saturating_mul(parts));
    let sizes = vec![inner; tensors.len()];
    weave(tensors, "shuffle", &sizes, shape)
}

pub(super) fn split_kv_b(tensor: &Tensor, heads: u64, k: u64, v: u64) -> Result<Vec<Tensor>> {
    let rank = tensor.spec.shape.row_len();
    let parts = split_groups(tensor, heads, &[k, v])?;
    let [keys, values] = parts.as_slice() else {
        return Err(bad(tensor, "two parts"));
    };
    let keys = transpose(&reshape(keys, [heads, k, rank])?)?;
    Ok(vec![keys, reshape(values, [heads, v, rank])?])
}

pub(super) fn join_kv_b(parts: &[Tensor], heads: u64, k: u64, v: u64) -> Result<Tensor> {
    let [keys, values] = parts else {
        return Err(ArchError::Nothing {
            what: "k_b and v_b belong together".to_owned(),
        }
        .into());
    };
    let rank = values.spec.shape.row_len();
    let keys = reshape(&transpose(keys)?, [heads * k, rank])?;
    let values = reshape(values, [heads * v, rank])?;
    join_groups(vec![keys, values], heads, &[k, v])
}

pub(super) fn repack(tensors: &[Tensor], parts: u64) -> Result<Vec<Tensor>> {
    let [blocks, scales] = tensors else {
        return Err(ArchError::Nothing {
            what: "blocks and scales belong together".to_owned(),
        }
        .into());
    };
    if parts == 1 {
        return Ok(vec![mxfp4_pack(blocks, scales)?]);
    }
    // Rows of the parts take turns.
    let pairs = deal(blocks, 1, parts)?
        .into_iter()
        .zip(deal(scales, 1, parts)?);
    pairs
        .map(|(blocks, scales)| mxfp4_pack(&blocks, &scales))
        .collect()
}

pub(super) fn unpack(tensors: &[Tensor], parts: u64) -> Result<Vec<Tensor>> {
    let blocks: Result<Vec<Tensor>> = tensors.iter().map(mxfp4_blocks).collect();
    let scales: Result<Vec<Tensor>> = tensors.iter().map(mxfp4_scales).collect();
    Ok(vec![
        shuffle(blocks?, 1, parts)?,
        shuffle(scales?, 1, parts)?,
    ])
}
