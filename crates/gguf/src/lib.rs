//! Reads and writes GGUF, single files and split sets.
//!
//! Versions 1 to 3 are read, in either byte order; version 3, little-endian, is written. Blocks
//! pass through as bytes: this crate knows their sizes, not their numbers.
//!
//! Any valid little-endian version 3 file that is read and written again is the same file, byte
//! for byte: keys keep their order and types, tensors their order, and whatever ggml cannot say
//! and is carried in keys (more than four dimensions, long names) goes back into the same keys.
//! `docs/formats/gguf.md` lists the few files that are the exception.
#![forbid(unsafe_code)]

mod carry;
mod error;
mod namespace;
mod reader;
mod wire;
mod writer;

pub use error::GgufError;
pub use reader::{GgufReader, open_shard};
pub use writer::GgufWriter;

/// The format, for the registry.
pub static FORMAT: ir::Format = ir::Format {
    id: wire::ID,
    names: &[],
    title: "GGUF",
    extensions: &["gguf"],
    probe: reader::probe,
    reader: Some(&GgufReader),
    writer: Some(&GgufWriter),
};
