//! From PEFT's tensors to those of a GGUF adapter.

use super::names::{Part, part_of};
use super::{AdapterConfig, SUFFIX, looked_up};
use crate::choose::{Choice, for_hf};
use crate::compute::weave;
use crate::error::ArchError;
use crate::expr::Scope;
use crate::hparams::hparams;
use crate::lower::{Gathered, LowerOptions, Order, Planned, gather, repo_facts};
use crate::table::{Row, Table};
use crate::target::OutType;
use crate::verb::Pair;
use ir::{
    DType, MetaValue, Metadata, Model, Record, Region, Result, Shape, Tensor, TensorSpec,
    TensorTable, View, ns,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An adapter ready for GGUF.
#[derive(Debug)]
pub struct LoweredAdapter {
    /// The table that was used.
    pub table: String,
    /// The value of `general.architecture`.
    pub gguf_arch: String,
    /// The tensors in the reference converter's order: norms first.
    pub tensors: Vec<Planned>,
    /// What was left out, and why.
    pub records: Vec<Record>,
}

/// The factors of one matrix, as they are found.
#[derive(Default)]
struct Found<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
    embedding: bool,
}

/// Turns a PEFT adapter into one for GGUF. `config` is the base model's `config.json`.
pub fn adapter_to_gguf(
    model: &Model,
    config: &Value,
    options: &LowerOptions<'_>,
) -> Result<LoweredAdapter> {
    let choice = Choice {
        name: options.arch,
        map: options.map,
    };
    let mut records = Vec::new();
    let (matrices, pairs, norms) = sort(model, &mut records)?;
    let table = for_hf(&matrices, config, choice)?;
    let root = hparams(table, config, &repo_facts(&matrices, config, options))?;
    let mut tensors = whole(table, &norms, options, &root, &mut records)?;
    let out = decided(options.out, &pairs);
    let mut left = Vec::new();
    let gathered = gather(table, &matrices, options, &root, &mut left)?;
    refuse_head(table, &left)?;
    // What a model does not need is weight saved; what an adapter loses was trained.
    records.extend(left.into_iter().map(|mut record| {
        record.loss = true;
        record
    }));
    let mut made: Vec<(Order, [Tensor; 2])> = Vec::new();
    for group in &gathered {
        emit(group, table, &root, &pairs, &mut made)?;
    }
    made.sort_by_key(|(order, _)| *order);
    let factors = made.into_iter().flat_map(|(_, pair)| pair);
    tensors.extend(factors.map(|tensor| {
        let target = target(&tensor, out);
        Planned { tensor, target }
    }));
    refuse_further_layers(&tensors, &root)?;
    if tensors.is_empty() {
        let what = "there is no tensor of an adapter in it".to_owned();
        return Err(ArchError::Nothing { what }.into());
    }
    Ok(LoweredAdapter {
        table: table.name.clone(),
        gguf_arch: table.gguf.clone(),
        tensors,
        records,
    })
}

impl LoweredAdapter {
    /// All metadata in the reference's order.
    pub fn metadata(&self, general: &[(String, MetaValue)], config: &AdapterConfig) -> Metadata {
        let mut all = Metadata::new();
        let arch = MetaValue::text(self.gguf_arch.clone());
        all.set(ns::GGUF, "general.architecture", arch);
        for (key, value) in general {
            all.set(ns::GGUF, key.clone(), value.clone());
        }
        all.set(ns::GGUF, "adapter.lora.alpha", MetaValue::F32(config.alpha));
        if !config.invocation.is_empty() {
            let tokens = MetaValue::Array(ir::Array::U32(config.invocation.clone()));
            all.set(ns::GGUF, "adapter.alora.invocation_tokens", tokens);
        }
        all.set(ns::GGUF, "general.quantization_version", MetaValue::U32(2));
        all
    }

    /// The parameters of the matrices it changes, as gguf-py counts them from the factors: rows of
    /// B times the last dimension of A, which for an embedding is the rank.
    pub fn parameter_count(&self) -> u64 {
        let (mut total, mut columns) = (0u64, 0u64);
        for Planned { tensor, .. } in &self.tensors {
            let row = tensor.spec.shape.row_len();
            if tensor.name.ends_with(SUFFIX[0]) {
                columns = row;
                continue;
            }
            let mut n = tensor.spec.elements().unwrap_or(0);
            if tensor.name.ends_with(SUFFIX[1]) {
                n = (n / row.max(1)).saturating_mul(columns);
            }
            total = total.saturating_add(n);
        }
        total
    }
}

/// The factors by their matrix' name.
type Pairs = BTreeMap<String, Pair>;

/// Sorts an adapter's tensors: a model of the matrices it changes, in shape and order, whose data
/// nobody reads; the factors of each; and what was trained whole.
fn sort(model: &Model, records: &mut Vec<Record>) -> Result<(Model, Pairs, Model)> {
    let mut order: Vec<String> = Vec::new();
    let mut found: BTreeMap<String, Found<'_>> = BTreeMap::new();
    let mut norms = TensorTable::new();
    for tensor in &model.tensors {
        let (part, base) = part_of(&tensor.name);
        match part {
            Part::A { embedding } | Part::B { embedding } => {
                let entry = found.entry(base.clone()).or_insert_with(|| {
                    order.push(base);
                    Found::default()
                });
                entry.embedding |= embedding;
                let slot = if matches!(part, Part::A { .. }) {
                    &mut entry.a
                } else {
                    &mut entry.b
                };
                if slot.replace(tensor).is_some() {
                    let name = tensor.name.clone();
                    return Err(ir::Fault::DuplicateName { name }.into());
                }
            }
            Part::Base => {
                let why = "the base model's own weight, which the adapter does not change";
                records.push(Record::dropped("base", &tensor.name, why).wanted());
            }
            Part::Norm => {
                norms.push(Tensor {
                    name: base,
                    ..tensor.clone()
                })?;
            }
            Part::Other => return Err(unexpected(&tensor.name)),
        }
    }
    let mut matrices = TensorTable::new();
    let mut pairs = BTreeMap::new();
    for name in order {
        let Some(found) = found.get(&name) else {
            continue;
        };
        let pair = paired(&name, found)?;
        let (rows, columns) = (pair.b.spec.shape.first(), pair.a.spec.shape.get(1));
        let (rows, columns) = (rows.copied().unwrap_or(0), columns.copied().unwrap_or(0));
        let dims = if pair.turned {
            [columns, rows]
        } else {
            [rows, columns]
        };
        let spec = TensorSpec::new(pair.a.spec.dtype, dims);
        let view = View::contiguous(Region::memory(Vec::new()));
        matrices.push(Tensor::stored(name.clone(), spec, view))?;
        pairs.insert(name, pair);
    }
    let of = |tensors| Model {
        tensors,
        ..Model::default()
    };
    Ok((of(matrices), pairs, of(norms)))
}

fn unexpected(name: &str) -> ir::Error {
    let whole = [".embed_tokens.", ".lm_head."]
        .iter()
        .any(|part| name.contains(part));
    let why = if whole {
        "it is neither lora_A nor lora_B: a whole embedding was trained, as for new tokens or in \
         modules_to_save"
    } else {
        "it is neither lora_A nor lora_B"
    };
    ArchError::NotLora {
        tensor: name.to_owned(),
        why: why.to_owned(),
    }
    .into()
}

/// Both factors, of one rank.
fn paired(matrix: &str, found: &Found<'_>) -> Result<Pair> {
    let (a, b) = match (found.a, found.b) {
        (Some(a), Some(b)) => (a, b),
        (Some(one), None) | (None, Some(one)) => {
            return Err(ArchError::Unpaired {
                tensor: one.name.clone(),
                missing: if found.a.is_some() {
                    "lora_B"
                } else {
                    "lora_A"
                },
            }
            .into());
        }
        (None, None) => return Err(unexpected(matrix)),
    };
    let fits = match (&a.spec.shape[..], &b.spec.shape[..]) {
        ([rank, columns], [rows, other]) => rank == other && ![rank, columns, rows].contains(&&0),
        _ => false,
    };
    let numbers = |tensor: &Tensor| tensor.spec.dtype.is_float();
    if !fits || !numbers(a) || !numbers(b) {
        return Err(ArchError::Ranks {
            matrix: matrix.to_owned(),
            a: a.spec.clone(),
            b: b.spec.clone(),
        }
        .into());
    }
    Ok(Pair {
        a: a.clone(),
        b: b.clone(),
        turned: found.embedding,
    })
}

/// Norms that were trained whole go as those of a model do.
fn whole(
    table: &Table,
    norms: &Model,
    options: &LowerOptions<'_>,
    root: &Map<String, Value>,
    records: &mut Vec<Record>,
) -> Result<Vec<Planned>> {
    let mut made = Vec::new();
    for group in gather(table, norms, options, root, records)? {
        group.emit(table, root, &mut made)?;
    }
    made.sort_by_key(|(order, _)| *order);
    let planned = made.into_iter().map(|(_, tensor)| {
        if !tensor.name.contains("_norm") || tensor.spec.shape.len() != 1 {
            return Err(unexpected(&tensor.name));
        }
        let target = DType::F32;
        Ok(Planned { tensor, target })
    });
    planned.collect()
}

/// A head that the base model ties to its embedding has no place for what was trained.
fn refuse_head(table: &Table, left: &[Record]) -> Result<()> {
    match left.iter().find(|record| record.what == "lm_head.weight") {
        None => Ok(()),
        Some(record) => Err(ArchError::NotForLora {
            tensor: record.what.clone(),
            why: format!(
                "models of architecture {} have no head of their own",
                table.name
            ),
        }
        .into()),
    }
}

/// A layer that the base model does not have: a runtime would not load the adapter.
fn refuse_further_layers(tensors: &[Planned], root: &Map<String, Value>) -> Result<()> {
    let Some(layers) = root.get("block_count").and_then(Value::as_u64) else {
        return Ok(());
    };
    let beyond = |planned: &&Planned| planned.block().is_some_and(|block| block >= layers);
    match tensors.iter().find(beyond) {
        None => Ok(()),
        Some(planned) => Err(ArchError::NotForLora {
            tensor: planned.tensor.name.clone(),
            why: format!("the base model has {layers} layers: name the right one with --base"),
        }
        .into()),
    }
}

/// The type when none is named: that of all factors, and F32 where they differ, so that nothing is
/// rounded. (The reference converter stops at `--outtype auto`.)
fn decided(out: OutType, pairs: &Pairs) -> OutType {
    if out != OutType::Auto {
        return out;
    }
    let all = |dtype: DType| {
        let mut types = pairs
            .values()
            .flat_map(|pair| [pair.a.dtype(), pair.b.dtype()]);
        types.all(|other| other == dtype)
    };
    match (all(DType::F16), all(DType::BF16)) {
        (true, false) => OutType::F16,
        (false, true) => OutType::BF16,
        _ => OutType::F32,
    }
}

/// The type a factor gets: F16 where its rows do not hold whole blocks.
fn target(tensor: &Tensor, out: OutType) -> DType {
    let wanted = out.dtype();
    let (per, _) = wanted.block();
    if tensor.spec.shape.row_len().is_multiple_of(u64::from(per)) {
        wanted
    } else {
        DType::F16
    }
}

/// Adds the factors of one row's output.
fn emit(
    group: &Gathered<'_>,
    table: &Table,
    root: &Map<String, Value>,
    pairs: &Pairs,
    made: &mut Vec<(Order, [Tensor; 2])>,
) -> Result<()> {
    let Some(row) = table.rows.get(group.row) else {
        return Ok(());
    };
    let scope = Scope::new(root).with("bid", json!(group.places.bid));
    group.check(row, root)?;
    let parts = group.parts.values();
    let parts: Vec<Pair> = parts.filter_map(|t| pairs.get(&t.name).cloned()).collect();
    let parts = if row.stacks() {
        vec![stack(row, parts, &scope)?]
    } else {
        let forward = |parts, verb: &crate::verb::Verb| verb.forward_pairs(parts, &scope);
        row.verbs.iter().try_fold(parts, forward)?
    };
    for (part, (pair, template)) in parts.into_iter().zip(&row.gguf).enumerate() {
        let name = template.fill(&group.places);
        let mut a = pair.a;
        if looked_up(&name) {
            a = crate::verb::transpose(&a)?;
        }
        let [a, b] = [(a, SUFFIX[0]), (pair.b, SUFFIX[1])].map(|(tensor, suffix)| Tensor {
            name: format!("{name}{suffix}"),
            ..tensor
        });
        made.push(((1, group.complete, group.row, part), [a, b]));
    }
    Ok(())
}

/// One pair of all experts.
fn stack(row: &Row, experts: Vec<Pair>, scope: &Scope<'_>) -> Result<Pair> {
    let mut all = (Vec::new(), Vec::new());
    for expert in experts {
        let mut one = vec![expert];
        for verb in &row.verbs {
            one = verb.forward_pairs(one, scope)?;
        }
        for pair in one {
            all.0.push(pair.a);
            all.1.push(pair.b);
        }
    }
    let joined = |parts: Vec<Tensor>| {
        let shape = parts.first().map(|first| first.spec.shape.clone());
        let shape = shape.unwrap_or_else(|| Shape::new(Vec::new()));
        let each = shape.elements().unwrap_or(0);
        let mut dims = vec![parts.len() as u64];
        dims.extend(shape.iter());
        let sizes = vec![each; parts.len()];
        weave(parts, "stack_experts", &sizes, dims)
    };
    Ok(Pair {
        a: joined(all.0)?,
        b: joined(all.1)?,
        turned: false,
    })
}
