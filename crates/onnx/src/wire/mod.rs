//! The messages of `proto/onnx.proto`, made by prost; see `proto/README.md`.
//!
//! | bytes | |
//! |---|---|
//! | key | varint: field number times 8, plus wire type |
//! | value | wire type 0: varint · 1: 8 bytes · 2: varint length, that many bytes · 5: 4 bytes |
//!
//! A file is one `ModelProto`: keys and values to its end, no magic number.
//!
//! Models are read and written by hand, field by field (`field` has the numbers), so that tensors
//! stay in the file and a message of any size is never in memory whole: `docs/adr/0007`. The types
//! here are for small messages and are the second opinion in tests.

#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all
)] // generated; its comments stand in the schema
#[rustfmt::skip]
mod onnx;

pub(crate) mod code;
pub(crate) mod field;

pub use onnx::*;

/// The format's id.
pub(crate) const ID: &str = "onnx";
/// The newest `ModelProto.ir_version` of the schema here.
pub(crate) const NEWEST_IR: i64 = 14;
/// The operator set that is written where nothing asks for another: one that every runtime loads.
pub(crate) const OPSET: i64 = 21;
/// Graphs in graphs, types in types. Official protobuf parsers stop at 100 messages in messages,
/// and a graph in a graph is three (attribute, node, graph), so no deeper file can be loaded.
pub(crate) const MAX_DEPTH: u64 = 32;
/// Properties of a model that begin so are this project's notes, in the namespace `ir::ns::NOTE`.
pub(crate) const NOTE_PREFIX: &str = "weightbridge.";
/// The property that marks a file of tensors without a graph, and its value.
pub(crate) const KIND_KEY: &str = "weightbridge.kind";
/// A property whose key goes on with a tensor's name in the file; its value is the real one.
pub(crate) const NAME_KEY: &str = "weightbridge.name.";
/// See [`KIND_KEY`].
pub(crate) const CONTAINER: &str = "container";
/// Data files a model may have: each is held open. Exporters that give every tensor a file of its
/// own make some hundreds for the largest models.
pub(crate) const MAX_FILES: u64 = 4000;
