//! Telling GGUF from other files.

use crate::wire::{MAGIC, VERSION};
use ir::{Peek, Score};

/// Beginnings of the formats before GGUF, which have no keys.
const OLD: &[(&[u8], &str)] = &[
    (b"lmgg", "a GGML file, from before GGUF"),
    (b"fmgg", "a GGMF file, from before GGUF"),
    (b"tjgg", "a GGJT file, from before GGUF"),
    (b"algg", "a GGLA adapter, from before GGUF"),
];

/// The name of a format before GGUF that begins so.
pub(super) fn old_ggml(head: &[u8]) -> Option<&'static str> {
    OLD.iter()
        .find(|(magic, _)| head.starts_with(magic))
        .map(|row| row.1)
}

/// The magic tells it; a name alone is a hint.
pub(crate) fn probe(peek: &Peek) -> Score {
    let named = peek.extension() == "gguf";
    if !peek.head.starts_with(&MAGIC) {
        return match old_ggml(&peek.head) {
            Some(what) => Score::new(30, what),
            None if named => Score::new(10, "it is named .gguf"),
            None => Score::no(),
        };
    }
    let version = peek.head.get(4..8).and_then(|raw| raw.first_chunk());
    match version.map(|raw| (u32::from_le_bytes(*raw), u32::from_be_bytes(*raw))) {
        Some((n @ 1..=VERSION, _)) => Score::new(100, format!("GGUF magic, version {n}")),
        Some((_, n @ 1..=VERSION)) => {
            Score::new(100, format!("GGUF magic, version {n}, big endian"))
        }
        _ => Score::new(90, "GGUF magic, but no version that is known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_counts() {
        let points = |name: &str, head: &[u8]| {
            let peek = Peek {
                name: name.to_owned(),
                head: head.to_vec(),
                tail: Vec::new(),
                len: head.len() as u64,
                entries: Vec::new(),
                region: None,
            };
            probe(&peek).points
        };
        assert_eq!(points("a.bin", b"GGUF\x03\0\0\0"), 100);
        assert_eq!(points("a.bin", b"GGUF\0\0\0\x02"), 100);
        assert_eq!(points("a.bin", b"GGUF\x09\0\0\0"), 90);
        assert_eq!(points("a.bin", b"GGUF"), 90);
        assert_eq!(points("a.gguf", b"PK\x03\x04"), 10);
        assert_eq!(points("a.bin", b"PK\x03\x04"), 0);
        assert_eq!(points("a.bin", b"tjgg\x03\0\0\0"), 30);
    }
}
