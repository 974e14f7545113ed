//! What all nodes of a body tell of the names of its tensors.

use super::attention::{Attentions, Join};
use super::computed;
use super::folded::{self, Fold};
use super::listed::{Listed, normalized};
use super::nodes::{Role, called, hidden, role};
use super::scene::{Scene, Source};
use super::spelled::Spelled;
use ir::{GraphBody, Node, Tensor, TensorId, TensorSpec, TensorTable, ValueId};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Who tells a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A copy that an exporter made of a tensor it met twice.
    Copy,
    /// A node that takes rows of it.
    Table,
    /// Any other node.
    Node,
    /// The exporter, of a constant that it computed from one parameter.
    Fold,
    /// The weight beside it, in place of the name that it was given after that one.
    Fused,
    /// A node, of a name that has the operator between the module and the parameter
    /// (`mlp.up_proj.MatMul.weight`, as onnxruntime-genai's builder writes it).
    Operator,
}

/// A name of a tensor, and whether it lies transposed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) text: String,
    pub(super) transposed: bool,
    pub(super) by: By,
}

/// The names of one tensor, in the order of the nodes.
#[derive(Default)]
pub(super) struct Names {
    pub(super) list: Vec<Name>,
    known: HashSet<String>,
}

#[derive(Default)]
pub(super) struct Told {
    /// By tensor. One that has a path for a name has it beside these.
    pub(super) names: HashMap<TensorId, Names>,
    pub(super) joins: Vec<Join>,
    /// Tensors that hold parameters in another form.
    pub(super) spelled: Spelled,
    /// Tables that rows are taken of.
    pub(super) tables: HashSet<TensorId>,
    /// Tensors whose own name is that of the module of a product.
    pub(super) products: HashSet<TensorId>,
    /// Biases of zeros, which the exporter took away.
    pub(super) zeros: BTreeMap<String, TensorSpec>,
    /// Weights and biases with a normalization within, and the module of that, where it is told.
    pub(super) normalized: HashMap<TensorId, Option<String>>,
    /// What was computed of parameters, and is none.
    pub(super) made: HashSet<TensorId>,
    /// What `MatMulNBits` multiplies by, which lies as a linear layer has it.
    pub(super) rows: HashSet<TensorId>,
}

/// Walks the nodes of the main body.
pub(super) fn tell(body: &GraphBody, tensors: &TensorTable) -> Told {
    let scene = Scene::new(body, tensors);
    let attentions = Attentions::find(&scene);
    let mut told = Told {
        spelled: Spelled::find(&scene),
        ..Told::default()
    };
    for (id, name) in &attentions.names {
        told.add(*id, name.clone());
    }
    let folds = folded::find(body, tensors);
    let spoiled = computed::beside(&scene);
    let outputs: HashSet<ValueId> = body.outputs.iter().copied().collect();
    let mut modules: HashSet<String> = HashSet::new();
    for (_, node, path) in scene.nodes() {
        told.copies(node, &scene, &outputs);
        told.fused_bias(node, &scene);
        if normalized(node) {
            told.within(node, path, &scene);
            continue;
        }
        told.computed(node, &scene);
        let listed = Listed::of(node);
        for (slot, input) in node.inputs.iter().enumerate() {
            let Some((source, tensor)) = scene.source(*input) else {
                continue;
            };
            if node.op == "MatMulNBits" && slot == 1 {
                told.rows.insert(source.id);
            }
            if node.op == "Gather" && slot == 0 {
                told.tables.insert(source.id);
            }
            let fold = folds.get(&source.id).copied();
            if told.spelled.has(source.id) {
                continue;
            }
            if fold == Some(Fold::Computed) {
                told.made.insert(source.id);
                continue;
            }
            let known = scene.name(*input);
            if let (Some(path), Some(listed), Some(known)) = (path, &listed, known) {
                told.listed(node, source, tensor, (path, listed, known));
            }
            let Some(mut role) = role(node, slot, tensor, &modules, path, &scene) else {
                continue;
            };
            role.transposed ^= source.turned;
            if computed::constant(node, tensor)
                && (!role.transposed || spoiled.contains(&source.id))
                && !told.normalized.contains_key(&source.id)
            {
                told.made.insert(source.id);
                continue;
            }
            let folded = told.fold(source.id, fold, role);
            let Some(path) = path else { continue };
            modules.insert(path.to_owned());
            if attentions.has(path, &scene) {
                continue;
            }
            let own = folded.or(Some(tensor.name.as_str()).filter(|name| !hidden(name)));
            if let (Some(listed), Some(own)) = (&listed, folded) {
                told.no_bias(node, tensor, listed, path, own);
            }
            told.node(node, source, role, (path, &listed), own, &scene);
        }
    }
    told.joins = attentions.joins;
    told
}

impl Told {
    fn add(&mut self, id: TensorId, name: Name) {
        let names = self.names.entry(id).or_default();
        if names.known.insert(name.text.clone()) {
            names.list.push(name);
        }
    }

    /// The parameter that a constant is, which it has the name of before all others.
    fn fold<'a>(&mut self, id: TensorId, fold: Option<Fold<'a>>, role: Role) -> Option<&'a str> {
        let Some(Fold::Parameter {
            name,
            turned,
            lowered,
        }) = fold
        else {
            return None;
        };
        let text = name.to_owned();
        let transposed = Fold::transposed(turned, lowered, role);
        let by = By::Fold;
        self.add_first(
            id,
            Name {
                text,
                transposed,
                by,
            },
        );
        Some(name)
    }

    /// What an exporter says itself counts before what nodes tell.
    fn add_first(&mut self, id: TensorId, name: Name) {
        if self
            .names
            .get(&id)
            .is_none_or(|names| names.list.is_empty())
        {
            self.add(id, name);
        }
    }

    /// A copy under a name that is a path; one of a matrix without such a name may lie the other way
    /// round.
    fn copies(&mut self, node: &Node, scene: &Scene<'_>, outputs: &HashSet<ValueId>) {
        let (Some(Some(from)), Some(Some(to))) = (node.inputs.first(), node.outputs.first()) else {
            return;
        };
        if outputs.contains(to) {
            return;
        }
        let name = scene.body.value(*to).map(|value| value.name.as_str());
        let turns = node.op != "Identity";
        if let (Some((source, _)), Some((_, tensor)), Some(name)) =
            (scene.source(Some(*to)), scene.source(Some(*from)), name)
            && !hidden(name)
            && (!turns || hidden(&tensor.name))
        {
            let name = Name {
                text: name.to_owned(),
                transposed: source.turned,
                by: By::Copy,
            };
            self.add(source.id, name);
        }
    }

    /// A layer that the newer exporter folded the normalization at `path` into.
    fn within(&mut self, node: &Node, path: Option<&str>, scene: &Scene<'_>) {
        for input in node.inputs.iter().skip(1) {
            if let Some((source, _)) = scene.source(*input) {
                let of = path.map(str::to_owned);
                self.normalized.insert(source.id, of);
            }
        }
    }

    /// A convolution that the tracing exporter computed the parameters of: what it takes as it is
    /// keeps its name. Only a normalization makes a weight and a bias.
    fn computed(&mut self, node: &Node, scene: &Scene<'_>) {
        let made = |slot: usize| {
            let (source, tensor) = scene.source(node.inputs.get(slot).copied().flatten())?;
            tensor.name.starts_with("onnx::Conv").then_some(source.id)
        };
        if node.op.starts_with("Conv")
            && let (Some(weight), Some(bias)) = (made(1), made(2))
        {
            self.normalized.insert(weight, None);
            self.normalized.insert(bias, None);
        }
    }

    /// The newer exporter folds a normalization into a layer without a bias, and names the bias
    /// that it makes after the weight.
    fn fused_bias(&mut self, node: &Node, scene: &Scene<'_>) {
        let input = |slot: usize| node.inputs.get(slot).copied().flatten();
        if !node.op.starts_with("Conv") && node.op != "Gemm" {
            return;
        }
        let (Some(weight), Some((bias, tensor))) = (scene.name(input(1)), scene.source(input(2)))
        else {
            return;
        };
        if tensor.name.strip_suffix("_bias") == Some(weight)
            && let Some(module) = weight.strip_suffix(".weight")
        {
            let name = Name {
                text: format!("{module}.bias"),
                transposed: false,
                by: By::Fused,
            };
            self.add(bias.id, name);
        }
    }

    /// A named tensor that the exporter lists as a parameter of another module: it writes tensors of
    /// equal numbers once.
    fn listed(
        &mut self,
        node: &Node,
        source: Source,
        tensor: &Tensor,
        (path, listed, known): (&str, &Listed<'_>, &str),
    ) {
        if let Some(text) = listed.same_leaf(path, known) {
            let name = Name {
                text,
                transposed: source.turned,
                by: By::Node,
            };
            self.add(source.id, name);
        }
        self.no_bias(node, tensor, listed, path, known);
    }

    /// A bias of zeros, which the exporter lists and took away. `known` is the weight beside it.
    fn no_bias(
        &mut self,
        node: &Node,
        tensor: &Tensor,
        listed: &Listed<'_>,
        path: &str,
        known: &str,
    ) {
        let shape = &tensor.spec.shape;
        let count = match node.op.as_str() {
            "Gemm" if node.int("transB") == Some(1) => shape.first(),
            "Gemm" => shape.get(1),
            "Conv" => shape.first(),
            _ => None,
        };
        let weight = if listed.has(known) {
            Some(known.to_owned())
        } else {
            listed.same_leaf(path, known)
        };
        let bias =
            weight.and_then(|weight| Some(format!("{}.bias", weight.strip_suffix(".weight")?)));
        if let (true, Some(count), Some(bias)) = (listed.no_bias, count, bias)
            && listed.has(&bias)
        {
            let spec = TensorSpec::new(tensor.dtype(), [*count]);
            self.zeros.entry(bias).or_insert(spec);
        }
    }

    /// A parameter of the module at `path`. `own` is the name it is known to have, if any.
    fn node(
        &mut self,
        node: &Node,
        source: Source,
        role: Role,
        (path, listed): (&str, &Option<Listed<'_>>),
        own: Option<&str>,
        scene: &Scene<'_>,
    ) {
        let text = format!("{path}.{}", role.leaf);
        let product = matches!(node.op.as_str(), "MatMul" | "Gemm");
        if own == Some(text.as_str()) {
            if product {
                self.products.insert(source.id);
            }
            return;
        }
        let by = match node.op.as_str() {
            "Gather" => By::Table,
            _ => By::Node,
        };
        let transposed = role.transposed;
        if let Some(module) = own.and_then(|own| built(own, role.leaf)) {
            let by = match by {
                By::Node if module == path => By::Operator,
                By::Node => return,
                by => by,
            };
            if by == By::Operator {
                self.products.insert(source.id);
            }
            let name = Name {
                text,
                transposed,
                by,
            };
            self.add(source.id, name);
            return;
        }
        if let Some(listed) = listed {
            // One that has a name lies as its module has it.
            let hidden = own.is_none_or(|own| scene.tensors.id_of(own) != Some(source.id));
            if listed.has(&text) {
                let transposed = if hidden { transposed } else { source.turned };
                self.add(
                    source.id,
                    Name {
                        text,
                        transposed,
                        by,
                    },
                );
                return;
            }
            if !listed.shares(own) {
                return;
            }
        }
        let names = self.names.get(&source.id);
        let second = own.is_some() || names.is_some();
        // Calls of one module are numbered, and so may modules be.
        let again = called(path).filter(|_| !scene.has_names(path));
        if let Some(module) = again {
            let first = format!("{module}.{}", role.leaf);
            if own == Some(first.as_str())
                || names.is_some_and(|names| names.known.contains(&first))
            {
                return;
            }
        }
        if let Some(own) = own {
            let below = own
                .strip_prefix(path)
                .is_some_and(|rest| rest.starts_with('.'));
            let leaf = own.rsplit('.').next();
            // A parameter of the module itself, or one that code takes from another.
            if below || leaf != Some(role.leaf) {
                return;
            }
            // A module that is gone was fused into the one whose path the node has.
            let module = own.rsplit_once('.').map_or("", |(module, _)| module);
            if node.op.starts_with("Conv") && !scene.has_nodes(module) {
                return;
            }
            // A matrix with a name is as its module has it: one taken across is no layer's.
            let folded = names.is_some_and(|names| names.known.contains(own));
            if role.transposed && !folded {
                return;
            }
        }
        // A module with others below it computes with theirs, too, and one with parameters of other
        // names may have any.
        let odd = match listed {
            Some(listed) if by == By::Table && listed.table() => scene.has_odd_matrix(path),
            _ => scene.has_odd(path),
        };
        if scene.has_modules(path) && (second || listed.is_none()) || odd {
            return;
        }
        let name = Name {
            text,
            transposed,
            by,
        };
        self.add(source.id, name);
    }
}

/// The module of a parameter whose name has the operator in it.
fn built<'a>(name: &'a str, leaf: &str) -> Option<&'a str> {
    let (module, operator) = name
        .strip_suffix(leaf)?
        .strip_suffix('.')?
        .rsplit_once('.')?;
    matches!((operator, leaf), ("MatMul", "weight") | ("Add", "bias")).then_some(module)
}
