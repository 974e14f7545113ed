//! Tensors whose numbers are those of their storage with signs turned: PyTorch saves the bits
//! `conj` and `neg` of a view instead of its values. And numbers of lists as bytes.

use ir::{Compute, DType, Object, Payload, Result, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

/// Which signs are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flip {
    /// Those of imaginary parts.
    Conjugate,
    /// All.
    Negative,
}

struct Flipped {
    inputs: [Tensor; 1],
    flip: Flip,
    /// Bytes of one real number.
    width: usize,
}

/// The tensor with its signs turned; `None` for numbers that have no sign bit.
pub(crate) fn flipped(tensor: Tensor, flip: Flip) -> Option<Payload> {
    let dtype = tensor.dtype();
    let real = match (flip, dtype.complex_part()) {
        (_, Some(part)) => part,
        // The conjugate of a real number is itself.
        (Flip::Conjugate, None) => return Some(tensor.payload),
        (Flip::Negative, None) => dtype,
    };
    if !matches!(real, DType::F64 | DType::F32 | DType::F16 | DType::BF16) {
        return None;
    }
    let width = usize::try_from(real.element_bytes()?).ok()?;
    Some(Payload::Computed(Arc::new(Flipped {
        inputs: [tensor],
        flip,
        width,
    })))
}

impl Compute for Flipped {
    fn spec(&self) -> &TensorSpec {
        let [input] = &self.inputs;
        &input.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &str {
        match self.flip {
            Flip::Conjugate => "conjugate",
            Flip::Negative => "negate",
        }
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.inputs;
        input.read(elements, out)?;
        let imaginary_only = self.flip == Flip::Conjugate;
        for (i, number) in out.chunks_exact_mut(self.width).enumerate() {
            if imaginary_only && i % 2 == 0 {
                continue;
            }
            // Little-endian: the sign is the top bit of the last byte.
            if let Some(top) = number.last_mut() {
                *top ^= 0x80;
            }
        }
        Ok(())
    }
}

/// Adds a Python number to `out` as an element of a plain type; `None` if it is none, or the
/// type is not one that lists of numbers were saved with.
pub(crate) fn encode(object: &Object, dtype: DType, out: &mut Vec<u8>) -> Option<()> {
    let float = super::numpy::number(object)?;
    let int = match *object {
        Object::Int(n) => Some(n),
        Object::Bool(b) => Some(b.into()),
        _ => None,
    };
    match dtype {
        DType::F64 => out.extend(float.to_le_bytes()),
        #[allow(clippy::cast_possible_truncation)] // rounding to f32 is what torch does
        DType::F32 => out.extend((float as f32).to_le_bytes()),
        DType::I64 => out.extend(int?.to_le_bytes()),
        DType::I32 => out.extend(i32::try_from(int?).ok()?.to_le_bytes()),
        DType::I16 => out.extend(i16::try_from(int?).ok()?.to_le_bytes()),
        DType::I8 => out.extend(i8::try_from(int?).ok()?.to_le_bytes()),
        DType::U8 | DType::Bool => out.extend(u8::try_from(int?).ok()?.to_le_bytes()),
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Region, View};

    #[test]
    fn signs_turn() {
        let bytes: Vec<u8> = [1f32, 2., -3., 4.]
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect();
        let tensor = Tensor::stored(
            "",
            TensorSpec::new(DType::C64, [2]),
            View::contiguous(Region::memory(bytes)),
        );
        let read = |flip| {
            let payload = flipped(tensor.clone(), flip).unwrap();
            let tensor = Tensor {
                payload,
                ..tensor.clone()
            };
            let bytes = tensor.read_all().unwrap();
            let floats = bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b));
            floats.collect::<Vec<_>>()
        };
        assert_eq!(read(Flip::Conjugate), [1., -2., -3., -4.]);
        assert_eq!(read(Flip::Negative), [-1., -2., 3., -4.]);
    }
}
