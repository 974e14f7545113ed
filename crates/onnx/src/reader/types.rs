//! Declared types and the values that have them.

use super::source::{Content, Field, Span};
use super::state::State;
use crate::OnnxError;
use crate::wire::code::dtype_of_code;
use crate::wire::field;
use ir::{DType, Dim, DimSize, Record, Result, Value, ValueType};

/// A `ValueInfoProto`.
pub(super) fn value_info(state: &mut State<'_>, field: Field) -> Result<Value> {
    state.count::<Value>()?;
    let mut span = field.span()?;
    let mut value = Value::default();
    let mut ty = None;
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::value_info::NAME => value.name = state.name(field)?,
            field::value_info::TYPE => ty = Some(field.span()?),
            field::value_info::DOC => value.doc = state.text(field)?,
            field::value_info::METADATA => value.metadata.push(state.pair(field)?),
            _ => state.unknown("ValueInfoProto", field),
        }
    }
    if let Some(span) = ty {
        let ty = value_type(state, span, 0).map_err(|e| e.at(format!("value {:?}", value.name)))?;
        value.ty = Some(ty);
    }
    Ok(value)
}

/// A `TypeProto`. The recursion is bounded by `State::check_depth`.
pub(super) fn value_type(state: &mut State<'_>, mut span: Span, depth: u64) -> Result<ValueType> {
    state.check_depth(depth)?;
    state.count::<ValueType>()?;
    let mut ty = ValueType::Undefined;
    let mut denotation = String::new();
    while let Some(field) = state.source.field(&mut span)? {
        ty = match field.number {
            field::ty::TENSOR => {
                let (dtype, dims) = tensor(state, field.span()?)?;
                ValueType::Tensor(dtype, dims)
            }
            field::ty::SPARSE_TENSOR => {
                let (dtype, dims) = tensor(state, field.span()?)?;
                ValueType::Sparse(dtype, dims)
            }
            field::ty::SEQUENCE => ValueType::Sequence(Box::new(element(state, field, depth)?)),
            field::ty::OPTIONAL => ValueType::Optional(Box::new(element(state, field, depth)?)),
            field::ty::MAP => map(state, field.span()?, depth)?,
            field::ty::OPAQUE => opaque(state, field.span()?)?,
            field::ty::DENOTATION => {
                denotation = state.text(field)?;
                continue;
            }
            _ => {
                state.unknown("TypeProto", field);
                continue;
            }
        };
    }
    Ok(if denotation.is_empty() {
        ty
    } else {
        ValueType::Denoted(denotation, Box::new(ty))
    })
}

/// The one field of a sequence or an optional.
fn element(state: &mut State<'_>, field: Field, depth: u64) -> Result<ValueType> {
    let mut span = field.span()?;
    let mut ty = ValueType::Undefined;
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            1 => ty = value_type(state, field.span()?, depth + 1)?,
            _ => state.unknown("TypeProto.Sequence", field),
        }
    }
    Ok(ty)
}

fn map(state: &mut State<'_>, mut span: Span, depth: u64) -> Result<ValueType> {
    let mut key = None;
    let mut value = ValueType::Undefined;
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::type_map::KEY_TYPE => key = dtype(field)?,
            field::type_map::VALUE_TYPE => value = value_type(state, field.span()?, depth + 1)?,
            _ => state.unknown("TypeProto.Map", field),
        }
    }
    let key = key.ok_or(OnnxError::Missing {
        what: "the type of a map's keys",
    })?;
    Ok(ValueType::Map(key, Box::new(value)))
}

fn opaque(state: &mut State<'_>, mut span: Span) -> Result<ValueType> {
    let (mut domain, mut name) = (String::new(), String::new());
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::type_opaque::DOMAIN => domain = state.name(field)?,
            field::type_opaque::NAME => name = state.name(field)?,
            _ => state.unknown("TypeProto.Opaque", field),
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

fn tensor(state: &mut State<'_>, mut span: Span) -> Result<Shaped> {
    let (mut element, mut dims) = (None, None);
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::type_tensor::ELEM_TYPE => element = dtype(field)?,
            field::type_tensor::SHAPE => dims = Some(shape(state, field.span()?)?),
            _ => state.unknown("TypeProto.Tensor", field),
        }
    }
    Ok((element, dims))
}

fn shape(state: &mut State<'_>, mut span: Span) -> Result<Vec<Dim>> {
    let mut dims = Vec::new();
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::shape::DIM => {
                let dim = dim(state, field.span()?)?;
                dims.push(dim);
            }
            _ => state.unknown("TensorShapeProto", field),
        }
    }
    Ok(dims)
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
