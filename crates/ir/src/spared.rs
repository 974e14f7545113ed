//! Files that no output may take the place of: those that the command reads.
//!
//! Publishing an output renames it over what is there. Were that the model it is made of, the key
//! it is signed with or a file it is about, there would be nothing to go back to, whatever leave to
//! overwrite was given. So whoever reads says so here, and [`crate::Output`] asks.

use crate::{Error, Fault, Result, is_url};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a path leads to: two paths of one file have the same, through links and hard links too.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A file that is there, by device and number.
    Inode(u64, u64),
    /// A name: of a file that is not there yet, of one in a storage, or where files have no number.
    Name(PathBuf),
}

impl Identity {
    /// That of a path.
    pub fn of(path: &Path) -> Self {
        #[cfg(unix)]
        if let Ok(meta) = fs::metadata(path) {
            use std::os::unix::fs::MetadataExt;
            return Self::Inode(meta.dev(), meta.ino());
        }
        Self::Name(full(path))
    }
}

/// A path from the root, also of a file that is not there yet.
fn full(path: &Path) -> PathBuf {
    if let Ok(full) = path.canonicalize() {
        return full;
    }
    if is_url(path) {
        return path.to_owned();
    }
    unfollowed(path).unwrap_or_else(|| path.to_owned())
}

/// A path from the root, of which the last part stays as it is, be it a link or not there; none for
/// one that ends in no name, or lies in no folder.
pub fn unfollowed(path: &Path) -> Option<PathBuf> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    Some(folder.canonicalize().ok()?.join(path.file_name()?))
}

/// Whether two paths lead to one file.
pub fn same_file(a: &Path, b: &Path) -> bool {
    Identity::of(a) == Identity::of(b)
}

/// Whether a file is, or would be, in a folder or below it.
pub fn is_inside(folder: &Path, path: &Path) -> bool {
    folder
        .canonicalize()
        .is_ok_and(|folder| full(path).starts_with(folder))
}

/// Files to spare, and what each is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spared(Arc<HashMap<Identity, &'static str>>);

impl Spared {
    /// Spares one more; what was said of it first stays.
    pub(crate) fn add(&mut self, path: &Path, what: &'static str) {
        let files = Arc::make_mut(&mut self.0);
        files.entry(Identity::of(path)).or_insert(what);
    }

    /// An error for a path that leads to one of them.
    pub(crate) fn refuse(&self, path: &Path) -> Result<()> {
        match self.0.get(&Identity::of(path)) {
            Some(&what) => Err(Error::from(Fault::OutputIs { what }).in_file(path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_itself_under_all_its_names() {
        let dir = std::env::temp_dir().join(format!("ir-spared-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("sub")).unwrap();
        let model = dir.join("model");
        fs::write(&model, "m").unwrap();
        let mut names = vec![dir.join("./model"), dir.join("sub/../model")];
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&model, dir.join("link")).unwrap();
            fs::hard_link(&model, dir.join("hard")).unwrap();
            names.extend([dir.join("link"), dir.join("hard")]);
        }
        let mut spared = Spared::default();
        spared.add(&model, "the input");
        spared.add(&model, "the key");
        for name in &names {
            let error = spared.refuse(name).unwrap_err();
            assert_eq!(error.class(), crate::Class::Usage, "{name:?}");
            assert_eq!(error.message(), "the output is the input");
        }
        fs::write(dir.join("other"), "m").unwrap();
        for name in ["other", "new", "sub/model"] {
            spared.refuse(&dir.join(name)).unwrap();
        }
        // What is not there yet has a name all the same.
        assert!(same_file(&dir.join("new"), &dir.join("sub/../new")));
        assert!(is_inside(&dir.join("sub"), &dir.join("sub/new")));
        assert!(!is_inside(&dir.join("sub"), &dir.join("sub/../new")));
        assert!(!same_file(Path::new("s3://b/k"), Path::new("s3://b/l")));
        fs::remove_dir_all(&dir).unwrap();
    }
}
