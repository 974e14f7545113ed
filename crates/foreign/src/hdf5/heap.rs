//! Heaps: where names, long texts and large sets of messages lie.

use super::{Reader, broken, undefined};
use crate::cursor::Cursor;
use bytes::Bytes;
use ir::Result;

/// Bytes of one heap that are read.
const MOST: usize = 32 << 20;
/// Blocks of one fractal heap.
const BLOCKS: usize = 10_000;
/// Levels of blocks in one.
const DEPTH: u8 = 16;

impl Reader {
    /// An object of a global heap collection.
    pub(super) fn global(&self, at: u64, index: u64) -> Result<Bytes> {
        let bad = || broken("a heap of texts is damaged", at);
        let mut head = Cursor::new(self.at_most(at, 16)?);
        head.expect(b"GCOL").ok_or_else(bad)?;
        head.skip(4).ok_or_else(bad)?;
        let size = head
            .len(self.length)
            .filter(|n| *n <= MOST)
            .ok_or_else(bad)?;
        let mut heap = Cursor::new(self.at_most(at, size)?);
        heap.skip(8 + self.length).ok_or_else(bad)?;
        loop {
            let here = heap.number(2).ok_or_else(bad)?;
            heap.skip(6).ok_or_else(bad)?;
            let size = heap.len(self.length).ok_or_else(bad)?;
            // Number 0 is the room that is left.
            if here == 0 {
                return Err(bad());
            }
            let object = heap.take(size).ok_or_else(bad)?;
            if here == index {
                return Ok(object);
            }
            heap.skip(size.next_multiple_of(8) - size).ok_or_else(bad)?;
        }
    }

    /// The bytes of a local heap, where the names of old groups lie.
    pub(super) fn local(&self, at: u64) -> Result<Bytes> {
        let bad = || broken("a heap of names is damaged", at);
        let mut head = Cursor::new(self.at_most(at, 64)?);
        head.expect(b"HEAP").ok_or_else(bad)?;
        head.skip(4).ok_or_else(bad)?;
        let size = head
            .len(self.length)
            .filter(|n| *n <= MOST)
            .ok_or_else(bad)?;
        head.skip(self.length).ok_or_else(bad)?;
        let data = head.number(self.offset).ok_or_else(bad)?;
        self.at_most(data, size)
    }

    /// The blocks of a fractal heap, without their headers, and the objects too large for them.
    pub(super) fn fractal(&self, at: u64) -> Result<Vec<Bytes>> {
        let bad = || broken("a fractal heap is damaged", at);
        let head = Cursor::new(self.at_most(at, 256)?);
        let heap = self.fractal_head(head).ok_or_else(bad)?;
        if heap.filtered {
            return Err(broken("a fractal heap that is packed", at));
        }
        let mut out = Vec::new();
        let none = undefined(self.offset);
        if heap.root != none {
            let mut held = 0;
            let rows = (heap.rows > 0).then_some(heap.rows);
            self.block(
                &heap, heap.root, heap.start, rows, DEPTH, &mut held, &mut out,
            )?;
        }
        if heap.huge != none {
            out.extend(self.huge(heap.huge)?);
        }
        Ok(out)
    }

    fn fractal_head(&self, mut head: Cursor) -> Option<Fractal> {
        let (o, l) = (self.offset, self.length);
        head.expect(b"FRHP\0")?;
        head.skip(2)?;
        let filtered = head.number(2)? != 0;
        let flags = head.byte()?;
        head.skip(4 + l)?;
        let huge = head.number(o)?;
        // Free space and its manager, then eight counts.
        head.skip(l + o + 8 * l)?;
        let width = head.len(2)?;
        let start = head.len(l)?;
        let most = head.len(l)?;
        let bits = head.len(2)?;
        head.skip(2)?;
        let root = head.number(o)?;
        let rows = head.len(2)?;
        Some(Fractal {
            filtered,
            checked: flags & 2 != 0,
            huge,
            width,
            start,
            most,
            offset_bytes: bits.div_ceil(8),
            root,
            rows,
        })
    }

    /// A block of a fractal heap: with `rows` one that lists others.
    #[allow(clippy::too_many_arguments)] // one walk with its bounds
    fn block(
        &self,
        heap: &Fractal,
        at: u64,
        size: usize,
        rows: Option<usize>,
        depth: u8,
        held: &mut usize,
        out: &mut Vec<Bytes>,
    ) -> Result<()> {
        let bad = || broken("a block of a fractal heap is damaged", at);
        let depth = depth.checked_sub(1).ok_or_else(bad)?;
        let head = 5 + self.offset + heap.offset_bytes;
        let Some(rows) = rows else {
            *held = held.saturating_add(size);
            if *held > MOST || out.len() >= BLOCKS {
                return Err(broken("a fractal heap is too large", at));
            }
            let mut block = Cursor::new(self.at_most(at, size)?);
            block.expect(b"FHDB").ok_or_else(bad)?;
            block.skip(head - 4).ok_or_else(bad)?;
            block
                .skip(if heap.checked { 4 } else { 0 })
                .ok_or_else(bad)?;
            out.extend(block.take(block.left()));
            return Ok(());
        };
        let children = rows.checked_mul(heap.width).filter(|n| *n <= BLOCKS);
        let children = children.ok_or_else(bad)?;
        let mut block = Cursor::new(self.at_most(at, head + children * self.offset)?);
        block.expect(b"FHIB").ok_or_else(bad)?;
        block.skip(head - 4).ok_or_else(bad)?;
        for row in 0..rows {
            // The first two rows have blocks of one size, each further row twice that.
            let size = u32::try_from(row.saturating_sub(1))
                .ok()
                .and_then(|shift| heap.start.checked_mul(1usize.checked_shl(shift)?))
                .ok_or_else(bad)?;
            for _ in 0..heap.width {
                let child = block.number(self.offset).ok_or_else(bad)?;
                if child == undefined(self.offset) {
                    continue;
                }
                let inner = (size > heap.most).then(|| heap.rows_of(size));
                self.block(heap, child, size, inner, depth, held, out)?;
            }
        }
        Ok(())
    }

    /// Objects that a heap keeps by themselves, listed in a tree of one leaf.
    fn huge(&self, at: u64) -> Result<Vec<Bytes>> {
        let bad = || broken("a list of large objects is damaged or too long", at);
        let mut head = Cursor::new(self.at_most(at, 64)?);
        head.expect(b"BTHD").ok_or_else(bad)?;
        head.skip(6).ok_or_else(bad)?;
        let record = head.len(2).ok_or_else(bad)?;
        let depth = head.number(2).ok_or_else(bad)?;
        head.skip(2).ok_or_else(bad)?;
        let root = head.number(self.offset).ok_or_else(bad)?;
        let count = head.len(2).ok_or_else(bad)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if depth != 0 {
            return Err(bad());
        }
        let mut leaf = Cursor::new(self.at_most(root, 6 + count * record)?);
        leaf.expect(b"BTLF").ok_or_else(bad)?;
        leaf.skip(2).ok_or_else(bad)?;
        let mut out = Vec::new();
        let mut held = 0usize;
        for _ in 0..count {
            let mut entry = Cursor::new(leaf.take(record).ok_or_else(bad)?);
            let place = entry.number(self.offset).ok_or_else(bad)?;
            let len = entry.len(self.length).ok_or_else(bad)?;
            held = held.saturating_add(len);
            if held > MOST {
                return Err(bad());
            }
            out.push(self.at_most(place, len)?);
        }
        Ok(out)
    }
}

/// The header of a fractal heap.
struct Fractal {
    filtered: bool,
    checked: bool,
    huge: u64,
    width: usize,
    start: usize,
    most: usize,
    offset_bytes: usize,
    root: u64,
    rows: usize,
}

impl Fractal {
    /// How many rows a block of blocks has that covers `size` bytes.
    fn rows_of(&self, size: usize) -> usize {
        let first = self.start.saturating_mul(self.width).max(1);
        let times = (size / first).max(1);
        usize::try_from(times.ilog2()).unwrap_or(0) + 1
    }
}
