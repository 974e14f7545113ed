//! Arrays in the middle of a pickle, as joblib writes them.
//!
//! `joblib.dump` writes an object that describes an array, and behind the opcode that sets its state the
//! array's bytes, or a pickle of its own if they are Python objects. joblib's unpickler takes them out
//! there and goes on behind them; to any other they are opcodes. See `NumpyArrayWrapper` in joblib's
//! `numpy_pickle.py`.
//!
//! Only what joblib itself writes is followed: on everything else the judgement is that of a class that
//! reads whatever it likes.

use super::machine::{Machine, Reading};
use crate::error::CkptError;
use ir::{CallKind, Object, ObjectId, Objects, Result};
use std::mem::take;

/// The class of the descriptions.
const WRAPPER: (&str, &str) = ("joblib.numpy_pickle", "NumpyArrayWrapper");
/// How an array comes from its bytes: the name is numpy's own.
const FROM_BYTES: (&str, &str) = ("numpy.core.numeric", "_frombuffer");
/// To what joblib aligns arrays.
const ALIGNMENT: i64 = 16;

/// The flag of a type that holds objects.
const OBJECTS: i64 = 1;
/// Fields within fields.
const NESTED: u8 = 8;
/// Fields of one record.
const FIELDS: usize = 1000;

/// What a description tells.
struct Array {
    subclass: ObjectId,
    shape: ObjectId,
    dtype: ObjectId,
    /// Bytes behind it; `None` if it is a pickle.
    bytes: Option<u64>,
    /// Whether bytes are filled in before them.
    aligned: bool,
}

impl Machine<'_> {
    /// Takes out the array behind a description whose state was just set, if there is one.
    pub(super) fn array_behind(&mut self, wrapper: ObjectId) -> Result<()> {
        if !matches!(self.reading, Reading::Joblib | Reading::OldJoblib) {
            let converts = !self.budget.is_tolerant() && array(&self.objects, wrapper).is_some();
            return if converts { self.unsupported() } else { Ok(()) };
        }
        if self.taken.contains(&wrapper) {
            self.odd("reads an array once more that was read");
            return Err(self.fail("an array that was read is read once more"));
        }
        // What is left of a frame was read before.
        if self.frame_end > self.cursor.position() {
            return Ok(());
        }
        let Some(array) = array(&self.objects, wrapper) else {
            return Ok(());
        };
        let filled = array.bytes.is_some() && array.aligned;
        if filled && self.reading == Reading::Joblib && !self.step_over_padding()? {
            return Ok(());
        }
        // What is filled in is no opcode, so that others stop there. Before 1.2 joblib did not know of it,
        // and takes the end of the array for opcodes.
        self.ambiguous.insert(if filled {
            Reading::OldJoblib
        } else {
            Reading::Memory
        });
        self.taken.insert(wrapper);
        // A value that nothing can be done to.
        if let Some(wrapper) = self.objects.get_mut(wrapper) {
            *wrapper = Object::Bool(false);
        }
        self.pop()?;
        let Some(len) = array.bytes else {
            let root = self.pickle_within()?;
            return self.push_id(root);
        };
        if self.cursor.skip(len)?.is_none() {
            return Err(self.cut_of(len));
        }
        let made = self.add_node(Object::global(FROM_BYTES.0, FROM_BYTES.1))?;
        self.budget.reference(3)?;
        let args = vec![array.subclass, array.dtype, array.shape];
        let args = self.add_node(Object::Tuple(args.into()))?;
        self.push(Object::call(CallKind::Reduce, made, args))
    }

    fn unsupported(&self) -> Result<()> {
        Err(CkptError::Unsupported {
            place: format!("{}, byte {}", self.slot, self.code_at),
            what: "an array that joblib wrote, between the opcodes of a pickle".to_owned(),
            help: "Save the arrays with numpy.savez or safetensors.numpy.save_file",
        }
        .into())
    }

    /// Steps over a count and as many bytes of 0xff. Answers whether they are there; if not, it stays.
    fn step_over_padding(&mut self) -> Result<bool> {
        let start = self.cursor.position();
        if let Some(count) = self.cursor.byte()?
            && i64::from(count) <= ALIGNMENT
            && let Some(padding) = self.cursor.bytes(count.into())?
            && padding.iter().all(|byte| *byte == 0xff)
        {
            return Ok(true);
        }
        self.cursor.seek(start);
        Ok(false)
    }

    /// Runs a pickle that an unpickler of its own reads.
    fn pickle_within(&mut self) -> Result<ObjectId> {
        let (stack, memo) = (take(&mut self.stack), take(&mut self.memo));
        let (protocol, frame_end) = (take(&mut self.protocol), take(&mut self.frame_end));
        // That one is Python's own, to which such descriptions are objects: it is not entered again.
        let reading = std::mem::replace(&mut self.reading, Reading::Memory);
        let root = self.execute()?;
        (self.stack, self.memo) = (stack, memo);
        (self.protocol, self.reading, self.frame_end) = (protocol, reading, frame_end);
        Ok(root)
    }
}

/// What a description tells, if it is one as joblib writes it.
fn array(objects: &Objects, wrapper: ObjectId) -> Option<Array> {
    let (module, name, call) = objects.named_call(wrapper)?;
    let bare = call.kind == CallKind::New && objects.sequence(call.args)?.is_empty();
    let [state] = *call.states() else {
        return None;
    };
    if (module, name) != WRAPPER || !bare || !call.items().is_empty() || !call.pairs().is_empty() {
        return None;
    }
    let Object::Dict(pairs) = objects.get(state) else {
        return None;
    };
    let get = |wanted: &str| {
        let mut found = pairs
            .iter()
            .filter(|(key, _)| objects.str(*key) == Some(wanted));
        let value = found.next().map(|(_, value)| *value);
        value.filter(|_| found.next().is_none())
    };
    let (subclass, shape, order) = (get("subclass")?, get("shape")?, get("order")?);
    let (dtype, mapped) = (get("dtype")?, get("allow_mmap")?);
    let alignment = get("numpy_array_alignment_bytes");
    let subclass_fits = matches!(
        objects.global(subclass),
        Some(("numpy", "ndarray" | "matrix" | "memmap"))
    );
    let fits = pairs.len() == 5 + usize::from(alignment.is_some())
        && subclass_fits
        && matches!(objects.str(order), Some("C" | "F"))
        && matches!(objects.get(mapped), Object::Bool(_))
        && alignment.is_none_or(|bytes| objects.int(bytes) == Some(ALIGNMENT));
    let Object::Tuple(dims) = objects.get(shape) else {
        return None;
    };
    let count = dims.iter().try_fold(1u64, |count, dim| {
        count.checked_mul(u64::try_from(objects.int(*dim)?).ok()?)
    });
    let bytes = match item(objects, dtype, NESTED)? {
        Item::Objects => None,
        Item::Bytes(size) => Some(count?.checked_mul(size)?),
    };
    fits.then_some(Array {
        subclass,
        shape,
        dtype,
        bytes,
        aligned: alignment.is_some(),
    })
}

/// What one item takes.
enum Item {
    Bytes(u64),
    Objects,
}

/// What an item of `numpy.dtype("f8", False, True)` takes. Its state says so too: the flags, of which the
/// first tells objects, and the size where the kind leaves it open.
fn item(objects: &Objects, dtype: ObjectId, depth: u8) -> Option<Item> {
    let depth = depth.checked_sub(1)?;
    let (module, name, call) = objects.named_call(dtype)?;
    if (module, name) != ("numpy", "dtype") || call.kind != CallKind::Reduce {
        return None;
    }
    let kind = objects.str(*objects.sequence(call.args)?.first()?)?;
    let [state] = *call.states() else {
        return None;
    };
    // Version, byte order, item of a subarray, names, fields, size, alignment, flags, metadata. Of older
    // versions numpy takes no flags.
    let [
        version,
        _,
        part,
        names,
        fields,
        size,
        _,
        flags,
        ref more @ ..,
    ] = *objects.sequence(state)?
    else {
        return None;
    };
    if !matches!((objects.int(version)?, more.len()), (3, 0) | (4, 1)) {
        return None;
    }
    let none = |id| matches!(objects.get(id), Object::None);
    let structured = kind.starts_with('V') && !none(fields);
    let whole = none(part) && (structured || none(names) && none(fields));
    let objective = objects.int(flags)? & OBJECTS != 0;
    let (letter, digits) = kind.split_at_checked(1)?;
    let width: u64 = digits.parse().ok()?;
    let size = u64::try_from(objects.int(size)?).ok();
    let bytes = match (letter, width) {
        ("O", _) => return (objective && whole).then_some(Item::Objects),
        ("V", _) if structured && has_objects(objects, fields, depth)? != objective => return None,
        ("V", _) if objective => return (structured && whole).then_some(Item::Objects),
        ("b", 1)
        | ("i" | "u", 1 | 2 | 4 | 8)
        | ("f", 2 | 4 | 8 | 12 | 16)
        | ("c", 8 | 16 | 24 | 32)
        | ("m" | "M", 8) => width,
        ("S" | "V", _) if size == Some(width) => width,
        ("U", _) if size == width.checked_mul(4) => size?,
        _ => return None,
    };
    (whole && !objective).then_some(Item::Bytes(bytes))
}

/// Whether a field of a record is of objects; `None` if one is not understood.
fn has_objects(objects: &Objects, fields: ObjectId, depth: u8) -> Option<bool> {
    let pairs = objects
        .pairs(fields)
        .filter(|pairs| pairs.len() <= FIELDS)?;
    let mut found = false;
    for (_, field) in pairs {
        // Its type and where it lies, and perhaps a title.
        let dtype = *objects.sequence(*field)?.first()?;
        found |= matches!(field_of(objects, dtype, depth)?, Item::Objects);
    }
    Some(found)
}

/// The same of a field, which may be a subarray.
fn field_of(objects: &Objects, dtype: ObjectId, depth: u8) -> Option<Item> {
    let (_, _, call) = objects.named_call(dtype)?;
    let state = *call.states().first()?;
    // A subarray: the type of its items, and its shape.
    match objects.sequence(*objects.sequence(state)?.get(2)?) {
        Some([part, _]) => item(objects, *part, depth),
        _ => item(objects, dtype, depth),
    }
}
