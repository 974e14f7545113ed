//! Numbers that an exporter computed of parameters have no parameter's name.

use super::*;

#[test]
fn what_no_layer_has_computed_keeps_its_name() {
    let nodes: &[Step<'_>] = &[
        // `F.embedding(ids, W[:3])`, `F.conv1d(x, W * 2)`.
        ("Gather", "/e/Gather", &["onnx::Gather_4", "ids"], "x0"),
        ("Conv", "/c/Conv", &["x0", "onnx::Conv_5", "c.bias"], "x1"),
        // `F.linear(x, W[:2], b[:2])` of more dimensions than two and of two.
        ("MatMul", "/m/MatMul", &["x1", "onnx::MatMul_6"], "x2"),
        ("Add", "/m/Add", &["onnx::Add_7", "x2"], "x3"),
        ("Gemm", "/g/Gemm", &["x3", "onnx::Gemm_8", "g.bias"], "x4"),
        // And layers.
        ("MatMul", "/l/MatMul", &["x4", "onnx::MatMul_9"], "x5"),
        ("Add", "/l/Add", &["l.bias", "x5"], "x6"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("onnx::Gather_4", &[3, 2]),
        ("onnx::Conv_5", &[2, 2, 1]),
        ("c.bias", &[2]),
        ("onnx::MatMul_6", &[2, 2]),
        ("onnx::Add_7", &[2]),
        ("onnx::Gemm_8", &[2, 2]),
        ("g.bias", &[2]),
        ("onnx::MatMul_9", &[2, 2]),
        ("l.bias", &[2]),
    ];
    let mut model = model(tensors, nodes);
    let body = &mut model.graph.as_mut().unwrap().body;
    body.nodes[4].attributes.push(Attribute {
        name: "transB".to_owned(),
        value: AttributeValue::Int(1),
        doc: String::new(),
    });
    recover_names(&mut model, false).unwrap();
    let mut wanted: Vec<&str> = tensors.iter().map(|(name, _)| *name).collect();
    wanted[7] = "l.weight";
    assert_eq!(names(&model), wanted);
}

#[test]
fn what_code_transposed_is_the_parameter_and_what_it_computed_is_not() {
    // As torch 2.15 writes `x @ W.T`, `F.linear(x, W.t())` and `x @ W.abs()`.
    let nodes: &[Step<'_>] = &[
        ("MatMul", "n1", &["x", "permute"], "x1"),
        ("MatMul", "n2", &["x1", "val_0"], "x2"),
        ("MatMul", "n3", &["x2", "abs_1"], "x3"),
    ];
    let tensors: &[(&str, &[u64])] =
        &[("permute", &[2, 3]), ("val_0", &[3, 2]), ("abs_1", &[2, 2])];
    let mut model = model(tensors, nodes);
    let froms = ["['a.weight']", "['b.weight', 't']", "['c.weight']"];
    let body = &mut model.graph.as_mut().unwrap().body;
    for ((name, _), from) in tensors.iter().zip(froms) {
        let value = body.values.iter_mut().find(|value| value.name == *name);
        let key = "pkg.onnxscript.optimizer.folded_from".to_owned();
        value.unwrap().metadata.push((key, from.to_owned()));
    }
    let scopes = "pkg.torch.onnx.name_scopes";
    let notes = [
        (0, scopes, "['', 'a', 'f']"),
        (1, scopes, "['', 'b', 'f']"),
        (2, scopes, "['', 'c', 'f']"),
    ];
    note(&mut model, &notes);
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["a.weight", "b.weight", "abs_1"]);
    assert_eq!(values(&model, "a.weight"), [0., 3., 1., 4., 2., 5.]);
    assert_eq!(values(&model, "b.weight"), [6., 7., 8., 9., 10., 11.]);
}
