//! One model through its steps, up to the point where it waits for the disk.

use crate::budget::Share;
use crate::digest::{self, Digests};
use crate::disks::Disks;
use crate::journal::{Event, Journal, Made, Mark, Phase, State, States, Verified};
use crate::line::{Action, FileFact, Line};
use crate::observe::{Observer, OfWorker};
use crate::place::{self, Place};
use crate::stage::Stage;
use crate::{MigrateError, names, plan, publish, side};
use convert::{DTypeChoice, DiffReport};
use ir::{Error, Result};
use serde::Serialize;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use weightbridge::{ConvertRequest, Session};

/// What all models of a run share.
pub(crate) struct Steps {
    pub(crate) journal: Journal,
    pub(crate) session: Session,
    pub(crate) observer: Arc<dyn Observer>,
    /// The journal as it was last read, and what it held then.
    pub(crate) known: Mutex<(Mark, States)>,
    /// What outputs lie on.
    pub(crate) disks: Disks,
}

/// How far a worker took a line.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Its outputs are compared, and have no names yet.
    Staged(Box<Staged>),
    /// It was done before.
    Already(Verified),
    /// Another run has it in work.
    Busy,
}

/// A model whose outputs are whole and compared.
#[derive(Debug)]
pub(crate) struct Staged {
    pub(crate) stage: Stage,
    pub(crate) base: Place,
    pub(crate) verified: Verified,
    /// Whether the journal has it already, from a run that came no further.
    pub(crate) known: bool,
    pub(crate) start: Instant,
}

impl Steps {
    /// Takes a line as far as one model goes alone. What fails leaves nothing behind.
    pub(crate) fn take(&self, line: &Line, worker: usize, share: &Share<'_>) -> Result<Outcome> {
        let start = Instant::now();
        let base = Place::parse(line.base(), &self.session.places)?;
        let root = Place::parse(&line.root, &self.session.places)?;
        let (id, print) = (line.id(), line.fingerprint());
        if let Some(done) = self.already(line)? {
            return Ok(Outcome::Already(done));
        }
        let Some(mut stage) = Stage::take(line, &base, &self.journal)? else {
            return Ok(Outcome::Busy);
        };
        // Another run may have done it before the lock was had.
        let state = self.state(&id)?;
        if let Some(done) = done_before(&state, &print, &base)? {
            return Ok(Outcome::Already(done));
        }
        let staged = |stage, verified, known| {
            let base = base.clone();
            Ok(Outcome::Staged(Box::new(Staged {
                stage,
                base,
                verified,
                known,
                start,
            })))
        };
        let mut begun = state.started.is_some();
        if let Phase::Verified(verified) = &state.phase {
            // Some may be on their way to their names.
            stage.used(&verified.files);
            begun = true;
            if state.line == print && publish::is_there(&verified.files, &stage, &base)? {
                return staged(stage, verified.clone(), true);
            }
        }
        // What nobody has begun has left nothing: a storage need not be asked.
        if begun || base.is_local() {
            stage.clear()?;
        }
        stage.used(&[]);
        if base.is_local() {
            self.disks.watch(stage.lock_folder())?;
        }
        // In a storage only the journal tells that there may be something to clear away.
        self.journal
            .add(&id, &print, Event::Started {}, !base.is_local())?;
        let verified = match line.action {
            Action::Convert => self.convert(line, &root, &stage, worker, share)?,
            Action::Copy | Action::Leave => Verified {
                files: side::copy(line, &root, &stage.out(), &self.session.cancel)?,
                ..Verified::default()
            },
        };
        self.session.cancel.check()?;
        staged(stage, verified, false)
    }

    /// What the journal has of a line that is done, and whose outputs are there.
    pub(crate) fn already(&self, line: &Line) -> Result<Option<Verified>> {
        let base = Place::parse(line.base(), &self.session.places)?;
        let before = self.state(&line.id())?;
        let done = done_before(&before, &line.fingerprint(), &base)?;
        if done.is_some() {
            Stage::sweep(line, &base, &self.journal)?;
        }
        Ok(done)
    }

    /// What is known of a line by now, from this run and all others.
    fn state(&self, id: &str) -> Result<State> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = self.journal.mark()?;
        if known.0 != mark {
            *known = (mark, self.journal.states()?);
        }
        Ok(known.1.get(id).cloned().unwrap_or_default())
    }

    fn convert(
        &self,
        line: &Line,
        root: &Place,
        stage: &Stage,
        worker: usize,
        share: &Share<'_>,
    ) -> Result<Verified> {
        let cancel = &self.session.cancel;
        self.check_sources(line, root)?;
        let out = stage.out();
        let target = out.at(&line.output);
        if let Some(folder) = target.parent().filter(|_| out.is_local()) {
            fs::create_dir_all(folder)
                .map_err(|source| Error::io("create the folder", folder, source))?;
        }
        let session = Session {
            threads: share.threads,
            memory: share.memory,
            progress: Arc::new(OfWorker {
                observer: Arc::clone(&self.observer),
                worker,
            }),
            ..self.session.clone()
        };
        let request = ConvertRequest {
            // All of a batch of models is synced at once.
            sync: false,
            ..request(line, &root.at(&line.input), &target)?
        };
        let done = weightbridge::convert(&request, &session)?;
        check_read(line, root, &done.planned)?;
        let mut paths: Vec<PathBuf> = done.files.iter().map(|(path, _)| path.clone()).collect();
        let entry = paths.last().cloned().unwrap_or_else(|| target.clone());
        let digests = Arc::new(Digests::default());
        let reading = Session {
            places: session.places.tapped(Arc::<Digests>::clone(&digests)),
            ..session
        };
        let report = weightbridge::compare(&done.planned, &entry, &reading)?;
        refuse_differences(&report)?;
        self.observer.step(worker, "digests", 0);
        let mut sums = Vec::new();
        for path in &paths {
            sums.push(digests.of(path, cancel)?);
        }
        rename_index(line, &mut paths, &target, &out)?;
        let mut weights = Vec::new();
        for (path, sum) in paths.iter().zip(sums) {
            let path = below(path, &out);
            weights.push(match sum {
                Some((bytes, sha256)) => Made {
                    path,
                    bytes,
                    sha256,
                },
                None => side::made(&path, &out, cancel)?,
            });
        }
        let mut files = side::copy(line, root, &out, cancel)?;
        // The last is what loaders look for first: the index, or the file itself.
        let last = weights.pop();
        files.extend(weights);
        files.extend(write_sums(line, files.iter().chain(&last), &out, cancel)?);
        files.extend(last);
        Ok(Verified {
            files,
            sources: self.check_sources(line, root)?,
            tensors: report.compared,
            report: plan::told(&done.report.records),
        })
    }

    /// The inputs as they are, if they are those that the plan is about.
    fn check_sources(&self, line: &Line, root: &Place) -> Result<Vec<FileFact>> {
        let mut sources = Vec::with_capacity(line.inputs.len());
        for planned in &line.inputs {
            let now = root.fact(&planned.path)?;
            sources.push(now.clone());
            let what = if now.bytes != planned.bytes {
                format!("{} bytes then, {} now", planned.bytes, now.bytes)
            } else if let Some(sha256) = &planned.sha256 {
                // A copy or a checkout gives files new times: the digest knows better.
                if root.digest(&planned.path, &self.session.cancel)? == *sha256 {
                    continue;
                }
                "another digest".to_owned()
            } else if !is_version(planned, &now) {
                "written to since".to_owned()
            } else {
                continue;
            };
            return Err(MigrateError::Changed {
                path: planned.path.clone(),
                what,
            }
            .into());
        }
        Ok(sources)
    }
}

/// The record of a line that is done, if its outputs are still there.
fn done_before(state: &State, print: &str, base: &Place) -> Result<Option<Verified>> {
    let Phase::Done(verified) = &state.phase else {
        return Ok(None);
    };
    let mut there = true;
    for file in &verified.files {
        // Somebody may have put a link in its place.
        there = there
            && match base.places().stat(&base.at(&file.path)) {
                Ok(stat) => stat.len == file.bytes,
                Err(error) if base.is_local() || ir::is_missing(&error) => false,
                Err(error) => return Err(error),
            };
    }
    match (there, state.line == print) {
        (true, true) => Ok(Some(verified.clone())),
        (true, false) => Err(MigrateError::Edited.into()),
        (false, _) => Ok(None),
    }
}

/// Holds what was read against what the plan lists: what is listed may be removed afterwards, and
/// only what is listed is watched for changes.
fn check_read(line: &Line, root: &Place, planned: &ir::Model) -> Result<()> {
    let real = |path: &Path| {
        let there = root.real(path.to_owned());
        there.unwrap_or_else(|| path.to_owned())
    };
    let files = planned.provenance.files.iter();
    let read: HashSet<PathBuf> = files.map(|(path, _)| real(path)).collect();
    let listed = || line.inputs.iter().map(|file| &file.path);
    let wrong = |what: String| Err(MigrateError::BadLine { what }.into());
    // An index may stand beside the one that is read.
    let index = |path: &str| {
        path.contains(".index.") && Path::new(path).extension().is_some_and(|it| it == "json")
    };
    let idle = listed().find(|path| !index(path) && !read.contains(&real(&root.at(path))));
    if let Some(path) = idle {
        return wrong(format!(
            "{path:?} is among the \"inputs\", and {:?} is read without it",
            line.input
        ));
    }
    let known: HashSet<PathBuf> = listed().map(|path| real(&root.at(path))).collect();
    if let Some(path) = read.iter().filter(|path| !known.contains(*path)).min() {
        return wrong(format!(
            "{} is read for {:?}, and is not among the \"inputs\"",
            below(path, root),
            line.input
        ));
    }
    Ok(())
}

/// The conversion that a line asks for.
pub(crate) fn request(line: &Line, input: &Path, output: &Path) -> Result<ConvertRequest> {
    let settings = &line.settings;
    let wrong = |what: String| Error::from(MigrateError::BadLine { what });
    Ok(ConvertRequest {
        to: Some(settings.to.clone()),
        dtype: settings
            .dtype()
            .map_err(wrong)?
            .map_or(DTypeChoice::Keep, DTypeChoice::To),
        quantize: settings.quantize().map_err(wrong)?.into_iter().collect(),
        policy: settings.policy().map_err(wrong)?,
        shard_size: settings.shard_size,
        ..ConvertRequest::new(input, output)
    })
}

fn refuse_differences(report: &DiffReport) -> Result<()> {
    if report.same() {
        return Ok(());
    }
    let only = report
        .only_in_a
        .iter()
        .map(|name| format!("{name} is missing"));
    let more = report
        .only_in_b
        .iter()
        .map(|name| format!("{name} is too many"));
    let differ = report
        .differ
        .iter()
        .map(|d| format!("{}: {}", d.name, d.reason));
    let what: Vec<String> = only.chain(more).chain(differ).take(5).collect();
    Err(MigrateError::Differs {
        what: what.join(", "),
    }
    .into())
}

/// Calls the index of a set as loaders of variants look for it.
fn rename_index(line: &Line, paths: &mut [PathBuf], target: &Path, out: &Place) -> Result<()> {
    let main = place::name(&line.output);
    let Some(wanted) = names::variant_index(main) else {
        return Ok(());
    };
    let written = target.with_file_name(names::index(main));
    for path in paths.iter_mut().filter(|path| **path == written) {
        let new = target.with_file_name(&wanted);
        if let Some(remote) = out.remote() {
            remote.copy_new(path, &new)?;
            remote.remove(path)?;
        } else {
            fs::rename(&*path, &new).map_err(|source| Error::io("rename", &*path, source))?;
        }
        *path = new;
    }
    Ok(())
}

/// A path below a place, as plans have it.
fn below(path: &Path, place: &Place) -> String {
    let below = path.strip_prefix(place.path()).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

/// Writes the manifest of a line's files, with names from the folder it is in.
fn write_sums<'a>(
    line: &Line,
    files: impl Iterator<Item = &'a Made>,
    out: &Place,
    cancel: &ir::Cancel,
) -> Result<Option<Made>> {
    if line.sums.is_empty() {
        return Ok(None);
    }
    let folder = place::parent(&line.output);
    let below = files.filter_map(|file| {
        let name = match folder {
            "" => Some(file.path.as_str()),
            folder => file
                .path
                .strip_prefix(folder)
                .and_then(|rest| rest.strip_prefix('/')),
        };
        Some((name?, file.sha256.as_str()))
    });
    let text = digest::manifest(below);
    side::write(out, &line.sums_path(), text.as_bytes(), cancel).map(Some)
}

/// The hub's cache notes files that a revision lacks; loaders believe the note. A converted model is
/// no longer lacking.
pub(crate) fn forget_absence(line: &Line, base: &Place) {
    let folder = place::parent(&line.output);
    let mut parts = folder.splitn(2, "/snapshots/");
    let (Some(repository), Some(below)) = (parts.next(), parts.next()) else {
        return;
    };
    if !base.is_local() || line.dest.is_some() || !place::name(repository).starts_with("models--") {
        return;
    }
    let absent = base.at(&format!("{repository}/.no_exist/{below}"));
    let main = place::name(&line.output);
    for name in [main, &names::index(main)] {
        // Not there, as a rule.
        let _ = fs::remove_file(absent.join(name));
    }
}

/// A thing as one line of JSON.
pub(crate) fn json(thing: &impl Serialize) -> String {
    // Only maps with keys that are no text cannot be told, and there are none.
    serde_json::to_string(thing).unwrap_or_default()
}

/// Whether a source is what it was, so that it may be removed.
pub(crate) fn is_same(then: &FileFact, root: &Place) -> bool {
    root.fact(&then.path)
        .is_ok_and(|now| now.bytes == then.bytes && is_version(then, &now))
}

/// Whether nobody wrote to a file since. A storage knows by its tag; times are for folders.
fn is_version(then: &FileFact, now: &FileFact) -> bool {
    match (&then.tag, &now.tag) {
        (Some(then), Some(now)) => then == now,
        _ => then.mtime == now.mtime,
    }
}
