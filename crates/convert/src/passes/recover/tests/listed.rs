//! What the newer exporter says in properties.

use super::*;

#[test]
fn the_newer_exporter_lists_the_parameters_of_a_call() {
    let tensors: &[(&str, &[u64])] = &[
        ("a.fc.weight", &[3, 2]),
        ("a.norm.weight", &[2]),
        ("val_1", &[2]),
    ];
    let nodes: &[Step<'_>] = &[
        ("Gemm", "n1", &["x", "a.fc.weight"], "x1"),
        ("Gemm", "n2", &["x1", "a.fc.weight"], "x2"),
        ("LayerNormalization", "n3", &["x2", "a.norm.weight"], "x3"),
        ("LayerNormalization", "n4", &["x3", "a.norm.weight"], "x4"),
        ("LayerNormalization", "n5", &["x4", "val_1"], "x5"),
    ];
    let mut model = model(tensors, nodes);
    let calls = [
        (
            "a.fc",
            "aten.linear.default](args = (%x, %p_a_fc_weight, %p_a_fc_bias)",
        ),
        (
            "B.fc",
            "aten.linear.default](args = (%x1, %p_b_fc_weight, %p_b_fc_bias)",
        ),
        (
            "a.norm",
            "aten.layer_norm.default](args = (%x2, [2], %p_a_norm_weight)",
        ),
        (
            "b.norm",
            "aten.layer_norm.default](args = (%x3, [2], None, None)",
        ),
        (
            "c.norm",
            "aten.layer_norm.default](args = (%x4, [2], None, None)",
        ),
    ];
    let body = &mut model.graph.as_mut().unwrap().body;
    for (node, (module, call)) in body.nodes.iter_mut().zip(calls) {
        let mut add = |key: &str, text: String| node.metadata.push((key.to_owned(), text));
        add(
            "pkg.torch.onnx.name_scopes",
            format!("['', '{module}', 'f']"),
        );
        add(
            "pkg.torch.onnx.fx_node",
            format!("%f : call_function[target={call}, kwargs = {{}})"),
        );
        if node.op == "Gemm" {
            let rule = "RemoveOptionalBiasFromGemm".to_owned();
            add("pkg.onnxscript.rewriter.rule_name", rule);
            node.attributes.push(Attribute {
                name: "transB".to_owned(),
                value: AttributeValue::Int(1),
                doc: String::new(),
            });
        }
    }
    let mut kept = model.clone();
    recover_names(&mut model, false).unwrap();
    let all = [
        "a.fc.weight",
        "a.norm.weight",
        "val_1",
        "B.fc.bias",
        "a.fc.bias",
        "B.fc.weight",
    ];
    assert_eq!(names(&model), all);
    assert_eq!(values(&model, "B.fc.bias"), [0., 0., 0.]);
    assert_eq!(values(&model, "B.fc.weight"), values(&model, "a.fc.weight"));
    recover_names(&mut kept, true).unwrap();
    assert!(kept.tensors.by_name("B.fc.bias").is_none());
}

#[test]
fn the_newer_exporter_tells_modules_and_folded_parameters() {
    let nodes: &[Step<'_>] = &[
        ("Gather", "node_embedding", &["head.weight", "ids"], "x"),
        ("MatMul", "node_linear", &["x", "val_1"], "y"),
        ("MatMul", "node_linear_1", &["y", "val_2"], "z"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("head.weight", &[3, 2]),
        ("val_1", &[2, 3]),
        ("val_2", &[2, 3]),
    ];
    let mut model = model(tensors, nodes);
    let body = &mut model.graph.as_mut().unwrap().body;
    let text = |text: &str| text.to_owned();
    for (node, scope) in body.nodes.iter_mut().zip(["embed", "head", "head"]) {
        let scopes = format!("['', '{scope}', 'operator']");
        node.metadata
            .push((text("pkg.torch.onnx.name_scopes"), scopes));
    }
    for value in &mut body.values {
        if value.name.starts_with("val_") {
            let key = text("pkg.onnxscript.optimizer.folded_from");
            value.metadata.push((key, text("['head.weight']")));
        }
    }
    recover_names(&mut model, false).unwrap();
    // The table has the embedding's name; of two constants that claim the head the first is it.
    assert_eq!(names(&model), ["embed.weight", "head.weight", "val_2"]);
    let told: Vec<&str> = told(&model).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(told, ["recovered", "recovered", "raw-name"]);
    let why = &model.provenance.records[2].why;
    assert!(
        why.starts_with("head.weight, as its node calls it"),
        "{why}"
    );
}

#[test]
fn a_transposed_weight_is_written_once_for_all_its_calls() {
    let nodes: &[Step<'_>] = &[
        ("MatMul", "n1", &["x", "val_1"], "y"),
        ("MatMul", "n2", &["y", "val_2"], "z"),
    ];
    let mut model = model(&[("val_1", &[2, 3]), ("val_2", &[2, 3])], nodes);
    let spec = TensorSpec::new(DType::F32, vec![2, 3]);
    let numbers = || View::contiguous(Region::memory(floats(6, 0)));
    let twice = ["val_1", "val_2"].map(|name| Tensor::stored(name, spec.clone(), numbers()));
    model.tensors = TensorTable::from_tensors(twice.to_vec()).unwrap();
    let scopes = "pkg.torch.onnx.name_scopes";
    let notes = [
        (0, scopes, "['', 'fc', 'f']"),
        (1, scopes, "['', 'fc', 'f']"),
    ];
    note(&mut model, &notes);
    for value in &mut model.graph.as_mut().unwrap().body.values {
        if value.name.starts_with("val_") {
            let key = "pkg.onnxscript.optimizer.folded_from".to_owned();
            value.metadata.push((key, "['fc.weight']".to_owned()));
        }
    }
    let mut kept = model.clone();
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["fc.weight"]);
    let both = [
        ("recovered", "val_1 is fc.weight"),
        ("recovered", "val_2 is fc.weight, too"),
    ];
    assert_eq!(told(&model), both);
    recover_names(&mut kept, true).unwrap();
    kept.validate(&ir::Limits::default()).unwrap();
    assert_eq!(names(&kept), ["fc.weight", "val_2"]);
}
