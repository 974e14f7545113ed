//! Metadata that no file of the other side tells: it goes along as metadata, or is told as lost.

use ir::{Entry, MetaValue, Metadata, Model, Record, ns};

/// Most keys that a record names.
const NAMED: usize = 5;

/// Of a GGUF file's metadata what the files made of it do not tell: the `untold` keys of the
/// architecture, the tokenizer and the model's description, and all keys of nobody known.
pub(super) fn of_gguf(metadata: &Metadata, untold: &[String]) -> Metadata {
    let mut left = metadata.clone();
    let arch = metadata.get(ns::GGUF, "general.architecture");
    let arch = arch.and_then(MetaValue::as_str).unwrap_or_default();
    let own = format!("{arch}.");
    let known = ["general.", "tokenizer.", "adapter.", "split.", &own];
    left.retain(|entry| {
        let ours = known.iter().any(|prefix| entry.key.starts_with(prefix));
        entry.namespace != ns::NOTE && (!ours || untold.contains(&entry.key))
    });
    left
}

/// Says that keys stay metadata, where everything else became a file.
pub(super) fn noted(metadata: &Metadata) -> Option<Record> {
    let why = "no file of a repository tells them: they go along in the metadata of the weights, and \
               come back on the way to GGUF";
    let keys = metadata.iter();
    named(keys).map(|what| Record::carried("metadata", what, why))
}

/// Puts behind the keys of a GGUF file what a repository's metadata has: keys that came from such a
/// file, and with `all` the others too, under names that no runtime asks for. A record tells what
/// stays behind.
pub(super) fn join(model: &mut Model, keys: &mut Metadata, all: bool) {
    let said = |entry: &Entry| match entry.namespace {
        ns::NOTE => false,
        // Whose tensors they are.
        ns::SAFETENSORS => entry.key != "format",
        // What PyTorch's exporters tell of a graph's own places.
        ns::ONNX => !entry.key.starts_with("pkg."),
        _ => true,
    };
    let goes = |entry: &Entry| all || entry.namespace == ns::GGUF;
    let mut lost = Vec::new();
    for entry in model.metadata.iter().filter(|entry| said(entry)) {
        if !goes(entry) {
            lost.push(entry);
        } else if keys.get(entry.namespace, &entry.key).is_none() {
            keys.push_new(entry.namespace, entry.key.clone(), entry.value.clone());
        }
    }
    let why = "a runtime has no keys for what is noted beside the weights";
    let record = named(lost.into_iter()).map(|what| Record::dropped("metadata", what, why));
    let record = record.map(|record| record.flag("--carry metadata"));
    model.provenance.records.extend(record);
}

/// How many keys, and the first of them.
fn named<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<String> {
    let keys: Vec<&str> = entries.map(|entry| entry.key.as_str()).collect();
    let more = match keys.len() {
        0 => return None,
        n if n > NAMED => ", …",
        _ => "",
    };
    let first = keys.get(..NAMED).unwrap_or(&keys).join(", ");
    let noun = if keys.len() == 1 { "key" } else { "keys" };
    Some(format!("{} {noun}: {first}{more}", keys.len()))
}
