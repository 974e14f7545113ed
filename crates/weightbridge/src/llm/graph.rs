//! The weights of a language model, out of the graph that was made of it.
//!
//! Beside its weights a graph holds what its exporter folded: masks, tables, sizes of shapes. Those
//! are no part of the model and stay behind; the weights have their modules' names by now
//! ([`convert::recover_names`]).

use crate::FacadeError;
use ir::{DType, Model, Record, Result, Tensor, TensorTable, ns};
use std::collections::HashSet;

/// The note of a graph that was made here: the order its weights had.
pub(super) const ORDER: &str = "weights-order";

/// Keeps the weights, in the order they had or that of their names, in which a repository's file
/// has them.
pub(super) fn weights_of_graph(model: &mut Model) -> Result<()> {
    if let Some(error) = unnamed(model) {
        return Err(error.into());
    }
    let mut tensors = std::mem::take(&mut model.tensors).into_tensors();
    // A repository has one matrix for embedding and head.
    let records = model.provenance.records.iter();
    let tied: HashSet<&str> = records
        .filter(|record| record.kind == "tied")
        .map(|record| record.what.as_str())
        .collect();
    tensors.retain(|tensor| !tied.contains(tensor.name.as_str()));
    let (mut weights, others): (Vec<_>, Vec<_>) = tensors.into_iter().partition(is_weight);
    weights.sort_by(|a, b| a.name.cmp(&b.name));
    model.tensors = TensorTable::from_tensors(weights)?;
    let noted = model.metadata.get(ns::NOTE, ORDER);
    if let Some(text) = noted.and_then(|text| text.as_str()).map(str::to_owned) {
        convert::reorder(model, &text)?;
    }
    let records = &mut model.provenance.records;
    records.retain(|record| record.kind != "raw-name");
    if !others.is_empty() {
        let what = format!("{} constants of the graph", others.len());
        let why = "no weights of the model: it is computed without them";
        records.push(Record::dropped("constants", what, why).wanted());
    }
    if let Some(graph) = model.graph.take() {
        let what = format!("the graph of {} nodes", graph.body.nodes.len());
        let why = "the runtime has its own for the architecture";
        records.push(Record::dropped("graph", what, why).wanted());
    }
    Ok(())
}

fn is_weight(tensor: &Tensor) -> bool {
    let last = tensor.name.rsplit('.').next();
    let parameter = tensor.name.contains('.') && matches!(last, Some("weight" | "bias"));
    let numbers = tensor.dtype().is_float() || matches!(tensor.dtype(), DType::Block(_));
    parameter && numbers
}

/// The error of matrices that no node names: without them the model would be another.
fn unnamed(model: &Model) -> Option<FacadeError> {
    let raw = model
        .provenance
        .records
        .iter()
        .filter(|record| record.kind == "raw-name");
    let names: Vec<&str> = raw
        .filter_map(|record| model.tensors.by_name(&record.what))
        .filter(|tensor| {
            let matrix = tensor.spec.shape.len() == 2 && tensor.spec.shape.iter().all(|n| *n > 1);
            matrix && tensor.dtype().is_float()
        })
        .map(|tensor| tensor.name.as_str())
        .collect();
    let first = (*names.first()?).to_owned();
    let count = names.len();
    Some(FacadeError::UnnamedWeights { count, first })
}
