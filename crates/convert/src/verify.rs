//! Holding tensor bytes against the checksums their files tell.

use crate::{ConvertError, ParallelPump};
use ir::{Checksum, Context, Error, Model, Result};

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
    let mut hasher = crc32fast::Hasher::new();
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
    let found = hasher.finalize();
    if found == sum.crc32 {
        return Ok(());
    }
    let error = Error::from(ConvertError::Checksum {
        found,
        expected: sum.crc32,
    });
    let error = error.at(sum.place.clone());
    Err(match sum.region.path() {
        Some(path) => error.in_file(path),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::Region;

    #[test]
    fn a_flipped_bit_is_told() {
        let pump = ParallelPump::new(2, 1 << 20).unwrap();
        let check = |crc32| {
            let region = Region::memory(&b"123456789"[..]);
            let mut model = Model::default();
            model.provenance.checksums = vec![Checksum {
                region,
                crc32,
                place: "entry x".into(),
            }];
            verify(&model, &pump, &Context::default())
        };
        assert_eq!(check(0xcbf4_3926).unwrap(), 9);
        let error = check(0xcbf4_3927).unwrap_err();
        assert_eq!(error.class(), ir::Class::Malformed);
        assert!(error.to_string().starts_with("entry x: "), "{error}");
    }
}
