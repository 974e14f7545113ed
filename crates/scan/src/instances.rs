//! Objects that something goes through while the pickle is loaded: `dict(object)`, `list(object)`, a
//! state that is an object. Python then runs methods of the object's class (`keys`, `__iter__`,
//! `__getitem__`, `__len__`) with a state that the file wrote, and classes of libraries import, open and
//! call what their states name. What a program saves goes through plain containers only.

use crate::calls::{callee_name, full_name, name_of};
use crate::code::explain;
use crate::conditions::Condition;
use crate::objects::Bench;
use crate::rules;
use crate::standing::{Standing, canonical, first_part, is_standard, standing};
use crate::states::class_of;
use ir::{Call, Object, ObjectId, Objects};

/// Items of one container that are looked at.
const MOST: usize = 256;
/// Containers that only keep their items, or ask them for a hash.
const KEEPING: &[&str] = &["deque", "frozenset", "list", "set", "tuple"];

/// Notes a call that goes through an object, and an object that is another's state.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call, known: Standing) {
    let objects = bench.objects;
    let found = match known {
        Standing::Harmless => through(objects, call),
        Standing::Conditional(Condition::Reconstructor) => {
            let args = objects.sequence(call.args).unwrap_or_default();
            args.iter()
                .copied()
                .find(|arg| instance(objects, *arg).is_some())
        }
        Standing::Conditional(Condition::CallsFirst) => handed_on(objects, call),
        _ => None,
    };
    let found = found.or_else(|| {
        let mut states = call.states().iter().flat_map(|state| {
            // A state for the object's dictionary, and one for its slots.
            let parts = match objects.get(*state) {
                Object::Tuple(parts) if parts.len() == 2 => &parts[..],
                _ => &[],
            };
            parts.iter().chain([state])
        });
        states
            .find(|state| instance(objects, **state).is_some())
            .copied()
    });
    let Some(class) = found.and_then(|found| instance(objects, found)) else {
        return;
    };
    let what = || format!("{} of {class}", callee_name(objects, call));
    let at = bench.at(id);
    bench.ledger.note(rules::INDIRECTION, &what(), at, || {
        explain(objects, id, call)
    });
}

/// The object that a harmless function goes through. One of a library is used to its own objects, but
/// for those of PyTorch and numpy, which take what they are given apart.
fn through(objects: &Objects, call: &Call) -> Option<ObjectId> {
    let (module, name) = name_of(objects, call.callee)?;
    let module = canonical(module);
    let own = first_part(&module);
    let plain = is_standard(&module);
    let strict = plain || matches!(own, "torch" | "numpy");
    let odd = |id: ObjectId| {
        class_in(objects, id)
            .is_some_and(|(module, _)| strict || first_part(&canonical(module)) != own)
    };
    let args = objects.sequence(call.args).unwrap_or_default();
    let named = call.kwargs().and_then(|named| objects.pairs(named));
    let named = named.unwrap_or_default().iter().map(|(_, value)| value);
    for arg in args.iter().chain(named).take(MOST) {
        if odd(*arg) {
            return Some(*arg);
        }
        if plain && KEEPING.contains(&&*name) {
            continue;
        }
        let inner = objects.sequence(*arg).unwrap_or_default();
        if let Some(found) = inner.iter().take(MOST).find(|id| odd(**id)) {
            return Some(*found);
        }
    }
    None
}

/// The object that a function gives to the one which it calls.
fn handed_on(objects: &Objects, call: &Call) -> Option<ObjectId> {
    let args = objects.sequence(call.args)?;
    let mut all = args.iter().skip(1).take(2).flat_map(|arg| {
        let items = objects.sequence(*arg).unwrap_or_default();
        let values = objects.pairs(*arg).unwrap_or_default();
        let values = values.iter().take(MOST).map(|(_, value)| value);
        items.iter().take(MOST).chain(values)
    });
    let own = |id: ObjectId| {
        class_in(objects, id).is_some_and(|(module, _)| first_part(module) == "pandas")
    };
    all.find(|id| instance(objects, **id).is_some() && !own(**id))
        .copied()
}

/// The name of the class of an object that is more than data.
fn instance(objects: &Objects, id: ObjectId) -> Option<String> {
    class_in(objects, id).map(|(module, name)| full_name(module, &name))
}

/// The same, in parts. One that holds nothing the file says does nothing that the file says.
fn class_in(objects: &Objects, id: ObjectId) -> Option<(&str, std::borrow::Cow<'_, str>)> {
    let Object::Call(made) = objects.get(id) else {
        return None;
    };
    if made.is_untouched() && objects.sequence(made.args).is_some_and(<[_]>::is_empty) {
        return None;
    }
    let (module, name) = class_of(objects, made)?;
    let class = matches!(
        standing(module, &name),
        Standing::KnownClass | Standing::Guarded(_) | Standing::LibraryClass { .. }
    );
    class.then_some((module, name))
}
