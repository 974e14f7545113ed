//! BitNet: weights of -1, 0 and 1, four a byte.
//!
//! A byte of row `r` holds rows `r`, `r + n`, `r + 2n` and `r + 3n` of the weight, where `n` is the
//! number of packed rows: two bits each, lowest first, one more than the weight. `weight_scale` is
//! the inverse of the scale.

use crate::read::{FLOATS, floats, matrix, misfit, size};
use crate::rows::{Rows, decoded};
use ir::{DType, Result, Tensor};
use std::ops::Range;

struct Bitnet {
    inputs: [Tensor; 2],
    packed: u64,
    columns: u64,
}

pub(crate) fn bitnet(weight: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let [packed, columns] = matrix(weight)?;
    if !matches!(weight.spec.dtype, DType::U8 | DType::I8) {
        return Err(misfit(weight, "bytes"));
    }
    if scale.spec.elements() != Some(1) || !FLOATS.contains(&scale.spec.dtype) {
        return Err(misfit(scale, "one scale"));
    }
    let shape = [packed.saturating_mul(4), columns];
    let rows = Bitnet {
        inputs: [weight.clone(), scale.clone()],
        packed: packed.max(1),
        columns,
    };
    decoded(weight.name.clone(), DType::F32, shape, rows)
}

impl Rows for Bitnet {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "bitnet"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let [weight, scale] = &self.inputs;
        let scale = floats(scale, 0..1)?.first().copied().unwrap_or(f32::NAN);
        let mut bytes = vec![0; size(self.columns)];
        for (row, values) in rows.zip(out.chunks_exact_mut(size(self.columns))) {
            let at = row % self.packed * self.columns;
            weight.read(at..at + self.columns, &mut bytes)?;
            let shift = row / self.packed * 2;
            for (value, byte) in values.iter_mut().zip(&bytes) {
                *value = (f32::from((byte >> shift) & 3) - 1.0) / scale;
            }
        }
        Ok(())
    }
}
