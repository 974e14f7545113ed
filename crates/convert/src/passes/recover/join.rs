//! Tensors one behind the other, as one, and parts of tensors.

use crate::recipe::scratch::size;
use ir::{Compute, Result, Shape, Tensor, TensorSpec, View};
use std::ops::Range;
use std::sync::Arc;

struct Joined {
    spec: TensorSpec,
    parts: Vec<Tensor>,
}

/// `parts` along their first dimension; none for what has no bytes of its own or does not fit.
pub(super) fn join(name: &str, parts: Vec<Tensor>) -> Option<Tensor> {
    let first = parts.first()?;
    let dtype = first.dtype();
    let (_, inner) = first.spec.shape.split_first()?;
    dtype.element_bytes()?;
    let mut rows = 0u64;
    for part in &parts {
        let (count, rest) = part.spec.shape.split_first()?;
        if part.dtype() != dtype || rest != inner {
            return None;
        }
        rows = rows.checked_add(*count)?;
    }
    let shape: Shape = std::iter::once(rows).chain(inner.iter().copied()).collect();
    let spec = TensorSpec { dtype, shape };
    spec.byte_len()?;
    Some(Tensor::computed(name, Arc::new(Joined { spec, parts })))
}

struct PartOf {
    spec: TensorSpec,
    input: [Tensor; 1],
    start: u64,
}

/// The numbers of `tensor` from `start` on, in this shape; none for what has no bytes of its own.
pub(super) fn part(tensor: &Tensor, start: u64, shape: &[u64]) -> Option<Tensor> {
    let unit = u64::from(tensor.dtype().element_bytes()?);
    let spec = TensorSpec::new(tensor.dtype(), shape.to_vec());
    let end = start.checked_add(spec.elements()?)?;
    if end > tensor.spec.elements()? {
        return None;
    }
    if let Some(plain) = tensor.as_plain() {
        let bytes = plain
            .slice(start.checked_mul(unit)?, spec.byte_len()?)
            .ok()?;
        return Some(Tensor::stored(
            tensor.name.as_str(),
            spec,
            View::contiguous(bytes),
        ));
    }
    let input = [tensor.clone()];
    let part = PartOf { spec, input, start };
    Some(Tensor::computed(tensor.name.as_str(), Arc::new(part)))
}

impl Compute for PartOf {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        "part"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        input.read(self.start + elements.start..self.start + elements.end, out)
    }
}

impl Compute for Joined {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.parts
    }

    fn label(&self) -> &'static str {
        "joined"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let unit = u64::from(self.spec.dtype.element_bytes().unwrap_or(1));
        let (mut start, mut out) = (0, out);
        for part in &self.parts {
            let end = start + part.spec.elements().unwrap_or(0);
            let from = elements.start.max(start);
            let until = elements.end.min(end);
            if from < until {
                let len = size((until - from) * unit).min(out.len());
                let (here, rest) = std::mem::take(&mut out).split_at_mut(len);
                part.read(from - start..until - start, here)?;
                out = rest;
            }
            start = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, PatternCompute};

    #[test]
    fn any_range_of_them() {
        let parts: Vec<Tensor> = [2u64, 1, 3]
            .iter()
            .map(|rows| PatternCompute::tensor("a", DType::F16, [*rows, 3]))
            .collect();
        let bytes: Vec<u8> = parts.iter().flat_map(|p| p.read_all().unwrap()).collect();
        let whole = join("w", parts).unwrap();
        assert_eq!(whole.spec.shape[..], [6, 3]);
        for start in 0..18 {
            for end in start + 1..=18 {
                let mut out = vec![0; size(end - start) * 2];
                whole.read(start..end, &mut out).unwrap();
                assert_eq!(out, bytes[size(start) * 2..size(end) * 2]);
            }
        }
        let inside = part(&whole, 7, &[2, 4]).unwrap();
        assert_eq!(inside.read_all().unwrap(), bytes[14..30]);
        assert!(part(&whole, 11, &[2, 4]).is_none());
        let other = PatternCompute::tensor("b", DType::F16, [2, 4]);
        assert!(
            join(
                "w",
                vec![PatternCompute::tensor("a", DType::F16, [2, 3]), other]
            )
            .is_none()
        );
        assert!(join("w", Vec::new()).is_none());
    }
}
