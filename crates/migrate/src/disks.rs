//! Waiting for disks: once for many models where a file system can be synced as a whole, file by
//! file elsewhere.

use crate::journal::Made;
use crate::place::{self, Place};
use ir::{Error, Result};
use native::FileSystem;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file systems outputs are made on, by device; none where there is no syncing as a whole.
#[derive(Debug, Default)]
pub(crate) struct Disks(Mutex<BTreeMap<u64, Option<Arc<FileSystem>>>>);

impl Disks {
    /// The file system of a folder, opened when it is first asked for. A system tells of failed
    /// writes only whoever had it open before them: this is called before the first byte.
    pub(crate) fn watch(&self, folder: &Path) -> Result<Option<(u64, Arc<FileSystem>)>> {
        let open = || {
            let device = native::device_of(folder)?;
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let disk = match known.get(&device) {
                Some(disk) => disk.clone(),
                None => FileSystem::of(folder)?.map(Arc::new),
            };
            known.insert(device, disk.clone());
            Ok(disk.map(|disk| (device, disk)))
        };
        open().map_err(|source| Error::io("look at", folder, source))
    }

    /// A round of syncs, in which each file system has its turn once.
    pub(crate) fn round(&self) -> Round<'_> {
        Round {
            disks: self,
            done: BTreeMap::new(),
        }
    }
}

/// What was synced in a round, and what came of it.
pub(crate) struct Round<'a> {
    disks: &'a Disks,
    /// By device, the system's code where it failed.
    done: BTreeMap<u64, std::result::Result<(), i32>>,
}

impl Round<'_> {
    /// Makes everything below a folder last: bytes and names.
    pub(crate) fn sync_below(&mut self, folder: &Path) -> Result<()> {
        if self.whole(folder)? {
            return Ok(());
        }
        for entry in walkdir::WalkDir::new(folder) {
            let entry = entry.map_err(|error| {
                let source = error.into_io_error();
                Error::io(
                    "list",
                    folder,
                    source.unwrap_or_else(|| io::ErrorKind::Other.into()),
                )
            })?;
            sync_one(entry.path())?;
        }
        folder.parent().map_or(Ok(()), sync_one)
    }

    /// Makes the names of files last, and those of folders that may be new.
    pub(crate) fn sync_names(&mut self, files: &[Made], base: &Place) -> Result<()> {
        let mut folders: BTreeSet<&str> = BTreeSet::new();
        for file in files {
            let mut folder = place::parent(&file.path);
            while folders.insert(folder) && !folder.is_empty() {
                folder = place::parent(folder);
            }
        }
        let folders: Vec<PathBuf> = folders.into_iter().rev().map(|f| base.at(f)).collect();
        for folder in folders {
            if !self.whole(&folder)? {
                sync_one(&folder)?;
            }
        }
        Ok(())
    }

    /// Syncs the whole file system of a folder, where that can be done and was not yet.
    fn whole(&mut self, folder: &Path) -> Result<bool> {
        let Some((device, disk)) = self.disks.watch(folder)? else {
            return Ok(false);
        };
        let done = self.done.entry(device).or_insert_with(|| {
            let failed = |error: io::Error| error.raw_os_error().unwrap_or_default();
            disk.sync().map_err(failed)
        });
        done.map_err(|code| {
            Error::io(
                "sync the disk of",
                folder,
                io::Error::from_raw_os_error(code),
            )
        })?;
        Ok(true)
    }
}

fn sync_one(path: &Path) -> Result<()> {
    let done = if path.is_dir() {
        native::sync_folder(path)
    } else {
        File::open(path).and_then(|file| file.sync_all())
    };
    done.map_err(|source| Error::io("sync", path, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_is_synced() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
        std::fs::write(dir.path().join("a/b/c"), b"x").unwrap();
        let disks = Disks::default();
        disks.watch(dir.path()).unwrap();
        disks.round().sync_below(dir.path()).unwrap();
        // As on a file system without it.
        let device = native::device_of(dir.path()).unwrap();
        disks.0.lock().unwrap().insert(device, None);
        let mut round = disks.round();
        round.sync_below(dir.path()).unwrap();
        assert!(round.done.is_empty());
        assert!(round.sync_below(&dir.path().join("gone")).is_err());
    }
}
