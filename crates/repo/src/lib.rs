//! Reads model repositories: a folder, the index file of a sharded set, or any one of its shards.
//!
//! What the weights are written in is none of this crate's business: shards are opened through
//! [`ir::Open`], and their models merged into one. The other files of a repository travel along
//! as [`ir::Asset`]s.
//!
//! A single shard looks like any file of its format, so [`FORMAT`]'s probe leaves it alone: whoever
//! opens an input asks [`belongs_to_set`] first, and gives the shard to [`RepoReader`] if it does.
#![forbid(unsafe_code)]

mod assets;
mod error;
mod index;
mod merge;
mod names;
mod probe;
mod reader;
mod set;

pub use assets::side_files;
pub use error::RepoError;
pub use names::{Weights, belongs_to_set, weights_in};
pub use reader::RepoReader;
pub use set::home_of;

/// The format's id.
pub(crate) const ID: &str = "repo";

/// The format, for the registry.
pub static FORMAT: ir::Format = ir::Format {
    id: ID,
    names: &["repository", "folder", "sharded"],
    title: "model repository",
    extensions: &[],
    probe: probe::probe,
    reader: Some(&RepoReader),
    writer: None,
};
