//! Attributes: only those that are text.

use super::{Attribute, Reader, TEXTS};
use crate::cursor::Cursor;
use bytes::Bytes;
use ir::Result;

const FIXED_STRING: u8 = 3;
const VARIABLE: u8 = 9;
/// Elements of a list of texts that are kept.
const ELEMENTS: u64 = 4096;

/// An attribute's parts, in the order of the message.
struct Parts {
    name: String,
    datatype: Bytes,
    dataspace: Bytes,
    data: Bytes,
}

fn parts(message: Bytes) -> Option<(Parts, usize)> {
    let mut m = Cursor::new(message);
    let version = m.byte()?;
    if !(1..=3).contains(&version) {
        return None;
    }
    m.skip(1)?;
    let sizes = [m.len(2)?, m.len(2)?, m.len(2)?];
    m.skip(usize::from(version == 3))?;
    let mut part = |size: usize| {
        let out = m.take(size)?;
        if version == 1 {
            m.skip(size.next_multiple_of(8) - size)?;
        }
        Some(out)
    };
    let name = part(sizes[0])?;
    let datatype = part(sizes[1])?;
    let dataspace = part(sizes[2])?;
    let name = name.split(|b| *b == 0).next().unwrap_or_default();
    let name = String::from_utf8_lossy(name).into_owned();
    let header = m.at();
    let data = m.take(m.left())?;
    let parts = Parts {
        name,
        datatype,
        dataspace,
        data,
    };
    Some((parts, header))
}

impl Reader {
    /// Keeps an attribute if it is text. Answers the length of its message, where that can be told.
    pub(super) fn attribute(&mut self, message: Bytes, path: &str) -> Result<Option<usize>> {
        let Some((parts, header)) = parts(message) else {
            return Ok(None);
        };
        let mut datatype = Cursor::new(parts.datatype);
        let Some((class, bits, size)) = datatype.byte().and_then(|first| {
            let bits = datatype.number(3)?;
            Some((first & 0x0f, bits, datatype.len(4)?))
        }) else {
            return Ok(None);
        };
        let Some(count) = self.elements(parts.dataspace) else {
            return Ok(None);
        };
        let len = usize::try_from(count)
            .ok()
            .and_then(|n| n.checked_mul(size))
            .and_then(|n| n.checked_add(header));
        let mut data = Cursor::new(parts.data);
        for _ in 0..count.min(ELEMENTS) {
            let Some(element) = data.take(size) else {
                break;
            };
            let text = match class {
                FIXED_STRING => element,
                // Of text, or of bytes, which are text to those who decode them.
                VARIABLE if bits & 0x0f <= 1 => match self.variable(element)? {
                    Some(text) => text,
                    None => continue,
                },
                _ => break,
            };
            self.held = self.held.saturating_add(text.len());
            if self.held > TEXTS {
                return Err(super::broken("more text than is kept", 0));
            }
            let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
            let text = text.get(..end).unwrap_or_default();
            self.out.attributes.push(Attribute {
                object: path.to_owned(),
                name: parts.name.clone(),
                text: String::from_utf8_lossy(text).into_owned(),
            });
        }
        Ok(len)
    }

    /// How many elements a dataspace has.
    fn elements(&self, dataspace: Bytes) -> Option<u64> {
        let mut space = Cursor::new(dataspace);
        let version = space.byte()?;
        let rank = space.byte()?;
        space.skip(1)?;
        match version {
            1 => space.skip(5)?,
            2 => {
                // 2 is a dataspace of nothing.
                if space.byte()? == 2 {
                    return Some(0);
                }
            }
            _ => return None,
        }
        let mut count = 1u64;
        for _ in 0..rank {
            count = count.checked_mul(space.number(self.length)?)?;
        }
        Some(count)
    }

    /// A text of any length, which lies in a heap.
    fn variable(&self, element: Bytes) -> Result<Option<Bytes>> {
        let mut element = Cursor::new(element);
        let place = element.len(4).and_then(|len| {
            let heap = element.number(self.offset)?;
            Some((len, heap, element.number(4)?))
        });
        match place {
            None | Some((0, ..)) => Ok(None),
            Some((len, heap, index)) => {
                let object = self.global(heap, index)?;
                Ok(Some(object.slice(..len.min(object.len()))))
            }
        }
    }
}
