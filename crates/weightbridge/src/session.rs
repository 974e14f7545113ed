//! What one run of the program shares: threads, memory, progress, limits.

use convert::ParallelPump;
use ir::{Cancel, Context, Limits, Places, Progress, ReadOptions, Result, Silent, WriteOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes of buffers when nothing else is said.
const DEFAULT_MEMORY: u64 = 256 << 20;

/// Settings that every command shares.
#[derive(Clone)]
pub struct Session {
    /// Worker threads; 0 for one a core.
    pub threads: usize,
    /// Upper bound of all buffers, in bytes.
    pub memory: u64,
    /// Caps on what inputs may ask for.
    pub limits: Limits,
    /// Who hears how far it got.
    pub progress: Arc<dyn Progress>,
    /// Set when the user wants it to stop.
    pub cancel: Cancel,
    /// Where files may be: this machine's folders, and object storage (see [`crate::storage`]).
    pub places: Places,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            threads: 0,
            memory: DEFAULT_MEMORY,
            limits: Limits::default(),
            progress: Arc::new(Silent),
            cancel: Cancel::default(),
            places: Places::default(),
        }
    }
}

impl Session {
    /// The pump of this session.
    pub(crate) fn pump(&self) -> Result<Arc<ParallelPump>> {
        Ok(Arc::new(ParallelPump::new(self.threads, self.memory)?))
    }

    /// The context for opening inputs only: no thread is started.
    pub(crate) fn reading(&self, read: ReadOptions) -> Context {
        Context {
            limits: self.limits.clone(),
            read,
            progress: Arc::clone(&self.progress),
            cancel: self.cancel.clone(),
            open: Some(Arc::new(crate::open::ByContent)),
            places: self.places.clone(),
            ..Context::default()
        }
    }

    /// The context for a whole conversion; entries are unpacked beside the output, where the room
    /// is that the output needs anyway.
    pub(crate) fn converting(
        &self,
        read: ReadOptions,
        write: WriteOptions,
        pump: &Arc<ParallelPump>,
        output: &Path,
    ) -> Context {
        let folder = output.parent().filter(|parent| parent.is_dir());
        let scratch = folder.map_or_else(std::env::temp_dir, Path::to_owned);
        Context {
            write,
            pump: Arc::clone(pump) as _,
            scratch,
            ..self.reading(read)
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("threads", &self.threads)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

/// Of the memory allowed, what requests to a storage may take.
#[cfg(feature = "cloud")]
const STORAGE_SHARE: u64 = 4;

/// This machine's folders, and object storage beside them where the program was built with it;
/// credentials and endpoints come from the environment. `memory` is what a [`Session`] has.
pub fn storage(memory: u64, cancel: &Cancel) -> Places {
    #[cfg(feature = "cloud")]
    {
        let options = store::Options {
            memory: memory / STORAGE_SHARE,
            cancel: cancel.clone(),
            ..store::Options::default()
        };
        Places::with(Arc::new(store::Store::new(options)))
    }
    #[cfg(not(feature = "cloud"))]
    {
        let _ = (memory, cancel);
        Places::default()
    }
}

/// A path as people write it: `PathBuf` from anything that is one.
pub(crate) fn path(path: impl AsRef<Path>) -> PathBuf {
    path.as_ref().to_owned()
}
