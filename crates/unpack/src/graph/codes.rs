//! Codes of graphs as integers, and as ggml's blocks again.

use crate::UnpackError;
use crate::read::{floats, size};
use ir::{Compute, DType, Result, Shape, Tensor, TensorSpec};
use quant::{PER_BLOCK, PartLayout, unpack_nibbles};
use std::ops::Range;
use std::sync::Arc;

/// Elements put together, or looked at, at a time.
pub(super) const STEP: u64 = 64 << 10;

/// Whether codes may be of this type.
pub(super) fn is_code(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::I2
            | DType::U2
            | DType::I4
            | DType::U4
            | DType::I8
            | DType::U8
            | DType::I16
            | DType::U16
            | DType::I32
    ) || is_real(dtype)
}

/// Whether codes of this type are floats.
pub(super) fn is_real(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F8E4M3 | DType::F8E4M3Fnuz | DType::F8E5M2 | DType::F8E5M2Fnuz | DType::F4E2M1
    )
}

/// Elements of a tensor of codes, or of their zero points.
pub(super) enum Codes {
    Whole(Vec<i32>),
    Real(Vec<f32>),
}

impl Codes {
    pub(super) fn read(tensor: &Tensor, elements: Range<u64>) -> Result<Self> {
        let dtype = tensor.dtype();
        if !is_real(dtype) {
            return integers(tensor, elements).map(Self::Whole);
        }
        let (around, wanted) = units(tensor, &elements);
        let list = floats(tensor, around)?;
        let list = list.get(wanted).unwrap_or_default();
        Ok(Self::Real(list.to_vec()))
    }

    /// What a code stands for in steps of its scale.
    pub(super) fn steps(&self, at: usize, zeros: Option<(&Self, usize)>) -> f32 {
        match self {
            Self::Whole(list) => {
                let zero = match zeros {
                    Some((Self::Whole(zeros), at)) => zeros.get(at).copied().unwrap_or(0),
                    _ => 0,
                };
                let code = list.get(at).copied().unwrap_or(0);
                #[allow(clippy::cast_precision_loss)] // as the runtime does it
                let steps = code.wrapping_sub(zero) as f32;
                steps
            }
            Self::Real(list) => {
                let code = list.get(at).copied().unwrap_or(f32::NAN);
                match zeros {
                    Some((Self::Real(zeros), at)) => code - zeros.get(at).copied().unwrap_or(0.0),
                    _ => code,
                }
            }
        }
    }
}

/// The elements that fill bytes around some, and where those are among them.
fn units(tensor: &Tensor, elements: &Range<u64>) -> (Range<u64>, Range<usize>) {
    let per = u64::from(tensor.dtype().block().0).max(1);
    let whole = tensor.spec.elements().unwrap_or(0);
    let from = elements.start - elements.start % per;
    let until = elements.end.next_multiple_of(per).min(whole);
    (
        from..until,
        size(elements.start - from)..size(elements.end - from),
    )
}

/// Elements of a tensor of codes.
pub(super) fn integers(tensor: &Tensor, elements: Range<u64>) -> Result<Vec<i32>> {
    let dtype = tensor.dtype();
    let (wanted, bytes) = raw(tensor, elements)?;
    let list: Vec<i32> = match dtype {
        DType::I2 | DType::I4 | DType::I8 => {
            bytes.iter().map(|b| i32::from(b.cast_signed())).collect()
        }
        DType::I16 => {
            let pairs = bytes.as_chunks().0.iter();
            pairs.map(|b| i32::from(i16::from_le_bytes(*b))).collect()
        }
        DType::U16 => {
            let pairs = bytes.as_chunks().0.iter();
            pairs.map(|b| i32::from(u16::from_le_bytes(*b))).collect()
        }
        DType::I32 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|b| i32::from_le_bytes(*b))
            .collect(),
        _ => bytes.iter().map(|b| i32::from(*b)).collect(),
    };
    Ok(list.get(wanted).unwrap_or_default().to_vec())
}

/// Bytes of elements, codes of less than eight bits with a byte each, and which of them were asked for.
fn raw(tensor: &Tensor, elements: Range<u64>) -> Result<(Range<usize>, Vec<u8>)> {
    let dtype = tensor.dtype();
    let (per, _) = dtype.block();
    if per == 1 {
        let n = elements.end - elements.start;
        let mut bytes = vec![0; size(dtype.byte_len(n).unwrap_or(0))];
        tensor.read(elements, &mut bytes)?;
        return Ok((0..size(n), bytes));
    }
    let (around, wanted) = units(tensor, &elements);
    let len = dtype.byte_len(around.end - around.start).unwrap_or(0);
    let mut packed = vec![0; size(len)];
    tensor.read(around, &mut packed)?;
    let mut codes = vec![0; packed.len().saturating_mul(size(u64::from(per)))];
    if per == 2 {
        unpack_nibbles(&packed, dtype == DType::I4, &mut codes);
    } else {
        quarters(&packed, dtype == DType::I2, &mut codes);
    }
    Ok((wanted, codes))
}

/// Codes of two bits, from the lowest on; with a sign where they have one.
fn quarters(bytes: &[u8], signed: bool, out: &mut [u8]) {
    for (byte, four) in bytes.iter().zip(out.chunks_mut(4)) {
        for (slot, shift) in four.iter_mut().zip([0, 2, 4, 6]) {
            let code = byte >> shift & 3;
            *slot = if signed {
                (code ^ 2).wrapping_sub(2)
            } else {
                code
            };
        }
    }
}

struct Joined {
    spec: TensorSpec,
    /// Codes, scales, and maybe minima.
    inputs: Vec<Tensor>,
    layout: PartLayout,
}

/// The blocks of these parts; `None` where they do not fit each other.
pub(super) fn joined(
    name: &str,
    dtype: DType,
    shape: Shape,
    [codes, scale, min]: [Option<&Tensor>; 3],
) -> Option<Tensor> {
    let DType::Block(format) = dtype else {
        return None;
    };
    let layout = PartLayout::of(format)?;
    let spec = TensorSpec { dtype, shape };
    spec.byte_len()?;
    let elements = spec.elements()?;
    let (codes, scale) = (codes?, scale?);
    let row = spec.shape.last().copied()?;
    let per = PER_BLOCK as u64;
    let small = matches!(codes.dtype(), DType::I4 | DType::U4);
    let signed = matches!(codes.dtype(), DType::I4 | DType::I8);
    let bytes = matches!(codes.dtype(), DType::I8 | DType::U8);
    let wanted = if layout.scale == 1 {
        DType::U8
    } else {
        DType::F16
    };
    let fits = (small && layout.bits == 4 || bytes)
        && signed == layout.signed()
        && codes.spec.elements() == Some(elements)
        && row.is_multiple_of(per)
        && scale.dtype() == wanted
        && scale.spec.elements() == Some(elements / per)
        && min.is_some() == (layout.min > 0)
        && min.is_none_or(|min| {
            min.dtype() == DType::F16 && min.spec.elements() == Some(elements / per)
        });
    if !fits {
        return None;
    }
    let inputs = [Some(codes), Some(scale), min];
    let compute = Joined {
        spec,
        inputs: inputs.into_iter().flatten().cloned().collect(),
        layout,
    };
    Some(Tensor::computed(name, Arc::new(compute)))
}

impl Compute for Joined {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "blocks of codes and scales"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let per = PER_BLOCK as u64;
        let (mut at, mut out) = (elements.start, out);
        while at < elements.end {
            let end = elements.end.min(at - at % STEP + STEP);
            let len = self.spec.dtype.byte_len(end - at).unwrap_or(0);
            let (here, rest) = std::mem::take(&mut out).split_at_mut(size(len));
            let mut parts: [Vec<u8>; 3] = Default::default();
            for (i, (slot, tensor)) in parts.iter_mut().zip(&self.inputs).enumerate() {
                let range = if i == 0 { at..end } else { at / per..end / per };
                (_, *slot) = raw(tensor, range)?;
            }
            let [codes, scales, mins] = &parts;
            if let Some(place) = self.layout.join(codes, scales, mins, here) {
                let what = format!(
                    "code {} of element {} has no place in {}",
                    codes.get(place).copied().unwrap_or(0),
                    at + place as u64,
                    self.spec.dtype
                );
                let tensor = self
                    .inputs
                    .first()
                    .map_or(String::new(), |t| t.name.clone());
                return Err(UnpackError::Value { tensor, what }.into());
            }
            (at, out) = (end, rest);
        }
        Ok(())
    }
}
