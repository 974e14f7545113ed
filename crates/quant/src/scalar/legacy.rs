//! The 32-element formats: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, and reading Q8_1.
//!
//! | format | bytes | fields, in order |
//! |---|---|---|
//! | Q4_0 | 18 | 0 `d` f16 · 2 `qs` 16 bytes |
//! | Q4_1 | 20 | 0 `d` f16 · 2 `m` f16 · 4 `qs` 16 bytes |
//! | Q5_0 | 22 | 0 `d` f16 · 2 `qh` 4 bytes · 6 `qs` 16 bytes |
//! | Q5_1 | 24 | 0 `d` f16 · 2 `m` f16 · 4 `qh` 4 bytes · 8 `qs` 16 bytes |
//! | Q8_0 | 34 | 0 `d` f16 · 2 `qs` 32 signed bytes |
//! | Q8_1 | 36 | 0 `d` f16 · 2 `s` f16, `d` times the sum of codes · 4 `qs` 32 signed bytes |
//!
//! `qs` holds element `j` in the low nibble of byte `j` and element `j + 16` in the high nibble;
//! bit `j` of `qh` is the fifth bit of element `j`. A value is `d * (code - 8)`, `d * (code - 16)`
//! for the symmetric formats, `d * code + m` for the others.

use super::search::{Trials, affine, symmetric};
use super::{Importance, c_max, extreme, get_f16, inverse, layout, put_f16, truncate};

layout!(Q4_0, 32: d 2, qs 16);
layout!(Q4_1, 32: d 2, m 2, qs 16);
layout!(Q5_0, 32: d 2, qh 4, qs 16);
layout!(Q5_1, 32: d 2, m 2, qh 4, qs 16);
layout!(Q8_0, 32: d 2, qs 32);
layout!(Q8_1, 32: d 2, s 2, qs 32);

/// What the importance-weighted affine searches of ggml try.
const WEIGHTED: Trials = Trials {
    first: -0.9,
    delta: 0.05,
    steps: 36,
    absolute: false,
};

/// An element's weight: its importance, raised where the element is large for its row.
fn weigh(x: &[f32; 32], importance: &Importance<'_, 32>) -> [f32; 32] {
    let mut out = [0.0; 32];
    for ((out, &v), &w) in out.iter_mut().zip(x).zip(importance.weights) {
        *out = w * (importance.row_mean_square + v * v).sqrt();
    }
    out
}

fn put_nibbles(qs: &mut [u8], codes: &[u8; 32]) {
    for (j, byte) in qs.iter_mut().enumerate() {
        *byte = (codes[j] & 15) | (codes[j + 16] << 4);
    }
}

fn fifth_bits(codes: &[u8; 32]) -> [u8; 4] {
    let mut bits = 0_u32;
    for (j, code) in codes.iter().enumerate() {
        bits |= u32::from(code >> 4 & 1) << j;
    }
    bits.to_le_bytes()
}

/// Symmetric codes by the largest magnitude (`quantize_row_q4_0_ref`, `quantize_row_q5_0_ref`).
/// Adding half and truncating, not rounding; the cast to a signed byte comes before the bound.
fn symmetric_plain(x: &[f32; 32], half: i8) -> (f32, [u8; 32]) {
    let d = extreme(x).1 / -f32::from(half);
    let id = inverse(d);
    let codes = x.map(|v| {
        let code = truncate(v * id + (f32::from(half) + 0.5)) as i8;
        code.min(half * 2 - 1) as u8
    });
    (d, codes)
}

fn symmetric_weighted(x: &[f32; 32], half: i8, importance: &Importance<'_, 32>) -> (f32, [u8; 32]) {
    let mut codes = [0_i8; 32];
    let d = symmetric(i32::from(half), x, &mut codes, Some(&weigh(x, importance)));
    (d, codes.map(i8::cast_unsigned))
}

/// `(d, minimum, codes)` by range (`quantize_row_q4_1_ref`, `quantize_row_q5_1_ref`). Q4_1 bounds
/// its codes, Q5_1 does not.
fn affine_plain(x: &[f32; 32], nmax: u8, bounded: bool) -> (f32, f32, [u8; 32]) {
    let (mut min, mut max) = (f32::MAX, f32::MIN);
    for &v in x {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
    }
    let d = (max - min) / f32::from(nmax);
    let id = inverse(d);
    let codes = x.map(|v| {
        let code = truncate((v - min) * id + 0.5);
        if bounded {
            (code as i8).min(nmax as i8) as u8
        } else {
            code as u8
        }
    });
    (d, min, codes)
}

fn affine_weighted(
    x: &[f32; 32],
    nmax: u8,
    importance: &Importance<'_, 32>,
) -> (f32, f32, [u8; 32]) {
    let mut codes = [0_u8; 32];
    let weights = weigh(x, importance);
    let (d, min) = affine(i32::from(nmax), x, &weights, &mut codes, WEIGHTED, true);
    (d, -min, codes)
}

pub(crate) fn encode_q4_0(
    x: &[f32; 32],
    importance: Option<Importance<'_, 32>>,
    out: &mut [u8; 18],
) {
    let (d, codes) = match importance {
        None => symmetric_plain(x, 8),
        Some(importance) => symmetric_weighted(x, 8, &importance),
    };
    put_f16(&mut out[..2], d);
    put_nibbles(&mut out[2..], &codes);
}

pub(crate) fn decode_q4_0(block: &[u8; 18], y: &mut [f32; 32]) {
    let d = get_f16(block);
    for j in 0..16 {
        let byte = block[2 + j];
        y[j] = f32::from((byte & 15).cast_signed() - 8) * d;
        y[j + 16] = f32::from((byte >> 4).cast_signed() - 8) * d;
    }
}

pub(crate) fn encode_q4_1(
    x: &[f32; 32],
    importance: Option<Importance<'_, 32>>,
    out: &mut [u8; 20],
) {
    let (d, min, codes) = match importance {
        None => affine_plain(x, 15, true),
        Some(importance) => affine_weighted(x, 15, &importance),
    };
    put_f16(&mut out[..2], d);
    put_f16(&mut out[2..4], min);
    put_nibbles(&mut out[4..], &codes);
}

pub(crate) fn decode_q4_1(block: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (get_f16(block), get_f16(&block[2..]));
    for j in 0..16 {
        let byte = block[4 + j];
        y[j] = f32::from(byte & 15) * d + m;
        y[j + 16] = f32::from(byte >> 4) * d + m;
    }
}

pub(crate) fn encode_q5_0(
    x: &[f32; 32],
    importance: Option<Importance<'_, 32>>,
    out: &mut [u8; 22],
) {
    let (d, codes) = match importance {
        None => symmetric_plain(x, 16),
        Some(importance) => symmetric_weighted(x, 16, &importance),
    };
    put_f16(&mut out[..2], d);
    out[2..6].copy_from_slice(&fifth_bits(&codes));
    put_nibbles(&mut out[6..], &codes);
}

/// Codes of Q5_0 and Q5_1: nibble plus fifth bit.
#[inline(always)]
fn five_bits(qh: &[u8], qs: &[u8], j: usize) -> (u8, u8) {
    let high = u32::from_le_bytes([qh[0], qh[1], qh[2], qh[3]]);
    let low = (high >> j & 1) as u8;
    let up = (high >> (j + 16) & 1) as u8;
    (qs[j] & 15 | low << 4, qs[j] >> 4 | up << 4)
}

pub(crate) fn decode_q5_0(block: &[u8; 22], y: &mut [f32; 32]) {
    let d = get_f16(block);
    for j in 0..16 {
        let (low, high) = five_bits(&block[2..6], &block[6..], j);
        y[j] = f32::from(low.cast_signed() - 16) * d;
        y[j + 16] = f32::from(high.cast_signed() - 16) * d;
    }
}

pub(crate) fn encode_q5_1(
    x: &[f32; 32],
    importance: Option<Importance<'_, 32>>,
    out: &mut [u8; 24],
) {
    let (d, min, codes) = match importance {
        None => affine_plain(x, 31, false),
        Some(importance) => affine_weighted(x, 31, &importance),
    };
    put_f16(&mut out[..2], d);
    put_f16(&mut out[2..4], min);
    out[4..8].copy_from_slice(&fifth_bits(&codes));
    put_nibbles(&mut out[8..], &codes);
}

pub(crate) fn decode_q5_1(block: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (get_f16(block), get_f16(&block[2..]));
    for j in 0..16 {
        let (low, high) = five_bits(&block[4..8], &block[8..], j);
        y[j] = f32::from(low) * d + m;
        y[j + 16] = f32::from(high) * d + m;
    }
}

/// Importance plays no part in Q8_0.
pub(crate) fn encode_q8_0(x: &[f32; 32], _: Option<Importance<'_, 32>>, out: &mut [u8; 34]) {
    let d = x.iter().fold(0.0, |max, v| c_max(max, v.abs())) / 127.0;
    let id = inverse(d);
    put_f16(&mut out[..2], d);
    for (out, v) in out[2..].iter_mut().zip(x) {
        *out = truncate((v * id).round()) as u8;
    }
}

pub(crate) fn decode_q8_0(block: &[u8; 34], y: &mut [f32; 32]) {
    let d = get_f16(block);
    for (y, code) in y.iter_mut().zip(&block[2..]) {
        *y = f32::from(code.cast_signed()) * d;
    }
}

pub(crate) fn decode_q8_1(block: &[u8; 36], y: &mut [f32; 32]) {
    let d = get_f16(block);
    for (y, code) in y.iter_mut().zip(&block[4..]) {
        *y = f32::from(code.cast_signed()) * d;
    }
}
