//! Do the config and the tensors tell the same of each layer?
//!
//! Where layers differ, a key says how: how many come before those with experts, which have a
//! window, which attend at all. A runtime lays tensors out by these keys, and does not load a file
//! whose tensors are others.

use super::absent::{HEAD, KEY_HEADS, Size};
use super::sizes::Facts;
use crate::error::ArchError;
use ir::{Array, MetaValue, Result};

const LEADING: Size = Size {
    key: "leading_dense_block_count",
    names: &["first_k_dense_replace"],
};

const KINDS: Size = Size {
    key: "attention.sliding_window_pattern",
    names: &["layer_types"],
};

/// Heads of layers that see all, where those with a window have others.
const FULL: Size = Size {
    key: "attention.key_length",
    names: &["global_head_dim"],
};

const PER_LAYER: Size = Size {
    key: "embedding_length_per_layer_input",
    names: &["hidden_size_per_layer_input"],
};

const WIDE: Size = Size {
    key: "feed_forward_length",
    names: &["intermediate_size"],
};

const LABELS: Size = Size {
    key: "classifier.output_labels",
    names: &["id2label"],
};

/// Keys without which no runtime loads a file, where the table has a row for them.
const NEEDED: [&str; 4] = [
    "context_length",
    "embedding_length",
    "block_count",
    "attention.head_count",
];

/// Norms have one or the other.
const EPSILONS: [&str; 2] = [
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
];

/// Refuses keys that are missing or that the tensors of a layer contradict.
pub(super) fn check(facts: &Facts<'_>) -> Result<()> {
    if facts.own || facts.part("token_embd").next().is_none() {
        return Ok(());
    }
    needed(facts)?;
    leading(facts)?;
    attending(facts)?;
    windows(facts)?;
    per_layer(facts)?;
    widths(facts)?;
    labels(facts)
}

fn needed(facts: &Facts<'_>) -> Result<()> {
    let has = |key: &str| facts.value(key).is_some();
    let asked = |key: &&str| !facts.reads(key).is_empty();
    let mut gone: Vec<&str> = NEEDED.into_iter().filter(|key| !has(key)).collect();
    if !EPSILONS.into_iter().any(has) {
        let last = EPSILONS.into_iter().rev();
        gone.extend(last.filter(asked).take(1));
    }
    let experts = facts.number("expert_count").is_some();
    if experts && !has("expert_used_count") {
        gone.push("expert_used_count");
    }
    let Some(key) = gone.into_iter().find(asked) else {
        return Ok(());
    };
    let gguf_key = format!("{}.{key}", facts.table.gguf);
    let keys = facts.reads(key);
    Err(ArchError::MissingKey { gguf_key, keys }.into())
}

/// Experts begin behind the dense layers that the config counts.
fn leading(facts: &Facts<'_>) -> Result<()> {
    let Some(MetaValue::U32(count)) = facts.value(LEADING.key) else {
        return Ok(());
    };
    let count = u64::from(*count);
    let routed = facts
        .part("ffn_gate_inp")
        .map(|(block, _)| (block, "experts"));
    let dense = facts.part("ffn_down").map(|(block, _)| (block, "none"));
    let mut wrong = routed.filter(|(block, _)| *block < count);
    let mut more = dense.filter(|(block, _)| *block >= count && routes(facts));
    let Some((block, has)) = wrong.next().or_else(|| more.next()) else {
        return Ok(());
    };
    let why = format!("by it, experts begin at layer {count}, and layer {block} has {has}");
    facts.refuse(&LEADING, &why)
}

fn routes(facts: &Facts<'_>) -> bool {
    facts.part("ffn_gate_inp").next().is_some()
}

/// A list of key heads has none where a layer does not attend.
fn attending(facts: &Facts<'_>) -> Result<()> {
    let Some(MetaValue::Array(Array::I32(heads))) = facts.value("attention.head_count_kv") else {
        return Ok(());
    };
    let has = |part: &str, block: usize| facts.part(part).any(|(other, _)| other == block as u64);
    // Layers may share the keys of another.
    let mut without = heads
        .iter()
        .enumerate()
        .filter(|(block, heads)| match heads {
            0 => has("attn_k", *block),
            _ => has("shortconv.conv", *block),
        });
    let Some((block, _)) = without.next() else {
        return Ok(());
    };
    let why = format!("by it, layer {block} is of another kind than its tensors");
    facts.refuse(&KINDS, &why)
}

/// Heads of layers with a window have a size of their own.
fn windows(facts: &Facts<'_>) -> Result<()> {
    let (Some(full), Some(local)) = (
        facts.number("attention.key_length"),
        facts.number("attention.key_length_swa"),
    ) else {
        return Ok(());
    };
    let (Some(heads), Some(MetaValue::Array(Array::Bool(pattern)))) =
        (facts.number("attention.head_count"), facts.value(KINDS.key))
    else {
        return Ok(());
    };
    let kinds = |block: u64| {
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        let windowed = pattern.get(at) == Some(&true);
        (windowed, if windowed { local } else { full })
    };
    let known = facts.given("layer_types");
    for (block, shape) in facts.part("attn_q") {
        let (windowed, head) = kinds(block);
        let rows = shape.first().copied().unwrap_or(0);
        if rows == heads.saturating_mul(head) {
            continue;
        }
        let kind = if windowed {
            "with a window"
        } else {
            "that sees all"
        };
        let why = format!(
            "layer {block} would be one {kind}, and {heads} heads of {head} are not the {rows} \
             rows of its queries"
        );
        if known && windowed {
            return facts.refuse(&HEAD, &why);
        }
        if known {
            let why = format!("{why}; their size is global_head_dim or in per_layer_config");
            return facts.refuse(&FULL, &why);
        }
        return facts.refuse(&KINDS, &why);
    }
    for (block, shape) in facts.part("attn_k") {
        let (_, head) = kinds(block);
        let rows = shape.first().copied().unwrap_or(0);
        let shared = each(facts, KEY_HEADS.key, block);
        if let Some(shared) = shared.filter(|n| n.saturating_mul(head) != rows) {
            let why = format!(
                "{shared} key heads of {head} are not the {rows} rows of a key of layer {block}"
            );
            return facts.refuse(&KEY_HEADS, &why);
        }
    }
    Ok(())
}

/// A number of each layer, or the one for all.
fn each(facts: &Facts<'_>, key: &str, block: u64) -> Option<u64> {
    let at = usize::try_from(block).ok()?;
    match facts.value(key) {
        Some(MetaValue::Array(Array::I32(list))) => u64::try_from(*list.get(at)?).ok(),
        _ => facts.number(key),
    }
}

/// Embeddings of each layer stand beside each other.
fn per_layer(facts: &Facts<'_>) -> Result<()> {
    let (Some(width), Some(layers)) = (facts.number(PER_LAYER.key), facts.number("block_count"))
    else {
        return Ok(());
    };
    let Some((_, &[_, columns])) = facts.part("per_layer_token_embd").next() else {
        return Ok(());
    };
    if columns == layers.saturating_mul(width) {
        return Ok(());
    }
    let why = format!("{layers} layers of {width} are not the {columns} values of a token");
    facts.refuse(&PER_LAYER, &why)
}

/// The widths of dense layers, one by one where they differ.
fn widths(facts: &Facts<'_>) -> Result<()> {
    for (block, shape) in facts.part("ffn_down") {
        let told = each(facts, WIDE.key, block);
        let width = shape.last().copied().unwrap_or(0);
        if let Some(told) = told.filter(|told| *told != width) {
            let why = format!("layer {block} would have a width of {told}, and has {width}");
            return facts.refuse(&WIDE, &why);
        }
    }
    Ok(())
}

/// A classifier has a row for each label.
fn labels(facts: &Facts<'_>) -> Result<()> {
    let Some((_, [rows, _])) = facts.part("cls.output").next() else {
        return Ok(());
    };
    let labels = match facts.value(LABELS.key) {
        Some(MetaValue::Array(list)) => list.len() as u64,
        _ => return Ok(()),
    };
    if labels == *rows {
        return Ok(());
    }
    let why = format!("there are {labels}, and the classifier has {rows} rows");
    facts.refuse(&LABELS, &why)
}
