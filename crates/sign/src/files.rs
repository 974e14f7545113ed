//! Which files a model has.

use crate::{Scope, SignError};
use ir::{Context, Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path inside the model's folder, with `/` between names; `.` where the model is a file.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub len: u64,
}

/// What there is in a model's folder.
#[derive(Debug, Default)]
pub struct Survey {
    /// The files a signature covers, in the order in which it names them.
    pub files: Vec<Found>,
    /// What no signature can cover, and why.
    pub unsuitable: BTreeMap<String, &'static str>,
    /// Links to folders: allowed with links, but nothing in such a folder is covered.
    pub linked_folders: Vec<String>,
}

/// Lists a model: a folder and everything below it, or one file.
///
/// As the official tool does: links and special files are unsuitable wherever they are, even where
/// files are ignored; with `allow_symlinks` a link to a file counts as that file, and a link to a
/// folder is not followed.
pub fn survey(root: &Path, scope: &Scope, cx: &Context) -> Result<Survey> {
    let mut survey = Survey::default();
    let top = fs::symlink_metadata(root).map_err(|e| Error::io("open", root, e))?;
    if top.is_symlink() && !scope.allow_symlinks {
        survey.unsuitable.insert(".".to_owned(), LINK);
        return Ok(survey);
    }
    let top = fs::metadata(root).map_err(|e| Error::io("open", root, e))?;
    if top.is_file() {
        survey.files.push(Found {
            name: ".".to_owned(),
            path: root.to_owned(),
            len: top.len(),
        });
        return Ok(survey);
    }
    let mut folders = vec![(root.to_owned(), String::new())];
    let mut seen: u64 = 0;
    while let Some((folder, prefix)) = folders.pop() {
        cx.cancel.check()?;
        let listing = fs::read_dir(&folder).map_err(|e| Error::io("list", &folder, e))?;
        for entry in listing {
            let entry = entry.map_err(|e| Error::io("list", &folder, e))?;
            seen += 1;
            ir::Limits::check("files in a folder", seen, cx.limits.entries)?;
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
                survey
                    .unsuitable
                    .insert(name, "has a name that is no UTF-8");
                continue;
            };
            let name = format!("{prefix}{name}");
            ir::Limits::check(
                "bytes of a file's name",
                name.len() as u64,
                cx.limits.name_bytes,
            )?;
            let kind = entry
                .file_type()
                .map_err(|e| Error::io("look at", &path, e))?;
            if kind.is_dir() {
                folders.push((path, format!("{name}/")));
            } else {
                look(&mut survey, scope, name, path, kind.is_symlink());
            }
        }
    }
    survey.files.sort_by(|a, b| order(&a.name, &b.name));
    survey.linked_folders.sort();
    Ok(survey)
}

const LINK: &str = "is a symbolic link";

fn look(survey: &mut Survey, scope: &Scope, name: String, path: PathBuf, is_link: bool) {
    if is_link && !scope.allow_symlinks {
        survey.unsuitable.insert(name, LINK);
        return;
    }
    match fs::metadata(&path) {
        Ok(meta) if meta.is_file() => {
            if !scope.ignores(&name) {
                let len = meta.len();
                survey.files.push(Found { name, path, len });
            }
        }
        Ok(meta) if meta.is_dir() => survey.linked_folders.push(name),
        Ok(_) => {
            survey
                .unsuitable
                .insert(name, "is a device, pipe or socket");
        }
        Err(_) => {
            survey.unsuitable.insert(name, "is a link to nothing");
        }
    }
}

/// The order in which a signature names files: name by name, so that what is in a folder stands
/// together (`a/b` before `a-b`).
pub(crate) fn order(a: &str, b: &str) -> std::cmp::Ordering {
    a.split('/').cmp(b.split('/'))
}

impl Survey {
    /// The first thing in it that cannot be covered, as an error.
    pub fn refuse_unsuitable(&self) -> Result<(), SignError> {
        match self.unsuitable.iter().next() {
            Some((name, why)) => Err(SignError::NotCovered {
                name: name.clone(),
                why,
            }),
            None if self.files.is_empty() => Err(SignError::Nothing),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_found_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/.git")).unwrap();
        fs::create_dir(root.join(".git")).unwrap();
        for name in ["a-b", "a/b", ".hidden", ".git/config", "a/.git/config"] {
            fs::write(root.join(name), name).unwrap();
        }
        let scope = Scope::with_git_ignored();
        let cx = Context::default();
        let names = |survey: &Survey| {
            let names = survey.files.iter().map(|file| file.name.clone());
            names.collect::<Vec<_>>()
        };
        let found = survey(root, &scope, &cx).unwrap();
        // Only the folder's own .git is ignored, and a folder stands before its longer namesake.
        assert_eq!(names(&found), [".hidden", "a/.git/config", "a/b", "a-b"]);
        found.refuse_unsuitable().unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("a-b", root.join("link")).unwrap();
            std::os::unix::fs::symlink("a", root.join(".git/folder")).unwrap();
            let found = survey(root, &scope, &cx).unwrap();
            assert_eq!(found.unsuitable.len(), 2);
            assert!(found.refuse_unsuitable().is_err());
            let scope = Scope {
                allow_symlinks: true,
                ..scope
            };
            let found = survey(root, &scope, &cx).unwrap();
            assert_eq!(names(&found).last().map(String::as_str), Some("link"));
            // A link whose folder is not there leads to nothing.
            assert_eq!(found.unsuitable[".git/folder"], "is a link to nothing");
        }
    }
}
