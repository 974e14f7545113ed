//! One conversion, and comparing two models.

use crate::edit::{self, Edit};
use crate::open::{Opened, open_with};
use crate::session::path;
use crate::{FacadeError, Policy, Session, by_id, by_output, open_input, policy};
use convert::{
    DTypeChoice, DiffOptions, DiffReport, NameFilter, PlanOptions, Planned, Rename, Shared,
};
use ir::{Error, Fault, Format, Model, Output, ReadOptions, Report, Result, WriteOptions};
use std::path::{Path, PathBuf};

/// Everything one conversion is asked to do.
#[derive(Clone, Debug)]
pub struct ConvertRequest {
    /// What to read.
    pub input: PathBuf,
    /// What to write: a file, or a folder for a model repository.
    pub output: PathBuf,
    /// The input's format, where its content shall not decide.
    pub from: Option<String>,
    /// The output's format, where its name shall not decide.
    pub to: Option<String>,
    /// Replace an output that exists.
    pub overwrite: bool,
    /// Plan only.
    pub dry_run: bool,
    /// Hold tensor bytes against the checksums the input tells, before anything is written.
    pub verify: bool,
    /// Treat a loss as an error.
    pub strict: bool,
    /// The element type floats shall have.
    pub dtype: DTypeChoice,
    /// Which part of a checkpoint.
    pub read: ReadOptions,
    /// How careful with pickles.
    pub policy: Policy,
    /// Globals that `strict` admits besides its own.
    pub allow_globals: Vec<String>,
    /// Only tensors that match one of these.
    pub include: Vec<String>,
    /// No tensor that matches one of these.
    pub drop: Vec<String>,
    /// `REGEX=NAME`, in turn.
    pub rename: Vec<String>,
    /// What becomes of tied tensors.
    pub shared: Shared,
    /// Most bytes of tensors in one file.
    pub shard_size: Option<u64>,
    /// Most tensors in one file of GGUF.
    pub shard_tensors: Option<u64>,
    /// Put tensors into files beside the model, where the format can.
    pub external_data: bool,
    /// What the result shall be.
    pub intent: Option<Intent>,
    /// Carry quantized blocks as bytes where the target has none.
    pub keep_blocks: bool,
    /// Changes to the metadata, in turn.
    pub edits: Vec<Edit>,
}

impl ConvertRequest {
    /// A conversion with defaults for everything else.
    pub fn new(input: impl AsRef<Path>, output: impl AsRef<Path>) -> Self {
        Self {
            input: path(input),
            output: path(output),
            from: None,
            to: None,
            overwrite: false,
            dry_run: false,
            verify: false,
            strict: false,
            dtype: DTypeChoice::Keep,
            read: ReadOptions::default(),
            policy: Policy::Default,
            allow_globals: Vec::new(),
            include: Vec::new(),
            drop: Vec::new(),
            rename: Vec::new(),
            shared: Shared::KeepOne,
            shard_size: None,
            shard_tensors: None,
            external_data: false,
            intent: None,
            keep_blocks: false,
            edits: Vec::new(),
        }
    }
}

/// What the result of a conversion shall be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// A model that a runtime loads.
    Llm,
    /// Tensors, carried.
    Container,
}

/// What a conversion did, or would do.
#[derive(Debug)]
pub struct Converted {
    /// The input's format.
    pub from: &'static Format,
    /// The output's format.
    pub to: &'static Format,
    /// The account.
    pub report: Report,
    /// The files written, with their sizes; empty for a dry run.
    pub files: Vec<(PathBuf, u64)>,
    /// The model as it was planned.
    pub planned: Model,
}

/// Where the weights go, and whether a whole repository is asked for.
struct Target {
    format: &'static Format,
    file: PathBuf,
    repository: bool,
}

fn target(request: &ConvertRequest) -> Result<Target> {
    let text = request.output.as_os_str().to_string_lossy();
    let repository = text.ends_with(['/', '\\']) || request.output.is_dir();
    let format = match (&request.to, repository) {
        (Some(name), _) => by_id(name)?,
        (None, true) => &st::FORMAT,
        (None, false) => by_output(&request.output)?,
    };
    let file = if repository {
        // The names that loaders of a model folder look for.
        let name = if format.id == ckpt::FORMAT.id {
            "pytorch_model.bin"
        } else if format.id == onnx::FORMAT.id {
            "model.onnx"
        } else {
            "model.safetensors"
        };
        request.output.join(name)
    } else {
        request.output.clone()
    };
    Ok(Target {
        format,
        file,
        repository,
    })
}

/// Converts one input to one output.
pub fn convert(request: &ConvertRequest, session: &Session) -> Result<Converted> {
    let target = target(request)?;
    let writer = target.format.writer.ok_or_else(|| {
        Error::from(FacadeError::OneWay {
            format: target.format.id,
            verb: "written",
        })
    })?;
    let options = PlanOptions {
        names: NameFilter::new(&request.include, &request.drop)?,
        rename: request
            .rename
            .iter()
            .map(|text| Rename::parse(text))
            .collect::<Result<_>>()?,
        dtype: request.dtype,
        shared: request.shared,
        keep_blocks: request.keep_blocks,
    };
    if request.external_data && target.format.id != onnx::FORMAT.id {
        let what = format!(
            "--external-data is for ONNX, the output is {}",
            target.format.title
        );
        return Err(Fault::Usage { what }.into());
    }
    if !request.dry_run && !request.overwrite && target.file.exists() {
        return Err(Error::from(Fault::OutputExists).in_file(&target.file));
    }
    let mut read = request.read.clone();
    // A checkpoint is written with its tree: nothing needs to be chosen from it. Only a flat
    // mapping can be spread over shards.
    let with_tree = writer.capabilities().objects && request.shard_size.is_none();
    read.all |= with_tree && read.key.is_none();
    let write = WriteOptions {
        shard_size: request.shard_size,
        shard_tensors: request.shard_tensors,
        external_data: request.external_data,
        ..WriteOptions::default()
    };
    let pump = session.pump()?;
    let cx = session.converting(read, write, &pump, &target.file);

    let input = open_input(&request.input)?;
    let mut opened = open_with(&input, request.from.as_deref(), &cx)?;
    let Opened { model, format } = &mut opened;
    // A graph or a runtime's file is more than its tensors: which of the two is wanted is said,
    // never guessed.
    if [gguf::FORMAT.id, onnx::FORMAT.id].contains(&target.format.id)
        && model.provenance.format != target.format.id
        && request.intent != Some(Intent::Container)
    {
        let error = FacadeError::NoArchitecture {
            target: target.format.title,
        };
        return Err(Error::from(error).in_file(&request.input));
    }
    policy::check(
        model,
        &input,
        format,
        request.policy,
        &request.allow_globals,
        &cx,
    )
    .map_err(|error| error.in_file(&request.input))?;
    if !with_tree {
        opened.model.objects = None;
    }
    let graph = writer.capabilities().graph && opened.model.graph.is_some();
    let empty = opened.model.tensors.is_empty() && !graph;
    if empty && opened.model.provenance.format != st::FORMAT.id {
        return Err(Error::from(FacadeError::NoTensors).in_file(&request.input));
    }
    edit::apply(&mut opened.model, target.format.id, &request.edits);
    if request.verify {
        convert::verify(&opened.model, &pump, &cx)
            .map_err(|error| error.in_file(&request.input))?;
    }
    let capabilities = writer.capabilities();
    let Planned {
        model,
        mut records,
        casts,
    } = convert::plan(
        opened.model,
        target.format.id,
        capabilities,
        &options,
        &cx.limits,
    )
    .map_err(|error| error.in_file(&request.input))?;
    refuse_losses(request, &records)?;

    let mut report = Report {
        tensors: model.tensors.len() as u64,
        tensor_bytes: model.tensors.byte_len(),
        ..Report::default()
    };
    let mut files = Vec::new();
    if !request.dry_run {
        let mut out = Output::new(&target.file, request.overwrite);
        cx.progress.begin("writing", model.tensors.byte_len());
        let written = writer.write(&model, &mut out, &cx);
        cx.progress.end();
        report = written?;
        records.append(&mut report.records);
        records.extend(casts.records());
        refuse_losses(request, &records)?;
        if target.repository {
            copy_assets(&model, &request.output, &mut out)?;
        }
        cx.cancel.check()?;
        files = out.commit()?;
        report.file_bytes = files.iter().map(|(_, len)| len).sum();
    }
    report.records = records;
    Ok(Converted {
        from: opened.format,
        to: target.format,
        report,
        files,
        planned: model,
    })
}

fn refuse_losses(request: &ConvertRequest, records: &[ir::Record]) -> Result<()> {
    let losses: Vec<_> = records.iter().filter(|record| record.loss).collect();
    match losses.first() {
        Some(first) if request.strict => Err(Error::from(FacadeError::Losses {
            count: losses.len(),
            first: first.to_string(),
        })
        .in_file(&request.input)),
        _ => Ok(()),
    }
}

/// Largest piece of a side file held at once.
const ASSET_CHUNK: u64 = 1 << 20;

/// Copies the files that travel along beside the weights.
fn copy_assets(model: &Model, folder: &Path, out: &mut Output) -> Result<()> {
    for asset in &model.assets {
        let number = out.file(&folder.join(&asset.name))?;
        let file = out.get(number)?;
        let mut at = 0;
        while at < asset.bytes.len() {
            let n = ASSET_CHUNK.min(asset.bytes.len() - at);
            let bytes = asset.bytes.bytes(at, usize::try_from(n).unwrap_or(0))?;
            file.write_at(at, &bytes)?;
            at += n;
        }
    }
    Ok(())
}

/// Compares two models.
pub fn diff(a: &Path, b: &Path, options: DiffOptions, session: &Session) -> Result<DiffReport> {
    let cx = session.reading(ReadOptions::default());
    let open = |path: &Path| open_with(&open_input(path)?, None, &cx).map(|opened| opened.model);
    let (left, right) = (open(a)?, open(b)?);
    let pump = session.pump()?;
    cx.progress.begin("comparing", left.tensors.byte_len());
    let report = convert::diff(&left, &right, options, &pump, &cx);
    cx.progress.end();
    report
}
