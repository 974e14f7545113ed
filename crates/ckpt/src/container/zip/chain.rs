//! Archives one behind the other, as `torch.distributed.checkpoint` writes the tensors of a rank.

use super::directory::{
    CENTRAL, END_LEN, END64, END64_LEN, LOCAL, LOCATOR, LOCATOR_LEN, TAIL, last_end, u16_at,
    u32_at, u64_at,
};
use ir::{Limits, Region};

/// The archives that a file is made of, from its first byte to its last; none if it is one alone,
/// or something stands between them.
pub(crate) fn chain(region: &Region, limits: &Limits) -> Option<Vec<Region>> {
    let mut parts = Vec::new();
    let mut end = region.len();
    while end > 0 {
        let begin = begin(&region.slice(0, end).ok()?)?;
        let count = parts.len() as u64 + 1;
        Limits::check("archives in a file", count, limits.entries).ok()?;
        parts.push(region.slice(begin, end - begin).ok()?);
        end = begin;
    }
    parts.reverse();
    (parts.len() > 1).then_some(parts)
}

/// Where the archive begins that ends with the region. Archives of equal sizes have their records at
/// equal offsets: only those right before its end are its own.
fn begin(region: &Region) -> Option<u64> {
    let tail_at = region.len() - region.len().min(TAIL);
    let len = usize::try_from(region.len() - tail_at).ok()?;
    let tail = region.bytes(tail_at, len).ok()?;
    let found = last_end(&tail)?;
    let record = tail.get(found..)?;
    if record.len() != END_LEN + usize::from(u16_at(record, 20)) {
        return None;
    }
    let mut at = tail_at + found as u64;
    let (mut size, mut offset) = (u32_at(record, 12).into(), u32_at(record, 16).into());
    let locator = at.checked_sub(LOCATOR_LEN);
    let locator = locator.and_then(|at| region.bytes(at, END_LEN).ok());
    if locator.is_some_and(|bytes| bytes.starts_with(&LOCATOR)) {
        at = at.checked_sub(LOCATOR_LEN + END64_LEN as u64)?;
        let wide = region.bytes(at, END64_LEN).ok()?;
        if !wide.starts_with(&END64) {
            return None;
        }
        (size, offset) = (u64_at(&wide, 40), u64_at(&wide, 48));
    }
    let directory = at.checked_sub(size)?;
    let begin = directory.checked_sub(offset)?;
    let is = |at: u64, mark: [u8; 4]| region.bytes(at, 4).is_ok_and(|bytes| bytes == mark[..]);
    (is(directory, CENTRAL) && is(begin, LOCAL)).then_some(begin)
}
