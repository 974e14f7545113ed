//! What stays the parts it is.

use super::codes::is_code;
use super::scene::Scene;
use ir::{Model, Node, Record, TensorId};
use std::collections::{BTreeMap, BTreeSet};

/// The inputs of an operator that may be a weight's codes.
fn weights(node: &Node) -> &'static [usize] {
    match node.op.as_str() {
        "DequantizeLinear" | "GatherBlockQuantized" => &[0],
        "MatMulNBits" | "DynamicQuantizeMatMul" | "QAttention" => &[1],
        "MatMulInteger" | "ConvInteger" | "MatMulIntegerToFloat" => &[0, 1],
        "QLinearConv" | "QGemm" => &[3],
        "QLinearMatMul" | "QLinearAdd" | "QLinearMul" => &[0, 3],
        "DynamicQuantizeLSTM" => &[1, 2],
        "QEmbedLayerNormalization" => &[2, 3, 4],
        _ => &[],
    }
}

/// A record for each operator that takes codes which were not understood.
pub(super) fn records(model: &Model) -> Vec<Record> {
    let Some(graph) = &model.graph else {
        return Vec::new();
    };
    let scene = Scene::new(&graph.body, &model.tensors, &model.metadata);
    let mut found: BTreeMap<&str, BTreeSet<TensorId>> = BTreeMap::new();
    for node in &graph.body.nodes {
        for slot in weights(node) {
            let Some(id) = scene.origin(node, *slot).tensor else {
                continue;
            };
            if scene.tensor(Some(id)).is_some_and(|t| is_code(t.dtype())) {
                found.entry(&node.op).or_default().insert(id);
            }
        }
    }
    let record = |(op, ids): (&str, BTreeSet<TensorId>)| {
        let weights = match ids.len() {
            1 => "1 weight".to_owned(),
            n => format!("{n} weights"),
        };
        let what = format!("{weights} quantized for {op}");
        let why = "codes, scales and zero points stay tensors of their own: there is no reading of \
                   them here that gives the values onnxruntime computes";
        Record::carried("quantized-parts", what, why)
    };
    found.into_iter().map(record).collect()
}
