//! What can be wrong with an ONNX file.

use crate::wire::MAX_DEPTH;
use ir::{Class, DType, Diagnose, Shape};
use std::path::PathBuf;

const DAMAGED: &str = "The file is damaged or was made by hand: get it again, or export it again";
const CUT_SHORT: &str = "The download may be cut short: compare its size with the original's";

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The file is something else.
    #[error("this is {what}, not an ONNX model")]
    SomethingElse {
        /// What it is.
        what: &'static str,
        /// What to do with it.
        help: &'static str,
    },
    /// The protobuf encoding does not hold.
    #[error("byte {at}: {why}")]
    Encoding {
        /// Offset in the file.
        at: u64,
        /// What is wrong, with the values.
        why: String,
    },
    /// A message ends after the one it lies in, or after the file.
    #[error("byte {at}: a field of {len} bytes lies in a message that ends at byte {end}")]
    LeavesMessage {
        /// Offset in the file of the field's content.
        at: u64,
        /// Its length.
        len: u64,
        /// Where the message ends.
        end: u64,
    },
    /// A message without what it needs.
    #[error("{what} is missing")]
    Missing {
        /// What is.
        what: &'static str,
    },
    /// A thing that contradicts itself.
    #[error("{what}")]
    Contradiction {
        /// How.
        what: String,
    },
    /// Graphs in graphs, deeper than any loader follows.
    #[error("graphs or types are nested more than {limit} deep")]
    TooDeep {
        /// The limit.
        limit: u64,
    },
    /// A negative dimension.
    #[error("dimension {axis} is {found}")]
    NegativeDim {
        /// Which.
        axis: usize,
        /// Its value.
        found: i64,
    },
    /// Type and shape have no size.
    #[error("type {dtype} and shape {shape} take more bytes than 64 bits count")]
    NoSize {
        /// The type.
        dtype: DType,
        /// The shape.
        shape: Shape,
    },
    /// Data of another length than type and shape ask for.
    #[error("type {dtype} and shape {shape} take {expected} {unit}, {field} holds {found}")]
    SizeMismatch {
        /// The type.
        dtype: DType,
        /// The shape.
        shape: Shape,
        /// How many by type and shape.
        expected: u64,
        /// Of what: `bytes`.
        unit: &'static str,
        /// Where they are.
        field: &'static str,
        /// How many are there.
        found: u64,
    },
    /// A number that the type does not have.
    #[error("element {at} in {field} is {found}, {dtype} goes from {least} to {most}")]
    OutOfRange {
        /// The type.
        dtype: DType,
        /// Where it is.
        field: &'static str,
        /// Which number there.
        at: u64,
        /// Its value.
        found: i64,
        /// The least that the type has.
        least: i64,
        /// The most.
        most: i64,
    },
    /// A tensor that a graph kept elsewhere was made for and that is another now.
    #[error("the graph was made for {name:?} of {wanted}, which is {found} now")]
    Changed {
        /// The tensor.
        name: String,
        /// Type and shape that the graph has.
        wanted: String,
        /// Those of the tensor.
        found: String,
    },
    /// An element type that the schema here does not have.
    #[error("its element type is {found}, which this version does not know")]
    UnknownType {
        /// The code.
        found: i64,
    },
    /// A part of the format that nobody writes.
    #[error("{what}")]
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// A location of external data that is no path within the model's folder.
    #[error("its data is said to lie in {location:?}: {why}")]
    BadLocation {
        /// The location.
        location: String,
        /// Why it is refused.
        why: String,
    },
    /// A key of external data that cannot be read.
    #[error("{key} of its external data is {value:?}, not a number of bytes")]
    BadExternal {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// External data that ends after its file.
    #[error("its data takes bytes {offset} to {until} of {location:?}, which has {len}", until = offset.saturating_add(*wanted))]
    BeyondFile {
        /// The file.
        location: String,
        /// Where the data begins.
        offset: u64,
        /// Its length.
        wanted: u64,
        /// The length of the file.
        len: u64,
    },
    /// The file with the data is not there.
    #[error("its data lies in {path:?}, which is not there")]
    NoDataFile {
        /// The file.
        path: PathBuf,
    },
    /// A thing that cannot be written.
    #[error("{why}")]
    CannotWrite {
        /// Why not.
        why: String,
        /// What to do.
        help: &'static str,
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

impl Diagnose for OnnxError {
    fn class(&self) -> Class {
        match self {
            Self::SomethingElse { .. }
            | Self::UnknownType { .. }
            | Self::Unsupported { .. }
            | Self::CannotWrite { .. } => Class::Unsupported,
            Self::TooDeep { .. } => Class::Limit,
            Self::BadLocation { .. } => Class::Refused,
            _ => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::SomethingElse { help, .. } | Self::CannotWrite { help, .. } => help,
            Self::LeavesMessage { .. } => CUT_SHORT,
            Self::OutOfRange { .. } => {
                "Runtimes would cut it, each in its own way: export the model again"
            }
            Self::Changed { .. } => "Give the tensor its type and shape again, or leave the graph",
            Self::TooDeep { limit } if *limit < MAX_DEPTH => "See `--limit depth` in the help",
            Self::TooDeep { .. } => "No loader of ONNX reads it: protobuf itself stops there",
            Self::UnknownType { .. } => "A newer weightbridge may know it",
            Self::BadLocation { .. } => {
                "Data must be a file of its own below the model's folder; if you trust the file, \
                 copy the data there (cp -L)"
            }
            Self::BeyondFile { .. } => {
                "The data file may be another model's, or its download cut short"
            }
            Self::NoDataFile { .. } => "Put the model's data file beside it, under that name",
            Self::OffPlan { .. } => "This is a bug of weightbridge: please report it",
            _ => DAMAGED,
        };
        Some(text.to_owned())
    }
}
