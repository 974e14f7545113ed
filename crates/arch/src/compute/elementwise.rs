//! Arithmetic on each element: norms stored with one added, decays stored negated.

use super::floats::{f32_to_f16, to_f32};
use super::{misfit, size, with_scratch};
use ir::{Compute, DType, Result, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

/// What happens to each element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Op {
    /// `x + c`
    Add(f32),
    /// `-exp(x)`
    NegExp,
    /// `ln(-x)`, the way back
    LogNeg,
}

impl Op {
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Add(c) => x + c,
            Self::NegExp => -exp(x),
            Self::LogNeg => (-x).ln(),
        }
    }
}

/// e to the power of `x`, rounded once. torch's vector library rounds about one value in fifty the
/// other way, and differently by processor: the one place where our values may differ from the
/// reference converter's, in the last bit.
#[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

struct Elementwise {
    spec: TensorSpec,
    input: [Tensor; 1],
    label: String,
    op: Op,
}

/// `op` on each element of `input`. The result is F32, but F16 stays F16: the reference
/// converter reckons in the type it read, and BF16 is read as F32.
pub(crate) fn elementwise(input: &Tensor, label: &str, op: Op) -> Result<Tensor> {
    let dtype = match input.spec.dtype {
        DType::F16 => DType::F16,
        DType::F32 | DType::BF16 | DType::F64 => DType::F32,
        _ => return Err(misfit(input, format!("a plain float type to {label}"))),
    };
    let spec = TensorSpec {
        dtype,
        shape: input.spec.shape.clone(),
    };
    Ok(Tensor::computed(
        input.name.clone(),
        Arc::new(Elementwise {
            spec,
            input: [input.clone()],
            label: label.to_owned(),
            op,
        }),
    ))
}

impl Compute for Elementwise {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let from = input.spec.dtype;
        let width = size(u64::from(from.element_bytes().unwrap_or(1)));
        let len = size(from.byte_len(elements.end - elements.start).unwrap_or(0));
        with_scratch(len, |bytes| {
            input.read(elements, bytes)?;
            let wide = self.spec.dtype == DType::F32;
            let slots = out.chunks_exact_mut(if wide { 4 } else { 2 });
            for (value, slot) in bytes.chunks_exact(width).zip(slots) {
                let result = self.op.apply(to_f32(from, value).unwrap_or(f32::NAN));
                if wide {
                    slot.copy_from_slice(&result.to_le_bytes());
                } else {
                    slot.copy_from_slice(&f32_to_f16(result).to_le_bytes());
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::constant;

    #[test]
    fn adds_and_takes_back() {
        let input = constant("n", &[-0.5, 0.25, 0.0]);
        let more = elementwise(&input, "add_one", Op::Add(1.0)).unwrap();
        let back = elementwise(&more, "sub_one", Op::Add(-1.0)).unwrap();
        assert_eq!(more.read_all().unwrap()[..4], 0.5f32.to_le_bytes());
        assert_eq!(back.read_all().unwrap(), input.read_all().unwrap());
        let decay = elementwise(&input, "neg_exp", Op::NegExp).unwrap();
        assert_eq!(decay.read_all().unwrap()[8..], (-1.0f32).to_le_bytes());
    }
}
