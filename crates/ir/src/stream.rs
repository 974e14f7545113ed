//! A region as a stream, for decoders that know `std::io::Read` only.

use crate::{Error, Region};
use std::fmt;
use std::io::{self, Read};

/// Reads a region forward from an offset.
#[derive(Clone, Debug)]
pub struct Stream {
    region: Region,
    at: u64,
}

impl Stream {
    /// From byte `at` of the region to its end.
    pub fn new(region: &Region, at: u64) -> Self {
        let region = region.clone();
        Self { region, at }
    }

    /// The error of the region itself, if a decoder's error is one: a source that cannot be read is
    /// not damaged data. The decoder's own error comes back as it is.
    ///
    /// # Errors
    /// What the decoder found wrong.
    pub fn source_error(error: io::Error) -> Result<Error, io::Error> {
        error.downcast::<Unread>().map(|unread| unread.0)
    }
}

impl Read for Stream {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.region.len().saturating_sub(self.at);
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(out.len());
        let Some(part) = out.get_mut(..n) else {
            return Ok(0);
        };
        self.region
            .read_at(self.at, part)
            .map_err(|error| io::Error::other(Unread(error)))?;
        self.at += n as u64;
        Ok(n)
    }
}

/// The error of a source, on its way through a decoder.
#[derive(Debug)]
struct Unread(Error);

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Unread {}
