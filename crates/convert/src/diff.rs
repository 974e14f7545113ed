//! Are two models the same, tensor by tensor?

use crate::ParallelPump;
use crate::numbers::{fill, numbers, readable};
use ir::{Context, DType, Model, Payload, Result, Tensor};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// How to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DiffOptions {
    /// Values this far apart count as the same. Without it, values are compared bit for bit.
    pub tolerance: Option<f64>,
    /// Both are rounded to this float type first.
    pub as_dtype: Option<DType>,
    /// Also work out how large the first's values are: [`Difference::relative`]. Numbers are looked
    /// at then, not bits.
    pub relative: bool,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DiffReport {
    /// Names only the first has, in its order.
    pub only_in_a: Vec<String>,
    /// Names only the second has, in its order.
    pub only_in_b: Vec<String>,
    /// Tensors that differ, in the first's order.
    pub differ: Vec<Difference>,
    /// How many tensors both have.
    pub compared: u64,
}

impl DiffReport {
    /// Whether the models are the same.
    pub fn same(&self) -> bool {
        self.only_in_a.is_empty() && self.only_in_b.is_empty() && self.differ.is_empty()
    }
}

/// How one tensor differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// In what: shapes, types, values.
    pub reason: String,
    /// Largest absolute difference; `None` where values cannot be set against each other.
    pub max_abs: Option<f64>,
    /// Largest difference relative to the first's value.
    pub max_rel: Option<f64>,
    /// Root of the mean square difference.
    pub rmse: Option<f64>,
    /// The same relative to the root of the first's mean square, where that was asked for.
    pub relative: Option<f64>,
}

/// What a chunk, or a tensor, adds up to.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    differing: u64,
    max_abs: f64,
    max_rel: f64,
    squares: f64,
    /// Squares of the first's values, where asked for.
    reference: f64,
    elements: u64,
}

impl Sum {
    fn add(&mut self, other: Self) {
        self.differing += other.differing;
        self.max_abs = self.max_abs.max(other.max_abs);
        self.max_rel = self.max_rel.max(other.max_rel);
        self.squares += other.squares;
        self.reference += other.reference;
        self.elements += other.elements;
    }

    fn value(&mut self, a: f64, b: f64) -> bool {
        self.elements += 1;
        if a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan() {
            return true;
        }
        let d = (a - b).abs();
        // NaN against a number, or infinities apart: as far as can be.
        let d = if d.is_nan() { f64::INFINITY } else { d };
        self.max_abs = self.max_abs.max(d);
        let rel = if d == 0.0 { 0.0 } else { d / a.abs() };
        self.max_rel = self.max_rel.max(rel);
        self.squares += d * d;
        d == 0.0
    }
}

/// Buffers of one worker.
#[derive(Default)]
struct Buffers {
    a: Vec<u8>,
    b: Vec<u8>,
    a64: Vec<f64>,
    b64: Vec<f64>,
}

/// Compares two models with the pump's threads.
pub fn diff(
    a: &Model,
    b: &Model,
    options: DiffOptions,
    pump: &ParallelPump,
    cx: &Context,
) -> Result<DiffReport> {
    let mut report = DiffReport::default();
    let missing = |of: &Model, from: &Model| {
        let absent = of
            .tensors
            .iter()
            .filter(|t| from.tensors.id_of(&t.name).is_none());
        absent.map(|t| t.name.clone()).collect()
    };
    report.only_in_a = missing(a, b);
    report.only_in_b = missing(b, a);
    // Chunks of all pairs, so that many small tensors keep every thread busy too.
    let mut pairs = Vec::new();
    let mut jobs: Vec<(usize, Range<u64>)> = Vec::new();
    for left in &a.tensors {
        let Some(right) = b.tensors.by_name(&left.name) else {
            continue;
        };
        report.compared += 1;
        if left.spec.shape != right.spec.shape {
            let reason = format!("shape {} and {}", left.spec.shape, right.spec.shape);
            let name = left.name.clone();
            report.differ.push(Difference {
                name,
                reason,
                max_abs: None,
                max_rel: None,
                rmse: None,
                relative: None,
            });
            continue;
        }
        if [left, right]
            .iter()
            .any(|tensor| tensor.dtype() == DType::Str)
        {
            report.differ.extend(of_strings(left, right));
            continue;
        }
        jobs.extend(
            pump.chunks(wider(left, right))
                .map(|range| (pairs.len(), range)),
        );
        pairs.push((left, right));
    }
    // As the second's bytes lie, so that a file is read from its beginning to its end.
    let places: Vec<_> = pairs.iter().map(|(_, right)| place(right)).collect();
    jobs.sort_by_key(|(pair, _)| places[*pair]);
    let sums = Mutex::new(vec![Sum::default(); jobs.len()]);
    pump.for_each(jobs.len(), |index, buffers: &mut Buffers| {
        cx.cancel.check()?;
        let (pair, range) = jobs[index].clone();
        let (left, right) = pairs[pair];
        let sum = compare(left, right, range, options, buffers)?;
        cx.progress.advance(buffers.a.len() as u64);
        if let Some(slot) = sums
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_mut(index)
        {
            *slot = sum;
        }
        Ok(())
    })?;
    // Added up in the order of the data: the same figures at any thread count.
    let mut totals = vec![Sum::default(); pairs.len()];
    let sums = sums.into_inner().unwrap_or_else(PoisonError::into_inner);
    for ((pair, _), sum) in jobs.iter().zip(sums) {
        totals[*pair].add(sum);
    }
    for ((left, right), total) in pairs.into_iter().zip(totals) {
        report.differ.extend(verdict(left, right, total, options));
    }
    let place = |name: &str| a.tensors.id_of(name);
    report
        .differ
        .sort_by_key(|difference| place(&difference.name));
    Ok(report)
}

/// Which source a tensor lies in, and where; before all others what lies in none.
fn place(tensor: &Tensor) -> Option<(usize, u64)> {
    match &tensor.payload {
        Payload::Stored(view) => Some((
            view.region.source_key(),
            view.region.start().saturating_add(view.offset),
        )),
        Payload::Computed(_) | Payload::Strings(_) => None,
    }
}

/// How tensors differ of which one is of strings, which are no numbers.
fn of_strings(a: &Tensor, b: &Tensor) -> Option<Difference> {
    let reason = match (&a.payload, &b.payload) {
        (Payload::Strings(left), Payload::Strings(right)) => {
            let differing = left.iter().zip(right.iter()).filter(|(x, y)| x != y);
            match differing.count() {
                0 => return None,
                n => format!("{n} of {} strings", left.len()),
            }
        }
        _ => format!("type {} and {}", a.dtype(), b.dtype()),
    };
    Some(Difference {
        name: a.name.clone(),
        reason,
        max_abs: None,
        max_rel: None,
        rmse: None,
        relative: None,
    })
}

/// The tensor whose chunks are the coarser: element ranges must be whole units of both.
fn wider<'a>(a: &'a Tensor, b: &'a Tensor) -> &'a Tensor {
    if b.dtype().block().0 > a.dtype().block().0 {
        b
    } else {
        a
    }
}

fn verdict(a: &Tensor, b: &Tensor, sum: Sum, options: DiffOptions) -> Option<Difference> {
    let types_count = options.tolerance.is_none() && options.as_dtype.is_none();
    let reason = if types_count && a.dtype() != b.dtype() {
        format!("type {} and {}", a.dtype(), b.dtype())
    } else if sum.differing == 0 {
        return None;
    } else {
        format!("{} of {} values", sum.differing, sum.elements)
    };
    let rmse = (sum.squares / sum.elements.max(1) as f64).sqrt();
    Some(Difference {
        name: a.name.clone(),
        reason,
        max_abs: Some(sum.max_abs),
        max_rel: Some(sum.max_rel),
        rmse: Some(rmse),
        relative: options.relative.then(|| {
            let size = (sum.reference / sum.elements.max(1) as f64).sqrt();
            if rmse == 0.0 { 0.0 } else { rmse / size }
        }),
    })
}

fn compare(
    a: &Tensor,
    b: &Tensor,
    range: Range<u64>,
    options: DiffOptions,
    buffers: &mut Buffers,
) -> Result<Sum> {
    let Buffers {
        a: a_bytes,
        b: b_bytes,
        a64,
        b64,
    } = buffers;
    fill(a, range.clone(), a_bytes)?;
    fill(b, range.clone(), b_bytes)?;
    let elements = range.end - range.start;
    let same = a.dtype() == b.dtype() && a_bytes == b_bytes;
    if same && !(options.relative && readable(a.dtype())) {
        return Ok(Sum {
            elements,
            ..Sum::default()
        });
    }
    numbers(a.dtype(), a_bytes, options.as_dtype, a64)?;
    numbers(b.dtype(), b_bytes, options.as_dtype, b64)?;
    let mut sum = Sum::default();
    if options.relative {
        sum.reference = a64.iter().filter(|x| x.is_finite()).map(|x| x * x).sum();
    }
    for (&x, &y) in a64.iter().zip(b64.iter()) {
        let equal = sum.value(x, y);
        let near = options
            .tolerance
            .is_some_and(|limit| (x - y).abs() <= limit);
        sum.differing += u64::from(!equal && !near);
    }
    // Bits that differ although the numbers do not: -0 and 0, NaN patterns.
    if sum.differing == 0
        && options == DiffOptions::default()
        && a.dtype() == b.dtype()
        && let Some(width) = a.dtype().element_bytes()
    {
        let width = width as usize;
        let pairs = a_bytes.chunks_exact(width).zip(b_bytes.chunks_exact(width));
        sum.differing = pairs.filter(|(x, y)| x != y).count() as u64;
    }
    sum.elements = elements;
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::ModelBuilder;

    fn f32s(name: &str, values: &[f32]) -> ModelBuilder {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        ModelBuilder::new().tensor(name, DType::F32, [values.len() as u64], bytes)
    }

    fn run(a: ModelBuilder, b: ModelBuilder, options: DiffOptions) -> DiffReport {
        let pump = ParallelPump::new(2, 1 << 20).unwrap();
        diff(
            &a.build().unwrap(),
            &b.build().unwrap(),
            options,
            &pump,
            &Context::default(),
        )
        .unwrap()
    }

    #[test]
    fn finds_what_differs_and_by_how_much() {
        let a = || f32s("w", &[1.0, 2.0, f32::NAN]).tensor("x", DType::U8, [1], vec![1]);
        assert!(run(a(), a(), DiffOptions::default()).same());
        let b = f32s("w", &[1.0, 2.5, f32::NAN]).tensor("y", DType::U8, [1], vec![1]);
        let report = run(a(), b, DiffOptions::default());
        assert_eq!(
            (report.only_in_a[0].as_str(), report.only_in_b[0].as_str()),
            ("x", "y")
        );
        let w = &report.differ[0];
        assert_eq!(
            (w.reason.as_str(), w.max_abs, w.max_rel),
            ("1 of 3 values", Some(0.5), Some(0.25))
        );
        let near = DiffOptions {
            tolerance: Some(0.5),
            ..DiffOptions::default()
        };
        assert!(run(f32s("w", &[1.0]), f32s("w", &[1.5]), near).same());
        let relative = DiffOptions {
            relative: true,
            ..DiffOptions::default()
        };
        let report = run(f32s("w", &[3.0, 4.0]), f32s("w", &[3.0, 4.5]), relative);
        assert_eq!(report.differ[0].relative, Some(0.1));
        let minus = run(
            f32s("w", &[0.0]),
            f32s("w", &[-0.0]),
            DiffOptions::default(),
        );
        assert_eq!(minus.differ[0].reason, "1 of 1 values");
    }

    #[test]
    fn types_count_unless_rounded() {
        let half =
            |v: u16| ModelBuilder::new().tensor("w", DType::BF16, [1], v.to_le_bytes().to_vec());
        let report = run(f32s("w", &[1.0]), half(0x3f80), DiffOptions::default());
        assert_eq!(report.differ[0].reason, "type F32 and BF16");
        let rounded = DiffOptions {
            as_dtype: Some(DType::BF16),
            ..DiffOptions::default()
        };
        assert!(run(f32s("w", &[1.000_01]), half(0x3f80), rounded).same());
    }
}
