//! The end record and the central directory of a zip archive.
//!
//! Layouts are those of PKWARE's APPNOTE 6.3.10, sections 4.3.12 to 4.3.16.

use crate::error::CkptError;
use crate::pickle::Cursor;
use ir::{Anomaly, AnomalyKind, Limits, Region, Result};

pub(super) const LOCAL: [u8; 4] = *b"PK\x03\x04";
pub(super) const CENTRAL: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
pub(super) const END_LEN: usize = 22;
pub(super) const LOCATOR: [u8; 4] = *b"PK\x06\x07";
pub(super) const LOCATOR_LEN: u64 = 20;
pub(super) const END64: [u8; 4] = *b"PK\x06\x06";
pub(super) const END64_LEN: usize = 56;
/// The longest comment, and the end record before it.
pub(super) const TAIL: u64 = 65_535 + 22;

/// One row of the directory. Names lie in a pool of their own: an archive may have a million.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name_at: u32,
    pub(super) name_len: u16,
    pub(super) method: u16,
    pub(super) flags: u16,
    pub(super) crc: u32,
    pub(super) packed: u64,
    pub(super) size: u64,
    /// Absolute.
    pub(super) header_at: u64,
}

/// What the directory says.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) rows: Vec<Row>,
    pub(super) names: Vec<u8>,
    /// Bytes before the archive's own byte 0.
    pub(super) shift: u64,
    /// Where the directory lies. Absolute.
    pub(super) start: u64,
    /// One past the archive's last byte. Absolute.
    pub(super) end: u64,
    pub(super) comment: Vec<u8>,
    /// What no honest writer does: an error to whoever wants to use the archive.
    pub(super) hard: Vec<Anomaly>,
    /// What is merely odd.
    pub(super) soft: Vec<Anomaly>,
}

impl Row {
    pub(super) fn name<'a>(&self, names: &'a [u8]) -> &'a [u8] {
        let start = self.name_at as usize;
        names
            .get(start..start + usize::from(self.name_len))
            .unwrap_or_default()
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    array(bytes, at).map_or(0, u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    array(bytes, at).map_or(0, u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    array(bytes, at).map_or(0, u64::from_le_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn bad(what: impl Into<String>) -> ir::Error {
    CkptError::container("zip directory", what).into()
}

pub(super) fn odd(kind: AnomalyKind, place: impl Into<String>, what: impl Into<String>) -> Anomaly {
    Anomaly {
        kind,
        place: place.into(),
        what: what.into(),
    }
}

/// Whether there is an end record where one can be.
pub(crate) fn has_end(tail: &[u8]) -> bool {
    last_end(tail).is_some()
}

/// Whether the end record leads to a directory, whatever else is wrong with that.
pub(crate) fn has_directory(region: &Region) -> bool {
    let mut this = Directory::default();
    let start = this.find_end(region).and_then(|end| {
        this.place(region, &end)?;
        region.bytes(this.start, CENTRAL.len())
    });
    start.is_ok_and(|start| start == CENTRAL[..])
}

pub(super) fn last_end(tail: &[u8]) -> Option<usize> {
    let last = tail.len().checked_sub(END_LEN)?;
    (0..=last)
        .rev()
        .find(|&at| tail.get(at..at + 4) == Some(&END[..]))
}

/// Where the mark of an end record may begin. Its four bytes are unlike each other, and one of
/// them stands at every fourth place.
fn marks(bytes: &[u8]) -> impl Iterator<Item = usize> {
    let fourth = bytes.iter().enumerate().skip(3).step_by(4);
    fourth.filter_map(|(at, byte)| Some(at - END.iter().position(|mark| mark == byte)?))
}

/// What the end records say.
struct End {
    /// Where the directory must have ended. Absolute.
    at: u64,
    /// Entries in this volume, which is the only one.
    here: u64,
    count: u64,
    size: u64,
    offset: u64,
}

impl Directory {
    pub(super) fn read(region: &Region, limits: &Limits) -> Result<Self> {
        let mut this = Self::default();
        let end = this.find_end(region)?;
        this.place(region, &end)?;
        this.read_rows(region, &end, limits)?;
        Ok(this)
    }

    fn find_end(&mut self, region: &Region) -> Result<End> {
        let tail_len = region.len().min(TAIL);
        let tail_at = region.len() - tail_len;
        let tail = region.bytes(tail_at, usize::try_from(tail_len).unwrap_or(0))?;
        let Some(found) = last_end(&tail) else {
            return Err(CkptError::cut(
                "zip directory",
                "the archive has no end record, so its directory is lost",
            )
            .into());
        };
        let record = tail.get(found..).unwrap_or_default();
        let comment_len = usize::from(u16_at(record, 20));
        if let Some(comment) = record.get(END_LEN..END_LEN + comment_len) {
            self.comment = comment.to_vec();
        } else {
            let what = format!("the archive's comment of {comment_len} bytes is cut short");
            return Err(CkptError::cut("zip directory", what).into());
        }
        let end_at = tail_at + found as u64;
        self.end = end_at + (END_LEN + comment_len) as u64;
        if self.end < region.len() {
            let n = region.len() - self.end;
            self.soft.push(odd(
                AnomalyKind::HiddenBytes,
                format!("byte {}", self.end),
                format!("{n} bytes follow the archive"),
            ));
        }
        // An earlier end record whose comment reaches exactly to the end is one that another
        // reader would take.
        for at in marks(tail.get(..found).unwrap_or_default()) {
            let here = tail.get(at..).unwrap_or_default();
            let fits = here.starts_with(&END)
                && at + END_LEN + usize::from(u16_at(here, 20)) == tail.len();
            if fits {
                self.soft.push(odd(
                    AnomalyKind::SecondDirectory,
                    format!("byte {}", tail_at + at as u64),
                    "a second end record: readers disagree on what the archive holds",
                ));
            }
        }
        let mut end = End {
            at: end_at,
            here: u16_at(record, 8).into(),
            count: u16_at(record, 10).into(),
            size: u32_at(record, 12).into(),
            offset: u32_at(record, 16).into(),
        };
        if u16_at(record, 4) != 0 && u16_at(record, 4) != u16::MAX {
            // Python does not look.
            let what = "the archive is one of several volumes";
            self.hard
                .push(odd(AnomalyKind::Unreadable, "zip directory", what));
        }
        self.find_end64(region, &mut end)?;
        // PyTorch opens nothing else, Python does not look.
        if end.here != end.count {
            let (here, all) = (end.here, end.count);
            self.hard.push(odd(
                AnomalyKind::SecondDirectory,
                "zip directory",
                format!("the end record says {here} entries in this volume, and {all} in all"),
            ));
        }
        Ok(end)
    }

    /// The zip64 records, where a locator stands before the end record.
    fn find_end64(&mut self, region: &Region, end: &mut End) -> Result<()> {
        let needed = end.count == 0xffff || end.size == 0xffff_ffff || end.offset == 0xffff_ffff;
        let locator = end.at.checked_sub(LOCATOR_LEN);
        let locator = match locator {
            Some(at) => region.bytes(at, 20)?,
            None => bytes::Bytes::new(),
        };
        if !locator.starts_with(&LOCATOR) {
            return if needed {
                Err(bad("sizes are left to a zip64 record that is not there"))
            } else {
                Ok(())
            };
        }
        let told = u64_at(&locator, 8);
        let before = end.at.checked_sub(LOCATOR_LEN + END64_LEN as u64);
        let record_at = [Some(told), before].into_iter().flatten().find(|&at| {
            region
                .bytes(at, END64_LEN)
                .is_ok_and(|record| record.starts_with(&END64))
        });
        let Some(at) = record_at else {
            return Err(bad(format!("there is no zip64 end record at byte {told}")));
        };
        let record = region.bytes(at, END64_LEN)?;
        let wide = End {
            at,
            here: u64_at(&record, 24),
            count: u64_at(&record, 32),
            size: u64_at(&record, 40),
            offset: u64_at(&record, 48),
        };
        let differs = (end.count != 0xffff && end.count != wide.count & 0xffff)
            || (end.size != 0xffff_ffff && end.size != wide.size)
            || (end.offset != 0xffff_ffff && end.offset != wide.offset);
        if differs {
            self.hard.push(odd(
                AnomalyKind::SecondDirectory,
                "zip directory",
                format!(
                    "the end records disagree: {} entries at {} and {} entries at {}",
                    end.count, end.offset, wide.count, wide.offset
                ),
            ));
        }
        *end = wide;
        Ok(())
    }

    /// Finds where the directory is, and from where offsets count.
    fn place(&mut self, region: &Region, end: &End) -> Result<()> {
        let Some(real) = end.at.checked_sub(end.size) else {
            return Err(bad(format!(
                "the directory of {} bytes does not fit before byte {}",
                end.size, end.at
            )));
        };
        let Some(shift) = real.checked_sub(end.offset) else {
            return Err(bad(format!(
                "the directory is said to begin at byte {}, it can only begin at {real}",
                end.offset
            )));
        };
        self.start = real;
        self.shift = shift;
        if shift == 0 {
            return Ok(());
        }
        // Python counts offsets from where the directory must begin, torch from the file's start.
        let also = region
            .bytes(end.offset, 4)
            .is_ok_and(|bytes| bytes == CENTRAL[..]);
        if also {
            self.start = end.offset;
            self.shift = 0;
            self.hard.push(odd(
                AnomalyKind::SecondDirectory,
                format!("byte {real}"),
                format!(
                    "bytes between the directory at {} and its end record at {}: readers disagree \
                     on which directory counts",
                    end.offset, end.at
                ),
            ));
        } else {
            self.hard.push(odd(
                AnomalyKind::HiddenBytes,
                "byte 0",
                format!("{shift} bytes stand before the archive"),
            ));
        }
        Ok(())
    }

    fn read_rows(&mut self, region: &Region, end: &End, limits: &Limits) -> Result<()> {
        Limits::check("entries of the archive", end.count, limits.entries)?;
        Limits::check(
            "bytes of the archive's directory",
            end.size,
            limits.header_bytes,
        )?;
        let mut cursor = Cursor::new(region.slice(self.start, end.size)?, 0);
        // 46 bytes a row at least, so the count is no larger than the directory allows.
        let most = usize::try_from(end.count.min(end.size / 46)).unwrap_or(0);
        self.rows.reserve_exact(most);
        while cursor.remaining() > 0 {
            let Some(head) = cursor.bytes(46)?.filter(|head| head.starts_with(&CENTRAL)) else {
                return Err(bad(format!(
                    "no entry begins at byte {} of the directory",
                    cursor.position()
                )));
            };
            if self.rows.len() as u64 >= end.count {
                return Err(bad(format!(
                    "the end record says {} entries, the directory has more",
                    end.count
                )));
            }
            let lens = [28, 30, 32].map(|at| usize::from(u16_at(&head, at)));
            let [name_len, extra_len, comment_len] = lens;
            let Some(rest) = cursor.bytes(name_len + extra_len + comment_len)? else {
                return Err(bad("the directory ends within an entry"));
            };
            let name = rest.get(..name_len).unwrap_or_default();
            let extra = rest.get(name_len..name_len + extra_len).unwrap_or_default();
            Limits::check(
                "bytes of entry names",
                (self.names.len() + name_len) as u64,
                limits.held_bytes,
            )?;
            let mut row = Row {
                name_at: u32::try_from(self.names.len())
                    .map_err(|_| bad("too many entry names"))?,
                name_len: u16_at(&head, 28),
                flags: u16_at(&head, 8),
                method: u16_at(&head, 10),
                crc: u32_at(&head, 16),
                packed: u32_at(&head, 20).into(),
                size: u32_at(&head, 24).into(),
                header_at: u32_at(&head, 42).into(),
            };
            let wide = wide_fields(extra, [&mut row.size, &mut row.packed, &mut row.header_at]);
            if !wide {
                return Err(bad(format!(
                    "entry {} leaves its sizes to a zip64 field that is not there",
                    String::from_utf8_lossy(name)
                )));
            }
            row.header_at = row.header_at.saturating_add(self.shift);
            self.names.extend_from_slice(name);
            self.rows.push(row);
        }
        if self.rows.len() as u64 != end.count {
            return Err(bad(format!(
                "the end record says {} entries, the directory has {}",
                end.count,
                self.rows.len()
            )));
        }
        Ok(())
    }
}

/// Replaces saturated numbers by those of the zip64 extra field, in the order it has them.
/// `false` when one is missing.
pub(super) fn wide_fields<const N: usize>(extra: &[u8], numbers: [&mut u64; N]) -> bool {
    let mut field = zip64(extra);
    for number in numbers {
        if *number != 0xffff_ffff {
            continue;
        }
        let Some((wide, rest)) = field.and_then(<[u8]>::split_first_chunk::<8>) else {
            return false;
        };
        *number = u64::from_le_bytes(*wide);
        field = Some(rest);
    }
    true
}

/// The body of the zip64 extra field.
fn zip64(mut extra: &[u8]) -> Option<&[u8]> {
    while extra.len() >= 4 {
        let len = usize::from(u16_at(extra, 2));
        if u16_at(extra, 0) == 1 {
            return extra.get(4..4 + len);
        }
        extra = extra.get(4 + len..)?;
    }
    None
}
