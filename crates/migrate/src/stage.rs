//! Where a model's outputs are made: a hidden folder beside their final place, so that giving them
//! their names is a rename, or in a storage a copy. Who holds the lock may touch it; whatever a dead
//! run left there is taken away by the next that holds it.
//!
//! In a folder the lock is inside. A storage has no locks that end with their holder: there it is in
//! the journal, and the stage is named after the journal, so that runs with another journal never
//! touch it. What they could both name, only one of them does: names are given where nothing has
//! them.

use crate::journal::{Journal, Made};
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
    folder: Place,
    lock: Option<Lock>,
    /// The destination. Above it, empty folders are none of this model's business.
    base: Place,
    /// Files that were to get their names: uploads to them may be unfinished.
    named: Vec<PathBuf>,
    /// In a storage: whether something may be there.
    used: bool,
}

impl Stage {
    /// Takes the stage of a line's outputs; none where another run has it.
    pub(crate) fn take(line: &Line, base: &Place, journal: &Journal) -> Result<Option<Self>> {
        let (folder, lock) = if base.is_local() {
            let folder = folder(line, base, "");
            let lock = folder.at("lock");
            (folder, lock)
        } else {
            let folder = folder(line, base, &journal.token()?);
            let lock = journal.lock_of(place::name(&folder.to_string()));
            (folder, lock)
        };
        let lock = match Lock::take(&lock) {
            Ok(Some(lock)) => lock,
            Ok(None) => return Ok(None),
            Err(error) => {
                if base.is_local() {
                    // Not even the folder could be filled: an empty one must not stay.
                    let _ = fs::remove_dir(folder.path());
                    prune(folder.path(), base.path());
                }
                return Err(error);
            }
        };
        Ok(Some(Self {
            folder,
            lock: Some(lock),
            base: base.clone(),
            named: Vec::new(),
            used: false,
        }))
    }

    /// Takes away the stage of a line that is done, which a run that was killed just then left. In
    /// a storage it is taken away before the line counts as done.
    pub(crate) fn sweep(line: &Line, base: &Place, journal: &Journal) -> Result<()> {
        if base.is_local() && folder(line, base, "").path().exists() {
            drop(Self::take(line, base, journal)?);
        }
        Ok(())
    }

    /// Where outputs are made, under their paths from the destination.
    pub(crate) fn out(&self) -> Place {
        self.folder.below("out")
    }

    /// The folder itself, which is there as long as the lock is held.
    pub(crate) fn lock_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Says that something will be there, and perhaps uploads under the names of `files`.
    pub(crate) fn used(&mut self, files: &[Made]) {
        self.used = true;
        self.named = files.iter().map(|file| self.base.at(&file.path)).collect();
    }

    /// Takes away what an earlier attempt left.
    pub(crate) fn clear(&self) -> Result<()> {
        let out = self.out();
        if let Some(remote) = self.folder.remote() {
            return remote.clear(self.folder.path(), &self.named);
        }
        match fs::remove_dir_all(out.path()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("clear", out.path(), error))
            }
            _ => Ok(()),
        }
    }

    /// Takes away what a storage holds of it. In a folder, that is done when the lock is given back.
    pub(crate) fn clear_storage(&mut self) -> Result<()> {
        if !self.base.is_local() && self.used {
            self.clear()?;
            self.used = false;
        }
        Ok(())
    }
}

fn folder(line: &Line, base: &Place, token: &str) -> Place {
    let id = line.id();
    let name = format!("{PREFIX}{}", digest::short(&format!("{id}{token}")));
    base.below(&place::join(place::parent(&id), &name))
}

impl Drop for Stage {
    fn drop(&mut self) {
        let local = self.base.is_local();
        if local {
            let _ = fs::remove_dir_all(self.out().path());
        } else {
            // What stays now, the next run takes away: the journal knows that this began.
            let _ = self.clear_storage();
        }
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
        if local {
            let _ = fs::remove_dir(self.folder.path());
            prune(self.folder.path(), self.base.path());
        }
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
