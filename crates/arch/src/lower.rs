//! From a repository's tensors and config to a GGUF model.

use crate::choose::{Choice, for_hf};
use crate::compute::{constant, weave};
use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::generate;
use crate::hparams::hparams;
use crate::keys::pairs;
use crate::table::{Row, Table};
use crate::target::{OutType, target};
use crate::template::Places;
use ir::{BlockFormat, DType, MetaValue, Metadata, Model, Record, Result, Tensor, ns};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a lowering is asked to do.
#[derive(Clone, Debug, Default)]
pub struct LowerOptions<'a> {
    /// The type of the large tensors.
    pub out: OutType,
    /// `--arch NAME`: a table by its name, whatever the config says.
    pub arch: Option<&'a str>,
    /// `--arch-map FILE.toml`: the user's own table.
    pub map: Option<&'a Table>,
    /// `--drop REGEX`: tensors to leave out, by HF name.
    pub drop: Vec<Regex>,
    /// Facts of the repository that are not in `config.json`.
    pub repo: RepoFacts,
}

/// What tables may ask of a repository beside its config.
#[derive(Clone, Debug, Default)]
pub struct RepoFacts {
    /// Tokens the tokenizer really has: Gemma 3 cuts its embedding to them.
    pub vocab_tokens: Option<u64>,
    /// `1_Pooling/config.json`: 1 mean, 2 cls, 3 last token.
    pub pooling_type: Option<u32>,
    /// The kind of model in `tokenizer.json`: `BPE`, `WordPiece`, `Unigram`.
    pub tokenizer: Option<String>,
    /// `config.json` as it is in the file, for the few keys transformers changes on reading.
    pub suppress_tokens: Option<Vec<i64>>,
}

/// A tensor of the output and the type it shall have there. The cast is `convert`'s work.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Under its GGUF name, in the type it is computed in.
    pub tensor: Tensor,
    /// The type to write.
    pub target: DType,
}

/// A model ready for GGUF.
#[derive(Debug)]
pub struct Lowered {
    /// The table that was used.
    pub table: String,
    /// The value of `general.architecture`.
    pub gguf_arch: String,
    /// The tensors in the reference converter's order.
    pub tensors: Vec<Planned>,
    /// Keys it adds while it prepares tensors: before all other `general.*`.
    pub early: Vec<(String, MetaValue)>,
    /// The architecture's keys, `general.file_type` and `general.quantization_version`.
    pub params: Vec<(String, MetaValue)>,
    /// Keys it writes just before the tokenizer's.
    pub vocab_head: Vec<(String, MetaValue)>,
    /// Keys it writes after the tokenizer's.
    pub vocab_tail: Vec<(String, MetaValue)>,
    /// What was left out, and why.
    pub records: Vec<Record>,
}

impl Lowered {
    /// All metadata in the reference's order, with the `general.*` and `tokenizer.*` pairs that
    /// others make in their places.
    pub fn metadata(
        &self,
        general: &[(String, MetaValue)],
        tokenizer: &[(String, MetaValue)],
    ) -> Metadata {
        let mut all = Metadata::new();
        let arch = MetaValue::text(self.gguf_arch.clone());
        all.set(ns::GGUF, "general.architecture", arch);
        let parts = [
            &self.early[..],
            general,
            &self.params,
            &self.vocab_head,
            tokenizer,
            &self.vocab_tail,
        ];
        for (key, value) in parts.into_iter().flatten() {
            all.set(ns::GGUF, key.clone(), value.clone());
        }
        all
    }

    /// Parameters in all, shared by all experts, of one expert, and the number of experts, as
    /// gguf-py counts them for `general.size_label`.
    pub fn parameter_counts(&self) -> ParameterCounts {
        let mut counts = ParameterCounts::default();
        let (mut sum, mut stacks) = (0u64, 0u64);
        for Planned { tensor, .. } in &self.tensors {
            let n = tensor.spec.elements().unwrap_or(0);
            let shape = &tensor.spec.shape;
            let back = if tensor.name.contains(".bias") { 2 } else { 3 };
            let experts = shape
                .len()
                .checked_sub(back)
                .and_then(|at| shape.get(at))
                .copied();
            match experts {
                Some(experts)
                    if tensor.name.contains("_exps.") && shape.len() >= 3 && experts > 0 =>
                {
                    counts.expert += n / experts;
                    sum += experts;
                    stacks += 1;
                }
                _ => counts.shared += n,
            }
            counts.total += n;
        }
        counts.experts = sum.checked_div(stacks).unwrap_or(0);
        counts
    }
}

/// See [`Lowered::parameter_counts`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParameterCounts {
    /// Of all tensors.
    pub total: u64,
    /// Outside the experts.
    pub shared: u64,
    /// Of one expert.
    pub expert: u64,
    /// How many experts there are.
    pub experts: u64,
}

/// Tensors that every architecture leaves out: buffers, not weights.
const BUFFERS: &str = r"(\.attention\.masked_bias|\.attention\.bias|\.rotary_emb\.inv_freq)$";

/// What the vision, audio and projector parts of a multimodal repository are named. They make an
/// mmproj file, not the text model.
const MULTIMODAL: &str = r"^(mlp|vit\.|vpm\.|siglip2\.|conformer\.|merger\.|resampler\.|sound_encoder\.|sound_projection\.|speech_embeddings\.)|visual\.|vision\.|audio\.|talker\.|vision_|audio_|token2wav\.|code2wav\.|projector\.|pre_mm_projector_norm|image_newline|view_seperator|patch_embed|patch_merger\.|patch_merge_mlp\.|model\.connector\.";

/// Where in the order of the output a tensor stands: extras first, then by the source tensor that
/// completed it, then by the row and the part.
type Order = (u8, usize, usize, usize);

/// Turns a repository's model into one for GGUF. `config` is `config.json`.
pub fn hf_to_gguf(model: &Model, config: &Value, options: &LowerOptions<'_>) -> Result<Lowered> {
    let choice = Choice {
        name: options.arch,
        map: options.map,
    };
    let table = for_hf(model, config, choice)?;
    let out = options.out.decided(model);
    let mut root = hparams(table, config, &repo_facts(model, options))?;
    let mut records = Vec::new();
    let mut made = Vec::new();
    for extra in &table.generate {
        let scope = Scope::new(&root);
        if let Some(values) = generate::values(extra, &scope)? {
            let order = (0, 0, made.len(), 0);
            made.push((order, constant(extra.gguf.clone(), &values)));
        }
    }
    let gathered = gather(table, model, options, &root, &mut records)?;
    for group in gathered {
        group.emit(table, &root, &mut made)?;
    }
    made.sort_by_key(|(order, _)| *order);
    let tensors: Vec<Planned> = made
        .into_iter()
        .map(|(_, tensor)| Planned {
            target: target(table, &tensor, out),
            tensor,
        })
        .collect();
    if tensors.is_empty() {
        let what = format!("no tensor is left for architecture {:?}", table.name);
        return Err(ArchError::Nothing { what }.into());
    }
    let packed = tensors
        .iter()
        .any(|p| p.target == DType::Block(BlockFormat::MXFP4));
    let file_type = if packed && out != OutType::Q8_0 {
        38
    } else {
        out.file_type()
    };
    root.insert("file_type".to_owned(), json!(file_type));
    let mut params = pairs(table, &table.kv, &root)?;
    params.push(("general.quantization_version".to_owned(), MetaValue::U32(2)));
    Ok(Lowered {
        table: table.name.clone(),
        gguf_arch: table.gguf.clone(),
        early: pairs(table, &table.early, &root)?,
        params,
        vocab_head: pairs(table, &table.vocab_head, &root)?,
        vocab_tail: pairs(table, &table.vocab_tail, &root)?,
        tensors,
        records,
    })
}

fn repo_facts(model: &Model, options: &LowerOptions<'_>) -> Map<String, Value> {
    let facts = &options.repo;
    let mut map = Map::new();
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    set("vocab_tokens", facts.vocab_tokens.map(Value::from));
    set("pooling_type", facts.pooling_type.map(Value::from));
    set("tokenizer", facts.tokenizer.clone().map(Value::from));
    set(
        "suppress_tokens",
        facts.suppress_tokens.clone().map(Value::from),
    );
    // Blocks a checkpoint adds beyond the config's count are told by their names alone.
    let names = model.tensors.iter().map(|tensor| tensor.name.as_str());
    let mtp = names.filter_map(|name| {
        let name = name.strip_prefix("model.").unwrap_or(name);
        name.strip_prefix("mtp.layers.")?
            .split('.')
            .next()?
            .parse::<u64>()
            .ok()
    });
    set("mtp_layers", mtp.max().map(|last| Value::from(last + 1)));
    map
}

/// Source tensors that become output tensors together.
struct Gathered<'a> {
    row: usize,
    places: Places,
    /// Slot or expert number, source tensor.
    parts: BTreeMap<u64, &'a Tensor>,
    /// The last source tensor it needs.
    complete: usize,
}

/// Sorts the source's tensors into the rows of the table.
fn gather<'a>(
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
        let found = table
            .by_hf(&name)
            .or_else(|| table.by_hf(&format!("model.{name}")));
        let Some((row, slot, mut places)) = found else {
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

/// A name after the table's renames.
fn renamed(table: &Table, name: &str, root: &Map<String, Value>) -> String {
    let mut name = name.to_owned();
    for (from, to) in &table.rename {
        if from.is_match(&name) {
            name = from.replace(&name, to.as_str()).into_owned();
        }
    }
    let last = root.get("num_hidden_layers").and_then(Value::as_u64);
    if let Some(inside) = last.and_then(|last| table.beyond_in(&name, last)) {
        name = inside;
    }
    name
}

impl Gathered<'_> {
    /// Adds the output tensors of this group.
    fn emit(
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
        let tensors = if row.stacks() {
            vec![self.stack(row, &scope, root)?]
        } else {
            let mut tensors: Vec<Tensor> = self.parts.values().map(|t| (*t).clone()).collect();
            if tensors.len() != row.hf.len() {
                return Err(self.missing(row, (0..row.hf.len() as u64).collect()));
            }
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

    /// One tensor of all experts.
    fn stack(&self, row: &Row, scope: &Scope<'_>, root: &Map<String, Value>) -> Result<Tensor> {
        let keys = ["num_local_experts", "num_experts", "n_routed_experts"];
        let told = keys.iter().find_map(|key| root.get(*key)?.as_u64());
        let highest = self.parts.keys().last().map_or(0, |last| last + 1);
        let n = told.unwrap_or(highest).max(highest);
        if self.parts.len() as u64 != n {
            return Err(self.missing(row, (0..n).collect()));
        }
        let mut experts = Vec::with_capacity(self.parts.len());
        for tensor in self.parts.values() {
            let mut one = vec![(*tensor).clone()];
            for verb in &row.verbs {
                one = verb.forward(one, scope)?;
            }
            experts.extend(one);
        }
        let Some(first) = experts.first() else {
            return Err(self.missing(row, vec![0]));
        };
        let mut shape = vec![n];
        shape.extend(first.spec.shape.iter());
        let each = first.spec.elements().unwrap_or(0);
        let sizes = vec![each; experts.len()];
        weave(experts, "stack_experts", &sizes, shape)
    }

    fn missing(&self, row: &Row, wanted: Vec<u64>) -> ir::Error {
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
        let gone = wanted
            .into_iter()
            .filter(|part| !self.parts.contains_key(part));
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
