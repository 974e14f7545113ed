//! Which tensors go to files beside the model, and where in them they stand.

use super::Place;
use super::existing;
use crate::OnnxError;
use ir::{DType, Initializer, Model, Output, Result, Tensor, TensorId, WriteOptions};
use std::collections::{BTreeSet, HashMap};

/// A message ends at 2 GiB; over this many bytes of tensors they go to files of their own, which
/// leaves room for the graph.
const INLINE_MAX: u64 = 1_500_000_000;
/// Smaller tensors stay in the message, as in the reference library.
const SMALL: u64 = 1024;
/// Where tensors begin, so that each can be mapped: a page, and for large ones the 64 KiB that
/// Windows maps by.
const PAGE: u64 = 4096;
const LARGE: u64 = 1 << 20;
const LARGE_ALIGN: u64 = 64 << 10;

/// A tensor in a data file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// Which file.
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Data files and what stands in them.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// Where each tensor stands that is outside.
    pub(super) spots: HashMap<TensorId, Spot>,
    /// The tensors of each file that is to be written, in its order; ties stand once.
    pub(super) files: Vec<Vec<(u64, TensorId)>>,
    /// The names of all files: those to be written first.
    pub(super) names: Vec<String>,
    /// Every tensor is outside, told by its name alone.
    pub(super) by_name: bool,
}

/// Data files written at most: loaders hold each open, and a process has 1024 files by default.
const MAX_WRITTEN: usize = 900;

impl Layout {
    /// Lays out the data files that are asked for or needed; none, most often.
    pub(super) fn of(model: &Model, out: &Output, options: &WriteOptions) -> Result<Self> {
        if options.external_into {
            return Self::at(existing::places(model, out.target())?);
        }
        let mut layout = Self::beside(model, options)?;
        layout.names = data_names(out, layout.files.len(), options.repository);
        layout.few_files("Choose a larger --shard-size")?;
        Ok(layout)
    }

    /// Tensors that stand in files which are there, or are written by someone else.
    pub(super) fn at(places: Vec<(TensorId, Place)>) -> Result<Self> {
        let mut layout = Self::default();
        let mut numbers: HashMap<String, usize> = HashMap::new();
        for (id, place) in places {
            let file = *numbers
                .entry(place.location)
                .or_insert_with_key(|location| {
                    layout.names.push(location.clone());
                    layout.names.len() - 1
                });
            let Place { offset, len, .. } = place;
            layout.spots.insert(id, Spot { file, offset, len });
        }
        layout.few_files("Join the files the tensors lie in first")?;
        Ok(layout)
    }

    /// Loaders, ours too, keep each data file open.
    fn few_files(&self, help: &'static str) -> Result<()> {
        let count = self.names.len();
        if count <= MAX_WRITTEN {
            return Ok(());
        }
        let why = format!(
            "its tensors would lie in {count} files, loaders open no more than {MAX_WRITTEN}"
        );
        Err(OnnxError::CannotWrite { why, help }.into())
    }

    /// What is said of a tensor's data that is outside; none where it is in the message.
    /// Tensors of attributes (not `movable`) stay there, where every runtime looks for them.
    pub(super) fn entries(
        &self,
        id: TensorId,
        tensor: &Tensor,
        movable: bool,
    ) -> Option<Vec<(String, String)>> {
        if self.by_name {
            let named = vec![("location".to_owned(), tensor.name.clone())];
            return (tensor.dtype() != DType::Str).then_some(named);
        }
        let spot = self.spots.get(&id).filter(|_| movable)?;
        Some(vec![
            ("location".to_owned(), self.names.get(spot.file)?.clone()),
            ("offset".to_owned(), spot.offset.to_string()),
            ("length".to_owned(), spot.len.to_string()),
        ])
    }

    fn beside(model: &Model, options: &WriteOptions) -> Result<Self> {
        let total: u64 = model.tensors.byte_len();
        let wanted = options.external_data || options.shard_size.is_some() || total > INLINE_MAX;
        let mut layout = Self::default();
        if !wanted {
            return Ok(layout);
        }
        let ids = initializers(model);
        let ties = model.tensors.ties();
        let limit = options.shard_size.unwrap_or(u64::MAX);
        let mut end = 0u64;
        for (id, tensor) in model.tensors.ids() {
            let len = tensor.byte_len();
            if !ids.contains(&id) || is_small(tensor) || tensor.dtype() == DType::Str {
                continue;
            }
            let first = ties.get(id.index()).copied().unwrap_or(id);
            if let Some(spot) = layout.spots.get(&first).copied() {
                layout.spots.insert(id, spot);
                continue;
            }
            let mut offset = align(end, len, tensor)?;
            let next = offset.checked_add(len).ok_or_else(|| too_long(tensor))?;
            if layout.files.is_empty() || (next > limit && end > 0) {
                layout.files.push(Vec::new());
                offset = 0;
            }
            end = offset.checked_add(len).ok_or_else(|| too_long(tensor))?;
            let file = layout.files.len() - 1;
            if let Some(file) = layout.files.last_mut() {
                file.push((offset, id));
            }
            layout.spots.insert(id, Spot { file, offset, len });
        }
        Ok(layout)
    }
}

fn align(end: u64, len: u64, tensor: &Tensor) -> Result<u64> {
    let to = if len >= LARGE { LARGE_ALIGN } else { PAGE };
    end.checked_next_multiple_of(to)
        .ok_or_else(|| too_long(tensor))
}

fn too_long(tensor: &Tensor) -> ir::Error {
    let error = ir::Error::from(OnnxError::CannotWrite {
        why: "the tensors up to it take more bytes than 64 bits count".to_owned(),
        help: "Write fewer tensors",
    });
    error.at(format!("tensor {:?}", tensor.name))
}

/// `model.onnx.data`, or `model-00001-of-00003.onnx.data` and so on; in a repository
/// `model.onnx_data`, then `model.onnx_data_1`, which `optimum` writes and `transformers.js` asks for.
fn data_names(out: &Output, count: usize, repository: bool) -> Vec<String> {
    let name = out.target().file_name();
    let name = name.map_or("model.onnx".into(), |name| name.to_string_lossy());
    let (stem, extension) = name.rsplit_once('.').unwrap_or((&name, "onnx"));
    match count {
        1.. if repository => std::iter::once(format!("{name}_data"))
            .chain((1..count).map(|number| format!("{name}_data_{number}")))
            .collect(),
        1 => vec![format!("{name}.data")],
        _ => (1..=count)
            .map(|number| {
                let shard = ir::shard::shard_name(stem, number, count, extension);
                format!("{shard}.data")
            })
            .collect(),
    }
}

/// Whether a tensor is small enough to stay in the message.
pub(super) fn is_small(tensor: &Tensor) -> bool {
    tensor.byte_len() < SMALL
}

/// The tensors that are dense initializers, of nested graphs too: those of attributes stay in the
/// message, where every runtime looks for them.
pub(super) fn initializers(model: &Model) -> BTreeSet<TensorId> {
    let Some(graph) = &model.graph else {
        return model.tensors.ids().map(|(id, _)| id).collect();
    };
    let bodies = graph.bodies().into_iter();
    let initializers = bodies.flat_map(|body| &body.initializers);
    let dense = initializers.filter_map(|initializer| match initializer {
        Initializer::Dense(_, id) => Some(*id),
        Initializer::Sparse(..) => None,
    });
    dense.collect()
}
