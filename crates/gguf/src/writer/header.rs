//! Everything before the data section, as bytes.

use crate::GgufError;
use crate::carry::Stored;
use crate::wire::{MAGIC, VERSION, ValueType, dims_of_shape, id_of_dtype, pad};
use ir::{Array, MetaValue, Result, Shape, Tensor};

/// A tensor, how it is stored, and where in the data section.
pub(super) struct Place<'a, 'p> {
    pub(super) tensor: &'a Tensor,
    pub(super) stored: &'p Stored,
    pub(super) rel_offset: u64,
    type_id: u32,
}

impl<'a, 'p> Place<'a, 'p> {
    /// A place that is not laid out yet.
    pub(super) fn new(tensor: &'a Tensor, stored: &'p Stored) -> Result<Self> {
        let type_id = id_of_dtype(tensor.dtype()).ok_or_else(|| GgufError::CannotWrite {
            name: tensor.name.clone(),
            why: format!("the format has no type {}", tensor.dtype()),
            help: "Choose a type it has with --dtype",
        })?;
        Ok(Self {
            tensor,
            stored,
            rel_offset: 0,
            type_id,
        })
    }
}

/// How long a data section is.
pub(super) struct DataLen {
    /// Up to the last byte of the last tensor.
    pub(super) bare: u64,
    /// With the padding behind it.
    pub(super) padded: u64,
}

/// Gives each tensor its offset: each behind the padding of the one before.
pub(super) fn lay_out(places: &mut [Place<'_, '_>], alignment: u64) -> Result<DataLen> {
    let mut len = DataLen { bare: 0, padded: 0 };
    for place in places {
        place.rel_offset = len.padded;
        let end = len.padded.checked_add(place.tensor.byte_len());
        let padded = end.and_then(|end| pad(end, alignment));
        let (Some(bare), Some(padded)) = (end, padded) else {
            let name = place.tensor.name.clone();
            return Err(GgufError::TooMuchData { name }.into());
        };
        len = DataLen { bare, padded };
    }
    Ok(len)
}

/// Zeros up to the next multiple of the alignment.
pub(crate) fn pad_to(header: &mut Vec<u8>, alignment: u64) -> Result<()> {
    let len = pad(header.len() as u64, alignment).and_then(|len| usize::try_from(len).ok());
    let len = len.ok_or_else(|| GgufError::CannotWriteKey {
        key: crate::wire::ALIGNMENT_KEY.to_owned(),
        why: format!("the header cannot be padded to {alignment} bytes"),
        help: "Set a smaller alignment; 32 is usual",
    })?;
    header.resize(len, 0);
    Ok(())
}

/// A tensor info as it is written.
pub(crate) struct InfoLine<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a Shape,
    pub(crate) type_id: u32,
    pub(crate) rel_offset: u64,
}

impl<'p> Place<'_, 'p> {
    /// Its info.
    pub(super) fn line(&self) -> InfoLine<'p> {
        InfoLine {
            name: &self.stored.name,
            shape: &self.stored.shape,
            type_id: self.type_id,
            rel_offset: self.rel_offset,
        }
    }
}

/// The header without its padding.
pub(crate) fn render<'a>(
    pairs: impl ExactSizeIterator<Item = (&'a str, &'a MetaValue)>,
    infos: impl ExactSizeIterator<Item = InfoLine<'a>>,
) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    put_len(&mut out, infos.len());
    put_len(&mut out, pairs.len());
    for (key, value) in pairs {
        put_string(&mut out, key.as_bytes());
        put_value(&mut out, value);
    }
    for info in infos {
        put_string(&mut out, info.name.as_bytes());
        let rank = u32::try_from(info.shape.len()).unwrap_or(u32::MAX);
        out.extend(rank.to_le_bytes());
        for dim in dims_of_shape(info.shape) {
            out.extend(dim.to_le_bytes());
        }
        out.extend(info.type_id.to_le_bytes());
        out.extend(info.rel_offset.to_le_bytes());
    }
    out
}

fn put_len(out: &mut Vec<u8>, n: usize) {
    out.extend((n as u64).to_le_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    put_len(out, text.len());
    out.extend_from_slice(text);
}

fn put_type(out: &mut Vec<u8>, kind: ValueType) {
    out.extend(kind.id().to_le_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &MetaValue) {
    /// A type, then the bytes of a number.
    macro_rules! put {
        ($kind:ident, $n:expr) => {{
            put_type(out, ValueType::$kind);
            out.extend($n.to_le_bytes());
        }};
    }
    match value {
        MetaValue::U8(n) => put!(U8, n),
        MetaValue::I8(n) => put!(I8, n),
        MetaValue::U16(n) => put!(U16, n),
        MetaValue::I16(n) => put!(I16, n),
        MetaValue::U32(n) => put!(U32, n),
        MetaValue::I32(n) => put!(I32, n),
        MetaValue::U64(n) => put!(U64, n),
        MetaValue::I64(n) => put!(I64, n),
        // By their bits: a signalling NaN stays one.
        MetaValue::F32(n) => put!(F32, n.to_bits()),
        MetaValue::F64(n) => put!(F64, n.to_bits()),
        MetaValue::Bool(b) => put!(Bool, u8::from(*b)),
        MetaValue::Str(text) => {
            put_type(out, ValueType::Str);
            put_string(out, text);
        }
        MetaValue::Array(array) => {
            put_type(out, ValueType::Array);
            put_array(out, array);
        }
    }
}

/// Nests as deep as the value, which readers bound.
fn put_array(out: &mut Vec<u8>, array: &Array) {
    /// The element type, the length, and the bytes of each number.
    macro_rules! put {
        ($kind:ident, $items:expr, $bytes:expr) => {{
            put_type(out, ValueType::$kind);
            put_len(out, $items.len());
            out.extend($items.iter().flat_map($bytes));
        }};
    }
    match array {
        Array::U8(items) => put!(U8, items, |n: &u8| n.to_le_bytes()),
        Array::I8(items) => put!(I8, items, |n: &i8| n.to_le_bytes()),
        Array::U16(items) => put!(U16, items, |n: &u16| n.to_le_bytes()),
        Array::I16(items) => put!(I16, items, |n: &i16| n.to_le_bytes()),
        Array::U32(items) => put!(U32, items, |n: &u32| n.to_le_bytes()),
        Array::I32(items) => put!(I32, items, |n: &i32| n.to_le_bytes()),
        Array::U64(items) => put!(U64, items, |n: &u64| n.to_le_bytes()),
        Array::I64(items) => put!(I64, items, |n: &i64| n.to_le_bytes()),
        Array::F32(items) => put!(F32, items, |n: &f32| n.to_bits().to_le_bytes()),
        Array::F64(items) => put!(F64, items, |n: &f64| n.to_bits().to_le_bytes()),
        Array::Bool(items) => put!(Bool, items, |b: &bool| [u8::from(*b)]),
        Array::Str(items) => {
            put_type(out, ValueType::Str);
            put_len(out, items.len());
            for text in items {
                put_string(out, text);
            }
        }
        Array::Array(items) => {
            put_type(out, ValueType::Array);
            put_len(out, items.len());
            for array in items {
                put_array(out, array);
            }
        }
    }
}
