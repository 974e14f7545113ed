//! The messages of `proto/sentencepiece.proto`, made by prost; see `proto/README.md`.
//!
//! A `tokenizer.model` is one `ModelProto`: keys and values to its end, no magic number. Each key
//! is a varint of field number times 8 plus wire type: 0 varint, 1 eight bytes, 2 a length and
//! that many bytes, 5 four bytes. Pieces stand in the order of their ids.

#[allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    rustdoc::all
)] // generated; its comments stand in the schema
#[rustfmt::skip]
mod sentencepiece;

pub(crate) use sentencepiece::*;
