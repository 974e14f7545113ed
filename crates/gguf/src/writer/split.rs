//! Which tensor goes into which file of a set, and the keys that say so: as `llama-gguf-split` of
//! llama.cpp does it.
//!
//! Tensors keep their order. A shard is full when the next tensor would bring its tensors, each
//! padded to 32 bytes, above the size asked for, or when it has the number of tensors asked for.
//! Where that program stops with an error, because the first tensor alone is larger than a shard,
//! the tensor gets a shard of its own here. A model that fits one file is one file, under its own
//! name and without keys of a split; that program would name it `…-00001-of-00001.gguf`.

use super::metadata::Pair;
use super::own_pair;
use crate::GgufError;
use crate::wire::{DEFAULT_ALIGNMENT, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, pad};
use ir::{MetaValue, Result, Tensor, WriteOptions};
use std::ops::Range;

/// Cuts the tensors into shards; `None` for a model that is one file.
pub(super) fn shards(
    tensors: &[&Tensor],
    options: &WriteOptions,
) -> Result<Option<Vec<Range<usize>>>> {
    if !options.shard_counts.is_empty() {
        return kept(tensors.len(), &options.shard_counts).map(Some);
    }
    let (limit, most) = (options.shard_size, options.shard_tensors);
    if limit.is_none() && most.is_none() {
        return Ok(None);
    }
    if most == Some(0) {
        let why = "a shard cannot have 0 tensors".to_owned();
        return Err(GgufError::CannotSplit { why }.into());
    }
    let (limit, most) = (limit.unwrap_or(u64::MAX), most.unwrap_or(u64::MAX));
    let mut shards = Vec::new();
    let mut open = 0..0;
    let mut bytes = 0u64;
    for tensor in tensors {
        let len = pad(tensor.byte_len(), DEFAULT_ALIGNMENT).unwrap_or(u64::MAX);
        let full = bytes.saturating_add(len) > limit || open.len() as u64 >= most;
        if full && !open.is_empty() {
            shards.push(open.clone());
            open.start = open.end;
            bytes = 0;
        }
        open.end += 1;
        bytes = bytes.saturating_add(len);
    }
    shards.push(open);
    if shards.len() == 1 {
        return Ok(None);
    }
    if options.shard_empty_first {
        shards.insert(0, 0..0);
    }
    Ok(Some(shards))
}

/// A split that is told: so many tensors in each file.
fn kept(n_tensors: usize, counts: &[u64]) -> Result<Vec<Range<usize>>> {
    let mut end = 0usize;
    let mut shards = Vec::new();
    for count in counts {
        let start = end;
        end = usize::try_from(*count)
            .ok()
            .and_then(|n| end.checked_add(n))
            .unwrap_or(usize::MAX);
        shards.push(start..end);
    }
    if end != n_tensors {
        let why = format!("{n_tensors} tensors were to be split into files of {end} in all");
        return Err(GgufError::CannotSplit { why }.into());
    }
    Ok(shards)
}

/// The keys of shard `no` of `count`: all in the first, in the others those of the split alone,
/// in the order in which that program sets them.
pub(super) fn pairs<'a>(
    all: &[Pair<'a>],
    no: usize,
    count: usize,
    n_tensors: usize,
    kept: bool,
) -> Result<Vec<Pair<'a>>> {
    let too_many = |what: &str, n: usize| GgufError::CannotSplit {
        why: format!("{n} {what} are more than the keys of a set can count"),
    };
    let no_value = u16::try_from(no).map_err(|_| too_many("shards", no))?;
    let count_value = u16::try_from(count).map_err(|_| too_many("shards", count))?;
    let tensors_value = i32::try_from(n_tensors).map_err(|_| too_many("tensors", n_tensors))?;
    let mut pairs: Vec<Pair<'a>> = Vec::new();
    if no == 0 {
        let split = [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS];
        let kept = all.iter().filter(|(key, _)| !split.contains(&key.as_str()));
        pairs.extend(kept.cloned());
    }
    pairs.push(own_pair(SPLIT_NO, MetaValue::U16(no_value)));
    pairs.push(own_pair(SPLIT_TENSORS, MetaValue::I32(tensors_value)));
    pairs.push(own_pair(SPLIT_COUNT, MetaValue::U16(count_value)));
    if kept {
        // llama-quantize --keep-split sets them in another order than llama-gguf-split.
        let last = pairs.len();
        pairs.swap(last - 1, last - 2);
    }
    Ok(pairs)
}
