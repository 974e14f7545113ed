//! The writer: every offset planned, then one pour a file.

mod header;
mod metadata;

use crate::StError;
use crate::wire::{LENGTH_LEN, MAX_HEADER_LEN, dtype_to_wire};
use bytes::Bytes;
use header::Place;
use ir::shard::{Shard, render_index, shard_name, split};
use ir::{
    Aliasing, Body, Capabilities, Context, DType, MetadataKinds, Model, OutFile, Output, Packing,
    Piece, Report, Result, TensorTable, WriteOptions, Writer,
};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

/// Writes safetensors: one file, or a set of shards with its index.
///
/// Tensors are ordered as the reference library orders them: by type, widest first, then by name.
/// Each is written as the table holds it; a tie is a second tensor unless a pass made it a note.
/// In a set, the first shard carries all metadata, the others its `format`.
#[derive(Debug, Clone, Copy)]
pub struct SafetensorsWriter;

static CAPABILITIES: Capabilities = Capabilities {
    dtype: has_dtype,
    max_rank: None,
    max_name_bytes: None,
    graph: false,
    objects: false,
    aliasing: Aliasing::Note,
    metadata: MetadataKinds::Strings,
    shards: true,
    packing: Packing::Bytes,
    ordered: false,
};

fn has_dtype(dtype: DType) -> bool {
    dtype_to_wire(dtype).is_some()
}

/// The metadata of a file, sorted by key.
type Strings = BTreeMap<String, String>;

impl Writer for SafetensorsWriter {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn write(&self, model: &Model, out: &mut Output, cx: &Context) -> Result<Report> {
        let mut report = Report::default();
        let plans = plans(model, out.target(), &cx.write, &mut report)?;
        let count = plans.len();
        let mut files = Vec::new();
        for (name, plan) in plans {
            let file = match count {
                1 => out.main_file()?,
                _ => out.side_file(&name)?,
            };
            files.push((file, name, plan));
        }
        for (file, _, plan) in &files {
            plan.pour(out.get(*file)?, cx)?;
            report.tensors += plan.places.len() as u64;
            report.tensor_bytes = report.tensor_bytes.saturating_add(plan.buffer_len);
            report.file_bytes = report.file_bytes.saturating_add(plan.file_len());
        }
        if count > 1 {
            let places = files
                .iter()
                .flat_map(|(_, name, plan)| plan.places.iter().map(|p| (p.name(), name.as_str())));
            let index = render_index(report.tensor_bytes, places);
            let (stem, extension) = name_parts(out.target());
            let number = out.side_file(&format!("{stem}.{extension}.index.json"))?;
            out.get(number)?.write_at(0, index.as_bytes())?;
            report.file_bytes = report.file_bytes.saturating_add(index.len() as u64);
        }
        Ok(report)
    }
}

/// The files that a model becomes, by name.
fn plans<'a>(
    model: &'a Model,
    target: &Path,
    options: &WriteOptions,
    report: &mut Report,
) -> Result<Vec<(String, Plan<'a>)>> {
    let strings = metadata::strings_of(model, report);
    let limit = options.shard_size.unwrap_or(u64::MAX);
    let shards = split(&model.tensors, limit, Aliasing::Note)?;
    let count = shards.len();
    let (stem, extension) = name_parts(target);
    let mut plans = Vec::new();
    for (number, shard) in (1..).zip(&shards) {
        let strings = if number == 1 {
            strings.clone()
        } else {
            format_only(&strings)
        };
        let name = match count {
            1 => format!("{stem}.{extension}"),
            _ => shard_name(&stem, number, count, &extension),
        };
        plans.push((name, Plan::new(&model.tensors, shard, strings)?));
    }
    Ok(plans)
}

/// Where a tensor will lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Its name.
    pub name: String,
    /// The name of its file.
    pub file: String,
    /// Where in the file it begins.
    pub offset: u64,
    /// How many bytes it takes.
    pub len: u64,
}

/// Where each tensor will lie when this writer writes a model to `target` with these options.
pub fn places(model: &Model, target: &Path, options: &WriteOptions) -> Result<Vec<Placed>> {
    let mut all = Vec::new();
    for (file, plan) in plans(model, target, options, &mut Report::default())? {
        let start = plan.header.len() as u64;
        all.extend(plan.places.iter().map(|place| Placed {
            name: place.name().to_owned(),
            file: file.clone(),
            offset: start.saturating_add(place.begin),
            len: place.tensor.byte_len(),
        }));
    }
    Ok(all)
}

/// What every shard says: who may load it. The rest is in the first.
fn format_only(strings: &Strings) -> Strings {
    let format = strings.get_key_value(metadata::FORMAT_KEY);
    format
        .map(|(key, value)| (key.clone(), value.clone()))
        .into_iter()
        .collect()
}

/// `model` and `safetensors` of `folder/model.safetensors`.
fn name_parts(target: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    (
        text(target.file_stem()).unwrap_or_else(|| "model".to_owned()),
        text(target.extension()).unwrap_or_else(|| "safetensors".to_owned()),
    )
}

/// One file, every offset known.
struct Plan<'a> {
    /// Length field, JSON and padding.
    header: Bytes,
    /// The tensors, in the order of the file.
    places: Vec<Place<'a>>,
    buffer_len: u64,
}

impl<'a> Plan<'a> {
    fn new(table: &'a TensorTable, shard: &Shard, strings: Strings) -> Result<Self> {
        let mut places = shard
            .tensors
            .iter()
            .filter_map(|id| table.get(*id))
            .map(Place::new)
            .collect::<Result<Vec<_>>>()?;
        let buffer_len = header::lay_out(&mut places)?;
        let header = header::render(&places, strings)?;
        let n = header.len() as u64 - LENGTH_LEN;
        if n > MAX_HEADER_LEN {
            let limit = MAX_HEADER_LEN;
            return Err(StError::HeaderTooLongToWrite { n, limit }.into());
        }
        Ok(Self {
            header: header.into(),
            places,
            buffer_len,
        })
    }

    fn file_len(&self) -> u64 {
        self.buffer_len.saturating_add(self.header.len() as u64)
    }

    fn pour(&self, file: &OutFile, cx: &Context) -> Result<()> {
        let start = self.header.len() as u64;
        let header = Piece {
            offset: 0,
            body: Body::Bytes(self.header.clone()),
            crc: false,
        };
        let bodies = self.places.iter().map(|place| Piece {
            offset: start.saturating_add(place.begin),
            body: Body::Tensor(place.tensor),
            crc: false,
        });
        let pieces: Vec<_> = std::iter::once(header).chain(bodies).collect();
        let planned = self.file_len();
        let end = pieces
            .last()
            .map_or(0, |last| last.offset.saturating_add(last.body.byte_len()));
        if end != planned {
            return Err(StError::OffPlan {
                planned,
                found: end,
            }
            .into());
        }
        file.expect(planned, &pieces)?;
        cx.pump.pour(file, &pieces, cx)?;
        let found = file.len()?;
        if found != planned {
            return Err(StError::OffPlan { planned, found }.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
