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
use std::collections::{HashMap, HashSet};

/// What is known of the objects of one pickle.
#[derive(Default)]
pub(crate) struct Known {
    /// Whether an object is one of a class, for each that was asked for.
    instances: HashMap<ObjectId, bool>,
    /// Containers that were looked into, and as what. Many calls may share one.
    passed: HashSet<(ObjectId, As)>,
    /// Whether arguments have anything in them that can be gone through.
    worth: HashMap<ObjectId, bool>,
}

/// What a container was looked into as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum As {
    Arguments(Way),
    Conditional(Condition),
    Items,
    State,
    /// With all that it holds.
    Whole,
}

/// How a function treats what it is handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Way {
    /// It keeps items, or asks them for a hash.
    Keeps,
    /// It goes through each argument, and may go through its items.
    Opens,
}

/// Notes a call that goes through an object, and an object that is another's state.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call, known: Standing) {
    let objects = bench.objects;
    let found = match known {
        Standing::Harmless => harmless(bench, call),
        Standing::Conditional(condition) => conditional(bench, call, condition),
        _ => None,
    };
    let Some(found) = found.or_else(|| state(bench, call, known)) else {
        return;
    };
    let class = match objects.get(found) {
        Object::Call(made) => class_of(objects, made),
        _ => None,
    };
    let class = class.map_or_else(String::new, |(m, n)| format!(" of {}", full_name(m, &n)));
    let what = format!("{}{class}", callee_name(objects, call));
    let at = bench.at(id);
    let more = || explain(objects, id, call);
    bench.ledger.note(rules::INDIRECTION, &what, at, more);
}

/// The object that a harmless function goes through.
fn harmless(bench: &mut Bench<'_>, call: &Call) -> Option<ObjectId> {
    let objects = bench.objects;
    let Some(args) = objects.sequence(call.args) else {
        // Whoever writes arguments writes a tuple.
        return bench.holds(call.args);
    };
    let named = call.kwargs().filter(|named| bench.is_worth(*named));
    if !bench.is_worth(call.args) && named.is_none() {
        return None;
    }
    let (module, name) = name_of(objects, call.callee)?;
    let module = canonical(module);
    // A function of a library is used to objects, but for those of these, which take apart what they
    // are given.
    let plain = is_standard(&module);
    if !plain && !matches!(first_part(&module), "numpy" | "torch" | "transformers") {
        return None;
    }
    if leaves(&module, &name) {
        return None;
    }
    let first = args.first().copied();
    let bare = (&*module, &*name) == ("types", "GenericAlias");
    if bare && first.is_some_and(|id| objects.global(id).is_none()) {
        return first;
    }
    let way = if plain && keeps(&name) {
        Way::Keeps
    } else {
        Way::Opens
    };
    // A storage saved by itself is a checkpoint in bytes, and tensors are made of it.
    let storage = is_rebuild(&module, &name) && first.is_some_and(|id| is_nested(objects, id));
    let args = args.get(usize::from(storage)..).unwrap_or_default();
    let found = bench.among(call.args, args, way);
    found.or_else(|| {
        let pairs = objects.pairs(named?)?;
        let values: Vec<ObjectId> = pairs.iter().map(|(_, value)| *value).collect();
        bench.among(named?, &values, way)
    })
}

/// Whether a function makes a tensor, or a parameter of one.
fn is_rebuild(module: &str, name: &str) -> bool {
    module == "torch._utils" && name.starts_with("_rebuild_")
}

/// Whether it is a dictionary, of a kind that PyTorch makes, or nothing that has items.
fn is_dict(objects: &Objects, id: ObjectId) -> bool {
    match objects.get(id) {
        Object::Call(made) => class_of(objects, made)
            .is_some_and(|(module, name)| module == "collections" && name == "OrderedDict"),
        object => matches!(object, Object::Dict(_) | Object::None),
    }
}

/// Whether a call makes a tensor, and nothing is done to that.
pub(crate) fn is_tensor(objects: &Objects, made: &Call) -> bool {
    let name = name_of(objects, made.callee).filter(|_| made.is_untouched());
    name.is_some_and(|(module, name)| is_rebuild(&canonical(module), &name))
}

/// Whether it is what a checkpoint in bytes holds, whatever that is.
fn is_nested(objects: &Objects, id: ObjectId) -> bool {
    let Object::Call(made) = objects.get(id) else {
        return false;
    };
    name_of(objects, made.callee).is_some_and(|(module, name)| {
        standing(module, &name) == Standing::Conditional(Condition::LoadFromBytes)
    })
}

/// Whether a class or function of Python's own goes through what it is handed, and keeps the items.
fn keeps(name: &str) -> bool {
    matches!(
        name,
        "deque"
            | "enumerate"
            | "frozenset"
            | "iter"
            | "list"
            | "reversed"
            | "set"
            | "tuple"
            | "zip"
    )
}

/// Whether what it is handed stays as it is: exceptions, slices, times with their zone, parameters.
fn leaves(module: &str, name: &str) -> bool {
    let error = ["Error", "Exception", "Warning"];
    module == "datetime"
        || module == "builtins" && (name == "slice" || error.iter().any(|end| name.ends_with(end)))
}

/// Whether a module's classes are arrays, indexes and the values in them, which do nothing of their own
/// where they are gone through: what they hold is.
fn is_array(module: &str) -> bool {
    const HOMES: &[&str] = &[
        "pandas._libs.",
        "pandas.core.arrays.",
        "pandas.core.dtypes.",
        "pandas.core.indexes.",
    ];
    matches!(module, "pandas" | "pandas.arrays")
        || HOMES.iter().any(|home| module.starts_with(home))
}

/// The object that a function goes through which calls another, or makes an instance.
fn conditional(bench: &mut Bench<'_>, call: &Call, condition: Condition) -> Option<ObjectId> {
    let objects = bench.objects;
    let args = objects.sequence(call.args)?;
    let callee = *args.first()?;
    let new = bench
        .known
        .passed
        .insert((call.args, As::Conditional(condition)));
    let rest = args.get(1..).filter(|_| new).unwrap_or_default();
    let plain = |id: ObjectId| {
        let name = name_of(objects, id);
        name.filter(|(module, name)| standing(module, name) == Standing::Harmless)
    };
    match condition {
        Condition::CallsFirst => rest.iter().find_map(|arg| {
            // The arguments of a function that makes a tensor, of which the first may be its storage.
            let items = objects.sequence(*arg).unwrap_or_default();
            let storage = items.first().is_some_and(|id| is_nested(objects, *id));
            let rebuilds = name_of(objects, callee)
                .is_some_and(|(module, name)| is_rebuild(&canonical(module), &name));
            if storage && rebuilds {
                let items = items.get(1..).unwrap_or_default();
                return bench.among(*arg, items, Way::Keeps);
            }
            let values = objects.pairs(*arg).unwrap_or_default().iter();
            let values: Vec<ObjectId> = values.map(|(_, value)| *value).collect();
            let inside = bench.among(*arg, &values, Way::Keeps);
            inside.or_else(|| bench.opened(*arg, Way::Opens))
        }),
        Condition::Reconstructor => {
            let base = rest.first().and_then(|base| plain(*base));
            let keeps = base.is_some_and(|(_, name)| keeps(&name));
            let way = if keeps { Way::Keeps } else { Way::Opens };
            rest.iter().take(2).find_map(|arg| bench.opened(*arg, way))
        }
        Condition::NewObj => {
            plain(callee)?;
            rest.iter().find_map(|arg| bench.opened(*arg, Way::Opens))
        }
        Condition::Partial => {
            let mut all = call.states().iter().copied().chain([call.args]);
            all.find_map(|parts| {
                let kept = objects.sequence(parts)?;
                plain(*kept.first()?)?;
                bench.among(parts, kept.get(1..)?, Way::Opens)
            })
        }
        _ => None,
    }
}

/// An object that is a state, of the dictionary of another or of its slots; or what an optimizer goes
/// through in its own.
fn state(bench: &mut Bench<'_>, call: &Call, known: Standing) -> Option<ObjectId> {
    let objects = bench.objects;
    if known == Standing::UnknownClass {
        return None;
    }
    for state in call.states() {
        if bench.is_instance(*state) {
            return Some(*state);
        }
        if let Object::Call(made) = objects.get(*state)
            && !made.states().is_empty()
            && let Some(found) = bench.holds(*state)
        {
            return Some(found);
        }
        if let Object::Tuple(parts) = objects.get(*state)
            && let [dict, slots] = **parts
        {
            let mut plain = [dict, slots].into_iter();
            let plain = plain.all(|part| {
                let data = matches!(objects.get(part), Object::None | Object::Dict(_));
                data || bench.is_instance(part)
            });
            let found = [dict, slots]
                .into_iter()
                .find(|part| bench.is_instance(*part));
            if plain && found.is_some() {
                return found;
            }
        }
        if !bench.known.passed.insert((*state, As::State)) {
            continue;
        }
        for (key, value) in objects.pairs(*state).unwrap_or_default() {
            match objects.str(*key) {
                Some("param_groups") => {
                    let items = objects.sequence(*value).unwrap_or_default();
                    let found = Some(*value).filter(|id| bench.is_instance(*id));
                    let found = found.or_else(|| bench.among(*value, items, Way::Keeps));
                    if found.is_some() {
                        return found;
                    }
                }
                // A module looks its attributes up in these.
                Some("_buffers" | "_modules" | "_parameters") if !is_dict(objects, *value) => {
                    return Some(*value);
                }
                _ => {}
            }
        }
    }
    None
}

impl Bench<'_> {
    /// The object that is gone through where these arguments, which stand in a container, are.
    fn among(&mut self, container: ObjectId, args: &[ObjectId], way: Way) -> Option<ObjectId> {
        let new = self.known.passed.insert((container, As::Arguments(way)));
        let mut args = args.iter().filter(|_| new);
        args.find_map(|arg| self.opened(*arg, way))
    }

    /// Whether arguments hold a call's result or a container.
    fn is_worth(&mut self, args: ObjectId) -> bool {
        if let Some(known) = self.known.worth.get(&args) {
            return *known;
        }
        let objects = self.objects;
        let worth = |id: &ObjectId| match objects.get(*id) {
            Object::Call(_) => true,
            Object::List(items) | Object::Tuple(items) => !items.is_empty(),
            _ => false,
        };
        let mut items = objects.sequence(args).unwrap_or_default().iter();
        let mut values = objects.pairs(args).unwrap_or_default().iter();
        let is = items.any(worth) || values.any(|(_, value)| worth(value));
        self.known.worth.insert(args, is);
        is
    }

    /// The object that is gone through where an argument is.
    fn opened(&mut self, arg: ObjectId, way: Way) -> Option<ObjectId> {
        if self.is_instance(arg) {
            return Some(arg);
        }
        let objects = self.objects;
        match objects.get(arg) {
            // What a call made: of one that keeps, what it holds is not touched yet.
            Object::Call(made) if way == Way::Opens || !made.states().is_empty() => self.holds(arg),
            Object::List(items) | Object::Tuple(items) if way == Way::Opens => {
                if !self.known.passed.insert((arg, As::Items)) {
                    return None;
                }
                let mut items = items.iter().copied();
                items.find(|item| self.is_instance(*item))
            }
            _ => None,
        }
    }

    /// An object that is, or is held by, what calls and containers make, however deep.
    fn holds(&mut self, start: ObjectId) -> Option<ObjectId> {
        let objects = self.objects;
        let mut todo = vec![start];
        while let Some(id) = todo.pop() {
            if self.is_instance(id) {
                return Some(id);
            }
            if !self.known.passed.insert((id, As::Whole)) {
                continue;
            }
            match objects.get(id) {
                Object::List(items)
                | Object::Tuple(items)
                | Object::Set(items)
                | Object::FrozenSet(items) => todo.extend(items.iter()),
                Object::Dict(pairs) => {
                    todo.extend(pairs.iter().flat_map(|(key, value)| [*key, *value]));
                }
                // A tensor: what it is made of is judged by itself.
                Object::Call(made) if is_tensor(objects, made) => {}
                Object::Call(made) => {
                    todo.push(made.args);
                    todo.extend(made.kwargs());
                    todo.extend(made.states().iter().chain(made.items()));
                    todo.extend(made.pairs().iter().flat_map(|(key, value)| [*key, *value]));
                }
                _ => {}
            }
        }
        None
    }

    /// Whether it is more than data: it holds what the file says, and a library's class does with it
    /// what it likes.
    fn is_instance(&mut self, id: ObjectId) -> bool {
        let objects = self.objects;
        let Object::Call(made) = objects.get(id) else {
            return false;
        };
        if let Some(known) = self.known.instances.get(&id) {
            return *known;
        }
        let bare = made.is_untouched()
            && made.kwargs().is_none()
            && objects.sequence(made.args).is_some_and(<[_]>::is_empty);
        let class = (!bare).then(|| class_of(objects, made)).flatten();
        let is = class.is_some_and(|(module, name)| {
            !is_array(module)
                && matches!(
                    standing(module, &name),
                    Standing::KnownClass
                        | Standing::Guarded(_)
                        | Standing::LibraryClass { .. }
                        | Standing::Conditional(Condition::Config | Condition::LoadFromBytes)
                )
        });
        self.known.instances.insert(id, is);
        is
    }
}
