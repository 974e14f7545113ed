//! Codes of element types and of attributes' kinds.

use ir::{AttributeKind, DType};

/// `TensorProto.DataType`, code and type.
const DTYPES: &[(i32, DType)] = &[
    (1, DType::F32),
    (2, DType::U8),
    (3, DType::I8),
    (4, DType::U16),
    (5, DType::I16),
    (6, DType::I32),
    (7, DType::I64),
    (8, DType::Str),
    (9, DType::Bool),
    (10, DType::F16),
    (11, DType::F64),
    (12, DType::U32),
    (13, DType::U64),
    (14, DType::C64),
    (15, DType::C128),
    (16, DType::BF16),
    (17, DType::F8E4M3),
    (18, DType::F8E4M3Fnuz),
    (19, DType::F8E5M2),
    (20, DType::F8E5M2Fnuz),
    (21, DType::U4),
    (22, DType::I4),
    (23, DType::F4E2M1),
    (24, DType::F8E8M0),
    (25, DType::U2),
    (26, DType::I2),
    (27, DType::F6E2M3),
    (28, DType::F6E3M2),
];

/// The type of a code.
pub(crate) fn dtype_of_code(code: i64) -> Option<DType> {
    let row = DTYPES.iter().find(|row| i64::from(row.0) == code)?;
    Some(row.1)
}

/// The code of a type, if the format has it.
pub(crate) fn code_of_dtype(dtype: DType) -> Option<i32> {
    let row = DTYPES.iter().find(|row| row.1 == dtype)?;
    Some(row.0)
}

/// The first IR version that has a type; what came before is told by 10, which is what is written
/// where nothing asks for more.
pub(crate) fn ir_version_of_dtype(dtype: DType) -> i64 {
    match dtype {
        DType::F4E2M1 => 11,
        DType::F8E8M0 => 12,
        DType::U2 | DType::I2 => 13,
        DType::F6E2M3 | DType::F6E3M2 => 14,
        _ => 10,
    }
}

/// `AttributeProto.AttributeType`, code and kind.
const KINDS: &[(i32, AttributeKind)] = &[
    (0, AttributeKind::Undefined),
    (1, AttributeKind::Float),
    (2, AttributeKind::Int),
    (3, AttributeKind::Str),
    (4, AttributeKind::Tensor),
    (5, AttributeKind::Graph),
    (6, AttributeKind::Floats),
    (7, AttributeKind::Ints),
    (8, AttributeKind::Strs),
    (9, AttributeKind::Tensors),
    (10, AttributeKind::Graphs),
    (11, AttributeKind::Sparse),
    (12, AttributeKind::Sparses),
    (13, AttributeKind::Type),
    (14, AttributeKind::Types),
];

/// The kind of a code.
pub(crate) fn kind_of_code(code: i64) -> Option<AttributeKind> {
    let row = KINDS.iter().find(|row| i64::from(row.0) == code)?;
    Some(row.1)
}

/// The code of a kind.
pub(crate) fn code_of_kind(kind: AttributeKind) -> i32 {
    KINDS
        .iter()
        .find(|row| row.1 == kind)
        .map_or(0, |row| row.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::attribute_proto::AttributeType;
    use crate::wire::tensor_proto::DataType;

    #[test]
    fn codes_are_the_schemas() {
        for code in 1..=64 {
            let known = DataType::try_from(code).is_ok();
            assert_eq!(dtype_of_code(code.into()).is_some(), known, "type {code}");
            let known = AttributeType::try_from(code).is_ok();
            assert_eq!(kind_of_code(code.into()).is_some(), known, "kind {code}");
        }
        for (code, dtype) in DTYPES {
            assert_eq!(code_of_dtype(*dtype), Some(*code));
        }
        assert_eq!(code_of_dtype(DType::C32), None);
        assert_eq!(code_of_kind(AttributeKind::Types), 14);
    }
}
