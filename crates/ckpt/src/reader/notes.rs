//! The metadata that our writer keeps in the attribute [`ATTRIBUTE`] of a state dict.
//!
//! It is read leniently: a file may say anything there, and what does not fit is passed over.

use crate::wire::ATTRIBUTE;
use bytes::Bytes;
use ir::{Array, MetaValue, Metadata, Object, ObjectId, Objects, ns};
use std::cell::Cell;
use std::collections::HashSet;

/// Array elements read in all: lists that share their parts would unfold without an end.
const WORK: u64 = 4_000_000;

const NAMESPACES: [&str; 5] = [ns::GGUF, ns::SAFETENSORS, ns::CKPT, ns::ONNX, ns::NOTE];

/// Adds what the attribute of `root` says to `metadata`.
pub(super) fn read(objects: &Objects, root: ObjectId, depth: u64, metadata: &mut Metadata) {
    let Object::Call(call) = objects.get(root) else {
        return;
    };
    let pairs = call
        .states()
        .iter()
        .find_map(|state| objects.pairs(objects.lookup(*state, ATTRIBUTE)?));
    let mut seen = HashSet::new();
    let work = Cell::new(WORK);
    for (key, id) in pairs.unwrap_or_default() {
        let named = objects.str(*key).and_then(|key| key.split_once(':'));
        let Some((namespace, key)) = named else {
            continue;
        };
        let Some(namespace) = NAMESPACES.into_iter().find(|name| *name == namespace) else {
            continue;
        };
        if let Some(value) = value(objects, *id, depth, &work)
            && seen.insert((namespace, key))
        {
            metadata.push_new(namespace, key.to_owned(), value);
        }
    }
}

fn text(objects: &Objects, id: ObjectId) -> Option<Bytes> {
    if let Some(text) = objects.str(id) {
        return Some(Bytes::copy_from_slice(text.as_bytes()));
    }
    let (name, digits) = pair(objects, id)?;
    let digits = objects.str(digits).filter(|_| name == "bytes")?;
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits
        .as_bytes()
        .chunks(2)
        .map(byte)
        .collect::<Option<Vec<u8>>>()
        .map(Bytes::from)
}

fn pair(objects: &Objects, id: ObjectId) -> Option<(&str, ObjectId)> {
    match objects.sequence(id)? {
        [name, value] => Some((objects.str(*name)?, *value)),
        _ => None,
    }
}

fn float(objects: &Objects, id: ObjectId) -> Option<f64> {
    match objects.get(id) {
        Object::Float(x) => Some(*x),
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation)] // it was an f32 when it was written
fn single(objects: &Objects, id: ObjectId) -> Option<f32> {
    float(objects, id).map(|x| x as f32)
}

fn int<T: TryFrom<i64>>(objects: &Objects, id: ObjectId) -> Option<T> {
    objects.int(id)?.try_into().ok()
}

fn value(objects: &Objects, id: ObjectId, depth: u64, work: &Cell<u64>) -> Option<MetaValue> {
    if let Some(text) = text(objects, id) {
        return Some(MetaValue::Str(text));
    }
    let (name, at) = pair(objects, id)?;
    Some(match name {
        "u8" => MetaValue::U8(int(objects, at)?),
        "i8" => MetaValue::I8(int(objects, at)?),
        "u16" => MetaValue::U16(int(objects, at)?),
        "i16" => MetaValue::I16(int(objects, at)?),
        "u32" => MetaValue::U32(int(objects, at)?),
        "i32" => MetaValue::I32(int(objects, at)?),
        "u64" => MetaValue::U64(objects.int(at)?.cast_unsigned()),
        "i64" => MetaValue::I64(objects.int(at)?),
        "f32" => MetaValue::F32(single(objects, at)?),
        "f64" => MetaValue::F64(float(objects, at)?),
        "bool" => MetaValue::Bool(objects.int(at)? != 0),
        _ => MetaValue::Array(array(objects, id, depth, work)?),
    })
}

// The recursion is bounded by `depth`.
fn array(objects: &Objects, id: ObjectId, depth: u64, work: &Cell<u64>) -> Option<Array> {
    fn all<T>(ids: &[ObjectId], one: impl Fn(ObjectId) -> Option<T>) -> Option<Vec<T>> {
        ids.iter().map(|id| one(*id)).collect()
    }
    let (name, list) = pair(objects, id)?;
    let ids = objects.sequence(list)?;
    let depth = depth.checked_sub(1)?;
    work.set(work.get().checked_sub(ids.len() as u64 + 1)?);
    Some(match name {
        "[u8]" => Array::U8(all(ids, |id| int(objects, id))?),
        "[i8]" => Array::I8(all(ids, |id| int(objects, id))?),
        "[u16]" => Array::U16(all(ids, |id| int(objects, id))?),
        "[i16]" => Array::I16(all(ids, |id| int(objects, id))?),
        "[u32]" => Array::U32(all(ids, |id| int(objects, id))?),
        "[i32]" => Array::I32(all(ids, |id| int(objects, id))?),
        "[u64]" => Array::U64(all(ids, |id| Some(objects.int(id)?.cast_unsigned()))?),
        "[i64]" => Array::I64(all(ids, |id| objects.int(id))?),
        "[f32]" => Array::F32(all(ids, |id| single(objects, id))?),
        "[f64]" => Array::F64(all(ids, |id| float(objects, id))?),
        "[bool]" => Array::Bool(all(ids, |id| Some(objects.int(id)? != 0))?),
        "[str]" => Array::Str(all(ids, |id| text(objects, id))?),
        "[array]" => Array::Array(all(ids, |id| array(objects, id, depth, work))?),
        _ => return None,
    })
}
