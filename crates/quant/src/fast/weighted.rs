//! Q4_0, Q4_1, Q5_0 and Q5_1 with importance, blocks as lanes.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::lanes::{affine, fill, nearest_int, symmetric};
use super::plain::put_codes;
use crate::scalar::legacy::{encode_q4_0, encode_q4_1, encode_q5_0, encode_q5_1};
use crate::scalar::{Importance, put_f16, sum_of_squares};

/// What sets the four formats apart.
pub(crate) trait Format<const B: usize> {
    /// Half the codes of the symmetric formats, the largest code of the others.
    const NMAX: f32;
    const SYMMETRIC: bool;
    fn scalar(x: &[f32; 32], importance: Importance<'_, 32>, out: &mut [u8; B]);
}

macro_rules! format {
    ($name:ident, $bytes:literal, $nmax:literal, $symmetric:literal, $encode:ident) => {
        pub(crate) struct $name;
        impl Format<$bytes> for $name {
            const NMAX: f32 = $nmax;
            const SYMMETRIC: bool = $symmetric;
            fn scalar(x: &[f32; 32], importance: Importance<'_, 32>, out: &mut [u8; $bytes]) {
                $encode(x, Some(importance), out);
            }
        }
    };
}

format!(Q4_0, 18, 8.0, true, encode_q4_0);
format!(Q4_1, 20, 15.0, false, encode_q4_1);
format!(Q5_0, 22, 16.0, true, encode_q5_0);
format!(Q5_1, 24, 31.0, false, encode_q5_1);

/// Whole rows, each as long as `importance`.
pub(crate) struct Job<'a, F, const B: usize> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: &'a [f32],
    pub(crate) out: &'a mut [u8],
    pub(crate) format: PhantomData<F>,
}

impl<F: Format<B>, const B: usize> WithSimd for Job<'_, F, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        if S::F32_LANES == 16 {
            run::<F, B, 32>(self.src, self.importance, self.out);
        } else {
            run::<F, B, 16>(self.src, self.importance, self.out);
        }
    }
}

/// Rows whose squares are summed side by side: each sum is one chain in order.
const ROWS: usize = 8;

#[inline(always)]
fn run<F: Format<B>, const B: usize, const N: usize>(
    src: &[f32],
    importance: &[f32],
    out: &mut [u8],
) {
    let row_len = importance.len();
    let row_bytes = row_len / 32 * B;
    for (src, out) in src
        .chunks(ROWS * row_len)
        .zip(out.chunks_mut(ROWS * row_bytes))
    {
        let mut sums = [0.0_f32; ROWS];
        if src.len() == ROWS * row_len {
            for i in 0..row_len {
                for (r, sum) in sums.iter_mut().enumerate() {
                    let v = src[r * row_len + i];
                    *sum += v * v;
                }
            }
        } else {
            for (sum, row) in sums.iter_mut().zip(src.chunks_exact(row_len)) {
                *sum = sum_of_squares(row);
            }
        }
        for sum in &mut sums {
            *sum /= row_len as f32;
        }
        // Blocks of the following rows fill the lanes a short row leaves free.
        let blocks = src.chunks(32 * N).zip(out.chunks_mut(B * N));
        for (g, (src, out)) in blocks.enumerate() {
            group::<F, B, N>(src, g * N, importance, &sums, out);
        }
    }
}

/// `N` blocks, the first being block `first` of the batch of rows.
#[inline(always)]
fn group<F: Format<B>, const B: usize, const N: usize>(
    src: &[f32],
    first: usize,
    importance: &[f32],
    mean_squares: &[f32; ROWS],
    out: &mut [u8],
) {
    let per_row = importance.len() / 32;
    let count = src.len() / 32;
    let (x, mut bad) = fill::<N, 32>(src);
    let mut w = [[0.0; N]; 32];
    let mut means = [0.0; N];
    for j in 0..count {
        let at = (first + j) % per_row * 32;
        means[j] = mean_squares[(first + j) / per_row];
        for i in 0..32 {
            w[i][j] = importance[at + i];
        }
    }
    for i in 0..32 {
        for j in 0..N {
            w[i][j] *= (means[j] + x[i][j] * x[i][j]).sqrt();
        }
    }
    let (scale, min, inverse, base, zero);
    if F::SYMMETRIC {
        let found = symmetric::<N, 32>(F::NMAX, &x, &w);
        (scale, min, inverse, base) = (found.scale, [0.0; N], found.inverse, [0.0; N]);
        zero = found.zero;
    } else {
        let found = affine::<N, 32, false>(F::NMAX, &x, &w, (-0.9, 0.05, 36));
        for j in 0..N {
            bad[j] |= found.bad[j];
        }
        (scale, min, inverse, base) = (found.scale, found.min, found.inverse, found.base);
        zero = found.flat;
    }
    let nmax = F::NMAX as i32;
    let (low, high, offset) = if F::SYMMETRIC {
        (-nmax, nmax - 1, nmax)
    } else {
        (0, nmax, 0)
    };
    let blocks = src
        .as_chunks::<32>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<B>().0);
    for (j, (x, out)) in blocks.enumerate() {
        if bad[j] != 0 {
            let at = (first + j) % per_row * 32;
            if let Some((weights, _)) = importance[at..].split_first_chunk::<32>() {
                F::scalar(
                    x,
                    Importance {
                        weights,
                        row_mean_square: means[j],
                    },
                    out,
                );
            }
            continue;
        }
        let mut codes = [0_u8; 32];
        if zero[j] == 0 {
            for i in 0..32 {
                let code = nearest_int(inverse[j] * (x[i] - base[j]));
                codes[i] = (code.clamp(low, high) + offset) as u8;
            }
        }
        put_f16(&mut out[..2], scale[j]);
        if !F::SYMMETRIC {
            put_f16(&mut out[2..4], -min[j]);
        }
        put_codes(&mut out[if F::SYMMETRIC { 2 } else { 4 }..], &codes);
    }
}
