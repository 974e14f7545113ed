//! Bit formulas between the float types, written so that loops over them vectorise.
//!
//! All of them are branch-free or end in a select, take and give plain integers or `f32`, and
//! keep NaN a quiet NaN of the same sign. They round to nearest even, and equal ggml's formulas
//! (`ggml-impl.h`) for every bit pattern, NaN included.

/// `binary16` bits to `f32`, exactly.
#[inline(always)]
pub(crate) fn f16_to_f32(bits: u16) -> f32 {
    let wide = u32::from(bits);
    let sign = (wide & 0x8000) << 16;
    let magnitude = wide & 0x7fff;
    // Normal: rebias the exponent. Subnormal: the mantissa behind the leading bit of 0.5.
    let normal = (magnitude << 13) + (112 << 23);
    let subnormal = (f32::from_bits(magnitude | (126 << 23)) - 0.5).to_bits();
    // 0.5 + m * 2^-24 - 0.5 is m * 2^-24: exact.
    let special = normal + (112 << 23);
    let quiet = if magnitude > 0x7c00 { 0x0040_0000 } else { 0 };
    let finite = if magnitude < 0x0400 {
        subnormal
    } else {
        normal
    };
    let value = if magnitude >= 0x7c00 {
        special | quiet
    } else {
        finite
    };
    f32::from_bits(value | sign)
}

/// `bfloat16` bits to `f32`: the upper half.
#[inline(always)]
pub(crate) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// `f32` to `binary16` bits. The float additions do the rounding: `2^112 * 2^-110` pushes
/// everything from 65520 up to infinity, then adding a power of two chosen from the exponent
/// leaves exactly the ten mantissa bits.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // bit fields, masked
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let to_infinity = f32::from_bits(0x7780_0000); // 2^112
    let to_zero = f32::from_bits(0x0880_0000); // 2^-110
    let base = (f32::from_bits(magnitude) * to_infinity) * to_zero;
    let exponent = magnitude & 0x7f80_0000;
    let exponent = if exponent < 0x3880_0000 {
        0x3880_0000
    } else {
        exponent
    };
    let rounded = (f32::from_bits(exponent + 0x0780_0000) + base).to_bits();
    let nonsign = ((rounded >> 13) & 0x7c00) + (rounded & 0x0fff);
    let nan = 0x7e00 | ((magnitude >> 13) & 0x01ff);
    let result = if magnitude > 0x7f80_0000 {
        nan
    } else {
        nonsign
    };
    (sign | result) as u16
}

/// `f32` to `bfloat16` bits.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // the upper half of 32 bits
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let nan = (bits >> 16) | 0x0040;
    (if bits & 0x7fff_ffff > 0x7f80_0000 {
        nan
    } else {
        rounded
    }) as u16
}

/// Value of a small float given by its fields: `exponent_bits`, `mantissa_bits` and `bias`, all
/// finite (special patterns are the caller's). Exact in `f32` for every format of 8 bits or less.
pub(crate) const fn minifloat(code: u32, exponent_bits: u32, mantissa_bits: u32, bias: u32) -> u32 {
    let mantissa = code & ((1 << mantissa_bits) - 1);
    let exponent = (code >> mantissa_bits) & ((1 << exponent_bits) - 1);
    let sign = (code >> (mantissa_bits + exponent_bits)) << 31;
    if exponent != 0 {
        return sign | ((exponent + 127 - bias) << 23) | (mantissa << (23 - mantissa_bits));
    }
    if mantissa == 0 {
        return sign;
    }
    // Normalise: the leading one becomes the implicit bit.
    let top = mantissa.ilog2();
    let exponent = 128 + top - bias - mantissa_bits;
    sign | (exponent << 23) | ((mantissa << (23 - top)) & 0x007f_ffff)
}
