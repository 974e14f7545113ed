//! The grid formats below two bits: IQ1_S and IQ1_M.
//!
//! | format | bytes | fields, in order |
//! |---|---|---|
//! | IQ1_S | 50 | 0 `d` f16 · 2 `qs` 32 bytes · 34 `qh` 8 u16 |
//! | IQ1_M | 56 | 0 `qs` 32 bytes · 32 `qh` 16 bytes · 48 `scales` 4 u16 |
//!
//! A grid index of 11 bits stands for eight of -1, 0, 1, to which a shift of plus or minus 1/8 is
//! added. IQ1_S: `qh` of 32 elements holds the upper three index bits of group `k` at bit `3k`, the
//! scale `s` (`d * (2s + 1)`) at bit 12, and the shift's sign at bit 15. IQ1_M: `qh` of 16 elements
//! has three index bits and the shift's sign in each nibble; each u16 of `scales` holds four scales
//! of three bits, and a quarter of `d` (binary16) on top, its lowest bits first.

use super::grid::{self, Grid};
use super::gridsearch::{largest, scale_code};
use super::{Importance, c_max, get_f16, layout, sum_of_squares, tables};
use crate::float::{f16_to_f32, f32_to_f16};

layout!(IQ1_S, 256: d 2, qs 32, qh 16);
layout!(IQ1_M, 256: qs 32, qh 16, scales 8);

static POINTS: [[i8; 8]; 2048] = grid::values(&tables::IQ1, [-1, 0, 1, 0, 0, 0, 0, 0]);

const SHIFT: f32 = 0.125;
/// Values of the three codes, shifted up and down.
const SHIFTED: [[f32; 3]; 2] = [
    [-1.0 + SHIFT, SHIFT, 1.0 + SHIFT],
    [-1.0 - SHIFT, -SHIFT, 1.0 - SHIFT],
];

#[inline(always)]
fn put(y: &mut [f32], scale: f32, point: &[i8; 8], down: bool) {
    let shift = if down { -SHIFT } else { SHIFT };
    for i in 0..8 {
        y[i] = scale * (f32::from(point[i]) + shift);
    }
}

#[inline(always)]
pub(crate) fn decode_iq1_s(block: &[u8; 50], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (ib, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let high = u16::from_le_bytes([block[34 + 2 * ib], block[35 + 2 * ib]]);
        let scale = d * f32::from(2 * (high >> 12 & 7) + 1);
        for (k, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let index = usize::from(block[2 + 4 * ib + k]) | usize::from(high >> (3 * k) & 7) << 8;
            put(y, scale, &POINTS[index], high & 0x8000 != 0);
        }
    }
}

#[inline(always)]
pub(crate) fn decode_iq1_m(block: &[u8; 56], y: &mut [f32; 256]) {
    let word = |i: usize| u16::from_le_bytes([block[48 + 2 * i], block[49 + 2 * i]]);
    let d = f16_to_f32(
        word(0) >> 12 | word(1) >> 8 & 0x00f0 | word(2) >> 4 & 0x0f00 | word(3) & 0xf000,
    );
    for (ib, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(2 * (word(ib / 4) >> (3 * (ib % 4)) & 7) + 1);
        for (k, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = block[32 + ib] >> (4 * k);
            let index = usize::from(block[2 * ib + k]) | usize::from(high & 7) << 8;
            put(y, scale, &POINTS[index], high & 8 != 0);
        }
    }
}

/// Elements in ascending order, equals as they stood: what C's stable sort gives.
#[inline(always)]
fn ascending<const N: usize>(x: &[f32; N]) -> [usize; N] {
    let mut order = [0; N];
    for i in 1..N {
        let mut at = i;
        while at > 0 && x[order[at - 1]] > x[i] {
            order[at] = order[at - 1];
            at -= 1;
        }
        order[at] = i;
    }
    order
}

#[inline(always)]
fn weigh<const N: usize>(x: &[f32; N], importance: Option<&[f32]>, mean_square: f32) -> [f32; N] {
    let mut out = x.map(|v| v * v);
    if let Some(importance) = importance {
        for i in 0..N {
            out[i] = importance[i] * (mean_square + x[i] * x[i]).sqrt();
        }
    }
    out
}

/// The point of eight codes, or the one of least error near it; says whether it is on the grid.
#[inline(always)]
fn snap(
    grid: &Grid<8>,
    x: &[f32],
    w: &[f32],
    scale: f32,
    values: &[f32; 3],
    codes: &[u8; 8],
) -> (usize, bool) {
    let list = match grid.at(Grid::key(codes)) {
        Ok(point) => return (point, true),
        Err(list) => list,
    };
    let mut errors = [[0.0_f32; 8]; 8];
    for i in 0..8 {
        for (error, value) in errors[i].iter_mut().zip(values) {
            let difference = scale * value - x[i];
            *error = w[i] * difference * difference;
        }
    }
    (grid.nearest(list, &errors), false)
}

/// Codes by where two borders cut the sorted elements.
#[inline(always)]
fn cut<const N: usize>(order: &[usize; N], (low, high): (usize, usize), flip: bool) -> [u8; N] {
    let mut codes = [0_u8; N];
    for (rank, &i) in order.iter().enumerate() {
        let code = u8::from(rank >= low) + u8::from(rank >= high);
        codes[i] = if flip { 2 - code } else { code };
    }
    codes
}

/// Sums of a sub-block placed on points, for its scale.
#[inline(always)]
fn refit(x: &[f32], w: &[f32], point: &[u8; 8], values: &[f32; 3], sums: &mut (f32, f32)) {
    for i in 0..8 {
        let q = values[usize::from(point[i])];
        sums.0 += w[i] * q * x[i];
        sums.1 += w[i] * q * q;
    }
}

/// Every cut of the sorted elements into three, with either shift: `(cut, shift, scale)` of the
/// best, as the exact least squares fit has it.
#[inline(always)]
fn best_cut(
    x: &[f32; 32],
    w: &[f32; 32],
    order: &[usize; 32],
) -> Option<((usize, usize), usize, f32)> {
    let (mut sum_x, mut sum_w) = ([0.0_f32; 33], [0.0_f32; 33]);
    for (rank, &i) in order.iter().enumerate() {
        sum_x[rank + 1] = sum_x[rank] + w[i] * x[i];
        sum_w[rank + 1] = sum_w[rank] + w[i];
    }
    let mut best = f32::MIN;
    let mut found = None;
    for low in 0..=32 {
        for high in low..=32 {
            let (xa, xb, xc) = (
                sum_x[low] - sum_x[0],
                sum_x[high] - sum_x[low],
                sum_x[32] - sum_x[high],
            );
            let (wa, wb, wc) = (
                sum_w[low] - sum_w[0],
                sum_w[high] - sum_w[low],
                sum_w[32] - sum_w[high],
            );
            for (shift, [a, b, c]) in SHIFTED.into_iter().enumerate() {
                let sum_qx = xa * a + xb * b + xc * c;
                let sum_q2 = wa * a * a + wb * b * b + wc * c * c;
                if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
                    let scale = sum_qx / sum_q2;
                    best = scale * sum_qx;
                    found = Some(((low, high), shift, scale));
                }
            }
        }
    }
    found
}

/// ggml gives IQ1_S no meaning without importance; callers do not come here without.
#[inline(always)]
pub(crate) fn encode_iq1_s(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 50],
) {
    out.fill(0);
    let Some(importance) = importance else { return };
    let grid = grid::iq1();
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let (mut scales, mut down) = ([0.0_f32; 8], [false; 8]);
    let mut max_scale = 0.0;
    let mut high = [0_u16; 8];
    for (ib, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let w = weigh(
            x,
            Some(&importance.weights[32 * ib..32 * ib + 32]),
            mean_square,
        );
        if largest(&x.map(f32::abs)) < 1e-12 {
            continue; // `GROUP_MAX_EPS_IQ1_S`
        }
        let order = ascending(x);
        let Some((borders, mut shift, mut scale)) = best_cut(x, &w, &order) else {
            continue;
        };
        let codes = cut(&order, borders, scale < 0.0);
        if scale < 0.0 {
            scale = -scale;
            shift = 1 - shift;
        }
        let mut points = [0; 4];
        let mut all_on = true;
        for (k, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let r = 8 * k..8 * k + 8;
            let (point, on) = snap(grid, &x[r.clone()], &w[r], scale, &SHIFTED[shift], codes);
            points[k] = point;
            all_on &= on;
        }
        if !all_on {
            let mut sums = (0.0, 0.0);
            for (k, &point) in points.iter().enumerate() {
                let r = 8 * k..8 * k + 8;
                refit(
                    &x[r.clone()],
                    &w[r],
                    grid.codes(point),
                    &SHIFTED[shift],
                    &mut sums,
                );
            }
            if sums.0 > 0.0 && sums.1 > 0.0 {
                scale = sums.0 / sums.1;
            }
        }
        for (k, point) in points.into_iter().enumerate() {
            out[2 + 4 * ib + k] = point as u8;
            high[ib] |= ((point >> 8) as u16) << (3 * k);
        }
        scales[ib] = scale;
        down[ib] = shift == 1;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale != 0.0 {
        let d = max_scale / 15.0;
        out[..2].copy_from_slice(&f32_to_f16(d * 1.125).to_le_bytes());
        for ib in 0..8 {
            let code = scale_code(1.0 / d, scales[ib], 7) | u8::from(down[ib]) << 3;
            high[ib] |= u16::from(code) << 12;
        }
    }
    for ib in 0..8 {
        out[34 + 2 * ib..36 + 2 * ib].copy_from_slice(&high[ib].to_le_bytes());
    }
}

/// As [`best_cut`] for 16 elements whose halves are shifted on their own: the shifts are two bits,
/// the first half's above.
#[inline(always)]
fn best_cut_halves(
    x: &[f32; 16],
    w: &[f32; 16],
    order: &[usize; 16],
) -> Option<((usize, usize), usize, f32)> {
    let (mut px, mut pw) = ([[0.0_f32; 17]; 2], [[0.0_f32; 17]; 2]);
    for (rank, &i) in order.iter().enumerate() {
        let half = usize::from(i >= 8);
        px[half][rank + 1] = px[half][rank] + w[i] * x[i];
        px[1 - half][rank + 1] = px[1 - half][rank];
        pw[half][rank + 1] = pw[half][rank] + w[i];
        pw[1 - half][rank + 1] = pw[1 - half][rank];
    }
    let mut best = f32::MIN;
    let mut found = None;
    for low in 0..=16 {
        for high in low..=16 {
            let (mut qx, mut q2) = ([[0.0_f32; 2]; 2], [[0.0_f32; 2]; 2]);
            for half in 0..2 {
                let sum = px[half][low] + px[half][high];
                for (shift, [a, b, c]) in SHIFTED.into_iter().enumerate() {
                    qx[half][shift] = px[half][16] * c - sum;
                    q2[half][shift] = pw[half][16] * c * c
                        + pw[half][low] * (a * a - b * b)
                        + pw[half][high] * (b * b - c * c);
                }
            }
            for shifts in 0..4 {
                let sum_qx = qx[0][shifts / 2] + qx[1][shifts % 2];
                let sum_q2 = q2[0][shifts / 2] + q2[1][shifts % 2];
                if sum_q2 > 0.0 && sum_qx * sum_qx > best * sum_q2 {
                    let scale = sum_qx / sum_q2;
                    best = scale * sum_qx;
                    found = Some(((low, high), shifts, scale));
                }
            }
        }
    }
    found
}

#[inline(always)]
pub(crate) fn encode_iq1_m(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 56],
) {
    out.fill(0);
    let grid = grid::iq1();
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let weights = |ib: usize| {
        importance
            .as_ref()
            .map(|i| &i.weights[16 * ib..16 * ib + 16])
    };
    let (mut scales, mut shifts) = ([0.0_f32; 16], [0_usize; 16]);
    let mut points = [[0_usize; 2]; 16];
    let mut max_scale = 0.0;
    let groups = x.as_chunks::<16>().0;
    for (ib, x) in groups.iter().enumerate() {
        let w = weigh(x, weights(ib), mean_square);
        if largest(&x.map(f32::abs)) < 1e-7 {
            continue; // `GROUP_MAX_EPS_IQ1_M`
        }
        let order = ascending(x);
        let Some((borders, mut shift, mut scale)) = best_cut_halves(x, &w, &order) else {
            continue;
        };
        let codes = cut(&order, borders, scale < 0.0);
        if scale < 0.0 {
            scale = -scale;
            shift = 3 - shift;
        }
        let values = [&SHIFTED[shift / 2], &SHIFTED[shift % 2]];
        let mut all_on = true;
        for (k, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let r = 8 * k..8 * k + 8;
            let (point, on) = snap(grid, &x[r.clone()], &w[r], scale, values[k], codes);
            points[ib][k] = point;
            all_on &= on;
        }
        if !all_on {
            let mut sums = (0.0, 0.0);
            for k in 0..2 {
                let r = 8 * k..8 * k + 8;
                refit(
                    &x[r.clone()],
                    &w[r],
                    grid.codes(points[ib][k]),
                    values[k],
                    &mut sums,
                );
            }
            if sums.0 > 0.0 && sums.1 > 0.0 {
                scale = sums.0 / sums.1;
            }
        }
        for k in 0..2 {
            out[2 * ib + k] = points[ib][k] as u8;
            out[32 + ib] |= ((points[ib][k] >> 8) as u8) << (4 * k);
        }
        scales[ib] = scale;
        shifts[ib] = shift;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let mut d = max_scale / 15.0;
    let inverse = 1.0 / d;
    let mut words = [0_u16; 4];
    let (mut sum_qx, mut sum_q2) = (0.0_f32, 0.0_f32);
    for (ib, x) in groups.iter().enumerate() {
        let code = scale_code(inverse, scales[ib], 7);
        words[ib / 4] |= u16::from(code) << (3 * (ib % 4));
        let halves = [shifts[ib] / 2, shifts[ib] % 2];
        out[32 + ib] |= (halves[0] as u8) << 3 | (halves[1] as u8) << 7;
        let w = weigh(x, weights(ib), mean_square);
        for k in 0..2 {
            let point = grid.codes(points[ib][k]);
            for i in 0..8 {
                let q = SHIFTED[halves[k]][usize::from(point[i])] * f32::from(2 * code + 1);
                sum_qx += w[8 * k + i] * q * x[8 * k + i];
                sum_q2 += w[8 * k + i] * q * q;
            }
        }
    }
    if sum_q2 > 0.0 {
        d = sum_qx / sum_q2;
    }
    let d = f32_to_f16(d * 1.1125);
    for (i, word) in words.iter().enumerate() {
        let word = word | (d >> (4 * i) & 15) << 12;
        out[48 + 2 * i..50 + 2 * i].copy_from_slice(&word.to_le_bytes());
    }
}
