//! The stream before zip: five pickles, then storages. See [`crate::wire`].

use super::{Document, Form, Storages};
use crate::error::CkptError;
use crate::pickle::{self, Budget, Outcome};
use crate::wire::{self, MAGIC, PROTOCOL, StorageClass};
use ir::{ByteOrder, Object, ObjectId, Objects, Region, Result};
use std::collections::HashMap;

/// What each pickle of the stream is.
pub(crate) const SLOTS: [&str; 5] = [
    "pickle 1 (magic number)",
    "pickle 2 (protocol)",
    "pickle 3 (system)",
    "pickle 4 (object)",
    "pickle 5 (storage keys)",
];

/// Whether a pickle left the magic number.
pub(crate) fn is_magic(outcome: &Outcome) -> bool {
    outcome.objects.root().is_some_and(
        |root| matches!(outcome.objects.get(root), Object::BigInt(bytes) if bytes[..] == MAGIC),
    )
}

/// Whether a stream begins with a call where the magic number belongs, which would give it when
/// run: the protocol number behind it tells.
pub(super) fn computes_magic(region: &Region, first: &Outcome, budget: &mut Budget) -> bool {
    let root = first.objects.root();
    if !root.is_some_and(|root| matches!(first.objects.get(root), Object::Call(_))) {
        return false;
    }
    let second = pickle::run(region, first.end, SLOTS[1], budget);
    second
        .objects
        .root()
        .is_some_and(|root| second.objects.int(root) == Some(PROTOCOL))
}

/// A storage as a persistent id names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageId {
    pub(crate) class: StorageClass,
    pub(crate) key: String,
    pub(crate) location: String,
    pub(crate) numel: u64,
    /// Key, first element and number of elements of a part, which old versions stored.
    pub(crate) view: Option<(String, u64, u64)>,
}

/// Reads `('storage', class, key, location, numel[, view])`.
pub(crate) fn storage_id(objects: &Objects, id: ObjectId) -> Result<StorageId, String> {
    let items = objects.sequence(id).unwrap_or_default();
    let [kind, class, key, location, numel, view @ ..] = items else {
        return Err("a persistent id that is no storage".to_owned());
    };
    if text(objects, *kind).as_deref() != Some("storage") {
        return Err("a persistent id that is no storage".to_owned());
    }
    let class = match objects.global(*class) {
        Some((module, name)) => wire::storage_class(module, name)
            .ok_or_else(|| format!("{module}.{name} is no storage class"))?,
        None => return Err("a storage whose class is no name".to_owned()),
    };
    let key = text(objects, *key).ok_or("a storage whose key is no text")?;
    let numel = natural(objects, *numel).ok_or("a storage whose size is no natural number")?;
    let view = match view.first() {
        Some(&view) if !matches!(objects.get(view), Object::None) => {
            let parts = objects.sequence(view).unwrap_or_default();
            let &[view_key, offset, len] = parts else {
                return Err("a storage view that is no triple".to_owned());
            };
            let view_key = text(objects, view_key);
            let span = natural(objects, offset).zip(natural(objects, len));
            let (view_key, (offset, len)) = view_key
                .zip(span)
                .ok_or("a storage view that is no key and two numbers")?;
            Some((view_key, offset, len))
        }
        _ => None,
    };
    Ok(StorageId {
        class,
        key,
        location: text(objects, *location).unwrap_or_default(),
        numel,
        view,
    })
}

/// A key: text, or a number as text.
pub(crate) fn text(objects: &Objects, id: ObjectId) -> Option<String> {
    match objects.get(id) {
        Object::Str(text) => Some(text.to_string()),
        Object::Int(n) => Some(n.to_string()),
        _ => None,
    }
}

/// A number that is not negative.
pub(crate) fn natural(objects: &Objects, id: ObjectId) -> Option<u64> {
    objects.int(id).and_then(|n| u64::try_from(n).ok())
}

/// Everything a stream holds: all five pickles, as far as they ran, and the storages.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The pickles in order.
    pub(crate) pickles: Vec<Outcome>,
    pub(crate) storages: HashMap<String, Region>,
    pub(crate) byte_order: ByteOrder,
    /// One past the last byte understood.
    pub(crate) end: u64,
}

/// Runs the rest of a stream whose first pickle has run. The stream holds what was understood;
/// the error says why that is not all.
pub(crate) fn run_stream(
    region: &Region,
    first: Outcome,
    budget: &mut Budget,
) -> (Stream, Option<ir::Error>) {
    let mut stream = Stream {
        end: first.end,
        ..Stream::default()
    };
    let broken = first.error.is_some();
    stream.pickles.push(first);
    if !broken {
        for slot in SLOTS.iter().skip(1) {
            let outcome = pickle::run(region, stream.end, slot, budget);
            stream.end = outcome.end;
            let broken = outcome.error.is_some();
            stream.pickles.push(outcome);
            if broken {
                break;
            }
        }
    }
    if let Some(last) = stream.pickles.last_mut()
        && let Some(error) = last.error.take()
    {
        // The outcome keeps no root, which is how its owner sees that it broke.
        return (stream, Some(error));
    }
    let error = stream.read_storages(region).err();
    (stream, error)
}

impl Stream {
    fn slot(&self, slot: usize) -> Option<(&Objects, ObjectId)> {
        let objects = &self.pickles.get(slot)?.objects;
        Some((objects, objects.root()?))
    }

    fn read_storages(&mut self, region: &Region) -> Result<()> {
        let missing = || CkptError::cut("", "the stream ends before its storages");
        if let Some((objects, root)) = self.slot(1) {
            match objects.int(root) {
                Some(PROTOCOL) => {}
                Some(other) => {
                    return Err(CkptError::Unsupported {
                        place: SLOTS[1].to_owned(),
                        what: format!("protocol version {other} of the legacy stream"),
                        help: "Only 1001 was ever written",
                    }
                    .into());
                }
                None => {
                    let what = "the protocol version is no number";
                    return Err(CkptError::container(SLOTS[1], what).into());
                }
            }
        }
        let (objects, root) = self.slot(2).ok_or_else(missing)?;
        let little = objects.lookup(root, "little_endian");
        if little.is_some_and(|id| matches!(objects.get(id), Object::Bool(false))) {
            self.byte_order = ByteOrder::Big;
        }
        let (objects, _) = self.slot(3).ok_or_else(missing)?;
        // In the order the unpickler meets them: the first id of a key decides, as in torch.
        let mut declared: HashMap<String, (StorageClass, u64)> = HashMap::new();
        for (_, node) in objects.iter() {
            if let Object::Persistent(id) = node.object
                && let Ok(storage) = storage_id(objects, id)
            {
                declared
                    .entry(storage.key)
                    .or_insert((storage.class, storage.numel));
            }
        }
        let (objects, root) = self.slot(4).ok_or_else(missing)?;
        let keys = objects
            .sequence(root)
            .ok_or_else(|| CkptError::container(SLOTS[4], "the list of storage keys is no list"))?;
        let mut at = self.end;
        let mut storages = HashMap::new();
        for &key in keys {
            let key = text(objects, key)
                .ok_or_else(|| CkptError::container(SLOTS[4], "a storage key that is no text"))?;
            let place = format!("storage {key:?} at byte {at}");
            let Some(&(class, numel)) = declared.get(&key) else {
                return Err(CkptError::container(place, "no tensor uses this storage").into());
            };
            let raw = region.bytes(at, 8).map_err(|_| {
                CkptError::cut(&place, "the file ends before its number of elements")
            })?;
            let raw: [u8; 8] = raw.as_ref().try_into().unwrap_or_default();
            let count = match self.byte_order {
                ByteOrder::Little => i64::from_le_bytes(raw),
                ByteOrder::Big => i64::from_be_bytes(raw),
            };
            if u64::try_from(count) != Ok(numel) {
                let what = format!("it says {count} elements, the object says {numel}");
                return Err(CkptError::container(place, what).into());
            }
            let len = numel.checked_mul(class.width());
            let part = len.and_then(|len| region.slice(at + 8, len).ok());
            let Some(part) = part else {
                let what = format!(
                    "its {numel} elements of {} bytes reach beyond the end of the file at {}",
                    class.width(),
                    region.len()
                );
                return Err(CkptError::cut(place, what).into());
            };
            at += 8 + part.len();
            storages.insert(key, part);
        }
        self.storages = storages;
        self.end = at;
        Ok(())
    }
}

/// Opens a legacy stream whose first pickle has run.
pub(crate) fn open(region: &Region, first: Outcome, budget: &mut Budget) -> Result<Document> {
    let (mut stream, error) = run_stream(region, first, budget);
    if let Some(error) = error {
        return Err(error);
    }
    let mut notes = Vec::new();
    if stream.end < region.len() {
        let n = region.len() - stream.end;
        notes.push(format!(
            "{n} bytes follow the last storage; they were not read"
        ));
    }
    if stream.pickles.len() < SLOTS.len() {
        return Err(CkptError::cut("", "the stream ends before its object").into());
    }
    let object = stream.pickles.swap_remove(3);
    Ok(Document {
        form: Form::Legacy,
        version: format!(
            "legacy stream {PROTOCOL}, pickle protocol {}",
            object.protocol
        ),
        slot: SLOTS[3].to_owned(),
        objects: object.objects,
        byte_order: stream.byte_order,
        storages: Storages::Parts(stream.storages),
        script: None,
        constants: None,
        notes,
    })
}
