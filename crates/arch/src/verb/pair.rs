//! What verbs do to an adapter's pair of factors.
//!
//! LoRA changes a matrix by `B · A`: its rows are the rows of B, its columns are the columns of A. A
//! verb that moves rows moves those of B, one that moves columns those of A, and the other factor
//! stays as it is, or belongs to every part. What reaches into the numbers (`add_one`, `neg_exp`) or
//! makes another kind of tensor has no meaning for a change of low rank and is refused.

use super::Verb;
use crate::error::ArchError;
use crate::expr::Scope;
use ir::{Result, Tensor};

/// The two factors of a change of one matrix.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// `[rank, columns]`.
    pub(crate) a: Tensor,
    /// `[rows, rank]`.
    pub(crate) b: Tensor,
    /// An embedding: the change is the transpose of `B · A`, its rows are the columns of A.
    pub(crate) turned: bool,
}

/// Which factor moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Rows,
    Columns,
}

/// Most bytes of two factors compared at once.
const COMPARE_CHUNK: u64 = 1 << 18;

impl Verb {
    /// HF to GGUF.
    pub(crate) fn forward_pairs(&self, pairs: Vec<Pair>, scope: &Scope<'_>) -> Result<Vec<Pair>> {
        self.pairs(pairs, scope, true)
    }

    /// GGUF to HF.
    pub(crate) fn backward_pairs(&self, pairs: Vec<Pair>, scope: &Scope<'_>) -> Result<Vec<Pair>> {
        self.pairs(pairs, scope, false)
    }

    fn pairs(&self, mut pairs: Vec<Pair>, scope: &Scope<'_>, there: bool) -> Result<Vec<Pair>> {
        let n = self.numbers(scope)?;
        // PEFT writes the factors of a Conv1D, whose weight is stored transposed, as those of the
        // linear layer it stands for: they are turned already.
        if self.name == "transpose" {
            return Ok(pairs);
        }
        if let ("on", [which]) = (self.name, n.as_slice()) {
            let slot = usize::try_from(*which).ok().and_then(|i| pairs.get_mut(i));
            if let (Some(inner), Some(slot)) = (&self.inner, slot) {
                let done = inner.pairs(vec![slot.clone()], scope, there)?;
                if let Some(pair) = done.into_iter().next() {
                    *slot = pair;
                }
            }
            return Ok(pairs);
        }
        if pairs.iter().any(|pair| pair.turned) {
            return pairs
                .iter()
                .map(|pair| self.turned(pair, &n, there))
                .collect();
        }
        let side = match (self.name, n.as_slice()) {
            (
                "permute_qk" | "rot_neox" | "cut_rows" | "regroup_qkv" | "tile_rows"
                | "split_groups",
                _,
            )
            | ("split" | "deal" | "concat", [0, ..]) => Side::Rows,
            ("tile_columns", _) | ("split" | "deal" | "concat", [1, ..]) => Side::Columns,
            _ => return Err(self.refused(pairs.first())),
        };
        let (moving, staying): (Vec<Tensor>, Vec<Tensor>) = pairs
            .into_iter()
            .map(|pair| match side {
                Side::Rows => (pair.b, pair.a),
                Side::Columns => (pair.a, pair.b),
            })
            .unzip();
        let moved = if there {
            self.forward(moving, scope)?
        } else {
            self.backward(moving, scope)?
        };
        let staying = match (staying.as_slice(), moved.len()) {
            (all, n) if all.len() == n => staying,
            ([one], n) => vec![one.clone(); n],
            ([first, rest @ ..], 1) => {
                for other in rest {
                    same(first, other, self.name)?;
                }
                vec![first.clone()]
            }
            _ => return Err(self.refused_tensor(moved.first())),
        };
        let both = moved.into_iter().zip(staying);
        Ok(both
            .map(|(moved, stayed)| match side {
                Side::Rows => Pair {
                    a: stayed,
                    b: moved,
                    turned: false,
                },
                Side::Columns => Pair {
                    a: moved,
                    b: stayed,
                    turned: false,
                },
            })
            .collect())
    }

    /// The only thing that happens to an embedding's rows: those without a token go.
    fn turned(&self, pair: &Pair, n: &[u64], there: bool) -> Result<Pair> {
        let ("cut_rows", [rows]) = (self.name, n) else {
            return Err(self.refused(Some(pair)));
        };
        let all = pair.a.spec.shape.get(1).copied().unwrap_or(0);
        if !there || *rows >= all {
            return Ok(pair.clone());
        }
        let parts = super::ops::split(&pair.a, self.name, 1, &[*rows, all - rows])?;
        let a = parts.into_iter().next().unwrap_or_else(|| pair.a.clone());
        Ok(Pair { a, ..pair.clone() })
    }

    fn refused(&self, pair: Option<&Pair>) -> ir::Error {
        self.refused_tensor(pair.map(|pair| &pair.b))
    }

    fn refused_tensor(&self, tensor: Option<&Tensor>) -> ir::Error {
        ArchError::NotForLora {
            tensor: tensor.map(|t| t.name.clone()).unwrap_or_default(),
            why: format!(
                "{} has no meaning for a change of low rank: this matrix cannot be adapted in GGUF",
                self.name
            ),
        }
        .into()
    }
}

/// Parts of one matrix are one pair only if they share the other factor.
fn same(one: &Tensor, other: &Tensor, verb: &str) -> Result<()> {
    let differ = || {
        ArchError::NotForLora {
            tensor: other.name.clone(),
            why: format!(
                "{verb} makes one matrix of several, and it is not the factor of {:?}",
                { &one.name }
            ),
        }
        .into()
    };
    if one.spec != other.spec {
        return Err(differ());
    }
    let elements = one.spec.elements().unwrap_or(0);
    let (per, _) = one.spec.dtype.block();
    let step = (COMPARE_CHUNK / 8).next_multiple_of(u64::from(per.max(1)));
    let mut at = 0;
    while at < elements {
        let end = elements.min(at.saturating_add(step));
        let len = one.spec.dtype.byte_len(end - at).unwrap_or(0);
        let len = usize::try_from(len).unwrap_or(0);
        let (mut left, mut right) = (vec![0; len], vec![0; len]);
        one.read(at..end, &mut left)?;
        other.read(at..end, &mut right)?;
        if left != right {
            return Err(differ());
        }
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compute::constant;
    use crate::compute::reshape;
    use serde_json::{Map, Value, json};

    fn matrix(name: &str, rows: u64, columns: u64) -> Tensor {
        let n = u16::try_from(rows * columns).unwrap();
        let values: Vec<f32> = (0..n).map(f32::from).collect();
        reshape(&constant(name, &values), [rows, columns]).unwrap()
    }

    fn pair(rows: u64, columns: u64) -> Pair {
        Pair {
            a: matrix("a", 1, columns),
            b: matrix("b", rows, 1),
            turned: false,
        }
    }

    fn floats(tensor: &Tensor) -> Vec<f32> {
        let bytes = tensor.read_all().unwrap();
        let floats = bytes.chunks_exact(4);
        floats
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()
    }

    fn root() -> Map<String, Value> {
        json!({"heads": 2}).as_object().unwrap().clone()
    }

    #[test]
    fn rows_are_those_of_b() {
        let root = root();
        let scope = Scope::new(&root);
        let verb = Verb::parse("permute_qk(heads)").unwrap();
        let there = verb.forward_pairs(vec![pair(8, 3)], &scope).unwrap();
        assert_eq!(floats(&there[0].b), [0., 2., 1., 3., 4., 6., 5., 7.]);
        assert_eq!(floats(&there[0].a), [0., 1., 2.]);
        let back = verb.backward_pairs(there, &scope).unwrap();
        assert_eq!(floats(&back[0].b), floats(&pair(8, 3).b));
    }

    #[test]
    fn columns_are_those_of_a() {
        let root = root();
        let scope = Scope::new(&root);
        let verb = Verb::parse("tile_columns(heads, 2, 1)").unwrap();
        let there = verb.forward_pairs(vec![pair(3, 4)], &scope).unwrap();
        assert_eq!(floats(&there[0].a), [0., 2., 1., 3.]);
        assert_eq!(floats(&there[0].b), [0., 1., 2.]);
    }

    #[test]
    fn parts_share_the_other_factor() {
        let root = root();
        let scope = Scope::new(&root);
        let verb = Verb::parse("split(0, 1, 3)").unwrap();
        let parts = verb.forward_pairs(vec![pair(4, 3)], &scope).unwrap();
        assert_eq!(floats(&parts[1].b), [1., 2., 3.]);
        assert_eq!(floats(&parts[1].a), floats(&parts[0].a));
        let back = verb.backward_pairs(parts.clone(), &scope).unwrap();
        assert_eq!(floats(&back[0].b), [0., 1., 2., 3.]);
        let mut other = parts;
        other[1].a = constant("a", &[9., 9., 9.]);
        other[1].a = reshape(&other[1].a, [1, 3]).unwrap();
        let error = verb.backward_pairs(other, &scope).unwrap_err();
        assert!(error.to_string().contains("not the factor"), "{error}");
    }

    #[test]
    fn what_is_not_a_move_is_refused() {
        let root = root();
        let scope = Scope::new(&root);
        for text in ["add_one", "neg_exp", "squeeze(1)", "fold(2)"] {
            let verb = Verb::parse(text).unwrap();
            assert!(
                verb.forward_pairs(vec![pair(4, 3)], &scope).is_err(),
                "{text}"
            );
        }
    }

    #[test]
    fn an_embedding_loses_rows_in_a() {
        let root = root();
        let scope = Scope::new(&root);
        let turned = Pair {
            turned: true,
            ..pair(2, 5)
        };
        let cut = Verb::parse("cut_rows(3)").unwrap();
        let done = cut.forward_pairs(vec![turned.clone()], &scope).unwrap();
        assert_eq!(floats(&done[0].a), [0., 1., 2.]);
        let permute = Verb::parse("permute_qk(1)").unwrap();
        assert!(permute.forward_pairs(vec![turned], &scope).is_err());
    }
}
