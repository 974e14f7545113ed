//! Declared types and the values that have them.

use super::pairs;
use super::rope::Rope;
use crate::OnnxError;
use crate::wire::code::code_of_dtype;
use crate::wire::field;
use ir::{DType, Dim, DimSize, Result, Value, ValueType};

/// A `ValueInfoProto`.
pub(super) fn value_info<'a>(value: &Value) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    out.text(field::value_info::NAME, &value.name);
    if let Some(ty) = &value.ty {
        out.message(field::value_info::TYPE, value_type(ty)?);
    }
    out.some_text(field::value_info::DOC, &value.doc);
    pairs(&mut out, field::value_info::METADATA, &value.metadata);
    Ok(out)
}

/// A `TypeProto`. As deep as the reader that made it, or the code, allowed.
pub(super) fn value_type<'a>(ty: &ValueType) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    match ty {
        ValueType::Tensor(dtype, dims) => {
            out.message(field::ty::TENSOR, tensor(*dtype, dims.as_deref())?);
        }
        ValueType::Sparse(dtype, dims) => {
            out.message(field::ty::SPARSE_TENSOR, tensor(*dtype, dims.as_deref())?);
        }
        ValueType::Sequence(inner) => out.message(field::ty::SEQUENCE, element(inner)?),
        ValueType::Optional(inner) => out.message(field::ty::OPTIONAL, element(inner)?),
        ValueType::Map(key, value) => {
            let mut map = Rope::new();
            map.int(field::type_map::KEY_TYPE, code(*key)?);
            map.message(field::type_map::VALUE_TYPE, value_type(value)?);
            out.message(field::ty::MAP, map);
        }
        ValueType::Opaque { domain, name } => {
            let mut opaque = Rope::new();
            opaque.some_text(field::type_opaque::DOMAIN, domain);
            opaque.some_text(field::type_opaque::NAME, name);
            out.message(field::ty::OPAQUE, opaque);
        }
        ValueType::Denoted(denotation, inner) => {
            out = value_type(inner)?;
            out.text(field::ty::DENOTATION, denotation);
        }
        ValueType::Undefined => {}
    }
    Ok(out)
}

/// The one field of a sequence or an optional.
fn element<'a>(inner: &ValueType) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    if *inner != ValueType::Undefined {
        out.message(1, value_type(inner)?);
    }
    Ok(out)
}

/// The code of a type, or an error.
pub(super) fn code(dtype: DType) -> Result<i64> {
    let code = code_of_dtype(dtype).ok_or_else(|| OnnxError::CannotWrite {
        why: format!("the format has no type {dtype}"),
        help: "Choose a type it has with --dtype",
    })?;
    Ok(code.into())
}

fn tensor<'a>(dtype: Option<DType>, dims: Option<&[Dim]>) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    let code = dtype.map_or(Ok(0), code)?;
    out.int(field::type_tensor::ELEM_TYPE, code);
    if let Some(dims) = dims {
        let mut shape = Rope::new();
        for dim in dims {
            let mut message = Rope::new();
            match &dim.size {
                DimSize::Known(n) => {
                    let n = i64::try_from(*n).map_err(|_| OnnxError::CannotWrite {
                        why: format!("a declared dimension of {n} is over 63 bits"),
                        help: "This is a bug of weightbridge: please report it",
                    })?;
                    message.int(field::dim::VALUE, n);
                }
                DimSize::Named(name) => message.text(field::dim::PARAM, name),
                DimSize::Unknown => {}
            }
            message.some_text(field::dim::DENOTATION, &dim.denotation);
            shape.message(field::shape::DIM, message);
        }
        out.message(field::type_tensor::SHAPE, shape);
    }
    Ok(out)
}
