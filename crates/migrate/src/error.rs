//! What can go wrong between models.

use ir::{Class, Diagnose};

/// Why a model, or a whole plan, was not migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// A place that this version cannot reach.
    #[error(
        "{scheme}:// places are not supported; there are folders, s3, gs, az, and https to read"
    )]
    Scheme {
        /// The part before `://`.
        scheme: String,
    },
    /// A storage that is not written to.
    #[error("files behind http are for reading: the result needs another place")]
    ReadOnly,
    /// The root is no folder.
    #[error("not a folder")]
    NotAFolder,
    /// The destination lies in the tree, or the tree in the destination.
    #[error("the destination and the tree lie in each other")]
    Nested,
    /// A pattern of `--include` or `--exclude`.
    #[error("{pattern:?} is no pattern: {why}")]
    Glob {
        /// What was given.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A target that plans do not know.
    #[error("{to:?} is no target of a migration; there are safetensors and gguf")]
    Target {
        /// What was given.
        to: String,
    },
    /// A line of a plan.
    #[error("{what}")]
    BadLine {
        /// What is wrong with it.
        what: String,
    },
    /// A file that was given as a plan.
    #[error("this is no plan of a migration")]
    NotAPlan,
    /// An input that is not as it was when the plan was made.
    #[error("{path} changed since the plan was made: {what}")]
    Changed {
        /// The input.
        path: String,
        /// Planned and found.
        what: String,
    },
    /// An input that is gone.
    #[error("{path} is gone")]
    Vanished {
        /// The input.
        path: String,
    },
    /// An output that somebody else put there.
    #[error("{path} is there already, and not from this plan")]
    Taken {
        /// The output.
        path: String,
    },
    /// The line of a model that is done was edited afterwards.
    #[error("the line was edited after its model was done")]
    Edited,
    /// What was read back is not what was written.
    #[error("read back, the output differs from its source: {what}")]
    Differs {
        /// The tensors.
        what: String,
    },
    /// Too little room for what is planned.
    #[error("{needed} bytes are needed, {free} are free")]
    NoRoom {
        /// What the plan writes at most.
        needed: u64,
        /// What the file system has.
        free: u64,
    },
    /// A journal that cannot be read.
    #[error("line {line} of the journal is damaged")]
    Journal {
        /// Counted from 1.
        line: usize,
    },
    /// A journal that cannot be written: nothing is named that it does not know.
    #[error("{what}")]
    JournalLost {
        /// Why.
        what: String,
    },
    /// A lock that cannot be had.
    #[error("the lock was taken away again and again")]
    LockLost,
    /// `--delete-originals` where there is another copy.
    #[error("--delete-originals is for plans made with --in-place")]
    NotInPlace,
}

impl Diagnose for MigrateError {
    fn class(&self) -> Class {
        match self {
            Self::Scheme { .. } | Self::Target { .. } | Self::Glob { .. } | Self::NotInPlace => {
                Class::Usage
            }
            Self::ReadOnly | Self::NotAFolder | Self::Nested | Self::BadLine { .. } => Class::Usage,
            Self::Changed { .. } | Self::Taken { .. } | Self::Edited | Self::Journal { .. } => {
                Class::Refused
            }
            Self::NotAPlan | Self::Differs { .. } => Class::Malformed,
            Self::Vanished { .. }
            | Self::NoRoom { .. }
            | Self::LockLost
            | Self::JournalLost { .. } => Class::Io,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Scheme { .. } => "Mount it as a folder, or copy it to a disk",
            Self::ReadOnly => "Give --dest a folder, or a prefix in s3, gs or az",
            Self::Nested => "Give --dest a folder outside the tree, or use --in-place",
            Self::BadLine { .. } => {
                "Mend the line (of two that write one file, one needs another \"output\" and \"sums\"), or \
                 take it out; docs/migration.md has every field"
            }
            Self::NotAPlan => "Give the file that `weightbridge migrate plan ROOT … -o FILE` wrote",
            Self::Changed { .. } => "Make the plan again for it, and put the new line here",
            Self::Vanished { .. } => "Bring it back, or take the line out of the plan",
            Self::Taken { .. } => {
                "Move it away, give the line another \"output\", or set its \"action\" to \"leave\""
            }
            Self::Edited => "Move its outputs away to have it made again, or undo the edit",
            Self::Differs { .. } => {
                "Nothing was kept. Check disk and memory, and run the plan again; if it stays, \
                 report it with the output of `weightbridge diff`"
            }
            Self::NoRoom { .. } => {
                "Free some space, or make a smaller plan with --include; --in-place with \
                 --delete-originals needs room for a few models only"
            }
            Self::Journal { .. } => "Take the line out; a model it told of is looked at again",
            Self::JournalLost { .. } => "Free some space where the plan is, and run it again",
            Self::LockLost => "Run it again",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
