//! Graphs in files that have none: a note from which the ONNX model comes back.
//!
//! The note `graph` is the ONNX model without its tensors, which it names, in base64. It is heeded
//! on the way to ONNX; every other way carries it on.

use crate::{ConvertRequest, FacadeError, Intent};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use ir::{Limits, MetaValue, Model, Record, Result, ns};

const KEY: &str = "graph";

/// What is noted for the way back, where the target has no place for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// Types, namespaces and order of metadata.
    pub metadata: bool,
    /// The graph.
    pub graph: bool,
}

impl std::str::FromStr for Carry {
    type Err = String;

    /// Reads `metadata`, `graph`, or both with a comma.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let mut carry = Self::default();
        for word in text.split(',') {
            match word {
                "metadata" => carry.metadata = true,
                "graph" => carry.graph = true,
                other => return Err(format!("{other:?} is neither metadata nor graph")),
            }
        }
        Ok(carry)
    }
}

/// Whether a model has a graph, or a note of one.
pub(crate) fn has_graph(model: &Model) -> bool {
    model.graph.is_some() || model.metadata.get(ns::NOTE, KEY).is_some()
}

/// Puts a model's graph into a note.
pub(crate) fn note_graph(model: &mut Model) -> Result<()> {
    if model.graph.is_none() {
        return Ok(());
    }
    let note = onnx::graph_note(model)?;
    let Some(graph) = model.graph.take() else {
        return Ok(());
    };
    let text = MetaValue::text(BASE64.encode(&note));
    model.metadata.set(ns::NOTE, KEY, text);
    let what = format!("the graph of {} nodes", graph.body.nodes.len());
    let why = format!(
        "noted in the metadata, {} bytes; ONNX gets it back",
        note.len()
    );
    let record = Record::carried("graph", what, why);
    model.provenance.records.push(record.flag("--carry"));
    Ok(())
}

/// Gives a model the graph that a note tells, and removes the note. One whose tensors are not all
/// there any more is an error, unless tensors alone are asked for.
pub(crate) fn restore_graph(
    model: &mut Model,
    request: &ConvertRequest,
    limits: &Limits,
) -> Result<()> {
    let noted = model.metadata.get(ns::NOTE, KEY);
    let Some(text) = noted
        .and_then(MetaValue::as_str)
        .filter(|_| model.graph.is_none())
    else {
        return Ok(());
    };
    let read = || {
        let note = BASE64
            .decode(text)
            .map_err(|error| FacadeError::GraphNote {
                why: error.to_string(),
            })?;
        onnx::graph_of_note(note, &model.tensors, limits).map_err(|error| {
            let why = error.to_string();
            ir::Error::from(FacadeError::GraphNote { why })
        })
    };
    match read() {
        Ok((graph, tensors)) => {
            model.graph = Some(graph);
            model.tensors = tensors;
        }
        Err(error) if request.intent == Some(Intent::Container) => {
            let what = "the graph that its metadata notes";
            let record = Record::dropped("graph", what, error.to_string());
            model.provenance.records.push(record);
        }
        Err(error) => return Err(error),
    }
    model.metadata.remove(ns::NOTE, KEY);
    Ok(())
}
