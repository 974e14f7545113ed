//! What is not a tensor: numbers and words go to the metadata, the rest is accounted for.

use super::build::Kind;
use super::forest::{Forest, Node};
use super::select::Choice;
use super::structure::{Counts, Holds};
use super::walk::{Harvest, LISTED};
use super::{Assembly, many, numpy};
use ir::{MetaValue, Object, Record, ns};
use std::collections::HashSet;

/// Words longer than this are left out.
const TEXT: usize = 64 << 10;
/// Scalars carried to the metadata.
const SCALARS: usize = 1000;
/// Objects looked at to say what classes a subtree has.
const LOOK: usize = 2000;
/// The same for all that is left out together.
pub(super) const LOOKS: usize = 100_000;
/// Class names told of one subtree.
const CLASSES: usize = 5;

impl Assembly {
    /// What lies beside the path to the chosen subtree.
    pub(super) fn passed_by(&mut self, choice: &Choice, counts: &Counts) {
        let mut prefix = String::new();
        let steps = choice.passed.iter().zip(&choice.path);
        for (&(mapping, taken), key) in steps {
            let (_, children) = self.forest.children(mapping);
            let mut listed = Vec::new();
            let (mut more, mut tensors) = (0u64, 0u64);
            for (name, child) in children {
                let shown = || self.forest.show(&name);
                if child == taken && shown() == *key {
                    continue;
                }
                if listed.len() < LISTED {
                    listed.push((shown(), child));
                } else {
                    more += 1;
                    tensors = tensors.saturating_add(counts.of(child));
                }
            }
            for (name, child) in listed {
                self.leave(&format!("{prefix}{name}"), child, counts.of(child));
            }
            if more > 0 {
                let why = format!("{more} more things, with {}", many(tensors));
                let record = Record::dropped("left-out", format!("{prefix}…"), why);
                self.record(record.flag("--all"));
            }
            prefix.push_str(key);
            prefix.push('.');
        }
    }

    /// What lies beside the tensors within the chosen subtree.
    pub(super) fn beside(&mut self, choice: &Choice, harvest: &Harvest) {
        for beside in &harvest.beside {
            self.leave(&beside.name, beside.node, 0);
        }
        if harvest.more > 0 {
            let why = format!("{} more things that are no tensors", harvest.more);
            self.record(Record::dropped("left-out", "…", why));
        }
        if self.forest.children(choice.node).0 == Holds::Module {
            let class = self.forest.describe(choice.node);
            let why = "the class and its settings: only parameters and buffers are kept";
            self.record(Record::dropped("left-out", class, why));
        }
    }

    /// Carries a scalar to the metadata, or records that something is left out.
    fn leave(&mut self, name: &str, node: Node, tensors: u64) {
        let scalars = self.model.metadata.of(ns::CKPT).count();
        if tensors == 0
            && scalars < SCALARS
            && let Some(value) = scalar(&mut self.forest, node)
        {
            // Names can collide as those of tensors can; the metadata keeps the first.
            if self.model.metadata.get(ns::CKPT, name).is_none() {
                self.model.metadata.set(ns::CKPT, name, value);
                let why = "kept in the metadata";
                self.record(Record::carried("scalar", name, why));
                return;
            }
        }
        let what = account(&self.forest, node, tensors, &mut self.looks);
        let mut record = Record::dropped("left-out", name, what);
        if tensors > 0 {
            record = record.flag("--all");
        }
        // Nothing is lost by leaving out nothing.
        if is_empty(&self.forest, node) {
            record = record.wanted();
        }
        self.record(record);
    }
}

fn is_empty(forest: &Forest, node: Node) -> bool {
    match forest.get(node) {
        Object::None => true,
        Object::List(items) | Object::Tuple(items) | Object::Set(items) => items.is_empty(),
        Object::Dict(pairs) => pairs.is_empty(),
        _ => false,
    }
}

fn scalar(forest: &mut Forest, node: Node) -> Option<MetaValue> {
    match forest.get(node) {
        Object::Bool(b) => Some(MetaValue::Bool(*b)),
        Object::Int(n) => Some(MetaValue::I64(*n)),
        Object::Float(x) => Some(MetaValue::F64(*x)),
        Object::Str(text) if text.len() <= TEXT => Some(MetaValue::text(text.to_string())),
        Object::BigInt(bytes) => Some(MetaValue::text(crate::pickle::show_big(bytes))),
        Object::Call(_) => numpy::scalar(forest, node),
        _ => None,
    }
}

/// What a subtree is: its class, its tensors, the classes in it.
fn account(forest: &Forest, node: Node, tensors: u64, looks: &mut usize) -> String {
    if let Some(build) = forest.build(node) {
        return match build.kind {
            Kind::Array | Kind::DeviceArray => "a numpy array",
            Kind::Storage | Kind::NumberList => "a storage",
            _ => "a tensor",
        }
        .to_owned();
    }
    let mut out = forest.describe(node);
    if tensors > 0 {
        out = format!("{out} with {}", many(tensors));
    }
    let mut classes: Vec<String> = Vec::new();
    let mut seen = HashSet::from([node]);
    let mut look = vec![node];
    let mut looked = 0;
    while let Some(here) = look.pop() {
        looked += 1;
        if looked > LOOK || classes.len() > CLASSES {
            break;
        }
        // Tensors are counted, not listed.
        if forest.build(here).is_some() {
            continue;
        }
        if here != node
            && let Object::Call(call) = forest.get(here)
        {
            let name = forest.objects(here.doc).global(call.callee);
            if let Some((module, name)) = name.filter(|(module, _)| *module != "torch._utils") {
                let class = format!("{module}.{name}");
                if !classes.contains(&class) {
                    classes.push(class);
                }
            }
        }
        let room = LOOK.saturating_sub(seen.len()).min(*looks);
        for child in forest.objects(here.doc).children(here.id).take(room) {
            let child = here.with(child);
            *looks = looks.saturating_sub(1);
            if seen.insert(child) {
                look.push(child);
            }
        }
    }
    if !classes.is_empty() {
        let more = classes.len() > CLASSES;
        classes.truncate(CLASSES);
        classes.sort();
        let more = if more { ", …" } else { "" };
        out = format!("{out}; holds {}{more}", classes.join(", "));
    }
    out
}
