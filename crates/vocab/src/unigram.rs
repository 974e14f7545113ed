//! Unigram tokenizers: T5's and XLM-RoBERTa's.

use crate::bpe::Loaded;
use crate::error::VocabError;
use crate::files::Files;
use crate::json::Words;
use crate::pairs::{Pairs, Tokens, key, kind};
use crate::spm;
use crate::wire::{ModelProto, trainer_spec::ModelType};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use bytes::Bytes;
use ir::{Array, Error, Limits, MetaValue, Record, Result};
use serde_json::Value;

/// The tokens, and what is done to a text before.
pub(crate) struct Unigram {
    pub(crate) tokens: Tokens,
    pub(crate) add_space_prefix: bool,
    pub(crate) remove_extra_whitespaces: bool,
    pub(crate) charsmap: Vec<u8>,
}

impl Unigram {
    /// Writes the keys. `types` is `token_type_count`, which stands between them.
    pub(crate) fn write(self, types: Option<u32>, pairs: &mut Pairs) {
        pairs.text("model", "t5");
        pairs.text("pre", "default");
        self.tokens.write(pairs);
        pairs.bool("add_space_prefix", self.add_space_prefix);
        if let Some(types) = types {
            pairs.u32("token_type_count", types);
        }
        pairs.bool("remove_extra_whitespaces", self.remove_extra_whitespaces);
        let map = MetaValue::Array(Array::U8(self.charsmap));
        pairs.set(key("precompiled_charsmap"), map);
    }
}

fn of_model(model: &ModelProto, tokens: Tokens) -> Unigram {
    let spec = model.normalizer_spec.clone().unwrap_or_default();
    Unigram {
        tokens,
        add_space_prefix: spec.add_dummy_prefix(),
        remove_extra_whitespaces: spec.remove_extra_whitespaces(),
        charsmap: spec.precompiled_charsmap().to_vec(),
    }
}

fn is(model: &ModelProto, kind: ModelType) -> bool {
    let spec = model.trainer_spec.clone().unwrap_or_default();
    spec.model_type() == kind
}

/// T5's, from `tokenizer.model` or `spiece.model`; `None` if it is BPE after all.
pub(crate) fn t5(
    files: &Files<'_>,
    rows: Option<u64>,
    partial: bool,
    records: &mut Vec<Record>,
) -> Result<Option<Unigram>> {
    let names = [spm::TOKENIZER_MODEL, "spiece.model"];
    let Some(name) = names.into_iter().find(|name| files.has(name)) else {
        let names = names.to_vec();
        return Err(VocabError::Missing { names }.into());
    };
    let model = spm::read(files.need(name)?, name, files.limits)?;
    if is(&model, ModelType::Bpe) {
        return Ok(None);
    }
    let n_pieces = model.pieces.len();
    let rows = rows.unwrap_or(n_pieces as u64);
    Limits::check("tokens", rows, files.limits.entries)?;
    let n = usize::try_from(rows).unwrap_or(usize::MAX);
    if n_pieces > n {
        let last = model.pieces.last().map(|piece| piece.piece().to_owned());
        let error = VocabError::TooLarge {
            token: last.unwrap_or_default(),
            id: n_pieces as u64 - 1,
            rows,
            rows_from: "vocab_size of config.json",
        };
        return Err(Error::from(error).in_file(name));
    }
    let (mut tokens, mut beyond) = (spm::pieces(&model, n), spm::Beyond::new(n));
    spm::put_added_json(files, &mut tokens, &mut beyond)?;
    beyond.settle(partial, records)?;
    Ok(Some(of_model(&model, tokens)))
}

/// XLM-RoBERTa's, from `sentencepiece.bpe.model` or `tokenizer.json`.
pub(crate) fn xlm_roberta(files: &Files<'_>, rows: Option<u64>, mask: bool) -> Result<Unigram> {
    const NAME: &str = "sentencepiece.bpe.model";
    if !files.has(NAME) {
        return of_json(files, rows.unwrap_or(0));
    }
    let model = spm::read(files.need(NAME)?, NAME, files.limits)?;
    if !is(&model, ModelType::Unigram) {
        let what = "its model is not Unigram, as XLM-RoBERTa's is".to_owned();
        return Err(Error::from(VocabError::Unsupported { what }).in_file(NAME));
    }
    let n = rows.unwrap_or(0).max(model.pieces.len() as u64);
    Limits::check("tokens", n, files.limits.entries)?;
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    let own = spm::pieces(&model, n);
    // fairseq's order: four special tokens in the place of the model's three, the last one gone.
    let mut tokens = Tokens {
        scores: Some(Vec::new()),
        ..Tokens::default()
    };
    tokens.push("<s>", 0.0, kind::CONTROL);
    tokens.push("<pad>", 0.0, kind::CONTROL);
    tokens.push("</s>", 0.0, kind::CONTROL);
    tokens.push("<unk>", 0.0, kind::UNKNOWN);
    let scores = own.scores.unwrap_or_default();
    let rest = own.texts.into_iter().zip(scores).zip(own.types);
    for ((text, score), kind) in rest.take(n.saturating_sub(1)).skip(3) {
        tokens.push(text, score, kind);
    }
    if mask {
        tokens.put(250_001, "<mask>", 0.0, kind::CONTROL);
    }
    Ok(of_model(&model, tokens))
}

fn of_json(files: &Files<'_>, rows: u64) -> Result<Unigram> {
    let loaded = Loaded::read(files)?;
    let Words::Pieces(pieces) = &loaded.json.model.vocab else {
        let kind = loaded.json.model.kind();
        let what = format!("its model is {kind}, Unigram was expected");
        return Err(Error::from(VocabError::Unsupported { what }).in_file(loaded.file));
    };
    let n = rows.max(pieces.len() as u64);
    Limits::check("tokens", n, files.limits.entries)?;
    let mut tokens = Tokens::padded(usize::try_from(n).unwrap_or(usize::MAX));
    let config = loaded.config.as_ref();
    let flag = |name: &str| config.and_then(|c| c.get(name)).and_then(Value::as_bool);
    // Only XLM-RoBERTa's own class says a space goes before a text where the config does not.
    let class = config.and_then(|c| c.get("tokenizer_class")?.as_str());
    let own_class = class.is_none_or(|class| class.starts_with("XLMRoberta"));
    let unk = config.and_then(|c| c.get("unk_token")?.as_str());
    let unk = unk
        .and_then(|unk| loaded.added.get(unk))
        .map(|token| token.id);
    let unk = unk.or(loaded.json.model.unk_id).unwrap_or(3) as usize;
    for (id, (text, score)) in pieces.iter().enumerate() {
        let kind = if id == unk {
            kind::UNKNOWN
        } else if loaded.added.is_named(text) {
            kind::CONTROL
        } else if loaded.added.get(text).is_some() {
            kind::USER_DEFINED
        } else {
            kind::NORMAL
        };
        #[allow(clippy::cast_possible_truncation)] // the file's singles, written as doubles
        let score = *score as f32;
        tokens.put(id, Bytes::copy_from_slice(text.as_bytes()), score, kind);
    }
    let charsmap = charsmap(&loaded.json.normalizer, 0).unwrap_or_default();
    Ok(Unigram {
        tokens,
        add_space_prefix: flag("add_prefix_space").unwrap_or(own_class),
        remove_extra_whitespaces: flag("clean_up_tokenization_spaces").unwrap_or(false),
        charsmap: BASE64.decode(&charsmap).map_err(|_| {
            let why = "precompiled_charsmap is not base64";
            Error::from(VocabError::malformed(why)).in_file(loaded.file)
        })?,
    })
}

fn charsmap(normalizer: &Value, depth: u32) -> Option<String> {
    if let Some(Value::String(map)) = normalizer.get("precompiled_charsmap") {
        return Some(map.clone());
    }
    let inner = normalizer.get("normalizers")?.as_array()?;
    inner
        .iter()
        .filter(|_| depth < 16)
        .find_map(|one| charsmap(one, depth + 1))
}
