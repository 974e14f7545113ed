//! What can go wrong above the formats.

use ir::{Class, Diagnose};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FacadeError {
    /// No format of that name.
    #[error("{name:?} is no format; known are {known}")]
    NoSuchFormat {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The output's name does not tell its format.
    #[error("cannot tell the output's format from its name")]
    NoOutputFormat,
    /// A format that can only be read, or only be written.
    #[error("{format} cannot be {verb}")]
    OneWay {
        /// The format.
        format: &'static str,
        /// `read` or `written`.
        verb: &'static str,
    },
    /// A file in which `scan` finds danger.
    #[error("refused: loading it elsewhere would {findings}")]
    Dangerous {
        /// What was found, shortest first.
        findings: String,
    },
    /// A file with globals that `weights_only` does not allow.
    #[error("refused by --policy strict: unsupported globals {}", names.join(", "))]
    OutsideWeightsOnly {
        /// The globals.
        names: Vec<String>,
    },
    /// A loss, and `--strict`.
    #[error("--strict: {count} {}, the first: {first}", if *count == 1 { "loss" } else { "losses" })]
    Losses {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A runtime's file is asked for, and what it needs besides tensors is not known.
    #[error("{target} for a runtime needs an architecture, which this input does not tell")]
    NoArchitecture {
        /// The target.
        target: &'static str,
    },
    /// A `params.json` of a model that is not read from it.
    #[error("{what}")]
    Params {
        /// What is missing or not known.
        what: String,
    },
    /// Matrices of a graph that no node tells the module of.
    #[error("{count} matrices of the graph, the first {first:?}, have no name of a module")]
    UnnamedWeights {
        /// How many.
        count: usize,
        /// The first of them.
        first: String,
    },
    /// A noted graph that cannot be put over the tensors.
    #[error("the graph that the metadata notes does not fit: {why}")]
    GraphNote {
        /// What is wrong.
        why: String,
    },
    /// An edit of the metadata that cannot be read.
    #[error("{text:?}: {why}")]
    BadEdit {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Only GGUF files are changed where they stand.
    #[error("this is {format}, and only the keys of a GGUF file can be changed in place")]
    NotInPlace {
        /// What it is.
        format: &'static str,
    },
    /// An input to quantize that is no GGUF, without leave to take its tensors only.
    #[error("this is {format}, and a runtime's GGUF needs an architecture that it does not tell")]
    NotGguf {
        /// What it is.
        format: &'static str,
    },
    /// Shards and their index do not say the same, where the whole model is needed.
    #[error("the index does not name {what}, which is in a shard")]
    NotInIndex {
        /// The tensor, or how many and the first of them.
        what: String,
    },
    /// Weights of an adapter without what PEFT says of them.
    #[error("these are the weights of an adapter, and there is no adapter_config.json beside them")]
    NoAdapterConfig,
    /// An adapter whose base model is not known.
    #[error("the adapter's base model {}is not known here", name(named.as_deref()))]
    NoBase {
        /// What the adapter or the user calls it.
        named: Option<String>,
    },
    /// A model without tensors.
    #[error("there are no tensors in it")]
    NoTensors,
    /// A list of JSON lines where a model is wanted.
    #[error("these are JSON lines, and neither a model nor a migration plan")]
    JsonLines,
    /// A file that is no account of a conversion.
    #[error("this is no account of a conversion: {why}")]
    NotAnAccount {
        /// What is wrong with it.
        why: String,
    },
}

fn name(named: Option<&str>) -> String {
    named.map_or_else(String::new, |name| format!("{name:?} "))
}

impl Diagnose for FacadeError {
    fn class(&self) -> Class {
        match self {
            Self::NoSuchFormat { .. } | Self::NoOutputFormat | Self::BadEdit { .. } => Class::Usage,
            Self::OneWay { .. }
            | Self::NoTensors
            | Self::JsonLines
            | Self::NotGguf { .. }
            | Self::NotInPlace { .. }
            | Self::NoBase { .. }
            | Self::NoArchitecture { .. }
            | Self::UnnamedWeights { .. }
            | Self::Params { .. } => Class::Unsupported,
            Self::Dangerous { .. } | Self::OutsideWeightsOnly { .. } => Class::Refused,
            Self::NotInIndex { .. }
            | Self::NoAdapterConfig
            | Self::NotAnAccount { .. }
            | Self::GraphNote { .. } => Class::Malformed,
            Self::Losses { .. } => Class::Lossy,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::NoOutputFormat => "Say it with --to, or end the name in .safetensors or .pt",
            Self::Dangerous { .. } => {
                "See all findings with `weightbridge scan`; --policy extract takes the tensors all \
                 the same, and executes nothing"
            }
            Self::OutsideWeightsOnly { .. } => {
                "Admit a global you trust with --allow-global MODULE.NAME, or use --policy default, \
                 which reads them as inert data"
            }
            Self::NotInIndex { .. } => {
                "The download may be mixed of two versions: fetch it again, or take the index away to \
                 use all shards; --as container carries what is there"
            }
            Self::Losses { .. } => "See all with --dry-run, or leave out --strict",
            Self::NoArchitecture { .. } => {
                "Give the model's folder, with its config.json and tokenizer; --as container carries \
                 the tensors as they are"
            }
            Self::Params { .. } => {
                "Mistral's own layout of dense models is read (docs/architectures.md); for others \
                 give the folder in the hub's layout, with a config.json"
            }
            Self::NotInPlace { .. } => "Write a new file: give an OUTPUT instead of --in-place",
            Self::NotGguf { .. } => {
                "--as container quantizes its tensors under the names they have; for a model that \
                 a runtime loads, make a GGUF of it first"
            }
            Self::NoAdapterConfig => {
                "Give the adapter's folder, with its adapter_config.json; --as container carries the \
                 tensors as they are"
            }
            Self::NoBase { .. } => {
                "Name the base model's folder with --base; only its config.json is needed"
            }
            Self::JsonLines => {
                "Pages are about models, and about plans as `weightbridge migrate plan` writes them"
            }
            Self::NotAnAccount { .. } => {
                "Give what `weightbridge convert --json` or `quantize --json` printed"
            }
            Self::NoTensors => "See what is in it with `weightbridge inspect`",
            Self::UnnamedWeights { .. } => {
                "A GGUF for a runtime needs every weight under its name: convert the repository the \
                 graph was exported from, or carry the tensors with --as container"
            }
            Self::GraphNote { .. } => "--as container carries the tensors without it",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
