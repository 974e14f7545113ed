//! Small tensors for the tests.

use ir::{DType, ModelBuilder, Tensor};

/// A tensor in memory.
pub(crate) fn tensor(name: &str, dtype: DType, shape: &[u64], bytes: Vec<u8>) -> Tensor {
    let model = ModelBuilder::new()
        .tensor(name, dtype, shape.to_vec(), bytes)
        .build()
        .unwrap();
    model.tensors.by_name(name).unwrap().clone()
}

/// Numbers as bytes.
pub(crate) fn f32s(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// A tensor of F32 as numbers.
pub(crate) fn read(tensor: &Tensor) -> Vec<f32> {
    let bytes = tensor.read_all().unwrap();
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect()
}
