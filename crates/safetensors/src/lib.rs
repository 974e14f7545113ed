//! Reads and writes safetensors, single files and sharded sets.
//!
//! The header is parsed here, entry by entry, so that the file's order is kept and a name given
//! twice is seen; its types, and the last word on whether a header is sound, are those of the
//! `safetensors` crate. Bodies are never loaded: tensors are views of the file.
//!
//! What is written equals what `safetensors.torch.save_file` writes, byte for byte, where the
//! reference's output is defined: with two or more metadata entries it depends on a hash map
//! there, and is sorted by key here.
#![forbid(unsafe_code)]

mod error;
mod reader;
mod wire;
mod writer;

pub use error::StError;
pub use reader::SafetensorsReader;
pub use writer::{Placed, SafetensorsWriter, places};

/// The format, for the registry.
pub static FORMAT: ir::Format = ir::Format {
    id: wire::ID,
    names: &["st"],
    title: "safetensors",
    extensions: &["safetensors"],
    probe: reader::probe,
    reader: Some(&SafetensorsReader),
    writer: Some(&SafetensorsWriter),
};
