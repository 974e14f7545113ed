//! Parts of blocks as tensors of their own: codes, scales, minima.

use crate::recipe::scratch::{STEP, Scratch, size, with_scratch};
use ir::{Compute, DType, Result, Shape, Tensor, TensorSpec};
use quant::{PER_BLOCK, PartLayout, pack_nibbles};
use std::ops::Range;
use std::sync::Arc;

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Codes,
    Scale,
    Min,
}

struct PartOf {
    spec: TensorSpec,
    input: [Tensor; 1],
    layout: PartLayout,
    part: Part,
}

/// The part of `blocks`, computed when pulled. Codes are of four or eight bits; the others are
/// the bytes the blocks have.
pub(crate) fn part(
    blocks: &Tensor,
    layout: PartLayout,
    part: Part,
    dtype: DType,
    shape: Shape,
    name: String,
) -> Tensor {
    let compute = PartOf {
        spec: TensorSpec { dtype, shape },
        input: [blocks.clone()],
        layout,
        part,
    };
    Tensor::computed(name, Arc::new(compute))
}

impl PartOf {
    /// Codes from `start` on, at most [`STEP`] of them.
    fn codes(&self, elements: Range<u64>, out: &mut [u8], scratch: &mut Scratch) -> Result<()> {
        let per = PER_BLOCK as u64;
        let first = elements.start - elements.start % per;
        let last = elements.end.next_multiple_of(per);
        self.blocks(first..last, scratch)?;
        scratch.row.resize(size(last - first), 0);
        self.layout.codes(&scratch.input, &mut scratch.row);
        let wanted = size(elements.start - first)..size(elements.end - first);
        let codes = scratch.row.get(wanted).unwrap_or_default();
        if self.spec.dtype.block() == (2, 1) {
            pack_nibbles(codes, out);
        } else {
            out.copy_from_slice(codes);
        }
        Ok(())
    }

    fn blocks(&self, elements: Range<u64>, scratch: &mut Scratch) -> Result<()> {
        let [input] = &self.input;
        let len = input.dtype().byte_len(elements.end - elements.start);
        scratch.input.resize(size(len.unwrap_or(0)), 0);
        input.read(elements, &mut scratch.input)
    }
}

impl Compute for PartOf {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        match self.part {
            Part::Codes => "codes",
            Part::Scale => "scales",
            Part::Min => "minima",
        }
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        // One scale a block: a chunk of scales comes from many times as many bytes.
        let (step, each) = match self.part {
            Part::Codes => (STEP, 1),
            Part::Scale | Part::Min => (STEP / PER_BLOCK as u64, PER_BLOCK as u64),
        };
        with_scratch(|scratch| {
            let (mut at, mut out) = (elements.start, out);
            while at < elements.end {
                let end = elements.end.min(at - at % step + step);
                let len = self.spec.dtype.byte_len(end - at).unwrap_or(0);
                let (here, rest) = std::mem::take(&mut out).split_at_mut(size(len));
                match self.part {
                    Part::Codes => self.codes(at..end, here, scratch)?,
                    Part::Scale => {
                        self.blocks(at * each..end * each, scratch)?;
                        self.layout.scales(&scratch.input, here);
                    }
                    Part::Min => {
                        self.blocks(at * each..end * each, scratch)?;
                        self.layout.mins(&scratch.input, here);
                    }
                }
                (at, out) = (end, rest);
            }
            Ok(())
        })
    }
}
