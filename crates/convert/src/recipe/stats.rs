//! What quantizing costs, tensor by tensor.

use super::RecipeError;
use super::scratch::size;
use ir::{DType, Result};
use quant::CastStats;
use std::sync::{Arc, Mutex};

/// What a tensor lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TensorError {
    /// Elements compared.
    pub elements: u64,
    /// Sum of squared differences.
    pub squared_error: f64,
    /// Sum of squared values before.
    pub squared: f64,
    /// The largest difference.
    pub max: f32,
}

impl TensorError {
    /// Root of the mean squared difference.
    pub fn rmse(&self) -> f64 {
        (self.squared_error / self.elements.max(1) as f64).sqrt()
    }

    /// The difference relative to the values, both as roots of mean squares; 0 for all zeros.
    pub fn relative(&self) -> f64 {
        if self.squared > 0.0 {
            (self.squared_error / self.squared).sqrt()
        } else {
            0.0
        }
    }

    fn add(&mut self, before: f32, after: f32) {
        let difference = f64::from(before) - f64::from(after);
        self.squared_error += difference * difference;
        self.squared += f64::from(before) * f64::from(before);
        self.max = self.max.max((before - after).abs());
        self.elements += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.elements += other.elements;
        self.squared_error += other.squared_error;
        self.squared += other.squared;
        self.max = self.max.max(other.max);
    }
}

/// A tensor's error, filled while it is pulled.
pub(crate) type SharedError = Arc<Mutex<TensorError>>;

/// Adds the differences between numbers of `from` and what was made of them.
pub(crate) fn compare(
    from: DType,
    src: &[u8],
    to: DType,
    made: &[u8],
    numbers: &mut Vec<f32>,
    error: &mut TensorError,
) -> Result<()> {
    let (per, bytes) = to.block();
    let n = made.len() / (bytes as usize).max(1) * per as usize;
    numbers.resize(n * 2, 0.0);
    let (before, after) = numbers.split_at_mut(n);
    to_numbers(from, src, before)?;
    to_numbers(to, made, after)?;
    for (before, after) in before.iter().zip(after.iter()) {
        error.add(*before, *after);
    }
    Ok(())
}

/// Floats or blocks as numbers.
fn to_numbers(dtype: DType, bytes: &[u8], numbers: &mut [f32]) -> Result<()> {
    if let DType::Block(format) = dtype {
        return Ok(quant::dequantize(format, bytes, numbers).map_err(RecipeError::Kernel)?);
    }
    let mut plain = vec![0; size(numbers.len() as u64 * 4)];
    let mut stats = CastStats::default();
    quant::cast(dtype, DType::F32, bytes, &mut plain, &mut stats)
        .map_err(crate::ConvertError::Cast)?;
    for (number, bytes) in numbers.iter_mut().zip(plain.as_chunks::<4>().0) {
        *number = f32::from_le_bytes(*bytes);
    }
    Ok(())
}
