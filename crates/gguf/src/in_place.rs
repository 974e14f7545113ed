//! Other keys in a file that stays where it is.
//!
//! The data section does not move: it begins at the first multiple of the alignment behind the
//! header, so the new header must end less than one alignment before the place where the data
//! stands. A header that is longer is refused, with the number of bytes. A shorter one is made up
//! with the key [`FILLER`], a string of spaces, which later edits use up again. So whoever wants
//! room for edits to come sets that key when the file is written.

use crate::GgufError;
use crate::reader::{File, number};
use crate::wire::{ALIGNMENT_KEY, SPLIT_COUNT, SPLIT_NO, SPLIT_TENSORS, id_of_dtype, pad};
use crate::writer::header::{InfoLine, render};
use bytes::Bytes;
use ir::{Context, Input, MetaValue, Record, Result};

/// The key that takes up room. With an empty value it is 32 bytes long: there is one for every
/// gap that the usual alignment leaves.
const FILLER: &str = "gguf.padding";
/// Its length, the value's own bytes aside: two lengths and a type.
const FILLER_LEN: u64 = FILLER.len() as u64 + 8 + 4 + 8;

/// A header to be written where the old one stands: of the same length, padding included.
#[derive(Debug)]
pub struct NewHeader {
    /// The header as it is.
    pub old: Bytes,
    /// The header as it shall be.
    pub new: Bytes,
    /// What was done besides what was asked for.
    pub records: Vec<Record>,
}

/// Plans the change that `edit` makes to the keys of one file, which may be the first of a set.
///
/// Nothing is written. The new header has been read again by the reader: the tensors are the same
/// and stand where they stood.
///
/// # Errors
///
/// Where the keys do not fit, where the alignment or the place in a set would change, and where
/// the header is not as this crate would write it: version 1 or 2, big-endian, or odd padding.
pub fn new_header(
    input: &Input,
    cx: &Context,
    edit: impl FnOnce(&mut Vec<(String, MetaValue)>),
) -> Result<NewHeader> {
    let file = File::read(input, &cx.limits)?;
    plan(input, &file, cx, edit).map_err(|error| error.in_file(input.path()))
}

fn plan(
    input: &Input,
    file: &File,
    cx: &Context,
    edit: impl FnOnce(&mut Vec<(String, MetaValue)>),
) -> Result<NewHeader> {
    let refuse = |why: String| Err(GgufError::NotInPlace { why }.into());
    if number(&file.pairs, SPLIT_NO).is_some_and(|no| no > 0) {
        return refuse("it is not the first file of its set, and only that holds the keys".into());
    }
    let region = input.file()?;
    let alignment = file.alignment()?;
    let old = region.bytes(
        0,
        usize::try_from(file.start.min(region.len())).unwrap_or(0),
    )?;
    if rendered(file, &file.pairs, file.start)? != Some(old.clone()) {
        let why = "its header is of another version or byte order, or is laid out in another way";
        return refuse(why.to_owned());
    }
    let mut pairs = file.pairs.clone();
    edit(&mut pairs);
    for key in [ALIGNMENT_KEY, SPLIT_NO, SPLIT_COUNT, SPLIT_TENSORS] {
        let value = |pairs: &[(String, MetaValue)]| {
            let pair = pairs.iter().find(|pair| pair.0 == key);
            pair.map(|pair| pair.1.clone())
        };
        if value(&pairs) != value(&file.pairs) {
            return refuse(format!("{key} says where the data stands"));
        }
    }
    let mut records = Vec::new();
    if pairs != file.pairs {
        records.extend(fill(file, &mut pairs, alignment)?);
    }
    let Some(new) = rendered(file, &pairs, file.start)? else {
        return refuse(format!("no header ends {alignment} bytes before the data"));
    };
    let read = file.with_header(&new, &cx.limits)?;
    let same = |(a, b): (&crate::reader::Info, &crate::reader::Info)| {
        a.name == b.name && a.spec == b.spec && a.rel_offset == b.rel_offset
    };
    if read.start != file.start
        || read.pairs.len() != pairs.len()
        || read.infos.len() != file.infos.len()
        || !read.infos.iter().zip(&file.infos).all(same)
    {
        return refuse("with these keys it would be read in another way".to_owned());
    }
    Ok(NewHeader { old, new, records })
}

/// The header with these keys, if its padding ends at `start`.
fn rendered(file: &File, pairs: &[(String, MetaValue)], start: u64) -> Result<Option<Bytes>> {
    let mut header = bare(file, pairs);
    if pad(header.len() as u64, file.alignment()?) != Some(start) {
        return Ok(None);
    }
    header.resize(usize::try_from(start).unwrap_or(0), 0);
    Ok(Some(header.into()))
}

fn bare(file: &File, pairs: &[(String, MetaValue)]) -> Vec<u8> {
    let keys = pairs.iter().map(|(key, value)| (key.as_str(), value));
    let infos = file.infos.iter().map(|info| InfoLine {
        name: &info.name,
        shape: &info.spec.shape,
        // Each was read from an id.
        type_id: id_of_dtype(info.spec.dtype).unwrap_or(u32::MAX),
        rel_offset: info.rel_offset,
    });
    render(keys, infos)
}

/// Makes the filler as long as the gap asks for.
fn fill(
    file: &File,
    pairs: &mut Vec<(String, MetaValue)>,
    alignment: u64,
) -> Result<Option<Record>> {
    pairs.retain(|(key, _)| key != FILLER);
    let len = bare(file, pairs).len() as u64;
    let room = file.start;
    let Some(gap) = room.checked_sub(len) else {
        let why = format!(
            "the new header has {len} bytes and the data begins at byte {room}: {} too many",
            len - room
        );
        return Err(GgufError::NotInPlace { why }.into());
    };
    if gap < alignment {
        return Ok(None);
    }
    let Some(spaces) = gap.checked_sub(FILLER_LEN) else {
        let why = format!(
            "the new header would leave {gap} bytes before the data, which only another key could \
             take up, and the shortest for it takes {FILLER_LEN}"
        );
        return Err(GgufError::NotInPlace { why }.into());
    };
    let spaces = " ".repeat(usize::try_from(spaces).unwrap_or(0));
    pairs.push((FILLER.to_owned(), MetaValue::text(&spaces)));
    let why = format!("{gap} bytes that the keys no longer need, so that the data need not move");
    Ok(Some(Record::changed("filler", FILLER, why).wanted()))
}

#[cfg(test)]
mod tests;
