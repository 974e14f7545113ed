//! Which position sees which, and how far each is turned.
//!
//! A query at place `i` sees a key at place `j` if `j <= i`, if `attention_mask` has a one at `j`,
//! and in a layer with a window of `w` if `j > i - w`. Places count from the beginning of the
//! cache, padding included, as transformers counts them. Every query sees itself, also where it is
//! padding: a row that sees nothing would be a division of zero by zero, and its NaN would reach
//! the others as a value times a weight of zero.

use crate::build::Builder;
use crate::emit::int;
use crate::rope::Rope;
use ir::{DType, Result, ValueId};

/// Values that layers share.
#[derive(Debug)]
pub(crate) struct Places {
    /// Batch, sequence, and the rest, as a reshape takes them.
    pub(crate) rows: ValueId,
    /// The places of queries, a column; of keys, a row.
    queries: ValueId,
    keys: ValueId,
    /// What all layers see: `[batch, 1, sequence, total]`.
    seen: ValueId,
    /// Each place and itself.
    itself: ValueId,
    /// Masks there are, by their window.
    masks: Vec<(Option<u64>, ValueId)>,
    /// Cosines and sines of each rope: `[batch, sequence, turned / 2]`.
    pub(crate) turns: Vec<(ValueId, ValueId)>,
}

impl Builder<'_> {
    /// Computes what layers share.
    pub(crate) fn places(
        &mut self,
        input_ids: ValueId,
        attention_mask: ValueId,
        position_ids: ValueId,
    ) -> Result<Places> {
        self.within("mask");
        let emit = &mut self.emit;
        let size = |emit: &mut crate::emit::Emit, of| -> Result<ValueId> {
            let shape = emit.node("Shape", &[of], vec![int("start", 1), int("end", 2)])?;
            let none = emit.list(&[0])?;
            emit.node("Squeeze", &[shape, none], Vec::new())
        };
        let rows = emit.node("Shape", &[input_ids], Vec::new())?;
        let last = emit.list(&[-1])?;
        let rows = emit.node("Concat", &[rows, last], vec![int("axis", 0)])?;
        let sequence = size(emit, input_ids)?;
        let total = size(emit, attention_mask)?;
        let past = emit.node("Sub", &[total, sequence], Vec::new())?;
        let (zero, one) = (emit.whole(0)?, emit.whole(1)?);
        let keys = emit.node("Range", &[zero, total, one], Vec::new())?;
        let queries = emit.node("Range", &[past, total, one], Vec::new())?;
        let queries = emit.node("Unsqueeze", &[queries, last], Vec::new())?;
        let earlier = emit.node("LessOrEqual", &[keys, queries], Vec::new())?;
        let itself = emit.node("Equal", &[keys, queries], Vec::new())?;
        let there = emit.cast(attention_mask, DType::Bool)?;
        let middle = emit.list(&[1, 2])?;
        let there = emit.node("Unsqueeze", &[there, middle], Vec::new())?;
        let seen = emit.node("And", &[there, earlier], Vec::new())?;
        let mut turns = Vec::new();
        for rope in self.settings.ropes.clone() {
            turns.push(self.turns(&rope, position_ids)?);
        }
        Ok(Places {
            rows,
            queries,
            keys,
            seen,
            itself,
            masks: Vec::new(),
            turns,
        })
    }

    /// The mask of layers with this window.
    pub(crate) fn mask(&mut self, places: &mut Places, window: Option<u64>) -> Result<ValueId> {
        if let Some((_, mask)) = places.masks.iter().find(|(of, _)| *of == window) {
            return Ok(*mask);
        }
        self.within("mask");
        let emit = &mut self.emit;
        let mut seen = places.seen;
        if let Some(window) = window {
            let window = emit.whole(crate::emit::signed(window))?;
            let first = emit.node("Sub", &[places.queries, window], Vec::new())?;
            let near = emit.node("Greater", &[places.keys, first], Vec::new())?;
            seen = emit.node("And", &[seen, near], Vec::new())?;
        }
        let mask = emit.node("Or", &[seen, places.itself], Vec::new())?;
        places.masks.push((window, mask));
        Ok(mask)
    }

    /// Cosines and sines of the angles, computed in F32: no table, so that a context of any length
    /// costs nothing in the file.
    fn turns(&mut self, rope: &Rope, position_ids: ValueId) -> Result<(ValueId, ValueId)> {
        self.within("rope");
        let emit = &mut self.emit;
        let mut frequencies = emit.numbers(&rope.frequencies)?;
        if let Some((context, beyond)) = &rope.beyond {
            let beyond = emit.numbers(beyond)?;
            let keep = vec![int("keepdims", 0)];
            let last = emit.node("ReduceMax", &[position_ids], keep)?;
            let context = emit.whole(crate::emit::signed(*context))?;
            let long = emit.node("GreaterOrEqual", &[last, context], Vec::new())?;
            frequencies = emit.node("Where", &[long, beyond, frequencies], Vec::new())?;
        }
        let positions = emit.cast(position_ids, DType::F32)?;
        let last = emit.list(&[-1])?;
        let positions = emit.node("Unsqueeze", &[positions, last], Vec::new())?;
        let angles = emit.node("Mul", &[positions, frequencies], Vec::new())?;
        let cos = self.turn("Cos", angles, rope)?;
        Ok((cos, self.turn("Sin", angles, rope)?))
    }

    fn turn(&mut self, op: &str, angles: ValueId, rope: &Rope) -> Result<ValueId> {
        let mut turn = self.emit.node(op, &[angles], Vec::new())?;
        if rope.factor.to_bits() != 1.0f32.to_bits() {
            let factor = self.emit.number(rope.factor, DType::F32)?;
            turn = self.emit.node("Mul", &[turn, factor], Vec::new())?;
        }
        self.narrowed(turn)
    }
}
