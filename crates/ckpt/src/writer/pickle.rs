//! A pickle of protocol 2, opcode by opcode, with Python's memo.
//!
//! Protocol 2 is what `torch.save` writes and the newest that `torch.load(weights_only=True)`
//! reads. The memo is kept as CPython's pickler keeps it: every string, global, container and
//! call's result gets the next number.
//!
//! Opcodes: <https://docs.python.org/3/library/pickletools.html>.

use super::error::WriteError;
use ir::{Object, Result};
use std::collections::HashMap;

pub(super) mod op {
    pub(crate) const PROTO: u8 = 0x80;
    pub(crate) const STOP: u8 = b'.';
    pub(crate) const MARK: u8 = b'(';
    pub(crate) const POP: u8 = b'0';
    pub(crate) const POP_MARK: u8 = b'1';
    pub(crate) const NONE: u8 = b'N';
    pub(crate) const NEWTRUE: u8 = 0x88;
    pub(crate) const NEWFALSE: u8 = 0x89;
    pub(crate) const BININT: u8 = b'J';
    pub(crate) const BININT1: u8 = b'K';
    pub(crate) const BININT2: u8 = b'M';
    pub(crate) const LONG1: u8 = 0x8a;
    pub(crate) const LONG4: u8 = 0x8b;
    pub(crate) const BINFLOAT: u8 = b'G';
    pub(crate) const BINUNICODE: u8 = b'X';
    pub(crate) const EMPTY_TUPLE: u8 = b')';
    pub(crate) const TUPLE: u8 = b't';
    pub(crate) const TUPLE1: u8 = 0x85;
    pub(crate) const TUPLE2: u8 = 0x86;
    pub(crate) const TUPLE3: u8 = 0x87;
    pub(crate) const EMPTY_LIST: u8 = b']';
    pub(crate) const APPEND: u8 = b'a';
    pub(crate) const APPENDS: u8 = b'e';
    pub(crate) const EMPTY_DICT: u8 = b'}';
    pub(crate) const SETITEM: u8 = b's';
    pub(crate) const SETITEMS: u8 = b'u';
    pub(crate) const GLOBAL: u8 = b'c';
    pub(crate) const REDUCE: u8 = b'R';
    pub(crate) const NEWOBJ: u8 = 0x81;
    pub(crate) const NEWOBJ_EX: u8 = 0x92;
    pub(crate) const BUILD: u8 = b'b';
    pub(crate) const BINPERSID: u8 = b'Q';
    pub(crate) const BINGET: u8 = b'h';
    pub(crate) const LONG_BINGET: u8 = b'j';
    pub(crate) const BINPUT: u8 = b'q';
    pub(crate) const LONG_BINPUT: u8 = b'r';
}

/// Items that one `APPENDS` or `SETITEMS` takes, as in CPython.
pub(super) const BATCH: usize = 1000;

/// A place in the memo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memo(u32);

/// A pickle being written.
#[derive(Debug)]
pub(super) struct Pickle {
    out: Vec<u8>,
    next: u32,
    globals: HashMap<(String, String), Memo>,
}

impl Pickle {
    pub(super) fn new() -> Self {
        Self {
            out: vec![op::PROTO, 2],
            next: 0,
            globals: HashMap::new(),
        }
    }

    /// Ends the pickle.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.push(op::STOP);
        self.out
    }

    pub(super) fn op(&mut self, code: u8) {
        self.out.push(code);
    }

    /// Remembers the top of the stack.
    pub(super) fn put(&mut self) -> Memo {
        let memo = Memo(self.next);
        self.next += 1;
        self.indexed(op::BINPUT, op::LONG_BINPUT, memo);
        memo
    }

    /// Puts what was remembered on the stack.
    pub(super) fn get(&mut self, memo: Memo) {
        self.indexed(op::BINGET, op::LONG_BINGET, memo);
    }

    fn indexed(&mut self, short: u8, long: u8, Memo(index): Memo) {
        if let Ok(index) = u8::try_from(index) {
            self.out.extend([short, index]);
        } else {
            self.out.push(long);
            self.out.extend(index.to_le_bytes());
        }
    }

    pub(super) fn int(&mut self, n: i64) {
        if let Ok(n) = u8::try_from(n) {
            self.out.extend([op::BININT1, n]);
        } else if let Ok(n) = u16::try_from(n) {
            self.out.push(op::BININT2);
            self.out.extend(n.to_le_bytes());
        } else if let Ok(n) = i32::try_from(n) {
            self.out.push(op::BININT);
            self.out.extend(n.to_le_bytes());
        } else {
            // Not in 32 bits, so the bytes that matter are five at least.
            let bytes = n.to_le_bytes();
            let sign = if n < 0 { 0xff } else { 0 };
            let mut len = bytes.len();
            while let [.., before, last] = bytes.get(..len).unwrap_or_default() {
                if *last != sign || (before ^ sign) & 0x80 != 0 {
                    break;
                }
                len -= 1;
            }
            self.out.extend([op::LONG1, u8::try_from(len).unwrap_or(8)]);
            self.out.extend(bytes.iter().take(len));
        }
    }

    /// An integer of any size, in two's complement.
    pub(super) fn big_int(&mut self, bytes: &[u8]) -> Result<()> {
        if let Ok(len) = u8::try_from(bytes.len()) {
            self.out.extend([op::LONG1, len]);
        } else {
            let len =
                i32::try_from(bytes.len()).map_err(|_| too_large("bytes of an integer", bytes))?;
            self.out.push(op::LONG4);
            self.out.extend(len.to_le_bytes());
        }
        self.out.extend(bytes);
        Ok(())
    }

    pub(super) fn float(&mut self, x: f64) {
        self.out.push(op::BINFLOAT);
        self.out.extend(x.to_be_bytes());
    }

    /// A string, in UTF-8 or in what Python's `surrogatepass` makes of it. It is not remembered.
    pub(super) fn text(&mut self, utf8: &[u8]) -> Result<()> {
        let len = u32::try_from(utf8.len()).map_err(|_| too_large("bytes of a string", utf8))?;
        self.out.push(op::BINUNICODE);
        self.out.extend(len.to_le_bytes());
        self.out.extend(utf8);
        Ok(())
    }

    /// A string, remembered.
    pub(super) fn remembered_text(&mut self, text: &str) -> Result<Memo> {
        self.text(text.as_bytes())?;
        Ok(self.put())
    }

    /// Begins a tuple of `n` items.
    pub(super) fn begin_tuple(&mut self, n: usize) {
        if n > 3 {
            self.op(op::MARK);
        }
    }

    /// Ends a tuple of `n` items. It is not remembered.
    pub(super) fn end_tuple(&mut self, n: usize) {
        self.op(match n {
            0 => op::EMPTY_TUPLE,
            1 => op::TUPLE1,
            2 => op::TUPLE2,
            3 => op::TUPLE3,
            _ => op::TUPLE,
        });
    }

    /// A tuple of integers, remembered as Python does: the empty tuple is not.
    pub(super) fn int_tuple(&mut self, items: &[i64]) {
        self.begin_tuple(items.len());
        for item in items {
            self.int(*item);
        }
        self.end_tuple(items.len());
        if !items.is_empty() {
            self.put();
        }
    }

    /// A module's attribute. `why` makes the error of a name that protocol 2 cannot write.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<Memo, String> {
        let key = (module.to_owned(), name.to_owned());
        if let Some(memo) = self.globals.get(&key).copied() {
            self.get(memo);
            return Ok(memo);
        }
        let plain = |text: &str| {
            let ok = !text.is_empty() && text.bytes().all(|b| (b' '..=b'~').contains(&b));
            ok.then_some(())
                .ok_or_else(|| format!("{text:?} is no name that pickle protocol 2 can hold"))
        };
        plain(module)?;
        plain(name)?;
        // As Python: `getattr(getattr(module.A, "B"), "C")`, since GLOBAL takes plain names only.
        let mut parts = name.split('.');
        let first = parts.next().unwrap_or(name);
        let parts: Vec<&str> = parts.collect();
        for _ in &parts {
            self.global("builtins", "getattr")?;
        }
        self.out.push(op::GLOBAL);
        self.out.extend(python_2_module(module).as_bytes());
        self.out.push(b'\n');
        self.out.extend(first.as_bytes());
        self.out.push(b'\n');
        let mut memo = self.put();
        for part in parts {
            let text = self.remembered_text(part);
            text.map_err(|error| error.message())?;
            self.end_tuple(2);
            self.put();
            self.op(op::REDUCE);
            memo = self.put();
        }
        self.globals.insert(key, memo);
        Ok(memo)
    }
}

/// Protocol 2 is shared with Python 2 and spells these modules its way; loaders map them back.
fn python_2_module(module: &str) -> &str {
    match module {
        "builtins" => "__builtin__",
        "copyreg" => "copy_reg",
        other => other,
    }
}

fn too_large(what: &'static str, bytes: &[u8]) -> WriteError {
    WriteError::TooLarge {
        what,
        found: bytes.len() as u64,
    }
}

/// Objects that take no memo entry and hold no others; `false` for the rest.
pub(super) fn scalar(pickle: &mut Pickle, object: &Object) -> Result<bool> {
    match object {
        Object::None => pickle.op(op::NONE),
        Object::Bool(true) => pickle.op(op::NEWTRUE),
        Object::Bool(false) => pickle.op(op::NEWFALSE),
        Object::Int(n) => pickle.int(*n),
        Object::BigInt(bytes) => pickle.big_int(bytes)?,
        Object::Float(x) => pickle.float(*x),
        _ => return Ok(false),
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_as_short_as_pythons() {
        let cases: &[(i64, &[u8])] = &[
            (0, b"K\0"),
            (255, b"K\xff"),
            (256, b"M\0\x01"),
            (65536, b"J\0\0\x01\0"),
            (-1, b"J\xff\xff\xff\xff"),
            (i64::from(i32::MIN), b"J\0\0\0\x80"),
            (1 << 31, b"\x8a\x05\0\0\0\x80\0"),
            (-(1 << 31) - 1, b"\x8a\x05\xff\xff\xff\x7f\xff"),
            (1 << 40, b"\x8a\x06\0\0\0\0\0\x01"),
            (i64::MAX, b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"),
            (i64::MIN, b"\x8a\x08\0\0\0\0\0\0\0\x80"),
        ];
        for (n, bytes) in cases {
            let mut pickle = Pickle::new();
            pickle.int(*n);
            assert_eq!(&pickle.out[2..], *bytes, "{n}");
        }
    }

    #[test]
    fn globals_are_remembered_and_dotted_ones_taken_apart() {
        let mut pickle = Pickle::new();
        pickle.global("builtins", "set").unwrap();
        pickle.global("builtins", "set").unwrap();
        assert_eq!(pickle.out, b"\x80\x02c__builtin__\nset\nq\0h\0");
        let mut pickle = Pickle::new();
        pickle.global("m", "A.b").unwrap();
        let expected =
            b"\x80\x02c__builtin__\ngetattr\nq\0cm\nA\nq\x01X\x01\0\0\0bq\x02\x86q\x03Rq\x04";
        assert_eq!(pickle.out, expected);
        assert!(pickle.global("a\nb", "c").is_err());
    }
}
