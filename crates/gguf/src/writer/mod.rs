//! The writer: every offset planned, then one pour a file.

pub(crate) mod header;
mod metadata;
mod split;

use crate::wire::{BARE_END, DEFAULT_ALIGNMENT, ID, id_of_dtype};
use crate::{GgufError, carry};
use bytes::Bytes;
use header::Place;
use ir::shard::ShardName;
use ir::{
    Aliasing, Body, Capabilities, Context, DType, MetadataKinds, Model, Output, Packing, Payload,
    Piece, Report, Result, Tensor, Writer,
};
use metadata::Pair;
use std::borrow::Cow;
use std::ops::Range;

/// Writes GGUF version 3, little-endian: one file, or a set of shards as `llama-gguf-split` makes
/// them.
///
/// Keys and tensors stand in the model's order. Data is aligned to the model's `general.alignment`,
/// to 32 bytes without that key, and padded behind each tensor, the last included.
#[derive(Debug, Clone, Copy)]
pub struct GgufWriter;

static CAPABILITIES: Capabilities = Capabilities {
    dtype: has_dtype,
    max_rank: Some(crate::wire::MAX_DIMS),
    max_name_bytes: Some(crate::wire::MAX_NAME_LEN),
    graph: false,
    objects: false,
    aliasing: Aliasing::Note,
    metadata: MetadataKinds::Typed,
    shards: true,
    packing: Packing::Bytes,
    ordered: true,
};

fn has_dtype(dtype: DType) -> bool {
    id_of_dtype(dtype).is_some()
}

impl Writer for GgufWriter {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn write(&self, model: &Model, out: &mut Output, cx: &Context) -> Result<Report> {
        let laid = self.lay_out(model, out, cx)?;
        for (number, pieces) in &laid.files {
            cx.pump.pour(out.get(*number)?, pieces, cx)?;
        }
        laid.check(out)?;
        Ok(laid.report)
    }
}

impl GgufWriter {
    /// Starts the files of an output and says what is to be poured into each, and pours nothing:
    /// so several outputs can be poured together.
    pub fn lay_out<'a>(
        &self,
        model: &'a Model,
        out: &mut Output,
        cx: &Context,
    ) -> Result<LaidOut<'a>> {
        let mut report = Report::default();
        let plans = plan(model, cx, &mut report)?;
        let count = plans.len();
        let stem = stem_of(out);
        let mut laid = LaidOut {
            files: Vec::with_capacity(count),
            lens: Vec::with_capacity(count),
            report,
        };
        for (number, plan) in (1..).zip(plans) {
            let file = if count == 1 {
                out.main_file()?
            } else {
                out.side_file(&ir::shard::shard_name(&stem, number, count, ID))?
            };
            let report = &mut laid.report;
            report.tensors += plan.places.len() as u64;
            report.tensor_bytes = report.tensor_bytes.saturating_add(plan.tensor_bytes());
            report.file_bytes = report.file_bytes.saturating_add(plan.len);
            // What no piece covers is zero: the padding.
            out.get(file)?.set_len(plan.len)?;
            laid.lens.push(plan.len);
            let (len, pieces) = (plan.len, plan.into_pieces());
            out.get(file)?.expect(len, &pieces)?;
            laid.files.push((file, pieces));
        }
        Ok(laid)
    }
}

/// Files that were started, every offset known.
#[derive(Debug)]
pub struct LaidOut<'a> {
    /// The number of each file in its output, and the pieces it consists of.
    pub files: Vec<(usize, Vec<Piece<'a>>)>,
    /// What is written where.
    pub report: Report,
    lens: Vec<u64>,
}

impl LaidOut<'_> {
    /// Checks that what was poured is as long as was planned.
    pub fn check(&self, out: &Output) -> Result<()> {
        for ((number, _), planned) in self.files.iter().zip(&self.lens) {
            let (planned, found) = (*planned, out.get(*number)?.len()?);
            if found != planned {
                return Err(GgufError::OffPlan { planned, found }.into());
            }
        }
        Ok(())
    }
}

/// The name of the set that an output becomes: its own, without the extension, and without the
/// numbers where it is named like a shard already.
fn stem_of(out: &Output) -> String {
    let target = out.target();
    let name = target.file_name().map(|name| name.to_string_lossy());
    match name.as_deref().and_then(ShardName::parse) {
        Some(shard) => shard.stem,
        None => match target.file_stem() {
            Some(stem) => stem.to_string_lossy().into_owned(),
            None => "model".to_owned(),
        },
    }
}

/// The plans of all files to write.
fn plan<'a>(model: &'a Model, cx: &Context, report: &mut Report) -> Result<Vec<Plan<'a>>> {
    let tensors: Vec<&Tensor> = model.tensors.iter().collect();
    for tensor in &tensors {
        check(tensor)?;
    }
    let named: Vec<_> = tensors.iter().map(|t| (t.name.as_str(), &t.spec)).collect();
    let carried = carry::plan(&named, &model.metadata)?;
    report.records.extend(carried.records.iter().cloned());
    let pairs = metadata::pairs(&model.metadata, &carried, report)?;
    let alignment = metadata::alignment(&pairs)?;
    let places = |range: Range<usize>| {
        let stored = carried.stored.get(range.clone()).unwrap_or_default();
        let tensors = tensors.get(range).unwrap_or_default();
        let places = tensors.iter().zip(stored);
        places
            .map(|(tensor, stored)| Place::new(tensor, stored))
            .collect::<Result<Vec<_>>>()
    };
    let Some(shards) = split::shards(&tensors, &cx.write)? else {
        let bare = ends_bare(model);
        return Ok(vec![Plan::new(
            &pairs,
            places(0..tensors.len())?,
            alignment,
            bare,
        )?]);
    };
    let mut plans = Vec::new();
    for (no, shard) in shards.iter().enumerate() {
        let kept = !cx.write.shard_counts.is_empty();
        let own = split::pairs(&pairs, no, shards.len(), tensors.len(), kept)?;
        // The key that sets the alignment is in the first shard only, and sets only that one's.
        let alignment = if no == 0 {
            alignment
        } else {
            DEFAULT_ALIGNMENT
        };
        plans.push(Plan::new(&own, places(shard.clone())?, alignment, false)?);
    }
    Ok(plans)
}

fn check(tensor: &Tensor) -> Result<()> {
    let cannot = |why: String, help| GgufError::CannotWrite {
        name: tensor.name.clone(),
        why,
        help,
    };
    if matches!(tensor.payload, Payload::Strings(_)) {
        let why = "the format has no tensors of strings".to_owned();
        return Err(cannot(why, "Leave it out with --drop").into());
    }
    if !has_dtype(tensor.dtype()) {
        let why = format!("the format has no type {}", tensor.dtype());
        return Err(cannot(why, "Choose a type it has with --dtype").into());
    }
    tensor.spec.require_byte_len(&tensor.name).map(drop)
}

/// Whether the model is a file whose end is not padded, as it was read: then it is written so.
fn ends_bare(model: &Model) -> bool {
    let from = &model.provenance;
    from.format == ID
        && from.version.ends_with(BARE_END)
        && model
            .tensors
            .iter()
            .all(|tensor| tensor.as_plain().is_some())
}

/// One file, every offset known.
struct Plan<'a> {
    /// Everything before the data section, its padding included.
    header: Bytes,
    /// The tensors and where in the file they stand.
    places: Vec<(u64, &'a Tensor)>,
    len: u64,
}

impl<'a> Plan<'a> {
    fn new(
        pairs: &[Pair<'_>],
        mut places: Vec<Place<'a, '_>>,
        alignment: u64,
        bare: bool,
    ) -> Result<Self> {
        let data = header::lay_out(&mut places, alignment)?;
        let keys = pairs.iter().map(|(key, value)| (key.as_str(), &**value));
        let mut header = header::render(keys, places.iter().map(Place::line));
        let data_len = if bare { data.bare } else { data.padded };
        if !(bare && places.is_empty()) {
            header::pad_to(&mut header, alignment)?;
        }
        let start = header.len() as u64;
        let too_long = |name: &str| GgufError::TooMuchData {
            name: name.to_owned(),
        };
        let mut out = Vec::with_capacity(places.len());
        for place in places {
            let offset = start.checked_add(place.rel_offset);
            let name = &place.tensor.name;
            out.push((offset.ok_or_else(|| too_long(name))?, place.tensor));
        }
        Ok(Self {
            header: header.into(),
            places: out,
            len: start.checked_add(data_len).ok_or_else(|| too_long(""))?,
        })
    }

    fn tensor_bytes(&self) -> u64 {
        let lens = self.places.iter().map(|(_, tensor)| tensor.byte_len());
        lens.fold(0, u64::saturating_add)
    }

    fn into_pieces(self) -> Vec<Piece<'a>> {
        let header = Piece {
            offset: 0,
            body: Body::Bytes(self.header),
            crc: false,
        };
        let bodies = self.places.into_iter().map(|(offset, tensor)| Piece {
            offset,
            body: Body::Tensor(tensor),
            crc: false,
        });
        std::iter::once(header).chain(bodies).collect()
    }
}

/// A key that this crate sets.
fn own_pair<'a>(key: &str, value: ir::MetaValue) -> Pair<'a> {
    (key.to_owned(), Cow::Owned(value))
}

#[cfg(test)]
mod tests;
