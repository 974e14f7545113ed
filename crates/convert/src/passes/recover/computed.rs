//! What the tracing exporter computed of parameters: constants called `onnx::Conv_12`, after the
//! operator that takes them.
//!
//! A parameter that an operator takes as its module has it keeps its name. So of these only what a
//! product takes transposed can be a layer's own, and the parameters of a convolution that a
//! normalization went into; all others are slices, reshapes, sums, products.

use super::scene::Scene;
use ir::{Node, Tensor, TensorId, ValueId};
use std::collections::{HashMap, HashSet};

/// Whether a tensor that `node` takes has its name from being computed.
pub(super) fn constant(node: &Node, tensor: &Tensor) -> bool {
    let own = tensor.name.strip_prefix("onnx::");
    let number = own.and_then(|own| own.rsplit_once('_'));
    let counts = |number: &str| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    node.domain.is_empty() && number.is_some_and(|(_, number)| counts(number))
}

/// Matrices of products whose bias is computed: a layer has neither.
pub(super) fn beside(scene: &Scene<'_>) -> HashSet<TensorId> {
    let mut products: HashMap<ValueId, TensorId> = HashMap::new();
    let mut found = HashSet::new();
    for (_, node, _) in scene.nodes() {
        let source = |slot: usize| scene.source(node.inputs.get(slot).copied().flatten());
        let computed = |slot: usize| {
            let (_, tensor) = source(slot)?;
            let bias = tensor.spec.shape.len() == 1;
            (bias && constant(node, tensor)).then_some(())
        };
        match node.op.as_str() {
            "MatMul" => {
                let output = node.outputs.first().copied().flatten();
                if let (Some((weight, _)), Some(output)) = (source(1), output) {
                    products.insert(output, weight.id);
                }
            }
            "Gemm" => found.extend(computed(2).and(source(1)).map(|(weight, _)| weight.id)),
            "Add" if computed(0).or(computed(1)).is_some() => {
                let behind = node.inputs.iter().flatten();
                found.extend(behind.filter_map(|value| products.get(value)));
            }
            _ => {}
        }
    }
    found
}
