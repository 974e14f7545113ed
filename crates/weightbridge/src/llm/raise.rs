//! From a GGUF model back to a repository.

use super::{left, own_table};
use crate::ConvertRequest;
use arch::{ArchError, RaiseOptions, Raised, describe, gguf_to_hf};
use convert::{CastCounts, DTypeChoice, to_types};
use ir::{
    Asset, BlockFormat, DType, Error, Fault, Limits, Model, Record, Region, Result, Tensor,
    TensorTable, ns,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The model card.
pub(super) const CARD: &str = "README.md";

/// Makes the repository that would give this GGUF model: tensors under their Hugging Face names
/// in one type, `config.json` and the tokenizer's files as assets.
pub(super) fn raise(
    mut model: Model,
    request: &ConvertRequest,
    limits: &Limits,
) -> Result<(Model, CastCounts)> {
    let (dtype, options) = (request.dtype, &request.llm);
    let to = match dtype {
        DTypeChoice::Keep => common(&model),
        DTypeChoice::To(dtype) => dtype,
    };
    let map = own_table(options.arch_map.as_deref())?;
    let casts = CastCounts::default();
    let blocks = model.tensors.iter().map(Tensor::dtype);
    let blocks = blocks.filter(|dtype| matches!(dtype, DType::Block(_)));
    let asked = matches!(dtype, DTypeChoice::To(_));
    let told = dequantized_records(blocks.map(|from| (from, to)), NO_BLOCKS, asked);
    model.provenance.records.extend(told);
    dequantized(&mut model, to, &casts)?;
    let raising = RaiseOptions {
        arch: options.arch.as_deref(),
        map: map.as_ref(),
    };
    let raised = gguf_to_hf(&model, raising)?;
    finish(model, raised, to, dtype, casts, limits)
}

/// The same with blocks that `stay` as they are, where only whole rows move; other blocks become
/// F32, in which every value is kept.
pub(super) fn raise_blocks(
    mut model: Model,
    request: &ConvertRequest,
    limits: &Limits,
    stay: fn(DType) -> bool,
) -> Result<(Model, CastCounts)> {
    let options = &request.llm;
    let to = DType::F32;
    let map = own_table(options.arch_map.as_deref())?;
    let raising = RaiseOptions {
        arch: options.arch.as_deref(),
        map: map.as_ref(),
    };
    let casts = CastCounts::default();
    let mut none = BTreeSet::new();
    loop {
        let mut wanted = Vec::with_capacity(model.tensors.len());
        for tensor in &model.tensors {
            let dtype = tensor.dtype();
            let block = matches!(dtype, DType::Block(_));
            let keep = !block || stay(dtype) && !none.contains(&kind(&tensor.name));
            wanted.push((tensor.clone(), if keep { dtype } else { to }));
        }
        let mut numbers: BTreeMap<String, (DType, DType)> = (wanted.iter())
            .map(|(tensor, to)| (tensor.name.clone(), (tensor.dtype(), *to)))
            .collect();
        let mut tried = model.clone();
        tried.tensors = to_types(wanted, &casts)?;
        let raised = match gguf_to_hf(&tried, raising) {
            Ok(raised) => raised,
            Err(error) => match error.downcast_ref::<ArchError>() {
                // A verb that reaches into rows: all tensors of that kind become numbers. Of one that
                // only turns the matrix the graph finds the blocks again.
                Some(ArchError::Shape { tensor, dtype, .. })
                    if matches!(dtype, DType::Block(_)) && none.insert(kind(tensor)) =>
                {
                    continue;
                }
                _ => return Err(error),
            },
        };
        for blocks in raised.tensors.iter().filter_map(Tensor::blocks_across) {
            numbers.remove(&blocks.name);
        }
        let told = dequantized_records(numbers.into_values(), NO_FORM, true);
        model.provenance.records.extend(told);
        return finish(model, raised, to, DTypeChoice::Keep, casts, limits);
    }
}

/// Why blocks become numbers in a graph.
const NO_FORM: &str = "its blocks have no form in a graph of standard operators";
/// Why they do in a repository.
const NO_BLOCKS: &str = "repositories of transformers hold numbers";

/// A tensor's name without the number of its layer.
fn kind(name: &str) -> String {
    let parts = name.split('.');
    let kept = parts.filter(|part| !part.bytes().all(|b| b.is_ascii_digit()));
    kept.collect::<Vec<_>>().join(".")
}

/// A record for each type of blocks that becomes numbers: how many tensors, and what that costs.
fn dequantized_records(
    numbers: impl IntoIterator<Item = (DType, DType)>,
    why: &str,
    wanted: bool,
) -> Vec<Record> {
    let mut counts: BTreeMap<String, (DType, DType, u64)> = BTreeMap::new();
    for (from, to) in numbers.into_iter().filter(|(from, to)| from != to) {
        let row = counts.entry(from.to_string()).or_insert((from, to, 0));
        row.2 += 1;
    }
    let record = |(name, (from, to, n)): (String, (DType, DType, u64))| {
        let tensors = if n == 1 { "tensor" } else { "tensors" };
        let what = format!("{n} {name} {tensors}");
        // The numbers of a block are numbers of 32 bits, which fewer bits round; those of MXFP4 have
        // two bits and an exponent, for which bfloat16 has room.
        let (cost, wanted) = match (from, to) {
            (_, DType::F32) | (DType::Block(BlockFormat::MXFP4), DType::BF16) => {
                ("every value is kept", true)
            }
            _ => ("values are rounded to it", wanted),
        };
        let record = Record::changed("dequantized", what, format!("to {to}, {cost}: {why}"));
        let record = record.flag("--dtype");
        if wanted { record.wanted() } else { record }
    };
    counts.into_iter().map(record).collect()
}

fn finish(
    mut model: Model,
    raised: Raised,
    to: DType,
    dtype: DTypeChoice,
    casts: CastCounts,
    limits: &Limits,
) -> Result<(Model, CastCounts)> {
    model.provenance.records.extend(raised.records);
    model.tensors = narrowed(raised.tensors, to, dtype, &casts)?;
    let pooling = pooling(&model.metadata)?;
    let mut config = raised.config;
    if let (Value::Object(map), Some(name)) = (&mut config, torch_name(to)) {
        map.insert("torch_dtype".to_owned(), name.into());
    }
    let described = describe(&model.metadata);
    model.assets = vec![asset("config.json", json_text(&config)?)];
    if model
        .metadata
        .get(ns::GGUF, "tokenizer.ggml.model")
        .is_some()
    {
        let files = vocab::from_gguf(&model.metadata, described.sampling, limits)?;
        let files = files.into_iter().map(|(name, bytes)| asset(&name, bytes));
        model.assets.extend(files);
        let told = defaults(&model.metadata, &model.assets);
        model.provenance.records.extend(told);
    }
    model.assets.extend(pooling);
    let mut untold = raised.unread;
    untold.extend(vocab::untold(&model.metadata));
    tell(&mut model, described.card, described.left, untold);
    model.objects = None;
    Ok((model, casts))
}

/// Adds the model card, and keeps of a GGUF file's metadata what no file tells: keys that are
/// `left` of the model's description, and those `untold` of its parts.
pub(super) fn tell(
    model: &mut Model,
    card: Option<String>,
    left: Vec<String>,
    mut untold: Vec<String>,
) {
    let card = card.map(|text| asset(CARD, text.into_bytes()));
    model.assets.extend(card);
    untold.extend(left);
    model.metadata = left::of_gguf(&model.metadata, &untold);
    model
        .provenance
        .records
        .extend(left::noted(&model.metadata));
}

/// How sentence-transformers is told to pool what an embedding model gives: a list of modules, and
/// the settings of the one that pools.
fn pooling(metadata: &ir::Metadata) -> Result<Vec<Asset>> {
    let number = |key: &str| {
        let arch = metadata.get(ns::GGUF, "general.architecture")?.as_str()?;
        metadata.get(ns::GGUF, &format!("{arch}.{key}"))?.as_u64()
    };
    let mode = match number("pooling_type") {
        Some(1) => "pooling_mode_mean_tokens",
        Some(2) => "pooling_mode_cls_token",
        Some(3) => "pooling_mode_lasttoken",
        _ => return Ok(Vec::new()),
    };
    let module = |number: u32, path: &str, kind: &str| {
        let kind = format!("sentence_transformers.models.{kind}");
        json!({"idx": number, "name": number.to_string(), "path": path, "type": kind})
    };
    let folder = "1_Pooling";
    let modules = json!([module(0, "", "Transformer"), module(1, folder, "Pooling")]);
    let settings = json!({"word_embedding_dimension": number("embedding_length"), mode: true});
    Ok(vec![
        asset("modules.json", json_text(&modules)?),
        asset(&format!("{folder}/config.json"), json_text(&settings)?),
    ])
}

/// What the files say that the GGUF file does not.
fn defaults(metadata: &ir::Metadata, assets: &[Asset]) -> Vec<Record> {
    let why = "GGUF has no keys for padding, truncation and the clean-up of spaces: the class's \
               defaults count";
    let mut all = vec![Record::carried(
        "class-defaults",
        "tokenizer_config.json",
        why,
    )];
    let model = metadata.get(ns::GGUF, "tokenizer.ggml.model");
    if model.and_then(ir::MetaValue::as_str) == Some("llama") {
        let why = "GGUF has no key for `legacy` of the class: texts that begin with spaces, or stand \
                   behind a special token, may split otherwise";
        all.push(Record::carried("class-defaults", "tokenizer.json", why));
    }
    let generation = assets.iter().find(|a| a.name == super::GENERATION);
    if generation.is_some() {
        let why = "GGUF has keys for three ids that end a text (eos, eot, eom): a model's own list \
                   may have been longer";
        all.push(Record::carried("class-defaults", super::GENERATION, why));
    }
    let template = assets.iter().find(|a| a.name == "chat_template.jinja");
    if template.is_some_and(|asset| asset.bytes.is_empty()) {
        let why = "all templates of the file have names: the default beside them is empty";
        all.push(Record::carried(
            "class-defaults",
            "chat_template.jinja",
            why,
        ));
    }
    all
}

/// Rows are moved and split: blocks become numbers first.
pub(super) fn dequantized(model: &mut Model, to: DType, casts: &CastCounts) -> Result<()> {
    let numbers = model.tensors.iter().map(|tensor| {
        let dtype = tensor.dtype();
        let wanted = if matches!(dtype, DType::Block(_)) {
            to
        } else {
            dtype
        };
        (tensor.clone(), wanted)
    });
    let numbers: Vec<_> = numbers.collect();
    model.tensors = to_types(numbers, casts)?;
    Ok(())
}

/// Floats in the type asked for; when none was, only where no value is lost by it.
pub(super) fn narrowed(
    tensors: TensorTable,
    to: DType,
    dtype: DTypeChoice,
    casts: &CastCounts,
) -> Result<TensorTable> {
    let mut wanted = Vec::with_capacity(tensors.len());
    for tensor in tensors.into_tensors() {
        let from = tensor.dtype();
        let keep = !from.is_float() || dtype == DTypeChoice::Keep && !exact(&tensor, to)?;
        wanted.push((tensor, if keep { from } else { to }));
    }
    to_types(wanted, casts)
}

/// The type that a repository would have had: that of the first matrix that was not widened, and
/// bfloat16 where it is quantized.
pub(super) fn common(model: &Model) -> DType {
    let matrices = model.tensors.iter().filter(|t| t.spec.shape.len() >= 2);
    let mut types = matrices.map(Tensor::dtype);
    match types.find(|dtype| *dtype != DType::F32) {
        None => DType::F32,
        Some(DType::F16) => DType::F16,
        Some(_) => DType::BF16,
    }
}

/// Tensors of more elements than this are not looked at.
const LOOK_MAX: u64 = 1 << 22;

/// Whether a tensor may become `to` when no type was asked for. GGUF widens vectors and a few
/// small matrices to F32: they come back as they were, but only if no value is lost by it.
fn exact(tensor: &Tensor, to: DType) -> Result<bool> {
    let from = tensor.dtype();
    let small = tensor.spec.elements().is_some_and(|n| n <= LOOK_MAX);
    if from != DType::F32 || to == DType::F32 || !small {
        return Ok(from == to);
    }
    let there = to_types([(tensor.clone(), to)], &CastCounts::default())?;
    let back = to_types(
        there.iter().map(|t| (t.clone(), from)),
        &CastCounts::default(),
    )?;
    let same = back.iter().map(Tensor::read_all).next();
    Ok(same.transpose()? == Some(tensor.read_all()?))
}

/// What transformers calls a type.
fn torch_name(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F32 => "float32",
        DType::F16 => "float16",
        DType::BF16 => "bfloat16",
        _ => return None,
    })
}

pub(super) fn asset(name: &str, bytes: Vec<u8>) -> Asset {
    Asset {
        name: name.to_owned(),
        bytes: Region::memory(bytes),
    }
}

pub(super) fn json_text(value: &Value) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| {
        let what = format!("a configuration cannot be written: {error}");
        Error::from(Fault::Invalid { what })
    })?;
    text.push(b'\n');
    Ok(text)
}
