//! What an object says of itself: links to others, attributes, and where its data lies.

use super::header::{Messages, kind};
use super::{Outside, Reader, broken, undefined};
use crate::cursor::Cursor;
use bytes::Bytes;
use ir::Result;

/// Nodes of one tree of names.
const NODES: usize = 100_000;
/// Links of one group.
const LINKS: usize = 200_000;

const HARD: u8 = 0;
const SOFT: u8 = 1;
const EXTERNAL: u8 = 64;

/// A link to an object of this file.
pub(super) struct Link {
    pub(super) name: String,
    pub(super) address: u64,
}

impl Reader {
    /// Reads an object's messages and answers where they lead.
    pub(super) fn object(&mut self, messages: &Messages, path: &str) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        for message in &messages.0 {
            let data = message.data.clone();
            if message.shared {
                // A type that many share is named by its place; a shared attribute is never text
                // of Keras, and its writer is none of Keras's.
                continue;
            }
            match message.kind {
                kind::SYMBOL_TABLE => self.symbols(data, &mut links)?,
                kind::LINK => {
                    self.link(data, path, &mut links);
                }
                kind::LINK_INFO => {
                    for block in self.dense(data, 8)? {
                        self.packed_links(&block, path, &mut links);
                    }
                }
                kind::ATTRIBUTE => {
                    self.attribute(data, path)?;
                }
                kind::ATTRIBUTE_INFO => {
                    for block in self.dense(data, 2)? {
                        self.packed_attributes(&block, path)?;
                    }
                }
                kind::EXTERNAL_FILES => self.external_files(data, path)?,
                kind::LAYOUT => self.layout(data, path)?,
                _ => {}
            }
            if links.len() > LINKS {
                return Err(broken("a group has more links than are followed", 0));
            }
        }
        Ok(links)
    }

    /// The blocks of the heap that a message of this kind names, if it names one.
    fn dense(&self, data: Bytes, index: usize) -> Result<Vec<Bytes>> {
        let mut data = Cursor::new(data);
        let heap = data.skip(1).and_then(|()| {
            let flags = data.byte()?;
            data.skip(if flags & 1 == 0 { 0 } else { index })?;
            data.number(self.offset)
        });
        match heap {
            Some(at) if at != undefined(self.offset) => self.fractal(at),
            Some(_) => Ok(Vec::new()),
            None => Err(broken("a message is cut short", 0)),
        }
    }

    /// A group of the old kind: a tree of tables of names.
    fn symbols(&self, data: Bytes, links: &mut Vec<Link>) -> Result<()> {
        let mut data = Cursor::new(data);
        let (Some(tree), Some(heap)) = (data.number(self.offset), data.number(self.offset)) else {
            return Err(broken("a group is cut short", 0));
        };
        let names = self.local(heap)?;
        let mut open = vec![tree];
        let mut nodes = 0;
        while let Some(at) = open.pop() {
            nodes += 1;
            if nodes > NODES || links.len() > LINKS {
                return Err(broken("a group has more links than are followed", at));
            }
            let head = self.at_most(at, 8)?;
            let done = if head.starts_with(b"SNOD") {
                self.table(at, &head, &names, links)?
            } else {
                self.tree(at, &head, &mut open)?
            };
            done.ok_or_else(|| broken("a group's table is damaged", at))?;
        }
        Ok(())
    }

    fn tree(&self, at: u64, head: &[u8], open: &mut Vec<u64>) -> Result<Option<()>> {
        let [b'T', b'R', b'E', b'E', 0, _, low, high] = *head else {
            return Ok(None);
        };
        let count = usize::from(u16::from_le_bytes([low, high]));
        let pair = self.length + self.offset;
        let len = 8 + 2 * self.offset + count * pair + self.length;
        let mut node = Cursor::new(self.at_most(at, len)?);
        let mut read = || {
            node.skip(8 + 2 * self.offset)?;
            for _ in 0..count {
                node.skip(self.length)?;
                open.push(node.number(self.offset)?);
            }
            Some(())
        };
        Ok(read())
    }

    fn table(
        &self,
        at: u64,
        head: &[u8],
        names: &Bytes,
        links: &mut Vec<Link>,
    ) -> Result<Option<()>> {
        let [_, _, _, _, _, _, low, high] = *head else {
            return Ok(None);
        };
        let count = usize::from(u16::from_le_bytes([low, high]));
        let size = 2 * self.offset + 24;
        let mut table = Cursor::new(self.at_most(at, 8 + count * size)?);
        let mut read = || {
            table.skip(8)?;
            for _ in 0..count {
                let name = table.len(self.offset)?;
                let address = table.number(self.offset)?;
                let cached = table.number(4)?;
                table.skip(20)?;
                let name = names.get(name..)?.split(|b| *b == 0).next()?;
                // 2 is a link to another name of the same file.
                if cached != 2 {
                    let name = String::from_utf8_lossy(name).into_owned();
                    links.push(Link { name, address });
                }
            }
            Some(())
        };
        Ok(read())
    }

    /// A link message. Answers its length.
    fn link(&mut self, data: Bytes, path: &str, links: &mut Vec<Link>) -> Option<usize> {
        let mut data = Cursor::new(data);
        if data.byte()? != 1 {
            return None;
        }
        let flags = data.byte()?;
        if flags & 0xe0 != 0 {
            return None;
        }
        let how = if flags & 8 == 0 { HARD } else { data.byte()? };
        data.skip(if flags & 4 == 0 { 0 } else { 8 })?;
        data.skip(usize::from(flags & 16 != 0))?;
        let len = data
            .len(1 << (flags & 3))
            .filter(|n| (1..65_536).contains(n))?;
        let name = data.take(len)?;
        let name = String::from_utf8_lossy(&name).into_owned();
        match how {
            HARD => {
                let address = data.number(self.offset)?;
                links.push(Link { name, address });
            }
            EXTERNAL => {
                let len = data.len(2)?;
                let mut value = Cursor::new(data.take(len)?);
                value.skip(1)?;
                let file = value.text()?;
                self.out.outside.push(Outside {
                    object: format!("{}/{name}", path.trim_end_matches('/')),
                    how: "external link",
                    file,
                });
            }
            // To another name of this file, or of a kind that an application defines.
            SOFT | 65..=255 => {
                let len = data.len(2)?;
                data.skip(len)?;
            }
            _ => return None,
        }
        Some(data.at())
    }

    /// Link messages one behind the other, with gaps.
    fn packed_links(&mut self, block: &Bytes, path: &str, links: &mut Vec<Link>) {
        let mut at = 0;
        while at < block.len() {
            at += self.link(block.slice(at..), path, links).unwrap_or(1);
        }
    }

    fn packed_attributes(&mut self, block: &Bytes, path: &str) -> Result<()> {
        let mut at = 0;
        while at < block.len() {
            let begins = matches!(block.get(at), Some(1..=3));
            let read = if begins {
                self.attribute(block.slice(at..), path)?
            } else {
                None
            };
            at += read.unwrap_or(1);
        }
        Ok(())
    }

    /// Data that lies in files of its own.
    fn external_files(&mut self, data: Bytes, path: &str) -> Result<()> {
        let mut data = Cursor::new(data);
        let read = data.skip(6).and_then(|()| {
            let used = data.len(2)?;
            Some((used, data.number(self.offset)?))
        });
        let Some((used, heap)) = read else {
            return Err(broken("a list of files is cut short", 0));
        };
        let names = self.local(heap)?;
        for _ in 0..used {
            let Some(name) = data.len(self.length) else {
                break;
            };
            let name = names.get(name..).unwrap_or_default();
            let name = name.split(|b| *b == 0).next().unwrap_or_default();
            self.out.outside.push(Outside {
                object: path.to_owned(),
                how: "external storage",
                file: String::from_utf8_lossy(name).into_owned(),
            });
            if data.skip(2 * self.length).is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Where a dataset's numbers lie: a virtual one takes them from other datasets.
    fn layout(&mut self, data: Bytes, path: &str) -> Result<()> {
        let mut data = Cursor::new(data);
        let (Some(4 | 5), Some(3)) = (data.byte(), data.byte()) else {
            return Ok(());
        };
        let (Some(heap), Some(index)) = (data.number(self.offset), data.number(4)) else {
            return Ok(());
        };
        if heap == undefined(self.offset) {
            return Ok(());
        }
        let mut list = Cursor::new(self.global(heap, index)?);
        let first = list.skip(1 + self.length).and_then(|()| list.text());
        // `.` is this file.
        if let Some(file) = first.filter(|file| file != ".") {
            self.out.outside.push(Outside {
                object: path.to_owned(),
                how: "virtual dataset",
                file,
            });
        }
        Ok(())
    }
}
