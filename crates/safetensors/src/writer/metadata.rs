//! A model's metadata as the strings that `__metadata__` holds.

use super::Strings;
use crate::wire::NOTE_PREFIX;
use ir::{MetaValue, Model, Record, Report, ns};

/// The key loaders look at before anything else.
pub(super) const FORMAT_KEY: &str = "format";

/// Every pair as text. Keys of `__metadata__` itself keep their names; those of other namespaces
/// do where they are free, and get their namespace before them where not; notes get theirs always.
pub(super) fn strings_of(model: &Model, report: &mut Report) -> Strings {
    let mut strings = Strings::new();
    for (key, value) in model.metadata.of(ns::SAFETENSORS) {
        strings.insert(key.to_owned(), text_of(key, value, report));
    }
    for (key, value) in model.metadata.of(ns::NOTE) {
        let key = free_key(&strings, format!("{NOTE_PREFIX}{key}"), ns::NOTE);
        let text = text_of(&key, value, report);
        strings.insert(key, text);
    }
    for entry in &model.metadata {
        if [ns::SAFETENSORS, ns::NOTE].contains(&entry.namespace) {
            continue;
        }
        let key = free_key(&strings, entry.key.clone(), entry.namespace);
        if key != entry.key {
            let why = format!("the key {:?} was taken, it is now {key:?}", entry.key);
            let what = format!("{}: {}", entry.namespace, entry.key);
            report.add(Record::carried("metadata-renamed", what, why));
        }
        let text = text_of(&key, &entry.value, report);
        strings.insert(key, text);
    }
    // Loaders refuse files without it: safetensors issues 278, 466, 549, 823.
    if model.provenance.format == ns::CKPT {
        strings
            .entry(FORMAT_KEY.to_owned())
            .or_insert_with(|| "pt".to_owned());
    }
    strings
}

fn free_key(strings: &Strings, mut key: String, namespace: &str) -> String {
    while strings.contains_key(&key) {
        key = format!("{namespace}.{key}");
    }
    key
}

fn text_of(key: &str, value: &MetaValue, report: &mut Report) -> String {
    match value {
        MetaValue::Str(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            if matches!(text, std::borrow::Cow::Owned(_)) {
                let why = "it is not UTF-8: what is not became U+FFFD";
                report.add(Record::changed("metadata-text", key, why));
            }
            text.into_owned()
        }
        typed => typed.to_string(),
    }
}
