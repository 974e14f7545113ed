//! Rules over operator graphs: what runs elsewhere than it seems, and what is built in to be
//! switched on by its input.
//!
//! A backdoor in an architecture is not in the weights: an input is compared with constants, the
//! answer is brought down to a yes or no, and that switches between two results, or masks one
//! (Bober-Irizar 2023; Langford 2024, arXiv 2402.06957; ShadowLogic 2024, arXiv 2511.00664). It
//! survives fine-tuning and conversion. Honest models compare inputs with constants too, to mask
//! padding, and use the answer deep inside; so what is told is a comparison that is reached from an
//! input by light steps only, and then either decides an `If`, or is brought down by a reduction
//! before it switches, or switches what leaves the model without a layer between.

mod flat;

use crate::finding::Finding;
use crate::judge::plain;
use crate::rules;
use flat::{Flat, Step, flatten};
use ir::{Dim, DimSize, Graph, GraphBody, Node, ValueType};
use std::collections::BTreeSet;

/// Domains whose operators belong to ONNX and its runtimes.
const DOMAINS: &[&str] = &[
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
];
/// More numbers than any tensor has: 2^44 of them take 16 TiB in bytes alone.
const HUGE: u64 = 1 << 44;
/// Findings of one rule that are told.
const TOLD: usize = 16;

/// Findings on a graph.
pub(crate) fn judge(graph: &Graph) -> Vec<Finding> {
    let mut findings = Vec::new();
    domains(graph, &mut findings);
    shapes(&graph.body, &mut findings);
    switches(graph, &mut findings);
    findings
}

/// A node as people find it.
fn show(node: &Node) -> String {
    match node.name.as_str() {
        "" => format!("a {} without a name", node.op),
        name => format!("{name} ({})", node.op),
    }
}

/// Operators that only somebody's library knows.
fn domains(graph: &Graph, findings: &mut Vec<Finding>) {
    let local: BTreeSet<(&str, &str)> = graph
        .functions
        .iter()
        .map(|function| (function.domain.as_str(), function.name.as_str()))
        .collect();
    let mut told = BTreeSet::new();
    for body in bodies(graph) {
        for node in &body.nodes {
            let (domain, op) = (node.domain.as_str(), node.op.as_str());
            let known = DOMAINS.contains(&domain) || local.contains(&(domain, op));
            if !known && told.len() < TOLD && told.insert((domain, op)) {
                let what = format!("{domain}.{op}");
                findings.push(plain(rules::CUSTOM_OPERATOR, &show(node), &what, ""));
            }
        }
    }
}

/// Every body of a graph, functions' and nested ones included.
fn bodies(graph: &Graph) -> Vec<&GraphBody> {
    let mut found: Vec<&GraphBody> = vec![&graph.body];
    found.extend(graph.functions.iter().map(|function| &function.body));
    for training in &graph.training {
        found.extend(training.initialization.iter().chain(&training.algorithm));
    }
    let mut at = 0;
    while let Some(body) = found.get(at).copied() {
        for attribute in body.nodes.iter().flat_map(|node| &node.attributes) {
            match &attribute.value {
                ir::AttributeValue::Graph(inner) => found.push(inner),
                ir::AttributeValue::Graphs(list) => found.extend(list),
                _ => {}
            }
        }
        at += 1;
    }
    found
}

/// Values that are declared larger than any memory.
fn shapes(body: &GraphBody, findings: &mut Vec<Finding>) {
    let huge = body.values.iter().filter_map(|value| {
        let elements = elements(value.ty.as_ref()?)?;
        (elements > HUGE).then_some((value, elements))
    });
    for (value, elements) in huge.take(TOLD) {
        let what = format!("{elements} numbers");
        let place = format!("value {}", value.name);
        findings.push(plain(rules::OVERSIZED_SHAPE, &place, &what, &what));
    }
}

/// How many elements a type declares at the least.
fn elements(ty: &ValueType) -> Option<u64> {
    let known = |dim: &Dim| match dim.size {
        DimSize::Known(n) => n,
        _ => 1,
    };
    match ty {
        ValueType::Tensor(_, Some(dims)) | ValueType::Sparse(_, Some(dims)) => {
            Some(dims.iter().map(known).fold(1, u64::saturating_mul))
        }
        ValueType::Denoted(_, inner) => elements(inner),
        _ => None,
    }
}

/// What is known of a value, going forward.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Fact {
    /// Known before the model runs.
    constant: bool,
    /// An input, or made of inputs by light steps.
    fed: bool,
    /// The outcome of comparing such a value with a constant.
    compared: bool,
    /// Such an outcome, brought down by a reduction.
    reduced: bool,
}

/// Steps that move or reshape values, or compute them one by one.
fn is_light(op: &str) -> bool {
    const LIGHT: &[&str] = &[
        "Abs",
        "Add",
        "And",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Compress",
        "Concat",
        "Div",
        "Expand",
        "Flatten",
        "Floor",
        "Gather",
        "GatherElements",
        "GatherND",
        "Identity",
        "Max",
        "Min",
        "Mod",
        "Mul",
        "Neg",
        "Not",
        "Or",
        "Pad",
        "Reciprocal",
        "Relu",
        "Reshape",
        "Round",
        "Sign",
        "Slice",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
        "Xor",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "BitwiseNot",
        "If",
        "ScatterElements",
        "ScatterND",
        "Pow",
        "Mean",
        "Trilu",
    ];
    LIGHT.contains(&op)
}

/// Steps that bring many values down to few.
fn is_reduction(op: &str) -> bool {
    const OTHERS: &[&str] = &[
        "ArgMax",
        "ArgMin",
        "CumSum",
        "TopK",
        "NonZero",
        "GlobalMaxPool",
    ];
    op.starts_with("Reduce") || OTHERS.contains(&op)
}

fn is_comparison(op: &str) -> bool {
    const COMPARE: &[&str] = &["Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"];
    COMPARE.contains(&op)
}

/// Steps that take a yes or no through unchanged, as numbers or not.
fn is_logic(op: &str) -> bool {
    const LOGIC: &[&str] = &[
        "And",
        "Or",
        "Not",
        "Xor",
        "Cast",
        "Identity",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Expand",
        "Transpose",
        "Concat",
        "Gather",
        "Slice",
        "Mul",
        "Sum",
        "Min",
        "Max",
        "BitwiseAnd",
        "BitwiseOr",
        "Add",
        "Sub",
        "Clip",
        "Sign",
        "Where",
        "Tile",
    ];
    LOGIC.contains(&op)
}

/// Comparisons of inputs with constants that switch what the model gives.
fn switches(graph: &Graph, findings: &mut Vec<Finding>) {
    let flat = flatten(graph);
    if flat.cut {
        let what = "more steps than are followed";
        findings.push(plain(rules::UNFOLLOWED_GRAPH, "the graph", what, ""));
    }
    let facts = forward(&flat);
    let near = near_outputs(&flat);
    let mut told = BTreeSet::new();
    for step in &flat.steps {
        if let Some(how) = switch(step, &facts, &near) {
            let place = show(step.node);
            if told.len() < TOLD && told.insert(place.clone()) {
                findings.push(plain(rules::INPUT_SWITCH, &place, how, how));
            }
        }
    }
}

fn forward(flat: &Flat<'_>) -> Vec<Fact> {
    let mut facts = vec![Fact::default(); flat.values];
    for &number in &flat.constants {
        if let Some(fact) = facts.get_mut(number) {
            fact.constant = true;
        }
    }
    for &number in &flat.inputs {
        if let Some(fact) = facts.get_mut(number) {
            fact.fed = true;
        }
    }
    for step in &flat.steps {
        let op = step.node.op.as_str();
        let standard = DOMAINS.contains(&step.node.domain.as_str());
        let inputs: Vec<Fact> = step
            .inputs
            .iter()
            .flatten()
            .filter_map(|number| facts.get(*number).copied())
            .collect();
        let any = |test: fn(&Fact) -> bool| inputs.iter().any(test);
        let mut fact = Fact {
            constant: inputs.iter().all(|f| f.constant) && standard && !op.starts_with("Random"),
            ..Fact::default()
        };
        if standard && !fact.constant {
            let compared = is_comparison(op)
                && any(|f| f.fed)
                && any(|f| f.constant)
                && inputs.iter().all(|f| f.fed || f.constant);
            fact.compared = compared
                || any(|f| f.compared) && (is_logic(op) || is_comparison(op) || is_reduction(op));
            fact.reduced =
                any(|f| f.reduced) && fact.compared || any(|f| f.compared) && is_reduction(op);
            let light = is_light(op) || is_comparison(op) || is_reduction(op);
            fact.fed = light && any(|f| f.fed) && inputs.iter().all(|f| f.fed || f.constant);
        }
        for &number in &step.outputs {
            if let Some(slot) = facts.get_mut(number) {
                *slot = fact;
            }
        }
    }
    facts
}

/// Values that leave the model with light steps only after them.
fn near_outputs(flat: &Flat<'_>) -> Vec<bool> {
    let mut near = vec![false; flat.values];
    for &number in &flat.outputs {
        if let Some(near) = near.get_mut(number) {
            *near = true;
        }
    }
    for step in flat.steps.iter().rev() {
        let op = step.node.op.as_str();
        let given = step.outputs.iter().any(|n| near.get(*n) == Some(&true));
        if !given || !is_light(op) {
            continue;
        }
        // An index or a shape is no way for a result to leave by.
        let data = match op {
            "Gather" | "GatherElements" | "GatherND" | "Slice" | "Reshape" | "Expand" | "Tile"
            | "Pad" | "Squeeze" | "Unsqueeze" | "Split" | "Clip" => 1,
            _ => step.inputs.len(),
        };
        for number in step.inputs.iter().take(data).flatten() {
            if let Some(near) = near.get_mut(*number) {
                *near = true;
            }
        }
    }
    near
}

/// How a step switches by a comparison, if it does.
fn switch(step: &Step<'_>, facts: &[Fact], near: &[bool]) -> Option<&'static str> {
    if !DOMAINS.contains(&step.node.domain.as_str()) {
        return None;
    }
    let fact = |at: usize| {
        step.inputs
            .get(at)
            .copied()
            .flatten()
            .and_then(|n| facts.get(n))
    };
    let leaves = step.outputs.iter().any(|n| near.get(*n) == Some(&true));
    // Both sides of a mask must be more than the comparison itself and constants.
    let other = step.inputs.iter().flatten().filter_map(|n| facts.get(*n));
    let mixes = other.clone().any(|f| !f.compared && !f.constant);
    match step.node.op.as_str() {
        "If" if fact(0)?.compared => {
            Some("a branch is chosen by comparing an input with a constant")
        }
        "Where" if fact(0)?.compared && fact(0)?.reduced => {
            Some("a result is chosen by whether an input holds a constant anywhere")
        }
        "Where" if fact(0)?.compared && leaves && mixes => {
            Some("what leaves the model is chosen by comparing an input with a constant")
        }
        "Mul" | "Add" | "Sub" | "Max" | "Min" if leaves && mixes => {
            let trigger = other.clone().any(|f| f.compared && f.reduced);
            trigger
                .then_some("what leaves the model is masked by comparing an input with a constant")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
