//! NVFP4: numbers of four bits, a scale of eight for sixteen of them, and one
//! more for the tensor.
//!
//! | tensor | shape | holds |
//! |---|---|---|
//! | `weight_packed` | `[n, m / 2]` | two E2M1 a byte, the first in the low nibble |
//! | `weight_scale` | `[n, m / 16]` | E4M3, a scale for sixteen inputs |
//! | `weight_global_scale` | `[1]` | what the scales were multiplied by before rounding |
//!
//! A weight is `fp4 * (scale / global)`, in F32. Model Optimizer calls the codes `weight` and stores
//! the inverse of the last one, `weight_scale_2`: `fp4 * (scale * scale_2)`.

use crate::read::{FLOATS, expect, floats, matrix, misfit, size};
use crate::rows::{Rows, decoded};
use ir::{DType, Result, Tensor};
use std::ops::Range;

/// Numbers that share a scale.
const GROUP: u64 = 16;
/// The magnitudes of E2M1.
const E2M1: [f32; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

struct Nvfp4 {
    /// Nibbles, scales, the tensor's scale.
    inputs: [Tensor; 3],
    columns: u64,
    /// The last scale divides.
    divides: bool,
}

pub(crate) fn nvfp4(name: String, parts: [&Tensor; 3], divides: bool) -> Result<Tensor> {
    let [packed, scale, global] = parts;
    let [n, bytes] = matrix(packed)?;
    let columns = bytes.saturating_mul(2);
    expect(packed, &[DType::U8], &[n, bytes])?;
    expect(scale, &[DType::F8E4M3], &[n, columns / GROUP])?;
    if columns % GROUP != 0 {
        return Err(misfit(packed, "rows of whole groups of sixteen"));
    }
    if global.spec.elements() != Some(1) || !FLOATS.contains(&global.spec.dtype) {
        return Err(misfit(global, "one scale"));
    }
    let rows = Nvfp4 {
        inputs: parts.map(Clone::clone),
        columns,
        divides,
    };
    decoded(name, DType::F32, [n, columns], rows)
}

impl Rows for Nvfp4 {
    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "nvfp4"
    }

    fn rows(&self, rows: Range<u64>, out: &mut [f32]) -> Result<()> {
        let [packed, scale, global] = &self.inputs;
        let global = floats(global, 0..1)?.first().copied().unwrap_or(f32::NAN);
        let groups = self.columns / GROUP;
        let scales = floats(scale, rows.start * groups..rows.end * groups)?;
        let mut bytes = vec![0; out.len() / 2];
        let half = self.columns / 2;
        packed.read(rows.start * half..rows.end * half, &mut bytes)?;
        let parts = out
            .chunks_exact_mut(size(GROUP))
            .zip(bytes.chunks_exact(8))
            .zip(scales);
        for ((values, bytes), scale) in parts {
            let scale = if self.divides {
                scale / global
            } else {
                scale * global
            };
            for (pair, byte) in values.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
                *pair = [e2m1(byte & 15) * scale, e2m1(byte >> 4) * scale];
            }
        }
        Ok(())
    }
}

fn e2m1(nibble: u8) -> f32 {
    let magnitude = E2M1.get(usize::from(nibble & 7)).copied().unwrap_or(0.0);
    if nibble & 8 == 0 {
        magnitude
    } else {
        -magnitude
    }
}
