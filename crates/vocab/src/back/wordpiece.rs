//! WordPiece: `vocab.txt` and `tokenizer.json`.

use super::{around, tokenizer_json};
use crate::back::facts::Facts;
use crate::pairs::kind;
use ir::Result;
use serde_json::{Map, Value, json};

/// Both files.
pub(crate) fn files(facts: &Facts<'_>) -> Result<Vec<(String, Vec<u8>)>> {
    let words: Vec<String> = (0..facts.tokens.len()).map(|id| word(facts, id)).collect();
    let mut text = words.join("\n");
    text.push('\n');
    let vocab: Map<String, Value> = words
        .iter()
        .enumerate()
        .filter(|(id, _)| !facts.is_pad(*id))
        .map(|(id, word)| (word.clone(), json!(id)))
        .collect();
    let unk = facts.role("unknown").map_or("[UNK]", |(text, _)| text);
    let model = json!({
        "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": vocab,
    });
    // BERT's start and end go around one text; a second text has only the end.
    let [bos, eos] = facts.around(true, true);
    let first = bos.or_else(|| named(facts, "[CLS]"));
    let last = eos.or_else(|| facts.role("seperator"));
    let parts = [
        (
            "normalizer",
            json!({
                "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                "strip_accents": facts.flag("normalizer.strip_accents"),
                "lowercase": facts.flag("normalizer.lowercase").unwrap_or(true),
            }),
        ),
        ("pre_tokenizer", json!({"type": "BertPreTokenizer"})),
        (
            "post_processor",
            around(first, last, facts.second(None, last)),
        ),
        (
            "decoder",
            json!({"type": "WordPiece", "prefix": "##", "cleanup": true}),
        ),
    ];
    Ok(vec![
        ("vocab.txt".to_owned(), text.into_bytes()),
        tokenizer_json(facts, parts, model)?,
    ])
}

fn named<'a>(facts: &Facts<'a>, name: &str) -> Option<(&'a str, u32)> {
    let at = facts.tokens.iter().position(|text| *text == name)?;
    Some((facts.tokens.get(at)?, u32::try_from(at).ok()?))
}

/// The word as a vocabulary file has it: GGUF marks the starts of words, the file their
/// continuations.
fn word(facts: &Facts<'_>, id: usize) -> String {
    let text = facts.tokens.get(id).copied().unwrap_or_default();
    if facts.kind(id) == kind::CONTROL {
        return text.to_owned();
    }
    match text.strip_prefix('\u{2581}') {
        Some(start) => start.to_owned(),
        None => format!("##{text}"),
    }
}
