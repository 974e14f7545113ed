//! Q2_K, Q4_K and Q5_K in lanes, eight super-blocks at a time.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::lanes::{affine, fill, nearest_int, positive};
use crate::scalar::kquants::{
    encode_q2_k, encode_q4_k, encode_q5_k, put_fifth_bits, put_nibbles, put_scales_mins,
    put_two_bits, scale_min,
};
use crate::scalar::{Importance, put_f16};

/// Super-blocks a batch: their scales and minima are 16 lanes for the second search.
const BATCH: usize = 8;

/// What sets one of the three formats apart. `B` bytes a block, `SUB` elements a sub-block.
pub(crate) trait Affine<const B: usize> {
    const NMAX: f32;
    /// Without importance: first, delta, steps of the trials.
    const TRIALS: (f32, f32, u8);
    const Q2: bool;
    fn scalar(x: &[f32; 256], importance: Option<Importance<'_, 256>>, out: &mut [u8; B]);
    fn put_codes(out: &mut [u8; B], codes: &[u8; 256]);
}

pub(crate) struct Q2K;
pub(crate) struct Q4K;
pub(crate) struct Q5K;

impl Affine<84> for Q2K {
    const NMAX: f32 = 3.0;
    const TRIALS: (f32, f32, u8) = (-0.5, 0.1, 15);
    const Q2: bool = true;
    fn scalar(x: &[f32; 256], importance: Option<Importance<'_, 256>>, out: &mut [u8; 84]) {
        encode_q2_k(x, importance, out);
    }
    #[inline(always)]
    fn put_codes(out: &mut [u8; 84], codes: &[u8; 256]) {
        put_two_bits(&mut out[16..80], codes);
    }
}

impl Affine<144> for Q4K {
    const NMAX: f32 = 15.0;
    const TRIALS: (f32, f32, u8) = (-1.0, 0.1, 20);
    const Q2: bool = false;
    fn scalar(x: &[f32; 256], importance: Option<Importance<'_, 256>>, out: &mut [u8; 144]) {
        encode_q4_k(x, importance, out);
    }
    #[inline(always)]
    fn put_codes(out: &mut [u8; 144], codes: &[u8; 256]) {
        put_nibbles(&mut out[16..], codes);
    }
}

impl Affine<176> for Q5K {
    const NMAX: f32 = 31.0;
    const TRIALS: (f32, f32, u8) = (-0.5, 0.1, 15);
    const Q2: bool = false;
    fn scalar(x: &[f32; 256], importance: Option<Importance<'_, 256>>, out: &mut [u8; 176]) {
        encode_q5_k(x, importance, out);
    }
    #[inline(always)]
    fn put_codes(out: &mut [u8; 176], codes: &[u8; 256]) {
        put_fifth_bits(&mut out[16..48], codes);
        put_nibbles(&mut out[48..], codes);
    }
}

/// One call: whole super-blocks. `WEIGHTED` says whether there is importance.
pub(crate) struct Job<'a, F, const B: usize, const SUB: usize, const WEIGHTED: bool> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
    pub(crate) format: PhantomData<F>,
}

impl<F: Affine<B>, const B: usize, const SUB: usize, const WEIGHTED: bool> WithSimd
    for Job<'_, F, B, SUB, WEIGHTED>
{
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if S::F32_LANES == 16 {
            run::<F, B, SUB, WEIGHTED, 32>(self.src, self.importance, self.out);
        } else {
            run::<F, B, SUB, WEIGHTED, 16>(self.src, self.importance, self.out);
        }
    }
}

/// What the sub-block search gives for a batch, sub-block after sub-block (at most 128).
struct Found {
    scale: [f32; 128],
    min: [f32; 128],
    inverse: [f32; 128],
    base: [f32; 128],
    flat: [u32; 128],
    bad: [u32; 128],
    /// Sums of weights, for the search over scales.
    weight: [f32; 128],
}

#[inline(always)]
fn run<F: Affine<B>, const B: usize, const SUB: usize, const WEIGHTED: bool, const N: usize>(
    src: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let mut found = Found {
        scale: [0.0; 128],
        min: [0.0; 128],
        inverse: [0.0; 128],
        base: [0.0; 128],
        flat: [0; 128],
        bad: [0; 128],
        weight: [0.0; 128],
    };
    let mut weights = [[0.0_f32; 256]; BATCH];
    let mut at = 0;
    for (src, out) in src.chunks(256 * BATCH).zip(out.chunks_mut(B * BATCH)) {
        let supers = src.as_chunks::<256>().0;
        let mut mean_square = [0.0_f32; BATCH];
        if WEIGHTED {
            sums_of_squares(supers, &mut mean_square);
            for value in &mut mean_square {
                *value = if F::Q2 {
                    *value / 256.0
                } else {
                    2.0 * *value / 256.0
                };
            }
            for (s, weights) in weights.iter_mut().enumerate().take(supers.len()) {
                let first = (at + s) * 256 % importance.len();
                weights.copy_from_slice(&importance[first..first + 256]);
            }
        }
        let per_super = 256 / SUB;
        for (g, group) in src.chunks(SUB * N).enumerate() {
            let (x, mut bad) = fill::<N, SUB>(group);
            let w = if WEIGHTED {
                let first = g * SUB * N;
                let mut means = [0.0; N];
                for j in 0..N {
                    means[j] = mean_square[(g * N + j) / per_super];
                }
                let (mut w, _) = fill::<N, SUB>(&weights.as_flattened()[first..]);
                for i in 0..SUB {
                    for j in 0..N {
                        w[i][j] *= (means[j] + x[i][j] * x[i][j]).sqrt();
                    }
                }
                w
            } else {
                plain_weights::<N, SUB>(&x, F::Q2)
            };
            let lanes = if WEIGHTED {
                affine::<N, SUB, false>(F::NMAX, &x, &w, (-0.9, 0.05, 36))
            } else if F::Q2 {
                affine::<N, SUB, true>(F::NMAX, &x, &w, F::TRIALS)
            } else {
                affine::<N, SUB, false>(F::NMAX, &x, &w, F::TRIALS)
            };
            for j in 0..N {
                bad[j] |= lanes.bad[j];
            }
            let to = g * N..g * N + N;
            found.scale[to.clone()].copy_from_slice(&lanes.scale);
            found.min[to.clone()].copy_from_slice(&lanes.min);
            found.inverse[to.clone()].copy_from_slice(&lanes.inverse);
            found.base[to.clone()].copy_from_slice(&lanes.base);
            found.flat[to.clone()].copy_from_slice(&lanes.flat);
            found.bad[to.clone()].copy_from_slice(&bad);
            if WEIGHTED {
                let mut sums = [0.0_f32; N];
                for row in &w {
                    for j in 0..N {
                        sums[j] += row[j];
                    }
                }
                found.weight[to].copy_from_slice(&sums);
            }
        }
        let outs = out.as_chunks_mut::<B>().0;
        let mut spoiled = [0_u32; BATCH];
        if WEIGHTED {
            put_heads_weighted::<F, B, SUB>(&found, outs, &mut spoiled);
        } else {
            for (s, out) in outs.iter_mut().enumerate() {
                put_head::<F, B, SUB>(&found, s * per_super, out);
            }
        }
        for (s, (x, out)) in supers.iter().zip(outs).enumerate() {
            let lanes = s * per_super..(s + 1) * per_super;
            let bad = found.bad[lanes]
                .iter()
                .fold(spoiled[s], |all, lane| all | lane);
            if bad == 0 {
                finish::<F, B, SUB>(&found, s * per_super, x, out);
            } else {
                let row_mean_square = 0.0; // these formats look at the super-block only
                let importance = WEIGHTED.then_some(Importance {
                    weights: &weights[s],
                    row_mean_square,
                });
                F::scalar(x, importance, out);
            }
        }
        at += BATCH;
    }
}

/// Eight sums side by side, each in order.
#[inline(always)]
pub(crate) fn sums_of_squares(supers: &[[f32; 256]], sums: &mut [f32; 8]) {
    *sums = [0.0; 8];
    if let [a, b, c, d, e, f, g, h] = supers {
        for i in 0..256 {
            let x = [a[i], b[i], c[i], d[i], e[i], f[i], g[i], h[i]];
            for s in 0..8 {
                sums[s] += x[s] * x[s];
            }
        }
    } else {
        for (sum, x) in sums.iter_mut().zip(supers) {
            *sum = crate::scalar::sum_of_squares(x);
        }
    }
}

/// Q2_K weighs by magnitude, Q4_K and Q5_K add the sub-block's root mean square.
#[inline(always)]
fn plain_weights<const N: usize, const SUB: usize>(
    x: &[[f32; N]; SUB],
    q2: bool,
) -> [[f32; N]; SUB] {
    let mut mean = [0.0_f32; N];
    if !q2 {
        for row in x {
            for j in 0..N {
                mean[j] += row[j] * row[j];
            }
        }
        for mean in &mut mean {
            *mean = (*mean / 32.0).sqrt();
        }
    }
    let mut w = [[0.0; N]; SUB];
    for i in 0..SUB {
        for j in 0..N {
            w[i][j] = if q2 {
                x[i][j].abs()
            } else {
                mean[j] + x[i][j].abs()
            };
        }
    }
    w
}

#[inline(always)]
fn largest(values: &[f32]) -> f32 {
    values
        .iter()
        .fold(0.0, |max, &v| if v > max { v } else { max })
}

/// Scales and minima by their largest, as the scalar encoders do.
#[inline(always)]
fn put_head<F: Affine<B>, const B: usize, const SUB: usize>(
    found: &Found,
    first: usize,
    out: &mut [u8; B],
) {
    let per_super = 256 / SUB;
    let scales = &found.scale[first..first + per_super];
    let mins = &found.min[first..first + per_super];
    let (max_scale, max_min) = (largest(scales), largest(mins));
    if F::Q2 {
        let scale_inverse = if max_scale > 0.0 {
            15.0 / max_scale
        } else {
            0.0
        };
        let min_inverse = if max_min > 0.0 { 15.0 / max_min } else { 0.0 };
        for j in 0..per_super {
            let scale = nearest_int(scale_inverse * scales[j]) as u8;
            // Nothing may enter from a product with zero: an infinite scale would give NaN.
            let scale = if max_scale > 0.0 { scale } else { 0 };
            let min = (nearest_int(min_inverse * mins[j]) << 4) as u8;
            out[j] = scale | if max_min > 0.0 { min } else { 0 };
        }
        put_f16(
            &mut out[80..82],
            if max_scale > 0.0 {
                max_scale / 15.0
            } else {
                0.0
            },
        );
        put_f16(
            &mut out[82..84],
            if max_min > 0.0 { max_min / 15.0 } else { 0.0 },
        );
    } else {
        let scale_inverse = if max_scale > 0.0 {
            63.0 / max_scale
        } else {
            0.0
        };
        let min_inverse = if max_min > 0.0 { 63.0 / max_min } else { 0.0 };
        let (mut scale_codes, mut min_codes) = ([0_u8; 8], [0_u8; 8]);
        for j in 0..8 {
            scale_codes[j] = (nearest_int(scale_inverse * scales[j]) as u8).min(63);
            min_codes[j] = (nearest_int(min_inverse * mins[j]) as u8).min(63);
        }
        put_f16(&mut out[..2], max_scale / 63.0);
        put_f16(&mut out[2..4], max_min / 63.0);
        put_scales_mins(&mut out[4..16], scale_codes, min_codes);
    }
}

/// Scales and minima of the whole batch by the weighted search: lane `s` the scales of super-block
/// `s`, lane `8 + s` its minima.
#[inline(always)]
fn put_heads_weighted<F: Affine<B>, const B: usize, const SUB: usize>(
    found: &Found,
    outs: &mut [[u8; B]],
    spoiled: &mut [u32; BATCH],
) {
    if SUB == 16 {
        let (codes, d, bad) = second_search::<16, SUB>(found, 15.0);
        for (s, out) in outs.iter_mut().enumerate() {
            for j in 0..16 {
                out[j] = codes[j][s] as u8 | (codes[j][8 + s] as u8) << 4;
            }
            put_f16(&mut out[80..82], d[s]);
            put_f16(&mut out[82..84], d[8 + s]);
            spoiled[s] = bad[s] | bad[8 + s];
        }
    } else {
        let (codes, d, bad) = second_search::<8, SUB>(found, 63.0);
        for (s, out) in outs.iter_mut().enumerate() {
            let (mut scales, mut mins) = ([0_u8; 8], [0_u8; 8]);
            for j in 0..8 {
                scales[j] = codes[j][s] as u8;
                mins[j] = codes[j][8 + s] as u8;
            }
            put_f16(&mut out[..2], d[s]);
            put_f16(&mut out[2..4], d[8 + s]);
            put_scales_mins(&mut out[4..16], scales, mins);
            spoiled[s] = bad[s] | bad[8 + s];
        }
    }
}

#[inline(always)]
fn second_search<const P: usize, const SUB: usize>(
    found: &Found,
    nmax: f32,
) -> ([[f32; 16]; P], [f32; 16], [u32; 16]) {
    let (mut x, mut w) = ([[0.0; 16]; P], [[0.0; 16]; P]);
    for j in 0..P {
        for s in 0..BATCH {
            x[j][s] = found.scale[s * P + j];
            x[j][8 + s] = found.min[s * P + j];
            w[j][s] = found.weight[s * P + j];
            w[j][8 + s] = w[j][s];
        }
    }
    positive::<16, P>(nmax, &x, &w)
}

/// Final codes from the stored scales.
#[inline(always)]
fn finish<F: Affine<B>, const B: usize, const SUB: usize>(
    found: &Found,
    first: usize,
    x: &[f32; 256],
    out: &mut [u8; B],
) {
    let mut codes = [0_u8; 256];
    let half = |bytes: &[u8]| crate::scalar::get_f16(bytes);
    let (d, dmin) = if F::Q2 {
        (half(&out[80..]), half(&out[82..]))
    } else {
        (half(&out[..]), half(&out[2..]))
    };
    let nmax = F::NMAX as i32;
    let groups = codes
        .as_chunks_mut::<SUB>()
        .0
        .iter_mut()
        .zip(x.as_chunks::<SUB>().0);
    for (j, (codes, x)) in groups.enumerate() {
        let (scale, min) = if F::Q2 {
            (out[j] & 15, out[j] >> 4)
        } else {
            scale_min(&out[4..16], j)
        };
        let (scale, min) = (d * f32::from(scale), dmin * f32::from(min));
        if scale != 0.0 {
            for i in 0..SUB {
                codes[i] = nearest_int((x[i] + min) / scale).clamp(0, nmax) as u8;
            }
        } else if found.flat[first + j] == 0 {
            let (inverse, base) = (found.inverse[first + j], found.base[first + j]);
            for i in 0..SUB {
                codes[i] = nearest_int(inverse * (x[i] - base)).clamp(0, nmax) as u8;
            }
        }
    }
    F::put_codes(out, &codes);
}
