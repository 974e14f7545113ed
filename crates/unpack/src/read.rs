//! Small reads of parts: a column slice, a few rows, a whole short vector.

use crate::UnpackError;
use ir::{DType, Result, Tensor};
use quant::CastStats;
use std::ops::Range;

/// A size in memory; ranges come from the pump, whose buffers are far below the limit.
pub(crate) fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// The error for a part of another type or shape than the method's.
pub(crate) fn misfit(tensor: &Tensor, wanted: impl Into<String>) -> ir::Error {
    UnpackError::Part {
        tensor: tensor.name.clone(),
        dtype: tensor.spec.dtype,
        shape: tensor.spec.shape.clone(),
        wanted: wanted.into(),
    }
    .into()
}

/// Rows and columns of a matrix.
pub(crate) fn matrix(tensor: &Tensor) -> Result<[u64; 2]> {
    match &tensor.spec.shape[..] {
        [rows, columns] => Ok([*rows, *columns]),
        _ => Err(misfit(tensor, "two dimensions")),
    }
}

/// Checks that a part is of one of `types` and of `shape`.
pub(crate) fn expect(tensor: &Tensor, types: &[DType], shape: &[u64]) -> Result<()> {
    if types.contains(&tensor.spec.dtype) && tensor.spec.shape[..] == *shape {
        return Ok(());
    }
    let types: Vec<String> = types.iter().map(ToString::to_string).collect();
    Err(misfit(
        tensor,
        format!("{} of shape {shape:?}", types.join(" or ")),
    ))
}

/// The types a scale may have.
pub(crate) const FLOATS: &[DType] = &[DType::F32, DType::F16, DType::BF16, DType::F64];

/// Elements of a tensor of floats, as F32.
pub(crate) fn floats(tensor: &Tensor, elements: Range<u64>) -> Result<Vec<f32>> {
    let n = size(elements.end - elements.start);
    let from = tensor.spec.dtype;
    let mut bytes = vec![0; size(from.byte_len(n as u64).unwrap_or(0))];
    tensor.read(elements, &mut bytes)?;
    if from != DType::F32 {
        let mut wide = vec![0; n * 4];
        let mut stats = CastStats::default();
        if quant::cast(from, DType::F32, &bytes, &mut wide, &mut stats).is_err() {
            return Err(misfit(tensor, "a float type"));
        }
        bytes = wide;
    }
    Ok(bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect())
}

/// The same of a matrix, for some of its columns: all rows of them, one after the other.
pub(crate) fn float_columns(tensor: &Tensor, columns: Range<u64>) -> Result<Vec<f32>> {
    let [rows, width] = matrix(tensor)?;
    let mut all = Vec::with_capacity(size(rows.saturating_mul(columns.end - columns.start)));
    for row in 0..rows {
        all.extend(floats(
            tensor,
            row * width + columns.start..row * width + columns.end,
        )?);
    }
    Ok(all)
}

/// 32 bit words.
pub(crate) fn words(tensor: &Tensor, elements: Range<u64>) -> Result<Vec<u32>> {
    let mut out = vec![0; size(elements.end - elements.start)];
    words_into(tensor, elements, &mut out)?;
    Ok(out)
}

/// Some columns of a matrix of 32 bit words, all rows of them one after the other.
pub(crate) fn word_columns(tensor: &Tensor, columns: Range<u64>) -> Result<Vec<u32>> {
    let [rows, width] = matrix(tensor)?;
    let n = size(columns.end - columns.start);
    let mut all = vec![0; n.saturating_mul(size(rows))];
    for (row, part) in (0..rows).zip(all.chunks_exact_mut(n.max(1))) {
        words_into(
            tensor,
            row * width + columns.start..row * width + columns.end,
            part,
        )?;
    }
    Ok(all)
}

fn words_into(tensor: &Tensor, elements: Range<u64>, out: &mut [u32]) -> Result<()> {
    let mut bytes = vec![0; out.len() * 4];
    tensor.read(elements, &mut bytes)?;
    for (word, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    Ok(())
}
