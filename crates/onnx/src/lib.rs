//! Reads and writes ONNX: graphs with their tensors, in one file or with data beside it.
//!
//! Files are walked field by field and by position, so that opening a model of many gigabytes reads
//! its graph and steps over its weights; writing one never makes it one message in memory. The
//! types prost makes of the schema stand in [`wire`].
#![forbid(unsafe_code)]

mod error;
mod namespace;
mod order;
mod probe;
mod reader;
pub mod wire;
mod writer;

pub use error::OnnxError;
pub use probe::probe;
pub use reader::{OnnxReader, graph_of_note};
pub use writer::{OnnxWriter, Place, graph_note, write_around};

/// The format, for the registry.
pub static FORMAT: ir::Format = ir::Format {
    id: wire::ID,
    names: &[],
    title: "ONNX",
    extensions: &["onnx"],
    probe,
    reader: Some(&OnnxReader),
    writer: Some(&OnnxWriter),
};
