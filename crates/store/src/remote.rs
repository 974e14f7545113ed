//! The face: names to kinds, listings, sources and uploads.

use crate::StoreError;
use crate::address::{Address, Scheme, safe_name, safe_relative, scheme_of};
use crate::backend::Backend;
use crate::cache::Cache;
use crate::io::Io;
use crate::raw::Listed;
use crate::source::{Object, Version};
use crate::upload::Upload;
use futures_util::TryStreamExt;
use ir::{Cancel, Kind, Limits, Listing, Region, Remote, Result, Stat, Walked};
use object_store::{GetOptions, ObjectMeta};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// How much the storage may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of buffers: half for reads, half for the uploads that are under way.
    pub memory: u64,
    /// Requests under way at a time.
    pub requests: usize,
    /// Set when the user wants it to stop.
    pub cancel: Cancel,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            requests: 8,
            cancel: Cancel::default(),
        }
    }
}

/// Object storage as a place for files. Makes nothing, and starts no thread, before the first name.
#[derive(Debug)]
pub struct Store {
    options: Options,
    cache: Arc<Cache>,
    io: OnceLock<Result<Arc<Io>, StoreError>>,
    /// Held once by each upload under way.
    uploads: Arc<()>,
    backends: Mutex<HashMap<(Scheme, String), Backend>>,
}

impl Store {
    /// The storage that the environment has the credentials of.
    pub fn new(options: Options) -> Self {
        Self {
            cache: Arc::new(Cache::new(options.memory / 2)),
            options,
            io: OnceLock::new(),
            uploads: Arc::default(),
            backends: Mutex::default(),
        }
    }

    pub(crate) fn io(&self) -> Result<&Arc<Io>, StoreError> {
        let make = || Io::new(self.options.requests, self.options.cancel.clone()).map(Arc::new);
        self.io.get_or_init(make).as_ref().map_err(Clone::clone)
    }

    pub(crate) fn backend(&self, address: &Address) -> Result<Backend, StoreError> {
        let key = (address.scheme, address.bucket.clone());
        let mut backends = self.backends.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(backend) = backends.get(&key) {
            return Ok(backend.clone());
        }
        let backend = Backend::connect(address)?;
        backends.insert(key, backend.clone());
        Ok(backend)
    }

    /// Puts a bucket of a test in place.
    #[cfg(test)]
    pub(crate) fn with_bucket(self, scheme: Scheme, bucket: &str, backend: Backend) -> Self {
        let mut backends = self.backends.lock().unwrap();
        backends.insert((scheme, bucket.to_owned()), backend);
        drop(backends);
        self
    }

    /// What is known of an object.
    pub(crate) fn head(&self, address: &Address) -> Result<ObjectMeta, StoreError> {
        if address.key.is_root() {
            return Err(StoreError::Missing);
        }
        let backend = self.backend(address)?;
        let io = self.io()?;
        io.wait(io.spawner().again(|| async {
            let head = GetOptions::new().with_head(true);
            let answer = backend.objects.get_opts(&address.key, head).await;
            answer.map(|found| found.meta).map_err(StoreError::from)
        }))
    }

    fn kind_of(&self, address: &Address) -> Result<Kind, StoreError> {
        if !address.folder {
            match self.head(address) {
                Ok(_) => return Ok(Kind::File),
                Err(StoreError::Missing) => {}
                Err(error) => return Err(error),
            }
        }
        let backend = self.backend(address)?;
        if !backend.lists {
            return Ok(Kind::Missing);
        }
        let io = self.io()?;
        let first = io.wait(io.spawner().again(|| async {
            let mut names = backend.objects.list(Some(&address.key));
            names.try_next().await.map_err(StoreError::from)
        }));
        match first {
            Ok(None) => Ok(Kind::Missing),
            // A key that is no path stands for something all the same.
            Ok(Some(_)) | Err(StoreError::Key(_)) => Ok(Kind::Folder),
            Err(error) => Err(error),
        }
    }

    fn names(&self, address: &Address) -> Result<Listing, StoreError> {
        let backend = self.listing(address)?;
        let io = self.io()?;
        let answer = io.wait(io.spawner().again(|| async {
            let listed = backend.objects.list_with_delimiter(Some(&address.key));
            listed.await.map_err(StoreError::from)
        }))?;
        let mut listing = Listing::default();
        let files = answer
            .objects
            .iter()
            .map(|meta| (&meta.location, Kind::File));
        let folders = answer.common_prefixes.iter().map(|key| (key, Kind::Folder));
        for (key, kind) in files.chain(folders) {
            // A marker of the folder itself is no name in it.
            if *key == address.key {
                continue;
            }
            match key.filename().filter(|name| safe_name(name)) {
                Some(name) => listing.names.push((name.to_owned(), Some(kind))),
                None => listing.unusable += 1,
            }
        }
        Ok(listing)
    }

    /// All objects below a prefix, page by page: those whose keys can be paths here, and the keys
    /// of the others.
    fn below(
        &self,
        address: &Address,
        limit: u64,
    ) -> Result<(Vec<Listed>, Vec<String>), StoreError> {
        let backend = self.listing(address)?;
        let io = self.io()?;
        let listed = io.wait(io.spawner().again(|| async {
            let mut names = backend.objects.list(Some(&address.key));
            let mut found: Vec<Listed> = Vec::new();
            while let Some(meta) = names.try_next().await? {
                found.push((meta.location.to_string(), meta.size));
                if found.len() as u64 > limit {
                    break;
                }
            }
            Ok(found)
        }));
        let folder = match address.key.as_ref() {
            "" => String::new(),
            key => format!("{key}/"),
        };
        let listed = match (listed, &backend.raw) {
            // One key that is no path keeps the library from naming any.
            (Err(StoreError::Key(_)), Some(raw)) => {
                io.wait(io.spawner().again(|| raw.keys(&folder, limit)))?
            }
            (listed, _) => listed?,
        };
        let (mut files, mut unusable) = (Vec::new(), Vec::new());
        for (key, size) in listed {
            let below = key.strip_prefix(&folder).unwrap_or_default();
            // The empty object by which consoles show a folder.
            let marker = below.is_empty() || (below.ends_with('/') && size == 0);
            if safe_relative(below).is_some() {
                files.push((below.to_owned(), size));
            } else if !marker {
                unusable.push(below.to_owned());
            }
        }
        files.sort_unstable();
        unusable.sort_unstable();
        // The library takes the slash from the end of a marker.
        let folders: HashSet<String> = (files.iter())
            .flat_map(|(key, _)| key.match_indices('/').map(|(at, _)| key[..at].to_owned()))
            .collect();
        files.retain(|(key, size)| *size > 0 || !folders.contains(key));
        Ok((files, unusable))
    }

    fn listing(&self, address: &Address) -> Result<Backend, StoreError> {
        let backend = self.backend(address)?;
        if !backend.lists {
            let what = "files behind http cannot be listed; name one file";
            return Err(StoreError::Cannot(what.to_owned()));
        }
        Ok(backend)
    }
}

impl Remote for Store {
    fn knows(&self, path: &Path) -> bool {
        path.to_str().is_some_and(|text| scheme_of(text).is_some())
    }

    fn kind(&self, path: &Path) -> Result<Kind> {
        let kind = Address::parse(path).and_then(|address| self.kind_of(&address));
        kind.map_err(|error| error.about(path))
    }

    fn stat(&self, path: &Path) -> Result<Stat> {
        let meta = Address::parse(path).and_then(|address| self.head(&address));
        let meta = meta.map_err(|error| error.about(path))?;
        let modified = i128::from(meta.last_modified.timestamp()) * 1_000_000_000;
        Ok(Stat {
            len: meta.size,
            modified: modified + i128::from(meta.last_modified.timestamp_subsec_nanos()),
            tag: meta.e_tag,
        })
    }

    fn open(&self, path: &Path) -> Result<Region> {
        let open = || {
            let address = Address::parse(path)?;
            let version = Version::of(&self.head(&address)?);
            let (io, cache) = (Arc::clone(self.io()?), Arc::clone(&self.cache));
            let backend = self.backend(&address)?;
            Ok(Object::new(io, cache, backend, address.key, path, version))
        };
        let object = open().map_err(|error: StoreError| error.about(path))?;
        Ok(Region::new(Arc::new(object)))
    }

    fn list(&self, folder: &Path, limit: u64) -> Result<Listing> {
        let listing = Address::parse(folder).and_then(|address| self.names(&address));
        let listing = listing.map_err(|error| error.about(folder))?;
        Limits::check("files in the folder", listing.names.len() as u64, limit)
            .map_err(|error| error.in_file(folder))?;
        Ok(listing)
    }

    fn walk(&self, folder: &Path, limit: u64) -> Result<Walked> {
        let found = Address::parse(folder).and_then(|address| self.below(&address, limit));
        let (files, unusable) = found.map_err(|error| error.about(folder))?;
        Limits::check("files below the folder", files.len() as u64, limit)
            .map_err(|error| error.in_file(folder))?;
        let files = files.into_iter();
        Ok(Walked {
            files: files.map(|(key, size)| (folder.join(key), size)).collect(),
            unusable,
        })
    }

    fn create(&self, path: &Path, overwrite: bool) -> Result<Box<dyn ir::Upload>> {
        let create = || {
            let address = Address::parse(path)?;
            let backend = self.backend(&address)?;
            let Some(parts) = backend.parts.clone() else {
                let what = "http is for reading; write to a file, s3, gs or az".to_owned();
                return Err(StoreError::Cannot(what));
            };
            if address.folder {
                return Err(StoreError::Name("it names no file to write"));
            }
            if !overwrite && self.head(&address).map_or_else(missing, |_| Ok(true))? {
                return Err(StoreError::Exists);
            }
            let live = Arc::clone(&self.uploads);
            // The more are under way, the less has each that begins.
            let sharers = (Arc::strong_count(&live) as u64).saturating_sub(1).max(1);
            let upload = Upload::new(
                Arc::clone(self.io()?),
                backend,
                parts,
                address.key,
                path,
                overwrite,
                self.options.memory / 2 / sharers,
            );
            Ok(upload.counted(live))
        };
        let upload = create().map_err(|error| error.about(path))?;
        Ok(Box::new(upload))
    }

    fn copy_new(&self, from: &Path, to: &Path) -> Result<()> {
        self.second_name(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        let removed = Address::parse(path).and_then(|address| self.delete(&address));
        removed.map_err(|error| error.about(path))
    }

    fn clear(&self, folder: &Path, files: &[PathBuf]) -> Result<()> {
        let cleared = Address::parse(folder).and_then(|address| self.clear_below(&address, files));
        cleared.map_err(|error| error.about(folder))
    }
}

/// Whether there is something, as far as an error tells.
fn missing(error: StoreError) -> Result<bool, StoreError> {
    match error {
        StoreError::Missing => Ok(false),
        other => Err(other),
    }
}
