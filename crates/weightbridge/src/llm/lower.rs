//! From a repository to a GGUF model.

use super::raise::CARD;
use super::{files, graph, left, mistral, out_type, own_table};
use crate::{ConvertRequest, FacadeError};
use arch::{
    GeneralInput, LowerOptions, Lowered, OutType, RepoFacts, front_matter, general, hf_to_gguf,
};
use convert::{CastCounts, DTypeChoice, to_types};
use ir::{Context, DType, Limits, MetaValue, Model, Record, Result, Tensor, TensorTable, ns};
use serde_json::Value;
use std::path::Path;
use vocab::{Request, Vocabulary};

const FILE_TYPE: &str = "general.file_type";

/// Makes the GGUF model of the repository that `model` was read from. A model without a card gets
/// its name from the last part of the input's path.
pub(super) fn lower(
    mut model: Model,
    request: &ConvertRequest,
    cx: &Context,
) -> Result<(Model, CastCounts)> {
    let (options, limits) = (&request.llm, &cx.limits);
    let config = match files::json(&model, "config.json", limits)? {
        None => mistral::config(&mut model, limits)?,
        config => config,
    };
    let Some(config) = config else {
        let error = FacadeError::NoArchitecture {
            target: gguf::FORMAT.title,
        };
        return Err(error.into());
    };
    files::whole(&model)?;
    if model.graph.is_some() {
        graph::weights_of_graph(&mut model)?;
    }
    model.tensors = by_name_in_each_file(model.tensors)?;
    // Blocks out of a graph stay what they were; the type that is asked for is that of the rest.
    let blocks = model.tensors.iter().any(|t| is_block(t.dtype()));
    let packed = files::quantization(&model, &config, limits)?;
    if let Some(settings) = &packed {
        unpack::unpack(&mut model, settings)?;
    }
    // Numbers that come out of codes have no type of their own to keep.
    let keep = request.dtype == DTypeChoice::Keep && !options.half && packed.is_none();
    let map = own_table(options.arch_map.as_deref())?;
    let rows = embedding_rows(&model);
    let vocabulary = vocabulary(&model, &config, rows, request, limits)?;
    let repo = RepoFacts {
        vocab_tokens: Some(vocabulary.tokens),
        embedding_rows: rows,
        ..facts(&model, limits)?
    };
    let lowering = LowerOptions {
        out: match out_type(request.dtype)? {
            OutType::Auto if keep && !has_halves(&model) => OutType::F32,
            out => out,
        },
        arch: options.arch.as_deref(),
        map: map.as_ref(),
        drop: Vec::new(),
        repo,
    };
    let lowered = hf_to_gguf(&model, &config, &lowering)?;
    let card = card(&mut model, limits)?;
    let generation = files::json(&model, super::GENERATION, limits)?;
    let general = general(&GeneralInput {
        folder: &folder_name(&request.input, &cx.places),
        card: card.as_ref(),
        config: Some(&config),
        generation: generation.as_ref(),
        counts: lowered.parameter_counts(),
        adapter: false,
    });
    let mut metadata = lowered.metadata(&general, &of_architecture(&lowered, vocabulary.pairs));
    left::join(&mut model, &mut metadata, request.carry.metadata);
    model.provenance.records.extend(lowered.records);
    model.provenance.records.extend(vocabulary.records);
    if keep {
        let rows = lowered.tensors.iter();
        let narrower = rows.filter(|row| row.tensor.dtype() == DType::F32 && is_half(row.target));
        model.provenance.records.extend(mixed(narrower.count()));
    }
    let casts = CastCounts::default();
    let planned = lowered.tensors.into_iter();
    model.tensors = to_types(planned.map(|row| (row.tensor, row.target)), &casts)?;
    model.metadata = metadata;
    if blocks {
        model
            .metadata
            .set(ns::GGUF, FILE_TYPE, file_type(&model.tensors));
    }
    model.provenance.records.extend(files::placeholders(&model));
    // GGUF has no room for all of it: --modelfile asks it for the rest.
    model.assets.retain(|asset| asset.name == super::GENERATION);
    model.objects = None;
    Ok((model, casts))
}

fn is_block(dtype: DType) -> bool {
    matches!(dtype, DType::Block(_))
}

/// What the matrices are, most of them.
fn file_type(tensors: &TensorTable) -> MetaValue {
    let matrices = tensors.iter().filter(|t| t.spec.shape.len() >= 2);
    MetaValue::U32(convert::recipe::file_type_of(matrices.map(Tensor::dtype)))
}

fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether any matrix is of 16 bits.
fn has_halves(model: &Model) -> bool {
    let mut large = model.tensors.iter().filter(|t| t.spec.shape.len() >= 2);
    large.any(|tensor| is_half(tensor.dtype()))
}

/// Says that a model of more than one type gets one, as the reference gives it.
fn mixed(count: usize) -> Option<Record> {
    let what = format!("{count} F32 tensors of a model of 16 bits");
    let why = "large tensors of a GGUF have one type, that of the first: they are rounded to it";
    (count > 0).then(|| Record::changed("cast", what, why).flag("--dtype f32"))
}

/// The tokenizer's keys, with the architecture's name in those that are the architecture's.
fn of_architecture(
    lowered: &Lowered,
    mut pairs: Vec<(String, MetaValue)>,
) -> Vec<(String, MetaValue)> {
    for (key, _) in &mut pairs {
        if let Some(name) = key.strip_prefix(vocab::ARCH) {
            *key = format!("{}.{name}", lowered.gguf_arch);
        }
    }
    pairs
}

/// The order in which the reference converter meets tensors: safetensors files sort what they hold
/// by type first, and it by name alone; pickles keep their own order.
pub(super) fn by_name_in_each_file(tensors: TensorTable) -> Result<TensorTable> {
    let file = |tensor: &Tensor| tensor.view()?.region.path().map(Path::to_owned);
    let mut list = tensors.into_tensors();
    for part in list.chunk_by_mut(|a, b| file(a) == file(b)) {
        let path = part.first().and_then(file);
        let extension = path.as_deref().and_then(Path::extension);
        if extension.is_some_and(|end| end == "safetensors") {
            part.sort_by(|a, b| a.name.cmp(&b.name));
        }
    }
    TensorTable::from_tensors(list)
}

/// What the front matter of the model card tells; with a record of one that cannot be read.
pub(super) fn card(model: &mut Model, limits: &Limits) -> Result<Option<Value>> {
    let Some(text) = files::text(model, CARD, limits)? else {
        return Ok(None);
    };
    match front_matter(&String::from_utf8_lossy(&text)) {
        Ok(card) => Ok(Some(card)),
        Err(why) => {
            let why = format!("its front matter is no YAML that can be read: {why}");
            let record = Record::dropped("model-card", CARD, why);
            model.provenance.records.push(record);
            Ok(None)
        }
    }
}

/// Rows of the matrix that has one for each token.
fn embedding_rows(model: &Model) -> Option<u64> {
    /// How it is called.
    const NAMES: [&str; 5] = [
        "embed_tokens.weight",
        "wte.weight",
        "word_embeddings.weight",
        "embed_in.weight",
        "tok_embeddings.weight",
    ];
    let found = model.tensors.iter().find(|tensor| {
        let name = tensor.name.as_str();
        NAMES.iter().any(|end| name.ends_with(end))
    });
    found.and_then(|tensor| tensor.spec.shape.first().copied())
}

/// The tokenizer's keys.
fn vocabulary(
    model: &Model,
    config: &Value,
    rows: Option<u64>,
    request: &ConvertRequest,
    limits: &Limits,
) -> Result<Vocabulary> {
    let class = config.get("architectures").and_then(|list| list.get(0));
    vocab::to_gguf(
        &model.assets.as_slice(),
        &Request {
            hf_class: class.and_then(Value::as_str).unwrap_or_default(),
            config,
            vocab_size: None,
            embedding_rows: rows,
            pre: request.llm.pre.as_deref(),
            method: None,
            partial: request.read.partial,
            limits,
        },
    )
}

/// The last part of the path of the folder, `.` followed to what it is.
pub(super) fn folder_name(input: &Path, places: &ir::Places) -> String {
    let full = input.canonicalize().unwrap_or_else(|_| input.to_owned());
    let home = repo::home_of(&full);
    let folder = if home.is_some() && !places.is_folder(&full) {
        home.as_deref()
    } else if places.is_folder(&full) {
        Some(full.as_path())
    } else {
        full.parent()
    };
    let name = folder.and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// What tables ask of a repository beside its configuration.
fn facts(model: &Model, limits: &Limits) -> Result<RepoFacts> {
    let generation = files::json(model, super::GENERATION, limits)?;
    let suppress = generation.as_ref().and_then(|config| {
        let list = config.get("suppress_tokens")?.as_array()?;
        list.iter().map(Value::as_i64).collect()
    });
    Ok(RepoFacts {
        pooling_type: pooling(model, limits)?,
        suppress_tokens: suppress,
        ..RepoFacts::default()
    })
}

/// How sentence-transformers pools: the folder that `modules.json` names for it has the answer.
fn pooling(model: &Model, limits: &Limits) -> Result<Option<u32>> {
    const MODES: [(&str, &str); 3] = [
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ];
    let modules = files::json(model, "modules.json", limits)?;
    let module = modules.as_ref().and_then(|list| {
        let kind = |module: &&Value| {
            let kind = module.get("type").and_then(Value::as_str);
            kind.is_some_and(|kind| kind.ends_with("Pooling"))
        };
        list.as_array()?.iter().find(kind)?.get("path")?.as_str()
    });
    let Some(folder) = module else {
        return Ok(None);
    };
    let name = format!("{}/config.json", folder.trim_end_matches('/'));
    let config = files::json(model, &name, limits)?;
    let value = |key: &str| config.as_ref().and_then(|config| config.get(key));
    let on = |key: &str| value(key).and_then(Value::as_bool) == Some(true);
    // Older configurations have a switch for each mode, newer ones its name.
    let named = value("pooling_mode").and_then(Value::as_str);
    let is = |key: &str, name: &str| on(key) || named == Some(name);
    let mode = (1u32..).zip(MODES);
    Ok(mode
        .into_iter()
        .find(|(_, (key, name))| is(key, name))
        .map(|(n, _)| n))
}
