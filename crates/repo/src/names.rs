//! Which files of a folder are weights, which of them are taken, and what their names say.

use crate::RepoError;
use ir::shard::ShardName;
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// What an index file's name ends with.
pub(crate) const INDEX_SUFFIX: &str = ".index.json";

/// Extensions of weights that this crate merges, the preferred first. GGUF splits itself its own
/// way.
const SHARDED: &[&str] = &["safetensors", "bin", "pt", "pth", "ckpt"];
/// Extensions of weights that come as one file.
const WHOLE: &[&str] = &["gguf", "onnx"];

/// Main files in the order in which `transformers`, `diffusers` and `peft` look for them, and those
/// of the original releases.
const KNOWN: &[&str] = &[
    "model.safetensors",
    "diffusion_pytorch_model.safetensors",
    "adapter_model.safetensors",
    "consolidated.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.bin",
    "adapter_model.bin",
    "consolidated.pth",
    FIRST_PART,
];

/// The first, often the only, file of Meta's releases.
const FIRST_PART: &str = "consolidated.00.pth";

/// Files with an extension of weights that hold something else.
const OTHERS: &[&str] = &[
    "training_args.bin",
    "optimizer.bin",
    "optimizer.pt",
    "scheduler.bin",
    "scheduler.pt",
    "scaler.pt",
    "random_states",
    "rng_state",
];

/// Whether a path is named as a shard of a set that this crate merges, and is not the only one:
/// `model-00002-of-00005.safetensors`.
pub fn belongs_to_set(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(ShardName::parse)
        .is_some_and(|shard| SHARDED.contains(&shard.extension.as_str()))
}

/// The weights of one model in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// The file that holds all of it.
    pub whole: Option<String>,
    /// The index of its shards.
    pub index: Option<String>,
    /// A shard, any.
    pub shard: Option<String>,
}

impl Weights {
    /// The file to begin with, in the order of `transformers`.
    pub fn entry(&self) -> Option<&String> {
        self.whole
            .as_ref()
            .or(self.index.as_ref())
            .or(self.shard.as_ref())
    }
}

/// The weights in a folder, told by names alone, by the name that their whole file has or would
/// have. What a trainer keeps beside them is none.
pub fn weights_in<'a>(names: impl IntoIterator<Item = &'a String>) -> BTreeMap<String, Weights> {
    let mut found: BTreeMap<String, Weights> = BTreeMap::new();
    for name in names {
        if OTHERS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        if let Some(main) = name.strip_suffix(INDEX_SUFFIX) {
            if has_extension(main, SHARDED) {
                found.entry(main.to_owned()).or_default().index = Some(name.clone());
            }
        } else if let Some(shard) = ShardName::parse(name) {
            if SHARDED.contains(&shard.extension.as_str()) {
                let main = format!("{}.{}", shard.stem, shard.extension);
                found
                    .entry(main)
                    .or_default()
                    .shard
                    .get_or_insert_with(|| name.clone());
            }
        } else if has_extension(name, SHARDED) || has_extension(name, WHOLE) {
            found.entry(name.clone()).or_default().whole = Some(name.clone());
        }
    }
    found
}

fn has_extension(name: &str, extensions: &[&str]) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, ext)| !stem.is_empty() && extensions.contains(&ext))
}

/// The weights of Mistral's own layout.
const OWN: &str = "consolidated.safetensors";

/// Whether a folder is in the layout of the model's maker alone: a `config.json` makes it the hub's.
pub(crate) fn is_own_layout(names: &[String]) -> bool {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    has("params.json") && !has("config.json")
}

/// The model that a folder is about, and the others in it. `own` prefers the weights that
/// `params.json` is about.
pub(crate) fn choose(
    mut found: BTreeMap<String, Weights>,
    own: bool,
) -> Result<(Weights, Vec<String>), RepoError> {
    let order = own.then_some(&OWN).into_iter().chain(KNOWN);
    let known = { order }.find(|name| found.contains_key(**name));
    let count = found.keys().filter(|name| is_part(name)).count();
    if count > 1 && known.is_none_or(|name| is_part(name)) {
        let name = FIRST_PART.to_owned();
        return Err(RepoError::TensorParallel { name, count });
    }
    let main = match known {
        Some(name) => (*name).to_owned(),
        None => only_one(&found)?,
    };
    let chosen = found.remove(&main).ok_or(RepoError::NoWeights)?;
    let mut others: Vec<String> = Vec::new();
    if chosen.whole.is_some() {
        others.extend(chosen.index.clone());
        others.extend(chosen.shard.clone());
    }
    others.extend(
        found
            .values()
            .filter_map(|weights| weights.entry().cloned()),
    );
    Ok((chosen, others))
}

/// The only model of the preferred kind that there is.
fn only_one(found: &BTreeMap<String, Weights>) -> Result<String, RepoError> {
    for extension in SHARDED.iter().chain(WHOLE) {
        let of_kind = |name: &&String| has_extension(name, &[extension]);
        let names: Vec<_> = found.keys().filter(of_kind).take(8).cloned().collect();
        match names.as_slice() {
            [] => {}
            [one] => return Ok(one.clone()),
            _ => return Err(RepoError::SeveralModels { names }),
        }
    }
    Err(RepoError::NoWeights)
}

/// Meta's `consolidated.00.pth`, `consolidated.01.pth`, ...: each holds a part of every tensor.
fn is_part(name: &str) -> bool {
    let number = name
        .strip_prefix("consolidated.")
        .and_then(|rest| rest.strip_suffix(".pth"));
    number.is_some_and(|digits| digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()))
}

/// Whether a name from an index may be opened: a plain relative path below the index's folder.
pub(crate) fn check_name(name: &str) -> Result<(), RepoError> {
    let bad = |why| {
        let name = name.chars().take(200).collect();
        Err(RepoError::UnsafeName { name, why })
    };
    if name.is_empty() || name.len() > 1024 {
        return bad("which is empty or too long");
    }
    if name.chars().any(char::is_control) {
        return bad("which holds control characters");
    }
    if name.contains(['\\', ':']) || name.starts_with('/') {
        return bad("which is not a plain relative path");
    }
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    let dotted = name.split('/').any(|part| matches!(part, "" | "." | ".."));
    if dotted || !Path::new(name).components().all(plain) {
        return bad("which leaves the folder or is not plain");
    }
    if has_extension(&name.to_ascii_lowercase(), &["json"]) {
        return bad("which is no weights file");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str]) -> Result<(Option<String>, Vec<String>), RepoError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let own = is_own_layout(&names);
        let (weights, others) = choose(weights_in(&names), own)?;
        Ok((weights.entry().cloned(), others))
    }

    #[test]
    fn safetensors_go_before_pickles() {
        let (entry, others) = chosen(&[
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "pytorch_model.bin",
            "training_args.bin",
        ])
        .unwrap();
        assert_eq!(entry.unwrap(), "model.safetensors.index.json");
        assert_eq!(others, ["pytorch_model.bin"]);
        let (entry, _) = chosen(&["pytorch_model-00001-of-00002.bin", "x.gguf"]).unwrap();
        assert_eq!(entry.unwrap(), "pytorch_model-00001-of-00002.bin");
        let (entry, _) = chosen(&["one.safetensors", "two.ckpt", "three.ckpt"]).unwrap();
        assert_eq!(entry.unwrap(), "one.safetensors");
    }

    #[test]
    fn params_json_goes_with_its_own_weights() {
        let both = [
            "params.json",
            "consolidated-00001-of-00002.safetensors",
            "consolidated.safetensors.index.json",
            "model.safetensors",
            "config.json",
        ];
        let (entry, _) = chosen(&both).unwrap();
        assert_eq!(entry.unwrap(), "model.safetensors");
        let (entry, others) = chosen(&both[..4]).unwrap();
        assert_eq!(entry.unwrap(), "consolidated.safetensors.index.json");
        assert_eq!(others, ["model.safetensors"]);
    }

    #[test]
    fn unclear_folders_are_not_guessed() {
        let error = chosen(&["one.ckpt", "two.ckpt"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the folder holds several models: one.ckpt, two.ckpt"
        );
        assert!(matches!(
            chosen(&["config.json"]),
            Err(RepoError::NoWeights)
        ));
        assert!(matches!(
            chosen(&["optimizer.pt"]),
            Err(RepoError::NoWeights)
        ));
        let parts = chosen(&["consolidated.00.pth", "consolidated.01.pth"]);
        assert!(matches!(
            parts,
            Err(RepoError::TensorParallel { count: 2, .. })
        ));
        assert!(chosen(&["consolidated.00.pth", "params.json"]).is_ok());
    }

    #[test]
    fn names_stay_in_the_folder() {
        for good in ["model-00001-of-00002.safetensors", "sub/a.bin", "..a.bin"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "../a.bin",
            "/a.bin",
            "a/../b.bin",
            "a\0.bin",
            "C:\\a.bin",
            "a//b.bin",
            "./a.bin",
            "model.safetensors.index.json",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shards_are_known_by_name() {
        assert!(belongs_to_set(Path::new(
            "a/pytorch_model-00001-of-00002.bin"
        )));
        assert!(!belongs_to_set(Path::new("a/x-00001-of-00002.gguf")));
        assert!(!belongs_to_set(Path::new("a/model.safetensors")));
    }
}
