//! The reader.

use crate::assets::assets_of;
use crate::{ID, RepoError, merge, set};
use ir::{Anomaly, AnomalyKind, Context, Input, Model, Reader, Result, Survey};

/// Reads a model repository: a folder, the index of a sharded set, or one of its shards.
///
/// The model's provenance names the format of the weights; the tensors of a set come shard by
/// shard, in the order of the shards' names.
#[derive(Debug, Clone, Copy)]
pub struct RepoReader;

impl Reader for RepoReader {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        let set = set::resolve(input, cx).map_err(|error| error.in_file(input.path()))?;
        let models = merge::open_all(&set, cx)?;
        let model = merge::merge(&set, models, cx);
        let mut model = model.map_err(|error| error.in_file(&set.folder))?;
        let described = ["config.json", "params.json"];
        let is_repository = set
            .entries
            .iter()
            .any(|name| described.contains(&name.as_str()));
        if input.region().is_none() || is_repository {
            let assets = assets_of(&set, &mut model.provenance.notes);
            model.assets.extend(assets);
        }
        Ok(model)
    }

    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        let mut survey = Survey::of(ID, self.open(input, cx));
        let error = survey.error.as_ref();
        if let Some(RepoError::UnsafeName { .. }) = error.and_then(|e| e.downcast_ref()) {
            survey.anomalies.extend(error.map(|error| Anomaly {
                kind: AnomalyKind::UnsafeName,
                place: "index".to_owned(),
                what: error.message(),
            }));
        }
        survey
    }
}

#[cfg(test)]
mod tests;
