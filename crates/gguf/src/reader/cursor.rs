//! The header, read front to back through windows of the file.

use crate::GgufError;
use bytes::Bytes;
use ir::{ByteOrder, Limits, Region, Result};

/// The first window: small headers are read whole, and little of the data behind them.
const WINDOW_MIN: u64 = 64 << 10;
/// Windows grow up to this.
const WINDOW_MAX: u64 = 4 << 20;

/// Reads a header. Nothing is allocated for a length before it is known that the file has as many
/// bytes, and what is answered as [`Bytes`] is a slice of the window, not a copy.
pub(super) struct Cursor<'a> {
    region: &'a Region,
    /// Bytes of the file from `start` on.
    window: Bytes,
    start: u64,
    /// How much of the window is read.
    at: usize,
    /// How long the next window should be.
    next: u64,
    /// Most bytes of the header.
    limit: u64,
    /// The byte order of numbers.
    pub(super) order: ByteOrder,
    /// Whether lengths are u64 (versions 2 and 3) or u32 (version 1).
    pub(super) wide: bool,
}

/// Reads a number of either byte order.
macro_rules! number {
    ($name:ident, $type:ty) => {
        pub(super) fn $name(&mut self, what: &'static str) -> Result<$type> {
            let raw = self.array(what)?;
            Ok(match self.order {
                ByteOrder::Little => <$type>::from_le_bytes(raw),
                ByteOrder::Big => <$type>::from_be_bytes(raw),
            })
        }
    };
}

impl<'a> Cursor<'a> {
    pub(super) fn new(region: &'a Region, limits: &Limits) -> Self {
        Self {
            region,
            window: Bytes::new(),
            start: 0,
            at: 0,
            next: WINDOW_MIN,
            limit: limits.header_bytes,
            order: ByteOrder::Little,
            wide: true,
        }
    }

    /// The offset in the file of the next byte.
    pub(super) fn position(&self) -> u64 {
        self.start.saturating_add(self.at as u64)
    }

    /// Bytes left in the file.
    pub(super) fn room(&self) -> u64 {
        self.region.len().saturating_sub(self.position())
    }

    /// Makes the window hold the next `n` bytes.
    fn fill(&mut self, n: usize, what: &'static str) -> Result<()> {
        if self.window.len() - self.at >= n {
            return Ok(());
        }
        let (offset, room) = (self.position(), self.room());
        let wanted = n as u64;
        if wanted > room {
            return Err(GgufError::HeaderCut {
                what,
                offset,
                wanted,
                len: self.region.len(),
            }
            .into());
        }
        let until = offset.saturating_add(wanted);
        Limits::check("bytes of the header", until, self.limit)?;
        let allowed = self.limit.saturating_sub(offset);
        let len = self.next.min(room).min(allowed).max(wanted);
        self.next = self.next.saturating_mul(4).min(WINDOW_MAX);
        let len = usize::try_from(len).unwrap_or(n).max(n);
        self.window = self.region.bytes(offset, len)?;
        self.start = offset;
        self.at = 0;
        Ok(())
    }

    /// The next `n` bytes.
    pub(super) fn take(&mut self, n: usize, what: &'static str) -> Result<Bytes> {
        self.fill(n, what)?;
        let bytes = self.window.slice(self.at..self.at + n);
        self.at += n;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        self.fill(N, what)?;
        let raw = self
            .window
            .get(self.at..)
            .and_then(|rest| rest.first_chunk());
        self.at += N;
        // `fill` has seen to it that they are there.
        Ok(raw.copied().unwrap_or([0; N]))
    }

    number!(u8, u8);
    number!(i8, i8);
    number!(u16, u16);
    number!(i16, i16);
    number!(u32, u32);
    number!(i32, i32);
    number!(u64, u64);
    number!(i64, i64);

    /// Four bytes as they stand.
    pub(super) fn magic(&mut self) -> Result<[u8; 4]> {
        self.array("the magic")
    }

    /// A length, a count or a dimension: of the width of the version.
    pub(super) fn length(&mut self, what: &'static str) -> Result<u64> {
        if self.wide {
            self.u64(what)
        } else {
            self.u32(what).map(u64::from)
        }
    }

    /// A count of things that take at least `each` bytes: no more than the file has room for.
    pub(super) fn count(&mut self, what: &'static str, each: u64) -> Result<usize> {
        let offset = self.position();
        let found = self.length(what)?;
        self.check_count(what, offset, found, each)
    }

    /// Checks a count against the rest of the file.
    pub(super) fn check_count(
        &self,
        what: &'static str,
        offset: u64,
        found: u64,
        each: u64,
    ) -> Result<usize> {
        let room = self.room();
        let most = room / each.max(1);
        usize::try_from(found)
            .ok()
            .filter(|_| found <= most)
            .ok_or_else(|| {
                GgufError::BadCount {
                    what,
                    offset,
                    found,
                    room,
                    most,
                }
                .into()
            })
    }

    /// A string.
    pub(super) fn string(&mut self, what: &'static str) -> Result<Bytes> {
        let n = self.count(what, 1)?;
        self.take(n, what)
    }

    /// A key or a name: text without a NUL. ggml keeps the bytes and compares up to the NUL, so
    /// that one key is two: `general.alignment\0x` sets the alignment there and nothing in gguf-py.
    pub(super) fn text(&mut self, length: &'static str, what: &'static str) -> Result<Bytes> {
        let offset = self.position();
        let bytes = self.string(length)?;
        let found = || bytes.iter().take(64).copied().collect();
        if std::str::from_utf8(&bytes).is_err() {
            let found = found();
            return Err(GgufError::NotText {
                what,
                offset,
                found,
            }
            .into());
        }
        if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
            let start = self.position().saturating_sub(bytes.len() as u64);
            return Err(GgufError::Nul {
                what,
                offset: start.saturating_add(at as u64),
                found: found(),
            }
            .into());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_join_without_a_seam() {
        let data: Vec<u8> = (0..200_000u32).flat_map(u32::to_le_bytes).collect();
        let region = Region::memory(data);
        let mut cursor = Cursor::new(&region, &Limits::default());
        for n in 0..200_000 {
            if n % 3 == 0 {
                assert_eq!(cursor.take(4, "x").unwrap()[..], u32::to_le_bytes(n));
            } else {
                assert_eq!(cursor.u32("x").unwrap(), n);
            }
        }
        assert_eq!((cursor.room(), cursor.position()), (0, 800_000));
        assert!(cursor.u8("x").is_err());
    }

    #[test]
    fn lengths_are_held_against_the_file() {
        let region = Region::memory([&u64::MAX.to_le_bytes()[..], b"abc"].concat());
        let mut cursor = Cursor::new(&region, &Limits::default());
        let error = cursor.string("a length").unwrap_err();
        assert!(
            error
                .message()
                .contains("the 3 bytes that follow hold at most 3"),
            "{error}"
        );
        let limits = Limits {
            header_bytes: 8,
            ..Limits::default()
        };
        let mut cursor = Cursor::new(&region, &limits);
        cursor.u64("x").unwrap();
        assert!(
            cursor
                .take(3, "x")
                .unwrap_err()
                .message()
                .contains("over the limit of 8")
        );
    }
}
