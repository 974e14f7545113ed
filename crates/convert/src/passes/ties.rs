//! One tensor under two names.

use crate::plan::Shared;
use ir::{Aliasing, MetaValue, Model, Record, Result, Tensor, TensorTable, ns};
use std::collections::HashSet;

/// Gives tied tensors their second names back: `name -> kept name` in safetensors metadata, as
/// `safetensors.torch.save_model` writes it.
pub(crate) fn restore_ties(model: &mut Model) -> Result<()> {
    let mut found = Vec::new();
    for (key, value) in model.metadata.of(ns::SAFETENSORS) {
        let Some(kept) = value.as_str() else { continue };
        if let (None, Some(tensor)) = (model.tensors.id_of(key), model.tensors.by_name(kept)) {
            found.push(Tensor {
                name: key.to_owned(),
                ..tensor.clone()
            });
        }
    }
    let names: HashSet<String> = found.iter().map(|tensor| tensor.name.clone()).collect();
    model
        .metadata
        .retain(|e| e.namespace != ns::SAFETENSORS || !names.contains(&e.key));
    for tensor in found {
        model.tensors.push(tensor)?;
    }
    Ok(())
}

/// Keeps each tied tensor once where the target cannot tie, with a note of its other names.
pub(crate) fn resolve_ties(
    model: &mut Model,
    aliasing: Aliasing,
    shared: Shared,
    records: &mut Vec<Record>,
) -> Result<()> {
    let ties = model.tensors.ties();
    if aliasing == Aliasing::Native || ties.iter().enumerate().all(|(i, id)| id.index() == i) {
        return Ok(());
    }
    let mut table = TensorTable::new();
    let mut notes = Vec::new();
    for ((id, tensor), first) in model.tensors.ids().zip(ties) {
        let kept = &model.tensors[first].name;
        if id == first {
            table.push(tensor.clone())?;
        } else if shared == Shared::Copy {
            let why = format!("shares its bytes with {kept}, written out again");
            records.push(Record::carried("copied", &tensor.name, why).flag("--shared"));
            table.push(tensor.clone())?;
        } else {
            let why = format!("the same tensor as {kept}, kept once, noted in the metadata");
            records.push(Record::carried("tied", &tensor.name, why).flag("--shared copy"));
            notes.push((tensor.name.clone(), kept.clone()));
        }
    }
    model.tensors = table;
    for (name, kept) in notes {
        model
            .metadata
            .set(ns::SAFETENSORS, name, MetaValue::text(kept));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{DType, Region, TensorSpec, View};

    #[test]
    fn ties_go_to_metadata_and_come_back() {
        let view = View::contiguous(Region::memory(vec![1, 2]));
        let spec = TensorSpec::new(DType::U8, [2]);
        let mut model = Model::default();
        for name in ["embed", "other", "head"] {
            let view = if name == "other" {
                View::contiguous(Region::memory(vec![3, 4]))
            } else {
                view.clone()
            };
            model
                .tensors
                .push(Tensor::stored(name, spec.clone(), view))
                .unwrap();
        }
        let mut records = Vec::new();
        let mut copied = model.clone();
        resolve_ties(&mut copied, Aliasing::Note, Shared::Copy, &mut records).unwrap();
        assert_eq!(copied.tensors.len(), 3);
        resolve_ties(&mut model, Aliasing::Note, Shared::KeepOne, &mut records).unwrap();
        assert_eq!(model.tensors.len(), 2);
        assert_eq!(
            model
                .metadata
                .get(ns::SAFETENSORS, "head")
                .unwrap()
                .as_str(),
            Some("embed")
        );
        assert_eq!(records.len(), 2);
        restore_ties(&mut model).unwrap();
        assert_eq!(
            model.tensors.by_name("head").unwrap().read_all().unwrap(),
            [1, 2]
        );
        assert!(model.metadata.is_empty());
    }
}
