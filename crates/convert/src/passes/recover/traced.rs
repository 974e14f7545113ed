//! Paths that the tracing exporter writes: it leaves out containers that are not called themselves
//! (a `ModuleDict`, and a `ModuleList` of those), and numbers what then has one name.
//!
//! | module | path |
//! |---|---|
//! | `blocks.0.fc`, `blocks.1.fc`, of `ModuleDict`s | `fc`, `fc_1` |
//! | `fc`, called twice | `fc`, `fc_1` |
//! | `fc`, `fc_1` | `fc`, `fc_1` |
//!
//! Parameters that keep their names tell which it is. Where none does, the weights do: another call
//! takes the same ones. What is left cannot be told apart, and such a node has no path.

use super::nodes::called;
use super::scene::Scene;
use ir::{Node, TensorId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Parts of a path, and as many prefixes: a file could ask for any number.
const DEPTH: usize = 32;
/// What the projection to a vocabulary is called that is no part of the model before it.
const HEAD: &str = "lm_head";
/// Inputs of a node that are looked at: parameters stand first.
const INPUTS: usize = 8;

/// Matrices by the operator and the place they are taken at.
type Weights<'a> = BTreeMap<(&'a str, usize), BTreeSet<TensorId>>;

#[derive(Default)]
struct Seen<'a> {
    /// Its first node.
    at: usize,
    /// Modules that named parameters tell.
    modules: BTreeSet<&'a str>,
    weights: Weights<'a>,
}

/// The modules of traced paths. None where it cannot be told.
pub(super) fn modules(scene: &Scene<'_>) -> HashMap<String, Option<String>> {
    let mut seen: BTreeMap<&str, Seen<'_>> = BTreeMap::new();
    for (at, (node, path)) in scene.body.nodes.iter().zip(&scene.paths).enumerate() {
        let Some(path) = path.as_ref().filter(|path| path.traced) else {
            continue;
        };
        if path.name.split('.').count() <= DEPTH {
            let new = Seen {
                at,
                ..Seen::default()
            };
            let seen = seen.entry(&path.name).or_insert(new);
            seen.look(node, &path.name, scene);
        }
    }
    let told = Told::of(&seen);
    let mut found: HashMap<String, Option<String>> = HashMap::new();
    for (path, seen) in &seen {
        found.insert((*path).to_owned(), told.module(path, seen, scene));
    }
    // Calls of one module, and modules that look like them.
    for (path, own) in &seen {
        let Some(first) = told.first(path) else {
            continue;
        };
        if !own.modules.is_empty() || scene.has_names(path) {
            continue;
        }
        let Some(other) = seen.get(first.as_str()) else {
            continue;
        };
        match own.beside(other) {
            Beside::Same => {
                let module = found.get(&first).cloned().flatten();
                found.insert((*path).to_owned(), module);
            }
            Beside::Another => {}
            Beside::Unknown => {
                found.insert((*path).to_owned(), None);
                if other.modules.is_empty() && !scene.has_names(&first) {
                    found.insert(first, None);
                }
            }
        }
    }
    // Each call is a path of its own: the first has the module's name, the others a number.
    let mut order: Vec<(&str, usize)> = seen.iter().map(|(path, seen)| (*path, seen.at)).collect();
    order.sort_unstable_by_key(|(_, at)| *at);
    let mut calls: HashMap<String, u32> = HashMap::new();
    for (path, _) in order {
        let Some(Some(module)) = found.get_mut(path) else {
            continue;
        };
        let count = calls.entry(module.clone()).or_default();
        if *count > 0 {
            let mut call = format!("{module}_{count}");
            while scene.has_names(&call) {
                *count += 1;
                call = format!("{module}_{count}");
            }
            *module = call;
        }
        *count += 1;
    }
    found
}

enum Beside {
    /// Another call of the same module.
    Same,
    /// A module whose name is a number longer: that, and calls of the other, have its path.
    Another,
    /// One or the other.
    Unknown,
}

impl<'a> Seen<'a> {
    fn look(&mut self, node: &'a Node, path: &str, scene: &Scene<'a>) {
        for (slot, input) in node.inputs.iter().take(INPUTS).enumerate() {
            let Some((source, tensor)) = scene.source(*input) else {
                continue;
            };
            let name = scene.name(*input);
            if let Some((name, ends)) = name.and_then(|name| Some((name, ends(name, path)?))) {
                let end = ends.last().copied().unwrap_or_default();
                self.modules.extend(name.get(..end));
            }
            let weight = match node.op.as_str() {
                "MatMul" | "Gemm" | "Conv" | "ConvTranspose" | "LSTM" | "GRU" | "RNN"
                | "MatMulInteger" | "MatMulNBits" | "ConvInteger" => slot == 1,
                "QLinearConv" | "QLinearMatMul" | "QGemm" => slot == 3,
                "Gather" => slot == 0,
                _ => false,
            };
            if weight && tensor.spec.shape.len() > 1 {
                let key = (node.op.as_str(), slot);
                self.weights.entry(key).or_default().insert(source.id);
            }
        }
    }

    fn beside(&self, first: &Self) -> Beside {
        let mut beside = Beside::Same;
        for (key, own) in &self.weights {
            let Some(others) = first.weights.get(key) else {
                return Beside::Unknown;
            };
            if own.is_subset(others) {
                continue;
            }
            if own.is_disjoint(others) {
                return Beside::Unknown;
            }
            beside = Beside::Another;
        }
        beside
    }
}

/// What named parameters tell of beginnings of paths.
struct Told<'a> {
    /// The module of each beginning; none where there are several.
    modules: HashMap<&'a str, Option<&'a str>>,
    /// Beginnings below which a container was left out, and it, if it is one, and no list.
    gaps: HashMap<&'a str, Option<&'a str>>,
    /// All beginnings.
    known: HashSet<&'a str>,
}

impl<'a> Told<'a> {
    fn of(seen: &BTreeMap<&'a str, Seen<'a>>) -> Self {
        let mut told = Self {
            modules: HashMap::new(),
            gaps: HashMap::new(),
            known: HashSet::new(),
        };
        for (path, seen) in seen {
            told.known.extend(beginnings(path));
            for module in &seen.modules {
                told.add(path, module);
            }
        }
        told
    }

    fn add(&mut self, path: &'a str, module: &'a str) {
        let Some(ends) = matched(module, path) else {
            return;
        };
        let mut before = ("", 0);
        for (beginning, end) in beginnings(path).zip(ends) {
            let part = module.get(before.1..end).unwrap_or_default();
            if let Some((left, _)) = part.trim_start_matches('.').rsplit_once('.') {
                let one = !left.contains('.') && !left.bytes().all(|b| b.is_ascii_digit());
                let left = Some(left).filter(|_| one);
                let place = self.gaps.entry(before.0).or_insert(left);
                *place = place.filter(|other| Some(*other) == left);
            }
            if let Some(name) = module.get(..end) {
                let place = self.modules.entry(beginning).or_insert(Some(name));
                *place = place.filter(|other| *other == name);
            }
            before = (beginning, end);
        }
    }

    fn module(&self, path: &str, seen: &Seen<'_>, scene: &Scene<'_>) -> Option<String> {
        if seen.modules.contains(path) {
            return Some(path.to_owned());
        }
        if !seen.modules.is_empty() {
            let mut modules = seen.modules.iter();
            let module = modules.next().filter(|_| modules.next().is_none());
            return module.map(|module| (*module).to_owned());
        }
        if scene.has_names(path) {
            return Some(path.to_owned());
        }
        let starts: Vec<&str> = beginnings(path).collect();
        for start in starts.iter().rev() {
            let module = match self.modules.get(start) {
                Some(module) => (*module)?,
                None if scene.has_names(start) => start,
                None => continue,
            };
            let rest = path.get(start.len()..).unwrap_or_default();
            let gap = !rest.is_empty() && self.gap(start, rest);
            return (!gap).then(|| format!("{module}{rest}"));
        }
        (!self.gap("", path)).then(|| path.to_owned())
    }

    /// Whether a container may be missing before `rest`. A language model's head stands beside the
    /// model, also where that is never called itself, only its decoder: `self.lm_head(self.model.decoder(x))`.
    fn gap(&self, start: &str, rest: &str) -> bool {
        match self.gaps.get(start) {
            None => false,
            Some(Some(_)) => rest.trim_start_matches('.') != HEAD,
            Some(None) => true,
        }
    }

    /// The path that this one has a number behind.
    fn first(&self, path: &str) -> Option<String> {
        let mut first = String::new();
        let mut start = 0;
        for part in path.split('.') {
            let before = path.get(..start).unwrap_or_default();
            let base = called(part).filter(|base| {
                let whole = format!("{before}{base}");
                self.known.contains(whole.as_str())
            });
            first.push_str(base.unwrap_or(part));
            first.push('.');
            start += part.len() + 1;
        }
        first.pop();
        (first != path).then_some(first)
    }
}

/// `a`, `a.b`, `a.b.c` of `a.b.c`.
fn beginnings(path: &str) -> impl Iterator<Item = &str> {
    let dots = path.match_indices('.').map(|(at, _)| at);
    let ends = dots.chain([path.len()]);
    ends.filter_map(|end| path.get(..end))
}

/// Where each part of a path ends in the name of a parameter, containers between them left out.
fn ends(name: &str, path: &str) -> Option<Vec<usize>> {
    let ends = matched(name, path)?;
    // A module is no parameter.
    ends.last()
        .is_some_and(|end| *end < name.len())
        .then_some(ends)
}

/// The same in a name as it stands, and if it is not there, of parts without their numbers.
fn matched(name: &str, path: &str) -> Option<Vec<usize>> {
    let literal = walked(name, path, |own, part| own == part);
    literal.or_else(|| {
        walked(name, path, |own, part| {
            own == part || called(part) == Some(own)
        })
    })
}

fn walked(name: &str, path: &str, fits: impl Fn(&str, &str) -> bool) -> Option<Vec<usize>> {
    let mut parts = path.split('.');
    let mut part = parts.next()?;
    let (mut ends, mut at) = (Vec::new(), 0);
    for own in name.split('.') {
        at += own.len();
        if fits(own, part) {
            ends.push(at);
            match parts.next() {
                Some(next) => part = next,
                None => return Some(ends),
            }
        }
        at += 1;
    }
    None
}
