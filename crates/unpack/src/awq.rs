//! AWQ (`gemm` layout): codes of four bits, packed along the rows of the transposed weight.
//!
//! For a layer of `m` inputs and `n` outputs:
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `qweight` | `[m, n / 8]` | eight outputs a word |
//! | `qzeros` | `[groups, n / 8]` | their zero points, in the same order |
//! | `scales` | `[groups, n]` | a scale for each group and output |
//!
//! Within a word the outputs 0 to 7 lie at the nibbles 0, 4, 1, 5, 2, 6, 3, 7. A weight is
//! `(code - zero) * scale`.

use crate::read::{FLOATS, expect, float_columns, matrix, misfit, size, word_columns};
use crate::rows::{Rows, decoded};
use crate::settings::Settings;
use ir::{DType, Result, Tensor};
use std::ops::Range;

/// The nibble of each of a word's outputs.
const NIBBLE: [u32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

struct Awq {
    /// Codes, zero points, scales.
    inputs: [Tensor; 3],
    columns: u64,
    group_size: u64,
}

pub(crate) fn awq(
    name: String,
    [qweight, qzeros, scales]: [&Tensor; 3],
    settings: Settings<'_>,
) -> Result<Tensor> {
    let bits = if settings.get("bits").is_some() {
        "bits"
    } else {
        "w_bit"
    };
    settings.one_of(bits, &[4], "4")?;
    let version = settings.text("version").unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        return Err(settings.wrong("version", "gemm"));
    }
    let [columns, packed] = matrix(qweight)?;
    let n = packed.saturating_mul(8);
    let [groups, _] = matrix(scales)?;
    expect(qweight, &[DType::I32], &[columns, packed])?;
    expect(qzeros, &[DType::I32], &[groups, packed])?;
    expect(scales, FLOATS, &[groups, n])?;
    let key = if settings.get("group_size").is_some() {
        "group_size"
    } else {
        "q_group_size"
    };
    let group_size = settings.group_size(key)?.unwrap_or(columns).max(1);
    if columns.div_ceil(group_size) != groups {
        let wanted = format!("{} groups of {group_size}", columns.div_ceil(group_size));
        return Err(misfit(scales, wanted));
    }
    let rows = Awq {
        inputs: [qweight.clone(), qzeros.clone(), scales.clone()],
        columns,
        group_size,
    };
    decoded(name, DType::F32, [n, columns], rows)
}

impl Rows for Awq {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "awq"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let [qweight, qzeros, scales] = &self.inputs;
        let (first, last) = (rows.start / 8, rows.end.div_ceil(8));
        let width = size(last - first);
        let codes = word_columns(qweight, first..last)?;
        let zeros = word_columns(qzeros, first..last)?;
        let factors = float_columns(scales, rows.clone())?;
        let n = size(rows.end - rows.start);
        let share = size(self.group_size);
        let lines = rows.zip(out.chunks_exact_mut(size(self.columns)));
        for (place, (row, values)) in lines.enumerate() {
            let word = size(row / 8 - first);
            let shift = NIBBLE.get(size(row % 8)).map_or(0, |nibble| nibble * 4);
            let code = |words: &[u32], at: usize| {
                let word = words.get(at * width + word).copied().unwrap_or(0);
                ((word >> shift) & 15).cast_signed()
            };
            for (group, part) in values.chunks_mut(share).enumerate() {
                let zero = code(&zeros, group);
                let scale = factors.get(group * n + place).copied().unwrap_or(f32::NAN);
                for (i, value) in part.iter_mut().enumerate() {
                    #[allow(clippy::cast_precision_loss)] // at most 15
                    let number = (code(&codes, group * share + i) - zero) as f32;
                    *value = number * scale;
                }
            }
        }
        Ok(())
    }
}
