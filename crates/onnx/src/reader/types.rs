//! Declared types and the values that have them.

use super::source::{Content, Field, Span};
use super::state::{State, keep};
use crate::OnnxError;
use crate::wire::code::dtype_of_code;
use crate::wire::field;
use ir::{DType, Dim, DimSize, Record, Result, Value, ValueType};

/// A `ValueInfoProto`.
pub(super) fn value_info(state: &mut State<'_>, field: Field) -> Result<Value> {
    state.count::<Value>()?;
    let mut span = field.span()?;
    let mut value = Value::default();
    let mut ty = Vec::new();
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::value_info::NAME => value.name = state.name(field)?,
            field::value_info::TYPE => keep::<ValueType>(&mut ty, field, state)?,
            field::value_info::DOC => value.doc = state.text(field)?,
            field::value_info::METADATA => value.metadata.push(state.pair(field)?),
            _ => state.unknown("ValueInfoProto", field),
        }
    }
    if !ty.is_empty() {
        let ty = value_type(state, &ty, 0).map_err(|e| e.at(format!("value {:?}", value.name)))?;
        value.ty = Some(ty);
    }
    Ok(value)
}

/// A `TypeProto`, which may come in pieces: they add up. The recursion is bounded by `State::check_depth`.
pub(super) fn value_type(state: &mut State<'_>, pieces: &[Span], depth: u64) -> Result<ValueType> {
    state.check_depth(depth)?;
    state.count::<ValueType>()?;
    let mut denotation = String::new();
    // Of several kinds the last counts, with all its pieces behind the one before.
    let mut kind = None;
    let mut parts = Vec::new();
    for piece in pieces {
        let mut span = *piece;
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                field::ty::DENOTATION => denotation = state.text(field)?,
                field::ty::TENSOR
                | field::ty::SPARSE_TENSOR
                | field::ty::SEQUENCE
                | field::ty::OPTIONAL
                | field::ty::MAP
                | field::ty::OPAQUE => {
                    if kind.replace(field.number) != Some(field.number) {
                        parts.clear();
                    }
                    keep::<Span>(&mut parts, field, state)?;
                }
                _ => state.unknown("TypeProto", field),
            }
        }
    }
    let ty = match kind {
        Some(field::ty::TENSOR) => {
            let (dtype, dims) = tensor(state, &parts)?;
            ValueType::Tensor(dtype, dims)
        }
        Some(field::ty::SPARSE_TENSOR) => {
            let (dtype, dims) = tensor(state, &parts)?;
            ValueType::Sparse(dtype, dims)
        }
        Some(field::ty::SEQUENCE) => ValueType::Sequence(Box::new(element(state, &parts, depth)?)),
        Some(field::ty::OPTIONAL) => ValueType::Optional(Box::new(element(state, &parts, depth)?)),
        Some(field::ty::MAP) => map(state, &parts, depth)?,
        Some(field::ty::OPAQUE) => opaque(state, &parts)?,
        _ => ValueType::Undefined,
    };
    Ok(if denotation.is_empty() {
        ty
    } else {
        ValueType::Denoted(denotation, Box::new(ty))
    })
}

/// The one field of a sequence or an optional.
fn element(state: &mut State<'_>, pieces: &[Span], depth: u64) -> Result<ValueType> {
    let mut inner = Vec::new();
    for piece in pieces {
        let mut span = *piece;
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                1 => keep::<Span>(&mut inner, field, state)?,
                _ => state.unknown("TypeProto.Sequence", field),
            }
        }
    }
    within(state, &inner, depth)
}

/// A type in another, where there is one.
fn within(state: &mut State<'_>, pieces: &[Span], depth: u64) -> Result<ValueType> {
    if pieces.is_empty() {
        return Ok(ValueType::Undefined);
    }
    value_type(state, pieces, depth + 1)
}

fn map(state: &mut State<'_>, pieces: &[Span], depth: u64) -> Result<ValueType> {
    let mut key = None;
    let mut inner = Vec::new();
    for piece in pieces {
        let mut span = *piece;
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                field::type_map::KEY_TYPE => key = dtype(field)?,
                field::type_map::VALUE_TYPE => keep::<Span>(&mut inner, field, state)?,
                _ => state.unknown("TypeProto.Map", field),
            }
        }
    }
    let value = within(state, &inner, depth)?;
    let key = key.ok_or(OnnxError::Missing {
        what: "the type of a map's keys",
    })?;
    Ok(ValueType::Map(key, Box::new(value)))
}

fn opaque(state: &mut State<'_>, pieces: &[Span]) -> Result<ValueType> {
    let (mut domain, mut name) = (String::new(), String::new());
    for piece in pieces {
        let mut span = *piece;
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                field::type_opaque::DOMAIN => domain = state.name(field)?,
                field::type_opaque::NAME => name = state.name(field)?,
                _ => state.unknown("TypeProto.Opaque", field),
            }
        }
    }
    Ok(ValueType::Opaque { domain, name })
}

/// The element type of a code; 0 is one that is not said.
fn dtype(field: Field) -> Result<Option<DType>> {
    match field.int()? {
        0 => Ok(None),
        found => match dtype_of_code(found) {
            Some(dtype) => Ok(Some(dtype)),
            None => Err(OnnxError::UnknownType { found }.into()),
        },
    }
}

type Shaped = (Option<DType>, Option<Vec<Dim>>);

fn tensor(state: &mut State<'_>, pieces: &[Span]) -> Result<Shaped> {
    let (mut element, mut dims) = (None, None);
    for piece in pieces {
        let mut span = *piece;
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                field::type_tensor::ELEM_TYPE => element = dtype(field)?,
                field::type_tensor::SHAPE => {
                    shape(state, field.span()?, dims.get_or_insert_default())?;
                }
                _ => state.unknown("TypeProto.Tensor", field),
            }
        }
    }
    Ok((element, dims))
}

/// Adds the dimensions of a shape, or of a piece of one.
fn shape(state: &mut State<'_>, mut span: Span, dims: &mut Vec<Dim>) -> Result<()> {
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::shape::DIM => dims.push(dim(state, field.span()?)?),
            _ => state.unknown("TensorShapeProto", field),
        }
    }
    Ok(())
}

fn dim(state: &mut State<'_>, mut span: Span) -> Result<Dim> {
    state.count::<Dim>()?;
    let mut dim = Dim {
        size: DimSize::Unknown,
        denotation: String::new(),
    };
    while let Some(field) = state.source.field(&mut span)? {
        match (field.number, field.content) {
            (field::dim::VALUE, Content::Varint(n)) => {
                if let Ok(n) = u64::try_from(n.cast_signed()) {
                    dim.size = DimSize::Known(n);
                } else {
                    unknown_dim(state, field.at, n.cast_signed());
                }
            }
            (field::dim::PARAM, _) => dim.size = DimSize::Named(state.name(field)?),
            (field::dim::DENOTATION, _) => dim.denotation = state.text(field)?,
            _ => state.unknown("TensorShapeProto.Dimension", field),
        }
    }
    Ok(dim)
}

/// Old exporters say -1 for a size that is not known.
fn unknown_dim(state: &mut State<'_>, at: u64, n: i64) {
    const KIND: &str = "unknown-dim";
    if !state.records.iter().any(|record| record.kind == KIND) {
        let why = format!("byte {at}: a dimension of {n}, taken for one that is not known");
        let record = Record::carried(KIND, "a declared shape", why);
        state.records.push(record);
    }
}
