//! Objects that are filled under another name: by what a function gives back that was handed it, through an
//! object that keeps it, or as what the whole process shares. Each object is judged by what the file does to
//! it; what comes to it by such a way is not seen there. What a program saves is filled where it is made.

use crate::calls::{callee_name, name_of};
use crate::code::explain;
use crate::instances::is_tensor;
use crate::objects::Bench;
use crate::rules::{self, Rule};
use crate::standing::{Standing, is_class_like};
use crate::states::class_of;
use ir::{Call, CallKind, Object, ObjectId, Objects};

/// Notes a call to whose result something is done that may be done to another object.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call, known: Standing) {
    if call.is_untouched() {
        return;
    }
    let objects = bench.objects;
    let rule = match known {
        Standing::Harmless => harmless(objects, call),
        _ => None,
    };
    // A program gives an object one state. A class may have made the first its own dictionary, which is
    // another's as well.
    let twice = call.states().len() > 1;
    // Slots are set by the class's `__setattr__`, which finds what the dictionary has just put there.
    let library = matches!(known, Standing::KnownClass | Standing::LibraryClass { .. });
    let plain = objects.global(call.callee) == Some(PLAIN);
    let both = |state: &ObjectId| has_both(objects, *state);
    let slots = library && !plain && call.states().iter().any(both);
    let other = known != Standing::UnknownClass && fills(bench, call);
    let wrong = twice || slots || other;
    let Some(rule) = rule.or(wrong.then_some(rules::INDIRECTION)) else {
        return;
    };
    let at = bench.at(id);
    let what = || callee_name(objects, call);
    let more = || explain(objects, id, call);
    bench.ledger.note_of(call.callee, rule, what, at, more);
}

/// A class that has both a dictionary and slots, and no `__setattr__`.
const PLAIN: (&str, &str) = ("scipy.interpolate._interpolate", "interp1d");

/// Whether a state fills an object's dictionary and its slots.
fn has_both(objects: &Objects, state: ObjectId) -> bool {
    let Object::Tuple(parts) = objects.get(state) else {
        return false;
    };
    let filled = |id: &ObjectId| objects.pairs(*id).is_some_and(|pairs| !pairs.is_empty());
    parts.len() == 2 && parts.iter().all(filled)
}

/// The rule for what a harmless class or function gives that is no object of its own.
fn harmless(objects: &Objects, call: &Call) -> Option<Rule> {
    let (_, name) = name_of(objects, call.callee)?;
    // A member of an enum, looked up by its value.
    if !call.states().is_empty() && is_lookup(objects, call) {
        return Some(rules::STATE_POISONING);
    }
    (!is_made(&name)).then_some(rules::INDIRECTION)
}

/// Whether a class is called with one word or number, as enums are.
fn is_lookup(objects: &Objects, call: &Call) -> bool {
    let only = objects.sequence(call.args).unwrap_or_default();
    let word = |id: &ObjectId| matches!(objects.get(*id), Object::Str(_) | Object::Int(_));
    let name = name_of(objects, call.callee).filter(|_| call.kind == CallKind::Reduce);
    only.len() == 1
        && only.iter().all(word)
        && name.is_some_and(|(module, name)| {
            // Exceptions have attributes.
            let error = module == "builtins" || name.ends_with("Error");
            is_class_like(&name) && !error
        })
}

/// Whether what something harmless gives is an object of its own. Other functions may give back what
/// they are handed: what a state then fills is that, which was judged without it.
fn is_made(name: &str) -> bool {
    const MAKERS: &[&str] = &[
        "_mareconstruct",
        "_reconstruct",
        "array",
        "bytearray",
        "chain",
        "coo_array",
        "coo_matrix",
        "count",
        "csc_array",
        "csc_matrix",
        "csr_array",
        "csr_matrix",
        "cycle",
        "defaultdict",
        "deque",
        "dict",
        "dok_matrix",
        "dtype",
        "finfo",
        "fragment_address",
        "iinfo",
        "islice",
        "lil_matrix",
        "list",
        "matrix",
        "ndarray",
        "poly1d",
        "recarray",
        "record",
        "repeat",
        "set",
        "tensor_fragment",
        "timezone",
        "tzlocal",
        "tzutc",
    ];
    let last = name.rsplit('.').next().unwrap_or(name);
    let class = is_class_like(last) && last != "GenericAlias";
    class || last.starts_with("_rebuild_") || MAKERS.binary_search(&last).is_ok()
}

/// Whether an object that is no list or dictionary is filled like one: what it does with the items, its
/// class says, or its state. Some put them into a container that they were handed, which is another's
/// state by then.
fn fills(bench: &mut Bench<'_>, call: &Call) -> bool {
    const LISTS: &[&str] = &[
        "BoxList",
        "LogitsProcessorList",
        "StoppingCriteriaList",
        "_array_reconstructor",
        "array",
        "bytearray",
        "deque",
        "list",
        "set",
    ];
    // Of `dict`; what of them has a state keeps its items there as well.
    const DICTS: &[&str] = &[
        "AttrDict",
        "AttributeDict",
        "Box",
        "Bunch",
        "CfgNode",
        "ClassInstantier",
        "ConfigDict",
        "Counter",
        "DefaultMunch",
        "Dict",
        "EasyDict",
        "Munch",
        "OrderedDict",
        "defaultdict",
        "dict",
    ];
    let objects = bench.objects;
    let Some((_, name)) = class_of(objects, call) else {
        return false;
    };
    let last = name.rsplit('.').next().unwrap_or(&name);
    if !call.items().is_empty() && LISTS.binary_search(&last).is_err() {
        return true;
    }
    // Outputs of transformers' models are dictionaries by another name.
    let dict = DICTS.binary_search(&last).is_ok() || last.contains("Output");
    if call.pairs().is_empty() || dict {
        return false;
    }
    // A container of its own is nobody else's.
    let mut todo: Vec<ObjectId> = call.states().iter().copied().chain([call.args]).collect();
    while let Some(part) = todo.pop() {
        let inner: Vec<ObjectId> = match objects.get(part) {
            Object::List(items) | Object::Tuple(items) => items.to_vec(),
            Object::Dict(pairs) => pairs.iter().map(|(_, value)| *value).collect(),
            Object::Call(made) if is_tensor(objects, made) => continue,
            Object::Call(made) => {
                let held = made.states().iter().chain(made.items()).copied();
                let pairs = made.pairs().iter().map(|(_, value)| *value);
                held.chain(pairs).chain([made.args]).collect()
            }
            _ => continue,
        };
        let empty = matches!(objects.get(part), Object::Tuple(_)) && inner.is_empty();
        if bench.uses.shared(part) && !empty {
            return true;
        }
        // What was looked through for one object has nothing for another.
        if bench.filled.insert(part) {
            todo.extend(inner);
        }
    }
    false
}
