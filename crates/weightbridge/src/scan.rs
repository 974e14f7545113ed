//! Judging files: what they would do to the person who loads them elsewhere.

use crate::{Session, detect, open_input};
use ir::{Error, Places, ReadOptions, Result};
use scan::{Finding, Verdict};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// The answer of `scan`.
#[derive(Debug, Default)]
pub struct ScanReport {
    /// One entry a file, in the order they were given or found.
    pub files: Vec<Scanned>,
    /// Files of a folder that hold no model and no code: text, images.
    pub passed_over: u64,
}

/// One file's verdict.
#[derive(Debug)]
pub struct Scanned {
    /// The file.
    pub path: PathBuf,
    /// Its format, if it is one.
    pub format: Option<&'static str>,
    /// The verdict.
    pub verdict: Verdict,
    /// What it rests on.
    pub findings: Vec<Finding>,
    /// Why the file could not be read, where it could not.
    pub error: Option<Error>,
}

impl ScanReport {
    /// Whether the machine kept a file from being read at all.
    pub fn unread(&self) -> bool {
        let mut errors = self.files.iter().filter_map(|file| file.error.as_ref());
        errors.any(|error| error.class() == ir::Class::Io)
    }

    /// How many files have a verdict.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.files
            .iter()
            .filter(|file| file.verdict == verdict)
            .count()
    }
}

/// Most files taken from one folder and all below it.
const FOLDER_FILES: usize = 1_000_000;

/// Scans files, and everything below folders.
pub fn scan(paths: &[PathBuf], session: &Session) -> Result<ScanReport> {
    let mut report = ScanReport::default();
    for path in paths {
        // Such a name may hold a secret, and is not repeated in a report.
        if let Some(Err(error)) = session.places.remote(path).map(|remote| remote.kind(path))
            && error.class() == ir::Class::Usage
        {
            return Err(error);
        }
        // Of a storage that does not answer, opening the file will tell.
        if session.places.is_folder(path) {
            for file in walk(path, &session.places)? {
                session.cancel.check()?;
                match scan_one(&file, session) {
                    Ok(scanned) => report.files.push(scanned),
                    Err(error)
                        if error.class() == ir::Class::Unsupported && !closed(&file, session) =>
                    {
                        report.passed_over += 1;
                    }
                    Err(error) => report.files.push(unreadable(file, error)),
                }
            }
        } else {
            session.cancel.check()?;
            let scanned = scan_one(path, session);
            let scanned = scanned.unwrap_or_else(|error| unreadable(path.clone(), error));
            report.files.push(scanned);
        }
    }
    Ok(report)
}

/// Whether a file may hold what it does not show: an archive that is not opened is not clean.
fn closed(path: &Path, session: &Session) -> bool {
    let head = session.places.region(path).and_then(|region| {
        let len = region.len().min(64);
        region.bytes(0, usize::try_from(len).unwrap_or(0))
    });
    head.is_ok_and(|head| ir::sniff(&head).is_some_and(|it| it.closed))
}

fn unreadable(path: PathBuf, error: Error) -> Scanned {
    Scanned {
        path,
        format: None,
        verdict: Verdict::Malformed,
        findings: Vec::new(),
        error: Some(error),
    }
}

fn scan_one(path: &Path, session: &Session) -> Result<Scanned> {
    let input = open_input(path, &session.places)?;
    // A shard is judged by itself here: what its set holds lies in the other files.
    let format = detect(&input)?.format;
    let cx = session.reading(ReadOptions {
        all: true,
        ..ReadOptions::default()
    });
    let survey = match format.reader {
        Some(reader) => reader.survey(&input, &cx),
        None => ir::Survey::default(),
    };
    let judgement = scan::judge(&survey);
    Ok(Scanned {
        path: path.to_owned(),
        format: Some(format.id),
        verdict: judgement.verdict,
        findings: judgement.findings,
        error: survey.error.map(|error| error.in_file(path)),
    })
}

/// All regular files below a folder, sorted. Links are followed, and a folder that several lead to
/// is listed once: so a loop ends.
fn walk(root: &Path, places: &Places) -> Result<Vec<PathBuf>> {
    if let Some(remote) = places.remote(root) {
        return remote.walk(root, FOLDER_FILES as u64);
    }
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        let real = folder.canonicalize();
        if !seen.insert(real.unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let listing = std::fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))?;
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("list", &folder, e))?;
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
            let found = files.len().saturating_add(folders.len());
            if found > FOLDER_FILES {
                return Err(ir::Fault::OverLimit {
                    what: "files in a folder",
                    found: found as u64,
                    limit: FOLDER_FILES as u64,
                }
                .into());
            }
        }
    }
    files.sort();
    Ok(files)
}
