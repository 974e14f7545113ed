//! The non-linear 4-bit formats: IQ4_NL and IQ4_XS.
//!
//! | format | elements | bytes | fields, in order |
//! |---|---|---|---|
//! | IQ4_NL | 32 | 18 | 0 `d` f16 · 2 `qs` 16 bytes |
//! | IQ4_XS | 256 | 136 | 0 `d` f16 · 2 `scales_h` u16 · 4 `scales_l` 4 bytes · 8 `qs` 8 times 16 bytes |
//!
//! Codes pick one of 16 values, spread unevenly. `qs` holds, for each 32 elements, element `j` in
//! the low and `j + 16` in the high nibble. IQ4_XS scales sub-block `i` by `d * (s - 32)`, where
//! the low four bits of `s` are nibble `i` of `scales_l` and the upper two bits `2i` of `scales_h`.

use super::{
    GROUP_MAX_EPS, Importance, extreme, get_f16, inverse, layout, nearest_int, put_f16,
    sum_of_squares,
};

layout!(IQ4_NL, 32: d 2, qs 16);
layout!(IQ4_XS, 256: d 2, scales_h 2, scales_l 4, qs 128);

/// `kvalues_iq4nl` of `ggml-common.h`.
pub(crate) const VALUES: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// The code of the nearest value, the upper of two equally near; 15 for NaN
/// (`best_index_int8`).
pub(crate) fn nearest_code(x: f32) -> u8 {
    let value = |code: usize| f32::from(VALUES[code]);
    if x <= value(0) {
        return 0;
    }
    if x >= value(15) {
        return 15;
    }
    let (mut low, mut high) = (0, 15);
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if x < value(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    let code = if x - value(high - 1) < value(high) - x {
        high - 1
    } else {
        high
    };
    code as u8
}

/// Scale of 32 elements by weighted least squares over 16 trials; zero for a zero group.
fn scale_of(x: &[f32; 32], weights: &[f32; 32]) -> f32 {
    let (magnitude, max) = extreme(x);
    if magnitude < GROUP_MAX_EPS {
        return 0.0;
    }
    let sums = |inverse: f32| {
        let (mut sum_qx, mut sum_q2) = (0.0_f32, 0.0_f32);
        for (&v, &w) in x.iter().zip(weights) {
            let q = f32::from(VALUES[usize::from(nearest_code(inverse * v))]);
            sum_qx += w * q * v;
            sum_q2 += w * q * q;
        }
        (sum_qx, sum_q2)
    };
    let first = f32::from(VALUES[0]);
    let (sum_qx, sum_q2) = sums(1.0 / (-max / first));
    let mut d = if sum_q2 > 0.0 { sum_qx / sum_q2 } else { 0.0 };
    let mut best = d * sum_qx;
    for step in -7_i8..=7 {
        let (sum_qx, sum_q2) = sums((f32::from(step) + first) / max);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            d = sum_qx / sum_q2;
            best = d * sum_qx;
        }
    }
    d
}

/// Weights of 32 elements; `mean_square` is twice that of the (super-)block.
fn weigh(x: &[f32; 32], importance: Option<&[f32; 32]>, mean_square: f32) -> [f32; 32] {
    let Some(importance) = importance else {
        return x.map(|v| v * v);
    };
    let mut out = *importance;
    for (w, v) in out.iter_mut().zip(x) {
        *w *= (mean_square + v * v).sqrt();
    }
    out
}

fn put_codes(qs: &mut [u8], x: &[f32; 32], inverse: f32) {
    let codes = x.map(|v| nearest_code(inverse * v));
    for (j, byte) in qs.iter_mut().enumerate() {
        *byte = codes[j] | codes[j + 16] << 4;
    }
}

pub(crate) fn encode_iq4_nl(
    x: &[f32; 32],
    importance: Option<Importance<'_, 32>>,
    out: &mut [u8; 18],
) {
    let mean_square = sum_of_squares(x) * (2.0 / 32.0);
    let d = scale_of(x, &weigh(x, importance.map(|i| i.weights), mean_square));
    put_f16(&mut out[..2], d);
    put_codes(&mut out[2..], x, inverse(d));
}

pub(crate) fn decode_iq4_nl(block: &[u8; 18], y: &mut [f32; 32]) {
    let d = get_f16(block);
    decode_codes(&block[2..], d, y);
}

#[inline(always)]
fn decode_codes(qs: &[u8], d: f32, y: &mut [f32; 32]) {
    for (j, &byte) in qs.iter().enumerate() {
        y[j] = d * f32::from(VALUES[usize::from(byte & 15)]);
        y[j + 16] = d * f32::from(VALUES[usize::from(byte >> 4)]);
    }
}

pub(crate) fn encode_iq4_xs(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 136],
) {
    let mean_square = sum_of_squares(x) * (2.0 / 256.0);
    let x = x.as_chunks::<32>().0;
    let mut scales = [0.0_f32; 8];
    for (i, x) in x.iter().enumerate() {
        let weights = importance.map(|importance| &importance.weights.as_chunks::<32>().0[i]);
        scales[i] = scale_of(x, &weigh(x, weights, mean_square));
    }
    let d = -extreme(&scales).1 / 32.0;
    let id = inverse(d);
    put_f16(&mut out[..2], d);
    let (mut scales_h, mut scales_l) = (0_u16, 0_u32);
    for (i, x) in x.iter().enumerate() {
        let l = nearest_int(id * scales[i]).clamp(-32, 31);
        put_codes(&mut out[8 + 16 * i..24 + 16 * i], x, inverse(d * l as f32));
        let l = (l + 32) as u32;
        scales_l |= (l & 15) << (4 * i);
        scales_h |= ((l >> 4) as u16) << (2 * i);
    }
    out[2..4].copy_from_slice(&scales_h.to_le_bytes());
    out[4..8].copy_from_slice(&scales_l.to_le_bytes());
}

pub(crate) fn decode_iq4_xs(block: &[u8; 136], y: &mut [f32; 256]) {
    let d = get_f16(block);
    let scales_h = u16::from_le_bytes([block[2], block[3]]);
    let scales_l = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (i, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let l = (scales_l >> (4 * i) & 15) as i8 | ((scales_h >> (2 * i) & 3) as i8) << 4;
        decode_codes(&block[8 + 16 * i..24 + 16 * i], d * f32::from(l - 32), y);
    }
}
