//! Do the config's sizes and the tensors go together?
//!
//! A config that lacks a key gets its class's default, as in transformers. Released models rely on
//! that; where a key was lost, the default is wrong, and a wrong number of heads would shuffle rows.

use super::Planned;
use crate::error::ArchError;
use ir::{MetaValue, Result};
use std::collections::BTreeSet;

/// Refuses blocks beyond the config's count, and blocks of which there is no tensor. Those that
/// predict further tokens may be left out.
fn blocks(count: Option<u64>, beyond: u64, tensors: &[Planned]) -> Result<()> {
    let Some(count) = count else {
        return Ok(());
    };
    let number = |p: &Planned| {
        p.tensor
            .name
            .strip_prefix("blk.")?
            .split('.')
            .next()?
            .parse()
            .ok()
    };
    let there: BTreeSet<u64> = tensors.iter().filter_map(number).collect();
    let Some(last) = there.last().copied() else {
        return Ok(());
    };
    if last >= count {
        let why = format!("it is {count}, and there are tensors of block {last}");
        let what = "num_hidden_layers".to_owned();
        return Err(ArchError::BadValue { what, why }.into());
    }
    let needed = count.saturating_sub(beyond);
    let gone: Vec<String> = (0..needed)
        .filter(|block| !there.contains(block))
        .take(8)
        .map(|block| format!("all of block {block}"))
        .collect();
    if gone.is_empty() {
        return Ok(());
    }
    let target = format!("a model of {count} blocks");
    Err(ArchError::MissingParts {
        target,
        missing: gone,
    }
    .into())
}

/// Refuses a width or a number of heads that is missing (a user's `own` map may go without) or that
/// the tensors contradict.
pub(super) fn check(
    arch: &str,
    own: bool,
    params: &[(String, MetaValue)],
    tensors: &[Planned],
) -> Result<()> {
    let value = |key: &str| {
        let found = params.iter().find(|(name, _)| {
            let name = name.strip_prefix(arch).and_then(|n| n.strip_prefix('.'));
            name == Some(key)
        });
        found.map(|(_, value)| value)
    };
    let number = |key: &str| match value(key) {
        Some(MetaValue::U32(n)) if *n > 0 => Some(u64::from(*n)),
        _ => None,
    };
    let shape = |wanted: &dyn Fn(&str) -> bool| {
        let found = tensors.iter().find(|p| wanted(&p.tensor.name));
        match found.map(|p| &p.tensor.spec.shape[..]) {
            Some(&[rows, columns]) => Some((rows, columns)),
            _ => None,
        }
    };
    let refuse = |what: &str, why: String| {
        let what = what.to_owned();
        let why = format!("{why}; without the key it is the default of the class");
        Err(ArchError::BadValue { what, why }.into())
    };
    let lacks = |key: &str, config: &str| {
        let gguf_key = format!("{arch}.{key}");
        let keys = vec![config.to_owned()];
        Err(ArchError::MissingKey { gguf_key, keys }.into())
    };
    blocks(
        number("block_count"),
        number("nextn_predict_layers").unwrap_or(0),
        tensors,
    )?;
    let embedding = shape(&|name| name == "token_embd.weight");
    let Some(width) = number("embedding_length") else {
        return match embedding {
            Some(_) if !own => lacks("embedding_length", "hidden_size"),
            _ => Ok(()),
        };
    };
    if let Some((_, columns)) = embedding.filter(|(_, columns)| *columns != width) {
        let why = format!("it is {width}, and the rows of the embedding have {columns} values");
        return refuse("hidden_size", why);
    }
    let part = |name: &str| {
        let found = shape(&|at| at.starts_with("blk.") && at.ends_with(name));
        found.map(|(rows, _)| rows)
    };
    let (query, key) = (part(".attn_q.weight"), part(".attn_k.weight"));
    if !own && query.is_some() && value("attention.head_count").is_none() {
        return lacks("attention.head_count", "num_attention_heads");
    }
    // Latent attention and layers of different heads have other shapes.
    let special = ["attention.key_length_mla", "attention.key_length_swa"];
    let (Some(heads), false) = (
        number("attention.head_count"),
        special.iter().any(|key| value(key).is_some()),
    ) else {
        return Ok(());
    };
    let head = number("attention.key_length")
        .unwrap_or(width / heads)
        .max(1);
    // A query may have a gate of its own size beside it; a key has not.
    let wanted = heads.saturating_mul(head);
    if let Some(rows) = query.filter(|rows| rows % wanted != 0) {
        let why = format!("{heads} heads of {head} do not go into the {rows} rows of a query");
        return refuse("num_attention_heads", why);
    }
    let Some(shared) = number("attention.head_count_kv") else {
        return Ok(());
    };
    let wanted = shared.saturating_mul(head);
    if let Some(rows) = key.filter(|rows| *rows != wanted) {
        let why = format!("{shared} key heads of {head} are not the {rows} rows of a key");
        return refuse("num_key_value_heads", why);
    }
    Ok(())
}
