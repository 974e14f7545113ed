//! From a repository's tensors and config to a GGUF model.

mod absent;
mod gather;
mod layers;
mod sizes;
mod whole;
mod widths;

use crate::choose::{Choice, for_hf};
use crate::compute::constant;
use crate::error::ArchError;
use crate::expr::{Scope, truthy};
use crate::fixed::losses;
use crate::generate;
use crate::hparams::{hparams, lifted};
use crate::keys::{full_name, pairs};
use crate::table::Table;
use crate::target::{OutType, target};
use absent::Absent;
pub(crate) use gather::{Gathered, Order, gather};
use ir::{BlockFormat, DType, MetaValue, Metadata, Model, Record, Result, Tensor, ns};
use regex::Regex;
use serde_json::{Map, Value, json};
use sizes::Facts;

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
    /// Rows of the embedding, which are the `vocab_size` that a config does not give.
    pub embedding_rows: Option<u64>,
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

impl Planned {
    /// The number of its block; none outside blocks.
    pub(crate) fn block(&self) -> Option<u64> {
        let inner = self.tensor.name.strip_prefix("blk.")?;
        inner.split('.').next()?.parse().ok()
    }
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

/// Turns a repository's model into one for GGUF. `config` is `config.json`.
pub fn hf_to_gguf(model: &Model, config: &Value, options: &LowerOptions<'_>) -> Result<Lowered> {
    let choice = Choice {
        name: options.arch,
        map: options.map,
    };
    let table = for_hf(model, config, choice)?;
    let mut config = config.clone();
    let counts = absent::counts(table, model, &mut config, options.repo.embedding_rows);
    let text = lifted(&config);
    let absent = Absent::of(table, &text);
    let lowered = lower(table, model, &config, &text, options);
    let mut lowered = lowered.map_err(|error| absent.explain(error, model))?;
    let told = absent.defaults(&lowered.params);
    lowered.records = [told, counts, lowered.records].concat();
    Ok(lowered)
}

fn lower(
    table: &Table,
    model: &Model,
    config: &Value,
    text: &Map<String, Value>,
    options: &LowerOptions<'_>,
) -> Result<Lowered> {
    let absent = Absent::of(table, text);
    let out = options.out.decided(model);
    let mut records = Vec::new();
    let mut root = hparams(table, config, &repo_facts(model, config, options))?;
    for (when, why) in &table.cannot {
        let value = when.eval(&Scope::new(&root));
        if value.is_ok_and(|value| truthy(&value)) {
            let (table, why) = (table.name.clone(), why.clone());
            return Err(ArchError::Cannot { table, why }.into());
        }
    }
    let mut made = Vec::new();
    for extra in &table.generate {
        let scope = Scope::new(&root);
        if let Some(values) = generate::values(extra, &scope)? {
            let order = (0, 0, made.len(), 0);
            made.push((order, constant(extra.gguf.clone(), &values)));
        }
    }
    let gathered = gather(table, model, options, &root, &mut records)?;
    for group in &gathered {
        let emitted = group.emit(table, &root, &mut made);
        let row = table.rows.get(group.row);
        emitted.map_err(|error| match row {
            Some(row) => absent.explain_row(error, row, model),
            None => error,
        })?;
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
    let changes = widths::feed_forward(table, text, &mut root, &tensors, &mut records)?;
    let mut params = pairs(table, &table.kv, &root)?;
    for (key, value) in changes {
        let key = full_name(table, key);
        if let Some(slot) = params.iter_mut().find(|(name, _)| *name == key) {
            slot.1 = value;
        }
    }
    params.push(("general.quantization_version".to_owned(), MetaValue::U32(2)));
    root.insert(
        "tensors".to_owned(),
        names(tensors.iter().map(|p| p.tensor.name.as_str())),
    );
    let prefix = format!("{}.", table.gguf);
    let keys = params
        .iter()
        .map(|(key, _)| key.strip_prefix(&prefix).unwrap_or(key));
    root.insert("written".to_owned(), names(keys));
    records.extend(losses(&table.fixed, &root, text));
    let facts = Facts {
        table,
        config: text,
        own: options.map.is_some(),
        tokens: options.repo.vocab_tokens,
        params: &params,
        tensors: &tensors,
    };
    sizes::check(&facts)?;
    layers::check(&facts)?;
    whole::check(table, &gathered, &root)?;
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

/// Names to ask for with `in`.
fn names<'a>(list: impl Iterator<Item = &'a str>) -> Value {
    let map: Map<String, Value> = list.map(|name| (name.to_owned(), json!(true))).collect();
    Value::Object(map)
}

pub(crate) fn repo_facts(
    model: &Model,
    config: &Value,
    options: &LowerOptions<'_>,
) -> Map<String, Value> {
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
    set("rows_first", rows_first(model).map(Value::from));
    set("untied", Some(Value::from(untied(model, config))));
    map
}

/// Whether fused experts are `[expert, to, from]`, as transformers 5 saves them, and not
/// `[expert, from, to]`. Of the two matrices one alone may be square; both never are.
fn rows_first(model: &Model) -> Option<bool> {
    let shape = |name: &str| model.tensors.by_name(name).map(|t| &t.spec.shape[..]);
    let pair = |both: &Tensor| {
        let stem = both.name.strip_suffix("experts.gate_up_proj")?;
        let down = shape(&format!("{stem}experts.down_proj"))?;
        match (&both.spec.shape[..], down) {
            (&[_, a, b], &[_, c, d]) => {
                let rows_first = c == b && d.checked_mul(2) == Some(a);
                let columns_first = d == a && c.checked_mul(2) == Some(b);
                (rows_first != columns_first).then_some(rows_first)
            }
            _ => None,
        }
    };
    model.tensors.iter().find_map(pair)
}

/// How classes that have a head are called.
const HEADED: [&str; 3] = ["ForCausalLM", "ForConditionalGeneration", "LMHeadModel"];

/// What a class with a head calls the model inside it.
const INSIDE: [&str; 3] = ["model.", "transformer.", "backbone."];

/// Whether the model must have a head of its own: the config says that it is not the embedding, and
/// nowhere that it is, for a class with a head. What was saved as the bare model has none, and its
/// names lack what a class with a head puts before them.
fn untied(model: &Model, config: &Value) -> bool {
    let text = Value::Object(lifted(config));
    let said = |config: &Value| config.get("tie_word_embeddings").and_then(Value::as_bool);
    let class = |config: &Value| {
        let first = config.get("architectures").and_then(|list| list.get(0));
        first.and_then(Value::as_str).map(str::to_owned)
    };
    let headed = class(config).is_some_and(|class| HEADED.iter().any(|end| class.ends_with(end)));
    let inside = |name: &str| INSIDE.iter().any(|inside| name.contains(inside));
    let whole = model.tensors.iter().any(|t| inside(&t.name));
    let tied = [said(config), said(&text)];
    headed && whole && tied.contains(&Some(false)) && !tied.contains(&Some(true))
}
