//! Numbers into blocks, when pulled.
//!
//! A pump asks for ranges of whole blocks. Most formats make a block of its own numbers only, so
//! any such range is computed alone. Where weights of importance come in, each column has its own,
//! and a few formats look at the whole row besides; those rows are computed whole and cut.

use super::decode::DequantizeCompute;
use super::scratch::{STEP, Scratch, size, with_scratch};
use super::stats::{SharedError, TensorError, compare};
use super::{RecipeError, finite};
use ir::{BlockFormat, Compute, DType, Error, Result, Tensor, TensorSpec};
use quant::CastStats;
use std::ops::Range;
use std::sync::{Arc, PoisonError};

/// Whether blocks depend on nothing but their own numbers and weights.
///
/// With weights of importance, the simple formats scale them by the mean square of the whole row
/// (`quantize_row_q4_0_impl` and its like); formats not named here are taken to do so too.
const fn is_local(format: BlockFormat) -> bool {
    matches!(
        format,
        BlockFormat::Q8_0
            | BlockFormat::Q2_K
            | BlockFormat::Q3_K
            | BlockFormat::Q4_K
            | BlockFormat::Q5_K
            | BlockFormat::Q6_K
            | BlockFormat::IQ1_S
            | BlockFormat::IQ1_M
            | BlockFormat::IQ2_XXS
            | BlockFormat::IQ2_XS
            | BlockFormat::IQ2_S
            | BlockFormat::IQ3_XXS
            | BlockFormat::IQ3_S
            | BlockFormat::IQ4_NL
            | BlockFormat::IQ4_XS
            | BlockFormat::TQ1_0
            | BlockFormat::TQ2_0
            | BlockFormat::MXFP4
            | BlockFormat::NVFP4
            | BlockFormat::Q1_0
            | BlockFormat::Q2_0
    )
}

/// Weights of importance for the rows of a tensor.
#[derive(Clone, Debug)]
pub(crate) struct Importance {
    /// One weight a column, for one expert after the other.
    pub(crate) weights: Arc<[f32]>,
}

/// Another type for a tensor of numbers: blocks, or plain floats.
pub(crate) struct QuantizeCompute {
    spec: TensorSpec,
    /// Numbers; blocks are read through a [`DequantizeCompute`].
    input: [Tensor; 1],
    label: String,
    importance: Option<Importance>,
    /// Whether values must be finite.
    finite: bool,
    error: Option<SharedError>,
}

impl QuantizeCompute {
    /// `input` as `to`. Blocks are dequantized first. The caller has checked that rows hold whole
    /// blocks and that there is one weight for each column of each expert.
    pub(crate) fn new(
        input: Tensor,
        to: DType,
        importance: Option<Importance>,
        finite: bool,
        error: Option<SharedError>,
    ) -> Self {
        let spec = TensorSpec {
            dtype: to,
            shape: input.spec.shape.clone(),
        };
        let label = match &importance {
            Some(_) => format!("{} to {to}, by importance", input.dtype()),
            None => format!("{} to {to}", input.dtype()),
        };
        let input = match input.dtype() {
            DType::Block(_) => {
                let name = input.name.clone();
                let numbers = DequantizeCompute::new(input, DType::F32, finite);
                Tensor::computed(name, Arc::new(numbers))
            }
            _ => input,
        };
        Self {
            spec,
            input: [input],
            label,
            importance,
            finite,
            error,
        }
    }

    fn name(&self) -> &str {
        let [input] = &self.input;
        &input.name
    }

    /// Reads numbers and checks them.
    fn load(&self, elements: &Range<u64>, bytes: &mut Vec<u8>) -> Result<()> {
        let [input] = &self.input;
        let len = input.dtype().byte_len(elements.end - elements.start);
        bytes.resize(size(len.unwrap_or(0)), 0);
        input.read(elements.clone(), bytes)?;
        if self.finite {
            finite::check(input.dtype(), bytes, elements.start, "the weights")?;
        }
        Ok(())
    }

    /// Turns loaded numbers into `out`. `weights` are those of one row of `row_len` numbers.
    fn encode(&self, src: &[u8], weights: Option<(&[f32], usize)>, out: &mut [u8]) -> Result<()> {
        let from = self.input[0].dtype();
        let DType::Block(format) = self.spec.dtype else {
            let mut stats = CastStats::default();
            quant::cast(from, self.spec.dtype, src, out, &mut stats)
                .map_err(crate::ConvertError::Cast)?;
            return Ok(());
        };
        // Without weights rows do not matter, and one long row is as good.
        let (per, bytes) = (format.elements() as usize, format.bytes() as usize);
        let (weights, row_len) = match weights {
            Some((weights, row_len)) => (Some(weights), row_len),
            None => (None, out.len() / bytes * per),
        };
        if row_len == 0 {
            return Ok(());
        }
        quant::quantize_rows_from(from, format, src, row_len, weights, out)
            .map_err(RecipeError::Kernel)?;
        Ok(())
    }

    /// What follows when a part is done: the check, and the error if it is wanted.
    fn finish(&self, start: u64, src: &[u8], out: &[u8], numbers: &mut Vec<f32>) -> Result<()> {
        if self.finite {
            finite::check(
                self.spec.dtype,
                out,
                start,
                "the blocks made of the weights",
            )?;
        }
        if let Some(shared) = &self.error {
            let mut error = TensorError::default();
            compare(
                self.input[0].dtype(),
                src,
                self.spec.dtype,
                out,
                numbers,
                &mut error,
            )?;
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .merge(error);
        }
        Ok(())
    }

    /// The weights for a row.
    fn row_weights<'a>(&self, importance: &'a Importance, row: u64, row_len: u64) -> &'a [f32] {
        let shape = &self.spec.shape;
        let rows = shape.iter().rev().nth(1).copied().unwrap_or(1).max(1);
        let n_experts = (importance.weights.len() as u64 / row_len.max(1)).max(1);
        let start = (row / rows % n_experts) * row_len;
        let span = size(start)..size(start.saturating_add(row_len));
        importance.weights.get(span).unwrap_or_default()
    }

    /// One part of a read: a run of blocks, or whole rows of one expert.
    fn part(
        &self,
        elements: &Range<u64>,
        importance: Option<&Importance>,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let row_len = self.spec.shape.row_len().max(1);
        let weights =
            importance.map(|all| self.row_weights(all, elements.start / row_len, row_len));
        let column = elements.start % row_len;
        let whole = column == 0 && (elements.end - elements.start).is_multiple_of(row_len);
        let local = match self.spec.dtype {
            DType::Block(format) => is_local(format),
            _ => true,
        };
        let Some(weights) = weights.filter(|_| !whole) else {
            self.load(elements, &mut scratch.input)?;
            let weights = weights.map(|weights| (weights, size(row_len)));
            self.encode(&scratch.input, weights, out)?;
            return self.finish(elements.start, &scratch.input, out, &mut scratch.numbers);
        };
        let columns = size(column)..size(column + (elements.end - elements.start));
        if local {
            self.load(elements, &mut scratch.input)?;
            let len = columns.len();
            let weights = weights.get(columns).unwrap_or_default();
            self.encode(&scratch.input, Some((weights, len)), out)?;
            return self.finish(elements.start, &scratch.input, out, &mut scratch.numbers);
        }
        // A part of a row whose blocks depend on all of it.
        let start = elements.start - column;
        self.load(&(start..start + row_len), &mut scratch.input)?;
        let bytes = |elements: u64| size(self.spec.dtype.byte_len(elements).unwrap_or(0));
        scratch.row.resize(bytes(row_len), 0);
        self.encode(
            &scratch.input,
            Some((weights, size(row_len))),
            &mut scratch.row,
        )?;
        let cut = bytes(column);
        if let Some(part) = scratch.row.get(cut..cut + out.len()) {
            out.copy_from_slice(part);
        }
        let unit = size(
            self.input[0]
                .dtype()
                .byte_len(elements.end - elements.start)
                .unwrap_or(0),
        );
        let skip = size(self.input[0].dtype().byte_len(column).unwrap_or(0));
        let src = scratch.input.get(skip..skip + unit).unwrap_or_default();
        self.finish(elements.start, src, out, &mut scratch.numbers)
    }

    /// Where the part that begins at `at` ends.
    fn part_end(&self, at: u64, end: u64, with_importance: bool) -> u64 {
        if !with_importance {
            // From where the read begins, so that reads of several types abreast are cut alike.
            return end.min(at.saturating_add(STEP));
        }
        let row_len = self.spec.shape.row_len().max(1);
        let (row, column) = (at / row_len, at % row_len);
        if column != 0 || end - at < row_len {
            return end.min((row + 1) * row_len);
        }
        // Whole rows of one expert.
        let rows = self
            .spec
            .shape
            .iter()
            .rev()
            .nth(1)
            .copied()
            .unwrap_or(1)
            .max(1);
        let last = (row - row % rows) + rows;
        let some = row + (STEP / row_len).max(1);
        last.min(some).min(end / row_len) * row_len
    }
}

impl Compute for QuantizeCompute {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let importance = match self.spec.dtype {
            DType::Block(_) => self.importance.as_ref(),
            _ => None,
        };
        with_scratch(|scratch| {
            let (mut at, mut out) = (elements.start, out);
            while at < elements.end {
                let end = self.part_end(at, elements.end, importance.is_some());
                let len = size(self.spec.dtype.byte_len(end - at).unwrap_or(0)).min(out.len());
                let (part, rest) = std::mem::take(&mut out).split_at_mut(len);
                self.part(&(at..end), importance, part, scratch)?;
                (at, out) = (end, rest);
            }
            Ok(())
        })
        .map_err(|error: Error| error.at(format!("tensor {:?}", self.name())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Region, View};

    const COLUMNS: u64 = 512;
    const ROWS: u64 = 3;
    const EXPERTS: u64 = 2;

    /// Numbers that no two rows share.
    fn numbers() -> Vec<f32> {
        let mut state = 1u32;
        (0..COLUMNS * ROWS * EXPERTS)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                f32::from_bits(0x3f80_0000 | state >> 9) - 1.5
            })
            .collect()
    }

    fn tensor(dtype: DType) -> Tensor {
        let numbers = numbers();
        let plain: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
        let spec = TensorSpec::new(dtype, [EXPERTS, ROWS, COLUMNS]);
        let mut bytes = vec![0; size(spec.byte_len().unwrap())];
        if let DType::Block(format) = dtype {
            quant::quantize_rows(format, &numbers, size(COLUMNS), None, &mut bytes).unwrap();
        } else {
            let mut stats = CastStats::default();
            quant::cast(DType::F32, dtype, &plain, &mut bytes, &mut stats).unwrap();
        }
        Tensor::stored("t", spec, View::contiguous(Region::memory(bytes)))
    }

    fn importance() -> Importance {
        let weights = (0..COLUMNS * EXPERTS).map(|i| 0.5 + (i * 31 % 17) as f32);
        Importance {
            weights: weights.collect(),
        }
    }

    /// What the kernels make of whole experts.
    fn expected(source: &Tensor, format: BlockFormat, weights: Option<&[f32]>) -> Vec<u8> {
        let mut bytes = vec![0; size(COLUMNS * ROWS * EXPERTS * 4)];
        let plain = DequantizeCompute::new(source.clone(), DType::F32, false);
        let plain = match source.dtype() {
            DType::Block(_) => Tensor::computed("t", Arc::new(plain)),
            _ => source.clone(),
        };
        let unit = plain.dtype().element_bytes().unwrap();
        bytes.truncate(size(COLUMNS * ROWS * EXPERTS * u64::from(unit)));
        plain.read(0..COLUMNS * ROWS * EXPERTS, &mut bytes).unwrap();
        let part = bytes.len() / size(EXPERTS);
        let mut out = Vec::new();
        for (i, src) in bytes.chunks(part).enumerate() {
            let len = DType::Block(format).byte_len(COLUMNS * ROWS).unwrap();
            let mut blocks = vec![0; size(len)];
            let columns = size(COLUMNS);
            let weights = weights.map(|w| &w[i * columns..(i + 1) * columns]);
            quant::quantize_rows_from(plain.dtype(), format, src, columns, weights, &mut blocks)
                .unwrap();
            out.extend(blocks);
        }
        out
    }

    #[test]
    fn any_range_gives_the_bytes_of_the_whole() {
        let sources = [
            DType::F32,
            DType::F16,
            DType::BF16,
            DType::Block(BlockFormat::Q6_K),
        ];
        let weights = importance();
        for format in BlockFormat::all().filter(|format| quant::can_quantize(*format)) {
            // The formats of few bits search long; one source and step show the same.
            let slow = format.elements() == 256 && format.name().starts_with("IQ");
            for dtype in sources.into_iter().take(if slow { 1 } else { 4 }) {
                for with in [Some(&weights), None] {
                    if with.is_none() && (slow || quant::requires_importance(format)) {
                        continue;
                    }
                    let source = tensor(dtype);
                    let want = expected(&source, format, with.map(|w| &w.weights[..]));
                    let to = DType::Block(format);
                    let compute = QuantizeCompute::new(source, to, with.cloned(), true, None);
                    let per = u64::from(format.elements());
                    // Steps that cut rows, span some, and cross from one expert to the next.
                    let steps = [
                        COLUMNS * 2 - per,
                        per,
                        COLUMNS + per,
                        COLUMNS * 2,
                        COLUMNS * 6,
                    ];
                    for step in steps.into_iter().take(if slow { 1 } else { 5 }) {
                        let got = read_by(&compute, step);
                        assert!(got == want, "{dtype} to {format}, step {step}");
                    }
                }
            }
        }
    }

    fn read_by(compute: &QuantizeCompute, step: u64) -> Vec<u8> {
        let mut got = Vec::new();
        let mut at = 0;
        let all = COLUMNS * ROWS * EXPERTS;
        while at < all {
            let end = all.min(at + step);
            let len = compute.spec.dtype.byte_len(end - at).unwrap();
            let mut part = vec![0; size(len)];
            compute.read(at..end, &mut part).unwrap();
            got.extend(part);
            at = end;
        }
        got
    }

    #[test]
    fn what_is_too_large_for_a_type_is_an_error() {
        let bytes: Vec<u8> = [1e6f32; 32].iter().flat_map(|v| v.to_le_bytes()).collect();
        let spec = TensorSpec::new(DType::F32, [1, 32]);
        let tensor = Tensor::stored("big", spec, View::contiguous(Region::memory(bytes)));
        let compute = |finite| QuantizeCompute::new(tensor.clone(), DType::F16, None, finite, None);
        let mut out = [0; 64];
        let error = compute(true).read(0..32, &mut out).unwrap_err().to_string();
        assert!(
            error.contains("\"big\"") && error.contains("infinite"),
            "{error}"
        );
        compute(false).read(0..32, &mut out).unwrap();
        let error = SharedError::default();
        let q8 = DType::Block(BlockFormat::Q8_0);
        let shared = Some(Arc::clone(&error));
        let compute = QuantizeCompute::new(tensor.clone(), q8, None, true, shared);
        compute.read(0..32, &mut [0; 34]).unwrap();
        let error = *error.lock().unwrap();
        assert_eq!(error.elements, 32);
        assert!(error.max > 0.0 && error.relative() < 1e-3, "{error:?}");
    }
}
