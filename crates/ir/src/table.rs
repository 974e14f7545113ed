//! The ordered table of a model's tensors.

use crate::{ByteOrder, Fault, Payload, Result, Strides, Tensor, TensorSpec, View};
use std::collections::HashMap;
use std::ops::Index;
use std::sync::Arc;

/// The place of a tensor in its model's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(u32);

impl TensorId {
    /// Its position.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Tensors in the source's order, found by name.
#[derive(Clone, Debug, Default)]
pub struct TensorTable {
    list: Vec<Tensor>,
    /// Only ever looked up, never walked: order comes from `list`.
    by_name: HashMap<String, TensorId>,
}

impl TensorTable {
    /// An empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor; its name must be new.
    pub fn push(&mut self, tensor: Tensor) -> Result<TensorId> {
        let id = TensorId(
            u32::try_from(self.list.len()).map_err(|_| Fault::OverLimit {
                what: "tensors",
                found: self.list.len() as u64 + 1,
                limit: u64::from(u32::MAX),
            })?,
        );
        if self.by_name.contains_key(&tensor.name) {
            return Err(Fault::DuplicateName { name: tensor.name }.into());
        }
        self.by_name.insert(tensor.name.clone(), id);
        self.list.push(tensor);
        Ok(id)
    }

    /// A table of these tensors.
    pub fn from_tensors(tensors: impl IntoIterator<Item = Tensor>) -> Result<Self> {
        let mut table = Self::new();
        for tensor in tensors {
            table.push(tensor)?;
        }
        Ok(table)
    }

    /// How many tensors there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The tensor of an id.
    pub fn get(&self, id: TensorId) -> Option<&Tensor> {
        self.list.get(id.index())
    }

    /// The tensor of a name.
    pub fn by_name(&self, name: &str) -> Option<&Tensor> {
        self.id_of(name).and_then(|id| self.get(id))
    }

    /// The id of a name.
    pub fn id_of(&self, name: &str) -> Option<TensorId> {
        self.by_name.get(name).copied()
    }

    /// All tensors, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tensor> {
        self.list.iter()
    }

    /// Ids with tensors, in order.
    pub fn ids(&self) -> impl Iterator<Item = (TensorId, &Tensor)> {
        // `push` keeps the length within u32.
        (0u32..).map(TensorId).zip(&self.list)
    }

    /// Total bytes of all tensors, ties counted each time.
    pub fn byte_len(&self) -> u64 {
        self.list
            .iter()
            .fold(0, |sum, tensor| sum.saturating_add(tensor.byte_len()))
    }

    /// Total elements of all tensors.
    pub fn elements(&self) -> u64 {
        self.list.iter().fold(0, |sum, t| {
            sum.saturating_add(t.spec.elements().unwrap_or(0))
        })
    }

    /// Takes the tensors out, in order.
    pub fn into_tensors(self) -> Vec<Tensor> {
        self.list
    }

    /// For each tensor, the first tensor of the table that is the very same: same type, shape and
    /// strides over the same bytes, or the same computation. A tensor that is the first of its
    /// kind answers itself.
    ///
    /// Tensors of no elements are never tied: they share nothing.
    pub fn ties(&self) -> Vec<TensorId> {
        /// What makes two tensors the same.
        #[derive(PartialEq, Eq, Hash)]
        enum Same<'a> {
            Bytes(usize, u64, &'a TensorSpec, Option<&'a Strides>, ByteOrder),
            Computation(usize, &'a TensorSpec),
        }
        let mut first = HashMap::new();
        self.ids()
            .map(|(id, tensor)| {
                let spec = &tensor.spec;
                let same = match &tensor.payload {
                    _ if tensor.byte_len() == 0 => return id,
                    Payload::Strings(_) => return id,
                    Payload::Computed(compute) => {
                        Same::Computation(Arc::as_ptr(compute).cast::<()>() as usize, spec)
                    }
                    Payload::Stored(View {
                        region,
                        offset,
                        strides,
                        byte_order,
                    }) => {
                        let strides = strides.as_ref().filter(|s| !s.is_row_major(&spec.shape));
                        let at = region.start().saturating_add(*offset);
                        Same::Bytes(region.source_key(), at, spec, strides, *byte_order)
                    }
                };
                *first.entry(same).or_insert(id)
            })
            .collect()
    }
}

impl Index<TensorId> for TensorTable {
    type Output = Tensor;

    fn index(&self, id: TensorId) -> &Tensor {
        &self.list[id.index()]
    }
}

impl<'a> IntoIterator for &'a TensorTable {
    type Item = &'a Tensor;
    type IntoIter = std::slice::Iter<'a, Tensor>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Region, TensorSpec};

    #[test]
    fn names_are_unique_and_ties_found() {
        let region = Region::memory(vec![0; 64]);
        let tensor = |name: &str, offset| {
            let view = View::contiguous(region.slice(offset, 16).unwrap());
            Tensor::stored(name, TensorSpec::new(DType::F32, [4]), view)
        };
        let mut table = TensorTable::new();
        for (name, offset) in [("a", 0), ("b", 16), ("c", 0)] {
            table.push(tensor(name, offset)).unwrap();
        }
        assert!(table.push(tensor("b", 32)).is_err());
        let ties: Vec<_> = table.ties().into_iter().map(TensorId::index).collect();
        assert_eq!(ties, [0, 1, 0]);
        assert_eq!(table.by_name("c").unwrap().name, "c");
    }
}
