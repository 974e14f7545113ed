//! What looks wrong about a tokenizer although it can be carried.

use crate::error::VocabError;
use crate::files::Files;
use crate::forward::Request;
use crate::pairs::{Pairs, kind};
use crate::special::TOKENIZER_CONFIG;
use bytes::Bytes;
use ir::{Array, Error, Limits, MetaValue, Record, Result};
use serde_json::Value;

/// Tokens that end a turn in known templates.
const TURN_ENDS: &[&str] = &[
    "<|im_end|>",
    "<|eot_id|>",
    "<|end|>",
    "<end_of_turn>",
    "<turn|>",
    "<|eot|>",
    "<|return|>",
    "<|endofassistant|>",
];

/// Further texts that llama.cpp takes for an end wherever they are tokens, whatever the keys say.
/// Source: `llm_load_vocab` in `src/llama-vocab.cpp` of llama.cpp 0.5.0-dev (MIT).
const ENDS_BY_TEXT: &[&str] = &[
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<|tool_response>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "[e~[",
];

/// Settings of `tokenizer_config.json` that change what a tokenizer gives and that GGUF has no keys
/// for, with what goes without saying.
const SETTINGS: &[(&str, &str)] = &[
    ("clean_up_tokenization_spaces", "false"),
    ("padding_side", "\"right\""),
    ("truncation_side", "\"right\""),
];

/// Compares the keys with template, generation config and embedding.
pub(crate) fn lint(
    files: &Files<'_>,
    request: &Request<'_>,
    pairs: &Pairs,
    records: &mut Vec<Record>,
) -> Result<()> {
    let tokens: &[Bytes] = match pairs.get("tokens") {
        Some(MetaValue::Array(Array::Str(list))) => list,
        _ => &[],
    };
    let types: &[i32] = match pairs.get("token_type") {
        Some(MetaValue::Array(Array::I32(list))) => list,
        _ => &[],
    };
    if let Some(rows) = request.embedding_rows {
        embedding(tokens, types, rows, records)?;
    }
    let id = |name: &str| {
        pairs
            .get(&format!("{name}_token_id"))
            .and_then(MetaValue::as_u64)
    };
    for role in [
        "bos",
        "eos",
        "eot",
        "eom",
        "unknown",
        "seperator",
        "padding",
        "mask",
    ] {
        if let Some(id) = id(role).filter(|id| *id >= tokens.len() as u64) {
            let why = format!("it is {id}, there are {} tokens", tokens.len());
            records.push(warn("lint-special", format!("{role}_token_id"), why));
        }
    }
    let ends = generation_ends(files)?;
    if let Some(eos) = id("eos").filter(|eos| !ends.is_empty() && !ends.contains(eos)) {
        let why = format!("it is {eos}, generation_config.json ends at {ends:?}");
        records.push(warn("lint-eos", "eos_token_id", why));
    }
    let known = [id("eos"), id("eot"), id("eom")];
    let more = ends.iter().filter(|end| !known.contains(&Some(**end)));
    for end in more {
        let token = usize::try_from(*end).ok().and_then(|end| tokens.get(end));
        records.push(further_end(*end, token.map(Bytes::as_ref)));
    }
    records.extend(settings(files)?);
    let template = pairs
        .0
        .iter()
        .find(|(key, _)| key == "tokenizer.chat_template");
    let Some(template) = template.and_then(|(_, value)| value.as_str()) else {
        return Ok(());
    };
    for end in TURN_ENDS.iter().filter(|end| template.contains(**end)) {
        let at = tokens.iter().position(|token| token == end.as_bytes());
        let stops = |at: usize| {
            let at = Some(at as u64);
            [id("eos"), id("eot"), id("eom")].contains(&at)
                || at.is_some_and(|at| ends.contains(&at))
        };
        match at {
            None => {
                let why = format!("it ends turns with {end:?}, which is no token");
                records.push(warn("lint-template", "chat template", why));
            }
            // llama.cpp takes these for ends of a turn by their text, so this is no loss there.
            Some(at) if !stops(at) => {
                let why =
                    format!("it ends turns with {end:?} (id {at}), which is neither eos nor eot");
                records.push(warn("lint-eot", "chat template", why));
            }
            Some(_) => {}
        }
    }
    let adds = pairs.get("add_bos_token") == Some(&MetaValue::Bool(true));
    let bos = id("bos").and_then(|id| tokens.get(usize::try_from(id).ok()?));
    let bos = bos
        .and_then(|token| std::str::from_utf8(token).ok())
        .unwrap_or("bos_token");
    if adds && (template.contains("bos_token") || template.contains(bos)) {
        let why = format!("it writes {bos:?} and add_bos_token is true: a text may begin with two");
        records.push(warn("lint-bos", "chat template", why));
    }
    Ok(())
}

/// Something that is carried as it is.
fn warn(kind: &'static str, what: impl Into<String>, why: impl Into<String>) -> Record {
    Record::carried(kind, what, why)
}

/// An id to end at that is none of the three that GGUF has keys for.
fn further_end(id: u64, token: Option<&[u8]>) -> Record {
    let text = token.map(String::from_utf8_lossy).unwrap_or_default();
    let what = format!("generation_config.json eos_token_id {id}");
    if TURN_ENDS.contains(&text.as_ref()) || ENDS_BY_TEXT.contains(&text.as_ref()) {
        let why = format!("GGUF has no key for it; llama.cpp ends at {text:?} by its text");
        return warn("end-by-text", what, why);
    }
    let why = format!("GGUF has no key for one more end, here {text:?}: a runtime goes on there");
    Record::dropped("end-id", what, why).flag("--modelfile")
}

/// A token of use beyond the embedding is an error; padding there is told.
fn embedding(tokens: &[Bytes], types: &[i32], rows: u64, records: &mut Vec<Record>) -> Result<()> {
    // Also padding that a wrong vocab_size asks for: no runtime takes more tokens than rows.
    let used = types.iter().rposition(|own| *own != kind::UNUSED);
    let last = tokens.len().checked_sub(1);
    if let Some(id) = used.max(last).filter(|id| *id as u64 >= rows) {
        let token = tokens
            .get(id)
            .map(|token| String::from_utf8_lossy(token).into_owned());
        return Err(Error::from(VocabError::TooLarge {
            token: token.unwrap_or_default(),
            id: id as u64,
            rows,
            rows_from: "the embedding tensor's shape",
        }));
    }
    if tokens.len() as u64 != rows {
        let why = format!("{} tokens, the embedding has {rows} rows", tokens.len());
        records.push(warn("lint-vocab", "tokenizer.ggml.tokens", why));
    }
    Ok(())
}

/// The settings that do not travel.
fn settings(files: &Files<'_>) -> Result<Option<Record>> {
    let config = files.object(TOKENIZER_CONFIG)?.unwrap_or_default();
    let own = SETTINGS.iter().filter_map(|(key, usual)| {
        let value = config.get(*key).filter(|value| !value.is_null())?;
        let value = value.to_string();
        (value != *usual).then(|| format!("{key} {value}"))
    });
    let own: Vec<String> = own.collect();
    let why = "GGUF has no key for it, and no runtime of GGUF asks";
    Ok((!own.is_empty()).then(|| {
        let what = format!("{TOKENIZER_CONFIG} {}", own.join(", "));
        Record::dropped("tokenizer-setting", what, why).wanted()
    }))
}

/// Most ids a generation may end at: known models have up to six, and each is told of.
const MAX_ENDS: u64 = 4096;

/// The ids a generation ends at.
fn generation_ends(files: &Files<'_>) -> Result<Vec<u64>> {
    const FILE: &str = "generation_config.json";
    let config = files.object(FILE)?.unwrap_or_default();
    Ok(match config.get("eos_token_id") {
        Some(Value::Array(list)) => {
            let n = list.len() as u64;
            Limits::check("ids in eos_token_id", n, MAX_ENDS)
                .map_err(|error| error.in_file(FILE))?;
            list.iter().filter_map(Value::as_u64).collect()
        }
        Some(one) => one.as_u64().into_iter().collect(),
        None => Vec::new(),
    })
}
