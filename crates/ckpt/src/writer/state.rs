//! A flat state dict: an `OrderedDict` of tensors under their dotted names, and the model's
//! metadata as an attribute of it, which loaders pass over.

use super::error::WriteError;
use super::notes;
use super::pickle::{BATCH, Pickle, op};
use super::rebuild::{Storages, empty_ordered_dict};
use ir::{Metadata, Result, TensorId, TensorTable};

/// The pickle of these tensors, in their order, with these pairs.
pub(super) fn pickle_of(
    table: &TensorTable,
    ids: &[TensorId],
    metadata: &Metadata,
    storages: &mut Storages<'_>,
) -> Result<Vec<u8>> {
    let mut pickle = Pickle::new();
    empty_ordered_dict(&mut pickle).map_err(|why| WriteError::Object { index: 0, why })?;
    for batch in ids.chunks(BATCH) {
        let many = batch.len() > 1;
        if many {
            pickle.op(op::MARK);
        }
        for id in batch {
            let name = table.get(*id).map_or("", |tensor| tensor.name.as_str());
            pickle.remembered_text(name)?;
            storages.tensor(&mut pickle, *id)?;
        }
        pickle.op(if many { op::SETITEMS } else { op::SETITEM });
    }
    notes::attribute(&mut pickle, metadata)?;
    Ok(pickle.finish())
}
