//! Tokenizers with scores: SentencePiece's BPE and Unigram.

use super::{around, bpe, sequence, tokenizer_json};
use crate::back::facts::Facts;
use crate::pairs::kind;
use crate::wire::{
    ModelProto, NormalizerSpec, TrainerSpec, model_proto::SentencePiece,
    model_proto::sentence_piece::Type, trainer_spec::ModelType,
};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ir::Result;
use prost::Message;
use serde_json::{Value, json};
use std::collections::HashMap;

const SPACE: char = '\u{2581}';

/// `tokenizer.model` and the same in `tokenizer.json`.
pub(crate) fn llama(facts: &Facts<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let prefix = facts.flag("add_space_prefix").unwrap_or(true);
    let [bos, eos] = facts.around(true, false);
    let mut normalizers = Vec::new();
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.push(json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    let model = json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unk(facts).map(|(text, _)| text),
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": facts.types.contains(&kind::BYTE),
        "ignore_merges": false,
        "vocab": bpe::vocab(facts),
        "merges": merges(facts),
    });
    let post = match (bos, eos) {
        (None, None) => Value::Null,
        _ => around(bos, eos, facts.second(bos, eos)),
    };
    let parts = [
        ("normalizer", sequence("normalizers", normalizers)),
        ("pre_tokenizer", Value::Null),
        ("post_processor", post),
        ("decoder", sequence("decoders", decoders)),
    ];
    Ok(vec![
        (
            "tokenizer.model".to_owned(),
            proto(facts, ModelType::Bpe, prefix, false),
        ),
        tokenizer_json(facts, parts, model)?,
    ])
}

/// `tokenizer.json`, and for T5's order of special tokens `spiece.model` beside it.
pub(crate) fn unigram(facts: &Facts<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let prefix = facts.flag("add_space_prefix").unwrap_or(true);
    let squeeze = facts.flag("remove_extra_whitespaces").unwrap_or(false);
    let [bos, eos] = facts.around(false, true);
    let mut normalizers = Vec::new();
    let charsmap = facts.bytes("precompiled_charsmap");
    if !charsmap.is_empty() {
        let map = BASE64.encode(charsmap);
        normalizers.push(json!({"type": "Precompiled", "precompiled_charsmap": map}));
    }
    if squeeze {
        normalizers.push(json!({"type": "Strip", "strip_left": true, "strip_right": true}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}));
    let scheme = if prefix { "always" } else { "never" };
    let metaspace = json!({
        "type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": true,
    });
    let all = facts.tokens.iter().enumerate();
    let pieces: Vec<Value> = all
        .map(|(id, text)| json!([text, facts.score(id)]))
        .collect();
    let model = json!({
        "type": "Unigram", "unk_id": unk(facts).map(|(_, id)| id), "vocab": pieces,
        "byte_fallback": facts.types.contains(&kind::BYTE),
    });
    let parts = [
        ("normalizer", sequence("normalizers", normalizers)),
        ("pre_tokenizer", metaspace.clone()),
        ("post_processor", around(bos, eos, facts.second(None, eos))),
        ("decoder", metaspace),
    ];
    let mut files = vec![tokenizer_json(facts, parts, model)?];
    if bos.is_none() {
        files.push((
            "spiece.model".to_owned(),
            proto(facts, ModelType::Unigram, prefix, squeeze),
        ));
    }
    Ok(files)
}

fn unk<'a>(facts: &Facts<'a>) -> Option<(&'a str, u32)> {
    let at = facts.types.iter().position(|own| *own == kind::UNKNOWN);
    let found = at.and_then(|at| Some((*facts.tokens.get(at)?, u32::try_from(at).ok()?)));
    found.or_else(|| facts.role("unknown"))
}

/// The merges a scored BPE stands for: every way to put a piece together, the best piece first.
fn merges(facts: &Facts<'_>) -> Value {
    /// Longer pieces are not put together from two: SentencePiece's own limit is 16 by default.
    const MAX_LEN: usize = 1024;
    let whole = |id: usize| [kind::NORMAL, kind::USER_DEFINED].contains(&facts.kind(id));
    let pieces = || {
        facts
            .used()
            .filter(|(id, text)| whole(*id) && text.len() <= MAX_LEN)
    };
    let ids: HashMap<&str, usize> = pieces().map(|(id, text)| (text, id)).collect();
    let mut list = Vec::new();
    for (id, text) in pieces() {
        let start = list.len();
        for (at, _) in text.char_indices().skip(1) {
            let (left, right) = text.split_at(at);
            if let (Some(l), Some(r)) = (ids.get(left), ids.get(right)) {
                list.push((id, *l, *r, left, right));
            }
        }
        if let Some(own) = list.get_mut(start..) {
            own.sort_by_key(|(_, l, r, _, _)| (*l, *r));
        }
    }
    list.sort_by(|a, b| facts.score(b.0).total_cmp(&facts.score(a.0)));
    list.into_iter()
        .map(|(_, _, _, left, right)| json!([left, right]))
        .collect()
}

/// The model file.
fn proto(facts: &Facts<'_>, kind: ModelType, prefix: bool, squeeze: bool) -> Vec<u8> {
    let pieces = facts.tokens.iter().enumerate().map(|(id, text)| {
        let own = match facts.kind(id) {
            kind::UNKNOWN => Type::Unknown,
            kind::CONTROL => Type::Control,
            kind::USER_DEFINED => Type::UserDefined,
            kind::UNUSED => Type::Unused,
            kind::BYTE => Type::Byte,
            _ => Type::Normal,
        };
        SentencePiece {
            piece: Some((*text).to_owned()),
            score: Some(facts.score(id)),
            r#type: Some(own.into()),
        }
    });
    let id = |role: &str| {
        let found = facts.role(role).and_then(|(_, id)| i32::try_from(id).ok());
        Some(found.unwrap_or(-1))
    };
    let piece = |role: &str| facts.role(role).map(|(text, _)| text.to_owned());
    let unknown = unk(facts);
    let model = ModelProto {
        pieces: pieces.collect(),
        trainer_spec: Some(TrainerSpec {
            model_type: Some(kind.into()),
            vocab_size: i32::try_from(facts.tokens.len()).ok(),
            byte_fallback: Some(facts.types.contains(&kind::BYTE)),
            unk_id: unknown
                .and_then(|(_, id)| i32::try_from(id).ok())
                .or(Some(-1)),
            bos_id: id("bos"),
            eos_id: id("eos"),
            pad_id: id("padding"),
            unk_surface: Some(" \u{2047} ".to_owned()),
            unk_piece: unknown.map(|(text, _)| text.to_owned()),
            bos_piece: piece("bos"),
            eos_piece: piece("eos"),
            pad_piece: piece("padding"),
            ..TrainerSpec::default()
        }),
        normalizer_spec: Some(NormalizerSpec {
            name: Some("identity".to_owned()),
            precompiled_charsmap: Some(facts.bytes("precompiled_charsmap").to_vec().into()),
            add_dummy_prefix: Some(prefix),
            remove_extra_whitespaces: Some(squeeze),
            escape_whitespaces: None,
        }),
    };
    model.encode_to_vec()
}
