//! One holder at a time, by the operating system's lock on a file: gone with its process, however
//! that ends.

use crate::MigrateError;
use ir::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Times a lock file may be taken away under the hands of one who wants it.
const TRIES: usize = 100;

/// A lock that is held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock that a file stands for, making the file and the folder it is in; none where
    /// another holds it.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>> {
        let failed = |source| Error::io("lock", path, source);
        for _ in 0..TRIES {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)
                    .map_err(|source| Error::io("create the folder", folder, source))?;
            }
            let file = match OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
            {
                Ok(file) => file,
                // Its last holder took the folder away in between.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failed(error)),
            };
            match fs4::FileExt::try_lock(&file) {
                Ok(()) => {}
                Err(fs4::TryLockError::WouldBlock) => return Ok(None),
                Err(fs4::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // The last holder removes the file: a lock on one without a name holds nobody off.
            if is_still(&file, path) {
                return Ok(Some(Self {
                    file,
                    path: path.to_owned(),
                }));
            }
        }
        Err(Error::from(MigrateError::LockLost).in_file(path))
    }

    /// Gives the lock back and takes its file away.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(&self.path);
        drop(self.file);
        if let Some(folder) = self.path.parent() {
            // Only where it was the last.
            let _ = fs::remove_dir(folder);
        }
    }
}

#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_still(_: &File, path: &Path) -> bool {
    path.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/lock");
        let held = Lock::take(&path).unwrap().unwrap();
        assert!(Lock::take(&path).unwrap().is_none());
        held.remove();
        assert!(!path.exists());
        let again = Lock::take(&path).unwrap().unwrap();
        drop(again);
        // As after a kill: the file stays, the lock does not.
        assert!(path.exists() && Lock::take(&path).unwrap().is_some());
    }
}
