//! A body as names are looked for in it: where values come from, and which modules there are.

use super::folded::parameter;
use super::nodes::{Path, hidden, path, swaps};
use super::traced;
use ir::{GraphBody, Initializer, Node, Tensor, TensorId, TensorTable, ValueId};
use std::collections::{HashMap, HashSet};

/// The tensor that a value is, maybe the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) id: TensorId,
    pub(super) turned: bool,
}

pub(super) struct Scene<'a> {
    pub(super) body: &'a GraphBody,
    pub(super) tensors: &'a TensorTable,
    /// By value, through copies and transpositions of matrices.
    sources: HashMap<ValueId, Source>,
    /// The module of each node.
    pub(super) paths: Vec<Option<Path>>,
    /// Names that are paths, sorted.
    names: Vec<String>,
    /// The modules of these names and of all nodes, sorted.
    modules: Vec<String>,
    /// The modules of all nodes.
    computing: HashSet<String>,
    /// Those with a `Mul` by a tensor.
    scaling: HashSet<String>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(body: &'a GraphBody, tensors: &'a TensorTable) -> Self {
        let mut sources = HashMap::new();
        for initializer in &body.initializers {
            if let Initializer::Dense(value, id) = initializer {
                let source = Source {
                    id: *id,
                    turned: false,
                };
                sources.insert(*value, source);
            }
        }
        let mut names: Vec<String> = tensors.iter().map(|t| t.name.clone()).collect();
        for node in body.nodes.iter().filter(|node| node.domain.is_empty()) {
            let turns = match node.op.as_str() {
                "Identity" => false,
                "Transpose" if swaps(node) => true,
                _ => continue,
            };
            let ends = (node.inputs.first(), node.outputs.first());
            let (Some(Some(from)), Some(Some(to))) = ends else {
                continue;
            };
            if let Some(source) = sources.get(from).copied() {
                let turned = source.turned != turns;
                sources.insert(*to, Source { turned, ..source });
                names.extend(body.value(*to).map(|value| value.name.clone()));
            }
        }
        names.extend(body.values.iter().filter_map(parameter).map(str::to_owned));
        names.retain(|name| !hidden(name));
        names.sort_unstable();
        names.dedup();
        let paths = body.nodes.iter().map(|node| path(body, node)).collect();
        let mut scene = Self {
            body,
            tensors,
            sources,
            paths,
            names,
            modules: Vec::new(),
            computing: HashSet::new(),
            scaling: HashSet::new(),
        };
        let modules = traced::modules(&scene);
        for path in &mut scene.paths {
            let own = path.as_ref().filter(|path| path.traced);
            if let Some(module) = own.and_then(|own| modules.get(&own.name)) {
                *path = module.clone().map(|name| Path { name, traced: true });
            }
        }
        let paths = scene.paths.iter().flatten();
        scene.computing = paths.map(|path| path.name.clone()).collect();
        let scaling = scene.nodes().filter_map(|(_, node, path)| {
            let by_tensor = |input: &Option<ValueId>| scene.source(*input).is_some();
            let scales = node.op == "Mul" && node.inputs.iter().any(by_tensor);
            path.filter(|_| scales).map(str::to_owned)
        });
        scene.scaling = scaling.collect();
        let parents = scene.names.iter().filter_map(|name| name.rsplit_once('.'));
        let mut modules: Vec<String> = parents.map(|(module, _)| module.to_owned()).collect();
        modules.extend(scene.paths.iter().flatten().map(|path| path.name.clone()));
        modules.sort_unstable();
        modules.dedup();
        scene.modules = modules;
        scene
    }

    /// Nodes with their places and modules.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (usize, &'a Node, Option<&str>)> {
        let paths = self.paths.iter().map(|path| path.as_ref());
        let nodes = self.body.nodes.iter().enumerate().zip(paths);
        nodes.map(|((at, node), path)| (at, node, path.map(|path| path.name.as_str())))
    }

    /// What an input is, if it is a tensor.
    pub(super) fn source(&self, input: Option<ValueId>) -> Option<(Source, &'a Tensor)> {
        let source = *self.sources.get(&input?)?;
        Some((source, self.tensors.get(source.id)?))
    }

    /// The name of an input that is a path: its own, or that of the tensor it is.
    pub(super) fn name(&self, input: Option<ValueId>) -> Option<&'a str> {
        let own = self.body.value(input?).map(|value| value.name.as_str());
        let tensor = || self.source(input).map(|(_, tensor)| tensor.name.as_str());
        own.filter(|name| !hidden(name))
            .or_else(|| tensor().filter(|name| !hidden(name)))
    }

    /// Whether a name that is a path lies below this one.
    pub(super) fn has_names(&self, module: &str) -> bool {
        below(&self.names, module)
    }

    /// Whether a module has modules of its own.
    pub(super) fn has_modules(&self, module: &str) -> bool {
        below(&self.modules, module)
    }

    /// Whether a module has parameters of its own that no module of PyTorch's with a `weight` has.
    pub(super) fn has_odd(&self, module: &str) -> bool {
        self.odd(module).next().is_some()
    }

    /// The same, of parameters that could be a table: a factor beside it is none.
    pub(super) fn has_odd_matrix(&self, module: &str) -> bool {
        let matrix = |name: &String| {
            let tensor = self.tensors.by_name(name);
            tensor.is_none_or(|tensor| tensor.spec.shape.len() > 1)
        };
        self.odd(module).any(matrix)
    }

    fn odd(&self, module: &str) -> impl Iterator<Item = &String> {
        const USUAL: [&str; 5] = [
            "weight",
            "bias",
            "running_mean",
            "running_var",
            "num_batches_tracked",
        ];
        let start = format!("{module}.");
        let at = self.names.partition_point(|name| *name < start);
        let below = self.names.get(at..).unwrap_or_default().iter();
        let leaves = below.map_while(move |name| Some((name, name.strip_prefix(start.as_str())?)));
        let odd = leaves.filter(|(_, leaf)| !leaf.contains('.') && !USUAL.contains(leaf));
        odd.map(|(name, _)| name)
    }

    /// Whether any node was made in this module.
    pub(super) fn has_nodes(&self, module: &str) -> bool {
        self.computing.contains(module)
    }

    /// Whether a module multiplies by a tensor element by element.
    pub(super) fn scales(&self, module: &str) -> bool {
        self.scaling.contains(module)
    }

    /// Whether a tensor or a copy of one has this name.
    pub(super) fn is_name(&self, name: &str) -> bool {
        let known = self
            .names
            .binary_search_by(|other| other.as_str().cmp(name));
        known.is_ok()
    }
}

/// Whether a sorted list has something below `module`.
fn below(sorted: &[String], module: &str) -> bool {
    let start = format!("{module}.");
    let at = sorted.partition_point(|name| *name < start);
    sorted.get(at).is_some_and(|name| name.starts_with(&start))
}
