//! Which files an input stands for: the shards of a set, or the one file of a folder.

use crate::RepoError;
use crate::index::{self, Index};
use crate::names::{INDEX_SUFFIX, belongs_to_set, choose, is_own_layout, weights_in};
use ir::shard::ShardName;
use ir::{Class, Context, Error, Fault, Input, Kind, Places, Record, Region, Result};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// The files of one model.
#[derive(Debug)]
pub(crate) struct Set {
    /// Where they lie.
    pub(crate) folder: PathBuf,
    /// Their names, sorted: the order in which their tensors go.
    pub(crate) files: Vec<String>,
    /// What the set's index says, where there is one.
    pub(crate) index: Option<Index>,
    /// The index file, for the list of files opened.
    pub(crate) index_file: Option<(PathBuf, u64)>,
    /// All names in the folder, sorted.
    pub(crate) entries: Vec<String>,
    /// What they stand for, where the listing told.
    kinds: HashMap<String, Kind>,
    pub(crate) places: Places,
    /// Remarks on what was chosen.
    pub(crate) notes: Vec<String>,
    /// What is missing and was left out, where that was asked for.
    pub(crate) losses: Vec<Record>,
}

/// Files that a download leaves while it is under way.
const PARTIAL: &[&str] = &[
    ".incomplete",
    ".part",
    ".partial",
    ".crdownload",
    ".aria2",
    ".download",
    ".tmp",
];
/// Missing shards named in an error.
const NAMED: usize = 5;
/// What diffusers writes where the parts of a pipeline are folders.
const PIPELINE: &str = "model_index.json";
/// Folders in a folder that are looked into for weights, to name them in an error.
const PARTS: usize = 64;

/// Finds the files an input stands for, and makes sure that all are there.
pub(crate) fn resolve(input: &Input, cx: &Context) -> Result<Set> {
    let mut set = if input.region().is_none() {
        of_folder(input.path(), cx)?
    } else if belongs_to_set(input.path()) {
        of_shard(input, cx)?
    } else {
        let region = input.file()?;
        let folder = folder_of(input.path());
        let mut set = Set::new(folder, cx)?;
        set.read_index(input.path(), region, cx)?;
        set
    };
    set.check_files(cx.read.partial)?;
    set.notes.sort();
    Ok(set)
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn of_folder(folder: &Path, cx: &Context) -> Result<Set> {
    let mut set = Set::new(folder.to_owned(), cx)?;
    let files = set.entries.iter().filter(|name| set.is_file(name));
    let weights = weights_in(files);
    if weights.is_empty()
        && let Some(file) = in_onnx_folder(folder, &set.entries)
    {
        set.files = vec![file];
        return Ok(set);
    }
    let chosen = choose(weights, is_own_layout(&set.entries));
    let chosen = chosen.map_err(|error| match error {
        RepoError::NoWeights => set.no_weights(cx),
        error => error,
    });
    let (chosen, others) = chosen.map_err(|error| Error::from(error).in_file(folder))?;
    for other in others {
        let note = format!("{other} is in the folder too and was not read");
        set.notes.push(note);
    }
    if let Some(whole) = chosen.whole {
        set.files = vec![whole];
    } else if let Some(name) = chosen.index {
        let path = folder.join(&name);
        let region = set.places.region(&path)?;
        set.read_index(&path, &region, cx)?;
    } else if let Some(shard) = chosen.shard.as_deref().and_then(ShardName::parse) {
        set.take_all(&shard);
    }
    Ok(set)
}

/// The folder below a repository in which `transformers.js` looks for models.
const ONNX_FOLDER: &str = "onnx";

/// The model in that folder: `model.onnx`, else the only one.
fn in_onnx_folder(folder: &Path, entries: &[String]) -> Option<String> {
    entries.iter().find(|name| *name == ONNX_FOLDER)?;
    let listing = std::fs::read_dir(folder.join(ONNX_FOLDER)).ok()?;
    let names = listing
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok());
    let mut models: Vec<String> = names
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "onnx"))
        .take(MODELS)
        .collect();
    models.sort();
    let main = models.iter().find(|name| *name == "model.onnx");
    let name = main.or(if models.len() == 1 {
        models.first()
    } else {
        None
    })?;
    Some(format!("{ONNX_FOLDER}/{name}"))
}

/// Models in one folder that are looked at.
const MODELS: usize = 1000;

/// The repository that a model file belongs to: its folder, or for `onnx/model.onnx` the one above.
/// None where there is no `config.json`.
pub fn home_of(file: &Path) -> Option<PathBuf> {
    let described = |folder: &PathBuf| folder.join("config.json").is_file();
    let folder = folder_of(file);
    if described(&folder) {
        return Some(folder);
    }
    let full = folder.canonicalize().ok()?;
    let above = full
        .file_name()
        .filter(|name| *name == ONNX_FOLDER)
        .and(full.parent())?;
    Some(above.to_owned()).filter(described)
}

fn of_shard(input: &Input, cx: &Context) -> Result<Set> {
    let mut set = Set::new(folder_of(input.path()), cx)?;
    let name = input
        .path()
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let Some(shard) = ShardName::parse(&name) else {
        let what = "not a shard of a set".to_owned();
        return Err(Error::from(Fault::Unsupported { what }).in_file(input.path()));
    };
    let index = set.folder.join(shard.index());
    if set.is_file(&shard.index()) {
        let region = set.places.region(&index)?;
        set.read_index(&index, &region, cx)?;
        if set.files.iter().any(|file| *file == name) {
            return Ok(set);
        }
        let note = format!(
            "{} does not name {name} and was not followed",
            shard.index()
        );
        set.notes.push(note);
        set.index = None;
        set.index_file = None;
    }
    set.take_all(&shard);
    Ok(set)
}

impl Set {
    pub(crate) fn new(folder: PathBuf, cx: &Context) -> Result<Self> {
        let listed = cx.places.list(&folder, cx.limits.entries);
        let listing = match listed {
            Ok(listing) => listing,
            Err(error) if error.class() == Class::Limit => return Err(error),
            // A storage that lists, and now does not, would seem to have no shards.
            Err(error)
                if cx.places.remote(&folder).is_some() && error.class() != Class::Unsupported =>
            {
                return Err(error);
            }
            // An input from memory may have a name in no folder at all: its shards are just missing.
            Err(_) => ir::Listing::default(),
        };
        let mut notes = Vec::new();
        if listing.unusable > 0 && cx.places.remote(&folder).is_some() {
            let n = listing.unusable;
            notes.push(format!(
                "{n} names in the storage cannot be names of files and were passed over"
            ));
        }
        let mut entries = Vec::new();
        let mut kinds = HashMap::new();
        for (name, kind) in listing.names {
            if let Some(kind) = kind {
                kinds.insert(name.clone(), kind);
            }
            entries.push(name);
        }
        entries.sort();
        // Of an object and a prefix of one name both are listed.
        entries.dedup();
        Ok(Self {
            folder,
            files: Vec::new(),
            index: None,
            index_file: None,
            entries,
            kinds,
            places: cx.places.clone(),
            notes,
            losses: Vec::new(),
        })
    }

    /// Whether a name in the folder is a file.
    pub(crate) fn is_file(&self, name: &str) -> bool {
        match self.kinds.get(name) {
            Some(kind) => *kind == Kind::File,
            None => self.places.is_file(&self.folder.join(name)),
        }
    }

    /// Says where weights are, if not here.
    fn no_weights(&self, cx: &Context) -> RepoError {
        let parts = self.parts(cx);
        if parts.is_empty() {
            return RepoError::NoWeights;
        }
        let pipeline = self.is_file(PIPELINE);
        RepoError::OnlyParts { parts, pipeline }
    }

    /// The folders in it that hold weights.
    fn parts(&self, cx: &Context) -> Vec<String> {
        let holds = |name: &&String| {
            let inside = self.places.list(&self.folder.join(name), cx.limits.entries);
            inside.is_ok_and(|list| !weights_in(list.names.iter().map(|(name, _)| name)).is_empty())
        };
        let folders = self.entries.iter().filter(|name| !self.is_file(name));
        folders.take(PARTS).filter(holds).cloned().collect()
    }

    fn read_index(&mut self, path: &Path, region: &Region, cx: &Context) -> Result<()> {
        let index = index::read(region, &cx.limits).map_err(|error| error.in_file(path))?;
        self.files.clone_from(&index.files);
        // An index that forgets a shard would drop its tensors without a word.
        if let Some(shard) = self.files.iter().find_map(|file| ShardName::parse(file)) {
            let named = |name: &String| self.files.binary_search(name).is_ok();
            let mut all = (1..=shard.count).map(|number| shard.sibling(number));
            let there = |name: &String| self.is_file(name);
            if let Some(forgotten) = all.find(|name| !named(name) && there(name)) {
                let note = format!("{forgotten} is there and not in the index; it was not read");
                self.notes.push(note);
            }
        }
        self.index = Some(index);
        self.index_file = Some((path.to_owned(), region.len()));
        Ok(())
    }

    /// Takes all shards of a set that has no index.
    fn take_all(&mut self, shard: &ShardName) {
        self.files = (1..=shard.count)
            .map(|number| shard.sibling(number))
            .collect();
    }

    fn check_files(&mut self, partial: bool) -> Result<()> {
        let there = |name: &String| match self.places.remote(&self.folder) {
            Some(_) => self.is_file(name),
            None => std::fs::metadata(self.folder.join(name)).is_ok(),
        };
        let missing = |name: &&String| !there(name);
        let missing: Vec<&String> = self.files.iter().filter(missing).collect();
        let Some(first) = missing.first() else {
            return Ok(());
        };
        if partial && missing.len() < self.files.len() {
            let missing = missing.into_iter().cloned().collect();
            self.leave_out(&missing);
            return Ok(());
        }
        let cut = self.entries.iter().find(|entry| {
            let rest = entry.strip_prefix(first.as_str());
            rest.is_some_and(|rest| PARTIAL.contains(&rest))
        });
        let error = Error::from(RepoError::MissingShards {
            missing: missing.len(),
            count: self.files.len(),
            names: missing.into_iter().take(NAMED).cloned().collect(),
            partial: cut.cloned(),
        });
        Err(error.in_file(
            self.index_file
                .as_ref()
                .map_or(&self.folder, |(path, _)| path),
        ))
    }

    /// Goes on without files, each tensor that the index says they have a loss.
    fn leave_out(&mut self, missing: &HashSet<String>) {
        let files = std::mem::take(&mut self.files);
        let mut numbers = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            if missing.contains(file) {
                let why = "this file of the set is not there";
                self.losses
                    .push(Record::dropped("missing", file, why).flag("--partial"));
            } else {
                numbers.insert(number, self.files.len());
                self.files.push(file.clone());
            }
        }
        let Some(index) = &mut self.index else {
            return;
        };
        let all = std::mem::take(&mut index.tensors);
        for (name, number) in all {
            match (numbers.get(&number), files.get(number)) {
                (Some(number), _) => index.tensors.push((name, *number)),
                (None, file) => {
                    let file = file.map_or("", String::as_str);
                    let why = format!("it is in {file}, which is not there");
                    self.losses
                        .push(Record::dropped("missing", name, why).flag("--partial"));
                }
            }
        }
        index.files.clone_from(&self.files);
    }

    /// Whether a name is one of the set's own files.
    pub(crate) fn owns(&self, name: &str) -> bool {
        name.ends_with(INDEX_SUFFIX)
            || self
                .files
                .binary_search_by(|file| file.as_str().cmp(name))
                .is_ok()
    }
}
