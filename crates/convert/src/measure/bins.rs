//! Counting values whose range is not known yet.
//!
//! Bins follow the bits of a float: 64 to each power of two, on both sides of zero, so that any
//! range that turns out to be of interest is cut finely enough afterwards.

use super::Values;

/// Powers of two with bins of their own: from 2^-40 to 2^40. What is smaller counts as zero, what
/// is larger as the largest.
const EXPONENTS: i32 = 40;
/// Bits of the mantissa that count.
const MANTISSA: u32 = 6;
/// Bins on one side of zero.
const SIDE: usize = (2 * EXPONENTS as usize) << MANTISSA;

/// Bins of a histogram that is shown.
const SHOWN: usize = 48;
/// Of the values, this part on each side may lie outside of what is shown.
const TAIL: f64 = 0.0005;

/// How values spread over a range.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last one ends.
    pub high: f64,
    /// Values in each bin; all bins are as wide.
    pub bins: Vec<u64>,
    /// Finite values outside the range.
    pub outside: u64,
}

/// Counts by the bits of floats.
#[derive(Clone, Default)]
pub(super) struct Bins {
    /// Negative values, the largest magnitude first, then zero, then positive ones. Empty until
    /// something is counted.
    counts: Vec<u64>,
}

impl Bins {
    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
    }

    pub(super) fn count(&mut self, run: &[f64]) {
        self.counts.resize(2 * SIDE + 1, 0);
        for x in run.iter().filter(|x| x.is_finite()) {
            if let Some(count) = self.counts.get_mut(bin(*x)) {
                *count += 1;
            }
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.resize(2 * SIDE + 1, 0);
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// The histogram of what was counted, over the range that nearly all values are in. `None`
    /// where all are one value.
    pub(super) fn histogram(&self, values: &Values) -> Option<Histogram> {
        let total: u64 = self.counts.iter().sum();
        if total == 0 || values.min >= values.max {
            return None;
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not below zero
        let tail = (total as f64 * TAIL) as u64;
        let low = self.beyond(tail, false)?.0.max(values.min);
        let high = self.beyond(tail, true)?.1.min(values.max);
        let (low, high) = if low < high {
            (low, high)
        } else {
            (values.min, values.max)
        };
        let width = (high - low) / SHOWN as f64;
        if !(width > 0.0 && width.is_finite()) {
            return None;
        }
        let mut shown = [0.0f64; SHOWN];
        for (at, count) in self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
        {
            let (from, to) = edges(at);
            let (from, to) = (from.max(values.min), to.min(values.max));
            spread(
                &mut shown,
                *count as f64,
                (from - low) / width,
                (to - low) / width,
            );
        }
        // Sums are rounded, not bins: so the bins hold as many values as there are.
        let (mut sum, mut told) = (0.0, 0);
        let bins: Vec<u64> = shown
            .iter()
            .map(|n| {
                sum += n;
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not below zero
                let upto = (sum.round() as u64).clamp(told, total);
                let bin = upto - told;
                told = upto;
                bin
            })
            .collect();
        let inside: u64 = bins.iter().sum();
        Some(Histogram {
            low,
            high,
            bins,
            outside: total.saturating_sub(inside),
        })
    }

    /// The edges of the first bin that has more than `tail` values up to it, from one end.
    fn beyond(&self, tail: u64, from_above: bool) -> Option<(f64, f64)> {
        let mut left = tail;
        let mut step = |at: usize| {
            let count = self.counts.get(at).copied().unwrap_or(0);
            let found = count > left;
            left = left.saturating_sub(count);
            found.then(|| edges(at))
        };
        if from_above {
            (0..self.counts.len()).rev().find_map(&mut step)
        } else {
            (0..self.counts.len()).find_map(&mut step)
        }
    }
}

/// Spreads a count evenly from one place to another, in widths of a bin.
fn spread(shown: &mut [f64; SHOWN], count: f64, from: f64, to: f64) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to the bins
    let place = |x: f64| x.clamp(0.0, (SHOWN - 1) as f64) as usize;
    if to <= from {
        if (0.0..=SHOWN as f64).contains(&from) {
            shown[place(from)] += count;
        }
        return;
    }
    for (at, bin) in shown
        .iter_mut()
        .enumerate()
        .take(place(to) + 1)
        .skip(place(from))
    {
        let shared = to.min(at as f64 + 1.0) - from.max(at as f64);
        *bin += count * (shared / (to - from)).max(0.0);
    }
}

/// The bits of 1.0 that count: where the magnitudes are numbered from.
const fn key_of(exponent: i32) -> u32 {
    ((127 + exponent).cast_unsigned()) << MANTISSA
}

fn bin(x: f64) -> usize {
    #[allow(clippy::cast_possible_truncation)] // to the nearest: a bin is far wider
    let key = (x.abs() as f32).to_bits() >> (23 - MANTISSA);
    let (first, end) = (key_of(-EXPONENTS), key_of(EXPONENTS));
    if key < first {
        return SIDE;
    }
    let magnitude = (key.min(end - 1) - first) as usize;
    if x < 0.0 {
        SIDE - 1 - magnitude
    } else {
        SIDE + 1 + magnitude
    }
}

/// From where to where a bin reaches.
fn edges(at: usize) -> (f64, f64) {
    let edge = |magnitude: usize| {
        let key = key_of(-EXPONENTS) + u32::try_from(magnitude).unwrap_or(0);
        f64::from(f32::from_bits(key << (23 - MANTISSA)))
    };
    match at {
        SIDE => (0.0, 0.0),
        at if at < SIDE => (-edge(SIDE - at), -edge(SIDE - 1 - at)),
        at => (edge(at - SIDE - 1), edge(at - SIDE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_what_falls_into_them() {
        for x in [1.0, -1.0, 0.3, -1e-9, 12_345.678, 1e-12, 2.5e11] {
            let (from, to) = edges(bin(x));
            assert!(
                from <= x && x <= to && (to - from) <= x.abs() / 60.0,
                "{x} in {from} to {to}"
            );
        }
        assert_eq!((bin(0.0), bin(-0.0), bin(1e-300)), (SIDE, SIDE, SIDE));
        assert_eq!((bin(1e300), bin(-1e300)), (2 * SIDE, 0));
    }

    #[test]
    fn a_histogram_is_cut_to_where_values_are() {
        let mut run: Vec<f64> = (0..10_000).map(|i| f64::from(i) / 5000.0 - 1.0).collect();
        run.push(1000.0);
        let mut bins = Bins::default();
        bins.count(&run);
        let histogram = bins.histogram(&Values::of(&run)).unwrap();
        assert!(histogram.low < -0.97 && histogram.low >= -1.0 && histogram.high < 1.1);
        assert_eq!(
            histogram.bins.iter().sum::<u64>() + histogram.outside,
            10_001
        );
        assert!(histogram.outside < 30);
        // Evenly spread values give even bins, but for those that zero and the ends cut.
        let inner = &histogram.bins[2..46];
        assert!(inner.iter().all(|n| (150..270).contains(n)), "{inner:?}");
        let mut same = Bins::default();
        same.count(&[2.0; 9]);
        assert_eq!(same.histogram(&Values::of(&[2.0; 9])), None);
    }
}
