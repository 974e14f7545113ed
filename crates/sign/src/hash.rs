//! Digests of many files at once, in a fixed amount of memory.

use ir::{Context, Region, Result};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// A SHA-256 digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            let pair = text.get(at..at + 2).ok_or(())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

impl Digest {
    /// The digest over raw digests in turn.
    pub(crate) fn over<'a>(digests: impl Iterator<Item = &'a Self>) -> Self {
        let mut hash = Sha256::new();
        for digest in digests {
            hash.update(digest.0);
        }
        Self(hash.finalize().into())
    }
}

/// Bytes as lower-case hexadecimal text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text += &format!("{byte:02x}");
    }
    text
}

/// What one digest is taken of.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where the bytes are. Opened only while it is read, so that a folder of a million files does
    /// not need as many handles.
    pub source: Source,
    /// Which of them.
    pub bytes: Range<u64>,
}

/// Where bytes to hash are.
#[derive(Clone, Debug)]
pub enum Source {
    /// In a file that is opened for it.
    File(std::path::PathBuf),
    /// In what is open already.
    Region(Region),
}

impl Span {
    /// All of a file of known length.
    pub fn file(path: impl Into<std::path::PathBuf>, bytes: Range<u64>) -> Self {
        Self {
            source: Source::File(path.into()),
            bytes,
        }
    }

    /// All of a region.
    pub fn region(region: Region) -> Self {
        let bytes = 0..region.len();
        Self {
            source: Source::Region(region),
            bytes,
        }
    }

    fn len(&self) -> u64 {
        self.bytes.end.saturating_sub(self.bytes.start)
    }
}

/// Bytes one worker holds.
const CHUNK: u64 = 1 << 20;

/// The digest of each span. The spans are shared out among `threads` workers (0: one a core), the
/// longest first; each holds one buffer. An error is that of the first span that has one.
pub fn digests(spans: &[Span], threads: usize, cx: &Context) -> Result<Vec<Digest>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let workers = if threads == 0 { cores } else { threads };
    let workers = workers.min(spans.len()).max(1);
    let mut turns: Vec<usize> = (0..spans.len()).collect();
    turns.sort_by_key(|&n| std::cmp::Reverse(spans.get(n).map_or(0, Span::len)));
    let next = AtomicUsize::new(0);
    let total = spans.iter().map(Span::len).fold(0, u64::saturating_add);
    cx.progress.begin("hashing", total);
    let work = || {
        let mut done = Vec::new();
        let mut buffer = Vec::new();
        while let Some(&number) = turns.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Some(span) = spans.get(number) else { break };
            let result = digest(span, &mut buffer, cx);
            let failed = result.is_err();
            done.push((number, result));
            if failed {
                // Nothing else matters now: the others find no more turns.
                next.store(turns.len(), Ordering::Relaxed);
                break;
            }
        }
        done
    };
    let mut done = thread::scope(|scope| {
        let others: Vec<_> = (1..workers).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            // A worker does not panic; were it to, its spans would be missing below.
            done.extend(other.join().unwrap_or_default());
        }
        done
    });
    cx.progress.end();
    done.sort_by_key(|(number, _)| *number);
    let digests: Vec<Digest> = done
        .into_iter()
        .map(|(_, result)| result)
        .collect::<Result<_>>()?;
    if digests.len() < spans.len() {
        let what = "a worker ended early".to_owned();
        return Err(ir::Fault::Invalid { what }.into());
    }
    Ok(digests)
}

fn digest(span: &Span, buffer: &mut Vec<u8>, cx: &Context) -> Result<Digest> {
    let region = match &span.source {
        Source::File(path) => Region::open(path)?,
        Source::Region(region) => region.clone(),
    };
    let mut hash = Sha256::new();
    let mut at = span.bytes.start;
    while at < span.bytes.end {
        cx.cancel.check()?;
        let n = CHUNK.min(span.bytes.end - at);
        buffer.resize(usize::try_from(n).unwrap_or(0), 0);
        region.read_at(at, buffer)?;
        hash.update(&buffer);
        cx.progress.advance(n);
        at += n;
    }
    Ok(Digest(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the empty text and of `abc`, from FIPS 180-4's examples.
    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn any_number_of_workers_gives_the_same() {
        let region = Region::memory(&b"xabcx"[..]);
        let span = |bytes: Range<u64>| Span {
            source: Source::Region(region.clone()),
            bytes,
        };
        let spans = [span(0..0), span(1..4), span(0..5)];
        let cx = Context::default();
        let one = digests(&spans, 1, &cx).unwrap();
        assert_eq!(one[0].to_string(), EMPTY);
        assert_eq!(one[1].to_string(), ABC);
        assert_eq!(one, digests(&spans, 8, &cx).unwrap());
        assert!(digests(&[], 0, &cx).unwrap().is_empty());
        assert!(digests(&[span(0..6)], 2, &cx).is_err());
    }

    #[test]
    fn digests_have_one_spelling() {
        assert_eq!(ABC.parse::<Digest>().unwrap().to_string(), ABC);
        assert!("ab".parse::<Digest>().is_err());
        assert!(format!("+{}", &ABC[1..]).parse::<Digest>().is_err());
        assert!(format!("{}é", &ABC[2..]).parse::<Digest>().is_err());
    }
}
