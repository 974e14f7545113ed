//! Do the config's sizes and the tensors go together?
//!
//! A config that lacks a key gets its class's default, as in transformers. Released models rely on
//! that; where a key was lost, the default is wrong, and a wrong number of heads would shuffle rows.

use super::Planned;
use super::absent::{Absent, HEAD, HEADS, KEY_HEADS, Size, WIDTH};
use super::whole::ranges;
use crate::error::ArchError;
use crate::table::Table;
use ir::{MetaValue, Result};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Missing blocks beyond the last there is that are named in an error.
const NAMED: u64 = 64;

/// Refuses blocks beyond the config's count, and blocks of which there is no tensor. Those that
/// predict further tokens may be left out.
fn blocks(count: Option<u64>, beyond: u64, tensors: &[Planned]) -> Result<()> {
    let Some(count) = count else {
        return Ok(());
    };
    let there: BTreeSet<u64> = tensors.iter().filter_map(Planned::block).collect();
    let Some(last) = there.last().copied() else {
        return Ok(());
    };
    if last >= count {
        let why = format!(
            "it is {count}, and there are tensors of layer {last}; --drop REGEX leaves them out"
        );
        let what = "num_hidden_layers".to_owned();
        return Err(ArchError::BadValue { what, why }.into());
    }
    let needed = count.saturating_sub(beyond);
    // Beyond the last there are blocks enough that are not.
    let most = last.saturating_add(NAMED);
    let gone = (0..needed.min(most)).filter(|block| !there.contains(block));
    let gone: BTreeSet<u64> = gone.collect();
    if gone.is_empty() {
        return Ok(());
    }
    let mut missing = ranges(&gone);
    if needed > most {
        missing = format!("{missing} and so on");
    }
    Err(ArchError::MissingBlocks { count, missing }.into())
}

const LATENT: Size = Size {
    key: "attention.kv_lora_rank",
    names: &["kv_lora_rank"],
};

const QUERIES: Size = Size {
    key: "attention.q_lora_rank",
    names: &["q_lora_rank"],
};

const GROUPS: Size = Size {
    key: "expert_group_count",
    names: &["n_group"],
};

const ROTARY: Size = Size {
    key: "rope.dimension_count",
    names: &["qk_rope_head_dim"],
};

const EXPERTS_USED: Size = Size {
    key: "expert_used_count",
    names: &[
        "num_experts_per_tok",
        "num_experts_per_token",
        "top_k_experts",
        "moe_top_k",
    ],
};

/// What the sizes are held against.
pub(super) struct Facts<'a> {
    pub(super) table: &'a Table,
    /// `config.json`, the text model's part lifted to the top.
    pub(super) config: &'a Map<String, Value>,
    /// A user's own map may go without some.
    pub(super) own: bool,
    /// Tokens of the vocabulary, if there is one.
    pub(super) tokens: Option<u64>,
    pub(super) params: &'a [(String, MetaValue)],
    pub(super) tensors: &'a [Planned],
}

impl Facts<'_> {
    pub(super) fn value(&self, key: &str) -> Option<&MetaValue> {
        let gguf = &self.table.gguf;
        let found = self.params.iter().find(|(name, _)| {
            let name = name.strip_prefix(gguf).and_then(|n| n.strip_prefix('.'));
            name == Some(key)
        });
        found.map(|(_, value)| value)
    }

    pub(super) fn number(&self, key: &str) -> Option<u64> {
        match self.value(key) {
            Some(MetaValue::U32(n)) if *n > 0 => Some(u64::from(*n)),
            _ => None,
        }
    }

    /// What the config may call what a key is made of.
    pub(super) fn reads(&self, key: &str) -> Vec<String> {
        let rows = self.table.kv.iter().filter(|row| row.name == key);
        let keys = rows.flat_map(|row| row.value.keys());
        let own = |key: &String| {
            let mut made = self.table.set.iter();
            made.all(|(name, value)| name != key || value.keys().contains(key))
        };
        let mut keys: Vec<String> = keys.filter(own).collect();
        keys.dedup();
        keys
    }

    /// The shapes of the weights of a part, with their blocks; 0 for one outside blocks.
    pub(super) fn part<'a>(&'a self, part: &'a str) -> impl Iterator<Item = (u64, &'a [u64])> {
        self.tensors.iter().filter_map(move |planned| {
            let name = planned.tensor.name.strip_suffix(".weight")?;
            let (block, name) = match name.strip_prefix("blk.") {
                Some(inner) => inner.split_once('.')?,
                None => ("0", name),
            };
            let shape = &planned.tensor.spec.shape[..];
            (name == part).then_some((block.parse().ok()?, shape))
        })
    }

    /// Rows and columns of the first tensor whose name fits.
    fn shape(&self, wanted: &dyn Fn(&str) -> bool) -> Option<(u64, u64)> {
        let found = self.tensors.iter().find(|p| wanted(&p.tensor.name));
        match found.map(|p| &p.tensor.spec.shape[..]) {
            Some(&[rows, columns]) => Some((rows, columns)),
            _ => None,
        }
    }

    fn rows(&self, part: &str) -> Option<u64> {
        let found = self.shape(&|name| name.starts_with("blk.") && name.ends_with(part));
        found.map(|(rows, _)| rows)
    }

    /// What the config calls a size, and whether it has it; else what the table would ask for.
    fn name(&self, size: &Size) -> (&'static str, bool) {
        let absent = Absent::of(self.table, self.config);
        let given = |name: &&&str| {
            self.config
                .get(**name)
                .is_some_and(|value| !value.is_null())
        };
        if let Some(name) = size.names.iter().find(given) {
            return (name, true);
        }
        (absent.name(size), false)
    }

    pub(super) fn given(&self, key: &str) -> bool {
        self.config.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether the class has a number for it that follows from nothing else.
    fn literal(&self, size: &Size) -> bool {
        let absent = Absent::of(self.table, self.config);
        size.names.iter().any(|name| absent.literal(name).is_some())
    }

    pub(super) fn refuse(&self, size: &Size, why: &str) -> Result<()> {
        let (what, given) = self.name(size);
        let what = what.to_owned();
        let assumed = Absent::of(self.table, self.config).assumed(size);
        let why = match assumed.len() {
            _ if !given => {
                format!("{why}; the config lacks the key, so it is the default of the class")
            }
            0 => why.to_owned(),
            _ => {
                let keys: Vec<String> = assumed.into_iter().collect();
                let keys = keys.join(", ");
                format!("{why}; of what belongs to it the config lacks {keys}")
            }
        };
        Err(ArchError::BadValue { what, why }.into())
    }

    fn lacks(&self, size: &Size) -> Result<()> {
        let gguf_key = format!("{}.{}", self.table.gguf, size.key);
        let keys = vec![self.name(size).0.to_owned()];
        Err(ArchError::MissingKey { gguf_key, keys }.into())
    }
}

/// Refuses a width or a number of heads that is missing or that the tensors contradict.
pub(super) fn check(facts: &Facts<'_>) -> Result<()> {
    blocks(
        facts.number("block_count"),
        facts.number("nextn_predict_layers").unwrap_or(0),
        facts.tensors,
    )?;
    let embedding = facts.shape(&|name| name == "token_embd.weight");
    let tokens = facts.tokens.filter(|tokens| *tokens > 0);
    if let (Some(tokens), Some((rows, _))) = (tokens, embedding)
        && tokens != rows
    {
        let why = format!("the vocabulary has {tokens} tokens, the embedding {rows} rows");
        let what = "vocab_size".to_owned();
        return Err(ArchError::BadValue { what, why }.into());
    }
    let Some(width) = facts.number(WIDTH.key) else {
        return match embedding {
            Some(_) if !facts.own => facts.lacks(&WIDTH),
            _ => Ok(()),
        };
    };
    if let Some((_, columns)) = embedding.filter(|(_, columns)| *columns != width) {
        let why = format!("it is {width}, and the rows of the embedding have {columns} values");
        return facts.refuse(&WIDTH, &why);
    }
    latent(facts)?;
    experts(facts)?;
    heads(facts, width)
}

/// Latent attention: what keys and values are pressed into, and the part of a key that is turned,
/// are the rows of one matrix.
fn latent(facts: &Facts<'_>) -> Result<()> {
    let (Some(rank), Some(rotary)) = (facts.number(LATENT.key), facts.number(ROTARY.key)) else {
        return Ok(());
    };
    let norms = [
        (&LATENT, Some(rank), "attn_kv_a_norm", "keys"),
        (
            &QUERIES,
            facts.number(QUERIES.key),
            "attn_q_a_norm",
            "queries",
        ),
    ];
    for (size, told, part, of) in norms {
        if let (Some((_, &[length])), Some(told)) = (facts.part(part).next(), told)
            && length != told
        {
            let why = format!("it is {told}, and the norm of the latent {of} has {length} values");
            return facts.refuse(size, &why);
        }
    }
    let rows = facts.rows(".attn_kv_a_mqa.weight");
    if let Some(rows) = rows.filter(|rows| *rows != rank.saturating_add(rotary)) {
        let why = format!("{rank} and {rotary} are not the {rows} rows of the latent keys");
        return facts.refuse(&ROTARY, &why);
    }
    let (heads, head) = (
        facts.number(HEADS.key),
        facts.number("attention.key_length_mla"),
    );
    let rows = facts.rows(".attn_q_b.weight");
    let rows = rows.or_else(|| facts.rows(".attn_q.weight"));
    if let (Some(heads), Some(head), Some(rows)) = (heads, head, rows)
        && heads.saturating_mul(head) != rows
    {
        let why = format!("{heads} heads of {head} are not the {rows} rows of the queries");
        return facts.refuse(&HEADS, &why);
    }
    Ok(())
}

/// A token cannot use more experts than there are.
fn experts(facts: &Facts<'_>) -> Result<()> {
    let count = facts.number("expert_count");
    let groups = facts.number(GROUPS.key);
    if let Some((count, groups)) = count.zip(groups)
        && count % groups != 0
    {
        let why = format!("{count} experts do not go into {groups} groups");
        return facts.refuse(&GROUPS, &why);
    }
    let used = facts.number(EXPERTS_USED.key);
    match count.zip(used).filter(|(count, used)| used > count) {
        Some((count, used)) => {
            let why = format!("a token would use {used} of {count} experts");
            facts.refuse(&EXPERTS_USED, &why)
        }
        None => Ok(()),
    }
}

/// Heads times their size are the rows of queries and keys.
fn heads(facts: &Facts<'_>, width: u64) -> Result<()> {
    let (query, key) = (facts.rows(".attn_q.weight"), facts.rows(".attn_k.weight"));
    if !facts.own && query.is_some() && facts.value(HEADS.key).is_none() {
        return facts.lacks(&HEADS);
    }
    // Latent attention and layers of different heads have other shapes.
    let special = ["attention.key_length_mla", "attention.key_length_swa"];
    let (Some(heads), false) = (
        facts.number(HEADS.key),
        special.iter().any(|key| facts.value(key).is_some()),
    ) else {
        return Ok(());
    };
    let told = facts.number("attention.key_length");
    let apart = told.is_some() && !facts.name(&HEAD).1 && facts.literal(&HEAD);
    // Linear attention has a fused tensor of other sizes.
    let fused = facts.rows(".attn_qkv.weight").filter(|_| query.is_none());
    let attends = query.is_some() || fused.is_some();
    if attends && told.is_none() && !width.is_multiple_of(heads) {
        let why = format!("{heads} heads do not go into a width of {width}");
        return facts.refuse(&HEADS, &why);
    }
    let head = told.unwrap_or(width / heads).max(1);
    // A query may have a gate of its own size beside it; a key has not.
    let wanted = heads.saturating_mul(head);
    if let Some(rows) = query.filter(|rows| rows % wanted != 0) {
        let why = format!("{heads} heads of {head} do not go into the {rows} rows of a query");
        return facts.refuse(if apart { &HEAD } else { &HEADS }, &why);
    }
    let shared = facts.number(KEY_HEADS.key);
    let both = heads.saturating_add(shared.unwrap_or(heads).saturating_mul(2));
    if let Some(rows) = fused.filter(|rows| *rows != both.saturating_mul(head)) {
        let shared = shared.unwrap_or(heads);
        let why = format!(
            "{heads} heads and {shared} key heads of {head} are not the {rows} rows of queries, \
             keys and values"
        );
        let (given, shared_given) = (facts.name(&HEADS).1, facts.name(&KEY_HEADS).1);
        let size = if given && !shared_given {
            &KEY_HEADS
        } else {
            &HEADS
        };
        return facts.refuse(size, &why);
    }
    let Some(shared) = shared else {
        return Ok(());
    };
    let wanted = shared.saturating_mul(head);
    if let Some(rows) = key.filter(|rows| *rows != wanted) {
        let why = format!("{shared} key heads of {head} are not the {rows} rows of a key");
        // The size of a head, and often the number of key heads, follow from the number of heads.
        let (_, given) = facts.name(&HEADS);
        // Both could be of heads of one other size.
        let other = query.filter(|query| query % heads == 0 && rows % shared == 0);
        let other = other.map(|query| query / heads);
        if !facts.name(&HEAD).1
            && other.is_some_and(|other| other != head && other * shared == rows)
        {
            return facts.refuse(&HEAD, &why);
        }
        return facts.refuse(if given { &KEY_HEADS } else { &HEADS }, &why);
    }
    Ok(())
}
