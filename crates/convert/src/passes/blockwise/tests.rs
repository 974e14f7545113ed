use super::nodes::node_of;
use super::*;
use ir::{BlockFormat, Dim, DimSize, Limits, ModelBuilder, PatternCompute};

fn blocks(name: &str, format: BlockFormat, shape: &[u64]) -> Tensor {
    PatternCompute::tensor(name, DType::Block(format), shape.to_vec())
}

fn ops(model: &Model) -> Vec<&str> {
    let body = &model.graph.as_ref().unwrap().body;
    body.nodes.iter().map(|node| node.op.as_str()).collect()
}

#[test]
fn tensors_alone_become_a_container() {
    let mut model = ModelBuilder::new()
        .push(blocks("a", BlockFormat::Q4_0, &[3, 64]))
        .push(PatternCompute::tensor("a_scale", DType::F32, [2]))
        .push(blocks("b", BlockFormat::Q5_1, &[64]))
        .build()
        .unwrap();
    blockwise(&mut model).unwrap();
    model.validate(&Limits::default()).unwrap();
    let specs: Vec<(&str, DType, &[u64])> = (model.tensors.iter())
        .map(|t| (t.name.as_str(), t.dtype(), &t.spec.shape[..]))
        .collect();
    assert_eq!(
        specs,
        [
            ("a_quantized", DType::I4, &[3, 64][..]),
            ("a_scale", DType::F32, &[2]),
            ("b_quantized", DType::U8, &[2, 32]),
            ("a_scale~", DType::F16, &[3, 2]),
            ("b_scale", DType::F16, &[2, 1]),
            ("b_min", DType::F16, &[2, 1]),
        ]
    );
    let wanted = [
        "Cast",
        "DequantizeLinear",
        "Cast",
        "DequantizeLinear",
        "Cast",
        "Add",
        "Constant",
        "Reshape",
    ];
    assert_eq!(ops(&model), wanted);
    let note = |key: &str| model.metadata.get(ns::NOTE, key).and_then(|v| v.as_str());
    assert_eq!(note("kind"), Some("container"));
    assert_eq!(note("blocks.b"), Some("Q5_1"));
    // Parts in any range: codes pair by pair, scales one by one.
    let codes = model.tensors.by_name("a_quantized").unwrap();
    let whole = codes.read_all().unwrap();
    let mut part = [0; 20];
    codes.read(30..70, &mut part).unwrap();
    assert_eq!(part[..], whole[15..35]);
    let scales = model.tensors.by_name("a_scale~").unwrap();
    let (all, mut one) = (scales.read_all().unwrap(), [0; 2]);
    scales.read(4..5, &mut one).unwrap();
    assert_eq!(one[..], all[8..10]);
    assert_eq!(one[0], PatternCompute::byte(4 * 18));
}

/// A Gather in blocks of this shape, and a Gemm by what it gives.
fn lookup_in(shape: &[u64]) -> Model {
    let table = blocks("w", BlockFormat::Q4_0, shape);
    let mut model = ModelBuilder::new().push(table).build().unwrap();
    let mut body = GraphBody::of_tensors(&model.tensors).unwrap();
    body.outputs.clear();
    let dims = vec![
        Dim {
            size: DimSize::Unknown,
            denotation: String::new()
        };
        2
    ];
    let mut value = |name: &str, ty| {
        let name = name.to_owned();
        body.add_value(Value {
            name,
            ty,
            ..Value::default()
        })
        .unwrap()
    };
    let ids = value("ids", Some(ValueType::Tensor(Some(DType::I64), Some(dims))));
    let (rows, y) = (value("rows", None), value("y", None));
    let Initializer::Dense(w, _) = body.initializers[0] else {
        panic!("sparse");
    };
    body.nodes = vec![
        node_of("g".to_owned(), "Gather", &[w, ids], Vec::new(), rows),
        node_of("m".to_owned(), "Gemm", &[rows, w], Vec::new(), y),
    ];
    model.graph = Some(Graph {
        body,
        ..Graph::default()
    });
    blockwise(&mut model).unwrap();
    model.validate(&Limits::default()).unwrap();
    model
}

#[test]
fn rows_that_are_looked_up_become_numbers_alone() {
    let model = lookup_in(&[8, 32]);
    let wanted = [
        "Gather",
        "Gather",
        "Cast",
        "DequantizeLinear",
        "Cast",
        "DequantizeLinear",
        "Gemm",
    ];
    assert_eq!(ops(&model), wanted);
    assert_eq!(
        model.tensors.by_name("w_quantized").unwrap().dtype(),
        DType::I8
    );
    assert!(model.metadata.get(ns::NOTE, "kind").is_none());
}

#[test]
fn one_dimension_has_no_rows_to_look_up() {
    let model = lookup_in(&[64]);
    assert_eq!(ops(&model), ["Cast", "DequantizeLinear", "Gather", "Gemm"]);
    let codes = model.tensors.by_name("w_quantized").unwrap();
    assert_eq!(codes.dtype(), DType::I4);
}
