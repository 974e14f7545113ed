//! What can be wrong with a checkpoint.

use ir::{Class, Diagnose};

/// What is wrong with a checkpoint, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CkptError {
    /// A pickle does not follow the format, or no unpickler could run it.
    #[error("{what}")]
    Pickle {
        /// Which pickle: an archive entry, a slot of a stream.
        slot: String,
        /// Offset of the opcode from the start of that pickle.
        offset: u64,
        /// The opcode's name.
        opcode: &'static str,
        /// What is wrong.
        what: String,
    },
    /// The container does not follow its format.
    #[error("{what}")]
    Container {
        /// The entry, record or slot, or nothing for the whole file.
        entry: String,
        /// What is wrong, with the values.
        what: String,
    },
    /// The container can be read, and no way of loading it that torch has takes it.
    #[error("{what}")]
    NoLoader {
        /// The entry.
        entry: String,
        /// What torch refuses, with the values.
        what: String,
    },
    /// The file ends too early.
    #[error("{what}")]
    CutShort {
        /// The entry, record or slot.
        entry: String,
        /// What is missing.
        what: String,
    },
    /// A tensor's record contradicts itself or its storage.
    #[error("{what}")]
    Tensor {
        /// What is wrong, with the values.
        what: String,
    },
    /// The file is sound, this program cannot read it.
    #[error("{what}")]
    Unsupported {
        /// The entry, record or tensor.
        place: String,
        /// What is not supported.
        what: String,
        /// What can be done.
        help: &'static str,
    },
    /// `--key` names nothing.
    #[error("the checkpoint has no subtree {key:?}; it has {available}")]
    NoSuchKey {
        /// What was asked for.
        key: String,
        /// What there is.
        available: String,
    },
    /// It is no checkpoint at all.
    #[error("{what}")]
    NotACheckpoint {
        /// What was seen instead.
        what: String,
    },
}

impl CkptError {
    pub(crate) fn container(entry: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Container {
            entry: entry.into(),
            what: what.into(),
        }
    }

    pub(crate) fn cut(entry: impl Into<String>, what: impl Into<String>) -> Self {
        Self::CutShort {
            entry: entry.into(),
            what: what.into(),
        }
    }

    pub(crate) fn tensor(what: impl Into<String>) -> Self {
        Self::Tensor { what: what.into() }
    }
}

impl Diagnose for CkptError {
    fn class(&self) -> Class {
        match self {
            Self::Unsupported { .. } | Self::NotACheckpoint { .. } => Class::Unsupported,
            Self::NoSuchKey { .. } => Class::Usage,
            _ => Class::Malformed,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::Pickle {
                slot,
                offset,
                opcode,
                ..
            } => Some(format!("{slot}, byte {offset} ({opcode})")),
            Self::Container { entry, .. }
            | Self::CutShort { entry, .. }
            | Self::NoLoader { entry, .. } => (!entry.is_empty()).then(|| entry.clone()),
            Self::Unsupported { place, .. } => (!place.is_empty()).then(|| place.clone()),
            Self::Tensor { .. } | Self::NoSuchKey { .. } | Self::NotACheckpoint { .. } => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::CutShort { .. } => "The download may be cut short; fetch the file again",
            Self::Pickle { .. } | Self::Container { .. } | Self::Tensor { .. } => {
                "The file is damaged or was made to mislead; `weightbridge scan` shows what is in it"
            }
            Self::NoLoader { .. } => {
                "torch.load refuses the file: save it again with torch.save, or pack it again as one \
                 folder that holds the file version"
            }
            Self::Unsupported { help, .. } => help,
            Self::NoSuchKey { .. } => "Give one of these, or --all for every tensor",
            Self::NotACheckpoint { .. } => "If you know what it is, say so with --from",
        };
        (!text.is_empty()).then(|| text.to_owned())
    }
}
