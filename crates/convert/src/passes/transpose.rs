//! A matrix the other way round, of numbers that are computed when pulled.

use super::cast::numbers;
use crate::recipe::scratch::size;
use ir::{Compute, DType, Form, Result, Tensor, TensorSpec};
use std::ops::Range;
use std::sync::Arc;

struct Transposed {
    spec: TensorSpec,
    input: [Tensor; 1],
    rows: u64,
    columns: u64,
    unit: usize,
}

/// `tensor`, rows and columns swapped, blocks as their numbers; none for what is no matrix, or one
/// of parts of bytes.
pub(crate) fn transposed(tensor: &Tensor, name: &str) -> Option<Tensor> {
    let &[rows, columns] = &tensor.spec.shape[..] else {
        return None;
    };
    let tensor = match tensor.dtype() {
        DType::Block(_) => numbers(tensor.clone()),
        _ => tensor.clone(),
    };
    let unit = size(u64::from(tensor.dtype().element_bytes()?));
    let compute = Transposed {
        spec: TensorSpec::new(tensor.dtype(), [columns, rows]),
        input: [tensor],
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

    fn form(&self) -> Option<Form<'_>> {
        let [input] = &self.input;
        Some(Form::Transpose(input))
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
    fn blocks_are_their_numbers_and_stay_known() {
        let blocks = PatternCompute::tensor("a", DType::Block(ir::BlockFormat::Q8_0), [3, 64]);
        let turned = transposed(&blocks, "b").unwrap();
        assert_eq!(turned.spec, TensorSpec::new(DType::F32, [64, 3]));
        let rows = numbers(blocks).read_all().unwrap();
        let columns = turned.read_all().unwrap();
        for (i, number) in columns.as_chunks::<4>().0.iter().enumerate() {
            let at = i % 3 * 64 + i / 3;
            assert_eq!(number, &rows.as_chunks::<4>().0[at], "{i}");
        }
        let found = turned.blocks_across().unwrap();
        assert_eq!(found.name, "a");
        assert!(found.blocks_across().is_none());
        let numbers = PatternCompute::tensor("n", DType::F32, [3, 4]);
        assert!(transposed(&numbers, "m").unwrap().blocks_across().is_none());
    }

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
