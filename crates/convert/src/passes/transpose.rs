//! A matrix the other way round, of numbers that are computed when pulled.

use crate::recipe::scratch::size;
use ir::{Compute, Result, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

struct Transposed {
    spec: TensorSpec,
    input: [Tensor; 1],
    rows: u64,
    columns: u64,
    unit: usize,
}

/// `tensor`, rows and columns swapped; none for what is no matrix of whole bytes.
pub(crate) fn transposed(tensor: &Tensor, name: &str) -> Option<Tensor> {
    let &[rows, columns] = &tensor.spec.shape[..] else {
        return None;
    };
    let unit = size(u64::from(tensor.dtype().element_bytes()?));
    let compute = Transposed {
        spec: TensorSpec::new(tensor.dtype(), [columns, rows]),
        input: [tensor.clone()],
        rows: rows.max(1),
        columns,
        unit,
    };
    Some(Tensor::computed(name, Arc::new(compute)))
}

impl Compute for Transposed {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &'static str {
        "transposed"
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        // A few columns of the input, from all its rows or, within one of ours, some.
        let first = elements.start / self.rows;
        let last = elements.end.div_ceil(self.rows);
        let rows = if last == first + 1 {
            elements.start % self.rows..elements.end - first * self.rows
        } else {
            0..self.rows
        };
        let mut part = vec![0; size(last - first) * self.unit];
        for row in rows {
            let start = row * self.columns;
            input.read(start + first..start + last, &mut part)?;
            for (column, value) in (first..last).zip(part.chunks_exact(self.unit)) {
                let Some(at) = (column * self.rows + row).checked_sub(elements.start) else {
                    continue;
                };
                let at = size(at) * self.unit;
                if let Some(slot) = out.get_mut(at..at + self.unit) {
                    slot.copy_from_slice(value);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, PatternCompute};

    #[test]
    fn any_range_of_it() {
        let input = PatternCompute::tensor("a", DType::F16, [5, 7]);
        let bytes = input.read_all().unwrap();
        let turned = transposed(&input, "b").unwrap();
        for (start, end) in [(0, 35), (0, 3), (4, 6), (13, 30), (34, 35)] {
            let mut out = vec![0; size(end - start) * 2];
            turned.read(start..end, &mut out).unwrap();
            for (i, pair) in (start..end).zip(out.chunks(2)) {
                let at = size(i % 5 * 7 + i / 5) * 2;
                assert_eq!(pair, &bytes[at..at + 2], "{start}..{end} at {i}");
            }
        }
    }
}
