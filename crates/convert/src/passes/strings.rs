//! Tensors of strings, carried as bytes by targets that have none.
//!
//! Each string is its length, 64 bits and little-endian, and its bytes; one after the other in
//! row-major order. The notes `dtype.NAME` and `shape.NAME` tell that a tensor is one.

use bytes::Bytes;
use ir::{DType, Payload, Region, Result, Shape, Tensor, TensorSpec, View};
use std::sync::Arc;

/// Most bytes that the strings of one model may take when they come back, what holds them counted:
/// unlike other tensors they are read when a file is opened.
pub(super) const HELD_MAX: u64 = 64 << 20;
/// What holds a string in memory, counted for each.
const HOLDER: u64 = 40;
const LENGTH: usize = 8;

/// The bytes of a tensor of strings; none where they are more than would be read back.
pub(super) fn packed(tensor: &Tensor) -> Option<Tensor> {
    let Payload::Strings(list) = &tensor.payload else {
        return None;
    };
    let held = |text: &Bytes| text.len() as u64 + HOLDER;
    if list.iter().map(held).sum::<u64>() > HELD_MAX {
        return None;
    }
    let mut packed = Vec::new();
    for text in list.iter() {
        packed.extend((text.len() as u64).to_le_bytes());
        packed.extend(text);
    }
    let spec = TensorSpec::new(DType::U8, [packed.len() as u64]);
    let view = View::contiguous(Region::memory(packed));
    Some(Tensor::stored(&tensor.name, spec, view))
}

/// The tensor of strings that these bytes are, taking what it holds off `budget`; none if they are
/// no strings of that shape.
pub(super) fn unpacked(tensor: &Tensor, shape: &Shape, budget: &mut u64) -> Result<Option<Tensor>> {
    let count = shape.elements();
    let held = count.and_then(|n| n.checked_mul(HOLDER)?.checked_add(tensor.byte_len()));
    let rest = held.and_then(|held| budget.checked_sub(held));
    let (DType::U8, Some(rest), Some(count)) = (tensor.dtype(), rest, count) else {
        return Ok(None);
    };
    *budget = rest;
    let mut bytes = Bytes::from(tensor.read_all()?);
    let mut list = Vec::new();
    for _ in 0..count {
        let Some((length, _)) = bytes.split_first_chunk::<LENGTH>() else {
            return Ok(None);
        };
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > bytes.len() - LENGTH {
            return Ok(None);
        }
        let _ = bytes.split_to(LENGTH);
        list.push(bytes.split_to(length));
    }
    let whole = bytes.is_empty();
    Ok(whole.then(|| Tensor {
        name: tensor.name.clone(),
        spec: TensorSpec {
            dtype: DType::Str,
            shape: shape.clone(),
        },
        payload: Payload::Strings(Arc::from(list)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(shape: &[u64], texts: &[&'static str]) -> Tensor {
        let list: Vec<Bytes> = texts
            .iter()
            .map(|text| Bytes::from_static(text.as_bytes()))
            .collect();
        Tensor {
            name: "s".to_owned(),
            spec: TensorSpec::new(DType::Str, Shape::new(shape)),
            payload: Payload::Strings(Arc::from(list)),
        }
    }

    #[test]
    fn strings_come_back() {
        for tensor in [
            strings(&[2, 2], &["a", "", "äö", "\n"]),
            strings(&[], &["x"]),
            strings(&[0, 3], &[]),
        ] {
            let bytes = packed(&tensor).unwrap();
            let mut budget = HELD_MAX;
            let back = unpacked(&bytes, &tensor.spec.shape, &mut budget)
                .unwrap()
                .unwrap();
            assert_eq!(back.spec, tensor.spec);
            let (Payload::Strings(a), Payload::Strings(b)) = (&back.payload, &tensor.payload)
            else {
                panic!("no strings");
            };
            assert_eq!(a, b);
        }
    }

    #[test]
    fn bytes_that_are_no_strings_stay_bytes() {
        let bytes = packed(&strings(&[2], &["ab", "c"])).unwrap();
        for shape in [&[1u64][..], &[3], &[u64::MAX], &[u64::MAX, 2]] {
            let shape = Shape::new(shape);
            let mut budget = HELD_MAX;
            assert!(unpacked(&bytes, &shape, &mut budget).unwrap().is_none());
        }
        let shape = Shape::from([2]);
        assert!(unpacked(&bytes, &shape, &mut 20).unwrap().is_none());
        let mut cut = packed(&strings(&[1], &["abc"])).unwrap();
        let short = cut.read_all().unwrap()[..9].to_vec();
        cut.spec = TensorSpec::new(DType::U8, [9]);
        cut.payload = Payload::Stored(View::contiguous(Region::memory(short)));
        let mut budget = HELD_MAX;
        assert!(
            unpacked(&cut, &Shape::from([1]), &mut budget)
                .unwrap()
                .is_none()
        );
    }
}
