//! Elements of any type as `f64`, for those who look at values.

use crate::recipe::RecipeError;
use ir::{DType, Fault, Result, Tensor};
use std::ops::Range;

/// Whether the elements of a type are numbers that can be looked at.
pub(crate) fn readable(dtype: DType) -> bool {
    let integers = [
        DType::I64,
        DType::U64,
        DType::I32,
        DType::U32,
        DType::I16,
        DType::U16,
        DType::I8,
        DType::U8,
        DType::Bool,
    ];
    match dtype.complex_part().unwrap_or(dtype) {
        DType::Block(format) => quant::can_dequantize(format),
        plain => integers.contains(&plain) || quant::can_cast(plain, DType::F64),
    }
}

/// Reads elements of a tensor.
pub(crate) fn fill(tensor: &Tensor, range: Range<u64>, out: &mut Vec<u8>) -> Result<()> {
    let len = tensor
        .dtype()
        .byte_len(range.end - range.start)
        .unwrap_or(0);
    out.resize(usize::try_from(len).unwrap_or(usize::MAX), 0);
    tensor.read(range, out)
}

/// The values as `f64`, after rounding to `through` where asked.
pub(crate) fn numbers(
    dtype: DType,
    bytes: &[u8],
    through: Option<DType>,
    out: &mut Vec<f64>,
) -> Result<()> {
    fn ints<const N: usize>(bytes: &[u8], out: &mut Vec<f64>, value: impl Fn([u8; N]) -> f64) {
        out.extend(bytes.as_chunks::<N>().0.iter().map(|b| value(*b)));
    }
    out.clear();
    match dtype.complex_part().unwrap_or(dtype) {
        DType::I64 => ints(bytes, out, |b| i64::from_le_bytes(b) as f64),
        DType::U64 => ints(bytes, out, |b| u64::from_le_bytes(b) as f64),
        DType::I32 => ints(bytes, out, |b| i32::from_le_bytes(b).into()),
        DType::U32 => ints(bytes, out, |b| u32::from_le_bytes(b).into()),
        DType::I16 => ints(bytes, out, |b| i16::from_le_bytes(b).into()),
        DType::U16 => ints(bytes, out, |b| u16::from_le_bytes(b).into()),
        DType::I8 => ints(bytes, out, |b| i8::from_le_bytes(b).into()),
        DType::U8 | DType::Bool => ints(bytes, out, |[b]: [u8; 1]| b.into()),
        DType::Block(format) if quant::can_dequantize(format) => {
            let n = bytes.len() / format.bytes() as usize * format.elements() as usize;
            let mut values = vec![0.0f32; n];
            quant::dequantize(format, bytes, &mut values).map_err(RecipeError::Kernel)?;
            let plain: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            return numbers(DType::F32, &plain, through, out);
        }
        float if quant::can_cast(float, DType::F64) => {
            let mut stats = quant::CastStats::default();
            let mut rounded = Vec::new();
            let (from, bytes) = match through.filter(|to| *to != float) {
                Some(to) => {
                    let (per, width) = float.block();
                    let n = bytes.len() / width as usize * per as usize;
                    rounded.resize(n * to.element_bytes().unwrap_or(0) as usize, 0);
                    quant::cast(float, to, bytes, &mut rounded, &mut stats)
                        .map_err(crate::ConvertError::Cast)?;
                    (to, rounded.as_slice())
                }
                None => (float, bytes),
            };
            let (per, width) = from.block();
            let n = bytes.len() / width as usize * per as usize;
            let mut wide = vec![0; n * 8];
            quant::cast(from, DType::F64, bytes, &mut wide, &mut stats)
                .map_err(crate::ConvertError::Cast)?;
            out.extend(
                wide.as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b)),
            );
        }
        other => {
            return Err(Fault::Unsupported {
                what: format!("comparing values of {other}"),
            }
            .into());
        }
    }
    Ok(())
}
