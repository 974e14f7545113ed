//! Names and shapes that ggml cannot say, carried in keys of the file and restored from them.
//!
//! | of a tensor | stored as | key in the file |
//! |---|---|---|
//! | more than 4 dimensions | the outer ones multiplied into one | `comfy.gguf.orig_shape.STORED`: i32 array, outermost first |
//! | no dimensions | `[1]` | the same, an empty array |
//! | a name above 63 bytes (of images 127), or with a NUL | its first bytes, `~`, a hash of it: `STORED` | `weightbridge.name.STORED` = the name |
//!
//! `comfy.gguf.orig_shape` is ComfyUI-GGUF's key, which other programs read too.
//!
//! In the model a tensor has its own name and shape. Where a file says so in a way that the writer
//! would not come up with by itself (another fold, another short name, another place among the
//! keys), a note stays in the metadata, in the key's place, so that the file can be written again
//! as it was: `name.STORED` with the name, `dims.NAME` with the stored shape. A note whose tensor
//! is gone is not written.
//!
//! A key that does not fit its tensor stays a plain key of the file, and so does the original
//! shape of a tensor of blocks whose rows do not hold whole blocks.

use crate::GgufError;
use crate::namespace;
use crate::wire::{ARCHITECTURE_KEY, MAX_DIMS, dims_of_shape, elements_fit, name_limit};
use ir::{Array, Limits, MetaValue, Metadata, Record, Shape, TensorSpec, ns};
use std::collections::{HashMap, HashSet};

/// Key of the file: the full name of the tensor stored under the rest of the key.
const NAME_KEY: &str = "weightbridge.name.";
/// Key of the file that is never written: the note of that name would come of it.
const DIMS_KEY: &str = "weightbridge.dims.";
/// Key of the file: the shape of the tensor stored under the rest of the key.
const SHAPE_KEY: &str = "comfy.gguf.orig_shape.";
/// Note: the tensor of that name was stored under the rest of the key.
const NAME_NOTE: &str = "name.";
/// Note: the tensor under the rest of the key was stored in that shape.
const DIMS_NOTE: &str = "dims.";

/// A name and spec: of a file's tensor or of a model's.
pub(crate) type Named<'a> = (&'a str, &'a TensorSpec);

/// What a reader makes of a file's keys and tensors.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The keys, with their notes.
    pub(crate) metadata: Metadata,
    /// Each tensor's name and shape, in the file's order.
    pub(crate) tensors: Vec<(String, Shape)>,
}

/// What a key of the file said about a tensor.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    Name(usize),
    Shape(usize),
}

/// Gives tensors back the names and shapes that keys tell.
pub(crate) fn restore(
    pairs: Vec<(String, MetaValue)>,
    stored: &[Named<'_>],
    limits: &Limits,
) -> Restored {
    let mut tensors: Vec<_> = stored
        .iter()
        .map(|(name, spec)| ((*name).to_owned(), spec.shape.clone()))
        .collect();
    let told = told(&pairs, stored, &mut tensors, limits);
    let mut metadata = Metadata::new();
    let mut heeded = Vec::new();
    let mut reshaped = vec![false; stored.len()];
    for ((key, value), told) in pairs.into_iter().zip(&told) {
        let Some(told) = *told else {
            let own = key.starts_with(NAME_KEY) || key.starts_with(DIMS_KEY);
            let (namespace, rest) = if own {
                (ns::GGUF, key.as_str())
            } else {
                namespace::of_file_key(&key)
            };
            metadata.push_new(namespace, rest.to_owned(), value);
            continue;
        };
        heeded.push((key.clone(), value.clone()));
        let (note, value) = match told {
            Told::Name(_) => {
                let short = key.strip_prefix(NAME_KEY).unwrap_or_default();
                (format!("{NAME_NOTE}{short}"), value)
            }
            Told::Shape(i) => {
                if let Some(reshaped) = reshaped.get_mut(i) {
                    *reshaped = true;
                }
                dims_note(&tensors, stored, i)
            }
        };
        metadata.push_new(ns::NOTE, note, value);
    }
    for (i, ((_, spec), reshaped)) in stored.iter().zip(reshaped).enumerate() {
        // Stored without dimensions, where the writer would store one.
        if spec.shape.is_empty() && !reshaped {
            let (note, value) = dims_note(&tensors, stored, i);
            metadata.push_new(ns::NOTE, note, value);
        }
    }
    let mut restored = Restored { metadata, tensors };
    if told
        .iter()
        .skip_while(|told| told.is_none())
        .all(Option::is_some)
    {
        drop_implied_notes(&mut restored, &heeded, stored);
    }
    restored
}

fn dims_note(tensors: &[(String, Shape)], stored: &[Named<'_>], i: usize) -> (String, MetaValue) {
    let name = tensors.get(i).map_or("", |(name, _)| name);
    let dims = stored.get(i).map(|(_, spec)| spec.shape.to_vec());
    let value = MetaValue::Array(Array::U64(dims.unwrap_or_default()));
    (format!("{DIMS_NOTE}{name}"), value)
}

/// Reads the keys, changes names and shapes accordingly, and answers which keys were heeded.
fn told(
    pairs: &[(String, MetaValue)],
    stored: &[Named<'_>],
    tensors: &mut [(String, Shape)],
    limits: &Limits,
) -> Vec<Option<Told>> {
    let mut told = vec![None; pairs.len()];
    let speaks = |key: &str| key.starts_with(NAME_KEY) || key.starts_with(SHAPE_KEY);
    if !pairs.iter().any(|(key, _)| speaks(key)) {
        return told;
    }
    let index: HashMap<&str, usize> = stored.iter().map(|t| t.0).zip(0..).collect();
    let mut taken: HashSet<&str> = index.keys().copied().collect();
    for ((key, value), told) in pairs.iter().zip(&mut told) {
        if let (Some(short), Some(full)) = (key.strip_prefix(NAME_KEY), value.as_str()) {
            let fits = !full.is_empty() && full.len() as u64 <= limits.name_bytes;
            if let Some(&i) = index.get(short).filter(|_| fits)
                && taken.insert(full)
                && let Some(tensor) = tensors.get_mut(i)
            {
                full.clone_into(&mut tensor.0);
                *told = Some(Told::Name(i));
            }
        } else if let Some(name) = key.strip_prefix(SHAPE_KEY)
            && let Some(&i) = index.get(name)
            && let Some((_, spec)) = stored.get(i)
            && let Some(shape) = original_shape(value, spec, limits)
            && let Some(tensor) = tensors.get_mut(i)
        {
            tensor.1 = shape;
            *told = Some(Told::Shape(i));
        }
    }
    told
}

/// The shape that a key tells, if it fits the tensor, is another than the stored one, and stands
/// in the form in which the writer would write it.
fn original_shape(value: &MetaValue, spec: &TensorSpec, limits: &Limits) -> Option<Shape> {
    let shape = match value {
        MetaValue::Array(Array::I32(dims)) => dims
            .iter()
            .map(|dim| u64::try_from(*dim).ok())
            .collect::<Option<Vec<_>>>()?,
        MetaValue::Array(Array::I64(dims)) => dims
            .iter()
            .map(|dim| u64::try_from(*dim).ok())
            .collect::<Option<Vec<_>>>()?,
        _ => return None,
    };
    let original = TensorSpec::new(spec.dtype, shape);
    let fits = original.shape.len() as u64 <= limits.rank
        && original.shape != spec.shape
        && original.elements() == spec.elements()
        && original.byte_len().is_some()
        && shape_value(&original.shape).as_ref() == Some(value);
    fits.then_some(original.shape)
}

/// Takes out the notes of a file whose writer did what ours does: they say nothing new. `heeded`
/// are the keys that were restored from, which stand behind all others.
fn drop_implied_notes(
    restored: &mut Restored,
    heeded: &[(String, MetaValue)],
    stored: &[Named<'_>],
) {
    if heeded.is_empty() {
        return;
    }
    let mut without = restored.metadata.clone();
    without.retain(|e| !(e.namespace == ns::NOTE && is_own_note(&e.key)));
    let specs: Vec<_> = restored
        .tensors
        .iter()
        .zip(stored)
        .map(|((name, shape), (_, spec))| (name, TensorSpec::new(spec.dtype, shape.clone())))
        .collect();
    let tensors: Vec<Named<'_>> = specs.iter().map(|(n, spec)| (n.as_str(), spec)).collect();
    let Ok(plan) = plan(&tensors, &without) else {
        return;
    };
    let same = plan
        .stored
        .iter()
        .zip(stored)
        .all(|(ours, (name, spec))| ours.name == *name && ours.shape == spec.shape);
    if same && plan.extra == heeded {
        restored.metadata = without;
    }
}

fn is_own_note(key: &str) -> bool {
    key.starts_with(NAME_NOTE) || key.starts_with(DIMS_NOTE)
}

/// A tensor as the file is to have it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Its name there.
    pub(crate) name: String,
    /// Its shape there, outermost dimension first.
    pub(crate) shape: Shape,
}

/// How a model's tensors are to be stored, and the keys that say so.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Each tensor as stored, in the order given.
    pub(crate) stored: Vec<Stored>,
    /// For metadata entries that are notes of this module, by their place: the pair to write, if
    /// any.
    pub(crate) notes: HashMap<usize, Option<(String, MetaValue)>>,
    /// The pairs to write after all others.
    pub(crate) extra: Vec<(String, MetaValue)>,
    /// What was done.
    pub(crate) records: Vec<Record>,
}

/// Plans names and shapes: as notes tell, where they do; by the rules of this module elsewhere.
pub(crate) fn plan(tensors: &[Named<'_>], metadata: &Metadata) -> Result<Plan, GgufError> {
    let mut plan = Plan::default();
    let architecture = metadata.get(ns::GGUF, ARCHITECTURE_KEY);
    let limit = name_limit(architecture.and_then(MetaValue::as_str));
    let index: HashMap<&str, usize> = tensors.iter().map(|t| t.0).zip(0..).collect();
    let names = noted_names(metadata, &index, limit, &mut plan);
    let shapes = noted_shapes(metadata, &index, tensors);
    let mut used: HashSet<String> = names
        .values()
        .map(|(_, short)| (*short).to_owned())
        .collect();
    for (i, (name, spec)) in tensors.iter().enumerate() {
        let mut stored = Stored {
            name: (*name).to_owned(),
            shape: fold(name, &spec.shape)?,
        };
        if let Some((at, short)) = names.get(&i) {
            (*short).clone_into(&mut stored.name);
            let pair = (format!("{NAME_KEY}{short}"), MetaValue::text(*name));
            plan.notes.insert(*at, Some(pair));
        } else if name.len() > limit || name.contains('\0') {
            stored.name = short_name(name, limit, |short| {
                index.contains_key(short) || used.contains(short)
            });
            used.insert(stored.name.clone());
            let pair = (format!("{NAME_KEY}{}", stored.name), MetaValue::text(*name));
            plan.extra.push(pair);
            let end = if name.contains('\0') {
                "at a NUL".to_owned()
            } else {
                format!("at {limit} bytes")
            };
            let why = format!(
                "its readers' names end {end}: stored as {:?}, noted in the metadata",
                stored.name
            );
            plan.records
                .push(Record::carried("name-shortened", *name, why));
        }
        if let Some((_, shape)) = shapes.get(&i) {
            stored.shape = shape.clone();
        }
        if stored.shape != spec.shape {
            let value = shape_value(&spec.shape).ok_or_else(|| too_large(name))?;
            let pair = (format!("{SHAPE_KEY}{}", stored.name), value);
            if let Some((at, _)) = shapes.get(&i) {
                plan.notes.insert(*at, Some(pair));
            } else {
                plan.extra.push(pair);
                let why = format!(
                    "ggml holds 1 to {MAX_DIMS} dimensions: {} stored as {}, noted in the metadata",
                    spec.shape, stored.shape
                );
                plan.records.push(Record::carried("folded", *name, why));
            }
        }
        if !elements_fit(dims_of_shape(&stored.shape)) {
            return Err(too_large(name));
        }
        plan.stored.push(stored);
    }
    Ok(plan)
}

/// Short names that notes tell: for a tensor, the note's place and the name. Every note of this
/// module is entered as one that is not written, until its tensor claims it.
fn noted_names<'a>(
    metadata: &'a Metadata,
    index: &HashMap<&str, usize>,
    limit: usize,
    plan: &mut Plan,
) -> HashMap<usize, (usize, &'a str)> {
    let mut names = HashMap::new();
    let mut used = HashSet::new();
    for (at, entry) in metadata.iter().enumerate() {
        if entry.namespace != ns::NOTE || !is_own_note(&entry.key) {
            continue;
        }
        plan.notes.insert(at, None);
        if let (Some(short), Some(full)) = (entry.key.strip_prefix(NAME_NOTE), entry.value.as_str())
            && let Some(&i) = index.get(full)
            && (1..=limit).contains(&short.len())
            && !short.contains('\0')
            && !index.contains_key(short)
            && !names.contains_key(&i)
            && used.insert(short)
        {
            names.insert(i, (at, short));
        }
    }
    names
}

/// Stored shapes that notes tell: for a tensor, the note's place and the shape.
fn noted_shapes(
    metadata: &Metadata,
    index: &HashMap<&str, usize>,
    tensors: &[Named<'_>],
) -> HashMap<usize, (usize, Shape)> {
    let mut shapes = HashMap::new();
    for (at, entry) in metadata.iter().enumerate() {
        if entry.namespace == ns::NOTE
            && let Some(name) = entry.key.strip_prefix(DIMS_NOTE)
            && let Some(&i) = index.get(name)
            && let Some((_, spec)) = tensors.get(i)
            && let Some(shape) = noted_shape(&entry.value)
        {
            let stored = TensorSpec::new(spec.dtype, shape);
            let fits = stored.shape.len() <= MAX_DIMS
                && stored.elements() == spec.elements()
                && stored.byte_len().is_some();
            if fits && !shapes.contains_key(&i) {
                shapes.insert(i, (at, stored.shape));
            }
        }
    }
    shapes
}

/// The shape of a note: as this module writes it, or as text, which it became on its way through
/// a format of strings.
fn noted_shape(value: &MetaValue) -> Option<Shape> {
    if let MetaValue::Array(Array::U64(dims)) = value {
        return Some(Shape::new(dims.as_slice()));
    }
    let inner = value.as_str()?.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(Shape::default());
    }
    inner
        .split(',')
        .map(|dim| dim.trim().parse().ok())
        .collect()
}

/// A shape of one to four dimensions and as many elements.
fn fold(name: &str, shape: &Shape) -> Result<Shape, GgufError> {
    if shape.is_empty() {
        return Ok(Shape::from([1]));
    }
    let Some(extra) = shape.len().checked_sub(MAX_DIMS).filter(|n| *n > 0) else {
        return Ok(shape.clone());
    };
    let (outer, inner) = shape.split_at(extra + 1);
    let outer = Shape::new(outer)
        .elements()
        .ok_or_else(|| too_large(name))?;
    Ok([outer].iter().chain(inner).copied().collect())
}

fn too_large(name: &str) -> GgufError {
    GgufError::CannotWrite {
        name: name.to_owned(),
        why: "ggml counts elements in 63 bits, its dimensions are larger".to_owned(),
        help: "Leave it out with --drop",
    }
}

/// A shape as the value of its key: i32, as others read it, while it fits.
fn shape_value(shape: &Shape) -> Option<MetaValue> {
    let narrow = shape.iter().map(|dim| i32::try_from(*dim).ok());
    if let Some(dims) = narrow.collect() {
        return Some(MetaValue::Array(Array::I32(dims)));
    }
    let wide = shape.iter().map(|dim| i64::try_from(*dim).ok());
    Some(MetaValue::Array(Array::I64(wide.collect::<Option<_>>()?)))
}

/// A name of at most `limit` bytes that no other tensor has: the first bytes, up to a NUL, and a
/// hash of all.
fn short_name(name: &str, limit: usize, taken: impl Fn(&str) -> bool) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut step = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().for_each(&mut step);
    let keep = name.find('\0').unwrap_or(name.len()).min(limit - 17);
    let end = (0..=keep).rev().find(|at| name.is_char_boundary(*at));
    let prefix = name.get(..end.unwrap_or(0)).unwrap_or_default();
    loop {
        let short = format!("{prefix}~{hash:016x}");
        if !taken(&short) {
            return short;
        }
        hash = hash.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests;
