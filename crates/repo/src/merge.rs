//! The shards of a set as one model.

use crate::RepoError;
use crate::index::Index;
use crate::set::Set;
use ir::{
    Context, Entry, Error, Fault, MetaValue, Metadata, Model, Object, Objects, Record, Region,
    Result, TensorTable, ns,
};
use std::collections::{HashMap, HashSet};

/// Tensors named in a note.
const NAMED: usize = 5;

/// Opens every file of a set.
pub(crate) fn open_all(set: &Set, cx: &Context) -> Result<Vec<Model>> {
    let opener = cx.open.as_ref().ok_or(RepoError::Nested)?;
    // A hostile index could name sets for ever: what is opened here opens nothing further.
    let mut inner = cx.clone();
    inner.open = None;
    let mut models = Vec::with_capacity(set.files.len());
    for name in &set.files {
        cx.cancel.check()?;
        let path = set.folder.join(name);
        let input = cx.places.open(&path)?;
        check_placeholder(input.file()?).map_err(|error| error.in_file(&path))?;
        models.push(
            opener
                .open(&input, &inner)
                .map_err(|error| error.in_file(&path))?,
        );
    }
    Ok(models)
}

fn check_placeholder(region: &Region) -> Result<()> {
    let len = usize::try_from(region.len()).unwrap_or(512).min(512);
    match ir::sniff(&region.bytes(0, len)?) {
        Some(found) if found.placeholder => {
            let (what, help) = (found.what, found.help);
            Err(RepoError::Placeholder { what, help }.into())
        }
        _ => Ok(()),
    }
}

/// One model of all; a set of one file is that file's model, untouched.
pub(crate) fn merge(set: &Set, mut models: Vec<Model>, cx: &Context) -> Result<Model> {
    let mut merged = if models.len() == 1 {
        let only = models.pop().unwrap_or_default();
        let owners = vec![0; only.tensors.len()];
        let losses = check_index(set, &only.tensors, &owners, cx)?;
        let mut only = only;
        only.provenance.records.extend(losses);
        only
    } else {
        merge_many(set, models, cx)?
    };
    if let Some(index) = &set.index {
        if merged.provenance.format == ns::SAFETENSORS {
            add_texts(&mut merged.metadata, index);
        }
        let extra = unnamed(&merged.tensors, index);
        merged.provenance.records.extend(extra);
    }
    merged.provenance.records.extend(set.losses.iter().cloned());
    merged.provenance.files.splice(0..0, set.index_file.clone());
    merged.provenance.notes.extend(set.notes.iter().cloned());
    Ok(merged)
}

fn merge_many(set: &Set, models: Vec<Model>, cx: &Context) -> Result<Model> {
    let mut merged = Model::default();
    let mut owners = Vec::new();
    let mut pairs = MergedMetadata::default();
    for (number, (model, file)) in models.into_iter().zip(&set.files).enumerate() {
        let mut from = model.provenance;
        let into = &mut merged.provenance;
        if number == 0 {
            into.format = from.format;
            into.version = format!("{} shards", set.files.len());
            if !from.version.is_empty() {
                into.version = format!("{}, {}", into.version, from.version);
            }
        } else if into.format != from.format {
            let (one, other) = (into.format, from.format);
            into.notes
                .push(format!("{file} is {other}, the shards before it are {one}"));
        }
        into.files.append(&mut from.files);
        into.records.append(&mut from.records);
        for note in from.notes {
            if !into.notes.contains(&note) {
                into.notes.push(note);
            }
        }
        for tensor in model.tensors.into_tensors() {
            if let Some(id) = merged.tensors.id_of(&tensor.name) {
                let owner = owners.get(id.index()).copied().unwrap_or(0);
                return Err(RepoError::DuplicateTensor {
                    name: tensor.name,
                    first: file_of(set, owner),
                    second: file.clone(),
                }
                .into());
            }
            merged.tensors.push(tensor)?;
            owners.push(number);
        }
        pairs.add(&model.metadata, file, &mut into.records);
        if model
            .objects
            .is_some_and(|objects| !is_state_dict(&objects))
        {
            let why = "trees of several shards cannot be one; its tensors are all here";
            into.records.push(Record::dropped(
                "objects",
                format!("object tree of {file}"),
                why,
            ));
        }
        if model.graph.is_some() {
            let why = "graphs of several shards cannot be one; its tensors are all here";
            into.records
                .push(Record::dropped("graph", format!("graph of {file}"), why));
        }
        merged.assets.extend(model.assets);
    }
    merged.metadata = pairs.metadata;
    let losses = check_index(set, &merged.tensors, &owners, cx)?;
    merged.provenance.records.extend(losses);
    Ok(merged)
}

fn file_of(set: &Set, number: usize) -> String {
    set.files.get(number).cloned().unwrap_or_default()
}

/// Metadata of all shards; of values that differ the first counts.
#[derive(Default)]
struct MergedMetadata {
    metadata: Metadata,
    seen: HashMap<(&'static str, String), MetaValue>,
}

impl MergedMetadata {
    fn add(&mut self, metadata: &Metadata, file: &str, records: &mut Vec<Record>) {
        for Entry {
            namespace,
            key,
            value,
        } in metadata
        {
            match self.seen.get(&(*namespace, key.clone())) {
                None => {
                    self.metadata
                        .push_new(namespace, key.clone(), value.clone());
                    self.seen.insert((*namespace, key.clone()), value.clone());
                }
                Some(first) if first == value => {}
                Some(_) => {
                    let what = format!("{namespace}: {key}");
                    let why = format!("{file} has another value than a shard before it");
                    records.push(Record::dropped("metadata", what, why));
                }
            }
        }
    }
}

/// Whether a tree is nothing but tensors under their names, as a shard's usually is.
fn is_state_dict(objects: &Objects) -> bool {
    let Some(root) = objects.root() else {
        return false;
    };
    let bare = match objects.get(root) {
        Object::Dict(_) => true,
        Object::Call(call) => call.states().is_empty() && call.items().is_empty(),
        _ => false,
    };
    let tensor = |id| matches!(objects.get(id), Object::Tensor(_));
    let pairs = objects.pairs(root);
    bare && pairs.is_some_and(|pairs| {
        pairs
            .iter()
            .all(|(key, value)| objects.str(*key).is_some() && tensor(*value))
    })
}

/// Every tensor of the index is in the file it names, or none has it and that is a loss.
fn check_index(
    set: &Set,
    tensors: &TensorTable,
    owners: &[usize],
    cx: &Context,
) -> Result<Vec<Record>> {
    let mut losses = Vec::new();
    let Some(index) = &set.index else {
        return Ok(losses);
    };
    // A subtree has other names than the index.
    if cx.read.key.is_some() {
        return Ok(losses);
    }
    let mut seen = HashSet::new();
    for (name, number) in &index.tensors {
        if !seen.insert(name.as_str()) {
            let error = Error::from(Fault::DuplicateName { name: name.clone() });
            return Err(match &set.index_file {
                Some((path, _)) => error.in_file(path),
                None => error,
            });
        }
        let owner = tensors.id_of(name).and_then(|id| owners.get(id.index()));
        let found = match owner {
            Some(owner) if owner == number => continue,
            Some(owner) => format!("it is in {}", file_of(set, *owner)),
            None => "no file of the set has it".to_owned(),
        };
        if cx.read.partial {
            let said = file_of(set, *number);
            let why = format!("the index says that it is in {said}, {found}");
            let record = match owner {
                Some(_) => Record::changed("missing", name, why),
                None => Record::dropped("missing", name, why),
            };
            losses.push(record.flag("--partial"));
            continue;
        }
        let error = Error::from(RepoError::MissingTensor {
            name: name.clone(),
            file: file_of(set, *number),
            found,
        });
        return Err(error.in_file(set.folder.join(file_of(set, *number))));
    }
    Ok(losses)
}

/// Texts among an index's metadata: the hub's library puts there which tied names it left out.
fn add_texts(metadata: &mut Metadata, index: &Index) {
    for (key, text) in &index.texts {
        if metadata.get(ns::SAFETENSORS, key).is_none() {
            metadata.set(ns::SAFETENSORS, key.clone(), MetaValue::text(text.clone()));
        }
    }
}

/// Tensors that the index does not name. They are read: what is there is carried.
fn unnamed(tensors: &TensorTable, index: &Index) -> Option<Record> {
    let named: HashSet<&str> = index
        .tensors
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let names = tensors.iter().map(|tensor| tensor.name.as_str());
    let extra: Vec<&str> = names.filter(|name| !named.contains(name)).collect();
    if extra.is_empty() {
        return None;
    }
    let first = extra
        .iter()
        .take(NAMED)
        .copied()
        .collect::<Vec<_>>()
        .join(", ");
    let what = match extra.len() {
        1 => first,
        n => format!("{n} tensors: {first}"),
    };
    let why = "in a shard and not in the index: loaders that follow the index leave it out";
    Some(Record::carried("not-in-index", what, why))
}
