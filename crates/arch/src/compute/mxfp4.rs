//! MXFP4 from two tensors into ggml's blocks and back. Only bits move: both sides share the
//! meaning of a nibble and of a scale.
//!
//! | | 32 elements are | element `i` is |
//! |---|---|---|
//! | checkpoint | 16 bytes in `blocks`, one in `scales` | byte `i / 2`, low nibble if `i` is even |
//! | ggml `MXFP4` | 17 bytes: the scale, then 16 | byte `1 + i % 16`, low nibble if `i < 16` |

use super::{misfit, size, with_scratch};
use ir::{BlockFormat, Compute, DType, Result, Shape, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

const MXFP4: DType = DType::Block(BlockFormat::MXFP4);
/// Elements a block, bytes of nibbles, bytes of ggml's block.
const ELEMENTS: u64 = 32;
const NIBBLES: usize = 16;
const BLOCK: usize = 17;

const _: () = assert!(BLOCK == BlockFormat::MXFP4.bytes() as usize);

struct Pack {
    spec: TensorSpec,
    inputs: [Tensor; 2],
}

/// `blocks` `[.., n, 16]` and `scales` `[.., n]`, both bytes, as one MXFP4 tensor `[.., n * 32]`.
pub(crate) fn mxfp4_pack(blocks: &Tensor, scales: &Tensor) -> Result<Tensor> {
    let (shape, outer) = (&blocks.spec.shape, &scales.spec.shape);
    let bytes = |t: &Tensor| matches!(t.spec.dtype, DType::U8 | DType::F8E8M0);
    let fits = shape
        .split_last()
        .is_some_and(|(last, rest)| *last == 16 && rest == &outer[..]);
    if !fits || !bytes(blocks) || !bytes(scales) {
        return Err(misfit(
            blocks,
            format!("bytes of shape [.., 16] beside scales {outer}"),
        ));
    }
    let mut dims = outer.to_vec();
    match dims.last_mut() {
        Some(last) => *last = last.saturating_mul(ELEMENTS),
        None => return Err(misfit(scales, "at least one dimension")),
    }
    Ok(Tensor::computed(
        blocks.name.clone(),
        Arc::new(Pack {
            spec: TensorSpec::new(MXFP4, dims),
            inputs: [blocks.clone(), scales.clone()],
        }),
    ))
}

impl Compute for Pack {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    fn label(&self) -> &'static str {
        "repack_mxfp4"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [blocks, scales] = &self.inputs;
        let (first, last) = (elements.start / ELEMENTS, elements.end / ELEMENTS);
        let n = size(last - first);
        with_scratch(n * BLOCK, |bytes| {
            let (nibbles, heads) = bytes.split_at_mut(n * NIBBLES);
            blocks.read(first * 16..last * 16, nibbles)?;
            scales.read(first..last, heads)?;
            let sources = nibbles.chunks_exact(NIBBLES).zip(heads.iter());
            for ((source, scale), block) in sources.zip(out.chunks_exact_mut(BLOCK)) {
                if let Some((head, codes)) = block.split_first_mut() {
                    *head = *scale;
                    for (j, code) in codes.iter_mut().enumerate() {
                        *code = nibble(source, j) | nibble(source, j + 16) << 4;
                    }
                }
            }
            Ok(())
        })
    }
}

/// Element `i` of a checkpoint's 16 bytes.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    let byte = bytes.get(i / 2).copied().unwrap_or(0);
    if i.is_multiple_of(2) {
        byte & 15
    } else {
        byte >> 4
    }
}

struct Unpack {
    spec: TensorSpec,
    input: [Tensor; 1],
    scales: bool,
}

fn unpack(input: &Tensor, scales: bool) -> Result<Tensor> {
    let mut dims = input.spec.shape.to_vec();
    match dims.last_mut() {
        Some(last) if input.spec.dtype == MXFP4 => *last /= ELEMENTS,
        _ => return Err(misfit(input, "type MXFP4")),
    }
    if !scales {
        dims.push(16);
    }
    Ok(Tensor::computed(
        input.name.clone(),
        Arc::new(Unpack {
            spec: TensorSpec::new(DType::U8, Shape::new(dims)),
            input: [input.clone()],
            scales,
        }),
    ))
}

/// The nibbles of an MXFP4 tensor as a checkpoint has them.
pub(crate) fn mxfp4_blocks(input: &Tensor) -> Result<Tensor> {
    unpack(input, false)
}

/// The scales of an MXFP4 tensor.
pub(crate) fn mxfp4_scales(input: &Tensor) -> Result<Tensor> {
    unpack(input, true)
}

impl Compute for Unpack {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        if self.scales {
            "scales of mxfp4"
        } else {
            "nibbles of mxfp4"
        }
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let per = if self.scales { 1 } else { 16 };
        let (first, last) = (elements.start / per, elements.end.div_ceil(per));
        with_scratch(size(last - first) * BLOCK, |bytes| {
            input.read(first * ELEMENTS..last * ELEMENTS, bytes)?;
            for (element, slot) in elements.zip(out) {
                let place = size(element / per - first) * BLOCK;
                let block = bytes.get(place..place + BLOCK).unwrap_or(&[]);
                let code = |i: usize| {
                    let byte = block.get(1 + i % 16).copied().unwrap_or(0);
                    if i < 16 { byte & 15 } else { byte >> 4 }
                };
                let j = size(element % per);
                *slot = if self.scales {
                    block.first().copied().unwrap_or(0)
                } else {
                    code(2 * j) | code(2 * j + 1) << 4
                };
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::ModelBuilder;

    #[test]
    fn packs_and_unpacks() {
        let nibbles: Vec<u8> = (0..64u8).map(|i| i.wrapping_mul(37)).collect();
        let model = ModelBuilder::new()
            .tensor("b", DType::U8, [2, 2, 16], nibbles.clone())
            .tensor("s", DType::U8, [2, 2], vec![1, 2, 3, 4])
            .build()
            .unwrap();
        let (b, s) = (
            model.tensors.by_name("b").unwrap(),
            model.tensors.by_name("s").unwrap(),
        );
        let packed = mxfp4_pack(b, s).unwrap();
        assert_eq!(packed.spec, TensorSpec::new(MXFP4, [2, 64]));
        let bytes = packed.read_all().unwrap();
        // Elements 0 and 16 of the first block: low nibble of byte 0, low nibble of byte 8.
        assert_eq!(bytes[..2], [1, (nibbles[0] & 15) | (nibbles[8] & 15) << 4]);
        assert_eq!(mxfp4_blocks(&packed).unwrap().read_all().unwrap(), nibbles);
        assert_eq!(
            mxfp4_scales(&packed).unwrap().read_all().unwrap(),
            [1, 2, 3, 4]
        );
        let mut odd = [0; 3];
        mxfp4_blocks(&packed)
            .unwrap()
            .read(15..18, &mut odd)
            .unwrap();
        assert_eq!(odd, nibbles[15..18]);
    }
}
