//! What is known of each value before a graph runs, from its inputs on.

mod decided;
mod fed;

use super::flat::{Flat, Number, Step, states};
use super::known::{Known, attribute};
use super::ops;
use decided::{decided, ends, paint};
use fed::{fed, is_detector};

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
    /// What was done to it, after which a step more makes a yes or no of it.
    offset: Offset,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Offset {
    #[default]
    None,
    /// A constant was taken from it.
    Taken,
    /// It was rounded, or cut off below a number: whether anything is left says yes or no.
    Rounded,
    /// A constant was laid beside it: which is the larger says yes or no.
    Beside,
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
    let mut facts = flat.table(Fact::NONE);
    let mut set = |number: Number, fact: Fact| {
        if let Some(slot) = facts.get_mut(number.index()) {
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
            .map(|n| n.and_then(|n| facts.get(n.index()).copied()))
            .collect();
        let fact = fact(step, &operands, known);
        let joined = joined(step, &facts);
        for (at, &number) in step.outputs.iter().enumerate() {
            let given = joined.get(at).copied().flatten();
            let fact = given.map_or(fact, |fact| given_at(step, at, &operands, fact));
            if let Some(slot) = facts.get_mut(number.index()) {
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
            if let Some(fact) = facts.get(number.index()).copied() {
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

/// How the number of dimensions changes.
fn dimensions(step: &Step<'_>, known: &Known<'_>, fact: &mut Fact) {
    fact.extra = match step.node.op.as_str() {
        "Unsqueeze" => fact.extra.saturating_add(1),
        "Squeeze" => fact.extra.saturating_sub(1),
        "Flatten" => 0,
        "Reshape" => match known.dims(step.inputs.get(1).copied().flatten()).as_deref() {
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
