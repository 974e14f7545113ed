//! Reading the arguments of opcodes: numbers, strings, bytes, lines.

use super::machine::{Machine, Reading};
use super::number::{self, Number};
use super::opcode as op;
use super::text::{self, Text};
use bytes::Bytes;
use ir::{Blob, Limits, Object, Region, Result};
use std::sync::Arc;

/// Byte strings longer than this stay in the file.
const HELD_BYTES: u64 = 4096;
/// `BINSTRING`s, which may be text, are looked at up to this length.
const HELD_STRING: u64 = 64 << 10;
/// Characters of a number written as text.
const NUMBER_CHARS: u64 = 64 << 10;

impl Machine<'_> {
    pub(super) fn number_line(&mut self, code: u8) -> Result<()> {
        let line = self.line()?;
        let head = line.slice(..line.len().min(40));
        let shown = || head.escape_ascii().to_string();
        Limits::check("characters of a number", line.len() as u64, NUMBER_CHARS)?;
        let (object, odd) = if code == op::FLOAT {
            let loose = || {
                self.budget
                    .is_tolerant()
                    .then(|| number::loose_float(&line))?
            };
            let parsed = number::float(&line).or_else(loose);
            let parsed = parsed.map(|p| (Object::Float(p.value), p.odd));
            parsed.ok_or_else(|| self.fail(format!("`{}` is no float", shown())))?
        } else {
            let parsed = if code == op::INT {
                number::int(&line)
            } else {
                number::long(&line)
            };
            let parsed = parsed.map(|p| (integer(p.value), p.odd));
            parsed.ok_or_else(|| self.fail(format!("`{}` is no integer", shown())))?
        };
        if odd {
            self.odd(format!("the number `{}`", shown()));
        }
        self.push(object)
    }

    pub(super) fn long(&mut self, len: u64) -> Result<()> {
        let bytes = self.held(len)?;
        self.push(integer(number::from_twos_complement(&bytes)))
    }

    /// `BINSTRING` of Python 2, which is text or bytes: text if it is ASCII.
    pub(super) fn binstring(&mut self, len: u64) -> Result<()> {
        if len > HELD_STRING {
            let region = self.stored(len)?;
            return self.push(Object::Bytes(Box::new(Blob::Stored(region))));
        }
        let bytes = self.held(len)?;
        self.push(byte_string(bytes.to_vec()))
    }

    pub(super) fn unicode(&mut self, len: u64) -> Result<()> {
        let bytes = self.held(len)?;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            return self.push(Object::Str(text.into()));
        }
        let text = text::utf8(&bytes).ok_or_else(|| self.fail("a string that is not UTF-8"))?;
        self.push_text(text)
    }

    pub(super) fn push_text(&mut self, text: Text) -> Result<()> {
        self.push(match text {
            Text::Plain(text) => Object::Str(text.into()),
            Text::Wild(bytes) => Object::WildStr(bytes.into()),
        })
    }

    /// `bytes`. CPython puts these together from both sides of a frame's end.
    pub(super) fn blob(&mut self, len: u64) -> Result<Blob> {
        let at = self.cursor.position();
        if at < self.frame_end && at.saturating_add(len) > self.frame_end {
            self.crossed = true;
            self.frame_end = 0;
        }
        if len > HELD_BYTES {
            return self.stored(len).map(Blob::Stored);
        }
        // A copy, so that a small string does not keep its whole window alive.
        let bytes = self.held(len)?;
        Ok(Blob::Held(Bytes::copy_from_slice(&bytes)))
    }

    /// The next `len` bytes, counted against what may be held.
    pub(super) fn held(&mut self, len: u64) -> Result<Bytes> {
        self.cross(len);
        if len > self.cursor.remaining() {
            return Err(self.cut_of(len));
        }
        self.budget.hold(len)?;
        let bytes = match usize::try_from(len) {
            Ok(len) => self.cursor.bytes(len)?,
            Err(_) => None,
        };
        bytes.ok_or_else(|| self.cut_of(len))
    }

    pub(super) fn stored(&mut self, len: u64) -> Result<Region> {
        self.cross(len);
        let region = self.cursor.skip(len)?;
        region.ok_or_else(|| self.cut_of(len))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.cross(N as u64);
        let array = self.cursor.array()?;
        array.ok_or_else(|| self.cut_of(N as u64))
    }

    /// A line with something in it.
    pub(super) fn line(&mut self) -> Result<Bytes> {
        self.line_of(1)
    }

    pub(super) fn line_of(&mut self, at_least: usize) -> Result<Bytes> {
        let max = self.budget.holdable();
        let start = self.cursor.position();
        let mut line = self.cursor.line(max)?;
        if let Ok(found) = &line {
            // The line feed is a part of it.
            let len = found.len() as u64 + 1;
            if start < self.frame_end && start.saturating_add(len) > self.frame_end {
                self.crossed = true;
                if self.reading == Reading::File {
                    self.cursor.seek(self.frame_end);
                    line = self.cursor.line(max)?;
                }
            }
        }
        match line {
            Ok(line) if line.len() >= at_least => {
                self.budget.hold(line.len() as u64)?;
                Ok(line)
            }
            Ok(_) => Err(self.fail("an empty line where a value was expected")),
            Err(seen) if seen > max => {
                self.budget.over_held(seen)?;
                Err(self.cut_of(seen))
            }
            Err(_) => Err(self.cut("the pickle ends within a line")),
        }
    }

    pub(super) fn name_line(&mut self) -> Result<Arc<str>> {
        let line = self.line()?;
        let name = std::str::from_utf8(&line).ok();
        let name = name.ok_or_else(|| self.fail("a name that is not UTF-8"))?;
        if !name.is_ascii() {
            self.odd("a name with letters outside ASCII");
        }
        Ok(name.into())
    }

    /// Told before `len` bytes are read as one.
    pub(super) fn cross(&mut self, len: u64) {
        let at = self.cursor.position();
        if at < self.frame_end && at.saturating_add(len) > self.frame_end {
            self.crossed = true;
            if self.reading == Reading::File {
                self.cursor.seek(self.frame_end);
            }
        }
    }
}

fn integer(number: Number) -> Object {
    match number {
        Number::Bool(b) => Object::Bool(b),
        Number::Int(n) => Object::Int(n),
        Number::Big(bytes) => Object::BigInt(bytes.into()),
    }
}

/// A string of Python 2: text if it is ASCII, else bytes.
pub(super) fn byte_string(bytes: Vec<u8>) -> Object {
    if bytes.is_ascii() {
        if let Ok(text) = String::from_utf8(bytes) {
            return Object::Str(text.into());
        }
        return Object::None;
    }
    Object::Bytes(Box::new(Blob::Held(bytes.into())))
}
