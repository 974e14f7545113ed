//! Unpacking deflated entries: small ones into memory, storages into a temporary file when they
//! are first read.

use crate::error::CkptError;
use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ir::{ByteSource, Checksum, Error, Fault, Limits, Region, Result, Stream};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const CHUNK: usize = 64 << 10;
/// As much as `scan` unpacks of what it takes as it is.
const ALWAYS: u64 = 16 << 20;

/// What a decoder's error means: a source that cannot be read is not damaged data.
fn failed(error: std::io::Error) -> Error {
    match Stream::source_error(error) {
        Ok(source) => source,
        Err(error) => {
            CkptError::container("", format!("its deflated data is damaged: {error}")).into()
        }
    }
}

/// The CRC-32 of a region.
pub(crate) fn checksum(region: &Region) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    let mut at = 0;
    while at < region.len() {
        let n = (region.len() - at).min(CHUNK as u64);
        let part = region.bytes(at, usize::try_from(n).unwrap_or(CHUNK))?;
        hasher.update(&part);
        at += n;
    }
    Ok(hasher.finalize())
}

/// An error if `size` bytes are more than what is packed may honestly hold.
fn check_ratio(packed: &Region, size: u64, limits: &Limits) -> Result<()> {
    limits.check_unpacked("unpacked bytes of a deflated entry", packed.len(), size)
}

/// Unpacks deflated bytes that are said to be `size` long, handing over chunk by chunk.
fn unpack(packed: &Region, size: u64, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
    let mut decoder = DeflateDecoder::new(std::io::BufReader::with_capacity(
        CHUNK,
        Stream::new(packed, 0),
    ));
    let mut chunk = vec![0; CHUNK];
    let mut done = 0u64;
    loop {
        let n = decoder.read(&mut chunk).map_err(failed)?;
        if n == 0 {
            break;
        }
        done += n as u64;
        if done > size {
            return Err(CkptError::container(
                "",
                format!("it unpacks to more than the {size} bytes it says"),
            )
            .into());
        }
        put(chunk.get(..n).unwrap_or_default())?;
    }
    if done < size {
        return Err(CkptError::container(
            "",
            format!("it unpacks to {done} bytes, it says {size}"),
        )
        .into());
    }
    Ok(())
}

/// Unpacks into memory.
pub(crate) fn to_memory(packed: &Region, size: u64, limits: &Limits) -> Result<Vec<u8>> {
    check_ratio(packed, size, limits)?;
    Limits::check(
        "bytes of an entry unpacked at once",
        size,
        limits.held_bytes,
    )?;
    // Grows with what is really there, not with what is promised.
    let mut out = Vec::new();
    unpack(packed, size, |part| {
        out.extend_from_slice(part);
        Ok(())
    })?;
    Ok(out)
}

/// Unpacks as much as there is, up to a cap, whatever was promised: for `scan`.
pub(crate) fn what_there_is(packed: &Region) -> Vec<u8> {
    let mut out = Vec::new();
    let forward = Stream::new(packed, 0);
    let decoder = DeflateDecoder::new(std::io::BufReader::with_capacity(CHUNK, forward));
    // An error ends it; what came before counts.
    let _ = decoder.take(ALWAYS).read_to_end(&mut out);
    out
}

/// Unpacks what gzip or zlib packed, up to a cap: for `scan`.
pub(crate) fn compressed(region: &Region, gzip: bool, most: u64) -> Vec<u8> {
    let most = most.min(ALWAYS);
    let mut out = Vec::new();
    let forward = std::io::BufReader::with_capacity(CHUNK, Stream::new(region, 0));
    let _ = if gzip {
        MultiGzDecoder::new(forward)
            .take(most)
            .read_to_end(&mut out)
    } else {
        ZlibDecoder::new(forward).take(most).read_to_end(&mut out)
    };
    out
}

/// Deflated storages of one archive. They get their places in one temporary file as they are
/// added, and each is unpacked there when someone first reads it.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    len: u64,
    limits: Limits,
    /// Checksums of the storages that are not packed, which nobody has compared.
    pub(crate) sums: Vec<Checksum>,
}

/// The temporary file. It has no name, so nothing of it is left when the model is dropped.
#[derive(Debug)]
struct Shared {
    scratch: PathBuf,
    file: Mutex<Option<Arc<File>>>,
}

impl Shared {
    fn file(&self) -> Result<Arc<File>> {
        let mut slot = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = tempfile::tempfile_in(&self.scratch)
            .map_err(|source| Error::io("make a temporary file", &self.scratch, source))?;
        Ok(Arc::clone(slot.insert(Arc::new(file))))
    }
}

impl Pool {
    pub(crate) fn new(scratch: PathBuf, limits: &Limits) -> Self {
        Self {
            shared: Arc::new(Shared {
                scratch,
                file: Mutex::new(None),
            }),
            len: 0,
            limits: limits.clone(),
            sums: Vec::new(),
        }
    }

    /// Adds a storage and answers the region its unpacked bytes will have.
    pub(crate) fn add(
        &mut self,
        packed: Region,
        size: u64,
        crc: u32,
        place: String,
    ) -> Result<Region> {
        check_ratio(&packed, size, &self.limits)?;
        let at = self.len;
        self.len = at.saturating_add(size);
        Ok(Region::new(Arc::new(Spilled {
            packed,
            at,
            size,
            crc,
            place,
            shared: Arc::clone(&self.shared),
            unpacked: Mutex::new(None),
        })))
    }
}

/// One deflated storage.
#[derive(Debug)]
struct Spilled {
    packed: Region,
    /// Where its unpacked bytes lie in the temporary file.
    at: u64,
    size: u64,
    crc: u32,
    place: String,
    shared: Arc<Shared>,
    /// The file, once the bytes are in it.
    unpacked: Mutex<Option<Arc<File>>>,
}

impl Spilled {
    fn file(&self) -> Result<Arc<File>> {
        let mut slot = self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*slot {
            return Ok(Arc::clone(file));
        }
        let file = self.shared.file()?;
        let mut at = self.at;
        let mut hasher = crc32fast::Hasher::new();
        unpack(&self.packed, self.size, |part| {
            hasher.update(part);
            native::write_all_at(&file, part, at)
                .map_err(|source| Error::io("write", &self.shared.scratch, source))?;
            at += part.len() as u64;
            Ok(())
        })?;
        // The bytes were at hand anyway.
        let found = hasher.finalize();
        if self.crc != 0 && found != self.crc {
            let what = format!("its checksum is {found:08x}, it should be {:08x}", self.crc);
            return Err(CkptError::container("", what).into());
        }
        Ok(Arc::clone(slot.insert(file)))
    }
}

impl ByteSource for Spilled {
    fn len(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(Fault::OutOfRegion {
                offset,
                wanted: out.len() as u64,
                len: self.size,
            }
            .into());
        }
        let file = self.file().map_err(|error| error.at(self.place.clone()))?;
        let n = native::read_at(&file, out, self.at + offset)
            .map_err(|source| Error::io("read", &self.shared.scratch, source))?;
        if n < out.len() {
            return Err(Fault::Truncated {
                offset,
                until: offset + out.len() as u64,
                end: offset + n as u64,
            }
            .into());
        }
        Ok(())
    }

    fn path(&self) -> Option<&Path> {
        self.packed.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::Write;

    fn deflate(data: &[u8]) -> Region {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        Region::memory(encoder.finish().unwrap())
    }

    #[test]
    fn lying_sizes_are_seen() {
        let packed = deflate(&vec![7; 100_000]);
        let limits = Limits::default();
        assert_eq!(to_memory(&packed, 100_000, &limits).unwrap().len(), 100_000);
        assert!(to_memory(&packed, 99_999, &limits).is_err());
        assert!(to_memory(&packed, 100_001, &limits).is_err());
        assert!(to_memory(&packed, 1 << 60, &limits).is_err());
        let cut = packed.slice(0, packed.len() - 3).unwrap();
        assert!(to_memory(&cut, 100_000, &limits).is_err());
    }

    #[test]
    fn storages_unpack_on_first_read() {
        let mut pool = Pool::new(std::env::temp_dir(), &Limits::default());
        let data: Vec<u8> = (0..=255).cycle().take(70_000).collect();
        let crc = crc32fast::hash(&data);
        let first = pool
            .add(deflate(&data), 70_000, crc, "entry a".into())
            .unwrap();
        let second = pool
            .add(deflate(&data[..9]), 9, 0, "entry b".into())
            .unwrap();
        let wrong = pool
            .add(deflate(&data), 70_000, 1, "entry c".into())
            .unwrap();
        assert!(
            pool.add(deflate(&data), 1 << 60, 1, "entry d".into())
                .is_err()
        );
        assert_eq!(second.bytes(2, 7).unwrap(), data[2..9]);
        assert_eq!(first.bytes(69_000, 1000).unwrap(), data[69_000..]);
        let error = wrong.bytes(0, 1).unwrap_err();
        assert_eq!(error.place().as_deref(), Some("entry c"));
    }
}
