//! One budget of threads and memory over all models that are worked on.

use std::sync::{Mutex, PoisonError};

/// What is free.
#[derive(Debug)]
pub(crate) struct Budget(Mutex<Free>);

#[derive(Debug)]
struct Free {
    threads: usize,
    memory: u64,
    /// Workers without a model.
    idle: usize,
}

/// What one model may use until it is given back.
#[derive(Debug)]
pub(crate) struct Share<'a> {
    pub(crate) threads: usize,
    pub(crate) memory: u64,
    /// Threads that were really taken: with more workers than threads, some work on none's account.
    taken: usize,
    budget: &'a Budget,
}

impl Budget {
    pub(crate) fn new(threads: usize, memory: u64, jobs: usize) -> Self {
        let idle = jobs.max(1);
        Self(Mutex::new(Free {
            threads,
            memory,
            idle,
        }))
    }

    /// A share of what is free: even among the workers that will have a model, so that the last
    /// models of a run get what the others no longer need. `left` counts the models not begun, this
    /// one too.
    pub(crate) fn take(&self, left: usize) -> Share<'_> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sharers = free.idle.min(left).max(1);
        let taken = free.threads.div_ceil(sharers);
        let memory = free.memory / sharers as u64;
        free.threads -= taken;
        free.memory -= memory;
        free.idle = free.idle.saturating_sub(1);
        Share {
            threads: taken.max(1),
            memory,
            taken,
            budget: self,
        }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut free = self.budget.0.lock().unwrap_or_else(PoisonError::into_inner);
        free.threads += self.taken;
        free.memory += self.memory;
        free.idle += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_exceed_the_whole() {
        let budget = Budget::new(8, 1000, 4);
        let shares: Vec<_> = (0..4).map(|i| budget.take(10 - i)).collect();
        assert!(
            shares
                .iter()
                .all(|share| share.threads == 2 && share.memory == 250)
        );
        drop(shares);
        let last = budget.take(1);
        assert_eq!((last.threads, last.memory), (8, 1000));
    }

    #[test]
    fn more_workers_than_threads_still_work() {
        let budget = Budget::new(2, 100, 8);
        let shares: Vec<_> = (0..8).map(|_| budget.take(100)).collect();
        assert!(shares.iter().all(|share| share.threads == 1));
        assert!(shares.iter().map(|share| share.memory).sum::<u64>() <= 100);
        assert_eq!(shares.iter().map(|share| share.taken).sum::<usize>(), 2);
    }
}
