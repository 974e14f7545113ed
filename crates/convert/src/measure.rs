//! What values are like: range, mean, spread, and what is no number, tensor by tensor and for
//! groups of tensors, in one pass and bounded memory.

mod bins;

use crate::ParallelPump;
use crate::numbers::{fill, numbers, readable};
use bins::Bins;
use ir::{Context, Error, Model, Result, Tensor};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

pub use bins::Histogram;

/// Elements of one run: whole blocks of every format.
const RUN: u64 = 16_384;
/// Runs of a tensor that is read in part.
const RUNS: u64 = 64;

/// Which values are looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sampling {
    /// Of tensors of more than [`Sampling::WHOLE`] elements, 64 runs of 16384 elements at even
    /// distances, the first and the last among them; all of smaller ones.
    #[default]
    Runs,
    /// All of them.
    Everything,
}

impl Sampling {
    /// Elements of the largest tensor that is read as a whole in any case.
    pub const WHOLE: u64 = RUN * RUNS;

    /// The runs of a tensor, in order.
    fn runs(self, elements: u64) -> impl Iterator<Item = Range<u64>> {
        let all = elements.div_ceil(RUN);
        let taken = match self {
            Self::Runs => all.min(RUNS),
            Self::Everything => all,
        };
        (0..taken).map(move |i| {
            let run = match (taken == all, taken) {
                (true, _) | (_, 0 | 1) => i,
                // Both factors are far below 2^32 wherever a run is left out.
                (false, _) => i.saturating_mul(all - 1) / (taken - 1),
            };
            let start = run * RUN;
            start..elements.min(start.saturating_add(RUN))
        })
    }
}

/// What values are like.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Values {
    /// How many were looked at.
    pub read: u64,
    /// Those that are no number.
    pub nan: u64,
    /// Those that are infinite.
    pub infinite: u64,
    /// Those that are zero.
    pub zeros: u64,
    /// The smallest finite one; 0 where there is none.
    pub min: f64,
    /// The largest finite one; 0 where there is none.
    pub max: f64,
    /// The mean of the finite ones.
    pub mean: f64,
    /// Sum of the squared distances from the mean.
    squares: f64,
}

impl Values {
    /// How many are finite.
    pub fn finite(&self) -> u64 {
        self.read - self.nan - self.infinite
    }

    /// The standard deviation of the finite ones.
    pub fn std(&self) -> f64 {
        (self.squares / self.finite().max(1) as f64).sqrt()
    }

    /// Of a run, which is short: two passes over it lose no digits.
    fn of(run: &[f64]) -> Self {
        let mut values = Self {
            read: run.len() as u64,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            ..Self::default()
        };
        let mut sum = 0.0;
        for &x in run {
            values.nan += u64::from(x.is_nan());
            values.infinite += u64::from(x.is_infinite());
            values.zeros += u64::from(x == 0.0);
            if x.is_finite() {
                sum += x;
                values.min = values.min.min(x);
                values.max = values.max.max(x);
            }
        }
        if values.finite() == 0 {
            (values.min, values.max) = (0.0, 0.0);
            return values;
        }
        values.mean = sum / values.finite() as f64;
        let mean = values.mean;
        let finite = run.iter().filter(|x| x.is_finite());
        values.squares = finite.map(|x| (x - mean) * (x - mean)).sum();
        values
    }

    /// Adds what others are like (Chan, Golub and LeVeque's update).
    fn add(&mut self, other: &Self) {
        let (mine, theirs) = (self.finite(), other.finite());
        self.read += other.read;
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.zeros += other.zeros;
        if theirs == 0 {
            return;
        }
        if mine == 0 {
            (self.min, self.max) = (other.min, other.max);
            (self.mean, self.squares) = (other.mean, other.squares);
            return;
        }
        let (m, n) = (mine as f64, theirs as f64);
        let apart = other.mean - self.mean;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.mean += apart * n / (m + n);
        self.squares += other.squares + apart * apart * m * n / (m + n);
    }
}

/// A group's values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// How many tensors with values it has.
    pub tensors: u64,
    /// What they are like.
    pub values: Values,
    /// How they spread.
    pub histogram: Option<Histogram>,
}

/// What a model's values are like.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Tensor by tensor; none where elements are no numbers, or nobody asked.
    pub tensors: Vec<Option<(Values, Option<Histogram>)>>,
    /// Group by group.
    pub groups: Vec<Group>,
}

/// What is known so far.
struct Found {
    tensors: Vec<Option<(Values, Option<Histogram>)>>,
    /// How the values of each group spread.
    bins: Vec<Bins>,
}

/// What one worker holds.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    numbers: Vec<f64>,
    bins: Bins,
}

/// Looks at the values of a model. `groups` says of each tensor which group it belongs to (below
/// `count`), or that it is passed over; `drawn` says whether it gets a histogram of its own.
pub fn measure(
    model: &Model,
    (groups, count): (&[Option<usize>], usize),
    drawn: impl Fn(usize) -> bool + Sync,
    sampling: Sampling,
    pump: &ParallelPump,
    cx: &Context,
) -> Result<Measured> {
    let tensors: Vec<&Tensor> = model.tensors.iter().collect();
    let found = Mutex::new(Found {
        tensors: vec![None; tensors.len()],
        bins: vec![Bins::default(); count],
    });
    pump.for_each(tensors.len(), |index, buffers: &mut Buffers| {
        let tensor = tensors[index];
        let Some(group) = groups.get(index).copied().flatten() else {
            return Ok(());
        };
        if !readable(tensor.dtype()) {
            return Ok(());
        }
        let values = look(tensor, sampling, buffers, cx)
            .map_err(|error: Error| error.at(format!("tensor {:?}", tensor.name)))?;
        let histogram = drawn(index)
            .then(|| buffers.bins.histogram(&values))
            .flatten();
        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
        found.tensors[index] = Some((values, histogram));
        // Counts are whole numbers: the order they are added in does not matter.
        if let Some(bins) = found.bins.get_mut(group) {
            bins.add(&buffers.bins);
        }
        Ok(())
    })?;
    let found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut all = vec![Group::default(); count];
    // Added up in the model's order: the same figures at any thread count.
    for (values, group) in found.tensors.iter().zip(groups) {
        if let (Some((values, _)), Some(group)) = (values, group.and_then(|at| all.get_mut(at))) {
            group.tensors += 1;
            group.values.add(values);
        }
    }
    for (group, bins) in all.iter_mut().zip(&found.bins) {
        group.histogram = bins.histogram(&group.values);
    }
    Ok(Measured {
        tensors: found.tensors,
        groups: all,
    })
}

fn look(
    tensor: &Tensor,
    sampling: Sampling,
    buffers: &mut Buffers,
    cx: &Context,
) -> Result<Values> {
    let Buffers {
        bytes,
        numbers: run,
        bins,
    } = buffers;
    bins.clear();
    let mut values = Values::default();
    for range in sampling.runs(tensor.spec.elements().unwrap_or(0)) {
        cx.cancel.check()?;
        fill(tensor, range, bytes)?;
        numbers(tensor.dtype(), bytes, None, run)?;
        values.add(&Values::of(run));
        bins.count(run);
        cx.progress.advance(bytes.len() as u64);
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, ModelBuilder};

    fn f32s(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn run(model: ModelBuilder, groups: &[Option<usize>], threads: usize) -> Measured {
        let pump = ParallelPump::new(threads, 1 << 20).unwrap();
        let (model, cx) = (model.build().unwrap(), Context::default());
        measure(&model, (groups, 1), |_| true, Sampling::Runs, &pump, &cx).unwrap()
    }

    #[test]
    fn figures_of_known_values() {
        let model = ModelBuilder::new()
            .tensor(
                "a",
                DType::F32,
                [6],
                f32s(&[1.0, 3.0, f32::NAN, f32::INFINITY, 0.0, -4.0]),
            )
            .tensor(
                "b",
                DType::I32,
                [2],
                [5i32.to_le_bytes(), 7i32.to_le_bytes()].concat(),
            )
            .tensor("c", DType::F32, [1], f32s(&[9.0]));
        let found = run(model, &[Some(0), Some(0), None], 2);
        let (a, histogram) = found.tensors[0].clone().unwrap();
        assert_eq!((a.read, a.nan, a.infinite, a.zeros), (6, 1, 1, 1));
        assert_eq!((a.min, a.max, a.mean), (-4.0, 3.0, 0.0));
        assert!((a.std() - 6.5f64.sqrt()).abs() < 1e-12);
        let histogram = histogram.unwrap();
        assert_eq!(histogram.bins.iter().sum::<u64>() + histogram.outside, 4);
        assert!(found.tensors[2].is_none());
        let group = &found.groups[0];
        assert_eq!(
            (group.tensors, group.values.max, group.values.mean),
            (2, 7.0, 2.0)
        );
    }

    #[test]
    fn large_tensors_are_read_in_runs_first_and_last_among_them() {
        let elements = Sampling::WHOLE * 5 + 3;
        let runs: Vec<_> = Sampling::Runs.runs(elements).collect();
        assert_eq!(runs.len() as u64, RUNS);
        assert_eq!((runs[0].start, runs[63].end), (0, elements));
        assert!(runs.windows(2).all(|pair| pair[0].end <= pair[1].start));
        let whole = |sampling: Sampling, n| sampling.runs(n).map(|r| r.end - r.start).sum::<u64>();
        assert_eq!(
            whole(Sampling::Runs, Sampling::WHOLE - 1),
            Sampling::WHOLE - 1
        );
        assert_eq!(whole(Sampling::Everything, elements), elements);
        assert_eq!(whole(Sampling::Runs, 0), 0);
    }

    #[test]
    fn the_same_at_any_thread_count() {
        let build = || {
            (0..40u32).fold(ModelBuilder::new(), |model, i| {
                let values: Vec<f32> = (0..500).map(|j| ((i * 7 + j) as f32).sin()).collect();
                model.tensor(&format!("t{i}"), DType::F32, [500], f32s(&values))
            })
        };
        let groups = vec![Some(0); 40];
        let one = run(build(), &groups, 1);
        assert_eq!(one, run(build(), &groups, 4));
        assert!((one.groups[0].values.std() - 0.707).abs() < 0.01);
    }
}
