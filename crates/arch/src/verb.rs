//! The closed list of what can happen to a tensor on its way, each with its way back.
//!
//! | verb | there | back |
//! |---|---|---|
//! | `permute_qk(heads)` | rotary rows from halves to pairs | pairs to halves |
//! | `rot_neox(heads, n)` | the first `n` rows of each head from pairs to halves | halves to pairs |
//! | `add_one` | + 1 | - 1 |
//! | `neg_exp` | -exp(x) | ln(-x) |
//! | `transpose` | last two dimensions swapped | the same |
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

use crate::compute::{
    Dim, Op, elementwise, mxfp4_blocks, mxfp4_pack, mxfp4_scales, remap, reshape, weave,
};
use crate::error::ArchError;
use crate::expr::{Expr, Scope};
use ir::{Result, Shape, Tensor};

/// Name and least and greatest number of arguments.
const VERBS: &[(&str, usize, usize)] = &[
    ("permute_qk", 1, 1),
    ("rot_neox", 2, 2),
    ("add_one", 0, 0),
    ("neg_exp", 0, 0),
    ("transpose", 0, 0),
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
            ("neg_exp", _) => elementwise(tensor, "log_neg", Op::LogNeg)?,
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

fn each(tensors: &[Tensor], work: impl Fn(&Tensor) -> Result<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    let done: Result<Vec<Vec<Tensor>>> = tensors.iter().map(work).collect();
    Ok(done?.into_iter().flatten().collect())
}

pub(crate) fn bad(tensor: &Tensor, wanted: impl Into<String>) -> ir::Error {
    ArchError::Shape {
        tensor: tensor.name.clone(),
        dtype: tensor.spec.dtype,
        shape: tensor.spec.shape.clone(),
        wanted: wanted.into(),
    }
    .into()
}

/// Dimensions before `dim`, the dimension, and those after, as sizes.
fn around(tensor: &Tensor, dim: u64) -> Result<(usize, u64, u64, u64)> {
    let shape = &tensor.spec.shape;
    let at = usize::try_from(dim).unwrap_or(usize::MAX);
    let Some(size) = shape.get(at) else {
        return Err(bad(tensor, format!("a dimension {dim}")));
    };
    let product = |dims: &[u64]| dims.iter().fold(1u64, |all, n| all.saturating_mul(*n));
    let outer = product(shape.get(..at).unwrap_or(&[]));
    Ok((
        at,
        outer,
        *size,
        product(shape.get(at + 1..).unwrap_or(&[])),
    ))
}

fn with_dim(shape: &Shape, at: usize, size: u64) -> Shape {
    let mut dims = shape.to_vec();
    if let Some(dim) = dims.get_mut(at) {
        *dim = size;
    }
    Shape::new(dims)
}

/// Rows as `[heads, 2, half]` to `[heads, half, 2]`, or the other way.
fn permute(tensor: &Tensor, label: &str, heads: u64, there: bool) -> Result<Tensor> {
    let (_, _, rows, inner) = around(tensor, 0)?;
    let per = heads
        .checked_mul(2)
        .filter(|n| *n > 0 && rows.is_multiple_of(*n));
    let Some(per) = per else {
        return Err(bad(
            tensor,
            format!("rows for {heads} heads of an even size"),
        ));
    };
    let half = rows / per;
    let (pair, step) = (Dim::new(2, half * inner), Dim::new(half, inner));
    let head = Dim::new(heads, 2 * half * inner);
    let dims = if there {
        [head, step, pair, Dim::new(inner, 1)]
    } else {
        [
            head,
            Dim::new(2, inner),
            Dim::new(half, 2 * inner),
            Dim::new(inner, 1),
        ]
    };
    remap(tensor, label, 0, &dims, tensor.spec.shape.clone())
}

/// The first `rotary` rows of each head from pairs to halves; the rest of the head stays.
fn rot_neox(tensor: &Tensor, heads: u64, rotary: u64, there: bool) -> Result<Tensor> {
    let (_, _, rows, _) = around(tensor, 0)?;
    if rotary == 0 {
        return Ok(tensor.clone());
    }
    if heads == 0
        || !rows.is_multiple_of(heads)
        || !rotary.is_multiple_of(2)
        || rotary > rows / heads
    {
        return Err(bad(
            tensor,
            format!("rows for {heads} heads with {rotary} rotary rows"),
        ));
    }
    let head = rows / heads;
    let parts = split_groups(tensor, heads, &[rotary, head - rotary])?;
    let [turned, rest] = parts.as_slice() else {
        return Err(bad(tensor, "two parts"));
    };
    let turned = permute(turned, "rot_neox", heads, !there)?;
    join_groups(vec![turned, rest.clone()], heads, &[rotary, head - rotary])
}

fn transpose(tensor: &Tensor) -> Result<Tensor> {
    let shape = &tensor.spec.shape;
    let [outer @ .., rows, columns] = &shape[..] else {
        return Err(bad(tensor, "at least two dimensions"));
    };
    let planes = outer.iter().fold(1u64, |all, n| all.saturating_mul(*n));
    let dims = [
        Dim::new(planes, rows.saturating_mul(*columns)),
        Dim::new(*columns, 1),
        Dim::new(*rows, *columns),
    ];
    let mut turned = outer.to_vec();
    turned.extend([*columns, *rows]);
    remap(tensor, "transpose", 0, &dims, turned)
}

fn squeeze(tensor: &Tensor, dim: u64, away: bool) -> Result<Tensor> {
    let mut dims = tensor.spec.shape.to_vec();
    let at = usize::try_from(dim).unwrap_or(usize::MAX);
    if away && dims.get(at) == Some(&1) {
        dims.remove(at);
    } else if !away && at <= dims.len() {
        dims.insert(at, 1);
    } else if !away || dims.len() > at {
        return Err(bad(tensor, format!("a dimension {dim} of 1")));
    }
    reshape(tensor, dims)
}

fn fold(tensor: &Tensor, outer: u64, there: bool) -> Result<Tensor> {
    let mut dims = tensor.spec.shape.to_vec();
    match dims.first().copied() {
        Some(rows) if there && outer > 0 && rows.is_multiple_of(outer) => {
            dims.splice(0..1, [outer, rows / outer]);
        }
        Some(first) if !there && dims.len() >= 2 => {
            let second = dims.get(1).copied().unwrap_or(1);
            dims.splice(0..2, [first.saturating_mul(second)]);
        }
        _ => return Err(bad(tensor, format!("rows in {outer} equal parts"))),
    }
    reshape(tensor, dims)
}

fn cut(tensor: &Tensor, first: u64, rows: u64) -> Result<Tensor> {
    let (_, _, all, inner) = around(tensor, 0)?;
    // A vocabulary as large as the embedding cuts nothing.
    let rows = rows.min(all.saturating_sub(first));
    let dims = [Dim::new(rows.saturating_mul(inner), 1)];
    let shape = with_dim(&tensor.spec.shape, 0, rows);
    remap(
        tensor,
        "cut_rows",
        first.saturating_mul(inner),
        &dims,
        shape,
    )
}

fn pad(tensor: &Tensor, rows: u64) -> Result<Tensor> {
    let (_, _, all, inner) = around(tensor, 0)?;
    let shape = with_dim(&tensor.spec.shape, 0, rows);
    let len =
        ir::TensorSpec::new(tensor.spec.dtype, shape.clone()).require_byte_len(&tensor.name)?;
    let zeros = vec![0u8; usize::try_from(len.min(1 << 28)).unwrap_or(0)];
    let view = ir::View::contiguous(ir::Region::memory(zeros));
    let zeros = Tensor::stored("zeros", ir::TensorSpec::new(tensor.spec.dtype, shape), view);
    let sizes = [rows.saturating_mul(inner), all.saturating_mul(inner)];
    let shape = with_dim(&tensor.spec.shape, 0, rows.saturating_add(all));
    weave(vec![zeros, tensor.clone()], "pad", &sizes, shape)
}

fn split(tensor: &Tensor, label: &str, dim: u64, sizes: &[u64]) -> Result<Vec<Tensor>> {
    let (at, outer, all, inner) = around(tensor, dim)?;
    if sizes.iter().try_fold(0u64, |sum, n| sum.checked_add(*n)) != Some(all) {
        return Err(bad(
            tensor,
            format!("parts of {sizes:?} along dimension {dim}"),
        ));
    }
    let mut start = 0;
    let parts = sizes.iter().map(|size| {
        let dims = [Dim::new(outer, all * inner), Dim::new(size * inner, 1)];
        let shape = with_dim(&tensor.spec.shape, at, *size);
        let part = remap(tensor, label, start * inner, &dims, shape);
        start += size;
        part
    });
    parts.collect()
}

fn join(parts: Vec<Tensor>, label: &str, dim: u64, sizes: &[u64]) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        return Err(ArchError::Nothing {
            what: format!("nothing to {label}"),
        }
        .into());
    };
    let (at, _, _, inner) = around(first, dim)?;
    let shape = with_dim(&first.spec.shape, at, sizes.iter().sum());
    let sizes: Vec<u64> = sizes.iter().map(|n| n.saturating_mul(inner)).collect();
    weave(parts, label, &sizes, shape)
}

/// Rows in `groups` groups, each of `sizes` rows for the parts.
fn split_groups(tensor: &Tensor, groups: u64, sizes: &[u64]) -> Result<Vec<Tensor>> {
    let (_, _, rows, inner) = around(tensor, 0)?;
    let group = sizes.iter().fold(0u64, |sum, n| sum.saturating_add(*n));
    if group.checked_mul(groups) != Some(rows) {
        return Err(bad(tensor, format!("{groups} groups of {sizes:?} rows")));
    }
    let mut start = 0;
    let parts = sizes.iter().map(|size| {
        let dims = [Dim::new(groups, group * inner), Dim::new(size * inner, 1)];
        let shape = with_dim(&tensor.spec.shape, 0, groups * size);
        let part = remap(tensor, "split_groups", start * inner, &dims, shape);
        start += size;
        part
    });
    parts.collect()
}

fn join_groups(parts: Vec<Tensor>, groups: u64, sizes: &[u64]) -> Result<Tensor> {
    let Some(first) = parts.first() else {
        return Err(ArchError::Nothing {
            what: "nothing to join".to_owned(),
        }
        .into());
    };
    let (_, _, _, inner) = around(first, 0)?;
    let rows = sizes.iter().sum::<u64>().saturating_mul(groups);
    let shape = with_dim(&first.spec.shape, 0, rows);
    // A part of no rows has nothing to weave.
    let used = parts.into_iter().zip(sizes).filter(|(_, n)| **n > 0);
    let (parts, sizes): (Vec<Tensor>, Vec<u64>) =
        used.map(|(p, n)| (p, n.saturating_mul(inner))).unzip();
    weave(parts, "join_groups", &sizes, shape)
}

fn regroup(tensor: &Tensor, groups: u64, sizes: &[u64], there: bool) -> Result<Tensor> {
    if there {
        let parts = split_groups(tensor, groups, sizes)?;
        let rows: Vec<u64> = sizes.iter().map(|n| n * groups).collect();
        return join(parts, "regroup_qkv", 0, &rows);
    }
    let rows: Vec<u64> = sizes.iter().map(|n| n.saturating_mul(groups)).collect();
    join_groups(split(tensor, "split", 0, &rows)?, groups, sizes)
}

fn tile_rows(tensor: &Tensor, skip: u64, a: u64, b: u64, inner: u64) -> Result<Tensor> {
    let (_, _, rows, columns) = around(tensor, 0)?;
    let tiled = a.checked_mul(b).and_then(|n| n.checked_mul(inner));
    if tiled.and_then(|n| n.checked_add(skip)) != Some(rows) {
        return Err(bad(
            tensor,
            format!("{skip} rows and {a} x {b} heads of {inner}"),
        ));
    }
    let parts = split(tensor, "tile_rows", 0, &[skip, rows - skip]).map(|parts| {
        let mut parts = parts.into_iter();
        (parts.next(), parts.next())
    })?;
    let (Some(kept), Some(heads)) = parts else {
        return Err(bad(tensor, "two parts"));
    };
    let head = inner * columns;
    let dims = [Dim::new(b, head), Dim::new(a, b * head), Dim::new(head, 1)];
    let turned = remap(&heads, "tile_rows", 0, &dims, heads.spec.shape.clone())?;
    if skip == 0 {
        return Ok(turned);
    }
    join(vec![kept, turned], "tile_rows", 0, &[skip, rows - skip])
}

fn tile_columns(tensor: &Tensor, a: u64, b: u64, inner: u64) -> Result<Tensor> {
    let last = (tensor.spec.shape.len() as u64).saturating_sub(1);
    let (_, rows, columns, _) = around(tensor, last)?;
    if a.checked_mul(b).and_then(|n| n.checked_mul(inner)) != Some(columns) {
        return Err(bad(
            tensor,
            format!("columns for {a} x {b} heads of {inner}"),
        ));
    }
    let dims = [
        Dim::new(rows, columns),
        Dim::new(b, inner),
        Dim::new(a, b * inner),
        Dim::new(inner, 1),
    ];
    remap(tensor, "tile_columns", 0, &dims, tensor.spec.shape.clone())
}

fn deal(tensor: &Tensor, dim: u64, parts: u64) -> Result<Vec<Tensor>> {
    let (at, outer, all, inner) = around(tensor, dim)?;
    if parts == 0 || !all.is_multiple_of(parts) {
        return Err(bad(
            tensor,
            format!("{parts} equal parts along dimension {dim}"),
        ));
    }
    let part = |which: u64| {
        let dims = [
            Dim::new(outer, all * inner),
            Dim::new(all / parts, parts * inner),
            Dim::new(inner, 1),
        ];
        let shape = with_dim(&tensor.spec.shape, at, all / parts);
        remap(tensor, "deal", which * inner, &dims, shape)
    };
    (0..parts).map(part).collect()
}

fn shuffle(tensors: Vec<Tensor>, dim: u64, parts: u64) -> Result<Tensor> {
    let Some(first) = tensors.first() else {
        return Err(ArchError::Nothing {
            what: "nothing to shuffle".to_owned(),
        }
        .into());
    };
    let (at, _, size, inner) = around(first, dim)?;
    let shape = with_dim(&first.spec.shape, at, size.saturating_mul(parts));
    let sizes = vec![inner; tensors.len()];
    weave(tensors, "shuffle", &sizes, shape)
}

fn split_kv_b(tensor: &Tensor, heads: u64, k: u64, v: u64) -> Result<Vec<Tensor>> {
    let rank = tensor.spec.shape.row_len();
    let parts = split_groups(tensor, heads, &[k, v])?;
    let [keys, values] = parts.as_slice() else {
        return Err(bad(tensor, "two parts"));
    };
    let keys = transpose(&reshape(keys, [heads, k, rank])?)?;
    Ok(vec![keys, reshape(values, [heads, v, rank])?])
}

fn join_kv_b(parts: &[Tensor], heads: u64, k: u64, v: u64) -> Result<Tensor> {
    let [keys, values] = parts else {
        return Err(ArchError::Nothing {
            what: "k_b and v_b belong together".to_owned(),
        }
        .into());
    };
    let rank = values.spec.shape.row_len();
    let keys = reshape(&transpose(keys)?, [heads * k, rank])?;
    let values = reshape(values, [heads * v, rank])?;
    join_groups(vec![keys, values], heads, &[k, v])
}

fn repack(tensors: &[Tensor], parts: u64) -> Result<Vec<Tensor>> {
    let [blocks, scales] = tensors else {
        return Err(ArchError::Nothing {
            what: "blocks and scales belong together".to_owned(),
        }
        .into());
    };
    if parts == 1 {
        return Ok(vec![mxfp4_pack(blocks, scales)?]);
    }
    // Rows of the parts take turns.
    let pairs = deal(blocks, 1, parts)?
        .into_iter()
        .zip(deal(scales, 1, parts)?);
    pairs
        .map(|(blocks, scales)| mxfp4_pack(&blocks, &scales))
        .collect()
}

fn unpack(tensors: &[Tensor], parts: u64) -> Result<Vec<Tensor>> {
    let blocks: Result<Vec<Tensor>> = tensors.iter().map(mxfp4_blocks).collect();
    let scales: Result<Vec<Tensor>> = tensors.iter().map(mxfp4_scales).collect();
    Ok(vec![
        shuffle(blocks?, 1, parts)?,
        shuffle(scales?, 1, parts)?,
    ])
}
