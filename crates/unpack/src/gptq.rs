//! GPTQ: codes of 2, 3, 4 or 8 bits, packed down the columns of the transposed weight.
//!
//! For a layer of `m` inputs and `n` outputs, with 32 bits a word:
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `qweight` | `[m * bits / 32, n]` | input `i` of output `o`: code `i` of column `o` |
//! | `qzeros` | `[groups, n * bits / 32]` | output `o` of group `g`: code `o` of row `g` |
//! | `scales` | `[groups, n]` | a scale for each group and output |
//! | `g_idx` | `[m]` | the group of each input; in order of size without it |
//!
//! A weight is `scales[g, o] * (code - zero)`, where the zero point is one more than its code
//! unless `checkpoint_format` is `gptq_v2`: the first writers stored it so.

use crate::UnpackError;
use crate::bits::code;
use crate::read::{FLOATS, expect, float_columns, matrix, misfit, size, word_columns, words};
use crate::rows::{Rows, decoded};
use crate::settings::Settings;
use ir::{DType, Result, Tensor};
use std::ops::Range;

pub(crate) struct Parts<'a> {
    pub(crate) qweight: &'a Tensor,
    pub(crate) qzeros: &'a Tensor,
    pub(crate) scales: &'a Tensor,
    pub(crate) g_idx: Option<&'a Tensor>,
}

struct Gptq {
    /// Codes, zero points, scales, and maybe the groups.
    inputs: Vec<Tensor>,
    bits: u32,
    /// 1 where a zero point is one more than its code.
    more: i32,
    columns: u64,
    groups: u64,
    /// Inputs a group, for checkpoints that do not list the groups.
    group_size: u64,
}

pub(crate) fn gptq(name: String, parts: &Parts<'_>, settings: Settings<'_>) -> Result<Tensor> {
    let bits = settings.one_of("bits", &[2, 3, 4, 8], "2, 3, 4 or 8")?;
    let [packed, n] = matrix(parts.qweight)?;
    let columns = packed.saturating_mul(32) / u64::from(bits);
    let [groups, _] = matrix(parts.scales)?;
    // 32 codes of three bits fill three words: a count that leaves a rest is not whole.
    if (packed * 32) % u64::from(bits) != 0 || parts.qweight.spec.dtype != DType::I32 {
        return Err(misfit(
            parts.qweight,
            format!("words of I32 with whole codes of {bits} bits"),
        ));
    }
    if groups == 0 {
        return Err(misfit(parts.scales, "at least one group"));
    }
    let across = n.saturating_mul(u64::from(bits)).div_ceil(32);
    expect(parts.qzeros, &[DType::I32], &[groups, across])?;
    expect(parts.scales, FLOATS, &[groups, n])?;
    let mut inputs = vec![
        parts.qweight.clone(),
        parts.qzeros.clone(),
        parts.scales.clone(),
    ];
    if let Some(g_idx) = parts.g_idx {
        expect(g_idx, &[DType::I32], &[columns])?;
        inputs.push(g_idx.clone());
    }
    let group_size = settings.group_size("group_size")?.unwrap_or(columns).max(1);
    if parts.g_idx.is_none() && columns.div_ceil(group_size) != groups {
        let wanted = format!("{} groups of {group_size}", columns.div_ceil(group_size));
        return Err(misfit(parts.scales, wanted));
    }
    let second = match settings.text("checkpoint_format").unwrap_or("gptq") {
        "gptq" => false,
        "gptq_v2" => true,
        _ => return Err(settings.wrong("checkpoint_format", "gptq or gptq_v2")),
    };
    let rows = Gptq {
        inputs,
        bits,
        more: i32::from(!second),
        columns,
        groups,
        group_size,
    };
    decoded(name, DType::F32, [n, columns], rows)
}

impl Gptq {
    /// The group of each input.
    fn groups_of(&self) -> Result<Vec<usize>> {
        let Some(g_idx) = self.inputs.get(3) else {
            return Ok((0..self.columns)
                .map(|i| size(i / self.group_size))
                .collect());
        };
        let list = words(g_idx, 0..self.columns)?;
        if let Some(wrong) = list.iter().find(|g| u64::from(**g) >= self.groups) {
            let what = format!("input of group {wrong}, there are {}", self.groups);
            let tensor = g_idx.name.clone();
            return Err(UnpackError::Value { tensor, what }.into());
        }
        Ok(list.into_iter().map(|g| size(u64::from(g))).collect())
    }
}

impl Rows for Gptq {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "gptq"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let [qweight, qzeros, scales, ..] = &self.inputs[..] else {
            return Ok(());
        };
        let (n, bits) = (size(rows.end - rows.start), u64::from(self.bits));
        let codes = word_columns(qweight, rows.clone())?;
        let factors = float_columns(scales, rows.clone())?;
        // The words in which the zero points of these outputs lie, and the bit they begin at.
        let first = rows.start * bits / 32;
        let last = (rows.end * bits).div_ceil(32);
        let packed = word_columns(qzeros, first..last)?;
        let (width, skip) = (size(last - first), size(rows.start * bits - first * 32));
        let step = size(bits);
        let groups = self.groups_of()?;
        let zero = |group: usize, row: usize| {
            let word = |w: usize| packed.get(group * width + w).copied().unwrap_or(0);
            code(word, skip + row * step, self.bits)
        };
        let mut points = vec![0.0f32; size(self.groups)];
        for (row, values) in out.chunks_exact_mut(size(self.columns)).enumerate() {
            #[allow(clippy::cast_precision_loss)] // at most 256
            for (group, point) in points.iter_mut().enumerate() {
                *point = (zero(group, row) + self.more) as f32;
            }
            let word = |w: usize| codes.get(w * n + row).copied().unwrap_or(0);
            for (i, (value, group)) in values.iter_mut().zip(&groups).enumerate() {
                #[allow(clippy::cast_precision_loss)] // at most 255
                let number = code(word, i * step, self.bits) as f32;
                let scale = factors.get(group * n + row).copied().unwrap_or(f32::NAN);
                let point = points.get(*group).copied().unwrap_or(f32::NAN);
                *value = scale * (number - point);
            }
        }
        Ok(())
    }
}
