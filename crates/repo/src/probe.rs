//! Recognising repositories and indexes.

use crate::names::{INDEX_SUFFIX, weights_in};
use ir::{Peek, Score};

/// A folder with weights, or a JSON file with a `weight_map`.
pub(crate) fn probe(peek: &Peek) -> Score {
    if peek.region.is_none() && peek.head.is_empty() {
        let weights = weights_in(&peek.entries);
        let config = peek.entries.iter().any(|name| name == "config.json");
        return match (weights.is_empty(), config) {
            (false, true) => Score::new(100, "a folder with a config.json and weights"),
            (false, false) => Score::new(90, "a folder with weights"),
            // The reader says best what is missing.
            (true, _) => Score::new(40, "a folder"),
        };
    }
    if !peek.head.trim_ascii_start().starts_with(b"{") {
        return Score::no();
    }
    let has_map = |bytes: &[u8]| bytes.windows(12).any(|window| window == b"\"weight_map\"");
    if has_map(&peek.head) || has_map(&peek.tail) {
        return Score::new(95, "JSON with a weight_map");
    }
    if peek.name.ends_with(INDEX_SUFFIX) {
        return Score::new(60, "JSON, named as an index");
    }
    Score::no()
}
