//! What an earlier output of the same name left behind: shards of another count, data files, an
//! index. Nothing of it is removed, as it may be somebody's; but loaders may take it for the model.

use ir::{Places, Record};
use regex::Regex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Most entries of a folder that are looked at.
const LISTED_MAX: u64 = 1 << 16;
/// Most names that the record has.
const NAMED: usize = 3;

static SHARD: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"-[0-9]{5}-of-[0-9]{5}").ok());

/// One record for the files beside `written` that look like parts of the same model and are none,
/// neither of the output nor of the `read` input.
pub(crate) fn stale(
    written: &[(PathBuf, u64)],
    read: impl Iterator<Item = PathBuf>,
    places: &Places,
) -> Option<Record> {
    let parts: BTreeSet<(PathBuf, String)> = (written.iter())
        .filter_map(|(path, _)| Some((folder_of(path), model_of(path.file_name()?.to_str()?))))
        .collect();
    let folders: BTreeSet<&PathBuf> = parts.iter().map(|(folder, _)| folder).collect();
    let mut known: BTreeSet<PathBuf> = read.filter_map(|path| path.canonicalize().ok()).collect();
    known.extend(
        written
            .iter()
            .filter_map(|(path, _)| path.canonicalize().ok()),
    );
    let mut left = Vec::new();
    for folder in folders {
        // A storage is not listed for this, nor a folder that cannot be.
        let listing = match places.remote(folder) {
            None => places.list(folder, LISTED_MAX).unwrap_or_default(),
            Some(_) => continue,
        };
        for (name, _) in listing.names {
            let same = parts.contains(&(folder.clone(), model_of(&name)));
            let path = folder.join(&name);
            if same && path.canonicalize().is_ok_and(|path| !known.contains(&path)) {
                left.push(name);
            }
        }
    }
    left.sort();
    let first = left.get(..NAMED).unwrap_or(&left).join(", ");
    let more = if left.len() > NAMED { ", …" } else { "" };
    let noun = if left.len() == 1 { "file" } else { "files" };
    let what = format!("{} {noun} of an earlier output: {first}{more}", left.len());
    let why = "they lie where they were, and belong to nothing now: remove them";
    (!left.is_empty()).then(|| Record::carried("stale", what, why))
}

fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The name of the model that a file is a part of: without the number of a shard, and what the
/// names of data files and indexes end with.
fn model_of(name: &str) -> String {
    let name = ["_data", ".data", ".index.json"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    match SHARD.as_ref() {
        Some(shard) => shard.replace(name, "").into_owned(),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_their_model_s_name() {
        for (part, model) in [
            ("s-00001-of-00006.onnx.data", "s.onnx"),
            ("model.onnx_data", "model.onnx"),
            ("model.safetensors.index.json", "model.safetensors"),
            ("model-00002-of-00003.safetensors", "model.safetensors"),
            ("model.safetensors", "model.safetensors"),
            ("model-1-of-2.safetensors", "model-1-of-2.safetensors"),
        ] {
            assert_eq!(model_of(part), model);
        }
    }
}
