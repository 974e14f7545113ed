//! How much an input may ask for before its data is read.

use crate::{Fault, Result};

/// Caps that every reader keeps, so that a small hostile file cannot ask for much memory or time.
///
/// The defaults pass every real model known to us with room to spare; `docs/limits.md` has the
/// reasons. All are inclusive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a header or index read as one: safetensors allows 100,000,000.
    pub header_bytes: u64,
    /// Tensors in a model.
    pub tensors: u64,
    /// Bytes of one name.
    pub name_bytes: u64,
    /// How deep anything may nest: lists in lists, graphs in graphs, archives in archives.
    pub depth: u64,
    /// Objects one pickle may make.
    pub objects: u64,
    /// Opcodes one pickle may run: a bound on time.
    pub steps: u64,
    /// Bytes of text and byte strings that one input may make a reader hold.
    pub held_bytes: u64,
    /// Entries of an archive.
    pub entries: u64,
    /// How many times larger than its packed form an entry may unpack, beyond the first 16 MiB.
    pub expansion: u64,
    /// Dimensions of a tensor.
    pub rank: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 100_000_000,
            tensors: 1_000_000,
            name_bytes: 65_536,
            depth: 512,
            objects: 1_000_000,
            steps: 20_000_000,
            held_bytes: 64 << 20,
            entries: 1_000_000,
            expansion: 1_100,
            rank: 64,
        }
    }
}

impl Limits {
    /// `Ok` while `found` is at most `limit`.
    pub fn check(what: &'static str, found: u64, limit: u64) -> Result<()> {
        if found > limit {
            return Err(Fault::OverLimit { what, found, limit }.into());
        }
        Ok(())
    }
}
