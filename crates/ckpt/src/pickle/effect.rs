//! Calls, and changes to objects: written down, never done.
//!
//! Where CPython is sure to raise, the machine breaks off too. Where what happens hangs on the
//! result of a call, it writes down what would be done and goes on, so that a pickle cannot hide
//! what follows.

use super::COMPUTED_GLOBAL;
use super::budget::APART;
use super::machine::Machine;
use ir::{CallKind, Object, ObjectId, PatchKind, Result};
use std::sync::Arc;

/// References a call counts for: its record is larger than that of other objects.
const CALL_COST: usize = 8;
/// Parts of a tuple looked at to see whether it can be a key.
const HASH_LOOK: usize = 64;

impl Machine<'_> {
    // Names.

    pub(super) fn stack_global(&mut self, module: ObjectId, name: ObjectId) -> Result<()> {
        let parts = (self.objects.get(module), self.objects.get(name));
        if let (Object::Str(module), Object::Str(name)) = parts {
            let (module, name) = (Arc::clone(module), Arc::clone(name));
            return self.global(&module, &name);
        }
        for part in [module, name] {
            // Bytes of a Python 2 string are text to an unpickler that is told the encoding.
            let text =
                |o: &Object| matches!(o, Object::Str(_) | Object::WildStr(_) | Object::Bytes(_));
            if self.is_value(part, |o| !text(o)) || self.is_instance(part) {
                return Err(self.fail("a module or name that is no string"));
            }
        }
        let callee = self.add_node(Object::global(COMPUTED_GLOBAL.0, COMPUTED_GLOBAL.1))?;
        self.budget.reference(2)?;
        let args = self.add_node(Object::Tuple(vec![module, name].into()))?;
        self.call(CallKind::Reduce, callee, args)
    }

    /// Whether a call makes an instance of a class that is no string: a name must be one, and of the
    /// class itself.
    fn is_instance(&self, id: ObjectId) -> bool {
        let made = self.objects.named_call(id);
        made.is_some_and(|(module, name, call)| {
            let plain = matches!(module, "builtins" | "__builtin__");
            call.kind == CallKind::New && !plain || (module, name) == ("numpy", "dtype")
        })
    }

    /// `EXT1`, `EXT2`, `EXT4`: an object named by its code. A code the pickle itself registered
    /// is resolved; any other only the process that loads it knows.
    pub(super) fn extension(&mut self, code: i64) -> Result<()> {
        if code <= 0 {
            return Err(self.fail(format!("extension code {code}")));
        }
        if let Some(&id) = self.cache.get(&code) {
            return self.push_id(id);
        }
        match self.registry.get(&code) {
            Some((module, name)) => {
                let (module, name) = (Arc::clone(module), Arc::clone(name));
                self.global(&module, &name)
            }
            None => self.push(Object::Extension(code)),
        }
    }

    // Calls.

    pub(super) fn reduce(&mut self) -> Result<()> {
        let args = self.pop()?;
        let callee = self.pop()?;
        self.check_callable(callee)?;
        if self.is_value(args, |o| !matches!(o, Object::Tuple(_))) {
            return Err(self.fail("the arguments are no tuple"));
        }
        self.note_registration(callee, args);
        self.call(CallKind::Reduce, callee, args)
    }

    pub(super) fn new_object(&mut self) -> Result<()> {
        let args = self.pop()?;
        let class = self.pop()?;
        self.check_callable(class)?;
        if self.is_value(args, |o| !matches!(o, Object::Tuple(_))) {
            return Err(self.fail("the arguments are no tuple"));
        }
        self.call(CallKind::New, class, args)
    }

    pub(super) fn new_object_ex(&mut self) -> Result<()> {
        let kwargs = self.pop()?;
        let args = self.pop()?;
        let class = self.pop()?;
        self.check_callable(class)?;
        if self.is_value(args, |o| !matches!(o, Object::Tuple(_)))
            || self.is_value(kwargs, |o| !matches!(o, Object::Dict(_)))
        {
            return Err(self.fail("the arguments are no tuple and dict"));
        }
        self.call(CallKind::NewEx(kwargs), class, args)
    }

    pub(super) fn inst(&mut self, module: &Arc<str>, name: &Arc<str>) -> Result<()> {
        let items = self.pop_to_mark()?;
        let class = self.global_object(module, name);
        let class = self.add_node(class)?;
        self.budget.reference(items.len())?;
        let args = self.add_node(Object::Tuple(items.into()))?;
        self.call(CallKind::Inst, class, args)
    }

    pub(super) fn obj(&mut self) -> Result<()> {
        let mut items = self.pop_to_mark()?;
        if items.is_empty() {
            return Err(self.underflow());
        }
        let class = items.remove(0);
        self.check_callable(class)?;
        self.budget.reference(items.len())?;
        let args = self.add_node(Object::Tuple(items.into()))?;
        self.call(CallKind::Obj, class, args)
    }

    fn call(&mut self, kind: CallKind, callee: ObjectId, args: ObjectId) -> Result<()> {
        self.budget.reference(CALL_COST)?;
        self.budget.call();
        self.push(Object::call(kind, callee, args))
    }

    fn check_callable(&self, callee: ObjectId) -> Result<()> {
        if self.is_value(callee, |_| true) {
            return Err(self.fail("what would be called is no class or function"));
        }
        Ok(())
    }

    /// `copyreg.add_extension(module, name, code)`.
    fn note_registration(&mut self, callee: ObjectId, args: ObjectId) {
        if self.objects.global(callee) != Some(("copyreg", "add_extension")) {
            return;
        }
        if let Some(&[module, name, code]) = self.objects.sequence(args) {
            self.register(code, module, name);
        }
    }

    fn register(&mut self, code: ObjectId, module: ObjectId, name: ObjectId) {
        let parts = (
            self.objects.int(code),
            self.objects.get(module),
            self.objects.get(name),
        );
        if let (Some(code), Object::Str(module), Object::Str(name)) = parts {
            let names = (Arc::clone(module), Arc::clone(name));
            self.registry.insert(code, names);
        }
    }

    // Changes.

    pub(super) fn build(&mut self, target: ObjectId, state: ObjectId) -> Result<()> {
        self.budget.reference(1 + APART)?;
        match self.objects.get_mut(target) {
            Some(Object::Call(call)) => {
                call.changes().states.push(state);
                Ok(())
            }
            Some(object) if !super::machine::unknown(object) => {
                // With a state of None there is nothing to set, so nothing goes wrong.
                if matches!(self.objects.get(state), Object::None) {
                    return Ok(());
                }
                Err(self.fail("a state set on a plain value"))
            }
            _ => self.patch(target, PatchKind::Build, vec![state]),
        }
    }

    pub(super) fn append(&mut self, target: ObjectId, items: &[ObjectId]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.budget.reference(items.len())?;
        match self.objects.get_mut(target) {
            Some(Object::List(list)) => list.extend_from_slice(items),
            Some(Object::Call(call)) => call.changes().items.extend_from_slice(items),
            Some(Object::ByteArray(_)) => {
                return self.patch(target, PatchKind::Append, items.to_vec());
            }
            Some(object) if !super::machine::unknown(object) => {
                return Err(self.fail("items appended to what is no list"));
            }
            _ => return self.patch(target, PatchKind::Append, items.to_vec()),
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, target: ObjectId, items: &[ObjectId]) -> Result<()> {
        if !items.len().is_multiple_of(2) {
            return Err(self.fail("a key without a value"));
        }
        if items.is_empty() {
            return Ok(());
        }
        self.budget.reference(items.len())?;
        let pairs = items.as_chunks::<2>().0.iter().map(|&[k, v]| (k, v));
        match self.objects.get_mut(target) {
            Some(Object::Dict(dict)) => {
                dict.extend(pairs);
                for &[key, _] in items.as_chunks::<2>().0 {
                    self.check_hashable(key)?;
                }
                Ok(())
            }
            Some(Object::Call(call)) => {
                call.changes().pairs.extend(pairs);
                Ok(())
            }
            // `list[i] = x` is lawful Python.
            Some(Object::List(_) | Object::ByteArray(_)) => {
                self.patch(target, PatchKind::SetItems, items.to_vec())
            }
            Some(object) if !super::machine::unknown(object) => {
                Err(self.fail("items set on what is no mapping"))
            }
            _ => {
                self.note_items(target, items);
                self.patch(target, PatchKind::SetItems, items.to_vec())
            }
        }
    }

    /// Items set on `copyreg`'s registries.
    fn note_items(&mut self, target: ObjectId, items: &[ObjectId]) {
        match self.objects.global(target) {
            Some(("copyreg", "_inverted_registry")) => {
                for &[code, names] in items.as_chunks::<2>().0 {
                    if let Some(&[module, name]) = self.objects.sequence(names) {
                        self.register(code, module, name);
                    }
                }
            }
            Some(("copyreg", "_extension_cache")) => {
                for &[code, object] in items.as_chunks::<2>().0 {
                    if let Some(code) = self.objects.int(code) {
                        self.cache.insert(code, object);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn add(&mut self, target: ObjectId, items: &[ObjectId]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        self.budget.reference(items.len())?;
        match self.objects.get_mut(target) {
            Some(Object::Set(set)) => {
                set.extend_from_slice(items);
                for &item in items {
                    self.check_hashable(item)?;
                }
                Ok(())
            }
            Some(Object::Call(call)) => {
                call.changes().items.extend_from_slice(items);
                Ok(())
            }
            Some(object) if !super::machine::unknown(object) => {
                Err(self.fail("items added to what is no set"))
            }
            _ => self.patch(target, PatchKind::Add, items.to_vec()),
        }
    }

    fn patch(&mut self, target: ObjectId, kind: PatchKind, values: Vec<ObjectId>) -> Result<()> {
        self.add_node(Object::patch(target, kind, values))
            .map(|_| ())
    }

    /// Lists, dicts and sets cannot be keys, nor tuples that hold one.
    pub(super) fn check_hashable(&self, id: ObjectId) -> Result<()> {
        let mut left = HASH_LOOK;
        let mut look = vec![id];
        while let Some(id) = look.pop() {
            match self.objects.get(id) {
                Object::List(_) | Object::Dict(_) | Object::Set(_) | Object::ByteArray(_) => {
                    return Err(self.fail("a key or set item that cannot be one"));
                }
                Object::Tuple(items) => look.extend(items.iter().take(left)),
                _ => {}
            }
            left = left.saturating_sub(1);
            if left == 0 {
                break;
            }
        }
        Ok(())
    }
}
