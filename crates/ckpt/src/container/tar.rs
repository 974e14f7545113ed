//! The tar of torch 0.1. See [`crate::wire`].
//!
//! The members are needed where they lie in the file: see [`super::members`].

use super::legacy::natural;
use super::members::{Listing, Member, members};
use super::{Document, Form, Storages};
use crate::error::CkptError;
use crate::pickle::{self, Budget, Outcome};
use crate::wire::{StorageClass, storage_class};
use ir::{ByteOrder, Object, ObjectId, Objects, Region, Result};
use std::collections::HashMap;

/// A tensor of the old tar form.
#[derive(Clone, Debug)]
pub(crate) struct TarTensor {
    pub(crate) storage: Region,
    pub(crate) class: StorageClass,
    pub(crate) shape: Vec<u64>,
    pub(crate) strides: Vec<u64>,
    pub(crate) offset: u64,
}

/// A cursor over pickles and raw numbers of one member.
struct Slots<'a> {
    member: &'a Member,
    at: u64,
    outcomes: Vec<Outcome>,
}

impl Slots<'_> {
    fn run(&mut self, budget: &mut Budget) -> Result<(&Objects, ObjectId)> {
        let slot = format!("tar member {:?}", self.member.name);
        let mut outcome = pickle::run(&self.member.region, self.at, &slot, budget);
        self.at = outcome.end;
        let error = outcome.error.take();
        self.outcomes.push(outcome);
        if let Some(error) = error {
            return Err(error);
        }
        let objects = self.outcomes.last().map(|outcome| &outcome.objects);
        objects
            .and_then(|objects| Some((objects, objects.root()?)))
            .ok_or_else(|| self.bad("a pickle without a result"))
    }

    fn bad(&self, what: impl Into<String>) -> ir::Error {
        CkptError::container(format!("tar member {:?}", self.member.name), what).into()
    }

    fn raw<const N: usize>(&mut self) -> Result<[u8; N]> {
        let raw = self.member.region.bytes(self.at, N);
        let raw = raw.map_err(|_| {
            CkptError::cut(
                format!("tar member {:?}", self.member.name),
                "it ends too early",
            )
        })?;
        self.at += N as u64;
        Ok(raw.as_ref().try_into().unwrap_or([0; N]))
    }

    fn natural(&mut self) -> Result<u64> {
        let n = i64::from_le_bytes(self.raw()?);
        u64::try_from(n).map_err(|_| self.bad(format!("a size of {n}")))
    }
}

fn int(objects: &Objects, id: ObjectId) -> Option<i64> {
    objects.int(id)
}

type StorageTable = HashMap<i64, (Region, StorageClass)>;

fn read_storages(slots: &mut Slots<'_>, budget: &mut Budget) -> Result<StorageTable> {
    let mut table = StorageTable::new();
    let (objects, root) = slots.run(budget)?;
    let count = natural(objects, root).ok_or_else(|| slots.bad("the count is no number"))?;
    for _ in 0..count {
        let (objects, root) = slots.run(budget)?;
        let items = objects.sequence(root).unwrap_or_default();
        let (key, class) = match items {
            [key, _, class] => (
                int(objects, *key),
                objects
                    .global(*class)
                    .and_then(|(module, name)| storage_class(module, name)),
            ),
            _ => (None, None),
        };
        let (key, class) = key
            .zip(class)
            .ok_or_else(|| slots.bad("a storage that is no key, place and class"))?;
        let len = slots.natural()?.checked_mul(class.width());
        let part = len.and_then(|len| slots.member.region.slice(slots.at, len).ok());
        let part = part.ok_or_else(|| {
            CkptError::cut(
                "tar member \"storages\"",
                "a storage reaches beyond its end",
            )
        })?;
        slots.at += part.len();
        table.insert(key, (part, class));
    }
    let (objects, root) = slots.run(budget)?;
    let mut views = Vec::new();
    for &view in objects.sequence(root).unwrap_or_default() {
        let numbers = objects.sequence(view).unwrap_or_default();
        let numbers: Vec<Option<i64>> = numbers.iter().map(|&n| int(objects, n)).collect();
        if let [Some(target), Some(root), Some(offset), Some(len)] = numbers[..] {
            views.push((
                target,
                root,
                u64::try_from(offset).ok(),
                u64::try_from(len).ok(),
            ));
        }
    }
    for (target, root, offset, len) in views {
        let part = table.get(&root).and_then(|(region, class)| {
            let offset = offset?.checked_mul(class.width())?;
            let len = len?.checked_mul(class.width())?;
            Some((region.slice(offset, len).ok()?, *class))
        });
        let part = part.ok_or_else(|| slots.bad("a view that leaves its storage"))?;
        table.insert(target, part);
    }
    Ok(table)
}

fn read_tensors(
    slots: &mut Slots<'_>,
    storages: &StorageTable,
    budget: &mut Budget,
) -> Result<HashMap<i64, TarTensor>> {
    let mut table = HashMap::new();
    let (objects, root) = slots.run(budget)?;
    let count = natural(objects, root).ok_or_else(|| slots.bad("the count is no number"))?;
    for _ in 0..count {
        let (objects, root) = slots.run(budget)?;
        let ids = match objects.sequence(root).unwrap_or_default() {
            [key, storage, _] => int(objects, *key).zip(int(objects, *storage)),
            _ => None,
        };
        let (key, storage) =
            ids.ok_or_else(|| slots.bad("a tensor that is no key, storage and class"))?;
        let (storage, class) = storages
            .get(&storage)
            .ok_or_else(|| slots.bad(format!("there is no storage {storage}")))?;
        let rank = i32::from_le_bytes(slots.raw()?);
        slots.raw::<4>()?;
        let rank = u64::try_from(rank).map_err(|_| slots.bad(format!("a rank of {rank}")))?;
        ir::Limits::check("dimensions", rank, budget.limits().rank)?;
        let shape = (0..rank).map(|_| slots.natural()).collect::<Result<_>>()?;
        let strides = (0..rank).map(|_| slots.natural()).collect::<Result<_>>()?;
        table.insert(
            key,
            TarTensor {
                storage: storage.clone(),
                class: *class,
                shape,
                strides,
                offset: slots.natural()?,
            },
        );
    }
    Ok(table)
}

/// Runs every pickle of one member that the format puts there, for `scan`: the pickles as far as
/// they run, where they end, and the error.
pub(crate) fn run_slots(
    member: &Member,
    budget: &mut Budget,
) -> (Vec<Outcome>, u64, Option<ir::Error>) {
    let mut slots = Slots {
        member,
        at: 0,
        outcomes: Vec::new(),
    };
    let error = match member.name.as_str() {
        "storages" => read_storages(&mut slots, budget).err(),
        // Without the storages only the pickles and the numbers between them can be followed.
        "tensors" => follow_tensors(&mut slots, budget).err(),
        _ => slots.run(budget).err(),
    };
    (slots.outcomes, slots.at, error)
}

fn follow_tensors(slots: &mut Slots<'_>, budget: &mut Budget) -> Result<()> {
    let (objects, root) = slots.run(budget)?;
    let count = natural(objects, root).ok_or_else(|| slots.bad("the count is no number"))?;
    for _ in 0..count {
        slots.run(budget)?;
        let rank = i32::from_le_bytes(slots.raw()?);
        let rank = u64::try_from(rank).map_err(|_| slots.bad(format!("a rank of {rank}")))?;
        slots.at = slots.at.saturating_add(4 + rank * 16 + 8);
    }
    Ok(())
}

/// Opens the old tar form.
pub(crate) fn open(region: &Region, budget: &mut Budget) -> Result<Document> {
    let Listing { members, error, .. } = members(region);
    if let Some(error) = error {
        return Err(error);
    }
    let ours = |member: &Member| ["storages", "tensors", "pickle"].contains(&member.name.as_str());
    if !members.iter().any(ours) {
        return Err(CkptError::NotACheckpoint {
            what: "a tar archive without a checkpoint of torch 0.1".to_owned(),
        }
        .into());
    }
    let find = |name: &str| {
        members
            .iter()
            .find(|member| member.name == name)
            .ok_or_else(|| CkptError::container("", format!("the tar has no member {name:?}")))
    };
    let slots = |member| Slots {
        member,
        at: 0,
        outcomes: Vec::new(),
    };
    let mut byte_order = ByteOrder::Little;
    if let Ok(member) = find("sys_info") {
        let mut slots = slots(member);
        let (objects, root) = slots.run(budget)?;
        let little = objects.lookup(root, "little_endian");
        if little.is_some_and(|id| matches!(objects.get(id), Object::Bool(false))) {
            byte_order = ByteOrder::Big;
        }
    }
    let storages = read_storages(&mut slots(find("storages")?), budget)?;
    let tensors = read_tensors(&mut slots(find("tensors")?), &storages, budget)?;
    let member = find("pickle")?;
    let object = pickle::run(&member.region, 0, "tar member \"pickle\"", budget);
    if let Some(error) = object.error {
        return Err(error);
    }
    Ok(Document {
        form: Form::Tar,
        version: format!("tar of torch 0.1, pickle protocol {}", object.protocol),
        slot: "tar member \"pickle\"".to_owned(),
        objects: object.objects,
        byte_order,
        storages: Storages::Tensors(tensors),
        script: None,
        constants: None,
        notes: Vec::new(),
    })
}
