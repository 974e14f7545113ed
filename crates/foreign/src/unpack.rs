//! One layer of compression off, never to more than a small multiple of what was there.

use crate::{ForeignError, Wrapping};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use ir::{Error, FileSource, Region, Result, Stream};
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that any file may unpack to.
const ALWAYS: u64 = 24 << 20;
/// How many times its size a larger one may unpack to: weights hardly pack at all.
const TIMES: u64 = 24;
/// Bytes kept in memory; what is longer goes to a file without a name.
const HELD: usize = 2 << 20;
/// Memory for the dictionary of an LZMA stream, in KiB: `xz -6` needs 9 MiB, `xz -8` 33.
const DICTIONARY_KIB: u32 = 40 << 10;
/// The header of joblib before 0.10: `ZF`, and a length as text in 19 bytes.
const OLD_JOBLIB: u64 = 21;

/// Unpacks a region. `scratch` is a folder for what is too long for memory. With the bytes comes
/// what stopped it: what was unpacked before damage counts, since a loader sees it too.
pub fn unpack(packed: &Region, how: Wrapping, scratch: &Path) -> Result<(Region, Option<Error>)> {
    let source = |at| BufReader::with_capacity(64 << 10, Stream::new(packed, at));
    let damaged = |error: io::Error| match Stream::source_error(error) {
        Ok(source) => source,
        Err(error) => {
            let what = error.to_string();
            ForeignError::Packed { what }.into()
        }
    };
    let mut from: Box<dyn Read> = match how {
        Wrapping::Gzip => Box::new(MultiGzDecoder::new(source(0))),
        Wrapping::Zlib => Box::new(ZlibDecoder::new(source(0))),
        Wrapping::OldJoblib => Box::new(ZlibDecoder::new(source(OLD_JOBLIB))),
        Wrapping::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source(0))),
        Wrapping::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            source(0),
            true,
            DICTIONARY_KIB,
        )),
        Wrapping::Lzma => Box::new(
            lzma_rust2::LzmaReader::new_mem_limit(source(0), DICTIONARY_KIB, None)
                .map_err(damaged)?,
        ),
    };
    let limit = packed.len().saturating_mul(TIMES).max(ALWAYS);
    let mut sink = Sink::new(scratch);
    let mut chunk = vec![0; 64 << 10];
    let mut done = 0u64;
    let stopped = loop {
        match from.read(&mut chunk) {
            Ok(0) => break None,
            Ok(n) => {
                done += n as u64;
                if done > limit {
                    let times = limit / packed.len().max(1);
                    break Some(ForeignError::TooMuch { limit, times }.into());
                }
                sink.put(chunk.get(..n).unwrap_or_default())?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A stream with something else behind it has been read: Python's readers stop there too.
            Err(error) => break Some(damaged(error)),
        }
    };
    Ok((sink.close()?, stopped))
}

/// Memory first, a file when it grows.
struct Sink {
    scratch: PathBuf,
    held: Vec<u8>,
    file: Option<File>,
}

impl Sink {
    fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_owned(),
            held: Vec::new(),
            file: None,
        }
    }

    fn error(&self, source: io::Error) -> Error {
        Error::io("write unpacked data to", &self.scratch, source)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if self.held.len() + bytes.len() > HELD {
            self.spill()?;
        }
        self.held.extend_from_slice(bytes);
        Ok(())
    }

    fn spill(&mut self) -> Result<()> {
        if self.file.is_none() {
            let file = tempfile::tempfile_in(&self.scratch).map_err(|e| self.error(e))?;
            self.file = Some(file);
        }
        if let Some(file) = &mut self.file {
            let written = file.write_all(&self.held);
            written.map_err(|e| self.error(e))?;
        }
        self.held.clear();
        Ok(())
    }

    fn close(mut self) -> Result<Region> {
        if self.file.is_some() {
            self.spill()?;
        }
        match self.file {
            Some(file) => {
                let name = self.scratch.join("unpacked");
                Ok(Region::new(Arc::new(FileSource::from_file(file, name)?)))
            }
            None => Ok(Region::memory(self.held)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::ZlibEncoder};

    fn zlib(data: &[u8]) -> Region {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(data).unwrap();
        Region::memory(encoder.finish().unwrap())
    }

    #[test]
    fn what_comes_before_damage_counts() {
        let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let packed = zlib(&data);
        let cut = packed.slice(0, packed.len() - 9).unwrap();
        let (out, stopped) = unpack(&cut, Wrapping::Zlib, &std::env::temp_dir()).unwrap();
        assert!(stopped.is_some());
        assert_eq!(out.bytes(0, 1000).unwrap(), data[..1000]);
        let (out, stopped) = unpack(&packed, Wrapping::Zlib, &std::env::temp_dir()).unwrap();
        assert!(stopped.is_none() && out.len() == 800_000);
    }

    #[test]
    fn bombs_go_off_small() {
        let bomb = zlib(&vec![0; 64 << 20]);
        let (out, stopped) = unpack(&bomb, Wrapping::Zlib, &std::env::temp_dir()).unwrap();
        assert_eq!(stopped.unwrap().class(), ir::Class::Limit);
        assert!(out.len() <= ALWAYS);
    }

    #[test]
    fn garbage_is_an_error_for_every_wrapping() {
        let garbage = Region::memory(vec![0xa5; 4096]);
        for how in [
            Wrapping::Gzip,
            Wrapping::Zlib,
            Wrapping::OldJoblib,
            Wrapping::Bzip2,
            Wrapping::Xz,
            Wrapping::Lzma,
        ] {
            let answer = unpack(&garbage, how, &std::env::temp_dir());
            assert!(answer.is_err() || answer.is_ok_and(|(_, stopped)| stopped.is_some()));
        }
    }
}
