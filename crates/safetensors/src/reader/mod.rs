//! The reader: header in, views out.

mod body;
mod header;
mod probe;
mod survey;

pub(crate) use probe::probe;

use crate::StError;
use crate::wire::{ID, LENGTH_LEN, MAX_HEADER_LEN, NOTE_PREFIX};
use bytes::Bytes;
use header::Header;
use ir::{
    Context, Fault, Input, Limits, MetaValue, Metadata, Model, Provenance, Reader, Region, Result,
    Survey, Tensor, TensorTable, View, ns,
};
use std::collections::HashSet;

/// Reads safetensors.
///
/// Tensors come in the order in which the header names them, which for files of the reference
/// library is the order of their bytes. `__metadata__` goes to the namespace
/// [`ns::SAFETENSORS`], its keys that begin with `weightbridge.` to [`ns::NOTE`] without that.
#[derive(Debug, Clone, Copy)]
pub struct SafetensorsReader;

/// Something a file does that the format's text does not allow but the reference library loads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oddity {
    /// Where.
    pub(crate) place: String,
    /// What.
    pub(crate) what: String,
}

impl Reader for SafetensorsReader {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        open(input, cx, &mut Vec::new())
    }

    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        let mut odd = Vec::new();
        let opened = open(input, cx, &mut odd);
        survey::survey(input, opened, odd)
    }
}

fn open(input: &Input, cx: &Context, odd: &mut Vec<Oddity>) -> Result<Model> {
    let region = input.file()?;
    read(region, &cx.limits, odd)
        .map(|mut model| {
            let file = (input.path().to_owned(), region.len());
            model.provenance.files.push(file);
            let words = odd.iter().map(|odd| format!("{}: {}", odd.place, odd.what));
            model.provenance.notes.extend(words);
            model
        })
        .map_err(|error| error.in_file(input.path()))
}

fn read(region: &Region, limits: &Limits, odd: &mut Vec<Oddity>) -> Result<Model> {
    let parsed = header_bytes(region, limits).and_then(|bytes| {
        let header = header::parse(&bytes, limits, odd)?;
        Ok((bytes.len() as u64, header))
    });
    let (header_len, header) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return Err(something_else(region).unwrap_or(error)),
    };
    check_names(&header)?;
    let buffer = region.tail(LENGTH_LEN.saturating_add(header_len))?;
    body::check(
        &header.tensors,
        region.len(),
        buffer.start() - region.start(),
    )?;
    model_of(header, &buffer)
}

/// The bytes of the header, without the length before it.
fn header_bytes(region: &Region, limits: &Limits) -> Result<Bytes> {
    let len = region.len();
    if len < LENGTH_LEN {
        return Err(StError::TooShort { len }.into());
    }
    let mut length = [0; 8];
    region.read_at(0, &mut length)?;
    let n = u64::from_le_bytes(length);
    if n > MAX_HEADER_LEN {
        let limit = MAX_HEADER_LEN;
        return Err(StError::HeaderTooLong { n, limit }.into());
    }
    if n > len - LENGTH_LEN {
        return Err(StError::HeaderCut { n, len }.into());
    }
    Limits::check("bytes of the header", n, limits.header_bytes)?;
    let n = usize::try_from(n).map_err(|_| StError::HeaderTooLong {
        n,
        limit: usize::MAX as u64,
    })?;
    region.bytes(LENGTH_LEN, n)
}

/// The format forbids a name that is used twice; the reference library does not look.
fn check_names(header: &Header) -> Result<()> {
    let mut seen = HashSet::new();
    let mut names = header.tensors.iter().map(|entry| entry.name.as_str());
    match names.find(|name| !seen.insert(*name)) {
        None => Ok(()),
        Some(name) => Err(ir::Error::from(Fault::DuplicateName {
            name: name.to_owned(),
        })
        .with_help("Loaders disagree on which of the two counts: get the file again")),
    }
}

/// The error that names what a file without a safetensors header is, where that can be told.
fn something_else(region: &Region) -> Option<ir::Error> {
    let head = usize::try_from(region.len()).unwrap_or(64).min(64);
    let found = ir::sniff(&region.bytes(0, head).ok()?)?;
    Some(
        StError::SomethingElse {
            what: found.what,
            help: found.help,
        }
        .into(),
    )
}

fn model_of(header: Header, buffer: &Region) -> Result<Model> {
    let mut tensors = TensorTable::new();
    for entry in header.tensors {
        let view = View::contiguous(buffer.slice(entry.begin, entry.end - entry.begin)?);
        tensors.push(Tensor::stored(entry.name, entry.spec, view))?;
    }
    let mut metadata = Metadata::new();
    for (key, value) in header.metadata {
        let value = MetaValue::text(value);
        match key.strip_prefix(NOTE_PREFIX) {
            Some(note) => metadata.push_new(ns::NOTE, note.to_owned(), value),
            None => metadata.push_new(ns::SAFETENSORS, key, value),
        }
    }
    Ok(Model {
        tensors,
        metadata,
        provenance: Provenance {
            format: ID,
            ..Provenance::default()
        },
        ..Model::default()
    })
}

#[cfg(test)]
mod tests;
