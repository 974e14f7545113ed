//! Archives that lie.

use super::Archive;
use crate::container::testing::pack;
use ir::{AnomalyKind, Limits, Region};

fn read(data: &[u8]) -> ir::Result<Archive> {
    Archive::read(&Region::memory(data.to_vec()), &Limits::default())
}

fn kinds(data: &[u8]) -> Vec<AnomalyKind> {
    let archive = read(data).unwrap();
    let anomalies = archive.anomalies(&Limits::default());
    anomalies.iter().map(|anomaly| anomaly.kind).collect()
}

fn good() -> Vec<u8> {
    pack(&[("a/data.pkl", b"}."), ("a/data/0", b"12345678")])
}

fn find(data: &[u8], what: &[u8]) -> usize {
    data.windows(what.len()).position(|w| w == what).unwrap()
}

#[test]
fn honest_archives_have_nothing_odd() {
    let archive = read(&good()).unwrap();
    assert!(archive.check_honest().is_ok());
    assert!(kinds(&good()).is_empty());
    let entry = archive.find(b"a/data/0").unwrap().unwrap();
    let region = archive.small(entry, &Limits::default()).unwrap();
    assert_eq!(region.bytes(0, 8).unwrap(), &b"12345678"[..]);
    assert!(archive.find(b"a/data/1").unwrap().is_none());
}

#[test]
fn sums_are_looked_at_within_a_bound() {
    let mut data = good();
    let at = find(&data, b"12345678");
    data[at] = b'x';
    assert_eq!(kinds(&data), [AnomalyKind::ChecksumMismatch]);
    let archive = read(&data).unwrap();
    let unsummed = Limits {
        summed_bytes: 0,
        ..Limits::default()
    };
    assert!(archive.anomalies(&unsummed).is_empty());
}

#[test]
fn lies_are_seen() {
    let changed = |what: &[u8], distance: usize, to: u8| {
        let mut data = good();
        let at = find(&data, what) + distance;
        data[at] = to;
        data
    };
    for (data, kind) in [
        (changed(b"PK\x03\x04", 8, 8), AnomalyKind::HeaderMismatch),
        (changed(b"PK\x03\x04", 22, 9), AnomalyKind::HeaderMismatch),
        (
            changed(b"PK\x03\x04", 30, b'b'),
            AnomalyKind::HeaderMismatch,
        ),
        (changed(b"PK\x01\x02", 8, 1), AnomalyKind::OddFlags),
        (changed(b"PK\x01\x02", 24, 9), AnomalyKind::SizeMismatch),
        (changed(b"}.", 1, b'x'), AnomalyKind::ChecksumMismatch),
        (
            pack(&[("a/x", b"1"), ("a/x", b"2")]),
            AnomalyKind::DuplicateEntry,
        ),
        (
            pack(&[("a/x", b"1"), ("a/X", b"2")]),
            AnomalyKind::DuplicateEntry,
        ),
        (pack(&[("a/../x", b"1")]), AnomalyKind::UnsafeName),
        (pack(&[("/x", b"1")]), AnomalyKind::UnsafeName),
        (pack(&[("a\0b", b"1")]), AnomalyKind::UnsafeName),
        ([&good()[..], b"tail"].concat(), AnomalyKind::HiddenBytes),
        ([&b"prefix"[..], &good()].concat(), AnomalyKind::HiddenBytes),
    ] {
        let found = kinds(&data);
        assert!(found.contains(&kind), "{kind:?} not in {found:?}");
    }
    let prefixed = [&b"prefix"[..], &good()].concat();
    assert!(read(&prefixed).unwrap().check_honest().is_err());
}

#[test]
fn two_directories_are_seen() {
    // A whole second archive in the comment of the first: it ends where the file ends.
    let inner = pack(&[("b/data.pkl", b"N.")]);
    for pad in 0..4 {
        let mut data = vec![0; pad];
        data.extend(good());
        let len = data.len();
        data[len - 2..].copy_from_slice(&u16::try_from(inner.len()).unwrap().to_le_bytes());
        data.extend(&inner);
        assert!(kinds(&data).contains(&AnomalyKind::SecondDirectory));
    }
}

#[test]
fn counts_and_ends_must_fit() {
    let mut data = good();
    let end = find(&data, b"PK\x05\x06");
    data[end + 8] = 9;
    data[end + 10] = 9;
    assert!(read(&data).is_err());
    let data = good();
    for cut in 0..data.len() {
        assert!(read(&data[..cut]).is_err());
    }
}
