//! What can be wrong with a quantized checkpoint.

use ir::{Class, DType, Diagnose, Shape};

/// Why quantized weights cannot be read as floats.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A method this program does not know.
    #[error("weights quantized by {method:?} are not known here; known are {KNOWN}")]
    Method {
        /// `quant_method`, with its format where that decides.
        method: String,
    },
    /// A setting is missing or cannot be used.
    #[error("quantization_config: {key:?} is {found}, expected {wanted}")]
    Setting {
        /// The key.
        key: &'static str,
        /// What it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A part of a weight is missing.
    #[error("{weight:?} is quantized and lacks {part:?}")]
    Missing {
        /// The part that is there.
        weight: String,
        /// The tensor that should be beside it.
        part: String,
    },
    /// A part's type or shape does not belong to the others.
    #[error("tensor {tensor:?} of type {dtype} and shape {shape}: expected {wanted}")]
    Part {
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
        /// What the method needs.
        wanted: String,
    },
    /// A value inside a part makes no sense.
    #[error("tensor {tensor:?}: {what}")]
    Value {
        /// The tensor.
        tensor: String,
        /// Found and expected.
        what: String,
    },
}

const KNOWN: &str =
    "fp8, fbgemm_fp8, modelopt, compressed-tensors, gptq, awq, bitsandbytes, bitnet, mxfp4";

impl Diagnose for UnpackError {
    fn class(&self) -> Class {
        match self {
            Self::Method { .. } => Class::Unsupported,
            Self::Setting { .. }
            | Self::Missing { .. }
            | Self::Part { .. }
            | Self::Value { .. } => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Method { .. } => {
                "Dequantize the model with the library that made it, or carry the packed tensors \
                 as they are with --as container"
            }
            Self::Missing { .. } => "Download the repository again: a shard may be missing",
            Self::Setting { .. } | Self::Part { .. } | Self::Value { .. } => {
                "config.json and the weights may be from different revisions; --as container \
                 carries the packed tensors as they are"
            }
        };
        Some(text.to_owned())
    }
}
