//! Attention: queries, keys and values made, turned, and put together with the cache.

use crate::build::Builder;
use crate::emit::{float, int, ints, signed};
use crate::family::QkNorm;
use crate::mask::Places;
use crate::settings::Layer;
use ir::{DType, Result, ValueId};

/// The cache of a layer: what it was, what it becomes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cache {
    pub(crate) key: ValueId,
    pub(crate) value: ValueId,
}

impl Builder<'_> {
    /// The attention of a layer over `[batch * sequence, hidden]`, and the cache after it.
    pub(crate) fn attention(
        &mut self,
        x: ValueId,
        path: &str,
        layer: &Layer,
        past: Cache,
        places: &mut Places,
    ) -> Result<(ValueId, Cache)> {
        let mask = self.mask(places, layer.window)?;
        let (heads, kv_heads) = (self.settings.heads, self.settings.kv_heads);
        let [query, key, value] = self.qkv(x, path)?;
        let query = self.turned(query, path, "q", heads, layer, places)?;
        let key = self.turned(key, path, "k", kv_heads, layer, places)?;
        self.within(path);
        let value = self.in_rows(value, places)?;
        let (y, present) = if self.settings.score_cap.is_some() {
            self.spelled_out([query, key, value], mask, layer, past)?
        } else {
            self.at_once([query, key, value], mask, layer, past)?
        };
        let out = self.settings.heads * self.settings.head_dim;
        let flat = self.emit.list(&[-1, signed(out)])?;
        let y = self.emit.node("Reshape", &[y, flat], Vec::new())?;
        let output = format!("{path}.{}", self.family.names.output);
        Ok((self.linear(y, &output, out, self.settings.hidden)?, present))
    }

    /// Queries, keys and values: `[batch * sequence, heads * size]`.
    fn qkv(&mut self, x: ValueId, path: &str) -> Result<[ValueId; 3]> {
        let names = self.family.names;
        let settings = &self.settings;
        let (hidden, size) = (settings.hidden, settings.head_dim);
        let (queries, keys) = (settings.heads * size, settings.kv_heads * size);
        if self.family.fused_qkv {
            let all = format!("{path}.{}", names.fused_qkv);
            let all = self.linear(x, &all, hidden, queries + 2 * keys)?;
            self.within(path);
            return self.split(all, [queries, keys, keys]);
        }
        let [q, k, v] = names.qkv;
        let to = |name: &str| format!("{path}.{name}");
        Ok([
            self.linear(x, &to(q), hidden, queries)?,
            self.linear(x, &to(k), hidden, keys)?,
            self.linear(x, &to(v), hidden, keys)?,
        ])
    }

    /// `[batch, sequence, heads * size]`.
    fn in_rows(&mut self, x: ValueId, places: &Places) -> Result<ValueId> {
        self.emit.node("Reshape", &[x, places.rows], Vec::new())
    }

    /// Queries or keys, normed where the family does so and turned by their positions.
    fn turned(
        &mut self,
        x: ValueId,
        path: &str,
        which: &str,
        heads: u64,
        layer: &Layer,
        places: &Places,
    ) -> Result<ValueId> {
        let size = self.settings.head_dim;
        let norm = format!("{path}.{which}_norm");
        let x = match self.family.qk_norm {
            QkNorm::None => x,
            QkNorm::Whole => self.norm(x, &norm, heads * size)?,
            QkNorm::Head => {
                self.within(&norm);
                let split = self.emit.list(&[-1, signed(heads), signed(size)])?;
                let x = self.emit.node("Reshape", &[x, split], Vec::new())?;
                self.norm(x, &norm, size)?
            }
        };
        self.within(path);
        let x = self.in_rows(x, places)?;
        let Some(rope) = layer.rope else {
            return Ok(x);
        };
        let turned = self.settings.ropes.get(rope);
        let turned = turned.map_or(0, |rope| 2 * rope.frequencies.len() as u64);
        let Some((cos, sin)) = places.turns.get(rope).copied() else {
            return Ok(x);
        };
        let mut attributes = vec![int("num_heads", signed(heads))];
        if turned < size {
            attributes.push(int("rotary_embedding_dim", signed(turned)));
        }
        self.emit
            .node("RotaryEmbedding", &[x, cos, sin], attributes)
    }

    /// One operator for all of it; groups of queries share keys inside.
    fn at_once(
        &mut self,
        [query, key, value]: [ValueId; 3],
        mask: ValueId,
        layer: &Layer,
        past: Cache,
    ) -> Result<(ValueId, Cache)> {
        let mut attributes = vec![
            int("q_num_heads", signed(self.settings.heads)),
            int("kv_num_heads", signed(self.settings.kv_heads)),
            float("scale", layer.scale),
        ];
        if self.compute != DType::F32 {
            attributes.push(int("softmax_precision", 1));
        }
        let inputs = [query, key, value, mask, past.key, past.value];
        let [y, key, value] = self.emit.nodes("Attention", &inputs, attributes)?;
        Ok((y, Cache { key, value }))
    }

    /// The same written out, for scores with a cap: whether a cap comes before or after the mask
    /// has changed in the operator's text, and runtimes differ.
    fn spelled_out(
        &mut self,
        [query, key, value]: [ValueId; 3],
        mask: ValueId,
        layer: &Layer,
        past: Cache,
    ) -> Result<(ValueId, Cache)> {
        let (kv_heads, size) = (self.settings.kv_heads, self.settings.head_dim);
        let group = self.settings.heads / kv_heads;
        // Queries of one group of keys stand together: [batch, groups, of a group, sequence, size].
        let shape = [0, 0, signed(kv_heads), signed(group), signed(size)];
        let shape = self.emit.list(&shape)?;
        let query = self.emit.node("Reshape", &[query, shape], Vec::new())?;
        let query = self.transposed(query, &[0, 2, 3, 1, 4])?;
        let query = self.times(query, Some(layer.scale))?;
        let key = self.grown(key, past.key)?;
        let value = self.grown(value, past.value)?;
        let one_of_group = self.emit.list(&[2])?;
        let keys = self.transposed(key, &[0, 1, 3, 2])?;
        let keys = self
            .emit
            .node("Unsqueeze", &[keys, one_of_group], Vec::new())?;
        let values = self
            .emit
            .node("Unsqueeze", &[value, one_of_group], Vec::new())?;
        let scores = self.emit.node("MatMul", &[query, keys], Vec::new())?;
        let scores = self.widened(scores)?;
        let scores = self.capped(scores, self.settings.score_cap, DType::F32)?;
        let one = self.emit.list(&[1])?;
        let mask = self.emit.node("Unsqueeze", &[mask, one], Vec::new())?;
        let never = self.emit.number(f32::MIN, DType::F32)?;
        let scores = self
            .emit
            .node("Where", &[mask, scores, never], Vec::new())?;
        let shares = self
            .emit
            .node("Softmax", &[scores], vec![int("axis", -1)])?;
        let shares = self.narrowed(shares)?;
        let y = self.emit.node("MatMul", &[shares, values], Vec::new())?;
        let y = self.transposed(y, &[0, 3, 1, 2, 4])?;
        Ok((y, Cache { key, value }))
    }

    fn transposed(&mut self, x: ValueId, order: &[i64]) -> Result<ValueId> {
        self.emit.node("Transpose", &[x], vec![ints("perm", order)])
    }

    /// The cache with what is new behind it: `[batch, heads, total, size]`.
    fn grown(&mut self, new: ValueId, past: ValueId) -> Result<ValueId> {
        let (heads, size) = (self.settings.kv_heads, self.settings.head_dim);
        let shape = self.emit.list(&[0, 0, signed(heads), signed(size)])?;
        let new = self.emit.node("Reshape", &[new, shape], Vec::new())?;
        let new = self.transposed(new, &[0, 2, 1, 3])?;
        self.emit.node("Concat", &[past, new], vec![int("axis", 2)])
    }
}
