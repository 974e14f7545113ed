//! What was done, durably: a folder beside the plan with one append-only file a run, so that runs
//! on several machines never write to one file.
//!
//! An entry is a JSON line. A run that dies in the middle of one leaves a torn last line, which is
//! passed over; its next run writes a file of its own.

use crate::line::{FileFact, Told};
use crate::{MigrateError, digest};
use ir::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// An entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entry {
    pub(crate) version: u32,
    /// Milliseconds since 1970.
    pub(crate) at: u64,
    /// The line's id.
    pub(crate) id: String,
    /// The line's fingerprint.
    pub(crate) line: String,
    #[serde(flatten)]
    pub(crate) event: Event,
}

/// What happened to a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(crate) enum Event {
    /// A worker took it.
    Started {},
    /// Its outputs are whole, synced and compared, and have no names yet.
    Verified(Verified),
    /// Its outputs have their names.
    Done {
        /// From its start, in this run.
        seconds: f64,
    },
    /// It was not migrated; nothing is left of the attempt.
    Failed {
        /// The error's class.
        class: String,
        /// What is wrong.
        message: String,
        /// What to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        help: Option<String>,
    },
    /// An original was removed.
    Removed {
        /// From the root.
        path: String,
        /// Its size.
        bytes: u64,
    },
}

/// What is known of a model that was compared.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Verified {
    /// The files made, in the order in which they get their names.
    pub(crate) files: Vec<Made>,
    /// The sources as they were read.
    pub(crate) sources: Vec<FileFact>,
    /// Tensors compared.
    pub(crate) tensors: u64,
    /// What was chosen, changed and left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) report: Vec<Told>,
}

/// A file made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// From the destination.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// How far a model got.
#[derive(Clone, Debug, Default)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// The fingerprint of the line that the phase was reached under.
    pub(crate) line: String,
    /// How often it was begun.
    pub(crate) starts: u32,
    /// When it was last started, when it was done, in milliseconds since 1970.
    pub(crate) started: Option<u64>,
    pub(crate) done: Option<u64>,
    /// Originals removed.
    pub(crate) removed: BTreeMap<String, u64>,
}

/// The last thing that counts.
#[derive(Clone, Debug, Default)]
pub(crate) enum Phase {
    #[default]
    Fresh,
    Verified(Verified),
    Done(Verified),
    Failed {
        class: String,
        message: String,
        help: Option<String>,
    },
}

/// How far each model got, by id.
pub(crate) type States = BTreeMap<String, State>;

/// The journal of a plan: read at once, written by this run.
#[derive(Debug)]
pub(crate) struct Journal {
    folder: PathBuf,
    own: Mutex<Option<(Arc<File>, PathBuf)>>,
}

/// What a journal held at some time: files of other runs and their sizes.
pub(crate) type Mark = Vec<(PathBuf, u64)>;

impl Journal {
    /// The journal of a plan. Nothing is made before there is something to say.
    pub(crate) fn of(plan: &Path) -> Self {
        let mut name = plan.as_os_str().to_owned();
        name.push(".journal");
        Self {
            folder: PathBuf::from(name),
            own: Mutex::default(),
        }
    }

    /// Adds an entry; `durable` waits until it outlives a power cut.
    pub(crate) fn add(&self, id: &str, line: &str, event: Event, durable: bool) -> Result<()> {
        let entry = Entry {
            version: 1,
            at: now(),
            id: id.to_owned(),
            line: line.to_owned(),
            event,
        };
        let mut text = crate::steps::json(&entry);
        text.push('\n');
        let (file, path) = self.write(text.as_bytes())?;
        if durable {
            file.sync_data()
                .map_err(|source| Error::io("sync the journal", path, source))?;
        }
        Ok(())
    }

    fn write(&self, text: &[u8]) -> Result<(Arc<File>, PathBuf)> {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, path) = match &mut *own {
            Some(own) => own,
            none => none.insert(self.create()?),
        };
        // One call, so that entries of several workers never mix.
        let written = (&**file).write_all(text);
        written.map_err(|source| Error::io("write the journal", &*path, source))?;
        Ok((Arc::clone(file), path.clone()))
    }

    fn create(&self) -> Result<(Arc<File>, PathBuf)> {
        let folder = &self.folder;
        fs::create_dir_all(folder)
            .map_err(|source| Error::io("create the journal", folder, source))?;
        let stamp = now();
        for number in 0..u32::MAX {
            let name = format!("{stamp}-{}-{number}.jsonl", std::process::id());
            let path = folder.join(name);
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Ok(file) => {
                    for folder in [Some(folder.as_path()), folder.parent()]
                        .into_iter()
                        .flatten()
                    {
                        native::sync_folder(folder)
                            .map_err(|source| Error::io("sync the folder", folder, source))?;
                    }
                    return Ok((Arc::new(file), path));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(Error::io("create the journal", &path, source)),
            }
        }
        Err(Error::from(MigrateError::LockLost).in_file(folder))
    }

    /// A name for this journal that no other has: what it stages in a storage is known by it.
    pub(crate) fn token(&self) -> Result<String> {
        let path = self.folder.join("id");
        match fs::read_to_string(&path) {
            Ok(text) if !text.is_empty() => return Ok(text),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("read the journal", path, error));
            }
            _ => {}
        }
        let failed = |source| Error::io("create the journal", &path, source);
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let random = RandomState::new().build_hasher().finish();
        let text = digest::short(&format!("{random} {} {}", now(), std::process::id()));
        // Whole or not at all, and only one of several that begin at a time.
        let draft = self.folder.join(format!("id.{text}"));
        let write = || -> std::io::Result<()> {
            fs::write(&draft, &text)?;
            File::open(&draft)?.sync_all()?;
            native::rename_new(&draft, &path)?;
            native::sync_folder(&self.folder)
        };
        match write() {
            Ok(()) => Ok(text),
            Err(error) => {
                let _ = fs::remove_file(&draft);
                match fs::read_to_string(&path) {
                    Ok(text) if !text.is_empty() => Ok(text),
                    _ => Err(failed(error)),
                }
            }
        }
    }

    /// The lock of a model whose outputs go to a storage, which has none: it stands here.
    pub(crate) fn lock_of(&self, name: &str) -> PathBuf {
        self.folder.join("locks").join(name)
    }

    /// Makes what was added outlive a power cut.
    pub(crate) fn sync(&self) -> Result<()> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        match &*own {
            Some((file, path)) => file
                .sync_data()
                .map_err(|source| Error::io("sync the journal", path, source)),
            None => Ok(()),
        }
    }

    /// What other runs have written so far.
    pub(crate) fn mark(&self) -> Result<Mark> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let own = own.as_ref().map(|(_, path)| path.clone());
        let mut all = self.files()?;
        all.retain(|(path, _)| Some(path) != own.as_ref());
        Ok(all)
    }

    fn files(&self) -> Result<Mark> {
        let failed = |source| Error::io("list the journal", &self.folder, source);
        let listing = match fs::read_dir(&self.folder) {
            Ok(listing) => listing,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        let mut files = Vec::new();
        for entry in listing {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "jsonl")
            {
                let len = fs::metadata(&path).map_err(failed)?.len();
                files.push((path, len));
            }
        }
        files.sort();
        Ok(files)
    }

    /// How far each model got, from the files of all runs.
    pub(crate) fn states(&self) -> Result<States> {
        let mut entries = Vec::new();
        for (path, _) in self.files()? {
            let bytes =
                fs::read(&path).map_err(|source| Error::io("read the journal", &path, source))?;
            entries.extend(parse(&bytes).map_err(|error| Error::from(error).in_file(path))?);
        }
        // Each file is in order already; a stable sort keeps it so among equal times.
        entries.sort_by_key(|entry| entry.at);
        let mut states = States::new();
        for entry in entries {
            states.entry(entry.id.clone()).or_default().take(entry);
        }
        Ok(states)
    }
}

impl State {
    fn take(&mut self, entry: Entry) {
        match entry.event {
            Event::Started {} => {
                self.started = Some(entry.at);
                self.starts = self.starts.saturating_add(1);
            }
            Event::Removed { path, bytes } => {
                self.removed.insert(path, bytes);
            }
            Event::Done { .. } => {
                if let Phase::Verified(verified) = std::mem::take(&mut self.phase) {
                    self.phase = Phase::Done(verified);
                    self.line = entry.line;
                    self.done = Some(entry.at);
                }
            }
            Event::Verified(verified) => {
                self.phase = Phase::Verified(verified);
                self.line = entry.line;
            }
            Event::Failed {
                class,
                message,
                help,
            } => {
                self.phase = Phase::Failed {
                    class,
                    message,
                    help,
                };
                self.line = entry.line;
            }
        }
    }
}

/// Reads an entry. By way of a value: with numbers of any length, which a feature of serde_json
/// switches on for a whole build, tagged forms are read from values only.
fn entry(line: &[u8]) -> serde_json::Result<Entry> {
    serde_json::from_slice::<serde_json::Value>(line).and_then(serde_json::from_value)
}

/// Reads entries. Torn lines at the end are passed over: what they would have said was not durable.
fn parse(bytes: &[u8]) -> std::result::Result<Vec<Entry>, MigrateError> {
    let mut entries = Vec::new();
    let mut torn = None;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match entry(line) {
            Ok(_) if torn.is_some() => break,
            Ok(mut entry) => {
                // A clock that was set back does not turn a file's order around.
                entry.at = entry
                    .at
                    .max(entries.last().map_or(0, |last: &Entry| last.at));
                entries.push(entry);
            }
            Err(_) => torn = torn.or(Some(number)),
        }
    }
    // Sound lines after a bad one: that is no torn end.
    match torn {
        Some(line) if has_more(bytes, line) => Err(MigrateError::Journal { line }),
        _ => Ok(entries),
    }
}

fn has_more(bytes: &[u8], torn: usize) -> bool {
    let later = bytes.split(|byte| *byte == b'\n').skip(torn);
    later.into_iter().any(|line| entry(line).is_ok())
}

fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_all_runs_add_up() {
        let dir = tempfile::tempdir().unwrap();
        let plan = dir.path().join("plan.jsonl");
        let (one, two) = (Journal::of(&plan), Journal::of(&plan));
        assert!(one.states().unwrap().is_empty() && !one.folder.exists());
        one.add("a", "f", Event::Started {}, false).unwrap();
        let mark = one.mark().unwrap();
        two.add("a", "f", Event::Verified(Verified::default()), true)
            .unwrap();
        assert_ne!(one.mark().unwrap(), mark);
        two.add("a", "f", Event::Done { seconds: 1.0 }, true)
            .unwrap();
        let states = one.states().unwrap();
        assert!(matches!(states["a"].phase, Phase::Done(_)) && states["a"].line == "f");
    }

    #[test]
    fn a_journal_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| Journal::of(&dir.path().join(name)));
        let token = a.token().unwrap();
        assert_eq!(a.token().unwrap(), token);
        assert_ne!(b.token().unwrap(), token);
        assert!(a.states().unwrap().is_empty() && a.mark().unwrap().is_empty());
    }

    #[test]
    fn a_torn_end_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::of(&dir.path().join("plan.jsonl"));
        journal
            .add("a", "f", Event::Verified(Verified::default()), true)
            .unwrap();
        journal
            .add("a", "f", Event::Done { seconds: 1.0 }, true)
            .unwrap();
        let path = journal.files().unwrap()[0].0.clone();
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            assert!(parse(&whole[..cut]).is_ok(), "{cut}");
        }
        let mut zeros = whole.clone();
        zeros.extend([0; 9]);
        assert_eq!(parse(&zeros).unwrap().len(), 2);
        let mut damaged = whole;
        damaged[3] = b'#';
        assert!(matches!(
            parse(&damaged),
            Err(MigrateError::Journal { line: 1 })
        ));
    }
}
