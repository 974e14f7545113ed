//! What can be wrong with a safetensors file.

use ir::{Class, DType, Diagnose, Shape};

const CUT_SHORT: &str = "The download may be cut short: compare its size with the original's and fetch it \
     again";
const DAMAGED: &str = "The header is damaged or was written by hand: get the file again, or \
                       write it again with the safetensors library";

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StError {
    /// The file is something else.
    #[error("this is {what}, not safetensors")]
    SomethingElse {
        /// What it is.
        what: &'static str,
        /// What to do with it.
        help: &'static str,
    },
    /// Not even the length of the header is there.
    #[error("the file has {len} bytes, the length of its header alone takes 8")]
    TooShort {
        /// Length of the file.
        len: u64,
    },
    /// The header is said to end after the file.
    #[error("the header takes bytes 8 to {until}, the file has {len} bytes", until = n.saturating_add(8))]
    HeaderCut {
        /// Length of the header.
        n: u64,
        /// Length of the file.
        len: u64,
    },
    /// The length of the header is over the format's limit.
    #[error("the first 8 bytes say that the header takes {n} bytes, at most {limit} are allowed")]
    HeaderTooLong {
        /// Length of the header.
        n: u64,
        /// The limit.
        limit: u64,
    },
    /// The header is not text.
    #[error("the header is not UTF-8")]
    HeaderText {
        /// Offset in the file of the first byte that is not.
        at: u64,
    },
    /// The header is not the JSON it has to be.
    #[error("the header is not what the format asks for: {why}")]
    HeaderJson {
        /// What the JSON parser says.
        why: String,
        /// Offset in the file, where it is known.
        at: Option<u64>,
    },
    /// A key other than a tensor's name is used twice.
    #[error("key {key:?} is there twice")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// An element type that the format does not have.
    #[error("its dtype is {found:?}, which this version of the format does not have")]
    UnknownDtype {
        /// The tensor.
        name: String,
        /// The type.
        found: String,
    },
    /// The size of a tensor does not work out.
    #[error("type {dtype} and shape {shape} have no size: {why}")]
    NoSize {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// What does not work out.
        why: &'static str,
    },
    /// Type and shape take another number of bytes than the offsets.
    #[error("type {dtype} and shape {shape} take {expected} bytes, its offsets {begin} to {end} hold {found}", found = end.saturating_sub(*begin))]
    SizeMismatch {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// Bytes by type and shape.
        expected: u64,
        /// First byte by the offsets.
        begin: u64,
        /// One past the last byte by the offsets.
        end: u64,
    },
    /// A tensor ends before it begins.
    #[error("its offsets run backwards, from {begin} to {end}")]
    Backwards {
        /// The tensor.
        name: String,
        /// First byte.
        begin: u64,
        /// One past the last.
        end: u64,
    },
    /// A tensor begins inside the one before.
    #[error("it begins at {begin}, inside tensor {before:?}, which ends at {end}")]
    Overlap {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// The tensor before it.
        before: String,
        /// Where that ends.
        end: u64,
    },
    /// Bytes that no tensor owns lie before a tensor.
    #[error(
        "it begins at {begin} of the buffer, the bytes from {end} to there belong to no tensor"
    )]
    Hole {
        /// The tensor.
        name: String,
        /// Where it begins.
        begin: u64,
        /// Where the tensor before it ends.
        end: u64,
    },
    /// The file is shorter than its header says.
    #[error("the last tensor ends at byte {expected} of the file, the file has {found}")]
    CutShort {
        /// Length by the header.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// The file is longer than its header says.
    #[error("the last tensor ends at byte {expected} of the file, {extra} more bytes follow", extra = found.saturating_sub(*expected))]
    TrailingBytes {
        /// Length by the header.
        expected: u64,
        /// Length of the file.
        found: u64,
    },
    /// The reference library does not accept the header.
    #[error("the safetensors library refuses the header: {why}")]
    Refused {
        /// Its words.
        why: String,
    },
    /// A tensor cannot be written.
    #[error("{why}")]
    CannotWrite {
        /// The tensor.
        name: String,
        /// Why not.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// The header to be written is too long.
    #[error("the header would take {n} bytes, the format allows {limit}")]
    HeaderTooLongToWrite {
        /// Its length.
        n: u64,
        /// The limit.
        limit: u64,
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

impl Diagnose for StError {
    fn class(&self) -> Class {
        match self {
            Self::SomethingElse { .. } | Self::UnknownDtype { .. } | Self::CannotWrite { .. } => {
                Class::Unsupported
            }
            Self::HeaderTooLongToWrite { .. } => Class::Limit,
            _ => Class::Malformed,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::HeaderText { at } | Self::HeaderJson { at: Some(at), .. } => {
                Some(format!("byte {at}"))
            }
            Self::TooShort { .. } | Self::HeaderTooLong { .. } => Some("byte 0".to_owned()),
            Self::UnknownDtype { name, .. }
            | Self::NoSize { name, .. }
            | Self::SizeMismatch { name, .. }
            | Self::Backwards { name, .. }
            | Self::Overlap { name, .. }
            | Self::Hole { name, .. }
            | Self::CannotWrite { name, .. } => Some(format!("tensor {name:?}")),
            _ => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::SomethingElse { help, .. } | Self::CannotWrite { help, .. } => help,
            Self::TooShort { .. } | Self::HeaderCut { .. } | Self::CutShort { .. } => CUT_SHORT,
            Self::HeaderTooLong { .. } => {
                "It is probably another kind of file; the format is told from the content, so \
                 its name does not matter"
            }
            Self::UnknownDtype { .. } => "A newer weightbridge may know it",
            Self::HeaderTooLongToWrite { .. } => {
                "Leave out long metadata with --unset, or names with --drop"
            }
            Self::OffPlan { .. } => "This is a bug of weightbridge: please report it",
            Self::TrailingBytes { .. } => {
                "Two downloads may be joined, or something is hidden there: get the file again"
            }
            _ => DAMAGED,
        };
        Some(text.to_owned())
    }
}
