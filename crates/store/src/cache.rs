//! Spans of objects that were read, or are being read, within one bound of memory.

use crate::StoreError;
use crate::io::{Io, LOOK};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// A span of an object: on its way, here, or failed.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Which object.
    source: u64,
    pub(crate) start: u64,
    pub(crate) end: u64,
    state: Mutex<Option<Result<Bytes, StoreError>>>,
    ready: Condvar,
}

impl Segment {
    pub(crate) fn new(source: u64, start: u64, end: u64) -> Self {
        Self {
            source,
            start,
            end,
            state: Mutex::default(),
            ready: Condvar::new(),
        }
    }

    /// The answer is here.
    pub(crate) fn fill(&self, answer: Result<Bytes, StoreError>) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        self.ready.notify_all();
    }

    /// Waits for the bytes.
    pub(crate) fn wait(&self, io: &Io) -> Result<Bytes, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*state {
                return answer.clone();
            }
            io.check()?;
            let waited = self.ready.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// The segments of all objects, the one used last at the end.
#[derive(Debug)]
pub(crate) struct Cache {
    segments: Mutex<VecDeque<Arc<Segment>>>,
    pub(crate) cap: u64,
}

impl Cache {
    pub(crate) fn new(cap: u64) -> Self {
        Self {
            segments: Mutex::default(),
            cap,
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut VecDeque<Arc<Segment>>) -> T) -> T {
        act(&mut self.segments.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The segment that holds a byte.
    pub(crate) fn find(&self, source: u64, at: u64) -> Option<Arc<Segment>> {
        self.with(|segments| {
            let holds = |s: &Arc<Segment>| s.source == source && s.start <= at && at < s.end;
            let index = segments.iter().position(holds)?;
            let segment = segments.remove(index)?;
            segments.push_back(Arc::clone(&segment));
            Some(segment)
        })
    }

    /// Takes a segment in, and lets go of those used longest ago until all fit.
    pub(crate) fn add(&self, segment: Arc<Segment>) {
        self.with(|segments| {
            let mut held: u64 = segments.iter().map(|s| s.len()).sum();
            while held.saturating_add(segment.len()) > self.cap {
                let Some(oldest) = segments.pop_front() else {
                    break;
                };
                held -= oldest.len();
            }
            segments.push_back(segment);
        });
    }

    /// Forgets a segment, so that a failure is not for ever.
    pub(crate) fn forget(&self, segment: &Arc<Segment>) {
        self.with(|segments| segments.retain(|other| !Arc::ptr_eq(other, segment)));
    }

    /// Forgets an object.
    pub(crate) fn forget_source(&self, source: u64) {
        self.with(|segments| segments.retain(|other| other.source != source));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_kept() {
        let cache = Cache::new(100);
        for n in 0..10 {
            cache.add(Arc::new(Segment::new(1, n * 30, n * 30 + 30)));
            assert!(cache.find(1, n * 30).is_some());
            let held: u64 = cache.with(|all| all.iter().map(|s| s.len()).sum());
            assert!(held <= 100);
        }
        assert!(cache.find(1, 0).is_none() && cache.find(2, 285).is_none());
        cache.forget_source(1);
        assert!(cache.find(1, 285).is_none());
    }
}
