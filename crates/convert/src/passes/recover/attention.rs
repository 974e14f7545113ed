//! `torch.nn.MultiheadAttention`: one module that multiplies by parts of one matrix.
//!
//! | attention of | the graph has | the module has |
//! |---|---|---|
//! | a sequence to itself | `[E, 3E]` | `in_proj_weight` `[3E, E]`, `in_proj_bias` |
//! | it to another | `[E, E]`, `[E, 2E]` | the same |
//! | it to two others | three of `[E, E]` | the same |
//! | the same of other widths | `[E, E]`, `[K, E]`, `[V, E]` | `q_proj_weight`, `k_proj_weight`, `v_proj_weight`, `in_proj_bias` |
//!
//! What it is, is told by the projection of the output: its parameters have a module of their own,
//! `out_proj`, and are taken by a node of the attention. Without biases that one is transposed and
//! nameless too, and stands last, behind the Softmax.

use super::listed::takes;
use super::nodes::{called, hidden};
use super::scene::Scene;
use super::told::{By, Name};
use ir::{Node, TensorId};
use std::collections::{HashMap, HashSet};

/// Tensors that are one parameter, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Join {
    pub(super) name: String,
    pub(super) parts: Vec<TensorId>,
    /// Whether each part lies transposed.
    pub(super) transposed: bool,
}

#[derive(Default)]
pub(super) struct Attentions {
    paths: HashSet<String>,
    pub(super) names: Vec<(TensorId, Name)>,
    pub(super) joins: Vec<Join>,
}

/// A multiplication by a nameless matrix.
struct Product<'a> {
    node: &'a Node,
    id: TensorId,
    shape: [u64; 2],
}

impl Attentions {
    pub(super) fn find(scene: &Scene<'_>) -> Self {
        let mut nodes: HashMap<&str, Vec<&Node>> = HashMap::new();
        let mut order = Vec::new();
        for (_, node, path) in scene.nodes() {
            if let Some(path) = path {
                let list = nodes.entry(path).or_default();
                if list.is_empty() {
                    order.push(path);
                }
                list.push(node);
            }
        }
        let mut found = Self::default();
        for path in order {
            if let Some(nodes) = nodes.get(path)
                && !found.has(path, scene)
            {
                found.read(path, nodes, scene);
            }
        }
        found
    }

    /// Whether this is an attention, or another call of one.
    pub(super) fn has(&self, path: &str, scene: &Scene<'_>) -> bool {
        let again = called(path).filter(|_| !scene.has_names(path));
        self.paths.contains(path) || again.is_some_and(|module| self.paths.contains(module))
    }

    fn read(&mut self, path: &str, nodes: &[&Node], scene: &Scene<'_>) {
        let mut products: Vec<Product<'_>> = Vec::new();
        let mut out = None;
        let projection = format!("{path}.out_proj.weight");
        for node in nodes {
            let input = node.inputs.get(1).copied().flatten();
            let Some((source, tensor)) = scene.source(input) else {
                continue;
            };
            let &[rows, columns] = &tensor.spec.shape[..] else {
                continue;
            };
            if !matches!(node.op.as_str(), "MatMul" | "Gemm") {
                continue;
            }
            if takes(node, &projection, scene) {
                out = Some(rows);
            } else if node.op == "MatMul" && hidden(&tensor.name) && !source.turned {
                products.push(Product {
                    node,
                    id: source.id,
                    shape: [rows, columns],
                });
            }
        }
        let softmax = nodes.iter().any(|node| node.op == "Softmax");
        if out.is_none()
            && softmax
            && products.len() > 1
            && let Some(last) = products.pop_if(|last| last.shape[0] == last.shape[1])
        {
            let [width, _] = last.shape;
            if pattern(&products, width).is_some() && !scene.is_name(&projection) {
                self.names.push((last.id, Name::new(projection, true)));
                out = Some(width);
            }
        }
        let Some(width) = out else { return };
        // Nothing of an attention is called `weight`, also where nothing better is found.
        self.paths.insert(path.to_owned());
        let Some(names) = pattern(&products, width) else {
            return;
        };
        let biases: Option<Vec<TensorId>> = products
            .iter()
            .map(|product| bias(product.node, nodes, scene))
            .collect();
        let ids: Vec<TensorId> = products.iter().map(|product| product.id).collect();
        match (names, &ids[..]) {
            (["in_proj_weight"], [one]) => {
                let name = format!("{path}.in_proj_weight");
                self.names.push((*one, Name::new(name, true)));
            }
            (["in_proj_weight"], _) => self.joins.push(Join {
                name: format!("{path}.in_proj_weight"),
                parts: ids,
                transposed: true,
            }),
            (names, ids) => {
                let named = ids.iter().zip(names);
                let named =
                    named.map(|(id, name)| (*id, Name::new(format!("{path}.{name}"), true)));
                self.names.extend(named);
            }
        }
        let name = format!("{path}.in_proj_bias");
        match biases.as_deref() {
            _ if scene.is_name(&name) => {}
            Some([one]) => self.names.push((*one, Name::new(name, false))),
            Some(parts) => self.joins.push(Join {
                name,
                parts: parts.to_vec(),
                transposed: false,
            }),
            None => {}
        }
    }
}

/// What matrices of these shapes are, in an attention of this width.
fn pattern(products: &[Product<'_>], width: u64) -> Option<&'static [&'static str]> {
    let shapes: Vec<[u64; 2]> = products.iter().map(|product| product.shape).collect();
    let times = |n: u64| width.checked_mul(n);
    match shapes[..] {
        [[e, all]] if e == width && Some(all) == times(3) => Some(&["in_proj_weight"]),
        [query, [rows, both]] if query == [width; 2] && rows == width && Some(both) == times(2) => {
            Some(&["in_proj_weight"])
        }
        [query, [keys, out], [values, last]]
            if query == [width; 2] && [out, last] == [width; 2] =>
        {
            if [keys, values] == [width; 2] {
                Some(&["in_proj_weight"])
            } else {
                Some(&["q_proj_weight", "k_proj_weight", "v_proj_weight"])
            }
        }
        _ => None,
    }
}

/// What the Add behind a product adds.
fn bias(product: &Node, nodes: &[&Node], scene: &Scene<'_>) -> Option<TensorId> {
    let value = product.outputs.first().copied().flatten()?;
    let add = nodes
        .iter()
        .find(|node| node.op == "Add" && node.inputs.contains(&Some(value)))?;
    let other = add.inputs.iter().find(|input| **input != Some(value))?;
    let (source, tensor) = scene.source(*other)?;
    (tensor.spec.shape.len() == 1).then_some(source.id)
}

impl Name {
    fn new(text: String, transposed: bool) -> Self {
        Self {
            text,
            transposed,
            by: By::Node,
        }
    }
}
