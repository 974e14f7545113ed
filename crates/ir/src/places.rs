//! Where files are: in folders of this machine, or in storage that has no paths.
//!
//! A name such as `s3://bucket/model.safetensors` travels as a path like any other; only whoever
//! opens, lists or creates asks [`Places`], which hands it to the [`Remote`] that knows it.

use crate::spared::Spared;
use crate::{Error, Fault, Input, OutFile, Piece, Region, Result};
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Bytes.
    File,
    /// Names below it.
    Folder,
    /// Nothing.
    Missing,
}

/// The names in a folder.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Names and what they stand for, where the listing tells; in no order.
    pub names: Vec<(String, Option<Kind>)>,
    /// Names that cannot be names of files here, and were passed over.
    pub unusable: u64,
}

/// The files below a folder of a storage.
#[derive(Clone, Debug, Default)]
pub struct Walked {
    /// Full names and sizes, in order of the names' bytes.
    pub files: Vec<(std::path::PathBuf, u64)>,
    /// Names, from the folder, that cannot be paths here, and were passed over.
    pub unusable: Vec<String>,
}

/// What is known of a file without reading it. Where all of it is the same, so are the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its length.
    pub len: u64,
    /// When it was last changed, in nanoseconds since 1970.
    pub modified: i128,
    /// The storage's own tag of its content.
    pub tag: Option<String>,
}

/// Storage whose files have names but no paths on this machine.
pub trait Remote: Send + Sync + fmt::Debug {
    /// Whether a name is one of its own.
    fn knows(&self, path: &Path) -> bool;

    /// What a name stands for.
    fn kind(&self, path: &Path) -> Result<Kind>;

    /// What is known of a file.
    fn stat(&self, path: &Path) -> Result<Stat>;

    /// The bytes of a file.
    fn open(&self, path: &Path) -> Result<Region>;

    /// At most `limit` names right below a folder; more are an error.
    fn list(&self, folder: &Path, limit: u64) -> Result<Listing>;

    /// All files below a folder, at most `limit`; more are an error.
    fn walk(&self, folder: &Path, limit: u64) -> Result<Walked>;

    /// Starts a file. Fails if one is there and may not be replaced.
    fn create(&self, path: &Path, overwrite: bool) -> Result<Box<dyn Upload>>;

    /// Gives the bytes of a file a second name in the same storage, where nothing has it yet;
    /// [`Fault::OutputExists`] where something has.
    fn copy_new(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file. One that is not there is no error.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Removes every file below a folder, and what unfinished uploads left there and under the
    /// names of `files`, as far as the storage tells of them.
    fn clear(&self, folder: &Path, files: &[std::path::PathBuf]) -> Result<()>;
}

/// A file on its way to a [`Remote`], written by position from any thread. Nobody sees it before
/// [`Upload::publish`]; dropped before that, it is gone.
pub trait Upload: Send + Sync + fmt::Debug {
    /// The name it is to get.
    fn path(&self) -> &Path;

    /// Its length so far.
    fn len(&self) -> u64;

    /// Whether nothing is written yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sets its final length; bytes that are never written are zero.
    fn set_len(&self, len: u64) -> Result<()>;

    /// Says all that will ever be written: so a part can leave as soon as its last byte is here.
    /// Spans are sorted by offset.
    fn expect(&self, len: u64, spans: &[(u64, u64)]) -> Result<()>;

    /// Writes `bytes` at `offset`. No byte is written twice.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()>;

    /// Brings everything to the other side; afterwards only the name is missing.
    fn sync(&self) -> Result<()>;

    /// Gives it its name.
    fn publish(self: Box<Self>) -> Result<()>;
}

/// Whether a path is written as a URL.
pub fn is_url(path: &Path) -> bool {
    let text = path.as_os_str().to_string_lossy();
    text.split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty()
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'+')
    })
}

/// Somebody who wants to see the bytes of files as they are read.
pub trait Tap: Send + Sync + fmt::Debug {
    /// A file was opened: what is to be read in place of its bytes, which are the same.
    fn opened(&self, path: &Path, region: Region) -> Region;
}

/// The places files may be in. The default knows this machine's folders only.
#[derive(Clone, Debug, Default)]
pub struct Places {
    remote: Option<Arc<dyn Remote>>,
    tap: Option<Arc<dyn Tap>>,
    spared: Spared,
}

impl Places {
    /// This machine's folders, and a storage beside them.
    pub fn with(remote: Arc<dyn Remote>) -> Self {
        Self {
            remote: Some(remote),
            ..Self::default()
        }
    }

    /// Says that a file is read: no [`crate::Output`] within these places takes its place. `what`
    /// completes "the output is …".
    pub fn spare(&mut self, path: &Path, what: &'static str) {
        self.spared.add(path, what);
    }

    /// An error for an output that would take the place of a file that is read.
    pub fn refuse_spared(&self, path: &Path) -> Result<()> {
        self.spared.refuse(path)
    }

    /// The same places, with somebody who sees what is read.
    #[must_use]
    pub fn tapped(&self, tap: Arc<dyn Tap>) -> Self {
        Self {
            tap: Some(tap),
            ..self.clone()
        }
    }

    fn seen(&self, path: &Path, region: Region) -> Region {
        match &self.tap {
            Some(tap) => tap.opened(path, region),
            None => region,
        }
    }

    /// The storage that knows a name, if it is no path of this machine.
    pub fn remote(&self, path: &Path) -> Option<&Arc<dyn Remote>> {
        self.remote.as_ref().filter(|remote| remote.knows(path))
    }

    /// Opens a file or a folder.
    pub fn open(&self, path: &Path) -> Result<Input> {
        let Some(remote) = self.remote(path) else {
            self.refuse_url(path)?;
            return Ok(Input::open(path)?.map(|region| self.seen(path, region)));
        };
        let from_region = |region| Input::from_region(path, self.seen(path, region)).within(self);
        // A file is the likelier, and opening it tells as much as asking.
        if !ends_with_slash(path) {
            match remote.open(path) {
                Ok(region) => return Ok(from_region(region)),
                Err(error) if !is_missing(&error) => return Err(error),
                Err(_) => {}
            }
        }
        match remote.kind(path)? {
            Kind::Folder => Ok(Input::folder(path).within(self)),
            Kind::File => Ok(from_region(remote.open(path)?)),
            Kind::Missing => Err(missing(path)),
        }
    }

    /// The bytes of a file.
    pub fn region(&self, path: &Path) -> Result<Region> {
        let region = match self.remote(path) {
            Some(remote) => remote.open(path)?,
            None => Region::open(path)?,
        };
        Ok(self.seen(path, region))
    }

    /// The bytes of a file below a folder, where no link leads elsewhere. The storage has no links.
    pub fn region_beneath(&self, folder: &Path, relative: &Path) -> Result<Region> {
        let path = folder.join(relative);
        let region = match self.remote(folder) {
            Some(remote) => remote.open(&path)?,
            None => Region::open_beneath(folder, relative)?,
        };
        Ok(self.seen(&path, region))
    }

    /// What is known of a file.
    pub fn stat(&self, path: &Path) -> Result<Stat> {
        if let Some(remote) = self.remote(path) {
            return remote.stat(path);
        }
        let io = |source| Error::io("look at", path, source);
        let meta = fs::metadata(path).map_err(io)?;
        let modified = match meta.modified().map_err(io)?.duration_since(UNIX_EPOCH) {
            Ok(after) => i128::try_from(after.as_nanos()).unwrap_or(i128::MAX),
            Err(before) => -i128::try_from(before.duration().as_nanos()).unwrap_or(i128::MAX),
        };
        Ok(Stat {
            len: meta.len(),
            modified,
            tag: None,
        })
    }

    /// Whether a name stands for a file. Where that cannot be told, it does not.
    pub fn is_file(&self, path: &Path) -> bool {
        match self.remote(path) {
            Some(remote) => remote.kind(path).is_ok_and(|kind| kind == Kind::File),
            None => path.is_file(),
        }
    }

    /// Whether a name stands for a folder. Where that cannot be told, it does not.
    pub fn is_folder(&self, path: &Path) -> bool {
        match self.remote(path) {
            Some(remote) => remote.kind(path).is_ok_and(|kind| kind == Kind::Folder),
            None => path.is_dir(),
        }
    }

    /// Whether anything has that name. An error is one only of a storage that does not answer.
    pub fn exists(&self, path: &Path) -> Result<bool> {
        match self.remote(path) {
            Some(remote) => Ok(remote.kind(path)? == Kind::File),
            None => Ok(path.exists()),
        }
    }

    /// At most `limit` names in a folder, in no order.
    pub fn list(&self, folder: &Path, limit: u64) -> Result<Listing> {
        if let Some(remote) = self.remote(folder) {
            return remote.list(folder, limit);
        }
        let io = |source| Error::io("list", folder, source);
        let mut listing = Listing::default();
        for entry in fs::read_dir(folder).map_err(io)? {
            let entry = entry.map_err(io)?;
            let n = listing.names.len() as u64 + 1;
            crate::Limits::check("files in the folder", n, limit)?;
            match entry.file_name().into_string() {
                Ok(name) => listing.names.push((name, None)),
                Err(_) => listing.unusable += 1,
            }
        }
        Ok(listing)
    }

    /// An error for what looks like a URL and has nobody who knows it.
    pub fn refuse_url(&self, path: &Path) -> Result<()> {
        if is_url(path) && self.remote(path).is_none() && fs::symlink_metadata(path).is_err() {
            let what = match self.remote {
                Some(_) => "no storage of this kind is known: there are s3, gs, az, http and https",
                None => "this program was built without object storage (feature `cloud`)",
            };
            return Err(Error::from(Fault::Unsupported {
                what: what.to_owned(),
            })
            .in_file(path));
        }
        Ok(())
    }
}

/// The error of a name that stands for nothing.
pub fn missing(path: &Path) -> Error {
    Error::io("open", path, std::io::ErrorKind::NotFound.into())
}

/// Whether an error says that there is no such file.
pub fn is_missing(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(Fault::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound)
}

fn ends_with_slash(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().ends_with('/')
}

impl OutFile {
    /// Says that `pieces` are all that will be written, and where the file ends: a file on its way
    /// to a storage then leaves part by part, and needs no room here. Others do not care.
    pub fn expect(&self, len: u64, pieces: &[Piece<'_>]) -> Result<()> {
        let Some(upload) = self.upload() else {
            return Ok(());
        };
        let mut spans: Vec<_> = (pieces.iter())
            .map(|piece| (piece.offset, piece.body.byte_len()))
            .collect();
        spans.sort_unstable();
        upload.expect(len, &spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_from_paths() {
        for url in ["s3://b/k", "https://h/x", "abc://"] {
            assert!(is_url(Path::new(url)), "{url}");
        }
        for path in ["a/b", "://x", "C:\\x", "./s3:/x", "a b://x"] {
            assert!(!is_url(Path::new(path)), "{path}");
        }
        let error = Places::default().open(Path::new("s3://b/k")).unwrap_err();
        assert_eq!(error.class(), crate::Class::Unsupported);
    }

    #[test]
    fn names_join_as_they_are_written() {
        let path = Path::new("s3://bucket/folder/a.bin");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        assert_eq!(text(&path.with_file_name("b")), "s3://bucket/folder/b");
        assert_eq!(text(path.parent().unwrap()), "s3://bucket/folder");
        assert_eq!(text(&Path::new("s3://bucket/").join("x")), "s3://bucket/x");
    }
}
