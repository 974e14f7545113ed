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
    /// How many times larger than its packed form an entry may unpack, or than what holds them
    /// tensors may be that share it, beyond the first 16 MiB (of tensors 256 MiB).
    pub expansion: u64,
    /// Dimensions of a tensor.
    pub rank: u64,
    /// Bytes of an archive's entries that a survey holds against their checksums; the rest it takes
    /// as they are. Nothing is refused by it, so that it has no name on the command line.
    pub summed_bytes: u64,
}

/// Anything may unpack to this many bytes, however few it is made of.
const UNPACKED: u64 = 16 << 20;
/// Tensors may be expanded to this many: a mask or a state of one number is some million times what
/// holds it.
const EXPANDED: u64 = 256 << 20;

/// Bytes below which a file may make a part of the objects only.
const SMALL: u64 = 1 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 100_000_000,
            tensors: 300_000,
            name_bytes: 65_536,
            depth: 512,
            objects: 1_250_000,
            steps: 20_000_000,
            held_bytes: 64 << 20,
            entries: 1_000_000,
            expansion: 1_100,
            rank: 64,
            summed_bytes: 64 << 20,
        }
    }
}

impl Limits {
    /// The names by which [`Limits::set`] knows them.
    pub const NAMES: [&str; 10] = [
        "header-bytes",
        "tensors",
        "name-bytes",
        "depth",
        "objects",
        "steps",
        "held-bytes",
        "entries",
        "expansion",
        "rank",
    ];

    /// Sets one by its name. False if there is none of that name.
    pub fn set(&mut self, name: &str, value: u64) -> bool {
        let field = match name {
            "header-bytes" => &mut self.header_bytes,
            "tensors" => &mut self.tensors,
            "name-bytes" => &mut self.name_bytes,
            "depth" => &mut self.depth,
            "objects" => &mut self.objects,
            "steps" => &mut self.steps,
            "held-bytes" => &mut self.held_bytes,
            "entries" => &mut self.entries,
            "expansion" => &mut self.expansion,
            "rank" => &mut self.rank,
            _ => return false,
        };
        *field = value;
        true
    }

    /// The limits for a file of `len` bytes that unpacks, or whose parts may be shared: what a small
    /// file may ask for is in proportion to it. A header of 1 KiB then costs a few megabytes at most,
    /// whatever it promises, and every model with its tensors in it is far from these bounds.
    #[must_use]
    pub fn for_file(&self, len: u64) -> Self {
        let within = |limit: u64, floor: u64, a_byte: u64| {
            limit.min((limit / floor).saturating_add(len.saturating_mul(a_byte)))
        };
        // So many take 64 MiB, and no file of such a length says as much that is worth it.
        let objects = if len < SMALL {
            self.objects / 3 * 2
        } else {
            self.objects
        };
        Self {
            tensors: within(self.tensors, 48, 1),
            objects: within(self.objects, 64, 16).min(objects),
            held_bytes: within(self.held_bytes, 32, 64),
            ..self.clone()
        }
    }

    /// `Ok` while `size` bytes are no more than `packed` bytes may hold.
    pub fn check_unpacked(&self, what: &'static str, packed: u64, size: u64) -> Result<()> {
        Self::check(what, size, self.times(packed, UNPACKED))
    }

    /// `Ok` while tensors of `size` bytes are no more than `held` bytes may be expanded to.
    pub fn check_expanded(&self, what: &'static str, held: u64, size: u64) -> Result<()> {
        Self::check(what, size, self.times(held, EXPANDED))
    }

    fn times(&self, bytes: u64, always: u64) -> u64 {
        bytes.saturating_mul(self.expansion).saturating_add(always)
    }

    /// `Ok` while `found` is at most `limit`.
    pub fn check(what: &'static str, found: u64, limit: u64) -> Result<()> {
        if found > limit {
            return Err(Fault::OverLimit { what, found, limit }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_sets_a_limit_of_its_own() {
        let mut limits = Limits::default();
        for (n, name) in Limits::NAMES.iter().enumerate() {
            let before = limits.clone();
            assert!(limits.set(name, n as u64));
            assert_ne!(before, limits, "{name}");
        }
        assert_eq!((limits.header_bytes, limits.rank), (0, 9));
        assert!(!limits.set("nothing", 1));
    }

    #[test]
    fn a_small_file_may_ask_for_little() {
        let limits = Limits::default();
        let small = limits.for_file(1 << 10);
        assert!(small.objects < 50_000 && small.held_bytes < 3 << 20 && small.tensors < 8_000);
        assert!(limits.for_file((1 << 20) - 1).objects < 850_000);
        assert_eq!(limits.for_file(1 << 20), limits);
        assert_eq!(limits.for_file(u64::MAX), limits);
    }
}
