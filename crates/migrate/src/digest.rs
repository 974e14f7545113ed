//! SHA-256 of files, and the manifests that `sha256sum -c` reads.

use ir::{Cancel, Region, Result};
use sha2::{Digest, Sha256};

/// Bytes read at once.
const CHUNK: usize = 256 << 10;

/// The digest of bytes wherever they are, in hex.
pub(crate) fn of_region(region: &Region, cancel: &Cancel) -> Result<String> {
    let mut hash = Sha256::new();
    each_piece(region, cancel, |bytes| {
        hash.update(bytes);
        Ok(())
    })?;
    Ok(hex(&hash.finalize()))
}

/// Takes bytes piece by piece, from the first to the last.
pub(crate) fn each_piece(
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
}
