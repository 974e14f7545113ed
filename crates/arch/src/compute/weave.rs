//! Several tensors into one: parts laid one after the other, group by group. One group is a
//! concatenation, and a stack of experts is one group of equal parts.

use super::{misfit, size};
use crate::error::ArchError;
use ir::{Compute, DType, Region, Result, Shape, Tensor, TensorSpec, View};
use std::ops::Range;
use std::sync::Arc;

struct Weave {
    spec: TensorSpec,
    parts: Vec<Tensor>,
    label: String,
    /// Where in a group each part begins, in elements, and the group's length at the end.
    starts: Vec<u64>,
}

/// A tensor of `shape` that is, group by group, the next `sizes` elements of each part. All parts
/// have one type and the same number of groups.
pub(crate) fn weave(
    parts: Vec<Tensor>,
    label: &str,
    sizes: &[u64],
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        return Err(ArchError::Table {
            table: label.to_owned(),
            why: "nothing to join".to_owned(),
        }
        .into());
    };
    let spec = TensorSpec {
        dtype: first.spec.dtype,
        shape: shape.into(),
    };
    let group = sizes.iter().try_fold(0u64, |all, n| all.checked_add(*n));
    let whole = spec
        .require_byte_len(&first.name)
        .map(|_| spec.elements().unwrap_or(0))?;
    let groups = match group {
        Some(group) if group > 0 && whole.is_multiple_of(group) => whole / group,
        _ => return Err(misfit(first, format!("{label} to {}", spec.shape))),
    };
    let (per, _) = spec.dtype.block();
    for (part, n) in parts.iter().zip(sizes) {
        let fits = part.spec.elements() == n.checked_mul(groups)
            && part.spec.dtype == spec.dtype
            && n.is_multiple_of(u64::from(per));
        if !fits || parts.len() != sizes.len() {
            let wanted = format!("{groups} times {n} elements of {} to {label}", spec.dtype);
            return Err(misfit(part, wanted));
        }
    }
    let mut starts = vec![0u64];
    for n in sizes {
        starts.push(starts.last().copied().unwrap_or(0) + n);
    }
    Ok(Tensor::computed(
        first.name.clone(),
        Arc::new(Weave {
            spec,
            parts,
            label: label.to_owned(),
            starts,
        }),
    ))
}

impl Compute for Weave {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.parts
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let group = self.starts.last().copied().unwrap_or(1).max(1);
        let mut at = elements.start;
        let mut out = out;
        while at < elements.end {
            let (turn, place) = (at / group, at % group);
            // The part whose piece holds `place`.
            let which = self
                .starts
                .partition_point(|start| *start <= place)
                .saturating_sub(1);
            let (Some(part), Some([start, end])) =
                (self.parts.get(which), self.starts.get(which..which + 2))
            else {
                break;
            };
            let take = (end - place).min(elements.end - at);
            let from = turn * (end - start) + (place - start);
            let len = size(self.spec.dtype.byte_len(take).unwrap_or(0)).min(out.len());
            let (here, rest) = out.split_at_mut(len);
            part.read(from..from + take, here)?;
            out = rest;
            at += take;
        }
        Ok(())
    }
}

/// A small tensor of these numbers.
pub(crate) fn constant(name: impl Into<String>, values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let spec = TensorSpec::new(DType::F32, [values.len() as u64]);
    Tensor::stored(name, spec, View::contiguous(Region::memory(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(values: &[f32]) -> Tensor {
        constant("part", values)
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        let bytes = tensor.read_all().unwrap();
        bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    #[test]
    fn lays_parts_group_by_group() {
        let parts = || vec![part(&[1.0, 2.0, 3.0, 4.0]), part(&[5.0, 6.0])];
        let woven = weave(parts(), "weave", &[2, 1], [2, 3]).unwrap();
        assert_eq!(values(&woven), [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
        let mut two = [0; 8];
        woven.read(2..4, &mut two).unwrap();
        assert_eq!(two[4..], 3.0f32.to_le_bytes());
        let joined = weave(parts(), "concat", &[4, 2], [6]).unwrap();
        assert_eq!(values(&joined), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert!(weave(parts(), "weave", &[1, 1], [6]).is_err());
        assert!(weave(Vec::new(), "weave", &[], [0]).is_err());
    }
}
