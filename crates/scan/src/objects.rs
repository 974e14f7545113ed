//! The rules over one pickle: every name it imports, every call, every change to what it did not
//! make itself.

use crate::Finding;
use crate::code::Texts;
use crate::conditions::Condition;
use crate::instances::Known;
use crate::ledger::Ledger;
use crate::render::render;
use crate::rules;
use crate::standing::{self, Standing};
use crate::{calls, persistent, planted};
use ir::{Call, Object, ObjectId, Objects, Patch, PatchKind};
use std::collections::{HashMap, HashSet};

/// How much of an object a detail shows.
pub(crate) const DETAIL_CHARS: usize = 400;

/// Judges what one pickle made. `place` names the pickle in the findings: an archive entry, say.
///
/// The findings come in the order of the pickle. An incomplete pickle is judged like any other:
/// what it did before it broke off has been done.
pub fn judge_objects(objects: &Objects, place: &str) -> Vec<Finding> {
    let mut bench = Bench {
        objects,
        uses: Uses::of(objects),
        ledger: Ledger::new(place),
        texts: Texts::default(),
        states: HashSet::new(),
        files: HashSet::new(),
        filled: HashSet::new(),
        known: Known::default(),
        standings: HashMap::new(),
    };
    for (id, node) in objects.iter() {
        match &node.object {
            Object::Global(global) => bench.global(id, &global.module, &global.name),
            Object::Call(call) => bench.call(id, call),
            Object::Patch(patch) => bench.patch(id, patch),
            Object::Persistent(pid) => bench.persistent(id, *pid),
            Object::Extension(code) => {
                bench.ledger.note(
                    rules::EXTENSION_REGISTRY,
                    &format!("extension {code}"),
                    node.at,
                    String::new,
                );
            }
            Object::OutOfBand => {
                bench.ledger.note(
                    rules::ODD_OBJECT,
                    "out-of-band buffer",
                    node.at,
                    String::new,
                );
            }
            // A mobile model lists the operators it calls, one after another.
            Object::Str(text)
                if place.ends_with("bytecode.pkl")
                    && matches!(&**text, "aten::save" | "aten::from_file") =>
            {
                bench
                    .ledger
                    .note(rules::TORCHSCRIPT_FILE_ACCESS, text, node.at, String::new);
            }
            _ => {}
        }
    }
    bench.ledger.close()
}

/// What is needed to judge one node of a pickle.
pub(crate) struct Bench<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) uses: Uses,
    pub(crate) ledger: Ledger<'a>,
    pub(crate) texts: Texts,
    /// The states whose keys were looked at.
    pub(crate) states: HashSet<ObjectId>,
    /// The states whose values were looked at for files, for classes that open them whatever else
    /// they keep, and for others. Many objects may share one.
    pub(crate) files: HashSet<(ObjectId, bool)>,
    /// The parts of objects filled like dictionaries that were looked at.
    pub(crate) filled: HashSet<ObjectId>,
    /// What is known of objects that something goes through.
    pub(crate) known: Known,
    /// What is known of the names that were called.
    standings: HashMap<ObjectId, Standing>,
}

impl Bench<'_> {
    /// A name that is imported. What its calls do is said at the calls.
    fn global(&mut self, id: ObjectId, module: &str, name: &str) {
        let called = self.uses.called(id);
        let (rule, more) = match standing::standing(module, name) {
            Standing::Harmless | Standing::KnownClass => return,
            Standing::Conditional(condition) => {
                if condition.may_be_held() {
                    return;
                }
                if self.uses.held(id) {
                    (
                        condition.rule(),
                        "handed on, so that something else calls it",
                    )
                } else if called {
                    return;
                } else {
                    (condition.rule(), "imported, not called")
                }
            }
            _ if called => return,
            Standing::Dangerous(rule) if self.uses.handed(id) => {
                (rule, "handed to another call, which may call it")
            }
            Standing::Dangerous(rule) => (
                rule,
                "imported, not called here; whatever uses the loaded object may call it",
            ),
            Standing::LibraryFunction if self.uses.handed(id) => {
                (rules::LIBRARY_FUNCTION, "handed to another call")
            }
            Standing::UnknownFunction if self.uses.handed(id) => {
                (rules::UNKNOWN_CALL, "handed to another call")
            }
            Standing::Guarded(_)
            | Standing::LibraryClass { .. }
            | Standing::UnknownClass
            | Standing::LibraryFunction
            | Standing::UnknownFunction => (rules::UNKNOWN_GLOBAL, ""),
        };
        let what = calls::full_name(module, name);
        self.ledger
            .note(rule, &what, self.at(id), || more.to_owned());
    }

    /// A change to something the pickle did not make as a plain container.
    fn patch(&mut self, id: ObjectId, patch: &Patch) {
        let (target, at) = (patch.target, self.at(id));
        let objects = self.objects;
        let rule = match objects.get(target) {
            Object::Tensor(_) if patch.kind == PatchKind::Build => {
                for state in &patch.values {
                    planted::judge(self, *state, at);
                }
                return;
            }
            Object::Persistent(pid) if persistent::module_in_pid(objects, *pid).is_none() => {
                rules::ODD_OBJECT
            }
            Object::Global(_)
            | Object::Extension(_)
            | Object::Patch(_)
            | Object::Persistent(_)
            | Object::Call(_) => rules::STATE_POISONING,
            _ => rules::ODD_OBJECT,
        };
        let what = match objects.global(target) {
            Some((module, name)) => calls::full_name(module, name),
            None => render(objects, target, 60),
        };
        self.ledger
            .note(rule, &what, at, || render(objects, id, DETAIL_CHARS));
    }

    /// An object outside the pickle: a storage, and nothing else.
    fn persistent(&mut self, id: ObjectId, pid: ObjectId) {
        let at = self.at(id);
        let objects = self.objects;
        if let Some(callable) = persistent::callable_in_pid(objects, pid) {
            let what = match objects.global(callable) {
                Some((module, name)) => calls::full_name(module, name),
                None => render(objects, callable, 60),
            };
            self.ledger.note(rules::PERSISTENT_CALLABLE, &what, at, || {
                render(objects, id, DETAIL_CHARS)
            });
        } else if !persistent::is_storage_pid(objects, pid) {
            self.ledger
                .note(rules::ODD_PERSISTENT_ID, "persistent id", at, || {
                    render(objects, id, DETAIL_CHARS)
                });
        }
    }

    /// What is known of a callee; `None` if it has no name.
    pub(crate) fn standing(&mut self, callee: ObjectId) -> Option<Standing> {
        if let Some(standing) = self.standings.get(&callee) {
            return Some(*standing);
        }
        let (module, name) = calls::name_of(self.objects, callee)?;
        let standing = standing::standing(module, &name);
        self.standings.insert(callee, standing);
        Some(standing)
    }

    /// The offset of a node.
    pub(crate) fn at(&self, id: ObjectId) -> u64 {
        self.objects.node(id).map_or(0, |node| node.at)
    }

    fn call(&mut self, id: ObjectId, call: &Call) {
        calls::judge(self, id, call);
    }
}

/// How each node is used by the others.
pub(crate) struct Uses(Vec<u8>);

const CALLED: u8 = 1;
const HANDED: u8 = 2;
const HELD: u8 = 4;
/// Arguments of a call that have been marked: many calls may share them.
const ARGS: u8 = 8;
/// Used in two places or more.
const SHARED: u8 = 16;

impl Uses {
    fn of(objects: &Objects) -> Self {
        let mut uses = Self(vec![0; objects.len()]);
        for (_, node) in objects.iter() {
            match &node.object {
                Object::Call(call) => uses.by_call(objects, call),
                Object::List(items)
                | Object::Tuple(items)
                | Object::Set(items)
                | Object::FrozenSet(items) => uses.mark_all(items, HELD),
                Object::Dict(pairs) => uses.mark_pairs(pairs),
                Object::Persistent(pid) => uses.mark(*pid, HELD),
                Object::Patch(patch) => uses.mark_all(&patch.values, HELD),
                _ => {}
            }
        }
        if let Some(root) = objects.root() {
            uses.mark(root, HELD);
        }
        uses
    }

    fn by_call(&mut self, objects: &Objects, call: &Call) {
        self.mark(call.callee, CALLED);
        self.mark_all(call.states(), HELD);
        self.mark_all(call.items(), HELD);
        self.mark_pairs(call.pairs());
        // `partial` and its kind keep what they are handed and judge it by themselves.
        let keeps = objects.global(call.callee).is_some_and(|(module, name)| {
            matches!(
                Condition::of(&standing::canonical(module), name),
                Some(Condition::Partial | Condition::Reconstructor | Condition::GetItem)
            )
        });
        let seen = self.has(call.args, ARGS);
        if let Some(args) = objects.sequence(call.args).filter(|_| !keeps) {
            self.mark(call.args, ARGS);
            if !seen {
                self.mark_all(args, HANDED | HELD);
            }
        }
    }

    fn mark_pairs(&mut self, pairs: &[(ObjectId, ObjectId)]) {
        for (key, value) in pairs {
            self.mark(*key, HELD);
            self.mark(*value, HELD);
        }
    }

    fn mark_all(&mut self, ids: &[ObjectId], flag: u8) {
        for id in ids {
            self.mark(*id, flag);
        }
    }

    fn mark(&mut self, id: ObjectId, flag: u8) {
        if let Some(uses) = self.0.get_mut(id.index()) {
            if *uses != 0 {
                *uses |= SHARED;
            }
            *uses |= flag;
        }
    }

    fn has(&self, id: ObjectId, flag: u8) -> bool {
        self.0.get(id.index()).is_some_and(|uses| uses & flag != 0)
    }

    /// Whether a call has it as its callee.
    pub(crate) fn called(&self, id: ObjectId) -> bool {
        self.has(id, CALLED)
    }

    /// Whether a call has it as an argument.
    pub(crate) fn handed(&self, id: ObjectId) -> bool {
        self.has(id, HANDED)
    }

    /// Whether two or more have it.
    pub(crate) fn shared(&self, id: ObjectId) -> bool {
        self.has(id, SHARED)
    }

    /// Whether anything keeps it.
    pub(crate) fn held(&self, id: ObjectId) -> bool {
        self.has(id, HELD)
    }
}
