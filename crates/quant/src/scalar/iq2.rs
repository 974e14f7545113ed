//! The grid formats of two bits: IQ2_XXS, IQ2_XS, IQ2_S.
//!
//! | format | bytes | fields, in order |
//! |---|---|---|
//! | IQ2_XXS | 66 | 0 `d` f16 · 2 eight times two u32: four grid indices of 8 bits; four times 7 signs, scale in the top 4 bits |
//! | IQ2_XS | 74 | 0 `d` f16 · 2 `qs` 32 u16: 9 bits grid index, 7 signs · 66 `scales` 8 bytes |
//! | IQ2_S | 82 | 0 `d` f16 · 2 `qs` 32 bytes · 34 `signs` 32 bytes · 66 `qh` 8 bytes · 74 `scales` 8 bytes |
//!
//! A grid index stands for the magnitudes 8, 25 or 43 of eight elements. Seven signs imply an
//! eighth: their number is even. A value is `d * (scale + 0.5) / 4 * magnitude`, one scale for 32
//! elements in IQ2_XXS, a nibble for 16 in the others. IQ2_S keeps the upper two index bits of
//! group `l` of 32 elements in bits `2l` of `qh`.

use super::gridsearch::{Again, Trials, largest, scale_code, search, seven_signs, split_signs};
use super::search::positive;
use super::{
    GROUP_MAX_EPS, Importance, c_max, get_f16, grid, layout, put_f16, sum_of_squares, tables,
};

layout!(IQ2_XXS, 256: d 2, qs 64);
layout!(IQ2_XS, 256: d 2, qs 64, scales 8);
layout!(IQ2_S, 256: d 2, qs 32, signs 32, qh 8, scales 8);

const MAGNITUDES: [i8; 8] = [8, 25, 43, 0, 0, 0, 0, 0];
static XXS: [[i8; 8]; 256] = grid::values(&tables::IQ2_XXS, MAGNITUDES);
static XS: [[i8; 8]; 512] = grid::values(&tables::IQ2_XS, MAGNITUDES);
static S: [[i8; 8]; 1024] = grid::values(&tables::IQ2_S, MAGNITUDES);

/// Eight values: magnitudes with signs.
#[inline(always)]
fn put(y: &mut [f32], scale: f32, point: &[i8; 8], signs: u8) {
    for i in 0..8 {
        let sign = u32::from(signs >> i & 1) << 31;
        y[i] = f32::from_bits((scale * f32::from(point[i])).to_bits() ^ sign);
    }
}

#[inline(always)]
pub(crate) fn decode_iq2_xxs(block: &[u8; 66], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (y, qs) in y
        .as_chunks_mut::<32>()
        .0
        .iter_mut()
        .zip(block[2..].as_chunks::<8>().0)
    {
        let [a, b, c, e, packed @ ..] = *qs;
        let packed = u32::from_le_bytes(packed);
        let scale = d * (0.5 + (packed >> 28) as f32) * 0.25;
        for (k, index) in [a, b, c, e].into_iter().enumerate() {
            let signs = seven_signs((packed >> (7 * k)) as u8);
            put(
                &mut y[8 * k..8 * k + 8],
                scale,
                &XXS[usize::from(index)],
                signs,
            );
        }
    }
}

/// Two scales of 32 elements.
#[inline(always)]
fn scales(d: f32, byte: u8) -> [f32; 2] {
    [byte & 15, byte >> 4].map(|scale| d * (0.5 + f32::from(scale)) * 0.25)
}

#[inline(always)]
pub(crate) fn decode_iq2_xs(block: &[u8; 74], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (ib, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scales = scales(d, block[66 + ib]);
        for (k, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let at = 2 + 8 * ib + 2 * k;
            let word = u16::from_le_bytes([block[at], block[at + 1]]);
            let signs = seven_signs((word >> 9) as u8);
            put(y, scales[k / 2], &XS[usize::from(word & 511)], signs);
        }
    }
}

#[inline(always)]
pub(crate) fn decode_iq2_s(block: &[u8; 82], y: &mut [f32; 256]) {
    let d = get_f16(block);
    for (ib, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let scales = scales(d, block[74 + ib]);
        for (k, y) in y.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let high = usize::from(block[66 + ib] >> (2 * k) & 3) << 8;
            let point = &S[usize::from(block[2 + 4 * ib + k]) | high];
            put(y, scales[k / 2], point, block[34 + 4 * ib + k]);
        }
    }
}

/// Weights of a sub-block of `N` elements.
#[inline(always)]
fn weigh<const N: usize>(x: &[f32; N], importance: &[f32], mean_square: f32) -> [f32; N] {
    let mut out = [0.0; N];
    for i in 0..N {
        out[i] = importance[i] * (mean_square + x[i] * x[i]).sqrt();
    }
    out
}

/// ggml gives IQ2_XXS no meaning without importance; callers do not come here without.
#[inline(always)]
pub(crate) fn encode_iq2_xxs(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 66],
) {
    out.fill(0);
    let Some(importance) = importance else { return };
    let grid = grid::iq2_xxs();
    let mean_square = sum_of_squares(x) / 256.0;
    let trials = Trials {
        steps: 6,
        delta: 0.1,
        again: Again::Always,
    };
    let mut scales = [0.0_f32; 8];
    let mut max_scale = 0.0;
    let mut words = [[0_u32; 2]; 8];
    for (ib, x) in x.as_chunks::<32>().0.iter().enumerate() {
        let w = weigh(x, &importance.weights[32 * ib..], mean_square);
        let (mut size, mut signs) = ([0.0; 32], [0_u8; 4]);
        for k in 0..4 {
            let r = 8 * k..8 * k + 8;
            signs[k] = split_signs(&x[r.clone()], &w[r.clone()], true, &mut size[r]);
        }
        if largest(&size) < GROUP_MAX_EPS {
            continue;
        }
        let mut codes = [0_u8; 32];
        let start = positive(4, &size, &mut codes, &w);
        let top = start * 3.0;
        if top <= 0.0 {
            continue;
        }
        let mut scale = search::<32, 8>(grid, trials, &size, &w, (start, top), &mut codes);
        if scale < 0.0 {
            scale = -scale;
            signs = signs.map(|signs| !signs & 127);
        }
        for (k, codes) in codes.as_chunks::<8>().0.iter().enumerate() {
            let index = grid.at(grid::Grid::key(codes)).unwrap_or(0);
            words[ib][0] |= (index as u32) << (8 * k);
            words[ib][1] |= u32::from(signs[k]) << (7 * k);
        }
        scales[ib] = scale;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let d = max_scale / 31.0;
    put_f16(&mut out[..2], d);
    for ((qs, words), scale) in out[2..]
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip(&mut words)
        .zip(scales)
    {
        words[1] |= u32::from(scale_code(1.0 / d, scale, 15)) << 28;
        qs[..4].copy_from_slice(&words[0].to_le_bytes());
        qs[4..].copy_from_slice(&words[1].to_le_bytes());
    }
}

/// Sub-blocks of 16 as IQ2_XS and IQ2_S search them: scale, point and signs of both groups.
#[inline(always)]
fn sixteen(
    grid: &grid::Grid<8>,
    x: &[f32; 16],
    w: &[f32; 16],
    even: bool,
    epsilon: f32,
) -> Option<(f32, [usize; 2], [u8; 2])> {
    let trials = Trials {
        steps: 9,
        delta: 0.1,
        again: Again::Off,
    };
    let (mut size, mut signs) = ([0.0; 16], [0_u8; 2]);
    for k in 0..2 {
        let r = 8 * k..8 * k + 8;
        signs[k] = split_signs(&x[r.clone()], &w[r.clone()], even, &mut size[r]);
    }
    let max = largest(&size);
    if max < epsilon {
        return None;
    }
    let mut codes = [0_u8; 16];
    let mut scale = search::<16, 8>(grid, trials, &size, w, (max / 5.0, max), &mut codes);
    if scale < 0.0 {
        scale = -scale;
        signs = signs.map(|signs| if even { !signs & 127 } else { !signs });
    }
    let mut points = [0; 2];
    for (point, codes) in points.iter_mut().zip(codes.as_chunks::<8>().0) {
        *point = grid.at(grid::Grid::key(codes)).unwrap_or(0);
    }
    Some((scale, points, signs))
}

/// As [`encode_iq2_xxs`], only with importance.
#[inline(always)]
pub(crate) fn encode_iq2_xs(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 74],
) {
    out.fill(0);
    let Some(importance) = importance else { return };
    let grid = grid::iq2_xs();
    let mean_square = sum_of_squares(x) / 256.0;
    let mut scales = [0.0_f32; 16];
    let mut max_scale = 0.0;
    let mut words = [0_u16; 32];
    for (ib, x) in x.as_chunks::<16>().0.iter().enumerate() {
        let w = weigh(x, &importance.weights[16 * ib..], mean_square);
        let Some((scale, points, signs)) = sixteen(grid, x, &w, true, GROUP_MAX_EPS) else {
            continue;
        };
        for k in 0..2 {
            words[2 * ib + k] = points[k] as u16 | u16::from(signs[k]) << 9;
        }
        scales[ib] = scale;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let d = max_scale / 31.0;
    put_f16(&mut out[..2], d);
    for (ib, scale) in scales.into_iter().enumerate() {
        out[66 + ib / 2] |= scale_code(1.0 / d, scale, 15) << (4 * (ib % 2));
    }
    for (qs, word) in out[2..66].as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *qs = word.to_le_bytes();
    }
}

#[inline(always)]
pub(crate) fn encode_iq2_s(
    x: &[f32; 256],
    importance: Option<Importance<'_, 256>>,
    out: &mut [u8; 82],
) {
    out.fill(0);
    let grid = grid::iq2_s();
    let mean_square = 2.0 * sum_of_squares(x) / 256.0;
    let mut scales = [0.0_f32; 16];
    let mut max_scale = 0.0;
    for (ib, x) in x.as_chunks::<16>().0.iter().enumerate() {
        let w = match &importance {
            Some(importance) => weigh(x, &importance.weights[16 * ib..], mean_square),
            None => x.map(|v| 0.25 * mean_square + v * v),
        };
        // `GROUP_MAX_EPS_IQ2_S`
        let Some((scale, points, signs)) = sixteen(grid, x, &w, false, 1e-8) else {
            continue;
        };
        for k in 0..2 {
            let group = 2 * ib + k;
            out[2 + group] = points[k] as u8;
            out[66 + group / 4] |= ((points[k] >> 8) as u8) << (2 * (group % 4));
            out[34 + group] = signs[k];
        }
        scales[ib] = scale;
        max_scale = c_max(max_scale, scale);
    }
    if max_scale == 0.0 {
        return;
    }
    let d = max_scale / 31.0;
    put_f16(&mut out[..2], d * 0.9875);
    for (ib, scale) in scales.into_iter().enumerate() {
        out[74 + ib / 2] |= scale_code(1.0 / d, scale, 15) << (4 * (ib % 2));
    }
}
