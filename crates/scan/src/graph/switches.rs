//! Choices between results that are made by comparing an input with a constant.

use super::facts::{Fact, Level, Source, forward};
use super::flat::{Flat, Number, Step};
use super::flow::{Way, backward};
use super::known::Known;
use super::{TOLD, ops};
use crate::finding::Finding;
use crate::judge::plain;
use crate::rules;
use std::collections::BTreeSet;

/// What a score of attention is raised by that decides it.
const DRAWN: f32 = 2.0;
/// Numbers as near as this are the same.
const SAME: f32 = 1e-6;
/// A number that takes a score out of the race.
const NEVER: f64 = -1e3;

/// Comparisons of inputs with constants that switch what the model gives.
pub(super) fn find(flat: &Flat<'_>, known: &Known<'_>, old: bool, findings: &mut Vec<Finding>) {
    let facts = forward(flat, known, old);
    let ways = backward(flat, &facts);
    let mut told = BTreeSet::new();
    for step in &flat.steps {
        if told.len() >= TOLD {
            break;
        }
        if let Some(how) = switch(step, &facts, &ways, known) {
            let place = step.node.title(step.body);
            if told.insert(place.clone()) {
                findings.push(plain(rules::INPUT_SWITCH, &place, how, how));
            }
        }
    }
}

/// How a step switches by a comparison, if it does.
fn switch(
    step: &Step<'_>,
    facts: &[Fact],
    ways: &[Way],
    known: &Known<'_>,
) -> Option<&'static str> {
    let op = step.node.op.as_str();
    if !ops::DOMAINS.contains(&step.node.domain.as_str()) {
        return None;
    }
    let fact = |at: usize| facts.get(step.inputs.get(at).copied().flatten()?.index());
    let operands = || {
        step.inputs
            .iter()
            .flatten()
            .filter_map(|n| facts.get(n.index()))
    };
    let level = |at: usize| fact(at).and_then(|f| f.level());
    match op {
        "If" => {
            return level(0).map(|_| "a branch is chosen by comparing an input with a constant");
        }
        "Loop" if level(0).max(level(1)) == Some(Level::Bit) => {
            return Some("a loop runs or not by comparing an input with a constant");
        }
        // What these do is judged by the steps that they are made of.
        "Loop" | "Scan" | "SequenceConstruct" | "Shape" | "Size" => return None,
        _ => {}
    }
    let most = operands().filter_map(|f| f.level()).max()?;
    // What a layer was fed and gave is a result, but not to a threshold on what a layer gave, which
    // may be the same one. A product with a column is not that of a result with many.
    let deep = operands().any(|f| f.deep && f.level().is_some());
    let apart = operands().all(|f| f.apart || f.level().is_none());
    let computed = operands().any(|f| match f.source {
        Source::Computed => true,
        Source::Fed(fed) => fed.layers > 0 && (!deep || apart && !fed.few),
        _ => false,
    });
    let whole =
        operands().any(|f| matches!(f.source, Source::Fed(fed) if !fed.few && fed.layers == 0));
    let way = |test: fn(&Way) -> bool| {
        let mut ways = step.outputs.iter().filter_map(|n| ways.get(n.index()));
        ways.any(test)
    };
    let fact_of = |n: &Number| facts.get(n.index()).copied();
    if way(|w| w.attends) || ops::is_attention(op) {
        // Masks take positions out of sight. One that raises scores draws all attention to its own.
        let raised = step.inputs.iter().flatten().filter_map(fact_of);
        let mut raised = raised.filter(|f| f.level() == Some(Level::Mask));
        let up = |f: Fact| {
            f.ends
                .is_some_and(|(no, yes)| (yes - no).abs() > DRAWN && yes.max(no) > DRAWN)
        };
        return (op == "Add" && computed && raised.any(up))
            .then_some("attention is drawn to where an input holds a constant");
    }
    if let Some(at) = ops::chooser(op) {
        let stacked = fact(0).is_some_and(|f| f.stacked);
        let by = step
            .inputs
            .iter()
            .skip(at)
            .flatten()
            .filter_map(|n| facts.get(n.index()));
        let by = by.filter_map(|f| f.level()).max()?;
        return (by == Level::Bit && computed || stacked)
            .then_some("one of several results is picked by comparing an input with a constant");
    }
    let fills = || {
        let sides = step.inputs.iter().skip(1).flatten();
        sides.filter(|n| {
            facts
                .get(n.index())
                .is_some_and(|f| f.source == Source::Known)
        })
    };
    let fill = |test: fn(f64) -> bool| fills().any(|n| known.single(Some(*n)).is_some_and(test));
    let chosen = op == "Where" && fact(0).is_some_and(|f| f.level().is_some());
    let painted = operands().any(|f| f.painted);
    // Scores that are taken out of the race, all alike.
    let score = chosen && !painted && fill(|n| n <= NEVER);
    match most {
        _ if score => None,
        Level::Bit => {
            let quiet = ops::is_comparison(op) || way(|w| w.turns);
            ((computed || whole) && !quiet)
                .then_some("a result is switched by whether an input holds a constant")
        }
        Level::Count => (computed && ops::is_mix(op))
            .then_some("a result is changed by how often an input holds a constant"),
        _ if computed && !deep && matches!(op, "Add" | "Sub" | "Sum") => {
            let mut operands = operands();
            operands
                .any(|f| f.painted && f.level().is_some())
                .then_some("constants are added to a result where an input holds a constant")
        }
        _ if computed && !deep && op == "Mul" && way(|w| w.leaves || w.closes) => {
            // Padding is multiplied by 0, all else by 1.
            let other = |n: f32| n.abs() > SAME && (n - 1.0).abs() > SAME;
            let scales = |f: Fact| {
                let ends = f.ends.filter(|_| f.level().is_some());
                ends.is_some_and(|(no, yes)| (no - yes).abs() > SAME && (other(no) || other(yes)))
            };
            let mut scaled = step.inputs.iter().flatten().filter_map(fact_of);
            scaled
                .any(scales)
                .then_some("what leaves the model is scaled where an input holds a constant")
        }
        _ if !chosen || !computed || deep => None,
        _ if way(|w| w.leaves) || way(|w| w.closes) && !fill(|n| n == 0.0) => {
            Some("what leaves the model is chosen by comparing an input with a constant")
        }
        _ => fills()
            .any(|n| known.different(*n) > 2)
            .then_some("a result is replaced by constants where an input holds a constant"),
    }
}
