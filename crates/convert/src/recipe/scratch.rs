//! Buffers of a thread.

use std::cell::RefCell;

/// Elements read and computed at a time: their bytes stay in the second cache. A multiple of
/// every block.
pub(crate) const STEP: u64 = 64 << 10;

#[derive(Default)]
pub(crate) struct Scratch {
    /// Bytes of the input.
    pub(crate) input: Vec<u8>,
    /// A row of blocks that is cut.
    pub(crate) row: Vec<u8>,
    /// Numbers.
    pub(crate) numbers: Vec<f32>,
}

thread_local! {
    /// Buffers of a thread, so that a chunk costs no allocation.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Runs `work` with this thread's buffers. They are taken, not borrowed: a computation below
/// that wants buffers too gets fresh ones.
pub(crate) fn with_scratch<R>(work: impl FnOnce(&mut Scratch) -> R) -> R {
    let mut scratch = SCRATCH.take();
    let done = work(&mut scratch);
    SCRATCH.set(scratch);
    done
}

/// A length in memory.
pub(crate) fn size(n: u64) -> usize {
    // A buffer that does not fit the address space fails as an allocation does.
    usize::try_from(n).unwrap_or(usize::MAX)
}
