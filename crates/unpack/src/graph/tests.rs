use super::affine::{Laid, affine, nbits};
use super::*;
use crate::testing::{f32s, read, tensor};
use ir::{Attribute, AttributeValue, Node};

fn laid(axis: usize, block: u64) -> Laid {
    Laid { axis, block }
}

#[test]
fn scales_of_every_reach() {
    let codes = tensor("w", DType::I8, &[2, 3, 2], (0..12).collect());
    let make = |scale: &Tensor, at| {
        affine("w", [Some(&codes), Some(scale), None], at, DType::F32).map(|t| read(&t))
    };
    let scale = |shape: &[u64], values: &[f32]| tensor("s", DType::F32, shape, f32s(values));
    let one = make(&scale(&[1], &[2.0]), laid(0, 0)).unwrap();
    assert_eq!(one[..4], [0., 2., 4., 6.]);
    let axis = make(&scale(&[3], &[1., 10., 100.]), laid(1, 0)).unwrap();
    assert_eq!(
        axis,
        [0., 1., 20., 30., 400., 500., 6., 7., 80., 90., 1000., 1100.]
    );
    let last = make(&scale(&[2], &[1., 10.]), laid(2, 0)).unwrap();
    assert_eq!(last[..4], [0., 10., 2., 30.]);
    // Blocks of two along the middle, the second one cut.
    let blocks = scale(&[2, 2, 2], &[1., 2., 3., 4., 5., 6., 7., 8.]);
    let blocks = make(&blocks, laid(1, 2)).unwrap();
    assert_eq!(
        blocks,
        [0., 2., 2., 6., 12., 20., 30., 42., 40., 54., 70., 88.]
    );
    assert!(make(&scale(&[4], &[0.; 4]), laid(1, 0)).is_none());
    assert!(make(&scale(&[3], &[0.; 3]), laid(9, 0)).is_none());
}

#[test]
fn any_range_gives_the_numbers_of_the_whole() {
    let codes = tensor(
        "w",
        DType::U4,
        &[3, 5],
        vec![0x21, 0x43, 0x65, 0x87, 0xa9, 0xcb, 0xed, 0x0f],
    );
    let scale = tensor(
        "s",
        DType::F32,
        &[3, 3],
        f32s(&[1., 2., 3., 4., 5., 6., 7., 8., 9.]),
    );
    let zero = tensor("z", DType::U4, &[3, 3], vec![0x10, 0x32, 0x54, 0x76, 0x08]);
    let parts = [Some(&codes), Some(&scale), Some(&zero)];
    let made = affine("w", parts, laid(1, 2), DType::F32).unwrap();
    let whole = made.read_all().unwrap();
    assert_eq!(read(&made)[..6], [1., 2., 4., 6., 9., 12.]);
    for start in 0..15u64 {
        for end in start + 1..=15 {
            let mut part = vec![0; usize::try_from(end - start).unwrap() * 4];
            made.read(start..end, &mut part).unwrap();
            let at = usize::try_from(start).unwrap() * 4;
            assert_eq!(part, whole[at..at + part.len()]);
        }
    }
}

#[test]
fn rows_of_codes_without_gaps() {
    // Two rows of 20 columns in blocks of 16: the second block of a row is cut.
    let codes = tensor("w", DType::U8, &[2, 2, 8], (0..32).map(|i| i * 7).collect());
    let scale = tensor("s", DType::F32, &[2, 2], f32s(&[1., 2., 3., 4.]));
    let zero = tensor("z", DType::U8, &[2, 1], vec![0x21, 0x43]);
    let parts = [Some(&codes), Some(&scale), Some(&zero)];
    let made = nbits("w", parts, [2, 20], 4, 16).unwrap().unwrap();
    let values = read(&made);
    // Column 17 of row 1: the high half of byte 8 of its codes, zero 4, scale 4.
    let code = f32::from((24u8 * 7) >> 4);
    assert_eq!(values[37..38], [(code - 4.0) * 4.0]);
    let mut part = vec![0; 12];
    made.read(36..39, &mut part).unwrap();
    assert_eq!(part, f32s(&values[36..39]));
    let whole = nbits("w", [Some(&codes), Some(&scale), None], [2, 20], 4, 16)
        .unwrap()
        .unwrap();
    assert_eq!(read(&whole)[..1], [-8.0]);
    let error = nbits("w", parts, [2, 40], 4, 16).unwrap_err();
    assert!(
        error.message().contains("belongs to 2 x 40"),
        "{}",
        error.message()
    );
    assert!(nbits("w", parts, [2, 20], 3, 16).unwrap().is_none());
    assert!(nbits("w", parts, [u64::MAX, u64::MAX], 4, 16).is_err());
}

/// Operator, inputs, output, attributes.
type Step<'a> = (&'a str, &'a [&'a str], &'a str, &'a [(&'a str, i64)]);

/// A graph that multiplies by the constants `w_quantized`, `w_scale` and so on behind these nodes.
fn graph(parts: Vec<Tensor>, nodes: &[Step<'_>]) -> Model {
    let mut model = Model::default();
    let mut body = GraphBody::default();
    let mut ids: HashMap<String, ValueId> = HashMap::new();
    let mut id = |body: &mut GraphBody, name: &str| {
        *ids.entry(name.to_owned())
            .or_insert_with(|| new_value(body, name).unwrap())
    };
    for part in parts {
        let value = id(&mut body, &part.name);
        let tensor = model.tensors.push(part).unwrap();
        body.initializers.push(Initializer::Dense(value, tensor));
    }
    for (op, inputs, output, ints) in nodes {
        let inputs = inputs
            .iter()
            .map(|name| Some(id(&mut body, name)))
            .collect();
        let outputs = vec![Some(id(&mut body, output))];
        let attribute = |(name, n): &(&str, i64)| Attribute {
            name: (*name).to_owned(),
            value: AttributeValue::Int(*n),
            doc: String::new(),
        };
        body.nodes.push(Node {
            op: (*op).to_owned(),
            inputs,
            outputs,
            attributes: ints.iter().map(attribute).collect(),
            ..Node::default()
        });
    }
    model.graph = Some(Graph {
        body,
        ..Graph::default()
    });
    model
}

fn q4_0() -> Model {
    let codes = tensor("w_quantized", DType::I4, &[1, 32], (0..16).collect());
    let scale = tensor("w_scale", DType::F16, &[1, 1], vec![0x00, 0x3c]);
    graph(
        vec![codes, scale],
        &[
            ("Cast", &["w_scale"], "s", &[("to", 1)]),
            (
                "DequantizeLinear",
                &["w_quantized", "s"],
                "w",
                &[("axis", 1), ("block_size", 32)],
            ),
            ("MatMul", &["x", "w"], "y", &[]),
        ],
    )
}

#[test]
fn blocks_are_put_together() {
    let mut model = q4_0();
    let told = quantized_weights(&model).unwrap();
    assert_eq!(
        (told[0].name.as_str(), told[0].scheme.as_str()),
        ("w", "Q4_0")
    );
    assert_eq!(told[0].parts, ["w_quantized", "w_scale"]);
    unpack_graph(&mut model).unwrap();
    assert_eq!(model.tensors.len(), 1);
    let weight = model.tensors.by_name("w").unwrap();
    assert_eq!(weight.dtype(), DType::Block(ir::BlockFormat::Q4_0));
    let bytes = weight.read_all().unwrap();
    // Code 0 is stored as 8; elements 0 and 16 share the first byte: 0 and 8, of 1 and 8.
    assert_eq!(bytes[..4], [0x00, 0x3c, 0x08, 0x88]);
    let body = &model.graph.as_ref().unwrap().body;
    assert_eq!(body.nodes.len(), 1);
    model.validate(&ir::Limits::default()).unwrap();
    // Without a note nothing is a container, and nothing was noted here.
    let mut same = q4_0();
    rejoin_blocks(&mut same).unwrap();
    restore_container(&mut same).unwrap();
    assert_eq!(same.tensors.len(), 2);
}

#[test]
fn a_note_that_does_not_fit_is_an_error_when_read_and_one_that_cannot_is_none() {
    let noted = |kind: &str, value: u8| {
        let codes = tensor("w_quantized", DType::I8, &[1, 32], vec![value; 32]);
        let scale = tensor("w_scale", DType::F16, &[1, 1], vec![0; 2]);
        let mut model = q4_0();
        model.tensors = TensorTable::from_tensors([codes, scale]).unwrap();
        model
            .metadata
            .set(ns::NOTE, "blocks.w", ir::MetaValue::text(kind));
        unpack_graph(&mut model).unwrap();
        model
    };
    let read = |model: &Model| model.tensors.by_name("w").unwrap().read_all();
    assert_eq!(read(&noted("Q5_0", 15)).unwrap().len(), 22);
    let error = read(&noted("Q5_0", 16)).unwrap_err();
    assert!(
        error.message().contains("has no place in Q5_0"),
        "{}",
        error.message()
    );
    // Codes of a byte are no MXFP4, and no blocks then: floats.
    let floats = noted("MXFP4", 1);
    assert_eq!(floats.tensors.by_name("w").unwrap().dtype(), DType::F32);
}

#[test]
fn scales_of_activations_go_and_codes_nobody_knows_keep_theirs() {
    let codes = || tensor("b", DType::I8, &[2], vec![1, 2]);
    let scale = || tensor("s", DType::F32, &[], f32s(&[0.5]));
    let known = tensor("w_quantized", DType::I8, &[2], vec![2, 254]);
    let mut model = graph(
        vec![known, scale(), tensor("t", DType::F32, &[], f32s(&[2.0]))],
        &[
            ("QuantizeLinear", &["x", "t"], "q", &[]),
            ("DequantizeLinear", &["w_quantized", "s"], "w", &[]),
            ("Add", &["q", "w"], "y", &[]),
        ],
    );
    unpack_graph(&mut model).unwrap();
    let names: Vec<_> = model.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["w"]);
    assert_eq!(
        read(&model.tensors.by_name("w").unwrap().clone()),
        [1.0, -1.0]
    );
    assert_eq!(model.provenance.records.len(), 2);
    let strange = graph(
        vec![
            codes(),
            scale(),
            tensor("w_quantized", DType::I8, &[1], vec![3]),
        ],
        &[
            ("QLinearSigmoid", &["b", "s", "b", "s", "b"], "q", &[]),
            ("DequantizeLinear", &["w_quantized", "s"], "w", &[]),
        ],
    );
    let mut model = strange;
    unpack_graph(&mut model).unwrap();
    assert!(model.tensors.id_of("s").is_some() && model.tensors.id_of("b").is_some());
}

#[test]
fn what_is_fed_is_no_constant() {
    let mut model = q4_0();
    let body = &mut model.graph.as_mut().unwrap().body;
    let Initializer::Dense(value, _) = body.initializers[0] else {
        panic!("sparse");
    };
    body.inputs.push(value);
    assert!(quantized_weights(&model).unwrap().is_empty());
}

#[test]
fn of_two_constant_scales_each_weight_has_its_own() {
    let code = |name: &str, shape: &[u64]| tensor(name, DType::U8, shape, vec![3; 4]);
    let scale = |name: &str, value| tensor(name, DType::F32, &[], f32s(&[value]));
    let mut model = graph(
        vec![
            code("e_quantized", &[2, 2]),
            scale("e_scale", 2.0),
            code("w_quantized", &[2, 2]),
            scale("w_scale", 0.5),
        ],
        &[
            ("Gather", &["e_quantized", "ids"], "r", &[]),
            ("Mul", &["e_scale", "w_scale"], "s", &[]),
            ("MatMulInteger", &["r", "w_quantized"], "i", &[]),
            ("Cast", &["i"], "c", &[("to", 1)]),
            ("Mul", &["c", "s"], "y", &[]),
        ],
    );
    unpack_graph(&mut model).unwrap();
    let values = |name| read(&model.tensors.by_name(name).unwrap().clone());
    assert_eq!((values("e"), values("w")), (vec![6.0; 4], vec![1.5; 4]));
    assert_eq!(model.tensors.len(), 2);
}
