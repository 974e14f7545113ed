//! From a GGUF adapter back to PEFT's tensors and `adapter_config.json`.

use super::names::{PREFIX, factors};
use super::peft::{Adapted, peft_config};
use super::{SUFFIX, looked_up};
use crate::choose::{Choice, for_gguf, for_hf};
use crate::compute::{Dim, remap};
use crate::error::ArchError;
use crate::expr::Scope;
use crate::facts::facts;
use crate::hparams::hparams;
use crate::raise::{EXPERTS_MAX, RaiseOptions, backward, find};
use crate::table::{Row, Table};
use crate::template::Places;
use crate::verb::Pair;
use ir::{
    Limits, MetaValue, Model, Record, Region, Result, Tensor, TensorSpec, TensorTable, View, ns,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// An adapter ready to be PEFT's folder.
#[derive(Debug)]
pub struct RaisedAdapter {
    /// The table that was used.
    pub table: String,
    /// `adapter_config.json`.
    pub config: Value,
    /// The tensors under PEFT's names, sorted by name.
    pub tensors: TensorTable,
    /// What is not as it was.
    pub records: Vec<Record>,
}

/// Whether a GGUF model says that it is an adapter.
pub fn is_adapter(model: &Model) -> bool {
    text(model, "general.type") == Some("adapter")
}

fn text<'a>(model: &'a Model, key: &str) -> Option<&'a str> {
    model
        .metadata
        .get(ns::GGUF, key)
        .and_then(MetaValue::as_str)
}

/// Turns a GGUF adapter into PEFT's. `base` is the base model's `config.json`: the file does not
/// tell the sizes of heads, by which rows move in some architectures.
pub fn gguf_to_adapter(
    model: &Model,
    base: Option<&Value>,
    options: RaiseOptions<'_>,
) -> Result<RaisedAdapter> {
    match text(model, "adapter.type") {
        Some("lora") => {}
        other => {
            let what = format!("it is a {} adapter", other.unwrap_or("nameless"));
            return Err(ArchError::AdapterKind { what }.into());
        }
    }
    let (table, root) = chosen(model, base, options)?;
    let mut raising = Raising {
        table,
        root: &root,
        based: base.is_some(),
        tensors: Vec::new(),
        adapted: Vec::new(),
        whole: Vec::new(),
        records: Vec::new(),
    };
    raising.all(model)?;
    let Raising {
        mut tensors,
        adapted,
        whole,
        records,
        ..
    } = raising;
    if adapted.is_empty() {
        let what = "there is no tensor of an adapter in it".to_owned();
        return Err(ArchError::Nothing { what }.into());
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(RaisedAdapter {
        table: table.name.clone(),
        config: peft_config(model, table, &root, base, &adapted, &whole),
        tensors: TensorTable::from_tensors(tensors)?,
        records,
    })
}

/// The table, and the base model's configuration as far as it is known.
fn chosen<'a>(
    model: &Model,
    base: Option<&Value>,
    options: RaiseOptions<'a>,
) -> Result<(&'a Table, Map<String, Value>)> {
    let Some(arch) = text(model, "general.architecture") else {
        let what = "the metadata has no general.architecture".to_owned();
        return Err(ArchError::Nothing { what }.into());
    };
    let choice = Choice {
        name: options.arch,
        map: options.map,
    };
    let Some(base) = base else {
        return Ok((for_gguf(arch, &facts(model, arch)?, choice)?, Map::new()));
    };
    let table = for_hf(model, base, choice)?;
    if table.gguf != arch {
        return Err(ArchError::AdapterValue {
            what: "general.architecture".to_owned(),
            why: format!("it is {arch:?}, and the base model is {:?}", table.gguf),
        }
        .into());
    }
    Ok((table, hparams(table, base, &Map::new())?))
}

/// The factors of one matrix, as they are found.
#[derive(Default)]
struct Found<'a> {
    parts: [Option<&'a Tensor>; 2],
}

/// The matrices that belong together, by their slot in the row.
type Group = BTreeMap<usize, (String, Pair)>;

struct Raising<'a> {
    table: &'a Table,
    root: &'a Map<String, Value>,
    /// Whether the base model's configuration is known.
    based: bool,
    tensors: Vec<Tensor>,
    adapted: Vec<Adapted>,
    /// Modules that were trained whole.
    whole: Vec<String>,
    records: Vec<Record>,
}

impl Raising<'_> {
    fn all(&mut self, model: &Model) -> Result<()> {
        let mut found: BTreeMap<&str, Found<'_>> = BTreeMap::new();
        let mut leftover = Vec::new();
        for tensor in &model.tensors {
            let name = tensor.name.as_str();
            let slot = SUFFIX.iter().zip(0..).find_map(|(suffix, slot)| {
                let matrix = name.strip_suffix(suffix)?;
                Some((matrix, slot))
            });
            if let Some((matrix, slot)) = slot {
                let parts: &mut [_; 2] = &mut found.entry(matrix).or_default().parts;
                if let Some(part) = parts.get_mut::<usize>(slot) {
                    *part = Some(tensor);
                }
            } else if !self.norm(tensor)? {
                leftover.push(tensor.name.clone());
            }
        }
        if let Some(tensor) = leftover.into_iter().next() {
            let why = "it is neither lora_a nor lora_b".to_owned();
            return Err(ArchError::NotLora { tensor, why }.into());
        }
        let mut groups: BTreeMap<(usize, Places), Group> = BTreeMap::new();
        for (matrix, found) in found {
            let pair = paired(matrix, &found)?;
            let (row, slot, places) = self.place(matrix)?;
            let group = groups.entry((row, places)).or_default();
            group.insert(slot, (matrix.to_owned(), pair));
        }
        for ((row, places), group) in &groups {
            if let Some(row) = self.table.rows.get(*row) {
                self.matrices(row, places, group)?;
            }
        }
        Ok(())
    }

    /// The row for a matrix of the base model.
    fn place(&self, matrix: &str) -> Result<(usize, usize, Places)> {
        let spec = TensorSpec::new(ir::DType::F32, [0]);
        let view = View::contiguous(Region::memory(Vec::new()));
        find(self.table, &Tensor::stored(matrix, spec, view)).ok_or_else(|| {
            ArchError::Leftover {
                table: self.table.name.clone(),
                count: 1,
                names: vec![matrix.to_owned()],
            }
            .into()
        })
    }

    /// A norm that was trained whole; false if it is something else.
    fn norm(&mut self, tensor: &Tensor) -> Result<bool> {
        if !tensor.name.contains("_norm") || tensor.spec.shape.len() != 1 {
            return Ok(false);
        }
        let (row, _, places) = self.place(&tensor.name)?;
        let Some(row) = self.table.rows.get(row) else {
            return Ok(false);
        };
        let scope = Scope::new(self.root).with("bid", json!(places.bid));
        let parts = backward(&row.verbs, vec![tensor.clone()], &scope)
            .map_err(|error| self.excused(error, &tensor.name))?;
        for (tensor, template) in parts.into_iter().zip(&row.hf) {
            let name = self.outside(template.fill(&places));
            let module = name.strip_suffix(".weight").unwrap_or(&name).to_owned();
            let name = format!("{PREFIX}{name}");
            self.whole.push(module);
            self.tensors.push(Tensor { name, ..tensor });
        }
        Ok(true)
    }

    /// Adds the factors of a row's matrices.
    fn matrices(&mut self, row: &Row, places: &Places, group: &Group) -> Result<()> {
        if group.len() != row.gguf.len() {
            let slots = row.gguf.iter().enumerate();
            let gone = slots.filter(|(slot, _)| !group.contains_key(slot));
            return Err(ArchError::MissingParts {
                target: row.hf.first().map_or(String::new(), |t| t.fill(places)),
                missing: gone.map(|(_, t)| t.fill(places)).collect(),
            }
            .into());
        }
        let first = group.values().next().map_or("", |(name, _)| name.as_str());
        let pairs: Vec<Pair> = group.values().map(|(_, pair)| pair.clone()).collect();
        for verb in row.verbs.iter().filter(|verb| verb.loses()) {
            let why = format!("{} left rows out that no file has any more", verb.name());
            self.records.push(Record::changed("rows", first, why));
        }
        let back = |pairs: Vec<Pair>| {
            let scope = Scope::new(self.root).with("bid", json!(places.bid));
            let mut verbs = row.verbs.iter().rev();
            let done = verbs.try_fold(pairs, |pairs, verb| verb.backward_pairs(pairs, &scope));
            done.map_err(|error| self.excused(error, first))
        };
        let mut made = Vec::new();
        if let (true, [stack], [template]) = (row.stacks(), pairs.as_slice(), row.hf.as_slice()) {
            let experts = stack.a.spec.shape.first().copied().unwrap_or(0);
            Limits::check("experts of a layer", experts, EXPERTS_MAX)?;
            for xid in 0..experts {
                let one = Pair {
                    a: plane(&stack.a, xid)?,
                    b: plane(&stack.b, xid)?,
                    turned: false,
                };
                let places = Places {
                    xid: Some(xid),
                    ..places.clone()
                };
                let pairs = back(vec![one])?.into_iter();
                made.extend(pairs.map(|pair| (template.fill(&places), pair)));
            }
        } else {
            let names = row.hf.iter().map(|template| template.fill(places));
            made.extend(names.zip(back(pairs)?));
        }
        let conv = row.verbs.iter().any(|verb| verb.name() == "transpose");
        for (name, pair) in made {
            self.add(&self.outside(name), pair, places.bid, conv)?;
        }
        Ok(())
    }

    /// The name of a block beyond the last, where the table has another for it.
    fn outside(&self, name: String) -> String {
        let last = self.root.get("num_hidden_layers").and_then(Value::as_u64);
        let other = last.and_then(|last| self.table.beyond_out(&name, last));
        other.unwrap_or(name)
    }

    fn add(&mut self, name: &str, pair: Pair, bid: Option<u64>, conv: bool) -> Result<()> {
        let flat = pair.a.spec.shape.len() == 2 && pair.b.spec.shape.len() == 2;
        if !name.ends_with(".weight") || !flat {
            return Err(ArchError::NotForLora {
                tensor: name.to_owned(),
                why: "PEFT has no module for it".to_owned(),
            }
            .into());
        }
        let [a, b, module] = factors(name, pair.turned);
        self.adapted.push(Adapted {
            rank: pair.b.spec.shape.row_len(),
            module,
            bid,
            conv,
        });
        self.tensors.push(Tensor { name: a, ..pair.a });
        self.tensors.push(Tensor { name: b, ..pair.b });
        Ok(())
    }

    /// Without the base model's configuration, that is what is missing.
    fn excused(&self, error: ir::Error, tensor: &str) -> ir::Error {
        if self.based {
            return error;
        }
        ArchError::NeedsBase {
            tensor: tensor.to_owned(),
            arch: self.table.gguf.clone(),
        }
        .into()
    }
}

/// Embeddings, whose factors PEFT calls otherwise.
fn embedding(matrix: &str) -> bool {
    looked_up(matrix) || matrix.starts_with("position_embd.") || matrix.starts_with("token_types.")
}

/// Both factors, of one rank, as PEFT has them.
fn paired(matrix: &str, found: &Found<'_>) -> Result<Pair> {
    let (a, b) = match found.parts {
        [Some(a), Some(b)] => (a, b),
        [one, other] => {
            return Err(ArchError::Unpaired {
                tensor: one.or(other).map(|t| t.name.clone()).unwrap_or_default(),
                missing: if one.is_some() { "lora_b" } else { "lora_a" },
            }
            .into());
        }
    };
    let ranks = || ArchError::Ranks {
        matrix: matrix.to_owned(),
        a: a.spec.clone(),
        b: b.spec.clone(),
    };
    let mut first = a.clone();
    if looked_up(matrix) && a.spec.shape.len() == 2 {
        first = crate::verb::transpose(a)?;
    }
    let empty = |tensor: &Tensor| tensor.spec.shape.contains(&0);
    let fits = match (&first.spec.shape[..], &b.spec.shape[..]) {
        ([rank, _], [_, other]) => rank == other,
        ([n, rank, _], [m, _, other]) => n == m && rank == other,
        _ => false,
    };
    if !fits
        || empty(&first)
        || empty(b)
        || !first.spec.dtype.is_float()
        || !b.spec.dtype.is_float()
    {
        return Err(ranks().into());
    }
    Ok(Pair {
        a: first,
        b: b.clone(),
        turned: embedding(matrix),
    })
}

/// One matrix of a stack.
fn plane(stack: &Tensor, which: u64) -> Result<Tensor> {
    let rest = stack.spec.shape.get(1..).unwrap_or(&[]);
    let each = rest.iter().fold(1u64, |all, dim| all.saturating_mul(*dim));
    let base = which.saturating_mul(each);
    remap(
        stack,
        "unstack_experts",
        base,
        &[Dim::new(each, 1)],
        rest.to_vec(),
    )
}
