//! Which tensors go to files beside the model, and where in them they stand.

use crate::OnnxError;
use ir::{DType, Graph, GraphBody, Initializer, Model, Result, Tensor, TensorId, WriteOptions};
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
    /// The tensors of each file, in its order; ties stand once.
    pub(super) files: Vec<Vec<(u64, TensorId)>>,
}

impl Layout {
    /// Lays out the data files that are asked for or needed; none, most often.
    pub(super) fn of(model: &Model, options: &WriteOptions) -> Result<Self> {
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
            if !ids.contains(&id) || len < SMALL || tensor.dtype() == DType::Str {
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

/// The tensors that are dense initializers, of nested graphs too: those of attributes stay in the
/// message, where every runtime looks for them.
fn initializers(model: &Model) -> BTreeSet<TensorId> {
    let Some(graph) = &model.graph else {
        return model.tensors.ids().map(|(id, _)| id).collect();
    };
    let mut found = BTreeSet::new();
    let mut bodies: Vec<&GraphBody> = bodies_of(graph);
    while let Some(body) = bodies.pop() {
        for initializer in &body.initializers {
            if let Initializer::Dense(_, id) = initializer {
                found.insert(*id);
            }
        }
        for attribute in body.nodes.iter().flat_map(|node| &node.attributes) {
            match &attribute.value {
                ir::AttributeValue::Graph(body) => bodies.push(body),
                ir::AttributeValue::Graphs(list) => bodies.extend(list),
                _ => {}
            }
        }
    }
    found
}

fn bodies_of(graph: &Graph) -> Vec<&GraphBody> {
    let functions = graph.functions.iter().map(|function| &function.body);
    let training = graph
        .training
        .iter()
        .flat_map(|t| t.initialization.iter().chain(&t.algorithm));
    std::iter::once(&graph.body)
        .chain(functions)
        .chain(training)
        .collect()
}
