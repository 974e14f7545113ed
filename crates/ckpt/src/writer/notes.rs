//! Metadata in a checkpoint: the attribute [`ATTRIBUTE`] of the state dict.
//!
//! A dict of `namespace:key` to value. Text is a string; every other value is a pair of its type's
//! name and the value, so that integer widths survive: `("u32", 7)`, `("[str]", ["a", "b"])`.
//! `weights_only` admits attributes of an `OrderedDict`, and `load_state_dict` looks at none but
//! its own.

use super::pickle::{BATCH, Pickle, op};
use crate::wire::{ATTRIBUTE, LONE_PAIR, REQUIRES_GRAD};
use ir::{Array, Entry, MetaValue, Metadata, Result, ns};

/// Sets the attribute on the object on top of the stack, if there is anything to say.
pub(super) fn attribute(pickle: &mut Pickle, metadata: &Metadata) -> Result<()> {
    // `format` tells loaders of safetensors which library the tensors are for: here it is plain.
    // What the tensors' own calls say needs no note.
    let implied = |e: &&Entry| match e.namespace {
        ns::SAFETENSORS => e.key == "format",
        ns::NOTE => e.key.starts_with(REQUIRES_GRAD) || e.key.starts_with(LONE_PAIR),
        _ => false,
    };
    let entries: Vec<&Entry> = metadata.iter().filter(|entry| !implied(entry)).collect();
    if entries.is_empty() {
        return Ok(());
    }
    pickle.op(op::EMPTY_DICT);
    pickle.put();
    pickle.remembered_text(ATTRIBUTE)?;
    pickle.op(op::EMPTY_DICT);
    pickle.put();
    for batch in entries.chunks(BATCH) {
        pickle.op(op::MARK);
        for entry in batch {
            pickle.remembered_text(&format!("{}:{}", entry.namespace, entry.key))?;
            value(pickle, &entry.value)?;
        }
        pickle.op(op::SETITEMS);
    }
    pickle.op(op::SETITEM);
    pickle.op(op::BUILD);
    Ok(())
}

fn value(pickle: &mut Pickle, value: &MetaValue) -> Result<()> {
    match value {
        MetaValue::Str(bytes) => return text(pickle, bytes),
        MetaValue::U8(n) => typed(pickle, "u8", |p| p.int((*n).into()))?,
        MetaValue::I8(n) => typed(pickle, "i8", |p| p.int((*n).into()))?,
        MetaValue::U16(n) => typed(pickle, "u16", |p| p.int((*n).into()))?,
        MetaValue::I16(n) => typed(pickle, "i16", |p| p.int((*n).into()))?,
        MetaValue::U32(n) => typed(pickle, "u32", |p| p.int((*n).into()))?,
        MetaValue::I32(n) => typed(pickle, "i32", |p| p.int((*n).into()))?,
        // As the signed number of the same bits: the reader knows the type.
        MetaValue::U64(n) => typed(pickle, "u64", |p| p.int(n.cast_signed()))?,
        MetaValue::I64(n) => typed(pickle, "i64", |p| p.int(*n))?,
        MetaValue::F32(x) => typed(pickle, "f32", |p| p.float((*x).into()))?,
        MetaValue::F64(x) => typed(pickle, "f64", |p| p.float(*x))?,
        MetaValue::Bool(b) => typed(pickle, "bool", |p| p.op(flag(*b)))?,
        MetaValue::Array(array) => return items(pickle, array),
    }
    pickle.end_tuple(2);
    Ok(())
}

fn flag(value: bool) -> u8 {
    if value { op::NEWTRUE } else { op::NEWFALSE }
}

/// Text as a string; bytes that are not UTF-8 as a pair with their hex digits.
fn text(pickle: &mut Pickle, bytes: &[u8]) -> Result<()> {
    if std::str::from_utf8(bytes).is_ok() {
        pickle.text(bytes)?;
        pickle.put();
        return Ok(());
    }
    pickle.begin_tuple(2);
    pickle.remembered_text("bytes")?;
    let digits = bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    pickle.remembered_text(&digits)?;
    pickle.end_tuple(2);
    Ok(())
}

fn typed(pickle: &mut Pickle, name: &str, push: impl FnOnce(&mut Pickle)) -> Result<()> {
    pickle.begin_tuple(2);
    pickle.remembered_text(name)?;
    push(pickle);
    Ok(())
}

/// An array as a pair of `[type]` and a list. Arrays in arrays are as deep as the reader that made
/// them allowed.
fn items(pickle: &mut Pickle, array: &Array) -> Result<()> {
    match array {
        Array::U8(list) => plain(pickle, "[u8]", list, |p, n| p.int((*n).into())),
        Array::I8(list) => plain(pickle, "[i8]", list, |p, n| p.int((*n).into())),
        Array::U16(list) => plain(pickle, "[u16]", list, |p, n| p.int((*n).into())),
        Array::I16(list) => plain(pickle, "[i16]", list, |p, n| p.int((*n).into())),
        Array::U32(list) => plain(pickle, "[u32]", list, |p, n| p.int((*n).into())),
        Array::I32(list) => plain(pickle, "[i32]", list, |p, n| p.int((*n).into())),
        Array::U64(list) => plain(pickle, "[u64]", list, |p, n| p.int(n.cast_signed())),
        Array::I64(list) => plain(pickle, "[i64]", list, |p, n| p.int(*n)),
        Array::F32(list) => plain(pickle, "[f32]", list, |p, x| p.float((*x).into())),
        Array::F64(list) => plain(pickle, "[f64]", list, |p, x| p.float(*x)),
        Array::Bool(list) => plain(pickle, "[bool]", list, |p, b| p.op(flag(*b))),
        Array::Str(list) => listed(pickle, "[str]", list, |p, bytes| text(p, bytes)),
        Array::Array(list) => listed(pickle, "[array]", list, items),
    }
}

fn plain<T>(
    pickle: &mut Pickle,
    name: &str,
    list: &[T],
    push: impl Fn(&mut Pickle, &T),
) -> Result<()> {
    listed(pickle, name, list, |pickle, item| {
        push(pickle, item);
        Ok(())
    })
}

fn listed<T>(
    pickle: &mut Pickle,
    name: &str,
    list: &[T],
    push: impl Fn(&mut Pickle, &T) -> Result<()>,
) -> Result<()> {
    pickle.begin_tuple(2);
    pickle.remembered_text(name)?;
    pickle.op(op::EMPTY_LIST);
    pickle.put();
    for batch in list.chunks(BATCH) {
        pickle.op(op::MARK);
        batch.iter().try_for_each(|item| push(pickle, item))?;
        pickle.op(op::APPENDS);
    }
    pickle.end_tuple(2);
    Ok(())
}
