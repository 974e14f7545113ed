//! The formats of 4-bit floats: MXFP4 and NVFP4.
//!
//! | format | elements | bytes | fields, in order |
//! |---|---|---|---|
//! | MXFP4 | 32 | 17 | 0 `e` E8M0 exponent · 1 `qs` 16 bytes |
//! | NVFP4 | 64 | 36 | 0 `d` 4 UE4M3 scales, one a sub-block of 16 · 4 `qs` 4 times 8 bytes |
//!
//! `qs` holds element `j` of a (sub-)block in the low nibble of byte `j`, element `j + half` in
//! the high one. A code stands for an E2M1 value; ggml doubles the values and halves the scales,
//! so that all products are the same. Importance plays no part.

use super::{Importance, layout};

layout!(MXFP4, 32: e 1, qs 16);
layout!(NVFP4, 64: d 4, qs 32);

/// E2M1 values doubled (`kvalues_fp4` of `ggml-common.h`; OCP MX 1.0, table 5).
pub(crate) const DOUBLED: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// The first code whose value lies nearest.
fn nearest_code(x: f32, scale: f32) -> u8 {
    let distance = |value: i8| (f32::from(value) * scale - x).abs();
    let (mut best, mut least) = (0, distance(DOUBLED[0]));
    for (code, &value) in (0..).zip(&DOUBLED).skip(1) {
        let error = distance(value);
        if error < least {
            best = code;
            least = error;
        }
    }
    best
}

/// Half the value of an E8M0 exponent; 255 is not treated as NaN.
#[inline(always)]
pub(crate) fn e8m0_half(e: u8) -> f32 {
    f32::from_bits(if e < 2 {
        0x0020_0000 << e
    } else {
        u32::from(e - 1) << 23
    })
}

/// `floor(log2f(x))` of a positive finite number, with `log2f` correctly rounded to `f32`: just
/// below a power of two the logarithm rounds up to the integer. How far below depends on the
/// spacing of floats at that integer, which is what the table holds (in units of the last place
/// of a normal `x`; checked against glibc 2.36 for every exponent).
pub(crate) fn floor_log2(x: f32) -> i32 {
    const REACH: [u32; 9] = [0, 0, 1, 2, 5, 11, 22, 44, 88];
    let bits = x.to_bits();
    let (exponent, below) = if bits < 0x0080_0000 {
        // Subnormal: the mantissa is the number, counted in 2^-149.
        let top = bits.ilog2();
        (top.cast_signed() - 149, ((2 << top) - bits) << (23 - top))
    } else {
        (
            (bits >> 23).cast_signed() - 127,
            0x0080_0000 - (bits & 0x007f_ffff),
        )
    };
    let next = exponent + 1;
    let magnitude = if next > 0 { next - 1 } else { -next };
    let reach = if next == 0 {
        0
    } else {
        REACH[32 - magnitude.leading_zeros() as usize]
    };
    if below <= reach { next } else { exponent }
}

/// The shared exponent of a block whose largest magnitude is `magnitude`.
pub(crate) fn mxfp4_exponent(magnitude: f32) -> u8 {
    if magnitude == f32::INFINITY {
        return 0; // the logarithm is infinite, and so out of range for the integer
    }
    if magnitude > 0.0 {
        (floor_log2(magnitude) - 2 + 127) as u8
    } else {
        0
    }
}

fn largest(x: &[f32]) -> f32 {
    x.iter()
        .fold(0.0, |max, v| if max < v.abs() { v.abs() } else { max })
}

pub(crate) fn encode_mxfp4(x: &[f32; 32], _: Option<Importance<'_, 32>>, out: &mut [u8; 17]) {
    let e = mxfp4_exponent(largest(x));
    let scale = e8m0_half(e);
    out[0] = e;
    for j in 0..16 {
        out[1 + j] = nearest_code(x[j], scale) | nearest_code(x[j + 16], scale) << 4;
    }
}

pub(crate) fn decode_mxfp4(block: &[u8; 17], y: &mut [f32; 32]) {
    let scale = e8m0_half(block[0]);
    for j in 0..16 {
        let byte = usize::from(block[1 + j]);
        y[j] = f32::from(DOUBLED[byte & 15]) * scale;
        y[j + 16] = f32::from(DOUBLED[byte >> 4]) * scale;
    }
}

/// An unsigned E4M3 scale, rounded half up, at most 448 (`ggml_fp32_to_ue4m3`).
pub(crate) fn ue4m3(x: f32) -> u8 {
    if x <= 0.0 || x.is_nan() {
        return 0;
    }
    let bits = if x > 448.0 { 448.0_f32 } else { x }.to_bits();
    let exponent = (bits >> 23).cast_signed() - 120;
    if exponent <= 0 {
        return ((x * 512.0 + 0.5) as i32).min(7) as u8;
    }
    // One bit of rounding may carry into the exponent; 15 is kept for the largest value.
    let rounded = (exponent << 3 | (bits >> 20 & 7).cast_signed()) + (bits >> 19 & 1).cast_signed();
    if rounded >= 15 << 3 {
        0x7e
    } else {
        rounded as u8
    }
}

/// Half the value of an unsigned E4M3 scale; the NaN pattern counts as zero.
#[inline(always)]
pub(crate) fn ue4m3_half(code: u8) -> f32 {
    let (exponent, mantissa) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    match code {
        0 | 0x7f => 0.0,
        _ if exponent == 0 => mantissa as f32 / 1024.0,
        _ => f32::from_bits((exponent + 119) << 23 | mantissa << 20),
    }
}

pub(crate) fn encode_nvfp4(x: &[f32; 64], _: Option<Importance<'_, 64>>, out: &mut [u8; 36]) {
    for (sub, x) in x.as_chunks::<16>().0.iter().enumerate() {
        out[sub] = ue4m3(largest(x) / 6.0);
        let scale = ue4m3_half(out[sub]);
        for j in 0..8 {
            out[4 + 8 * sub + j] = nearest_code(x[j], scale) | nearest_code(x[j + 8], scale) << 4;
        }
    }
}

pub(crate) fn decode_nvfp4(block: &[u8; 36], y: &mut [f32; 64]) {
    for (sub, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = ue4m3_half(block[sub]);
        for j in 0..8 {
            let byte = usize::from(block[4 + 8 * sub + j]);
            y[j] = f32::from(DOUBLED[byte & 15]) * scale;
            y[j + 8] = f32::from(DOUBLED[byte >> 4]) * scale;
        }
    }
}
