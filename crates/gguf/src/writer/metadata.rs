//! A model's metadata as the keys of a file.

use crate::carry::Plan;
use crate::wire::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT};
use crate::{GgufError, namespace};
use ir::{Array, MetaValue, Metadata, Record, Report, Result, ns};
use std::borrow::Cow;
use std::collections::HashSet;

/// A pair as the file is to have it.
pub(super) type Pair<'a> = (String, Cow<'a, MetaValue>);

/// Every pair in the metadata's order, the notes of `carry` in their places, its own pairs last.
///
/// Where two entries would be one key of the file, what `carry` needs stays, else the first.
pub(super) fn pairs<'a>(
    metadata: &'a Metadata,
    carried: &'a Plan,
    report: &mut Report,
) -> Result<Vec<Pair<'a>>> {
    let noted = carried.notes.values().flatten();
    let mut taken: HashSet<&str> = noted
        .chain(&carried.extra)
        .map(|(key, _)| key.as_str())
        .collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut pairs: Vec<Pair<'a>> = Vec::with_capacity(metadata.len());
    for (at, entry) in metadata.iter().enumerate() {
        if let Some(note) = carried.notes.get(&at) {
            if let Some((key, value)) = note
                && taken.remove(key.as_str())
            {
                pairs.push((key.clone(), Cow::Borrowed(value)));
                seen.insert(key.clone());
            }
            continue;
        }
        let key = namespace::file_key(entry.namespace, &entry.key);
        if key.is_empty() {
            let why = "the format has no empty keys".to_owned();
            let help = "Leave it out with --unset";
            return Err(GgufError::CannotWriteKey { key, why, help }.into());
        }
        if key.contains('\0') {
            let why = "readers cut a key at its NUL, and would take it for another";
            report.add(Record::dropped("metadata-nul", key, why));
            continue;
        }
        if taken.contains(key.as_str()) || !seen.insert(key.clone()) {
            let why = "another entry is written under the same key";
            report.add(Record::dropped("metadata-twice", key, why));
            continue;
        }
        let value = match &entry.value {
            MetaValue::Array(Array::Array(_)) if entry.namespace != ns::GGUF => {
                let why = "ggml does not load arrays of arrays: it became text";
                report.add(Record::changed("metadata-text", &key, why));
                Cow::Owned(MetaValue::text(entry.value.to_string()))
            }
            value => Cow::Borrowed(value),
        };
        pairs.push((key, value));
    }
    let extra = carried.extra.iter();
    pairs.extend(extra.map(|(key, value)| (key.clone(), Cow::Borrowed(value))));
    Ok(pairs)
}

/// The alignment that the pairs set.
pub(super) fn alignment(pairs: &[Pair<'_>]) -> Result<u64> {
    match pairs.iter().find(|(key, _)| key == ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT),
        Some((_, value)) => match **value {
            MetaValue::U32(n) if n.is_power_of_two() => Ok(n.into()),
            _ => Err(GgufError::CannotWriteKey {
                key: ALIGNMENT_KEY.to_owned(),
                why: format!("it is {}, and must be a power of two of type u32", **value),
                help: "Set it with --set general.alignment=u32:32, or leave it out with --unset",
            }
            .into()),
        },
    }
}
