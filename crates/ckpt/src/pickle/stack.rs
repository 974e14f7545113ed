//! The machine's stack, marks and memo.

use ir::ObjectId;
use std::collections::HashMap;

/// A stack with fences: what lies below the last mark cannot be popped.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    values: Vec<ObjectId>,
    marks: Vec<usize>,
}

impl Stack {
    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn marks(&self) -> usize {
        self.marks.len()
    }

    pub(crate) fn push(&mut self, id: ObjectId) {
        self.values.push(id);
    }

    pub(crate) fn mark(&mut self) {
        self.marks.push(self.values.len());
    }

    /// The topmost value above the last mark.
    pub(crate) fn top(&self) -> Option<ObjectId> {
        if self.values.len() > self.fence() {
            self.values.last().copied()
        } else {
            None
        }
    }

    pub(crate) fn pop(&mut self) -> Option<ObjectId> {
        self.top()?;
        self.values.pop()
    }

    /// `POP`: a value, or the mark if that is topmost.
    pub(crate) fn pop_value_or_mark(&mut self) -> Option<()> {
        if self.marks.last() == Some(&self.values.len()) {
            self.marks.pop();
            return Some(());
        }
        self.pop().map(|_| ())
    }

    /// Takes everything above the last mark, and the mark.
    pub(crate) fn pop_to_mark(&mut self) -> Option<Vec<ObjectId>> {
        let mark = self.marks.pop()?;
        Some(self.values.split_off(mark.min(self.values.len())))
    }

    /// Takes the topmost `n` values.
    pub(crate) fn pop_many(&mut self, n: usize) -> Option<Vec<ObjectId>> {
        let at = self.values.len().checked_sub(n)?;
        (at >= self.fence()).then(|| self.values.split_off(at))
    }
}

/// The memo: slots are nearly always filled in order, but any number may name one.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    /// Slots from 0 on; Python 2 begins at 1.
    dense: Vec<ObjectId>,
    filled: usize,
    sparse: HashMap<u64, ObjectId>,
}

/// What a slot holds that is not filled: no pickle makes so many objects.
fn free() -> ObjectId {
    ObjectId::from_index(u32::MAX)
}

/// A slot this far beyond the last one is still put in order.
const GAP: usize = 64;

impl Memo {
    /// How many slots are filled: what `MEMOIZE` numbers the next one.
    pub(crate) fn len(&self) -> usize {
        self.filled + self.sparse.len()
    }

    /// How many of them are out of order.
    pub(crate) fn out_of_order(&self) -> usize {
        self.sparse.len()
    }

    pub(crate) fn put(&mut self, index: u64, id: ObjectId) {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        if at >= self.dense.len() {
            // Once some slots are out of order, which of them lie ahead is not worth finding out.
            if at - self.dense.len() > GAP || !self.sparse.is_empty() {
                self.sparse.insert(index, id);
                return;
            }
            self.dense.resize(at + 1, free());
        }
        if let Some(slot) = self.dense.get_mut(at) {
            self.filled += usize::from(*slot == free());
            *slot = id;
        }
    }

    pub(crate) fn get(&self, index: u64) -> Option<ObjectId> {
        let dense = usize::try_from(index)
            .ok()
            .and_then(|at| self.dense.get(at).copied())
            .filter(|id| *id != free());
        dense.or_else(|| self.sparse.get(&index).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fences_hold() {
        let id = ObjectId::from_index;
        let mut stack = Stack::default();
        stack.push(id(1));
        stack.mark();
        assert_eq!(stack.pop(), None);
        assert_eq!(stack.pop_many(1), None);
        stack.push(id(2));
        assert_eq!(stack.pop_many(2), None);
        assert_eq!(stack.pop_to_mark(), Some(vec![id(2)]));
        stack.mark();
        assert_eq!(stack.pop_value_or_mark(), Some(()));
        assert_eq!(stack.pop(), Some(id(1)));
        assert_eq!(stack.pop_value_or_mark(), None);
        assert_eq!(stack.pop_to_mark(), None);
    }

    #[test]
    fn memo_takes_any_index() {
        let id = ObjectId::from_index;
        let mut memo = Memo::default();
        memo.put(0, id(1));
        memo.put(u64::MAX, id(2));
        memo.put(1, id(3));
        memo.put(0, id(4));
        assert_eq!(memo.len(), 3);
        assert_eq!(memo.get(0), Some(id(4)));
        assert_eq!(memo.get(1), Some(id(3)));
        assert_eq!(memo.get(u64::MAX), Some(id(2)));
        assert_eq!(memo.get(2), None);
    }
}
