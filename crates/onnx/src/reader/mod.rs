//! The reader: one walk over the file, tensors left where they lie.

mod attribute;
mod check;
mod external;
mod functions;
mod graph;
mod model;
mod numbers;
mod operators;
mod rules;
mod scopes;
mod source;
mod sparse;
mod state;
mod tensor;
mod types;

use crate::OnnxError;
use crate::wire::ID;
use external::Externals;
use ir::{Context, Graph, Input, Limits, Model, Reader, Region, Result, Survey, TensorTable};
use source::Source;
use state::{Seen, State};

/// Reads ONNX: graph, functions and training, with tensors as views of the file and of the files
/// beside it.
///
/// Initializers and the tensors of Constant nodes have the names of their values; those of other
/// attributes `NODE.ATTRIBUTE`. Properties go to the namespace [`ir::ns::ONNX`], those that this
/// project wrote to the namespaces they came from. A file that was written `--as container` is read
/// as tensors alone.
#[derive(Debug, Clone, Copy)]
pub struct OnnxReader;

impl Reader for OnnxReader {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        read(input, cx, false).map(|(model, _)| model)
    }

    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        match read(input, cx, true) {
            Err(error) => Survey::of(ID, Err(error)),
            Ok((model, seen)) => Survey {
                error: seen.error,
                anomalies: seen.anomalies,
                ..Survey::of(ID, Ok(model))
            },
        }
    }
}

/// The graph of a note ([`crate::graph_note`]) over the tensors of `tensors` that it names, in the
/// order in which it names them.
pub fn graph_of_note(
    note: Vec<u8>,
    tensors: &TensorTable,
    limits: &Limits,
) -> Result<(Graph, TensorTable)> {
    let external = Externals::among(Some(tensors.clone()));
    let mut state = State::new(Source::new(Region::memory(note)), external, limits);
    let model = model::model(&mut state)?;
    let graph = model
        .graph
        .ok_or(OnnxError::Missing { what: "the graph" })?;
    Ok((graph, model.tensors))
}

/// The model; for a survey also what is wrong with single tensors, which an open refuses.
fn read(input: &Input, cx: &Context, survey: bool) -> Result<(Model, Seen)> {
    let region = input.file()?;
    let external = Externals::beside(region.path(), &cx.places);
    let mut state = State::new(Source::new(region.clone()), external, &cx.limits);
    state.survey = survey.then(Seen::default);
    let read = model::model(&mut state);
    let mut model = match read {
        Ok(model) => model,
        Err(error) => {
            let error = something_else(region).unwrap_or(error);
            return Err(error.in_file(input.path()));
        }
    };
    let own = (input.path().to_owned(), region.len());
    model.provenance.files.insert(0, own);
    Ok((model, state.survey.unwrap_or_default()))
}

/// The error that names what a file that is no model is, where that can be told.
fn something_else(region: &Region) -> Option<ir::Error> {
    let head = usize::try_from(region.len()).unwrap_or(64).min(64);
    let found = ir::sniff(&region.bytes(0, head).ok()?)?;
    Some(
        OnnxError::SomethingElse {
            what: found.what,
            help: found.help,
        }
        .into(),
    )
}
