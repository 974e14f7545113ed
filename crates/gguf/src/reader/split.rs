//! A set of shards as one model.
//!
//! llama.cpp names them `PREFIX-00001-of-00003.gguf`, counted from 1. In their keys `split.no`
//! counts from 0, `split.count` is the number of shards and `split.tensors.count` that of the
//! tensors of the whole set. Every other key is in the first shard only; an alignment there is
//! that of the first shard alone.

use super::{File, model_of, number};
use crate::GgufError;
use crate::wire::{SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS};
use ir::shard::ShardName;
use ir::{Context, Fault, Input, Limits, Model, Result};
use std::io::ErrorKind;

/// Opens the set that `given`, read from `input`, is one shard of.
pub(super) fn open(input: &Input, given: File, count: u64, cx: &Context) -> Result<Model> {
    let in_file = |error: ir::Error| error.in_file(input.path());
    Limits::check("shards", count, cx.limits.entries).map_err(in_file)?;
    let no = require(&given, SPLIT_NO, None).map_err(in_file)?;
    let file_name = input.path().file_name().unwrap_or_default();
    let name = ShardName::parse(&file_name.to_string_lossy())
        .filter(|name| name.count as u64 == count && name.number as u64 == no.saturating_add(1))
        .ok_or_else(|| in_file(GgufError::ShardName { no, count }.into()))?;
    let mut given = Some(given);
    let mut files = Vec::new();
    let mut n_tensors = 0u64;
    for number in 1..=name.count {
        cx.cancel.check()?;
        let file = match given.take_if(|_| number == name.number) {
            Some(file) => file,
            None => sibling(input, &name.sibling(number), cx)?,
        };
        check(&file, number as u64 - 1, count).map_err(|error| error.in_file(file.input.path()))?;
        n_tensors = n_tensors.saturating_add(file.infos.len() as u64);
        files.push(file);
    }
    for (at, file) in files.iter().enumerate() {
        if at == 0 || file.pairs.iter().any(|(key, _)| key == SPLIT_TENSORS) {
            require(file, SPLIT_TENSORS, Some(n_tensors))
                .map_err(|error| error.in_file(file.input.path()))?;
        }
    }
    if let Some(first) = files.first_mut() {
        let split = [SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS];
        first
            .pairs
            .retain(|(key, _)| !split.contains(&key.as_str()));
    }
    model_of(files, &cx.limits)
}

fn sibling(input: &Input, name: &str, cx: &Context) -> Result<File> {
    let path = input.sibling(name);
    let opened = cx.places.open(&path).map_err(|error| {
        let beside = input.path().file_name().unwrap_or_default();
        match error.downcast_ref() {
            Some(Fault::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                let beside = beside.to_string_lossy().into_owned();
                ir::Error::from(GgufError::MissingShard { beside }).in_file(&path)
            }
            _ => error,
        }
    })?;
    File::read(&opened, &cx.limits)
}

fn check(file: &File, no: u64, count: u64) -> Result<()> {
    require(file, SPLIT_NO, Some(no))?;
    require(file, SPLIT_COUNT, Some(count)).map(drop)
}

/// The number of a key, which must be there and, where one is expected, be that.
fn require(file: &File, key: &'static str, expected: Option<u64>) -> Result<u64> {
    let found = number(&file.pairs, key);
    match (found, expected) {
        (Some(found), None) => Ok(found),
        (Some(found), Some(expected)) if found == expected => Ok(found),
        (found, expected) => Err(GgufError::ShardKey {
            key,
            found: found.map_or_else(|| "no number".to_owned(), |n| n.to_string()),
            expected: expected.unwrap_or(0),
        }
        .into()),
    }
}
