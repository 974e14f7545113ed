//! Parameters that a graph has in another form, in parts, or with others computed into them.

use super::*;

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
    // What the exporter called the bias is no name of any module's.
    assert_eq!(names(&model), all);
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
