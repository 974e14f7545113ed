//! Object headers: lists of messages, in two versions.

use super::{Reader, broken, undefined};
use crate::cursor::Cursor;
use bytes::Bytes;
use ir::Result;

/// Bytes of all messages of one object.
const MOST: usize = 32 << 20;
/// Blocks one header may be spread over.
const BLOCKS: usize = 10_000;

/// Types of messages that matter here.
pub(super) mod kind {
    pub(crate) const LINK_INFO: u16 = 0x02;
    pub(crate) const LINK: u16 = 0x06;
    pub(crate) const EXTERNAL_FILES: u16 = 0x07;
    pub(crate) const LAYOUT: u16 = 0x08;
    pub(crate) const ATTRIBUTE: u16 = 0x0c;
    pub(crate) const CONTINUATION: u16 = 0x10;
    pub(crate) const SYMBOL_TABLE: u16 = 0x11;
    pub(crate) const ATTRIBUTE_INFO: u16 = 0x15;
}

/// One message.
pub(super) struct Message {
    pub(super) kind: u16,
    pub(super) data: Bytes,
    /// Whether its data only says where the data is.
    pub(super) shared: bool,
}

/// All messages of an object.
pub(super) struct Messages(pub(super) Vec<Message>);

impl Messages {
    pub(super) fn read(reader: &Reader, address: u64) -> Result<Self> {
        if address == undefined(reader.offset) {
            return Ok(Self(Vec::new()));
        }
        let head = reader.at_most(address, 64)?;
        if head.starts_with(b"OHDR") {
            Self::second(reader, address, head)
        } else {
            Self::first(reader, address, head)
        }
    }

    fn first(reader: &Reader, address: u64, head: Bytes) -> Result<Self> {
        let bad = || broken("an object header is damaged", address);
        let mut head = Cursor::new(head);
        if head.byte() != Some(1) {
            return Err(broken("no object header", address));
        }
        head.skip(7).ok_or_else(bad)?;
        let size = head.len(4).ok_or_else(bad)?;
        let mut walk = Walk::new(reader);
        walk.block(address + 16, size, |block, walk| {
            while block.left() >= 8 {
                let kind = block.number(2)?;
                let size = block.len(2)?;
                let flags = block.byte()?;
                block.skip(3)?;
                walk.push(kind, flags, block.take(size)?)?;
            }
            Some(())
        })
    }

    fn second(reader: &Reader, address: u64, head: Bytes) -> Result<Self> {
        let bad = || broken("an object header is damaged", address);
        let mut head = Cursor::new(head);
        head.skip(5).ok_or_else(bad)?;
        let flags = head.byte().ok_or_else(bad)?;
        let times = if flags & 0x20 == 0 { 0 } else { 16 };
        let phases = if flags & 0x10 == 0 { 0 } else { 4 };
        head.skip(times + phases).ok_or_else(bad)?;
        let size = head.len(1 << (flags & 3)).ok_or_else(bad)?;
        let order = if flags & 0x04 == 0 { 0 } else { 2 };
        let mut walk = Walk::new(reader);
        let start = address + head.at() as u64;
        walk.block(start, size, move |block, walk| {
            // A continuation begins with a signature and ends with a checksum.
            let continued = walk.done > 1;
            if continued {
                block.expect(b"OCHK")?;
            }
            let tail = if continued { 4 } else { 0 };
            while block.left() >= 4 + order + tail {
                let kind = u64::from(block.byte()?);
                let size = block.len(2)?;
                let flags = block.byte()?;
                block.skip(order)?;
                walk.push(kind, flags, block.take(size)?)?;
            }
            Some(())
        })
    }
}

/// Blocks still to be read.
struct Walk<'a> {
    reader: &'a Reader,
    out: Vec<Message>,
    ahead: Vec<(u64, usize)>,
    done: usize,
}

impl<'a> Walk<'a> {
    fn new(reader: &'a Reader) -> Self {
        Self {
            reader,
            out: Vec::new(),
            ahead: Vec::new(),
            done: 0,
        }
    }

    /// Reads a block and all that continue it.
    fn block(
        &mut self,
        at: u64,
        size: usize,
        parse: impl Fn(&mut Cursor, &mut Self) -> Option<()>,
    ) -> Result<Messages> {
        self.ahead.push((at, size));
        let mut held = 0usize;
        while let Some((at, size)) = self.ahead.pop() {
            self.done += 1;
            held = held.saturating_add(size);
            if self.done > BLOCKS || held > MOST {
                return Err(broken("an object header is too large", at));
            }
            let region = &self.reader.region;
            let outside = |_| broken("an object header lies outside the file", at);
            let bytes = region.bytes(at, size).map_err(outside)?;
            let mut block = Cursor::new(bytes);
            parse(&mut block, self).ok_or_else(|| broken("an object header is damaged", at))?;
        }
        Ok(Messages(std::mem::take(&mut self.out)))
    }

    fn push(&mut self, kind: u64, flags: u8, data: Bytes) -> Option<()> {
        let kind = u16::try_from(kind).ok()?;
        if kind == kind::CONTINUATION {
            let mut data = Cursor::new(data);
            let at = data.number(self.reader.offset)?;
            let size = data.len(self.reader.length)?;
            self.ahead.push((at, size));
        } else {
            let shared = flags & 2 != 0;
            self.out.push(Message { kind, data, shared });
        }
        Some(())
    }
}
