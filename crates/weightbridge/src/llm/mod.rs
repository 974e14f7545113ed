//! Language models: a repository becomes a GGUF file that llama.cpp runs, and back; or either
//! becomes the graph of a decoder.
//!
//! Four crates know one part each: `repo` the files, `arch` tensors and configuration, `vocab` the
//! tokenizer, `decoder` what is computed. LoRA adapters go the same ways by themselves (`adapter`).
//! This module puts what they say together, in the order the reference converter has.

mod adapter;
mod decode;
mod files;
mod graph;
mod jinja;
mod left;
mod lower;
mod mistral;
mod modelfile;
mod raise;
mod turns;

use crate::target::Target;
use crate::{ConvertRequest, Intent, Names};
use arch::{OutType, Table};
use convert::{CastCounts, DTypeChoice};
use ir::{BlockFormat, Context, DType, Error, Fault, Limits, Model, Region, Result};
use std::path::{Path, PathBuf};

use adapter::is_adapter;
pub(crate) use adapter::{check, is_peft};
pub(crate) use modelfile::modelfile;

/// What only matters to language models.
#[derive(Clone, Debug, Default)]
pub struct LlmOptions {
    /// An architecture by its name, whatever the input says.
    pub arch: Option<String>,
    /// The user's own architecture table.
    pub arch_map: Option<PathBuf>,
    /// The base model of a LoRA adapter: its folder, its `config.json`, or a GGUF file of it.
    pub base: Option<PathBuf>,
    /// The pre-tokenizer by its name, whatever the tokenizer's fingerprint says.
    pub pre: Option<String>,
    /// Of F32 models, 16 bits: what `convert_hf_to_gguf.py` makes when it may choose.
    pub half: bool,
    /// Write an Ollama `Modelfile` beside the output.
    pub modelfile: bool,
}

/// How a model generates, when its settings do not say otherwise.
const GENERATION: &str = "generation_config.json";

/// Which way a model goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Repository to GGUF.
    Lower,
    /// GGUF to repository.
    Raise,
    /// Either to the graph of a decoder.
    Decode,
}

impl Turn {
    /// The way a request asks for; none where tensors are carried as they are.
    pub(crate) fn of(
        request: &ConvertRequest,
        target: &Target,
        model: &Model,
    ) -> Result<Option<Self>> {
        let was_gguf = model.provenance.format == gguf::FORMAT.id;
        let to_gguf = target.format.id == gguf::FORMAT.id;
        let to_onnx = target.format.id == onnx::FORMAT.id;
        let was_onnx = model.provenance.format == onnx::FORMAT.id;
        let needed = if request.intent == Some(Intent::Container) {
            None
        } else if to_onnx && model.graph.is_none() && !was_onnx {
            Some(Self::Decode)
        } else if to_gguf && !was_gguf {
            Some(Self::Lower)
        } else if was_gguf && target.repository {
            Some(Self::Raise)
        } else {
            None
        };
        let has_graph = was_onnx || model.graph.is_some();
        let held = was_gguf && to_gguf || has_graph && to_onnx || target.repository;
        if request.intent == Some(Intent::Llm) && needed.is_none() && !held {
            let what = format!(
                "--as llm is for GGUF, ONNX and folders; {} carries tensors",
                target.format.title
            );
            return Err(Error::from(Fault::Usage { what }));
        }
        let asked = request.names.map(|names| Self::to(names, model));
        match (needed, asked) {
            (needed, None) => Ok(needed),
            (None, Some(asked)) => Ok(asked),
            (needed, Some(asked)) if needed == asked => Ok(needed),
            _ => {
                let what = "a model that a runtime loads has the names that runtime knows; other \
                            --names go with --as container";
                let what = what.to_owned();
                Err(Error::from(Fault::Usage { what }))
            }
        }
    }

    /// The way to other names; none for a model that has them, as far as its format tells.
    fn to(names: Names, model: &Model) -> Option<Self> {
        let was_gguf = model.provenance.format == gguf::FORMAT.id;
        match names {
            Names::Hf if was_gguf => Some(Self::Raise),
            Names::Gguf if !was_gguf => Some(Self::Lower),
            _ => None,
        }
    }

    /// Takes a model this way, into a repository or a single file.
    pub(crate) fn take(
        self,
        model: Model,
        request: &ConvertRequest,
        repository: bool,
        cx: &Context,
    ) -> Result<(Model, Vec<CastCounts>)> {
        let one = |(model, casts)| (model, vec![casts]);
        let placed = files::placed(&model);
        placed(match (self, is_adapter(&model)) {
            (Self::Lower, false) => lower::lower(model, request, cx).map(one),
            (Self::Lower, true) => adapter::lower(model, request, cx).map(one),
            (Self::Raise, false) => raise::raise(model, request, &cx.limits).map(one),
            (Self::Raise, true) => adapter::raise(model, request, cx).map(one),
            (Self::Decode, _) => decode::decode(model, request, repository, &cx.limits),
        })
    }
}

/// A model whose tensors are to be compared under other names, in the types they have.
pub(crate) fn named(model: Model, path: &Path, names: Names, cx: &Context) -> Result<Model> {
    match Turn::to(names, &model) {
        None => Ok(model),
        Some(turn) => {
            let mut request = ConvertRequest::new(path, "");
            // Nothing but tensors is compared: how text is split need not be known.
            request.llm.pre = Some("default".to_owned());
            request.read.partial = true;
            turn.take(model, &request, false, cx)
                .map(|(model, _)| model)
        }
    }
}

/// Most bytes of a user's own table.
const MAP_MAX: u64 = 1 << 20;

fn own_table(path: Option<&Path>) -> Result<Option<Table>> {
    let Some(path) = path else {
        return Ok(None);
    };
    let read = || {
        let region = Region::open(path)?;
        Limits::check("bytes of an architecture map", region.len(), MAP_MAX)?;
        let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        Table::parse(&String::from_utf8_lossy(&bytes), &name)
    };
    read().map(Some).map_err(|error| error.in_file(path))
}

/// What `--dtype` means for the large tensors of a GGUF file.
fn out_type(choice: DTypeChoice) -> Result<OutType> {
    Ok(match choice {
        DTypeChoice::Keep => OutType::Auto,
        DTypeChoice::To(DType::F32) => OutType::F32,
        DTypeChoice::To(DType::F16) => OutType::F16,
        DTypeChoice::To(DType::BF16) => OutType::BF16,
        DTypeChoice::To(DType::Block(BlockFormat::Q8_0)) => OutType::Q8_0,
        DTypeChoice::To(other) => {
            let what = format!("--dtype {other} is no type for a GGUF model");
            return Err(Error::from(Fault::Usage { what }));
        }
    })
}
