//! Graphs: nodes over values. What a node names is one value wherever the name stands.

use super::source::{Field, Span};
use super::state::{State, keep};
use super::{attribute, sparse, tensor, types};
use crate::OnnxError;
use crate::wire::field;
use bytes::Bytes;
use ir::{
    Annotation, Attribute, GraphBody, Initializer, Node, Record, Result, TensorId, Value, ValueId,
};
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};

/// Which graph is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// The model's.
    Main,
    /// One in an attribute, so deep.
    Nested(u64),
}

impl Body {
    fn depth(self) -> u64 {
        match self {
            Self::Main => 0,
            Self::Nested(depth) => depth,
        }
    }
}

/// A body and where its names are.
#[derive(Default)]
pub(super) struct Names {
    pub(super) body: GraphBody,
    /// By a hash of the name, and how many others have the same: names stand in the body already.
    ids: HashMap<(u64, u32), ValueId>,
    hasher: RandomState,
    /// Which values are made here: inputs, initializers, outputs of nodes.
    made: Vec<bool>,
}

impl Names {
    /// The value of a name, new if it was not named before.
    pub(super) fn id(&mut self, state: &mut State<'_>, name: String) -> Result<ValueId> {
        let mut key = (self.hasher.hash_one(&name), 0);
        while let Some(known) = self.ids.get(&key) {
            if self.body.value(*known).is_some_and(|it| it.name == name) {
                return Ok(*known);
            }
            key.1 += 1;
        }
        state.count::<(Value, (u64, u32, ValueId))>()?;
        let value = Value {
            name,
            ..Value::default()
        };
        let id = self.body.add_value(value).ok_or(ir::Fault::OverLimit {
            what: "values of a graph",
            found: u64::from(u32::MAX) + 1,
            limit: u64::from(u32::MAX),
        })?;
        self.ids.insert(key, id);
        Ok(id)
    }

    /// Marks a value that is made here.
    pub(super) fn make(&mut self, id: ValueId) {
        if self.made.len() <= id.index() {
            self.made.resize(id.index() + 1, false);
        }
        if let Some(made) = self.made.get_mut(id.index()) {
            *made = true;
        }
    }

    /// What a `ValueInfoProto` says of a value. What was said first stays.
    pub(super) fn declare(&mut self, said: Value, state: &mut State<'_>) -> Result<ValueId> {
        let id = self.id(state, said.name.clone())?;
        let Some(value) = self.body.values.get_mut(id.index()) else {
            return Ok(id);
        };
        if value.ty.is_some() && said.ty.is_some() && value.ty != said.ty {
            let why = "it is declared twice, with two types; the first is kept";
            state.record(Record::changed("declared-twice", &value.name, why))?;
        }
        if value.ty.is_none() {
            value.ty = said.ty;
        }
        if value.doc.is_empty() {
            value.doc = said.doc;
        }
        if value.metadata.is_empty() {
            value.metadata = said.metadata;
        }
        Ok(id)
    }

    pub(super) fn input(&mut self, id: ValueId) {
        self.make(id);
        self.body.inputs.push(id);
    }

    /// The body, its values marked that are defined around it.
    pub(super) fn close(mut self) -> GraphBody {
        let made = self.made.into_iter().chain(std::iter::repeat(false));
        for (value, made) in self.body.values.iter_mut().zip(made) {
            value.outer = !made;
        }
        self.body
    }
}

/// A `GraphProto`, which may come in pieces: protobuf merges them, so lists go on and the last of what
/// is single counts. The recursion through attributes is bounded by `State::check_depth`.
pub(super) fn graph(state: &mut State<'_>, pieces: &[Span], which: Body) -> Result<GraphBody> {
    state.check_depth(which.depth())?;
    let mut names = Names::default();
    let (mut nodes, mut infos, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    let mut seen = HashSet::new();
    for mut span in pieces.iter().copied() {
        while let Some(field) = state.source.field(&mut span)? {
            match field.number {
                field::graph::NODE => keep::<Node>(&mut nodes, field, state)?,
                field::graph::NAME => names.body.name = state.name(field)?,
                field::graph::DOC => names.body.doc = state.text(field)?,
                field::graph::INITIALIZER => {
                    let number = names.body.initializers.len();
                    let (name, id) = tensor::initializer(state, field.span()?, number)?;
                    initialize(&mut names, name, state, &mut seen, |value| {
                        Initializer::Dense(value, id)
                    })?;
                }
                field::graph::SPARSE_INITIALIZER => {
                    let (parts, name) = sparse::initializer(state, field.span()?)?;
                    initialize(&mut names, name, state, &mut seen, |value| {
                        Initializer::Sparse(value, parts)
                    })?;
                }
                field::graph::INPUT => {
                    let value = types::value_info(state, field)?;
                    let id = names.declare(value, state)?;
                    names.input(id);
                }
                // What an input or a node says of a value counts before these.
                field::graph::OUTPUT => outputs.push(types::value_info(state, field)?),
                field::graph::VALUE_INFO => infos.push(types::value_info(state, field)?),
                field::graph::QUANTIZATION => {
                    let annotation = annotation(state, field.span()?)?;
                    names.body.annotations.push(annotation);
                }
                field::graph::METADATA => names.body.metadata.push(state.pair(field)?),
                _ => state.unknown("GraphProto", field),
            }
        }
    }
    for value in outputs {
        let id = names.declare(value, state)?;
        names.body.outputs.push(id);
    }
    for value in infos {
        names.declare(value, state)?;
    }
    names.body.nodes.reserve_exact(nodes.len());
    for span in nodes {
        node(state, span, &mut names, which.depth())?;
    }
    Ok(names.close())
}

fn initialize(
    names: &mut Names,
    name: String,
    state: &mut State<'_>,
    seen: &mut HashSet<String>,
    make: impl FnOnce(ValueId) -> Initializer,
) -> Result<()> {
    if !seen.insert(name.clone()) {
        let error = ir::Error::from(ir::Fault::DuplicateName { name });
        return Err(error.with_help("Loaders disagree on which of the two counts"));
    }
    let id = names.id(state, name)?;
    names.make(id);
    names.body.initializers.push(make(id));
    Ok(())
}

fn annotation(state: &mut State<'_>, mut span: Span) -> Result<Annotation> {
    state.count::<Annotation>()?;
    let mut annotation = Annotation::default();
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::annotation::TENSOR_NAME => annotation.value = state.name(field)?,
            field::annotation::PARAMETERS => annotation.parameters.push(state.pair(field)?),
            _ => state.unknown("TensorAnnotation", field),
        }
    }
    Ok(annotation)
}

/// A `NodeProto`, added to the body.
pub(super) fn node(
    state: &mut State<'_>,
    mut span: Span,
    names: &mut Names,
    depth: u64,
) -> Result<()> {
    let at = span.at;
    let mut node = Node::default();
    let mut attributes = Vec::new();
    while let Some(field) = state.source.field(&mut span)? {
        match field.number {
            field::node::INPUT => node.inputs.push(named(state, field, names)?),
            field::node::OUTPUT => {
                let id = named(state, field, names)?;
                if let Some(id) = id {
                    names.make(id);
                }
                node.outputs.push(id);
            }
            field::node::NAME => node.name = state.name(field)?,
            field::node::OP_TYPE => node.op = state.name(field)?,
            field::node::DOMAIN => node.domain = state.name(field)?,
            field::node::OVERLOAD => node.overload = state.name(field)?,
            field::node::ATTRIBUTE => keep::<Attribute>(&mut attributes, field, state)?,
            field::node::DOC => node.doc = state.text(field)?,
            field::node::METADATA => node.metadata.push(state.pair(field)?),
            field::node::DEVICES => {
                state.count::<Bytes>()?;
                node.devices.push(state.blob(field)?.into());
            }
            _ => state.unknown("NodeProto", field),
        }
    }
    let first = node.outputs.iter().flatten().next();
    let output = first.and_then(|id| names.body.value(*id));
    let output = output.map(|value| value.name.clone()).unwrap_or_default();
    let mut place = node.title(&names.body);
    if node.name.is_empty() && output.is_empty() {
        place = format!("{place}, at byte {at}");
    }
    if node.op.is_empty() {
        let error = ir::Error::from(OnnxError::Missing {
            what: "the operator",
        });
        return Err(error.at(place));
    }
    if node.inputs.is_empty() && node.outputs.is_empty() {
        let what = "it takes nothing and gives nothing".to_owned();
        return Err(ir::Error::from(OnnxError::Contradiction { what }).at(place));
    }
    let constant = node.op == "Constant" && ["", "ai.onnx"].contains(&node.domain.as_str());
    let plain = [&output, &node.name, &node.op];
    let owner = attribute::Owner {
        place: &place,
        name: plain
            .into_iter()
            .find(|n| !n.is_empty())
            .unwrap_or(&node.op),
        constant,
        depth,
    };
    for span in attributes {
        let attribute =
            attribute::attribute(state, span, &owner).map_err(|error| error.at(place.clone()))?;
        node.attributes.push(attribute);
    }
    names.body.nodes.push(node);
    Ok(())
}

/// The value a node names; an empty name is one that is left out.
fn named(state: &mut State<'_>, field: Field, names: &mut Names) -> Result<Option<ValueId>> {
    state.count::<Option<ValueId>>()?;
    let name = state.name(field)?;
    if name.is_empty() {
        return Ok(None);
    }
    names.id(state, name).map(Some)
}

/// The tensor that stands for one a survey could not read.
pub(super) fn placeholder(state: &mut State<'_>, name: &str) -> Result<TensorId> {
    let spec = ir::TensorSpec::new(ir::DType::U8, [0]);
    let view = ir::View::contiguous(ir::Region::memory(Vec::new()));
    state.push(ir::Tensor::stored(name, spec, view), name)
}
