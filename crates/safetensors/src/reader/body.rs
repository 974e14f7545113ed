//! The tensors of a header against each other and against the file.

use super::header::Entry;
use crate::StError;
use ir::{DType, Result, Shape};
use safetensors::tensor::{Metadata, TensorInfo};

/// Checks that the tensors cover the buffer exactly: each takes the bytes its type and shape say,
/// none overlap, nothing lies between them or after them. `len` is the length of the file,
/// `start` where in it the buffer begins.
pub(super) fn check(entries: &[Entry], len: u64, start: u64) -> Result<()> {
    for entry in entries {
        check_size(entry)?;
    }
    // Zero-length tensors share their offset with others: by both ends, as the reference does.
    let mut order: Vec<&Entry> = entries.iter().collect();
    order.sort_by_key(|entry| (entry.begin, entry.end));
    let mut before: Option<&Entry> = None;
    for entry in &order {
        let end = before.map_or(0, |before| before.end);
        if entry.begin > end {
            return Err(StError::Hole {
                name: entry.name.clone(),
                begin: entry.begin,
                end,
            }
            .into());
        }
        if entry.begin < end {
            return Err(StError::Overlap {
                name: entry.name.clone(),
                begin: entry.begin,
                before: before.map(|before| before.name.clone()).unwrap_or_default(),
                end,
            }
            .into());
        }
        before = Some(entry);
    }
    let expected = before.map_or(0, |last| last.end).saturating_add(start);
    let found = len;
    if expected > found {
        return Err(StError::CutShort { expected, found }.into());
    }
    if expected < found {
        return Err(StError::TrailingBytes { expected, found }.into());
    }
    ask_the_reference(&order)
}

fn check_size(entry: &Entry) -> Result<()> {
    let (begin, end) = (entry.begin, entry.end);
    let name = || entry.name.clone();
    if end < begin {
        let name = name();
        return Err(StError::Backwards { name, begin, end }.into());
    }
    let (dtype, shape) = (entry.spec.dtype, entry.spec.shape.clone());
    match size(dtype, &shape) {
        Err(why) => Err(StError::NoSize {
            name: name(),
            dtype,
            shape,
            why,
        }
        .into()),
        Ok(expected) if expected != end - begin => Err(StError::SizeMismatch {
            name: name(),
            dtype,
            shape,
            expected,
            begin,
            end,
        }
        .into()),
        Ok(_) => Ok(()),
    }
}

/// The bytes of a tensor.
fn size(dtype: DType, shape: &Shape) -> Result<u64, &'static str> {
    let elements = shape
        .elements()
        .ok_or("the number of elements does not fit 64 bits")?;
    Some(elements)
        .filter(|elements| dtype.fills_bytes(*elements))
        .and_then(|elements| dtype.byte_len(elements))
        .ok_or("the elements do not fill whole bytes, or are too many")
}

/// The last word: what the reference library refuses is refused here. Names do not matter to it,
/// and its map of them would only cost memory.
fn ask_the_reference(order: &[&Entry]) -> Result<()> {
    let refused = |why: String| StError::Refused { why };
    let usize_of = |n: u64| usize::try_from(n).map_err(|error| refused(error.to_string()));
    let infos = order
        .iter()
        .map(|entry| {
            let shape: Result<_, StError> =
                entry.spec.shape.iter().map(|dim| usize_of(*dim)).collect();
            let info = TensorInfo {
                dtype: entry.wire,
                shape: shape?,
                data_offsets: (usize_of(entry.begin)?, usize_of(entry.end)?),
            };
            Ok((String::new(), info))
        })
        .collect::<Result<Vec<_>, StError>>()?;
    Metadata::new(None, infos).map_err(|error| refused(error.to_string()))?;
    Ok(())
}
