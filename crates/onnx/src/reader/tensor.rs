//! Tensors: what they are from the file, their bytes left where they lie.

use super::numbers::{self, Numbers};
use super::source::{Content, Span};
use super::state::{State, keep, once};
use super::{external, graph};
use crate::OnnxError;
use crate::wire::code::dtype_of_code;
use crate::wire::field;
use bytes::Bytes;
use ir::{DType, Limits, Payload, Remark, Result, Shape, Tensor, TensorId, TensorSpec, View};
use std::sync::Arc;

/// A `TensorProto` before its parts are held against each other.
#[derive(Default)]
pub(super) struct Raw {
    pub(super) name: String,
    doc: String,
    metadata: Vec<(String, String)>,
    dims: Vec<i64>,
    dtype: Option<i64>,
    bytes: Option<Span>,
    numbers: [Numbers; 5],
    strings: Vec<Span>,
    external: Vec<(String, String)>,
    location: i64,
    segment: bool,
}

/// The fields of numbers, in the order of `Raw::numbers`.
const NUMBERS: [(u32, &str); 5] = [
    (field::tensor::FLOAT_DATA, "float_data"),
    (field::tensor::INT32_DATA, "int32_data"),
    (field::tensor::INT64_DATA, "int64_data"),
    (field::tensor::DOUBLE_DATA, "double_data"),
    (field::tensor::UINT64_DATA, "uint64_data"),
];

/// The parts of a tensor. An error names it, wherever in the message its name stands; one whose
/// name cannot be found is what `what` says.
pub(super) fn raw(state: &mut State<'_>, span: Span, what: &str) -> Result<Raw> {
    let mut raw = Raw::default();
    match fields(state, span, &mut raw) {
        Ok(()) => Ok(raw),
        Err(error) => Err(error.at(match name_of(state, span) {
            Some(name) => place("tensor", &name, span),
            None => place(what, "", span),
        })),
    }
}

/// Where an error is: a tensor by its name, and where it begins.
pub(super) fn place(what: &str, name: &str, span: Span) -> String {
    match name {
        "" => format!("{what} at byte {}", span.at),
        name => format!("{what} {name:?} at byte {}", span.at),
    }
}

/// The name of a tensor of which something else does not hold.
fn name_of(state: &mut State<'_>, mut span: Span) -> Option<String> {
    while let Some(field) = state.source.field(&mut span).ok()? {
        if field.number == field::tensor::NAME {
            let span = field.span().ok()?;
            Limits::check("bytes of a name", span.len(), state.limits.name_bytes).ok()?;
            let bytes = state.blob(field).ok()?;
            return Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|n| !n.is_empty());
        }
    }
    None
}

fn fields(state: &mut State<'_>, mut span: Span, raw: &mut Raw) -> Result<()> {
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::tensor::DIMS => {
                let packed = match field.content {
                    Content::Span(span) => span.len(),
                    _ => 1,
                };
                // At least a byte a dimension: checked before they are held.
                let rank = (raw.dims.len() as u64).saturating_add(packed.div_ceil(10));
                Limits::check("dimensions", rank, state.limits.rank)?;
                state.ints(field, &mut raw.dims)?;
                Limits::check("dimensions", raw.dims.len() as u64, state.limits.rank)?;
            }
            field::tensor::DATA_TYPE => raw.dtype = Some(field.int()?),
            field::tensor::SEGMENT => raw.segment = true,
            field::tensor::NAME => raw.name = state.name(field)?,
            field::tensor::DOC => raw.doc = state.text(field)?,
            field::tensor::RAW_DATA => once(&mut raw.bytes, field.span()?, "raw_data")?,
            field::tensor::STRING_DATA => keep::<Bytes>(&mut raw.strings, field, state)?,
            field::tensor::EXTERNAL_DATA => raw.external.push(state.pair(field)?),
            field::tensor::DATA_LOCATION => raw.location = field.int()?,
            field::tensor::METADATA => raw.metadata.push(state.pair(field)?),
            number => match NUMBERS.iter().position(|row| row.0 == number) {
                Some(at) => {
                    if let Some(numbers) = raw.numbers.get_mut(at) {
                        numbers.add(field, state)?;
                    }
                }
                None => state.unknown("TensorProto", field),
            },
        }
    }
    Ok(())
}

/// An initializer of a graph: its name and its tensor.
pub(super) fn initializer(
    state: &mut State<'_>,
    span: Span,
    number: usize,
) -> Result<(String, TensorId)> {
    let counted = format!("initializer #{number}");
    let raw = raw(state, span, &counted)?;
    let name = raw.name.clone();
    if name.is_empty() {
        let what = "the name of an initializer";
        let error = ir::Error::from(OnnxError::Missing { what });
        return Err(error.at(place(&counted, "", span)));
    }
    let id = finish(state, raw, &name)?;
    Ok((name, id))
}

/// A tensor in an attribute, which may come in pieces, as a graph may; it has `name` in the model, and
/// errors are its node's.
pub(super) fn of_attribute(state: &mut State<'_>, pieces: &[Span], name: &str) -> Result<TensorId> {
    let mut raw = Raw::default();
    for span in pieces {
        fields(state, *span, &mut raw)?;
    }
    finish(state, raw, name)
}

/// Makes the tensor of `raw` and puts it into the table under `name`.
pub(super) fn finish(state: &mut State<'_>, raw: Raw, name: &str) -> Result<TensorId> {
    let shown = if raw.name.is_empty() { name } else { &raw.name };
    let place = format!("tensor {shown:?}");
    let built = build(state, &raw).map_err(|error| error.at(place));
    let Some((spec, payload)) = state.or_note(built)? else {
        return graph::placeholder(state, name);
    };
    let tensor = Tensor {
        name: String::new(),
        spec,
        payload,
    };
    let id = state.push(tensor, name)?;
    let own = state.tensors.get(id).is_some_and(|t| t.name == raw.name);
    if !own || !raw.doc.is_empty() || !raw.metadata.is_empty() {
        state.remarks.push(Remark {
            tensor: id,
            name: (!own).then_some(raw.name),
            doc: raw.doc,
            metadata: raw.metadata,
        });
    }
    Ok(id)
}

/// The shape of dims as they are in the file.
pub(super) fn shape_of(dims: &[i64]) -> Result<Shape> {
    let mut shape = Vec::with_capacity(dims.len());
    for (axis, &found) in dims.iter().enumerate() {
        let dim = u64::try_from(found).map_err(|_| OnnxError::NegativeDim { axis, found })?;
        shape.push(dim);
    }
    Ok(Shape::new(shape))
}

fn spec_of(raw: &Raw) -> Result<TensorSpec> {
    let found = match raw.dtype {
        Some(code) if code != 0 => code,
        _ => {
            let what = "the element type";
            return Err(OnnxError::Missing { what }.into());
        }
    };
    let dtype = dtype_of_code(found).ok_or(OnnxError::UnknownType { found })?;
    let spec = TensorSpec::new(dtype, shape_of(&raw.dims)?);
    let sized = match dtype {
        DType::Str => spec.elements().is_some(),
        _ => spec.byte_len().is_some(),
    };
    if !sized {
        let TensorSpec { dtype, shape } = spec;
        return Err(OnnxError::NoSize { dtype, shape }.into());
    }
    Ok(spec)
}

/// Type, shape and bytes of a tensor, each part held against the others.
fn build(state: &mut State<'_>, raw: &Raw) -> Result<(TensorSpec, Payload)> {
    let spec = spec_of(raw)?;
    if raw.segment {
        let what = "it is a segment of a tensor, which no version of ONNX reads";
        return Err(OnnxError::Unsupported { what }.into());
    }
    let outside = raw.location == 1;
    let mut fields: Vec<&'static str> = Vec::new();
    fields.extend(outside.then_some("external_data"));
    fields.extend(raw.bytes.map(|_| "raw_data"));
    fields.extend((!raw.strings.is_empty()).then_some("string_data"));
    let typed = raw.numbers.iter().zip(NUMBERS);
    fields.extend(typed.filter(|(n, _)| !n.is_empty()).map(|(_, row)| row.1));
    if let [first, second, ..] = fields[..] {
        let what = format!("its data is in two places, {first} and {second}");
        return Err(OnnxError::Contradiction { what }.into());
    }
    if raw.location > 1 {
        let what = "its data is in a place that this version does not know";
        return Err(OnnxError::Unsupported { what }.into());
    }
    if spec.dtype == DType::Str {
        if let Some(found) = fields.first().filter(|field| **field != "string_data") {
            let what = format!("it is of strings and has {found}");
            return Err(OnnxError::Contradiction { what }.into());
        }
        return strings(state, raw, spec);
    }
    let expected = spec.byte_len().unwrap_or(0);
    if outside {
        if let Some(payload) = state.external.given(&raw.external, &spec)? {
            return Ok((spec, payload));
        }
        let region = external::resolve(state, &raw.external, expected)?;
        return Ok((spec, Payload::Stored(View::contiguous(region))));
    }
    if let Some(span) = raw.bytes {
        if span.len() != expected {
            return Err(mismatch(spec, expected, "bytes", "raw_data", span.len()));
        }
        let region = state.source.region(span)?;
        return Ok((spec, Payload::Stored(View::contiguous(region))));
    }
    let mut typed = raw.numbers.iter().zip(NUMBERS);
    match typed.find(|(numbers, _)| !numbers.is_empty()) {
        Some((numbers, (_, name))) => numbers::payload(state, numbers, name, spec),
        None if expected == 0 => {
            let region = ir::Region::memory(Vec::new());
            Ok((spec, Payload::Stored(View::contiguous(region))))
        }
        None if !raw.strings.is_empty() => {
            let what = format!("it is of {} and has string_data", spec.dtype);
            Err(OnnxError::Contradiction { what }.into())
        }
        None => Err(OnnxError::Missing {
            what: "the tensor's data",
        }
        .into()),
    }
}

fn strings(state: &mut State<'_>, raw: &Raw, spec: TensorSpec) -> Result<(TensorSpec, Payload)> {
    let (expected, found) = (spec.elements().unwrap_or(0), raw.strings.len() as u64);
    if expected != found {
        return Err(mismatch(spec, expected, "strings", "string_data", found));
    }
    let mut list: Vec<Bytes> = Vec::with_capacity(raw.strings.len());
    for span in &raw.strings {
        state.hold(span.len())?;
        list.push(state.source.bytes(*span)?.into());
    }
    Ok((spec, Payload::Strings(Arc::from(list))))
}

/// The error of a tensor whose data is not as long as it should be.
pub(super) fn mismatch(
    spec: TensorSpec,
    expected: u64,
    unit: &'static str,
    field: &'static str,
    found: u64,
) -> ir::Error {
    OnnxError::SizeMismatch {
        dtype: spec.dtype,
        shape: spec.shape,
        expected,
        unit,
        field,
        found,
    }
    .into()
}
