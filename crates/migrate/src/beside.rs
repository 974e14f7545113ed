//! What lies beside models: which side files go with which, and where manifests go.

use crate::line::{Action, Line};
use crate::place;
use crate::select::Selection;
use crate::walk::Tree;
use std::collections::{BTreeMap, BTreeSet};

/// Gives every file that is no model's to the model it lies nearest to; what lies near none gets
/// a line of its own.
pub(crate) fn give(
    lines: &mut Vec<Line>,
    tree: &Tree,
    selection: &Selection,
    mut taken: BTreeSet<String>,
    gguf: bool,
    blank: impl Fn(&str) -> Line,
) {
    taken.extend(
        lines
            .iter()
            .flat_map(|line| line.inputs.iter().map(|file| file.path.clone())),
    );
    let mut holders: BTreeMap<String, usize> = BTreeMap::new();
    for (index, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.action == Action::Convert)
    {
        holders
            .entry(place::parent(&line.output).to_owned())
            .or_insert(index);
    }
    let mut rest: BTreeMap<String, (Vec<String>, u64)> = BTreeMap::new();
    for (folder, files) in &tree.folders {
        let (holder, group) = holder(folder, &holders, tree);
        for file in files {
            let path = place::join(folder, &file.name);
            let in_group = holder.is_some() || selection.takes(&path) || selection.takes(&group);
            if taken.contains(&path)
                || !in_group
                || selection.excludes(&path)
                || is_trace(&file.name)
            {
                continue;
            }
            match holder.and_then(|index| lines.get_mut(index)) {
                Some(line) if !gguf || travels_with_gguf(folder, &line.model, &file.name) => {
                    line.side.push(path);
                    line.bytes_out += file.bytes;
                }
                None if !gguf => {
                    let (paths, bytes) = rest.entry(group.clone()).or_default();
                    paths.push(path);
                    *bytes += file.bytes;
                }
                _ => {}
            }
        }
    }
    for (folder, (side, bytes)) in rest {
        lines.push(Line {
            output: folder.clone(),
            side,
            bytes_in: bytes,
            bytes_out: bytes,
            ..blank(&folder)
        });
    }
}

/// The model that a folder's side files go with, and the folder that stands for them without one:
/// that of a pipeline, of a repository of the hub's cache, or their own.
fn holder(folder: &str, holders: &BTreeMap<String, usize>, tree: &Tree) -> (Option<usize>, String) {
    let mut above = folder;
    loop {
        if let Some(index) = holders.get(above) {
            return (Some(*index), above.to_owned());
        }
        let files = tree.folders.get(above);
        let pipeline =
            files.is_some_and(|files| files.iter().any(|file| file.name == "model_index.json"));
        if pipeline || place::name(above).starts_with("models--") {
            return (None, above.to_owned());
        }
        if above.is_empty() {
            return (None, folder.to_owned());
        }
        above = place::parent(above);
    }
}

/// What a GGUF file needs beside it: its licence and what its makers say.
fn travels_with_gguf(folder: &str, model: &str, name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let texts = [
        "LICENSE",
        "LICENCE",
        "NOTICE",
        "README",
        "COPYING",
        "USE_POLICY",
    ];
    folder == model && texts.iter().any(|text| upper.starts_with(text))
}

/// Files that a download leaves, and that nobody loads.
fn is_trace(name: &str) -> bool {
    [".lock", ".incomplete", ".part"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// One manifest a folder; where it has several models, or one already, each model has its own.
pub(crate) fn name_manifests(lines: &mut [Line], tree: &Tree) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let converted = |line: &&mut Line| line.action == Action::Convert;
    for line in lines.iter_mut().filter(converted) {
        *counts
            .entry(place::parent(&line.output).to_owned())
            .or_default() += 1;
    }
    for line in lines.iter_mut().filter(converted) {
        let folder = place::parent(&line.output);
        let files = tree.folders.get(folder);
        let there = files.is_some_and(|files| files.iter().any(|file| file.name == SUMS));
        line.sums = if there || counts.get(folder).is_some_and(|count| *count > 1) {
            format!("{}.sha256", place::name(&line.output))
        } else {
            SUMS.to_owned()
        };
    }
}

/// The usual name of a manifest.
const SUMS: &str = "SHA256SUMS";
