//! A pickle's result built by hand, for tests, and the families of attacks and of honest files.

mod attacks;
mod awake;
mod gadgets;
mod honest;
mod verdicts;

use crate::ledger::Ledger;
use ir::{CallKind, Object, ObjectId, Objects, PatchKind};

/// Puts objects together the way a reader would.
pub(crate) struct Builder {
    pub(crate) objects: Objects,
    at: u64,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            objects: Objects::new(),
            at: 0,
        }
    }

    pub(crate) fn push(&mut self, object: Object) -> ObjectId {
        self.at += 10;
        self.objects.push(object, self.at).unwrap()
    }

    pub(crate) fn none(&mut self) -> ObjectId {
        self.push(Object::None)
    }

    pub(crate) fn str(&mut self, text: &str) -> ObjectId {
        self.push(Object::Str(text.into()))
    }

    pub(crate) fn bytes(&mut self, bytes: &'static [u8]) -> ObjectId {
        self.push(Object::Bytes(Box::new(ir::Blob::Held(bytes.into()))))
    }

    pub(crate) fn int(&mut self, n: i64) -> ObjectId {
        self.push(Object::Int(n))
    }

    pub(crate) fn tuple(&mut self, items: &[ObjectId]) -> ObjectId {
        self.push(Object::Tuple(items.to_vec().into()))
    }

    pub(crate) fn dict(&mut self, pairs: &[(&str, ObjectId)]) -> ObjectId {
        let pairs = pairs.iter().map(|(k, v)| (self.str(k), *v)).collect();
        self.push(Object::Dict(pairs))
    }

    pub(crate) fn global(&mut self, module: &str, name: &str) -> ObjectId {
        self.push(Object::global(module, name))
    }

    pub(crate) fn call_of(
        &mut self,
        kind: CallKind,
        callee: ObjectId,
        args: &[ObjectId],
    ) -> ObjectId {
        let args = self.tuple(args);
        self.push(Object::call(kind, callee, args))
    }

    pub(crate) fn call(
        &mut self,
        kind: CallKind,
        module: &str,
        name: &str,
        args: &[ObjectId],
    ) -> ObjectId {
        let callee = self.global(module, name);
        self.call_of(kind, callee, args)
    }

    pub(crate) fn reduce(&mut self, module: &str, name: &str, args: &[ObjectId]) -> ObjectId {
        self.call(CallKind::Reduce, module, name, args)
    }

    pub(crate) fn new_object(&mut self, module: &str, name: &str) -> ObjectId {
        self.call(CallKind::New, module, name, &[])
    }

    /// `BUILD`, as the reader records it.
    pub(crate) fn build(&mut self, target: ObjectId, state: ObjectId) {
        if let Some(Object::Call(call)) = self.objects.get_mut(target) {
            call.changes().states.push(state);
        } else {
            self.push(Object::patch(target, PatchKind::Build, vec![state]));
        }
    }

    /// An item set on what a call made.
    pub(crate) fn set_pair(&mut self, target: ObjectId, key: ObjectId, value: ObjectId) {
        if let Some(Object::Call(call)) = self.objects.get_mut(target) {
            call.changes().pairs.push((key, value));
        }
    }

    /// An item appended to what a call made.
    pub(crate) fn append(&mut self, target: ObjectId, item: ObjectId) {
        if let Some(Object::Call(call)) = self.objects.get_mut(target) {
            call.changes().items.push(item);
        }
    }

    /// `rule what` of each finding.
    pub(crate) fn findings(&self) -> Vec<String> {
        crate::judge_objects(&self.objects, "data.pkl")
            .into_iter()
            .map(|f| format!("{} {}", f.rule, f.what))
            .collect()
    }

    /// The one finding there is, or the reason there is not exactly one.
    pub(crate) fn only(&self) -> String {
        let all = self.findings();
        assert_eq!(all.len(), 1, "{all:?}");
        all.into_iter().next().unwrap()
    }
}

/// Rule and what of each finding of a judge of texts.
pub(crate) fn noted(
    place: &str,
    judge: impl FnOnce(&mut Ledger<'_>),
) -> Vec<(&'static str, String)> {
    let mut ledger = Ledger::new(place);
    judge(&mut ledger);
    let all = ledger.close().into_iter();
    all.map(|f| (f.rule, f.what)).collect()
}

/// The rules alone.
pub(crate) fn noted_rules(place: &str, judge: impl FnOnce(&mut Ledger<'_>)) -> Vec<&'static str> {
    let all = noted(place, judge).into_iter();
    all.map(|(rule, _)| rule).collect()
}
