//! Persistent ids: how a checkpoint's pickle names the storages that lie beside it.

use crate::standing::{self, Standing};
use ir::{Object, ObjectId, Objects};

/// How many nodes of a persistent id are looked at: an honest one has about six.
const MAX_PID_NODES: usize = 64;

/// Whether a persistent id names a storage: `("storage", class, key, location, count)`, or the
/// numbers of PyTorch 0.1, or the class and source text that PyTorch before 1.13 wrote for modules.
pub(crate) fn is_storage_pid(objects: &Objects, pid: ObjectId) -> bool {
    if objects.int(pid).is_some() || module_in_pid(objects, pid).is_some() {
        return true;
    }
    let Object::Tuple(parts) = objects.get(pid) else {
        return false;
    };
    match &parts[..] {
        [kind, class, key, ..] if objects.str(*kind) == Some("storage") => {
            let listed = |(module, name): (&str, &str)| {
                standing::standing(module, name) == Standing::Harmless
            };
            let key = objects.str(*key).is_some() || objects.int(*key).is_some();
            key && objects.global(*class).is_some_and(listed)
        }
        [] => false,
        parts => parts.len() <= 8 && parts.iter().all(|part| objects.int(*part).is_some()),
    }
}

/// The class of `("module", class, source_file, source)`.
pub(crate) fn module_in_pid(objects: &Objects, pid: ObjectId) -> Option<ObjectId> {
    let Object::Tuple(parts) = objects.get(pid) else {
        return None;
    };
    let [kind, class, file, source] = parts[..] else {
        return None;
    };
    let text = |id| matches!(objects.get(id), Object::Str(_) | Object::None);
    let is_module = objects.str(kind) == Some("module") && text(file) && text(source);
    (is_module && objects.global(class).is_some()).then_some(class)
}

/// A call, or a name that may be a function, inside a persistent id.
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
            Object::Call(_)
            | Object::Extension(_)
            | Object::Patch(_)
            | Object::Set(_)
            | Object::FrozenSet(_)
            | Object::Dict(_) => return Some(id),
            Object::Global(global) => {
                // The storages of some other device have classes that nobody here knows.
                let class = matches!(
                    standing::standing(&global.module, &global.name),
                    Standing::Harmless
                        | Standing::KnownClass
                        | Standing::LibraryClass { .. }
                        | Standing::UnknownClass
                );
                if !class && module != Some(id) {
                    return Some(id);
                }
            }
            Object::Tuple(items) | Object::List(items) => {
                todo.extend(items.iter().take(MAX_PID_NODES + 1).rev());
            }
            Object::Persistent(inner) => todo.push(*inner),
            _ => {}
        }
    }
    None
}
