//! IQ4_NL and IQ4_XS in lanes.
//!
//! The nearest value is found by counting the midpoints that are not above, which equals C's
//! search because the differences it compares are exact. Over the fifteen trial scales (from
//! `-134/max` to `-120/max`) a product changes by a factor below 1.12, less than any two
//! neighbouring midpoints lie apart, so an element passes one midpoint at most: the next one towards
//! zero. Its two values are known beforehand, with the terms both add to the sums; a trial is then a product, a comparison,
//! two selections and two sums. Only the first evaluation, which C makes with the opposite sign,
//! is done in full.

use pulp::{Simd, WithSimd};

use super::lanes::{fill, greater, mask, nearest_int, select};
use crate::scalar::iq4::{VALUES, encode_iq4_nl, encode_iq4_xs};
use crate::scalar::{GROUP_MAX_EPS, Importance, extreme, inverse, put_f16};

/// Halfway between neighbouring values.
const MIDPOINTS: [f32; 15] = {
    let mut out = [0.0; 15];
    let mut i = 0;
    while i < 15 {
        out[i] = f32::midpoint(VALUES[i] as f32, VALUES[i + 1] as f32);
        i += 1;
    }
    out
};

/// How many of them are below zero.
const BELOW_ZERO: usize = 8;

const _: () = assert!(MIDPOINTS[BELOW_ZERO - 1] < 0.0 && MIDPOINTS[BELOW_ZERO] > 0.0);

/// IQ4_NL: whole blocks. IQ4_XS: whole super-blocks.
pub(crate) struct Nl<'a, const WEIGHTED: bool> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl<const WEIGHTED: bool> WithSimd for Nl<'_, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        nl::<WEIGHTED, 16>(self.src, self.importance, self.out);
    }
}

/// As [`Nl`].
pub(crate) struct Xs<'a, const WEIGHTED: bool> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl<const WEIGHTED: bool> WithSimd for Xs<'_, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        xs::<WEIGHTED, 16>(self.src, self.importance, self.out);
    }
}

/// The value nearest to each product.
#[inline(always)]
fn nearest<const N: usize>(inverse: &[f32; N], x: &[f32; N]) -> [f32; N] {
    let mut q = [f32::from(VALUES[0]); N];
    let mut product = [0.0; N];
    for j in 0..N {
        product[j] = inverse[j] * x[j];
    }
    for (k, midpoint) in MIDPOINTS.into_iter().enumerate() {
        let step = (f32::from(VALUES[k + 1]) - f32::from(VALUES[k])).to_bits();
        for j in 0..N {
            q[j] += f32::from_bits(mask(product[j] >= midpoint) & step);
        }
    }
    q
}

/// As [`nearest`], and the midpoint that a product shrinking towards zero would pass first:
/// infinity where there is none.
#[inline(always)]
fn nearest_and_next<const N: usize>(inverse: &[f32; N], x: &[f32; N]) -> ([f32; N], [f32; N]) {
    let mut q = [f32::from(VALUES[0]); N];
    let mut next = [f32::INFINITY; N];
    let mut product = [0.0; N];
    for j in 0..N {
        product[j] = inverse[j] * x[j];
    }
    // Below zero it is the lowest midpoint above, above zero the highest that is not above.
    for (k, midpoint) in MIDPOINTS.into_iter().enumerate().take(BELOW_ZERO).rev() {
        let step = (f32::from(VALUES[k + 1]) - f32::from(VALUES[k])).to_bits();
        for j in 0..N {
            let reached = mask(product[j] >= midpoint);
            q[j] += f32::from_bits(reached & step);
            next[j] = select(reached, next[j], midpoint);
        }
    }
    for (k, midpoint) in MIDPOINTS.into_iter().enumerate().skip(BELOW_ZERO) {
        let step = (f32::from(VALUES[k + 1]) - f32::from(VALUES[k])).to_bits();
        for j in 0..N {
            let reached = mask(product[j] >= midpoint);
            q[j] += f32::from_bits(reached & step);
            next[j] = select(reached, midpoint, next[j]);
        }
    }
    (q, next)
}

/// Scale of `N` groups of 32 finite values (`scale_of` of the scalar reference).
#[inline(always)]
fn scales<const N: usize>(x: &[[f32; N]; 32], w: &[[f32; N]; 32]) -> [f32; N] {
    let (mut amax, mut max) = ([0.0_f32; N], [0.0_f32; N]);
    for row in x {
        for j in 0..N {
            let ax = row[j].abs();
            let larger = mask(ax > amax[j]);
            amax[j] = greater(ax, amax[j]);
            max[j] = select(larger, row[j], max[j]);
        }
    }
    let lowest = f32::from(VALUES[0]);
    let (mut zero, mut first) = ([0_u32; N], [0.0; N]);
    let mut large = [0.0; N];
    for j in 0..N {
        zero[j] = mask(amax[j] < GROUP_MAX_EPS);
        max[j] = select(zero[j], 1.0, max[j]);
        first[j] = 1.0 / (-max[j] / lowest);
        large[j] = (-7.0 + lowest) / max[j];
    }
    // Terms of each element on either side of the one midpoint it may pass.
    let (mut bound, mut low_qx, mut high_qx) = ([[0.0; N]; 32], [[0.0; N]; 32], [[0.0; N]; 32]);
    let (mut low_q2, mut high_q2) = ([[0.0; N]; 32], [[0.0; N]; 32]);
    let (mut sum_qx, mut sum_q2) = ([0.0_f32; N], [0.0_f32; N]);
    for i in 0..32 {
        let q = nearest::<N>(&first, &x[i]);
        let (a, next) = nearest_and_next::<N>(&large, &x[i]);
        for j in 0..N {
            let (w, x) = (w[i][j], x[i][j]);
            sum_qx[j] += (w * q[j]) * x;
            sum_q2[j] += (w * q[j]) * q[j];
            // The value beyond that midpoint lies as far from it; exact in whole and half numbers.
            let b = 2.0 * next[j] - a[j];
            let swap = mask(a[j] > b);
            let (low, high) = (select(swap, b, a[j]), select(swap, a[j], b));
            bound[i][j] = next[j];
            low_qx[i][j] = (w * low) * x;
            high_qx[i][j] = (w * high) * x;
            low_q2[i][j] = (w * low) * low;
            high_q2[i][j] = (w * high) * high;
        }
    }
    let (mut d, mut best) = ([0.0; N], [0.0; N]);
    for j in 0..N {
        d[j] = select(mask(sum_q2[j] > 0.0), sum_qx[j] / sum_q2[j], 0.0);
        best[j] = d[j] * sum_qx[j];
    }
    for step in -7_i8..=7 {
        let mut trial = [0.0; N];
        for j in 0..N {
            trial[j] = (f32::from(step) + lowest) / max[j];
        }
        let (mut sum_qx, mut sum_q2) = ([0.0_f32; N], [0.0_f32; N]);
        for i in 0..32 {
            for j in 0..N {
                let over = mask(trial[j] * x[i][j] >= bound[i][j]);
                sum_qx[j] += select(over, high_qx[i][j], low_qx[i][j]);
                sum_q2[j] += select(over, high_q2[i][j], low_q2[i][j]);
            }
        }
        for j in 0..N {
            let better = mask(sum_q2[j] > 0.0) & mask(sum_qx[j] * sum_qx[j] > best[j] * sum_q2[j]);
            let fitted = sum_qx[j] / sum_q2[j];
            d[j] = select(better, fitted, d[j]);
            best[j] = select(better, fitted * sum_qx[j], best[j]);
        }
    }
    for j in 0..N {
        d[j] = select(zero[j], 0.0, d[j]);
    }
    d
}

/// Final codes of 32 elements, as nibbles.
#[inline(always)]
fn codes(x: &[f32; 32], inverse: f32) -> [u8; 16] {
    let mut low = [0_u32; 16];
    let mut high = [0_u32; 16];
    for i in 0..16 {
        let (a, b) = (inverse * x[i], inverse * x[i + 16]);
        for midpoint in MIDPOINTS {
            low[i] += u32::from(a >= midpoint);
            high[i] += u32::from(b >= midpoint);
        }
    }
    let mut out = [0; 16];
    for i in 0..16 {
        out[i] = (low[i] | high[i] << 4) as u8;
    }
    out
}

/// Weights: squares, or importance raised by magnitude.
#[inline(always)]
fn weigh<const N: usize>(
    x: &[[f32; N]; 32],
    importance: Option<(&[[f32; N]; 32], &[f32; N])>,
) -> [[f32; N]; 32] {
    let mut w = *x;
    for i in 0..32 {
        for j in 0..N {
            let square = x[i][j] * x[i][j];
            w[i][j] = match importance {
                Some((weights, means)) => weights[i][j] * (means[j] + square).sqrt(),
                None => square,
            };
        }
    }
    w
}

#[inline(always)]
fn nl<const WEIGHTED: bool, const N: usize>(src: &[f32], importance: &[f32], out: &mut [u8]) {
    let mut at = 0;
    let mut weights = [[0.0_f32; 32]; N];
    for (src, out) in src.chunks(32 * N).zip(out.chunks_mut(18 * N)) {
        let (x, bad) = fill::<N, 32>(src);
        let w = if WEIGHTED {
            for (j, weights) in weights.iter_mut().enumerate().take(src.len() / 32) {
                let first = (at + j) * 32 % importance.len();
                weights.copy_from_slice(&importance[first..first + 32]);
            }
            let mut means = [0.0; N];
            for row in &x {
                for j in 0..N {
                    means[j] += row[j] * row[j];
                }
            }
            for mean in &mut means {
                *mean *= 2.0 / 32.0;
            }
            weigh(&x, Some((&fill::<N, 32>(weights.as_flattened()).0, &means)))
        } else {
            weigh(&x, None)
        };
        let d = scales::<N>(&x, &w);
        let blocks = src
            .as_chunks::<32>()
            .0
            .iter()
            .zip(out.as_chunks_mut::<18>().0);
        for (j, (x, out)) in blocks.enumerate() {
            if bad[j] != 0 || !d[j].is_finite() || inverse(d[j]).is_infinite() {
                let row_mean_square = 0.0; // not looked at by this format
                let importance = WEIGHTED.then_some(Importance {
                    weights: &weights[j],
                    row_mean_square,
                });
                encode_iq4_nl(x, importance, out);
                continue;
            }
            put_f16(&mut out[..2], d[j]);
            out[2..].copy_from_slice(&codes(x, inverse(d[j])));
        }
        at += N;
    }
}

/// Super-blocks a batch.
const BATCH: usize = 8;

#[inline(always)]
fn xs<const WEIGHTED: bool, const N: usize>(src: &[f32], importance: &[f32], out: &mut [u8]) {
    let mut at = 0;
    let mut weights = [[0.0_f32; 256]; BATCH];
    for (src, out) in src.chunks(256 * BATCH).zip(out.chunks_mut(136 * BATCH)) {
        let supers = src.as_chunks::<256>().0;
        let mut mean_square = [0.0_f32; BATCH];
        if WEIGHTED {
            super::affine::sums_of_squares(supers, &mut mean_square);
            for (s, weights) in weights.iter_mut().enumerate().take(supers.len()) {
                mean_square[s] *= 2.0 / 256.0;
                let first = (at + s) * 256 % importance.len();
                weights.copy_from_slice(&importance[first..first + 256]);
            }
        }
        let (mut found, mut bad) = ([0.0_f32; 8 * BATCH], [0_u32; 8 * BATCH]);
        for (g, group) in src.chunks(32 * N).enumerate() {
            let (x, spoiled) = fill::<N, 32>(group);
            let w = if WEIGHTED {
                let mut means = [0.0; N];
                for j in 0..N {
                    means[j] = mean_square[(g * N + j) / 8];
                }
                let (weights, _) = fill::<N, 32>(&weights.as_flattened()[32 * N * g..]);
                weigh(&x, Some((&weights, &means)))
            } else {
                weigh(&x, None)
            };
            found[g * N..g * N + N].copy_from_slice(&scales::<N>(&x, &w));
            bad[g * N..g * N + N].copy_from_slice(&spoiled);
        }
        for (s, (x, out)) in supers.iter().zip(out.as_chunks_mut::<136>().0).enumerate() {
            let d = &found[8 * s..8 * s + 8];
            let bad = bad[8 * s..8 * s + 8].iter().fold(0, |all, lane| all | lane);
            let scale = -extreme(d).1 / 32.0;
            let id = inverse(scale);
            if bad != 0 || !d.iter().all(|v| v.is_finite()) || id.is_infinite() {
                let importance = WEIGHTED.then_some(Importance {
                    weights: &weights[s],
                    row_mean_square: 0.0,
                });
                encode_iq4_xs(x, importance, out);
                continue;
            }
            put_f16(&mut out[..2], scale);
            let (mut scales_h, mut scales_l) = (0_u16, 0_u32);
            for (i, x) in x.as_chunks::<32>().0.iter().enumerate() {
                let l = nearest_int(id * d[i]).clamp(-32, 31);
                let idl = inverse(scale * l as f32);
                out[8 + 16 * i..24 + 16 * i].copy_from_slice(&codes(x, idl));
                let l = (l + 32) as u32;
                scales_l |= (l & 15) << (4 * i);
                scales_h |= ((l >> 4) as u16) << (2 * i);
            }
            out[2..4].copy_from_slice(&scales_h.to_le_bytes());
            out[4..8].copy_from_slice(&scales_l.to_le_bytes());
        }
        at += BATCH;
    }
}
