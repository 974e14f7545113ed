//! The grid formats of three bits: IQ3_XXS and IQ3_S.
//!
//! | format | bytes | fields, in order |
//! |---|---|---|
//! | IQ3_XXS | 98 | 0 `d` f16 · 2 `qs` 64 bytes · 66 eight u32: four times 7 signs, scale in the top 4 bits |
//! | IQ3_S | 110 | 0 `d` f16 · 2 `qs` 64 bytes · 66 `qh` 8 bytes · 74 `signs` 32 bytes · 106 `scales` 4 bytes |
//!
//! A grid index stands for the magnitudes of four elements: 4, 12, 20 ... 52, 62 in IQ3_XXS, odd
//! numbers to 15 in IQ3_S, whose ninth index bit is bit `k % 8` of `qh[k / 8]`. A value is
//! `d * (scale + 0.5) / 2 * magnitude` and `d * (2 * scale + 1) * magnitude`, one scale for 32.

use super::gridsearch::{Again, Trials, largest, scale_code, search, seven_signs, split_signs};
use super::{Importance, c_max, get_f16, grid, layout, put_f16, sum_of_squares, tables};

layout!(IQ3_XXS, 256: d 2, qs 64, signs 32);
layout!(IQ3_S, 256: d 2, qs 64, qh 8, signs 32, scales 4);

static XXS: [[i8; 4]; 256] = grid::values(&tables::IQ3_XXS, [4, 12, 20, 28, 36, 44, 52, 62]);
static S: [[i8; 4]; 512] = grid::values(&tables::IQ3_S, [1, 3, 5, 7, 9, 11, 13, 15]);

#[inline(always)]
fn put(y: &mut [f32], scale: f32, point: &[i8; 4], signs: u8) {
    for i in 0..4 {
        let sign = u32::from(signs >> i & 1) << 31;
        y[i] = f32::from_bits((scale * f32::from(point[i])).to_bits() ^ sign);
    }
}

#[inline(always)]
pub(crate) fn decode_iq3_xxs(block: &[u8; 98], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (ib, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let at = 66 + 4 * ib;
        let packed = u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]]);
        let scale = d * (0.5 + (packed >> 28) as f32) * 0.5;
        for k in 0..8 {
            let signs = seven_signs((packed >> (7 * (k / 2))) as u8) >> (4 * (k % 2));
            let point = &XXS[usize::from(block[2 + 8 * ib + k])];
            put(&mut y[4 * k..4 * k + 4], scale, point, signs);
        }
    }
}

#[inline(always)]
pub(crate) fn decode_iq3_s(block: &[u8; 110], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (ib, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let code = block[106 + ib / 2] >> (4 * (ib % 2)) & 15;
        let scale = d * f32::from(1 + 2 * code);
        for k in 0..8 {
            let high = usize::from(block[66 + ib] >> k & 1) << 8;
            let signs = block[74 + 4 * ib + k / 2] >> (4 * (k % 2));
            let point = &S[usize::from(block[2 + 8 * ib + k]) | high];
            put(&mut y[4 * k..4 * k + 4], scale, point, signs);
        }
    }
}

#[inline(always)]
fn weigh(x: &[f32; 32], importance: Option<&[f32]>, mean_square: f32) -> [f32; 32] {
    let mut out = x.map(|v| v * v);
    if let Some(importance) = importance {
        for i in 0..32 {
            out[i] = importance[i] * (mean_square + x[i] * x[i]).sqrt();
        }
    }
    out
}

#[inline(always)]
pub(crate) fn encode_iq3_xxs(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 98],
) {
    out.fill(0);
    let grid = grid::iq3_xxs();
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let trials = Trials {
        steps: 15,
        delta: 0.2,
        again: Again::Off,
    };
    let mut scales = [0.0_f32; 8];
    let mut max_scale = 0.0;
    let (mut indices, mut words) = ([0_u8; 64], [0_u32; 8]);
    for (ib, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let weights = importance
            .as_ref()
            .map(|i| &i.weights[32 * ib..32 * ib + 32]);
        let w = weigh(x, weights, mean_square);
        let (mut size, mut signs) = ([0.0; 32], [0_u8; 4]);
        for k in 0..4 {
            let r = 8 * k..8 * k + 8;
            signs[k] = split_signs(&x[r.clone()], &w[r.clone()], true, &mut size[r]);
        }
        let max = largest(&size);
        if max < 1e-8 {
            continue; // `GROUP_MAX_EPS_IQ3_XXS`
        }
        let mut codes = [0_u8; 32];
        let mut scale = search::<32, 4>(grid, trials, &size, &w, (max / 15.0, max), &mut codes);
        if scale < 0.0 {
            scale = -scale;
            signs = signs.map(|signs| !signs & 127);
        }
        for (k, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            indices[8 * ib + k] = grid.at(grid::Grid::key(codes)).unwrap_or(0) as u8;
        }
        for (k, signs) in signs.into_iter().enumerate() {
            words[ib] |= u32::from(signs) << (7 * k);
        }
        scales[ib] = scale;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let d = max_scale / 31.0;
    put_f16(&mut out[..2], d * 1.0125);
    out[2..66].copy_from_slice(&indices);
    for ib in 0..8 {
        words[ib] |= u32::from(scale_code(1.0 / d, scales[ib], 15)) << 28;
        out[66 + 4 * ib..70 + 4 * ib].copy_from_slice(&words[ib].to_le_bytes());
    }
}

/// An all-zero sub-block leaves no gap in `qs` and `signs`: those of the following sub-blocks move
/// up (ggml does so, and its files hold it).
#[inline(always)]
pub(crate) fn encode_iq3_s(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 110],
) {
    out.fill(0);
    let grid = grid::iq3_s();
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let trials = Trials {
        steps: 9,
        delta: 0.2,
        again: Again::AllIfOff,
    };
    let mut scales = [0.0_f32; 8];
    let mut max_scale = 0.0;
    let mut at = 0;
    for (ib, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let weights = importance
            .as_ref()
            .map(|i| &i.weights[32 * ib..32 * ib + 32]);
        let w = weigh(x, weights, mean_square);
        let (mut size, mut signs) = ([0.0; 32], [0_u8; 4]);
        for k in 0..4 {
            let r = 8 * k..8 * k + 8;
            signs[k] = split_signs(&x[r.clone()], &w[r.clone()], false, &mut size[r]);
        }
        let max = largest(&size);
        if max == 0.0 {
            continue;
        }
        let mut codes = [0_u8; 32];
        let mut scale = search::<32, 4>(grid, trials, &size, &w, (max / 15.0, max), &mut codes);
        if scale < 0.0 {
            scale = -scale;
            signs = signs.map(|signs| !signs);
        }
        for (k, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
            let index = grid.at(grid::Grid::key(codes)).unwrap_or(0);
            out[2 + 8 * at + k] = index as u8;
            out[66 + ib] |= ((index >> 8) as u8) << k;
        }
        out[74 + 4 * at..78 + 4 * at].copy_from_slice(&signs);
        at += 1;
        scales[ib] = scale;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let d = max_scale / 31.0;
    put_f16(&mut out[..2], d * 1.033);
    for (ib, scale) in scales.into_iter().enumerate() {
        out[106 + ib / 2] |= scale_code(1.0 / d, scale, 15) << (4 * (ib % 2));
    }
}
