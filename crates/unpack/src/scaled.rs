//! Numbers of eight bits with scales: `fp8`, `fbgemm_fp8`, `modelopt`, compressed-tensors'
//! `float-quantized`, `int-quantized` and `naive-quantized`, and bitsandbytes in eight bits.
//!
//! A scale tensor is laid over the weight dimension by dimension, from the first one on: a
//! dimension of the scale is 1, or the weight's, or the number of blocks the weight's has. Missing
//! dimensions count as 1, so that `[rows]` is a scale for each row.

use crate::read::{floats, misfit, size};
use crate::rows::{Rows, decoded};
use ir::{DType, Result, Tensor};
use std::ops::Range;

/// How the scale is applied.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scaling {
    /// Rows and columns of a block; without it a scale is for all, a row, or each element.
    pub(crate) block: Option<[u64; 2]>,
    /// What a product is multiplied by again: bitsandbytes states the largest magnitude of a row.
    pub(crate) factor: Option<f32>,
}

/// One dimension of the scale.
#[derive(Clone, Copy, Debug)]
struct Axis {
    /// Length of the weight's dimension.
    len: u64,
    /// Elements of the weight that share a step.
    share: u64,
    /// Elements of the scale between steps.
    stride: u64,
}

struct Scaled {
    /// Weight, scale, and maybe the zero points.
    inputs: Vec<Tensor>,
    label: &'static str,
    /// All but the last.
    outer: Vec<Axis>,
    last: Axis,
    /// Elements of one row of scales.
    columns: u64,
    factor: Option<f32>,
}

/// The types of eight bits, and the plain floats that some layers of a quantized model keep.
fn is_number(dtype: DType) -> bool {
    dtype == DType::I8 || dtype == DType::U8 || quant::can_cast(dtype, DType::F32)
}

/// `weight * scale`, or `(weight - zero) * scale`.
pub(crate) fn scaled(
    label: &'static str,
    weight: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    scaling: Scaling,
) -> Result<Tensor> {
    if !is_number(weight.spec.dtype) {
        return Err(misfit(weight, "a number of 8 bits"));
    }
    let shape = &weight.spec.shape;
    let laid = axes(weight, scale, scaling.block)?;
    let Some((last, outer)) = laid.split_last() else {
        return Err(misfit(weight, "at least one dimension"));
    };
    let mut inputs = vec![weight.clone(), scale.clone()];
    if let Some(zero) = zero {
        if zero.spec.shape != scale.spec.shape || !is_number(zero.spec.dtype) {
            let wanted = format!("numbers of 8 bits of shape {}", scale.spec.shape);
            return Err(misfit(zero, wanted));
        }
        inputs.push(zero.clone());
    }
    let rows = Scaled {
        inputs,
        label,
        outer: outer.to_vec(),
        last: *last,
        columns: if last.stride == 0 {
            1
        } else {
            last.len.div_ceil(last.share)
        },
        factor: scaling.factor,
    };
    decoded(weight.name.clone(), DType::F32, shape.clone(), rows)
}

/// Lays the scale over the weight.
fn axes(weight: &Tensor, scale: &Tensor, block: Option<[u64; 2]>) -> Result<Vec<Axis>> {
    if !quant::can_cast(scale.spec.dtype, DType::F32) {
        return Err(misfit(scale, "a scale of a float type"));
    }
    let dims = &weight.spec.shape;
    let mut steps: Vec<u64> = scale.spec.shape.iter().copied().collect();
    // One scale for the whole tensor comes in any number of dimensions.
    if scale.spec.elements() == Some(1) {
        steps.clear();
    }
    let wrong = || {
        let blocks = block.map_or(String::new(), |b| format!(" in blocks of {b:?}"));
        misfit(
            scale,
            format!("a scale for {:?} of shape {dims}{blocks}", weight.name),
        )
    };
    if steps.len() > dims.len() {
        return Err(wrong());
    }
    steps.resize(dims.len(), 1);
    let mut axes = Vec::with_capacity(dims.len());
    let mut stride = 1u64;
    for (place, (&len, &n)) in dims.iter().zip(&steps).enumerate().rev() {
        // Blocks run along the last two dimensions.
        let from_end = dims.len() - 1 - place;
        let blocked = match (block, from_end) {
            (Some([_, columns]), 0) => columns,
            (Some([rows, _]), 1) => rows,
            _ => 1,
        };
        let share = if n == len.div_ceil(blocked) {
            blocked
        } else if n == 1 {
            len.max(1)
        } else {
            return Err(wrong());
        };
        axes.push(Axis {
            len,
            share,
            stride: if n == 1 { 0 } else { stride },
        });
        stride = stride.saturating_mul(n);
    }
    axes.reverse();
    Ok(axes)
}

impl Scaled {
    /// Where the scales of a row begin.
    fn scale_row(&self, mut row: u64) -> u64 {
        let mut at = 0u64;
        for axis in self.outer.iter().rev() {
            let len = axis.len.max(1);
            at += (row % len) / axis.share * axis.stride;
            row /= len;
        }
        at
    }
}

impl Rows for Scaled {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        self.label
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let (weight, scale, zero) = match &self.inputs[..] {
            [weight, scale] => (weight, scale, None),
            [weight, scale, zero] => (weight, scale, Some(zero)),
            _ => return Ok(()),
        };
        let columns = self.last.len;
        numbers(weight, rows.start * columns..rows.end * columns, out)?;
        let mut held = None;
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        for (row, values) in rows.zip(out.chunks_exact_mut(size(columns))) {
            let at = self.scale_row(row);
            if held != Some(at) {
                scales = floats(scale, at..at + self.columns)?;
                if let Some(zero) = zero {
                    zeros.resize(size(self.columns), 0.0);
                    numbers(zero, at..at + self.columns, &mut zeros)?;
                }
                held = Some(at);
            }
            for (place, part) in values.chunks_mut(size(self.last.share)).enumerate() {
                let scale = scales.get(place).copied().unwrap_or(f32::NAN);
                let zero = zeros.get(place).copied().unwrap_or(0.0);
                for value in part {
                    *value = (*value - zero) * scale;
                    if let Some(factor) = self.factor {
                        *value *= factor;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Elements of eight bits, or of a float type, as F32.
fn numbers(tensor: &Tensor, elements: Range<u64>, out: &mut [f32]) -> Result<()> {
    let signed = tensor.spec.dtype == DType::I8;
    if !signed && tensor.spec.dtype != DType::U8 {
        out.copy_from_slice(&floats(tensor, elements)?);
        return Ok(());
    }
    let mut bytes = vec![0; out.len()];
    tensor.read(elements, &mut bytes)?;
    for (value, byte) in out.iter_mut().zip(bytes) {
        *value = if signed {
            f32::from(byte.cast_signed())
        } else {
            f32::from(byte)
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{f32s, read, tensor};

    fn weight(shape: &[u64]) -> Tensor {
        let n: u64 = shape.iter().product();
        tensor(
            "w",
            DType::I8,
            shape,
            (0..n).map(|i| u8::try_from(i).unwrap()).collect(),
        )
    }

    #[test]
    fn scales_of_every_reach() {
        let scale = |shape: &[u64], values: &[f32]| tensor("s", DType::F32, shape, f32s(values));
        let make = |w: &Tensor, s: &Tensor, block| {
            let scaling = Scaling {
                block,
                factor: None,
            };
            scaled("fp8", w, s, None, scaling).map(|t| read(&t))
        };
        let w = weight(&[3, 2]);
        assert_eq!(
            make(&w, &scale(&[], &[2.0]), None).unwrap(),
            [0., 2., 4., 6., 8., 10.]
        );
        let rows = [0., 1., 20., 30., 400., 500.];
        assert_eq!(
            make(&w, &scale(&[3], &[1., 10., 100.]), None).unwrap(),
            rows
        );
        assert_eq!(
            make(&w, &scale(&[3, 1], &[1., 10., 100.]), None).unwrap(),
            rows
        );
        // Blocks of two rows and two columns; the last block is cut.
        let blocks = make(&w, &scale(&[2, 1], &[1., 10.]), Some([2, 2])).unwrap();
        assert_eq!(blocks, [0., 1., 2., 3., 40., 50.]);
        let blocks = make(&weight(&[2, 3]), &scale(&[1, 2], &[1., 10.]), Some([2, 2])).unwrap();
        assert_eq!(blocks, [0., 1., 20., 3., 4., 50.]);
        // Experts, each with blocks of its own.
        let experts = make(
            &weight(&[2, 2, 2]),
            &scale(&[2, 1, 1], &[1., 10.]),
            Some([2, 2]),
        );
        assert_eq!(experts.unwrap(), [0., 1., 2., 3., 40., 50., 60., 70.]);
        let error = make(&w, &scale(&[5], &[0.; 5]), None).unwrap_err();
        assert!(
            error.message().contains("a scale for \"w\""),
            "{}",
            error.message()
        );
    }

    #[test]
    fn zero_points_and_a_part_of_a_row() {
        let w = weight(&[2, 4]);
        let s = tensor("s", DType::F32, &[2, 1], f32s(&[1.0, 0.5]));
        let z = tensor("z", DType::I8, &[2, 1], vec![1, 254]);
        let t = scaled("int8", &w, &s, Some(&z), Scaling::default()).unwrap();
        assert_eq!(read(&t), [-1., 0., 1., 2., 3., 3.5, 4., 4.5]);
        let mut part = [0; 12];
        t.read(3..6, &mut part).unwrap();
        assert_eq!(part.to_vec(), f32s(&[2., 3., 3.5]));
    }
}
