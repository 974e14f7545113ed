//! The grid formats' searches in lanes: trial scales side by side, and candidates side by side.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::lanes::{MAGIC, mask, select};
use crate::scalar::grid::{Grid, PIECE, Piece};
use crate::scalar::gridsearch::{Again, Trials, sums};
use crate::scalar::{Importance, nearest_int};

/// One block by the encoder a format shares with the scalar reference. A trait and not a closure,
/// because only a method can be told to be inlined, and what is not inlined loses the features.
pub(crate) trait Encode<const B: usize> {
    fn encode(x: &[f32; 256], importance: Option<Importance<'_, 256>>, out: &mut [u8; B]);
}

macro_rules! format {
    ($name:ident, $bytes:literal, $module:ident, $encode:ident) => {
        pub(crate) struct $name;
        impl Encode<$bytes> for $name {
            #[inline(always)]
            fn encode(
                x: &[f32; 256],
                importance: Option<Importance<'_, 256>>,
                out: &mut [u8; $bytes],
            ) {
                crate::scalar::$module::$encode::<true>(x, importance, out);
            }
        }
    };
}

format!(Iq2Xxs, 66, iq2, encode_iq2_xxs);
format!(Iq2Xs, 74, iq2, encode_iq2_xs);
format!(Iq2S, 82, iq2, encode_iq2_s);
format!(Iq3Xxs, 98, iq3, encode_iq3_xxs);
format!(Iq3S, 110, iq3, encode_iq3_s);
format!(Iq1S, 50, iq1, encode_iq1_s);
format!(Iq1M, 56, iq1, encode_iq1_m);

/// Whole super-blocks of a grid format; importance as [`crate::scalar::encode_rows`] takes it.
pub(crate) struct Job<'a, F, const B: usize> {
    pub(crate) src: &'a [f32],
    pub(crate) importance: Option<&'a [f32]>,
    pub(crate) out: &'a mut [u8],
    pub(crate) format: PhantomData<F>,
}

impl<F: Encode<B>, const B: usize> WithSimd for Job<'_, F, B> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let weights = self.importance.unwrap_or_default().as_chunks::<256>().0;
        let blocks = self
            .src
            .as_chunks::<256>()
            .0
            .iter()
            .zip(self.out.as_chunks_mut::<B>().0);
        for (s, (x, out)) in blocks.enumerate() {
            // None of these formats looks at more than the super-block.
            let importance = weights
                .get(s % weights.len().max(1))
                .map(|weights| Importance {
                    weights,
                    row_mean_square: 0.0,
                });
            F::encode(x, importance, out);
        }
    }
}

/// Room for the trials of any format: at most 31.
const TRIALS: usize = 32;

/// `scalar::gridsearch::search`: all trials' codes first, trials as lanes; then the sums, which
/// each lane adds in element order; then the choice, trial after trial.
#[inline(always)]
pub(crate) fn search<const S: usize, const D: usize>(
    grid: &Grid<D>,
    trials: Trials,
    x: &[f32; S],
    w: &[f32; S],
    (start, top): (f32, f32),
    codes: &mut [u8; S],
) -> f32 {
    let roots = w.map(f32::sqrt);
    let first = f32::from(Grid::<D>::CODES * 2 - 1);
    let last_code = i32::from(Grid::<D>::CODES) - 1;
    let bits = if D == 8 { 2 } else { 3 };
    let count = 2 * usize::from(trials.steps.unsigned_abs()) + 1;
    let (mut inverse, mut scales) = ([0.0; TRIALS], [0.0; TRIALS]);
    for t in 0..TRIALS {
        let step = (t as i32 - i32::from(trials.steps)) as f32;
        inverse[t] = (first + step * trials.delta) / top;
        scales[t] = 1.0 / inverse[t];
    }
    let mut values = [[0.0_f32; TRIALS]; S];
    let mut off = [[false; TRIALS]; 8];
    for k in 0..S / D {
        let mut keys = [0_i32; TRIALS];
        for i in 0..D {
            for t in 0..TRIALS {
                let v = 0.5 * (inverse[t] * x[D * k + i] - 1.0);
                let l = ((v + MAGIC).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000;
                let l = if l < 0 { 0 } else { l };
                let l = if l > last_code { last_code } else { l };
                keys[t] |= l << (bits * i);
                values[D * k + i][t] = (2 * l + 1) as f32;
            }
        }
        for t in 0..count {
            if let Err(list) = grid.at(keys[t] as usize) {
                off[k][t] = true;
                let point =
                    nearest::<D, false>(list, &x[D * k..], &roots[D * k..], scales[t], &[0.0; 3]);
                for (i, code) in grid.codes(point).iter().enumerate() {
                    values[D * k + i][t] = f32::from(2 * code + 1);
                }
            }
        }
    }
    let (mut sum_qx, mut sum_q2) = ([0.0_f32; TRIALS], [0.0_f32; TRIALS]);
    for i in 0..S {
        let wx = w[i] * x[i];
        for t in 0..TRIALS {
            let q = values[i][t];
            sum_qx[t] += wx * q;
            sum_q2[t] += (w[i] * q) * q;
        }
    }
    let (mut best, mut scale) = (0.0, start);
    let mut chosen = None;
    for t in 0..count {
        if sum_q2[t] > 0.0 && sum_qx[t] * sum_qx[t] > best * sum_q2[t] {
            scale = sum_qx[t] / sum_q2[t];
            best = scale * sum_qx[t];
            chosen = Some(t);
        }
    }
    let mut groups_off = [trials.again != Again::Off; 8];
    if let Some(t) = chosen {
        for i in 0..S {
            codes[i] = values[i][t] as u8 / 2;
        }
        for k in 0..S / D {
            groups_off[k] = off[k][t];
        }
    }
    let any_off = groups_off[..S / D].iter().any(|off| *off);
    if scale > 0.0 && (any_off || trials.again == Again::Always) {
        let inverse = 1.0 / scale;
        for (k, codes) in codes.as_chunks_mut::<D>().0.iter_mut().enumerate() {
            if !groups_off[k] && trials.again == Again::Off {
                continue;
            }
            for i in 0..D {
                let l = nearest_int(0.5 * (inverse * x[D * k + i] - 1.0));
                codes[i] = l.clamp(0, last_code) as u8;
            }
            if let Err(list) = grid.at(Grid::key(codes)) {
                let point =
                    nearest::<D, false>(list, &x[D * k..], &roots[D * k..], scale, &[0.0; 3]);
                *codes = *grid.codes(point);
            }
        }
        let (sum_qx, sum_q2) = sums(x, w, codes);
        if sum_q2 > 0.0 {
            scale = sum_qx / sum_q2;
        }
    }
    scale
}

/// `scalar::grid::nearest` in lanes: each lane keeps its first minimum, then the earliest of the
/// lanes' minima wins. With `SHIFTED` the three values are looked up, as IQ1 needs it.
#[inline(always)]
pub(crate) fn nearest<const D: usize, const SHIFTED: bool>(
    list: &[Piece<D>],
    x: &[f32],
    w: &[f32],
    scale: f32,
    values: &[f32; 3],
) -> usize {
    let (Some(x), Some(w)) = (x.first_chunk::<D>(), w.first_chunk::<D>()) else {
        return 0;
    };
    let mut best = [f32::MAX; PIECE];
    let mut at = [u32::MAX; PIECE];
    for (n, piece) in (0_u32..).zip(list) {
        let mut errors = [0.0_f32; PIECE];
        for i in 0..D {
            for j in 0..PIECE {
                let value = piece.values[i][j];
                let q = if SHIFTED {
                    let q = select(mask(value == 1), values[0], values[1]);
                    select(mask(value == 5), values[2], q)
                } else {
                    f32::from(value)
                };
                let difference = scale * q - x[i];
                errors[j] += (w[i] * difference) * difference;
            }
        }
        for j in 0..PIECE {
            let better = mask(errors[j] < best[j]);
            best[j] = select(better, errors[j], best[j]);
            at[j] = (n & better) | (at[j] & !better);
        }
    }
    // Errors are not negative, so their bits order them.
    let mut bits = [0_u32; PIECE];
    let mut place = [0_u32; PIECE];
    for j in 0..PIECE {
        bits[j] = best[j].to_bits();
        place[j] = at[j].wrapping_mul(PIECE as u32).wrapping_add(j as u32);
    }
    let least = least_of(bits);
    for j in 0..PIECE {
        place[j] |= !(mask(bits[j] == least) & mask(at[j] != u32::MAX));
    }
    let place = least_of(place);
    // No sum was a number: the first candidate, as in the scalar search.
    let place = if place == u32::MAX { 0 } else { place as usize };
    list.get(place / PIECE)
        .map_or(0, |piece| usize::from(piece.points[place % PIECE]))
}

/// Halving keeps it in vectors, where a fold would not.
#[inline(always)]
fn least_of(mut values: [u32; PIECE]) -> u32 {
    for width in [8, 4, 2, 1] {
        for j in 0..width {
            let (a, b) = (values[j], values[j + width]);
            values[j] = if b < a { b } else { a };
        }
    }
    values[0]
}

/// Whether any upper border gives IQ1_S a better fit than `best`. Rows that do not are most rows,
/// and what is better later is only harder to reach.
#[inline(always)]
pub(crate) fn row_improves(
    sum_x: &[f32; 33],
    sum_w: &[f32; 33],
    low: usize,
    best: f32,
    shifted: &[[f32; 3]; 2],
) -> bool {
    let (xa, wa) = (sum_x[low] - sum_x[0], sum_w[low] - sum_w[0]);
    let mut any = [0_u32; 33];
    for [a, b, c] in *shifted {
        for high in 0..33 {
            let (xb, xc) = (sum_x[high] - sum_x[low], sum_x[32] - sum_x[high]);
            let (wb, wc) = (sum_w[high] - sum_w[low], sum_w[32] - sum_w[high]);
            let sum_qx = xa * a + xb * b + xc * c;
            let sum_q2 = wa * a * a + wb * b * b + wc * c * c;
            any[high] |= mask(sum_q2 > 0.0) & mask(sum_qx * sum_qx > best * sum_q2);
        }
    }
    any[low..].iter().fold(0, |all, lane| all | lane) != 0
}

/// As [`row_improves`] for IQ1_M.
#[inline(always)]
pub(crate) fn half_row_improves(
    px: &[[f32; 17]; 2],
    pw: &[[f32; 17]; 2],
    low: usize,
    best: f32,
    shifted: &[[f32; 3]; 2],
) -> bool {
    let mut any = [0_u32; 17];
    for first in shifted {
        for second in shifted {
            for high in 0..17 {
                let (ax, a2) = half_sums(&px[0], &pw[0], low, high, first);
                let (bx, b2) = half_sums(&px[1], &pw[1], low, high, second);
                let (sum_qx, sum_q2) = (ax + bx, a2 + b2);
                any[high] |= mask(sum_q2 > 0.0) & mask(sum_qx * sum_qx > best * sum_q2);
            }
        }
    }
    any[low..].iter().fold(0, |all, lane| all | lane) != 0
}

/// What one half of an IQ1_M sub-block adds to both sums.
#[inline(always)]
fn half_sums(px: &[f32; 17], pw: &[f32; 17], low: usize, high: usize, v: &[f32; 3]) -> (f32, f32) {
    let [a, b, c] = *v;
    let sum_qx = px[16] * c - (px[low] + px[high]);
    let sum_q2 = pw[16] * c * c + pw[low] * (a * a - b * b) + pw[high] * (b * b - c * c);
    (sum_qx, sum_q2)
}
