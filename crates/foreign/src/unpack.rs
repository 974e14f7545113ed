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
/// Methods of entries of zip archives (APPNOTE 4.4.5).
const BZIP2: u16 = 12;
const LZMA: u16 = 14;

/// Unpacks a region. `scratch` is a folder for what is too long for memory. With the bytes comes
/// what stopped it: what was unpacked before damage counts, since a loader sees it too.
pub fn unpack(packed: &Region, how: Wrapping, scratch: &Path) -> Result<(Region, Option<Error>)> {
    let from: Box<dyn Read> = match how {
        Wrapping::Gzip => Box::new(MultiGzDecoder::new(source(packed, 0))),
        Wrapping::Zlib => Box::new(ZlibDecoder::new(source(packed, 0))),
        Wrapping::OldJoblib => Box::new(ZlibDecoder::new(source(packed, OLD_JOBLIB))),
        Wrapping::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source(packed, 0))),
        Wrapping::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
            source(packed, 0),
            true,
            DICTIONARY_KIB,
        )),
        Wrapping::Lzma => {
            let source = source(packed, 0);
            let reader = lzma_rust2::LzmaReader::new_mem_limit(source, DICTIONARY_KIB, None);
            Box::new(reader.map_err(damaged)?)
        }
    };
    drain(from, packed, scratch)
}

/// Unpacks an entry of a zip archive that is packed by a method of this number, and said to hold
/// `len` bytes; `None` if it is none of those that are opened here: bzip2 and LZMA.
pub fn unpack_entry(
    packed: &Region,
    method: u16,
    len: u64,
    scratch: &Path,
) -> Option<Result<(Region, Option<Error>)>> {
    match method {
        // One stream, as Python reads it: what follows is passed over.
        BZIP2 => {
            let from = bzip2::bufread::BzDecoder::new(source(packed, 0));
            Some(drain(Box::new(from), packed, scratch))
        }
        LZMA => Some(lzma_entry(packed, len).and_then(|from| drain(from, packed, scratch))),
        _ => None,
    }
}

/// Whether entries packed by a method are unpacked here.
pub fn unpacks(method: u16) -> bool {
    matches!(method, BZIP2 | LZMA)
}

/// An LZMA stream behind a version, the length of its properties, and those (APPNOTE 5.8.8).
fn lzma_entry(packed: &Region, len: u64) -> Result<Box<dyn Read>> {
    let bad = |what: &str| ForeignError::Packed {
        what: what.to_owned(),
    };
    let head = packed.bytes(0, usize::try_from(packed.len()).unwrap_or(9).min(9))?;
    let [_, _, 5, 0, props, a, b, c, d] = *head else {
        return Err(bad("it has no properties of LZMA").into());
    };
    let dictionary = u32::from_le_bytes([a, b, c, d]);
    if dictionary > DICTIONARY_KIB << 10 {
        return Err(bad("its dictionary is larger than any of its kind").into());
    }
    let source = source(packed, 9);
    let reader = lzma_rust2::LzmaReader::new_with_props(source, len, props, dictionary, None);
    Ok(Box::new(reader.map_err(damaged)?))
}

fn source(packed: &Region, at: u64) -> BufReader<Stream> {
    BufReader::with_capacity(64 << 10, Stream::new(packed, at))
}

fn damaged(error: io::Error) -> Error {
    match Stream::source_error(error) {
        Ok(source) => source,
        Err(error) => {
            let what = error.to_string();
            ForeignError::Packed { what }.into()
        }
    }
}

/// Reads to the end, or to what stops it.
fn drain(
    mut from: Box<dyn Read>,
    packed: &Region,
    scratch: &Path,
) -> Result<(Region, Option<Error>)> {
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
    fn entries_of_zip_archives() {
        let scratch = std::env::temp_dir();
        let data = b"numbers ".repeat(500);
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        encoder.write_all(&data).unwrap();
        let packed = Region::memory(encoder.finish().unwrap());
        let (out, stopped) = unpack_entry(&packed, 12, 4000, &scratch).unwrap().unwrap();
        assert!(stopped.is_none() && out.bytes(0, 4000).unwrap() == data);

        // b"numbers " * 500 as Python's zipfile writes it with ZIP_LZMA.
        let packed = b"\x09\x04\x05\x00\x5d\x00\x00\x80\x00\x00\x37\x1d\x49\xdd\x93\xea\xa6\x8f\xa2\x0f\x56\x55\x65\x8a\x35\xdb\x91\x72\x0e\x08\xfa\x27\x25\x93\xe5\x10\x7b\xf9\xf7\x65\x33\x6b\xd7\x96\x7f\xff\xef\x63\x00\x00";
        let packed = Region::memory(packed.to_vec());
        let (out, stopped) = unpack_entry(&packed, 14, 4000, &scratch).unwrap().unwrap();
        assert!(stopped.is_none() && out.bytes(0, 4000).unwrap() == data);

        let huge = Region::memory(b"\x09\x04\x05\0\x5d\xff\xff\xff\xff\0\0\0\0\0\0".to_vec());
        assert!(unpack_entry(&huge, 14, 1 << 40, &scratch).unwrap().is_err());
        let short = Region::memory(b"\x09".to_vec());
        assert!(unpack_entry(&short, 14, 1, &scratch).unwrap().is_err());
        assert!(unpack_entry(&short, 97, 1, &scratch).is_none());
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
