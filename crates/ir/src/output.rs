//! An output: one file or several, none of which anyone sees before all are whole.

use crate::{Error, Fault, FileSource, Identity, Places, Region, Result, Upload};
use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a model is written.
///
/// Each file is written under no name or a temporary one. [`Output::commit`] syncs all, then gives
/// them their names; dropping an output that was not committed removes everything.
#[derive(Debug)]
pub struct Output {
    target: PathBuf,
    overwrite: bool,
    places: Places,
    /// Whether a commit waits for the disk.
    synced: bool,
    files: Vec<OutFile>,
    /// What their names stand for.
    names: HashSet<Identity>,
    /// Folders made for this output, removed again if they stay empty.
    made: Vec<PathBuf>,
}

/// A file of an output, written by position from any thread.
#[derive(Debug)]
pub struct OutFile(Draft);

/// A file that has no name yet.
#[derive(Debug)]
enum Draft {
    /// In a folder of this machine.
    Here(native::Unpublished),
    /// On its way to a storage.
    There(Box<dyn Upload>),
}

/// The files that a commit gave their names, with their sizes.
pub type Published = Vec<(PathBuf, u64)>;

impl Output {
    /// An output at `target`: a file, or for several files the name they derive theirs from.
    pub fn new(target: &Path, overwrite: bool) -> Self {
        Self {
            target: target.to_owned(),
            overwrite,
            places: Places::default(),
            synced: true,
            files: Vec::new(),
            names: HashSet::new(),
            made: Vec::new(),
        }
    }

    /// The same output, whose files may be where `places` knows of, and take the place of no file
    /// that is spared there.
    #[must_use]
    pub fn within(mut self, places: &Places) -> Self {
        self.places = places.clone();
        self
    }

    /// The same output, whose commit does not wait for the disk: for whoever writes many and then
    /// waits once.
    #[must_use]
    pub fn unsynced(mut self) -> Self {
        self.synced = false;
        self
    }

    /// The path asked for.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Starts the file of the path asked for.
    pub fn main_file(&mut self) -> Result<usize> {
        self.file(&self.target.clone())
    }

    /// Starts a file beside the target, or inside it where the target is a folder.
    pub fn side_file(&mut self, name: &str) -> Result<usize> {
        let path = self.target.with_file_name(name);
        self.file(&path)
    }

    /// Starts a file at a path and answers its number. Missing folders are made. Fails if the file
    /// is there and may not be replaced.
    pub fn file(&mut self, path: &Path) -> Result<usize> {
        self.places.refuse_spared(path)?;
        let name = Identity::of(path);
        if self.names.contains(&name) {
            let what = "two files of the output would have this name".to_owned();
            return Err(Error::from(Fault::Usage { what }).in_file(path));
        }
        if let Some(remote) = self.places.remote(path) {
            let upload = remote.create(path, self.overwrite)?;
            self.files.push(OutFile(Draft::There(upload)));
            self.names.insert(name);
            return Ok(self.files.len() - 1);
        }
        self.places.refuse_url(path)?;
        self.may_take(path)?;
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            self.make_folder(parent)?;
        }
        let draft = native::Unpublished::new(path)
            .map_err(|source| Error::io("create the output", path, source))?;
        self.files.push(OutFile(Draft::Here(draft)));
        self.names.insert(name);
        Ok(self.files.len() - 1)
    }

    /// Whether a file may be published at `path`: only where nothing is, or a regular file that may
    /// be replaced. Publishing renames over the path, so that a device, pipe or link there would be
    /// destroyed rather than written to.
    fn may_take(&self, path: &Path) -> Result<()> {
        let Ok(meta) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        let kind = meta.file_type();
        let what = if kind.is_file() {
            if self.overwrite {
                return Ok(());
            }
            return Err(Error::from(Fault::OutputExists).in_file(path));
        } else if kind.is_dir() {
            "the output is a folder"
        } else if kind.is_symlink() {
            "the output is a symbolic link; name the file it should become"
        } else {
            "the output is a device, pipe or socket; models are written to regular files only"
        };
        let what = what.to_owned();
        Err(Error::from(Fault::Usage { what }).in_file(path))
    }

    fn make_folder(&mut self, folder: &Path) -> Result<()> {
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(());
        }
        if let Some(parent) = folder.parent() {
            self.make_folder(parent)?;
        }
        match fs::create_dir(folder) {
            Ok(()) => self.made.push(folder.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(Error::io("create the folder", folder, source)),
        }
        Ok(())
    }

    /// A file that was started.
    pub fn get(&self, number: usize) -> Result<&OutFile> {
        self.files.get(number).ok_or_else(|| {
            Fault::Invalid {
                what: format!("output file {number} was not started"),
            }
            .into()
        })
    }

    /// The files that were started, in turn.
    pub fn files(&self) -> impl Iterator<Item = &OutFile> {
        self.files.iter()
    }

    /// Syncs every file (unless [`Output::unsynced`] said otherwise), then gives each its name, the last one started last: an index should be
    /// started after what it points to. Where one cannot get its name, those before it lose theirs, and
    /// what they replaced has it again.
    pub fn commit(mut self) -> Result<Published> {
        let mut published = Vec::new();
        for file in &self.files {
            match &file.0 {
                Draft::Here(_) if !self.synced => {}
                Draft::Here(draft) => draft
                    .file()
                    .sync_all()
                    .map_err(|source| Error::io("sync the output", file.path(), source))?,
                Draft::There(upload) => upload.sync()?,
            }
        }
        let mut folders = BTreeSet::new();
        let several = self.files.len() > 1;
        let mut named = Vec::new();
        for file in std::mem::take(&mut self.files) {
            let path = file.path().to_owned();
            let len = file.len();
            let done = len.and_then(|len| {
                match file.0 {
                    Draft::There(upload) => upload.publish()?,
                    Draft::Here(draft) => {
                        named.push(Named::give(draft, &path, self.overwrite, several)?);
                        folders.extend(path.parent().map(Path::to_owned));
                    }
                }
                Ok(len)
            });
            match done {
                Ok(len) => published.push((path, len)),
                // All or none.
                Err(error) => {
                    named.into_iter().for_each(Named::take_back);
                    return Err(error);
                }
            }
        }
        drop(named);
        self.made.clear();
        for folder in folders.into_iter().filter(|_| self.synced) {
            native::sync_folder(&folder)
                .map_err(|source| Error::io("sync the folder", &folder, source))?;
        }
        Ok(published)
    }
}

/// A file that has its name, as long as it may lose it again.
enum Named {
    /// Nothing had the name before.
    New(PathBuf),
    /// This had.
    InPlaceOf(native::Replaced),
    /// Something had that is gone.
    Last,
}

impl Named {
    /// Gives a file its name; what has it stays at hand where `kept`, if the file system can.
    fn give(draft: native::Unpublished, path: &Path, overwrite: bool, kept: bool) -> Result<Self> {
        let is_new = fs::symlink_metadata(path).is_err();
        let replaced = (kept && !is_new).then(|| native::Replaced::keep(path).ok());
        draft.publish(overwrite).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                Error::from(Fault::OutputExists).in_file(path)
            } else {
                Error::io("name the output", path, source)
            }
        })?;
        Ok(match replaced.flatten() {
            _ if is_new => Self::New(path.to_owned()),
            Some(replaced) => Self::InPlaceOf(replaced),
            None => Self::Last,
        })
    }

    fn take_back(self) {
        // There is an error to tell already.
        let _ = match self {
            Self::New(path) => fs::remove_file(path),
            Self::InPlaceOf(replaced) => replaced.restore(),
            Self::Last => Ok(()),
        };
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.files.clear();
        for folder in self.made.drain(..).rev() {
            // Fails, rightly, if someone else put something there meanwhile.
            let _ = fs::remove_dir(folder);
        }
    }
}

impl OutFile {
    /// The name it is to get.
    pub fn path(&self) -> &Path {
        match &self.0 {
            Draft::Here(draft) => draft.target(),
            Draft::There(upload) => upload.path(),
        }
    }

    /// Its length so far.
    pub fn len(&self) -> Result<u64> {
        match &self.0 {
            Draft::Here(draft) => {
                let meta = draft.file().metadata();
                let meta = meta.map_err(|e| Error::io("look at the output", self.path(), e))?;
                Ok(meta.len())
            }
            Draft::There(upload) => Ok(upload.len()),
        }
    }

    /// Whether nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len().is_ok_and(|len| len == 0)
    }

    /// Sets its final length, so that bytes no piece covers are zero.
    pub fn set_len(&self, len: u64) -> Result<()> {
        match &self.0 {
            Draft::Here(draft) => (draft.file().set_len(len))
                .map_err(|source| Error::io("size the output", self.path(), source)),
            Draft::There(upload) => upload.set_len(len),
        }
    }

    /// Writes `bytes` at `offset`.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        match &self.0 {
            Draft::Here(draft) => native::write_all_at(draft.file(), bytes, offset)
                .map_err(|source| Error::io("write", self.path(), source)),
            Draft::There(upload) => upload.write_at(offset, bytes),
        }
    }

    /// The file itself, for copies inside the kernel, where it is one of this machine.
    pub fn file(&self) -> Option<&fs::File> {
        match &self.0 {
            Draft::Here(draft) => Some(draft.file()),
            Draft::There(_) => None,
        }
    }

    /// The upload, where it is one.
    pub(crate) fn upload(&self) -> Option<&dyn Upload> {
        match &self.0 {
            Draft::Here(_) => None,
            Draft::There(upload) => Some(&**upload),
        }
    }

    /// What was written so far, to be read back.
    pub fn region(&self) -> Result<Region> {
        let Some(file) = self.file() else {
            let what = "a storage does not give back what is still on its way".to_owned();
            return Err(Error::from(Fault::Unsupported { what }).in_file(self.path()));
        };
        let file = file.try_clone();
        let file = file.map_err(|source| Error::io("read back", self.path(), source))?;
        let source = FileSource::from_file(file, self.path().to_owned())?;
        Ok(Region::new(Arc::new(source)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("ir-output-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn nothing_is_left_without_a_commit() {
        let dir = folder("drop");
        {
            let mut out = Output::new(&dir.join("deep/er/x.bin"), false);
            let n = out.main_file().unwrap();
            out.get(n).unwrap().write_at(3, b"abc").unwrap();
            assert!(dir.join("deep/er").is_dir());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        fs::remove_dir_all(&dir).unwrap();
    }

    /// Even with leave to overwrite, only a regular file is replaced.
    #[cfg(unix)]
    #[test]
    fn only_regular_files_are_replaced() {
        let dir = folder("special");
        let socket = dir.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        fs::write(dir.join("aim.bin"), b"kept").unwrap();
        let link = dir.join("link");
        std::os::unix::fs::symlink(dir.join("aim.bin"), &link).unwrap();
        let dangling = dir.join("dangling");
        std::os::unix::fs::symlink(dir.join("nothing"), &dangling).unwrap();
        for overwrite in [false, true] {
            for path in [&socket, &link, &dangling, &dir] {
                let error = Output::new(path, overwrite).main_file().unwrap_err();
                assert_eq!(error.class(), crate::Class::Usage, "{path:?}");
            }
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(dir.join("aim.bin")).unwrap(), b"kept");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn all_files_appear_together() {
        let dir = folder("commit");
        let mut out = Output::new(&dir.join("a.bin"), false);
        let a = out.main_file().unwrap();
        let b = out.side_file("b.json").unwrap();
        out.get(a).unwrap().write_at(0, b"one").unwrap();
        out.get(b).unwrap().set_len(2).unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
        let sizes: Vec<_> = out
            .commit()
            .unwrap()
            .into_iter()
            .map(|(_, len)| len)
            .collect();
        assert_eq!(sizes, [3, 2]);
        let again = Output::new(&dir.join("a.bin"), false)
            .main_file()
            .unwrap_err();
        assert_eq!(again.class(), crate::Class::Usage);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn one_that_cannot_be_named_takes_the_others_with_it() {
        let dir = folder("undo");
        let mut out = Output::new(&dir.join("a.bin"), false);
        out.main_file().unwrap();
        out.side_file("b.bin").unwrap();
        // Someone else was faster.
        fs::write(dir.join("b.bin"), b"theirs").unwrap();
        assert_eq!(out.commit().unwrap_err().class(), crate::Class::Usage);
        assert!(!dir.join("a.bin").exists());
        assert_eq!(fs::read(dir.join("b.bin")).unwrap(), b"theirs");
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn one_that_cannot_be_named_gives_the_others_back_what_they_replaced() {
        let dir = folder("restore");
        fs::write(dir.join("a.bin"), b"old").unwrap();
        let mut out = Output::new(&dir.join("a.bin"), true);
        out.main_file().unwrap();
        out.side_file("b.bin").unwrap();
        fs::create_dir(dir.join("b.bin")).unwrap();
        assert_eq!(out.commit().unwrap_err().class(), crate::Class::Io);
        assert_eq!(fs::read(dir.join("a.bin")).unwrap(), b"old");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir(dir.join("b.bin")).unwrap();
        let mut out = Output::new(&dir.join("a.bin"), true);
        out.main_file().unwrap();
        out.side_file("b.bin").unwrap();
        out.commit().unwrap();
        assert_eq!(fs::read(dir.join("a.bin")).unwrap(), b"");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
        fs::remove_dir_all(&dir).unwrap();
    }
}
