//! What a graph must be beyond its encoding: every name defined, once.
//!
//! Those are the rules of onnx's checker that runtimes hold to as well; [`rules`] has more of them. That the
//! nodes of the model's own graph stand in the order in which they compute is one of the checker's alone.

use super::{functions, rules};
use crate::OnnxError;
use ir::{Graph, GraphBody, Initializer, Node, Result, ValueId};
use std::collections::HashSet;

/// Whether a model's graph, its functions and its training hold together.
pub(super) fn check(graph: &Graph) -> Result<()> {
    // Models from before IR 3 have no operator sets.
    if graph.opsets.is_empty() && graph.about.ir_version.is_some_and(|version| version >= 3) {
        let what = "the operator set (opset_import)";
        return Err(OnnxError::Missing { what }.into());
    }
    body(&graph.body, &mut Vec::new())?;
    for function in &graph.functions {
        let place = functions::title(function);
        body(&function.body, &mut Vec::new()).map_err(|error| error.at(place))?;
    }
    // Training computes with the values of the model's own graph.
    for training in &graph.training {
        for inner in [&training.initialization, &training.algorithm]
            .into_iter()
            .flatten()
        {
            body(inner, &mut vec![names(&graph.body)])?;
        }
    }
    let functions = functions::by_name(&graph.functions)?;
    functions::calls(&graph.functions, &functions)?;
    rules::check(graph, &functions)
}

/// The names that a body has for those in it.
fn names(body: &GraphBody) -> HashSet<&str> {
    let made = body.values.iter().filter(|value| !value.outer);
    made.map(|value| value.name.as_str()).collect()
}

/// One body, and those in its nodes, below the bodies whose names are `around`. The nesting is that of
/// the reader, which bounds it.
fn body<'a>(here: &'a GraphBody, around: &mut Vec<HashSet<&'a str>>) -> Result<()> {
    let mut made = vec![false; here.values.len()];
    let initialized = here
        .initializers
        .iter()
        .map(|initializer| match initializer {
            Initializer::Dense(value, _) | Initializer::Sparse(value, _) => *value,
        });
    // An input may have an initializer, which is its default.
    for value in initialized.chain(here.inputs.iter().copied()) {
        if let Some(made) = made.get_mut(value.index()) {
            *made = true;
        }
    }
    let known = |value: &ValueId| {
        let value = here.value(*value).filter(|value| !value.name.is_empty())?;
        let outer = value.outer
            && !around
                .iter()
                .any(|names| names.contains(value.name.as_str()));
        outer.then_some(value.name.as_str())
    };
    for node in &here.nodes {
        let place = || node.title(here);
        if let Some(name) = node.inputs.iter().flatten().find_map(known) {
            let what = format!("it takes {name:?}, which nothing gives");
            return Err(ir::Error::from(OnnxError::Contradiction { what }).at(place()));
        }
        for output in node.outputs.iter().flatten() {
            let twice = made
                .get_mut(output.index())
                .is_some_and(|made| std::mem::replace(made, true));
            if twice {
                let name = here.value(*output).map_or("", |value| value.name.as_str());
                let what = format!("it gives {name:?}, which something else gives already");
                return Err(ir::Error::from(OnnxError::Contradiction { what }).at(place()));
            }
        }
    }
    if let Some(name) = here.outputs.iter().find_map(known) {
        let what = format!("its output {name:?} is given by nothing");
        return Err(OnnxError::Contradiction { what }.into());
    }
    if here.nodes.iter().all(|node| node.bodies().next().is_none()) {
        return Ok(());
    }
    around.push(names(here));
    let inner = here.nodes.iter().flat_map(Node::bodies);
    let checked = inner.into_iter().try_for_each(|inner| body(inner, around));
    around.pop();
    checked
}
