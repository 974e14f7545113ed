//! Reads and writes PyTorch checkpoints; a pickle is data and is never executed.
#![forbid(unsafe_code)]

mod container;
mod error;
mod pickle;
mod reader;
mod wire;

pub use error::CkptError;
pub use pickle::COMPUTED_GLOBAL;
pub use reader::{CkptReader, probe};

/// PyTorch checkpoints: zip, legacy stream, tar, TorchScript, plain pickles.
pub const FORMAT: ir::Format = ir::Format {
    id: "ckpt",
    names: &["pt", "pth", "bin", "torch", "pytorch", "pickle"],
    title: "PyTorch checkpoint",
    extensions: &[
        "pt", "pth", "ckpt", "bin", "pkl", "pickle", "th", "pt2", "jit",
    ],
    probe,
    reader: Some(&CkptReader),
    writer: None,
};
