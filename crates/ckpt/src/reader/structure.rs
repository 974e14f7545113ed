//! What holds tensors: mappings, sequences, modules, attributes.

use super::children::{Children, Name, Walk};
use super::forest::{Forest, Node};
use crate::pickle::REFERENCES_AN_OBJECT;
use bytes::Bytes;
use ir::{CallKind, Limits, Object, ObjectId, Result};
use std::collections::{HashMap, HashSet};

/// Bytes of a key that are shown.
const KEY_SHOWN: usize = 1024;

/// Bytes as a name: text where they are text, else as Python would show them.
fn show_bytes(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| format!("b'{}'", bytes.escape_ascii()))
}

/// How an object holds others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A dict or its like.
    Mapping,
    /// A list, tuple or their like.
    Sequence,
    /// An `nn.Module`: what `state_dict()` gives.
    Module,
    /// Any other object's attributes.
    Attributes,
    /// A tensor.
    Tensor,
    /// Nothing that can hold tensors.
    Nothing,
}

impl Forest {
    /// How an object holds others, and those.
    pub(crate) fn children(&self, node: Node) -> (Holds, Children<'_>) {
        if self.build(node).is_some() {
            return (Holds::Tensor, Children::none());
        }
        match self.get(node) {
            Object::Dict(pairs) => (Holds::Mapping, self.pairs_of(node, pairs)),
            Object::List(items) | Object::Tuple(items) => {
                (Holds::Sequence, Children::Indexed(node, items))
            }
            Object::Call(_) => self.call_children(node),
            // ('module', class, …): nothing but a class.
            _ => (Holds::Nothing, Children::none()),
        }
    }

    /// Pairs as children. A dict keeps of a key that comes twice the last value, at the first
    /// place.
    fn keyed(&self, node: Node, pairs: &[(ObjectId, ObjectId)]) -> Children<'static> {
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut out: Vec<(Name, Node)> = Vec::new();
        for &(key, value) in pairs {
            let (key, value) = (node.with(key), node.with(value));
            let place = self
                .str(key)
                .map(|text| places.entry(text).or_insert(out.len()));
            match place.and_then(|&mut place| out.get_mut(place)) {
                Some(slot) => slot.1 = value,
                None => out.push((Name::Key(key), value)),
            }
        }
        Children::Listed(out)
    }

    /// The pairs of a dict or of items set on a call.
    fn pairs_of<'a>(&self, node: Node, pairs: &'a [(ObjectId, ObjectId)]) -> Children<'a> {
        if self.has_twice(node) {
            return self.keyed(node, pairs);
        }
        Children::Keyed(node, pairs)
    }

    fn call_children(&self, node: Node) -> (Holds, Children<'_>) {
        let Object::Call(call) = self.get(node) else {
            return (Holds::Nothing, Children::none());
        };
        if let Some(loaded) = self.loaded(node) {
            // One step: what was loaded may itself be a call.
            return match self.get(loaded) {
                Object::Dict(pairs) => (Holds::Mapping, self.pairs_of(loaded, pairs)),
                Object::List(items) | Object::Tuple(items) => {
                    (Holds::Sequence, Children::Indexed(loaded, items))
                }
                _ => self.call_children(loaded),
            };
        }
        let name = self.objects(node.doc).global(call.callee);
        if let Some(("torch.jit._pickle", "restore_type_tag")) = name {
            if let Some(inner) = self.arg(node, 0)
                && !matches!(self.get(inner), Object::Call(_))
            {
                return self.children(inner);
            }
            return (Holds::Nothing, Children::none());
        }
        if let Some(children) = self.module_children(node) {
            return (Holds::Module, children);
        }
        if let Some(children) = self.mapping_children(node, call) {
            return (Holds::Mapping, children);
        }
        if !call.items().is_empty() {
            return (Holds::Sequence, Children::Indexed(node, call.items()));
        }
        let attributes = self.attributes(node);
        if !attributes.is_empty() {
            return (Holds::Attributes, attributes);
        }
        if name == Some(("torch", "Size")) {
            return (Holds::Nothing, Children::none());
        }
        // What a state held back, and arguments: a namedtuple, an unknown rebuild function.
        let states = call
            .states()
            .iter()
            .filter_map(|&id| self.sequence(node.with(id)));
        let args = self.sequence(node.with(call.args)).unwrap_or_default();
        let items: Vec<ObjectId> = states.flatten().chain(args).copied().collect();
        let holds = if call.kind == CallKind::New {
            Holds::Sequence
        } else {
            Holds::Attributes
        };
        (holds, Children::Listed(indexed(node, &items)))
    }

    /// The pairs of a subclass of dict: set one by one, given as a list, or copied from a dict.
    fn mapping_children<'a>(&'a self, node: Node, call: &'a ir::Call) -> Option<Children<'a>> {
        let class = self.objects(node.doc).global(call.callee);
        let known = matches!(
            class,
            Some(
                (
                    "collections",
                    "OrderedDict" | "defaultdict" | "Counter" | "UserDict" | "ChainMap"
                ) | ("types", "MappingProxyType")
                    | ("builtins", "dict")
            )
        );
        if !call.pairs().is_empty() {
            return Some(self.pairs_of(node, call.pairs()));
        }
        if !known {
            return None;
        }
        for &arg in self.args(node) {
            let arg = node.with(arg);
            if let Object::Dict(pairs) = self.get(arg) {
                return Some(self.pairs_of(arg, pairs));
            }
            let rows = self.sequence(arg).unwrap_or_default();
            let pairs: Option<Vec<_>> = rows
                .iter()
                .map(|&row| match self.sequence(node.with(row)) {
                    Some(&[key, value]) => Some((key, value)),
                    _ => None,
                })
                .collect();
            if let Some(pairs) = pairs.filter(|pairs| !pairs.is_empty()) {
                return Some(self.keyed(node, &pairs));
            }
        }
        Some(Children::none())
    }

    /// An object's attributes, as its states set them, the last value of each.
    pub(crate) fn attributes(&self, node: Node) -> Children<'_> {
        let Object::Call(call) = self.get(node) else {
            return Children::none();
        };
        // The usual one is not gathered anew: many objects may share it.
        if let [state] = call.states()
            && let Object::Dict(set) = self.get(node.with(*state))
        {
            return self.pairs_of(node.with(*state), set);
        }
        let mut pairs: Vec<(ObjectId, ObjectId)> = Vec::new();
        for &state in call.states() {
            if let Object::Dict(set) = self.get(node.with(state)) {
                pairs.extend(set);
            } else if let Some([dict, slots]) = self.sequence(node.with(state)) {
                // (__dict__, slots), as copyreg writes objects with __slots__.
                let parts = [self.get(node.with(*dict)), self.get(node.with(*slots))];
                if parts
                    .iter()
                    .all(|o| matches!(o, Object::Dict(_) | Object::None))
                {
                    for part in parts {
                        if let Object::Dict(set) = part {
                            pairs.extend(set);
                        }
                    }
                }
            } else if let Some(set) = self.objects(node.doc).pairs(state) {
                pairs.extend(set);
            }
        }
        self.keyed(node, &pairs)
    }

    fn module_children(&self, node: Node) -> Option<Children<'static>> {
        let attributes = self.attributes(node);
        if let Some(children) = self.script_children(node, &attributes) {
            return Some(children);
        }
        let find = |name: &str| {
            attributes.iter().find_map(|(key, value)| match key {
                Name::Key(key) if self.str(key) == Some(name) => Some(value),
                _ => None,
            })
        };
        let (parameters, modules) = (find("_parameters")?, find("_modules")?);
        let buffers = find("_buffers");
        let transient = find("_non_persistent_buffers_set").map(|set| self.strings(set));
        let transient = transient.unwrap_or_default();
        let entries = |node: Node| match self.children(node) {
            (Holds::Mapping, children) => children.into_iter(),
            _ => Children::none().into_iter(),
        };
        let mut out: Vec<(Name, Node)> = entries(parameters).collect();
        let kept = buffers.into_iter().flat_map(entries).filter(|(name, _)| {
            !matches!(name, Name::Key(key) if self.str(*key).is_some_and(|s| transient.contains(s)))
        });
        out.extend(kept);
        out.extend(entries(modules));
        out.retain(|(_, value)| !self.is_none(*value));
        Some(Children::Listed(out))
    }

    /// The strings of a set, in any spelling.
    fn strings(&self, set: Node) -> HashSet<&str> {
        let items: &[ObjectId] = match self.get(set) {
            Object::Set(items) | Object::FrozenSet(items) | Object::List(items) => items,
            Object::Call(call) if !call.items().is_empty() => call.items(),
            Object::Call(_) => self
                .arg(set, 0)
                .and_then(|arg| self.sequence(arg))
                .unwrap_or_default(),
            _ => &[],
        };
        items
            .iter()
            .filter_map(|&id| self.str(set.with(id)))
            .collect()
    }

    /// Parameters, buffers and submodules of a TorchScript module, as its code declares them.
    fn script_children(&self, node: Node, attributes: &Children<'_>) -> Option<Children<'static>> {
        let script = self.docs.get(node.doc)?.script.as_ref()?;
        let class_of = |node: Node| match self.call(node) {
            Some((module, name, _)) if module.starts_with("__torch__") => {
                Some(script.class(module, name))
            }
            _ => None,
        };
        let class = class_of(node)?;
        if class.is_some_and(|class| !class.module) {
            return None;
        }
        let listed = |list: fn(&crate::container::script::ScriptClass) -> &Vec<String>| {
            attributes
                .iter()
                .filter(move |&(name, _)| match (name, class) {
                    (Name::Key(key), Some(class)) => self
                        .str(key)
                        .is_some_and(|name| list(class).iter().any(|known| known == name)),
                    _ => false,
                })
        };
        let mut out: Vec<(Name, Node)> = match class {
            Some(_) => listed(|class| &class.parameters)
                .chain(listed(|class| &class.buffers))
                .collect(),
            // Code that declares nothing: every tensor is a part of the state.
            None => attributes
                .iter()
                .filter(|(_, value)| self.build(*value).is_some())
                .collect(),
        };
        let modules = attributes.iter().filter(|(_, value)| {
            class_of(*value).is_some_and(|class| class.is_none_or(|class| class.module))
        });
        out.extend(modules);
        out.retain(|(_, value)| !self.is_none(*value));
        Some(Children::Listed(out))
    }

    /// A child's name as text.
    pub(crate) fn show(&self, name: &Name) -> String {
        match name {
            Name::Index(i) => i.to_string(),
            Name::Key(key) => self.show_key(*key, 4),
        }
    }

    /// The first bytes of a byte string that a call makes, as before protocol 3.
    fn made_bytes(&self, key: Node) -> Option<Bytes> {
        if !matches!(self.get(key), Object::Call(_)) {
            return None;
        }
        let region = super::bytes::bytes_of(self.objects(key.doc), key.id)?;
        let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
        region.bytes(0, len.min(KEY_SHOWN)).ok()
    }

    /// A key: text and numbers as they are, others as Python would show them.
    fn show_key(&self, key: Node, depth: u8) -> String {
        if let Some(bytes) = self.made_bytes(key) {
            return show_bytes(&bytes);
        }
        match self.get(key) {
            Object::Str(text) => text.to_string(),
            Object::WildStr(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Object::Int(n) => n.to_string(),
            Object::BigInt(bytes) => crate::pickle::show_big(bytes),
            Object::Float(x) => format!("{x:?}"),
            Object::Bool(true) => "True".to_owned(),
            Object::Bool(false) => "False".to_owned(),
            Object::None => "None".to_owned(),
            Object::Bytes(blob) => match blob.head(KEY_SHOWN) {
                Ok(bytes) => show_bytes(&bytes),
                Err(_) => "bytes".to_owned(),
            },
            Object::Tuple(items) if depth > 0 => {
                let items: Vec<String> = items
                    .iter()
                    .take(16)
                    .map(|&id| self.show_key(key.with(id), depth - 1))
                    .collect();
                format!("({})", items.join(", "))
            }
            Object::Global(global) => format!("{}.{}", global.module, global.name),
            _ => self.describe(key),
        }
    }

    /// What an object is, in a few words: its class.
    pub(crate) fn describe(&self, node: Node) -> String {
        let word = match self.get(node) {
            Object::None => "None",
            Object::Bool(_) => "bool",
            Object::Int(_) | Object::BigInt(_) => "int",
            Object::Float(_) => "float",
            Object::Str(_) | Object::WildStr(_) => "str",
            Object::Bytes(_) => "bytes",
            Object::ByteArray(_) => "bytearray",
            Object::List(_) => "list",
            Object::Tuple(_) => "tuple",
            Object::Set(_) => "set",
            Object::FrozenSet(_) => "frozenset",
            Object::Dict(_) => "dict",
            Object::Global(global) => return format!("the name {}.{}", global.module, global.name),
            Object::Extension(code) => return format!("extension {code}"),
            Object::Call(call) => match self.objects(node.doc).global(call.callee) {
                Some(("collections", name)) => name,
                Some((module, name)) => return format!("{module}.{name}"),
                None => "the result of a call",
            },
            Object::Persistent(_) => "a persistent id",
            Object::OutOfBand => "a buffer outside the file",
            Object::Patch(_) => "a change",
            Object::Tensor(_) => "a tensor",
        };
        word.to_owned()
    }
}

fn indexed(node: Node, items: &[ObjectId]) -> Vec<(Name, Node)> {
    items
        .iter()
        .enumerate()
        .map(|(i, &id)| (Name::Index(i), node.with(id)))
        .collect()
}

/// How many tensors lie below each object, over all paths.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// By tree and object: 0 is not seen, else the count plus one.
    counts: Vec<Vec<u64>>,
}

impl Counts {
    pub(crate) fn of(&self, node: Node) -> u64 {
        let row = self.counts.get(node.doc);
        let cell = row.and_then(|row| row.get(node.id.index()));
        cell.map_or(0, |n| n.saturating_sub(1))
    }

    fn seen(&self, node: Node) -> bool {
        let row = self.counts.get(node.doc);
        row.and_then(|row| row.get(node.id.index()))
            .is_some_and(|&n| n > 0)
    }

    fn add(&mut self, node: Node, n: u64) {
        let row = self.counts.get_mut(node.doc);
        if let Some(cell) = row.and_then(|row| row.get_mut(node.id.index())) {
            *cell = cell.saturating_add(n);
        }
    }

    /// Counts below `root`. The walk keeps its own stack, and deeper than the limit is an error, as
    /// is a walk over more children than a pickle may have references: objects may share a state.
    pub(crate) fn below(forest: &Forest, root: Node, limits: &Limits) -> Result<Self> {
        let sizes = (0..forest.docs.len()).map(|doc| forest.objects(doc).len());
        let mut this = Self {
            counts: sizes.map(|len| vec![0; len]).collect(),
        };
        let mut walked = 0u64;
        let most = limits.objects.saturating_mul(REFERENCES_AN_OBJECT);
        let mut open = |this: &mut Self, node: Node| -> Result<(Node, Walk<'_>)> {
            let (holds, children) = forest.children(node);
            walked = walked.saturating_add(children.len() as u64);
            Limits::check("things held by all objects", walked, most)?;
            this.add(node, 1);
            if holds == Holds::Tensor {
                this.add(node, 1);
            }
            Ok((node, children.into_iter()))
        };
        let mut path = vec![open(&mut this, root)?];
        while let Some((node, rest)) = path.last_mut() {
            let node = *node;
            if let Some((_, child)) = rest.next() {
                if this.seen(child) {
                    // Finished, or on the path: then what has been counted is below it anyway.
                    let n = this.of(child);
                    this.add(node, n);
                } else {
                    let frame = open(&mut this, child)?;
                    path.push(frame);
                    Limits::check("depth of nested objects", path.len() as u64, limits.depth)?;
                }
            } else {
                path.pop();
                if let Some((parent, _)) = path.last() {
                    let n = this.of(node);
                    this.add(*parent, n);
                }
            }
        }
        Ok(this)
    }
}
