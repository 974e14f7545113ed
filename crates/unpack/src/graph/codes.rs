//! Codes of graphs as integers, and as ggml's blocks again.

use crate::UnpackError;
use crate::read::size;
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
        DType::I4 | DType::U4 | DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32
    )
}

/// Elements of a tensor of codes.
pub(super) fn integers(tensor: &Tensor, elements: Range<u64>) -> Result<Vec<i32>> {
    let dtype = tensor.dtype();
    let (wanted, bytes) = raw(tensor, elements)?;
    let list: Vec<i32> = match dtype {
        DType::I4 | DType::I8 => bytes.iter().map(|b| i32::from(b.cast_signed())).collect(),
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

/// Bytes of elements, nibbles with a byte each, and which of them were asked for.
fn raw(tensor: &Tensor, elements: Range<u64>) -> Result<(Range<usize>, Vec<u8>)> {
    let dtype = tensor.dtype();
    if dtype.block() != (2, 1) {
        let n = elements.end - elements.start;
        let mut bytes = vec![0; size(dtype.byte_len(n).unwrap_or(0))];
        tensor.read(elements, &mut bytes)?;
        return Ok((0..size(n), bytes));
    }
    let whole = tensor.spec.elements().unwrap_or(0);
    let from = elements.start - elements.start % 2;
    let until = elements.end.next_multiple_of(2).min(whole);
    let mut packed = vec![0; size(dtype.byte_len(until - from).unwrap_or(0))];
    tensor.read(from..until, &mut packed)?;
    let mut codes = vec![0; packed.len() * 2];
    unpack_nibbles(&packed, dtype == DType::I4, &mut codes);
    Ok((
        size(elements.start - from)..size(elements.end - from),
        codes,
    ))
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
