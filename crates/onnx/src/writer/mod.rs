//! The writer: every message laid out with its tensors left where they are, then one pour a file.

mod around;
mod container;
mod existing;
mod external;
mod graph;
mod rope;
mod tensor;
mod types;

pub use around::{Place, graph_note, write_around};

use crate::OnnxError;
use crate::namespace::property;
use crate::wire::code::{code_of_dtype, ir_version_of_dtype};
use crate::wire::{CONTAINER, KIND_KEY, NAME_KEY, field};
use external::Layout;
use ir::{
    Aliasing, Body, Capabilities, Context, DType, Graph, MetadataKinds, Model, OutFile, Output,
    Packing, Piece, Record, Report, Result, Writer,
};
use rope::{Part, Rope};
use std::collections::HashSet;
use tensor::Tensors;

/// Writes ONNX: the model, and over 1.5 GB of tensors, or when asked, data files beside it.
///
/// A model without a graph becomes one whose initializers are all outputs, marked so that it is
/// read as tensors again.
#[derive(Debug, Clone, Copy)]
pub struct OnnxWriter;

static CAPABILITIES: Capabilities = Capabilities {
    dtype: has_dtype,
    max_rank: None,
    max_name_bytes: None,
    graph: true,
    objects: false,
    aliasing: Aliasing::Note,
    metadata: MetadataKinds::Typed,
    shards: true,
    packing: Packing::Anywhere,
    ordered: true,
};

/// Official parsers stop at messages of 2 GiB.
const MESSAGE_MAX: u64 = i32::MAX as u64;

/// The types that a model without a graph may have. The format has complex numbers and floats of
/// six bits, too, and onnxruntime (1.31) refuses a model that has a tensor of them: they are left to
/// graphs that come with them.
fn has_dtype(dtype: DType) -> bool {
    let loads = !matches!(
        dtype,
        DType::C64 | DType::C128 | DType::F6E2M3 | DType::F6E3M2
    );
    loads && code_of_dtype(dtype).is_some()
}

impl Writer for OnnxWriter {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn write(&self, model: &Model, out: &mut Output, cx: &Context) -> Result<Report> {
        let layout = Layout::of(model, out, &cx.write)?;
        let mut report = Report::default();
        let message = message(model, &layout, &mut report)?;
        report.tensors = model.tensors.len() as u64;
        report.tensor_bytes = model.tensors.byte_len();
        // The model names the data, so it is published after it.
        for (name, file) in layout.names.iter().zip(&layout.files) {
            let number = out.side_file(name)?;
            let pieces: Vec<Piece<'_>> = file
                .iter()
                .filter_map(|(offset, id)| {
                    let body = Body::Tensor(model.tensors.get(*id)?);
                    let (offset, crc) = (*offset, false);
                    Some(Piece { offset, body, crc })
                })
                .collect();
            report.file_bytes =
                report
                    .file_bytes
                    .saturating_add(pour(out.get(number)?, &pieces, cx)?);
        }
        let number = out.main_file()?;
        let len = pour_message(message, out.get(number)?, cx)?;
        report.file_bytes = report.file_bytes.saturating_add(len);
        Ok(report)
    }
}

/// The whole message of a model, tensors counted and left where they are.
fn message<'a>(model: &'a Model, layout: &'a Layout, report: &mut Report) -> Result<Rope<'a>> {
    let tensors = Tensors {
        table: &model.tensors,
        remarks: model
            .graph
            .iter()
            .flat_map(|graph| &graph.remarks)
            .map(|remark| (remark.tensor, remark))
            .collect(),
        layout,
    };
    let message = if let Some(graph) = &model.graph {
        model_message(graph, model, false, &tensors, report)?
    } else {
        let graph = container::graph_of(model)?;
        model_message(&graph, model, true, &tensors, report)?
    };
    if message.len() > MESSAGE_MAX {
        return Err(OnnxError::CannotWrite {
            why: format!("the model without its data files takes {} bytes, no loader reads more than {MESSAGE_MAX}", message.len()),
            help: "Much of it is in attributes or in small tensors: try --external-data, or leave tensors out",
        }
        .into());
    }
    Ok(message)
}

/// Writes a message, and answers the file's length.
fn pour_message(message: Rope<'_>, file: &OutFile, cx: &Context) -> Result<u64> {
    let mut at = 0u64;
    let mut pieces = Vec::new();
    for part in message.into_parts() {
        let body = match part {
            Part::Bytes(bytes) => Body::Bytes(bytes.into()),
            Part::Tensor(tensor) => Body::Tensor(tensor),
        };
        let len = body.byte_len();
        pieces.push(Piece {
            offset: at,
            body,
            crc: false,
        });
        at = at.saturating_add(len);
    }
    pour(file, &pieces, cx)
}

/// Writes pieces, and answers the file's length, which must be where the last one ends.
fn pour(file: &OutFile, pieces: &[Piece<'_>], cx: &Context) -> Result<u64> {
    let planned = pieces
        .last()
        .map_or(0, |last| last.offset.saturating_add(last.body.byte_len()));
    file.expect(planned, pieces)?;
    cx.pump.pour(file, pieces, cx)?;
    let found = file.len()?;
    if found != planned {
        return Err(OnnxError::OffPlan { planned, found }.into());
    }
    Ok(found)
}

/// A `ModelProto`.
fn model_message<'a>(
    graph: &Graph,
    model: &Model,
    container: bool,
    tensors: &Tensors<'a>,
    report: &mut Report,
) -> Result<Rope<'a>> {
    let about = &graph.about;
    let mut out = Rope::new();
    // A graph made here of tensors may leave it to them.
    let versions = model.tensors.iter().map(|t| ir_version_of_dtype(t.dtype()));
    let newest = || versions.fold(ir_version_of_dtype(DType::F32), Ord::max);
    let made = about.producer == "weightbridge";
    let version = about.ir_version.or_else(|| made.then(newest));
    if let Some(version) = version {
        out.int(field::model::IR_VERSION, version);
    }
    out.some_text(field::model::PRODUCER_NAME, &about.producer);
    out.some_text(field::model::PRODUCER_VERSION, &about.producer_version);
    out.some_text(field::model::DOMAIN, &about.domain);
    if let Some(version) = about.model_version {
        out.int(field::model::MODEL_VERSION, version);
    }
    out.some_text(field::model::DOC, &about.doc);
    let order = graph::order(&graph.body, report)?;
    let body = graph::graph(&graph.body, order.as_deref(), tensors)?;
    out.message(field::model::GRAPH, body);
    opsets(&mut out, field::model::OPSET_IMPORT, &graph.opsets);
    let mut properties = Vec::new();
    if container {
        properties.push((KIND_KEY.to_owned(), CONTAINER.to_owned()));
        let unnamed = container::stand_in(model);
        properties.extend(unnamed.map(|name| (format!("{NAME_KEY}{name}"), String::new())));
    }
    properties.extend(model.metadata.iter().map(property));
    let mut seen = HashSet::new();
    properties.retain(|(key, _)| {
        let new = seen.insert(key.clone());
        if !new {
            let why = "another entry is written under the same key";
            report.add(Record::dropped("metadata-twice", key, why));
        }
        new
    });
    pairs(&mut out, field::model::METADATA, &properties);
    for training in &graph.training {
        let message = graph::training(training, tensors)?;
        out.message(field::model::TRAINING, message);
    }
    for function in &graph.functions {
        let message = graph::function(function, tensors)?;
        out.message(field::model::FUNCTIONS, message);
    }
    for devices in &about.devices {
        out.bytes(field::model::CONFIGURATION, devices);
    }
    Ok(out)
}

/// `StringStringEntryProto`s.
fn pairs(out: &mut Rope<'_>, number: u32, pairs: &[(String, String)]) {
    for (key, value) in pairs {
        let mut pair = Rope::new();
        pair.text(field::pair::KEY, key);
        pair.text(field::pair::VALUE, value);
        out.message(number, pair);
    }
}

/// `OperatorSetIdProto`s.
fn opsets(out: &mut Rope<'_>, number: u32, opsets: &[(String, i64)]) {
    for (domain, version) in opsets {
        let mut opset = Rope::new();
        opset.text(field::opset::DOMAIN, domain);
        opset.int(field::opset::VERSION, *version);
        out.message(number, opset);
    }
}
