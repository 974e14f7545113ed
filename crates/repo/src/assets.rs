//! The files of a repository beside its weights.

use crate::names::weights_in;
use crate::set::Set;
use ir::{Asset, Region};

/// Extensions of files that travel along: configurations, tokenizers, texts, a model's own code.
/// None is parsed, and none is ever run.
const EXTENSIONS: &[&str] = &[
    "json", "jsonl", "jinja", "txt", "md", "model", "spm", "vocab", "bpe", "tiktoken", "yaml",
    "yml", "toml", "py", "codes", "merges",
];
/// Beginnings of names without such an extension, in upper case.
const NAMES: &[&str] = &[
    "LICENSE",
    "LICENCE",
    "NOTICE",
    "README",
    "COPYING",
    "USE_POLICY",
];
/// Files that travel along at most: each is kept open.
const MAX: usize = 256;

/// The files that travel along, and remarks on those that do not.
pub(crate) fn assets_of(set: &Set, notes: &mut Vec<String>) -> Vec<Asset> {
    let mut assets = Vec::new();
    let mut left = Vec::new();
    for name in &set.entries {
        let path = set.folder.join(name);
        if set.owns(name) || name.starts_with('.') || !path.is_file() {
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
        match Region::open(&path) {
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
