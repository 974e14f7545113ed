//! `(code - zero) * scale` as `DequantizeLinear` has it: a scale for all, for each slice of an
//! axis, or for each block along it.

use super::codes::{Codes, integers, is_code, is_real};
use crate::read::{floats, misfit, size};
use crate::rows::store;
use ir::{Compute, DType, Result, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

/// Elements computed at a time.
const STEP: u64 = 64 << 10;

/// How scales are laid over codes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Laid {
    pub(super) axis: usize,
    /// Elements along the axis that share a scale; 0 for all of a slice.
    pub(super) block: u64,
}

struct Affine {
    spec: TensorSpec,
    /// Codes, scale, and maybe the zero points.
    inputs: Vec<Tensor>,
    /// Elements along the axis, and behind it.
    along: u64,
    inner: u64,
    /// Elements along the axis that share a scale.
    share: u64,
    /// Steps between scales: of an outer slice, of a share, of an inner element.
    steps: [u64; 3],
}

/// The numbers of codes; `None` where the parts do not fit each other.
pub(super) fn affine(
    name: &str,
    parts: [Option<&Tensor>; 3],
    laid: Laid,
    dtype: DType,
) -> Option<Tensor> {
    let [Some(codes), Some(scale), zero] = parts else {
        return None;
    };
    if !is_code(codes.dtype()) || !quant::can_cast(scale.dtype(), DType::F32) {
        return None;
    }
    if zero.is_some_and(|zero| {
        !is_code(zero.dtype())
            || is_real(zero.dtype()) != is_real(codes.dtype())
            || zero.spec.elements() != scale.spec.elements()
    }) {
        return None;
    }
    let dims = &codes.spec.shape;
    let product = |dims: &[u64]| dims.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let (along, inner) = if dims.is_empty() {
        (1, 1)
    } else {
        (*dims.get(laid.axis)?, product(dims.get(laid.axis + 1..)?)?)
    };
    let (share, steps) = if scale.spec.elements() == Some(1) {
        (along.max(1), [0; 3])
    } else if laid.block == 0 {
        if scale.spec.shape[..] != [along] {
            return None;
        }
        (1, [0, 1, 0])
    } else {
        let mut wanted = dims.to_vec();
        *wanted.get_mut(laid.axis)? = along.div_ceil(laid.block);
        if scale.spec.shape[..] != wanted[..] {
            return None;
        }
        let outer = along.div_ceil(laid.block).checked_mul(inner)?;
        (laid.block, [outer, inner, 1])
    };
    let inputs = [Some(codes), Some(scale), zero];
    let spec = TensorSpec {
        dtype,
        shape: dims.clone(),
    };
    // Nothing below can overflow.
    TensorSpec {
        dtype: DType::F64,
        ..spec.clone()
    }
    .byte_len()?;
    let compute = Affine {
        spec,
        inputs: inputs.into_iter().flatten().cloned().collect(),
        along: along.max(1),
        inner: inner.max(1),
        share,
        steps,
    };
    Some(Tensor::computed(name, Arc::new(compute)))
}

impl Affine {
    fn place(&self, element: u64) -> [u64; 3] {
        let row = element / self.inner;
        [row / self.along, row % self.along, element % self.inner]
    }

    fn scale_at(&self, [outer, along, inner]: [u64; 3]) -> u64 {
        let [a, b, c] = self.steps;
        outer * a + along / self.share * b + inner * c
    }

    /// Where a chunk ends, so that its scales are few: within one slice of a long axis, and within
    /// one run of a long inner dimension.
    fn end(&self, at: u64, end: u64) -> u64 {
        let slice = self.inner.saturating_mul(self.along);
        let unit = if self.inner >= STEP {
            self.inner
        } else if slice >= STEP {
            slice
        } else {
            u64::MAX
        };
        let next = (at / unit).saturating_add(1).saturating_mul(unit);
        end.min(at.saturating_add(STEP)).min(next)
    }

    /// Which scales a chunk needs.
    fn scales_of(&self, elements: &Range<u64>) -> Range<u64> {
        let (mut first, mut last) = (self.place(elements.start), self.place(elements.end - 1));
        if first[..2] != last[..2] {
            (first[2], last[2]) = (0, self.inner - 1);
        }
        if first[0] != last[0] {
            (first[1], last[1]) = (0, self.along - 1);
        }
        self.scale_at(first)..self.scale_at(last) + 1
    }

    fn part(&self, elements: &Range<u64>, out: &mut [f32]) -> Result<()> {
        let (codes, scale, zero) = match &self.inputs[..] {
            [codes, scale] => (codes, scale, None),
            [codes, scale, zero] => (codes, scale, Some(zero)),
            _ => return Ok(()),
        };
        let needed = self.scales_of(elements);
        let low = needed.start;
        let scales = floats(scale, needed.clone())?;
        let zeros = match zero {
            Some(zero) => Some(Codes::read(zero, needed)?),
            None => None,
        };
        let codes = Codes::read(codes, elements.clone())?;
        let mut at = elements.start;
        let mut rest = out.iter_mut().enumerate();
        while at < elements.end {
            let place = self.place(at);
            let (run, step) = if self.inner == 1 {
                let [_, along, _] = place;
                let run = (self.share - along % self.share).min(self.along - along);
                (run, 0)
            } else {
                (self.inner - place[2], self.steps[2])
            };
            let run = run.min(elements.end - at);
            let mut from = size(self.scale_at(place).saturating_sub(low));
            for _ in 0..run {
                let Some((place, value)) = rest.next() else {
                    return Ok(());
                };
                let scale = scales.get(from).copied().unwrap_or(f32::NAN);
                let zero = zeros.as_ref().map(|zeros| (zeros, from));
                *value = codes.steps(place, zero) * scale;
                from += size(step);
            }
            at += run;
        }
        Ok(())
    }
}

impl Compute for Affine {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "DequantizeLinear"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let unit = u64::from(self.spec.dtype.element_bytes().unwrap_or(4));
        let (mut at, mut out) = (elements.start, out);
        let mut values = Vec::new();
        while at < elements.end {
            let end = self.end(at, elements.end);
            values.clear();
            values.resize(size(end - at), 0.0);
            self.part(&(at..end), &mut values)?;
            let (here, rest) = std::mem::take(&mut out).split_at_mut(size((end - at) * unit));
            store(self.spec.dtype, &values, here)?;
            (at, out) = (end, rest);
        }
        Ok(())
    }
}

/// The weight of `MatMulNBits`: rows of codes without gaps, in blocks along the row.
struct NBits {
    spec: TensorSpec,
    /// Codes, scales, and maybe the zero points, or the block that each column's scale is of.
    inputs: Vec<Tensor>,
    grouped: bool,
    columns: u64,
    blocks: u64,
    block: u64,
    bits: u64,
}

fn packed(
    name: &str,
    parts: [Option<&Tensor>; 3],
    [rows, columns]: [u64; 2],
    bits: u64,
    block: u64,
) -> Result<Option<NBits>> {
    let [Some(codes), Some(scale), zero] = parts else {
        return Ok(None);
    };
    let known = matches!(bits, 2 | 4 | 8) && block >= 16 && block.is_power_of_two();
    if !known || codes.dtype() != DType::U8 || !quant::can_cast(scale.dtype(), DType::F32) {
        return Ok(None);
    }
    let dtype = match scale.dtype() {
        half @ (DType::F16 | DType::BF16) => half,
        _ => DType::F32,
    };
    let spec = TensorSpec::new(dtype, [rows, columns]);
    TensorSpec {
        dtype: DType::F64,
        ..spec.clone()
    }
    .require_byte_len(name)?;
    let blocks = columns.div_ceil(block);
    let expect = |tensor: &Tensor, n: Option<u64>| {
        if tensor.spec.elements() == n && n.is_some() {
            return Ok(());
        }
        let wanted =
            format!("what belongs to {rows} x {columns} codes of {bits} bits in blocks of {block}");
        Err(misfit(tensor, wanted))
    };
    let each = rows.checked_mul(blocks);
    expect(codes, each.and_then(|n| n.checked_mul(block / 8 * bits)))?;
    expect(scale, each)?;
    if let Some(zero) = zero {
        let n = match zero.dtype() {
            DType::U8 => rows.checked_mul((blocks * bits).div_ceil(8)),
            _ => each,
        };
        expect(zero, n)?;
    }
    let inputs = [Some(codes), Some(scale), zero];
    let compute = NBits {
        spec,
        inputs: inputs.into_iter().flatten().cloned().collect(),
        columns,
        blocks,
        block,
        bits,
        grouped: false,
    };
    Ok(Some(compute))
}

/// What `MatMulNBits` multiplies by, `[N, K]` as a linear layer has it.
pub(super) fn nbits(
    name: &str,
    parts: [Option<&Tensor>; 3],
    shape: [u64; 2],
    bits: u64,
    block: u64,
) -> Result<Option<Tensor>> {
    let made = packed(name, parts, shape, bits, block)?;
    Ok(made.map(|made| Tensor::computed(name, Arc::new(made))))
}

/// The same where `groups` (`g_idx`) tells the block that each column's scale is of: 4 bits without
/// zero points, since onnxruntime takes others for something else, or not at all.
pub(super) fn grouped(
    name: &str,
    [codes, scale, groups]: [Option<&Tensor>; 3],
    shape: [u64; 2],
    bits: u64,
    block: u64,
) -> Result<Option<Tensor>> {
    let Some(groups) = groups.filter(|t| t.dtype() == DType::I32 && bits == 4) else {
        return Ok(None);
    };
    let Some(mut made) = packed(name, [codes, scale, None], shape, bits, block)? else {
        return Ok(None);
    };
    let told = groups.spec.elements().unwrap_or(0);
    if told != made.columns && Some(told) != made.blocks.checked_mul(block) {
        let wanted = format!("a block for each of {} columns", made.columns);
        return Err(misfit(groups, wanted));
    }
    made.inputs.push(groups.clone());
    made.grouped = true;
    Ok(Some(Tensor::computed(name, Arc::new(made))))
}

/// Code `i` of codes without gaps, the first in the low bits.
fn field(bytes: &[u8], i: u64, bits: u64) -> u8 {
    let byte = bytes.get(size(i * bits / 8)).copied().unwrap_or(0);
    if bits == 8 {
        return byte;
    }
    byte >> (i * bits % 8) & ((1 << bits) - 1)
}

impl NBits {
    /// Columns of one row.
    fn part(&self, row: u64, columns: Range<u64>, out: &mut [f32]) -> Result<()> {
        let (codes, scale, zero) = match &self.inputs[..] {
            [codes, scale] => (codes, scale, None),
            [codes, scale, other] => (codes, scale, Some(other)),
            _ => return Ok(()),
        };
        let (groups, zero) = if self.grouped {
            (zero, None)
        } else {
            (None, zero)
        };
        let bits = self.bits;
        let row_len = self.blocks * (self.block / 8 * bits);
        let first = columns.start * bits / 8;
        let last = (columns.end * bits).div_ceil(8);
        let mut bytes = vec![0; size(last - first)];
        codes.read(row * row_len + first..row * row_len + last, &mut bytes)?;
        let groups = match groups {
            Some(groups) => Some((groups, integers(groups, columns.clone())?)),
            None => None,
        };
        let blocks = if groups.is_some() {
            0..self.blocks
        } else {
            columns.start / self.block..columns.end.div_ceil(self.block)
        };
        let scales = floats(
            scale,
            row * self.blocks + blocks.start..row * self.blocks + blocks.end,
        )?;
        let middle = f32::from(1u8 << (bits - 1).min(7));
        let zeros: Vec<f32> = match zero {
            None => vec![middle; scales.len()],
            Some(zero) if zero.dtype() == DType::U8 => {
                let len = (self.blocks * bits).div_ceil(8);
                let from = blocks.start * bits / 8;
                let until = (blocks.end * bits).div_ceil(8);
                let mut packed = vec![0; size(until - from)];
                zero.read(row * len + from..row * len + until, &mut packed)?;
                let skipped = from * 8 / bits;
                blocks
                    .clone()
                    .map(|b| f32::from(field(&packed, b - skipped, bits)))
                    .collect()
            }
            Some(zero) => floats(
                zero,
                row * self.blocks + blocks.start..row * self.blocks + blocks.end,
            )?,
        };
        let skipped = first * 8 / bits;
        let start = columns.start;
        for (column, value) in columns.zip(out) {
            let block = match &groups {
                None => size(column / self.block - blocks.start),
                Some((tensor, list)) => list
                    .get(size(column - start))
                    .and_then(|group| usize::try_from(*group).ok())
                    .filter(|group| *group < scales.len())
                    .ok_or_else(|| {
                        let wanted = format!("a block below {} at column {column}", self.blocks);
                        misfit(tensor, wanted)
                    })?,
            };
            let zero = zeros.get(block).copied().unwrap_or(middle);
            let scale = scales.get(block).copied().unwrap_or(f32::NAN);
            *value = (f32::from(field(&bytes, column - skipped, bits)) - zero) * scale;
        }
        Ok(())
    }
}

impl Compute for NBits {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "MatMulNBits"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let unit = u64::from(self.spec.dtype.element_bytes().unwrap_or(4));
        let (mut at, mut out) = (elements.start, out);
        let mut values = Vec::new();
        while at < elements.end {
            let (row, column) = (at / self.columns, at % self.columns);
            let n = (self.columns - column).min(elements.end - at).min(STEP);
            values.clear();
            values.resize(size(n), 0.0);
            self.part(row, column..column + n, &mut values)?;
            let (here, rest) = std::mem::take(&mut out).split_at_mut(size(n * unit));
            store(self.spec.dtype, &values, here)?;
            (at, out) = (at + n, rest);
        }
        Ok(())
    }
}
