//! SentencePiece-like BPE that is only in `tokenizer.json`: gguf-py's `LlamaHfVocab`.

use crate::bpe::Loaded;
use crate::json::Words;
use crate::pairs::{Tokens, kind};
use bytes::Bytes;
use serde_json::Value;

/// Whether the method takes this tokenizer.
pub(crate) fn fits(loaded: &Loaded) -> bool {
    let model = &loaded.json.model;
    let decoder = loaded.json.decoder.get("type").and_then(Value::as_str);
    model.kind() == "BPE" && model.byte_fallback == Some(true) && decoder == Some("Sequence")
}

/// The tokens: those of the model, then what is added behind them. All have one score, since
/// BPE goes by merges.
pub(crate) fn tokens(loaded: &Loaded) -> Tokens {
    let Words::Ids(words) = &loaded.json.model.vocab else {
        return Tokens::default();
    };
    let n = words.len();
    let mut tokens = Tokens::padded(n);
    for (text, id) in words {
        let kind = if is_byte(text) {
            kind::BYTE
        } else if loaded.added.is_named(text) {
            kind::CONTROL
        } else {
            kind::NORMAL
        };
        tokens.put(
            *id as usize,
            Bytes::copy_from_slice(text.as_bytes()),
            -1000.0,
            kind,
        );
    }
    for token in loaded.added.iter().filter(|token| token.id as usize >= n) {
        let kind = if loaded.added.is_named(&token.content) {
            kind::CONTROL
        } else {
            kind::USER_DEFINED
        };
        tokens.push(token.content.clone(), -1000.0, kind);
    }
    tokens
}

/// `<0x00>` to `<0xFF>`.
pub(crate) fn is_byte(token: &str) -> bool {
    let digits = token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|d| d.len() == 2 && d.bytes().all(|b| b.is_ascii_hexdigit()))
}
