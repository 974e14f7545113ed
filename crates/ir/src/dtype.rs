//! Element types and block formats, with the one table of their sizes.

use std::fmt;
use std::str::FromStr;

/// The type of a tensor's elements.
///
/// Names are those of the `safetensors` format where it has one, in the spelling its users know
/// (`BF16`, `F8_E4M3`); block formats keep ggml's spelling (`Q4_K`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of binary32.
    BF16,
    /// 8 bit float, 4 exponent bits, finite only with one NaN pattern a sign (OCP E4M3).
    F8E4M3,
    /// 8 bit float, 5 exponent bits, with infinities (OCP E5M2).
    F8E5M2,
    /// E4M3 with bias 8, no negative zero, no infinity.
    F8E4M3Fnuz,
    /// E5M2 with bias 16, no negative zero, no infinity.
    F8E5M2Fnuz,
    /// 8 bit power of two, used as a block scale (OCP E8M0).
    F8E8M0,
    /// 6 bit float, 2 exponent bits; four elements fill three bytes.
    F6E2M3,
    /// 6 bit float, 3 exponent bits; four elements fill three bytes.
    F6E3M2,
    /// 4 bit float, 2 exponent bits; two elements a byte, the first in the low nibble.
    F4E2M1,
    /// Signed 64 bit integer.
    I64,
    /// Signed 32 bit integer.
    I32,
    /// Signed 16 bit integer.
    I16,
    /// Signed 8 bit integer.
    I8,
    /// Signed 4 bit integer, two a byte, the first in the low nibble.
    I4,
    /// Signed 2 bit integer, four a byte, the first in the lowest bits.
    I2,
    /// Unsigned 64 bit integer.
    U64,
    /// Unsigned 32 bit integer.
    U32,
    /// Unsigned 16 bit integer.
    U16,
    /// Unsigned 8 bit integer.
    U8,
    /// Unsigned 4 bit integer, two a byte, the first in the low nibble.
    U4,
    /// Unsigned 2 bit integer, four a byte, the first in the lowest bits.
    U2,
    /// One byte an element, 0 or 1.
    Bool,
    /// Complex of two `F16`.
    C32,
    /// Complex of two `F32`.
    C64,
    /// Complex of two `F64`.
    C128,
    /// Complex of two `BF16`.
    BC32,
    /// Eight bits without a meaning of their own (PyTorch's `bits8`).
    Bits8,
    /// Sixteen bits without a meaning of their own (PyTorch's `bits16`).
    Bits16,
    /// A byte of eight numbers of one bit (PyTorch's `bits1x8`).
    Bits1x8,
    /// A byte of four numbers of two bits (PyTorch's `bits2x4`).
    Bits2x4,
    /// A byte of two numbers of four bits (PyTorch's `bits4x2`).
    Bits4x2,
    /// Strings of any length; the payload is a list, and there are no fixed sizes.
    Str,
    /// A quantized block format: several elements share a block of bytes.
    Block(BlockFormat),
}

/// ggml's block formats: rows are cut into blocks of [`BlockFormat::elements`] values, each
/// stored in [`BlockFormat::bytes`] bytes.
///
/// Sizes and ids are those of `ggml.h` and the gguf-py constants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types, missing_docs)] // the field's own spelling; the table below documents each
#[non_exhaustive]
pub enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q8_1,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_K,
    IQ1_S,
    IQ1_M,
    IQ2_XXS,
    IQ2_XS,
    IQ2_S,
    IQ3_XXS,
    IQ3_S,
    IQ4_NL,
    IQ4_XS,
    TQ1_0,
    TQ2_0,
    MXFP4,
    NVFP4,
    Q1_0,
    Q2_0,
}

/// Name, elements a block, bytes a block.
const BLOCKS: &[(BlockFormat, &str, u32, u32)] = &[
    (BlockFormat::Q4_0, "Q4_0", 32, 18),
    (BlockFormat::Q4_1, "Q4_1", 32, 20),
    (BlockFormat::Q5_0, "Q5_0", 32, 22),
    (BlockFormat::Q5_1, "Q5_1", 32, 24),
    (BlockFormat::Q8_0, "Q8_0", 32, 34),
    (BlockFormat::Q8_1, "Q8_1", 32, 36),
    (BlockFormat::Q2_K, "Q2_K", 256, 84),
    (BlockFormat::Q3_K, "Q3_K", 256, 110),
    (BlockFormat::Q4_K, "Q4_K", 256, 144),
    (BlockFormat::Q5_K, "Q5_K", 256, 176),
    (BlockFormat::Q6_K, "Q6_K", 256, 210),
    (BlockFormat::Q8_K, "Q8_K", 256, 292),
    (BlockFormat::IQ1_S, "IQ1_S", 256, 50),
    (BlockFormat::IQ1_M, "IQ1_M", 256, 56),
    (BlockFormat::IQ2_XXS, "IQ2_XXS", 256, 66),
    (BlockFormat::IQ2_XS, "IQ2_XS", 256, 74),
    (BlockFormat::IQ2_S, "IQ2_S", 256, 82),
    (BlockFormat::IQ3_XXS, "IQ3_XXS", 256, 98),
    (BlockFormat::IQ3_S, "IQ3_S", 256, 110),
    (BlockFormat::IQ4_NL, "IQ4_NL", 32, 18),
    (BlockFormat::IQ4_XS, "IQ4_XS", 256, 136),
    (BlockFormat::TQ1_0, "TQ1_0", 256, 54),
    (BlockFormat::TQ2_0, "TQ2_0", 256, 66),
    (BlockFormat::MXFP4, "MXFP4", 32, 17),
    (BlockFormat::NVFP4, "NVFP4", 64, 36),
    (BlockFormat::Q1_0, "Q1_0", 128, 18),
    (BlockFormat::Q2_0, "Q2_0", 64, 18),
];

impl BlockFormat {
    /// Every block format, in declaration order.
    pub fn all() -> impl Iterator<Item = Self> {
        BLOCKS.iter().map(|row| row.0)
    }

    const fn row(self) -> &'static (Self, &'static str, u32, u32) {
        &BLOCKS[self as usize]
    }

    /// ggml's spelling, e.g. `Q4_K`.
    pub const fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements in one block.
    pub const fn elements(self) -> u32 {
        self.row().2
    }

    /// Bytes of one block.
    pub const fn bytes(self) -> u32 {
        self.row().3
    }
}

// `row` indexes by discriminant, so the table must stand in declaration order.
const _: () = {
    let mut i = 0;
    while i < BLOCKS.len() {
        assert!(BLOCKS[i].0 as usize == i);
        i += 1;
    }
    assert!(BLOCKS.len() == BlockFormat::Q2_0 as usize + 1);
};

/// Name, elements a unit, bytes a unit of every type but the block formats.
const PLAIN: &[(DType, &str, u32, u32)] = &[
    (DType::F64, "F64", 1, 8),
    (DType::F32, "F32", 1, 4),
    (DType::F16, "F16", 1, 2),
    (DType::BF16, "BF16", 1, 2),
    (DType::F8E4M3, "F8_E4M3", 1, 1),
    (DType::F8E5M2, "F8_E5M2", 1, 1),
    (DType::F8E4M3Fnuz, "F8_E4M3FNUZ", 1, 1),
    (DType::F8E5M2Fnuz, "F8_E5M2FNUZ", 1, 1),
    (DType::F8E8M0, "F8_E8M0", 1, 1),
    (DType::F6E2M3, "F6_E2M3", 4, 3),
    (DType::F6E3M2, "F6_E3M2", 4, 3),
    (DType::F4E2M1, "F4", 2, 1),
    (DType::I64, "I64", 1, 8),
    (DType::I32, "I32", 1, 4),
    (DType::I16, "I16", 1, 2),
    (DType::I8, "I8", 1, 1),
    (DType::I4, "I4", 2, 1),
    (DType::I2, "I2", 4, 1),
    (DType::U64, "U64", 1, 8),
    (DType::U32, "U32", 1, 4),
    (DType::U16, "U16", 1, 2),
    (DType::U8, "U8", 1, 1),
    (DType::U4, "U4", 2, 1),
    (DType::U2, "U2", 4, 1),
    (DType::Bool, "BOOL", 1, 1),
    (DType::C32, "C32", 1, 4),
    (DType::C64, "C64", 1, 8),
    (DType::C128, "C128", 1, 16),
    (DType::BC32, "BC32", 1, 4),
    (DType::Bits8, "BITS8", 1, 1),
    (DType::Bits16, "BITS16", 1, 2),
    (DType::Bits1x8, "BITS1X8", 1, 1),
    (DType::Bits2x4, "BITS2X4", 1, 1),
    (DType::Bits4x2, "BITS4X2", 1, 1),
    (DType::Str, "STR", 1, 0),
];

impl DType {
    /// Every type, block formats last.
    pub fn all() -> impl Iterator<Item = Self> {
        PLAIN
            .iter()
            .map(|row| row.0)
            .chain(BlockFormat::all().map(Self::Block))
    }

    /// The name shown to people and accepted from them.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block(block) => block.name(),
            plain => PLAIN
                .iter()
                .find(|row| row.0 == plain)
                .map_or("?", |row| row.1),
        }
    }

    /// `(elements, bytes)` of the smallest unit that stands alone: `(1, 4)` for `F32`, `(2, 1)`
    /// for `F4`, `(256, 144)` for `Q4_K`. The one source of sizes. `Str` answers `(1, 0)`.
    pub const fn block(self) -> (u32, u32) {
        match self {
            Self::Block(block) => (block.elements(), block.bytes()),
            Self::F64 | Self::I64 | Self::U64 | Self::C64 => (1, 8),
            Self::F32 | Self::I32 | Self::U32 | Self::C32 | Self::BC32 => (1, 4),
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 | Self::Bits16 => (1, 2),
            Self::C128 => (1, 16),
            Self::F8E4M3
            | Self::F8E5M2
            | Self::F8E4M3Fnuz
            | Self::F8E5M2Fnuz
            | Self::F8E8M0
            | Self::I8
            | Self::U8
            | Self::Bits8
            | Self::Bits1x8
            | Self::Bits2x4
            | Self::Bits4x2
            | Self::Bool => (1, 1),
            Self::F6E2M3 | Self::F6E3M2 => (4, 3),
            Self::F4E2M1 | Self::I4 | Self::U4 => (2, 1),
            Self::I2 | Self::U2 => (4, 1),
            Self::Str => (1, 0),
        }
    }

    /// Bytes of one element, for types whose elements are whole bytes.
    pub const fn element_bytes(self) -> Option<u32> {
        match self.block() {
            (1, 0) => None,
            (1, bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Bytes of `elements` elements, checked arithmetic. Blocks are whole; the last byte of packed
    /// numbers may be filled in part, as ONNX has it: three of four bits take two bytes.
    pub fn byte_len(self, elements: u64) -> Option<u64> {
        let (per, bytes) = (u64::from(self.block().0), u64::from(self.block().1));
        let (units, rest) = (elements / per, elements % per);
        if rest != 0 && matches!(self, Self::Block(_)) {
            return None;
        }
        units
            .checked_mul(bytes)?
            .checked_add((rest * bytes).div_ceil(per))
    }

    /// Whether so many elements end where a byte ends, as most formats want it.
    pub fn fills_bytes(self, elements: u64) -> bool {
        elements.is_multiple_of(u64::from(self.block().0))
    }

    /// Width in bytes of the numbers a byte swap works on: 8 for `F64` and `C128`, 1 where bytes
    /// have no order.
    pub const fn swap_width(self) -> u32 {
        match self {
            Self::C32 | Self::BC32 => 2,
            Self::C64 => 4,
            Self::C128 => 8,
            Self::Block(_) | Self::Str => 1,
            plain => match plain.block() {
                (1, bytes) => bytes,
                _ => 1,
            },
        }
    }

    /// Whether elements are real floating-point numbers of their own (no blocks, no complex).
    pub const fn is_float(self) -> bool {
        matches!(
            self,
            Self::F64
                | Self::F32
                | Self::F16
                | Self::BF16
                | Self::F8E4M3
                | Self::F8E5M2
                | Self::F8E4M3Fnuz
                | Self::F8E5M2Fnuz
                | Self::F8E8M0
                | Self::F6E2M3
                | Self::F6E3M2
                | Self::F4E2M1
        )
    }

    /// The type of the two parts of a complex type.
    pub const fn complex_part(self) -> Option<Self> {
        match self {
            Self::C32 => Some(Self::F16),
            Self::BC32 => Some(Self::BF16),
            Self::C64 => Some(Self::F32),
            Self::C128 => Some(Self::F64),
            _ => None,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for BlockFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No type has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no element type")]
pub struct UnknownDType(pub String);

impl FromStr for DType {
    type Err = UnknownDType;

    /// Reads a name as [`DType::name`] gives it, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownDType> {
        Self::all()
            .find(|dtype| dtype.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownDType(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_match_agree() {
        for row in PLAIN {
            assert_eq!(row.0.block(), (row.2, row.3), "{}", row.1);
        }
    }

    #[test]
    fn names_read_back() {
        for dtype in DType::all() {
            assert_eq!(dtype.name().parse::<DType>().unwrap(), dtype);
            assert_eq!(dtype.name().to_lowercase().parse::<DType>().unwrap(), dtype);
        }
        assert!("Q9_Z".parse::<DType>().is_err());
    }

    #[test]
    fn lengths_are_checked() {
        assert_eq!(DType::F32.byte_len(3), Some(12));
        assert_eq!(DType::F4E2M1.byte_len(3), Some(2));
        assert!(!DType::F4E2M1.fills_bytes(3) && DType::F4E2M1.fills_bytes(4));
        assert_eq!(DType::F6E2M3.byte_len(5), Some(4));
        assert_eq!(DType::I2.byte_len(5), Some(2));
        assert_eq!(DType::Block(BlockFormat::Q4_0).byte_len(3), None);
        assert_eq!(DType::F6E2M3.byte_len(8), Some(6));
        assert_eq!(DType::Block(BlockFormat::Q4_K).byte_len(512), Some(288));
        assert_eq!(DType::F64.byte_len(u64::MAX / 4), None);
    }
}
