//! The searches for a scale (and a minimum) that the block formats share.
//!
//! Each follows ggml's function of the same purpose; the name is given. Codes go to `codes`, the
//! scale is returned.

use super::{GROUP_MAX_EPS, c_max, extreme, nearest_int};

/// Signed codes `-nmax..nmax` around zero, stored with offset `nmax`; weighted least squares over
/// 19 trial scales (`make_qx_quants`, rmse type 1). Without weights an element counts by its
/// square. A group below [`GROUP_MAX_EPS`] gets code 0 (not the offset) and scale 0.
pub(crate) fn symmetric(nmax: i32, x: &[f32], codes: &mut [i8], weights: Option<&[f32]>) -> f32 {
    let (magnitude, max) = extreme(x);
    if magnitude < GROUP_MAX_EPS {
        codes.fill(0);
        return 0.0;
    }
    let weight = |i: usize| weights.map_or(x[i] * x[i], |w| w[i]);
    let code = |inverse: f32, v: f32| nearest_int(inverse * v).clamp(-nmax, nmax - 1);
    let sums = |inverse: f32| {
        let (mut sum_lx, mut sum_l2) = (0.0_f32, 0.0_f32);
        for (i, &v) in x.iter().enumerate() {
            let l = code(inverse, v) as f32;
            let w = weight(i);
            sum_lx += w * v * l;
            sum_l2 += w * l * l;
        }
        (sum_lx, sum_l2)
    };
    let mut inverse = -(nmax as f32) / max;
    let (sum_lx, sum_l2) = sums(inverse);
    let mut scale = if sum_l2 == 0.0 { 0.0 } else { sum_lx / sum_l2 };
    let mut best = scale * sum_lx;
    for step in (-9_i8..=9).filter(|step| *step != 0) {
        let trial = -(nmax as f32 + 0.1 * f32::from(step)) / max;
        let (sum_lx, sum_l2) = sums(trial);
        if sum_l2 > 0.0 && sum_lx * sum_lx > best * sum_l2 {
            inverse = trial;
            scale = sum_lx / sum_l2;
            best = scale * sum_lx;
        }
    }
    for (out, &v) in codes.iter_mut().zip(x) {
        *out = (nmax + code(inverse, v)) as i8;
    }
    scale
}

/// Q3_K's search without importance: one rounding, then up to five rounds of coordinate descent
/// on the codes (`make_q3_quants`).
pub(crate) fn symmetric_descent(nmax: i32, x: &[f32], codes: &mut [i8]) -> f32 {
    let (magnitude, max) = extreme(x);
    if magnitude < GROUP_MAX_EPS {
        codes.fill(0);
        return 0.0;
    }
    let inverse = -(nmax as f32) / max;
    let (mut sum_lx, mut sum_l2) = (0.0_f32, 0.0_f32);
    for (out, &v) in codes.iter_mut().zip(x) {
        let l = nearest_int(inverse * v).clamp(-nmax, nmax - 1);
        *out = l as i8;
        let w = v * v;
        sum_lx += w * v * l as f32;
        sum_l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for (code, &v) in codes.iter_mut().zip(x) {
            let w = v * v;
            let l = f32::from(*code);
            let mut rest_lx = sum_lx - w * v * l;
            if rest_lx > 0.0 {
                let mut rest_l2 = sum_l2 - w * l * l;
                let new = nearest_int(v * rest_l2 / rest_lx).clamp(-nmax, nmax - 1);
                if new != i32::from(*code) {
                    let l = new as f32;
                    rest_lx += w * v * l;
                    rest_l2 += w * l * l;
                    if rest_l2 > 0.0 && rest_lx * rest_lx * sum_l2 > sum_lx * sum_lx * rest_l2 {
                        *code = new as i8;
                        sum_lx = rest_lx;
                        sum_l2 = rest_l2;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    for code in codes.iter_mut() {
        *code += nmax as i8;
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}

/// The trial scales of [`affine`]: `(first + delta * step + nmax) / range`, `step` from 0 to
/// `steps`, and whether errors count by magnitude or by square.
#[derive(Clone, Copy)]
pub(crate) struct Trials {
    pub(crate) first: f32,
    pub(crate) delta: f32,
    pub(crate) steps: u8,
    pub(crate) absolute: bool,
}

/// Codes `0..=nmax` with a scale and a minimum of zero or below, by weighted least squares
/// (`make_qkx2_quants` and `make_qkx3_quants`, which differ only where NaN is compared).
/// Gives `(scale, -minimum)`.
pub(crate) fn affine(
    nmax: i32,
    x: &[f32],
    weights: &[f32],
    codes: &mut [u8],
    trials: Trials,
    weighted: bool,
) -> (f32, f32) {
    let (mut min, mut max) = (x[0], x[0]);
    let mut sum_w = weights[0];
    let mut sum_x = sum_w * x[0];
    for (&v, &w) in x.iter().zip(weights).skip(1) {
        if v < min {
            min = v;
        }
        if v > max {
            max = v;
        }
        sum_w += w;
        sum_x += w * v;
    }
    if min > 0.0 {
        min = 0.0;
    }
    if if weighted { max <= min } else { max == min } {
        codes.fill(0);
        return (0.0, -min);
    }
    let code = |inverse: f32, v: f32, min: f32| nearest_int(inverse * (v - min)).clamp(0, nmax);
    let deviation = |l: i32, v: f32, scale: f32, min: f32| {
        let difference = scale * l as f32 + min - v;
        if trials.absolute {
            difference.abs()
        } else {
            difference * difference
        }
    };
    let inverse = nmax as f32 / (max - min);
    let mut scale = 1.0 / inverse;
    let mut best = 0.0;
    for ((&v, &w), out) in x.iter().zip(weights).zip(codes.iter_mut()) {
        let l = code(inverse, v, min);
        *out = l as u8;
        best += w * deviation(l, v, scale, min);
    }
    let mut trial_codes = [0_u8; 32];
    let trial_codes = &mut trial_codes[..x.len()];
    for step in 0..=trials.steps {
        let inverse = (trials.first + trials.delta * f32::from(step) + nmax as f32) / (max - min);
        let (mut sum_l, mut sum_l2, mut sum_xl) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((&v, &w), out) in x.iter().zip(weights).zip(trial_codes.iter_mut()) {
            let l = code(inverse, v, min);
            *out = l as u8;
            let l = l as f32;
            sum_l += w * l;
            sum_l2 += w * l * l;
            sum_xl += w * l * v;
        }
        let determinant = sum_w * sum_l2 - sum_l * sum_l;
        if determinant > 0.0 {
            let mut this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant;
            let mut this_min = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
            if this_min > 0.0 {
                this_min = 0.0;
                this_scale = sum_xl / sum_l2;
            }
            let mut error = 0.0;
            for ((&v, &w), &l) in x.iter().zip(weights).zip(trial_codes.iter()) {
                error += w * deviation(i32::from(l), v, this_scale, this_min);
            }
            if error < best {
                codes.copy_from_slice(trial_codes);
                best = error;
                scale = this_scale;
                min = this_min;
            }
        }
    }
    (scale, -min)
}

/// Codes `0..=nmax` for positive numbers (the sub-block scales and minima), weighted, with
/// coordinate descent at the end (`make_qp_quants`).
pub(crate) fn positive(nmax: i32, x: &[f32], codes: &mut [u8], weights: &[f32]) -> f32 {
    let max = x.iter().fold(0.0, |max, &v| c_max(max, v));
    if max < GROUP_MAX_EPS {
        codes.fill(0);
        return 0.0;
    }
    let mut inverse = nmax as f32 / max;
    let scale = 1.0 / inverse;
    let mut best = 0.0;
    for (&v, &w) in x.iter().zip(weights) {
        // C stores this first code in a byte before it is used, without a bound.
        let l = nearest_int(inverse * v) as u8;
        let difference = v - scale * f32::from(l);
        best += w * difference * difference;
    }
    let trial = |inverse: f32, v: f32| nearest_int(inverse * v).min(nmax);
    for step in (-4_i8..=4).filter(|step| *step != 0) {
        let trial_inverse = (0.1 * f32::from(step) + nmax as f32) / max;
        let trial_scale = 1.0 / trial_inverse;
        let mut error = 0.0;
        for (&v, &w) in x.iter().zip(weights) {
            let difference = v - trial_scale * trial(trial_inverse, v) as f32;
            error += w * difference * difference;
        }
        if error < best {
            best = error;
            inverse = trial_inverse;
        }
    }
    let (mut sum_lx, mut sum_l2) = (0.0_f32, 0.0_f32);
    for ((&v, &w), out) in x.iter().zip(weights).zip(codes.iter_mut()) {
        let l = trial(inverse, v);
        *out = l as u8;
        sum_lx += w * v * l as f32;
        sum_l2 += w * l as f32 * l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((&v, &w), code) in x.iter().zip(weights).zip(codes.iter_mut()) {
            let l = f32::from(*code);
            let mut rest_lx = sum_lx - w * v * l;
            let mut rest_l2 = sum_l2 - w * l * l;
            if rest_lx > 0.0 && rest_l2 > 0.0 {
                let new = nearest_int(v * rest_l2 / rest_lx).min(nmax);
                if new != i32::from(*code) {
                    let l = new as f32;
                    rest_lx += w * v * l;
                    rest_l2 += w * l * l;
                    if rest_lx * rest_lx * sum_l2 > sum_lx * sum_lx * rest_l2 {
                        *code = new as u8;
                        sum_lx = rest_lx;
                        sum_l2 = rest_l2;
                        changed = true;
                    }
                }
            }
        }
        if !changed {
            break;
        }
    }
    if sum_l2 > 0.0 { sum_lx / sum_l2 } else { 0.0 }
}
