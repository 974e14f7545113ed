//! Q3_K and Q6_K in lanes, sixteen super-blocks at a time.

use pulp::{Simd, WithSimd};

use super::lanes::{descent, fill, nearest_int, symmetric};
use crate::scalar::kquants::{
    encode_q3_k, encode_q6_k, put_scales_q3, put_six_bits, put_third_bits, put_two_bits, scale_q3,
    through_f16,
};
use crate::scalar::{GROUP_MAX_EPS, Importance, extreme, put_f16};

/// Super-blocks a batch: Q3_K's search over scales takes them as lanes.
const BATCH: usize = 16;
const SUBS: usize = 16 * BATCH;

/// Whole super-blocks of Q6_K. `WEIGHTED` says whether there is importance.
pub(crate) struct Q6K<'a, const WEIGHTED: bool> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl<const WEIGHTED: bool> WithSimd for Q6K<'_, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if S::F32_LANES == 16 {
            q6_k::<WEIGHTED, 32>(self.src, self.importance, self.out);
        } else {
            q6_k::<WEIGHTED, 16>(self.src, self.importance, self.out);
        }
    }
}

/// Whole super-blocks of Q3_K.
pub(crate) struct Q3K<'a, const WEIGHTED: bool> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
}

impl<const WEIGHTED: bool> WithSimd for Q3K<'_, WEIGHTED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if WEIGHTED {
            if S::F32_LANES == 16 {
                q3_k_weighted::<32>(self.src, self.importance, self.out);
            } else {
                q3_k_weighted::<16>(self.src, self.importance, self.out);
            }
        } else {
            // The fewer the lanes, the more often all codes stay and nothing is divided.
            q3_k::<16>(self.src, self.out);
        }
    }
}

/// What the sub-block search gives for a batch.
struct Found {
    scale: [f32; SUBS],
    inverse: [f32; SUBS],
    /// Sub-blocks whose codes are zero rather than the offset.
    zero: [u32; SUBS],
    bad: [u32; SUBS],
    weight: [f32; SUBS],
}

impl Found {
    const NEW: Self = Self {
        scale: [0.0; SUBS],
        inverse: [0.0; SUBS],
        zero: [0; SUBS],
        bad: [0; SUBS],
        weight: [0.0; SUBS],
    };

    #[inline(always)]
    fn is_bad(&self, s: usize) -> bool {
        self.bad[16 * s..16 * s + 16]
            .iter()
            .fold(0, |all, lane| all | lane)
            != 0
    }
}

#[inline(always)]
fn gather_importance(importance: &[f32], first: usize, to: &mut [[f32; 256]]) {
    for (s, to) in to.iter_mut().enumerate() {
        let at = (first + s) * 256 % importance.len();
        to.copy_from_slice(&importance[at..at + 256]);
    }
}

/// Final codes of one sub-block; where the stored scale is zero, the search's own.
#[inline(always)]
fn recode(x: &[f32; 16], scale: f32, inverse: f32, zero: u32, nmax: i32, codes: &mut [u8; 16]) {
    if scale != 0.0 {
        for i in 0..16 {
            codes[i] = (nearest_int(x[i] / scale).clamp(-nmax, nmax - 1) + nmax) as u8;
        }
    } else if zero == 0 {
        for i in 0..16 {
            codes[i] = (nearest_int(inverse * x[i]).clamp(-nmax, nmax - 1) + nmax) as u8;
        }
    }
}

#[inline(always)]
fn q6_k<const WEIGHTED: bool, const N: usize>(src: &[f32], importance: &[f32], out: &mut [u8]) {
    let mut found = Found::NEW;
    let mut weights = [[0.0_f32; 256]; BATCH];
    let mut at = 0;
    for (src, out) in src.chunks(256 * BATCH).zip(out.chunks_mut(210 * BATCH)) {
        let supers = src.as_chunks::<256>().0;
        if WEIGHTED {
            gather_importance(importance, at, &mut weights[..supers.len()]);
        }
        for (g, group) in src.chunks(16 * N).enumerate() {
            let (x, bad) = fill::<N, 16>(group);
            let w = if WEIGHTED {
                fill::<N, 16>(&weights.as_flattened()[16 * N * g..]).0
            } else {
                let mut w = x;
                for i in 0..16 {
                    for j in 0..N {
                        w[i][j] *= x[i][j];
                    }
                }
                w
            };
            let lanes = symmetric::<N, 16>(32.0, &x, &w);
            let to = g * N..g * N + N;
            found.scale[to.clone()].copy_from_slice(&lanes.scale);
            found.inverse[to.clone()].copy_from_slice(&lanes.inverse);
            found.zero[to.clone()].copy_from_slice(&lanes.zero);
            found.bad[to].copy_from_slice(&bad);
        }
        let outs = out.as_chunks_mut::<210>().0;
        for (s, (x, out)) in supers.iter().zip(outs).enumerate() {
            if found.is_bad(s) {
                let importance = WEIGHTED.then_some(Importance {
                    weights: &weights[s],
                    row_mean_square: 0.0,
                });
                encode_q6_k(x, importance, out);
                continue;
            }
            let scales = &found.scale[16 * s..16 * s + 16];
            let (magnitude, max) = extreme(scales);
            if magnitude < GROUP_MAX_EPS {
                out.fill(0);
                continue;
            }
            let inverse = -128.0 / max;
            put_f16(&mut out[208..], 1.0 / inverse);
            let d = through_f16(1.0 / inverse);
            let mut codes = [0_u8; 256];
            let groups = codes
                .as_chunks_mut::<16>()
                .0
                .iter_mut()
                .zip(x.as_chunks::<16>().0);
            for (j, (codes, x)) in groups.enumerate() {
                let scale = nearest_int(inverse * scales[j]).min(127) as i8;
                out[192 + j] = scale.cast_unsigned();
                let lane = 16 * s + j;
                let scale = d * f32::from(scale);
                recode(x, scale, found.inverse[lane], found.zero[lane], 32, codes);
            }
            put_six_bits(&mut out[..192], &codes);
        }
        at += BATCH;
    }
}

/// The last part of Q3_K: scales stored, codes made and packed.
#[inline(always)]
fn put_q3(
    x: &[f32; 256],
    scale_codes: &[u8; 16],
    d: f32,
    mut codes: [u8; 256],
    out: &mut [u8; 110],
) {
    put_scales_q3(&mut out[96..108], scale_codes);
    put_f16(&mut out[108..], d);
    let d = through_f16(d);
    let groups = codes
        .as_chunks_mut::<16>()
        .0
        .iter_mut()
        .zip(x.as_chunks::<16>().0);
    for (j, (codes, x)) in groups.enumerate() {
        // The codes given already hold what a zero scale leaves in place.
        recode(
            x,
            d * f32::from(scale_q3(&out[96..108], j)),
            0.0,
            u32::MAX,
            4,
            codes,
        );
    }
    put_third_bits(&mut out[..32], &mut codes);
    put_two_bits(&mut out[32..96], &codes);
}

#[inline(always)]
fn q3_k<const N: usize>(src: &[f32], out: &mut [u8]) {
    for (src, out) in src.chunks(16 * N).zip(out.chunks_mut(110 * N / 16)) {
        let (x, bad) = fill::<N, 16>(src);
        let (lanes, scale, zero) = descent::<N, 16>(4, &x);
        let outs = out.as_chunks_mut::<110>().0;
        for (s, (x, out)) in src.as_chunks::<256>().0.iter().zip(outs).enumerate() {
            let first = 16 * s;
            if bad[first..first + 16]
                .iter()
                .fold(0, |all, lane| all | lane)
                != 0
            {
                encode_q3_k(x, None, out);
                continue;
            }
            let scales = &scale[first..first + 16];
            let max = extreme(scales).1;
            let mut scale_codes = [0_u8; 16];
            let mut d = 0.0;
            if max != 0.0 {
                let inverse = -32.0 / max;
                for j in 0..16 {
                    let l = nearest_int(inverse * scales[j]) as i8; // a byte before it is bounded
                    scale_codes[j] = (l.clamp(-32, 31) + 32).cast_unsigned();
                }
                d = 1.0 / inverse;
            }
            let mut codes = [0_u8; 256];
            // Only a scale of exactly half the range is stored as zero.
            if max == 0.0 || scale_codes.contains(&32) {
                for j in 0..16 {
                    for i in 0..16 {
                        let code = (lanes[i][first + j] + 4.0) as u8;
                        codes[16 * j + i] = if zero[first + j] == 0 { code } else { 0 };
                    }
                }
            } else if through_f16(d) == 0.0 {
                encode_q3_k(x, None, out);
                continue;
            }
            put_q3(x, &scale_codes, d, codes, out);
        }
    }
}

#[inline(always)]
fn q3_k_weighted<const N: usize>(src: &[f32], importance: &[f32], out: &mut [u8]) {
    let mut found = Found::NEW;
    let mut weights = [[0.0_f32; 256]; BATCH];
    let mut at = 0;
    for (src, out) in src.chunks(256 * BATCH).zip(out.chunks_mut(110 * BATCH)) {
        let supers = src.as_chunks::<256>().0;
        gather_importance(importance, at, &mut weights[..supers.len()]);
        let mut mean_square = [0.0_f32; BATCH];
        for (means, supers) in mean_square
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(supers.chunks(8))
        {
            super::affine::sums_of_squares(supers, means);
        }
        for value in &mut mean_square {
            *value = 2.0 * *value / 256.0;
        }
        for (g, group) in src.chunks(16 * N).enumerate() {
            let (x, bad) = fill::<N, 16>(group);
            let (mut w, _) = fill::<N, 16>(&weights.as_flattened()[16 * N * g..]);
            let mut means = [0.0; N];
            for j in 0..N {
                means[j] = mean_square[(g * N + j) / 16];
            }
            let mut sums = [0.0; N];
            for i in 0..16 {
                for j in 0..N {
                    w[i][j] *= (means[j] + x[i][j] * x[i][j]).sqrt();
                    sums[j] += w[i][j];
                }
            }
            let lanes = symmetric::<N, 16>(4.0, &x, &w);
            let to = g * N..g * N + N;
            found.scale[to.clone()].copy_from_slice(&lanes.scale);
            found.inverse[to.clone()].copy_from_slice(&lanes.inverse);
            found.zero[to.clone()].copy_from_slice(&lanes.zero);
            found.bad[to.clone()].copy_from_slice(&bad);
            found.weight[to].copy_from_slice(&sums);
        }
        // The scales once more, super-blocks as lanes.
        let (mut x, mut w) = ([[0.0; BATCH]; 16], [[0.0; BATCH]; 16]);
        for s in 0..BATCH {
            for j in 0..16 {
                x[j][s] = found.scale[16 * s + j];
                w[j][s] = found.weight[16 * s + j];
            }
        }
        let second = symmetric::<BATCH, 16>(32.0, &x, &w);
        let outs = out.as_chunks_mut::<110>().0;
        for (s, (x, out)) in supers.iter().zip(outs).enumerate() {
            let finite = found.scale[16 * s..16 * s + 16]
                .iter()
                .all(|v| v.is_finite());
            if found.is_bad(s) || !finite {
                let importance = Importance {
                    weights: &weights[s],
                    row_mean_square: 0.0,
                };
                encode_q3_k(x, Some(importance), out);
                continue;
            }
            let mut scale_codes = [0_u8; 16];
            if second.zero[s] == 0 {
                for j in 0..16 {
                    let l = nearest_int(second.inverse[s] * found.scale[16 * s + j]);
                    scale_codes[j] = (l.clamp(-32, 31) + 32) as u8;
                }
            }
            let d = second.scale[s];
            let mut codes = [0_u8; 256];
            if scale_codes.contains(&32) || through_f16(d) == 0.0 {
                let groups = codes
                    .as_chunks_mut::<16>()
                    .0
                    .iter_mut()
                    .zip(x.as_chunks::<16>().0);
                for (j, (codes, x)) in groups.enumerate() {
                    let lane = 16 * s + j;
                    recode(x, 0.0, found.inverse[lane], found.zero[lane], 4, codes);
                }
            }
            put_q3(x, &scale_codes, d, codes, out);
        }
        at += BATCH;
    }
}
