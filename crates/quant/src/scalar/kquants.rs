//! The K formats: super-blocks of 256 with quantized sub-block scales.
//!
//! | format | bytes | sub-block | fields, in order |
//! |---|---|---|---|
//! | Q2_K | 84 | 16 | 0 `scales` 16 · 16 `qs` 64 · 80 `d` f16 · 82 `dmin` f16 |
//! | Q3_K | 110 | 16 | 0 `hmask` 32 · 32 `qs` 64 · 96 `scales` 12 · 108 `d` f16 |
//! | Q4_K | 144 | 32 | 0 `d` f16 · 2 `dmin` f16 · 4 `scales` 12 · 16 `qs` 128 |
//! | Q5_K | 176 | 32 | 0 `d` f16 · 2 `dmin` f16 · 4 `scales` 12 · 16 `qh` 32 · 48 `qs` 128 |
//! | Q6_K | 210 | 16 | 0 `ql` 128 · 128 `qh` 64 · 192 `scales` 16 signed · 208 `d` f16 |
//! | Q8_K | 292 | 256 | 0 `d` f32 · 4 `qs` 256 signed · 260 `bsums` 16 i16, sums of 16 codes |
//!
//! - Two-bit fields (`qs` of Q2_K, Q3_K): byte `l` of half `h` holds elements `128h + l + 32n`,
//!   `n` from 0 in the lowest bits. `hmask` bit `n` of byte `l` is the third bit of element
//!   `32n + l`.
//! - Q4_K, Q5_K `qs`: byte `l` of quarter `k` holds element `64k + l` low and `64k + 32 + l` high;
//!   `qh` bit `n` of byte `l` is the fifth bit of element `32n + l`.
//! - Q6_K: per half, `ql` byte `l` holds the low four bits of `l` and `l + 64`, byte `32 + l` those
//!   of `l + 32` and `l + 96`; `qh` byte `l` the upper two bits of `l + 32n`.
//! - 12-byte scales of Q4_K, Q5_K: six-bit scales and minima; of Q3_K: six-bit scales offset by
//!   32. See [`put_scales_mins`] and [`put_scales_q3`].
//!
//! Values: Q2_K, Q4_K, Q5_K `d * scale * code - dmin * min`; Q3_K `d * (scale - 32) * (code - 4)`;
//! Q6_K `d * scale * (code - 32)`.

use super::search::{Trials, affine, positive, symmetric, symmetric_descent};
use super::{
    GROUP_MAX_EPS, Importance, extreme, get_f16, layout, nearest_int, put_f16, sum_of_squares,
};
use crate::float::{f16_to_f32, f32_to_f16};

layout!(Q2_K, 256: scales 16, qs 64, d 2, dmin 2);
layout!(Q3_K, 256: hmask 32, qs 64, scales 12, d 2);
layout!(Q4_K, 256: d 2, dmin 2, scales 12, qs 128);
layout!(Q5_K, 256: d 2, dmin 2, scales 12, qh 32, qs 128);
layout!(Q6_K, 256: ql 128, qh 64, scales 16, d 2);
layout!(Q8_K, 256: d 4, qs 256, bsums 32);

type Weights<'a> = Option<Importance<'a, 256>>;

/// A value as it comes back from a half-precision field.
#[inline(always)]
pub(crate) fn through_f16(value: f32) -> f32 {
    f16_to_f32(f32_to_f16(value))
}

/// Weights of a group: importance raised by the magnitude, `mean_square` being the super-block's.
fn weigh<const N: usize>(x: &[f32; N], importance: &[f32], mean_square: f32) -> [f32; N] {
    let mut out = [0.0; N];
    for ((out, &v), &w) in out.iter_mut().zip(x).zip(importance) {
        *out = w * (mean_square + v * v).sqrt();
    }
    out
}

fn sum(x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for v in x {
        sum += v;
    }
    sum
}

/// Final codes of a group, or the search's own where the scale came out as zero.
fn recode<const N: usize>(x: &[f32; N], d: f32, min: f32, nmax: i32, codes: &mut [u8]) {
    if d == 0.0 {
        return;
    }
    for (code, v) in codes.iter_mut().zip(x) {
        *code = nearest_int((v + min) / d).clamp(0, nmax) as u8;
    }
}

fn largest(x: &[f32]) -> f32 {
    let mut max = 0.0;
    for &v in x {
        if v > max {
            max = v;
        }
    }
    max
}

/// Packs four two-bit codes a byte, for Q2_K and Q3_K.
#[inline(always)]
pub(crate) fn put_two_bits(qs: &mut [u8], codes: &[u8; 256]) {
    for (half, qs) in qs.chunks_exact_mut(32).enumerate() {
        for (l, byte) in qs.iter_mut().enumerate() {
            let code = |n: usize| codes[128 * half + 32 * n + l];
            *byte = code(0) | code(1) << 2 | code(2) << 4 | code(3) << 6;
        }
    }
}

pub(crate) fn encode_q2_k(x: &[f32; 256], importance: Weights<'_>, out: &mut [u8; 84]) {
    let groups = x.as_chunks::<16>().0;
    let mut codes = [0_u8; 256];
    let (mut scales, mut mins) = ([0.0_f32; 16], [0.0_f32; 16]);
    let (d, dmin);
    if let Some(importance) = importance {
        let trials = Trials {
            first: -0.9,
            delta: 0.05,
            steps: 36,
            absolute: false,
        };
        let mean_square = sum_of_squares(x) / 256.0;
        let mut sums = [0.0_f32; 16];
        for (j, x) in groups.iter().enumerate() {
            let weights = weigh(x, &importance.weights[16 * j..], mean_square);
            sums[j] = sum(&weights);
            let codes = &mut codes[16 * j..16 * j + 16];
            (scales[j], mins[j]) = affine(3, x, &weights, codes, trials, true);
        }
        let (mut scale_codes, mut min_codes) = ([0_u8; 16], [0_u8; 16]);
        d = positive(15, &scales, &mut scale_codes, &sums);
        dmin = positive(15, &mins, &mut min_codes, &sums);
        for j in 0..16 {
            out[j] = scale_codes[j] | min_codes[j] << 4;
        }
    } else {
        let trials = Trials {
            first: -0.5,
            delta: 0.1,
            steps: 15,
            absolute: true,
        };
        for (j, x) in groups.iter().enumerate() {
            let codes = &mut codes[16 * j..16 * j + 16];
            (scales[j], mins[j]) = affine(3, x, &x.map(f32::abs), codes, trials, false);
        }
        let (max_scale, max_min) = (largest(&scales), largest(&mins));
        out[..16].fill(0);
        if max_scale > 0.0 {
            let inverse = 15.0 / max_scale;
            for j in 0..16 {
                out[j] = nearest_int(inverse * scales[j]) as u8;
            }
        }
        if max_min > 0.0 {
            let inverse = 15.0 / max_min;
            for j in 0..16 {
                out[j] |= (nearest_int(inverse * mins[j]) << 4) as u8;
            }
        }
        d = if max_scale > 0.0 {
            max_scale / 15.0
        } else {
            0.0
        };
        dmin = if max_min > 0.0 { max_min / 15.0 } else { 0.0 };
    }
    put_f16(&mut out[80..82], d);
    put_f16(&mut out[82..84], dmin);
    let (d, dmin) = (through_f16(d), through_f16(dmin));
    for (j, x) in groups.iter().enumerate() {
        let (scale, min) = (d * f32::from(out[j] & 15), dmin * f32::from(out[j] >> 4));
        recode(x, scale, min, 3, &mut codes[16 * j..16 * j + 16]);
    }
    put_two_bits(&mut out[16..80], &codes);
}

pub(crate) fn decode_q2_k(block: &[u8; 84], y: &mut [f32; 256]) {
    let (d, dmin) = (get_f16(&block[80..]), get_f16(&block[82..]));
    for (j, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[j] & 15);
        let min = dmin * f32::from(block[j] >> 4);
        let at = 16 + 32 * (j / 8) + 16 * (j % 2);
        let shift = 2 * (j / 2 % 4);
        for (y, byte) in y.iter_mut().zip(&block[at..at + 16]) {
            *y = scale * f32::from(byte >> shift & 3) - min;
        }
    }
}

/// Sixteen six-bit scales in 12 bytes: low nibbles in the first eight (scale `j` and `j + 8`),
/// upper two bits of scale `j` in byte `8 + j % 4` at bit `2 * (j / 4)`.
pub(crate) fn put_scales_q3(out: &mut [u8], scales: &[u8; 16]) {
    out[..12].fill(0);
    for (j, &l) in scales.iter().enumerate() {
        out[j % 8] |= (l & 15) << (4 * (j / 8));
        out[8 + j % 4] |= (l >> 4) << (2 * (j / 4));
    }
}

/// Scale `j` with its offset of 32 taken off.
#[inline(always)]
pub(crate) fn scale_q3(scales: &[u8], j: usize) -> i8 {
    let low = scales[j % 8] >> (4 * (j / 8)) & 15;
    let high = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
    (low | high << 4).cast_signed() - 32
}

/// The third bits of Q3_K's codes, and the codes with them taken off.
#[inline(always)]
pub(crate) fn put_third_bits(hmask: &mut [u8], codes: &mut [u8; 256]) {
    hmask.fill(0);
    for (n, codes) in codes.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        for (byte, code) in hmask.iter_mut().zip(codes) {
            *byte |= (*code >> 2) << n;
            *code &= 3;
        }
    }
}

pub(crate) fn encode_q3_k(x: &[f32; 256], importance: Weights<'_>, out: &mut [u8; 110]) {
    let groups = x.as_chunks::<16>().0;
    let mut codes = [0_i8; 256];
    let mut scales = [0.0_f32; 16];
    let mut scale_codes = [0_u8; 16];
    let d;
    if let Some(importance) = importance {
        let mean_square = 2.0 * sum_of_squares(x) / 256.0;
        let mut sums = [0.0_f32; 16];
        for (j, x) in groups.iter().enumerate() {
            let weights = weigh(x, &importance.weights[16 * j..], mean_square);
            sums[j] = sum(&weights);
            scales[j] = symmetric(4, x, &mut codes[16 * j..16 * j + 16], Some(&weights));
        }
        let mut signed = [0_i8; 16];
        d = symmetric(32, &scales, &mut signed, Some(&sums));
        scale_codes = signed.map(i8::cast_unsigned);
    } else {
        for (j, x) in groups.iter().enumerate() {
            scales[j] = symmetric_descent(4, x, &mut codes[16 * j..16 * j + 16]);
        }
        let max = extreme(&scales).1;
        if max == 0.0 {
            d = 0.0;
        } else {
            let inverse = -32.0 / max;
            for (code, scale) in scale_codes.iter_mut().zip(&scales) {
                let l = nearest_int(inverse * scale) as i8; // a byte before it is bounded
                *code = (l.clamp(-32, 31) + 32).cast_unsigned();
            }
            d = 1.0 / inverse;
        }
    }
    put_scales_q3(&mut out[96..108], &scale_codes);
    put_f16(&mut out[108..110], d);
    let d = through_f16(d);
    for (j, x) in groups.iter().enumerate() {
        let scale = d * f32::from(scale_q3(&out[96..108], j));
        if scale == 0.0 {
            continue;
        }
        for (code, v) in codes[16 * j..].iter_mut().zip(x) {
            *code = (nearest_int(v / scale).clamp(-4, 3) + 4) as i8;
        }
    }
    let mut codes = codes.map(i8::cast_unsigned);
    put_third_bits(&mut out[..32], &mut codes);
    put_two_bits(&mut out[32..96], &codes);
}

pub(crate) fn decode_q3_k(block: &[u8; 110], y: &mut [f32; 256]) {
    let d = get_f16(&block[108..]);
    for (j, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(scale_q3(&block[96..108], j));
        let at = 16 * (j % 2);
        let codes = &block[32 + 32 * (j / 8) + at..][..16];
        let masks = &block[at..at + 16];
        for ((y, code), mask) in y.iter_mut().zip(codes).zip(masks) {
            let high = mask >> (j / 2) & 1;
            let code = (code >> (2 * (j / 2 % 4)) & 3).cast_signed() - 4 * (1 - high.cast_signed());
            *y = scale * f32::from(code);
        }
    }
}

/// Eight six-bit scales and eight minima in 12 bytes: whole for the first four (byte `j` and
/// `j + 4`), the rest as two low nibbles in byte `j + 4` and upper bits in the top of the bytes
/// of `j - 4`.
pub(crate) fn put_scales_mins(out: &mut [u8], scales: [u8; 8], mins: [u8; 8]) {
    for j in 0..4 {
        out[j] = scales[j] | (scales[j + 4] >> 4) << 6;
        out[j + 4] = mins[j] | (mins[j + 4] >> 4) << 6;
        out[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] & 15) << 4;
    }
}

/// Scale and minimum `j`.
#[inline(always)]
pub(crate) fn scale_min(packed: &[u8], j: usize) -> (u8, u8) {
    if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let low = packed[j + 4];
        (
            low & 15 | packed[j - 4] >> 6 << 4,
            low >> 4 | packed[j] >> 6 << 4,
        )
    }
}

/// Q4_K and Q5_K up to the packing of codes: fills `d`, `dmin` and `scales` in `head`.
fn affine_super_block(
    nmax: u8,
    trials: Trials,
    x: &[f32; 256],
    importance: Weights<'_>,
    head: &mut [u8],
) -> [u8; 256] {
    let groups = x.as_chunks::<32>().0;
    let mut codes = [0_u8; 256];
    let (mut scales, mut mins) = ([0.0_f32; 8], [0.0_f32; 8]);
    let (mut scale_codes, mut min_codes) = ([0_u8; 8], [0_u8; 8]);
    let (d, dmin);
    if let Some(importance) = importance {
        let trials = Trials {
            first: -0.9,
            delta: 0.05,
            steps: 36,
            absolute: false,
        };
        let mean_square = 2.0 * sum_of_squares(x) / 256.0;
        let mut sums = [0.0_f32; 8];
        for (j, x) in groups.iter().enumerate() {
            let weights = weigh(x, &importance.weights[32 * j..], mean_square);
            sums[j] = sum(&weights);
            let codes = &mut codes[32 * j..32 * j + 32];
            (scales[j], mins[j]) = affine(i32::from(nmax), x, &weights, codes, trials, true);
        }
        d = positive(63, &scales, &mut scale_codes, &sums);
        dmin = positive(63, &mins, &mut min_codes, &sums);
    } else {
        for (j, x) in groups.iter().enumerate() {
            let mean = (sum_of_squares(x) / 32.0).sqrt();
            let weights = x.map(|v| mean + v.abs());
            let codes = &mut codes[32 * j..32 * j + 32];
            (scales[j], mins[j]) = affine(i32::from(nmax), x, &weights, codes, trials, false);
        }
        let (max_scale, max_min) = (largest(&scales), largest(&mins));
        let quantize = |max: f32, values: &[f32; 8]| {
            let inverse = if max > 0.0 { 63.0 / max } else { 0.0 };
            // A byte before it is bounded.
            values.map(|v| (nearest_int(inverse * v) as u8).min(63))
        };
        scale_codes = quantize(max_scale, &scales);
        min_codes = quantize(max_min, &mins);
        d = max_scale / 63.0;
        dmin = max_min / 63.0;
    }
    put_f16(&mut head[..2], d);
    put_f16(&mut head[2..4], dmin);
    put_scales_mins(&mut head[4..16], scale_codes, min_codes);
    let (d, dmin) = (through_f16(d), through_f16(dmin));
    for (j, x) in groups.iter().enumerate() {
        let (scale, min) = scale_min(&head[4..16], j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        recode(
            x,
            scale,
            min,
            i32::from(nmax),
            &mut codes[32 * j..32 * j + 32],
        );
    }
    codes
}

pub(crate) fn encode_q4_k(x: &[f32; 256], importance: Weights<'_>, out: &mut [u8; 144]) {
    let trials = Trials {
        first: -1.0,
        delta: 0.1,
        steps: 20,
        absolute: false,
    };
    let codes = affine_super_block(15, trials, x, importance, &mut out[..16]);
    put_nibbles(&mut out[16..], &codes);
}

/// Nibbles of Q4_K and Q5_K.
#[inline(always)]
pub(crate) fn put_nibbles(qs: &mut [u8], codes: &[u8; 256]) {
    for (qs, codes) in qs.chunks_exact_mut(32).zip(codes.as_chunks::<64>().0) {
        for (l, byte) in qs.iter_mut().enumerate() {
            *byte = codes[l] & 15 | codes[l + 32] << 4;
        }
    }
}

pub(crate) fn decode_q4_k(block: &[u8; 144], y: &mut [f32; 256]) {
    let (d, dmin) = (get_f16(block), get_f16(&block[2..]));
    for (j, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(&block[4..16], j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let at = 16 + 32 * (j / 2);
        for (y, byte) in y.iter_mut().zip(&block[at..at + 32]) {
            *y = scale * f32::from(byte >> (4 * (j % 2)) & 15) - min;
        }
    }
}

pub(crate) fn encode_q5_k(x: &[f32; 256], importance: Weights<'_>, out: &mut [u8; 176]) {
    let trials = Trials {
        first: -0.5,
        delta: 0.1,
        steps: 15,
        absolute: false,
    };
    let codes = affine_super_block(31, trials, x, importance, &mut out[..16]);
    put_fifth_bits(&mut out[16..48], &codes);
    put_nibbles(&mut out[48..], &codes);
}

/// The fifth bits of Q5_K's codes.
#[inline(always)]
pub(crate) fn put_fifth_bits(qh: &mut [u8], codes: &[u8; 256]) {
    qh.fill(0);
    for (n, codes) in codes.as_chunks::<32>().0.iter().enumerate() {
        for (byte, code) in qh.iter_mut().zip(codes) {
            *byte |= (code >> 4) << n;
        }
    }
}

pub(crate) fn decode_q5_k(block: &[u8; 176], y: &mut [f32; 256]) {
    let (d, dmin) = (get_f16(block), get_f16(&block[2..]));
    for (j, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, min) = scale_min(&block[4..16], j);
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        let at = 48 + 32 * (j / 2);
        for ((y, byte), high) in y.iter_mut().zip(&block[at..at + 32]).zip(&block[16..48]) {
            let code = byte >> (4 * (j % 2)) & 15 | (high >> j & 1) << 4;
            *y = scale * f32::from(code) - min;
        }
    }
}

/// Importance counts as it is here, without the super-block's mean square.
pub(crate) fn encode_q6_k(x: &[f32; 256], importance: Weights<'_>, out: &mut [u8; 210]) {
    let groups = x.as_chunks::<16>().0;
    let mut codes = [0_i8; 256];
    let mut scales = [0.0_f32; 16];
    for (j, x) in groups.iter().enumerate() {
        let weights = importance.as_ref().map(|i| &i.weights[16 * j..16 * j + 16]);
        scales[j] = symmetric(32, x, &mut codes[16 * j..16 * j + 16], weights);
    }
    let (magnitude, max) = extreme(&scales);
    if magnitude < GROUP_MAX_EPS {
        out.fill(0);
        return;
    }
    let inverse = -128.0 / max;
    put_f16(&mut out[208..], 1.0 / inverse);
    let d = through_f16(1.0 / inverse);
    for (j, x) in groups.iter().enumerate() {
        let scale = nearest_int(inverse * scales[j]).min(127) as i8;
        out[192 + j] = scale.cast_unsigned();
        let scale = d * f32::from(scale);
        if scale == 0.0 {
            continue;
        }
        for (code, v) in codes[16 * j..].iter_mut().zip(x) {
            *code = (nearest_int(v / scale).clamp(-32, 31) + 32) as i8;
        }
    }
    put_six_bits(&mut out[..192], &codes.map(i8::cast_unsigned));
}

/// `ql` and `qh` of Q6_K.
#[inline(always)]
pub(crate) fn put_six_bits(out: &mut [u8], codes: &[u8; 256]) {
    let (ql, qh) = out.split_at_mut(128);
    for (half, codes) in codes.as_chunks::<128>().0.iter().enumerate() {
        let ql = &mut ql[64 * half..64 * half + 64];
        let qh = &mut qh[32 * half..32 * half + 32];
        for l in 0..64 {
            ql[l] = codes[l] & 15 | codes[l + 64] << 4;
        }
        for l in 0..32 {
            qh[l] = codes[l] >> 4
                | codes[l + 32] >> 4 << 2
                | codes[l + 64] >> 4 << 4
                | codes[l + 96] >> 4 << 6;
        }
    }
}

pub(crate) fn decode_q6_k(block: &[u8; 210], y: &mut [f32; 256]) {
    let d = get_f16(&block[208..]);
    for (j, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(block[192 + j].cast_signed());
        let (half, quarter, at) = (j / 8, j / 2 % 4, 16 * (j % 2));
        let low = &block[64 * half + 32 * (quarter % 2) + at..][..16];
        let high = &block[128 + 32 * half + at..][..16];
        for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
            let code = low >> (4 * (quarter / 2)) & 15 | (high >> (2 * quarter) & 3) << 4;
            *y = scale * f32::from(code.cast_signed() - 32);
        }
    }
}

pub(crate) fn decode_q8_k(block: &[u8; 292], y: &mut [f32; 256]) {
    let d = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
    for (y, code) in y.iter_mut().zip(&block[4..260]) {
        *y = d * f32::from(code.cast_signed());
    }
}
