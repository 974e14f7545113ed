//! Attributes: one of many kinds of value under a name.

use super::graph::{Body, graph};
use super::source::Span;
use super::state::{State, keep, once};
use super::{sparse, tensor, types};
use crate::OnnxError;
use crate::wire::code::kind_of_code;
use crate::wire::field;
use bytes::Bytes;
use ir::{
    Attribute, AttributeKind, AttributeValue, GraphBody, Result, SparseTensor, TensorId, ValueType,
};

/// Everything an `AttributeProto` may hold, before its kind decides.
#[derive(Default)]
struct Raw {
    name: String,
    doc: String,
    kind: Option<i64>,
    reference: Option<String>,
    float: Option<f32>,
    int: Option<i64>,
    string: Option<Vec<u8>>,
    tensor: Vec<Span>,
    graph: Vec<Span>,
    sparse: Option<Span>,
    ty: Vec<Span>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    strings: Vec<Bytes>,
    tensors: Vec<Span>,
    graphs: Vec<Span>,
    sparses: Vec<Span>,
    types: Vec<Span>,
}

/// Whose attributes are read.
pub(super) struct Owner<'a> {
    /// Who it is, for messages.
    pub(super) place: &'a str,
    /// Its name, for tensors that have none of their own.
    pub(super) name: &'a str,
    /// Whether it is a Constant node, whose tensor is what its output is.
    pub(super) constant: bool,
    /// How deep its graph lies.
    pub(super) depth: u64,
}

/// An `AttributeProto`.
pub(super) fn attribute(state: &mut State<'_>, span: Span, owner: &Owner<'_>) -> Result<Attribute> {
    let mut raw = raw(state, span)?;
    let name = raw.name.clone();
    let named = |error: ir::Error| error.at(format!("{}, attribute {:?}", owner.place, name));
    let kind = kind(&raw, state.typed).map_err(named)?;
    let value = value(state, &mut raw, kind, owner).map_err(named)?;
    Ok(Attribute {
        name,
        value,
        doc: raw.doc,
    })
}

fn raw(state: &mut State<'_>, mut span: Span) -> Result<Raw> {
    let mut raw = Raw::default();
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::attribute::NAME => raw.name = state.name(field)?,
            field::attribute::DOC => raw.doc = state.text(field)?,
            field::attribute::TYPE => raw.kind = Some(field.int()?),
            field::attribute::REF => {
                raw.reference = Some(state.name(field)?).filter(|name| !name.is_empty());
            }
            field::attribute::F => raw.float = Some(field.float()?),
            field::attribute::I => raw.int = Some(field.int()?),
            field::attribute::S => raw.string = Some(state.blob(field)?),
            field::attribute::T => keep::<TensorId>(&mut raw.tensor, field, state)?,
            field::attribute::G => keep::<GraphBody>(&mut raw.graph, field, state)?,
            field::attribute::SPARSE_TENSOR => {
                once(&mut raw.sparse, field.span()?, "sparse_tensor")?;
            }
            field::attribute::TP => keep::<ValueType>(&mut raw.ty, field, state)?,
            field::attribute::FLOATS => state.floats(field, &mut raw.floats)?,
            field::attribute::INTS => state.ints(field, &mut raw.ints)?,
            field::attribute::STRINGS => {
                state.count::<Bytes>()?;
                raw.strings.push(state.blob(field)?.into());
            }
            field::attribute::TENSORS => keep::<TensorId>(&mut raw.tensors, field, state)?,
            field::attribute::GRAPHS => keep::<GraphBody>(&mut raw.graphs, field, state)?,
            field::attribute::SPARSE_TENSORS => {
                keep::<SparseTensor>(&mut raw.sparses, field, state)?;
            }
            field::attribute::TYPE_PROTOS => keep::<ValueType>(&mut raw.types, field, state)?,
            _ => state.unknown("AttributeProto", field),
        }
    }
    Ok(raw)
}

/// The kind an attribute says it is; of those that need not be `typed` the one that its value shows,
/// as before IR version 2.
fn kind(raw: &Raw, typed: bool) -> Result<AttributeKind> {
    let there = [
        (raw.float.is_some(), AttributeKind::Float),
        (raw.int.is_some(), AttributeKind::Int),
        (raw.string.is_some(), AttributeKind::Str),
        (!raw.tensor.is_empty(), AttributeKind::Tensor),
        (!raw.graph.is_empty(), AttributeKind::Graph),
        (raw.sparse.is_some(), AttributeKind::Sparse),
        (!raw.ty.is_empty(), AttributeKind::Type),
        (!raw.floats.is_empty(), AttributeKind::Floats),
        (!raw.ints.is_empty(), AttributeKind::Ints),
        (!raw.strings.is_empty(), AttributeKind::Strs),
        (!raw.tensors.is_empty(), AttributeKind::Tensors),
        (!raw.graphs.is_empty(), AttributeKind::Graphs),
        (!raw.sparses.is_empty(), AttributeKind::Sparses),
        (!raw.types.is_empty(), AttributeKind::Types),
    ];
    let mut shown = there.iter().filter(|(there, _)| *there).map(|row| row.1);
    let (first, second) = (shown.next(), shown.next());
    let said = match raw.kind {
        None => AttributeKind::Undefined,
        Some(code) => kind_of_code(code).ok_or_else(|| OnnxError::Contradiction {
            what: format!("its kind is {code}, which this version does not know"),
        })?,
    };
    let clash = |what: String| Err(OnnxError::Contradiction { what }.into());
    if let Some(second) = second {
        return clash(format!(
            "it holds values of two kinds, {first:?} and {second:?}"
        ));
    }
    match (said, first) {
        (_, Some(_)) if raw.reference.is_some() => {
            clash("it holds a value and refers to another attribute".to_owned())
        }
        (AttributeKind::Undefined, Some(shown)) if typed => clash(format!(
            "it does not say what kind it is, and holds {shown:?}"
        )),
        (AttributeKind::Undefined, shown) => Ok(shown.unwrap_or(AttributeKind::Undefined)),
        (said, Some(shown)) if said != shown => {
            clash(format!("it says that it is {said:?} and holds {shown:?}"))
        }
        (said, _) => Ok(said),
    }
}

fn value(
    state: &mut State<'_>,
    raw: &mut Raw,
    kind: AttributeKind,
    owner: &Owner<'_>,
) -> Result<AttributeValue> {
    if let Some(name) = &raw.reference {
        return Ok(AttributeValue::Ref(name.clone(), kind));
    }
    let need = |span: Option<Span>, what| span.ok_or(OnnxError::Missing { what });
    let name = if owner.constant {
        owner.name.to_owned()
    } else {
        format!("{}.{}", owner.name, raw.name)
    };
    let depth = owner.depth;
    Ok(match kind {
        // Schemas of proto3 leave out what is zero.
        AttributeKind::Float => AttributeValue::Float(raw.float.unwrap_or(0.0)),
        AttributeKind::Int => AttributeValue::Int(raw.int.unwrap_or(0)),
        AttributeKind::Str => AttributeValue::Str(raw.string.take().unwrap_or_default().into()),
        AttributeKind::Tensor => {
            need(raw.tensor.first().copied(), "the tensor")?;
            AttributeValue::Tensor(tensor::of_attribute(state, &raw.tensor, &name)?)
        }
        AttributeKind::Sparse => {
            let span = need(raw.sparse, "the sparse tensor")?;
            AttributeValue::Sparse(sparse::sparse(state, span, &name)?.0)
        }
        AttributeKind::Graph => {
            need(raw.graph.first().copied(), "the graph")?;
            let body = graph(state, &raw.graph, Body::Nested(depth + 1))?;
            AttributeValue::Graph(Box::new(body))
        }
        AttributeKind::Type => {
            need(raw.ty.first().copied(), "the type")?;
            AttributeValue::Type(types::value_type(state, &raw.ty, 0)?)
        }
        AttributeKind::Floats => AttributeValue::Floats(std::mem::take(&mut raw.floats)),
        AttributeKind::Ints => AttributeValue::Ints(std::mem::take(&mut raw.ints)),
        AttributeKind::Strs => AttributeValue::Strs(std::mem::take(&mut raw.strings)),
        AttributeKind::Tensors => {
            let mut list = Vec::new();
            for (n, span) in raw.tensors.iter().enumerate() {
                list.push(tensor::of_attribute(
                    state,
                    &[*span],
                    &format!("{name}.{n}"),
                )?);
            }
            AttributeValue::Tensors(list)
        }
        AttributeKind::Sparses => {
            let mut list = Vec::new();
            for (n, span) in raw.sparses.iter().enumerate() {
                list.push(sparse::sparse(state, *span, &format!("{name}.{n}"))?.0);
            }
            AttributeValue::Sparses(list)
        }
        AttributeKind::Graphs => {
            let mut list = Vec::new();
            for span in &raw.graphs {
                list.push(graph(state, &[*span], Body::Nested(depth + 1))?);
            }
            AttributeValue::Graphs(list)
        }
        AttributeKind::Types => {
            let mut list = Vec::new();
            for span in &raw.types {
                list.push(types::value_type(state, &[*span], 0)?);
            }
            AttributeValue::Types(list)
        }
        AttributeKind::Undefined => {
            return Err(OnnxError::Missing {
                what: "the attribute's value",
            }
            .into());
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_shown_or_said() {
        let int = Raw {
            int: Some(1),
            ..Raw::default()
        };
        assert_eq!(kind(&int, false).unwrap(), AttributeKind::Int);
        assert!(kind(&int, true).is_err());
        let clash = Raw {
            kind: Some(1),
            ..int
        };
        assert!(kind(&clash, true).is_err());
        let two = Raw {
            floats: vec![1.0],
            kind: None,
            ..clash
        };
        assert!(kind(&two, true).is_err());
        let empty = Raw {
            kind: Some(7),
            ..Raw::default()
        };
        assert_eq!(kind(&empty, true).unwrap(), AttributeKind::Ints);
    }
}
