//! The rules for calls: what is called, with what, and what is done to its result.

use crate::code::{Signs, explain};
use crate::conditions::{self, Condition};
use crate::objects::Bench;
use crate::persistent::module_in_pid;
use crate::render::render;
use crate::rules::{self, Rule};
use crate::standing::{self, Standing};
use crate::tables::loaders::{LOADERS, loads};
use crate::{aliases, instances, planted, states};
use ir::{Call, CallKind, Object, ObjectId, Objects};
use std::borrow::Cow;

/// How many `getattr`s in a row are followed to find a name.
const MAX_STEPS: usize = 16;
/// How many objects among the arguments are looked at to see that all are numbers.
const MAX_ARGS: usize = 256;
/// How long a name fetched by `getattr` may be, and one it is fetched from.
const MAX_NAME: usize = 1024;

/// Judges a call.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call) {
    let objects = bench.objects;
    let at = bench.at(id);
    for state in call.states() {
        planted::judge(bench, *state, at);
    }
    if !call.states().is_empty() {
        states::judge(bench, call, at);
    }
    let Some(standing) = bench.standing(call.callee) else {
        let rule = match objects.get(call.callee) {
            Object::Persistent(_) => rules::PERSISTENT_CALLABLE,
            Object::Extension(_) => rules::EXTENSION_REGISTRY,
            _ => rules::INDIRECTION,
        };
        let what = || format!("call of {}", render(objects, call.callee, 80));
        let more = || explain(objects, id, call);
        bench.ledger.note_of(call.callee, rule, what, at, more);
        return;
    };
    instances::judge(bench, id, call, standing);
    aliases::judge(bench, id, call, standing);
    if let Standing::Conditional(condition) = standing {
        conditions::judge(bench, id, call, condition);
        return;
    }
    let signs = match standing {
        Standing::Harmless | Standing::Dangerous(_) => Signs::default(),
        _ => bench.texts.signs(objects, call),
    };
    let rule = match standing {
        Standing::Harmless | Standing::Conditional(_) => None,
        Standing::Dangerous(rule) => Some(rule),
        Standing::KnownClass => known_class(objects, call, signs),
        Standing::Guarded(rule) => Some(if takes_text(objects, call) {
            rule
        } else {
            rules::UNKNOWN_GLOBAL
        }),
        Standing::LibraryClass { core } => Some(if is_commanded(objects, call, core, signs) {
            rules::CONSTRUCTOR_ARGUMENTS
        } else {
            unknown_class(signs)
        }),
        Standing::UnknownClass => Some(unknown_class(signs)),
        Standing::LibraryFunction => Some(if is_bare_new(objects, call) {
            rules::UNKNOWN_GLOBAL
        } else {
            rules::LIBRARY_FUNCTION
        }),
        Standing::UnknownFunction => Some(match call.kind {
            _ if signs.code || signs.place => rules::CODE_ARGUMENT,
            CallKind::New | CallKind::NewEx(_) => rules::UNKNOWN_GLOBAL,
            _ => rules::UNKNOWN_CALL,
        }),
    };
    if let Some(rule) = rule {
        let what = || callee_name(objects, call);
        let more = || explain(objects, id, call);
        bench.ledger.note_of(call.callee, rule, what, at, more);
    }
}

/// The name a callee has: a global's, or the path that `getattr` walks from one.
///
/// Protocols before 4 write a nested class, an enum's member or an unbound method that way.
pub(crate) fn name_of(objects: &Objects, id: ObjectId) -> Option<(&str, Cow<'_, str>)> {
    let mut path: Vec<&str> = Vec::new();
    let mut id = id;
    for _ in 0..MAX_STEPS {
        if let Some((module, name)) = objects.global(id) {
            if path.is_empty() {
                return Some((module, Cow::Borrowed(name)));
            }
            if name.len() > MAX_NAME {
                return None;
            }
            path.push(name);
            path.reverse();
            return Some((module, Cow::Owned(path.join("."))));
        }
        if let Object::Persistent(pid) = objects.get(id) {
            id = module_in_pid(objects, *pid)?;
            continue;
        }
        let (module, name, call) = objects.named_call(id)?;
        if Condition::of(&standing::canonical(module), name) != Some(Condition::GetAttr) {
            return None;
        }
        let [target, attribute] = *objects.sequence(call.args)? else {
            return None;
        };
        let attribute = objects.str(attribute)?;
        if attribute.len() > MAX_NAME {
            return None;
        }
        path.push(attribute);
        id = target;
    }
    None
}

/// The name of what is called.
pub(crate) fn callee_name(objects: &Objects, call: &Call) -> String {
    name_of(objects, call.callee).map_or_else(
        || render(objects, call.callee, 80),
        |(module, name)| full_name(module, &name),
    )
}

/// `module.name`, or as much of it as a finding shows.
pub(crate) fn full_name(module: &str, name: &str) -> String {
    let short = |text: &str| text.chars().take(MAX_NAME).collect::<String>();
    if module.len().max(name.len()) > MAX_NAME {
        format!("{}.{}", short(module), short(name))
    } else {
        format!("{module}.{name}")
    }
}

fn known_class(objects: &Objects, call: &Call, signs: Signs) -> Option<Rule> {
    if signs.code {
        return Some(rules::CODE_ARGUMENT);
    }
    match call.kind {
        // `__new__` alone: what it is handed may be a named tuple's values, and only text could
        // name something to load.
        CallKind::New | CallKind::NewEx(_) => {
            hands_text(objects, call).then_some(rules::CLASS_ARGUMENTS)
        }
        _ if takes_plain(objects, call) => None,
        _ => Some(loader(objects, call).unwrap_or(rules::CLASS_ARGUMENTS)),
    }
}

/// The rule for a class known to load what its constructor is named.
fn loader(objects: &Objects, call: &Call) -> Option<Rule> {
    let (module, name) = name_of(objects, call.callee)?;
    loads(LOADERS, module, &name)
}

fn unknown_class(signs: Signs) -> Rule {
    if signs.code {
        rules::CODE_ARGUMENT
    } else {
        rules::UNKNOWN_GLOBAL
    }
}

/// Whether a library's class is told what to do: a path, an address, a command.
fn is_commanded(objects: &Objects, call: &Call, core: bool, signs: Signs) -> bool {
    let constructs = matches!(call.kind, CallKind::Reduce | CallKind::Inst | CallKind::Obj);
    if core {
        takes_text(objects, call)
    } else {
        constructs && !is_plain_word(objects, call) && signs.text
    }
}

/// `class.__new__(class)` and nothing more: no constructor runs.
fn is_bare_new(objects: &Objects, call: &Call) -> bool {
    matches!(call.kind, CallKind::New)
        && objects.sequence(call.args).is_some_and(<[_]>::is_empty)
        && name_of(objects, call.callee)
            .is_some_and(|(module, _)| !module.starts_with("torch") && !module.starts_with("numpy"))
}

/// Whether text, bytes, a callable or a call's result is among the arguments.
fn takes_text(objects: &Objects, call: &Call) -> bool {
    takes_any(objects, call, |object| !is_number(object))
}

fn is_number(object: &Object) -> bool {
    matches!(
        object,
        Object::None
            | Object::Bool(_)
            | Object::Int(_)
            | Object::BigInt(_)
            | Object::Float(_)
            | Object::Tensor(_)
    )
}

/// Whether text itself is among the arguments; what calls made of text is judged there.
fn hands_text(objects: &Objects, call: &Call) -> bool {
    takes_any(objects, call, |object| gives_text(objects, object))
}

/// Whether it is text, or a call that is known to give some.
pub(crate) fn gives_text(objects: &Objects, object: &Object) -> bool {
    let Object::Call(call) = object else {
        return is_text(object);
    };
    let name = name_of(objects, call.callee);
    name.is_some_and(|(module, name)| {
        let module = standing::canonical(module);
        matches!(
            (&*module, &*name),
            ("builtins", "bytearray" | "bytes" | "memoryview" | "str")
                | ("_codecs", "encode")
                | ("numpy", "bytes_" | "str_")
                | ("numpy.core.multiarray", "scalar")
        ) || module == "pathlib"
            || module.starts_with("pathlib.")
    })
}

pub(crate) fn is_text(object: &Object) -> bool {
    matches!(
        object,
        Object::Str(_) | Object::WildStr(_) | Object::Bytes(_) | Object::ByteArray(_)
    )
}

/// Whether an argument, or an item of a sequence among them, is of a kind; so it counts if there
/// are too many to look at.
fn takes_any(objects: &Objects, call: &Call, kind: impl Fn(&Object) -> bool) -> bool {
    let keywords = call.kwargs().and_then(|kwargs| objects.pairs(kwargs));
    let keywords = keywords.unwrap_or_default().iter().map(|(_, value)| *value);
    let start: Vec<ObjectId> = keywords.take(MAX_ARGS).chain([call.args]).collect();
    holds_any(objects, start, kind)
}

/// The same for objects and what the sequences and mappings among them hold.
pub(crate) fn holds_any(
    objects: &Objects,
    mut todo: Vec<ObjectId>,
    kind: impl Fn(&Object) -> bool,
) -> bool {
    let mut looked_at = 0;
    while let Some(id) = todo.pop() {
        looked_at += 1;
        match objects.get(id) {
            Object::Tuple(items) | Object::List(items) => {
                todo.extend(items.iter().take(MAX_ARGS));
            }
            object if kind(object) => return true,
            Object::Dict(pairs) => {
                todo.extend(pairs.iter().map(|(_, value)| *value).take(MAX_ARGS));
            }
            _ => {}
        }
        if looked_at + todo.len() > MAX_ARGS {
            return true;
        }
    }
    false
}

/// Whether the arguments are numbers and tensors.
fn takes_plain(objects: &Objects, call: &Call) -> bool {
    let no_keywords = call
        .kwargs()
        .is_none_or(|kwargs| objects.pairs(kwargs).is_some_and(<[_]>::is_empty));
    let text = |object: &Object| !is_number(object) && !is_stored_tensor(objects, object);
    no_keywords && !takes_any(objects, call, text)
}

/// Whether it is a tensor of a storage of the file, of PyTorch's own class.
fn is_stored_tensor(objects: &Objects, object: &Object) -> bool {
    let Object::Call(call) = object else {
        return false;
    };
    let made = matches!(
        objects.global(call.callee),
        Some(("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor"))
    );
    let storage = objects.sequence(call.args).and_then(|args| args.first());
    let stored = |id: &ObjectId| matches!(objects.get(*id), Object::Persistent(_));
    made && call.is_untouched() && storage.is_some_and(stored)
}

/// Whether the one argument is a plain word.
fn is_plain_word(objects: &Objects, call: &Call) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
    match objects.sequence(call.args) {
        Some([only]) => objects
            .str(*only)
            .is_some_and(|word| word.len() <= 64 && word.chars().all(plain)),
        _ => false,
    }
}
