//! What both onnx's checker and onnxruntime (1.31) ask of nodes, of the ends of graphs and of
//! operator sets. What onnxruntime loads stays read, whatever the checker says of it; that is why
//! functions that nothing calls and the graphs of training, which it never looks at, are held to less.

use super::functions::{self, ByName, called};
use super::{operators, scopes};
use crate::OnnxError;
use crate::order::{early, sequence, walk};
use ir::{Function, Graph, GraphBody, Initializer, Node, Result};
use std::collections::{HashMap, HashSet};

/// Domains that runtimes know unasked: onnxruntime takes their newest version where a model does not
/// import them (`GetLatestOpsetVersions`). The last four are those of its builds for other devices and of
/// onnxruntime-extensions.
const KNOWN: [&str; 13] = [
    "",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
    "ai.onnx.contrib",
    "com.intel.ai",
    "com.microsoft.dml",
];
/// Domains of ONNX itself, whose operators have versions from 1 on.
const VERSIONED: [&str; 3] = ["", "ai.onnx.ml", "ai.onnx.training"];

/// Whose body it is: how much is asked of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// The model's.
    Main,
    /// A function's.
    Function,
    /// One in an attribute.
    Nested,
}

type Opsets<'a> = HashMap<&'a str, i64>;

/// Whether the parts of a model are as loaders need them.
pub(super) fn check(graph: &Graph, functions: &ByName<'_>) -> Result<()> {
    let imported = opsets(&graph.opsets, plain);
    whole(&graph.body, Home::Main, &|node| {
        of_the_model(node, &imported, functions)
    })?;
    let reached = functions::reached(graph, functions);
    for (number, function) in graph.functions.iter().enumerate() {
        let checked = body_of(function, reached.contains(&number), functions);
        checked.map_err(|error| error.at(functions::title(function)))?;
    }
    Ok(())
}

/// Whether a node of the model's graph, or of one within it, is of a domain that runtimes know.
fn of_the_model(node: &Node, imported: &Opsets<'_>, functions: &ByName<'_>) -> Result<()> {
    no_operator(node, imported, functions)?;
    let found = imported.get(plain(&node.domain)).copied();
    let function = functions.contains_key(&called(node)) && found.is_some();
    // Models from before IR 3 have no operator sets.
    let known = found.is_none() && KNOWN.contains(&plain(&node.domain));
    if imported.is_empty() || function || known {
        return Ok(());
    }
    domain(node, found)
}

/// Whether the body of a function is as loaders need it: of one that nothing calls, its operator sets.
fn body_of(function: &Function, called: bool, functions: &ByName<'_>) -> Result<()> {
    // A function's own nodes name its domains letter by letter; those of graphs in it need not.
    let exact = opsets(&function.opsets, |domain| domain);
    let imported = opsets(&function.opsets, plain);
    for node in &function.body.nodes {
        let mut checked = domain(node, exact.get(&node.domain[..]).copied());
        if called {
            checked = checked.and_then(|()| no_operator(node, &imported, functions));
        }
        checked.map_err(|error| error.at(node.title(&function.body)))?;
    }
    if !called {
        return Ok(());
    }
    whole(&function.body, Home::Function, &|node| {
        no_operator(node, &imported, functions)?;
        domain(node, imported.get(plain(&node.domain)).copied())
    })
}

/// A domain under its shorter name.
fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

fn opsets(opsets: &[(String, i64)], name: fn(&str) -> &str) -> Opsets<'_> {
    // The last of two counts, as with onnxruntime.
    let all = opsets.iter();
    all.map(|(domain, version)| (name(domain), *version))
        .collect()
}

pub(super) fn contradiction(what: String) -> ir::Error {
    OnnxError::Contradiction { what }.into()
}

/// Whether the operator set of a node's domain is there, and is one.
fn domain(node: &Node, found: Option<i64>) -> Result<()> {
    let domain = &node.domain;
    let what = match found {
        None => format!(
            "it is of domain {domain:?}, which is not imported: expected an operator set of it"
        ),
        Some(version) if version < 1 && VERSIONED.contains(&plain(domain)) => {
            format!("it is of operator set {version} of domain {domain:?}, expected 1 or newer")
        }
        Some(_) => return Ok(()),
    };
    let help = "No runtime knows which operator that is: export the model again, or add the domain's \
                version to its opset_import";
    Err(contradiction(what).with_help(help))
}

/// Whether a call of a function in the domain of ONNX itself is one of an operator: neither the checker
/// nor onnxruntime looks for others there.
fn no_operator(node: &Node, imported: &Opsets<'_>, functions: &ByName<'_>) -> Result<()> {
    if !plain(&node.domain).is_empty() || !functions.contains_key(&called(node)) {
        return Ok(());
    }
    let listed = imported
        .get("")
        .is_some_and(|version| *version <= operators::NEWEST);
    let operator = operators::OPERATORS.binary_search(&node.op.as_str());
    if operator.is_ok() || !listed {
        return Ok(());
    }
    let what =
        "it calls a function in the domain of ONNX itself, expected one in a domain of its own";
    Err(contradiction(what.to_owned()))
}

/// A body and all in it.
fn whole(top: &GraphBody, home: Home, asked: &impl Fn(&Node) -> Result<()>) -> Result<()> {
    let mut sorted = true;
    walk(top, &mut |body, within| {
        let home = if std::ptr::eq(body, top) {
            home
        } else {
            Home::Nested
        };
        for node in &body.nodes {
            let at = |error: ir::Error| error.at(node.title(body));
            attributes(node, home).map_err(at)?;
            if home != Home::Function {
                asked(node).map_err(at)?;
            }
        }
        if home != Home::Function {
            ends(body)?;
        }
        let Some((number, id)) = early(body, within) else {
            return Ok(());
        };
        // onnxruntime sorts the nodes of the model's own graph, and those of no other.
        let (number, what) = match sequence(body, within) {
            Err(number) => (
                number,
                "it takes, by others or itself, what it gives".to_owned(),
            ),
            Ok(_) if home == Home::Main => {
                sorted = false;
                return Ok(());
            }
            Ok(_) => {
                let name = body.value(id).map_or("", |value| value.name.as_str());
                let what =
                    format!("it takes {name:?}, which a later node gives: expected an earlier");
                (number, what)
            }
        };
        let node = body.nodes.get(number);
        Err(contradiction(what).at(node.map_or_else(String::new, |node| node.title(body))))
    })?;
    scopes::check(top, sorted)
}

/// Whether a node's attributes have names of their own. onnxruntime takes twice the same in functions.
fn attributes(node: &Node, home: Home) -> Result<()> {
    let mut seen = HashSet::new();
    for attribute in &node.attributes {
        let name = attribute.name.as_str();
        if name.is_empty() {
            return Err(contradiction("an attribute of it has no name".to_owned()));
        }
        if !seen.insert(name) && home != Home::Function {
            let what = format!("attribute {name:?} is there twice, expected once");
            return Err(contradiction(what));
        }
    }
    Ok(())
}

/// Whether a graph's inputs are there once and its outputs have names.
///
/// Two inputs of the name of a tensor load in onnxruntime, and so does an input without a name.
fn ends(body: &GraphBody) -> Result<()> {
    let mut seen = HashSet::new();
    let twice = body.inputs.iter().filter(|id| !seen.insert(id.index()));
    let twice: HashSet<usize> = twice.map(|id| id.index()).collect();
    let bare = || {
        let tensors = body.initializers.iter().map(|it| match it {
            Initializer::Dense(id, _) | Initializer::Sparse(id, _) => id.index(),
        });
        let tensors: HashSet<usize> = tensors.collect();
        let mut inputs = body.inputs.iter();
        inputs.find(|id| twice.contains(&id.index()) && !tensors.contains(&id.index()))
    };
    if let Some(id) = (!twice.is_empty()).then(bare).flatten() {
        let name = body.value(*id).map_or("", |value| value.name.as_str());
        let what = format!("the graph's input {name:?} is there twice, expected once");
        return Err(contradiction(what));
    }
    let mut outputs = body.outputs.iter().filter_map(|id| body.value(*id));
    if outputs.any(|value| value.name.is_empty()) {
        return Err(contradiction(
            "an output of the graph has no name".to_owned(),
        ));
    }
    Ok(())
}
