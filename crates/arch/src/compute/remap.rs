//! The same numbers in another order: a view with strides over any tensor, also one that is
//! computed or made of blocks.

use super::{misfit, size, with_scratch};
use ir::{Compute, Form, Payload, Result, Shape, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

/// One dimension of the walk over the input: so many steps of so many elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dim {
    pub(crate) n: u64,
    pub(crate) stride: u64,
}

impl Dim {
    pub(crate) fn new(n: u64, stride: u64) -> Self {
        Self { n, stride }
    }
}

struct Remap {
    spec: TensorSpec,
    input: [Tensor; 1],
    label: String,
    /// Outermost first; neighbours that are one walk are merged, and there is at least one.
    dims: Vec<Dim>,
    base: u64,
    /// Bytes of an element, or 0 for types whose elements share bytes.
    element: usize,
}

/// `input`'s elements in the order of the walk `dims` from `base`, as a tensor of `shape`.
pub(crate) fn remap(
    input: &Tensor,
    label: &str,
    base: u64,
    dims: &[Dim],
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let shape = shape.into();
    let walked = dims
        .iter()
        .try_fold(1u64, |all, dim| all.checked_mul(dim.n));
    let last = dims
        .iter()
        .filter(|dim| dim.n > 0)
        .try_fold(base, |at, dim| {
            at.checked_add(dim.stride.checked_mul(dim.n - 1)?)
        });
    let elements = input.spec.elements().unwrap_or(0);
    let inside = walked == Some(0) || last.is_some_and(|last| last < elements);
    if walked != shape.elements() || !inside {
        return Err(misfit(input, format!("{label} to {shape}")));
    }
    let spec = TensorSpec {
        dtype: input.spec.dtype,
        shape,
    };
    spec.require_byte_len(&input.name)?;
    let mut merged: Vec<Dim> = Vec::new();
    for dim in dims.iter().copied().filter(|dim| dim.n != 1) {
        match merged.last_mut() {
            Some(outer) if Some(outer.stride) == dim.n.checked_mul(dim.stride) => {
                *outer = Dim::new(outer.n.saturating_mul(dim.n), dim.stride);
            }
            _ => merged.push(dim),
        }
    }
    if merged.is_empty() {
        merged.push(Dim::new(walked.unwrap_or(0), 1));
    }
    let (per, _) = input.spec.dtype.block();
    let per = u64::from(per);
    if per > 1 {
        // Blocks move as they are or not at all.
        let (inner, outer) = merged
            .split_last()
            .map_or((Dim::new(0, 1), &[][..]), |(i, o)| (*i, o));
        let whole = inner.stride == 1
            && inner.n.is_multiple_of(per)
            && base.is_multiple_of(per)
            && outer.iter().all(|dim| dim.stride.is_multiple_of(per));
        if !whole {
            let wanted = format!("{label}, which would cut blocks: dequantize it first");
            return Err(misfit(input, wanted));
        }
    }
    // All of it in order is no work at all.
    if base == 0 && merged == [Dim::new(elements, 1)] {
        return reshape(input, spec.shape);
    }
    let element = input.spec.dtype.element_bytes().filter(|_| per == 1);
    Ok(Tensor::computed(
        input.name.clone(),
        Arc::new(Remap {
            spec,
            input: [input.clone()],
            label: label.to_owned(),
            dims: merged,
            base,
            element: element.map_or(0, |bytes| size(u64::from(bytes))),
        }),
    ))
}

/// The same elements under another shape.
pub(crate) fn reshape(input: &Tensor, shape: impl Into<Shape>) -> Result<Tensor> {
    let spec = TensorSpec {
        dtype: input.spec.dtype,
        shape: shape.into(),
    };
    if spec == input.spec {
        return Ok(input.clone());
    }
    if spec.byte_len().is_none() || spec.byte_len() != input.spec.byte_len() {
        return Err(misfit(input, format!("as many elements as {}", spec.shape)));
    }
    // A stored tensor without strides is its bytes, whatever the shape.
    if let Payload::Stored(view) = &input.payload
        && (view.strides.is_none() || input.as_plain().is_some())
    {
        let mut view = view.clone();
        view.strides = None;
        return Ok(Tensor::stored(input.name.clone(), spec, view));
    }
    let elements = spec.elements().unwrap_or(0);
    Ok(Tensor::computed(
        input.name.clone(),
        Arc::new(Remap {
            spec,
            input: [input.clone()],
            label: "reshape".to_owned(),
            dims: vec![Dim::new(elements, 1)],
            base: 0,
            element: 0,
        }),
    ))
}

impl Remap {
    fn input(&self) -> &Tensor {
        let [input] = &self.input;
        input
    }

    /// Where in the input the element at `index` of the walk over `dims` is.
    fn source(base: u64, dims: &[Dim], index: u64) -> u64 {
        let mut rest = index;
        dims.iter().rev().fold(base, |at, dim| {
            let step = rest % dim.n;
            rest /= dim.n;
            at + step * dim.stride
        })
    }

    /// The innermost dimension is one run of the input: read it straight into place.
    fn read_runs(&self, range: Range<u64>, out: &mut [u8]) -> Result<()> {
        let Some((inner, outer)) = self.dims.split_last() else {
            return Ok(());
        };
        let mut at = range.start;
        let mut out = out;
        while at < range.end {
            let (row, column) = (at / inner.n, at % inner.n);
            let take = (inner.n - column).min(range.end - at);
            let from = Self::source(self.base, outer, row) + column;
            let len = size(self.spec.dtype.byte_len(take).unwrap_or(0)).min(out.len());
            let (here, rest) = out.split_at_mut(len);
            self.input().read(from..from + take, here)?;
            out = rest;
            at += take;
        }
        Ok(())
    }

    /// A transpose: the dimension before the innermost is the run. Reads runs and scatters them.
    fn read_columns(&self, range: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [outer @ .., run, inner] = self.dims.as_slice() else {
            return Ok(());
        };
        let width = self.element;
        let mut at = range.start;
        let mut done = 0usize;
        while at < range.end {
            let (row, column) = (at / inner.n, at % inner.n);
            let (plane, line) = (row / run.n, row % run.n);
            let base = Self::source(self.base, outer, plane);
            // As many whole rows of the output as are wanted and as the run has, else the rest of
            // this row.
            let rows = ((range.end - at) / inner.n).min(run.n - line);
            if column != 0 || rows == 0 {
                let take = (inner.n - column).min(range.end - at);
                for step in 0..take {
                    let from = base + line + (column + step) * inner.stride;
                    let slot = done + size(step) * width;
                    if let Some(slot) = out.get_mut(slot..slot + width) {
                        self.input().read(from..from + 1, slot)?;
                    }
                }
                at += take;
                done += size(take) * width;
                continue;
            }
            with_scratch(size(rows) * width, |buffer| {
                for step in 0..inner.n {
                    let from = base + line + step * inner.stride;
                    self.input().read(from..from + rows, buffer)?;
                    let first = done + size(step) * width;
                    let pitch = size(inner.n) * width;
                    for (i, value) in buffer.chunks_exact(width).enumerate() {
                        let slot = first + i * pitch;
                        if let Some(slot) = out.get_mut(slot..slot + width) {
                            slot.copy_from_slice(value);
                        }
                    }
                }
                Ok::<(), ir::Error>(())
            })?;
            at += rows * inner.n;
            done += size(rows * inner.n) * width;
        }
        Ok(())
    }
}

impl Compute for Remap {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn form(&self) -> Option<Form<'_>> {
        let &[rows, columns] = &self.input().spec.shape[..] else {
            return None;
        };
        let turned = [Dim::new(columns, 1), Dim::new(rows, columns)];
        let whole = self.base == 0 && self.spec.shape[..] == [columns, rows];
        (whole && self.dims == turned).then(|| Form::Transpose(self.input()))
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        match self.dims.as_slice() {
            [.., inner] if inner.stride == 1 => self.read_runs(elements, out),
            [.., run, _] if run.stride == 1 && self.element > 0 => self.read_columns(elements, out),
            _ => {
                let width = size(self.spec.dtype.byte_len(1).unwrap_or(0));
                if width == 0 {
                    return Err(misfit(self.input(), "elements of whole bytes"));
                }
                for (index, slot) in elements.zip(out.chunks_exact_mut(width)) {
                    let from = Self::source(self.base, &self.dims, index);
                    self.input().read(from..from + 1, slot)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{BlockFormat, DType, ModelBuilder};

    fn numbers(shape: &[u64]) -> Tensor {
        let n: u64 = shape.iter().product();
        let bytes: Vec<u8> = (0..n)
            .flat_map(|i| u16::try_from(i).unwrap().to_le_bytes())
            .collect();
        let model = ModelBuilder::new().tensor("t", DType::U16, shape.to_vec(), bytes);
        model.build().unwrap().tensors.by_name("t").unwrap().clone()
    }

    fn values(tensor: &Tensor) -> Vec<u16> {
        let bytes = tensor.read_all().unwrap();
        bytes
            .chunks_exact(2)
            .map(|b| u16::from_le_bytes([b[0], b[1]]))
            .collect()
    }

    /// Every split of the range gives the same bytes.
    fn same_in_pieces(tensor: &Tensor) {
        let all = tensor.read_all().unwrap();
        let n = tensor.spec.elements().unwrap();
        for step in 1..=n {
            let mut pieces = Vec::new();
            let mut at = 0;
            while at < n {
                let end = n.min(at + step);
                let mut piece = vec![0; size((end - at) * 2)];
                tensor.read(at..end, &mut piece).unwrap();
                pieces.extend(piece);
                at = end;
            }
            assert_eq!(pieces, all, "pieces of {step}");
        }
    }

    #[test]
    fn walks_rows_columns_and_neither() {
        let input = numbers(&[4, 6]);
        let rows = [Dim::new(2, 6), Dim::new(2, 12), Dim::new(6, 1)];
        let rows = remap(&input, "permute", 0, &rows, [4, 6]).unwrap();
        assert_eq!(
            values(&rows)[..12],
            [0, 1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17]
        );
        same_in_pieces(&rows);
        let columns = remap(
            &input,
            "transpose",
            0,
            &[Dim::new(6, 1), Dim::new(4, 6)],
            [6, 4],
        )
        .unwrap();
        assert_eq!(values(&columns)[..8], [0, 6, 12, 18, 1, 7, 13, 19]);
        let form = |tensor: &Tensor| match &tensor.payload {
            Payload::Computed(compute) => compute.form().is_some(),
            _ => false,
        };
        assert!(form(&columns) && !form(&rows));
        same_in_pieces(&columns);
        let odd = remap(&input, "odd", 1, &[Dim::new(4, 6), Dim::new(3, 2)], [12]).unwrap();
        assert_eq!(values(&odd)[..4], [1, 3, 5, 7]);
        same_in_pieces(&odd);
        let back = remap(
            &columns,
            "transpose",
            0,
            &[Dim::new(4, 1), Dim::new(6, 4)],
            [4, 6],
        )
        .unwrap();
        assert_eq!(values(&back), values(&input));
        same_in_pieces(&back);
        let planes = numbers(&[2, 3, 4]);
        let dims = [Dim::new(2, 12), Dim::new(4, 1), Dim::new(3, 4)];
        let planes = remap(&planes, "transpose", 0, &dims, [2, 4, 3]).unwrap();
        assert_eq!(values(&planes)[12..18], [12, 16, 20, 13, 17, 21]);
        same_in_pieces(&planes);
    }

    #[test]
    fn in_order_costs_nothing_and_outside_is_refused() {
        let input = numbers(&[4, 6]);
        let same = remap(&input, "same", 0, &[Dim::new(4, 6), Dim::new(6, 1)], [24]).unwrap();
        assert!(same.as_plain().is_some());
        assert!(remap(&input, "over", 1, &[Dim::new(24, 1)], [24]).is_err());
        assert!(remap(&input, "wrong", 0, &[Dim::new(24, 1)], [23]).is_err());
    }

    #[test]
    fn blocks_move_whole() {
        let q8 = DType::Block(BlockFormat::Q8_0);
        let bytes: Vec<u8> = (0..34 * 4).collect();
        let model = ModelBuilder::new()
            .tensor("t", q8, [2, 64], bytes.clone())
            .build()
            .unwrap();
        let input = model.tensors.by_name("t").unwrap();
        let swap = remap(input, "swap", 64, &[Dim::new(64, 1)], [1, 64]).unwrap();
        assert_eq!(swap.read_all().unwrap(), bytes[68..]);
        assert!(
            remap(
                input,
                "cut",
                0,
                &[Dim::new(2, 64), Dim::new(16, 1)],
                [2, 16]
            )
            .is_err()
        );
    }
}
