//! Which models a folder of a tree holds, and what is to become of each.

use crate::line::Action;
use crate::names;
use crate::place::{self, Place};
use crate::walk::Found;
use ir::Result;
use std::collections::{BTreeMap, BTreeSet};
use weightbridge::{Weights, weights_in};

/// Weights found, and the verdict on them.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Path of the whole file, of the set's index, or of a shard.
    pub(crate) model: String,
    /// What the converter gets, from the root.
    pub(crate) input: String,
    /// Files that hold it, from the root, as far as names tell.
    pub(crate) files: Vec<String>,
    /// The name its whole file has or would have.
    pub(crate) main: String,
    /// What to do, as far as names and first bytes tell.
    pub(crate) action: Action,
    /// Why not, where it is left.
    pub(crate) why: Option<String>,
}

impl Candidate {
    /// A folder of files that belong to no model.
    pub(crate) fn copy_of(folder: &str) -> Self {
        Self {
            model: folder.to_owned(),
            input: String::new(),
            files: Vec::new(),
            main: String::new(),
            action: Action::Copy,
            why: None,
        }
    }
}

/// Extensions of weights that a migration to safetensors is about.
const TORCH: &[&str] = &["bin", "pt", "pth", "ckpt"];

/// What a folder's files come to.
pub(crate) fn in_folder(root: &Place, folder: &str, files: &[Found], to: &str) -> Vec<Candidate> {
    let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
    let sets = weights_in(&names);
    let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    if to == "gguf" {
        return repository(root, folder, &sets, &there);
    }
    let parts = sets.keys().filter(|main| names::is_part(main)).count();
    let all = sets.iter().filter_map(|(main, weights)| {
        let mut one = candidate(folder, main, weights, &there)?;
        judge(root, &mut one, &there, parts);
        Some(one)
    });
    all.collect()
}

/// The candidate that a set of weights is.
fn candidate(
    folder: &str,
    main: &str,
    weights: &Weights,
    there: &BTreeSet<&str>,
) -> Option<Candidate> {
    let entry = weights.entry()?;
    let mut files: BTreeSet<String> = BTreeSet::new();
    if weights.whole.is_some() {
        files.insert(entry.clone());
    } else {
        let shards = weights
            .shard
            .as_deref()
            .map(names::siblings)
            .unwrap_or_default();
        files.extend(
            shards
                .into_iter()
                .filter(|name| there.contains(name.as_str())),
        );
        files.extend(weights.index.clone());
        let variant = names::variant_index(main);
        files.extend(variant.filter(|name| there.contains(name.as_str())));
    }
    let at = |name: &String| place::join(folder, name);
    Some(Candidate {
        model: at(entry),
        input: at(entry),
        files: files.iter().map(at).collect(),
        main: main.to_owned(),
        action: Action::Convert,
        why: None,
    })
}

/// Leaves what is no checkpoint, or need not or cannot be converted.
fn judge(root: &Place, one: &mut Candidate, there: &BTreeSet<&str>, parts: usize) {
    let leave = |one: &mut Candidate, why: String| {
        one.action = Action::Leave;
        one.why = Some(why);
    };
    if let Some(why) = one.files.iter().find_map(|file| placeholder(root, file)) {
        return leave(one, why);
    }
    if !TORCH.contains(&place::extension(&one.main)) {
        // It travels with the side files.
        one.action = Action::Copy;
        return;
    }
    let output = names::safetensors(&one.main);
    let index = names::index(&output);
    if let Some(twin) = [output.as_str(), &index]
        .into_iter()
        .find(|name| there.contains(name))
    {
        return leave(one, format!("{twin} is in the folder already"));
    }
    if parts > 1 && names::is_part(&one.main) {
        let why = format!(
            "one of {parts} parts that each hold a part of every tensor; merge them with the maker's script first"
        );
        return leave(one, why);
    }
    // Trainers and tokenizers call their files .bin too. What cannot be read, the dry run tells best.
    if let Ok(None) = format(root, &one.input) {
        one.action = Action::Copy;
    }
}

/// The format of an input by content; none if it is no model.
fn format(root: &Place, input: &str) -> Result<Option<&'static str>> {
    let input = root.places().open(&root.at(input))?;
    match weightbridge::detect(&input) {
        Ok(detected) => Ok(Some(detected.format.id)),
        Err(error) if error.class() == ir::Class::Unsupported => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why a file is not what it stands for: empty, a Git LFS pointer, a web page.
fn placeholder(root: &Place, file: &str) -> Option<String> {
    let region = root.region(file).ok()?;
    if region.is_empty() {
        return Some(format!(
            "{} is empty. Copy or download it again, and plan again",
            place::name(file)
        ));
    }
    let head = region
        .bytes(0, usize::try_from(region.len().min(256)).ok()?)
        .ok()?;
    let found = ir::sniff(&head).filter(|found| found.placeholder)?;
    Some(format!(
        "{} is {}. {}",
        place::name(file),
        found.what,
        found.help
    ))
}

/// A folder with a configuration and weights, as one model.
fn repository(
    root: &Place,
    folder: &str,
    sets: &BTreeMap<String, Weights>,
    there: &BTreeSet<&str>,
) -> Vec<Candidate> {
    let all = sets
        .iter()
        .filter_map(|(main, weights)| candidate(folder, main, weights, there));
    let mut all: Vec<Candidate> = all.collect();
    let described = ["config.json", "params.json", "adapter_config.json"];
    let described = described.iter().any(|name| there.contains(name));
    for one in &mut all {
        one.action = Action::Leave;
        if let Some(why) = one.files.iter().find_map(|file| placeholder(root, file)) {
            one.why = Some(why);
        } else if place::extension(&one.main) == "gguf" {
            one.why = Some("it is GGUF already".to_owned());
        } else if !described {
            one.why = Some(
                "no config.json beside it: a GGUF for a runtime needs a model repository"
                    .to_owned(),
            );
        }
    }
    let usable = all.iter().filter(|one| one.why.is_none()).count();
    if usable == 0 {
        return all;
    }
    // Which of several weights are meant, the reader of repositories decides: the plan asks it.
    let kept = all.iter().filter(|one| one.why.is_none());
    let files: BTreeSet<String> = kept.flat_map(|one| one.files.clone()).collect();
    all.retain(|one| one.why.is_some());
    all.push(Candidate {
        model: folder.to_owned(),
        input: folder.to_owned(),
        files: files.into_iter().collect(),
        main: String::new(),
        action: Action::Convert,
        why: None,
    });
    all
}
