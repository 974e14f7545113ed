//! Sparse tensors: values, and where they stand in a dense shape.
//!
//! Indices are `[n]`, counting through the whole shape, or `[n, rank]`, a place in each dimension.
//! They rise, and none stands twice, which onnx's checker asks for too: runtimes write values to
//! where indices say, and others would be writes outside, or values that depend on the runtime.

use super::source::Span;
use super::state::{State, once};
use super::tensor::{Raw, finish, place, raw, shape_of};
use crate::OnnxError;
use crate::wire::field;
use ir::{DType, Limits, Result, SparseTensor, Tensor};

/// Numbers of indices held at a time.
const STEP: u64 = 8 << 10;

/// A sparse initializer: its name is that of its values.
pub(super) fn initializer(state: &mut State<'_>, span: Span) -> Result<(SparseTensor, String)> {
    let (sparse, name) = sparse(state, span, "")?;
    if name.is_empty() {
        let what = "the name of a sparse initializer";
        let error = ir::Error::from(OnnxError::Missing { what });
        return Err(error.at(place("sparse tensor", "", span)));
    }
    Ok((sparse, name))
}

/// A `SparseTensorProto` and the name of its values. Its parts are called `NAME.values` and
/// `NAME.indices`, after the name they have in the file or `name`.
pub(super) fn sparse(
    state: &mut State<'_>,
    span: Span,
    name: &str,
) -> Result<(SparseTensor, String)> {
    let (mut values, mut indices, mut dims) = (None, None, Vec::new());
    let mut rest = span;
    while let Some(field) = state.source.field(&mut rest)? {
        match field.number {
            field::sparse::VALUES => once(&mut values, field.span()?, "values")?,
            field::sparse::INDICES => once(&mut indices, field.span()?, "indices")?,
            field::sparse::DIMS => {
                state.ints(field, &mut dims)?;
                Limits::check("dimensions", dims.len() as u64, state.limits.rank)?;
            }
            _ => state.unknown("SparseTensorProto", field),
        }
    }
    let missing = |what, name| {
        let error = ir::Error::from(OnnxError::Missing { what });
        error.at(place("sparse tensor", name, span))
    };
    let values = values.ok_or_else(|| missing("the values of a sparse tensor", name))?;
    let values = raw(state, values, "the values of a sparse tensor")?;
    let own = values.name.clone();
    let name = if own.is_empty() { name } else { &own };
    let indices = indices.ok_or_else(|| missing("the indices of a sparse tensor", name))?;
    let shown = format!("the indices of the sparse tensor {name:?}");
    let indices: Raw = raw(state, indices, &shown)?;
    let whole = place("sparse tensor", name, span);
    let dims = shape_of(&dims).map_err(|error| error.at(whole.clone()))?;
    let sparse = SparseTensor {
        values: finish(state, values, &format!("{name}.values"))?,
        indices: finish(state, indices, &format!("{name}.indices"))?,
        dims: dims.to_vec(),
    };
    let parts = (
        state.tensors.get(sparse.values),
        state.tensors.get(sparse.indices),
    );
    if let (Some(values), Some(indices)) = parts {
        let checked = check(values, indices, &sparse.dims).map_err(|error| error.at(whole));
        state.or_note(checked)?;
    }
    Ok((sparse, own))
}

/// Holds values, indices and the dense shape against each other.
fn check(values: &Tensor, indices: &Tensor, dims: &[u64]) -> Result<()> {
    let contradiction = |what: String| Err(OnnxError::Contradiction { what }.into());
    if dims.is_empty() {
        return contradiction("its dense shape has no dimensions".to_owned());
    }
    let size = dims.iter().try_fold(1u64, |all, n| all.checked_mul(*n));
    let Some(size) = size.filter(|size| i64::try_from(*size).is_ok()) else {
        return contradiction(format!(
            "its dense shape {dims:?} is more than 63 bits count"
        ));
    };
    let &[count] = &values.spec.shape[..] else {
        let shape = &values.spec.shape;
        return contradiction(format!("its values are of shape {shape}, not a list"));
    };
    if indices.dtype() != DType::I64 {
        return contradiction(format!("its indices are of {}, not I64", indices.dtype()));
    }
    let columns = match indices.spec.shape[..] {
        [found] if found == count => None,
        [found, columns] if found == count && columns > 0 && columns == dims.len() as u64 => {
            Some(columns)
        }
        _ => {
            let (found, rank) = (&indices.spec.shape, dims.len());
            return contradiction(format!(
                "its {count} values have indices of shape {found}, not [{count}] or \
                 [{count}, {rank}]"
            ));
        }
    };
    // A place in each dimension, or one in all of them together.
    let (limits, width) = match columns {
        None => (&[size][..], 1),
        Some(columns) => (dims, columns),
    };
    let numbers = count.saturating_mul(width);
    let step = (STEP / width.max(1)).max(1).saturating_mul(width);
    let width = limits.len();
    let mut last: Vec<u64> = Vec::new();
    let (mut at, mut row) = (0, 0u64);
    let mut bytes = Vec::new();
    while at < numbers {
        let end = numbers.min(at + step);
        bytes.resize(usize::try_from((end - at) * 8).unwrap_or(0), 0);
        indices.read(at..end, &mut bytes)?;
        for place in bytes.as_chunks::<8>().0.chunks(width) {
            let found: Vec<i64> = place.iter().map(|n| i64::from_le_bytes(*n)).collect();
            let inside: Option<Vec<u64>> = (found.iter().zip(limits))
                .map(|(n, limit)| u64::try_from(*n).ok().filter(|n| n < limit))
                .collect();
            let Some(inside) = inside else {
                return contradiction(format!(
                    "index {row} is {found:?}, outside its dense shape {dims:?}"
                ));
            };
            if row > 0 && inside <= last {
                return contradiction(format!(
                    "index {row} is {inside:?} behind {last:?}: indices rise, and none stands twice"
                ));
            }
            (last, row) = (inside, row + 1);
        }
        at = end;
    }
    Ok(())
}
