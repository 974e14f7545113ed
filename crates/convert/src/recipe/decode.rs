//! Blocks into numbers, when pulled, and data that is only looked at.

use super::scratch::{STEP, Scratch, size, with_scratch};
use super::{RecipeError, finite};
use ir::{Compute, DType, Error, Form, Result, Tensor, TensorSpec};
use quant::CastStats;
use std::ops::Range;

/// Blocks as plain numbers.
pub(crate) struct DequantizeCompute {
    spec: TensorSpec,
    input: [Tensor; 1],
    label: String,
    /// Whether scales must be finite.
    finite: bool,
}

impl DequantizeCompute {
    /// The blocks of `input` as numbers of type `to`, which is a float.
    pub(crate) fn new(input: Tensor, to: DType, finite: bool) -> Self {
        let spec = TensorSpec {
            dtype: to,
            shape: input.spec.shape.clone(),
        };
        let label = format!("{} to {to}", input.dtype());
        Self {
            spec,
            input: [input],
            label,
            finite,
        }
    }

    /// Numbers of elements that stand in whole blocks from `start` on, without the first `skip`.
    fn part(
        &self,
        blocks: &Range<u64>,
        skip: u64,
        out: &mut [u8],
        scratch: &mut Scratch,
    ) -> Result<()> {
        let [input] = &self.input;
        let DType::Block(format) = input.dtype() else {
            return input.read(blocks.clone(), out);
        };
        let len = input.dtype().byte_len(blocks.end - blocks.start);
        scratch.input.resize(size(len.unwrap_or(0)), 0);
        input.read(blocks.clone(), &mut scratch.input)?;
        if self.finite {
            finite::check(input.dtype(), &scratch.input, blocks.start, "the weights")?;
        }
        scratch.numbers.resize(size(blocks.end - blocks.start), 0.0);
        quant::dequantize(format, &scratch.input, &mut scratch.numbers)
            .map_err(RecipeError::Kernel)?;
        let numbers = scratch.numbers.get(size(skip)..).unwrap_or_default();
        if self.spec.dtype == DType::F32 {
            for (bytes, number) in out.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
                *bytes = number.to_le_bytes();
            }
            return Ok(());
        }
        let wanted = out.len() / self.spec.dtype.element_bytes().unwrap_or(1) as usize;
        let plain = &mut scratch.row;
        plain.clear();
        plain.extend(
            numbers
                .iter()
                .take(wanted)
                .flat_map(|number| number.to_le_bytes()),
        );
        let mut stats = CastStats::default();
        quant::cast(DType::F32, self.spec.dtype, plain, out, &mut stats)
            .map_err(crate::ConvertError::Cast)?;
        Ok(())
    }
}

impl Compute for DequantizeCompute {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn form(&self) -> Option<Form<'_>> {
        let [input] = &self.input;
        let blocks = matches!(input.dtype(), DType::Block(_));
        (blocks && self.spec.dtype == DType::F32).then_some(Form::Numbers(input))
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let per = u64::from(input.dtype().block().0);
        let unit = u64::from(self.spec.dtype.element_bytes().unwrap_or(1));
        with_scratch(|scratch| {
            let (mut at, mut out) = (elements.start, out);
            while at < elements.end {
                let first = at - at % per;
                let end = elements.end.min(first - first % STEP + STEP);
                let (part, rest) = std::mem::take(&mut out).split_at_mut(size((end - at) * unit));
                let blocks = first..end.next_multiple_of(per);
                self.part(&blocks, at - first, part, scratch)?;
                (at, out) = (end, rest);
            }
            Ok(())
        })
        .map_err(|error: Error| error.at(format!("tensor {:?}", input.name)))
    }
}

/// Data as it is, looked at on the way.
pub(crate) struct CheckedCompute {
    input: [Tensor; 1],
}

impl CheckedCompute {
    /// `input`, whose values must be finite.
    pub(crate) fn new(input: Tensor) -> Self {
        Self { input: [input] }
    }
}

impl Compute for CheckedCompute {
    fn spec(&self) -> &TensorSpec {
        let [input] = &self.input;
        &input.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        "looked at"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let start = elements.start;
        input.read(elements, out)?;
        finite::check(input.dtype(), out, start, "the weights")
            .map_err(|error| Error::from(error).at(format!("tensor {:?}", input.name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{BlockFormat, Region, View};
    use std::sync::Arc;

    #[test]
    fn any_range_gives_the_numbers_of_the_whole() {
        let numbers: Vec<f32> = (0..1024)
            .map(|i| ((i * 37 % 101) as f32 - 50.0) * 0.1)
            .collect();
        for format in [BlockFormat::Q4_0, BlockFormat::Q6_K] {
            let spec = TensorSpec::new(DType::Block(format), [4, 256]);
            let mut blocks = vec![0; size(spec.byte_len().unwrap())];
            quant::quantize_rows(format, &numbers, 256, None, &mut blocks).unwrap();
            let mut whole = vec![0.0; 1024];
            quant::dequantize(format, &blocks, &mut whole).unwrap();
            let stored = Tensor::stored("t", spec, View::contiguous(Region::memory(blocks)));
            for (to, unit) in [(DType::F32, 4), (DType::F16, 2), (DType::BF16, 2)] {
                let plain: Vec<u8> = whole.iter().flat_map(|v| v.to_le_bytes()).collect();
                let mut want = vec![0; 1024 * unit];
                let mut stats = CastStats::default();
                quant::cast(DType::F32, to, &plain, &mut want, &mut stats).unwrap();
                let compute = DequantizeCompute::new(stored.clone(), to, true);
                let tensor = Tensor::computed("t", Arc::new(compute));
                for step in [1024, 1, 33, 300] {
                    let mut got = Vec::new();
                    let mut at = 0;
                    while at < 1024 {
                        let end = 1024.min(at + step);
                        let mut part = vec![0; size(end - at) * unit];
                        tensor.read(at..end, &mut part).unwrap();
                        got.extend(part);
                        at = end;
                    }
                    assert!(got == want, "{format} to {to}, step {step}");
                }
            }
        }
    }
}
