//! Types and shapes a target cannot hold, carried in others of the same bytes, with a note.
//!
//! | source | carried as | note |
//! |---|---|---|
//! | complex | its real type, one more dimension of 2 | `dtype.NAME` |
//! | whole-byte elements | an integer of that width | `dtype.NAME` |
//! | packed elements | `U8`, shape of the bytes | `dtype.NAME`, `shape.NAME` |
//! | strings | `U8`, each string behind its length | `dtype.NAME`, `shape.NAME` |
//!
//! The notes live in the metadata namespace [`ns::NOTE`]; [`restore_types`] undoes them.

use super::strings;
use crate::ConvertError;
use ir::{
    Capabilities, Compute, DType, MetaValue, Metadata, MetadataKinds, Model, Record, Result, Shape,
    Tensor, TensorSpec, TensorTable, View, ns,
};
use std::ops::Range;
use std::sync::Arc;

/// The same bytes under another spec, for payloads that are not plainly stored.
struct Retype {
    spec: TensorSpec,
    input: [Tensor; 1],
    label: String,
}

impl Compute for Retype {
    fn spec(&self) -> &TensorSpec {
        &self.spec
    }

    fn inputs(&self) -> &[Tensor] {
        &self.input
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn read(&self, elements: Range<u64>, out: &mut [u8]) -> Result<()> {
        let [input] = &self.input;
        let (per, width) = input.dtype().block();
        let (per, width) = (u64::from(per), u64::from(width.max(1)));
        let from = self.spec.dtype.byte_len(elements.start).unwrap_or(0);
        let until = from.saturating_add(out.len() as u64);
        let units = from / width..until.div_ceil(width);
        let range = units.start * per..units.end * per;
        if from.is_multiple_of(width) && until.is_multiple_of(width) {
            return input.read(range, out);
        }
        // A chunk that begins or ends inside one of the input's elements.
        let len = (units.end - units.start).saturating_mul(width);
        let mut whole = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        input.read(range, &mut whole)?;
        let skip = usize::try_from(from - units.start * width).unwrap_or(usize::MAX);
        if let Some(part) = skip
            .checked_add(out.len())
            .and_then(|end| whole.get(skip..end))
        {
            out.copy_from_slice(part);
        }
        Ok(())
    }
}

/// `tensor` under another spec of the same number of bytes.
pub(crate) fn retype(tensor: &Tensor, spec: TensorSpec) -> Tensor {
    let name = tensor.name.clone();
    if let Some(region) = tensor.as_plain() {
        return Tensor::stored(name, spec, View::contiguous(region));
    }
    let label = format!("as {} {}", spec.dtype, spec.shape);
    let compute = Retype {
        spec,
        input: [tensor.clone()],
        label,
    };
    Tensor::computed(name, Arc::new(compute))
}

/// The spec under which a target can hold a tensor's bytes.
fn stand_in(spec: &TensorSpec, holds: impl Fn(DType) -> bool) -> Option<TensorSpec> {
    if let Some(part) = spec.dtype.complex_part().filter(|part| holds(*part)) {
        let shape: Shape = spec.shape.iter().copied().chain([2]).collect();
        return Some(TensorSpec { dtype: part, shape });
    }
    let candidates: &[DType] = match spec.dtype.element_bytes() {
        Some(1) => &[DType::U8, DType::I8],
        Some(2) => &[DType::U16, DType::I16],
        Some(4) => &[DType::U32, DType::I32],
        Some(8) => &[DType::U64, DType::I64],
        _ => &[],
    };
    if let Some(&dtype) = candidates.iter().find(|dtype| holds(**dtype)) {
        return Some(TensorSpec {
            dtype,
            shape: spec.shape.clone(),
        });
    }
    let bytes = spec.byte_len()?;
    let dtype = [DType::U8, DType::I8]
        .into_iter()
        .find(|dtype| holds(*dtype))?;
    Some(TensorSpec::new(dtype, [bytes]))
}

/// Whether the original shape follows from the stand-in's without a note.
fn shape_follows(original: &TensorSpec, carried: &TensorSpec) -> bool {
    original.dtype.complex_part() == Some(carried.dtype) || original.shape == carried.shape
}

/// Makes every tensor one that the target can hold.
pub(crate) fn fit(
    model: &mut Model,
    target: &'static str,
    capabilities: &Capabilities,
    holds: impl Fn(DType) -> bool + Copy,
    records: &mut Vec<Record>,
) -> Result<()> {
    // A type that the target has may still end within a byte, which few targets allow.
    let fits = |tensor: &Tensor| holds(tensor.dtype()) && capabilities.packing.allows(&tensor.spec);
    if model.tensors.iter().all(fits) {
        return Ok(());
    }
    let noted = capabilities.metadata != MetadataKinds::None;
    let mut table = TensorTable::new();
    for tensor in &model.tensors {
        if fits(tensor) {
            table.push(tensor.clone())?;
            continue;
        }
        let no_type = || ConvertError::NoType {
            target,
            name: tensor.name.clone(),
            dtype: tensor.dtype(),
        };
        let stood_in = if tensor.dtype() == DType::Str {
            let Some(packed) = strings::packed(tensor).filter(|_| noted) else {
                let why = format!("{target} has no tensors of strings");
                records.push(Record::dropped("strings", &tensor.name, why));
                continue;
            };
            // As bytes they may still not fit: GGUF has no U8.
            match stand_in(&packed.spec, holds) {
                _ if holds(packed.dtype()) => packed,
                Some(spec) => retype(&packed, spec),
                None => return Err(no_type().into()),
            }
        } else {
            let spec = stand_in(&tensor.spec, holds).ok_or_else(no_type)?;
            retype(tensor, spec)
        };
        let carried = stood_in.spec.clone();
        let what = format!("carried as {} {}", carried.dtype, carried.shape);
        let name = &tensor.name;
        records.push(if noted {
            let dtype = MetaValue::text(tensor.dtype().name());
            model.metadata.set(ns::NOTE, format!("dtype.{name}"), dtype);
            if !shape_follows(&tensor.spec, &carried) {
                let shape = MetaValue::text(tensor.spec.shape.to_string());
                model.metadata.set(ns::NOTE, format!("shape.{name}"), shape);
            }
            let why = format!(
                "no {} is written to {target}: {what}, noted in the metadata",
                tensor.dtype()
            );
            Record::carried("reinterpreted", name, why)
        } else {
            let why = format!("{target} has no {}: {what}", tensor.dtype());
            Record::changed("reinterpreted", name, why)
        });
        table.push(stood_in)?;
    }
    model.tensors = table;
    Ok(())
}

/// Reads `[2, 3]`.
fn parse_shape(text: &str) -> Option<Shape> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    if inner.is_empty() {
        return Some(Shape::default());
    }
    inner
        .split(',')
        .map(|dim| dim.trim().parse().ok())
        .collect::<Option<Vec<u64>>>()
        .map(Shape::new)
}

/// A tensor with the type and shape that notes tell; none if they do not fit it.
fn original(tensor: &Tensor, notes: &Metadata, strings: &mut u64) -> Result<Option<Tensor>> {
    let text = |kind: &str| {
        notes
            .get(ns::NOTE, &format!("{kind}.{}", tensor.name))?
            .as_str()
    };
    let Some(dtype) = text("dtype").and_then(|text| text.parse::<DType>().ok()) else {
        return Ok(None);
    };
    let shape = match text("shape") {
        Some(shape) => parse_shape(shape),
        None if dtype.complex_part() == Some(tensor.dtype()) => {
            let pairs = tensor.spec.shape.split_last();
            pairs.and_then(|(&two, rest)| (two == 2).then(|| Shape::new(rest)))
        }
        None => Some(tensor.spec.shape.clone()),
    };
    let Some(shape) = shape else {
        return Ok(None);
    };
    if dtype == DType::Str {
        let bytes = match tensor.dtype() {
            DType::I8 => {
                let spec = TensorSpec::new(DType::U8, tensor.spec.shape.clone());
                retype(tensor, spec)
            }
            _ => tensor.clone(),
        };
        return strings::unpacked(&bytes, &shape, strings);
    }
    let spec = TensorSpec { dtype, shape };
    let same = spec.byte_len() == Some(tensor.byte_len());
    Ok(same.then(|| retype(tensor, spec)))
}

/// Gives tensors back the types and shapes that notes tell, and removes those notes. A note that
/// does not fit its tensor stays where it is.
pub(crate) fn restore_types(model: &mut Model) -> Result<()> {
    // Looked up by name below, so taken out once: a file may hold very many notes.
    let mut notes = Metadata::new();
    let mut count = 0usize;
    for (key, value) in model.metadata.of(ns::NOTE) {
        if key.starts_with("dtype.") || key.starts_with("shape.") {
            notes.push_new(ns::NOTE, key.to_owned(), value.clone());
            count += 1;
        }
    }
    if count == 0 {
        return Ok(());
    }
    let names: std::collections::HashSet<&str> = notes
        .iter()
        .filter_map(|e| e.key.strip_prefix("dtype."))
        .collect();
    let mut table = TensorTable::new();
    let mut done = std::collections::HashSet::new();
    let mut held = strings::HELD_MAX;
    for tensor in &model.tensors {
        let noted = names.contains(tensor.name.as_str());
        let restored = if noted {
            original(tensor, &notes, &mut held)?
        } else {
            None
        };
        if restored.is_some() {
            done.insert(tensor.name.clone());
        }
        table.push(restored.unwrap_or_else(|| tensor.clone()))?;
    }
    model.tensors = table;
    model.metadata.retain(|entry| {
        let name = entry
            .key
            .strip_prefix("dtype.")
            .or_else(|| entry.key.strip_prefix("shape."));
        entry.namespace != ns::NOTE || name.is_none_or(|name| !done.contains(name))
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::{Aliasing, ModelBuilder, Packing, PatternCompute};

    fn capabilities(dtype: fn(DType) -> bool) -> Capabilities {
        Capabilities {
            dtype,
            max_rank: None,
            max_name_bytes: None,
            graph: false,
            objects: false,
            aliasing: Aliasing::Note,
            metadata: MetadataKinds::Strings,
            shards: true,
            packing: Packing::Bytes,
            ordered: true,
        }
    }

    #[test]
    fn carried_types_come_back() {
        let few = |dtype| matches!(dtype, DType::F64 | DType::U8 | DType::I16);
        let original = ModelBuilder::new()
            .tensor("c", DType::C128, [2], (0..32).collect::<Vec<u8>>())
            .tensor("h", DType::F16, [3, 1], vec![1, 2, 3, 4, 5, 6])
            .tensor("p", DType::F6E2M3, [2, 4], (0..6).collect::<Vec<u8>>())
            .push(PatternCompute::tensor("z", DType::C128, [3]))
            .build()
            .unwrap();
        let mut model = original.clone();
        let mut records = Vec::new();
        fit(&mut model, "test", &capabilities(few), few, &mut records).unwrap();
        let spec = |name: &str| model.tensors.by_name(name).unwrap().spec.clone();
        assert_eq!(spec("c"), TensorSpec::new(DType::F64, [2, 2]));
        assert_eq!(spec("h"), TensorSpec::new(DType::I16, [3, 1]));
        assert_eq!(spec("p"), TensorSpec::new(DType::U8, [6]));
        assert_eq!(records.len(), 4);
        let mut odd = [0; 8];
        model
            .tensors
            .by_name("z")
            .unwrap()
            .read(3..4, &mut odd)
            .unwrap();
        assert_eq!(odd[0], PatternCompute::byte(24));
        restore_types(&mut model).unwrap();
        assert!(model.metadata.is_empty());
        for tensor in &original.tensors {
            let back = model.tensors.by_name(&tensor.name).unwrap();
            assert_eq!(back.spec, tensor.spec);
            assert_eq!(back.read_all().unwrap(), tensor.read_all().unwrap());
        }
    }

    #[test]
    fn notes_that_do_not_fit_do_nothing() {
        let mut model = ModelBuilder::new()
            .tensor("a", DType::F32, [2], vec![0; 8])
            .metadata(ns::NOTE, "dtype.a", MetaValue::text("C128"))
            .metadata(
                ns::NOTE,
                "shape.a",
                MetaValue::text("[9223372036854775807, 16]"),
            )
            .build()
            .unwrap();
        restore_types(&mut model).unwrap();
        assert_eq!(model.tensors.by_name("a").unwrap().dtype(), DType::F32);
        assert_eq!(model.metadata.len(), 2);
        assert_eq!(parse_shape("[]"), Some(Shape::default()));
        assert_eq!(parse_shape("[2, x]"), None);
    }
}
