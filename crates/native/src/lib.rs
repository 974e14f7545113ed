//! What the operating system gives: positioned I/O, copies made inside the kernel, files that have
//! no name until they are whole, and a process that gives up what it does not need.
//!
//! This is the only crate of the house that may hold `unsafe`; each block says why it is sound.
//! Everything here has a plain twin that works anywhere, and falls back to it by itself.

mod beneath;
mod budget;
mod confine;
mod copy;
mod disk;
mod publish;

pub use beneath::{open_beneath, open_regular};
pub use budget::{Budgeted, within};
pub use confine::{Confined, Keep, confine};
pub use copy::{KernelCopy, copy_range, read_at, start_writeback, write_all_at};
pub use disk::{FileSystem, device_of};
pub use publish::{Replaced, Unpublished, holds_unnamed, rename_new, sync_folder};
