//! Parts of an upload while they fill: in memory within a bound, beyond it in a file without a
//! name.
//!
//! Writers write at offsets, nearly but not quite in order; a storage takes whole parts. So each
//! part counts the bytes it still lacks, and is handed out when none is left. When more parts are
//! open than may be in memory, the one touched longest ago moves to the file and is filled there.

use crate::StoreError;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;

/// The smallest part: S3 takes 5 MiB and up, and at most 10,000 of them.
const PART_MIN: u64 = 8 << 20;
const PARTS_MAX: u64 = 9_000;

/// How an upload is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) len: u64,
    pub(crate) part: u64,
}

impl Cut {
    /// All parts but the last are of one size, which some storages insist on.
    pub(crate) fn of(len: u64) -> Self {
        let even = len.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
        Self {
            len,
            part: even.max(PART_MIN),
        }
    }

    pub(crate) fn count(self) -> usize {
        usize::try_from(self.len.div_ceil(self.part)).unwrap_or(usize::MAX)
    }

    /// Where a part begins and how long it is.
    pub(crate) fn span(self, index: usize) -> (u64, usize) {
        let start = (index as u64).saturating_mul(self.part);
        let len = self.len.saturating_sub(start).min(self.part);
        (start, usize::try_from(len).unwrap_or(usize::MAX))
    }
}

/// A part that is not whole yet.
#[derive(Debug)]
enum Open {
    /// Its bytes, and when it was last written to.
    Memory(Vec<u8>, u64),
    /// In the file, at its place.
    Spooled,
}

/// The parts of one upload.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) cut: Cut,
    /// Bytes that each part still lacks.
    missing: Vec<u64>,
    open: BTreeMap<usize, Open>,
    touched: u64,
    pub(crate) spool: Spool,
}

impl Parts {
    /// Parts into which exactly these spans will be written.
    pub(crate) fn new(cut: Cut, spans: &[(u64, u64)], spool: Spool) -> Result<Self, StoreError> {
        let off = |text: &str| StoreError::OffPlan(text.to_owned());
        let mut missing = vec![0u64; cut.count()];
        let mut at = 0;
        for &(offset, len) in spans {
            let end = offset.checked_add(len).filter(|end| *end <= cut.len);
            let end = end.ok_or_else(|| off("a piece goes beyond the end"))?;
            if offset < at {
                return Err(off("pieces overlap"));
            }
            at = end;
            for (index, n) in cut.split(offset, len) {
                if let Some(part) = missing.get_mut(index) {
                    *part += n;
                }
            }
        }
        Ok(Self {
            cut,
            missing,
            open: BTreeMap::new(),
            touched: 0,
            spool,
        })
    }

    /// Bytes of memory that open parts take.
    pub(crate) fn held(&self) -> u64 {
        let len = |open: &Open| match open {
            Open::Memory(bytes, _) => bytes.len() as u64,
            Open::Spooled => 0,
        };
        self.open.values().map(len).sum()
    }

    /// Whether a part has a buffer or a place in the file already.
    pub(crate) fn is_open(&self, index: usize) -> bool {
        self.open.contains_key(&index)
    }

    /// Moves the part touched longest ago to the file. False where none is in memory.
    pub(crate) fn evict(&mut self) -> Result<bool, StoreError> {
        let oldest = self.open.iter().filter_map(|(index, open)| match open {
            Open::Memory(_, touched) => Some((*touched, *index)),
            Open::Spooled => None,
        });
        let Some((_, index)) = oldest.min() else {
            return Ok(false);
        };
        if let Some(Open::Memory(bytes, _)) = self.open.insert(index, Open::Spooled) {
            self.spool.write(self.cut.span(index).0, &bytes)?;
        }
        Ok(true)
    }

    /// Writes what of `bytes` belongs to one part; answers how much that is, and the part if it is
    /// whole now.
    pub(crate) fn write(
        &mut self,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(usize, Option<(usize, Whole)>), StoreError> {
        let off = |text: &str| StoreError::OffPlan(text.to_owned());
        let Some((index, n)) = self.cut.split(offset, bytes.len() as u64).next() else {
            return Err(off("bytes beyond the end"));
        };
        let n_bytes = usize::try_from(n).unwrap_or(usize::MAX);
        let (start, len) = self.cut.span(index);
        let missing = self
            .missing
            .get_mut(index)
            .ok_or_else(|| off("beyond the end"))?;
        *missing = missing
            .checked_sub(n)
            .ok_or_else(|| off("more bytes than planned"))?;
        let whole = *missing == 0;
        let here = bytes.get(..n_bytes).unwrap_or_default();
        self.touched += 1;
        let touched = self.touched;
        let open = self.open.entry(index);
        match open.or_insert_with(|| Open::Memory(vec![0; len], touched)) {
            Open::Memory(buffer, last) => {
                *last = touched;
                let skip = usize::try_from(offset - start).unwrap_or(usize::MAX);
                let into = buffer.get_mut(skip..skip.saturating_add(here.len()));
                into.ok_or_else(|| off("beyond the part"))?
                    .copy_from_slice(here);
            }
            Open::Spooled => self.spool.write(offset, here)?,
        }
        let part = whole.then(|| match self.open.remove(&index) {
            Some(Open::Memory(bytes, _)) => Whole::Memory(bytes),
            _ => Whole::Spooled,
        });
        Ok((n_bytes, part.map(|part| (index, part))))
    }

    /// Whether every byte that was planned is here.
    pub(crate) fn all_whole(&self) -> bool {
        self.open.is_empty() && self.missing.iter().all(|n| *n == 0)
    }
}

/// A part that is whole.
#[derive(Debug)]
pub(crate) enum Whole {
    Memory(Vec<u8>),
    Spooled,
}

impl Cut {
    /// The parts that a span touches, and how many of its bytes each holds.
    fn split(self, offset: u64, len: u64) -> impl Iterator<Item = (usize, u64)> {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let index = at / self.part;
            let n = ((index + 1) * self.part).min(end) - at;
            at += n;
            Some((usize::try_from(index).unwrap_or(usize::MAX), n))
        })
    }
}

/// A file without a name, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Spool(Option<File>);

impl Spool {
    fn file(&mut self) -> Result<&File, StoreError> {
        if self.0.is_none() {
            self.0 = Some(tempfile::tempfile().map_err(|error| disk(&error))?);
        }
        self.0
            .as_ref()
            .ok_or_else(|| StoreError::Disk(String::new()))
    }

    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        native::write_all_at(self.file()?, bytes, offset).map_err(|error| disk(&error))
    }

    /// A span of what was written; what never was is zero.
    pub(crate) fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; len];
        native::read_at(self.file()?, &mut bytes, offset).map_err(|error| disk(&error))?;
        Ok(bytes)
    }
}

fn disk(error: &io::Error) -> StoreError {
    StoreError::Disk(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|n| u8::try_from(n * 31 % 251).unwrap())
            .collect()
    }

    #[test]
    fn cuts_keep_the_limits_of_storages() {
        for len in [0, 1, 8 << 20, (8 << 20) + 1, 100 << 30, 5 << 40] {
            let cut = Cut::of(len);
            assert!(cut.part >= 5 << 20 && cut.part <= 5 << 30 && cut.count() <= 10_000);
            let last = cut.count().saturating_sub(1);
            let (start, n) = cut.span(last);
            assert_eq!(start + n as u64, len, "{len}");
        }
    }

    /// Written in any order, with a gap, part of it through the file.
    #[test]
    fn parts_come_out_whole() {
        let cut = Cut { len: 95, part: 10 };
        let data = bytes(95);
        let spans = [(0, 33), (40, 30), (70, 25)];
        let mut parts = Parts::new(cut, &spans, Spool::default()).unwrap();
        let mut found = [0; 95];
        let mut seen = 0;
        let mut order: Vec<usize> = (0..95).filter(|n| !(33..40).contains(n)).collect();
        order.sort_by_key(|n| n * 37 % 95);
        for at in order {
            if at % 7 == 0 {
                parts.evict().unwrap();
            }
            let (n, whole) = parts.write(at as u64, &data[at..=at]).unwrap();
            assert_eq!(n, 1);
            if let Some((index, whole)) = whole {
                let (start, len) = cut.span(index);
                let part = match whole {
                    Whole::Memory(part) => part,
                    Whole::Spooled => parts.spool.read(start, len).unwrap(),
                };
                found[usize::try_from(start).unwrap()..][..len].copy_from_slice(&part);
                seen += 1;
            }
        }
        assert!(parts.all_whole() && seen == 10);
        assert_eq!(found[..33], data[..33]);
        assert_eq!(found[33..40], [0; 7]);
        assert_eq!(found[40..], data[40..]);
    }

    #[test]
    fn what_was_not_planned_is_an_error() {
        let cut = Cut { len: 20, part: 10 };
        assert!(Parts::new(cut, &[(15, 6)], Spool::default()).is_err());
        assert!(Parts::new(cut, &[(0, 6), (5, 2)], Spool::default()).is_err());
        assert!(Parts::new(cut, &[(u64::MAX, 2)], Spool::default()).is_err());
        let mut parts = Parts::new(cut, &[(0, 4)], Spool::default()).unwrap();
        parts.write(0, &[1; 4]).unwrap();
        assert!(parts.write(0, &[1]).is_err());
        assert!(parts.write(20, &[1]).is_err());
    }
}
