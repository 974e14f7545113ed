//! HDF5, as far as a loader of models follows it: texts in attributes, and whatever leads to other
//! files.
//!
//! | offset | superblock 0 and 1 | superblock 2 and 3 |
//! |---|---|---|
//! | 0 | signature | signature |
//! | 8 | version | version |
//! | 9 | versions of parts | bytes of an address, of a length, flags |
//! | 13 | bytes of an address, of a length | base address at 12, root's header as the fourth address |
//! | 24 or 28 | base address, 3 more, the root's entry | |
//!
//! The layout is that of the HDF5 File Format Specification 3.0. Numbers in datasets are data and
//! are not read. Names and links are followed from the root, each object once.

mod attribute;
mod header;
mod heap;
mod links;

use crate::ForeignError;
use crate::cursor::Cursor;
use bytes::Bytes;
use header::Messages;
use ir::{Error, Region, Result};
use std::collections::HashSet;

/// Objects followed.
const OBJECTS: usize = 200_000;
/// Bytes of texts kept.
const TEXTS: usize = 16 << 20;

/// What a file holds that a loader interprets.
#[derive(Debug, Default)]
pub struct Contents {
    /// Texts in attributes, in the order they are met.
    pub attributes: Vec<Attribute>,
    /// Whatever leads out of the file.
    pub outside: Vec<Outside>,
}

/// A text in an attribute.
#[derive(Debug)]
pub struct Attribute {
    /// The object's path.
    pub object: String,
    /// The attribute's name.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// A part of the file that lies in another file.
#[derive(Debug)]
pub struct Outside {
    /// The object's path.
    pub object: String,
    /// `external link`, `external storage`, `virtual dataset`.
    pub how: &'static str,
    /// The other file.
    pub file: String,
}

/// Reads a file. With what was found comes what stopped it.
pub fn read(region: &Region) -> (Contents, Option<Error>) {
    let mut reader = match Reader::open(region) {
        Ok(reader) => reader,
        Err(error) => return (Contents::default(), Some(error)),
    };
    let error = reader.walk().err();
    (reader.out, error)
}

/// An address that means "none".
const fn undefined(width: usize) -> u64 {
    if width >= 8 {
        u64::MAX
    } else {
        (1 << (width * 8)) - 1
    }
}

struct Reader {
    region: Region,
    /// Bytes of an address and of a length.
    offset: usize,
    length: usize,
    root: u64,
    out: Contents,
    held: usize,
}

fn broken(what: &'static str, at: u64) -> Error {
    ForeignError::Hdf5 { what, at }.into()
}

impl Reader {
    fn open(region: &Region) -> Result<Self> {
        let mut base = 0;
        loop {
            let mut magic = [0; 8];
            region
                .read_at(base, &mut magic)
                .map_err(|_| broken("no signature", base))?;
            if magic == *b"\x89HDF\r\n\x1a\n" {
                break;
            }
            base = if base == 0 { 512 } else { base * 2 };
        }
        let bad = || broken("the superblock is damaged", base);
        let len = (region.len() - base).min(256);
        let mut head = Cursor::new(region.bytes(base, usize::try_from(len).unwrap_or(0))?);
        head.skip(8).ok_or_else(bad)?;
        let version = head.byte().ok_or_else(bad)?;
        let old = version < 2;
        if version > 3 {
            return Err(broken("a superblock of an unknown version", base));
        }
        head.skip(if old { 4 } else { 0 }).ok_or_else(bad)?;
        let offset = head.len(1).ok_or_else(bad)?;
        let length = head.len(1).ok_or_else(bad)?;
        if !matches!(offset, 2 | 4 | 8) || !matches!(length, 2 | 4 | 8) {
            return Err(broken("addresses of an unknown width", base));
        }
        let skip = match version {
            0 => 9,
            1 => 13,
            _ => 1,
        };
        head.skip(skip).ok_or_else(bad)?;
        let start = head.number(offset).ok_or_else(bad)?;
        // Free space or extension, end of file, and with the old ones the driver and a name.
        let between = if old { 4 } else { 2 };
        head.skip(offset * between).ok_or_else(bad)?;
        let root = head.number(offset).ok_or_else(bad)?;
        // Addresses count from the base address; files with a block before it say where that is.
        let start = if start == 0 { base } else { start };
        Ok(Self {
            region: region.tail(start).map_err(|_| bad())?,
            offset,
            length,
            root,
            out: Contents::default(),
            held: 0,
        })
    }

    /// Bytes at an address, or what there is of them.
    fn at_most(&self, at: u64, len: usize) -> Result<Bytes> {
        let left = self.region.len().saturating_sub(at);
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(len);
        if len == 0 {
            return Err(broken("an address lies outside the file", at));
        }
        self.region.bytes(at, len)
    }

    fn walk(&mut self) -> Result<()> {
        let mut seen = HashSet::from([self.root]);
        let mut open = vec![(self.root, "/".to_owned())];
        while let Some((address, path)) = open.pop() {
            let messages = Messages::read(self, address)?;
            for link in self.object(&messages, &path)? {
                if seen.len() >= OBJECTS {
                    return Err(broken("more objects than are followed", address));
                }
                if seen.insert(link.address) {
                    let below = format!("{}/{}", path.trim_end_matches('/'), link.name);
                    // A path is for people: a chain of thousands of groups is not shown whole.
                    let below = below.chars().take(400).collect();
                    open.push((link.address, below));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_told_and_ends() {
        for len in [0, 8, 9, 40, 96, 200] {
            let mut bytes = vec![0; len];
            let magic = b"\x89HDF\r\n\x1a\n";
            let n = magic.len().min(len);
            bytes[..n].copy_from_slice(&magic[..n]);
            let (_, error) = read(&Region::memory(bytes));
            assert!(error.is_some(), "{len}");
        }
    }
}
