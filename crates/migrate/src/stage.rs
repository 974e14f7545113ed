//! Where a model's outputs are made: a hidden folder beside their final place, so that giving them
//! their names is a rename. Who holds the lock inside may touch it; whatever a dead run left there
//! is taken away by the next that holds it.

use crate::lock::Lock;
use crate::place::{self, Place};
use crate::{Line, digest};
use ir::{Error, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Beginning of the folders' names.
const PREFIX: &str = ".weightbridge-";

/// Whether a folder is one of these.
pub(crate) fn is_stage(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The folder, and the lock on it.
#[derive(Debug)]
pub(crate) struct Stage {
    folder: PathBuf,
    lock: Option<Lock>,
    /// Where empty folders above are no longer this model's.
    base: PathBuf,
}

impl Stage {
    /// Takes the stage of a line's outputs; none where another run has it.
    pub(crate) fn take(line: &Line, base: &Place) -> Result<Option<Self>> {
        let folder = folder(line, base);
        let lock = match Lock::take(&folder.join("lock")) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            Err(error) => {
                // Not even the folder could be filled: an empty one must not stay.
                let _ = fs::remove_dir(&folder);
                prune(&folder, base.folder());
                return Err(error);
            }
        };
        Ok(Some(Self {
            folder,
            lock: Some(lock),
            base: base.folder().to_owned(),
        }))
    }

    /// Takes away the stage of a line that is done, which a run that was killed just then left.
    pub(crate) fn sweep(line: &Line, base: &Place) -> Result<()> {
        if folder(line, base).exists() {
            drop(Self::take(line, base)?);
        }
        Ok(())
    }

    /// Where outputs are made, under their paths from the destination.
    pub(crate) fn out(&self) -> PathBuf {
        self.folder.join("out")
    }

    /// Takes away what an earlier attempt left.
    pub(crate) fn clear(&self) -> Result<()> {
        let out = self.out();
        match fs::remove_dir_all(&out) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("clear", out, error))
            }
            _ => Ok(()),
        }
    }
}

fn folder(line: &Line, base: &Place) -> PathBuf {
    let id = line.id();
    base.at(place::parent(&id))
        .join(format!("{PREFIX}{}", digest::short(&id)))
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(self.out());
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
        let _ = fs::remove_dir(&self.folder);
        prune(&self.folder, &self.base);
    }
}

/// Takes away the folders above that are empty, up to the destination, which stays.
fn prune(folder: &Path, base: &Path) {
    let above = folder.ancestors().skip(1);
    for folder in above.take_while(|folder| folder.starts_with(base) && *folder != base) {
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
}
