//! The model: everything a file or a repository holds.

use crate::{Graph, Metadata, Objects, Record, Region, TensorTable};
use std::path::PathBuf;

/// Everything a file or a repository holds, bytes unread.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The tensors, in the source's order.
    pub tensors: TensorTable,
    /// The operators, where the format has them.
    pub graph: Option<Graph>,
    /// The Python objects, where the format has them.
    pub objects: Option<Objects>,
    /// Typed key-value pairs.
    pub metadata: Metadata,
    /// Files that travel along unparsed: `config.json`, `tokenizer.json`, a licence.
    pub assets: Vec<Asset>,
    /// Where all this comes from.
    pub provenance: Provenance,
}

/// A file that travels along unparsed.
#[derive(Clone, Debug)]
pub struct Asset {
    /// Its path relative to the repository.
    pub name: String,
    /// Its bytes.
    pub bytes: Region,
}

/// Where a model comes from and what its reader has to say about it.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// The format's id, e.g. `ckpt`.
    pub format: &'static str,
    /// The format's version and container, in words: `zip, torch 2.x`.
    pub version: String,
    /// The files that were opened, with their sizes.
    pub files: Vec<(PathBuf, u64)>,
    /// What the reader chose, changed and left out.
    pub records: Vec<Record>,
    /// Remarks for people.
    pub notes: Vec<String>,
    /// Checksums that the files tell of tensor bytes. Opening does not read those bytes, so
    /// nothing is compared until someone asks.
    pub checksums: Vec<Checksum>,
}

/// A checksum that a file tells of some of its bytes.
#[derive(Clone, Debug)]
pub struct Checksum {
    /// The bytes.
    pub region: Region,
    /// What it should come to.
    pub digest: Digest,
    /// What they are, for messages: `entry archive/data/0`.
    pub place: String,
}

/// A checksum's kind and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digest {
    /// CRC-32, as in zip archives.
    Crc32(u32),
    /// SHA-1, as ONNX tells of external files.
    Sha1([u8; 20]),
}
