//! An object tree as a pickle again: containers, scalars, calls, and tensors in their places.
//!
//! The walk keeps its own stack, so depth costs memory and no more. As in CPython a container is
//! remembered before its items are written, so that cycles close; a tuple or a call is remembered
//! after them, and where a cycle has led back to it meanwhile, what was built is thrown away and
//! the remembered one fetched.

use super::error::WriteError;
use super::pickle::{BATCH, Memo, Pickle, op, scalar};
use super::rebuild::Storages;
use ir::{Blob, Call, CallKind, Error, Limits, Object, ObjectId, Objects, Result};
use std::collections::HashMap;

/// The pickle of the tree under `root`.
pub(super) fn pickle_of(
    objects: &Objects,
    root: ObjectId,
    storages: &mut Storages<'_>,
    limits: &Limits,
) -> Result<Vec<u8>> {
    let mut walk = Walk {
        objects,
        storages,
        pickle: Pickle::new(),
        memo: HashMap::new(),
        tasks: vec![Task::Save(root)],
        latin1: None,
        held: 0,
        limits,
    };
    let mut steps = 0u64;
    while let Some(task) = walk.tasks.pop() {
        steps += 1;
        Limits::check("steps of writing an object tree", steps, limits.steps)?;
        walk.run(task)?;
    }
    Ok(walk.pickle.finish())
}

/// What is to be done next. Tasks lie on a stack, so the last pushed comes first.
#[derive(Clone, Copy)]
enum Task {
    Save(ObjectId),
    Op(u8),
    /// Remembers an object that no one will ask for again: a part of another.
    PutPart,
    /// Remembers a call's result or a set.
    Put(ObjectId),
    /// Ends a tuple of so many items.
    EndTuple(ObjectId, usize),
}

struct Walk<'a, 't> {
    objects: &'a Objects,
    storages: &'a mut Storages<'t>,
    pickle: Pickle,
    memo: HashMap<ObjectId, Memo>,
    tasks: Vec<Task>,
    /// The name of the encoding that makes text of bytes.
    latin1: Option<Memo>,
    /// Bytes of text and byte strings written so far.
    held: u64,
    limits: &'a Limits,
}

impl Walk<'_, '_> {
    fn run(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Save(id) => return self.save(id),
            Task::Op(code) => self.pickle.op(code),
            Task::PutPart => {
                self.pickle.put();
            }
            Task::Put(id) => {
                if let Some(memo) = self.memo.get(&id) {
                    self.pickle.op(op::POP);
                    self.pickle.get(*memo);
                } else {
                    self.put(id);
                }
            }
            Task::EndTuple(id, n) => self.end_tuple(id, n),
        }
        Ok(())
    }

    fn end_tuple(&mut self, id: ObjectId, n: usize) {
        let Some(memo) = self.memo.get(&id) else {
            self.pickle.end_tuple(n);
            self.put(id);
            return;
        };
        if n > 3 {
            self.pickle.op(op::POP_MARK);
        } else {
            for _ in 0..n {
                self.pickle.op(op::POP);
            }
        }
        self.pickle.get(*memo);
    }

    fn put(&mut self, id: ObjectId) {
        let memo = self.pickle.put();
        self.memo.insert(id, memo);
    }

    fn save(&mut self, id: ObjectId) -> Result<()> {
        if let Some(memo) = self.memo.get(&id) {
            self.pickle.get(*memo);
            return Ok(());
        }
        let object = self.objects.get(id);
        if scalar(&mut self.pickle, object)? {
            return Ok(());
        }
        match object {
            Object::Str(text) => {
                self.hold(text.len() as u64)?;
                self.pickle.text(text.as_bytes())?;
                self.put(id);
            }
            Object::WildStr(utf8) => {
                self.hold(utf8.len() as u64)?;
                self.pickle.text(utf8)?;
                self.put(id);
            }
            Object::Bytes(blob) => {
                self.bytes(id, blob)?;
                self.put(id);
            }
            Object::ByteArray(blob) => self.byte_array(id, blob)?,
            Object::Tuple(items) => {
                if items.is_empty() {
                    self.pickle.end_tuple(0);
                    return Ok(());
                }
                self.pickle.begin_tuple(items.len());
                self.tasks.push(Task::EndTuple(id, items.len()));
                self.push_saves(items);
            }
            Object::List(items) => {
                self.pickle.op(op::EMPTY_LIST);
                self.put(id);
                self.push_items(items, true);
            }
            Object::Dict(pairs) => {
                self.pickle.op(op::EMPTY_DICT);
                self.put(id);
                self.push_pairs(pairs, true);
            }
            Object::Set(items) => self.set(id, "set", items)?,
            Object::FrozenSet(items) => self.set(id, "frozenset", items)?,
            Object::Global(global) => {
                let memo = self.global(id, &global.module, &global.name)?;
                self.memo.insert(id, memo);
            }
            Object::Call(call) => self.call(id, call),
            Object::Tensor(tensor) => {
                let memo = self.storages.tensor(&mut self.pickle, *tensor)?;
                self.memo.insert(id, memo);
            }
            Object::Persistent(_) => {
                return Err(refuse(
                    id,
                    "it is a storage or another object outside the pickle",
                ));
            }
            Object::Extension(code) => {
                return Err(refuse(
                    id,
                    format!("it is named by code {code} of an extension registry"),
                ));
            }
            Object::OutOfBand => return Err(refuse(id, "its buffer was never in the file")),
            Object::Patch(_) => {
                return Err(refuse(
                    id,
                    "it changes an object that is no plain container",
                ));
            }
            Object::None
            | Object::Bool(_)
            | Object::Int(_)
            | Object::BigInt(_)
            | Object::Float(_) => {}
        }
        Ok(())
    }

    /// Keeps the pickle within the bytes a reader would hold.
    fn hold(&mut self, len: u64) -> Result<()> {
        self.held = self.held.saturating_add(len);
        let what = "bytes of strings in an object tree to be written";
        Limits::check(what, self.held, self.limits.held_bytes)
    }

    fn global(&mut self, id: ObjectId, module: &str, name: &str) -> Result<Memo> {
        let memo = self.pickle.global(module, name);
        memo.map_err(|why| refuse(id, why))
    }

    /// Protocol 2 has no bytes: `_codecs.encode(text, 'latin1')` makes them from as many characters.
    fn bytes(&mut self, id: ObjectId, blob: &Blob) -> Result<()> {
        self.hold(blob.len())?;
        let len = usize::try_from(blob.len()).unwrap_or(usize::MAX);
        let bytes = blob.head(len)?;
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.global(id, "_codecs", "encode")?;
        self.pickle.remembered_text(&text)?;
        match self.latin1 {
            Some(memo) => self.pickle.get(memo),
            None => self.latin1 = Some(self.pickle.remembered_text("latin1")?),
        }
        self.pickle.end_tuple(2);
        self.pickle.put();
        self.pickle.op(op::REDUCE);
        Ok(())
    }

    /// `bytearray(bytes)`
    fn byte_array(&mut self, id: ObjectId, blob: &Blob) -> Result<()> {
        self.global(id, "builtins", "bytearray")?;
        if blob.is_empty() {
            self.pickle.end_tuple(0);
        } else {
            self.bytes(id, blob)?;
            self.pickle.put();
            self.pickle.end_tuple(1);
            self.pickle.put();
        }
        self.pickle.op(op::REDUCE);
        self.put(id);
        Ok(())
    }

    /// `set([...])`
    fn set(&mut self, id: ObjectId, class: &str, items: &[ObjectId]) -> Result<()> {
        self.global(id, "builtins", class)?;
        self.pickle.op(op::EMPTY_LIST);
        self.pickle.put();
        self.tasks.push(Task::Put(id));
        self.tasks.push(Task::Op(op::REDUCE));
        self.tasks.push(Task::PutPart);
        self.tasks.push(Task::Op(op::TUPLE1));
        self.push_items(items, true);
        Ok(())
    }

    fn call(&mut self, id: ObjectId, call: &Call) {
        let no_args = self
            .objects
            .sequence(call.args)
            .is_some_and(<[_]>::is_empty);
        let code = match call.kind {
            CallKind::New => op::NEWOBJ,
            CallKind::NewEx(_) => op::NEWOBJ_EX,
            // What Python 3 makes of these: an empty instance, or a plain call.
            CallKind::Inst | CallKind::Obj if no_args => op::NEWOBJ,
            CallKind::Reduce | CallKind::Inst | CallKind::Obj => op::REDUCE,
        };
        // Backwards: this is a stack.
        for state in call.states().iter().rev() {
            self.tasks.push(Task::Op(op::BUILD));
            self.tasks.push(Task::Save(*state));
        }
        self.push_pairs(call.pairs(), false);
        self.push_items(call.items(), false);
        self.tasks.push(Task::Put(id));
        self.tasks.push(Task::Op(code));
        if let Some(kwargs) = call.kwargs() {
            self.tasks.push(Task::Save(kwargs));
        }
        self.tasks.push(Task::Save(call.args));
        self.tasks.push(Task::Save(call.callee));
    }

    fn push_saves(&mut self, items: &[ObjectId]) {
        self.tasks
            .extend(items.iter().rev().map(|id| Task::Save(*id)));
    }

    /// A plain container is filled batch by batch, a single item without a mark; items of another
    /// object come one batch after the other from an iterator, so its last batch may be single.
    fn push_items(&mut self, items: &[ObjectId], plain: bool) {
        for batch in items.chunks(BATCH).rev() {
            let single = batch.len() == 1 && (!plain || items.len() == 1);
            self.push_batch(single, op::APPEND, op::APPENDS, batch.iter().rev().copied());
        }
    }

    fn push_pairs(&mut self, pairs: &[(ObjectId, ObjectId)], plain: bool) {
        for batch in pairs.chunks(BATCH).rev() {
            let single = batch.len() == 1 && (!plain || pairs.len() == 1);
            let flat = batch.iter().rev().flat_map(|&(key, value)| [value, key]);
            self.push_batch(single, op::SETITEM, op::SETITEMS, flat);
        }
    }

    fn push_batch(
        &mut self,
        single: bool,
        one: u8,
        many: u8,
        backwards: impl Iterator<Item = ObjectId>,
    ) {
        self.tasks.push(Task::Op(if single { one } else { many }));
        self.tasks.extend(backwards.map(Task::Save));
        if !single {
            self.tasks.push(Task::Op(op::MARK));
        }
    }
}

fn refuse(id: ObjectId, why: impl Into<String>) -> Error {
    WriteError::Object {
        index: id.index(),
        why: why.into(),
    }
    .into()
}
