//! The layout of a safetensors file.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `n`, the length of the header: u64, little-endian, at most 100,000,000 |
//! | 8 | n | the header: JSON, UTF-8, begins with `{`, padded with spaces so that 8 divides `n` |
//! | 8 + n | rest | the buffer: the bytes of all tensors, little-endian and row-major |
//!
//! The header is one object. The key `__metadata__` holds an object of strings; every other key is
//! a tensor's name and holds `{"dtype": NAME, "shape": [DIM, ...], "data_offsets": [BEGIN, END]}`,
//! offsets counted from the start of the buffer. The tensors cover the buffer exactly: no two
//! overlap, no byte lies between them, none follows the last. No name is used twice.
//!
//! Spec: <https://github.com/huggingface/safetensors#format>.

use ir::DType;
use safetensors::Dtype;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

/// The format's id.
pub(crate) const ID: &str = "safetensors";
/// Bytes of the length field.
pub(crate) const LENGTH_LEN: u64 = 8;
/// Most bytes of a header: `MAX_HEADER_SIZE` of the reference library.
pub(crate) const MAX_HEADER_LEN: u64 = 100_000_000;
/// The key that is no tensor.
pub(crate) const METADATA_KEY: &str = "__metadata__";
/// Metadata keys that begin so are this project's notes, in the namespace `ir::ns::NOTE`.
pub(crate) const NOTE_PREFIX: &str = "weightbridge.";
/// What the header is padded with, to a multiple of [`LENGTH_LEN`].
pub(crate) const PADDING: u8 = b' ';

/// The element types both sides know.
const DTYPES: &[(Dtype, DType)] = &[
    (Dtype::BOOL, DType::Bool),
    (Dtype::F4, DType::F4E2M1),
    (Dtype::F6_E2M3, DType::F6E2M3),
    (Dtype::F6_E3M2, DType::F6E3M2),
    (Dtype::U8, DType::U8),
    (Dtype::I8, DType::I8),
    (Dtype::F8_E5M2, DType::F8E5M2),
    (Dtype::F8_E4M3, DType::F8E4M3),
    (Dtype::F8_E8M0, DType::F8E8M0),
    (Dtype::F8_E4M3FNUZ, DType::F8E4M3Fnuz),
    (Dtype::F8_E5M2FNUZ, DType::F8E5M2Fnuz),
    (Dtype::I16, DType::I16),
    (Dtype::U16, DType::U16),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I32, DType::I32),
    (Dtype::U32, DType::U32),
    (Dtype::F32, DType::F32),
    (Dtype::C64, DType::C64),
    (Dtype::F64, DType::F64),
    (Dtype::I64, DType::I64),
    (Dtype::U64, DType::U64),
];

/// The type of a name in a header.
pub(crate) fn dtype_of_name(name: &str) -> Option<(Dtype, DType)> {
    let text: StrDeserializer<'_, ValueError> = name.into_deserializer();
    let wire = Dtype::deserialize(text).ok()?;
    DTYPES.iter().copied().find(|row| row.0 == wire)
}

/// The format's name for a type, if it has one.
pub(crate) fn dtype_to_wire(dtype: DType) -> Option<Dtype> {
    let row = DTYPES.iter().find(|row| row.1 == dtype)?;
    Some(row.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_sizes_agree_with_the_library() {
        for (wire, dtype) in DTYPES {
            assert_eq!(wire.to_string(), dtype.name());
            assert_eq!(dtype_of_name(dtype.name()), Some((*wire, *dtype)));
            let (elements, bytes) = dtype.block();
            assert_eq!(wire.bitsize() * elements as usize, bytes as usize * 8);
        }
        assert_eq!(dtype_of_name("C128"), None);
        assert_eq!(dtype_to_wire(DType::C128), None);
    }
}
