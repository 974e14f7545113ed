//! What one node tells: the path of its module, and what it makes of an input.

use super::scene::Scene;
use ir::{AttributeValue, DType, GraphBody, Node, Tensor};
use std::collections::HashSet;

/// A parameter's name in its module, and whether it lies transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Role {
    pub(super) leaf: &'static str,
    pub(super) transposed: bool,
}

/// What a node makes of one of its inputs. `modules` are the paths that a weight was met at.
pub(super) fn role(
    node: &Node,
    slot: usize,
    tensor: &Tensor,
    modules: &HashSet<String>,
    path: Option<&str>,
    scene: &Scene<'_>,
) -> Option<Role> {
    let matrix = tensor.spec.shape.len() == 2;
    let numbers = tensor.spec.dtype.is_float() || tensor.spec.dtype == DType::I8;
    if !numbers {
        return None;
    }
    let (leaf, transposed) = match (node.op.as_str(), slot) {
        ("MatMul" | "MatMulInteger", 1) | ("QLinearMatMul", 3) if matrix => ("weight", true),
        ("MatMulNBits", 1) if matrix => ("weight", false),
        ("Gemm", 1) | ("QGemm", 3) if matrix => ("weight", node.int("transB") != Some(1)),
        ("Gemm" | "Conv" | "ConvTranspose", 2) => ("bias", false),
        ("Conv" | "ConvTranspose" | "ConvInteger", 1) | ("QLinearConv", 3) | ("Gather", 0) => {
            ("weight", false)
        }
        // Exporters spell a GroupNorm as one of ones and zeros, with the module's own behind it.
        ("InstanceNormalization", 1 | 2) if path.is_some_and(|p| scene.scales(p)) => return None,
        (op, 1) if op.ends_with("Normalization") => ("weight", false),
        (op, 2) if op.ends_with("Normalization") => ("bias", false),
        ("BatchNormalization", 3) => ("running_mean", false),
        ("BatchNormalization", 4) => ("running_var", false),
        ("Add", 0 | 1)
            if tensor.spec.shape.len() == 1 && path.is_some_and(|p| modules.contains(p)) =>
        {
            ("bias", false)
        }
        _ => return None,
    };
    Some(Role { leaf, transposed })
}

/// Whether a node swaps the two dimensions of a matrix.
pub(super) fn swaps(node: &Node) -> bool {
    matches!(node.attribute("perm"), Some(AttributeValue::Ints(list)) if list[..] == [1, 0])
}

/// A name that is no path of a module.
pub(super) fn hidden(name: &str) -> bool {
    name.contains("::") || name.starts_with('/') || !name.contains('.')
}

/// A module's path, as one exporter or the other tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) name: String,
    /// The tracing exporter numbers the calls of a module and leaves out the names of some
    /// containers; the newer one does neither.
    pub(super) traced: bool,
}

/// The module a node was made in.
pub(super) fn path(body: &GraphBody, node: &Node) -> Option<Path> {
    let path = |traced| move |name| Path { name, traced };
    traced(body, node)
        .map(path(true))
        .or_else(|| scope(node).map(path(false)))
}

/// The tracing exporter: a node's name, or its output's, without the operator at the end.
fn traced(body: &GraphBody, node: &Node) -> Option<String> {
    let output = node.outputs.first().copied().flatten();
    let output = output
        .and_then(|id| body.value(id))
        .map(|value| value.name.as_str());
    let traced = |name: &&str| name.starts_with('/');
    let name = Some(node.name.as_str())
        .filter(traced)
        .or(output.filter(traced))?;
    let (module, _) = name.trim_start_matches('/').rsplit_once('/')?;
    (!module.is_empty()).then(|| joined(module))
}

/// The newer exporter: `['', 'model', 'model.layers.0', 'linear_3']`, the operator last.
fn scope(node: &Node) -> Option<String> {
    const KEY: &str = "pkg.torch.onnx.name_scopes";
    let (_, text) = node.metadata.iter().find(|(key, _)| key == KEY)?;
    let list = strings(text)?;
    let [.., module, _] = list[..] else {
        return None;
    };
    (!module.is_empty()).then(|| module.to_owned())
}

/// Most parts of a list of names.
const PARTS: usize = 256;

/// A list of strings as Python writes it; strings that need escapes are none of these.
pub(super) fn strings(text: &str) -> Option<Vec<&str>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts = inside.split(", ").take(PARTS);
    let quoted = |part: &'_ str| -> Option<(usize, usize)> {
        let quote = part.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let end = part.len().checked_sub(1)?;
        (end > 0 && part.ends_with(quote) && !part.contains('\\')).then_some((1, end))
    };
    parts
        .map(|part| quoted(part).and_then(|(from, to)| part.get(from..to)))
        .collect()
}

/// The parts of a path as one name. A module inside a container repeats the container's name:
/// `layers.0/layers.0.2` is `layers.0.2`.
fn joined(path: &str) -> String {
    let mut name: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if name.last().is_some_and(|last| {
            let rest = part.strip_prefix(last);
            rest.is_some_and(|rest| rest.starts_with('.'))
        }) {
            name.pop();
        }
        name.push(part);
    }
    name.join(".")
}

/// The module that a numbered call is one of: `block.up` of `block.up_1`.
pub(super) fn called(path: &str) -> Option<&str> {
    let (module, number) = path.rsplit_once('_')?;
    let counts = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (counts && !number.starts_with('0') && !module.is_empty()).then_some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_named_once() {
        assert_eq!(
            joined("model/layers.0/mlp/up_proj"),
            "model.layers.0.mlp.up_proj"
        );
        assert_eq!(joined("net/layers.1/layers.1.2"), "net.layers.1.2");
        assert_eq!(joined("a/a"), "a.a");
    }

    #[test]
    fn calls_are_numbered() {
        assert_eq!(called("block.up_1"), Some("block.up"));
        assert_eq!(called("block.up_12"), Some("block.up"));
        for module in ["block.up", "block.up_", "up_0", "up_01", "_1", "up_1a"] {
            assert_eq!(called(module), None, "{module}");
        }
    }

    #[test]
    fn lists_as_python_writes_them() {
        assert_eq!(strings("['', 'a', 'a.b']").unwrap(), ["", "a", "a.b"]);
        assert_eq!(strings(r#"["it's", 'x']"#).unwrap(), ["it's", "x"]);
        for other in ["", "[", "[]", "['a'", "[a]", "['a]", "[']", r"['\n']"] {
            assert_eq!(strings(other), None, "{other}");
        }
    }
}
