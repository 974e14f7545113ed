//! Source tensors sorted into the rows of a table, and made into output tensors.

use crate::compute::weave;
use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::lower::LowerOptions;
use crate::table::{Row, Table};
use crate::template::Places;
use ir::{Model, Record, Result, Tensor};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Tensors that every architecture leaves out: buffers, not weights.
const BUFFERS: &str = r"(\.attention\.masked_bias|\.attention\.bias|\.rotary_emb\.inv_freq)$";

/// What the vision, audio and projector parts of a multimodal repository are named. They make an
/// mmproj file, not the text model.
const MULTIMODAL: &str = r"^(mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.|sound_encoder\.|sound_projection\.|speech_embeddings\.)|visual\.|vision\.|audio\.|talker\.|vision_|audio_|token2wav\.|code2wav\.|projector\.|pre_mm_projector_norm|image_newline|view_seperator|patch_embed|patch_merger\.|patch_merge_mlp\.|model\.connector\.";

/// Where in the order of the output a tensor stands: extras first, then by the source tensor that
/// completed it, then by the row and the part.
pub(crate) type Order = (u8, usize, usize, usize);

/// Source tensors that become output tensors together.
pub(crate) struct Gathered<'a> {
    pub(crate) row: usize,
    pub(crate) places: Places,
    /// Slot or expert number, source tensor.
    pub(crate) parts: BTreeMap<u64, &'a Tensor>,
    /// The last source tensor it needs.
    pub(crate) complete: usize,
}

/// Sorts the source's tensors into the rows of the table.
pub(crate) fn gather<'a>(
    table: &Table,
    model: &'a Model,
    options: &LowerOptions<'_>,
    root: &Map<String, Value>,
    records: &mut Vec<Record>,
) -> Result<Vec<Gathered<'a>>> {
    let buffers = Regex::new(BUFFERS).ok();
    let multimodal = Regex::new(MULTIMODAL).ok();
    let is = |regex: &Option<Regex>, name: &str| regex.as_ref().is_some_and(|r| r.is_match(name));
    let mut groups: BTreeMap<(usize, Places), Gathered<'a>> = BTreeMap::new();
    let mut leftover = Vec::new();
    let mut sides = 0usize;
    // The experts of a block come out together, when the last of them has come in.
    let mut stacks: BTreeMap<Option<u64>, usize> = BTreeMap::new();
    for (position, tensor) in model.tensors.iter().enumerate() {
        let name = tensor.name.as_str();
        if options.drop.iter().any(|regex| regex.is_match(name)) {
            records.push(
                Record::dropped("filtered", name, "matches --drop")
                    .flag("--drop")
                    .wanted(),
            );
            continue;
        }
        if is(&buffers, name) {
            let why = "a buffer that is computed anew, not a weight";
            records.push(Record::dropped("buffer", name, why).wanted());
            continue;
        }
        if is(&multimodal, name) && table.by_hf(name).is_none() {
            sides += 1;
            continue;
        }
        let name = renamed(table, name, root);
        if table.skip.iter().any(|regex| regex.is_match(&name)) {
            let why = format!("architecture {} does not use it", table.name);
            records.push(Record::dropped("unused", &tensor.name, why).wanted());
            continue;
        }
        let Some((row, slot, mut places)) = placed(table, &name) else {
            leftover.push(tensor.name.clone());
            continue;
        };
        if let Some(when) = &table.skip_if {
            let scope = Scope::new(root).with("bid", json!(places.bid));
            let scope = scope.with("name", json!(name));
            if when.eval(&scope).is_ok_and(|value| truthy(&value)) {
                let why = format!("left out of {} files: {when}", table.gguf);
                records.push(Record::dropped("unused", &tensor.name, why));
                continue;
            }
        }
        let part = match places.xid.take() {
            Some(xid) => {
                stacks.insert(places.bid, position);
                xid
            }
            None => slot as u64,
        };
        let group = groups
            .entry((row, places.clone()))
            .or_insert_with(|| Gathered {
                row,
                places,
                parts: BTreeMap::new(),
                complete: position,
            });
        group.complete = group.complete.max(position);
        if group.parts.insert(part, tensor).is_some() {
            return Err(ir::Fault::DuplicateName {
                name: tensor.name.clone(),
            }
            .into());
        }
    }
    if sides > 0 {
        let what = format!("{sides} tensors of the vision, audio or projector part");
        records.push(Record::dropped(
            "multimodal",
            what,
            "they belong into an mmproj file",
        ));
    }
    if !leftover.is_empty() {
        return Err(ArchError::Leftover {
            table: table.name.clone(),
            count: leftover.len(),
            names: leftover.into_iter().take(8).collect(),
        }
        .into());
    }
    let mut list: Vec<Gathered<'a>> = groups.into_values().collect();
    for group in &mut list {
        if table.rows.get(group.row).is_some_and(Row::stacks) {
            group.complete = stacks
                .get(&group.places.bid)
                .copied()
                .unwrap_or(group.complete);
        }
    }
    Ok(list)
}

/// The row, slot and places of a name that the renames are done with.
fn placed(table: &Table, name: &str) -> Option<(usize, usize, Places)> {
    let found = table.by_hf(name);
    found.or_else(|| table.by_hf(&format!("model.{name}")))
}

/// The same for a name of the source, of a block that the config counts.
pub(super) fn row_of(table: &Table, name: &str) -> Option<(usize, usize, Places)> {
    placed(table, &plain(table, name))
}

fn plain(table: &Table, name: &str) -> String {
    let mut name = name.to_owned();
    for (from, to) in &table.rename {
        if from.is_match(&name) {
            name = from.replace(&name, to.as_str()).into_owned();
        }
    }
    name
}

/// A name after the table's renames.
fn renamed(table: &Table, name: &str, root: &Map<String, Value>) -> String {
    let mut name = plain(table, name);
    let last = root.get("num_hidden_layers").and_then(Value::as_u64);
    if let Some(inside) = last.and_then(|last| table.beyond_in(&name, last)) {
        name = inside;
    }
    name
}

impl Gathered<'_> {
    /// Adds the output tensors of this group.
    pub(crate) fn emit(
        &self,
        table: &Table,
        root: &Map<String, Value>,
        made: &mut Vec<(Order, Tensor)>,
    ) -> Result<()> {
        let Some(row) = table.rows.get(self.row) else {
            return Ok(());
        };
        let scope = Scope::new(root).with("bid", json!(self.places.bid));
        let early = row.verbs.iter().any(crate::verb::Verb::early);
        self.check(row, root)?;
        let tensors = if row.stacks() {
            vec![self.stack(row, &scope)?]
        } else {
            let mut tensors: Vec<Tensor> = self.parts.values().map(|t| (*t).clone()).collect();
            for verb in &row.verbs {
                tensors = verb.forward(tensors, &scope)?;
            }
            tensors
        };
        let phase = u8::from(!early);
        for (part, (tensor, template)) in tensors.into_iter().zip(&row.gguf).enumerate() {
            let name = template.fill(&self.places);
            made.push((
                (phase, self.complete, self.row, part),
                Tensor { name, ..tensor },
            ));
        }
        Ok(())
    }

    /// Refuses a group that lacks a part.
    pub(crate) fn check(&self, row: &Row, root: &Map<String, Value>) -> Result<()> {
        let n = if row.stacks() {
            let keys = ["num_local_experts", "num_experts", "n_routed_experts"];
            let told = keys.iter().find_map(|key| root.get(*key)?.as_u64());
            let highest = self.parts.keys().last().map_or(0, |last| last + 1);
            told.unwrap_or(highest).max(highest)
        } else {
            row.hf.len() as u64
        };
        if self.parts.len() as u64 != n {
            return Err(self.missing(row, n));
        }
        Ok(())
    }

    /// One tensor of all experts.
    fn stack(&self, row: &Row, scope: &Scope<'_>) -> Result<Tensor> {
        let mut experts = Vec::with_capacity(self.parts.len());
        for tensor in self.parts.values() {
            let mut one = vec![(*tensor).clone()];
            for verb in &row.verbs {
                one = verb.forward(one, scope)?;
            }
            experts.extend(one);
        }
        let Some(first) = experts.first() else {
            return Err(self.missing(row, 1));
        };
        let mut shape = vec![experts.len() as u64];
        shape.extend(first.spec.shape.iter());
        let each = first.spec.elements().unwrap_or(0);
        let sizes = vec![each; experts.len()];
        weave(experts, "stack_experts", &sizes, shape)
    }

    fn missing(&self, row: &Row, wanted: u64) -> ir::Error {
        let name = |part: u64| {
            if row.stacks() {
                let places = Places {
                    xid: Some(part),
                    ..self.places.clone()
                };
                return row.hf.first().map(|t| t.fill(&places));
            }
            let slot = usize::try_from(part).unwrap_or(usize::MAX);
            row.hf.get(slot).map(|t| t.fill(&self.places))
        };
        let gone = (0..wanted).filter(|part| !self.parts.contains_key(part));
        ArchError::MissingParts {
            target: row
                .gguf
                .first()
                .map_or(String::new(), |t| t.fill(&self.places)),
            missing: gone.take(8).filter_map(name).collect(),
        }
        .into()
    }
}
