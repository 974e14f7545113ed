//! compressed-tensors' `pack-quantized`: whole numbers in words of 32 bits.
//!
//! For a layer of `m` inputs and `n` outputs, with `k = 32 / bits` codes a word:
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `weight_packed` | `[n, ceil(m / k)]` | `k` inputs of an output a word, lowest bits first |
//! | `weight_shape` | `[2]` | `n`, `m` |
//! | `weight_scale` | `[n, groups]` | a scale for each output and group of inputs |
//! | `weight_zero_point` | `[ceil(n / k), groups]` | zero points, packed down the outputs |
//! | `weight_g_idx` | `[m]` | the group of each input, where activations gave the order |
//!
//! A weight is `(code - zero) * scale`; without zero points zero is the middle, `2^(bits - 1)`.

use crate::UnpackError;
use crate::bits::code;
use crate::read::{FLOATS, expect, floats, matrix, misfit, size, words};
use crate::rows::{Rows, decoded};
use crate::settings::Settings;
use ir::{DType, Result, Tensor};
use std::ops::Range;

pub(crate) struct Parts<'a> {
    pub(crate) packed: &'a Tensor,
    pub(crate) scale: &'a Tensor,
    pub(crate) shape: &'a Tensor,
    pub(crate) zero: Option<&'a Tensor>,
    pub(crate) g_idx: Option<&'a Tensor>,
}

struct Packed {
    words: Tensor,
    scale: Tensor,
    zero: Option<Tensor>,
    g_idx: Option<Tensor>,
    /// All of them, for whoever asks what this is made from.
    inputs: Vec<Tensor>,
    bits: u32,
    columns: u64,
    /// Words a row.
    across: u64,
    groups: u64,
    group_size: u64,
}

pub(crate) fn packed(name: String, parts: &Parts<'_>, settings: Settings<'_>) -> Result<Tensor> {
    let bits = settings.one_of("num_bits", &[2, 4, 8], "2, 4 or 8")?;
    let per = u64::from(32 / bits);
    let [n, columns] = logical_shape(parts.shape)?;
    let across = columns.div_ceil(per);
    expect(parts.packed, &[DType::I32], &[n, across])?;
    let [_, groups] = matrix(parts.scale)?;
    expect(parts.scale, FLOATS, &[n, groups])?;
    let group_size = settings.group_size("group_size")?.unwrap_or(columns).max(1);
    if columns.div_ceil(group_size) != groups {
        let wanted = format!("{} groups of {group_size}", columns.div_ceil(group_size));
        return Err(misfit(parts.scale, wanted));
    }
    if let Some(zero) = parts.zero {
        expect(zero, &[DType::I32], &[n.div_ceil(per), groups])?;
    }
    if let Some(g_idx) = parts.g_idx {
        expect(g_idx, &[DType::I32], &[columns])?;
    }
    let all = [
        Some(parts.packed),
        Some(parts.scale),
        parts.zero,
        parts.g_idx,
    ];
    let rows = Packed {
        words: parts.packed.clone(),
        scale: parts.scale.clone(),
        zero: parts.zero.cloned(),
        g_idx: parts.g_idx.cloned(),
        inputs: all.into_iter().flatten().cloned().collect(),
        bits,
        columns,
        across,
        groups,
        group_size,
    };
    decoded(name, DType::F32, [n, columns], rows)
}

/// The two numbers of `weight_shape`.
fn logical_shape(tensor: &Tensor) -> Result<[u64; 2]> {
    let bytes = match tensor.spec.dtype {
        DType::I64 if tensor.spec.shape[..] == [2] => tensor.read_all()?,
        DType::I32 if tensor.spec.shape[..] == [2] => {
            let words = words(tensor, 0..2)?;
            words
                .iter()
                .flat_map(|w| i64::from(w.cast_signed()).to_le_bytes())
                .collect()
        }
        _ => return Err(misfit(tensor, "two numbers of I64 or I32")),
    };
    let mut sizes = bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b));
    let mut size = || sizes.next().and_then(|n| u64::try_from(n).ok());
    if let (Some(rows), Some(columns)) = (size(), size()) {
        return Ok([rows, columns]);
    }
    let what = "a size below zero".to_owned();
    let tensor = tensor.name.clone();
    Err(UnpackError::Value { tensor, what }.into())
}

impl Packed {
    /// The group of each input.
    fn groups_of(&self) -> Result<Vec<usize>> {
        let in_order = || {
            (0..self.columns)
                .map(|i| size(i / self.group_size))
                .collect()
        };
        let Some(g_idx) = &self.g_idx else {
            return Ok(in_order());
        };
        let list = words(g_idx, 0..self.columns)?;
        // -1 is how its writers leave the list empty.
        if list.iter().all(|g| *g == u32::MAX) {
            return Ok(in_order());
        }
        if let Some(wrong) = list.iter().find(|g| u64::from(**g) >= self.groups) {
            let what = format!(
                "input of group {}, there are {}",
                wrong.cast_signed(),
                self.groups
            );
            let tensor = g_idx.name.clone();
            return Err(UnpackError::Value { tensor, what }.into());
        }
        Ok(list.into_iter().map(|g| size(u64::from(g))).collect())
    }
}

impl Rows for Packed {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "pack-quantized"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let (across, groups) = (size(self.across), size(self.groups));
        let codes = words(
            &self.words,
            rows.start * self.across..rows.end * self.across,
        )?;
        let scales = floats(
            &self.scale,
            rows.start * self.groups..rows.end * self.groups,
        )?;
        let per = u64::from(32 / self.bits);
        let first = rows.start / per;
        // Zero points are packed down the rows: a word holds those of `per` outputs.
        let zeros = match &self.zero {
            Some(zero) => {
                let last = rows.end.div_ceil(per);
                Some(words(zero, first * self.groups..last * self.groups)?)
            }
            None => None,
        };
        let group_of = self.groups_of()?;
        let step = self.bits as usize;
        let middle = 1i32 << (self.bits - 1);
        let lines = rows.zip(out.chunks_exact_mut(size(self.columns)));
        for (place, (row, values)) in lines.enumerate() {
            let word = |w: usize| codes.get(place * across + w).copied().unwrap_or(0);
            let zero = |group: usize| match &zeros {
                None => middle,
                Some(zeros) => {
                    let at = size(row / per - first) * groups + group;
                    let word = zeros.get(at).copied().unwrap_or(0);
                    code(|_| word, size(row % per) * step, self.bits)
                }
            };
            for (i, (value, group)) in values.iter_mut().zip(&group_of).enumerate() {
                let scale = scales
                    .get(place * groups + group)
                    .copied()
                    .unwrap_or(f32::NAN);
                #[allow(clippy::cast_precision_loss)] // at most 255
                let number = (code(word, i * step, self.bits) - zero(*group)) as f32;
                *value = number * scale;
            }
        }
        Ok(())
    }
}
