//! The rules for calls: what is called, with what, and what is done to its result.

use crate::conditions::Condition;
use crate::objects::{Bench, DETAIL_CHARS};
use crate::render::{is_unprintable, render};
use crate::rules::{self, Rule};
use crate::standing::{self, Standing, is_class_like, is_dunder};
use ir::{Call, CallKind, Object, ObjectId, Objects};
use std::borrow::Cow;

/// How many `getattr`s in a row are followed to find a name.
const MAX_STEPS: usize = 16;
/// How many nodes of a persistent id are looked at: an honest one has about six.
const MAX_PID_NODES: usize = 64;
/// How much of a text is searched for code.
const MAX_SEARCHED: usize = 1 << 16;

/// Judges a call.
pub(crate) fn judge(bench: &mut Bench<'_>, id: ObjectId, call: &Call) {
    let objects = bench.objects;
    let at = bench.at(id);
    for state in &call.states {
        planted_methods(bench, *state, at);
    }
    let Some((module, name)) = name_of(objects, call.callee) else {
        let rule = match objects.get(call.callee) {
            Object::Persistent(_) => rules::PERSISTENT_CALLABLE,
            Object::Extension(_) => rules::EXTENSION_REGISTRY,
            _ => rules::INDIRECTION,
        };
        let what = format!("call of {}", render(objects, call.callee, 80));
        bench
            .ledger
            .note(rule, &what, at, || explain(objects, id, call));
        return;
    };
    let what = format!("{module}.{name}");
    let standing = standing::standing(module, &name);
    if let Standing::Conditional(condition) = standing {
        conditional(bench, id, call, condition, &what);
        return;
    }
    let rule = match standing {
        Standing::Harmless | Standing::Conditional(_) => None,
        Standing::Dangerous(rule) => Some(rule),
        Standing::KnownClass => known_class(objects, call),
        Standing::Guarded(rule) => Some(if takes_text(objects, call) {
            rule
        } else {
            rules::UNKNOWN_GLOBAL
        }),
        Standing::LibraryClass { core } => Some(if core && takes_text(objects, call) {
            rules::CONSTRUCTOR_ARGUMENTS
        } else {
            unknown_class(objects, call)
        }),
        Standing::UnknownClass => Some(unknown_class(objects, call)),
        Standing::LibraryFunction => Some(if is_bare_new(objects, call) {
            rules::UNKNOWN_GLOBAL
        } else {
            rules::LIBRARY_FUNCTION
        }),
        Standing::UnknownFunction => Some(match call.kind {
            _ if args_read_like(objects, call, Reading::Anything) => rules::CODE_ARGUMENT,
            CallKind::New | CallKind::NewEx => rules::UNKNOWN_GLOBAL,
            _ => rules::UNKNOWN_CALL,
        }),
    };
    if let Some(rule) = rule {
        bench
            .ledger
            .note(rule, &what, at, || explain(objects, id, call));
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
        path.push(objects.str(attribute)?);
        id = target;
    }
    None
}

fn known_class(objects: &Objects, call: &Call) -> Option<Rule> {
    if args_read_like(objects, call, Reading::Code) {
        return Some(rules::CODE_ARGUMENT);
    }
    let plain = match call.kind {
        CallKind::New | CallKind::NewEx => true,
        _ => takes_plain(objects, call),
    };
    (!plain).then_some(rules::CLASS_ARGUMENTS)
}

fn unknown_class(objects: &Objects, call: &Call) -> Rule {
    if args_read_like(objects, call, Reading::Code) {
        rules::CODE_ARGUMENT
    } else {
        rules::UNKNOWN_GLOBAL
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
    let Some(args) = objects.sequence(call.args) else {
        return true;
    };
    let keywords = call.kwargs.and_then(|kwargs| objects.pairs(kwargs));
    let keywords = keywords.unwrap_or_default().iter().map(|(_, value)| *value);
    args.iter().copied().chain(keywords).any(|arg| {
        !matches!(
            objects.get(arg),
            Object::None
                | Object::Bool(_)
                | Object::Int(_)
                | Object::BigInt(_)
                | Object::Float(_)
                | Object::Tensor(_)
                | Object::Tuple(_)
                | Object::List(_)
        )
    })
}

/// Whether the arguments are numbers and tensors, or one plain word: an enum's value.
fn takes_plain(objects: &Objects, call: &Call) -> bool {
    let no_keywords = call
        .kwargs
        .is_none_or(|kwargs| objects.pairs(kwargs).is_some_and(<[_]>::is_empty));
    let Some(args) = objects.sequence(call.args) else {
        return false;
    };
    if let [only] = args
        && let Some(word) = objects.str(*only)
    {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | ' ');
        return no_keywords && word.len() <= 64 && word.chars().all(plain);
    }
    no_keywords && !takes_text(objects, call)
}

fn conditional(bench: &mut Bench<'_>, id: ObjectId, call: &Call, condition: Condition, what: &str) {
    let objects = bench.objects;
    let args = objects.sequence(call.args).unwrap_or_default();
    let first = args.first().copied();
    let only = if let [only] = args { Some(*only) } else { None };
    let (rule, subject) = match condition {
        Condition::GetAttr => match attribute(bench, id, args) {
            Some((rule, subject)) => (Some(rule), subject),
            None => (None, String::new()),
        },
        Condition::TypeOfSingleton => {
            let singleton = only.is_some_and(|arg| {
                matches!(objects.get(arg), Object::None)
                    || matches!(
                        objects.global(arg),
                        Some(("builtins", "Ellipsis" | "NotImplemented"))
                    )
            });
            ((!singleton).then_some(rules::INDIRECTION), String::new())
        }
        Condition::GetItem => {
            let generic = first
                .and_then(|arg| objects.global(arg))
                .is_some_and(|(m, n)| {
                    matches!(
                        &*standing::canonical(m),
                        "typing" | "typing_extensions" | "builtins"
                    ) && standing::is_listed(&standing::canonical(m), n)
                });
            let fine = generic && args.len() == 2;
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::Partial => {
            let states = call.states.iter().filter_map(|state| {
                let parts = objects.sequence(*state)?;
                parts.first().copied()
            });
            let fine = first
                .into_iter()
                .chain(states)
                .all(|callee| may_be_kept(objects, callee))
                && first.is_some();
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::Reconstructor => {
            let base = args.get(1).and_then(|base| objects.global(*base));
            let base = base.is_some_and(|(m, n)| standing::standing(m, n) == Standing::Harmless);
            let fine = args.len() == 3 && base && first.is_some_and(|c| makes_class(objects, c));
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::NewObj => {
            let fine = first.is_some_and(|class| makes_class(objects, class));
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::LoadFromBytes => {
            let fine = only.is_some_and(|arg| is_constant_bytes(objects, arg));
            ((!fine).then_some(rules::NESTED_PICKLE), String::new())
        }
        Condition::Encode => {
            let fine = match args {
                [text] => is_text(objects, *text),
                [text, codec] => {
                    is_text(objects, *text) && objects.str(*codec).is_some_and(is_plain_codec)
                }
                _ => false,
            };
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::CallsFirst => {
            let fine = first.is_some_and(|callee| is_builder(objects, callee));
            ((!fine).then_some(rules::INDIRECTION), String::new())
        }
        Condition::GetLogger => {
            let named = only.is_some_and(|arg| objects.str(arg).is_some());
            let untouched =
                call.states.is_empty() && call.items.is_empty() && call.pairs.is_empty();
            let fine = named && untouched;
            ((!fine).then_some(rules::STATE_POISONING), String::new())
        }
    };
    if let Some(rule) = rule {
        let what = if subject.is_empty() { what } else { &subject };
        let at = bench.at(id);
        bench
            .ledger
            .note(rule, what, at, || explain(objects, id, call));
    }
}

/// The rule for a `getattr`, and what it fetches.
fn attribute(bench: &Bench<'_>, id: ObjectId, args: &[ObjectId]) -> Option<(Rule, String)> {
    let objects = bench.objects;
    let fetch = |rule| Some((rule, String::new()));
    let [target, attribute] = *args else {
        return fetch(rules::INDIRECTION);
    };
    let Some(attribute) = objects.str(attribute) else {
        return fetch(rules::INDIRECTION);
    };
    let used = bench.uses.called(id) || bench.uses.handed(id);
    if let Some((module, name)) = name_of(objects, id) {
        let subject = format!("{module}.{name}");
        let base = name
            .strip_suffix(attribute)
            .and_then(|n| n.strip_suffix('.'));
        let listed =
            base.is_some_and(|base| standing::standing(module, base) == Standing::Harmless);
        let rule = match standing::standing(module, &name) {
            Standing::Harmless | Standing::KnownClass => return None,
            Standing::LibraryClass { .. } | Standing::UnknownClass if listed => return None,
            Standing::LibraryClass { .. } | Standing::UnknownClass => rules::UNKNOWN_GLOBAL,
            // What is called is judged there, and with its arguments.
            Standing::LibraryFunction | Standing::UnknownFunction if bench.uses.called(id) => {
                return None;
            }
            Standing::LibraryFunction if used => rules::LIBRARY_FUNCTION,
            Standing::UnknownFunction if used => rules::UNKNOWN_CALL,
            Standing::LibraryFunction | Standing::UnknownFunction => rules::ATTRIBUTE_LOOKUP,
            Standing::Dangerous(_) | Standing::Conditional(_) | Standing::Guarded(_) => {
                rules::INDIRECTION
            }
        };
        return Some((rule, subject));
    }
    // A bound method: of an instance of some class that may be in a checkpoint, and left alone.
    let instance = match objects.get(target) {
        Object::Call(made) => name_of(objects, made.callee).is_some_and(|(module, name)| {
            matches!(
                standing::standing(module, &name),
                Standing::KnownClass
                    | Standing::UnknownClass
                    | Standing::LibraryClass { core: false }
            )
        }),
        _ => false,
    };
    if instance && !used && !attribute.starts_with('_') && !is_dunder(attribute) {
        return fetch(rules::ATTRIBUTE_LOOKUP);
    }
    fetch(rules::INDIRECTION)
}

/// Whether a callable kept for later is a name that may be called at all.
fn may_be_kept(objects: &Objects, callee: ObjectId) -> bool {
    name_of(objects, callee).is_some_and(|(module, name)| {
        matches!(
            standing::standing(module, &name),
            Standing::Harmless
                | Standing::KnownClass
                | Standing::UnknownClass
                | Standing::UnknownFunction
                | Standing::LibraryClass { core: false }
        )
    })
}

/// Whether it is a class, or may be one, whose instances are made without its constructor.
fn makes_class(objects: &Objects, class: ObjectId) -> bool {
    name_of(objects, class).is_some_and(|(module, name)| {
        !matches!(
            standing::standing(module, &name),
            Standing::Dangerous(_) | Standing::Conditional(_) | Standing::LibraryFunction
        )
    })
}

/// Whether it builds a tensor, an array or an index when another function calls it.
fn is_builder(objects: &Objects, callee: ObjectId) -> bool {
    objects.global(callee).is_some_and(|(module, name)| {
        let module = standing::canonical(module);
        let last = name.rsplit('.').next().unwrap_or(name);
        let rebuilds = name.starts_with("_rebuild_")
            || matches!(name, "_reconstruct" | "_frombuffer")
            || is_class_like(last);
        let known = match standing::standing(&module, name) {
            Standing::Harmless => true,
            Standing::KnownClass => module.starts_with("torch"),
            _ => false,
        };
        rebuilds && known
    })
}

fn is_text(objects: &Objects, id: ObjectId) -> bool {
    matches!(objects.get(id), Object::Str(_) | Object::WildStr(_))
}

fn is_plain_codec(codec: &str) -> bool {
    let folded = codec.to_ascii_lowercase().replace(['_', ' '], "-");
    matches!(
        folded.as_str(),
        "latin1"
            | "latin-1"
            | "iso-8859-1"
            | "iso8859-1"
            | "l1"
            | "ascii"
            | "us-ascii"
            | "utf8"
            | "utf-8"
    )
}

/// Bytes that stand in the pickle as they are, so that the reader can open them.
fn is_constant_bytes(objects: &Objects, id: ObjectId) -> bool {
    match objects.get(id) {
        Object::Bytes(_) | Object::ByteArray(_) => true,
        Object::Call(call) => {
            let encodes = objects.global(call.callee) == Some(("_codecs", "encode"));
            encodes
                && objects
                    .sequence(call.args)
                    .is_some_and(|args| args.first().is_some_and(|text| is_text(objects, *text)))
        }
        _ => false,
    }
}

/// Notes methods that a state plants on an object: Python would call them later by themselves.
pub(crate) fn planted_methods(bench: &mut Bench<'_>, state: ObjectId, at: u64) {
    let objects = bench.objects;
    let parts = match objects.get(state) {
        Object::Tuple(parts) => parts.as_slice(),
        _ => &[],
    };
    for part in parts.iter().take(4).chain([&state]) {
        for (key, value) in objects.pairs(*part).unwrap_or_default() {
            let Some(key) = objects.str(*key) else {
                continue;
            };
            let callable = matches!(
                objects.get(*value),
                Object::Global { .. }
                    | Object::Call(_)
                    | Object::Extension(_)
                    | Object::Persistent(_)
                    | Object::Patch { .. }
            );
            if callable && is_dunder(key) && !HONEST_DUNDERS.contains(&key) {
                let value = *value;
                bench.ledger.note(rules::STATE_POISONING, key, at, || {
                    format!("{key} = {}", render(objects, value, DETAIL_CHARS))
                });
            }
        }
    }
}

/// Attributes of this form that honest states hold: pydantic's, and what `typing` leaves behind.
const HONEST_DUNDERS: &[&str] = &[
    "__dict__",
    "__doc__",
    "__fields_set__",
    "__orig_class__",
    "__private_attribute_values__",
    "__pydantic_extra__",
    "__pydantic_fields_set__",
    "__pydantic_private__",
];

/// Whether a persistent id names a storage: `("storage", class, key, location, count)`, or the
/// numbers of PyTorch 0.1, or the class and source text that PyTorch before 1.13 wrote for modules.
pub(crate) fn is_storage_pid(objects: &Objects, pid: ObjectId) -> bool {
    if objects.int(pid).is_some() || module_in_pid(objects, pid).is_some() {
        return true;
    }
    let Object::Tuple(parts) = objects.get(pid) else {
        return false;
    };
    match parts.as_slice() {
        [kind, class, key, ..] if objects.str(*kind) == Some("storage") => {
            let listed = |(module, name): (&str, &str)| {
                standing::standing(module, name) == Standing::Harmless
            };
            let key = objects.str(*key).is_some() || objects.int(*key).is_some();
            key && objects.global(*class).is_some_and(listed)
        }
        [] => false,
        parts => parts.iter().all(|part| objects.int(*part).is_some()),
    }
}

/// The class of `("module", class, source_file, source)`.
pub(crate) fn module_in_pid(objects: &Objects, pid: ObjectId) -> Option<ObjectId> {
    let Object::Tuple(parts) = objects.get(pid) else {
        return None;
    };
    let [kind, class, file, source] = *parts.as_slice() else {
        return None;
    };
    let text = |id| matches!(objects.get(id), Object::Str(_) | Object::None);
    let is_module = objects.str(kind) == Some("module") && text(file) && text(source);
    (is_module && objects.global(class).is_some()).then_some(class)
}

/// A call, or a name that is not known to be harmless, inside a persistent id.
pub(crate) fn callable_in_pid(objects: &Objects, pid: ObjectId) -> Option<ObjectId> {
    let module = module_in_pid(objects, pid);
    let mut todo = vec![pid];
    let mut looked_at = 0;
    while let Some(id) = todo.pop() {
        looked_at += 1;
        if looked_at > MAX_PID_NODES {
            return Some(pid);
        }
        match objects.get(id) {
            Object::Call(_) | Object::Extension(_) | Object::Patch { .. } => return Some(id),
            Object::Global { module: m, name } => {
                let harmless = matches!(
                    standing::standing(m, name),
                    Standing::Harmless | Standing::KnownClass
                );
                if !harmless && module != Some(id) {
                    return Some(id);
                }
            }
            _ => {
                let mut children = objects.children(id);
                children.truncate(MAX_PID_NODES + 1);
                children.reverse();
                todo.append(&mut children);
            }
        }
    }
    None
}

/// What a text is searched for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Code and commands.
    Code,
    /// Those, and paths and addresses.
    Anything,
}

fn args_read_like(objects: &Objects, call: &Call, reading: Reading) -> bool {
    let args = objects.sequence(call.args).unwrap_or_default();
    let nested = args.iter().take(64).flat_map(|arg| {
        let inner = objects.sequence(*arg).unwrap_or_default();
        inner.iter().take(64).copied().chain([*arg])
    });
    nested
        .take(1024)
        .filter_map(|id| text_of(objects, id))
        .any(|text| reads_like(&text, reading))
}

/// The beginning of a text or of bytes.
fn text_of(objects: &Objects, id: ObjectId) -> Option<Cow<'_, str>> {
    match objects.get(id) {
        Object::Str(text) => {
            let mut end = text.len().min(MAX_SEARCHED);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.get(..end).map(Cow::Borrowed)
        }
        Object::Bytes(blob) | Object::ByteArray(blob) => {
            let head = blob.head(MAX_SEARCHED).ok()?;
            Some(Cow::Owned(String::from_utf8_lossy(&head).into_owned()))
        }
        _ => None,
    }
}

/// Signs of Python code and of shell commands.
const CODE_SIGNS: &[&str] = &[
    "__import__",
    "__builtins__",
    "__class__",
    "__globals__",
    "__subclasses__",
    "import os",
    "import sys",
    "import subprocess",
    "import socket",
    "os.system",
    "os.popen",
    "subprocess.",
    "exec(",
    "eval(",
    "compile(",
    "open(",
    "getattr(",
    "lambda:",
    "/bin/sh",
    "/bin/bash",
    "sh -c",
    "cmd.exe",
    "cmd /c",
    "powershell",
    "curl ",
    "wget ",
    "touch ",
    "rm -",
    "nc -",
    "chmod ",
    "python -c",
    "python3 -c",
    "| sh",
    "|sh",
    "| bash",
    "$(",
    "&& ",
    ">/dev/",
    "> /dev/",
];

fn reads_like(text: &str, reading: Reading) -> bool {
    if CODE_SIGNS.iter().any(|sign| text.contains(sign)) {
        return true;
    }
    let place = text.starts_with(['/', '~'])
        || text.contains("../")
        || text.contains("..\\")
        || text.contains("://")
        || text.get(1..3) == Some(":\\");
    reading == Reading::Anything && place
}

/// A call as a detail: one line, and below it the code it brings along, if that has several lines.
fn explain(objects: &Objects, id: ObjectId, call: &Call) -> String {
    let mut text = render(objects, id, DETAIL_CHARS);
    let args = objects.sequence(call.args).unwrap_or_default();
    for code in args.iter().take(8).filter_map(|arg| text_of(objects, *arg)) {
        if code.trim_end().contains('\n') && !code.contains('\0') {
            push_block(&mut text, &code);
        }
    }
    text
}

/// Appends lines of code as they are, each behind a bar, with nothing in them that a terminal obeys.
fn push_block(text: &mut String, code: &str) {
    let mut left = DETAIL_CHARS;
    for line in code.lines() {
        text.push_str("\n    | ");
        for c in line.chars() {
            if left == 0 {
                text.push('…');
                return;
            }
            left -= 1;
            match c {
                '\t' => text.push_str("    "),
                c if is_unprintable(c) => text.extend(c.escape_unicode()),
                c => text.push(c),
            }
        }
    }
}
