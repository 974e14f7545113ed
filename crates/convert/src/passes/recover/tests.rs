use super::*;
use ir::{DType, Graph};

/// Operator, name of the node, inputs, output.
type Step<'a> = (&'a str, &'a str, &'a [&'a str], &'a str);

fn floats(count: u64, from: u64) -> Vec<u8> {
    let numbers = (from..from + count).map(|n| f32::from(u16::try_from(n).unwrap()));
    numbers.flat_map(f32::to_le_bytes).collect()
}

/// A graph over F32 tensors, each with numbers of its own.
fn model(tensors: &[(&str, &[u64])], nodes: &[Step<'_>]) -> Model {
    let mut model = Model::default();
    let mut body = GraphBody::default();
    let mut ids: HashMap<String, ir::ValueId> = HashMap::new();
    let mut value = |body: &mut GraphBody, name: &str| {
        *ids.entry(name.to_owned()).or_insert_with(|| {
            let value = Value {
                name: name.to_owned(),
                ..Value::default()
            };
            body.add_value(value).unwrap()
        })
    };
    let mut from = 0;
    for (name, shape) in tensors {
        let spec = TensorSpec::new(DType::F32, shape.to_vec());
        let count = spec.elements().unwrap();
        let view = View::contiguous(Region::memory(floats(count, from)));
        from += count;
        let id = model
            .tensors
            .push(Tensor::stored(*name, spec, view))
            .unwrap();
        let value = value(&mut body, name);
        body.initializers.push(Initializer::Dense(value, id));
    }
    for (op, name, inputs, output) in nodes {
        let inputs = inputs.iter().map(|name| Some(value(&mut body, name)));
        let inputs = inputs.collect();
        let outputs = vec![Some(value(&mut body, output))];
        body.nodes.push(Node {
            name: (*name).to_owned(),
            op: (*op).to_owned(),
            inputs,
            outputs,
            ..Node::default()
        });
    }
    model.graph = Some(Graph {
        body,
        ..Graph::default()
    });
    model
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors.iter().map(|t| t.name.as_str()).collect()
}

fn values(model: &Model, name: &str) -> Vec<f32> {
    let bytes = model.tensors.by_name(name).unwrap().read_all().unwrap();
    let values = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
    values.collect()
}

/// The kinds and subjects of all records.
fn told(model: &Model) -> Vec<(&str, &str)> {
    let records = model.provenance.records.iter();
    records.map(|r| (r.kind, r.what.as_str())).collect()
}

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
fn parts_of_an_attention_are_joined() {
    let nodes: &[Step<'_>] = &[
        ("MatMul", "/b/MatMul", &["x", "onnx::MatMul_1"], "q"),
        ("Add", "/b/Add", &["onnx::Add_3", "q"], "q1"),
        ("MatMul", "/b/MatMul_1", &["y", "onnx::MatMul_2"], "k"),
        ("Add", "/b/Add_1", &["onnx::Add_4", "k"], "k1"),
        ("MatMul", "/b/MatMul_2", &["q1", "k1"], "s"),
        ("Softmax", "/b/Softmax", &["s"], "s1"),
        (
            "Gemm",
            "/b/Gemm",
            &["s1", "a.b.out_proj.weight", "a.b.out_proj.bias"],
            "o",
        ),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("a.b.out_proj.weight", &[2, 2]),
        ("a.b.out_proj.bias", &[2]),
        ("onnx::MatMul_1", &[2, 2]),
        ("onnx::MatMul_2", &[2, 4]),
        ("onnx::Add_3", &[2]),
        ("onnx::Add_4", &[4]),
    ];
    let parts = model(tensors, nodes);
    let mut whole = parts.clone();
    recover_names(&mut whole, false).unwrap();
    let all = [
        "a.b.out_proj.weight",
        "a.b.out_proj.bias",
        "a.b.in_proj_weight",
        "a.b.in_proj_bias",
    ];
    assert_eq!(names(&whole), all);
    let joined = values(&whole, "a.b.in_proj_weight");
    let wanted = [6., 8., 7., 9., 10., 14., 11., 15., 12., 16., 13., 17.];
    assert_eq!(joined, wanted);
    assert_eq!(
        values(&whole, "a.b.in_proj_bias"),
        [18., 19., 20., 21., 22., 23.]
    );
    whole.validate(&ir::Limits::default()).unwrap();
    // A graph that is kept computes with the parts.
    let mut kept = parts;
    recover_names(&mut kept, true).unwrap();
    assert_eq!(kept.tensors.len(), 6);
    assert!(kept.tensors.by_name("onnx::MatMul_2").is_some());
    kept.validate(&ir::Limits::default()).unwrap();
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
fn gates_are_put_in_the_order_of_the_module() {
    let nodes: &[Step<'_>] = &[(
        "LSTM",
        "/enc/lstm/LSTM",
        &["x", "onnx::LSTM_1", "onnx::LSTM_2", "onnx::LSTM_3"],
        "y",
    )];
    let tensors: &[(&str, &[u64])] = &[
        ("onnx::LSTM_1", &[1, 4, 2]),
        ("onnx::LSTM_2", &[1, 4, 1]),
        ("onnx::LSTM_3", &[1, 8]),
    ];
    let mut model = model(tensors, nodes);
    let node = &mut model.graph.as_mut().unwrap().body.nodes[0];
    node.attributes.push(Attribute {
        name: "hidden_size".to_owned(),
        value: AttributeValue::Int(1),
        doc: String::new(),
    });
    let mut kept = model.clone();
    recover_names(&mut model, false).unwrap();
    assert_eq!(
        names(&model),
        [
            "enc.lstm.weight_ih_l0",
            "enc.lstm.weight_hh_l0",
            "enc.lstm.bias_ih_l0",
            "enc.lstm.bias_hh_l0"
        ]
    );
    // ONNX has `iofc`, PyTorch `ifgo`, where g is c.
    let gates = values(&model, "enc.lstm.weight_ih_l0");
    assert_eq!(gates, [0., 1., 4., 5., 6., 7., 2., 3.]);
    assert_eq!(values(&model, "enc.lstm.weight_hh_l0"), [8., 10., 11., 9.]);
    assert_eq!(values(&model, "enc.lstm.bias_ih_l0"), [12., 14., 15., 13.]);
    assert_eq!(values(&model, "enc.lstm.bias_hh_l0"), [16., 18., 19., 17.]);
    // A graph that is kept computes with what it has.
    recover_names(&mut kept, true).unwrap();
    assert_eq!(
        names(&kept),
        ["onnx::LSTM_1", "onnx::LSTM_2", "onnx::LSTM_3"]
    );
    assert!(told(&kept).contains(&("raw-name", "onnx::LSTM_1")));
}

/// Gives nodes properties, by their place.
fn note(model: &mut Model, notes: &[(usize, &str, &str)]) {
    let body = &mut model.graph.as_mut().unwrap().body;
    for (at, key, text) in notes {
        let note = ((*key).to_owned(), (*text).to_owned());
        body.nodes[*at].metadata.push(note);
    }
}

#[test]
fn a_layer_that_a_normalization_went_into_is_not_the_normalization() {
    let nodes: &[Step<'_>] = &[
        ("Gemm", "n1", &["x", "l.weight", "l.bias"], "y"),
        ("Gemm", "n2", &["y", "o.weight", "o.weight_bias"], "z"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("l.weight", &[2, 2]),
        ("l.bias", &[2]),
        ("o.weight", &[2, 2]),
        ("o.weight_bias", &[2]),
    ];
    let mut model = model(tensors, nodes);
    let rule = "pkg.onnxscript.rewriter.rule_name";
    let scopes = "pkg.torch.onnx.name_scopes";
    let call = "%f : call_function[target=torch.ops.aten._native_batch_norm_legit_no_training.default]\
                (args = (%linear_1, %p_bo_weight, %p_bo_bias), kwargs = {})";
    let notes = [
        (0, rule, "FuseBatchNormIntoGemm"),
        (0, scopes, "['', 'bn', 'f']"),
        (1, rule, "FuseBatchNormIntoGemm, RemoveOptionalBiasFromGemm"),
        (1, scopes, "['', 'bo', 'f']"),
        (1, "pkg.torch.onnx.fx_node", call),
    ];
    note(&mut model, &notes);
    recover_names(&mut model, false).unwrap();
    let all = ["l.weight", "l.bias", "o.weight", "o.bias"];
    // What the exporter called the bias stays, as a second name of it.
    assert_eq!(names(&model), [&all[..], &["o.weight_bias"]].concat());
    let records = model.provenance.records.iter();
    let within: Vec<&Record> = records.filter(|r| r.kind == "normalized").collect();
    let whats: Vec<&str> = within.iter().map(|r| r.what.as_str()).collect();
    assert_eq!(whats, all);
    assert!(within[3].why.contains("computed bo into it"));
}

#[test]
fn a_convolution_of_computed_numbers_says_so() {
    let nodes: &[Step<'_>] = &[
        (
            "Conv",
            "/a/Conv",
            &["x", "onnx::Conv_1", "onnx::Conv_2"],
            "y",
        ),
        ("Conv", "/b/Conv", &["y", "b.weight", "b.bias"], "z"),
    ];
    let tensors: &[(&str, &[u64])] = &[
        ("onnx::Conv_1", &[2, 2, 3]),
        ("onnx::Conv_2", &[2]),
        ("b.weight", &[2, 2, 3]),
        ("b.bias", &[2]),
    ];
    let mut model = model(tensors, nodes);
    recover_names(&mut model, false).unwrap();
    assert_eq!(names(&model), ["a.weight", "a.bias", "b.weight", "b.bias"]);
    let told = told(&model).into_iter();
    let within: Vec<_> = told.filter(|(kind, _)| *kind == "normalized").collect();
    assert_eq!(
        within,
        [("normalized", "a.weight"), ("normalized", "a.bias")]
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
