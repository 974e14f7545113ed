//! Rules over operator graphs: what runs elsewhere than it seems, and what is built in to be
//! switched on by its input.
//!
//! A backdoor in an architecture is not in the weights: an input is compared with constants, the
//! answer is brought down to a yes or no, and that switches between two results, or masks one
//! (Bober-Irizar 2023; Langford 2024, arXiv 2402.06957; ShadowLogic 2024, arXiv 2511.00664). It
//! survives fine-tuning and conversion. Honest models compare inputs with constants too: to mask
//! padding, to find the end of a text, to put an image in the place of a token. They do so position
//! by position, or to learn where and how many. So what is told is one yes or no that meets a
//! result, wherever that is, and a choice position by position only at the end of the model, or where
//! it brings constants of its own. `docs/scan.md` says it rule by rule.
//!
//! A graph is written out flat ([`flat`]); what is known of each value goes forward ([`facts`]),
//! where it leads goes back ([`flow`]), each in one pass; [`switches`] and [`sizes`] judge.

mod facts;
mod flat;
mod flow;
mod known;
mod ops;
mod sizes;
mod switches;

use crate::finding::Finding;
use crate::judge::plain;
use crate::rules;
use flat::flatten;
use ir::{Graph, TensorTable};
use known::Known;
use std::collections::BTreeSet;

/// Findings of one rule that are told.
const TOLD: usize = 16;
/// Since this version of the format an initializer that is listed as an input may be fed.
const FREE_DEFAULTS: i64 = 4;

/// Findings on a graph over these tensors.
pub(crate) fn judge(graph: &Graph, tensors: &TensorTable) -> Vec<Finding> {
    let mut findings = Vec::new();
    domains(graph, &mut findings);
    sizes::declared(graph, &mut findings);
    let flat = flatten(graph);
    if flat.cut {
        let what = "more steps than are followed";
        findings.push(plain(rules::UNFOLLOWED_GRAPH, "the graph", what, ""));
    }
    let known = Known::of(&flat, tensors);
    let old = graph
        .about
        .ir_version
        .is_some_and(|version| version < FREE_DEFAULTS);
    sizes::computed(&flat, &known, &mut findings);
    switches::find(&flat, &known, old, &mut findings);
    findings
}

/// Operators that only somebody's library knows.
fn domains(graph: &Graph, findings: &mut Vec<Finding>) {
    let local: BTreeSet<(&str, &str)> = graph
        .functions
        .iter()
        .map(|function| (function.domain.as_str(), function.name.as_str()))
        .collect();
    let mut told = BTreeSet::new();
    for body in graph.bodies() {
        for node in &body.nodes {
            let (domain, op) = (node.domain.as_str(), node.op.as_str());
            let known = ops::DOMAINS.contains(&domain) || local.contains(&(domain, op));
            if !known && told.len() < TOLD && told.insert((domain, op)) {
                let what = format!("{domain}.{op}");
                findings.push(plain(rules::CUSTOM_OPERATOR, &node.title(body), &what, ""));
            }
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_arithmetic;
