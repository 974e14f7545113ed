//! The few float casts the verbs need. Whole tensors are cast by `quant`; this is only for
//! arithmetic on norms and other small vectors.

use ir::DType;

/// The number stored in the little-endian bytes of one element, if the type is a plain float.
pub(super) fn to_f32(dtype: DType, bytes: &[u8]) -> Option<f32> {
    match (dtype, bytes) {
        (DType::F32, &[a, b, c, d]) => Some(f32::from_le_bytes([a, b, c, d])),
        (DType::BF16, &[a, b]) => Some(f32::from_le_bytes([0, 0, a, b])),
        (DType::F16, &[a, b]) => Some(f16_to_f32(u16::from_le_bytes([a, b]))),
        #[allow(clippy::cast_possible_truncation)] // rounding to nearest is what is wanted
        (DType::F64, bytes) => Some(f64::from_le_bytes(bytes.try_into().ok()?) as f32),
        _ => None,
    }
}

pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x03ff);
    match (bits >> 10) & 0x1f {
        0 => sign * fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction / 1024.0) * 2f32.powi(i32::from(exponent) - 15),
    }
}

/// The nearest half, ties to even.
pub(super) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if value.is_nan() {
        return sign | 0x7e00;
    }
    // 65520 is halfway between the largest half and the next power of two: it rounds up.
    if magnitude >= 65520.0 {
        return sign | 0x7c00;
    }
    let exponent = i32::from(u8::try_from((magnitude.to_bits() >> 23) & 0xff).unwrap_or(0)) - 127;
    // One unit in the last place of the half at this magnitude; scaling by it is exact.
    let ulp = (exponent.max(-14)) - 10;
    let steps = (magnitude * 2f32.powi(-ulp)).round_ties_even();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 2048
    let steps = steps as u16;
    // A carry out of the fraction lands in the exponent, which is right.
    let biased = u16::try_from(exponent.max(-14) + 14).unwrap_or(0);
    sign | (biased << 10).wrapping_add(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_comes_back() {
        for bits in 0..=u16::MAX {
            let value = to_f32(DType::F16, &bits.to_le_bytes()).unwrap();
            if !value.is_nan() {
                assert_eq!(f32_to_f16(value), bits, "{bits:#06x} is {value}");
            }
        }
        assert_eq!(f32_to_f16(1.0 + 2f32.powi(-11)), 0x3c00);
        assert_eq!(f32_to_f16(1.0 + 3.0 * 2f32.powi(-11)), 0x3c02);
        assert_eq!(f32_to_f16(65519.0), 0x7bff);
        assert_eq!(f32_to_f16(2f32.powi(-26)), 0);
        assert_eq!(to_f32(DType::BF16, &[0x80, 0x3f]), Some(1.0));
        assert_eq!(to_f32(DType::I8, &[1]), None);
    }
}
