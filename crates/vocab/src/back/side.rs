//! The small files beside a tokenizer: its config, special tokens, templates, generation config.

use super::facts::{Facts, ROLES};
use super::json_file;
use crate::pairs::kind;
use ir::{MetaValue, Metadata, Result, ns};
use serde_json::{Map, Value, json};

/// The key of the chat template behind `tokenizer.`, and what those of the named ones begin with.
pub(super) const TEMPLATE: &str = "chat_template";

/// Adds them all. How the model samples goes beside the ids that end a text.
pub(crate) fn add(
    facts: &Facts<'_>,
    metadata: &Metadata,
    sampling: Map<String, Value>,
    files: &mut Vec<(String, Vec<u8>)>,
) -> Result<()> {
    let mut special = Map::new();
    for (role, name) in ROLES {
        if let Some((text, _)) = facts.role(role) {
            special.insert((*name).to_owned(), json!(text));
        }
    }
    if facts.model == "bert" {
        // BERT's start is its class token; GGUF has it as bos.
        if let Some(bos) = special.get("bos_token").cloned() {
            special.insert("cls_token".to_owned(), bos);
        }
    }
    let mut config = Map::new();
    config.insert("added_tokens_decoder".to_owned(), decoder(facts));
    config.extend(special.clone());
    if facts.model == "gemma4" {
        // There a token is a control token by its role, not by its flag.
        let roles: Vec<u32> = ROLES
            .iter()
            .filter_map(|(role, _)| Some(facts.role(role)?.1))
            .collect();
        let more = facts.used().filter(|(id, _)| {
            let has_role = u32::try_from(*id).is_ok_and(|id| roles.contains(&id));
            facts.kind(*id) == kind::CONTROL && !has_role
        });
        let more: Vec<&str> = more.map(|(_, text)| text).collect();
        config.insert("additional_special_tokens".to_owned(), json!(more));
    }
    // Of a Unigram file this says whether spaces in a row are one.
    let clean = facts.model == "t5" && facts.flag("remove_extra_whitespaces") == Some(true);
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(clean));
    if let Some(prefix) = facts.flag("add_space_prefix") {
        config.insert("add_prefix_space".to_owned(), json!(prefix));
    }
    // The form of tokenizer.json says which are put around a text, and where it splits bytes also
    // which are not.
    let adds = ["add_bos_token", "add_eos_token"].map(|flag| (flag, facts.flag(flag)));
    let told = ["bert", "gpt2"].contains(&facts.model);
    if let [(_, Some(bos)), (_, Some(eos))] = adds
        && !(told || bos && eos)
    {
        for (flag, adds) in adds {
            config.insert(flag.to_owned(), json!(adds));
        }
    }
    // Any other class would build a tokenizer of its own in the place of tokenizer.json's.
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    files.push(json_file("tokenizer_config.json", &Value::Object(config))?);
    files.push(json_file(
        "special_tokens_map.json",
        &Value::Object(special),
    )?);
    templates(metadata, files);
    let mut generation = generation(facts);
    generation.extend(sampling);
    if !generation.is_empty() {
        files.push(json_file(
            "generation_config.json",
            &Value::Object(generation),
        )?);
    }
    Ok(())
}

/// The added tokens by id. Of a scored vocabulary only those that were added to the model: their
/// score tells.
fn decoder(facts: &Facts<'_>) -> Value {
    let scored = !facts.scores.is_empty();
    let added = facts.used().filter(|(id, _)| {
        let own = facts.is_added(*id) && facts.kind(*id) != kind::UNKNOWN;
        own && (!scored || facts.score(*id) <= -1000.0)
    });
    let entries = added.map(|(id, text)| (id.to_string(), Value::Object(facts.flags(id, text))));
    Value::Object(entries.collect())
}

fn templates(metadata: &Metadata, files: &mut Vec<(String, Vec<u8>)>) {
    let main = format!("tokenizer.{TEMPLATE}");
    let text = |value: &MetaValue| value.as_str().map(|text| text.as_bytes().to_vec());
    let default = metadata.get(ns::GGUF, &main).and_then(text);
    let named = metadata.of(ns::GGUF).filter_map(|(key, value)| {
        let name = key.strip_prefix(&main)?.strip_prefix('.')?;
        let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (plain && !name.is_empty()).then_some(())?;
        Some((
            format!("additional_chat_templates/{name}.jinja"),
            text(value)?,
        ))
    });
    let named: Vec<_> = named.collect();
    if default.is_some() || !named.is_empty() {
        files.push((
            "chat_template.jinja".to_owned(),
            default.unwrap_or_default(),
        ));
    }
    files.extend(named);
}

fn generation(facts: &Facts<'_>) -> Map<String, Value> {
    let mut map = Map::new();
    let id = |role: &str| facts.role(role).map(|(_, id)| id);
    if ["bert", "t5"].contains(&facts.model) {
        return map;
    }
    if let Some(bos) = id("bos") {
        map.insert("bos_token_id".to_owned(), json!(bos));
    }
    let mut ends: Vec<u32> = ["eos", "eot", "eom"].into_iter().filter_map(id).collect();
    ends.dedup();
    match ends.as_slice() {
        [] => {}
        [one] => {
            map.insert("eos_token_id".to_owned(), json!(one));
        }
        many => {
            map.insert("eos_token_id".to_owned(), json!(many));
        }
    }
    if let Some(pad) = id("padding") {
        map.insert("pad_token_id".to_owned(), json!(pad));
    }
    map
}
