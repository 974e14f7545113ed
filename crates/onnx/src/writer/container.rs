//! Tensors without a graph, as a model that loads: every tensor is an initializer and an output.
//!
//! The reference checker accepts a graph of initializers alone; onnxruntime wants outputs, and with
//! each initializer as one it loads the model and gives the tensors out.

use crate::wire::OPSET;
use crate::wire::code::ir_version_of_dtype;
use ir::{About, Dim, DimSize, Graph, GraphBody, Initializer, Model, Result, Value, ValueType};

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
    let mut body = GraphBody {
        name: "weights".to_owned(),
        ..GraphBody::default()
    };
    let unnamed = stand_in(model);
    let mut version = ir_version_of_dtype(ir::DType::F32);
    for (id, tensor) in model.tensors.ids() {
        version = version.max(ir_version_of_dtype(tensor.dtype()));
        let dims = tensor.spec.shape.iter().map(|size| Dim {
            size: DimSize::Known(*size),
            denotation: String::new(),
        });
        let value = Value {
            name: match &unnamed {
                Some(name) if tensor.name.is_empty() => name.clone(),
                _ => tensor.name.clone(),
            },
            ty: Some(ValueType::Tensor(
                Some(tensor.dtype()),
                Some(dims.collect()),
            )),
            ..Value::default()
        };
        let Some(value) = body.add_value(value) else {
            let what = "more tensors than 32 bits count".to_owned();
            return Err(ir::Fault::Invalid { what }.into());
        };
        body.outputs.push(value);
        body.initializers.push(Initializer::Dense(value, id));
    }
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
