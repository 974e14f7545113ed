//! The computations behind the verbs. Each maps its range to its inputs' ranges, reads nothing
//! before it is pulled, and moves whole runs of bytes where the layout lets it.

mod elementwise;
mod floats;
mod mxfp4;
mod remap;
mod weave;

pub(crate) use elementwise::{Op, decay, elementwise};
pub(crate) use mxfp4::{mxfp4_blocks, mxfp4_pack, mxfp4_scales};
pub(crate) use remap::{Dim, remap, reshape};
pub(crate) use weave::{constant, weave};

use crate::error::ArchError;
use std::cell::RefCell;

thread_local! {
    /// One buffer a thread, so that a chunk costs no allocation.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Hands `work` a buffer of `len` bytes. Taken, not borrowed: a computation below may want the
/// buffer too, and gets a fresh one.
fn with_scratch<T>(len: usize, work: impl FnOnce(&mut [u8]) -> T) -> T {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    buffer.resize(len, 0);
    let done = work(&mut buffer);
    SCRATCH.set(buffer);
    done
}

/// The error for a tensor whose shape a verb cannot work with.
fn misfit(tensor: &ir::Tensor, wanted: impl Into<String>) -> ir::Error {
    ArchError::Shape {
        tensor: tensor.name.clone(),
        dtype: tensor.spec.dtype,
        shape: tensor.spec.shape.clone(),
        wanted: wanted.into(),
    }
    .into()
}

/// A size in memory; buffers of the pump are far below the limit.
fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
