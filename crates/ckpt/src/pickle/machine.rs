//! The loop over opcodes.

use super::budget::{APART, Budget};
use super::cursor::Cursor;
use super::literal::byte_string;
use super::number;
use super::stack::{Memo, Stack};
use super::{names, opcode as op, text};
use crate::error::CkptError;
use bytes::Bytes;
use ir::{Error, Ids, Limits, Object, ObjectId, Objects, Pairs, Region, Result};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// Bytes that a global takes beside its texts.
const GLOBAL: u64 = 128;

/// Highest slot of the memo.
const MEMO_SLOT: u64 = 1 << 28;
/// Slots of the memo that are filled out of order.
const MEMO_OUT_OF_ORDER: u64 = 200_000;
/// Places of objects of which there is one only; below them lie the numbers of one byte.
const NONE: usize = 256;
const TRUE: usize = 257;
const FALSE: usize = 258;
const NOTHING: usize = 259;
/// The newest protocol there is.
const HIGHEST_PROTOCOL: u8 = 5;
/// Disagreements recorded of one pickle; more say nothing new.
const MAX_ODD: usize = 64;

/// What became of one pickle.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All it made; the root is set if it ran to its `STOP`.
    pub(crate) objects: Objects,
    /// One past its last byte, or where it broke, from the start of the region.
    pub(crate) end: u64,
    /// The protocol it names; 0 where it names none.
    pub(crate) protocol: u8,
    /// Text that other parsers read differently: offset and what it is.
    pub(crate) odd: Vec<(u64, String)>,
    /// Where it lies, if an opcode reaches over the end of its frame: then unpicklers disagree on
    /// all that follows, and it has to be run both ways.
    pub(crate) crossed: Option<(Region, u64)>,
    /// As which other unpicklers it has to be read, and where it lies: there are arrays in it that these may take for opcodes.
    pub(crate) ambiguous: Vec<(Reading, Region, u64)>,
    /// Why it broke off.
    pub(crate) error: Option<Error>,
    /// What was read from the region behind its end already.
    pub(crate) ahead: Bytes,
}

/// As which unpickler a pickle is read. They agree on what picklers write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reading {
    /// CPython's in C, from memory: where frames end means nothing.
    Memory,
    /// The same from a file that cannot peek, such as the `BytesIO` torch hands it: when an opcode
    /// reaches over the end of its frame, which no pickler writes, what is left of the frame is dropped.
    File,
    /// joblib's: arrays lie between the opcodes. Without any it is read as by the first.
    Joblib,
    /// joblib's before 1.2, which knew of no bytes filled in before an array.
    OldJoblib,
}

impl Outcome {
    /// Whether it ran to its `STOP`.
    pub(crate) fn complete(&self) -> bool {
        self.error.is_none()
    }
}

/// Runs the pickle that begins at byte `at` of `region`. `slot` names it in errors. Offsets of
/// nodes count from `at`.
pub(crate) fn run(region: &Region, at: u64, slot: &str, budget: &mut Budget) -> Outcome {
    let reading = if budget.is_tolerant() {
        Reading::Joblib
    } else {
        Reading::Memory
    };
    run_as(region, at, slot, budget, reading)
}

/// The same for one right behind another, of which some was read already.
pub(crate) fn run_behind(
    region: &Region,
    at: u64,
    ahead: Bytes,
    slot: &str,
    budget: &mut Budget,
) -> Outcome {
    let cursor = Cursor::ahead(region.clone(), at, ahead);
    execute(cursor, region, at, slot, budget, Reading::Joblib)
}

/// Runs a pickle as one of the unpicklers.
pub(crate) fn run_as(
    region: &Region,
    at: u64,
    slot: &str,
    budget: &mut Budget,
    reading: Reading,
) -> Outcome {
    let cursor = Cursor::new(region.clone(), at);
    execute(cursor, region, at, slot, budget, reading)
}

fn execute(
    cursor: Cursor,
    region: &Region,
    at: u64,
    slot: &str,
    budget: &mut Budget,
    reading: Reading,
) -> Outcome {
    budget.begin();
    let mut machine = Machine {
        cursor,
        start: at,
        slot,
        budget,
        objects: Objects::new(),
        stack: Stack::default(),
        memo: Memo::default(),
        protocol: 0,
        registry: HashMap::new(),
        cache: HashMap::new(),
        singles: [None; NOTHING + 1],
        odd: Vec::new(),
        code: op::STOP,
        code_at: 0,
        reading,
        frame_end: 0,
        crossed: false,
        taken: HashSet::new(),
        ambiguous: BTreeSet::new(),
    };
    let error = match machine.execute() {
        Ok(root) => {
            machine.objects.set_root(root);
            None
        }
        // Limits do not know where they are met.
        Err(error) => Some(error.at(format!("{slot}, byte {}", machine.code_at))),
    };
    Outcome {
        end: machine.cursor.position(),
        ahead: machine.cursor.unread(),
        protocol: machine.protocol,
        objects: machine.objects,
        odd: machine.odd,
        crossed: machine.crossed.then(|| (region.clone(), at)),
        ambiguous: (machine.ambiguous.into_iter())
            .map(|reading| (reading, region.clone(), at))
            .collect(),
        error,
    }
}

pub(super) struct Machine<'a> {
    pub(super) cursor: Cursor,
    start: u64,
    pub(super) slot: &'a str,
    pub(super) budget: &'a mut Budget,
    pub(super) objects: Objects,
    pub(super) stack: Stack,
    pub(super) memo: Memo,
    pub(super) protocol: u8,
    /// What the pickle itself put into `copyreg`'s extension registry: code to module and name.
    pub(super) registry: HashMap<i64, (Arc<str>, Arc<str>)>,
    /// What it put into `copyreg._extension_cache`: objects themselves.
    pub(super) cache: HashMap<i64, ObjectId>,
    /// Objects of which there is one only. A list of a million `None` is no million objects.
    singles: [Option<ObjectId>; NOTHING + 1],
    pub(super) odd: Vec<(u64, String)>,
    /// The opcode being run, and its offset.
    pub(super) code: u8,
    pub(super) code_at: u64,
    pub(super) reading: Reading,
    /// Where the current frame ends in the region; a place already passed means none.
    pub(super) frame_end: u64,
    pub(super) crossed: bool,
    /// The descriptions of arrays whose arrays were taken out.
    pub(super) taken: HashSet<ObjectId>,
    pub(super) ambiguous: BTreeSet<Reading>,
}

impl Machine<'_> {
    pub(super) fn execute(&mut self) -> Result<ObjectId> {
        loop {
            self.code_at = self.cursor.position() - self.start;
            let Some(code) = self.cursor.byte()? else {
                self.code = op::STOP;
                return Err(self.cut("the pickle ends without STOP"));
            };
            self.code = code;
            self.budget.step()?;
            if code == op::STOP {
                self.no_frame_left()?;
                return self.pop();
            }
            self.opcode(code)?;
            if self.crossed && !self.budget.is_tolerant() {
                return Err(self.fail(
                    "it reaches over the end of its frame: unpicklers disagree on what follows",
                ));
            }
        }
    }

    /// A frame ends where its pickle does. What lies behind is lost to an unpickler that reads from a
    /// file, and not to others.
    fn no_frame_left(&mut self) -> Result<()> {
        if self.frame_end > self.cursor.position() {
            self.odd("stands before the end of its frame");
            if !self.budget.is_tolerant() {
                return Err(self.fail("the pickle ends before its frame does"));
            }
        }
        Ok(())
    }

    fn opcode(&mut self, code: u8) -> Result<()> {
        match code {
            op::PROTO => {
                let [protocol] = self.array()?;
                if protocol > HIGHEST_PROTOCOL {
                    return Err(self.fail(format!("there is no pickle protocol {protocol}")));
                }
                self.protocol = protocol;
                Ok(())
            }
            op::FRAME => {
                let len = u64::from_le_bytes(self.array()?);
                if len > self.cursor.remaining() {
                    return Err(self.cut(format!("a frame of {len} bytes does not fit the pickle")));
                }
                self.cross(len);
                self.frame_end = self.cursor.position().saturating_add(len);
                Ok(())
            }
            // Constants and numbers.
            op::NONE => self.push_single(NONE, || Object::None),
            op::NEWTRUE => self.push_single(TRUE, || Object::Bool(true)),
            op::NEWFALSE => self.push_single(FALSE, || Object::Bool(false)),
            op::BININT => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Object::Int(n.into()))
            }
            op::BININT1 => {
                let [n] = self.array()?;
                self.push_single(n.into(), || Object::Int(n.into()))
            }
            op::BININT2 => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Object::Int(n.into()))
            }
            op::BINFLOAT => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Object::Float(x))
            }
            op::LONG1 => {
                let [n] = self.array()?;
                self.long(n.into())
            }
            op::LONG4 => {
                let n = i32::from_le_bytes(self.array()?);
                let n =
                    u64::try_from(n).map_err(|_| self.fail(format!("a number of {n} bytes")))?;
                self.long(n)
            }
            op::INT | op::LONG | op::FLOAT => self.number_line(code),
            // Strings.
            op::STRING => {
                let line = self.line()?;
                let bytes = text::quoted(&line)
                    .ok_or_else(|| self.fail("a string without proper quotes or escapes"))?;
                if !line.is_ascii() {
                    self.odd("a text string with bytes outside ASCII");
                }
                self.push(byte_string(bytes))
            }
            op::UNICODE => {
                let line = self.line_of(0)?;
                let text = text::raw_unicode_escape(&line)
                    .ok_or_else(|| self.fail("a string with a broken \\u escape"))?;
                self.push_text(text)
            }
            op::SHORT_BINSTRING => {
                let [n] = self.array()?;
                self.binstring(n.into())
            }
            op::BINSTRING => {
                let n = i32::from_le_bytes(self.array()?);
                let n =
                    u64::try_from(n).map_err(|_| self.fail(format!("a string of {n} bytes")))?;
                self.binstring(n)
            }
            op::SHORT_BINUNICODE => {
                let [n] = self.array()?;
                self.unicode(n.into())
            }
            op::BINUNICODE => {
                let n = u32::from_le_bytes(self.array()?);
                self.unicode(n.into())
            }
            op::BINUNICODE8 => {
                let n = u64::from_le_bytes(self.array()?);
                self.unicode(n)
            }
            op::SHORT_BINBYTES => {
                let [n] = self.array()?;
                let blob = self.blob(n.into())?;
                self.push(Object::Bytes(Box::new(blob)))
            }
            op::BINBYTES => {
                let n = u32::from_le_bytes(self.array()?);
                let blob = self.blob(n.into())?;
                self.push(Object::Bytes(Box::new(blob)))
            }
            op::BINBYTES8 => {
                let n = u64::from_le_bytes(self.array()?);
                let blob = self.blob(n)?;
                self.push(Object::Bytes(Box::new(blob)))
            }
            op::BYTEARRAY8 => {
                let n = u64::from_le_bytes(self.array()?);
                let blob = self.blob(n)?;
                self.push(Object::ByteArray(Box::new(blob)))
            }
            op::NEXT_BUFFER => self.push(Object::OutOfBand),
            op::READONLY_BUFFER => match self.top()? {
                id if self.is_value(id, |o| {
                    !matches!(
                        o,
                        Object::Bytes(_) | Object::ByteArray(_) | Object::OutOfBand
                    )
                }) =>
                {
                    Err(self.fail("what lies on the stack is not a buffer"))
                }
                _ => Ok(()),
            },
            // Containers.
            op::EMPTY_LIST => self.push(Object::List(Ids::new())),
            op::EMPTY_TUPLE => self.push_single(NOTHING, || Object::Tuple(Ids::new())),
            op::EMPTY_DICT => self.push(Object::Dict(Pairs::new())),
            op::EMPTY_SET => self.push(Object::Set(Ids::new())),
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let n = usize::from(code - op::TUPLE1) + 1;
                let items = self.stack.pop_many(n);
                let items = items.ok_or_else(|| self.underflow())?;
                self.push_items(items, Object::Tuple)
            }
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push_items(items, Object::Tuple)
            }
            op::LIST => {
                let items = self.pop_to_mark()?;
                self.push_items(items, Object::List)
            }
            op::FROZENSET => {
                let items = self.pop_to_mark()?;
                for &item in &items {
                    self.check_hashable(item)?;
                }
                self.push_items(items, Object::FrozenSet)
            }
            op::DICT => {
                let items = self.pop_to_mark()?;
                self.push(Object::Dict(Pairs::new()))?;
                let dict = self.top()?;
                self.set_items(dict, &items)
            }
            op::APPEND => {
                let item = self.pop()?;
                let list = self.top()?;
                self.append(list, &[item])
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                let list = self.top()?;
                self.append(list, &items)
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                let dict = self.top()?;
                self.set_items(dict, &[key, value])
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                let dict = self.top()?;
                self.set_items(dict, &items)
            }
            op::ADDITEMS => {
                let items = self.pop_to_mark()?;
                let set = self.top()?;
                self.add(set, &items)
            }
            // The stack and the memo.
            op::MARK => {
                self.budget.slots(self.stack.marks())?;
                self.stack.mark();
                Ok(())
            }
            op::POP => {
                let popped = self.stack.pop_value_or_mark();
                popped.ok_or_else(|| self.underflow())
            }
            op::POP_MARK => self.pop_to_mark().map(|_| ()),
            op::DUP => {
                let id = self.top()?;
                self.push_id(id)
            }
            op::PUT | op::BINPUT | op::LONG_BINPUT => {
                let index = self.memo_index(code == op::PUT, code == op::BINPUT)?;
                self.memoize(index)
            }
            op::MEMOIZE => self.memoize(self.memo.len() as u64),
            op::GET | op::BINGET | op::LONG_BINGET => {
                let index = self.memo_index(code == op::GET, code == op::BINGET)?;
                let id = self.memo.get(index);
                let id = id.ok_or_else(|| self.fail(format!("memo slot {index} is empty")))?;
                self.push_id(id)
            }
            // Names and calls.
            op::GLOBAL => {
                let (module, name) = (self.name_line()?, self.name_line()?);
                self.global(&module, &name)
            }
            op::STACK_GLOBAL => {
                let name = self.pop()?;
                let module = self.pop()?;
                self.stack_global(module, name)
            }
            op::EXT1 => {
                let [code] = self.array()?;
                self.extension(code.into())
            }
            op::EXT2 => {
                let code = u16::from_le_bytes(self.array()?);
                self.extension(code.into())
            }
            op::EXT4 => {
                let code = i32::from_le_bytes(self.array()?);
                self.extension(code.into())
            }
            op::PERSID => {
                let line = self.line_of(0)?;
                let id = std::str::from_utf8(&line).ok().filter(|id| id.is_ascii());
                let id = id.ok_or_else(|| self.fail("a persistent id outside ASCII"))?;
                let id = self.add_node(Object::Str(id.into()))?;
                self.push(Object::Persistent(id))
            }
            op::BINPERSID => {
                let id = self.pop()?;
                self.push(Object::Persistent(id))
            }
            op::REDUCE => self.reduce(),
            op::NEWOBJ => self.new_object(),
            op::NEWOBJ_EX => self.new_object_ex(),
            op::INST => {
                let (module, name) = (self.name_line()?, self.name_line()?);
                self.inst(&module, &name)
            }
            op::OBJ => self.obj(),
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                self.build(target, state)?;
                self.array_behind(target)
            }
            _ => Err(self.fail(format!("byte {code:#04x} is no opcode"))),
        }
    }

    fn memo_index(&mut self, line: bool, short: bool) -> Result<u64> {
        if line {
            let line = self.line()?;
            return number::index(&line)
                .ok_or_else(|| self.fail("a memo slot that is no natural number"));
        }
        if short {
            let [n] = self.array()?;
            return Ok(n.into());
        }
        Ok(u32::from_le_bytes(self.array()?).into())
    }

    fn memoize(&mut self, index: u64) -> Result<()> {
        let id = self.top()?;
        self.budget.slots(self.memo.len())?;
        // CPython's memo is an array: it would need gigabytes.
        Limits::check("the number of a memo slot", index, MEMO_SLOT)?;
        let wild = self.memo.out_of_order() as u64;
        Limits::check("memo slots out of order", wild, MEMO_OUT_OF_ORDER)?;
        self.memo.put(index, id);
        Ok(())
    }

    // Names.

    /// Pushes a global, its Python 2 name mapped where an unpickler maps it.
    pub(super) fn global(&mut self, module: &Arc<str>, name: &Arc<str>) -> Result<()> {
        // Beside its texts it has a box of its own, and both stand behind a count.
        self.budget.hold(GLOBAL)?;
        let node = self.global_object(module, name);
        self.push(node)
    }

    pub(super) fn global_object(&self, module: &Arc<str>, name: &Arc<str>) -> Object {
        if self.protocol < 3 {
            let (new_module, new_name) = names::fix_import(module, name);
            if (new_module, new_name) != (&**module, &**name) {
                return Object::global(new_module, new_name);
            }
        }
        Object::global(Arc::clone(module), Arc::clone(name))
    }

    // The stack.

    pub(super) fn add_node(&mut self, object: Object) -> Result<ObjectId> {
        self.budget.object()?;
        let id = self.objects.push(object, self.code_at);
        id.ok_or_else(|| self.fail("too many objects"))
    }

    /// Pushes an object of which there is one only, as in Python.
    fn push_single(&mut self, slot: usize, object: impl Fn() -> Object) -> Result<()> {
        if let Some(&Some(id)) = self.singles.get(slot) {
            return self.push_id(id);
        }
        let id = self.add_node(object())?;
        if let Some(single) = self.singles.get_mut(slot) {
            *single = Some(id);
        }
        self.push_id(id)
    }

    pub(super) fn push(&mut self, object: Object) -> Result<()> {
        let id = self.add_node(object)?;
        self.push_id(id)
    }

    pub(super) fn push_id(&mut self, id: ObjectId) -> Result<()> {
        self.budget.slots(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    fn push_items(&mut self, items: Vec<ObjectId>, kind: impl FnOnce(Ids) -> Object) -> Result<()> {
        let apart = if items.len() > 2 { APART } else { 0 };
        self.budget.reference(items.len() + apart)?;
        self.push(kind(items.into()))
    }

    pub(super) fn pop(&mut self) -> Result<ObjectId> {
        let id = self.stack.pop();
        id.ok_or_else(|| self.underflow())
    }

    pub(super) fn top(&self) -> Result<ObjectId> {
        self.stack.top().ok_or_else(|| self.underflow())
    }

    pub(super) fn pop_to_mark(&mut self) -> Result<Vec<ObjectId>> {
        let items = self.stack.pop_to_mark();
        items.ok_or_else(|| self.fail("there is no mark on the stack"))
    }

    /// Whether an object is known for what it is, not the unknown result of a call, and `is`.
    pub(super) fn is_value(&self, id: ObjectId, is: impl Fn(&Object) -> bool) -> bool {
        let object = self.objects.get(id);
        !unknown(object) && is(object)
    }

    // Errors.

    pub(super) fn fail(&self, what: impl Into<String>) -> Error {
        CkptError::Pickle {
            slot: self.slot.to_owned(),
            offset: self.code_at,
            opcode: op::name(self.code),
            what: what.into(),
        }
        .into()
    }

    pub(super) fn cut(&self, what: impl Into<String>) -> Error {
        let place = format!(
            "{}, byte {} ({})",
            self.slot,
            self.code_at,
            op::name(self.code)
        );
        CkptError::cut(place, what).into()
    }

    pub(super) fn cut_of(&self, len: u64) -> Error {
        self.cut(format!(
            "{len} bytes were expected, the pickle has {} more",
            self.cursor.remaining()
        ))
    }

    pub(super) fn underflow(&self) -> Error {
        self.fail("the stack holds too few values")
    }

    pub(super) fn odd(&mut self, what: impl Into<String>) {
        if self.odd.len() < MAX_ODD {
            let what = format!("{} {}", op::name(self.code), what.into());
            self.odd.push((self.code_at, what));
        }
    }
}

/// Whether what an object is only running the pickle would tell.
pub(super) fn unknown(object: &Object) -> bool {
    matches!(
        object,
        Object::Call(_)
            | Object::Global(_)
            | Object::Persistent(_)
            | Object::Extension(_)
            | Object::OutOfBand
            | Object::Patch(_)
    )
}
