//! What becomes of inputs, up to a yes or no.

use super::{Fact, Fed, Level, Offset, Source};
use crate::graph::flat::Step;
use crate::graph::known::{Known, casts_to_bool, casts_to_whole};
use crate::graph::ops;

/// What a step makes of inputs, where nothing that it takes is computed.
pub(super) fn fed(
    step: &Step<'_>,
    operands: &[Option<Fact>],
    known: &Known<'_>,
    one: bool,
) -> Source {
    let op = step.node.op.as_str();
    let all = || operands.iter().flatten();
    let fed = || all().filter_map(|f| f.fed().map(|fed| (f, fed)));
    let layers = fed().map(|(_, f)| f.layers).max().unwrap_or(0);
    let few = fed().all(|(_, f)| f.few) || one || ops::is_reduction(op);
    // Counted once: a step may take as many values as a file has room for.
    let kept = |f: &Fact| f.source == Source::Known || f.default;
    let fixed = all().filter(|f| kept(f)).count();
    let partner = fed().any(|(it, _)| fixed > usize::from(kept(it)));
    let yes = Source::Decided(if few { Level::Bit } else { Level::Mask });
    let was = |offset| fed().any(|(_, f)| f.offset == offset);
    let near = was(Offset::Taken) && layers == 0;
    match op {
        // These compare with constants that they have themselves.
        "Shrink" | "RegexFullMatch" | "Binarizer" if layers == 0 => return yes,
        "OneHot"
            if layers == 0
                && operands
                    .first()
                    .copied()
                    .flatten()
                    .is_some_and(|f| f.fed().is_some()) =>
        {
            return Source::Decided(Level::Mask);
        }
        "TfIdfVectorizer" => return Source::Decided(Level::Tally),
        "NonZero" if near => return Source::Decided(Level::Tally),
        "ArgMax" | "ArgMin" | "Hardmax" | "TopK" if layers == 0 && was(Offset::Beside) => {
            return Source::Decided(Level::Bit);
        }
        "Mod" | "BitwiseAnd" if layers == 0 && few && is_parity(step, known) => return yes,
        _ => {}
    }
    if matches!(op, "IsNaN" | "IsInf") || ops::is_comparison(op) && partner && layers <= 1 {
        return yes;
    }
    if ops::is_layer(op) {
        let own = fed().count() == 1 && layers == 0;
        let few = few
            || step
                .inputs
                .get(1)
                .copied()
                .flatten()
                .is_some_and(|n| known.is_column(n))
            || is_detector(step, known);
        let fed = Fed {
            layers: 1,
            few,
            offset: Offset::Table,
        };
        return if own {
            Source::Fed(fed)
        } else {
            Source::Computed
        };
    }
    if !ops::is_light(op) {
        return Source::Computed;
    }
    let looked_up = op == "Gather" && operands.first().copied().flatten().is_some_and(Fact::fixed);
    let moves = partner
        && matches!(
            op,
            "Sub" | "Add" | "BitwiseXor" | "BitwiseAnd" | "Xor" | "Mod"
        )
        && !step.inputs.iter().any(|n| known.single(*n) == Some(0.0));
    let beside = op == "Concat" && partner && fed().all(|(_, f)| f.few);
    let offset = if looked_up || was(Offset::Table) {
        Offset::Table
    } else if moves || was(Offset::Taken) {
        Offset::Taken
    } else if few && rounds(step) || was(Offset::Rounded) {
        Offset::Rounded
    } else if beside || was(Offset::Beside) {
        Offset::Beside
    } else {
        Offset::None
    };
    let hard = hardens(step, operands, known) || few && op == "QuantizeLinear";
    let left = few && was(Offset::Rounded) && leaves_any(step);
    if near && offset == Offset::Taken && hard || layers == 0 && left {
        return yes;
    }
    Source::Fed(Fed {
        layers,
        few,
        offset,
    })
}

/// Whether a step is a product with one column, which gives one number for each sample.
pub(super) fn is_detector(step: &Step<'_>, known: &Known<'_>) -> bool {
    let dims = known.dims(step.inputs.get(1).copied().flatten());
    let dims = dims.filter(|dims| dims.len() > 1);
    let across = step.node.int("transB") == Some(1);
    match step.node.op.as_str() {
        "Gemm" if across => dims.is_some_and(|dims| dims.first() == Some(&1)),
        "MatMul" | "FusedMatMul" | "Gemm" => dims.is_some_and(|dims| dims.last() == Some(&1)),
        _ => false,
    }
}

/// Whether a step rounds, or cuts off what is below a number of its own.
fn rounds(step: &Step<'_>) -> bool {
    match step.node.op.as_str() {
        "Floor" | "Ceil" | "Round" | "QuantizeLinear" | "ThresholdedRelu" => true,
        "Cast" => casts_to_whole(step.node) && !casts_to_bool(step.node),
        _ => false,
    }
}

/// Whether a step says if anything is left of what was rounded. Sizes that are fed are rounded too,
/// and then numbers.
fn leaves_any(step: &Step<'_>) -> bool {
    matches!(step.node.op.as_str(), "Sign" | "Not") || casts_to_bool(step.node)
}

/// Whether a step tells numbers apart by what is left of a division by a small number, or by a bit.
fn is_parity(step: &Step<'_>, known: &Known<'_>) -> bool {
    let by = known.single(step.inputs.get(1).copied().flatten());
    match step.node.op.as_str() {
        "Mod" => by.is_some_and(|by| (2.0..=4.0).contains(&by.abs())),
        _ => by.is_some_and(|bit| bit > 0.0 && bit.log2().fract() == 0.0),
    }
}

/// Whether a step makes a yes or no of a distance.
fn hardens(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> bool {
    match step.node.op.as_str() {
        "Sign" | "Not" | "Relu" | "HardSigmoid" | "ThresholdedRelu" | "Floor" | "Ceil"
        | "Round" | "Hardmax" | "Softmax" | "Sigmoid" | "Tanh" | "Exp" => true,
        // A number to the power of a distance; a power of a distance is a distance.
        "Pow" => operands.first().copied().flatten().is_some_and(Fact::fixed),
        "Cast" => casts_to_whole(step.node),
        // A floor under a divisor is no threshold.
        "Clip" | "Max" | "Min" => {
            let fixed = step
                .inputs
                .iter()
                .zip(operands)
                .filter(|(_, f)| f.is_some_and(Fact::fixed));
            let values: Vec<f64> = fixed.filter_map(|(n, _)| known.single(*n)).collect();
            !matches!(values.as_slice(), [small] if *small > 0.0 && *small <= 1e-3)
        }
        _ => false,
    }
}
