//! Graphs, nodes and attributes as messages, in the order of their field numbers.

use super::rope::Rope;
use super::tensor::Tensors;
use super::types::{value_info, value_type};
use super::{opsets, pairs};
use crate::order::{early, sequence, walk};
use crate::wire::code::code_of_kind;
use crate::wire::field;
use ir::{
    Attribute, AttributeKind, AttributeValue, Fault, Function, GraphBody, Initializer, Node,
    Record, Report, Result, Training, Value, ValueId,
};
use std::collections::HashSet;

/// The value of an id, which `Model::validate` has looked up already.
fn value(body: &GraphBody, id: ValueId) -> Result<&Value> {
    body.value(id).ok_or_else(|| {
        let what = format!("value {} of graph {:?} is not there", id.index(), body.name);
        Fault::Invalid { what }.into()
    })
}

/// The order to write a graph's nodes in where theirs is none in which they can compute: onnxruntime
/// sorts such nodes, onnx's checker and other runtimes refuse them.
pub(super) fn order(body: &GraphBody, report: &mut Report) -> Result<Option<Vec<usize>>> {
    let mut order = None;
    walk(body, &mut |it, within| {
        if !std::ptr::eq(it, body) || early(it, within).is_none() {
            return Ok(());
        }
        // A cycle has no order; no reader lets one through.
        order = sequence(it, within).ok();
        Ok(())
    })?;
    if order.is_some() {
        let why = "some nodes stood before what they take; each is written behind it";
        report.add(Record::carried("nodes-sorted", &body.name, why));
    }
    Ok(order)
}

/// A `GraphProto`, its nodes in an order of their own if one is given. As deep as `Model::validate`
/// allows.
pub(super) fn graph<'a>(
    body: &GraphBody,
    order: Option<&[usize]>,
    tensors: &Tensors<'a>,
) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    let sorted = order
        .into_iter()
        .flatten()
        .filter_map(|at| body.nodes.get(*at));
    let stored = body.nodes.iter().filter(|_| order.is_none());
    for node in sorted.chain(stored) {
        out.message(field::graph::NODE, node_message(node, body, tensors)?);
    }
    out.some_text(field::graph::NAME, &body.name);
    for initializer in &body.initializers {
        match initializer {
            Initializer::Dense(id, tensor) => {
                let name = &value(body, *id)?.name;
                let message = tensors.message(*tensor, Some(name))?;
                out.message(field::graph::INITIALIZER, message);
            }
            Initializer::Sparse(id, sparse) => {
                let name = &value(body, *id)?.name;
                let message = tensors.sparse(sparse, Some(name))?;
                out.message(field::graph::SPARSE_INITIALIZER, message);
            }
        }
    }
    out.some_text(field::graph::DOC, &body.doc);
    for (number, ids) in [
        (field::graph::INPUT, &body.inputs),
        (field::graph::OUTPUT, &body.outputs),
    ] {
        for id in ids {
            out.message(number, value_info(value(body, *id)?)?);
        }
    }
    infos(&mut out, field::graph::VALUE_INFO, body)?;
    for annotation in &body.annotations {
        let mut message = Rope::new();
        message.some_text(field::annotation::TENSOR_NAME, &annotation.value);
        pairs(
            &mut message,
            field::annotation::PARAMETERS,
            &annotation.parameters,
        );
        out.message(field::graph::QUANTIZATION, message);
    }
    pairs(&mut out, field::graph::METADATA, &body.metadata);
    Ok(out)
}

/// What is said of values that are neither inputs nor outputs.
fn infos(out: &mut Rope<'_>, number: u32, body: &GraphBody) -> Result<()> {
    let ends: HashSet<usize> = body
        .inputs
        .iter()
        .chain(&body.outputs)
        .map(|id| id.index())
        .collect();
    for (index, value) in body.values.iter().enumerate() {
        let said = value.ty.is_some() || !value.doc.is_empty() || !value.metadata.is_empty();
        if said && !ends.contains(&index) {
            out.message(number, value_info(value)?);
        }
    }
    Ok(())
}

fn node_message<'a>(node: &Node, body: &GraphBody, tensors: &Tensors<'a>) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    for (number, ids) in [
        (field::node::INPUT, &node.inputs),
        (field::node::OUTPUT, &node.outputs),
    ] {
        for id in ids {
            let name = match id {
                Some(id) => &value(body, *id)?.name,
                None => "",
            };
            out.text(number, name);
        }
    }
    out.some_text(field::node::NAME, &node.name);
    out.text(field::node::OP_TYPE, &node.op);
    for attribute in &node.attributes {
        let message = attribute_message(attribute, tensors)?;
        out.message(field::node::ATTRIBUTE, message);
    }
    out.some_text(field::node::DOC, &node.doc);
    out.some_text(field::node::DOMAIN, &node.domain);
    out.some_text(field::node::OVERLOAD, &node.overload);
    pairs(&mut out, field::node::METADATA, &node.metadata);
    for devices in &node.devices {
        out.bytes(field::node::DEVICES, devices);
    }
    Ok(out)
}

fn attribute_message<'a>(attribute: &Attribute, tensors: &Tensors<'a>) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    out.text(field::attribute::NAME, &attribute.name);
    let kind = match &attribute.value {
        AttributeValue::Float(x) => {
            out.float(field::attribute::F, *x);
            AttributeKind::Float
        }
        AttributeValue::Int(n) => {
            out.int(field::attribute::I, *n);
            AttributeKind::Int
        }
        AttributeValue::Str(text) => {
            out.bytes(field::attribute::S, text);
            AttributeKind::Str
        }
        AttributeValue::Tensor(id) => {
            out.message(field::attribute::T, tensors.message(*id, None)?);
            AttributeKind::Tensor
        }
        AttributeValue::Sparse(sparse) => {
            let message = tensors.sparse(sparse, None)?;
            out.message(field::attribute::SPARSE_TENSOR, message);
            AttributeKind::Sparse
        }
        AttributeValue::Graph(body) => {
            out.message(field::attribute::G, graph(body, None, tensors)?);
            AttributeKind::Graph
        }
        AttributeValue::Type(ty) => {
            out.message(field::attribute::TP, value_type(ty)?);
            AttributeKind::Type
        }
        AttributeValue::Floats(list) => {
            for x in list {
                out.float(field::attribute::FLOATS, *x);
            }
            AttributeKind::Floats
        }
        AttributeValue::Ints(list) => {
            for n in list {
                out.int(field::attribute::INTS, *n);
            }
            AttributeKind::Ints
        }
        AttributeValue::Strs(list) => {
            for text in list {
                out.bytes(field::attribute::STRINGS, text);
            }
            AttributeKind::Strs
        }
        AttributeValue::Tensors(list) => {
            for id in list {
                out.message(field::attribute::TENSORS, tensors.message(*id, None)?);
            }
            AttributeKind::Tensors
        }
        AttributeValue::Sparses(list) => {
            for sparse in list {
                let message = tensors.sparse(sparse, None)?;
                out.message(field::attribute::SPARSE_TENSORS, message);
            }
            AttributeKind::Sparses
        }
        AttributeValue::Graphs(list) => {
            for body in list {
                out.message(field::attribute::GRAPHS, graph(body, None, tensors)?);
            }
            AttributeKind::Graphs
        }
        AttributeValue::Types(list) => {
            for ty in list {
                out.message(field::attribute::TYPE_PROTOS, value_type(ty)?);
            }
            AttributeKind::Types
        }
        AttributeValue::Ref(name, kind) => {
            out.text(field::attribute::REF, name);
            *kind
        }
    };
    out.some_text(field::attribute::DOC, &attribute.doc);
    if kind != AttributeKind::Undefined {
        out.int(field::attribute::TYPE, code_of_kind(kind).into());
    }
    Ok(out)
}

/// A `FunctionProto`.
pub(super) fn function<'a>(function: &Function, tensors: &Tensors<'a>) -> Result<Rope<'a>> {
    let body = &function.body;
    let mut out = Rope::new();
    out.text(field::function::NAME, &function.name);
    for (number, ids) in [
        (field::function::INPUT, &body.inputs),
        (field::function::OUTPUT, &body.outputs),
    ] {
        for id in ids {
            out.text(number, &value(body, *id)?.name);
        }
    }
    for name in &function.attributes {
        out.text(field::function::ATTRIBUTE, name);
    }
    for node in &body.nodes {
        out.message(field::function::NODE, node_message(node, body, tensors)?);
    }
    out.some_text(field::function::DOC, &function.doc);
    opsets(&mut out, field::function::OPSET_IMPORT, &function.opsets);
    out.text(field::function::DOMAIN, &function.domain);
    for attribute in &function.defaults {
        let message = attribute_message(attribute, tensors)?;
        out.message(field::function::ATTRIBUTE_PROTO, message);
    }
    for value in &body.values {
        if value.ty.is_some() || !value.doc.is_empty() || !value.metadata.is_empty() {
            out.message(field::function::VALUE_INFO, value_info(value)?);
        }
    }
    out.some_text(field::function::OVERLOAD, &function.overload);
    pairs(&mut out, field::function::METADATA, &function.metadata);
    Ok(out)
}

/// A `TrainingInfoProto`.
pub(super) fn training<'a>(training: &Training, tensors: &Tensors<'a>) -> Result<Rope<'a>> {
    let mut out = Rope::new();
    for (number, body) in [
        (field::training::INITIALIZATION, &training.initialization),
        (field::training::ALGORITHM, &training.algorithm),
    ] {
        if let Some(body) = body {
            out.message(number, graph(body, None, tensors)?);
        }
    }
    pairs(
        &mut out,
        field::training::INITIALIZATION_BINDING,
        &training.initialization_binding,
    );
    pairs(
        &mut out,
        field::training::UPDATE_BINDING,
        &training.update_binding,
    );
    Ok(out)
}
