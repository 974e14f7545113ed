//! Tensors without a graph, as a model that loads: every tensor is an initializer and an output.
//!
//! The reference checker accepts a graph of initializers alone; onnxruntime wants outputs, and with
//! each initializer as one it loads the model and gives the tensors out.

use crate::wire::OPSET;
use crate::wire::code::ir_version_of_dtype;
use ir::{About, Graph, GraphBody, Model, Result};

/// The name that stands for an empty one, which the format does not allow; a note says so.
pub(super) fn stand_in(model: &Model) -> Option<String> {
    model.tensors.id_of("")?;
    let mut name = "unnamed".to_owned();
    while model.tensors.id_of(&name).is_some() {
        name.push('~');
    }
    Some(name)
}

/// The graph that stands for a model without one.
pub(super) fn graph_of(model: &Model) -> Result<Graph> {
    let mut body = GraphBody::of_tensors(&model.tensors)?;
    "weights".clone_into(&mut body.name);
    if let Some(name) = stand_in(model) {
        for value in body.values.iter_mut().filter(|v| v.name.is_empty()) {
            value.name.clone_from(&name);
        }
    }
    let versions = model.tensors.iter().map(|t| ir_version_of_dtype(t.dtype()));
    let version = versions.fold(ir_version_of_dtype(ir::DType::F32), Ord::max);
    Ok(Graph {
        opsets: vec![(String::new(), OPSET)],
        body,
        about: About {
            ir_version: Some(version),
            producer: "weightbridge".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            ..About::default()
        },
        ..Graph::default()
    })
}
