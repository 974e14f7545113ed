//! Tensors that do not hold are refused by name; what onnx.checker 1.23 says of each is in the
//! comments.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_wrap)] // tests

mod support;

use ir::{Class, Error, Model};
use prost::Message;
use support::open_bytes;
use weightbridge_onnx::wire::{
    GraphProto, ModelProto, OperatorSetIdProto, SparseTensorProto, TensorProto,
};

fn list(name: &str, dtype: i32, dims: &[i64], bytes: Vec<u8>) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        dims: dims.to_vec(),
        data_type: Some(dtype),
        raw_data: Some(bytes.into()),
        ..TensorProto::default()
    }
}

/// A model of one sparse initializer `s` of I64 indices.
fn sparse(values: i64, shape: &[i64], indices: &[i64], dims: &[i64]) -> GraphProto {
    let bytes = indices.iter().flat_map(|n| n.to_le_bytes()).collect();
    let floats = usize::try_from(values).unwrap() * 4;
    GraphProto {
        name: Some("g".to_owned()),
        sparse_initializer: vec![SparseTensorProto {
            values: Some(list("s", 1, &[values], vec![0; floats])),
            indices: Some(list("where", 7, shape, bytes)),
            dims: dims.to_vec(),
        }],
        ..GraphProto::default()
    }
}

fn open(graph: GraphProto) -> Result<Model, Error> {
    let model = ModelProto {
        ir_version: Some(10),
        opset_import: vec![OperatorSetIdProto {
            version: Some(21),
            ..OperatorSetIdProto::default()
        }],
        graph: Some(graph),
        ..ModelProto::default()
    };
    open_bytes(&model.encode_to_vec())
}

#[test]
fn indices_rise_within_the_shape() {
    for (values, shape, indices, dims) in [
        (2, &[2][..], &[1, 3][..], &[4][..]),
        (2, &[2], &[1, 3], &[2, 2]),
        (2, &[2, 2], &[0, 1, 1, 0], &[2, 2]),
        (0, &[0], &[], &[4]),
        (0, &[0, 2], &[], &[4, 4]),
        (1, &[1], &[5], &[1 << 62]),
    ] {
        let model = open(sparse(values, shape, indices, dims)).unwrap();
        assert_eq!(model.tensors.len(), 2);
    }
}

#[test]
fn other_indices_are_refused_by_name() {
    for (values, shape, indices, dims, why) in [
        // "index value at position [1] out of range [0, 3]"
        (
            2,
            &[2][..],
            &[1, 4][..],
            &[4][..],
            "index 1 is [4], outside",
        ),
        (2, &[2], &[-1, 3], &[4], "index 0 is [-1], outside"),
        (
            2,
            &[2, 2],
            &[0, 1, 2, 0],
            &[2, 2],
            "index 1 is [2, 0], outside",
        ),
        // "not in sorted order"
        (2, &[2], &[3, 1], &[4], "index 1 is [1] behind [3]"),
        (2, &[2], &[1, 1], &[4], "index 1 is [1] behind [1]"),
        (
            2,
            &[2, 2],
            &[1, 0, 0, 1],
            &[2, 2],
            "index 1 is [0, 1] behind [1, 0]",
        ),
        (2, &[2, 2], &[1, 0, 1, 0], &[2, 2], "behind [1, 0]"),
        // "has 3 values, but NNZ is 2"
        (
            2,
            &[3],
            &[1, 2, 3],
            &[4],
            "its 2 values have indices of shape [3]",
        ),
        // "second dimension size does not match rank"
        (
            2,
            &[2, 3],
            &[0; 6],
            &[2, 2],
            "its 2 values have indices of shape [2, 3]",
        ),
        (1, &[1, 0], &[], &[], "its dense shape has no dimensions"),
        (1, &[1], &[0], &[], "its dense shape has no dimensions"),
        // "out of range [0, -1]": its product overflows there
        (2, &[2], &[1, 3], &[1 << 62, 8], "more than 63 bits count"),
        (1, &[1], &[0], &[-4], "dimension 0 is -4"),
        // "dimensions are not positive"
        (1, &[1], &[0], &[0], "outside its dense shape [0]"),
    ] {
        let error = open(sparse(values, shape, indices, dims)).unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{error}");
        let told = error.to_string();
        assert!(told.contains("sparse tensor \"s\" at byte"), "{told}");
        assert!(told.contains(why), "{told} is not: {why}");
    }
    let mut graph = sparse(2, &[2], &[1, 3], &[4]);
    let indices = graph.sparse_initializer[0].indices.as_mut().unwrap();
    indices.data_type = Some(6);
    indices.raw_data = Some(vec![0; 8].into());
    let told = open(graph).unwrap_err().to_string();
    assert!(told.contains("its indices are of I32, not I64"), "{told}");
    // Long lists are looked at in parts: the last of many is out of place.
    let mut many: Vec<i64> = (0..40_000).collect();
    open(sparse(40_000, &[40_000], &many, &[40_000])).unwrap();
    many[39_999] = 7;
    let told = open(sparse(40_000, &[40_000], &many, &[40_000])).unwrap_err();
    let told = told.to_string();
    assert!(told.contains("index 39999 is [7] behind [39998]"), "{told}");
}

#[test]
fn errors_in_the_middle_of_a_tensor_name_it() {
    let tensor = list("layer.0.weight", 1, &[1], vec![0; 4]);
    let graph = GraphProto {
        name: Some("g".to_owned()),
        initializer: vec![tensor.clone()],
        ..GraphProto::default()
    };
    let whole = ModelProto {
        ir_version: Some(10),
        graph: Some(graph),
        ..ModelProto::default()
    };
    let bytes = whole.encode_to_vec();
    let dims = [0x08, 0x01, 0x10, 0x01];
    let at = bytes.windows(4).position(|part| part == dims).unwrap();
    // A field behind the name of a length that leaves the tensor.
    let mut long = bytes.clone();
    let raw = bytes
        .windows(2)
        .rposition(|part| part == [0x4a, 0x04])
        .unwrap();
    long[raw + 1] = 0x7f;
    // The element type as text, before the name.
    let mut text = bytes.clone();
    text[at..at + 4].copy_from_slice(&[0x12, 0x02, 0x10, 0x01]);
    for bytes in [long, text] {
        let told = open_bytes(&bytes).unwrap_err().to_string();
        assert!(
            told.contains("tensor \"layer.0.weight\" at byte "),
            "{told}"
        );
    }
}

#[test]
fn a_tensor_without_a_readable_name_is_counted() {
    let named = list("a", 1, &[1], vec![0; 4]);
    let graph = |tensor: TensorProto| GraphProto {
        name: Some("g".to_owned()),
        initializer: vec![named.clone(), tensor],
        ..GraphProto::default()
    };
    let bytes = |tensor| {
        let whole = ModelProto {
            ir_version: Some(10),
            graph: Some(graph(tensor)),
            ..ModelProto::default()
        };
        whole.encode_to_vec()
    };
    // A name that is no UTF-8, of a tensor that is broken in another place: it is shown as it can be.
    let mut broken = bytes(list("wxyz", 77, &[1], vec![0; 4]));
    let at = broken.windows(4).position(|part| part == b"wxyz").unwrap();
    broken[at] = 0xff;
    let told = open_bytes(&broken).unwrap_err().to_string();
    assert!(told.contains("xyz\" at byte"), "{told}");
    // No name at all, and one that a broken field stands before.
    let told = open_bytes(&bytes(list("", 1, &[1], vec![0; 4]))).unwrap_err();
    assert!(
        told.to_string().contains("initializer #1 at byte"),
        "{told}"
    );
    let mut cut = bytes(list("w", 1, &[1], vec![0; 4]));
    let dims = cut
        .windows(4)
        .rposition(|part| part == [0x08, 0x01, 0x10, 0x01]);
    let dims = dims.unwrap();
    cut[dims..dims + 2].copy_from_slice(&[0x0a, 0x7f]);
    let told = open_bytes(&cut).unwrap_err().to_string();
    assert!(told.contains("initializer #1 at byte"), "{told}");
}

#[test]
fn numbers_that_a_type_does_not_have_are_refused() {
    let of = |data_type: i32, numbers: &[i32]| {
        let tensor = TensorProto {
            name: Some("w".to_owned()),
            data_type: Some(data_type),
            dims: vec![i64::try_from(numbers.len()).unwrap()],
            int32_data: numbers.to_vec(),
            ..TensorProto::default()
        };
        open(GraphProto {
            name: Some("g".to_owned()),
            initializer: vec![tensor],
            ..GraphProto::default()
        })
    };
    // Codes of types and their ranges, from the specification.
    for (code, least, most) in [
        (2, 0, 255),
        (3, -128, 127),
        (4, 0, 65_535),
        (5, -32_768, 32_767),
        (9, 0, 1),
        (10, 0, 65_535),
        (16, 0, 65_535),
        (17, 0, 255),
    ] {
        of(code, &[least, most]).unwrap();
        for wrong in [least - 1, most + 1, i32::MIN, i32::MAX] {
            let mut many = vec![least; 70_000];
            many[69_999] = wrong;
            for (at, list) in [(1, vec![least, wrong]), (69_999, many)] {
                let error = of(code, &list).unwrap_err();
                assert_eq!(error.class(), Class::Malformed, "{error}");
                let told = error.to_string();
                let words = format!("element {at} in int32_data is {wrong}, ");
                assert!(told.contains(&words), "{told} is not: {words}");
                assert!(told.contains(&format!("from {least} to {most}")), "{told}");
                assert!(told.contains("tensor \"w\""), "{told}");
            }
        }
    }
}
