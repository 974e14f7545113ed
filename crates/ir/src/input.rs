//! An input: a file or a folder.

use crate::{Error, Peek, Places, Region, Result};
use std::path::{Path, PathBuf};

const PEEK: usize = 64 << 10;
/// Names listed of a folder: enough to tell a model repository.
const PEEK_ENTRIES: usize = 4096;
/// Names read of a folder to list them: a limit of what a storage may make us hold.
const LISTED: u64 = 1_000_000;

/// A file that is open, or a folder.
#[derive(Clone, Debug)]
pub struct Input {
    path: PathBuf,
    region: Option<Region>,
    places: Places,
}

impl Input {
    /// Opens a path: a regular file is opened once, here, and read from that handle ever after.
    pub fn open(path: &Path) -> Result<Self> {
        let meta = std::fs::metadata(path).map_err(|source| Error::io("open", path, source))?;
        let region = if meta.is_dir() {
            None
        } else {
            Some(Region::open(path)?)
        };
        Ok(Self {
            path: path.to_owned(),
            region,
            places: Places::default(),
        })
    }

    /// Bytes under a name: what a stream was read into, an entry of an archive.
    pub fn from_region(path: impl Into<PathBuf>, region: Region) -> Self {
        Self {
            path: path.into(),
            region: Some(region),
            places: Places::default(),
        }
    }

    /// A folder by its name.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            region: None,
            places: Places::default(),
        }
    }

    /// The same input, listed by `places`.
    #[must_use]
    pub fn within(mut self, places: &Places) -> Self {
        self.places = places.clone();
        self
    }

    /// The same input, with other bytes in place of a file's.
    #[must_use]
    pub(crate) fn map(mut self, other: impl FnOnce(Region) -> Region) -> Self {
        self.region = self.region.map(other);
        self
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its bytes, unless it is a folder.
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }

    /// Its bytes; a folder is an error.
    pub fn file(&self) -> Result<&Region> {
        self.region.as_ref().ok_or_else(|| {
            Error::from(crate::Fault::Unsupported {
                what: "a folder, not a file".to_owned(),
            })
            .in_file(&self.path)
        })
    }

    /// Another file of the same folder.
    pub fn sibling(&self, name: &str) -> PathBuf {
        if self.region.is_none() {
            self.path.join(name)
        } else {
            self.path.with_file_name(name)
        }
    }

    /// What probes look at.
    pub fn peek(&self) -> Result<Peek> {
        let name = self.path.to_string_lossy().into_owned();
        let mut peek = Peek {
            name,
            head: Vec::new(),
            tail: Vec::new(),
            len: 0,
            entries: Vec::new(),
            region: self.region.clone(),
        };
        if let Some(region) = &self.region {
            let len = usize::try_from(region.len())
                .unwrap_or(usize::MAX)
                .min(PEEK);
            peek.len = region.len();
            peek.head = region.bytes(0, len)?.to_vec();
            peek.tail = region.bytes(region.len() - len as u64, len)?.to_vec();
        } else {
            let listing = self.places.list(&self.path, LISTED)?;
            let names = listing.names.into_iter().map(|(name, _)| name);
            peek.entries = names.take(PEEK_ENTRIES).collect();
            peek.entries.sort();
        }
        Ok(peek)
    }
}
