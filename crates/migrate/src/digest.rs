//! SHA-256 of files, and the manifests that `sha256sum -c` reads.

use ir::{ByteSource, Cancel, Region, Result, Tap};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Bytes that somebody passed over, and that are read so that the digest goes on with what follows:
/// a chunk that another thread has in hand. More may be a look at the end of the file.
const GAP: u64 = 1 << 20;

/// The digest of bytes wherever they are, in hex.
pub(crate) fn of_region(region: &Region, cancel: &Cancel) -> Result<String> {
    of_pieces(region, cancel, |_| Ok(()))
}

/// The digest of bytes that somebody else takes too, piece by piece.
pub(crate) fn of_pieces(
    region: &Region,
    cancel: &Cancel,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<String> {
    let mut hash = Sha256::new();
    each_piece(region, cancel, |bytes| {
        hash.update(bytes);
        take(bytes)
    })?;
    Ok(hex(&hash.finalize()))
}

/// Digests files while somebody else reads them, so that they are read once. What was read in
/// another order, or not at all, is read at the end.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<BTreeMap<PathBuf, Arc<Digested>>>);

impl Digests {
    /// Size and digest of a file; none of one that was never opened.
    pub(crate) fn of(&self, path: &Path, cancel: &Cancel) -> Result<Option<(u64, String)>> {
        let file = {
            let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            files.get(path).cloned()
        };
        let digest = |file: Arc<Digested>| Ok((file.inner.len(), file.finish(cancel)?));
        file.map(digest).transpose()
    }
}

impl Tap for Digests {
    fn opened(&self, path: &Path, region: Region) -> Region {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let file = files.entry(path.to_owned()).or_insert_with(|| {
            Arc::new(Digested {
                inner: region,
                state: Mutex::default(),
            })
        });
        Region::new(Arc::<Digested>::clone(file))
    }
}

/// A file, and the digest of its beginning.
struct Digested {
    inner: Region,
    state: Mutex<(Sha256, u64)>,
}

impl fmt::Debug for Digested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Digested {
    /// Takes bytes that were read, as far as they go on where the digest is.
    fn saw(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, at) = &mut *state;
        let end = offset.saturating_add(bytes.len() as u64);
        if end <= *at || offset.saturating_sub(*at) > GAP {
            return Ok(());
        }
        if offset > *at {
            let gap = self.inner.slice(*at, offset - *at)?;
            each_piece(&gap, &Cancel::default(), |piece| {
                hash.update(piece);
                *at += piece.len() as u64;
                Ok(())
            })?;
        }
        let known = usize::try_from(at.saturating_sub(offset)).unwrap_or(usize::MAX);
        hash.update(bytes.get(known..).unwrap_or_default());
        *at = end;
        Ok(())
    }

    fn finish(&self, cancel: &Cancel) -> Result<String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (hash, at) = &mut *state;
        each_piece(&self.inner.tail(*at)?, cancel, |piece| {
            hash.update(piece);
            *at += piece.len() as u64;
            Ok(())
        })?;
        Ok(hex(&hash.clone().finalize()))
    }
}

impl ByteSource for Digested {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, out)?;
        self.saw(offset, out)
    }

    fn path(&self) -> Option<&Path> {
        self.inner.path()
    }
}

/// Takes bytes piece by piece, from the first to the last.
fn each_piece(
    region: &Region,
    cancel: &Cancel,
    mut take: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < region.len() {
        cancel.check()?;
        let n = usize::try_from(region.len() - at).map_or(CHUNK, |left| left.min(CHUNK));
        let piece = buffer.get_mut(..n).unwrap_or_default();
        region.read_at(at, piece)?;
        take(piece)?;
        at += n as u64;
    }
    Ok(())
}

/// The digest of a text, shortened: a name for it.
pub(crate) fn short(text: &str) -> String {
    let mut hex = hex(&Sha256::digest(text.as_bytes()));
    hex.truncate(16);
    hex
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A manifest of files and digests, sorted by name.
pub(crate) fn manifest<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut lines: Vec<(&str, &str)> = files.into_iter().collect();
    lines.sort_unstable();
    lines
        .into_iter()
        .fold(String::new(), |text, (name, digest)| {
            text + &format!("{digest}  {name}\n")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_the_known_one() {
        let region = Region::memory(b"abc".to_vec());
        // FIPS 180-4, the example of one block.
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_region(&region, &Cancel::default()).unwrap(), known);
        assert_eq!(short("abc"), known[..16]);
    }

    #[test]
    fn in_whatever_order_a_file_is_read() {
        let bytes: Vec<u8> = (0..9u32 << 20).map(|n| n.to_le_bytes()[1]).collect();
        let whole = Region::memory(bytes.clone());
        let cancel = Cancel::default();
        let known = of_region(&whole, &cancel).unwrap();
        let spans: [&[(u64, usize)]; 5] = [
            &[],
            &[(0, 100), (50, 9000), (9050, 1 << 20)],
            &[(3 << 20, 77), (1 << 20, 5)],
            &[(8 << 20, 1 << 20), (0, 10), (9, 1)],
            &[(0, 9 << 20), (0, 9 << 20)],
        ];
        let path = Path::new("file");
        for spans in spans {
            let digests = Digests::default();
            let tapped = digests.opened(path, whole.clone());
            for (offset, len) in spans {
                let from = usize::try_from(*offset).unwrap();
                let read = tapped.bytes(*offset, *len).unwrap();
                assert_eq!(read, bytes[from..from + len]);
            }
            let told = digests.of(path, &cancel).unwrap();
            assert_eq!(told, Some((9 << 20, known.clone())), "{spans:?}");
            assert_eq!(digests.of(path, &cancel).unwrap(), told);
        }
        assert_eq!(Digests::default().of(path, &cancel).unwrap(), None);
    }
}
