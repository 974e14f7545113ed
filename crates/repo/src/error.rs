//! What can be wrong with a repository or a sharded set.

use ir::{Class, Diagnose};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The index is not the JSON it has to be.
    #[error("the index is not what a sharded set's index is: {why}")]
    Index {
        /// What the JSON parser says.
        why: String,
    },
    /// The index names a file that it must not name.
    #[error("the index names the file {name:?}, {why}")]
    UnsafeName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Shards that are not there.
    #[error("{missing} of the {count} files of the set are not there: {}", names.join(", "))]
    MissingShards {
        /// How many are missing.
        missing: usize,
        /// How many there should be.
        count: usize,
        /// The first of them.
        names: Vec<String>,
        /// A file that looks like an unfinished download of one.
        partial: Option<String>,
    },
    /// A file that stands where weights should.
    #[error("this is {what}")]
    Placeholder {
        /// What it is.
        what: &'static str,
        /// What to do with it.
        help: &'static str,
    },
    /// A tensor that is not where the index says.
    #[error("the index says that it is in {file}, {found}")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The file the index names.
        file: String,
        /// What was seen instead.
        found: String,
    },
    /// A tensor that two shards hold.
    #[error("it is in {first} and again in {second}")]
    DuplicateTensor {
        /// The tensor.
        name: String,
        /// The shard that has it first.
        first: String,
        /// The other shard.
        second: String,
    },
    /// A folder without weights.
    #[error("no model weights are in this folder")]
    NoWeights,
    /// A folder of folders with models.
    #[error("no model weights are in this folder itself, but in {}", parts.join(", "))]
    OnlyParts {
        /// The folders in it that hold weights.
        parts: Vec<String>,
        /// Whether diffusers made it: one pipeline of several models.
        pipeline: bool,
    },
    /// A folder with weights of several models.
    #[error("the folder holds several models: {}", names.join(", "))]
    SeveralModels {
        /// Their main files.
        names: Vec<String>,
    },
    /// Parts cut for several processes.
    #[error("{name} is one of {count} parts cut across tensors for as many processes")]
    TensorParallel {
        /// The first part.
        name: String,
        /// How many there are.
        count: usize,
    },
    /// No one can open the shards.
    #[error("a sharded set inside a sharded set")]
    Nested,
}

impl Diagnose for RepoError {
    fn class(&self) -> Class {
        match self {
            Self::NoWeights
            | Self::OnlyParts { .. }
            | Self::SeveralModels { .. }
            | Self::TensorParallel { .. } => Class::Unsupported,
            _ => Class::Malformed,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::MissingTensor { name, .. } | Self::DuplicateTensor { name, .. } => {
                Some(format!("tensor {name:?}"))
            }
            _ => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::MissingShards {
                partial: Some(partial),
                ..
            } => {
                return Some(format!(
                    "{partial} is there: a download did not finish, resume it; convert --partial --as container carries what is there, the rest a loss"
                ));
            }
            Self::MissingShards { .. } => {
                "Download them into the same folder; convert --partial --as container carries what is there, the rest a loss"
            }
            Self::Placeholder { help, .. } => help,
            Self::Index { .. } => "Download the index again",
            Self::UnsafeName { .. } => "No honest index does that: do not trust this repository",
            Self::MissingTensor { .. } => {
                "Index and shards may be of two versions: download all of them again, or take the \
                 index away to use what the shards hold; convert --partial takes the tensors where they are, and goes \
                 on without those that are nowhere (into a GGUF for a runtime with --as container)"
            }
            Self::DuplicateTensor { .. } => {
                "Index and shards may be of two versions: download all of them again"
            }
            Self::NoWeights => {
                "Looked for model.safetensors, pytorch_model.bin, their indexes, and others"
            }
            Self::OnlyParts { pipeline: true, .. } => {
                "It is a pipeline of diffusers: name one part as the input; migrate takes all of them"
            }
            Self::OnlyParts { .. } => {
                "Name one of these folders as the input; migrate takes all of them"
            }
            Self::SeveralModels { .. } => "Name one of these files as the input",
            Self::TensorParallel { .. } => {
                "Merge them with the tools of their model, or use its Hugging Face version"
            }
            Self::Nested => "Name the inner set as the input",
        };
        Some(text.to_owned())
    }
}
