//! A protobuf read by position: a small window moves over the file, and what is long is only ever
//! stepped over.

use crate::OnnxError;
use ir::{Region, Result};

/// Bytes read at once while the file is walked in order.
const WINDOW: u64 = 64 << 10;
/// Bytes read after a jump, where the next thing is often another jump.
const STEP: u64 = 2 << 10;

/// The bytes of a message or field: offsets in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Where it begins.
    pub(super) at: u64,
    /// One past its end.
    pub(super) end: u64,
}

impl Span {
    pub(super) fn len(self) -> u64 {
        self.end.saturating_sub(self.at)
    }
}

/// The content of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    /// A message, text, bytes, or packed numbers.
    Span(Span),
}

/// A field: its number, where its key stands, and its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    pub(super) at: u64,
    pub(super) content: Content,
}

impl Field {
    fn wrong(self, wanted: &str) -> ir::Error {
        let found = match self.content {
            Content::Varint(_) => "a number",
            Content::Fixed64(_) => "8 bytes",
            Content::Fixed32(_) => "4 bytes",
            Content::Span(_) => "a length and bytes",
        };
        OnnxError::Encoding {
            at: self.at,
            why: format!("field {} is {found}, expected {wanted}", self.number),
        }
        .into()
    }

    /// The content as a message, text or bytes.
    pub(super) fn span(self) -> Result<Span> {
        match self.content {
            Content::Span(span) => Ok(span),
            _ => Err(self.wrong("a length and bytes")),
        }
    }

    /// The content as an integer: an `int64`, which is what `int32` and enums are sent as too.
    pub(super) fn int(self) -> Result<i64> {
        match self.content {
            Content::Varint(n) => Ok(n.cast_signed()),
            _ => Err(self.wrong("a number")),
        }
    }

    /// The content as a `float`.
    pub(super) fn float(self) -> Result<f32> {
        match self.content {
            Content::Fixed32(bits) => Ok(f32::from_bits(bits)),
            _ => Err(self.wrong("4 bytes")),
        }
    }
}

/// The file and the window on it.
#[derive(Debug)]
pub(super) struct Source {
    region: Region,
    window: Vec<u8>,
    /// Where in the file the window begins.
    start: u64,
}

impl Source {
    pub(super) fn new(region: Region) -> Self {
        Self {
            region,
            window: Vec::new(),
            start: 0,
        }
    }

    /// All of the file.
    pub(super) fn whole(&self) -> Span {
        Span {
            at: 0,
            end: self.region.len(),
        }
    }

    /// The bytes of a span, left in the file.
    pub(super) fn region(&self, span: Span) -> Result<Region> {
        self.region.slice(span.at, span.len())
    }

    /// The bytes of a span, in memory; the caller has kept the length within its cap.
    pub(super) fn bytes(&mut self, span: Span) -> Result<Vec<u8>> {
        let len = usize::try_from(span.len()).unwrap_or(usize::MAX);
        if let Some(seen) = self.seen(span.at, len) {
            return Ok(seen.to_vec());
        }
        if span.len() <= STEP {
            self.fill(span.at)?;
            if let Some(seen) = self.seen(span.at, len) {
                return Ok(seen.to_vec());
            }
        }
        // Checked before the allocation.
        self.region.slice(span.at, span.len())?;
        let mut out = vec![0; len];
        self.region.read_at(span.at, &mut out)?;
        Ok(out)
    }

    /// What the window shows of `len` bytes at `at`, if it shows all.
    fn seen(&self, at: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.window.get(from..from.checked_add(len)?)
    }

    /// Moves the window so that it begins at `at`.
    fn fill(&mut self, at: u64) -> Result<()> {
        let end = self.start.saturating_add(self.window.len() as u64);
        // In order if it goes on near where the window ended.
        let near = at >= self.start && at <= end.saturating_add(STEP);
        let len = if near { WINDOW } else { STEP }.min(self.region.len().saturating_sub(at));
        self.window.resize(usize::try_from(len).unwrap_or(0), 0);
        self.start = at;
        self.region.read_at(at, &mut self.window)
    }

    fn byte(&mut self, at: u64) -> Result<u8> {
        if self.seen(at, 1).is_none() {
            self.fill(at)?;
        }
        let seen = self.seen(at, 1).and_then(|bytes| bytes.first());
        seen.copied().ok_or_else(|| cut(at))
    }

    /// A varint of a span, whose start moves past it.
    pub(super) fn varint(&mut self, span: &mut Span) -> Result<u64> {
        let at = span.at;
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            if span.at >= span.end {
                return Err(cut(at));
            }
            let byte = self.byte(span.at)?;
            span.at += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        let why = "a number of more than 64 bits".to_owned();
        Err(OnnxError::Encoding { at, why }.into())
    }

    fn fixed<const N: usize>(&mut self, span: &mut Span) -> Result<[u8; N]> {
        let at = span.at;
        if span.len() < N as u64 {
            return Err(cut(at));
        }
        if self.seen(at, N).is_none() {
            self.fill(at)?;
        }
        span.at += N as u64;
        let seen = self.seen(at, N).and_then(|bytes| bytes.first_chunk());
        seen.copied().ok_or_else(|| cut(at))
    }

    /// The next field of a message, whose start moves past it. `None` at its end.
    pub(super) fn field(&mut self, message: &mut Span) -> Result<Option<Field>> {
        if message.at >= message.end {
            return Ok(None);
        }
        let at = message.at;
        let key = self.varint(message)?;
        let bad = |why: String| OnnxError::Encoding { at, why };
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|number| (1..1 << 29).contains(number))
            .ok_or_else(|| bad(format!("{} is no field number", key >> 3)))?;
        let content = match key & 7 {
            0 => Content::Varint(self.varint(message)?),
            1 => Content::Fixed64(u64::from_le_bytes(self.fixed(message)?)),
            2 => {
                let len = self.varint(message)?;
                let start = message.at;
                let leaves = OnnxError::LeavesMessage {
                    at: start,
                    len,
                    end: message.end,
                };
                let end = start.checked_add(len).filter(|end| *end <= message.end);
                let end = end.ok_or(leaves)?;
                message.at = end;
                Content::Span(Span { at: start, end })
            }
            5 => Content::Fixed32(u32::from_le_bytes(self.fixed(message)?)),
            wire => {
                let why = format!("field {number} has wire type {wire}, which ONNX does not use");
                return Err(bad(why).into());
            }
        };
        Ok(Some(Field {
            number,
            at,
            content,
        }))
    }
}

fn cut(at: u64) -> ir::Error {
    let why = "a message ends in the middle of a field".to_owned();
    OnnxError::Encoding { at, why }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Content)>> {
        let mut source = Source::new(Region::memory(bytes.to_vec()));
        let mut span = source.whole();
        let mut out = Vec::new();
        while let Some(field) = source.field(&mut span)? {
            out.push((field.number, field.content));
        }
        Ok(out)
    }

    #[test]
    fn each_wire_type_is_read() {
        let bytes = b"\x08\x96\x01\x12\x03abc\x1d\x00\x00\x80\x3f\x21\x01\0\0\0\0\0\0\0";
        let span = Span { at: 5, end: 8 };
        assert_eq!(
            fields(bytes).unwrap(),
            [
                (1, Content::Varint(150)),
                (2, Content::Span(span)),
                (3, Content::Fixed32(0x3f80_0000)),
                (4, Content::Fixed64(1)),
            ]
        );
    }

    #[test]
    fn what_does_not_hold_is_refused() {
        let eleven = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        assert!(fields(&eleven).is_ok());
        let over = [0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2];
        let long = [0x12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
        for bad in [
            &over[..],
            &long,
            b"\x08",
            b"\x08\x80",
            b"\x12\x04abc",
            b"\x1d\0\0\0",
            b"\x0b",
            b"\x00\x00",
            b"\x0f",
        ] {
            let error = fields(bad).unwrap_err();
            assert_eq!(error.class(), ir::Class::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn windows_join() {
        // Fields that lie across the ends of windows, and a long one that is stepped over.
        let mut bytes = Vec::new();
        for n in 0..40_000u64 {
            bytes.extend([0x08, (n & 0x7f) as u8 | 0x80, 1]);
        }
        bytes.extend([0x12, 0x80, 0x80, 0x40]);
        bytes.resize(bytes.len() + (1 << 20), 7);
        bytes.extend([0x08, 5]);
        let found = fields(&bytes).unwrap();
        assert_eq!(found.len(), 40_002);
        assert_eq!(found.last(), Some(&(1, Content::Varint(5))));
    }
}
