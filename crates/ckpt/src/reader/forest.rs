//! The object trees of a file: that of the checkpoint, and those inside byte strings that
//! `torch.storage._load_from_bytes` would load.

use super::bytes::bytes_of;
use crate::container::{self, Document};
use crate::error::CkptError;
use crate::pickle::Budget;
use ir::{Object, ObjectId, Objects, Region, Result};
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Byte strings within byte strings within … that are loaded.
const NESTED: u64 = 8;

/// An object of one of the trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    pub(crate) doc: usize,
    pub(crate) id: ObjectId,
}

impl Node {
    /// Another object of the same tree.
    pub(crate) fn with(self, id: ObjectId) -> Self {
        Self { id, ..self }
    }
}

/// All trees of a file; the first is the checkpoint's own.
#[derive(Debug)]
pub(crate) struct Forest {
    pub(crate) docs: Vec<Document>,
    /// What a call that loads a byte string gives.
    loaded: HashMap<Node, Node>,
    /// Mappings that have a key twice.
    twice: HashSet<Node>,
    /// Byte strings as regions, so that one string is one region however often it is used.
    held: HashMap<Node, Region>,
}

impl Forest {
    /// Opens a file and all that is nested in it.
    pub(crate) fn open(region: &Region, budget: &mut Budget, scratch: &Path) -> Result<Self> {
        let first = container::open(region, budget, scratch)?;
        let mut forest = Self {
            docs: vec![first],
            loaded: HashMap::new(),
            twice: HashSet::new(),
            held: HashMap::new(),
        };
        let mut level = 0..1;
        for depth in 0.. {
            let calls: Vec<Node> = level.clone().flat_map(|doc| forest.loads(doc)).collect();
            if calls.is_empty() {
                break;
            }
            ir::Limits::check("checkpoints within checkpoints", depth + 1, NESTED)?;
            for call in calls {
                forest.load(call, budget, scratch)?;
            }
            level = level.end..forest.docs.len();
        }
        for doc in 0..forest.docs.len() {
            let twice = keys_twice(forest.objects(doc)).into_iter();
            forest.twice.extend(twice.map(|id| Node { doc, id }));
        }
        Ok(forest)
    }

    /// Whether a mapping has a key twice.
    pub(crate) fn has_twice(&self, node: Node) -> bool {
        self.twice.contains(&node)
    }

    /// Calls of one tree that load a byte string.
    fn loads(&self, doc: usize) -> Vec<Node> {
        let objects = self.objects(doc);
        objects
            .iter()
            .map(|(id, _)| Node { doc, id })
            .filter(|node| {
                matches!(
                    objects.named_call(node.id),
                    Some(("torch.storage", "_load_from_bytes", _))
                )
            })
            .collect()
    }

    fn load(&mut self, call: Node, budget: &mut Budget, scratch: &Path) -> Result<()> {
        let Some(bytes) = self.arg(call, 0).and_then(|arg| self.bytes(arg)) else {
            return Ok(());
        };
        let doc = container::open(&bytes, budget, scratch).map_err(|error| {
            error.at(format!(
                "bytes given to _load_from_bytes at {}",
                self.at(call)
            ))
        })?;
        if let Some(id) = doc.objects.root() {
            let doc_index = self.docs.len();
            self.loaded.insert(call, Node { doc: doc_index, id });
        }
        self.docs.push(doc);
        Ok(())
    }

    pub(crate) fn objects(&self, doc: usize) -> &Objects {
        static NONE: std::sync::LazyLock<Objects> = std::sync::LazyLock::new(Objects::new);
        self.docs.get(doc).map_or(&NONE, |doc| &doc.objects)
    }

    pub(crate) fn get(&self, node: Node) -> &Object {
        self.objects(node.doc).get(node.id)
    }

    /// Where an object was made, for messages.
    pub(crate) fn at(&self, node: Node) -> String {
        let at = self.objects(node.doc).node(node.id).map_or(0, |n| n.at);
        format!("pickle byte {at}")
    }

    /// Module, name and arguments of a call.
    pub(crate) fn call(&self, node: Node) -> Option<(&str, &str, &ir::Call)> {
        self.objects(node.doc).named_call(node.id)
    }

    /// The arguments of a call.
    pub(crate) fn args(&self, node: Node) -> &[ObjectId] {
        match self.get(node) {
            Object::Call(call) => self.sequence(node.with(call.args)).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(crate) fn arg(&self, node: Node, n: usize) -> Option<Node> {
        self.args(node).get(n).map(|&id| node.with(id))
    }

    pub(crate) fn sequence(&self, node: Node) -> Option<&[ObjectId]> {
        self.objects(node.doc).sequence(node.id)
    }

    pub(crate) fn str(&self, node: Node) -> Option<&str> {
        self.objects(node.doc).str(node.id)
    }

    pub(crate) fn is_none(&self, node: Node) -> bool {
        matches!(self.get(node), Object::None)
    }

    pub(crate) fn is_true(&self, node: Node) -> bool {
        matches!(self.get(node), Object::Bool(true) | Object::Int(1))
    }

    /// What a call that loads bytes gives.
    pub(crate) fn loaded(&self, call: Node) -> Option<Node> {
        self.loaded.get(&call).copied()
    }

    /// The bytes an object stands for; the same object gives the same region.
    pub(crate) fn bytes(&mut self, node: Node) -> Option<Region> {
        if let Some(region) = self.held.get(&node) {
            return Some(region.clone());
        }
        let region = bytes_of(self.objects(node.doc), node.id)?;
        self.held.insert(node, region.clone());
        Some(region)
    }

    /// The storage a persistent id names.
    pub(crate) fn storage_id(&self, node: Node) -> Result<container::StorageId> {
        let Object::Persistent(id) = *self.get(node) else {
            return Err(CkptError::tensor("its storage is no storage").into());
        };
        container::storage_id(self.objects(node.doc), id)
            .map_err(|what| CkptError::tensor(what).into())
    }
}

/// Mappings that have a string key twice.
fn keys_twice(objects: &Objects) -> Vec<ObjectId> {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut out = Vec::new();
    for (id, node) in objects.iter() {
        let pairs = match &node.object {
            Object::Dict(pairs) => pairs,
            Object::Call(call) => call.pairs(),
            _ => continue,
        };
        if pairs.len() < 2 {
            continue;
        }
        seen.clear();
        let mut keys = pairs.iter().filter_map(|&(key, _)| objects.str(key));
        if keys.any(|key| !seen.insert(key)) {
            out.push(id);
        }
    }
    out
}
