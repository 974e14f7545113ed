//! Metadata with its types, namespaces and order, for targets that hold text alone.
//!
//! The note `metadata` has a line for each key, `NAMESPACE.KEY` and, behind a tab, the value with
//! its type ([`ir::typed_text`]). Keys of safetensors' own stay where they are, and have a line
//! without a value.

use ir::{Entry, MetaValue, Metadata, Model, Record, ns, typed_text};
use std::collections::{HashMap, HashSet};

const KEY: &str = "metadata";
const SPACES: [&str; 5] = [ns::GGUF, ns::SAFETENSORS, ns::CKPT, ns::ONNX, ns::NOTE];

/// Puts everything that is no text of the target's own into one note.
pub(crate) fn note_metadata(model: &mut Model) {
    let plain =
        |entry: &Entry| entry.namespace == ns::SAFETENSORS && entry.value.as_str().is_some();
    if model.metadata.iter().all(plain) {
        return;
    }
    let line = |entry: &Entry| {
        let key = format!("{}.{}", entry.namespace, typed_text::escape(&entry.key));
        if plain(entry) {
            return key;
        }
        format!(
            "{key}\t{}",
            typed_text::escape(&typed_text::render(&entry.value))
        )
    };
    let lines: Vec<String> = model.metadata.iter().map(line).collect();
    model.metadata.retain(plain);
    model
        .metadata
        .set(ns::NOTE, KEY, MetaValue::text(lines.join("\n")));
}

/// Says of metadata that becomes text under its keys what that costs. Numbers beside the tensors of a
/// checkpoint are told by their reader.
pub(crate) fn as_text(model: &Model) -> Option<Record> {
    let others = model.metadata.iter().filter(|entry| {
        let own = [ns::SAFETENSORS, ns::NOTE, ns::CKPT].contains(&entry.namespace);
        !own
    });
    let typed = others
        .clone()
        .filter(|entry| entry.value.as_str().is_none());
    let (all, typed) = (others.count(), typed.count());
    let what = format!(
        "{all} {} of metadata",
        if all == 1 { "key" } else { "keys" }
    );
    let record = match (all, typed) {
        (0, _) => return None,
        (_, 0) => Record::carried("metadata-text", what, "whose format they were is not noted"),
        _ => {
            let why =
                format!("as text: the types of {typed} and whose format they were is not noted");
            Record::changed("metadata-text", what, why)
        }
    };
    Some(record.flag("--carry metadata"))
}

/// Gives metadata back as a note tells, and removes the note; one that cannot be read stays. What
/// it does not tell of stands behind.
pub(crate) fn restore_metadata(model: &mut Model) {
    let noted = model.metadata.get(ns::NOTE, KEY);
    let Some(lines) = noted.and_then(MetaValue::as_str).and_then(parsed) else {
        return;
    };
    let mut metadata = Metadata::new();
    let mut seen: HashSet<(&str, String)> = HashSet::new();
    seen.insert((ns::NOTE, KEY.to_owned()));
    // Looked up by key, so gathered once: a file may hold very many.
    let plain: HashMap<&str, &MetaValue> = model.metadata.of(ns::SAFETENSORS).collect();
    for (namespace, key, value) in lines {
        let value = value.or_else(|| plain.get(key.as_str()).map(|value| (*value).clone()));
        if let Some(value) = value
            && seen.insert((namespace, key.clone()))
        {
            metadata.push_new(namespace, key, value);
        }
    }
    for entry in &model.metadata {
        if !seen.contains(&(entry.namespace, entry.key.clone())) {
            metadata.push_new(entry.namespace, entry.key.clone(), entry.value.clone());
        }
    }
    model.metadata = metadata;
}

type Line = (&'static str, String, Option<MetaValue>);

fn parsed(text: &str) -> Option<Vec<Line>> {
    let line = |line: &str| {
        let (key, value) = match line.split_once('\t') {
            Some((key, value)) => (key, Some(value)),
            None => (line, None),
        };
        let (namespace, key) = key.split_once('.')?;
        let namespace = SPACES.into_iter().find(|known| *known == namespace)?;
        let key = typed_text::unescape(key)?;
        let value = match value {
            Some(value) => Some(typed_text::parse(&typed_text::unescape(value)?)?),
            None if namespace == ns::SAFETENSORS => None,
            None => return None,
        };
        Some((namespace, key, value))
    };
    text.split('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Array;

    #[test]
    fn metadata_comes_back() {
        let mut model = Model::default();
        let metadata = &mut model.metadata;
        metadata.set(ns::GGUF, "general.alignment", MetaValue::U32(32));
        metadata.set(ns::SAFETENSORS, "format", MetaValue::text("pt"));
        metadata.set(ns::GGUF, "format", MetaValue::text("a\tb\nc\\d"));
        metadata.set(ns::NOTE, "dims.x", MetaValue::Array(Array::U64(vec![1, 2])));
        metadata.set(ns::CKPT, "odd\tkey\n.\\t", MetaValue::F64(-0.0));
        let was = model.clone();
        note_metadata(&mut model);
        assert_eq!(model.metadata.len(), 2);
        let tie = MetaValue::text("b");
        model.metadata.set(ns::SAFETENSORS, "a", tie.clone());
        restore_metadata(&mut model);
        let last = model.metadata.iter().last().unwrap().clone();
        assert_eq!((last.key.as_str(), last.value), ("a", tie));
        model.metadata.remove(ns::SAFETENSORS, "a");
        assert_eq!(model.metadata, was.metadata);
    }

    #[test]
    fn a_note_that_is_none_stays() {
        for text in [
            "",
            "gguf",
            "nobody.key\tu8:1",
            "gguf.key",
            "gguf.key\tu8:x",
            "gguf.k\tu8:1\n",
        ] {
            let mut model = Model::default();
            model.metadata.set(ns::NOTE, KEY, MetaValue::text(text));
            restore_metadata(&mut model);
            assert_eq!(model.metadata.len(), 1, "{text:?}");
            assert_eq!(
                model.metadata.get(ns::NOTE, KEY),
                Some(&MetaValue::text(text))
            );
        }
    }
}
