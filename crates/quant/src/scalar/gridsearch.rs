//! The search IQ2 and IQ3 share: a scale, and for each group of elements the grid point it makes
//! nearest.

use super::grid::Grid;
use super::{c_max, nearest_int};

/// How a format searches.
#[derive(Clone, Copy)]
pub(crate) struct Trials {
    /// Trial scales on either side of the middle one, and their distance.
    pub(crate) steps: i8,
    pub(crate) delta: f32,
    pub(crate) again: Again,
}

/// Which groups are searched once more with the scale found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// All, always (IQ2_XXS).
    Always,
    /// All, if one of them lay off the grid (IQ3_S).
    AllIfOff,
    /// Those off the grid.
    Off,
}

/// Codes of `S` magnitudes and their scale. `start` is the scale before any trial succeeded;
/// trial scales divide by `top`. `groups` is `S / D`.
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
    let mut best = 0.0;
    let mut scale = start;
    let mut off = [trials.again != Again::Off; 8];
    let mut trial_codes = [0_u8; S];
    for step in -trials.steps..=trials.steps {
        let inverse = (first + f32::from(step) * trials.delta) / top;
        let mut trial_off = [false; 8];
        let groups = trial_codes.as_chunks_mut::<D>().0.iter_mut().enumerate();
        for (k, codes) in groups {
            trial_off[k] = snap(grid, x, &roots, D * k, inverse, 1.0 / inverse, codes);
        }
        let (sum_qx, sum_q2) = sums(x, w, &trial_codes);
        if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
            scale = sum_qx / sum_q2;
            best = scale * sum_qx;
            *codes = trial_codes;
            off = trial_off;
        }
    }
    let any_off = off[..S / D].iter().any(|off| *off);
    if scale > 0.0 && (any_off || trials.again == Again::Always) {
        for (k, codes) in codes.as_chunks_mut::<D>().0.iter_mut().enumerate() {
            if off[k] || trials.again != Again::Off {
                snap(grid, x, &roots, D * k, 1.0 / scale, scale, codes);
            }
        }
        let (sum_qx, sum_q2) = sums(x, w, codes);
        if sum_q2 > 0.0 {
            scale = sum_qx / sum_q2;
        }
    }
    scale
}

/// Codes of one group, moved to the grid if they are off it: says whether they were.
#[inline(always)]
fn snap<const S: usize, const D: usize>(
    grid: &Grid<D>,
    x: &[f32; S],
    roots: &[f32; S],
    at: usize,
    inverse: f32,
    scale: f32,
    codes: &mut [u8; D],
) -> bool {
    for i in 0..D {
        let l = nearest_int(0.5 * (inverse * x[at + i] - 1.0));
        codes[i] = l.clamp(0, i32::from(Grid::<D>::CODES) - 1) as u8;
    }
    let Err(list) = grid.at(Grid::key(codes)) else {
        return false;
    };
    let mut errors = [[0.0_f32; 8]; D];
    for i in 0..D {
        for (l, error) in errors[i].iter_mut().enumerate() {
            let difference = scale * (2 * l + 1) as f32 - x[at + i];
            *error = roots[at + i] * difference * difference;
        }
    }
    *codes = *grid.codes(grid.nearest(list, &errors));
    true
}

#[inline(always)]
fn sums<const S: usize>(x: &[f32; S], w: &[f32; S], codes: &[u8; S]) -> (f32, f32) {
    let (mut sum_qx, mut sum_q2) = (0.0_f32, 0.0_f32);
    for i in 0..S {
        let q = f32::from(2 * codes[i] + 1);
        sum_qx += w[i] * x[i] * q;
        sum_q2 += w[i] * q * q;
    }
    (sum_qx, sum_q2)
}

/// Magnitudes and signs of eight elements; a set bit is a minus. With `even` the number of minus
/// signs is made even by giving the least important element the wrong sign, and bit 7 is left out.
#[inline(always)]
pub(crate) fn split_signs(x: &[f32], w: &[f32], even: bool, out: &mut [f32]) -> u8 {
    let mut signs = 0_u8;
    for i in 0..8 {
        let minus = x[i] < 0.0 || x[i].is_nan();
        out[i] = if minus { -x[i] } else { x[i] };
        signs |= u8::from(minus) << i;
    }
    if !even {
        return signs;
    }
    if signs.count_ones() % 2 == 1 {
        let mut least = 0;
        let mut min = w[0] * x[0] * x[0];
        for i in 1..8 {
            let cost = w[i] * x[i] * x[i];
            if cost < min {
                min = cost;
                least = i;
            }
        }
        out[least] = -out[least];
        signs ^= 1 << least;
    }
    signs & 127
}

/// Eight signs from seven stored ones: the eighth makes their number even.
#[inline(always)]
pub(crate) fn seven_signs(signs: u8) -> u8 {
    let signs = signs & 127;
    signs | (signs.count_ones() as u8 & 1) << 7
}

/// Four-bit codes of sub-block scales, as odd multiples of `1 / inverse`.
#[inline(always)]
pub(crate) fn scale_code(inverse: f32, scale: f32, max: i32) -> u8 {
    nearest_int(0.5 * (inverse * scale - 1.0)).clamp(0, max) as u8
}

/// Largest of `x` by C's `MAX`, beginning with the first.
#[inline(always)]
pub(crate) fn largest(x: &[f32]) -> f32 {
    x.iter().skip(1).fold(x[0], |max, &v| c_max(max, v))
}
