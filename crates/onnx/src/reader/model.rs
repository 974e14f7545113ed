//! The model: everything around the graph.

use super::graph::{self, Body, Names, graph};
use super::source::{Field, Span};
use super::state::{State, keep, once};
use super::{attribute, check, types};
use crate::OnnxError;
use crate::wire::{CONTAINER, ID, KIND_KEY, NAME_KEY, NEWEST_IR, field};
use bytes::Bytes;
use ir::{
    About, Attribute, Function, Graph, GraphBody, Initializer, Metadata, Model, Node, Provenance,
    Record, Result, TensorTable, Training, ValueId,
};
use std::collections::HashSet;

/// The whole file.
pub(super) fn model(state: &mut State<'_>) -> Result<Model> {
    let mut span = state.source.whole();
    let mut about = About::default();
    let (mut opsets, mut body, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
    let (mut functions, mut trainings) = (Vec::new(), Vec::new());
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::model::IR_VERSION => about.ir_version = Some(field.int()?),
            field::model::PRODUCER_NAME => about.producer = state.text(field)?,
            field::model::PRODUCER_VERSION => about.producer_version = state.text(field)?,
            field::model::DOMAIN => about.domain = state.name(field)?,
            field::model::MODEL_VERSION => about.model_version = Some(field.int()?),
            field::model::DOC => about.doc = state.text(field)?,
            field::model::GRAPH => keep::<()>(&mut body, field, state)?,
            field::model::OPSET_IMPORT => opsets.push(opset(state, field)?),
            field::model::METADATA => pairs.push(state.pair(field)?),
            field::model::TRAINING => keep::<Training>(&mut trainings, field, state)?,
            field::model::FUNCTIONS => keep::<Function>(&mut functions, field, state)?,
            field::model::CONFIGURATION => {
                state.count::<Bytes>()?;
                about.devices.push(state.blob(field)?.into());
            }
            _ => state.unknown("ModelProto", field),
        }
    }
    if body.is_empty() {
        return Err(OnnxError::Missing { what: "the graph" }.into());
    }
    state.typed = about.ir_version.is_some_and(|version| version >= 2);
    let mut whole = Graph {
        opsets,
        body: graph(state, &body, Body::Main)?,
        about,
        ..Graph::default()
    };
    for span in functions {
        whole.functions.push(function(state, span)?);
    }
    for span in trainings {
        whole.training.push(training(state, span)?);
    }
    state.or_note(check::check(&whole))?;
    if whole.about.ir_version > Some(NEWEST_IR) {
        state.notes.push(format!(
            "IR version {} is newer than the newest known here, {NEWEST_IR}",
            whole.about.ir_version.unwrap_or(0)
        ));
    }
    let version = version(&whole);
    let (metadata, container) = metadata(state, pairs, &whole)?;
    if !container {
        whole.remarks = std::mem::take(&mut state.remarks);
    }
    Ok(Model {
        tensors: std::mem::take(&mut state.tensors),
        graph: (!container).then_some(whole),
        metadata,
        provenance: Provenance {
            format: ID,
            version,
            files: std::mem::take(&mut state.external.files),
            records: std::mem::take(&mut state.records),
            notes: std::mem::take(&mut state.notes),
            checksums: std::mem::take(&mut state.external.checksums),
        },
        ..Model::default()
    })
}

/// `IR 10, opset 21, ai.onnx.ml 3, by pytorch 2.15`.
fn version(graph: &Graph) -> String {
    let mut parts = Vec::new();
    parts.extend(
        graph
            .about
            .ir_version
            .map(|version| format!("IR {version}")),
    );
    parts.extend(graph.opsets.iter().map(|(domain, version)| {
        let domain = if domain.is_empty() { "opset" } else { domain };
        format!("{domain} {version}")
    }));
    if !graph.about.producer.is_empty() {
        let by = format!(
            "by {} {}",
            graph.about.producer, graph.about.producer_version
        );
        parts.push(by.trim_end().to_owned());
    }
    parts.join(", ")
}

/// The model's properties by namespace, and whether they and the graph are those of a container.
fn metadata(
    state: &mut State<'_>,
    pairs: Vec<(String, String)>,
    graph: &Graph,
) -> Result<(Metadata, bool)> {
    let marked = pairs.iter().any(|(k, v)| k == KIND_KEY && v == CONTAINER);
    let container = marked && is_bare(graph);
    let mut metadata = Metadata::new();
    let mut seen = HashSet::new();
    for (key, value) in pairs {
        if container && (key == KIND_KEY || unname(state, &key, &value)?) {
            continue;
        }
        if !seen.insert(key.clone()) {
            let why = "the property is there twice; the first counts";
            state.record(Record::dropped("metadata-twice", key, why))?;
            continue;
        }
        let (namespace, key, value) = crate::namespace::of_property(&key, value);
        metadata.push_new(namespace, key, value);
    }
    Ok((metadata, container))
}

/// Gives a tensor its empty name back, if that is what a property says.
fn unname(state: &mut State<'_>, key: &str, value: &str) -> Result<bool> {
    let Some(stored) = key.strip_prefix(NAME_KEY).filter(|_| value.is_empty()) else {
        return Ok(false);
    };
    let free = state.tensors.id_of("").is_none();
    if state.tensors.id_of(stored).is_none() || !free {
        return Ok(false);
    }
    let mut tensors = std::mem::take(&mut state.tensors).into_tensors();
    for tensor in &mut tensors {
        if tensor.name == stored {
            tensor.name.clear();
        }
    }
    state.tensors = TensorTable::from_tensors(tensors)?;
    Ok(true)
}

/// Whether a graph says nothing that its tensors do not.
fn is_bare(graph: &Graph) -> bool {
    let body = &graph.body;
    let dense = body
        .initializers
        .iter()
        .all(|i| matches!(i, Initializer::Dense(..)));
    body.nodes.is_empty()
        && body.inputs.is_empty()
        && body.annotations.is_empty()
        && graph.functions.is_empty()
        && graph.training.is_empty()
        && dense
}

fn opset(state: &mut State<'_>, field: Field) -> Result<(String, i64)> {
    state.count::<(String, i64)>()?;
    let mut span = field.span()?;
    let mut opset = (String::new(), 0);
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::opset::DOMAIN => opset.0 = state.name(field)?,
            field::opset::VERSION => opset.1 = field.int()?,
            _ => state.unknown("OperatorSetIdProto", field),
        }
    }
    Ok(opset)
}

/// A `FunctionProto`.
fn function(state: &mut State<'_>, mut span: Span) -> Result<Function> {
    let mut function = Function::default();
    let mut names = Names::default();
    let (mut nodes, mut defaults) = (Vec::new(), Vec::new());
    let (mut infos, mut outputs) = (Vec::new(), Vec::new());
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::function::NAME => function.name = state.name(field)?,
            field::function::DOMAIN => function.domain = state.name(field)?,
            field::function::OVERLOAD => function.overload = state.name(field)?,
            field::function::DOC => function.doc = state.text(field)?,
            field::function::INPUT => {
                state.count::<ValueId>()?;
                let name = state.name(field)?;
                let id = names.id(state, name)?;
                names.input(id);
            }
            field::function::OUTPUT => {
                state.count::<String>()?;
                outputs.push(state.name(field)?);
            }
            field::function::ATTRIBUTE => {
                state.count::<String>()?;
                function.attributes.push(state.name(field)?);
            }
            field::function::ATTRIBUTE_PROTO => keep::<Attribute>(&mut defaults, field, state)?,
            field::function::NODE => keep::<Node>(&mut nodes, field, state)?,
            field::function::OPSET_IMPORT => function.opsets.push(opset(state, field)?),
            field::function::VALUE_INFO => infos.push(types::value_info(state, field)?),
            field::function::METADATA => function.metadata.push(state.pair(field)?),
            _ => state.unknown("FunctionProto", field),
        }
    }
    let place = super::functions::title(&function);
    let named = |error: ir::Error| error.at(place.clone());
    for name in outputs {
        let id = names.id(state, name)?;
        names.body.outputs.push(id);
    }
    for value in infos {
        names.declare(value, state).map_err(named)?;
    }
    for span in nodes {
        graph::node(state, span, &mut names, 0).map_err(named)?;
    }
    let owner = attribute::Owner {
        place: &place,
        name: &function.name,
        constant: false,
        depth: 0,
    };
    for span in defaults {
        let attribute = attribute::attribute(state, span, &owner).map_err(named)?;
        function.defaults.push(attribute);
    }
    function.body = names.close();
    Ok(function)
}

/// A `TrainingInfoProto`.
fn training(state: &mut State<'_>, mut span: Span) -> Result<Training> {
    let mut training = Training::default();
    let (mut initialization, mut algorithm) = (None, None);
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::training::INITIALIZATION => {
                once(&mut initialization, field.span()?, "initialization")?;
            }
            field::training::ALGORITHM => once(&mut algorithm, field.span()?, "algorithm")?,
            field::training::INITIALIZATION_BINDING => {
                training.initialization_binding.push(state.pair(field)?);
            }
            field::training::UPDATE_BINDING => training.update_binding.push(state.pair(field)?),
            _ => state.unknown("TrainingInfoProto", field),
        }
    }
    let mut body = |span: Option<Span>| -> Result<Option<GraphBody>> {
        span.map(|span| graph(state, &[span], Body::Nested(1)))
            .transpose()
    };
    training.initialization = body(initialization)?;
    training.algorithm = body(algorithm)?;
    Ok(training)
}
