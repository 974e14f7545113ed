//! The archive, laid out as `PyTorchStreamWriter` lays it out, byte for byte.
//!
//! | part | bytes |
//! |---|---|
//! | local header | 30: `PK\x03\x04`, u16 version 0, u16 flags, u16 method 0, u16 time 0, u16 date 0, u32 crc 0, u32 sizes 0 0, u16 name length, u16 extra length |
//! | name | `PREFIX/data/0` |
//! | extra, zip64 | only where size or offset reach 2^32-1: u16 1, u16 length, u64 size, u64 0, u64 offset |
//! | extra, padding | u16 `FB`, u16 length, so many `Z` that the payload begins at a multiple of 64 |
//! | payload | stored |
//! | descriptor | not after an empty payload: `PK\x07\x08`, u32 crc, size twice (u32, or u64 with a zip64 extra) |
//! | directory | an entry each: 46 bytes, name, the zip64 extra |
//! | end | the zip64 record (56) and its locator (20), always; the record (22) |
//!
//! Flags are 0x0800 (UTF-8 names) and, where a descriptor follows, 0x0008.
//! `torch.serialization` computes storage offsets from this very layout when asked to
//! (`config.load.calculate_storage_offsets`), so it is part of the format.
//!
//! From `caffe2/serialize/inline_container.cc` and `third_party/miniz-3.0.2/miniz.c` of PyTorch.

use super::error::WriteError;
use bytes::Bytes;
use ir::{Body, Context, OutFile, Piece, Result};

/// What payloads are aligned to: `.storage_alignment`.
pub(super) const ALIGNMENT: u64 = 64;
/// The value at which a 32-bit field gives way to a zip64 extra.
const FULL: u64 = u32::MAX as u64;
const FLAG_DESCRIPTOR: u16 = 0x0008;
const FLAG_UTF8: u16 = 0x0800;
const LOCAL_LEN: u64 = 30;
const DIRECTORY_ENTRY_LEN: u64 = 46;
/// The zip64 record, its locator and the plain record.
const END_LEN: u64 = 56 + 20 + 22;

/// What an entry holds.
pub(super) enum Content<'a> {
    /// Something that is known when the archive is laid out.
    Ready(Body<'a>),
    /// So many bytes, to be told once the checksums of all other entries are known.
    Late(u64),
}

/// An entry, laid out.
struct Entry<'a> {
    name: String,
    content: Content<'a>,
    len: u64,
    /// Where its local header begins.
    header: u64,
    /// Where its payload begins.
    payload: u64,
    crc: u32,
}

/// An archive being laid out.
pub(super) struct Archive<'a> {
    prefix: String,
    entries: Vec<Entry<'a>>,
    /// Where the next entry begins; at last, where the directory does.
    end: u64,
    directory_len: u64,
}

impl<'a> Archive<'a> {
    /// An archive whose entries lie under `prefix`.
    pub(super) fn new(prefix: String) -> Self {
        Self {
            prefix,
            entries: Vec::new(),
            end: 0,
            directory_len: 0,
        }
    }

    /// Lays out one more entry.
    pub(super) fn add(&mut self, name: &str, content: Content<'a>) -> Result<()> {
        let len = match &content {
            Content::Ready(body) => body.byte_len(),
            Content::Late(len) => *len,
        };
        let mut entry = Entry {
            name: format!("{}/{name}", self.prefix),
            content,
            len,
            header: self.end,
            payload: 0,
            crc: 0,
        };
        let name_len = u64::from(fit("bytes of an entry's name", entry.name.len() as u64)?);
        let payload = LOCAL_LEN + name_len + entry.zip64(true).len() as u64 + 4;
        let past_all = |a: u64, b: u64| {
            let sum = a.checked_add(b).filter(|sum| *sum < 1 << 63);
            sum.ok_or(WriteError::TooLarge {
                what: "offset of an entry",
                found: b,
            })
        };
        entry.payload = past_all(self.end, payload)?.next_multiple_of(ALIGNMENT);
        self.end = past_all(past_all(entry.payload, len)?, entry.descriptor_len())?;
        let zip64_len = entry.zip64(false).len() as u64;
        self.directory_len += DIRECTORY_ENTRY_LEN + name_len + zip64_len;
        self.entries.push(entry);
        Ok(())
    }

    /// Names and lengths of all entries, in order.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&str, u64)> {
        self.entries
            .iter()
            .map(|entry| (entry.name.as_str(), entry.len))
    }

    /// Writes the archive and answers its length. `late` makes the bytes of late entries from the
    /// checksums of all entries, theirs being 0.
    pub(super) fn write(
        mut self,
        file: &OutFile,
        cx: &Context,
        late: impl Fn(&Self, &[u32]) -> Bytes,
    ) -> Result<u64> {
        let pieces: Vec<_> = self.entries.iter().filter_map(Entry::piece).collect();
        let mut sums = cx.pump.pour(file, &pieces, cx)?.into_iter();
        drop(pieces);
        for entry in &mut self.entries {
            if entry.piece().is_some() {
                entry.crc = sums.next().unwrap_or(0);
            }
        }
        let known: Vec<u32> = self.entries.iter().map(|entry| entry.crc).collect();
        let bytes = late(&self, &known);
        for entry in &mut self.entries {
            if let Content::Late(len) = entry.content {
                if len != bytes.len() as u64 {
                    let found = bytes.len() as u64;
                    return Err(WriteError::OffPlan {
                        planned: len,
                        found,
                    }
                    .into());
                }
                entry.crc = crc32fast::hash(&bytes);
                file.write_at(entry.payload, &bytes)?;
            }
        }
        // Between two payloads lie the descriptor of one and the header of the next: one write.
        let mut gap = Vec::new();
        let mut at = 0;
        for entry in &self.entries {
            entry.local_header(&mut gap)?;
            write_up_to(file, at, &gap, entry.payload)?;
            gap.clear();
            at = entry.payload + entry.len;
            entry.descriptor(&mut gap)?;
        }
        for entry in &self.entries {
            entry.directory_entry(&mut gap)?;
        }
        self.end_records(&mut gap);
        let end = self.end + self.directory_len + END_LEN;
        write_up_to(file, at, &gap, end)?;
        let found = file.len()?;
        if found != end {
            return Err(WriteError::OffPlan {
                planned: end,
                found,
            }
            .into());
        }
        Ok(end)
    }

    fn end_records(&self, out: &mut Vec<u8>) {
        let (directory, directory_len) = (self.end, self.directory_len);
        let count = self.entries.len() as u64;
        out.extend(b"PK\x06\x06");
        out.extend(44u64.to_le_bytes());
        // Made by version 3.0 on Unix, version 4.5 needed: miniz's constants.
        out.extend([0x1e, 0x03, 0x2d, 0x00]);
        out.extend([0; 8]);
        for n in [count, count, directory_len, directory] {
            out.extend(n.to_le_bytes());
        }
        out.extend(b"PK\x06\x07");
        out.extend([0; 4]);
        out.extend((directory + directory_len).to_le_bytes());
        out.extend(1u32.to_le_bytes());
        out.extend(b"PK\x05\x06");
        out.extend([0; 4]);
        let short = u16::try_from(count).unwrap_or(u16::MAX);
        out.extend(short.to_le_bytes());
        out.extend(short.to_le_bytes());
        out.extend(capped(directory_len).to_le_bytes());
        out.extend(capped(directory).to_le_bytes());
        out.extend([0; 2]);
    }
}

/// Writes `bytes`, which must end where `end` is.
fn write_up_to(file: &OutFile, at: u64, bytes: &[u8], end: u64) -> Result<()> {
    let found = at + bytes.len() as u64;
    if found != end {
        return Err(WriteError::OffPlan {
            planned: end,
            found,
        }
        .into());
    }
    file.write_at(at, bytes)
}

fn fit(what: &'static str, n: u64) -> Result<u16> {
    Ok(u16::try_from(n).map_err(|_| WriteError::TooLarge { what, found: n })?)
}

/// The value of a 32-bit field beside a zip64 extra.
fn capped(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl<'a> Entry<'a> {
    fn piece(&self) -> Option<Piece<'a>> {
        match &self.content {
            Content::Ready(body) => Some(Piece {
                offset: self.payload,
                body: body.clone(),
                crc: true,
            }),
            Content::Late(_) => None,
        }
    }

    fn flags(&self) -> u16 {
        match self.len {
            0 => FLAG_UTF8,
            _ => FLAG_UTF8 | FLAG_DESCRIPTOR,
        }
    }

    /// The zip64 extra, empty where none is needed. The local one is written before the packed size
    /// is known, as 0.
    fn zip64(&self, local: bool) -> Vec<u8> {
        let mut body = Vec::new();
        if self.len >= FULL {
            body.extend(self.len.to_le_bytes());
            body.extend(if local { 0 } else { self.len }.to_le_bytes());
        }
        if self.header >= FULL {
            body.extend(self.header.to_le_bytes());
        }
        if body.is_empty() {
            return body;
        }
        let mut out = vec![1, 0, 0, 0];
        if let (Some(len), Ok(n)) = (out.get_mut(2), u8::try_from(body.len())) {
            *len = n;
        }
        out.extend(body);
        out
    }

    fn descriptor_len(&self) -> u64 {
        match self.len {
            0 => 0,
            _ if self.zip64(true).is_empty() => 16,
            _ => 24,
        }
    }

    fn local_header(&self, out: &mut Vec<u8>) -> Result<()> {
        let zip64 = self.zip64(true);
        let unpadded = LOCAL_LEN + self.name.len() as u64 + zip64.len() as u64 + 4;
        let padding = self.payload - self.header - unpadded;
        let extra = fit("bytes of an extra field", zip64.len() as u64 + 4 + padding)?;
        out.extend(b"PK\x03\x04");
        out.extend([0; 2]);
        out.extend(self.flags().to_le_bytes());
        out.extend([0; 18]);
        out.extend(fit("bytes of an entry's name", self.name.len() as u64)?.to_le_bytes());
        out.extend(extra.to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(zip64);
        out.extend(b"FB");
        out.extend(fit("bytes of padding", padding)?.to_le_bytes());
        out.extend((0..padding).map(|_| b'Z'));
        Ok(())
    }

    fn descriptor(&self, out: &mut Vec<u8>) -> Result<()> {
        if self.len == 0 {
            return Ok(());
        }
        out.extend(b"PK\x07\x08");
        out.extend(self.crc.to_le_bytes());
        if self.zip64(true).is_empty() {
            let len = u32::try_from(self.len).map_err(|_| WriteError::TooLarge {
                what: "bytes of an entry",
                found: self.len,
            })?;
            out.extend(len.to_le_bytes());
            out.extend(len.to_le_bytes());
        } else {
            out.extend(self.len.to_le_bytes());
            out.extend(self.len.to_le_bytes());
        }
        Ok(())
    }

    fn directory_entry(&self, out: &mut Vec<u8>) -> Result<()> {
        let zip64 = self.zip64(false);
        out.extend(b"PK\x01\x02");
        out.extend([0; 4]);
        out.extend(self.flags().to_le_bytes());
        out.extend([0; 6]);
        out.extend(self.crc.to_le_bytes());
        out.extend(capped(self.len).to_le_bytes());
        out.extend(capped(self.len).to_le_bytes());
        out.extend(fit("bytes of an entry's name", self.name.len() as u64)?.to_le_bytes());
        out.extend(fit("bytes of an extra field", zip64.len() as u64)?.to_le_bytes());
        out.extend([0; 10]);
        out.extend(capped(self.header).to_le_bytes());
        out.extend(self.name.as_bytes());
        out.extend(zip64);
        Ok(())
    }
}
