//! What can be wrong with such a file.

use ir::{Class, Diagnose};

/// Why a file could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// Packed data is damaged.
    #[error("it does not unpack: {what}")]
    Packed {
        /// What the unpacker said.
        what: String,
    },
    /// Packed data grows beyond what is looked at.
    #[error("it unpacks to more than {limit} bytes, {times} times what it holds")]
    TooMuch {
        /// The cap.
        limit: u64,
        /// The cap as a multiple.
        times: u64,
    },
    /// A part of a file lies in another one.
    #[error("a part of it lies in another file, {file}, which is not read")]
    Elsewhere {
        /// The other file.
        file: String,
    },
    /// An HDF5 file breaks its format.
    #[error("HDF5: {what} at byte {at}")]
    Hdf5 {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: u64,
    },
    /// A TensorFlow file breaks its format.
    #[error("protobuf: {what} at byte {at}")]
    Proto {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: u64,
    },
}

impl Diagnose for ForeignError {
    fn class(&self) -> Class {
        match self {
            Self::TooMuch { .. } => Class::Limit,
            Self::Elsewhere { .. } => Class::Refused,
            _ => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        let help = match self {
            Self::TooMuch { .. } => "Unpack it yourself where it can do no harm, and scan that",
            Self::Elsewhere { .. } => "Weights do not lead out of their file: do not load it",
            _ => "Get the file again; what cannot be read here others may still load",
        };
        Some(help.to_owned())
    }
}
