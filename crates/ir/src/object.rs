//! Python objects as data.
//!
//! A pickle is a program that builds objects. Here its result is a list of nodes, each made by one
//! opcode and holding the ids of its parts: shared objects stay shared, cycles are no trouble, and
//! a pickle that would unfold to billions of objects stays as small as it is. Nodes are never
//! removed, so the list is also the history: what a pickle imported, called and threw away again
//! is all there for `scan` to judge. A call is a record of a name and its arguments. Nothing is
//! ever executed or imported.

use crate::few::Few;
use crate::{Region, Result, TensorId};
use bytes::Bytes;
use std::sync::Arc;

/// The place of a node in its [`Objects`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(u32);

/// The parts of an object.
pub type Ids = Few<ObjectId, 2>;
/// Keys and values.
pub type Pairs = Few<(ObjectId, ObjectId), 1>;

impl ObjectId {
    /// The id of a position.
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }

    /// Its position.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bytes held in memory, or left in the file when they are many.
#[derive(Clone, Debug)]
pub enum Blob {
    /// In memory.
    Held(Bytes),
    /// In the file.
    Stored(Region),
}

impl Blob {
    /// How many bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Held(bytes) => bytes.len() as u64,
            Self::Stored(region) => region.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes as a region.
    pub fn region(&self) -> Region {
        match self {
            Self::Held(bytes) => Region::memory(bytes.clone()),
            Self::Stored(region) => region.clone(),
        }
    }

    /// At most the first `max` bytes, in memory.
    pub fn head(&self, max: usize) -> Result<Bytes> {
        let len = usize::try_from(self.len()).unwrap_or(usize::MAX).min(max);
        match self {
            Self::Held(bytes) => Ok(bytes.slice(..len)),
            Self::Stored(region) => region.bytes(0, len),
        }
    }
}

/// How an object is made from a class or function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `REDUCE`: `callee(*args)`.
    Reduce,
    /// `NEWOBJ`: `callee.__new__(callee, *args)`.
    New,
    /// `NEWOBJ_EX`: the same with keyword arguments, these.
    NewEx(ObjectId),
    /// `INST`: like `OBJ`, the class named in the opcode.
    Inst,
    /// `OBJ`: a class and arguments from the stack.
    Obj,
}

/// A call kept as data, with all that was done to its result afterwards.
#[derive(Clone, Debug)]
pub struct Call {
    /// How it would be called.
    pub kind: CallKind,
    /// What would be called: usually an [`Object::Global`].
    pub callee: ObjectId,
    /// The arguments: usually an [`Object::Tuple`].
    pub args: ObjectId,
    /// Nothing is done to most results.
    changes: Option<Box<Changes>>,
}

/// What is done to the result of a call.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// States set on it by `BUILD`, in order.
    pub states: Vec<ObjectId>,
    /// Items appended to it, for subclasses of `list` and `set`.
    pub items: Vec<ObjectId>,
    /// Items set on it, for `OrderedDict` and its kind.
    pub pairs: Vec<(ObjectId, ObjectId)>,
}

impl Call {
    /// A call to whose result nothing is done.
    pub fn new(kind: CallKind, callee: ObjectId, args: ObjectId) -> Self {
        Self {
            kind,
            callee,
            args,
            changes: None,
        }
    }

    /// The keyword arguments.
    pub fn kwargs(&self) -> Option<ObjectId> {
        match self.kind {
            CallKind::NewEx(kwargs) => Some(kwargs),
            _ => None,
        }
    }

    /// States set on the result by `BUILD`, in order.
    pub fn states(&self) -> &[ObjectId] {
        self.changes.as_ref().map_or(&[], |made| &made.states)
    }

    /// Items appended to the result, for subclasses of `list` and `set`.
    pub fn items(&self) -> &[ObjectId] {
        self.changes.as_ref().map_or(&[], |made| &made.items)
    }

    /// Items set on the result, for `OrderedDict` and its kind.
    pub fn pairs(&self) -> &[(ObjectId, ObjectId)] {
        self.changes.as_ref().map_or(&[], |made| &made.pairs)
    }

    /// Whether nothing is done to the result.
    pub fn is_untouched(&self) -> bool {
        self.changes.is_none()
    }

    /// What is done to the result, to add to it.
    pub fn changes(&mut self) -> &mut Changes {
        self.changes.get_or_insert_default()
    }
}

/// A module's attribute, named and not imported; Python 2 names are mapped already.
#[derive(Clone, Debug)]
pub struct Global {
    /// The module.
    pub module: Arc<str>,
    /// The attribute, which may be a dotted path.
    pub name: Arc<str>,
}

/// A change made to an object that is not a plain container: to a global, say.
#[derive(Clone, Debug)]
pub struct Patch {
    /// What is changed.
    pub target: ObjectId,
    /// How.
    pub kind: PatchKind,
    /// With what: for `SetItems` keys and values in turn.
    pub values: Vec<ObjectId>,
}

/// What an opcode does to an object that is neither a plain container nor a call's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchKind {
    /// `BUILD`: `__setstate__`, or attributes set.
    Build,
    /// `SETITEM(S)`: `target[key] = value`.
    SetItems,
    /// `APPEND(S)`: `target.append(value)` or `.extend`.
    Append,
    /// `ADDITEMS`: `target.add(value)`.
    Add,
}

/// A Python object, in 24 bytes and what it points to: a small file can make millions.
#[derive(Clone, Debug)]
pub enum Object {
    /// `None`.
    None,
    /// `True`, `False`.
    Bool(bool),
    /// An integer that fits 64 bits.
    Int(i64),
    /// A larger integer: two's complement, least significant byte first.
    BigInt(Box<[u8]>),
    /// A float.
    Float(f64),
    /// A string.
    Str(Arc<str>),
    /// A string with lone surrogates, in UTF-8 as Python's `surrogatepass` writes it.
    WildStr(Box<[u8]>),
    /// `bytes`.
    Bytes(Box<Blob>),
    /// `bytearray`.
    ByteArray(Box<Blob>),
    /// A list.
    List(Ids),
    /// A tuple.
    Tuple(Ids),
    /// A set.
    Set(Ids),
    /// A frozenset.
    FrozenSet(Ids),
    /// A dict, in insertion order, keys as they came.
    Dict(Pairs),
    /// A module's attribute.
    Global(Box<Global>),
    /// An object named by its code in `copyreg`'s extension registry.
    Extension(i64),
    /// A call.
    Call(Box<Call>),
    /// An object that lives outside the pickle, named by its persistent id.
    Persistent(ObjectId),
    /// An out-of-band buffer (protocol 5), which no file can hold.
    OutOfBand,
    /// A change made to an object that is not a plain container.
    Patch(Box<Patch>),
    /// A tensor of the model.
    Tensor(TensorId),
}

/// An object and where it was made.
#[derive(Clone, Debug)]
pub struct ObjectNode {
    /// The object.
    pub object: Object,
    /// Offset of its opcode from the start of the pickle.
    pub at: u64,
}

/// Everything one pickle made, in the order it was made, and the object it left.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    nodes: Vec<ObjectNode>,
    root: Option<ObjectId>,
}

impl Object {
    /// A module's attribute.
    pub fn global(module: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        let (module, name) = (module.into(), name.into());
        Self::Global(Box::new(Global { module, name }))
    }

    /// A call to whose result nothing is done.
    pub fn call(kind: CallKind, callee: ObjectId, args: ObjectId) -> Self {
        Self::Call(Box::new(Call::new(kind, callee, args)))
    }

    /// A change made to an object that is not a plain container.
    pub fn patch(target: ObjectId, kind: PatchKind, values: Vec<ObjectId>) -> Self {
        Self::Patch(Box::new(Patch {
            target,
            kind,
            values,
        }))
    }
}

impl Objects {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object made at offset `at`. `None` when ids run out, at 2^32 objects.
    pub fn push(&mut self, object: Object, at: u64) -> Option<ObjectId> {
        let id = ObjectId(u32::try_from(self.nodes.len()).ok()?);
        self.nodes.push(ObjectNode { object, at });
        Some(id)
    }

    /// The object that the pickle leaves. `None` while it runs, or if it broke off.
    pub fn root(&self) -> Option<ObjectId> {
        self.root
    }

    /// Sets the root.
    pub fn set_root(&mut self, root: ObjectId) {
        self.root = Some(root);
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The node of an id.
    pub fn node(&self, id: ObjectId) -> Option<&ObjectNode> {
        self.nodes.get(id.index())
    }

    /// The object of an id; ids of another list answer `None`-objects rather than panic.
    pub fn get(&self, id: ObjectId) -> &Object {
        self.nodes
            .get(id.index())
            .map_or(&Object::None, |node| &node.object)
    }

    /// The object of an id, to change it.
    pub fn get_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        self.nodes.get_mut(id.index()).map(|node| &mut node.object)
    }

    /// All nodes, in the order they were made.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectId, &ObjectNode)> {
        (0u32..).map(ObjectId).zip(&self.nodes)
    }

    /// The string of a node.
    pub fn str(&self, id: ObjectId) -> Option<&str> {
        match self.get(id) {
            Object::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of a node; `True` and `False` count, as in Python.
    pub fn int(&self, id: ObjectId) -> Option<i64> {
        match *self.get(id) {
            Object::Int(n) => Some(n),
            Object::Bool(b) => Some(b.into()),
            _ => None,
        }
    }

    /// The items of a tuple or list.
    pub fn sequence(&self, id: ObjectId) -> Option<&[ObjectId]> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) => Some(items),
            _ => None,
        }
    }

    /// `module` and `name` of a global.
    pub fn global(&self, id: ObjectId) -> Option<(&str, &str)> {
        match self.get(id) {
            Object::Global(global) => Some((&global.module, &global.name)),
            _ => None,
        }
    }

    /// The call of a node with its callee's `module` and `name`, if that is a global.
    pub fn named_call(&self, id: ObjectId) -> Option<(&str, &str, &Call)> {
        match self.get(id) {
            Object::Call(call) => {
                let (module, name) = self.global(call.callee)?;
                Some((module, name, call))
            }
            _ => None,
        }
    }

    /// The pairs of a mapping: a dict, or a call of a known dict class with items set on it.
    pub fn pairs(&self, id: ObjectId) -> Option<&[(ObjectId, ObjectId)]> {
        match self.get(id) {
            Object::Dict(pairs) => Some(pairs),
            Object::Call(call) => {
                let dict_class = matches!(
                    self.global(call.callee),
                    Some(("collections", "OrderedDict" | "defaultdict" | "Counter"))
                );
                (dict_class || !call.pairs().is_empty()).then_some(call.pairs())
            }
            _ => None,
        }
    }

    /// The last value a mapping holds under a string key.
    pub fn lookup(&self, id: ObjectId, key: &str) -> Option<ObjectId> {
        let pairs = self.pairs(id)?;
        pairs
            .iter()
            .rev()
            .find(|(k, _)| self.str(*k) == Some(key))
            .map(|(_, value)| *value)
    }

    /// The ids an object holds, in order: what a walk of the tree visits next.
    pub fn children(&self, id: ObjectId) -> impl Iterator<Item = ObjectId> {
        let mut heads = [None; 3];
        let (mut lists, mut pairs): ([&[ObjectId]; 2], &[_]) = ([&[]; 2], &[]);
        match self.get(id) {
            Object::List(items)
            | Object::Tuple(items)
            | Object::Set(items)
            | Object::FrozenSet(items) => lists = [items, &[]],
            Object::Dict(items) => pairs = items,
            Object::Call(call) => {
                heads = [Some(call.callee), Some(call.args), call.kwargs()];
                lists = [call.states(), call.items()];
                pairs = call.pairs();
            }
            Object::Persistent(id) => heads = [Some(*id), None, None],
            Object::Patch(patch) => {
                heads = [Some(patch.target), None, None];
                lists = [&patch.values, &[]];
            }
            _ => {}
        }
        let heads = heads.into_iter().flatten();
        let lists = lists.into_iter().flatten().copied();
        heads
            .chain(lists)
            .chain(pairs.iter().flat_map(|&(key, value)| [key, value]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_objects_stay_small() {
        assert_eq!(size_of::<Object>(), 24);
        assert_eq!(size_of::<ObjectNode>(), 32);
        assert_eq!(size_of::<Call>(), 24);
    }
}
