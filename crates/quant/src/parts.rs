//! Blocks of 32 taken apart into codes, scales and minima, each a sequence of its own, and put
//! together again: the layout of blockwise dequantization in operator graphs.
//!
//! | format | code, as an integer | scale | minimum | a value is |
//! |---|---|---|---|---|
//! | Q4_0 | `q - 8`: -8 to 7 | F16 | | `scale * code` |
//! | Q4_1 | `q`: 0 to 15 | F16 | F16 | `scale * code + minimum` |
//! | Q5_0 | `q - 16`: -16 to 15 | F16 | | `scale * code` |
//! | Q5_1 | `q`: 0 to 31 | F16 | F16 | `scale * code + minimum` |
//! | Q8_0 | `q`: -128 to 127 | F16 | | `scale * code` |
//! | MXFP4 | the E2M1 code: 0 to 15 | E8M0 | | [`MXFP4_VALUES`]`[code] * `[`mxfp4_scales`]`[scale]` |
//!
//! In F32 every product is exact and a sum is rounded once, so that whoever computes so gets
//! [`dequantize`](crate::dequantize)'s numbers. Nothing is rounded here: both ways are exact.

use crate::scalar::{MXFP4_VALUES as DOUBLED, e8m0_half};
use ir::BlockFormat;

/// Elements of a block of every format here.
pub const PER_BLOCK: usize = 32;

/// What a code of MXFP4 stands for, twice as much: the scales are halved in turn.
pub const MXFP4_VALUES: [i8; 16] = DOUBLED;

/// What each scale byte of MXFP4 stands for.
pub fn mxfp4_scales() -> [f32; 256] {
    let mut all = [0.0; 256];
    for (e, slot) in (0..=u8::MAX).zip(&mut all) {
        *slot = e8m0_half(e);
    }
    all
}

/// Where the parts of a block lie, and what its codes may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartLayout {
    /// Bytes of a scale, at the block's beginning.
    pub scale: usize,
    /// Bytes of a minimum, behind it; 0 for none.
    pub min: usize,
    /// Bytes of fifth bits, behind those.
    high: usize,
    /// Whether a code is a byte of its own.
    bytes: bool,
    /// What is taken from the stored code.
    middle: u8,
    /// Bits of a code.
    pub bits: u32,
}

impl PartLayout {
    /// The layout of a format; none for those whose values have another form.
    pub fn of(format: BlockFormat) -> Option<Self> {
        let plain = |scale, min, high, middle, bits| Self {
            scale,
            min,
            high,
            bytes: bits == 8,
            middle,
            bits,
        };
        Some(match format {
            BlockFormat::Q4_0 => plain(2, 0, 0, 8, 4),
            BlockFormat::Q4_1 => plain(2, 2, 0, 0, 4),
            BlockFormat::Q5_0 => plain(2, 0, 4, 16, 5),
            BlockFormat::Q5_1 => plain(2, 2, 4, 0, 5),
            BlockFormat::Q8_0 => plain(2, 0, 0, 0, 8),
            BlockFormat::MXFP4 => plain(1, 0, 0, 0, 4),
            _ => return None,
        })
    }

    /// Whether codes have a sign.
    pub fn signed(self) -> bool {
        self.bytes || self.middle > 0
    }

    /// Bytes of a block.
    pub fn block(self) -> usize {
        let codes = if self.bytes { PER_BLOCK } else { PER_BLOCK / 2 };
        self.head() + self.high + codes
    }

    fn head(self) -> usize {
        self.scale + self.min
    }

    /// The codes of whole blocks, one a byte, in the order of their elements.
    pub fn codes(self, blocks: &[u8], out: &mut [u8]) {
        let pairs = blocks.chunks_exact(self.block());
        for (block, out) in pairs.zip(out.chunks_exact_mut(PER_BLOCK)) {
            let (_, rest) = block.split_at(self.head());
            let (high, qs) = rest.split_at(self.high);
            if self.bytes {
                out.copy_from_slice(qs);
                continue;
            }
            let (low, up) = out.split_at_mut(PER_BLOCK / 2);
            for ((byte, low), up) in qs.iter().zip(low).zip(up) {
                (*low, *up) = (byte & 15, byte >> 4);
            }
            if let Ok(high) = <[u8; 4]>::try_from(high) {
                let bits = u32::from_le_bytes(high);
                for (i, code) in out.iter_mut().enumerate() {
                    *code |= u8::from(bits >> i & 1 == 1) << 4;
                }
            }
            if self.middle > 0 {
                for code in out {
                    *code = code.wrapping_sub(self.middle);
                }
            }
        }
    }

    /// The scales of whole blocks.
    pub fn scales(self, blocks: &[u8], out: &mut [u8]) {
        let pairs = blocks.chunks_exact(self.block());
        for (block, out) in pairs.zip(out.chunks_exact_mut(self.scale)) {
            out.copy_from_slice(block.split_at(self.scale).0);
        }
    }

    /// The minima of whole blocks.
    pub fn mins(self, blocks: &[u8], out: &mut [u8]) {
        let pairs = blocks.chunks_exact(self.block());
        for (block, out) in pairs.zip(out.chunks_exact_mut(self.min.max(1))) {
            let (head, _) = block.split_at(self.head());
            out.copy_from_slice(head.split_at(self.scale).1);
        }
    }

    /// The blocks of these parts, a code a byte. Answers the place of the first code that the
    /// format has no room for, if there is one.
    pub fn join(self, codes: &[u8], scales: &[u8], mins: &[u8], out: &mut [u8]) -> Option<usize> {
        let mut mins = mins.chunks_exact(self.min.max(1));
        let parts = codes
            .chunks_exact(PER_BLOCK)
            .zip(scales.chunks_exact(self.scale));
        let mut wrong = None;
        let blocks = out.chunks_exact_mut(self.block());
        for (n, (block, (codes, scale))) in blocks.zip(parts).enumerate() {
            let (head, rest) = block.split_at_mut(self.head());
            let (first, second) = head.split_at_mut(self.scale);
            first.copy_from_slice(scale);
            if let Some(min) = mins.next().filter(|_| self.min > 0) {
                second.copy_from_slice(min);
            }
            let (high, qs) = rest.split_at_mut(self.high);
            if self.bytes {
                qs.copy_from_slice(codes);
                continue;
            }
            let limit = 1u8 << self.bits;
            let stored = |code: &u8| code.wrapping_add(self.middle);
            let bad = codes.iter().position(|code| stored(code) >= limit);
            wrong = wrong.or(bad.map(|at| n * PER_BLOCK + at));
            let (low, up) = codes.split_at(PER_BLOCK / 2);
            for ((byte, low), up) in qs.iter_mut().zip(low).zip(up) {
                *byte = stored(low) & 15 | stored(up) << 4;
            }
            if self.high > 0 {
                let bits = codes.iter().rev().fold(0u32, |bits, code| {
                    bits << 1 | u32::from(stored(code) >> 4 & 1)
                });
                high.copy_from_slice(&bits.to_le_bytes());
            }
        }
        wrong
    }
}

/// Codes of four bits, one a byte, as two a byte: the first in the low half.
pub fn pack_nibbles(codes: &[u8], out: &mut [u8]) {
    for (pair, byte) in codes.chunks(2).zip(out) {
        let low = pair.first().copied().unwrap_or(0);
        let high = pair.get(1).copied().unwrap_or(0);
        *byte = low & 15 | high << 4;
    }
}

/// The other way, from the low half on; with a sign where codes have one.
pub fn unpack_nibbles(bytes: &[u8], signed: bool, out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_mut(2)) {
        for (slot, code) in pair.iter_mut().zip([byte & 15, byte >> 4]) {
            *slot = if signed {
                (code ^ 8).wrapping_sub(8)
            } else {
                code
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dequantize;

    const ALL: [BlockFormat; 6] = [
        BlockFormat::Q4_0,
        BlockFormat::Q4_1,
        BlockFormat::Q5_0,
        BlockFormat::Q5_1,
        BlockFormat::Q8_0,
        BlockFormat::MXFP4,
    ];

    /// Bytes without order, the first scale among them negative.
    fn blocks(format: BlockFormat, n: usize) -> Vec<u8> {
        let len = format.bytes() as usize * n;
        let mut state = 0x9e37_79b9_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            // Never the largest exponent of F16: its values are no numbers.
            (state >> 24) as u8 & 0xbf
        };
        (0..len).map(next).collect()
    }

    fn f16(bytes: &[u8]) -> f32 {
        crate::float::f16_to_f32(u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    #[test]
    fn parts_are_the_numbers_and_make_the_block() {
        for format in ALL {
            let n = 64;
            let blocks = blocks(format, n);
            let layout = PartLayout::of(format).unwrap();
            assert_eq!(layout.block(), format.bytes() as usize);
            let mut codes = vec![0; n * PER_BLOCK];
            let mut scales = vec![0; n * layout.scale];
            let mut mins = vec![0; n * layout.min];
            layout.codes(&blocks, &mut codes);
            layout.scales(&blocks, &mut scales);
            if layout.min > 0 {
                layout.mins(&blocks, &mut mins);
            }
            let mut wanted = vec![0.0f32; n * PER_BLOCK];
            dequantize(format, &blocks, &mut wanted).unwrap();
            for (i, wanted) in wanted.iter().enumerate() {
                let (code, block) = (codes[i], i / PER_BLOCK);
                let number = if layout.signed() {
                    f32::from(code.cast_signed())
                } else {
                    f32::from(code)
                };
                let value = match format {
                    BlockFormat::MXFP4 => {
                        f32::from(MXFP4_VALUES[usize::from(code)])
                            * mxfp4_scales()[usize::from(scales[block])]
                    }
                    _ if layout.min > 0 => {
                        f16(&scales[block * 2..]) * number + f16(&mins[block * 2..])
                    }
                    _ => f16(&scales[block * 2..]) * number,
                };
                assert_eq!(value.to_bits(), wanted.to_bits(), "{format} element {i}");
            }
            let mut back = vec![0; blocks.len()];
            assert_eq!(layout.join(&codes, &scales, &mins, &mut back), None);
            assert!(back == blocks, "{format}");
        }
    }

    #[test]
    fn a_code_too_large_is_told() {
        let layout = PartLayout::of(BlockFormat::Q5_0).unwrap();
        let mut codes = vec![0xf0; 64];
        codes[40] = 16;
        let mut out = vec![0; 44];
        assert_eq!(layout.join(&codes, &[0; 4], &[], &mut out), Some(40));
    }

    #[test]
    fn nibbles_go_both_ways() {
        let codes = [0xf8, 7, 0, 0xff];
        let mut packed = [0; 2];
        pack_nibbles(&codes, &mut packed);
        assert_eq!(packed, [0x78, 0xf0]);
        let mut back = [0; 4];
        unpack_nibbles(&packed, true, &mut back);
        assert_eq!(back, codes);
        unpack_nibbles(&packed, false, &mut back);
        assert_eq!(back, [8, 7, 0, 15]);
    }
}
