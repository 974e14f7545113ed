//! One matrix that an exporter wrote out twice: a tied head is the embedding, transposed.

use ir::{Model, Payload, Record, Result, Tensor, TensorId, TensorTable};
use std::collections::HashSet;

/// Bytes compared at a time.
const STEP: u64 = 1 << 20;

/// Makes of each matrix in `heads` that is, number for number, one of `embeddings` a second name of
/// it. Both are matrices under their modules' names, rows for rows.
pub(super) fn tie(
    model: &mut Model,
    heads: &HashSet<TensorId>,
    embeddings: &[TensorId],
) -> Result<()> {
    let mut tensors: Vec<Tensor> = model.tensors.iter().cloned().collect();
    let mut records = Vec::new();
    for (id, head) in model.tensors.ids().filter(|(id, _)| heads.contains(id)) {
        for embedding in embeddings.iter().filter(|other| **other != id) {
            let Some(embedding) = model.tensors.get(*embedding) else {
                continue;
            };
            if !same(head, embedding)? {
                continue;
            }
            let why = format!(
                "number for number {}, and now one tensor with it",
                embedding.name
            );
            records.push(Record::carried("tied", &head.name, why).flag("--shared copy"));
            if let Some(slot) = tensors.get_mut(id.index()) {
                slot.payload = embedding.payload.clone();
            }
            break;
        }
    }
    if !records.is_empty() {
        model.tensors = TensorTable::from_tensors(tensors)?;
        model.provenance.records.extend(records);
    }
    Ok(())
}

/// Whether two matrices of one type and shape are the same bytes.
pub(super) fn same(a: &Tensor, b: &Tensor) -> Result<bool> {
    if a.spec != b.spec {
        return Ok(false);
    }
    let stored = |tensor: &Tensor| matches!(tensor.payload, Payload::Stored(_));
    let (Some(count), Some(width)) = (a.spec.elements(), a.dtype().element_bytes()) else {
        return Ok(false);
    };
    if !stored(a) || !stored(b) {
        return Ok(false);
    }
    let width = u64::from(width);
    // The first numbers tell most pairs apart.
    let mut step = 1024 / width;
    let mut at = 0;
    while at < count {
        let until = count.min(at.saturating_add(step));
        let len = usize::try_from((until - at) * width).unwrap_or(0);
        let (mut left, mut right) = (vec![0; len], vec![0; len]);
        a.read(at..until, &mut left)?;
        b.read(at..until, &mut right)?;
        if left != right {
            return Ok(false);
        }
        at = until;
        step = STEP / width;
    }
    Ok(true)
}
