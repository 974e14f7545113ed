//! The plain reference: each format as ggml's C reads, one operation after the other.
//!
//! These kernels are never the fastest and never go away: the lane kernels in `fast` must equal
//! them bit for bit, and call them for values outside their own proof (NaN, infinities). What is
//! specified here is ggml's x86-64 release build: IEEE `f32`, no contraction, sums strictly in
//! index order, conversions to integers as `cvttss2si` does them. Algorithms learned from
//! `ggml-quants.c` (ggml 0.25, MIT).
//!
//! Every encoder takes one block of numbers, optionally the importance of each, and fills one
//! block of bytes; every decoder goes the other way.

pub(crate) mod fp4;
pub(crate) mod grid;
pub(crate) mod gridsearch;
pub(crate) mod iq1;
pub(crate) mod iq2;
pub(crate) mod iq3;
pub(crate) mod iq4;
pub(crate) mod kquants;
pub(crate) mod legacy;
pub(crate) mod search;
pub(crate) mod tables;
pub(crate) mod ternary;

pub(crate) use fp4::{DOUBLED as MXFP4_VALUES, e8m0_half};

use crate::float::f32_to_f16;

/// Groups whose largest magnitude stays below count as zero (`GROUP_MAX_EPS`).
pub(crate) const GROUP_MAX_EPS: f32 = 1e-15;

/// Asserts at compile time that the documented fields add up to the block format's size.
macro_rules! layout {
    ($format:ident, $elements:literal: $($field:ident $bytes:literal),+) => {
        const _: () = {
            assert!(ir::BlockFormat::$format.elements() == $elements);
            assert!(ir::BlockFormat::$format.bytes() == 0 $(+ $bytes)+);
        };
    };
}
pub(crate) use layout;

/// The importance matrix as one block sees it.
#[derive(Clone, Copy)]
pub(crate) struct Importance<'a, const E: usize> {
    /// One weight an element.
    pub(crate) weights: &'a [f32; E],
    /// Mean square of the whole row, summed in order: what the 32-element formats judge by.
    pub(crate) row_mean_square: f32,
}

/// Walks whole rows block by block. `importance` is one row long and serves every row.
#[inline(always)]
pub(crate) fn encode_rows<const E: usize, const B: usize>(
    src: &[f32],
    importance: Option<&[f32]>,
    out: &mut [u8],
    encode: impl Fn(&[f32; E], Option<Importance<'_, E>>, &mut [u8; B]),
) {
    let out = out.as_chunks_mut::<B>().0;
    let Some(importance) = importance else {
        for (x, block) in src.as_chunks::<E>().0.iter().zip(out) {
            encode(x, None, block);
        }
        return;
    };
    let rows = src.chunks_exact(importance.len());
    let blocks = out.chunks_exact_mut(importance.len() / E);
    for (row, blocks) in rows.zip(blocks) {
        let row_mean_square = sum_of_squares(row) / row.len() as f32;
        let weights = importance.as_chunks::<E>().0;
        for ((x, weights), block) in row.as_chunks::<E>().0.iter().zip(weights).zip(blocks) {
            encode(
                x,
                Some(Importance {
                    weights,
                    row_mean_square,
                }),
                block,
            );
        }
    }
}

/// Walks blocks of bytes.
#[inline(always)]
pub(crate) fn decode_blocks<const E: usize, const B: usize>(
    src: &[u8],
    out: &mut [f32],
    decode: impl Fn(&[u8; B], &mut [f32; E]),
) {
    for (block, y) in src
        .as_chunks::<B>()
        .0
        .iter()
        .zip(out.as_chunks_mut::<E>().0)
    {
        decode(block, y);
    }
}

/// Sum of squares, in order.
#[inline(always)]
pub(crate) fn sum_of_squares(x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for v in x {
        sum += v * v;
    }
    sum
}

/// ggml's `nearest_int`: half to even through the float adder. Beyond 4194303 it gives garbage,
/// and the same garbage as C, since only integer operations follow.
#[inline(always)]
pub(crate) fn nearest_int(value: f32) -> i32 {
    ((value + 12_582_912.0).to_bits() & 0x007f_ffff).cast_signed() - 0x0040_0000
}

/// Truncation as x86 does it: out of range and NaN give the lowest integer.
#[inline(always)]
pub(crate) fn truncate(value: f32) -> i32 {
    if (-2_147_483_648.0..2_147_483_648.0).contains(&value) {
        value as i32
    } else {
        i32::MIN
    }
}

/// C's `MAX(a, b)` macro on floats: `b` wins when either is NaN.
#[inline(always)]
pub(crate) fn c_max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// Stores a scale as `binary16`, low byte first.
#[inline(always)]
pub(crate) fn put_f16(out: &mut [u8], value: f32) {
    out.copy_from_slice(&f32_to_f16(value).to_le_bytes());
}

/// Reads a `binary16` scale at the start of `bytes`.
#[inline(always)]
pub(crate) fn get_f16(bytes: &[u8]) -> f32 {
    crate::float::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
}

/// The element of largest magnitude, with its sign: the first of equals, zero if all are NaN.
/// Gives `(magnitude, value)`.
#[inline(always)]
pub(crate) fn extreme(x: &[f32]) -> (f32, f32) {
    let (mut magnitude, mut value) = (0.0, 0.0);
    for &v in x {
        if v.abs() > magnitude {
            magnitude = v.abs();
            value = v;
        }
    }
    (magnitude, value)
}

/// `1 / d`, or zero for a zero `d`; infinite where `d` is denormal.
#[inline(always)]
pub(crate) fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}
