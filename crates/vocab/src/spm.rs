//! SentencePiece models: `tokenizer.model`.

use crate::bpe::looks_special;
use crate::error::VocabError;
use crate::files::Files;
use crate::pairs::{Tokens, kind};
use crate::special::TOKENIZER_CONFIG;
use crate::wire::{ModelProto, model_proto::sentence_piece::Type};
use bytes::Bytes;
use ir::{Error, Limits, Record, Result};
use prost::Message;
use serde_json::Value;

/// The usual name.
pub(crate) const TOKENIZER_MODEL: &str = "tokenizer.model";

/// Reads a model file.
pub(crate) fn read(bytes: Bytes, name: &str, limits: &Limits) -> Result<ModelProto> {
    let malformed = |why: String| Error::from(VocabError::malformed(why)).in_file(name);
    if bytes.starts_with(b"version https://git-lfs") {
        let why = "it is a Git LFS pointer, the file itself was not fetched";
        return Err(malformed(why.to_owned()));
    }
    let n_pieces = count_pieces(&bytes).ok_or_else(|| {
        malformed("it is no SentencePiece model: a field runs over the end".to_owned())
    })?;
    Limits::check("tokens", n_pieces, limits.entries).map_err(|error| error.in_file(name))?;
    let model = ModelProto::decode(bytes)
        .map_err(|error| malformed(format!("it is no SentencePiece model: {error}")))?;
    if model.pieces.is_empty() {
        return Err(malformed("it has no pieces".to_owned()));
    }
    Ok(model)
}

/// Pieces of a model, counted before anything is allocated for them.
fn count_pieces(mut bytes: &[u8]) -> Option<u64> {
    let mut n = 0;
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let skip = match key & 7 {
            0 => {
                varint(&mut bytes)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        n += u64::from(key == 0x0a);
        bytes = bytes.get(skip..)?;
    }
    Some(n)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for at in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f).checked_shl(at * 7)?;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The pieces in their places among `n` tokens; more pieces than places are left out.
pub(crate) fn pieces(model: &ModelProto, n: usize) -> Tokens {
    let mut tokens = Tokens::padded(n);
    for (id, piece) in model.pieces.iter().enumerate().take(n) {
        let kind = match piece.r#type() {
            Type::Unknown => kind::UNKNOWN,
            Type::Control => kind::CONTROL,
            Type::Unused => kind::UNUSED,
            Type::Byte => kind::BYTE,
            Type::Normal | Type::UserDefined => kind::NORMAL,
        };
        tokens.put(id, piece.piece().to_owned(), piece.score(), kind);
    }
    tokens
}

/// Added tokens that the model has no row for.
#[derive(Debug)]
pub(crate) struct Beyond {
    rows: usize,
    tokens: Vec<(String, usize, &'static str)>,
}

impl Beyond {
    /// None yet, of `rows` rows.
    pub(crate) fn new(rows: usize) -> Self {
        let tokens = Vec::new();
        Self { rows, tokens }
    }

    /// Puts a token in its row, if there is one.
    fn put(&mut self, tokens: &mut Tokens, id: usize, text: String, kind: i32, from: &'static str) {
        let shown = text.clone();
        if !tokens.put(id, text, -1000.0, kind) {
            self.tokens.push((shown, id, from));
        }
    }

    /// Leaves them out, each a loss, or refuses them.
    pub(crate) fn settle(self, partial: bool, records: &mut Vec<Record>) -> Result<()> {
        let rows = self.rows;
        let Some((token, id, from)) = self.tokens.first() else {
            return Ok(());
        };
        if !partial {
            let error = VocabError::Beyond {
                count: self.tokens.len(),
                token: token.clone(),
                id: *id as u64,
                rows: rows as u64,
            };
            return Err(Error::from(error).in_file(*from));
        }
        records.extend(self.tokens.iter().map(|(token, id, _)| {
            let why = format!("its id {id} is beyond the {rows} rows of the model");
            let what = format!("added token {token:?}");
            Record::dropped("lint-vocab", what, why).flag("--partial")
        }));
        Ok(())
    }
}

const ADDED_TOKENS: &str = "added_tokens.json";

/// Tokens of `added_tokens.json`.
pub(crate) fn put_added_json(
    files: &Files<'_>,
    tokens: &mut Tokens,
    beyond: &mut Beyond,
) -> Result<()> {
    for (text, id) in files.object(ADDED_TOKENS)?.into_iter().flatten() {
        let place = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let Some(place) = place else {
            let what = format!("added token {text:?}");
            let error = VocabError::BadId {
                what,
                found: id.to_string(),
            };
            return Err(Error::from(error).in_file(ADDED_TOKENS));
        };
        beyond.put(tokens, place, text, kind::USER_DEFINED, ADDED_TOKENS);
    }
    Ok(())
}

/// Tokens with their ids as an object of id and token, `added_tokens_decoder`.
pub(crate) fn decoder_entries(files: &Files<'_>) -> Result<Vec<(usize, String, bool)>> {
    let config = files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
    let decoder = config
        .get("added_tokens_decoder")
        .and_then(Value::as_object);
    let mut list = Vec::new();
    for (id, token) in decoder.into_iter().flatten() {
        let content = token.get("content").and_then(Value::as_str);
        let (Ok(number), Some(content)) = (id.parse(), content) else {
            let what = "a key of added_tokens_decoder".to_owned();
            let error = VocabError::BadId {
                what,
                found: id.clone(),
            };
            return Err(Error::from(error).in_file(TOKENIZER_CONFIG));
        };
        let special = token.get("special").and_then(Value::as_bool) == Some(true);
        list.push((number, content.to_owned(), special));
    }
    Ok(list)
}

/// The pieces of `tokenizer.model`, each in its row. A model that has fewer rows is refused.
fn own_tokens(files: &Files<'_>, rows: Option<u64>) -> Result<(Tokens, Beyond)> {
    let model = read(files.need(TOKENIZER_MODEL)?, TOKENIZER_MODEL, files.limits)?;
    let rows = rows.unwrap_or(model.pieces.len() as u64);
    Limits::check("tokens", rows, files.limits.entries)?;
    let n = usize::try_from(rows).unwrap_or(usize::MAX);
    if model.pieces.len() > n {
        let last = model.pieces.last().map(|piece| piece.piece().to_owned());
        let error = VocabError::TooLarge {
            token: last.unwrap_or_default(),
            id: model.pieces.len() as u64 - 1,
            rows,
            rows_from: "vocab_size of config.json",
        };
        return Err(Error::from(error).in_file(TOKENIZER_MODEL));
    }
    Ok((pieces(&model, n), Beyond::new(n)))
}

/// The reference's `_create_vocab_sentencepiece`.
pub(crate) fn tokens(files: &Files<'_>, rows: Option<u64>) -> Result<(Tokens, Beyond)> {
    let (mut tokens, mut beyond) = own_tokens(files, rows)?;
    put_added_json(files, &mut tokens, &mut beyond)?;
    for (id, text, special) in decoder_entries(files)? {
        let (text, kind) = if special || looks_special(&text) {
            (text, kind::CONTROL)
        } else {
            (text.replace('\u{2581}', " "), kind::USER_DEFINED)
        };
        beyond.put(&mut tokens, id, text, kind, TOKENIZER_CONFIG);
    }
    Ok((tokens, beyond))
}

/// Phi-3's own: as [`tokens`], but added tokens keep their text, and those of `tokenizer.json`
/// come last.
pub(crate) fn phi3_tokens(files: &Files<'_>, rows: Option<u64>) -> Result<(Tokens, Beyond)> {
    let (mut tokens, mut beyond) = own_tokens(files, rows)?;
    put_added_json(files, &mut tokens, &mut beyond)?;
    let mut entries = decoder_entries(files)?;
    if let Some(bytes) = files.bytes(crate::json::TOKENIZER_JSON)? {
        let json = crate::json::TokenizerJson::read(&bytes, files.limits)?;
        let more = json.added_tokens.into_iter();
        entries.extend(more.map(|token| (token.id as usize, token.content, token.special)));
    }
    for (id, text, special) in entries {
        let kind = if special {
            kind::CONTROL
        } else {
            kind::USER_DEFINED
        };
        beyond.put(&mut tokens, id, text, kind, TOKENIZER_CONFIG);
    }
    Ok((tokens, beyond))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_before_it_reads() {
        let many = [0x0a, 0].repeat(2_000_000);
        let error = read(many.into(), "t", &Limits::default()).unwrap_err();
        assert_eq!(error.class(), ir::Class::Limit);
        for cut in [&[0x0a][..], &[0x0a, 5, 1], &[0xff; 11], &[0x0b]] {
            let error = read(Bytes::copy_from_slice(cut), "t", &Limits::default()).unwrap_err();
            assert_eq!(error.class(), ir::Class::Malformed);
        }
    }
}
