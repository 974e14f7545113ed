//! Why there is no graph.

use ir::{Class, DType, Diagnose, Shape};

/// Why a decoder graph cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// A family without a graph.
    #[error("no decoder graph is known for {what}; there is one for {}", known.join(", "))]
    NoGraph {
        /// The class, or the architecture.
        what: String,
        /// The families there are.
        known: Vec<&'static str>,
    },
    /// A thing in the configuration that no graph is built for.
    #[error("config.json: no decoder graph is built for {what}")]
    Feature {
        /// What.
        what: String,
    },
    /// A value of the configuration that does not work out.
    #[error("config.json: {key:?} {why}")]
    BadConfig {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// A weight that the graph needs.
    #[error("the decoder of {family} needs a tensor {name:?}, which is not there")]
    Missing {
        /// The family.
        family: &'static str,
        /// Its name.
        name: String,
    },
    /// A weight of another shape than the configuration says.
    #[error("tensor {name:?} has the shape {found}, by config.json it is {expected}")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Shape,
        /// The shape the configuration asks for.
        expected: Shape,
    },
    /// A weight of a type that is not computed with.
    #[error("tensor {name:?} is {dtype}, a decoder computes with floats of 16 to 64 bits")]
    Type {
        /// Its name.
        name: String,
        /// Its type.
        dtype: DType,
    },
    /// Weights of the decoder that the graph would leave out.
    #[error("the decoder of {family} has no place for {count} tensors: {}", names.join(", "))]
    Leftover {
        /// The family.
        family: &'static str,
        /// How many.
        count: usize,
        /// The first few.
        names: Vec<String>,
    },
}

impl Diagnose for DecoderError {
    fn class(&self) -> Class {
        match self {
            Self::NoGraph { .. }
            | Self::Feature { .. }
            | Self::Type { .. }
            | Self::Leftover { .. } => Class::Unsupported,
            Self::BadConfig { .. } | Self::Missing { .. } | Self::Shape { .. } => Class::Malformed,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::NoGraph { .. } => {
                "--as container carries the tensors as they are; if the model is like one of \
                 these, name it with --arch NAME"
            }
            Self::Feature { .. } => "--as container carries the tensors as they are",
            Self::BadConfig { .. } => {
                "Put the model's own value into config.json; --as container carries the tensors \
                 as they are"
            }
            Self::Missing { .. } => {
                "A shard may be missing, or the model is of another architecture: name it with \
                 --arch NAME; --as container carries the tensors as they are"
            }
            Self::Shape { .. } => {
                "Weights and config.json are not of one model; --as container carries the tensors \
                 as they are"
            }
            Self::Type { .. } => {
                "Quantized repositories have no graph yet; --as container carries the tensors as \
                 they are"
            }
            Self::Leftover { .. } => {
                "If they do not matter leave them out with --drop REGEX; --as container carries \
                 the tensors as they are"
            }
        };
        Some(text.to_owned())
    }
}
