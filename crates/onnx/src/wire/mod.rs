//! The messages of `proto/onnx.proto`, made by prost; see `proto/README.md`.
//!
//! | bytes | |
//! |---|---|
//! | key | varint: field number times 8, plus wire type |
//! | value | wire type 0: varint · 1: 8 bytes · 2: varint length, that many bytes · 5: 4 bytes |
//!
//! A file is one `ModelProto`: keys and values to its end, no magic number. Byte fields are
//! [`bytes::Bytes`], slices of the buffer that is decoded.

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

pub use onnx::*;
