//! Recognising safetensors.

use crate::wire::{LENGTH_LEN, MAX_HEADER_LEN};
use ir::{Peek, Score};

/// A length within the limit, then an object: no other format begins so.
pub(crate) fn probe(peek: &Peek) -> Score {
    let named = peek.extension() == "safetensors";
    let by_name = || {
        if named {
            Score::new(10, "it is named .safetensors")
        } else {
            Score::no()
        }
    };
    let Some((length, rest)) = peek.head.split_first_chunk::<8>() else {
        return by_name();
    };
    let n = u64::from_le_bytes(*length);
    let text = rest.trim_ascii_start();
    if n == 0 || n > MAX_HEADER_LEN || !text.starts_with(b"{") {
        return by_name();
    }
    let after = text.get(1..).unwrap_or_default().trim_ascii_start();
    if !matches!(after.first(), Some(b'"' | b'}')) {
        return by_name();
    }
    if n > peek.len.saturating_sub(LENGTH_LEN) {
        return Score::new(
            80,
            "a header length and a JSON object, but the file ends within it",
        );
    }
    Score::new(95, format!("a JSON header of {n} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peek(name: &str, head: &[u8]) -> Peek {
        Peek {
            name: name.to_owned(),
            head: head.to_vec(),
            tail: Vec::new(),
            len: head.len() as u64,
            entries: Vec::new(),
            region: None,
        }
    }

    #[test]
    fn content_counts() {
        assert_eq!(
            probe(&peek("a.bin", b"\x08\0\0\0\0\0\0\0{}      ")).points,
            95
        );
        assert_eq!(
            probe(&peek("a.bin", b"\x18\0\0\0\0\0\0\0{\"a\":")).points,
            80
        );
        assert_eq!(probe(&peek("a.safetensors", b"PK\x03\x04")).points, 10);
        assert_eq!(probe(&peek("a.bin", b"PK\x03\x04\0\0\0\0{}")).points, 80);
        assert_eq!(probe(&peek("a.json", b"{\"a\": {\"b\": 1}}")).points, 0);
    }
}
