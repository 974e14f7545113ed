//! Tokenizers: what a repository's files say, as GGUF's `tokenizer.*` keys, and back.
//!
//! * [`to_gguf`] writes the keys exactly as llama.cpp's `convert_hf_to_gguf.py` does: keys, types,
//!   values and order. Which way a model takes its vocabulary is a table of classes: [`Method`].
//! * [`from_gguf`] makes `tokenizer.json` and the files beside it of the keys; [`untold`] are those it
//!   has no place for.
//!
//! The pre-tokenizer is told as llama.cpp tells it, by the ids of a fixed text; the `tokenizers`
//! library gives those ids, from a small part of the vocabulary that gives the same (see
//! `fingerprint`). Everything else is read and written here, without a model in memory.
//!
//! Files are strangers': sizes are checked before anything is allocated ([`ir::Limits`]), and what
//! the library is given has bounds of its own (see `engine`).
#![forbid(unsafe_code)]

mod added;
mod back;
mod bpe;
mod engine;
mod error;
mod files;
mod fingerprint;
mod forward;
mod hf;
mod json;
mod lint;
mod methods;
mod pairs;
mod pre;
mod special;
mod spm;
mod tekken;
mod template;
mod unigram;
mod wire;

pub use back::{from_gguf, untold};
pub use error::VocabError;
pub use files::Source;
pub use forward::{ARCH, Request, Vocabulary, to_gguf};
pub use methods::Method;
