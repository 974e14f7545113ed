//! Who hears how far a run got.

use ir::Progress;
use std::sync::Arc;

/// Hears how far a run got. Called from many threads; `worker` counts from 0.
pub trait Observer: Send + Sync {
    /// A run over so many models and bytes of outputs begins.
    fn begin(&self, models: u64, bytes: u64);
    /// A worker takes a model.
    fn started(&self, worker: usize, model: &str, bytes: u64);
    /// A worker begins something of so many bytes: `writing`, `comparing`.
    fn step(&self, worker: usize, step: &str, bytes: u64);
    /// A worker did so many bytes of it.
    fn advance(&self, worker: usize, bytes: u64);
    /// A worker is through with its part of a model, which may still wait for the disk.
    fn idle(&self, worker: usize);
    /// Another run has a model in work; it is looked at again later.
    fn waiting(&self, model: &str);
    /// A model is at its end; with what went wrong, where something did.
    fn finished(&self, model: &str, failure: Option<&str>);
    /// The run is over.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn begin(&self, _: u64, _: u64) {}
    fn started(&self, _: usize, _: &str, _: u64) {}
    fn step(&self, _: usize, _: &str, _: u64) {}
    fn advance(&self, _: usize, _: u64) {}
    fn idle(&self, _: usize) {}
    fn waiting(&self, _: &str) {}
    fn finished(&self, _: &str, _: Option<&str>) {}
    fn end(&self) {}
}

/// The progress of one conversion, as one worker's.
pub(crate) struct OfWorker {
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) worker: usize,
}

impl Progress for OfWorker {
    fn begin(&self, what: &str, bytes: u64) {
        self.observer.step(self.worker, what, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.observer.advance(self.worker, bytes);
    }

    fn end(&self) {}
}
