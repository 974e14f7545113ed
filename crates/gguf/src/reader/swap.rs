//! Blocks of a big-endian file: their 16 bit scales turned round.

use crate::GgufError;
use crate::wire::half_offsets;
use ir::{BlockFormat, ByteOrder, Compute, DType, Result, Tensor, TensorSpec, View};
use std::ops::Range;
use std::sync::Arc;

/// Turns the scales of each block round.
struct SwapHalves {
    spec: TensorSpec,
    input: [Tensor; 1],
    block_len: usize,
    offsets: &'static [usize],
}

impl Compute for SwapHalves {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        "to little endian"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        input.read(elements, out)?;
        for block in out.chunks_exact_mut(self.block_len) {
            for at in self.offsets {
                if let Some(half) = block.get_mut(*at..*at + 2) {
                    half.reverse();
                }
            }
        }
        Ok(())
    }
}

/// A tensor of blocks in a big-endian file.
pub(super) fn tensor(
    name: String,
    spec: TensorSpec,
    block: BlockFormat,
    view: View,
) -> Result<Tensor> {
    let Some(offsets) = half_offsets(block) else {
        return Err(GgufError::BigEndianBlocks { name, block }.into());
    };
    // To the IR blocks have no byte order: the swap is this computation.
    let view = View {
        byte_order: ByteOrder::Little,
        ..view
    };
    let input = Tensor::stored(name.clone(), spec.clone(), view);
    if offsets.is_empty() {
        return Ok(input);
    }
    let (_, bytes) = DType::Block(block).block();
    let compute = SwapHalves {
        spec,
        input: [input],
        block_len: usize::try_from(bytes).unwrap_or(usize::MAX),
        offsets,
    };
    Ok(Tensor::computed(name, Arc::new(compute)))
}
