//! Shared owners of bytes: files read by position, maps, memory.

use crate::{Error, Fault, Result};
use bytes::Bytes;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Something that holds bytes which can be read in any order from any thread.
pub trait ByteSource: Send + Sync + fmt::Debug {
    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` from `offset`. Reading past the end is an error.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// The bytes as one slice, where they are in memory already.
    fn as_bytes(&self) -> Option<&Bytes> {
        None
    }

    /// The file behind it, where byte `n` of the source is byte `n` of that file, so that a copy
    /// can be made inside the kernel.
    fn file(&self) -> Option<&File> {
        None
    }

    /// The path it came from, for messages.
    fn path(&self) -> Option<&Path> {
        None
    }

    /// An error if the bytes are known to be others than when it was opened.
    fn unchanged(&self) -> Result<()> {
        Ok(())
    }
}

/// A file read by position. It is never mapped: a file cut short under a reader is an error here,
/// and would be a SIGBUS there.
#[derive(Debug)]
pub struct FileSource {
    file: File,
    path: PathBuf,
    len: u64,
    /// When it was last written to, where the system tells.
    modified: Option<SystemTime>,
}

impl FileSource {
    /// Opens `path`, which must be a regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let file = native::open_regular(path).map_err(|source| Error::io("open", path, source))?;
        match file {
            Some(file) => Self::from_file(file, path.to_owned()),
            None => Err(Error::from(Fault::Unsupported {
                what: "not a regular file".to_owned(),
            })
            .in_file(path)),
        }
    }

    /// Takes a file that is open already; `path` is for messages.
    pub fn from_file(file: File, path: PathBuf) -> Result<Self> {
        let meta = file.metadata();
        let meta = meta.map_err(|source| Error::io("open", &path, source))?;
        Ok(Self {
            len: meta.len(),
            modified: meta.modified().ok(),
            file,
            path,
        })
    }
}

impl ByteSource for FileSource {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let n = native::read_at(&self.file, out, offset)
            .map_err(|source| Error::io("read", &self.path, source))?;
        if n < out.len() {
            return Err(Error::from(Fault::Truncated {
                offset,
                until: offset.saturating_add(out.len() as u64),
                end: offset.saturating_add(n as u64),
            })
            .in_file(&self.path));
        }
        Ok(())
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }

    fn path(&self) -> Option<&Path> {
        Some(&self.path)
    }

    fn unchanged(&self) -> Result<()> {
        let meta = self.file.metadata();
        let meta = meta.map_err(|source| Error::io("look at", &self.path, source))?;
        if meta.modified().ok() == self.modified {
            return Ok(());
        }
        let what = "it was written to while it was read: what came of it may be of neither state";
        let error = Error::from(Fault::Invalid {
            what: what.to_owned(),
        })
        .in_file(&self.path);
        Err(error.with_help("Run it again when nothing else writes to it"))
    }
}

/// Bytes in memory, or in a map: anything that is a [`Bytes`].
#[derive(Debug)]
struct Memory(Bytes);

impl ByteSource for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let slice = usize::try_from(offset)
            .ok()
            .and_then(|start| self.0.get(start..start.checked_add(out.len())?));
        match slice {
            Some(slice) => out.copy_from_slice(slice),
            None => {
                return Err(Fault::OutOfRegion {
                    offset,
                    wanted: out.len() as u64,
                    len: self.len(),
                }
                .into());
            }
        }
        Ok(())
    }

    fn as_bytes(&self) -> Option<&Bytes> {
        Some(&self.0)
    }
}

/// A span of a [`ByteSource`]. Cloning and slicing are free; the bytes stay where they are.
#[derive(Clone)]
pub struct Region {
    source: Arc<dyn ByteSource>,
    start: u64,
    len: u64,
}

impl Region {
    /// All of `source`.
    pub fn new(source: Arc<dyn ByteSource>) -> Self {
        let len = source.len();
        Self {
            source,
            start: 0,
            len,
        }
    }

    /// All of the file at `path`, read by position.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self::new(Arc::new(FileSource::open(path)?)))
    }

    /// All of a file below `folder`, where neither the path nor the file is a link to elsewhere:
    /// see [`native::open_beneath`].
    pub fn open_beneath(folder: &Path, relative: &Path) -> Result<Self> {
        let path = folder.join(relative);
        let file = native::open_beneath(folder, relative)
            .map_err(|source| Error::io("open", &path, source))?;
        Ok(Self::new(Arc::new(FileSource::from_file(file, path)?)))
    }

    /// Bytes in memory.
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        Self::new(Arc::new(Memory(bytes.into())))
    }

    /// How many bytes it spans.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it spans none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where in its source it begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The path behind it, for messages.
    pub fn path(&self) -> Option<&Path> {
        self.source.path()
    }

    /// An error if the file behind it was written to since it was opened.
    pub fn unchanged(&self) -> Result<()> {
        self.source.unchanged()
    }

    /// A part of it. An error if that leaves the region.
    pub fn slice(&self, offset: u64, len: u64) -> Result<Self> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(Self {
                source: Arc::clone(&self.source),
                start: self.start + offset,
                len,
            }),
            _ => Err(self.outside(offset, len)),
        }
    }

    /// All of it from `offset` on.
    pub fn tail(&self, offset: u64) -> Result<Self> {
        let len = self
            .len
            .checked_sub(offset)
            .ok_or_else(|| self.outside(offset, 0))?;
        self.slice(offset, len)
    }

    fn outside(&self, offset: u64, wanted: u64) -> Error {
        let error = Error::from(Fault::OutOfRegion {
            offset,
            wanted,
            len: self.len,
        });
        match self.path() {
            Some(path) => error.in_file(path),
            None => error,
        }
    }

    /// Fills `out` from `offset` within the region.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        match offset.checked_add(out.len() as u64) {
            Some(end) if end <= self.len => self.source.read_at(self.start + offset, out),
            _ => Err(self.outside(offset, out.len() as u64)),
        }
    }

    /// `len` bytes at `offset`, without a copy where they are in memory. The caller keeps `len`
    /// within its own cap.
    pub fn bytes(&self, offset: u64, len: usize) -> Result<Bytes> {
        if let Some(whole) = self.source.as_bytes() {
            let part = self.slice(offset, len as u64)?;
            if let Ok(start) = usize::try_from(part.start) {
                return Ok(whole.slice(start..start + len));
            }
        }
        // Checked before the allocation, so that a lying length costs nothing.
        self.slice(offset, len as u64)?;
        let mut out = vec![0; len];
        self.read_at(offset, &mut out)?;
        Ok(out.into())
    }

    /// The file and the offset in it at which this region begins, where a kernel copy is possible.
    pub fn file(&self) -> Option<(&File, u64)> {
        self.source.file().map(|file| (file, self.start))
    }

    /// Whether both spans are of the very same source.
    pub fn same_source(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.source, &other.source)
    }

    /// How many bytes the whole source has.
    pub fn source_len(&self) -> u64 {
        self.source.len()
    }

    /// A number that is the same for regions of one source as long as one of them lives.
    pub fn source_key(&self) -> usize {
        Arc::as_ptr(&self.source).cast::<()>() as usize
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self
            .path()
            .map_or_else(|| "memory".into(), Path::to_string_lossy);
        write!(
            f,
            "{name}[{}..{}]",
            self.start,
            self.start.saturating_add(self.len)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Class;

    #[test]
    fn a_file_that_was_written_to_is_told() {
        let dir = std::env::temp_dir().join(format!("weightbridge-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a");
        std::fs::write(&path, b"before").unwrap();
        let region = Region::open(&path).unwrap();
        // One that takes its place is another file.
        std::fs::write(dir.join("b"), b"other").unwrap();
        std::fs::rename(dir.join("b"), &path).unwrap();
        assert!(region.unchanged().is_ok());
        let region = Region::open(&path).unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(5);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(later).unwrap();
        let error = region.unchanged().unwrap_err();
        assert_eq!(error.class(), Class::Malformed);
        assert!(error.to_string().contains("written to"), "{error}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn slices_stay_inside() {
        let region = Region::memory(&b"0123456789"[..]);
        let part = region.slice(2, 5).unwrap();
        assert_eq!(&part.bytes(1, 3).unwrap()[..], b"345");
        assert!(part.slice(1, 5).is_err());
        assert!(part.slice(u64::MAX, 2).is_err());
        assert!(part.bytes(0, usize::MAX).is_err());
        assert!(part.same_source(&region));
        let mut buffer = [0; 6];
        assert_eq!(
            part.read_at(0, &mut buffer).unwrap_err().class(),
            Class::Malformed
        );
    }

    #[test]
    fn a_folder_is_not_a_file() {
        assert!(Region::open(&std::env::temp_dir()).is_err());
    }
}
