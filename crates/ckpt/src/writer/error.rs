//! What a checkpoint cannot hold.

use ir::{Class, Diagnose};

/// An error of the checkpoint writer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A tensor that PyTorch has no form for.
    #[error("{why}")]
    Tensor {
        /// The tensor.
        name: String,
        /// Why not.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// An object that a pickle written here cannot hold.
    #[error("{why}")]
    Object {
        /// Its position in the tree's list.
        index: usize,
        /// Why not.
        why: String,
    },
    /// A tensor that the object tree does not lead to.
    #[error("the object tree does not hold it")]
    Unreached {
        /// The tensor.
        name: String,
    },
    /// A tree with shards.
    #[error("an object tree cannot be spread over {count} shards")]
    ShardedTree {
        /// Shards that the tensors would take.
        count: usize,
    },
    /// A number that its field in the archive cannot hold.
    #[error("{what}: {found} does not fit its field")]
    TooLarge {
        /// What it counts.
        what: &'static str,
        /// The number.
        found: u64,
    },
    /// What was written is not what was planned: a bug here.
    #[error("{found} bytes were written, {planned} were planned")]
    OffPlan {
        /// Bytes planned.
        planned: u64,
        /// Bytes there.
        found: u64,
    },
}

impl Diagnose for WriteError {
    fn class(&self) -> Class {
        match self {
            Self::OffPlan { .. } | Self::Unreached { .. } => Class::Malformed,
            _ => Class::Unsupported,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::Tensor { name, .. } | Self::Unreached { name } => {
                Some(format!("tensor {name:?}"))
            }
            Self::Object { index, .. } => Some(format!("object {index}")),
            _ => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Tensor { help, .. } => help,
            Self::Object { .. } | Self::Unreached { .. } => {
                "Write the tensors alone, as a flat state dict"
            }
            Self::ShardedTree { .. } => {
                "Leave out --shard-size, or write the tensors alone, as a flat state dict"
            }
            Self::TooLarge { .. } => "Spread the model over shards with --shard-size",
            Self::OffPlan { .. } => "This is a bug of weightbridge: please report it",
        };
        Some(text.to_owned())
    }
}
