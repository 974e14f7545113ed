//! Tensor infos, and where their data stands.

use super::cursor::Cursor;
use crate::GgufError;
use crate::wire::{
    MAX_DIMS, MAX_NAME_LEN, dtype_of_id, elements_fit, pad, removed_type, shape_of_dims,
};
use bytes::Bytes;
use ir::{DType, Limits, Result, TensorSpec};
use std::collections::HashSet;

/// A tensor as the file has it.
#[derive(Debug)]
pub(crate) struct Info {
    /// Its name.
    pub(crate) name: String,
    /// Its type and shape, outermost dimension first.
    pub(crate) spec: TensorSpec,
    /// Where its data begins in the data section.
    pub(crate) rel_offset: u64,
    /// How many bytes it has.
    pub(super) len: u64,
    /// Where that offset is written.
    at: u64,
}

/// Reads `n` tensor infos with names of at most `longest` bytes.
pub(super) fn infos(
    cursor: &mut Cursor<'_>,
    n: usize,
    longest: usize,
    limits: &Limits,
) -> Result<Vec<Info>> {
    Limits::check("tensors", n as u64, limits.tensors)?;
    let mut seen = HashSet::with_capacity(n);
    let mut infos = Vec::with_capacity(n);
    for number in 0..n {
        let offset = cursor.position();
        let (raw, info) = info(cursor, offset, longest)
            .map_err(|error| error.at(format!("tensor {number}, byte {offset}")))?;
        if !seen.insert(raw) {
            let name = info.name;
            return Err(GgufError::DuplicateName { name, offset }.into());
        }
        infos.push(info);
    }
    Ok(infos)
}

/// An info, and its name as the window has it.
fn info(cursor: &mut Cursor<'_>, offset: u64, longest: usize) -> Result<(Bytes, Info)> {
    let raw = cursor.text("the length of the name", "the name")?;
    let name = String::from_utf8_lossy(&raw).into_owned();
    if name.len() > longest {
        return Err(GgufError::LongName {
            found: name.len(),
            name: name.chars().take(MAX_NAME_LEN).collect(),
            offset,
            limit: longest,
        }
        .into());
    }
    let info = rest(cursor, &name).map_err(|error| error.at(format!("tensor {name:?}")))?;
    Ok((raw, info))
}

fn rest(cursor: &mut Cursor<'_>, name: &str) -> Result<Info> {
    let name = || name.to_owned();
    let offset = cursor.position();
    let rank = cursor.u32("the number of dimensions")?;
    if usize::try_from(rank).is_ok_and(|rank| rank > MAX_DIMS) {
        return Err(GgufError::BadRank {
            name: name(),
            offset,
            found: rank,
        }
        .into());
    }
    let offset = cursor.position();
    let mut dims = Vec::new();
    for _ in 0..rank {
        dims.push(cursor.length("a dimension")?);
    }
    let shape = shape_of_dims(&dims);
    if !elements_fit(dims.iter().copied()) {
        return Err(GgufError::BadShape {
            name: name(),
            offset,
            shape,
        }
        .into());
    }
    let offset = cursor.position();
    let dtype = dtype(cursor.u32("the tensor type")?, name, offset)?;
    let spec = TensorSpec { dtype, shape };
    let len = spec.byte_len().ok_or_else(|| GgufError::NoSize {
        name: name(),
        dtype,
        shape: spec.shape.clone(),
    })?;
    let at = cursor.position();
    Ok(Info {
        name: name(),
        spec,
        rel_offset: cursor.u64("the offset")?,
        len,
        at,
    })
}

fn dtype(found: u32, name: impl Fn() -> String, offset: u64) -> Result<DType> {
    if let Some(dtype) = dtype_of_id(found) {
        return Ok(dtype);
    }
    Err(match removed_type(found) {
        Some(was) => GgufError::RemovedType {
            name: name(),
            offset,
            found,
            was,
        },
        None => GgufError::UnknownType {
            name: name(),
            offset,
            found,
        },
    }
    .into())
}

/// How a file ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// After the padding of its last tensor.
    Padded,
    /// With the last byte of its last tensor, or of its header: some writers do not pad the end.
    Bare,
    /// So many bytes after the padding.
    Trailing(u64),
}

/// Checks that the tensors stand one after the other, each padded, all inside a file of `len`
/// bytes whose header ends at `header_len`. Answers where the data section begins and how the
/// file ends.
pub(super) fn lay_out(
    infos: &[Info],
    header_len: u64,
    alignment: u64,
    len: u64,
) -> Result<(u64, End)> {
    let mut at = 0u64;
    let mut data_len = 0u64;
    for info in infos {
        check_offset(info, at, alignment)?;
        let end = at.checked_add(info.len);
        let padded = end.and_then(|end| pad(end, alignment));
        let (Some(end), Some(padded)) = (end, padded) else {
            let name = info.name.clone();
            return Err(GgufError::TooMuchData { name }.into());
        };
        data_len = end;
        at = padded;
    }
    let no_data = |start| GgufError::NoData { start, len };
    let start = pad(header_len, alignment).ok_or_else(|| no_data(u64::MAX))?;
    let bare = if infos.is_empty() {
        header_len
    } else {
        if start > len {
            return Err(no_data(start).into());
        }
        check_cut(infos, start, len)?;
        start.saturating_add(data_len)
    };
    let padded = start.saturating_add(at);
    let end = match len {
        len if len == padded => End::Padded,
        len if len == bare => End::Bare,
        len if len < padded => return Err(GgufError::PaddingCut { end: padded, len }.into()),
        len => End::Trailing(len - padded),
    };
    Ok((start, end))
}

fn check_offset(info: &Info, expected: u64, alignment: u64) -> Result<()> {
    let found = info.rel_offset;
    if found == expected {
        return Ok(());
    }
    let why = if !found.is_multiple_of(alignment) {
        "it is not aligned"
    } else if found < expected {
        "it overlaps what stands before it"
    } else {
        "the bytes before it belong to no tensor"
    };
    Err(GgufError::BadOffset {
        name: info.name.clone(),
        offset: info.at,
        found,
        expected,
        why,
    }
    .into())
}

fn check_cut(infos: &[Info], start: u64, len: u64) -> Result<()> {
    for info in infos {
        let end = start
            .saturating_add(info.rel_offset)
            .saturating_add(info.len);
        if end > len {
            let name = info.name.clone();
            return Err(GgufError::DataCut { name, end, len }.into());
        }
    }
    Ok(())
}

/// The least bytes of a tensor info: an empty name, no dimensions.
pub(super) fn least_len(wide: bool) -> u64 {
    if wide { 24 } else { 20 }
}
