//! Removing originals: only what a verified output was made from, only while it is as it was then,
//! and only when no other line still needs it.

use crate::journal::{Event, Journal, Verified};
use crate::place::Place;
use crate::{Line, MigrateError, steps};
use ir::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use weightbridge::Session;

/// Which lines need which input.
#[derive(Debug)]
pub(crate) struct Needs {
    /// Lines by root and input.
    by_input: BTreeMap<(String, String), Vec<usize>>,
    done: Vec<AtomicBool>,
}

impl Needs {
    /// The needs of all lines that convert or copy something.
    pub(crate) fn of(lines: &[(usize, Line)]) -> Self {
        let mut by_input: BTreeMap<(String, String), Vec<usize>> = BTreeMap::new();
        for (index, (_, line)) in lines.iter().enumerate() {
            if line.action == crate::Action::Leave {
                continue;
            }
            let inputs = line.inputs.iter().map(|file| &file.path);
            for path in inputs.chain(&line.side) {
                by_input
                    .entry((line.root.clone(), path.clone()))
                    .or_default()
                    .push(index);
            }
        }
        Self {
            by_input,
            done: lines.iter().map(|_| AtomicBool::new(false)).collect(),
        }
    }

    /// Notes that a line is done.
    pub(crate) fn done(&self, index: usize) {
        if let Some(flag) = self.done.get(index) {
            flag.store(true, Ordering::SeqCst);
        }
    }

    fn is_free(&self, root: &str, path: &str) -> bool {
        let needed = self.by_input.get(&(root.to_owned(), path.to_owned()));
        needed.into_iter().flatten().all(|index| {
            self.done
                .get(*index)
                .is_some_and(|flag| flag.load(Ordering::SeqCst))
        })
    }
}

/// Removes the originals of a line that is done and answers how many bytes that freed. With
/// `look`, its outputs are digested first: they were compared in an earlier run.
pub(crate) fn originals(
    line: &Line,
    verified: &Verified,
    needs: &Needs,
    journal: &Journal,
    look: bool,
    session: &Session,
) -> Result<u64> {
    let cancel = &session.cancel;
    let root = Place::parse(&line.root, &session.places)?;
    let base = Place::parse(line.base(), &session.places)?;
    let mut free = Vec::new();
    for source in &verified.sources {
        if needs.is_free(&line.root, &source.path) && root.has(&source.path)? {
            free.push(source);
        }
    }
    if free.is_empty() {
        return Ok(0);
    }
    for file in verified.files.iter().filter(|_| look) {
        if base.digest(&file.path, cancel)? != file.sha256 {
            let what = format!(
                "{} is not what was verified; the originals were kept",
                file.path
            );
            return Err(MigrateError::Differs { what }.into());
        }
    }
    // That the outputs are good must outlive what they were made from.
    journal.sync()?;
    let mut freed = 0;
    for source in free {
        if !steps::is_same(source, &root) {
            // Another run of the plan may have come first.
            if !root.has(&source.path)? {
                continue;
            }
            let what = "it was kept".to_owned();
            return Err(MigrateError::Changed {
                path: source.path.clone(),
                what,
            }
            .into());
        }
        match root.remote() {
            Some(remote) => remote.remove(&root.at(&source.path))?,
            None => remove_here(&root.at(&source.path))?,
        }
        freed += source.bytes;
        let event = Event::Removed {
            path: source.path.clone(),
            bytes: source.bytes,
        };
        journal.add(&line.id(), &line.fingerprint(), event, false)?;
    }
    Ok(freed)
}

/// Removes a file, and the blob of a cache that it was the last link to.
fn remove_here(path: &Path) -> Result<()> {
    let blob = blob_of(path);
    remove(path)?;
    if let Some((blob, repository)) = blob
        && !is_linked(&blob, &repository)
    {
        remove(&blob)?;
    }
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path, source))
        }
        _ => Ok(()),
    }
}

/// The blob that a file of the hub's cache is a link to, and the cache's folder of the repository.
/// Any other link is only a name: what it leads to stays.
fn blob_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
    if !path.is_symlink() {
        return None;
    }
    let is_cache = |folder: &&Path| {
        folder
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("models--"))
    };
    let repository = path.ancestors().find(is_cache)?.canonicalize().ok()?;
    let blob = path.canonicalize().ok()?;
    (blob.parent()? == repository.join("blobs")).then_some((blob, repository))
}

/// Whether any snapshot still leads to a blob.
fn is_linked(blob: &Path, repository: &Path) -> bool {
    let snapshots = walkdir::WalkDir::new(repository.join("snapshots")).into_iter();
    // What cannot be looked at may lead to it.
    let mut leads = snapshots.map(|entry| match entry {
        Ok(entry) if entry.path_is_symlink() => {
            entry.path().canonicalize().is_ok_and(|to| to == blob)
        }
        Ok(_) => false,
        Err(_) => true,
    });
    leads.any(|leads| leads)
}
