//! Graphs written without their weights: over those of another file, or into a note.

use super::external::{Layout, initializers, is_small};
use super::rope::Part;
use super::{message, pour_message};
use crate::OnnxError;
use ir::{Context, DType, Metadata, Model, OutFile, Report, Result, TensorId};

/// Where the bytes of a tensor lie, in a file beside the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, seen from the model's folder.
    pub location: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub len: u64,
}

/// Writes a model whose weights lie where `place` says. Tensors below 1 KiB, of strings and of
/// attributes stay in the message: runtimes look for the values of those while they load a graph.
/// Answers the file's length.
pub fn write_around(
    model: &Model,
    place: impl Fn(TensorId) -> Result<Place>,
    file: &OutFile,
    cx: &Context,
) -> Result<u64> {
    let mut places = Vec::new();
    for id in initializers(model) {
        let tensor = &model.tensors[id];
        if is_small(tensor) || tensor.dtype() == DType::Str {
            continue;
        }
        let place = place(id)?;
        if place.len != tensor.byte_len() {
            let why = format!(
                "tensor {:?} takes {} bytes in the graph and {} in {:?}",
                tensor.name,
                tensor.byte_len(),
                place.len,
                place.location
            );
            let help = "This is a bug of weightbridge: please report it";
            return Err(OnnxError::CannotWrite { why, help }.into());
        }
        places.push((id, place));
    }
    let layout = Layout::at(places)?;
    let message = message(model, &layout, &mut Report::default())?;
    pour_message(message, file, cx)
}

/// The graph of a model as bytes: its tensors are named in it and not held, but for those of
/// strings. [`crate::graph_of_note`] reads it.
pub fn graph_note(model: &Model) -> Result<Vec<u8>> {
    let bare = Model {
        metadata: Metadata::new(),
        ..model.clone()
    };
    let layout = Layout {
        by_name: true,
        ..Layout::default()
    };
    let message = message(&bare, &layout, &mut Report::default())?;
    let mut note = Vec::new();
    for part in message.into_parts() {
        match part {
            Part::Bytes(bytes) => note.extend(bytes),
            Part::Tensor(tensor) => note.extend(tensor.read_all()?),
        }
    }
    Ok(note)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph_of_note;
    use ir::{Graph, GraphBody, Initializer, Limits, ModelBuilder, TensorTable, Value};

    fn model() -> Model {
        let mut model = ModelBuilder::new()
            .tensor("a.weight", DType::F32, [2], vec![1; 8])
            .tensor("b", DType::I64, [0], vec![])
            .build()
            .unwrap();
        let mut body = GraphBody::default();
        for (id, name) in [(1, "b"), (0, "onnx::MatMul_1")] {
            let value = Value {
                name: name.to_owned(),
                ..Value::default()
            };
            let value = body.add_value(value).unwrap();
            let (id, _) = model.tensors.ids().nth(id).unwrap();
            body.initializers.push(Initializer::Dense(value, id));
        }
        model.graph = Some(Graph {
            body,
            ..Graph::default()
        });
        model
    }

    #[test]
    fn a_graph_finds_its_tensors_by_name() {
        let model = model();
        let note = graph_note(&model).unwrap();
        let limits = Limits::default();
        let (graph, tensors) = graph_of_note(note.clone(), &model.tensors, &limits).unwrap();
        let names: Vec<_> = tensors.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["b", "onnx::MatMul_1"]);
        assert_eq!(graph.body.initializers.len(), 2);
        let bytes = tensors
            .by_name("onnx::MatMul_1")
            .unwrap()
            .read_all()
            .unwrap();
        assert_eq!(bytes, vec![1; 8]);
        let error = graph_of_note(note, &TensorTable::new(), &limits).unwrap_err();
        assert!(error.to_string().contains("which is not there"), "{error}");
    }
}
