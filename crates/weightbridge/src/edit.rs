//! Changes to a model's metadata: `--set`, `--unset`, `--chat-template`.

use crate::open::format_of;
use crate::{Converted, FacadeError, Session};
use ir::{
    Array, Error, Fault, Input, MetaValue, Model, ReadOptions, Record, Report, Result, ns,
    typed_text,
};
use serde_json::Value;
use std::path::Path;

/// One change.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Sets a key, in its place if it is there, else at the end.
    Set(String, MetaValue),
    /// Removes a key.
    Unset(String),
}

impl Edit {
    /// Reads `KEY=TYPE:VALUE`. Types are those of GGUF: `u8` to `u64`, `i8` to `i64`, `f32`, `f64`,
    /// `bool`, `str`, and arrays of them as `[TYPE]:JSON`, e.g. `a.b=[u32]:[1,2]`.
    pub fn set(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            Error::from(FacadeError::BadEdit {
                text: text.to_owned(),
                why: why.to_owned(),
            })
        };
        let (key, rest) = text
            .split_once('=')
            .ok_or_else(|| bad("expected KEY=TYPE:VALUE"))?;
        let (kind, value) = rest
            .split_once(':')
            .ok_or_else(|| bad("expected KEY=TYPE:VALUE"))?;
        if key.is_empty() {
            return Err(bad("the key is empty"));
        }
        if key.len() > KEY_MAX {
            return Err(bad(
                "the key is longer than 65535 bytes, which no loader reads",
            ));
        }
        if SPLIT_KEYS.contains(&key) {
            return Err(bad(
                "the keys of a split are written with its files: --shard-size, --shard-tensors",
            ));
        }
        let value = match kind
            .strip_prefix('[')
            .and_then(|kind| kind.strip_suffix(']'))
        {
            Some(kind) => array(kind, value),
            None => scalar(kind, value),
        };
        let kind = kind.trim_matches(['[', ']']);
        if !TYPES.contains(&kind) {
            return Err(bad(
                "the types are u8 to u64, i8 to i64, f32, f64, bool and str",
            ));
        }
        let value = value.ok_or_else(|| bad("the value does not fit its type"))?;
        Ok(Self::Set(key.to_owned(), value))
    }
}

/// Floats are written in decimals here; everything else is as in a typed text.
fn scalar(kind: &str, text: &str) -> Option<MetaValue> {
    match kind {
        "f32" => text.parse().ok().map(MetaValue::F32),
        "f64" => text.parse().ok().map(MetaValue::F64),
        _ => typed_text::parse(&format!("{kind}:{text}")),
    }
}

fn array(kind: &str, text: &str) -> Option<MetaValue> {
    fn all<T>(items: &[Value], one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        items.iter().map(one).collect()
    }
    fn unsigned<T: TryFrom<u64>>(value: &Value) -> Option<T> {
        value.as_u64()?.try_into().ok()
    }
    fn signed<T: TryFrom<i64>>(value: &Value) -> Option<T> {
        value.as_i64()?.try_into().ok()
    }
    let items: Vec<Value> = serde_json::from_str(text).ok()?;
    #[allow(clippy::cast_possible_truncation)] // a float of less precision was asked for
    let array = match kind {
        "u8" => Array::U8(all(&items, unsigned)?),
        "u16" => Array::U16(all(&items, unsigned)?),
        "u32" => Array::U32(all(&items, unsigned)?),
        "u64" => Array::U64(all(&items, unsigned)?),
        "i8" => Array::I8(all(&items, signed)?),
        "i16" => Array::I16(all(&items, signed)?),
        "i32" => Array::I32(all(&items, signed)?),
        "i64" => Array::I64(all(&items, signed)?),
        "f32" => Array::F32(all(&items, |v| Some(v.as_f64()? as f32))?),
        "f64" => Array::F64(all(&items, Value::as_f64)?),
        "bool" => Array::Bool(all(&items, Value::as_bool)?),
        "str" => Array::Str(all(&items, |v| Some(v.as_str()?.to_owned().into()))?),
        _ => return None,
    };
    Some(MetaValue::Array(array))
}

/// The types of values.
const TYPES: [&str; 12] = [
    "u8", "i8", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "bool", "str",
];

/// Longest key that ggml reads.
const KEY_MAX: usize = 65_535;

/// Keys that tell of the files of a set.
const SPLIT_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// Longest chat template.
const TEMPLATE_MAX: u64 = 16 << 20;

/// The change that puts the text of a file in as chat template.
pub fn chat_template(file: &Path) -> Result<Edit> {
    let region = ir::Region::open(file)?;
    ir::Limits::check("bytes of a chat template", region.len(), TEMPLATE_MAX)?;
    let text = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
    Ok(Edit::Set(
        "tokenizer.chat_template".to_owned(),
        MetaValue::Str(text),
    ))
}

/// Applies changes to the metadata that a target keeps under plain keys.
pub(crate) fn apply(model: &mut Model, target: &str, edits: &[Edit]) {
    let namespace = if target == gguf::FORMAT.id {
        ns::GGUF
    } else {
        ns::SAFETENSORS
    };
    for edit in edits {
        match edit {
            Edit::Set(key, value) => model.metadata.set(namespace, key.clone(), value.clone()),
            Edit::Unset(key) => model.metadata.retain(|entry| entry.key != *key),
        }
    }
}

/// Changes the keys of a GGUF file where it stands. The data does not move; see [`gguf::new_header`]
/// for what fits, and [`ir::replace_beginning`] for what a crash can do. A change that was
/// interrupted is completed first.
pub fn edit_in_place(
    path: &Path,
    edits: &[Edit],
    dry_run: bool,
    session: &Session,
) -> Result<Converted> {
    if ir::is_url(path) && session.places.remote(path).is_some() {
        let what = "objects in a storage cannot be changed in place";
        return Err(Error::from(Fault::Usage {
            what: what.to_owned(),
        })
        .in_file(path)
        .with_help("Write a new one: give an OUTPUT instead of --in-place"));
    }
    let mut records = Vec::new();
    if !dry_run && ir::finish_interrupted(path)? {
        let why = "an earlier change of it was interrupted";
        records.push(Record::changed("completed", "the header", why).wanted());
    }
    let input = Input::open(path)?;
    let format = format_of(&input, None)?;
    if ![gguf::FORMAT.id, repo::FORMAT.id].contains(&format.id) {
        let format = format.id;
        return Err(Error::from(FacadeError::NotInPlace { format }).in_file(path));
    }
    let cx = session.reading(ReadOptions::default());
    let mut header = gguf::new_header(&input, &cx, |pairs| {
        for edit in edits {
            match edit {
                Edit::Unset(key) => pairs.retain(|pair| pair.0 != *key),
                Edit::Set(key, value) => match pairs.iter_mut().find(|pair| pair.0 == *key) {
                    Some(pair) => pair.1 = value.clone(),
                    None => pairs.push((key.clone(), value.clone())),
                },
            }
        }
    })?;
    records.append(&mut header.records);
    cx.cancel.check()?;
    let changed = header.old != header.new;
    if !dry_run && changed {
        ir::replace_beginning(path, &header.old, &header.new)?;
    }
    let planned = gguf::open_shard(&Input::open(path)?, &cx)?;
    let report = Report {
        tensors: planned.tensors.len() as u64,
        tensor_bytes: planned.tensors.byte_len(),
        file_bytes: if dry_run { 0 } else { input.file()?.len() },
        records,
    };
    let file = (!dry_run).then_some((path.to_owned(), report.file_bytes));
    Ok(Converted {
        from: &gguf::FORMAT,
        to: &gguf::FORMAT,
        files: file.into_iter().collect(),
        report,
        planned,
        changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_types() {
        let value = |text: &str| match Edit::set(text).unwrap() {
            Edit::Set(_, value) => value,
            Edit::Unset(_) => unreachable!(),
        };
        assert_eq!(value("a.b=u8:7"), MetaValue::U8(7));
        assert_eq!(value("a=str:x=y:z"), MetaValue::text("x=y:z"));
        assert_eq!(
            value("a=[i16]:[1,-2]"),
            MetaValue::Array(Array::I16(vec![1, -2]))
        );
        for bad in ["a", "a=7", "=u8:7", "a=u8:300", "a=[u8]:[300]", "a=blob:x"] {
            assert_eq!(
                Edit::set(bad).unwrap_err().class(),
                ir::Class::Usage,
                "{bad}"
            );
        }
    }
}
