//! What the operating system gives: positioned I/O, copies made inside the kernel, and
//! files that have no name until they are whole.
//!
//! This is the only crate of the house that may hold `unsafe`; each block says why it is sound.
//! Everything here has a plain twin that works anywhere, and falls back to it by itself.

mod beneath;
mod copy;
mod publish;

pub use beneath::{open_beneath, open_regular};
pub use copy::{KernelCopy, copy_range, read_at, start_writeback, write_all_at};
pub use publish::{Unpublished, sync_folder};
