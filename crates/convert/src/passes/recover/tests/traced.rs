//! Paths of the tracing exporter.

use super::*;

#[test]
fn modules_are_told_by_nodes() {
    let nodes: &[Step<'_>] = &[(
        "MatMul",
        "/model/layers.0/up_proj/MatMul",
        &["x", "onnx::MatMul_7"],
        "y",
    )];
    let mut model = model(&[("onnx::MatMul_7", &[2, 3])], nodes);
    let mut kept = model.clone();
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["model.layers.0.up_proj.weight"]);
    assert_eq!(model.tensors.iter().next().unwrap().spec.shape[..], [3, 2]);
    let numbers = values(&model, "model.layers.0.up_proj.weight");
    assert_eq!(numbers, [0., 3., 1., 4., 2., 5.]);
    assert_eq!(model.graph.unwrap().body.nodes.len(), 1);

    recover_names(&mut kept, true).unwrap();
    kept.validate(&ir::Limits::default()).unwrap();
    let body = kept.graph.unwrap().body;
    let [Initializer::Dense(value, _)] = body.initializers[..] else {
        panic!("{:?}", body.initializers);
    };
    let named = body.value(value).unwrap();
    assert_eq!(named.name, "model.layers.0.up_proj.weight");
    let nodes: Vec<_> = body.nodes.iter().map(|node| node.op.as_str()).collect();
    assert_eq!(nodes, ["Transpose", "MatMul"]);
    let old = body.nodes[0].outputs[0].and_then(|id| body.value(id));
    assert_eq!(old.unwrap().name, "onnx::MatMul_7");
}

#[test]
fn a_weight_of_several_modules_has_the_name_of_the_first_and_the_others_beside() {
    let nodes: &[Step<'_>] = &[
        (
            "Identity",
            "Identity_0",
            &["onnx::MatMul_1"],
            "onnx::MatMul_2",
        ),
        (
            "Identity",
            "Identity_1",
            &["onnx::MatMul_2"],
            "onnx::MatMul_3",
        ),
        ("Identity", "Identity_2", &["a.up.bias"], "b.up.bias"),
        ("MatMul", "/a/up/MatMul", &["x", "onnx::MatMul_1"], "y"),
        ("Add", "/a/up/Add", &["a.up.bias", "y"], "y1"),
        ("MatMul", "/b/up/MatMul", &["y1", "onnx::MatMul_2"], "z"),
        ("Add", "/b/up/Add", &["b.up.bias", "z"], "z1"),
        // The same module again.
        ("MatMul", "/b/up_1/MatMul", &["z1", "onnx::MatMul_3"], "w"),
        ("Add", "/b/up_1/Add", &["b.up.bias", "w"], "w1"),
        // And directly, as a parameter with its name.
        ("MatMul", "/c/MatMul", &["w1", "onnx::MatMul_1"], "v"),
        ("Add", "/c/Add", &["a.up.bias", "v"], "v1"),
    ];
    for keep in [false, true] {
        let tensors: &[(&str, &[u64])] = &[("a.up.bias", &[3]), ("onnx::MatMul_1", &[2, 3])];
        let mut model = model(tensors, nodes);
        recover_names(&mut model, keep).unwrap();
        let all = [
            "a.up.bias",
            "a.up.weight",
            "b.up.bias",
            "c.bias",
            "b.up.weight",
            "c.weight",
        ];
        assert_eq!(names(&model), all);
        let ties: Vec<usize> = model.tensors.ties().iter().map(|id| id.index()).collect();
        assert_eq!(ties, [0, 1, 0, 0, 1, 1]);
        assert_eq!(
            told(&model),
            [
                ("recovered", "onnx::MatMul_1 is a.up.weight"),
                ("recovered", "a.up.bias is b.up.bias, too"),
                ("recovered", "a.up.bias is c.bias, too"),
                ("recovered", "a.up.weight is b.up.weight, too"),
                ("recovered", "a.up.weight is c.weight, too"),
            ]
        );
        model.validate(&ir::Limits::default()).unwrap();
    }
}

#[test]
fn what_may_be_a_call_a_module_or_a_container_has_no_name() {
    let tensors: &[(&str, &[u64])] = &[("onnx::MatMul_1", &[2, 2]), ("onnx::MatMul_2", &[2, 2])];
    let first = ("MatMul", "/fc/MatMul", &["x", "onnx::MatMul_1"][..], "y");
    let other = ("MatMul", "/fc_1/MatMul", &["y", "onnx::MatMul_2"][..], "z");
    // `fc_1`, or `fc` of a second container.
    let mut either = model(tensors, &[first, other]);
    recover_names(&mut either, false).unwrap();
    assert_eq!(names(&either), ["onnx::MatMul_1", "onnx::MatMul_2"]);
    assert!(told(&either).iter().all(|(kind, _)| *kind == "raw-name"));
    // A call of `fc` has the path of a module then: no call is numbered twice.
    let again = (
        "MatMul",
        "/fc_1/MatMul_1",
        &["z", "onnx::MatMul_1"][..],
        "w",
    );
    let mut module = model(tensors, &[first, other, again]);
    recover_names(&mut module, false).unwrap();
    assert_eq!(names(&module), ["fc.weight", "fc_1.weight"]);
}

#[test]
fn containers_that_are_left_out_are_told_by_parameters_or_not_at_all() {
    let tensors: &[(&str, &[u64])] = &[
        ("blocks.0.fc.bias", &[2]),
        ("blocks.1.fc.bias", &[2]),
        ("onnx::MatMul_1", &[2, 2]),
        ("onnx::MatMul_2", &[2, 2]),
        ("onnx::MatMul_3", &[2, 2]),
        ("onnx::MatMul_4", &[2, 2]),
    ];
    let nodes: &[Step<'_>] = &[
        ("MatMul", "/fc/MatMul", &["x", "onnx::MatMul_1"], "a"),
        ("Add", "/fc/Add", &["blocks.0.fc.bias", "a"], "b"),
        ("MatMul", "/out/MatMul", &["b", "onnx::MatMul_2"], "c"),
        ("MatMul", "/fc_1/MatMul", &["c", "onnx::MatMul_3"], "d"),
        ("Add", "/fc_1/Add", &["blocks.1.fc.bias", "d"], "e"),
        ("MatMul", "/out_1/MatMul", &["e", "onnx::MatMul_4"], "f"),
    ];
    let mut model = model(tensors, nodes);
    recover_names(&mut model, false).unwrap();
    let all = [
        "blocks.0.fc.bias",
        "blocks.1.fc.bias",
        "blocks.0.fc.weight",
        "onnx::MatMul_2",
        "blocks.1.fc.weight",
        "onnx::MatMul_4",
    ];
    assert_eq!(names(&model), all);
}

#[test]
fn a_module_with_parameters_of_other_names_has_no_weight() {
    let tensors: &[(&str, &[u64])] = &[("m.bt", &[2]), ("onnx::MatMul_1", &[2, 2])];
    let nodes: &[Step<'_>] = &[
        ("MatMul", "/m/MatMul", &["x", "onnx::MatMul_1"], "a"),
        ("Add", "/m/Add", &["m.bt", "a"], "b"),
    ];
    let mut model = model(tensors, nodes);
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["m.bt", "onnx::MatMul_1"]);
}

#[test]
fn two_weights_of_one_module_keep_their_names() {
    let nodes: &[Step<'_>] = &[
        ("MatMul", "/a/MatMul", &["x", "onnx::MatMul_1"], "y"),
        ("MatMul", "/a/MatMul_1", &["y", "onnx::MatMul_2"], "z"),
    ];
    let tensors: &[(&str, &[u64])] = &[("onnx::MatMul_1", &[2, 2]), ("onnx::MatMul_2", &[2, 2])];
    let mut model = model(tensors, nodes);
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["onnx::MatMul_1", "onnx::MatMul_2"]);
    let kinds = [
        ("raw-name", "onnx::MatMul_1"),
        ("raw-name", "onnx::MatMul_2"),
    ];
    assert_eq!(told(&model), kinds);
    assert!(model.provenance.records[0].why.contains("module, a:"));
}

#[test]
fn a_head_stands_beside_the_model_that_is_not_called() {
    let nodes: &[Step<'_>] = &[
        (
            "Gather",
            "/decoder/e/Gather",
            &["model.decoder.e.weight", "ids"],
            "x",
        ),
        ("MatMul", "/lm_head/MatMul", &["x", "onnx::MatMul_1"], "y"),
        ("MatMul", "/fc/MatMul", &["x", "onnx::MatMul_2"], "z"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("model.decoder.e.weight", &[3, 2]),
        ("onnx::MatMul_1", &[2, 3]),
        ("onnx::MatMul_2", &[2, 3]),
    ];
    let mut model = model(tensors, nodes);
    recover_names(&mut model, false).unwrap();
    // Another layer could as well be a part of the model.
    let all = ["model.decoder.e.weight", "lm_head.weight", "onnx::MatMul_2"];
    assert_eq!(names(&model), all);
}

#[test]
fn the_operator_in_a_name_is_no_part_of_it() {
    let nodes: &[Step<'_>] = &[
        ("Gather", "/m/embed/Gather", &["turned", "ids"], "e"),
        ("MatMul", "/m/up/MatMul", &["e", "m.up.MatMul.weight"], "u"),
        ("Add", "/m/up/Add", &["u", "m.up.Add.bias"], "a"),
        (
            "MatMul",
            "/m/other/MatMul",
            &["a", "m.down.MatMul.weight"],
            "d",
        ),
        ("MatMul", "/head/MatMul", &["d", "head.MatMul.weight"], "y"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("head.MatMul.weight", &[2, 3]),
        ("m.up.MatMul.weight", &[2, 3]),
        ("m.up.Add.bias", &[3]),
        ("m.down.MatMul.weight", &[3, 2]),
    ];
    let mut model = model(tensors, nodes);
    let body = &mut model.graph.as_mut().unwrap().body;
    // The head is taken by the last node, and what a Gather takes rows of by the first.
    let from = body.nodes[4].inputs[1];
    let to = body.nodes[0].inputs[0];
    let perm = Attribute {
        name: "perm".to_owned(),
        value: AttributeValue::Ints(vec![1, 0]),
        doc: String::new(),
    };
    let turn = Node {
        op: "Transpose".to_owned(),
        inputs: vec![from],
        outputs: vec![to],
        attributes: vec![perm],
        ..Node::default()
    };
    body.nodes.insert(0, turn);
    recover_names(&mut model, false).unwrap();
    // Of a node at another path a name tells nothing.
    let all = [
        "m.embed.weight",
        "m.up.weight",
        "m.up.bias",
        "m.down.MatMul.weight",
        "head.weight",
    ];
    assert_eq!(names(&model), all);
    assert_eq!(
        values(&model, "m.up.weight"),
        [6.0, 9.0, 7.0, 10.0, 8.0, 11.0]
    );
    assert_eq!(
        model.tensors.by_name("head.weight").unwrap().spec.shape[..],
        [3, 2]
    );
}
