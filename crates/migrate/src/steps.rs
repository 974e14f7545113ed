//! One model through its steps.

use crate::budget::Share;
use crate::journal::{Event, Journal, Made, Mark, Phase, State, States, Verified};
use crate::line::{Action, FileFact, Line};
use crate::observe::{Observer, OfWorker};
use crate::place::{self, Place};
use crate::stage::Stage;
use crate::{MigrateError, digest, names, plan, publish, side};
use convert::{DTypeChoice, DiffReport};
use ir::{Error, Fault, Result};
use serde::Serialize;
use std::fs::{self, File};
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
}

/// How a line ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It was done now.
    Done(Verified),
    /// It was done before.
    Already(Verified),
    /// Another run has it in work.
    Busy,
}

impl Steps {
    /// Takes a line as far as it goes. What fails leaves nothing behind.
    pub(crate) fn take(&self, line: &Line, worker: usize, share: &Share<'_>) -> Result<Outcome> {
        let start = Instant::now();
        let base = Place::parse(line.base())?;
        let root = Place::parse(&line.root)?;
        let (id, print) = (line.id(), line.fingerprint());
        let before = self.state(&id)?;
        if let Some(done) = done_before(&before, &print, &base)? {
            Stage::sweep(line, &base)?;
            return Ok(Outcome::Already(done));
        }
        let Some(stage) = Stage::take(line, &base)? else {
            return Ok(Outcome::Busy);
        };
        // Another run may have done it before the lock was had.
        let state = self.state(&id)?;
        if let Some(done) = done_before(&state, &print, &base)? {
            return Ok(Outcome::Already(done));
        }
        if let Phase::Verified(verified) = &state.phase
            && state.line == print
            && publish::publish(&verified.files, &stage, &base, &self.session.cancel)?
        {
            self.done(line, &id, &print, &base, start)?;
            return Ok(Outcome::Done(verified.clone()));
        }
        stage.clear()?;
        self.journal.add(&id, &print, Event::Started {}, false)?;
        let verified = match line.action {
            Action::Convert => self.convert(line, &root, &stage, worker, share)?,
            Action::Copy | Action::Leave => Verified {
                files: side::copy(line, &root, &stage.out(), &self.session.cancel)?,
                ..Verified::default()
            },
        };
        sync_folders(&stage.out())?;
        self.session.cancel.check()?;
        self.journal
            .add(&id, &print, Event::Verified(verified.clone()), true)?;
        if !publish::publish(&verified.files, &stage, &base, &self.session.cancel)? {
            let what = "its files are gone before they had their names".to_owned();
            return Err(Fault::Invalid { what }.into());
        }
        self.done(line, &id, &print, &base, start)?;
        Ok(Outcome::Done(verified))
    }

    fn done(&self, line: &Line, id: &str, print: &str, base: &Place, start: Instant) -> Result<()> {
        forget_absence(line, base);
        let seconds = start.elapsed().as_secs_f64();
        // Need not be durable at once: without it the next run finds every file under its name.
        self.journal.add(id, print, Event::Done { seconds }, false)
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
        let target = out.join(&line.output);
        if let Some(folder) = target.parent() {
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
        let done =
            weightbridge::convert(&request(line, &root.at(&line.input), &target)?, &session)?;
        let mut paths: Vec<PathBuf> = done.files.iter().map(|(path, _)| path.clone()).collect();
        let entry = paths.last().cloned().unwrap_or_else(|| target.clone());
        let report = weightbridge::compare(&done.planned, &entry, &session)?;
        refuse_differences(&report)?;
        rename_index(line, &mut paths, &target)?;
        self.observer.step(worker, "digests", 0);
        let mut weights = Vec::new();
        for path in paths {
            weights.push(made(&path, &out, cancel)?);
        }
        let mut files = side::copy(line, root, &out, cancel)?;
        // The last is what loaders look for first: the index, or the file itself.
        let last = weights.pop();
        files.extend(weights);
        files.extend(write_sums(line, files.iter().chain(&last), &out, cancel)?);
        files.extend(last);
        self.check_sources(line, root)?;
        Ok(Verified {
            files,
            sources: line
                .inputs
                .iter()
                .map(|file| plan::fact(root, &file.path))
                .collect::<Result<_>>()?,
            tensors: report.compared,
            report: plan::told(&done.report.records),
        })
    }

    /// Whether the inputs are those that the plan is about.
    pub(crate) fn check_sources(&self, line: &Line, root: &Place) -> Result<()> {
        for planned in &line.inputs {
            let now = plan::fact(root, &planned.path)?;
            let what = if now.bytes != planned.bytes {
                format!("{} bytes then, {} now", planned.bytes, now.bytes)
            } else if let Some(sha256) = &planned.sha256 {
                // A copy or a checkout gives files new times: the digest knows better.
                if digest::of_file(&root.at(&planned.path), &self.session.cancel)? == *sha256 {
                    continue;
                }
                "another digest".to_owned()
            } else if now.mtime != planned.mtime {
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
        Ok(())
    }
}

/// The record of a line that is done, if its outputs are still there.
fn done_before(state: &State, print: &str, base: &Place) -> Result<Option<Verified>> {
    let Phase::Done(verified) = &state.phase else {
        return Ok(None);
    };
    let there =
        |file: &Made| fs::metadata(base.at(&file.path)).is_ok_and(|meta| meta.len() == file.bytes);
    match (verified.files.iter().all(there), state.line == print) {
        (true, true) => Ok(Some(verified.clone())),
        (true, false) => Err(MigrateError::Edited.into()),
        (false, _) => Ok(None),
    }
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
fn rename_index(line: &Line, paths: &mut [PathBuf], target: &Path) -> Result<()> {
    let main = place::name(&line.output);
    let Some(wanted) = names::variant_index(main) else {
        return Ok(());
    };
    let written = target.with_file_name(names::index(main));
    for path in paths.iter_mut().filter(|path| **path == written) {
        let new = target.with_file_name(&wanted);
        fs::rename(&*path, &new).map_err(|source| Error::io("rename", &*path, source))?;
        *path = new;
    }
    Ok(())
}

/// Size and digest of a file below `out`.
fn made(path: &Path, out: &Path, cancel: &ir::Cancel) -> Result<Made> {
    let below = path.strip_prefix(out).unwrap_or(path);
    let parts: Vec<_> = below.iter().map(|part| part.to_string_lossy()).collect();
    let meta = fs::metadata(path).map_err(|source| Error::io("look at", path, source))?;
    Ok(Made {
        path: parts.join("/"),
        bytes: meta.len(),
        sha256: digest::of_file(path, cancel)?,
    })
}

/// Writes the manifest of a line's files, with names from the folder it is in.
fn write_sums<'a>(
    line: &Line,
    files: impl Iterator<Item = &'a Made>,
    out: &Path,
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
    let path = out.join(line.sums_path());
    let write = || -> std::io::Result<()> {
        let mut file = File::create_new(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| Error::io("write", &path, source))?;
    made(&path, out, cancel).map(Some)
}

/// Makes the names of staged files last, so that a journal that tells of them is right.
fn sync_folders(out: &Path) -> Result<()> {
    for entry in walkdir::WalkDir::new(out).into_iter().flatten() {
        if entry.file_type().is_dir() {
            native::sync_folder(entry.path())
                .map_err(|source| Error::io("sync the folder", entry.path(), source))?;
        }
    }
    if let Some(above) = out.parent() {
        native::sync_folder(above).map_err(|source| Error::io("sync the folder", above, source))?;
    }
    Ok(())
}

/// The hub's cache notes files that a revision lacks; loaders believe the note. A converted model is
/// no longer lacking.
fn forget_absence(line: &Line, base: &Place) {
    let folder = place::parent(&line.output);
    let mut parts = folder.splitn(2, "/snapshots/");
    let (Some(repository), Some(below)) = (parts.next(), parts.next()) else {
        return;
    };
    if line.dest.is_some() || !place::name(repository).starts_with("models--") {
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

/// What a source was, beside what it is: whether it may be removed.
pub(crate) fn is_same(then: &FileFact, root: &Place) -> bool {
    plan::fact(root, &then.path).is_ok_and(|now| now.bytes == then.bytes && now.mtime == then.mtime)
}
