//! Reading a region forward, a window at a time.

use bytes::Bytes;
use ir::{Region, Result};

/// Bytes fetched with one read, at most unless more are asked for.
const WINDOW: usize = 64 << 10;
/// Bytes fetched with the first one: pickles are often short, and one behind the other.
const FIRST: usize = 1 << 10;

/// A place in a region that moves forward. Only a window of it is ever in memory.
#[derive(Debug)]
pub(crate) struct Cursor {
    region: Region,
    window: Bytes,
    /// Where in the region the window begins.
    window_at: u64,
    /// How far into the window it has read.
    used: usize,
    /// Bytes to fetch next.
    next: usize,
}

impl Cursor {
    pub(crate) fn new(region: Region, at: u64) -> Self {
        Self {
            region,
            window: Bytes::new(),
            window_at: at,
            used: 0,
            next: FIRST,
        }
    }

    /// Begins with bytes that were read from the region before.
    pub(crate) fn ahead(region: Region, at: u64, window: Bytes) -> Self {
        Self {
            region,
            window,
            window_at: at,
            used: 0,
            next: WINDOW,
        }
    }

    /// What is in the window and was not used.
    pub(crate) fn unread(&self) -> Bytes {
        self.window.slice(self.used..)
    }

    /// Bytes from the start of the region.
    pub(crate) fn position(&self) -> u64 {
        self.window_at + self.used as u64
    }

    /// Goes to another place.
    pub(crate) fn seek(&mut self, at: u64) {
        self.window = Bytes::new();
        self.window_at = at;
        self.used = 0;
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.region.len().saturating_sub(self.position())
    }

    /// Moves the window so that it begins here.
    fn refill(&mut self, at_least: usize) -> Result<()> {
        let at = self.position();
        let len = usize::try_from(self.remaining()).unwrap_or(usize::MAX);
        self.window = self.region.bytes(at, len.min(self.next.max(at_least)))?;
        self.next = (self.next * 4).min(WINDOW);
        self.window_at = at;
        self.used = 0;
        Ok(())
    }

    /// The next byte, or `None` at the end.
    pub(crate) fn byte(&mut self) -> Result<Option<u8>> {
        if self.used == self.window.len() {
            self.refill(1)?;
        }
        let byte = self.window.get(self.used).copied();
        self.used += usize::from(byte.is_some());
        Ok(byte)
    }

    /// The next `len` bytes, or `None` when there are fewer. The caller has capped `len`.
    pub(crate) fn bytes(&mut self, len: usize) -> Result<Option<Bytes>> {
        if self.remaining() < len as u64 {
            return Ok(None);
        }
        if self.window.len() - self.used < len {
            self.refill(len)?;
        }
        let part = self.window.slice(self.used..self.used + len);
        self.used += len;
        Ok(Some(part))
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        Ok(self
            .bytes(N)?
            .and_then(|bytes| bytes.as_ref().try_into().ok()))
    }

    /// Steps over the next `len` bytes and answers them unread, or `None` when there are fewer.
    pub(crate) fn skip(&mut self, len: u64) -> Result<Option<Region>> {
        if self.remaining() < len {
            return Ok(None);
        }
        let at = self.position();
        let part = self.region.slice(at, len)?;
        match usize::try_from(len) {
            Ok(n) if n <= self.window.len() - self.used => self.used += n,
            _ => self.seek(at + len),
        }
        Ok(Some(part))
    }

    /// The bytes up to the next line feed, which is consumed and left out. `Err(n)` inside when
    /// no line feed comes within `max` bytes: `n` is how many were looked at.
    pub(crate) fn line(&mut self, max: u64) -> Result<std::result::Result<Bytes, u64>> {
        let start = self.position();
        let mut seen = 0usize;
        loop {
            let rest = self.window.get(self.used + seen..).unwrap_or_default();
            if let Some(found) = rest.iter().position(|&b| b == b'\n') {
                let len = seen + found;
                let line = self.window.slice(self.used..self.used + len);
                self.used += len + 1;
                return Ok(Ok(line));
            }
            seen = self.window.len() - self.used;
            let end = start + seen as u64 >= self.region.len();
            if end || seen as u64 > max {
                return Ok(Err(seen as u64));
            }
            // The window doubles, so a long line is looked at about twice.
            self.refill(seen.saturating_mul(2).saturating_add(1))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crosses_windows() {
        let mut data = vec![b'x'; WINDOW * 3];
        data[WINDOW + 5] = b'\n';
        let mut cursor = Cursor::new(Region::memory(data), 2);
        assert_eq!(cursor.byte().unwrap(), Some(b'x'));
        assert_eq!(cursor.line(u64::MAX).unwrap().unwrap().len(), WINDOW + 2);
        assert_eq!(cursor.position(), WINDOW as u64 + 6);
        assert_eq!(cursor.array::<4>().unwrap(), Some(*b"xxxx"));
        assert!(cursor.line(u64::MAX).unwrap().is_err());
        assert_eq!(
            cursor.skip(WINDOW as u64).unwrap().unwrap().len(),
            WINDOW as u64
        );
        assert!(cursor.skip(1 << 40).unwrap().is_none());
        let rest = cursor.remaining();
        assert!(
            cursor
                .bytes(usize::try_from(rest).unwrap() + 1)
                .unwrap()
                .is_none()
        );
        assert!(
            cursor
                .bytes(usize::try_from(rest).unwrap())
                .unwrap()
                .is_some()
        );
        assert_eq!(cursor.byte().unwrap(), None);
    }
}
