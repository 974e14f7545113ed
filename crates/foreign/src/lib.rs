//! Looks into what a repository holds beside models, for `scan` and for nothing else.
//!
//! Nothing here gives a tensor. Each module opens one kind of file as far as is needed to see what
//! would run when somebody loads it:
//!
//! - `kind` tells what bytes are, by content first and by name only where content says nothing.
//! - `unpack` takes one layer of compression off, into memory or a file without a name, never more
//!   than a small multiple of what was there.
//! - `hdf5` reads attributes and links of HDF5 files: Keras keeps its configuration in one, and
//!   links lead to other files.
//! - `graph` lists the operators of TensorFlow graphs and SavedModels.
//!
//! ```
//! use weightbridge_foreign::{Kind, kind};
//!
//! assert_eq!(kind("model.keras", b"\x89HDF\r\n\x1a\n"), Kind::Hdf5);
//! assert_eq!(kind("chat_template.jinja", b"{% for m in messages %}"), Kind::Template);
//! assert_eq!(kind("weights.bin", b"\x12\x34"), Kind::Other);
//! ```

#![forbid(unsafe_code)]

mod cursor;
mod error;
pub mod graph;
pub mod hdf5;
mod kind;
mod unpack;

pub use error::ForeignError;
pub use kind::{Kind, Wrapping, kind};
pub use unpack::{unpack, unpack_entry, unpacks};
