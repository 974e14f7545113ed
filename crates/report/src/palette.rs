//! A colour for each element type of a model.

use crate::data::TensorRow;
use std::collections::BTreeMap;

/// Colours there are besides the one for all other types.
const COLOURS: usize = 9;
/// The class of types that have no colour of their own.
const OTHER: usize = COLOURS;

/// Types, the widest first, with what each holds.
#[derive(Debug, Default)]
pub(crate) struct Palette {
    pub(crate) types: Vec<TypeLine>,
}

/// One type of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TypeLine {
    pub(crate) dtype: String,
    pub(crate) colour: usize,
    pub(crate) tensors: u64,
    pub(crate) elements: u64,
    pub(crate) bytes: u64,
}

impl Palette {
    /// Of the types that tensors have. Ties count once.
    pub(crate) fn of(tensors: &[TensorRow]) -> Self {
        let mut lines: BTreeMap<&str, TypeLine> = BTreeMap::new();
        for tensor in tensors.iter().filter(|tensor| tensor.tied_to.is_none()) {
            let line = lines.entry(&tensor.dtype).or_default();
            line.tensors += 1;
            line.elements = line.elements.saturating_add(tensor.elements);
            line.bytes = line.bytes.saturating_add(tensor.bytes);
        }
        let mut types: Vec<TypeLine> = lines
            .into_iter()
            .map(|(dtype, line)| TypeLine {
                dtype: dtype.to_owned(),
                ..line
            })
            .collect();
        // Colours go to what takes most room; the list runs from wide to narrow.
        types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.dtype.cmp(&b.dtype)));
        for (rank, line) in types.iter_mut().enumerate() {
            line.colour = if rank < COLOURS { rank } else { OTHER };
        }
        types.sort_by(|a, b| {
            wide(b)
                .total_cmp(&wide(a))
                .then_with(|| a.dtype.cmp(&b.dtype))
        });
        Self { types }
    }

    /// The colour of a type.
    pub(crate) fn colour(&self, dtype: &str) -> usize {
        let line = self.types.iter().find(|line| line.dtype == dtype);
        line.map_or(OTHER, |line| line.colour)
    }
}

fn wide(line: &TypeLine) -> f64 {
    line.bytes as f64 / line.elements.max(1) as f64
}

/// The style sheet's class for a colour.
pub(crate) fn class(colour: usize) -> &'static str {
    const CLASSES: [&str; COLOURS + 1] =
        ["c0", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9"];
    CLASSES.get(colour).copied().unwrap_or("c9")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_types_first_and_colours_by_size() {
        let row = |dtype: &str, elements, bytes| TensorRow {
            dtype: dtype.to_owned(),
            elements,
            bytes,
            ..TensorRow::default()
        };
        let palette = Palette::of(&[
            row("Q4_K", 256, 144),
            row("F32", 4, 16),
            row("Q4_K", 256, 144),
        ]);
        let shown: Vec<_> = palette
            .types
            .iter()
            .map(|t| (t.dtype.as_str(), t.colour, t.bytes))
            .collect();
        assert_eq!(shown, [("F32", 1, 16), ("Q4_K", 0, 288)]);
        assert_eq!(palette.colour("BF16"), OTHER);
    }
}
