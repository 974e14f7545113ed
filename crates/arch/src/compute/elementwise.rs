//! Arithmetic on each element: norms stored with one added, decays stored negated.

use super::floats::{f16_to_f32, f32_to_f16, to_f32};
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
    /// `ln(-x)`, the way back: see [`decay`].
    LogNeg,
    /// The same for halves.
    LogNegHalf,
}

impl Op {
    fn apply(self, x: f32) -> f32 {
        match self {
            Self::Add(c) => x + c,
            Self::NegExp => -exp(x),
            Self::LogNeg => log_neg(x).0,
            Self::LogNegHalf => log_neg_half(x).0,
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

/// The logarithm of `-x` whose `exp` is `-x` again, bit for bit, and whether there is one: of 16 bits
/// if that will do, else near the rounded one. From about one on, not every number is the `exp` of
/// an F32.
#[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
fn log_neg(x: f32) -> (f32, bool) {
    const STEPS: usize = 4;
    let near = f64::from(-x).ln() as f32;
    let up = std::iter::successors(Some(near), |x| Some(x.next_up()));
    let down = std::iter::successors(Some(near), |x| Some(x.next_down()));
    let around = up.zip(down).take(STEPS + 1);
    let mut all = std::iter::once(to_16_bits(near)).chain(around.flat_map(|(a, b)| [a, b]));
    let found = all.find(|log| exp(*log).to_bits() == (-x).to_bits());
    (found.unwrap_or(near), found.is_some())
}

/// The nearest bfloat16, ties to even.
fn to_16_bits(x: f32) -> f32 {
    let bits = x.to_bits();
    let even = (bits >> 16) & 1;
    let rounded = bits.checked_add(0x7fff + even).unwrap_or(bits);
    f32::from_bits(rounded & 0xffff_0000)
}

/// [`log_neg`] of halves whose `exp` was rounded to a half.
#[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
fn log_neg_half(x: f32) -> (f32, bool) {
    let wanted = f32_to_f16(-x);
    let near = f32_to_f16(f64::from(-x).ln() as f32);
    let fits = |bits: &u16| f32_to_f16(exp(f16_to_f32(*bits))) == wanted;
    let whole = f16_to_f32(wanted).to_bits() == (-x).to_bits();
    let around = [near, near.saturating_add(1), near.saturating_sub(1)];
    let found = around.into_iter().find(fits).filter(|_| whole);
    (f16_to_f32(found.unwrap_or(near)), found.is_some())
}

/// The way back from `-exp(x)`, so that going there again gives the same bits: in F32, or in halves
/// where these were what a file had. Also how many elements of it do not.
pub(crate) fn decay(input: &Tensor) -> Result<(Tensor, usize)> {
    let whole = |op| elementwise(input, "log_neg", op);
    let small = input.spec.elements().is_some_and(|n| n <= DECAYS);
    if input.spec.dtype != DType::F32 || !small {
        return Ok((whole(Op::LogNeg)?, 0));
    }
    let bytes = input.read_all()?;
    let numbers = || bytes.chunks_exact(4).filter_map(|b| to_f32(DType::F32, b));
    let misses = numbers().filter(|x| !log_neg(*x).1).count();
    if misses > 0 && numbers().all(|x| log_neg_half(x).1) {
        return Ok((whole(Op::LogNegHalf)?, 0));
    }
    Ok((whole(Op::LogNeg)?, misses))
}

/// Most decays of a block that are looked at before they are written. Real ones have some hundred
/// thousand.
const DECAYS: u64 = 1 << 24;

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
        _ if op == Op::LogNegHalf => DType::F16,
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

    #[test]
    fn a_decay_comes_back_to_the_same_bits() {
        let there_again = |logs: &Tensor| {
            let there = elementwise(logs, "neg_exp", Op::NegExp).unwrap();
            let (back, misses) = decay(&there).unwrap();
            let again = elementwise(&back, "neg_exp", Op::NegExp).unwrap();
            (
                there.read_all().unwrap() == again.read_all().unwrap(),
                misses,
                back,
            )
        };
        let range: Vec<f32> = (-4000i16..4000).map(|n| f32::from(n) * 0.001_37).collect();
        let logs = constant("a", &range);
        let (same, misses, _) = there_again(&logs);
        assert!(same && misses == 0);
        // What was bfloat16 is so again.
        let short: Vec<f32> = range.iter().map(|x| to_16_bits(*x)).collect();
        let (same, misses, back) = there_again(&constant("a", &short));
        assert!(same && misses == 0);
        let bits = |t: &Tensor| t.read_all().unwrap();
        let alike = bits(&back) == bits(&constant("a", &short));
        assert!(alike);
    }

    #[test]
    fn halves_come_back_as_halves() {
        let logs: Vec<f32> = (1..=16)
            .map(|n| f16_to_f32(f32_to_f16((n as f32).ln())))
            .collect();
        let decays: Vec<f32> = logs
            .iter()
            .map(|x| f16_to_f32(f32_to_f16(-exp(*x))))
            .collect();
        let (back, misses) = decay(&constant("a", &decays)).unwrap();
        assert_eq!((back.spec.dtype, misses), (DType::F16, 0));
        let again = elementwise(&back, "neg_exp", Op::NegExp).unwrap();
        let again = again.read_all().unwrap();
        let halves = again.chunks_exact(2).filter_map(|b| to_f32(DType::F16, b));
        assert_eq!(halves.collect::<Vec<_>>(), decays);
        // What no logarithm gives is told.
        let (_, misses) = decay(&constant("a", &[-1e4, -1.000_1e4, -1.000_2e4])).unwrap();
        assert!(misses > 0);
    }
}
