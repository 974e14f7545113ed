//! What is odd about a file, for `scan`.

use super::Oddity;
use crate::StError;
use crate::wire::ID;
use ir::{Anomaly, AnomalyKind, Fault, Input, Model, Region, Result, Survey};

/// A zip's end-of-directory record: its signature and its length without the comment.
const EOCD: &[u8] = b"PK\x05\x06";
const EOCD_LEN: usize = 22;
const COMMENT_MAX: u64 = u16::MAX as u64;

pub(super) fn survey(input: &Input, opened: Result<Model>, odd: Vec<Oddity>) -> Survey {
    let mut survey = Survey::of(ID, opened);
    survey.anomalies.extend(odd.into_iter().map(|odd| Anomaly {
        kind: AnomalyKind::LooseHeader,
        place: odd.place,
        what: odd.what,
    }));
    if let Some(error) = &survey.error {
        let kind = match error.downcast_ref::<StError>() {
            Some(StError::TrailingBytes { .. } | StError::Hole { .. }) => {
                Some(AnomalyKind::HiddenBytes)
            }
            Some(StError::DuplicateKey { .. }) => Some(AnomalyKind::DuplicateEntry),
            Some(StError::SizeMismatch { .. }) => Some(AnomalyKind::SizeMismatch),
            _ => match error.downcast_ref::<Fault>() {
                Some(Fault::DuplicateName { .. }) => Some(AnomalyKind::DuplicateEntry),
                _ => None,
            },
        };
        survey.anomalies.extend(kind.map(|kind| Anomaly {
            kind,
            place: error.place().unwrap_or_default(),
            what: error.message(),
        }));
    }
    if let Some(region) = input.region() {
        survey.anomalies.extend(also_a_zip(region));
    }
    survey
}

/// A file that is a zip archive to those who look at its first bytes (`torch.load`) or at its last
/// (most zip tools).
fn also_a_zip(region: &Region) -> Option<Anomaly> {
    let anomaly = |place: String, what: &str| {
        Some(Anomaly {
            kind: AnomalyKind::HiddenPayload,
            place,
            what: what.to_owned(),
        })
    };
    let mut head = [0; 4];
    region.read_at(0, &mut head).ok()?;
    if head == *b"PK\x03\x04" {
        let what = "its first bytes are also those of a zip archive, which torch.load would open";
        return anomaly("byte 0".to_owned(), what);
    }
    let tail_len = region.len().min(EOCD_LEN as u64 + COMMENT_MAX);
    let tail_start = region.len() - tail_len;
    let tail = region
        .bytes(tail_start, usize::try_from(tail_len).ok()?)
        .ok()?;
    let at = (0..tail.len()).rev().find(|&at| ends_a_zip(&tail, at))?;
    // A record alone may be chance; before it lies the directory, which has a signature too.
    let record = tail.get(at..at + EOCD_LEN)?;
    let directory_len = u64::from(u32::from_le_bytes(record.get(12..16)?.try_into().ok()?));
    let directory = (tail_start + at as u64).checked_sub(directory_len)?;
    region.read_at(directory, &mut head).ok()?;
    if head == *b"PK\x01\x02" {
        let what = "a zip archive ends where the file ends: zip tools open it as one";
        return anomaly(format!("byte {}", tail_start + at as u64), what);
    }
    None
}

fn ends_a_zip(tail: &[u8], at: usize) -> bool {
    let Some(record) = tail.get(at..).filter(|rest| rest.starts_with(EOCD)) else {
        return false;
    };
    let comment = match record.get(20..22) {
        Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
        _ => return false,
    };
    record.len() == EOCD_LEN + comment
}
