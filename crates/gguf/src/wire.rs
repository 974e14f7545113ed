//! The layout of a GGUF file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic, `GGUF`, whatever the byte order |
//! | 4 | 4 | version: u32, 1 to 3; in a big-endian file its low half reads as 0 on this machine |
//! | 8 | L | number of tensors |
//! | 8 + L | L | number of key-value pairs |
//! | | | the pairs: string key, u32 value type, value |
//! | | | the tensor infos: string name, u32 `n_dims`, `n_dims` times L dimension, u32 type, u64 offset |
//! | | | zeros up to the next multiple of the alignment: the data section begins there |
//! | | | each tensor's bytes, each followed by zeros up to the next multiple of the alignment |
//!
//! A length `L` is u64 in versions 2 and 3 and u32 in version 1. A string is a length and that many
//! bytes. An array is a u32 element type, a length, and the elements, each as a value of that type.
//! Dimensions are written **innermost first**: this module turns them round, nothing else sees them
//! that way. Offsets count from the data section. The alignment is the u32 `general.alignment`, 32
//! without that key. As in ggml's own reader, tensors follow each other in the order of their infos,
//! with nothing between them but padding.
//!
//! Spec: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>; ids as in `ggml.h` and
//! `gguf.h` of ggml 0.25.

use ir::BlockFormat as B;
use ir::{DType, Shape};

/// The format's id.
pub(crate) const ID: &str = "gguf";
/// The first four bytes.
pub(crate) const MAGIC: [u8; 4] = *b"GGUF";
/// The version that is written, and the newest that is read.
pub(crate) const VERSION: u32 = 3;
/// The alignment of a file that does not say.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;
/// Most dimensions of a tensor: `GGML_MAX_DIMS`.
pub(crate) const MAX_DIMS: usize = 4;
/// Most bytes of a tensor's name: `GGML_MAX_NAME` counts a NUL.
pub(crate) const MAX_NAME_LEN: usize = 63;
/// The same for images: ComfyUI-GGUF reads with gguf-py, which has no limit, and builds its ggml with
/// a `GGML_MAX_NAME` of 128 (`tools/lcpp.patch`).
pub(crate) const MAX_IMAGE_NAME_LEN: usize = 127;
/// The architectures of that loader. Source: ComfyUI-GGUF, `IMG_ARCH_LIST` in `loader.py`, and
/// `tools/convert.py`.
const IMAGE_ARCHITECTURES: &[&str] = &[
    "flux",
    "sd1",
    "sdxl",
    "sd3",
    "aura",
    "hidream",
    "cosmos",
    "ltxv",
    "hyvid",
    "wan",
    "lumina2",
    "qwen_image",
];
/// The key that names the architecture.
pub(crate) const ARCHITECTURE_KEY: &str = "general.architecture";

/// Most bytes of a tensor's name in a file of this architecture.
pub fn name_limit(architecture: Option<&str>) -> usize {
    match architecture {
        Some(name) if IMAGE_ARCHITECTURES.contains(&name) => MAX_IMAGE_NAME_LEN,
        _ => MAX_NAME_LEN,
    }
}

/// The key that sets the alignment.
pub(crate) const ALIGNMENT_KEY: &str = "general.alignment";
/// Which shard this is, counted from 0: u16.
pub(crate) const SPLIT_NO: &str = "split.no";
/// How many shards there are: u16; 0 in what `llama-gguf-split --merge` writes.
pub(crate) const SPLIT_COUNT: &str = "split.count";
/// How many tensors the whole set has: i32.
pub(crate) const SPLIT_TENSORS: &str = "split.tensors.count";

/// How `Provenance::version` ends for a file whose last byte is not followed by padding, so that
/// the writer can leave it out again.
pub(crate) const BARE_END: &str = "no padding at the end";

/// The types of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Str,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type of an id.
    pub(crate) fn of_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Its id.
    pub(crate) fn id(self) -> u32 {
        self as u32
    }
}

/// Ids of tensor types.
const TYPES: &[(u32, DType)] = &[
    (0, DType::F32),
    (1, DType::F16),
    (2, DType::Block(B::Q4_0)),
    (3, DType::Block(B::Q4_1)),
    (6, DType::Block(B::Q5_0)),
    (7, DType::Block(B::Q5_1)),
    (8, DType::Block(B::Q8_0)),
    (9, DType::Block(B::Q8_1)),
    (10, DType::Block(B::Q2_K)),
    (11, DType::Block(B::Q3_K)),
    (12, DType::Block(B::Q4_K)),
    (13, DType::Block(B::Q5_K)),
    (14, DType::Block(B::Q6_K)),
    (15, DType::Block(B::Q8_K)),
    (16, DType::Block(B::IQ2_XXS)),
    (17, DType::Block(B::IQ2_XS)),
    (18, DType::Block(B::IQ3_XXS)),
    (19, DType::Block(B::IQ1_S)),
    (20, DType::Block(B::IQ4_NL)),
    (21, DType::Block(B::IQ3_S)),
    (22, DType::Block(B::IQ2_S)),
    (23, DType::Block(B::IQ4_XS)),
    (24, DType::I8),
    (25, DType::I16),
    (26, DType::I32),
    (27, DType::I64),
    (28, DType::F64),
    (29, DType::Block(B::IQ1_M)),
    (30, DType::BF16),
    (34, DType::Block(B::TQ1_0)),
    (35, DType::Block(B::TQ2_0)),
    (39, DType::Block(B::MXFP4)),
    (40, DType::Block(B::NVFP4)),
    (41, DType::Block(B::Q1_0)),
    (42, DType::Block(B::Q2_0)),
];

/// Ids that once were types, with their names. The blocks of some were laid out for one CPU.
const REMOVED: &[(u32, &str)] = &[
    (4, "Q4_2"),
    (5, "Q4_3"),
    (31, "Q4_0_4_4"),
    (32, "Q4_0_4_8"),
    (33, "Q4_0_8_8"),
    (36, "IQ4_NL_4_4"),
    (37, "IQ4_NL_4_8"),
    (38, "IQ4_NL_8_8"),
];

/// The tensor type of an id.
pub(crate) fn dtype_of_id(id: u32) -> Option<DType> {
    TYPES.iter().find(|row| row.0 == id).map(|row| row.1)
}

/// The id of a tensor type, if ggml has it.
pub(crate) fn id_of_dtype(dtype: DType) -> Option<u32> {
    TYPES.iter().find(|row| row.1 == dtype).map(|row| row.0)
}

/// The name of a type that was removed.
pub(crate) fn removed_type(id: u32) -> Option<&'static str> {
    REMOVED.iter().find(|row| row.0 == id).map(|row| row.1)
}

/// The shape of dimensions as a file has them, innermost first.
pub(crate) fn shape_of_dims(dims: &[u64]) -> Shape {
    dims.iter().rev().copied().collect()
}

/// The dimensions of a shape as a file has them, innermost first.
pub(crate) fn dims_of_shape(shape: &Shape) -> impl Iterator<Item = u64> {
    shape.iter().rev().copied()
}

/// Whether every dimension and every product, from the innermost on, fits 63 bits: ggml counts in
/// i64, and refuses an overflow that a zero further out would hide.
pub(crate) fn elements_fit(dims: impl IntoIterator<Item = u64>) -> bool {
    let most = i64::MAX.unsigned_abs();
    let product = dims.into_iter().try_fold(1u64, |product, dim| {
        (dim <= most).then_some(())?;
        product.checked_mul(dim).filter(|n| *n <= most)
    });
    product.is_some()
}

/// `n` up to the next multiple of an alignment, if 64 bits hold it.
pub(crate) fn pad(n: u64, alignment: u64) -> Option<u64> {
    n.checked_next_multiple_of(alignment)
}

/// Where in a block its 16 bit numbers stand, which a big-endian file has the other way round.
///
/// `gguf_convert_endian.py` of llama.cpp knows Q4_0, Q8_0, Q4_K, Q6_K, MXFP4 and NVFP4 and has set
/// what such files look like; the others here have, like those, nothing wider than a byte but
/// their f16 scales (`ggml-common.h`). `None` for formats whose wider fields ggml reads through
/// words of the machine: what a big-endian file of those holds is nowhere laid down.
pub(crate) fn half_offsets(block: B) -> Option<&'static [usize]> {
    match block {
        B::Q4_0 | B::Q8_0 | B::IQ4_NL | B::Q1_0 | B::Q2_0 => Some(&[0]),
        B::Q4_1 | B::Q8_1 | B::Q4_K | B::Q5_K => Some(&[0, 2]),
        B::Q2_K => Some(&[80, 82]),
        B::Q6_K => Some(&[208]),
        B::TQ1_0 => Some(&[52]),
        B::TQ2_0 => Some(&[64]),
        B::MXFP4 | B::NVFP4 => Some(&[]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_below_43_is_a_type_or_a_removed_one() {
        for id in 0..43 {
            assert!(
                dtype_of_id(id).is_some() != removed_type(id).is_some(),
                "{id}"
            );
        }
        assert!(dtype_of_id(43).is_none() && removed_type(43).is_none());
        for block in B::all() {
            let id = id_of_dtype(DType::Block(block)).unwrap();
            assert_eq!(dtype_of_id(id), Some(DType::Block(block)));
        }
        assert_eq!(id_of_dtype(DType::U8), None);
    }

    #[test]
    fn value_types_stand_at_their_ids() {
        for id in 0..13 {
            assert_eq!(ValueType::of_id(id).unwrap().id(), id);
        }
        assert_eq!(ValueType::of_id(13), None);
    }

    #[test]
    fn scales_lie_inside_their_blocks() {
        for block in B::all() {
            for at in half_offsets(block).unwrap_or_default() {
                assert!(at + 2 <= block.bytes() as usize, "{block}");
            }
        }
    }

    #[test]
    fn shapes_turn_round() {
        let shape = shape_of_dims(&[4, 3, 2]);
        assert_eq!(&shape[..], [2, 3, 4]);
        assert_eq!(dims_of_shape(&shape).collect::<Vec<_>>(), [4, 3, 2]);
        assert_eq!(pad(33, 32), Some(64));
        assert_eq!(pad(u64::MAX, 32), None);
    }
}
