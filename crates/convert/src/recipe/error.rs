//! What can be wrong with a request to quantize.

use ir::{Class, DType, Diagnose};

/// Why a model cannot be quantized as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// No file type has that name or number.
    #[error("{text:?} names no file type")]
    UnknownFileType {
        /// What was given.
        text: String,
    },
    /// No tensor type has that name, or none that weights can be quantized to.
    #[error("{text:?} names no type that weights can be quantized to")]
    UnknownType {
        /// What was given.
        text: String,
    },
    /// An option's value cannot be read.
    #[error("{flag} {text:?}: {why}")]
    BadOption {
        /// The flag.
        flag: &'static str,
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// A type was chosen that needs an importance matrix, and there is none for the tensor.
    #[error("{dtype} for tensor {tensor:?} is garbage without an importance matrix")]
    NeedsImportance {
        /// The tensor.
        tensor: String,
        /// The type chosen for it.
        dtype: DType,
        /// Whether a matrix was given, which lacks this tensor.
        given: bool,
    },
    /// The importance matrix was made from another model.
    #[error("the importance matrix has {found} weights for tensor {tensor:?}, expected {expected}")]
    ImportanceSize {
        /// The tensor.
        tensor: String,
        /// Weights in the matrix.
        found: usize,
        /// Columns times experts of the tensor.
        expected: u64,
    },
    /// An importance matrix file does not follow its format.
    #[error("importance matrix: {what}")]
    BadImportance {
        /// Where and what.
        what: String,
    },
    /// The tensor is quantized already.
    #[error("tensor {tensor:?} is quantized already ({from}), and {to} is asked for")]
    Requantize {
        /// The tensor.
        tensor: String,
        /// Its type.
        from: DType,
        /// The type chosen for it.
        to: DType,
    },
    /// The tensor's rows do not hold whole blocks of the type, and no other type is known to do.
    #[error("tensor {tensor:?} has rows of {columns} weights, {dtype} needs a multiple of {block}")]
    NoFallback {
        /// The tensor.
        tensor: String,
        /// Elements a row.
        columns: u64,
        /// The type chosen for it.
        dtype: DType,
        /// Elements a block.
        block: u32,
    },
    /// No kernel leads from one type to the other.
    #[error("tensor {tensor:?} would go from {from} to {to}, for which there is no way yet")]
    NoKernel {
        /// The tensor.
        tensor: String,
        /// Its type.
        from: DType,
        /// The type chosen for it.
        to: DType,
    },
    /// A value that is not finite.
    #[error("{what} in {stage} of type {dtype}, at element {element}")]
    NotFinite {
        /// `NaN` or `an infinite value`.
        what: &'static str,
        /// `the weights` or `the blocks made of them`.
        stage: &'static str,
        /// The type of the data.
        dtype: DType,
        /// Index of the first element of the value or block.
        element: u64,
    },
    /// The kernels refused.
    #[error("{0}")]
    Kernel(quant::QuantError),
}

impl Diagnose for RecipeError {
    fn class(&self) -> Class {
        match self {
            Self::UnknownFileType { .. }
            | Self::UnknownType { .. }
            | Self::BadOption { .. }
            | Self::NeedsImportance { .. }
            | Self::Requantize { .. } => Class::Usage,
            Self::ImportanceSize { .. } | Self::BadImportance { .. } | Self::NotFinite { .. } => {
                Class::Malformed
            }
            Self::NoFallback { .. } | Self::NoKernel { .. } | Self::Kernel(_) => Class::Unsupported,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::UnknownFileType { .. } => {
                "Use a name such as Q4_K_M, or its number; --help lists them"
            }
            Self::UnknownType { .. } => "Use ggml's name, e.g. q6_K, q8_0 or f16",
            Self::NeedsImportance { given: false, .. } => {
                "Give one with --imatrix, or choose a type of more bits"
            }
            Self::NeedsImportance { given: true, .. } => {
                "Give this tensor another type with --tensor-type, or a matrix that has it"
            }
            Self::ImportanceSize { .. } => "Use the matrix that was made from this model",
            Self::Requantize { .. } => {
                "Quantize from the original weights, or accept the loss with `quantize \
                 --allow-requantize`"
            }
            Self::NoFallback { .. } | Self::NoKernel { .. } => {
                "Give this tensor another type with --tensor-type"
            }
            Self::NotFinite { .. } => "The weights are damaged; --allow-nan goes on all the same",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
