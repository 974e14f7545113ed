//! What PyTorch writes: names, numbers and layouts.
//!
//! # Zip (`torch.save` since 1.6)
//!
//! All entries lie in one top folder, usually named after the file. The facts are those of
//! `torch/serialization.py` and `caffe2/serialize/inline_container.cc`.
//!
//! | entry | holds |
//! |---|---|
//! | `data.pkl` | the object; storages are persistent ids `('storage', class, key, location, numel)` |
//! | `data/KEY` | the bytes of a storage |
//! | `byteorder` | `little` or `big`; absent before 2.1: little |
//! | `version` | format version: `3\n` |
//! | `.format_version`, `.storage_alignment` | since 2.6: `1`, `64` |
//! | `.data/serialization_id` | a hash |
//! | `constants.pkl`, `code/**`, `constants/N` | TorchScript |
//!
//! # Legacy stream (before 1.6)
//!
//! | part | holds |
//! |---|---|
//! | pickle 1 | [`MAGIC`] |
//! | pickle 2 | [`PROTOCOL`] |
//! | pickle 3 | a dict with `little_endian` |
//! | pickle 4 | the object; ids `('storage', class, key, location, numel, view)` where view is `None` or `(view key, offset, numel)` |
//! | pickle 5 | the list of storage keys, in the order they follow |
//! | per key | i64 number of elements, then the elements |
//!
//! # Tar (0.1)
//!
//! | member | holds |
//! |---|---|
//! | `sys_info` | a dict with `little_endian` |
//! | `storages` | pickled count; per storage a pickled `(key, location, class)`, i64 count, elements; then a pickled list of views `(key, root key, offset, numel)` |
//! | `tensors` | pickled count; per tensor a pickled `(key, storage key, class)`, i32 rank and four bytes, i64 sizes, i64 strides, i64 offset |
//! | `pickle` | the object; tensors are persistent ids that are keys |

use ir::DType;

/// `0x1950a86a20f9469cfc6c`, two's complement, least significant byte first.
pub(crate) const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The version of the legacy stream.
pub(crate) const PROTOCOL: i64 = 1001;

/// How a legacy stream begins in protocol 2 to 5: `PROTO n`, `LONG1` of ten bytes.
pub(crate) fn is_legacy_magic(head: &[u8]) -> bool {
    let body = match head {
        [0x80, version, rest @ ..] if *version <= 5 => rest,
        other => other,
    };
    // Protocol 4 and 5 wrap it in a frame.
    let body = match body {
        [0x95, _, _, _, _, _, _, _, _, framed @ ..] => framed,
        bare => bare,
    };
    body.strip_prefix(&[0x8a, 10])
        .is_some_and(|rest| rest.starts_with(&MAGIC))
        || body.starts_with(b"L119547037146038801333356")
}

/// An element type as PyTorch names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TorchType {
    /// PyTorch's name: `float32`, `quint8`.
    pub(crate) name: &'static str,
    /// What carries it here.
    pub(crate) dtype: DType,
    /// Whether the numbers mean something else than `dtype` says: quantized and bit types.
    pub(crate) kind: Kind,
}

/// How an element type relates to what carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is the same type.
    Plain,
    /// Quantized numbers of whole bytes.
    Quantized,
    /// Quantized numbers smaller than a byte, packed.
    Packed,
    /// A type of bits that is carried as integers of its size.
    Bits,
    /// Two numbers a byte.
    Pairs,
}

const fn plain(name: &'static str, dtype: DType) -> TorchType {
    TorchType {
        name,
        dtype,
        kind: Kind::Plain,
    }
}

const fn other(name: &'static str, dtype: DType, kind: Kind) -> TorchType {
    TorchType { name, dtype, kind }
}

/// Element types by the name of their `torch.dtype`; the first of each type is its proper name.
const DTYPES: &[TorchType] = &[
    plain("float32", DType::F32),
    plain("float64", DType::F64),
    plain("float16", DType::F16),
    plain("bfloat16", DType::BF16),
    plain("int64", DType::I64),
    plain("int32", DType::I32),
    plain("int16", DType::I16),
    plain("int8", DType::I8),
    plain("uint8", DType::U8),
    plain("uint16", DType::U16),
    plain("uint32", DType::U32),
    plain("uint64", DType::U64),
    plain("bool", DType::Bool),
    plain("complex32", DType::C32),
    plain("complex64", DType::C64),
    plain("complex128", DType::C128),
    plain("bcomplex32", DType::BC32),
    plain("float8_e4m3fn", DType::F8E4M3),
    plain("float8_e5m2", DType::F8E5M2),
    plain("float8_e4m3fnuz", DType::F8E4M3Fnuz),
    plain("float8_e5m2fnuz", DType::F8E5M2Fnuz),
    plain("float8_e8m0fnu", DType::F8E8M0),
    other("float4_e2m1fn_x2", DType::F4E2M1, Kind::Pairs),
    other("qint8", DType::I8, Kind::Quantized),
    other("quint8", DType::U8, Kind::Quantized),
    other("qint32", DType::I32, Kind::Quantized),
    other("quint4x2", DType::U8, Kind::Packed),
    other("quint2x4", DType::U8, Kind::Packed),
    plain("bits8", DType::Bits8),
    plain("bits1x8", DType::Bits1x8),
    plain("bits2x4", DType::Bits2x4),
    plain("bits4x2", DType::Bits4x2),
    plain("bits16", DType::Bits16),
    other("uint1", DType::U8, Kind::Bits),
    other("uint2", DType::U8, Kind::Bits),
    other("uint3", DType::U8, Kind::Bits),
    other("uint4", DType::U8, Kind::Bits),
    other("uint5", DType::U8, Kind::Bits),
    other("uint6", DType::U8, Kind::Bits),
    other("uint7", DType::U8, Kind::Bits),
    other("int1", DType::I8, Kind::Bits),
    other("int2", DType::I8, Kind::Bits),
    other("int3", DType::I8, Kind::Bits),
    other("int4", DType::I8, Kind::Bits),
    other("int5", DType::I8, Kind::Bits),
    other("int6", DType::I8, Kind::Bits),
    other("int7", DType::I8, Kind::Bits),
    // Aliases.
    plain("float", DType::F32),
    plain("double", DType::F64),
    plain("half", DType::F16),
    plain("long", DType::I64),
    plain("int", DType::I32),
    plain("short", DType::I16),
    plain("chalf", DType::C32),
    plain("cfloat", DType::C64),
    plain("cdouble", DType::C128),
];

/// Storage and tensor classes without their `Storage` or `Tensor`, and their element types.
const CLASSES: &[(&str, &str)] = &[
    ("Float", "float32"),
    ("Double", "float64"),
    ("Half", "float16"),
    ("BFloat16", "bfloat16"),
    ("Long", "int64"),
    ("Int", "int32"),
    ("Short", "int16"),
    ("Char", "int8"),
    ("Byte", "uint8"),
    ("Bool", "bool"),
    ("ComplexHalf", "complex32"),
    ("ComplexFloat", "complex64"),
    ("ComplexDouble", "complex128"),
    ("QInt8", "qint8"),
    ("QUInt8", "quint8"),
    ("QInt32", "qint32"),
    ("QUInt4x2", "quint4x2"),
    ("QUInt2x4", "quint2x4"),
];

/// The element type of a `torch.dtype` by its name.
pub(crate) fn dtype(name: &str) -> Option<TorchType> {
    DTYPES.iter().find(|row| row.name == name).copied()
}

/// What a storage class says of its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorageClass {
    /// `torch.FloatStorage` and its kind.
    Typed(TorchType),
    /// `torch.UntypedStorage`: counted in bytes.
    Untyped,
}

impl StorageClass {
    /// Bytes of one element.
    pub(crate) fn width(self) -> u64 {
        match self {
            Self::Typed(t) => t.dtype.element_bytes().unwrap_or(1).into(),
            Self::Untyped => 1,
        }
    }
}

/// What a storage class by this name holds; the module only says on which device it lived.
pub(crate) fn storage_class(module: &str, name: &str) -> Option<StorageClass> {
    let torch = module == "torch" || module.starts_with("torch.");
    let kind = name.strip_suffix("Storage").filter(|_| torch)?;
    if matches!(kind, "Untyped" | "_Untyped") {
        return Some(StorageClass::Untyped);
    }
    class(kind).map(StorageClass::Typed)
}

/// The element type of a tensor class: `torch.FloatTensor`.
pub(crate) fn tensor_class(module: &str, name: &str) -> Option<TorchType> {
    let torch = module == "torch" || module.starts_with("torch.");
    class(name.strip_suffix("Tensor").filter(|_| torch)?)
}

fn class(kind: &str) -> Option<TorchType> {
    let (_, name) = CLASSES.iter().find(|row| row.0 == kind)?;
    dtype(name)
}

/// Notes of this prefix name tensors that require a gradient and are no parameters.
pub(crate) const REQUIRES_GRAD: &str = "requires_grad.";

/// Notes of this prefix name pairs of numbers that were tensors without dimensions.
pub(crate) const LONE_PAIR: &str = "lone_pair.";

/// The attribute of a state dict in which our writer keeps a model's metadata.
pub(crate) const ATTRIBUTE: &str = "_weightbridge";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_have_types() {
        for (kind, name) in CLASSES {
            assert!(dtype(name).is_some(), "{kind}");
        }
        let float = storage_class("torch.cuda", "FloatStorage").unwrap();
        assert_eq!(float.width(), 4);
        assert_eq!(
            storage_class("torch.storage", "UntypedStorage"),
            Some(StorageClass::Untyped)
        );
        assert_eq!(storage_class("os", "FloatStorage"), None);
        assert_eq!(storage_class("torch", "WeirdStorage"), None);
    }

    #[test]
    fn magic_in_every_protocol() {
        let long1 = [&[0x8a, 10][..], &MAGIC].concat();
        assert!(is_legacy_magic(&[&[0x80, 2][..], &long1].concat()));
        let frame = [&[0x80, 4, 0x95, 13, 0, 0, 0, 0, 0, 0, 0][..], &long1].concat();
        assert!(is_legacy_magic(&frame));
        assert!(is_legacy_magic(b"L119547037146038801333356L\n."));
        assert!(!is_legacy_magic(b"\x80\x02}."));
    }
}
