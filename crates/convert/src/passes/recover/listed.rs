//! What the newer exporter says of a node's parameters: the call it was, with all of them.
//!
//! `%linear : … = call_function[target=torch.ops.aten.linear.default](args = (%x,
//! %p_layers_1_fc_weight, None), kwargs = {})`
//!
//! So a name is certain that is the module's path, a dot and a leaf, and is listed with `_` for
//! each dot, in small letters, also where a tensor of equal numbers is written once for several modules.

use super::nodes::strings;
use super::scene::Scene;
use ir::Node;

/// Bytes of a call that are looked at.
const CALL: usize = 1 << 14;

/// The rewriter's rules that made a node.
const RULE: &str = "pkg.onnxscript.rewriter.rule_name";

/// What classes are called that have a `weight`.
const KINDS: [&str; 3] = ["Embedding", "Linear", "Norm"];

fn text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    let entry = node.metadata.iter().find(|(own, _)| own == key);
    entry.map(|(_, text)| text.as_str())
}

/// A call up to its arguments, and from there on.
fn call(node: &Node) -> Option<(&str, &str)> {
    let call = text(node, "pkg.torch.onnx.fx_node")?;
    call.get(..CALL).unwrap_or(call).split_once("](args = ")
}

/// Whether a node is a layer that the normalization behind it went into: then its path and its call
/// are the normalization's, and its numbers those of both.
pub(super) fn normalized(node: &Node) -> bool {
    let product = node.op.starts_with("Conv") || matches!(node.op.as_str(), "MatMul" | "Gemm");
    let rule = || text(node, RULE).is_some_and(|rule| rule.contains("FuseBatchNorm"));
    product && (rule() || call(node).is_some_and(|(call, _)| call.contains("batch_norm")))
}

/// The parameters and buffers of a call, as they stand in it.
pub(super) struct Listed<'a> {
    names: Vec<&'a str>,
    /// Whether the module is one of PyTorch's own, or of such a kind.
    layer: bool,
    /// Whether the module is a table by its class.
    table: bool,
    /// Whether a bias of zeros was taken away.
    pub(super) no_bias: bool,
}

impl<'a> Listed<'a> {
    /// None where the exporter does not tell, as older ones.
    pub(super) fn of(node: &'a Node) -> Option<Self> {
        let (_, arguments) = call(node)?;
        let names = arguments.split('%').skip(1).map(|part| {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_');
            part.get(..end.unwrap_or(part.len())).unwrap_or_default()
        });
        let parameter = |name: &'a str| name.strip_prefix("p_").or(name.strip_prefix("b_"));
        let classes = text(node, "pkg.torch.onnx.class_hierarchy").and_then(strings);
        let class = classes.and_then(|list| list.iter().rev().nth(1).copied());
        let rule = text(node, RULE).unwrap_or_default();
        Some(Self {
            names: names.filter_map(parameter).collect(),
            layer: class.is_some_and(|class| {
                let kind = KINDS.iter().any(|kind| class.ends_with(kind));
                kind || class.starts_with("torch.nn.modules.")
            }),
            table: class.is_some_and(|class| class.ends_with("Embedding")),
            no_bias: rule.starts_with("RemoveOptionalBiasFrom"),
        })
    }

    /// Whether the call takes this parameter.
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.iter().any(|own| alike(own, name))
    }

    /// Whether a module that does not list a parameter of its own has this one for it: what modules
    /// share is listed under one name.
    pub(super) fn shares(&self, other: Option<&str>) -> bool {
        self.layer && other.is_some_and(|other| self.has(other))
    }

    /// Whether the module is an embedding, PyTorch's or one made of it.
    pub(super) fn table(&self) -> bool {
        self.table
    }

    /// The parameter of `module` that is known as `other` of another module, if it is listed.
    pub(super) fn same_leaf(&self, module: &str, other: &str) -> Option<String> {
        let dots = other.match_indices('.').map(|(at, _)| at);
        let leaves = dots.filter_map(|at| other.get(at..));
        let mut names = leaves.map(|leaf| format!("{module}{leaf}"));
        names.find(|name| name != other && self.has(name))
    }
}

/// Whether a listed name is this one: letters became small, and what is neither a letter nor a digit `_`.
fn alike(listed: &str, name: &str) -> bool {
    let as_listed = |c: char| if c.is_alphanumeric() { c } else { '_' };
    let name = name.chars().map(as_listed);
    let name = name.flat_map(char::to_lowercase);
    listed.chars().flat_map(char::to_lowercase).eq(name)
}

/// The module's attention: whether a node takes its `out_proj.weight` or another's in its place.
pub(super) fn takes(node: &Node, name: &str, scene: &Scene<'_>) -> bool {
    let input = node.inputs.get(1).copied().flatten();
    scene.name(input) == Some(name)
        || scene.name(input).is_some() && Listed::of(node).is_some_and(|listed| listed.has(name))
}
