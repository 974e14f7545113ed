//! The closed list of what can happen to a tensor on its way, each with its way back.
//!
//! | verb | there | back |
//! |---|---|---|
//! | `permute_qk(heads)` | rotary rows from halves to pairs | pairs to halves |
//! | `rot_neox(heads, n)` | the first `n` rows of each head from pairs to halves | halves to pairs |
//! | `add_one` | + 1 | - 1 |
//! | `neg_exp` | -exp(x) | ln(-x), so that -exp of it is the same bits |
//! | `transpose`, `transpose(n)` | last two dimensions swapped, unless `n` is 0 | the same |
//! | `squeeze(d)`, `unsqueeze(d)` | a dimension of 1 goes, comes | the other |
//! | `fold(n)` | `[n * m, ..]` to `[n, m, ..]` | flattened again |
//! | `cut_rows(n)` | the first `n` rows stay | nothing: the rows are gone |
//! | `skip_rows(n)` | the first `n` rows go | `n` rows of zeros come first |
//! | `regroup_qkv(groups, q, k, v)` | group by group to all q, all k, all v | group by group |
//! | `tile_rows(skip, a, b, n)` | after `skip` rows, `[a, b, n]` to `[b, a, n]` | the other |
//! | `tile_columns(a, b, n)` | columns likewise | the other |
//! | `split(d, n..)` | one tensor to parts along a dimension | joined |
//! | `split_groups(groups, n..)` | parts taken group by group | joined |
//! | `deal(d, n)` | every `n`th along a dimension to its own part | shuffled together |
//! | `split_kv_b(heads, k, v)` | `kv_b` to `k_b` (transposed) and `v_b` | joined |
//! | `concat(d, n..)` | parts to one tensor | split |
//! | `repack_mxfp4(n)` | blocks and scales to `n` parts of ggml's blocks | unpacked |
//! | `on(i, verb)` | only on part `i` | likewise |
//!
//! Renaming is the row itself, stacking is a `{xid}` in the row's HF name, and leaving out is the
//! table's `skip`.

mod ops;
mod pair;

pub(crate) use ops::{bad, transpose};
pub(crate) use pair::Pair;

use crate::compute::{Op, decay, elementwise};
use crate::error::ArchError;
use crate::expr::{Expr, Scope};
use ir::{Result, Tensor};
use ops::{
    cut, deal, each, fold, join, join_groups, join_kv_b, pad, permute, regroup, repack, rot_neox,
    shuffle, split, split_groups, split_kv_b, squeeze, tile_columns, tile_rows, unpack,
};

/// Name and least and greatest number of arguments.
const VERBS: &[(&str, usize, usize)] = &[
    ("permute_qk", 1, 1),
    ("rot_neox", 2, 2),
    ("add_one", 0, 0),
    ("neg_exp", 0, 0),
    ("transpose", 0, 1),
    ("squeeze", 1, 1),
    ("unsqueeze", 1, 1),
    ("fold", 1, 1),
    ("cut_rows", 1, 1),
    ("skip_rows", 1, 1),
    ("regroup_qkv", 4, 4),
    ("tile_rows", 4, 4),
    ("tile_columns", 3, 3),
    ("split", 3, 9),
    ("split_groups", 3, 9),
    ("deal", 2, 2),
    ("split_kv_b", 3, 3),
    ("concat", 3, 9),
    ("repack_mxfp4", 1, 1),
    ("on", 2, 2),
];

/// How many arguments the verb `name` takes, if there is one.
pub(crate) fn arity(name: &str) -> Option<(usize, usize)> {
    let row = VERBS.iter().find(|row| row.0 == name)?;
    Some((row.1, row.2))
}

/// A verb with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verb {
    name: &'static str,
    args: Vec<Expr>,
    /// What `on` wraps.
    inner: Option<Box<Verb>>,
}

/// One step of a row: tensors in, tensors out.
impl Verb {
    /// Reads `name(args)`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        Self::of(&Expr::parse(text)?)
    }

    fn of(expr: &Expr) -> Result<Self, String> {
        let (name, args) = expr
            .as_call()
            .ok_or_else(|| format!("`{expr}` is no verb"))?;
        let row = VERBS.iter().find(|row| row.0 == name);
        let row = row.ok_or_else(|| format!("there is no verb {name:?}"))?;
        if !(row.1..=row.2).contains(&args.len()) {
            return Err(format!("{name} takes {} to {} arguments", row.1, row.2));
        }
        let inner = match args.get(1) {
            Some(arg) if row.0 == "on" => Some(Box::new(Self::of(arg)?)),
            _ => None,
        };
        Ok(Self {
            name: row.0,
            args,
            inner,
        })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Parts it makes of one tensor: `None` for verbs that keep the number of tensors.
    pub(crate) fn parts(&self) -> Option<usize> {
        match self.name {
            "split" | "split_groups" => Some(self.args.len() - 1),
            "deal" => self
                .args
                .get(1)
                .and_then(|n| usize::try_from(n.as_literal_u64()?).ok()),
            "split_kv_b" => Some(2),
            _ => None,
        }
    }

    /// Whether it makes one tensor of several, or of blocks and scales.
    pub(crate) fn joins(&self) -> bool {
        matches!(self.name, "concat" | "repack_mxfp4")
    }

    /// The keys of the config that its arguments are made of.
    pub(crate) fn keys(&self) -> impl Iterator<Item = String> {
        self.args.iter().flat_map(Expr::keys)
    }

    /// Whether its results come before all others, as the reference converter writes them.
    pub(crate) fn early(&self) -> bool {
        self.name == "repack_mxfp4"
    }

    /// Whether going back cannot restore what was there.
    pub(crate) fn loses(&self) -> bool {
        matches!(self.name, "cut_rows" | "skip_rows")
    }

    fn numbers(&self, scope: &Scope<'_>) -> Result<Vec<u64>> {
        let number = |arg: &Expr| {
            let value = arg.eval(scope).and_then(|value| {
                value
                    .as_u64()
                    .ok_or_else(|| format!("`{arg}` is {value}, not a whole number"))
            });
            value.map_err(|why| {
                ArchError::BadValue {
                    what: self.name.to_owned(),
                    why,
                }
                .into()
            })
        };
        let wanted = if self.name == "on" {
            1
        } else {
            self.args.len()
        };
        self.args.iter().take(wanted).map(number).collect()
    }

    /// HF to GGUF.
    pub(crate) fn forward(&self, tensors: Vec<Tensor>, scope: &Scope<'_>) -> Result<Vec<Tensor>> {
        let n = self.numbers(scope)?;
        match (self.name, n.as_slice()) {
            ("concat", [dim, sizes @ ..]) => Ok(vec![join(tensors, self.name, *dim, sizes)?]),
            ("repack_mxfp4", [parts]) => repack(&tensors, *parts),
            ("on", [which]) => self.on(tensors, *which, scope, true),
            _ => {
                let done = tensors.iter().map(|tensor| self.one(tensor, &n, true));
                let done: Result<Vec<Vec<Tensor>>> = done.collect();
                Ok(done?.into_iter().flatten().collect())
            }
        }
    }

    /// GGUF to HF.
    pub(crate) fn backward(&self, tensors: Vec<Tensor>, scope: &Scope<'_>) -> Result<Vec<Tensor>> {
        let n = self.numbers(scope)?;
        let single = |tensor: Result<Tensor>| tensor.map(|tensor| vec![tensor]);
        match (self.name, n.as_slice()) {
            ("concat", [dim, sizes @ ..]) => each(&tensors, |t| split(t, "split", *dim, sizes)),
            ("split", [dim, sizes @ ..]) => single(join(tensors, "concat", *dim, sizes)),
            ("split_groups", [groups, sizes @ ..]) => single(join_groups(tensors, *groups, sizes)),
            ("deal", [dim, parts]) => single(shuffle(tensors, *dim, *parts)),
            ("split_kv_b", [heads, k, v]) => single(join_kv_b(&tensors, *heads, *k, *v)),
            ("repack_mxfp4", [parts]) => unpack(&tensors, *parts),
            ("on", [which]) => self.on(tensors, *which, scope, false),
            _ => each(&tensors, |tensor| self.one(tensor, &n, false)),
        }
    }

    fn on(
        &self,
        mut tensors: Vec<Tensor>,
        which: u64,
        scope: &Scope<'_>,
        there: bool,
    ) -> Result<Vec<Tensor>> {
        let slot = usize::try_from(which).ok().and_then(|i| tensors.get_mut(i));
        if let (Some(inner), Some(slot)) = (&self.inner, slot) {
            let one = vec![slot.clone()];
            let done = if there {
                inner.forward(one, scope)?
            } else {
                inner.backward(one, scope)?
            };
            if let Some(tensor) = done.into_iter().next() {
                *slot = tensor;
            }
        }
        Ok(tensors)
    }

    /// Verbs of one tensor to one, and of one to parts on the way there.
    fn one(&self, tensor: &Tensor, n: &[u64], there: bool) -> Result<Vec<Tensor>> {
        let done = match (self.name, n) {
            ("permute_qk", [heads]) => permute(tensor, self.name, *heads, there)?,
            ("rot_neox", [heads, rotary]) => rot_neox(tensor, *heads, *rotary, there)?,
            ("add_one", _) if there => elementwise(tensor, "add_one", Op::Add(1.0))?,
            ("add_one", _) => elementwise(tensor, "sub_one", Op::Add(-1.0))?,
            ("neg_exp", _) if there => elementwise(tensor, "neg_exp", Op::NegExp)?,
            ("neg_exp", _) => decay(tensor)?.0,
            ("transpose", [0]) => tensor.clone(),
            ("transpose", _) => transpose(tensor)?,
            ("squeeze", [dim]) => squeeze(tensor, *dim, there)?,
            ("unsqueeze", [dim]) => squeeze(tensor, *dim, !there)?,
            ("fold", [outer]) => fold(tensor, *outer, there)?,
            ("cut_rows", [rows]) if there => cut(tensor, 0, *rows)?,
            ("cut_rows", _) => tensor.clone(),
            ("skip_rows", [rows]) if there => {
                let all = tensor.spec.shape.first().copied().unwrap_or(0);
                cut(tensor, *rows, all.saturating_sub(*rows))?
            }
            ("skip_rows", [rows]) => pad(tensor, *rows)?,
            ("regroup_qkv", [groups, sizes @ ..]) => regroup(tensor, *groups, sizes, there)?,
            ("tile_rows", [skip, a, b, inner]) => {
                let (a, b) = if there { (*a, *b) } else { (*b, *a) };
                tile_rows(tensor, *skip, a, b, *inner)?
            }
            ("tile_columns", [a, b, inner]) => {
                let (a, b) = if there { (*a, *b) } else { (*b, *a) };
                tile_columns(tensor, a, b, *inner)?
            }
            ("split", [dim, sizes @ ..]) => return split(tensor, self.name, *dim, sizes),
            ("split_groups", [groups, sizes @ ..]) => return split_groups(tensor, *groups, sizes),
            ("deal", [dim, parts]) => return deal(tensor, *dim, *parts),
            ("split_kv_b", [heads, k, v]) => return split_kv_b(tensor, *heads, *k, *v),
            _ => {
                return Err(ArchError::Table {
                    table: self.name.to_owned(),
                    why: "a verb without a meaning".to_owned(),
                }
                .into());
            }
        };
        Ok(vec![done])
    }
}
