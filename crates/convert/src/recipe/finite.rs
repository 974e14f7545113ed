//! Whether data holds values that are not finite: `ggml_validate_row_data`.
//!
//! Plain numbers are looked at one by one; of a block only the scales are, which are not finite
//! where any of its weights was not, or was too large.

use super::RecipeError;
use ir::{BlockFormat, DType};

/// Where the binary16 scales of a block stand: byte offsets.
const fn scales(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::Q1_0
        | BlockFormat::Q2_0
        | BlockFormat::Q4_0
        | BlockFormat::Q5_0
        | BlockFormat::Q8_0
        | BlockFormat::IQ1_S
        | BlockFormat::IQ2_XXS
        | BlockFormat::IQ2_XS
        | BlockFormat::IQ2_S
        | BlockFormat::IQ3_XXS
        | BlockFormat::IQ3_S
        | BlockFormat::IQ4_NL
        | BlockFormat::IQ4_XS => &[0],
        BlockFormat::Q4_1
        | BlockFormat::Q5_1
        | BlockFormat::Q8_1
        | BlockFormat::Q4_K
        | BlockFormat::Q5_K => &[0, 2],
        BlockFormat::Q2_K => &[80, 82],
        BlockFormat::Q3_K => &[108],
        BlockFormat::Q6_K => &[208],
        BlockFormat::TQ1_0 => &[52],
        BlockFormat::TQ2_0 => &[64],
        // Others have scales that are no binary16, or that are always finite.
        _ => &[],
    }
}

/// The bits of a number's exponent and of its magnitude.
#[derive(Clone, Copy)]
struct Layout {
    exponent: u64,
    magnitude: u64,
}

const HALF: Layout = Layout {
    exponent: 0x7c00,
    magnitude: 0x7fff,
};
const BRAIN: Layout = Layout {
    exponent: 0x7f80,
    magnitude: 0x7fff,
};
const SINGLE: Layout = Layout {
    exponent: 0x7f80_0000,
    magnitude: 0x7fff_ffff,
};
const DOUBLE: Layout = Layout {
    exponent: 0x7ff0_0000_0000_0000,
    magnitude: 0x7fff_ffff_ffff_ffff,
};

/// What a bit pattern is, if it is not finite.
fn what(bits: u64, layout: Layout) -> Option<&'static str> {
    let magnitude = bits & layout.magnitude;
    match magnitude.cmp(&layout.exponent) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some("an infinite value"),
        std::cmp::Ordering::Greater => Some("NaN"),
    }
}

/// Numbers looked at together: the answer is one branch a piece, so the compiler can vectorise.
const PIECE: usize = 1024;

/// The first number that is not finite.
fn first<const N: usize>(
    bytes: &[u8],
    layout: Layout,
    bits: impl Fn([u8; N]) -> u64,
) -> Option<(usize, &'static str)> {
    let (numbers, _) = bytes.as_chunks::<N>();
    for (piece, numbers) in numbers.chunks(PIECE).enumerate() {
        let hit = numbers.iter().fold(false, |hit, number| {
            hit | (bits(*number) & layout.exponent == layout.exponent)
        });
        if hit {
            let mut found = numbers.iter().map(|number| what(bits(*number), layout));
            let at = found.position(|what| what.is_some())?;
            let what = what(bits(*numbers.get(at)?), layout)?;
            return Some((piece * PIECE + at, what));
        }
    }
    None
}

fn half(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes: &[u8; 2] = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes).into())
}

/// What is not finite in a block's scales.
fn in_block(format: BlockFormat, block: &[u8]) -> Option<&'static str> {
    match format {
        BlockFormat::MXFP4 => (block.first() == Some(&0xff)).then_some("NaN"),
        BlockFormat::Q8_K => {
            let scale: &[u8; 4] = block.first_chunk()?;
            what(u32::from_le_bytes(*scale).into(), SINGLE)
        }
        BlockFormat::IQ1_M => {
            // The scale is spread over the upper nibbles of the last four words.
            let word = |i: usize| half(block, 48 + 2 * i);
            let scale = (word(0)? >> 12)
                | (word(1)? >> 8 & 0x00f0)
                | (word(2)? >> 4 & 0x0f00)
                | (word(3)? & 0xf000);
            what(scale, HALF)
        }
        _ => {
            let mut found = scales(format)
                .iter()
                .map(|&at| what(half(block, at)?, HALF));
            found.find_map(|what| what)
        }
    }
}

/// An error for the first value in `bytes` that is not finite. `first_element` is the index of
/// the element `bytes` begins with.
pub(crate) fn check(
    dtype: DType,
    bytes: &[u8],
    first_element: u64,
    stage: &'static str,
) -> Result<(), RecipeError> {
    let found = match dtype {
        DType::F16 => first(bytes, HALF, |b| u16::from_le_bytes(b).into()),
        DType::BF16 => first(bytes, BRAIN, |b| u16::from_le_bytes(b).into()),
        DType::F32 => first(bytes, SINGLE, |b| u32::from_le_bytes(b).into()),
        DType::F64 => first(bytes, DOUBLE, u64::from_le_bytes),
        DType::Block(format) => bytes
            .chunks_exact(format.bytes() as usize)
            .enumerate()
            .find_map(|(i, block)| {
                Some((i * format.elements() as usize, in_block(format, block)?))
            }),
        _ => None,
    };
    match found {
        None => Ok(()),
        Some((at, what)) => Err(RecipeError::NotFinite {
            what,
            stage,
            dtype,
            element: first_element.saturating_add(at as u64),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(dtype: DType, bytes: &[u8]) -> Option<(u64, &'static str)> {
        match check(dtype, bytes, 10, "the weights") {
            Err(RecipeError::NotFinite { element, what, .. }) => Some((element, what)),
            _ => None,
        }
    }

    #[test]
    fn numbers_are_found_where_they_are() {
        let mut bytes = vec![0u8; 4 * 5000];
        assert_eq!(element(DType::F32, &bytes), None);
        bytes[4 * 3000..4 * 3000 + 4].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
        assert_eq!(
            element(DType::F32, &bytes),
            Some((3010, "an infinite value"))
        );
        bytes[4 * 2999..4 * 2999 + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        assert_eq!(element(DType::F32, &bytes), Some((3009, "NaN")));
        assert_eq!(
            element(DType::F16, &[0xff, 0x7b, 0, 0xfc]),
            Some((11, "an infinite value"))
        );
        assert_eq!(
            element(DType::BF16, &[0x7f, 0x7f, 0xc0, 0xff]),
            Some((11, "NaN"))
        );
        assert_eq!(
            element(DType::F64, &f64::NAN.to_le_bytes()),
            Some((10, "NaN"))
        );
        assert_eq!(element(DType::I16, &[0xff; 8]), None);
    }

    #[test]
    fn every_block_format_is_looked_at() {
        for format in BlockFormat::all() {
            let (elements, bytes) = (u64::from(format.elements()), format.bytes() as usize);
            let dtype = DType::Block(format);
            assert_eq!(element(dtype, &vec![0; 2 * bytes]), None, "{format}");
            let all_ones = element(dtype, &[vec![0; bytes], vec![0xff; bytes]].concat());
            let expected = (format != BlockFormat::NVFP4).then_some((10 + elements, "NaN"));
            assert_eq!(all_ones, expected, "{format}");
        }
    }
}
