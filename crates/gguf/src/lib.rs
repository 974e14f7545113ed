//! Reads and writes GGUF, single files and split sets.
//!
//! Versions 1 to 3 are read, in either byte order; version 3, little-endian, is written. Blocks
//! pass through as bytes: this crate knows their sizes, not their numbers.
//!
//! Any valid little-endian version 3 file that is read and written again is the same file, byte
//! for byte: keys keep their order and types, tensors their order, and whatever ggml cannot say
//! and is carried in keys (more than four dimensions, long names) goes back into the same keys.
//! `docs/formats/gguf.md` lists the few files that are the exception.
//!
//! ```
//! use ir::{Context, DType, Input, MetaValue, ModelBuilder, Output, ns};
//!
//! let folder = std::env::temp_dir().join(format!("gguf-example-{}", std::process::id()));
//! let path = folder.join("m.gguf");
//! let (reader, writer) = (weightbridge_gguf::GgufReader, weightbridge_gguf::GgufWriter);
//! # use ir::{Reader, Writer};
//! let model = ModelBuilder::new()
//!     .metadata(ns::GGUF, "general.name", MetaValue::text("small"))
//!     .tensor("scale", DType::F32, [], 1.5f32.to_le_bytes().to_vec())
//!     .build()?;
//! let mut out = Output::new(&path, true);
//! writer.write(&model, &mut out, &Context::default())?;
//! out.commit()?;
//!
//! let back = reader.open(&Input::open(&path)?, &Context::default())?;
//! assert_eq!(back.metadata, model.metadata);
//! // ggml knows no tensor without dimensions: it was stored as `[1]`, with a note.
//! assert_eq!(back.tensors.by_name("scale").map(|t| t.spec.shape.len()), Some(0));
//!
//! // What does not follow the format is refused with the place, the values and what to do.
//! let bytes = std::fs::read(&path).unwrap_or_default();
//! let cut = ir::Region::memory(bytes[..bytes.len() - 30].to_vec());
//! let error = reader.open(&Input::from_region("m.gguf", cut), &Context::default()).unwrap_err();
//! assert!(error.to_string().starts_with("m.gguf: tensor \"scale\": it ends at byte "));
//! # std::fs::remove_dir_all(&folder).ok();
//! # Ok::<(), ir::Error>(())
//! ```
#![forbid(unsafe_code)]

mod carry;
mod error;
mod in_place;
mod namespace;
mod reader;
mod wire;

pub use wire::name_limit;
mod writer;

pub use error::GgufError;
pub use in_place::{NewHeader, new_header};
pub use reader::{GgufReader, open_shard};
pub use writer::{GgufWriter, LaidOut};

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
