//! Tensors that stay where they lie: in files that are there, below the model's folder.

use super::Place;
use super::external::initializers;
use crate::OnnxError;
use ir::{Error, Model, Payload, Result, Tensor, TensorId};
use std::path::{Component, Path};

/// A computation is made of others, no deeper than passes are stacked.
const DEPTH: u32 = 64;

/// Where the initializers lie that come from files. What was made in memory (tables of a decoder)
/// goes into the message; what must be changed on the way is an error.
pub(super) fn places(model: &Model, target: &Path) -> Result<Vec<(TensorId, Place)>> {
    let folder = target.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    let folder = folder.canonicalize().unwrap_or(folder);
    let mut places = Vec::new();
    for id in initializers(model) {
        let tensor = &model.tensors[id];
        if tensor.byte_len() == 0 || !from_file(tensor, DEPTH) {
            continue;
        }
        let place = place(tensor, &folder);
        places.push((
            id,
            place.map_err(|error| error.at(format!("tensor {:?}", tensor.name)))?,
        ));
    }
    Ok(places)
}

/// Whether a tensor's bytes come from a file, however they are changed.
fn from_file(tensor: &Tensor, depth: u32) -> bool {
    match &tensor.payload {
        Payload::Stored(view) => view.region.file().is_some(),
        Payload::Computed(compute) => {
            depth == 0
                || compute
                    .inputs()
                    .iter()
                    .any(|input| from_file(input, depth - 1))
        }
        Payload::Strings(_) => false,
    }
}

fn place(tensor: &Tensor, folder: &Path) -> Result<Place> {
    let cannot = |why: String, help| Error::from(OnnxError::CannotWrite { why, help });
    let region = tensor.as_plain().ok_or_else(|| {
        let why = format!(
            "it is not stored as the graph needs it: {}",
            tensor.history()
        );
        cannot(
            why,
            "Leave --external-into out: its bytes are to be written again",
        )
    })?;
    let path = region.path().unwrap_or(Path::new(""));
    let location = path
        .canonicalize()
        .ok()
        .and_then(|full| location(&full, folder));
    let location = location.ok_or_else(|| {
        let why = format!(
            "it lies in {}, not below the model's folder",
            path.display()
        );
        cannot(
            why,
            "Loaders read no data from elsewhere: write the model beside its weights",
        )
    })?;
    Ok(Place {
        location,
        offset: region.start(),
        len: region.len(),
    })
}

/// A file as its folder sees it, with `/` between the parts.
fn location(full: &Path, folder: &Path) -> Option<String> {
    let below = full.strip_prefix(folder).ok()?;
    let parts = below.components().map(|part| match part {
        Component::Normal(name) => name.to_str(),
        _ => None,
    });
    let parts: Option<Vec<&str>> = parts.collect();
    parts
        .filter(|parts| !parts.is_empty())
        .map(|parts| parts.join("/"))
}
