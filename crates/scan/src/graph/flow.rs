//! Where values of a graph go, from its outputs back.

use super::facts::{Fact, Source};
use super::flat::{Flat, Number, Step};
use super::ops;

/// What is known of where a value goes.
#[derive(Clone, Copy, Default)]
pub(super) struct Way {
    /// It leaves the model with nothing but plain steps behind it.
    pub(super) leaves: bool,
    /// The same, steps that make scores of results included.
    pub(super) closes: bool,
    /// It only ever shifts scores whose softmax weighs other values: a mask of attention.
    pub(super) attends: bool,
    /// It only ever becomes a sine or cosine: an angle of positions.
    pub(super) turns: bool,
    /// It weighs other values.
    weighs: bool,
    used: bool,
}

impl Way {
    /// What holds for a value that goes two ways.
    fn and(self, other: Self) -> Self {
        if !self.used {
            return other;
        }
        Self {
            leaves: self.leaves || other.leaves,
            closes: self.closes || other.closes,
            attends: self.attends && other.attends,
            turns: self.turns && other.turns,
            weighs: self.weighs || other.weighs,
            used: true,
        }
    }
}

/// The ways of all values, each by its number.
pub(super) fn backward(flat: &Flat<'_>, facts: &[Fact]) -> Vec<Way> {
    let mut ways = flat.table(Way::default());
    let out = Way {
        leaves: true,
        closes: true,
        used: true,
        ..Way::default()
    };
    for &number in &flat.outputs {
        if let Some(way) = ways.get_mut(number.index()) {
            *way = out;
        }
    }
    for step in flat.steps.iter().rev() {
        let after = step
            .outputs
            .iter()
            .filter_map(|n| ways.get(n.index()).copied());
        let after = after.filter(|way| way.used).reduce(Way::and);
        let Some(after) = after else {
            continue;
        };
        let open = |n: Option<Number>| {
            let fact = n.and_then(|n| facts.get(n.index()));
            fact.is_some_and(|f| f.source != Source::Known)
        };
        let opened = step.inputs.iter().filter(|n| open(**n)).count();
        for (at, number) in step.inputs.iter().enumerate() {
            if let Some(number) = *number {
                let others = opened > usize::from(open(Some(number)));
                let way = before(step, at, after, others);
                if let (Some(way), Some(slot)) = (way, ways.get_mut(number.index())) {
                    *slot = slot.and(way);
                }
            }
        }
        for body in &step.given {
            for (at, number) in body.iter().enumerate() {
                let way = step
                    .outputs
                    .get(at)
                    .and_then(|n| ways.get(n.index()).copied());
                if let (Some(way), Some(slot)) =
                    (way.filter(|w| w.used), ways.get_mut(number.index()))
                {
                    *slot = slot.and(way);
                }
            }
        }
    }
    ways
}

/// The way of an input of a step, by the way of what the step gives, and whether anything else that
/// it takes is not known before it runs.
fn before(step: &Step<'_>, at: usize, after: Way, others: bool) -> Option<Way> {
    let op = step.node.op.as_str();
    let dead = Way {
        used: true,
        ..Way::default()
    };
    if !ops::DOMAINS.contains(&step.node.domain.as_str()) {
        return Some(dead);
    }
    // A shape says nothing of the value.
    if matches!(op, "Shape" | "Size") {
        return None;
    }
    // What says how and not what is no way for a result to leave by.
    let data = at < ops::control(op) && (op != "Clip" || at == 0);
    let plain = ops::is_plain(op) && data;
    Some(Way {
        leaves: after.leaves && plain,
        closes: after.closes && data && (plain || ops::is_closing(op)),
        attends: match op {
            "Softmax" => after.weighs,
            _ if ops::is_attention(op) => at >= 3,
            _ => after.attends && ops::is_plain(op),
        },
        turns: match op {
            "Sin" | "Cos" => true,
            _ => after.turns && (ops::is_plain(op) || ops::is_layer(op)),
        },
        weighs: match op {
            _ if ops::is_layer(op) => others,
            _ => after.weighs && (ops::is_plain(op) || op == "Dropout"),
        },
        used: true,
    })
}
