//! The one- and two-bit formats with a single scale: Q1_0, Q2_0, TQ1_0, TQ2_0.
//!
//! | format | elements | bytes | fields, in order |
//! |---|---|---|---|
//! | Q1_0 | 128 | 18 | 0 `d` f16 · 2 `qs` 16 bytes, bit `j % 8` of byte `j / 8` |
//! | Q2_0 | 64 | 18 | 0 `d` f16 · 2 `qs` 16 bytes, four codes a byte, lowest bits first |
//! | TQ1_0 | 256 | 54 | 0 `qs` 48 bytes · 48 `qh` 4 bytes · 52 `d` f16 |
//! | TQ2_0 | 256 | 66 | 0 `qs` 64 bytes · 64 `d` f16 |
//!
//! Q1_0 keeps signs: `±d`. The others store `code - 1` times `d`. TQ1_0 packs five ternary digits
//! a byte as a fixed-point fraction (`ceil(digits * 256 / 243)`, first digit most significant):
//! digit `n` comes back as `(byte * 3^n mod 256) * 3 / 256`. Its bytes 0..32 hold elements
//! `m + 32n`, 32..48 hold `160 + m + 16n`, `qh` holds `240 + m + 4n` in four digits.
//! Importance plays no part in any of them.

use super::{Importance, c_max, get_f16, inverse, layout, put_f16, truncate};

layout!(Q1_0, 128: d 2, qs 16);
layout!(Q2_0, 64: d 2, qs 16);
layout!(TQ1_0, 256: qs 48, qh 4, d 2);
layout!(TQ2_0, 256: qs 64, d 2);

pub(crate) fn encode_q1_0(x: &[f32; 128], _: Option<Importance<'_, 128>>, out: &mut [u8; 18]) {
    let mut sum = 0.0;
    for v in x {
        sum += v.abs();
    }
    put_f16(&mut out[..2], sum / 128.0);
    for (byte, x) in out[2..].iter_mut().zip(x.as_chunks::<8>().0) {
        *byte = 0;
        for (bit, &v) in x.iter().enumerate() {
            *byte |= u8::from(v >= 0.0) << bit;
        }
    }
}

pub(crate) fn decode_q1_0(block: &[u8; 18], y: &mut [f32; 128]) {
    let d = get_f16(block);
    for (j, y) in y.iter_mut().enumerate() {
        *y = if block[2 + j / 8] >> (j % 8) & 1 == 1 {
            d
        } else {
            -d
        };
    }
}

/// A rounded product as C's `(int)roundf(v)` or `lroundf`, plus one.
fn ternary(v: f32) -> i32 {
    truncate(v.round()).wrapping_add(1)
}

pub(crate) fn encode_q2_0(x: &[f32; 64], _: Option<Importance<'_, 64>>, out: &mut [u8; 18]) {
    let mut d = 0.0;
    for v in x {
        if v.abs() > d {
            d = v.abs();
        }
    }
    let id = if d > 0.0 { 1.0 / d } else { 0.0 };
    put_f16(&mut out[..2], d);
    for (byte, x) in out[2..].iter_mut().zip(x.as_chunks::<4>().0) {
        *byte = 0;
        for (n, v) in x.iter().enumerate() {
            *byte |= (ternary(v * id).clamp(0, 3) as u8) << (2 * n);
        }
    }
}

pub(crate) fn decode_q2_0(block: &[u8; 18], y: &mut [f32; 64]) {
    let d = get_f16(block);
    for (j, y) in y.iter_mut().enumerate() {
        let code = block[2 + j / 4] >> (2 * (j % 4)) & 3;
        *y = f32::from(code.cast_signed() - 1) * d;
    }
}

/// `lroundf` gives a 64 bit integer, whose lowest value has zeros below: out of range is 0.
fn ternary_long(v: f32) -> i32 {
    let rounded = v.round();
    let low = if rounded.abs() < 9.2e18 {
        rounded as i64 as i32
    } else {
        0
    };
    low.wrapping_add(1)
}

fn magnitude(x: &[f32; 256]) -> f32 {
    x.iter().fold(0.0, |max, v| c_max(max, v.abs()))
}

/// `(first element, elements apart, bytes)` of the three parts of a TQ1_0 block.
const TQ1_PARTS: [(usize, usize, usize, usize); 3] =
    [(0, 32, 0, 5), (160, 16, 32, 5), (240, 4, 48, 4)];

pub(crate) fn encode_tq1_0(x: &[f32; 256], _: Option<Importance<'_, 256>>, out: &mut [u8; 54]) {
    let d = magnitude(x);
    let id = inverse(d);
    for (first, stride, at, digits) in TQ1_PARTS {
        for m in 0..stride {
            let mut q = 0_u8;
            for n in 0..digits {
                q = q
                    .wrapping_mul(3)
                    .wrapping_add(ternary_long(x[first + m + n * stride] * id) as u8);
            }
            if digits == 4 {
                q = q.wrapping_mul(3);
            }
            out[at + m] = (u32::from(q) * 256).div_ceil(243) as u8;
        }
    }
    put_f16(&mut out[52..], d);
}

pub(crate) fn decode_tq1_0(block: &[u8; 54], y: &mut [f32; 256]) {
    let d = get_f16(&block[52..]);
    for (first, stride, at, digits) in TQ1_PARTS {
        for (n, power) in [1_u8, 3, 9, 27, 81].into_iter().enumerate().take(digits) {
            for m in 0..stride {
                let q = block[at + m].wrapping_mul(power);
                let digit = (u16::from(q) * 3 >> 8) as i8;
                y[first + m + n * stride] = f32::from(digit - 1) * d;
            }
        }
    }
}

pub(crate) fn encode_tq2_0(x: &[f32; 256], _: Option<Importance<'_, 256>>, out: &mut [u8; 66]) {
    let d = magnitude(x);
    let id = inverse(d);
    for (half, x) in x.as_chunks::<128>().0.iter().enumerate() {
        for m in 0..32 {
            let mut q = 0_u8;
            for n in 0..4 {
                q |= (ternary_long(x[m + 32 * n] * id) as u8 & 3) << (2 * n);
            }
            out[32 * half + m] = q;
        }
    }
    put_f16(&mut out[64..], d);
}

pub(crate) fn decode_tq2_0(block: &[u8; 66], y: &mut [f32; 256]) {
    let d = get_f16(&block[64..]);
    for (half, y) in y.as_chunks_mut::<128>().0.iter_mut().enumerate() {
        for n in 0..4 {
            for m in 0..32 {
                let code = block[32 * half + m] >> (2 * n) & 3;
                y[m + 32 * n] = f32::from(code.cast_signed() - 1) * d;
            }
        }
    }
}
