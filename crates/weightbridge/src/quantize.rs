//! Quantizing to GGUF, as `llama-quantize` does.

use crate::open::open_with;
use crate::session::path;
use crate::{FacadeError, Intent, Policy, Session, open_input, policy, target};
use convert::recipe::{FileType, Imatrix, QuantizeOptions};
use convert::{Line, PlanOptions, Quantized};
use ir::{
    Context, Error, Fault, Input, Model, OutFile, Output, Piece, ReadOptions, Report, Result,
    WriteOptions, Writer as _,
};
use std::path::{Path, PathBuf};

/// Everything one quantization is asked to do.
#[derive(Clone, Debug)]
pub struct QuantizeRequest {
    /// What to read.
    pub input: PathBuf,
    /// The file to write; a folder where several types are asked for.
    pub output: PathBuf,
    /// The file types to make.
    pub types: Vec<FileType>,
    /// How.
    pub options: QuantizeOptions,
    /// An importance matrix.
    pub imatrix: Option<PathBuf>,
    /// Only these tensors' weights of it.
    pub include_weights: Vec<String>,
    /// All but these.
    pub exclude_weights: Vec<String>,
    /// `Container` quantizes tensors of an input that is no GGUF, under their names.
    pub intent: Option<Intent>,
    /// Replace an output that exists.
    pub overwrite: bool,
}

impl QuantizeRequest {
    /// One output with defaults for everything else.
    pub fn new(input: impl AsRef<Path>, output: impl AsRef<Path>, file_type: FileType) -> Self {
        Self {
            input: path(input),
            output: path(output),
            types: vec![file_type],
            options: QuantizeOptions::default(),
            imatrix: None,
            include_weights: Vec::new(),
            exclude_weights: Vec::new(),
            intent: None,
            overwrite: false,
        }
    }
}

/// What became of one type.
#[derive(Debug)]
pub struct QuantizedFile {
    /// The type.
    pub file_type: FileType,
    /// A line for each tensor, in output order.
    pub lines: Vec<Line>,
    /// The account.
    pub report: Report,
    /// The files written, with their sizes; empty for a dry run.
    pub files: Vec<(PathBuf, u64)>,
}

/// Most bytes of an importance matrix.
const IMATRIX_MAX: u64 = 1 << 30;

/// Quantizes one input to one or several outputs, in one pass over it; each output appears whole
/// or not at all.
pub fn quantize(request: &QuantizeRequest, session: &Session) -> Result<Vec<QuantizedFile>> {
    let mut types = request.types.clone();
    types.dedup();
    let output = &request.output;
    let named = output.extension().is_some_and(|end| end == "gguf") && !output.is_dir();
    if types.len() > 1 && named {
        let what = "several types need a folder as OUTPUT".to_owned();
        return Err(Error::from(Fault::Usage { what }).in_file(output));
    }
    let mut targets = target::quantized(&request.input, &request.output, &types);
    let dry_run = request.options.dry_run;
    for target in &targets {
        if !dry_run && !request.overwrite && session.places.exists(target)? {
            return Err(Error::from(Fault::OutputExists).in_file(target));
        }
    }
    let named = |error: Error| error.in_file(&request.input);
    let pump = session.pump()?;
    let input = open_input(&request.input, &session.places)?;
    let mut cx = session.converting(
        ReadOptions::default(),
        WriteOptions::default(),
        &pump,
        &request.output,
    );
    let imatrix = request
        .imatrix
        .as_deref()
        .map(|file| read_imatrix(file, &cx))
        .transpose()?;
    let imatrix =
        imatrix.map(|matrix| matrix.filtered(&request.include_weights, &request.exclude_weights));
    let model = open_model(request, &input, &cx)?;
    target::spare(&mut cx.places, &request.input, &model);
    if !dry_run {
        for file in &targets {
            cx.places.refuse_spared(file)?;
        }
    }
    let planned = convert::quantize_each(&model, &types, &request.options, imatrix.as_ref())
        .map_err(named)?;
    for (planned, target) in planned.iter().zip(&mut targets) {
        planned.model.validate(&cx.limits).map_err(named)?;
        if request.options.keep_split && planned.shards.len() < 2 {
            *target = only_shard(target);
        }
    }
    let written = if dry_run {
        planned
            .iter()
            .map(|_| (Report::default(), Vec::new()))
            .collect()
    } else {
        write(request, &types, &targets, &planned, &cx)?
    };
    let done = types.into_iter().zip(planned).zip(written);
    let file = |((file_type, planned), (report, files)): ((_, Quantized), (Report, Vec<_>))| {
        let records = planned.records.into_iter().chain(report.records).collect();
        QuantizedFile {
            file_type,
            report: Report {
                tensors: planned.model.tensors.len() as u64,
                tensor_bytes: planned.model.tensors.byte_len(),
                file_bytes: files.iter().map(|(_, len)| len).sum(),
                records,
            },
            lines: planned.lines,
            files,
        }
    };
    Ok(done.map(file).collect())
}

/// The name of a set's one file, which llama-quantize gives also where the input is no set.
fn only_shard(target: &Path) -> PathBuf {
    let stem = target.file_stem().unwrap_or_default().to_string_lossy();
    target.with_file_name(ir::shard::shard_name(&stem, 1, 1, "gguf"))
}

/// What was written of one output, and under which names.
type Written = (Report, Vec<(PathBuf, u64)>);

/// Lays all outputs out, pours them together, and gives them their names.
fn write(
    request: &QuantizeRequest,
    types: &[FileType],
    targets: &[PathBuf],
    planned: &[Quantized],
    cx: &Context,
) -> Result<Vec<Written>> {
    let named = |error: Error| error.in_file(&request.input);
    let mut outs = Vec::new();
    let mut laid = Vec::new();
    for (target, planned) in targets.iter().zip(planned) {
        // One file is no set: it has no keys of a split.
        let several = planned.shards.len() > 1;
        let counts = planned.shards.iter().filter(|_| several);
        let write = WriteOptions {
            shard_counts: counts.map(|&n| n as u64).collect(),
            ..WriteOptions::default()
        };
        let cx = Context {
            write,
            ..cx.clone()
        };
        let mut out = Output::new(target, request.overwrite).within(&cx.places);
        let layout = gguf::GgufWriter.lay_out(&planned.model, &mut out, &cx);
        laid.push(layout.map_err(named)?);
        outs.push(out);
    }
    let mut files: Vec<(&OutFile, &[Piece<'_>])> = Vec::new();
    for (out, laid) in outs.iter().zip(&laid) {
        for (number, pieces) in &laid.files {
            files.push((out.get(*number)?, pieces));
        }
    }
    let names: Vec<&str> = types.iter().map(|file_type| file_type.name()).collect();
    let bytes = laid.iter().map(|laid| laid.report.tensor_bytes);
    cx.progress
        .begin(&names.join(", "), bytes.fold(0, u64::saturating_add));
    let poured = cx.pump.pour_all(&files, cx);
    cx.progress.end();
    poured.map_err(named)?;
    cx.cancel.check()?;
    let mut written = Vec::new();
    for (out, laid) in outs.into_iter().zip(laid) {
        laid.check(&out)?;
        written.push((laid.report, out.commit()?));
    }
    Ok(written)
}

/// The model to quantize: a GGUF, or the tensors of any other, if that was asked for.
fn open_model(request: &QuantizeRequest, input: &Input, cx: &Context) -> Result<Model> {
    let named = |error: Error| error.in_file(&request.input);
    let mut opened = open_with(input, None, cx)?;
    if opened.model.provenance.format == gguf::FORMAT.id {
        return Ok(opened.model);
    }
    if request.intent != Some(Intent::Container) {
        let format = opened.format.title;
        return Err(named(FacadeError::NotGguf { format }.into()));
    }
    policy::check(
        &mut opened.model,
        input,
        opened.format,
        Policy::Default,
        &[],
        cx,
    )
    .map_err(named)?;
    opened.model.objects = None;
    if opened.model.tensors.is_empty() {
        return Err(named(FacadeError::NoTensors.into()));
    }
    let capabilities = gguf::GgufWriter.capabilities();
    let options = PlanOptions::default();
    let planned = convert::plan(
        opened.model,
        gguf::FORMAT.id,
        capabilities,
        &options,
        &cx.limits,
    );
    let mut planned = planned.map_err(named)?;
    planned.model.provenance.records = planned.records;
    Ok(planned.model)
}

pub(crate) fn read_imatrix(file: &Path, cx: &Context) -> Result<Imatrix> {
    let input = cx.places.open(file)?;
    let region = input.file()?;
    if (gguf::FORMAT.probe)(&input.peek()?).points > 10 {
        let opened = open_with(&input, Some(gguf::FORMAT.id), cx)?;
        return Imatrix::from_model(file, &opened.model, &cx.limits).map_err(|e| e.in_file(file));
    }
    ir::Limits::check("bytes of an importance matrix", region.len(), IMATRIX_MAX)?;
    let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
    Imatrix::from_legacy(file, &bytes).map_err(|error| Error::from(error).in_file(file))
}
