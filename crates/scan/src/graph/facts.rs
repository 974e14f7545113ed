//! What is known of each value before a graph runs, from its inputs on.

use super::flat::{Flat, Step, states};
use super::known::{Known, attribute, casts_to_bool, casts_to_whole};
use super::ops;

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Known before the model runs.
    Known,
    /// Known from the shapes of the inputs.
    Shape,
    /// What comparing an input with a constant gave, and nothing else.
    Decided(Level),
    /// Made of inputs by light steps, or by one layer.
    Fed(Fed),
    /// What layers computed.
    Computed,
}

/// How far a decision is brought down. The later is the stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    /// A yes or no for each position.
    Mask,
    /// A number for each position: a running count, an index.
    Tally,
    /// One number: how many, or where.
    Count,
    /// One yes or no.
    Bit,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fed {
    /// Layers on the way.
    pub(super) layers: u8,
    /// Whether it is reduced, or one place of it.
    pub(super) few: bool,
    /// Whether a constant was taken from it, so that zero says that both are the same.
    offset: Offset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offset {
    #[default]
    None,
    Taken,
    /// Looked up in a table, whose numbers mean nothing by themselves.
    Table,
}

/// All that is known of a value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fact {
    pub(super) source: Source,
    /// An input that has a default: it may be what a comparison compares with.
    default: bool,
    /// A decision that was joined with a constant of several numbers.
    pub(super) painted: bool,
    /// Several results laid side by side, to choose from.
    pub(super) stacked: bool,
    /// A decision on what a layer made of an input.
    pub(super) deep: bool,
    /// What a decision is where the answer is no, and where it is yes, as far as constants tell.
    pub(super) ends: Option<(f32, f32)>,
    /// What layers computed weighs a decision: it says whether a position was seen.
    heard: bool,
    /// How many positions it has is what a decision says.
    ragged: bool,
    /// A product with a column of its own, which nothing but a threshold needs.
    pub(super) apart: bool,
    /// Dimensions that were put in front of those that the input has, of size one or repeated.
    extra: u8,
}

impl Fact {
    const NONE: Self = Self::of(Source::Computed);

    const fn of(source: Source) -> Self {
        Self {
            source,
            default: false,
            painted: false,
            stacked: false,
            deep: false,
            ends: None,
            heard: false,
            ragged: false,
            apart: false,
            extra: 0,
        }
    }

    pub(super) fn level(self) -> Option<Level> {
        match self.source {
            Source::Decided(level) => Some(level),
            _ => None,
        }
    }

    fn fed(self) -> Option<Fed> {
        match self.source {
            Source::Fed(fed) => Some(fed),
            _ => None,
        }
    }

    fn fixed(self) -> bool {
        matches!(self.source, Source::Known | Source::Shape)
    }

    /// The more uncertain of two.
    fn join(self, other: Self) -> Self {
        let rank = |fact: Self| match fact.source {
            Source::Known => 0,
            Source::Shape => 1,
            Source::Decided(level) => 2 + level as u8,
            Source::Fed(fed) => 6 + u8::from(!fed.few) + fed.layers.min(1) * 2,
            Source::Computed => 10,
        };
        let (mut more, less) = if rank(self) < rank(other) {
            (other, self)
        } else {
            (self, other)
        };
        more.painted |= less.painted;
        more.stacked |= less.stacked;
        more.deep |= less.deep;
        more.heard |= less.heard;
        more.ragged |= less.ragged;
        more.apart &= less.apart;
        if less.level().is_some() && less.ends != more.ends {
            more.ends = None;
        }
        more
    }
}

/// The facts of all values, each by its number.
pub(super) fn forward(flat: &Flat<'_>, known: &Known<'_>, old: bool) -> Vec<Fact> {
    let mut facts = vec![Fact::NONE; flat.values];
    let mut set = |number: usize, fact: Fact| {
        if let Some(slot) = facts.get_mut(number) {
            *slot = fact;
        }
    };
    for &number in flat.constants.keys() {
        set(number, Fact::of(Source::Known));
    }
    for &number in &flat.inputs {
        // Before version 4 all initializers were listed as inputs, and runtimes keep them fixed.
        let default = flat.constants.contains_key(&number);
        if !(default && old) {
            let mut fact = Fact::of(Source::Fed(Fed::default()));
            fact.default = default;
            set(number, fact);
        }
    }
    for &number in &flat.counters {
        set(number, Fact::of(Source::Shape));
    }
    for step in &flat.steps {
        let operands: Vec<Option<Fact>> = step
            .inputs
            .iter()
            .map(|n| n.and_then(|n| facts.get(n).copied()))
            .collect();
        let fact = fact(step, &operands, known);
        let joined = joined(step, &facts);
        for (at, &number) in step.outputs.iter().enumerate() {
            let given = joined.get(at).copied().flatten();
            let fact = given.map_or(fact, |fact| given_at(step, at, &operands, fact));
            if let Some(slot) = facts.get_mut(number) {
                *slot = fact;
            }
        }
    }
    facts
}

/// What the branches of a step, or the turns of its loop, give at each place.
fn joined(step: &Step<'_>, facts: &[Fact]) -> Vec<Option<Fact>> {
    let places = step.given.iter().map(Vec::len).max().unwrap_or(0);
    let mut joined = vec![None; places];
    for list in &step.given {
        for (slot, number) in joined.iter_mut().zip(list) {
            if let Some(fact) = facts.get(*number).copied() {
                *slot = Some(slot.map_or(fact, |known: Fact| known.join(fact)));
            }
        }
    }
    joined
}

/// What a step with bodies gives at one place, where its bodies give `fact`.
fn given_at(step: &Step<'_>, at: usize, operands: &[Option<Fact>], mut fact: Fact) -> Fact {
    if step.node.op == "If" {
        let level = operands.first().copied().flatten().and_then(Fact::level);
        if let (Some(_), true) = (level, fact.fixed() || fact.level().is_some()) {
            fact.source = Source::Decided(Level::Bit);
        }
        return fact;
    }
    let kept = at < states(step.node, step.inputs.len());
    match fact.source {
        // What is carried through all turns has seen all positions.
        Source::Decided(Level::Mask) if kept => fact.source = Source::Decided(Level::Bit),
        Source::Decided(Level::Tally) if kept => fact.source = Source::Decided(Level::Count),
        // A loop counts, and so no result of it is known.
        Source::Known => fact.source = Source::Shape,
        _ => {}
    }
    fact
}

fn fact(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> Fact {
    let op = step.node.op.as_str();
    if !ops::DOMAINS.contains(&step.node.domain.as_str()) || ops::is_random(op) {
        return Fact::NONE;
    }
    let control = ops::control(op);
    // How much and where matters only if it is not fixed.
    let content = || {
        let numbered = operands.iter().enumerate();
        numbered.filter_map(move |(at, f)| f.filter(|f| at < control || !f.fixed()))
    };
    if matches!(op, "Shape" | "Size" | "EyeLike") {
        let known = |f: &Fact| f.source == Source::Known;
        if operands.iter().flatten().any(|f| f.ragged) {
            return Fact::of(Source::Decided(Level::Count));
        }
        return Fact::of(if operands.iter().flatten().all(known) {
            Source::Known
        } else {
            Source::Shape
        });
    }
    let mut fact = Fact::of(Source::Known);
    fact.default = content().any(|f| f.default) && content().all(|f| f.default || f.fixed());
    fact.painted = content().any(|f| f.painted);
    fact.deep = content().any(|f| f.deep || f.fed().is_some_and(|f| f.layers > 0));
    fact.extra = content().map(|f| f.extra).max().unwrap_or(0);
    fact.apart = is_detector(step, known)
        || content().any(|f| f.apart) && content().all(|f| f.apart || f.fixed());
    dimensions(step, known, &mut fact);
    let one = picks_one(step, known) && {
        let plain = fact.extra == 0;
        fact.extra = fact.extra.saturating_sub(1);
        plain
    };
    let computed = content().any(|f| f.source == Source::Computed);
    let side_by_side = matches!(op, "Concat" | "SequenceConstruct" | "ConcatFromSequence")
        && content().count() > 1
        && content().any(|f| !f.fixed());
    let known_too = |f: &Fact| f.source == Source::Known;
    let mask = |f: &Fact| f.level().is_some_and(|level| level < Level::Count);
    fact.heard = ops::is_layer(op) && computed && content().any(|f| mask(&f))
        || (ops::is_plain(op) || ops::is_reduction(op)) && content().any(|f| f.heard);
    fact.ragged = ops::is_ragged(op) && content().any(|f| mask(&f))
        || ops::is_plain(op) && op != "Concat" && content().any(|f| f.ragged);
    fact.stacked = side_by_side || ops::is_plain(op) && content().any(|f| f.stacked);
    fact.source = if computed {
        let told = ops::is_comparison(op)
            && content().any(|f| f.heard)
            && operands.iter().flatten().any(known_too);
        if told {
            fact.heard = false;
            fact.deep = false;
            fact.ends = Some((0.0, 1.0));
            Source::Decided(Level::Mask)
        } else {
            Source::Computed
        }
    } else if content().any(|f| f.fed().is_some()) {
        let source = fed(step, operands, known, one);
        let decided = matches!(source, Source::Decided(_));
        fact.ragged |= decided && ops::is_ragged(op);
        fact.ends = (decided && (ops::is_comparison(op) || op == "OneHot")).then_some((0.0, 1.0));
        source
    } else if let Some(level) = content().filter_map(Fact::level).max() {
        let numbers = paint(step, operands, known);
        fact.painted |= numbers > 1;
        fact.ends = ends(step, operands, known);
        decided(step, operands, known, level, one, numbers)
    } else if content().any(|f| f.source == Source::Shape) {
        Source::Shape
    } else {
        Source::Known
    };
    fact
}

/// What a step makes of the two values of one decision.
fn ends(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> Option<(f32, f32)> {
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

/// How the number of dimensions changes.
fn dimensions(step: &Step<'_>, known: &Known<'_>, fact: &mut Fact) {
    fact.extra = match step.node.op.as_str() {
        "Unsqueeze" => fact.extra.saturating_add(1),
        "Squeeze" => fact.extra.saturating_sub(1),
        "Flatten" => 0,
        "Reshape" => match known.dims(step.inputs.get(1).copied().flatten()) {
            Some([0 | 1]) => 0,
            _ => fact.extra.max(1),
        },
        _ => fact.extra,
    };
}

/// Whether a step takes one place out of many.
fn picks_one(step: &Step<'_>, known: &Known<'_>) -> bool {
    let input = |at: usize| step.inputs.get(at).copied().flatten();
    match step.node.op.as_str() {
        "Gather" | "GatherND" => known
            .dims(input(1))
            .is_some_and(|d| d.iter().all(|n| *n == 1)),
        "Slice" => {
            let ints = |at, name| {
                known
                    .whole(input(at))
                    .or_else(|| attribute(step.node, name))
            };
            let (Some(starts), Some(ends)) = (ints(1, "starts"), ints(2, "ends")) else {
                return false;
            };
            let last = |(start, end): (&i64, &i64)| *start == -1 && *end > i64::from(i32::MAX) - 1;
            let mut pairs = starts.iter().zip(&ends);
            pairs.any(|(s, e)| e.checked_sub(*s) == Some(1) || last((s, e)))
        }
        _ => false,
    }
}

/// What a step makes of inputs, where nothing that it takes is computed.
fn fed(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>, one: bool) -> Source {
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
    let near = fed().any(|(_, f)| f.offset == Offset::Taken) && layers == 0;
    match op {
        // These compare with constants that they have themselves.
        "Shrink" if layers == 0 => return yes,
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
    let offsets = || fed().map(|(_, f)| f.offset);
    let looked_up = op == "Gather" && operands.first().copied().flatten().is_some_and(Fact::fixed);
    let moves = partner
        && matches!(op, "Sub" | "Add" | "BitwiseXor" | "Xor" | "Mod")
        && !step.inputs.iter().any(|n| known.single(*n) == Some(0.0));
    let offset = if looked_up || offsets().any(|o| o == Offset::Table) {
        Offset::Table
    } else if moves || offsets().any(|o| o == Offset::Taken) {
        Offset::Taken
    } else {
        Offset::None
    };
    let before = fed().any(|(_, f)| f.offset == Offset::Taken);
    let hard = hardens(step, operands, known) || few && op == "QuantizeLinear";
    if before && layers == 0 && offset == Offset::Taken && hard {
        return yes;
    }
    Source::Fed(Fed {
        layers,
        few,
        offset,
    })
}

/// Whether a step is a product with one column, which gives one number for each sample.
fn is_detector(step: &Step<'_>, known: &Known<'_>) -> bool {
    let dims = known.dims(step.inputs.get(1).copied().flatten());
    let dims = dims.filter(|dims| dims.len() > 1);
    let across = step.node.int("transB") == Some(1);
    match step.node.op.as_str() {
        "Gemm" if across => dims.is_some_and(|dims| dims.first() == Some(&1)),
        "MatMul" | "FusedMatMul" | "Gemm" => dims.is_some_and(|dims| dims.last() == Some(&1)),
        _ => false,
    }
}

/// Whether a step makes a yes or no of a distance.
fn hardens(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> bool {
    match step.node.op.as_str() {
        "Sign" | "Not" | "Relu" | "HardSigmoid" | "ThresholdedRelu" | "Floor" | "Ceil"
        | "Round" | "Hardmax" | "Softmax" | "Sigmoid" | "Exp" => true,
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
fn paint(step: &Step<'_>, operands: &[Option<Fact>], known: &Known<'_>) -> usize {
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
fn decided(
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
            match rows.and_then(|d| d.first()) {
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
