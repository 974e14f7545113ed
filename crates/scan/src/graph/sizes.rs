//! Values larger than any memory: declared so, or computed so from constants.

use super::flat::{Flat, Number, Step};
use super::known::{Known, attribute};
use super::{TOLD, ops};
use crate::finding::Finding;
use crate::judge::plain;
use crate::rules;
use ir::{AttributeValue, Dim, DimSize, Graph, ValueType};
use std::collections::{BTreeSet, HashMap};

/// More numbers than any tensor has: 2^40 of them take a terabyte in bytes alone.
const HUGE: u128 = 1 << 40;
/// More turns than any loop of a model makes.
const TURNS: f64 = (1u64 << 32) as f64;
/// Dimensions that are followed.
const RANK: usize = 16;

/// Sizes of a value, each the least that it can be.
type Sizes = Vec<u64>;

/// How many numbers, if 127 bits can say.
fn product(sizes: &[u64]) -> Option<u128> {
    if sizes.contains(&0) {
        return Some(0);
    }
    sizes
        .iter()
        .try_fold(1u128, |n, size| n.checked_mul(u128::from(*size)))
}

/// A number of numbers that is too large, in words.
fn too_many(sizes: &[u64]) -> Option<String> {
    match product(sizes) {
        Some(n) if n <= HUGE => None,
        Some(n) => Some(format!("{n} numbers")),
        None => Some("more than 2^127 numbers".to_owned()),
    }
}

/// Values that are declared larger than any memory.
pub(super) fn declared(graph: &Graph, findings: &mut Vec<Finding>) {
    let values = graph.bodies().into_iter().flat_map(|body| &body.values);
    let huge = values.filter_map(|value| Some((value, too_many(&sizes(value.ty.as_ref()?)?)?)));
    for (value, what) in huge.take(TOLD) {
        let place = format!("value {}", value.name);
        findings.push(plain(rules::OVERSIZED_SHAPE, &place, &what, &what));
    }
}

/// The sizes that a type declares.
fn sizes(ty: &ValueType) -> Option<Sizes> {
    let known = |dim: &Dim| match dim.size {
        DimSize::Known(n) => n,
        _ => 1,
    };
    match ty {
        ValueType::Tensor(_, Some(dims)) | ValueType::Sparse(_, Some(dims)) => {
            Some(dims.iter().map(known).collect())
        }
        ValueType::Denoted(_, inner) => sizes(inner),
        _ => None,
    }
}

/// Steps whose constants ask for more than any memory, or for more turns than anyone can wait for.
pub(super) fn computed(flat: &Flat<'_>, known: &Known<'_>, findings: &mut Vec<Finding>) {
    let mut found: HashMap<Number, Sizes> = HashMap::new();
    let mut told = BTreeSet::new();
    for step in &flat.steps {
        if told.len() >= TOLD {
            break;
        }
        if !ops::DOMAINS.contains(&step.node.domain.as_str()) {
            continue;
        }
        let asked = match step.node.op.as_str() {
            "Loop" => turns(step, known).map(|n| format!("{n} turns")),
            _ => match made(step, known, &found) {
                Some(sizes) => {
                    let asked = too_many(&sizes);
                    if let (None, Some(number)) = (&asked, step.outputs.first()) {
                        found.insert(*number, sizes);
                    }
                    asked
                }
                None => None,
            },
        };
        if let Some(what) = asked {
            let place = step.node.title(step.body);
            if told.insert(place.clone()) {
                findings.push(plain(rules::OVERSIZED_SHAPE, &place, &what, &what));
            }
        }
    }
}

/// The turns of a loop that nothing else ends, if they are too many.
fn turns(step: &Step<'_>, known: &Known<'_>) -> Option<f64> {
    let count = known.single(step.inputs.first().copied().flatten())?;
    let body = step.node.bodies().next()?;
    // A body that hands its condition on, or gives a constant, does not end the loop.
    let (takes, gives) = (body.inputs.get(1), body.outputs.first()?);
    let maker = body
        .nodes
        .iter()
        .find(|n| n.outputs.contains(&Some(*gives)));
    let endless = Some(gives) == takes
        || match maker {
            Some(node) => {
                node.op == "Constant"
                    || matches!(node.op.as_str(), "Identity" | "Cast")
                        && node
                            .inputs
                            .first()
                            .copied()
                            .flatten()
                            .is_some_and(|id| Some(&id) == takes || is_constant(body, id))
            }
            None => true,
        };
    (endless && count > TURNS).then_some(count)
}

/// Whether a body holds a value as a constant.
fn is_constant(body: &ir::GraphBody, id: ir::ValueId) -> bool {
    let made = body.nodes.iter().find(|n| n.outputs.contains(&Some(id)));
    made.is_none_or(|node| node.op == "Constant")
}

/// The sizes of what a step gives, if constants say.
fn made(step: &Step<'_>, known: &Known<'_>, found: &HashMap<Number, Sizes>) -> Option<Sizes> {
    let node = step.node;
    let input = |at: usize| step.inputs.get(at).copied().flatten();
    let of = |at: usize| {
        let number = input(at)?;
        found
            .get(&number)
            .cloned()
            .or_else(|| known.dims(Some(number)))
    };
    let whole = |at: usize| known.whole(input(at));
    let ints = |name: &str| attribute(node, name);
    let least = |list: Vec<i64>| -> Sizes {
        // A size that is to be copied or found out is one at the least.
        list.iter()
            .map(|n| u64::try_from(*n).unwrap_or(1))
            .collect()
    };
    let sizes = match node.op.as_str() {
        "ConstantOfShape" | "HannWindow" | "HammingWindow" | "BlackmanWindow" => least(whole(0)?),
        "Expand" => broadcast(&of(0).unwrap_or_default(), &least(whole(1)?)),
        "Tile" => {
            let repeats = least(whole(1).or_else(|| ints("repeats"))?);
            let sizes = of(0).unwrap_or_else(|| vec![1; repeats.len()]);
            times(&sizes, &repeats)
        }
        "RandomNormal" | "RandomUniform" => least(ints("shape")?),
        "CenterCropPad" => least(whole(1)?),
        "OneHot" => {
            let mut sizes = of(0).unwrap_or_default();
            sizes.extend(least(whole(1)?));
            sizes
        }
        "Pad" => {
            let pads = whole(1).or_else(|| ints("pads"))?;
            let (before, after) = pads.split_at(pads.len() / 2);
            let both = before.iter().zip(after).map(|(a, b)| a.saturating_add(*b));
            let both = both.map(|n| u64::try_from(n).unwrap_or(0));
            // With axes given, or sizes unknown, the padding alone is counted.
            match of(0).filter(|s| s.len() == before.len()) {
                Some(sizes) => both
                    .zip(&sizes)
                    .map(|(pad, n)| n.saturating_add(pad))
                    .collect(),
                None => both.map(|pad| pad.saturating_add(1)).collect(),
            }
        }
        "Resize" | "Upsample" => resized(step, known, of(0))?,
        "Range" => {
            let value = |at: usize| known.single(input(at));
            let (start, limit, delta) = (value(0)?, value(1)?, value(2)?);
            let many = ((limit - start) / delta).ceil();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
            let many = many.max(0.0) as u64;
            vec![many]
        }
        "Concat" => {
            let axis = *ints("axis")?.first()?;
            let parts: Option<Vec<Sizes>> = (0..step.inputs.len()).map(of).collect();
            let mut parts = parts?.into_iter();
            let mut sizes = parts.next()?;
            let at = if axis < 0 {
                sizes
                    .len()
                    .checked_sub(usize::try_from(axis.unsigned_abs()).ok()?)?
            } else {
                usize::try_from(axis).ok()?
            };
            for part in parts {
                let slot = sizes.get_mut(at)?;
                *slot = slot.saturating_add(*part.get(at)?);
            }
            sizes
        }
        "Reshape" => {
            let before = of(0)?;
            let shape = whole(1)?;
            if shape.iter().any(|n| *n <= 0) {
                // The rest is found out: its product is what it was.
                return product(&before)
                    .and_then(|n| Some(vec![u64::try_from(n).ok()?]))
                    .filter(|_| shape.len() == 1);
            }
            least(shape)
        }
        "Gather" => {
            let (before, places) = (of(0)?, of(1)?);
            let axis = ints("axis")
                .and_then(|list| list.first().copied())
                .unwrap_or(0);
            let axis = usize::try_from(axis).or_else(|_| {
                let back = usize::try_from(axis.unsigned_abs()).map_err(|_| ())?;
                before.len().checked_sub(back).ok_or(())
            });
            let axis = axis.ok().filter(|axis| *axis < before.len())?;
            let (left, right) = before.split_at(axis);
            left.iter()
                .chain(&places)
                .chain(right.iter().skip(1))
                .copied()
                .collect()
        }
        "Einsum" => summed(step, &of)?,
        "DFT" => {
            let length = u64::try_from(*whole(1)?.first()?).unwrap_or(1);
            let mut sizes = of(0).unwrap_or_default();
            let axis = ints("axis").or_else(|| whole(2));
            let axis = axis.and_then(|list| list.first().copied()).unwrap_or(-2);
            let at = usize::try_from(axis).ok().or_else(|| {
                sizes
                    .len()
                    .checked_sub(usize::try_from(axis.unsigned_abs()).ok()?)
            });
            match at.and_then(|at| sizes.get_mut(at)) {
                Some(slot) => *slot = length,
                // Of the others nothing is known.
                None => sizes.push(length),
            }
            sizes
        }
        "MatMul" => {
            let (mut left, mut right) = (of(0)?, of(1)?);
            let across = right.pop()?;
            right.pop()?;
            left.pop()?;
            let rows = left.pop()?;
            let mut sizes = broadcast(&left, &right);
            sizes.extend([rows, across]);
            sizes
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Where" | "And" | "Or" | "Xor" | "Equal"
        | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Max" | "Min" | "Sum"
        | "Mean" | "Mod" => {
            let mut known = (0..step.inputs.len()).filter_map(of);
            let first = known.next()?;
            known.fold(first, |sizes, more| broadcast(&sizes, &more))
        }
        "Identity" | "Cast" | "CastLike" | "Abs" | "Neg" | "Not" | "Relu" | "Sigmoid" | "Tanh"
        | "Exp" | "Log" | "Sqrt" | "Clip" | "Softmax" | "Dropout" => of(0)?,
        "Transpose" => {
            let before = of(0)?;
            match ints("perm") {
                Some(perm) => {
                    let at = |n: &i64| before.get(usize::try_from(*n).ok()?).copied();
                    perm.iter().map(at).collect::<Option<_>>()?
                }
                None => before.into_iter().rev().collect(),
            }
        }
        "Unsqueeze" => {
            let axes = whole(1).or_else(|| ints("axes"))?;
            let before = of(0)?;
            let rank = i64::try_from(before.len() + axes.len()).ok()?;
            let axes: BTreeSet<i64> = axes
                .iter()
                .map(|a| if *a < 0 { a + rank } else { *a })
                .collect();
            let mut before = before.into_iter();
            (0..rank.min(64))
                .map(|at| {
                    if axes.contains(&at) {
                        Some(1)
                    } else {
                        before.next()
                    }
                })
                .collect::<Option<_>>()?
        }
        _ => return None,
    };
    (sizes.len() <= RANK || too_many(&sizes).is_some()).then_some(sizes)
}

/// The sizes of what an Einsum gives, by the letters of its equation.
fn summed(step: &Step<'_>, of: &dyn Fn(usize) -> Option<Sizes>) -> Option<Sizes> {
    let Some(AttributeValue::Str(text)) = step.node.attribute("equation") else {
        return None;
    };
    let text: String = String::from_utf8_lossy(text).split_whitespace().collect();
    let (terms, out) = text.split_once("->")?;
    let mut letters: HashMap<char, u64> = HashMap::new();
    for (at, term) in terms.split(',').enumerate() {
        let sizes = of(at).unwrap_or_default();
        for (letter, size) in term.chars().zip(sizes) {
            let known = letters.entry(letter).or_insert(1);
            *known = size.max(*known);
        }
    }
    let size = |letter| letters.get(&letter).copied().unwrap_or(1);
    (!text.contains('.')).then(|| out.chars().map(size).collect())
}

/// The sizes of what a Resize gives.
fn resized(step: &Step<'_>, known: &Known<'_>, before: Option<Sizes>) -> Option<Sizes> {
    let input = |at: usize| step.inputs.get(at).copied().flatten();
    if let Some(sizes) = known.whole(input(3)) {
        return Some(
            sizes
                .iter()
                .map(|n| u64::try_from(*n).unwrap_or(1))
                .collect(),
        );
    }
    let scales = match step.node.op.as_str() {
        "Upsample" => known.numbers(input(1)?)?,
        _ => known.numbers(input(2)?)?,
    };
    let before = before.filter(|b| b.len() == scales.len());
    let before = before.unwrap_or_else(|| vec![1; scales.len()]);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )]
    let scaled = before
        .iter()
        .zip(&scales)
        .map(|(n, scale)| (*n as f64 * scale) as u64);
    Some(scaled.map(|n| n.max(1)).collect())
}

fn times(sizes: &[u64], by: &[u64]) -> Sizes {
    let (long, short) = if sizes.len() >= by.len() {
        (sizes, by)
    } else {
        (by, sizes)
    };
    let skip = long.len() - short.len();
    let ones = std::iter::repeat_n(&1, skip).chain(short);
    long.iter()
        .zip(ones)
        .map(|(a, b)| a.saturating_mul(*b))
        .collect()
}

/// Sizes of two values that are joined one by one.
fn broadcast(one: &[u64], other: &[u64]) -> Sizes {
    let (long, short) = if one.len() >= other.len() {
        (one, other)
    } else {
        (other, one)
    };
    let skip = long.len() - short.len();
    let ones = std::iter::repeat_n(&1, skip).chain(short);
    let wider = |(a, b): (&u64, &u64)| if *a == 0 || *b == 0 { 0 } else { *a.max(b) };
    long.iter().zip(ones).map(wider).collect()
}
