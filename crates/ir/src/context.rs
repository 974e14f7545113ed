//! What is handed down to readers and writers.

use crate::{Class, DType, Fault, Input, Limits, Model, Places, Pump, Result, SerialPump};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Everything a reader or writer may need from above.
#[derive(Clone)]
pub struct Context {
    /// Caps on what an input may ask for.
    pub limits: Limits,
    /// What to read of it.
    pub read: ReadOptions,
    /// How to write.
    pub write: WriteOptions,
    /// Who hears how far it got.
    pub progress: Arc<dyn Progress>,
    /// Who moves the bytes.
    pub pump: Arc<dyn Pump>,
    /// Set when the user wants it to stop.
    pub cancel: Cancel,
    /// Opens other files by the registry: shards of a set.
    pub open: Option<Arc<dyn Open>>,
    /// Who opens and lists what a name stands for.
    pub places: Places,
    /// Where unpacked entries may be put; they are removed when the model is dropped.
    pub scratch: PathBuf,
}

impl Default for Context {
    /// Defaults for tests: default limits, a serial pump, no progress.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            read: ReadOptions::default(),
            write: WriteOptions::default(),
            progress: Arc::new(Silent),
            pump: Arc::new(SerialPump),
            cancel: Cancel::default(),
            open: None,
            places: Places::default(),
            scratch: std::env::temp_dir(),
        }
    }
}

/// What to take from an input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// A dotted path to the subtree that holds the tensors.
    pub key: Option<String>,
    /// Take every tensor, under its full path.
    pub all: bool,
    /// Take what is there of a set that is not whole, each thing that is missing a loss.
    pub partial: bool,
}

/// How to write an output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteOptions {
    /// Begin a new shard before one would grow beyond this many bytes of tensors.
    pub shard_size: Option<u64>,
    /// Begin a new shard after this many tensors. Only GGUF counts tensors.
    pub shard_tensors: Option<u64>,
    /// Leave the first shard without tensors, so that it is small and holds all metadata. Only GGUF
    /// has such sets.
    pub shard_empty_first: bool,
    /// How many tensors each shard holds, one after the other: a split that is kept. Empty for
    /// any other.
    pub shard_counts: Vec<u64>,
    /// Put tensors into files beside the model, where the format can: ONNX.
    pub external_data: bool,
    /// Leave tensors in the files they are in, and point there, where the format can: ONNX.
    pub external_into: bool,
    /// The output is the model of a repository: files beside it are named as those who load
    /// repositories look for them.
    pub repository: bool,
    /// The element type tensors are asked to have; for naming only, the passes cast.
    pub dtype: Option<DType>,
}

/// Hears how far a long work got. Called from many threads.
pub trait Progress: Send + Sync {
    /// A work of `bytes` bytes begins; `what` names it.
    fn begin(&self, what: &str, bytes: u64);
    /// So many more bytes are done.
    fn advance(&self, bytes: u64);
    /// The work is done.
    fn end(&self);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn end(&self) {}
}

/// A flag that asks running work to stop.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A flag over an atomic that someone else sets: a signal handler.
    pub fn from_flag(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }

    /// Asks to stop.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// An error of class [`Class::Interrupted`] once someone asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            debug_assert_eq!(
                crate::Diagnose::class(&Fault::Interrupted),
                Class::Interrupted
            );
            return Err(Fault::Interrupted.into());
        }
        Ok(())
    }
}

/// Opens any file of a known format.
pub trait Open: Send + Sync {
    /// Opens `input` by what it holds.
    fn open(&self, input: &Input, cx: &Context) -> Result<Model>;
}
