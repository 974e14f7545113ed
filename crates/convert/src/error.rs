//! What can be wrong with a request to convert.

use ir::{Class, DType, Diagnose};

/// Why a conversion cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// A regular expression does not compile.
    #[error("{flag} {pattern:?} is not a regular expression: {why}")]
    BadPattern {
        /// The flag it was given to.
        flag: &'static str,
        /// The text.
        pattern: String,
        /// What the parser says.
        why: String,
    },
    /// Two tensors would get one name.
    #[error("--rename gives the name {name:?} to both {first:?} and {second:?}")]
    RenameClash {
        /// The name.
        name: String,
        /// Who got it first.
        first: String,
        /// Who wants it too.
        second: String,
    },
    /// The target has no way to hold a tensor.
    #[error("{target} cannot hold type {dtype} of tensor {name:?}")]
    NoType {
        /// The target format.
        target: &'static str,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// A type that no cast leads from, or to.
    #[error("tensor {tensor:?} of type {from} cannot become {to}")]
    NoCast {
        /// The tensor.
        tensor: String,
        /// Its type.
        from: DType,
        /// The type it should have.
        to: DType,
    },
    /// Nothing is left to write.
    #[error("no tensor is left to write: {why}")]
    NothingLeft {
        /// What took them away.
        why: String,
    },
    /// A graph goes along, whose tensors cannot be changed.
    #[error("{flag} would change tensors that the model's graph names and computes with")]
    GraphHeld {
        /// The flag.
        flag: &'static str,
    },
    /// Bytes that are not what they were when the file was written.
    #[error("its checksum is {found}, the file says {expected}")]
    Checksum {
        /// Of the bytes there are.
        found: String,
        /// Of the bytes there were.
        expected: String,
    },
    /// A cast that does not exist was planned: a bug in the planner.
    #[error("{0}")]
    Cast(quant::CastError),
}

impl Diagnose for ConvertError {
    fn class(&self) -> Class {
        match self {
            Self::BadPattern { .. }
            | Self::RenameClash { .. }
            | Self::NothingLeft { .. }
            | Self::GraphHeld { .. } => Class::Usage,
            Self::NoCast { .. } | Self::NoType { .. } | Self::Cast(_) => Class::Unsupported,
            Self::Checksum { .. } => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        match self {
            Self::NoType { .. } => {
                Some("Cast it with --dtype, or leave it out with --drop".to_owned())
            }
            Self::GraphHeld { .. } => {
                Some("Convert to safetensors with it, which takes the tensors alone".to_owned())
            }
            Self::RenameClash { .. } => {
                Some("Make the pattern narrower, or the new name use its groups: ${1}".to_owned())
            }
            Self::Checksum { .. } => {
                Some("The file was damaged on its way: download it again".to_owned())
            }
            _ => None,
        }
    }
}
