//! One page about a model: collecting what `report` draws.

mod account;
mod compare;
mod facts;
mod values;

use crate::open::open_with;
use crate::{FacadeError, Names, Session, open_input, target};
use ::report::{FileRow, FindingRow, Graph, ModelPage, RecordRow, Scan, ScannedFile, TensorRow};
use ir::{Error, Input, Model, Output, Places, ReadOptions, Record, Result};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// Everything a page is asked to tell.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// The model.
    pub input: PathBuf,
    /// The page to write; without one the text is only answered.
    pub output: Option<PathBuf>,
    /// Replace a page that exists.
    pub overwrite: bool,
    /// The input's format, where its content shall not decide.
    pub from: Option<String>,
    /// Which part of a checkpoint.
    pub read: ReadOptions,
    /// How much of the data to read.
    pub values: ReadValues,
    /// The model to tell the error against.
    pub against: Option<PathBuf>,
    /// Whose names both are compared under; `None` for names that they share, else llama.cpp's.
    pub names: Option<Names>,
    /// What `convert --json` or `quantize --json` said when it made the model.
    pub conversion: Option<PathBuf>,
}

impl ReportRequest {
    /// A page with defaults for everything else.
    pub fn new(input: impl AsRef<Path>) -> Self {
        Self {
            input: crate::session::path(input),
            output: None,
            overwrite: false,
            from: None,
            read: ReadOptions::default(),
            values: ReadValues::default(),
            against: None,
            names: None,
            conversion: None,
        }
    }
}

/// How much of the data is read to tell what values are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadValues {
    /// Nothing.
    None,
    /// Large tensors in part, by a rule that the page tells.
    #[default]
    Sample,
    /// Everything.
    All,
}

/// A page.
#[derive(Debug)]
pub struct Reported {
    /// What it tells, as data.
    pub page: ModelPage,
    /// The document.
    pub html: String,
    /// The file it was written to, with its size.
    pub file: Option<(PathBuf, u64)>,
}

/// Collects what there is to tell about a model and draws the page.
pub fn report(request: &ReportRequest, session: &Session) -> Result<Reported> {
    let mut output = None;
    if let Some(path) = &request.output {
        let mut places = session.places.clone();
        places.spare(&request.input, "the input");
        for other in request.against.iter().chain(&request.conversion) {
            places.spare(other, "a file that is read");
        }
        let mut out = Output::new(path, request.overwrite).within(&places);
        let number = out.main_file()?;
        output = Some((out, number));
    }
    let page = collect(request, session)?;
    let html = ::report::model_page(&page);
    let mut file = None;
    if let Some((out, number)) = output {
        out.get(number)?.write_at(0, html.as_bytes())?;
        session.cancel.check()?;
        file = out.commit()?.into_iter().next();
    }
    Ok(Reported { page, html, file })
}

/// Refuses a page where a file goes that turned out to belong to one of the models.
fn refuse_read(request: &ReportRequest, path: &Path, model: &Model) -> Result<()> {
    let mut read = Places::default();
    target::spare(&mut read, path, model);
    match &request.output {
        Some(output) => read.refuse_spared(output),
        None => Ok(()),
    }
}

fn collect(request: &ReportRequest, session: &Session) -> Result<ModelPage> {
    // What is quick to refuse comes before what takes long.
    let account = request
        .conversion
        .as_deref()
        .map(account::read)
        .transpose()?;
    let cx = session.reading(request.read.clone());
    let input = open_input(&request.input, &cx.places)?;
    let opened = match open_with(&input, request.from.as_deref(), &cx) {
        Err(error) if error.class() == ir::Class::Unsupported && json_lines(&input) => {
            return Err(Error::from(FacadeError::JsonLines).in_file(&request.input));
        }
        opened => opened?,
    };
    let model = opened.model;
    refuse_read(request, &request.input, &model)?;
    let mut page = page_of(&model, opened.format.title, &request.input);
    page.scan = scan(&request.input, &model, session)?;
    page.conversion = account;
    values::fill(&mut page, &model, request.values, session)
        .map_err(|error| error.in_file(&request.input))?;
    if let Some(against) = &request.against {
        page.comparison = Some(compare::compare(request, against, model, session)?);
    }
    Ok(page)
}

/// Whether the first line is a JSON object and there is a line more, or nothing more.
fn json_lines(input: &Input) -> bool {
    const LOOK: u64 = 1 << 20;
    let Some(region) = input.region() else {
        return false;
    };
    let len = usize::try_from(region.len().min(LOOK)).unwrap_or(0);
    let Ok(bytes) = region.bytes(0, len) else {
        return false;
    };
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    matches!(
        serde_json::from_slice(line),
        Ok(serde_json::Value::Object(_))
    )
}

fn page_of(model: &Model, title: &str, input: &Path) -> ModelPage {
    let provenance = &model.provenance;
    let name = input
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let source = input.to_string_lossy().into_owned();
    let files = provenance.files.iter().map(|(path, bytes)| FileRow {
        path: path.to_string_lossy().into_owned(),
        bytes: *bytes,
    });
    let mut page = ModelPage {
        title: name.unwrap_or_else(|| source.clone()),
        source,
        format: title.to_owned(),
        version: provenance.version.clone(),
        files: files.collect(),
        facts: facts::facts(model),
        metadata: facts::metadata(model),
        graph: graph(model),
        reading: provenance.records.iter().map(record).collect(),
        notes: provenance.notes.clone(),
        ..ModelPage::default()
    };
    for ((id, tensor), first) in model.tensors.ids().zip(model.tensors.ties()) {
        let tied = (first != id).then(|| model.tensors.get(first).map(|t| t.name.clone()));
        let row = TensorRow {
            name: tensor.name.clone(),
            dtype: tensor.dtype().name().to_owned(),
            shape: tensor.spec.shape.to_vec(),
            elements: tensor.spec.elements().unwrap_or(0),
            bytes: tensor.byte_len(),
            tied_to: tied.flatten(),
            values: None,
        };
        if row.tied_to.is_none() {
            page.parameters = page.parameters.saturating_add(row.elements);
            page.bytes = page.bytes.saturating_add(row.bytes);
        }
        page.tensors.push(row);
    }
    page
}

fn record(record: &Record) -> RecordRow {
    RecordRow {
        outcome: record.outcome.name().to_owned(),
        kind: record.kind.to_owned(),
        what: record.what.clone(),
        why: record.why.clone(),
        flag: record.flag.map(str::to_owned),
        loss: record.loss,
    }
}

fn graph(model: &Model) -> Option<Graph> {
    let line = crate::describe::graph_line(model.graph.as_ref()?);
    let mut operators: Vec<(String, u64)> = line.ops.into_iter().collect();
    operators.sort_by(|a, b| (Reverse(a.1), &a.0).cmp(&(Reverse(b.1), &b.0)));
    Some(Graph {
        inputs: line.inputs,
        outputs: line.outputs,
        nodes: line.node_count,
        operators,
    })
}

/// What `scan` says of the files that the model lies in; of a folder, of everything in it.
fn scan(input: &Path, model: &Model, session: &Session) -> Result<Scan> {
    if input.as_os_str() == "-" {
        return Ok(Scan {
            skipped: Some("standard input can be read only once".to_owned()),
            files: Vec::new(),
        });
    }
    let files = &model.provenance.files;
    let paths: Vec<PathBuf> = if input.is_dir() || files.is_empty() {
        vec![input.to_owned()]
    } else {
        files.iter().map(|(path, _)| path.clone()).collect()
    };
    let scanned = crate::scan(&paths, session)?;
    let files = scanned.files.into_iter().map(|file| {
        let findings = file.findings.into_iter().map(|found| FindingRow {
            severity: found.severity.name().to_owned(),
            rule: found.rule.to_owned(),
            place: found.where_,
            what: found.what,
            detail: found.detail,
        });
        ScannedFile {
            path: file.path.to_string_lossy().into_owned(),
            verdict: file.verdict.name().to_owned(),
            findings: findings.collect(),
            error: file.error.map(|error| error.to_string()),
        }
    });
    Ok(Scan {
        skipped: None,
        files: files.collect(),
    })
}
