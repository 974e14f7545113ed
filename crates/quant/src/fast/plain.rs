//! The 32-element formats without importance: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, MXFP4.
//!
//! No search, so no lanes: 16 blocks at a time in three passes (largest magnitudes or ranges;
//! scales and their inverses; codes), each a loop the compiler vectorises. A block with a value
//! that is not finite goes to the scalar reference.

use pulp::{Simd, WithSimd};

use super::lanes::{MAGIC, greater, lesser, mask, round};
use crate::float::f32_to_f16;
use crate::scalar::fp4::{e8m0_half, encode_mxfp4, mxfp4_exponent};
use crate::scalar::legacy::{encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1, encode_q8_0};
use crate::scalar::{inverse, put_f16};

const GROUP: usize = 16;
const INFINITY: u32 = 0x7f80_0000;
const SIGN: u32 = 0x8000_0000;

macro_rules! job {
    ($name:ident, $run:ident) => {
        pub(crate) struct $name<'a> {
            pub(crate) src: &'a [f32],
            pub(crate) out: &'a mut [u8],
        }

        impl WithSimd for $name<'_> {
            type Output = ();

            #[inline(always)]
            fn with_simd<S: Simd>(self, _simd: S) {
                $run(self.src, self.out);
            }
        }
    };
}

job!(Q4_0, q4_0);
job!(Q4_1, q4_1);
job!(Q5_0, q5_0);
job!(Q5_1, q5_1);
job!(Q8_0, q8_0);
job!(Mxfp4, mxfp4);

/// Bits of the largest magnitude. Integers, because a float maximum does not vectorise.
#[inline(always)]
fn magnitude(x: &[f32; 32]) -> u32 {
    x.iter().fold(0, |max, v| {
        let bits = v.to_bits() & !SIGN;
        if bits > max { bits } else { max }
    })
}

/// Low byte of an integer held as a float.
#[inline(always)]
fn low_byte(v: f32) -> u8 {
    (v + MAGIC).to_bits() as u8
}

/// Truncation of a number that is zero or above and below 2^22.
#[inline(always)]
fn floor(v: f32) -> f32 {
    let nearest = round(v);
    nearest - f32::from_bits(mask(nearest > v) & 1.0_f32.to_bits())
}

/// `1 / d`, and zero where that is infinite: C's conversion of infinities and NaN to bytes gives
/// zero there, which the caller arranges.
#[inline(always)]
fn finite_inverse(d: f32) -> (f32, bool) {
    let id = inverse(d);
    if id.is_infinite() {
        (0.0, true)
    } else {
        (id, false)
    }
}

/// The scales of a group at the head of its blocks: all are rounded before one is stored, side by
/// side.
#[inline(always)]
fn put_scales<const B: usize>(d: &[f32; GROUP], out: &mut [[u8; B]]) {
    let mut halves = [0_u16; GROUP];
    for b in 0..GROUP {
        halves[b] = f32_to_f16(d[b]);
    }
    for (out, half) in out.iter_mut().zip(halves) {
        out[..2].copy_from_slice(&half.to_le_bytes());
    }
}

#[inline(always)]
fn q8_0(src: &[f32], out: &mut [u8]) {
    let groups = src.as_chunks::<32>().0.chunks(GROUP);
    for (x, out) in groups.zip(out.as_chunks_mut::<34>().0.chunks_mut(GROUP)) {
        let mut top = [0_u32; GROUP];
        for (top, x) in top.iter_mut().zip(x) {
            *top = magnitude(x);
        }
        let (mut d, mut id) = ([0.0_f32; GROUP], [0.0_f32; GROUP]);
        for b in 0..GROUP {
            d[b] = f32::from_bits(top[b]) / 127.0;
            id[b] = finite_inverse(d[b]).0;
        }
        put_scales(&d, out);
        for (b, (x, out)) in x.iter().zip(out.iter_mut()).enumerate() {
            let codes = &mut out[2..34];
            for i in 0..32 {
                let v = x[i] * id[b];
                let sign = v.to_bits() & SIGN;
                let nearest = round(v);
                // Half goes away from zero, where `round` may have gone to the even side.
                let tie = mask(v - nearest == f32::from_bits(0.5_f32.to_bits() | sign));
                let up = f32::from_bits(tie & (1.0_f32.to_bits() | sign));
                codes[i] = low_byte(nearest + up);
            }
        }
        for b in 0..x.len() {
            if top[b] >= INFINITY {
                encode_q8_0(&x[b], None, &mut out[b]);
            }
        }
    }
}

/// The value of largest magnitude, the first where both signs have it.
#[inline(always)]
fn extreme(x: &[f32; 32]) -> f32 {
    let (low, high) = range(x);
    if high > -low {
        high
    } else if high < -low {
        low
    } else {
        crate::scalar::extreme(x).1
    }
}

/// Codes and scales of Q4_0 (`half` 8) and Q5_0 (16); `B` bytes a block, nibbles from `at`.
#[inline(always)]
fn symmetric<const B: usize>(
    src: &[f32],
    out: &mut [u8],
    half: f32,
    scalar: impl Fn(&[f32; 32], &mut [u8; B]),
) {
    let groups = src.as_chunks::<32>().0.chunks(GROUP);
    for (x, out) in groups.zip(out.as_chunks_mut::<B>().0.chunks_mut(GROUP)) {
        let mut top = [0_u32; GROUP];
        for (top, x) in top.iter_mut().zip(x) {
            *top = magnitude(x);
        }
        let (mut id, mut offset) = ([0.0_f32; GROUP], [half + 0.5; GROUP]);
        let mut d = [0.0_f32; GROUP];
        for (d, x) in d.iter_mut().zip(x) {
            *d = extreme(x);
        }
        for b in 0..GROUP {
            d[b] /= -half;
            let (value, infinite) = finite_inverse(d[b]);
            id[b] = value;
            if infinite {
                offset[b] = 0.0;
            }
        }
        put_scales(&d, out);
        for (b, (x, out)) in x.iter().zip(out.iter_mut()).enumerate() {
            let mut codes = [0_u8; 32];
            for i in 0..32 {
                let v = floor(x[i] * id[b] + offset[b]);
                codes[i] = low_byte(lesser(v, half * 2.0 - 1.0));
            }
            put_codes(&mut out[2..], &codes);
        }
        for b in 0..x.len() {
            if top[b] >= INFINITY {
                scalar(&x[b], &mut out[b]);
            }
        }
    }
}

/// Nibbles, before them the fifth bits where there is room for both.
#[inline(always)]
pub(super) fn put_codes(out: &mut [u8], codes: &[u8; 32]) {
    let (high, nibbles) = out.split_at_mut(out.len() - 16);
    if let [a, b, c, d] = high {
        for (byte, codes) in [a, b, c, d].into_iter().zip(codes.as_chunks::<8>().0) {
            // The product brings bit 4 of byte `i` to bit `56 + i`.
            let bits = u64::from_le_bytes(*codes) >> 4 & 0x0101_0101_0101_0101;
            *byte = (bits.wrapping_mul(0x0102_0408_1020_4080) >> 56) as u8;
        }
    }
    for i in 0..16 {
        nibbles[i] = codes[i] & 15 | codes[i + 16] << 4;
    }
}

#[inline(always)]
fn q4_0(src: &[f32], out: &mut [u8]) {
    symmetric::<18>(src, out, 8.0, |x, out| encode_q4_0(x, None, out));
}

#[inline(always)]
fn q5_0(src: &[f32], out: &mut [u8]) {
    symmetric::<22>(src, out, 16.0, |x, out| encode_q5_0(x, None, out));
}

/// Smallest and largest, halving the block; the sign of a zero is the caller's care.
#[inline(always)]
fn range(x: &[f32; 32]) -> (f32, f32) {
    let (mut low, mut high) = ([0.0; 16], [0.0; 16]);
    for i in 0..16 {
        low[i] = lesser(x[i], x[i + 16]);
        high[i] = greater(x[i], x[i + 16]);
    }
    for width in [8, 4, 2, 1] {
        for i in 0..width {
            low[i] = lesser(low[i], low[i + width]);
            high[i] = greater(high[i], high[i + width]);
        }
    }
    (low[0], high[0])
}

/// Q4_1 (`nmax` 15) and Q5_1 (31).
#[inline(always)]
fn affine<const B: usize>(
    src: &[f32],
    out: &mut [u8],
    nmax: f32,
    scalar: impl Fn(&[f32; 32], &mut [u8; B]),
) {
    let groups = src.as_chunks::<32>().0.chunks(GROUP);
    for (x, out) in groups.zip(out.as_chunks_mut::<B>().0.chunks_mut(GROUP)) {
        let (mut low, mut high, mut top) = ([0.0; GROUP], [0.0; GROUP], [0_u32; GROUP]);
        for (b, x) in x.iter().enumerate() {
            (low[b], high[b]) = range(x);
            top[b] = magnitude(x);
        }
        let (mut id, mut half) = ([0.0_f32; GROUP], [0.5; GROUP]);
        for b in 0..x.len() {
            if low[b] == 0.0 {
                // The first of equal zeros is the minimum, and its sign is stored.
                low[b] = x[b].iter().copied().find(|v| *v == 0.0).unwrap_or(low[b]);
            }
            let d = (high[b] - low[b]) / nmax + 0.0;
            let (value, infinite) = finite_inverse(d);
            id[b] = value;
            if infinite {
                half[b] = 0.0;
            }
            if d.is_infinite() {
                top[b] = INFINITY;
            }
            put_f16(&mut out[b][..2], d);
            put_f16(&mut out[b][2..4], low[b]);
        }
        for (b, (x, out)) in x.iter().zip(out.iter_mut()).enumerate() {
            let mut codes = [0_u8; 32];
            for i in 0..32 {
                let v = floor((x[i] - low[b]) * id[b] + half[b]);
                codes[i] = low_byte(lesser(v, nmax));
            }
            put_codes(&mut out[4..], &codes);
        }
        for b in 0..x.len() {
            if top[b] >= INFINITY {
                scalar(&x[b], &mut out[b]);
            }
        }
    }
}

#[inline(always)]
fn q4_1(src: &[f32], out: &mut [u8]) {
    affine::<20>(src, out, 15.0, |x, out| encode_q4_1(x, None, out));
}

#[inline(always)]
fn q5_1(src: &[f32], out: &mut [u8]) {
    affine::<24>(src, out, 31.0, |x, out| encode_q5_1(x, None, out));
}

/// The nearest value by counting the midpoints passed: between neighbours at most twofold apart
/// the differences C compares are exact, and a tie stays with the smaller magnitude.
#[inline(always)]
fn mxfp4(src: &[f32], out: &mut [u8]) {
    const MIDPOINTS: [f32; 7] = [0.5, 1.5, 2.5, 3.5, 5.0, 7.0, 10.0];
    for (x, out) in src
        .as_chunks::<32>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<17>().0)
    {
        let top = magnitude(x);
        if top >= INFINITY {
            encode_mxfp4(x, None, out);
            continue;
        }
        let e = mxfp4_exponent(f32::from_bits(top));
        let scale = e8m0_half(e);
        let bounds = MIDPOINTS.map(|m| m * scale);
        let mut codes = [0_u8; 32];
        for i in 0..32 {
            let bits = x[i].to_bits();
            let size = f32::from_bits(bits & !SIGN);
            let mut code = 0_u32;
            for bound in bounds {
                code += u32::from(size > bound);
            }
            let negative = mask(code != 0) & (bits >> 31 << 3);
            codes[i] = (code | negative) as u8;
        }
        out[0] = e;
        put_codes(&mut out[1..], &codes);
    }
}
