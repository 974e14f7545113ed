//! Models made in memory, for tests and for tools that start from nothing.

use crate::{
    Compute, DType, Limits, MetaValue, Model, Region, Result, Shape, Tensor, TensorSpec, View,
};
use std::ops::Range;
use std::sync::Arc;

/// Builds a model tensor by tensor; errors are kept until [`ModelBuilder::build`].
#[derive(Debug, Default)]
pub struct ModelBuilder {
    model: Model,
    failed: Option<crate::Error>,
}

impl ModelBuilder {
    /// An empty model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor of these little-endian, row-major bytes.
    #[must_use]
    pub fn tensor(
        self,
        name: &str,
        dtype: DType,
        shape: impl Into<Shape>,
        bytes: impl Into<bytes::Bytes>,
    ) -> Self {
        let view = View::contiguous(Region::memory(bytes));
        self.push(Tensor::stored(name, TensorSpec::new(dtype, shape), view))
    }

    /// Adds any tensor.
    #[must_use]
    pub fn push(mut self, tensor: Tensor) -> Self {
        if let Err(error) = self.model.tensors.push(tensor) {
            self.failed.get_or_insert(error);
        }
        self
    }

    /// Sets a metadata value.
    #[must_use]
    pub fn metadata(mut self, namespace: &'static str, key: &str, value: MetaValue) -> Self {
        self.model.metadata.set(namespace, key, value);
        self
    }

    /// The model, validated.
    pub fn build(self) -> Result<Model> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.model.validate(&Limits::default())?;
        Ok(self.model)
    }
}

/// A tensor of any size whose bytes follow from their place: byte `i` is the low byte of
/// `i * 2654435761 >> 16`. For tests of memory and speed, where the data must cost nothing.
#[derive(Debug)]
pub struct PatternCompute {
    spec: TensorSpec,
}

impl PatternCompute {
    /// A pattern of this spec.
    pub fn tensor(name: &str, dtype: DType, shape: impl Into<Shape>) -> Tensor {
        Tensor::computed(
            name,
            Arc::new(Self {
                spec: TensorSpec::new(dtype, shape),
            }),
        )
    }

    /// The byte at a place.
    pub fn byte(i: u64) -> u8 {
        i.wrapping_mul(2_654_435_761).to_le_bytes()[2]
    }
}

impl Compute for PatternCompute {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &[]
    }

    fn label(&self) -> &'static str {
        "pattern"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let start = self.spec.dtype.byte_len(elements.start).unwrap_or(0);
        for (i, byte) in (start..).zip(out) {
            *byte = Self::byte(i);
        }
        Ok(())
    }
}
