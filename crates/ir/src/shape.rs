//! Shapes, strides, and the spec of a tensor.

use crate::{DType, Fault, Result};
use std::fmt;
use std::ops::Deref;

/// Sizes of a tensor's dimensions, outermost first. Empty for a scalar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape(Vec<u64>);

impl Shape {
    /// A shape of these dimensions.
    pub fn new(dims: impl Into<Vec<u64>>) -> Self {
        Self(dims.into())
    }

    /// How many elements it holds, if that fits 64 bits. The other dimensions of an empty tensor
    /// must fit as well: loaders multiply them one by one, each in its own order.
    pub fn elements(&self) -> Option<u64> {
        let filled = self
            .0
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim.max(1)))?;
        Some(if self.0.contains(&0) { 0 } else { filled })
    }

    /// Strides in elements of a row-major tensor of this shape, `None` on overflow.
    pub fn row_major_strides(&self) -> Option<Strides> {
        let mut strides = vec![0; self.0.len()];
        let mut step = 1u64;
        for (stride, &dim) in strides.iter_mut().zip(&self.0).rev() {
            *stride = step;
            step = step.checked_mul(dim.max(1))?;
        }
        Some(Strides(strides))
    }

    /// The size of the last dimension: 1 for a scalar.
    pub fn row_len(&self) -> u64 {
        self.0.last().copied().unwrap_or(1)
    }
}

impl Deref for Shape {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

impl<const N: usize> From<[u64; N]> for Shape {
    fn from(dims: [u64; N]) -> Self {
        Self(dims.to_vec())
    }
}

impl From<Vec<u64>> for Shape {
    fn from(dims: Vec<u64>) -> Self {
        Self(dims)
    }
}

impl FromIterator<u64> for Shape {
    fn from_iter<I: IntoIterator<Item = u64>>(dims: I) -> Self {
        Self(dims.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    /// `[2, 3]`; `[]` for a scalar.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

/// Distance in elements between neighbours along each dimension, outermost first.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Strides(Vec<u64>);

impl Strides {
    /// Strides of these steps.
    pub fn new(steps: impl Into<Vec<u64>>) -> Self {
        Self(steps.into())
    }

    /// Whether a tensor of `shape` with these strides is its elements one after the other.
    /// Strides of dimensions of size 0 or 1 do not matter.
    pub fn is_row_major(&self, shape: &Shape) -> bool {
        if shape.contains(&0) {
            return true;
        }
        let mut step = Some(1u64);
        for (&stride, &dim) in self.0.iter().zip(shape.iter()).rev() {
            if dim != 1 && Some(stride) != step {
                return false;
            }
            step = step.and_then(|step| step.checked_mul(dim));
        }
        self.0.len() == shape.len()
    }

    /// Elements from the first to one past the last that a view of `shape` touches.
    pub fn extent(&self, shape: &Shape) -> Option<u64> {
        if shape.contains(&0) {
            return Some(0);
        }
        let last = self
            .0
            .iter()
            .zip(shape.iter())
            .try_fold(0u64, |last, (&stride, &dim)| {
                last.checked_add(stride.checked_mul(dim - 1)?)
            })?;
        last.checked_add(1)
    }
}

impl Deref for Strides {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.0
    }
}

/// What a tensor is, without its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorSpec {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl TensorSpec {
    /// A spec of this type and shape.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self {
            dtype,
            shape: shape.into(),
        }
    }

    /// Elements, if the count fits 64 bits.
    pub fn elements(&self) -> Option<u64> {
        self.shape.elements()
    }

    /// Exact size of the tensor's bytes. `None` where the numbers do not fit, where a block format's
    /// row is not whole blocks, or for strings, which have no fixed size.
    pub fn byte_len(&self) -> Option<u64> {
        self.checked_byte_len().ok()
    }

    /// The size, or why there is none.
    pub(crate) fn checked_byte_len(&self) -> Result<u64, &'static str> {
        let elements = self
            .elements()
            .ok_or("the number of elements does not fit 64 bits")?;
        let (per, bytes) = self.dtype.block();
        if bytes == 0 {
            return Err("strings have no fixed size");
        }
        let row = self.shape.row_len();
        if matches!(self.dtype, DType::Block(_)) && !row.is_multiple_of(u64::from(per)) {
            return Err("a row does not hold whole blocks");
        }
        self.dtype
            .byte_len(elements)
            .ok_or("the elements do not fill whole blocks, or are too many")
    }

    /// The size, with an error that names the tensor.
    pub fn require_byte_len(&self, name: &str) -> Result<u64> {
        self.checked_byte_len().map_err(|why| {
            Fault::BadSpec {
                name: name.to_owned(),
                dtype: self.dtype,
                shape: self.shape.clone(),
                why,
            }
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BlockFormat;

    #[test]
    fn counts_with_care() {
        assert_eq!(Shape::from([]).elements(), Some(1));
        assert_eq!(Shape::from([u64::MAX, 0]).elements(), Some(0));
        assert_eq!(Shape::from([1 << 62, 8, 0]).elements(), None);
        assert_eq!(Shape::from([u64::MAX, 2]).elements(), None);
    }

    #[test]
    fn row_major_ignores_strides_of_ones() {
        let strides = Strides::new([7, 1, 99]);
        assert!(strides.is_row_major(&Shape::from([1, 5, 1])));
        assert!(!strides.is_row_major(&Shape::from([2, 5, 1])));
        assert_eq!(Strides::new([1, 3]).extent(&Shape::from([3, 2])), Some(6));
        assert_eq!(Strides::new([u64::MAX]).extent(&Shape::from([3])), None);
    }

    #[test]
    fn blocks_fill_rows() {
        let q4 = DType::Block(BlockFormat::Q4_0);
        assert_eq!(TensorSpec::new(q4, [2, 64]).byte_len(), Some(72));
        assert_eq!(TensorSpec::new(q4, [64, 2]).byte_len(), None);
        assert_eq!(TensorSpec::new(DType::F4E2M1, [3]).byte_len(), Some(2));
        assert_eq!(TensorSpec::new(DType::F32, []).byte_len(), Some(4));
    }
}
