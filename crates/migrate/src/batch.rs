//! Models that wait together: whoever waits for the disk takes all that came meanwhile.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Most models that wait at a time: a kill loses no more work than theirs.
pub(crate) const MODELS_MAX: usize = 64;
/// Bytes they may have together, so that a disk which is slower than the conversion holds it back.
const BYTES_MAX: u64 = 512 << 20;

/// The ones that wait.
pub(crate) struct Batch<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: Vec<T>,
    bytes: u64,
    closed: bool,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        let state = State {
            waiting: Vec::new(),
            bytes: 0,
            closed: false,
        };
        Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }
}

impl<T> Batch<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, as soon as there is room. After [`Batch::close`] it comes back.
    pub(crate) fn add(&self, one: T, bytes: u64) -> Option<T> {
        let mut state = self.lock();
        let full = |state: &State<T>| {
            let bytes = state.bytes.saturating_add(bytes);
            !state.waiting.is_empty() && (state.waiting.len() >= MODELS_MAX || bytes > BYTES_MAX)
        };
        while !state.closed && full(&state) {
            state = self.wait(state);
        }
        if state.closed {
            return Some(one);
        }
        state.bytes = state.bytes.saturating_add(bytes);
        state.waiting.push(one);
        self.changed.notify_all();
        None
    }

    /// No more will come.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// All that wait, as soon as one does; none when no more will come.
    pub(crate) fn take(&self) -> Option<Vec<T>> {
        let mut state = self.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            state = self.wait(state);
        }
        state.bytes = 0;
        let all = std::mem::take(&mut state.waiting);
        self.changed.notify_all();
        Some(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_came_are_taken_together() {
        let batch = Batch::default();
        for n in 0..3 {
            assert_eq!(batch.add(n, 1), None);
        }
        assert_eq!(batch.take(), Some(vec![0, 1, 2]));
        assert_eq!(batch.add(3, u64::MAX), None);
        batch.close();
        assert_eq!(batch.add(4, 1), Some(4));
        assert_eq!(batch.take(), Some(vec![3]));
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn the_fast_wait_for_the_slow() {
        let batch = Batch::default();
        let mut taken = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..1000 {
                    assert_eq!(batch.add(n, 1 << 20), None);
                }
                batch.close();
            });
            while let Some(all) = batch.take() {
                assert!(all.len() <= MODELS_MAX);
                taken += all.len();
            }
        });
        assert_eq!(taken, 1000);
    }
}
