//! Quantizing to GGUF, as `llama-quantize` does.

use crate::open::open_with;
use crate::session::path;
use crate::{FacadeError, Session, open_input, target};
use convert::Line;
use convert::recipe::{FileType, Imatrix, QuantizeOptions};
use ir::{
    Context, Error, Fault, Format, Input, Output, ReadOptions, Record, Report, Result, WriteOptions,
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

/// Quantizes one input to one or several outputs, each of which appears whole or not at all.
pub fn quantize(request: &QuantizeRequest, session: &Session) -> Result<Vec<QuantizedFile>> {
    let pump = session.pump()?;
    let input = open_input(&request.input)?;
    let cx = session.converting(
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
    let mut done = Vec::new();
    let files = target::quantized(&request.input, &request.output, &request.types);
    for (file, &file_type) in files.into_iter().zip(&request.types) {
        cx.cancel.check()?;
        done.push(one(
            request,
            file,
            file_type,
            imatrix.as_ref(),
            &input,
            &cx,
        )?);
    }
    Ok(done)
}

pub(crate) fn read_imatrix(file: &Path, cx: &Context) -> Result<Imatrix> {
    let input = Input::open(file)?;
    let region = input.file()?;
    if (gguf::FORMAT.probe)(&input.peek()?).points > 10 {
        let opened = open_with(&input, Some(gguf::FORMAT.id), cx)?;
        return Imatrix::from_model(file, &opened.model, &cx.limits).map_err(|e| e.in_file(file));
    }
    ir::Limits::check("bytes of an importance matrix", region.len(), IMATRIX_MAX)?;
    let bytes = region.bytes(0, usize::try_from(region.len()).unwrap_or(0))?;
    Imatrix::from_legacy(file, &bytes).map_err(|error| Error::from(error).in_file(file))
}

fn one(
    request: &QuantizeRequest,
    target: PathBuf,
    file_type: FileType,
    imatrix: Option<&Imatrix>,
    input: &Input,
    cx: &Context,
) -> Result<QuantizedFile> {
    let named = |error: Error| error.in_file(&request.input);
    let opened = open_with(input, None, cx)?;
    if opened.format.id != gguf::FORMAT.id {
        let format = opened.format.id;
        return Err(named(FacadeError::NotGguf { format }.into()));
    }
    if !request.options.dry_run && !request.overwrite && target.exists() {
        return Err(Error::from(Fault::OutputExists).in_file(target));
    }
    if !request.options.dry_run {
        target::refuse_input(&target, &opened.model)?;
    }
    let planned =
        convert::quantize(opened.model, file_type, &request.options, imatrix).map_err(named)?;
    planned.model.validate(&cx.limits).map_err(named)?;
    let mut report = Report {
        tensors: planned.model.tensors.len() as u64,
        tensor_bytes: planned.model.tensors.byte_len(),
        ..Report::default()
    };
    let mut records: Vec<Record> = planned.records;
    let mut files = Vec::new();
    if !request.options.dry_run {
        let format: &Format = &gguf::FORMAT;
        let writer = format.writer.ok_or(FacadeError::OneWay {
            format: format.id,
            verb: "written",
        })?;
        let write = WriteOptions {
            shard_counts: planned.shards.iter().map(|&n| n as u64).collect(),
            ..WriteOptions::default()
        };
        let cx = Context {
            write,
            ..cx.clone()
        };
        let mut out = Output::new(&target, request.overwrite);
        cx.progress
            .begin(file_type.name(), planned.model.tensors.byte_len());
        let written = writer.write(&planned.model, &mut out, &cx);
        cx.progress.end();
        report = written.map_err(named)?;
        records.append(&mut report.records);
        cx.cancel.check()?;
        files = out.commit()?;
        report.file_bytes = files.iter().map(|(_, len)| len).sum();
    }
    report.records = records;
    Ok(QuantizedFile {
        file_type,
        lines: planned.lines,
        report,
        files,
    })
}
