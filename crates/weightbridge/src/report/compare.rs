//! How far a model's values are from those it was made of.

use super::ReportRequest;
use crate::open::open_with;
use crate::{Names, Session, llm, open_input};
use ::report::{Comparison, ErrorRow, Fact};
use convert::DiffOptions;
use ir::{Model, ReadOptions, Result};
use std::collections::HashMap;
use std::path::Path;

pub(super) fn compare(
    request: &ReportRequest,
    against: &Path,
    model: Model,
    session: &Session,
) -> Result<Comparison> {
    let cx = session.reading(ReadOptions::default());
    let other = open_with(&open_input(against, &cx.places)?, None, &cx)?.model;
    super::refuse_read(request, against, &other)?;
    let names = request.names.unwrap_or_else(|| shared(&model, &other));
    let named = |model: Model, path: &Path| {
        llm::named(model, path, names, &cx).map_err(|error| error.in_file(path))
    };
    let (here, there) = (named(model, &request.input)?, named(other, against)?);
    let options = DiffOptions {
        relative: true,
        ..DiffOptions::default()
    };
    let pump = session.pump()?;
    cx.progress.begin("comparing", there.tensors.byte_len());
    let found = convert::diff(&there, &here, options, &pump, &cx);
    cx.progress.end();
    let found = found.map_err(|error| error.in_file(against))?;
    // Only looked up, never walked.
    let differ: HashMap<&str, &convert::Difference> =
        found.differ.iter().map(|d| (d.name.as_str(), d)).collect();
    let mut page = Comparison {
        against: against.to_string_lossy().into_owned(),
        names: match names {
            Names::Raw => "under the names both have",
            Names::Hf => "under the names of transformers",
            Names::Gguf => "under the names of llama.cpp",
        }
        .to_owned(),
        compared: found.compared,
        only_here: found.only_in_b,
        only_there: found.only_in_a,
        ..Comparison::default()
    };
    for tensor in &here.tensors {
        let Some(before) = there.tensors.by_name(&tensor.name) else {
            continue;
        };
        let mut row = ErrorRow {
            name: tensor.name.clone(),
            from: before.dtype().name().to_owned(),
            to: tensor.dtype().name().to_owned(),
            elements: tensor.spec.elements().unwrap_or(0),
            ..ErrorRow::default()
        };
        if let Some(d) = differ.get(tensor.name.as_str()) {
            let (Some(rmse), Some(max_abs), Some(relative)) = (d.rmse, d.max_abs, d.relative)
            else {
                let (key, value) = (d.name.clone(), d.reason.clone());
                page.unlike.push(Fact { key, value });
                continue;
            };
            (row.rmse, row.max_abs, row.relative) = (rmse, max_abs, relative);
        }
        page.rows.push(row);
    }
    Ok(page)
}

/// The names that two models can be compared under: their own where they share any, else those
/// of llama.cpp, which a repository's tensors can be given.
fn shared(a: &Model, b: &Model) -> Names {
    let any = a
        .tensors
        .iter()
        .any(|tensor| b.tensors.by_name(&tensor.name).is_some());
    let gguf = |model: &Model| model.provenance.format == gguf::FORMAT.id;
    if !any && gguf(a) != gguf(b) {
        Names::Gguf
    } else {
        Names::Raw
    }
}
