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
use std::borrow::Cow;

/// Items of one container that are looked at.
const MOST: usize = 256;
/// Containers that only keep their items, or ask them for a hash.
const KEEPING: &[&str] = &["deque", "frozenset", "list", "set", "tuple"];

/// Module and name of a class.
type Class<'a> = (&'a str, Cow<'a, str>);

/// Notes a call that goes through an object, and an object that is another's state.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call, known: Standing) {
    let objects = bench.objects;
    let found = match known {
        Standing::Harmless => through(bench, call),
        Standing::Conditional(Condition::Reconstructor) => {
            let args = objects.sequence(call.args).unwrap_or_default();
            args.iter().take(3).find_map(|arg| class_in(objects, *arg))
        }
        Standing::Conditional(Condition::CallsFirst) => handed_on(bench, call),
        _ => None,
    };
    let Some((module, name)) = found.or_else(|| state(objects, call)) else {
        return;
    };
    let what = format!(
        "{} of {}",
        callee_name(objects, call),
        full_name(module, &name)
    );
    let at = bench.at(id);
    let more = || explain(objects, id, call);
    bench.ledger.note(rules::INDIRECTION, &what, at, more);
}

/// An object that is a state, of the dictionary of another or of its slots.
fn state<'a>(objects: &'a Objects, call: &Call) -> Option<Class<'a>> {
    call.states().iter().find_map(|state| {
        let parts = match objects.get(*state) {
            Object::Tuple(parts) if parts.len() == 2 => &parts[..],
            _ => &[],
        };
        let mut all = parts.iter().chain([state]);
        all.find_map(|state| class_in(objects, *state))
    })
}

/// The object that a harmless function goes through. One of a library is used to its own objects, but
/// for those of PyTorch and numpy, which take what they are given apart.
fn through<'a>(bench: &mut Bench<'a>, call: &Call) -> Option<Class<'a>> {
    let objects = bench.objects;
    let args = objects.sequence(call.args).unwrap_or_default();
    let named = call.kwargs().and_then(|named| objects.pairs(named));
    let named = named.unwrap_or_default().iter().map(|(_, value)| value);
    let all: Vec<ObjectId> = args.iter().chain(named).take(MOST).copied().collect();
    let worth = |id: &ObjectId| {
        let held = objects.sequence(*id).is_some_and(|items| !items.is_empty());
        held || matches!(objects.get(*id), Object::Call(_))
    };
    if !all.iter().any(worth) {
        return None;
    }
    let (module, name) = name_of(objects, call.callee)?;
    let module = canonical(module);
    let plain = is_standard(&module);
    let own = match first_part(&module) {
        _ if plain => "",
        "torch" | "numpy" => "",
        own => own,
    };
    let keeps = plain && KEEPING.contains(&&*name);
    let odd = |id: ObjectId| {
        let class = class_in(objects, id)?;
        (own.is_empty() || first_part(&canonical(class.0)) != own).then_some(class)
    };
    for arg in all {
        let found = odd(arg).or_else(|| {
            let inside = !keeps && bench.gone_through.insert((arg, own.to_owned()));
            let items = objects.sequence(arg).filter(|_| inside);
            let mut items = items.unwrap_or_default().iter().take(MOST);
            items.find_map(|id| odd(*id))
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// The object that a function gives to the one which it calls.
fn handed_on<'a>(bench: &mut Bench<'a>, call: &Call) -> Option<Class<'a>> {
    let objects = bench.objects;
    let args = objects.sequence(call.args)?;
    args.iter().skip(1).take(2).find_map(|arg| {
        if !bench.gone_through.insert((*arg, "handed on".to_owned())) {
            return None;
        }
        let items = objects.sequence(*arg).unwrap_or_default().iter();
        let values = objects.pairs(*arg).unwrap_or_default().iter();
        let mut all = items.chain(values.map(|(_, value)| value)).take(MOST);
        all.find_map(|id| {
            class_in(objects, *id).filter(|(module, _)| first_part(module) != "pandas")
        })
    })
}

/// The class of an object that is more than data: it holds what the file says, and a library's class
/// does with it what it likes.
fn class_in(objects: &Objects, id: ObjectId) -> Option<Class<'_>> {
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
