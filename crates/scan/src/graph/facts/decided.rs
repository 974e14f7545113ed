//! What becomes of decisions.

use super::{Fact, Fed, Level, Source};
use crate::graph::flat::Step;
use crate::graph::known::{Known, casts_to_bool};
use crate::graph::ops;

/// What a step makes of the two values of one decision.
pub(super) fn ends(
    step: &Step<'_>,
    operands: &[Option<Fact>],
    known: &Known<'_>,
) -> Option<(f32, f32)> {
    let op = step.node.op.as_str();
    let number = |at: usize| {
        let number = known.single(step.inputs.get(at).copied().flatten())?;
        #[allow(clippy::cast_possible_truncation)] // what is large is large
        Some(number as f32)
    };
    let of = |at: usize| {
        operands
            .get(at)
            .copied()
            .flatten()
            .filter(|f| f.level().is_some())
    };
    let (one, other) = (of(0), of(1));
    if ops::is_comparison(op) {
        return Some((0.0, 1.0));
    }
    if op == "Where" {
        return match one?.ends? {
            (no, yes) if no == 0.0 && yes != 0.0 => Some((number(2)?, number(1)?)),
            (no, yes) if no != 0.0 && yes == 0.0 => Some((number(1)?, number(2)?)),
            _ => None,
        };
    }
    let both = |f: &dyn Fn(f32) -> f32, fact: Fact| fact.ends.map(|(no, yes)| (f(no), f(yes)));
    let truth = |wrong: bool| move |n: f32| f32::from(u8::from((n != 0.0) != wrong));
    match (op, one, other) {
        ("Not", Some(fact), _) => both(&truth(true), fact),
        ("Neg", Some(fact), _) => both(&|n| -n, fact),
        ("Cast", Some(fact), _) if casts_to_bool(step.node) => both(&truth(false), fact),
        ("Add", Some(fact), None) => number(1).and_then(|b| both(&|n| n + b, fact)),
        ("Add", None, Some(fact)) => number(0).and_then(|a| both(&|n| a + n, fact)),
        ("Sub", Some(fact), None) => number(1).and_then(|b| both(&|n| n - b, fact)),
        ("Sub", None, Some(fact)) => number(0).and_then(|a| both(&|n| a - n, fact)),
        ("Mul", Some(fact), None) => number(1).and_then(|b| both(&|n| n * b, fact)),
        ("Mul", None, Some(fact)) => number(0).and_then(|a| both(&|n| a * n, fact)),
        ("Div", Some(fact), None) => number(1).and_then(|b| both(&|n| n / b, fact)),
        _ if ops::is_light(op) && other.is_none() && !ops::is_mix(op) && !ops::is_reduction(op) => {
            one?.ends
        }
        _ => None,
    }
}

/// Whether an Einsum sums over something that all it takes has.
fn sums(node: &ir::Node) -> bool {
    let Some(ir::AttributeValue::Str(text)) = node.attribute("equation") else {
        return false;
    };
    let text = String::from_utf8_lossy(text);
    let Some((terms, out)) = text.split_once("->") else {
        return false;
    };
    let mut letters = terms.chars().filter(char::is_ascii_alphabetic);
    letters
        .any(|letter| terms.split(',').all(|term| term.contains(letter)) && !out.contains(letter))
        && out.chars().filter(char::is_ascii_alphabetic).count() <= 1
}

/// How many different numbers are in a constant that a decision meets.
pub(super) fn paint(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> usize {
    let op = step.node.op.as_str();
    if !ops::is_mix(op) && !matches!(op, "And" | "Or") && !ops::is_layer(op) {
        return 1;
    }
    let fixed = step.inputs.iter().zip(operands);
    let fixed = fixed.filter(|(_, f)| f.is_some_and(Fact::fixed));
    let most = fixed.map(|(n, f)| match f.map(|f| f.source) {
        Some(Source::Shape) => 3,
        _ => n.map_or(1, |n| known.different(n)),
    });
    most.max().unwrap_or(1)
}

/// What a step makes of decisions, where all else that it takes is fixed.
pub(super) fn decided(
    step: &Step<'_>,
    operands: &[Option<Fact>],
    known: &Known<'_>,
    level: Level,
    one: bool,
    numbers: usize,
) -> Source {
    use Level::{Bit, Count, Mask, Tally};
    let op = step.node.op.as_str();
    let operand = |at: usize| operands.get(at).copied().flatten();
    let few = Fed {
        few: true,
        ..Fed::default()
    };
    let reduced = match level {
        Mask => Bit,
        Tally => Count,
        level => level,
    };
    let shaped = operands.iter().flatten().any(|f| f.source == Source::Shape);
    let single = || {
        let known = step.inputs.iter().filter_map(|n| known.single(*n));
        known.fold(f64::INFINITY, f64::min)
    };
    Source::Decided(match (op, level) {
        // A number in the place of no number is a number.
        ("Where", Bit)
            if !operand(0).is_some_and(|f| f.painted) && {
                let sides = operands.iter().skip(1).flatten();
                sides.filter_map(|f| f.level()).max() == Some(Count)
            } =>
        {
            Count
        }
        // Which of many it is says that there are many, unless they were laid side by side.
        ("ArgMax" | "ArgMin", Bit) if !operand(0).is_some_and(|f| f.stacked) => Count,
        (_, Bit) => Bit,
        // A length against the positions is a mask.
        _ if ops::is_comparison(op) => match level {
            Count if !shaped => Bit,
            _ => Mask,
        },
        ("Not" | "Sign", _) => {
            if level == Count {
                Bit
            } else {
                Mask
            }
        }
        ("Cast", Count) if casts_to_bool(step.node) => Bit,
        ("Cast", Tally) if casts_to_bool(step.node) => Mask,
        ("Min" | "Clip", Count) if single() <= 1.0 && (op == "Min" || operand(2).is_some()) => Bit,
        ("Relu", Count) => Count,
        _ if ops::is_any(op) => reduced,
        _ if ops::is_reduction(op) => Count,
        ("Gather", _) if operand(0).is_some_and(Fact::fixed) => {
            // A row of a table is chosen: of two, that is the decision; of many, an embedding.
            let rows = known.dims(step.inputs.first().copied().flatten());
            match rows.and_then(|d| d.first().copied()) {
                Some(2..=4) => level,
                _ => return Source::Fed(few),
            }
        }
        _ if one => reduced,
        // An angle of positions that skip padding; what is divided by how many there are is a mean.
        ("Sin" | "Cos", Tally) | ("Reciprocal", _) => return Source::Fed(few),
        ("Div", _) if operand(1).is_some_and(|f| f.level().is_some()) => return Source::Fed(few),
        ("MatMul" | "Gemm", Mask | Tally)
            if step
                .inputs
                .get(1)
                .copied()
                .flatten()
                .is_some_and(|n| known.is_column(n)) =>
        {
            Count
        }
        ("Einsum", _) if sums(step.node) => Count,
        _ if ops::is_numbering(op) => level.max(Tally),
        _ if ops::is_layer(op) => return Source::Computed,
        _ if !ops::is_light(op) => return Source::Computed,
        ("Mul" | "Where" | "Add" | "Sub", Mask) if numbers > 2 => Tally,
        _ => level,
    })
}
