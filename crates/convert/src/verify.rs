//! Holding tensor bytes against the checksums their files tell.

use crate::{ConvertError, ParallelPump};
use ir::{Checksum, Context, Digest, Error, Model, Result};
use sha1::Digest as _;

/// Bytes summed at once.
const CHUNK: u64 = 1 << 20;

/// Reads every stretch of bytes that has a checksum, and compares. The first that differs is an
/// error. Answers how many bytes were compared.
pub fn verify(model: &Model, pump: &ParallelPump, cx: &Context) -> Result<u64> {
    let sums = &model.provenance.checksums;
    let bytes = sums
        .iter()
        .fold(0u64, |n, sum| n.saturating_add(sum.region.len()));
    cx.progress.begin("verifying", bytes);
    let done = pump.for_each(sums.len(), |index, buffer: &mut Vec<u8>| {
        sums.get(index)
            .map_or(Ok(()), |sum| compare(sum, buffer, cx))
    });
    cx.progress.end();
    done.map(|()| bytes)
}

fn compare(sum: &Checksum, buffer: &mut Vec<u8>, cx: &Context) -> Result<()> {
    let mut hasher = match sum.digest {
        Digest::Crc32(_) => Hasher::Crc32(crc32fast::Hasher::new()),
        Digest::Sha1(_) => Hasher::Sha1(sha1::Sha1::new()),
    };
    let mut at = 0;
    while at < sum.region.len() {
        cx.cancel.check()?;
        let n = CHUNK.min(sum.region.len() - at);
        buffer.resize(usize::try_from(n).unwrap_or(0), 0);
        sum.region.read_at(at, buffer)?;
        hasher.update(buffer);
        cx.progress.advance(n);
        at += n;
    }
    let found = hasher.finish();
    if found == sum.digest {
        return Ok(());
    }
    let error = Error::from(ConvertError::Checksum {
        found: words(found),
        expected: words(sum.digest),
    });
    let error = error.at(sum.place.clone());
    Err(match sum.region.path() {
        Some(path) => error.in_file(path),
        None => error,
    })
}

enum Hasher {
    Crc32(crc32fast::Hasher),
    Sha1(sha1::Sha1),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc32(hasher) => hasher.update(bytes),
            Self::Sha1(hasher) => hasher.update(bytes),
        }
    }

    fn finish(self) -> Digest {
        match self {
            Self::Crc32(hasher) => Digest::Crc32(hasher.finalize()),
            Self::Sha1(hasher) => Digest::Sha1(hasher.finalize().into()),
        }
    }
}

/// `CRC-32 0x0000abcd`.
fn words(digest: Digest) -> String {
    match digest {
        Digest::Crc32(sum) => format!("CRC-32 {sum:#010x}"),
        Digest::Sha1(sum) => sum.iter().fold("SHA-1 ".to_owned(), |text, byte| {
            text + &format!("{byte:02x}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Region;

    #[test]
    fn a_flipped_bit_is_told() {
        let pump = ParallelPump::new(2, 1 << 20).unwrap();
        let check = |digest| {
            let region = Region::memory(&b"123456789"[..]);
            let mut model = Model::default();
            model.provenance.checksums = vec![Checksum {
                region,
                digest,
                place: "entry x".into(),
            }];
            verify(&model, &pump, &Context::default())
        };
        assert_eq!(check(Digest::Crc32(0xcbf4_3926)).unwrap(), 9);
        let sha1 =
            *b"\xf7\xc3\xbc\x1d\x80\x8e\x04\x73\x2a\xdf\x67\x99\x65\xcc\xc3\x4c\xa7\xae\x34\x41";
        assert_eq!(check(Digest::Sha1(sha1)).unwrap(), 9);
        assert!(check(Digest::Sha1([0; 20])).is_err());
        let error = check(Digest::Crc32(0xcbf4_3927)).unwrap_err();
        assert_eq!(error.class(), ir::Class::Malformed);
        assert!(error.to_string().starts_with("entry x: "), "{error}");
    }
}
