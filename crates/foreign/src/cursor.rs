//! Little-endian numbers out of bytes, each read checked.

use bytes::Bytes;

/// A place in a piece of a file. Every read past the end is `None`.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    bytes: Bytes,
    at: usize,
}

impl Cursor {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    pub(crate) fn take(&mut self, n: usize) -> Option<Bytes> {
        let end = self
            .at
            .checked_add(n)
            .filter(|end| *end <= self.bytes.len())?;
        let out = self.bytes.slice(self.at..end);
        self.at = end;
        Some(out)
    }

    pub(crate) fn skip(&mut self, n: usize) -> Option<()> {
        self.take(n).map(drop)
    }

    pub(crate) fn expect(&mut self, what: &[u8]) -> Option<()> {
        (self.take(what.len())? == what).then_some(())
    }

    /// A number of 1 to 8 bytes.
    pub(crate) fn number(&mut self, width: usize) -> Option<u64> {
        let bytes = self.take(width).filter(|b| b.len() <= 8)?;
        Some(bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    pub(crate) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    /// A number that is a length here.
    pub(crate) fn len(&mut self, width: usize) -> Option<usize> {
        usize::try_from(self.number(width)?).ok()
    }

    /// Text up to a NUL, which is passed over.
    pub(crate) fn text(&mut self) -> Option<String> {
        let rest = self.bytes.get(self.at..)?;
        let end = rest.iter().position(|b| *b == 0)?;
        let text = self.take(end)?;
        self.skip(1)?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}
