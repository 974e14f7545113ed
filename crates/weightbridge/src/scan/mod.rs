//! Judging files: what they would do to the person who loads them elsewhere.

mod look;

use crate::{Session, open_input};
use ir::{Error, Input, Places, ReadOptions, Result};
use look::Looker;
use scan::{Finding, Verdict};
use std::cmp::Reverse;
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
        let folder = session.places.is_folder(path);
        let found = files_of(path, folder, session)?;
        let unread = found.unread.into_iter();
        report
            .files
            .extend(unread.map(|(path, error)| unreadable(path, error)));
        for file in found.files {
            session.cancel.check()?;
            match scan_one(&file, folder, session) {
                Ok(Some(scanned)) => report.files.push(scanned),
                Ok(None) => report.passed_over += 1,
                Err(error) if error.class() == ir::Class::Interrupted => return Err(error),
                Err(error) => report.files.push(unreadable(file, error)),
            }
        }
    }
    Ok(report)
}

/// The files that [`scan()`] would look at.
pub fn files_to_scan(paths: &[PathBuf], session: &Session) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        files.extend(files_of(path, session.places.is_folder(path), session)?.files);
    }
    Ok(files)
}

/// The files of a folder and all below it.
#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    /// Folders in it that cannot be listed, and why.
    unread: Vec<(PathBuf, Error)>,
}

fn files_of(path: &Path, folder: bool, session: &Session) -> Result<Found> {
    if folder {
        return walk(path, &session.places);
    }
    let files = vec![path.to_owned()];
    Ok(Found {
        files,
        ..Found::default()
    })
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

/// One file; `None` for one that holds nothing a loader would read.
fn scan_one(path: &Path, in_folder: bool, session: &Session) -> Result<Option<Scanned>> {
    let input = open_input(path, &session.places)?;
    // A shard is judged by itself here: what its set holds lies in the other files.
    let cx = session.reading(ReadOptions {
        all: true,
        ..ReadOptions::default()
    });
    let mut looker = Looker::new(cx, input.file()?.len());
    if !looker.look(&input, "") && !looker.look_at_start(&input)? {
        return nothing(&input, in_folder);
    }
    let verdict = looker.verdict();
    let mut findings = looker.findings;
    findings.sort_by_key(|finding| Reverse(finding.severity));
    Ok(Some(Scanned {
        path: path.to_owned(),
        format: looker.format,
        verdict,
        findings,
        error: looker.error.map(|error| error.in_file(path)),
    }))
}

/// What is none of the kinds known here: text and pictures are passed over, a file that is named
/// like a model, or given by itself, must be one.
fn nothing(input: &Input, in_folder: bool) -> Result<Option<Scanned>> {
    let promises = look::promises(input.path());
    let text = is_text(input)?;
    if (in_folder && (text || !promises)) || (text && !promises) {
        return Ok(None);
    }
    crate::detect(input).map(|_| None)
}

/// Whether the beginning of a file is text.
fn is_text(input: &Input) -> Result<bool> {
    let head = input.peek()?.head;
    Ok(!head.contains(&0)
        && match std::str::from_utf8(&head) {
            Ok(_) => true,
            // The last character may be cut in two.
            Err(error) => error.error_len().is_none(),
        })
}

/// All regular files below a folder, sorted. Links are followed, and a folder that several lead to
/// is listed once: so a loop ends.
fn walk(root: &Path, places: &Places) -> Result<Found> {
    let mut found = Found::default();
    if let Some(remote) = places.remote(root) {
        let walked = remote.walk(root, FOLDER_FILES as u64)?;
        found.files = walked.files.into_iter().map(|(path, _)| path).collect();
        return Ok(found);
    }
    let mut folders = vec![root.to_owned()];
    let whole = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    let mut seen = HashSet::new();
    while let Some(folder) = folders.pop() {
        let real = folder.canonicalize();
        if !seen.insert(real.unwrap_or_else(|_| folder.clone())) {
            continue;
        }
        let unlisted = |error| Error::io("list", &folder, error);
        let listing = match std::fs::read_dir(&folder) {
            Ok(listing) => listing,
            Err(error) if folder == root => return Err(unlisted(error)),
            // What lies elsewhere is judged all the same.
            Err(error) => {
                found.unread.push((folder.clone(), unlisted(error)));
                continue;
            }
        };
        for entry in listing {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    found.unread.push((folder.clone(), unlisted(error)));
                    break;
                }
            };
            let path = entry.path();
            if path.is_dir() {
                // A link to a folder around leads to what is none of this one.
                let around =
                    path.is_symlink() && path.canonicalize().is_ok_and(|to| whole.starts_with(to));
                if !around {
                    folders.push(path);
                }
            } else if path.is_file() {
                found.files.push(path);
            }
            let count = found.files.len().saturating_add(folders.len());
            if count > FOLDER_FILES {
                return Err(ir::Fault::OverLimit {
                    what: "files in a folder",
                    found: count as u64,
                    limit: FOLDER_FILES as u64,
                }
                .into());
            }
        }
    }
    found.files.sort();
    Ok(found)
}
