//! Zip archives, read so that disagreements show.
//!
//! The `zip` crate would give one view of an archive and copy its entries. Here absolute offsets
//! are needed, so that storages are copied inside the kernel, and everything an archive says
//! twice, so that lies are seen: an entry's own header beside the directory, duplicates, bytes
//! that belong to nothing.

mod audit;
mod chain;
mod directory;

pub(crate) use chain::chain;
pub(crate) use directory::{has_directory, has_end};

use super::inflate;
use crate::error::CkptError;
use directory::{Directory, LOCAL, Row, u16_at, u32_at, wide_fields};
use ir::{Anomaly, AnomalyKind, Checksum, Limits, Region, Result};
use std::cmp::Ordering;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
/// Sizes and checksum follow the data; the entry's own header has zeros.
const SIZES_FOLLOW: u16 = 1 << 3;
/// Encrypted, patched, strongly encrypted, masked: no writer of checkpoints sets these.
const ODD_FLAGS: u16 = 1 | 1 << 5 | 1 << 6 | 1 << 13;
/// Checksums of entries up to this size are verified; storages never are.
const CHECKED: u64 = 16 << 20;
/// Bytes of an entry's own header before its name.
const LOCAL_LEN: usize = 30;

/// An archive whose directory has been read.
#[derive(Debug)]
pub(crate) struct Archive {
    region: Region,
    directory: Directory,
    /// Positions of rows, sorted by name.
    by_name: Vec<u32>,
    /// Where entries begin, sorted. Absolute.
    starts: Vec<u64>,
}

/// Where an entry's data lies.
#[derive(Debug)]
pub(crate) struct Located {
    /// Absolute.
    pub(crate) data_at: u64,
    /// How its own header differs from the directory.
    pub(crate) mismatches: Vec<(AnomalyKind, String)>,
}

impl Archive {
    pub(crate) fn read(region: &Region, limits: &Limits) -> Result<Self> {
        let directory = Directory::read(region, limits)?;
        let mut by_name: Vec<u32> = (0u32..).take(directory.rows.len()).collect();
        let name = |&i: &u32| {
            let row: Option<&Row> = directory.rows.get(i as usize);
            row.map_or(&[][..], |row| row.name(&directory.names))
        };
        by_name.sort_by(|a, b| name(a).cmp(name(b)).then(a.cmp(b)));
        let mut starts: Vec<u64> = directory.rows.iter().map(|row| row.header_at).collect();
        starts.sort_unstable();
        Ok(Self {
            region: region.clone(),
            by_name,
            starts,
            directory,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.directory.rows.len()
    }

    fn row(&self, entry: usize) -> Result<&Row> {
        self.directory
            .rows
            .get(entry)
            .ok_or_else(|| CkptError::container("zip directory", "no such entry").into())
    }

    /// The name of an entry, as bytes.
    pub(crate) fn raw_name(&self, entry: usize) -> &[u8] {
        let row = self.directory.rows.get(entry);
        row.map_or(&[], |row| row.name(&self.directory.names))
    }

    /// The name of an entry, for people.
    pub(crate) fn name(&self, entry: usize) -> String {
        let name = String::from_utf8_lossy(self.raw_name(entry));
        if name.chars().any(char::is_control) {
            name.escape_debug().to_string()
        } else {
            name.into_owned()
        }
    }

    /// The unpacked size of an entry, as the directory tells it.
    pub(crate) fn size(&self, entry: usize) -> u64 {
        self.directory.rows.get(entry).map_or(0, |row| row.size)
    }

    /// Entries of exactly this name.
    pub(crate) fn named(&self, name: &[u8]) -> &[u32] {
        let order = |i: &u32, wanted: Ordering| self.raw_name(*i as usize).cmp(name) == wanted;
        let start = self.by_name.partition_point(|i| order(i, Ordering::Less));
        let rest = self.by_name.get(start..).unwrap_or_default();
        let len = rest.partition_point(|i| order(i, Ordering::Equal));
        rest.get(..len).unwrap_or_default()
    }

    /// The one entry of this name; two are an error.
    pub(crate) fn find(&self, name: &[u8]) -> Result<Option<usize>> {
        match self.named(name) {
            [] => Ok(None),
            [one] => Ok(Some(*one as usize)),
            many => Err(CkptError::container(
                format!("entry {}", String::from_utf8_lossy(name)),
                format!(
                    "the archive has {} entries of this name, and loaders disagree on which counts",
                    many.len()
                ),
            )
            .into()),
        }
    }

    /// An error if the archive as a whole is not what it says.
    pub(crate) fn check_honest(&self) -> Result<()> {
        if let Some(lie) = self.directory.hard.first() {
            return Err(CkptError::container(lie.place.clone(), lie.what.clone()).into());
        }
        if let Some(pair) = self
            .starts
            .windows(2)
            .find(|pair| pair.first() == pair.last())
        {
            let at = pair.first().copied().unwrap_or(0);
            return Err(CkptError::container(
                "zip directory",
                format!("two entries share the record at byte {at}"),
            )
            .into());
        }
        Ok(())
    }

    /// Reads an entry's own header and compares it with the directory.
    pub(crate) fn locate(&self, entry: usize) -> Result<Located> {
        let row = self.row(entry)?;
        let name = self.raw_name(entry);
        let fail = |what: String| CkptError::container(self.place(entry), what);
        let len = LOCAL_LEN + name.len();
        if row.header_at.saturating_add(len as u64) > self.directory.start {
            let at = row.header_at;
            return Err(fail(format!("its record at byte {at} lies beyond the entries")).into());
        }
        let head = self.region.bytes(row.header_at, len)?;
        if !head.starts_with(&LOCAL) {
            return Err(fail(format!("there is no record at byte {}", row.header_at)).into());
        }
        let (name_len, extra_len) = (u16_at(&head, 26), u16_at(&head, 28));
        let extra_at = row.header_at + LOCAL_LEN as u64 + u64::from(name_len);
        let data_at = extra_at + u64::from(extra_len);
        let mut local = Row {
            flags: u16_at(&head, 6),
            method: u16_at(&head, 8),
            crc: u32_at(&head, 14),
            packed: u32_at(&head, 18).into(),
            size: u32_at(&head, 22).into(),
            ..*row
        };
        if local.packed == 0xffff_ffff || local.size == 0xffff_ffff {
            let extra = self.region.bytes(extra_at, usize::from(extra_len))?;
            wide_fields(&extra, [&mut local.size, &mut local.packed]);
        }
        let mut mismatches = Vec::new();
        let mut differ = |what: &str, here: String, there: String| {
            let text = format!("its record says {what} {here}, the directory {there}");
            mismatches.push((AnomalyKind::HeaderMismatch, text));
        };
        let own_name = head.get(LOCAL_LEN..).unwrap_or_default();
        if usize::from(name_len) != name.len() || own_name != name {
            let own = own_name.get(..usize::from(name_len)).unwrap_or(own_name);
            differ(
                "the name is",
                own.escape_ascii().to_string(),
                name.escape_ascii().to_string(),
            );
        }
        if local.method != row.method {
            differ("method", local.method.to_string(), row.method.to_string());
        }
        if (local.flags ^ row.flags) & (ODD_FLAGS | SIZES_FOLLOW) != 0 {
            differ(
                "flags",
                format!("{:#x}", local.flags),
                format!("{:#x}", row.flags),
            );
        }
        // With sizes that follow the data, the record has zeros or the right numbers.
        let late = local.flags & SIZES_FOLLOW != 0;
        for (what, here, there) in [
            ("checksum", u64::from(local.crc), u64::from(row.crc)),
            ("packed size", local.packed, row.packed),
            ("size", local.size, row.size),
        ] {
            if here != there && !(late && here == 0) {
                differ(what, here.to_string(), there.to_string());
            }
        }
        if (row.flags | local.flags) & ODD_FLAGS != 0 {
            let text = format!("flags {:#x}: marked as encrypted", row.flags | local.flags);
            mismatches.push((AnomalyKind::OddFlags, text));
        }
        if row.method == STORED && row.packed != row.size {
            mismatches.push((
                AnomalyKind::SizeMismatch,
                format!("stored in {} bytes, said to have {}", row.packed, row.size),
            ));
        }
        let end = data_at.checked_add(row.packed);
        let next = self.starts.partition_point(|&start| start <= row.header_at);
        let bound = self
            .starts
            .get(next)
            .copied()
            .unwrap_or(self.directory.start);
        if end.is_none_or(|end| end > bound.min(self.directory.start)) {
            mismatches.push((
                AnomalyKind::SizeMismatch,
                format!(
                    "its {} bytes reach into what follows at byte {bound}",
                    row.packed
                ),
            ));
        }
        Ok(Located {
            data_at,
            mismatches,
        })
    }

    /// Where an entry lies, for messages.
    pub(crate) fn place(&self, entry: usize) -> String {
        format!("entry {}", self.name(entry))
    }

    /// The packed bytes of an entry; an error if it is not what it says.
    fn packed(&self, entry: usize) -> Result<(&Row, Region)> {
        let row = self.row(entry)?;
        let located = self.locate(entry)?;
        if let Some((_, what)) = located.mismatches.first() {
            return Err(CkptError::container(self.place(entry), what.clone()).into());
        }
        if row.method != STORED && row.method != DEFLATED {
            return Err(CkptError::Unsupported {
                place: self.place(entry),
                what: format!("compression method {}", row.method),
                help: "Unpack the archive and pack it again without compression",
            }
            .into());
        }
        Ok((row, self.region.slice(located.data_at, row.packed)?))
    }

    /// The contents of a small entry: a slice of the file, or unpacked into memory. Its checksum
    /// is verified.
    pub(crate) fn small(&self, entry: usize, limits: &Limits) -> Result<Region> {
        let (row, packed) = self.packed(entry)?;
        let region = if row.method == STORED {
            packed
        } else {
            let bytes = inflate::to_memory(&packed, row.size, limits)
                .map_err(|error| error.at(self.place(entry)))?;
            Region::memory(bytes)
        };
        // torch writes 0 when it is told not to compute checksums.
        if row.size <= CHECKED && row.crc != 0 {
            let found = inflate::checksum(&region)?;
            if found != row.crc {
                return Err(CkptError::container(
                    self.place(entry),
                    format!("its checksum is {found:08x}, it should be {:08x}", row.crc),
                )
                .into());
            }
        }
        Ok(region)
    }

    /// The contents of a storage: a slice of the file where it is stored, else a part of `pool`
    /// that is unpacked when it is first read.
    pub(crate) fn storage(&self, entry: usize, pool: &mut inflate::Pool) -> Result<Region> {
        let (row, packed) = self.packed(entry)?;
        if row.method == STORED {
            // 0 is what torch writes when it is told not to compute checksums.
            if row.crc != 0 {
                let place = self.place(entry);
                pool.sums.push(Checksum {
                    region: packed.clone(),
                    digest: ir::Digest::Crc32(row.crc),
                    place,
                });
            }
            return Ok(packed);
        }
        let added = pool.add(packed, row.size, row.crc, self.place(entry));
        added.map_err(|error| error.at(self.place(entry)))
    }

    /// The contents of an entry whatever lies it tells, for `scan`: in each way a reader might
    /// take them.
    pub(crate) fn loose(&self, entry: usize) -> Vec<Region> {
        let Ok(row) = self.row(entry) else {
            return Vec::new();
        };
        let Ok(head) = self.region.bytes(row.header_at, LOCAL_LEN) else {
            return Vec::new();
        };
        let local = Row {
            method: u16_at(&head, 8),
            packed: u32_at(&head, 18).into(),
            ..*row
        };
        let skip = LOCAL_LEN as u64 + u64::from(u16_at(&head, 26)) + u64::from(u16_at(&head, 28));
        let data_at = row.header_at.saturating_add(skip);
        let Some(most) = self.region.len().checked_sub(data_at) else {
            return Vec::new();
        };
        let mut out = Vec::new();
        let mut ways = vec![(row.method, row.packed.max(row.size))];
        if local.method != row.method {
            ways.push((local.method, row.packed.max(local.packed)));
        }
        for (method, len) in ways {
            let Ok(packed) = self.region.slice(data_at, len.min(most)) else {
                continue;
            };
            if method == STORED {
                out.push(packed);
            } else if method == DEFLATED {
                out.push(Region::memory(inflate::what_there_is(&packed)));
            }
        }
        out
    }

    /// How an entry is packed if that is neither of the two methods that PyTorch knows, its packed
    /// bytes, and its checksum.
    pub(crate) fn otherwise(&self, entry: usize) -> Option<(u16, Region, u32)> {
        let row = self.row(entry).ok()?;
        let known = row.method == STORED || row.method == DEFLATED;
        let located = self.locate(entry).ok().filter(|_| !known)?;
        // What is said to be longer than the file is as long as it can be.
        let most = self.region.len().checked_sub(located.data_at)?;
        let packed = self.region.slice(located.data_at, row.packed.min(most));
        Some((row.method, packed.ok()?, row.crc))
    }

    /// Bytes before the archive.
    pub(crate) fn before(&self) -> u64 {
        self.starts.first().copied().unwrap_or(0)
    }

    /// Where the archive ends in its file.
    pub(crate) fn end(&self) -> u64 {
        self.directory.end
    }

    /// Names of entries that no honest archive has.
    pub(crate) fn unsafe_name(name: &[u8]) -> Option<&'static str> {
        if name.first().is_some_and(|b| matches!(b, b'/' | b'\\')) || name.get(1) == Some(&b':') {
            return Some("an absolute name");
        }
        if name.iter().any(u8::is_ascii_control) {
            return Some("control characters in its name");
        }
        if name
            .split(|b| matches!(b, b'/' | b'\\'))
            .any(|part| part == b"..")
        {
            return Some("a name that leaves the archive");
        }
        None
    }

    /// Everything odd about the archive as a whole and each of its entries.
    pub(crate) fn anomalies(&self, limits: &Limits) -> Vec<Anomaly> {
        audit::audit(self, limits)
    }

    /// The archive's comment.
    pub(crate) fn comment(&self) -> &[u8] {
        &self.directory.comment
    }
}

#[cfg(test)]
mod tests;
