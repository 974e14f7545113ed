//! The files of a repository beside its weights.

use crate::names::weights_in;
use crate::set::Set;
use ir::{Asset, Context, Result};
use std::path::Path;

/// Extensions of files that travel along: configurations, tokenizers, texts, a model's own code.
/// None is parsed, and none is ever run.
const EXTENSIONS: &[&str] = &[
    "json", "jsonl", "jinja", "txt", "md", "model", "spm", "vocab", "bpe", "tiktoken", "yaml",
    "yml", "toml", "py", "codes", "merges",
];
/// Beginnings of names without such an extension, in upper case. Mistral's tokenizers end in their
/// version: `tokenizer.model.v3`.
const NAMES: &[&str] = &[
    "LICENSE",
    "LICENCE",
    "NOTICE",
    "README",
    "COPYING",
    "USE_POLICY",
    "TOKENIZER.MODEL.V",
];
/// Folders inside a repository whose files travel too: named chat templates, and the modules of
/// sentence-transformers, whose folders begin with their number.
fn nested(folder: &str) -> bool {
    let module = folder.split_once('_').is_some_and(|(number, kind)| {
        let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        digits && kind.bytes().all(|b| b.is_ascii_alphanumeric())
    });
    module || folder == "additional_chat_templates"
}

/// Names of the files in such folders, as paths from the repository.
fn inner(set: &Set, folder: &str) -> Vec<String> {
    let listing = set.places.list(&set.folder.join(folder), LISTED);
    let names = listing.unwrap_or_default().names.into_iter();
    let mut names: Vec<String> = names.map(|(name, _)| format!("{folder}/{name}")).collect();
    names.sort();
    names.truncate(MAX);
    names
}

/// Files that travel along at most: each is kept open.
const MAX: usize = 256;
/// Names in such a folder; one with more holds something else.
const LISTED: u64 = 65_536;

/// The files that travel along with the model of a repository ([`crate::home_of`]).
pub fn side_files(home: &Path, cx: &Context) -> Result<Vec<Asset>> {
    let set = Set::new(home.to_owned(), cx)?;
    Ok(assets_of(&set, &mut Vec::new()))
}

/// The files that travel along, and remarks on those that do not.
pub(crate) fn assets_of(set: &Set, notes: &mut Vec<String>) -> Vec<Asset> {
    let mut assets = Vec::new();
    let mut left = Vec::new();
    let inside = set.entries.iter().filter(|name| nested(name));
    let inside: Vec<String> = inside.flat_map(|name| inner(set, name)).collect();
    for name in set.entries.iter().chain(&inside) {
        let path = set.folder.join(name);
        if set.owns(name) || name.starts_with('.') || !set.is_file(name) {
            continue;
        }
        // Weights that were not read are told of where the choice is made.
        if !weights_in([name]).is_empty() {
            continue;
        }
        if !travels(name) || assets.len() == MAX {
            left.push(name.as_str());
            continue;
        }
        match set.places.region(&path) {
            Ok(bytes) => assets.push(Asset {
                name: name.clone(),
                bytes,
            }),
            Err(_) => left.push(name.as_str()),
        }
    }
    if !left.is_empty() {
        let names = left.iter().take(8).copied().collect::<Vec<_>>().join(", ");
        notes.push(format!(
            "{} other files stay where they are: {names}",
            left.len()
        ));
    }
    assets
}

fn travels(name: &str) -> bool {
    let extension = name
        .rsplit_once('.')
        .map(|(_, ext)| ext.to_ascii_lowercase());
    let upper = name.to_ascii_uppercase();
    extension.is_some_and(|ext| EXTENSIONS.contains(&ext.as_str()))
        || NAMES.iter().any(|known| upper.starts_with(known))
}
