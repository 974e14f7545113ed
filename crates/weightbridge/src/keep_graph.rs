//! `--keep-graph`: the graph of an ONNX model beside the safetensors file that gets its weights.

use crate::ConvertRequest;
use crate::target::Target;
use ir::{Context, Error, Fault, Model, Output, Result, TensorId, WriteOptions, ns};
use std::collections::HashMap;
use std::path::PathBuf;

/// A model as its graph has it, from before the tensors were made safetensors'.
#[derive(Debug)]
pub(crate) struct Kept(Model);

/// Refuses what has no graph to keep, or no place to keep it.
pub(crate) fn check(request: &ConvertRequest, target: &Target, model: &Model) -> Result<()> {
    let refuse = |what: &str| {
        let what = what.to_owned();
        Err(Error::from(Fault::Usage { what }))
    };
    if target.format.id != st::FORMAT.id {
        return refuse("--keep-graph writes an ONNX model beside safetensors; the output is none");
    }
    let path = path(target);
    if !request.overwrite && !request.dry_run && path.exists() {
        return Err(Error::from(Fault::OutputExists).in_file(&path));
    }
    if model.graph.is_none() {
        return refuse("--keep-graph is for ONNX models, the input has no graph");
    }
    let asked = [
        (
            !request.include.is_empty() || !request.drop.is_empty(),
            "--include and --drop",
        ),
        (!request.rename.is_empty(), "--rename"),
        (request.dtype != convert::DTypeChoice::Keep, "--dtype"),
    ];
    match asked.iter().find(|(asked, _)| *asked) {
        Some((_, flag)) => refuse(&format!(
            "{flag} would change what the kept graph computes with"
        )),
        None => Ok(()),
    }
}

/// The model's graph for later. It is `weights.onnx` for `weights.safetensors`.
pub(crate) fn keep(model: &Model) -> Kept {
    Kept(model.clone())
}

/// The name of the graph's file.
pub(crate) fn path(target: &Target) -> PathBuf {
    target.first().with_extension("onnx")
}

impl Kept {
    /// Writes the graph into the same output: both files get their names together.
    pub(crate) fn write(
        &self,
        written: &Model,
        target: &Target,
        options: &WriteOptions,
        out: &mut Output,
        cx: &Context,
    ) -> Result<()> {
        let placed = st::places(written, target.first(), options)?;
        let placed: HashMap<&str, &st::Placed> = (placed.iter())
            .map(|place| (place.name.as_str(), place))
            .collect();
        let place = |id: TensorId| {
            let name = self
                .0
                .tensors
                .get(id)
                .map_or("", |tensor| tensor.name.as_str());
            let tie = || written.metadata.get(ns::SAFETENSORS, name)?.as_str();
            let found = placed.get(name).or_else(|| placed.get(tie()?));
            let found = found.ok_or_else(|| {
                let what = format!("tensor {name:?} of the graph was not written");
                Error::from(Fault::Invalid { what })
            })?;
            Ok(onnx::Place {
                location: found.file.clone(),
                offset: found.offset,
                len: found.len,
            })
        };
        let number = out.file(&path(target))?;
        onnx::write_around(&self.0, place, out.get(number)?, cx).map(drop)
    }
}
