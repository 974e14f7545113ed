//! Work on a stranger's text that may take only so much memory.
//!
//! A library that interprets what a file says (a chat template) counts steps, not bytes, and a text of
//! a hundred characters can double a string forty times. Such work gets a thread of its own with a
//! budget: an allocation beyond it is never made, the thread rests where it stands for as long as the
//! process lives, and the caller is told that nothing came of it. What it has taken by then stays within
//! the budget. The work must hold no lock that anyone else waits for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::mpsc;
use std::time::Duration;

thread_local! {
    /// Bytes this thread may still take; none means any. Constant, so that reading it allocates nothing.
    static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The system's allocator, with budgets. A program that wants [`within`] makes it its global one.
pub struct Budgeted;

impl Budgeted {
    /// Takes `size` bytes from this thread's budget, or does not come back.
    fn take(size: usize) {
        // A thread that is ending has no such variable any more, nor a budget. One that panics tells of
        // it first, and holds the locks of stderr and of the backtrace while it does.
        let left = LEFT.try_with(Cell::get).ok().flatten();
        if let Some(left) = left.filter(|_| !std::thread::panicking()) {
            match left.checked_sub(size) {
                Some(left) => LEFT.with(|cell| cell.set(Some(left))),
                None => rest(),
            }
        }
    }

    fn give(size: usize) {
        let left = LEFT.try_with(Cell::get).ok().flatten();
        if let Some(left) = left {
            LEFT.with(|cell| cell.set(Some(left.saturating_add(size))));
        }
    }
}

/// Nothing more comes of this thread: an allocator must not unwind, and failing would end the process.
fn rest() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

// SAFETY: every call goes to the system's allocator with the arguments it came with, and its answer
// goes back as it is. What is added (a number of this thread) neither allocates nor unwinds.
unsafe impl GlobalAlloc for Budgeted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::take(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        Self::give(layout.size());
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both may stand side by side for a moment.
        Self::take(size);
        // SAFETY: the caller's promises are passed on.
        let block = unsafe { System.realloc(block, layout, size) };
        Self::give(layout.size());
        block
    }
}

/// What `work` gives, if it needs at most `bytes` of memory and `time`. None where it needs more,
/// where it panics, and where [`Budgeted`] is not this program's allocator: then it is not begun.
pub fn within<T, F>(bytes: usize, time: Duration, work: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce() -> T + Send + 'static,
{
    const STACK: usize = 16 << 20;
    let (told, answer) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            LEFT.with(|left| left.set(Some(bytes)));
            let counted = is_counted();
            let result = counted.then(work);
            LEFT.with(|left| left.set(None));
            // Where nobody waits any more there is nobody to tell.
            let _gone = told.send(result);
        });
    thread.ok()?;
    answer.recv_timeout(time).ok().flatten()
}

/// Whether allocations of this thread are counted.
fn is_counted() -> bool {
    let before = LEFT.with(Cell::get);
    let probe = std::hint::black_box(Box::new([0_u8; 64]));
    let after = LEFT.with(Cell::get);
    drop(probe);
    before != after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: Budgeted = Budgeted;

    const TIME: Duration = Duration::from_secs(20);

    #[test]
    fn work_within_its_budget_is_done() {
        let sum = within(1 << 20, TIME, || {
            (0..1000_u64).collect::<Vec<_>>().iter().sum()
        });
        assert_eq!(sum, Some(499_500_u64));
        // What is given back may be taken again.
        let rounds = || (0..100).map(|_| vec![1_u8; 600_000].len()).sum::<usize>();
        assert_eq!(within(1 << 20, TIME, rounds), Some(60_000_000));
    }

    #[test]
    fn work_beyond_its_budget_comes_to_nothing() {
        let doubled = || {
            let mut text = "ab".to_owned();
            for _ in 0..40 {
                text = text.clone() + &text;
            }
            text.len()
        };
        assert_eq!(within(1 << 20, Duration::from_millis(500), doubled), None);
        let panics = || -> usize { panic!("as a test of panics does") };
        assert_eq!(within(1 << 20, TIME, panics), None);
    }

    #[test]
    fn slow_work_is_not_waited_for() {
        let slow = || std::thread::sleep(Duration::from_secs(60));
        assert_eq!(within(1 << 20, Duration::from_millis(50), slow), None);
    }
}
