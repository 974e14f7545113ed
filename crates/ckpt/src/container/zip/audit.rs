//! What an archive says twice in different ways, and what belongs to none of its entries.

use super::directory::odd;
use super::{Archive, DEFLATED, SIZES_FOLLOW, STORED};
use crate::container::inflate;
use ir::{Anomaly, AnomalyKind, Limits};

/// More anomalies than this say nothing new.
const MOST: usize = 1000;
/// Entries up to this size have their checksum verified here; larger ones are storages.
const CHECKED: u64 = 1 << 20;
/// Bytes of gaps looked into, all together.
const GAP_LOOK: u64 = 4 << 20;

pub(super) fn audit(archive: &Archive, limits: &Limits) -> Vec<Anomaly> {
    let directory = &archive.directory;
    let mut out: Vec<Anomaly> = directory
        .hard
        .iter()
        .chain(&directory.soft)
        .cloned()
        .collect();
    duplicates(archive, &mut out);
    let mut ends = Vec::new();
    let mut verified = 0u64;
    for (entry, row) in directory.rows.iter().enumerate() {
        if out.len() > MOST {
            break;
        }
        let place = || archive.place(entry);
        if let Some(what) = Archive::unsafe_name(archive.raw_name(entry)) {
            out.push(odd(AnomalyKind::UnsafeName, place(), what));
        }
        if row.method != STORED && row.method != DEFLATED {
            let what = format!("compression method {}", row.method);
            out.push(odd(AnomalyKind::Unreadable, place(), what));
        }
        match archive.locate(entry) {
            Err(error) => out.push(odd(AnomalyKind::Unreadable, place(), error.message())),
            Ok(located) => {
                for (kind, what) in &located.mismatches {
                    out.push(odd(*kind, place(), what.clone()));
                }
                let end = located.data_at.saturating_add(row.packed);
                ends.push((row.header_at, end, row.flags & SIZES_FOLLOW != 0));
                let small = row.size <= CHECKED && verified < limits.summed_bytes;
                if small && row.crc != 0 && located.mismatches.is_empty() {
                    verified += row.size;
                    checksum(archive, entry, limits, &mut out);
                }
            }
        }
    }
    gaps(archive, ends, &mut out);
    out.truncate(MOST);
    out
}

fn duplicates(archive: &Archive, out: &mut Vec<Anomaly>) {
    let folded = |i: &u32| archive.raw_name(*i as usize).to_ascii_lowercase();
    let exact = archive.by_name.windows(2).filter_map(|pair| match pair {
        [a, b] if archive.raw_name(*a as usize) == archive.raw_name(*b as usize) => Some(*b),
        _ => None,
    });
    for entry in exact.take(MOST) {
        out.push(odd(
            AnomalyKind::DuplicateEntry,
            archive.place(entry as usize),
            "the archive has another entry of this name",
        ));
    }
    // torch's reader finds names without regard to case. Only lower case differs in an honest
    // archive, so names with capitals are the only ones to look at.
    let capitals = archive.by_name.iter().filter(|&&i| {
        archive
            .raw_name(i as usize)
            .iter()
            .any(u8::is_ascii_uppercase)
    });
    let mut seen: Vec<(Vec<u8>, u32)> = capitals.take(10_000).map(|i| (folded(i), *i)).collect();
    seen.sort();
    let mut push = |entry: u32| {
        out.push(odd(
            AnomalyKind::DuplicateEntry,
            archive.place(entry as usize),
            "another entry has this name in other letter case; torch does not tell them apart",
        ));
    };
    for (name, entry) in &seen {
        if !archive.named(name).is_empty() {
            push(*entry);
        }
    }
    for pair in seen.windows(2) {
        if let [(a, i), (b, j)] = pair
            && a == b
            && archive.raw_name(*i as usize) != archive.raw_name(*j as usize)
        {
            push(*j);
        }
    }
}

fn checksum(archive: &Archive, entry: usize, limits: &Limits, out: &mut Vec<Anomaly>) {
    let Ok(row) = archive.row(entry) else {
        return;
    };
    let Ok((_, packed)) = archive.packed(entry) else {
        return;
    };
    let region = if row.method == STORED {
        Ok(packed)
    } else {
        inflate::to_memory(&packed, row.size, limits).map(ir::Region::memory)
    };
    match region.and_then(|region| inflate::checksum(&region)) {
        Ok(found) if found == row.crc => {}
        Ok(found) => out.push(odd(
            AnomalyKind::ChecksumMismatch,
            archive.place(entry),
            format!("its checksum is {found:08x}, it says {:08x}", row.crc),
        )),
        Err(error) => out.push(odd(
            AnomalyKind::Unreadable,
            archive.place(entry),
            error.message(),
        )),
    }
}

/// Looks at what lies between entries: nothing but the records of sizes that follow the data,
/// and zeros.
fn gaps(archive: &Archive, mut ends: Vec<(u64, u64, bool)>, out: &mut Vec<Anomaly>) {
    ends.sort_unstable();
    let mut looked = 0;
    let firsts = ends
        .first()
        .map_or(archive.directory.start, |first| first.0);
    let mut spans = vec![(archive.directory.shift, firsts, false)];
    for (i, &(_, end, late)) in ends.iter().enumerate() {
        let next = ends
            .get(i + 1)
            .map_or(archive.directory.start, |next| next.0);
        spans.push((end, next, late));
    }
    for (start, end, late) in spans {
        let Some(len) = end.checked_sub(start).filter(|&len| len > 0) else {
            continue;
        };
        looked += len.min(1 << 16);
        if looked > GAP_LOOK || out.len() > MOST {
            break;
        }
        let head_len = usize::try_from(len.min(1 << 16)).unwrap_or(0);
        let Ok(head) = archive.region.bytes(start, head_len) else {
            continue;
        };
        // Signature (optional), checksum, two sizes of four or eight bytes.
        let known = if late {
            match (head.starts_with(b"PK\x07\x08"), len) {
                (true, 24..) if wide(&head) => 24,
                (true, 16..) => 16,
                (false, 20..) if wide(&head) => 20,
                (false, 12..) => 12,
                _ => 0,
            }
        } else {
            0
        };
        let rest = head.get(known..).unwrap_or_default();
        if rest.iter().any(|&b| b != 0) {
            let kind = if rest
                .windows(4)
                .any(|w| w == b"PK\x01\x02" || w == b"PK\x05\x06")
            {
                AnomalyKind::SecondDirectory
            } else {
                AnomalyKind::HiddenBytes
            };
            out.push(odd(
                kind,
                format!("byte {start}"),
                format!("{len} bytes that belong to no entry"),
            ));
        }
    }
}

/// Whether a record of late sizes has them in eight bytes: then the upper halves are zero, or
/// what follows is the end of the gap.
fn wide(head: &[u8]) -> bool {
    head.len() == 24 || head.len() == 20 || {
        let at = if head.starts_with(b"PK") { 12 } else { 8 };
        head.get(at..at + 4) == Some(&[0; 4])
    }
}
