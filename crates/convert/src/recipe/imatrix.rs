//! Importance matrices: how much each column of a tensor counts.
//!
//! Two formats hold the sums of squared activations that went through each column.
//!
//! **Legacy `.dat`**, little-endian, no magic (llama.cpp's `common/imatrix-loader.cpp`):
//!
//! | field | type | |
//! |---|---|---|
//! | entries | i32 | at least 1 |
//! | *per entry:* name length, name | i32, bytes | ends at a NUL, if it has one |
//! | calls, values, data | i32, i32, f32 each | the sums are per call, times calls |
//! | chunks, dataset length, dataset | i32, i32, bytes | may be missing |
//!
//! **GGUF**, opened by its reader: tensors `NAME.in_sum2` (columns, or columns times experts) and
//! `NAME.counts` (one, or one an expert), keys `imatrix.datasets`, `imatrix.chunk_count` and
//! `imatrix.chunk_size`.
//!
//! Weights are sums over counts; an expert that nothing was routed to counts 1 everywhere.

use super::RecipeError;
use bytes::Bytes;
use ir::{Array, DType, Limits, MetaValue, Model, Result, Tensor, ns};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Longest text `llama-quantize` writes to the metadata.
const TEXT_MAX: usize = 127;

/// Weights of importance by tensor, and where they come from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Imatrix {
    /// One weight a column, or a column of each expert.
    entries: BTreeMap<String, Arc<[f32]>>,
    /// The text files it was computed from.
    datasets: Vec<Bytes>,
    /// How many chunks of text.
    chunks: i64,
    /// What `quantize.imatrix.file` shall say.
    file: Bytes,
}

fn bad(what: impl Into<String>) -> RecipeError {
    RecipeError::BadImportance { what: what.into() }
}

impl Imatrix {
    /// Reads the legacy format. `file` is the name as the user gave it, for the metadata.
    pub fn from_legacy(file: &Path, bytes: &[u8]) -> Result<Self, RecipeError> {
        let mut input = Cursor { bytes, at: 0 };
        let n_entries = input.int("the number of entries")?;
        if n_entries < 1 {
            return Err(bad(format!(
                "{n_entries} entries; is it an importance matrix?"
            )));
        }
        let mut matrix = Self {
            file: file_name(file),
            ..Self::default()
        };
        for entry in 0..n_entries {
            let at = input.at;
            let name_len = input.len("a name's length")?;
            let name = until_nul(input.take(name_len, "a name")?);
            let name = String::from_utf8_lossy(name).into_owned();
            let calls = input.int("a number of calls")?;
            let n_values = input.len("a number of values")?;
            if n_values == 0 {
                return Err(bad(format!("entry {entry} at byte {at} has no values")));
            }
            let data_len = n_values
                .checked_mul(4)
                .ok_or_else(|| bad(format!("entry {entry} at byte {at} has too many values")))?;
            let data = input.take(data_len, "values")?;
            // As C converts the count for the division.
            #[allow(clippy::cast_precision_loss)]
            let divisor = if calls > 0 { calls as f32 } else { 1.0 };
            let values = data.as_chunks::<4>().0.iter();
            let weights: Arc<[f32]> = values.map(|b| f32::from_le_bytes(*b) / divisor).collect();
            matrix.entries.insert(name, weights);
        }
        // Older files end here.
        if let Ok(chunks) = input.int("") {
            matrix.chunks = chunks.into();
            let dataset = input.len("").ok().and_then(|len| input.take(len, "").ok());
            if let Some(dataset) = dataset.filter(|text| !text.is_empty()) {
                matrix.datasets = vec![Bytes::copy_from_slice(until_nul(dataset))];
            }
        }
        matrix.finite()
    }

    /// Takes the matrix from an opened GGUF file.
    pub fn from_model(file: &Path, model: &Model, limits: &Limits) -> Result<Self> {
        let key = |key: &str| {
            let missing = || {
                bad(format!(
                    "the file has no key {key}; is it an importance matrix?"
                ))
            };
            model.metadata.get(ns::GGUF, key).ok_or_else(missing)
        };
        let datasets = match key("imatrix.datasets")? {
            MetaValue::Array(Array::Str(list)) => list.clone(),
            _ => Vec::new(),
        };
        let chunks = key("imatrix.chunk_count")?.as_u64().unwrap_or(0);
        key("imatrix.chunk_size")?;
        let mut matrix = Self {
            file: file_name(file),
            datasets,
            chunks: chunks.try_into().unwrap_or(i64::MAX),
            ..Self::default()
        };
        for tensor in &model.tensors {
            if let Some(name) = tensor.name.strip_suffix(".counts")
                && model.tensors.by_name(&format!("{name}.in_sum2")).is_none()
            {
                Err(bad(format!("{name} has counts but no sums")))?;
            }
            let Some(name) = tensor.name.strip_suffix(".in_sum2") else {
                continue;
            };
            let counts = model.tensors.by_name(&format!("{name}.counts"));
            let counts = counts.ok_or_else(|| bad(format!("{name} has sums but no counts")))?;
            let weights = normalized(&floats(tensor, limits)?, &floats(counts, limits)?);
            let none = || bad(format!("{name} has no counts"));
            matrix
                .entries
                .insert(name.to_owned(), weights.ok_or_else(none)?);
        }
        if matrix.entries.is_empty() {
            Err(bad("the file has no tensors NAME.in_sum2"))?;
        }
        Ok(matrix.finite()?)
    }

    fn finite(self) -> Result<Self, RecipeError> {
        for (name, weights) in &self.entries {
            if let Some(i) = weights.iter().position(|weight| !weight.is_finite()) {
                let found = weights.get(i).copied().unwrap_or_default();
                return Err(bad(format!("weight {i} of {name} is {found}")));
            }
        }
        Ok(self)
    }

    /// `--include-weights` and `--exclude-weights`: keeps the entries whose names contain one of
    /// `include` (all, if there is none) and none of `exclude`.
    #[must_use]
    pub fn filtered(mut self, include: &[String], exclude: &[String]) -> Self {
        let any = |name: &str, parts: &[String]| parts.iter().any(|part| name.contains(part));
        self.entries
            .retain(|name, _| !any(name, exclude) && (include.is_empty() || any(name, include)));
        self
    }

    /// Whether it has no entry: then it is as good as none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many tensors it has weights for.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The weights for a tensor.
    pub fn get(&self, name: &str) -> Option<&Arc<[f32]>> {
        self.entries.get(name)
    }

    /// The names it has weights for, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// What the output says of it, in order and in the types `llama-quantize` writes.
    pub(crate) fn metadata(&self) -> Vec<(&'static str, MetaValue)> {
        let text = |text: &Bytes| MetaValue::Str(text.slice(..text.len().min(TEXT_MAX)));
        let number = |n: u64| MetaValue::U32(n.try_into().unwrap_or(u32::MAX));
        let mut pairs = vec![("quantize.imatrix.file", text(&self.file))];
        if let Some(dataset) = self.datasets.first() {
            pairs.push(("quantize.imatrix.dataset", text(dataset)));
        }
        pairs.push(("quantize.imatrix.entries_count", number(self.len() as u64)));
        if self.chunks > 0 {
            let chunks = number(self.chunks.unsigned_abs());
            pairs.push(("quantize.imatrix.chunks_count", chunks));
        }
        pairs
    }
}

fn file_name(file: &Path) -> Bytes {
    Bytes::copy_from_slice(file.as_os_str().as_encoded_bytes())
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Sums divided by their counts; `None` without counts.
fn normalized(sums: &[f32], counts: &[f32]) -> Option<Arc<[f32]>> {
    let columns = sums.len().checked_div(counts.len())?;
    let mut weights = vec![0.0; sums.len()];
    if columns == 0 {
        return Some(weights.into());
    }
    let parts = weights.chunks_mut(columns).zip(sums.chunks(columns));
    for ((weights, sums), count) in parts.zip(counts) {
        let count = count.round();
        for (weight, sum) in weights.iter_mut().zip(sums) {
            // Nothing was routed to this expert: every column counts the same.
            *weight = if count > 0.0 { sum / count } else { 1.0 };
        }
    }
    Some(weights.into())
}

/// All numbers of a small F32 tensor.
fn floats(tensor: &Tensor, limits: &Limits) -> Result<Vec<f32>> {
    if tensor.dtype() != DType::F32 {
        let found = tensor.dtype();
        Err(bad(format!(
            "tensor {:?} is {found}, expected F32",
            tensor.name
        )))?;
    }
    let what = "bytes of a tensor of an importance matrix";
    Limits::check(what, tensor.byte_len(), limits.header_bytes)?;
    let bytes = tensor.read_all()?;
    Ok(bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|b| f32::from_le_bytes(*b))
        .collect())
}

/// Reads the legacy format from the front.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], RecipeError> {
        let end = self.at.checked_add(len);
        let part = end.and_then(|end| self.bytes.get(self.at..end));
        let part = part.ok_or_else(|| {
            let have = self.bytes.len();
            bad(format!(
                "{what} of {len} bytes at byte {} of {have}: cut short",
                self.at
            ))
        })?;
        self.at += len;
        Ok(part)
    }

    fn int(&mut self, what: &str) -> Result<i32, RecipeError> {
        let bytes = self.take(4, what)?;
        Ok(bytes
            .first_chunk()
            .map_or(0, |bytes| i32::from_le_bytes(*bytes)))
    }

    /// A number that counts something.
    fn len(&mut self, what: &str) -> Result<usize, RecipeError> {
        let at = self.at;
        let len = self.int(what)?;
        usize::try_from(len).map_err(|_| bad(format!("{what} at byte {at} is {len}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ir::ModelBuilder;

    fn int(n: i32) -> [u8; 4] {
        n.to_le_bytes()
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    fn legacy() -> Vec<u8> {
        let mut file = Vec::new();
        file.extend(int(2));
        for (name, calls, values) in [("a.weight", 2, [2.0, 4.0]), ("b", 0, [3.0, 5.0])] {
            file.extend(int(i32::try_from(name.len()).unwrap()));
            file.extend(name.as_bytes());
            file.extend(int(calls));
            file.extend(int(2));
            file.extend(floats(&values));
        }
        file
    }

    #[test]
    fn legacy_sums_are_divided_by_calls() {
        let mut file = legacy();
        let bare = Imatrix::from_legacy(Path::new("x.dat"), &file).unwrap();
        assert_eq!(&bare.get("a.weight").unwrap()[..], [1.0, 2.0]);
        assert_eq!(&bare.get("b").unwrap()[..], [3.0, 5.0]);
        assert_eq!(bare.metadata().len(), 2);
        file.extend(int(7));
        file.extend(int(4));
        file.extend(b"text");
        let full = Imatrix::from_legacy(Path::new("x.dat"), &file).unwrap();
        assert_eq!(
            full.metadata(),
            [
                ("quantize.imatrix.file", MetaValue::text("x.dat")),
                ("quantize.imatrix.dataset", MetaValue::text("text")),
                ("quantize.imatrix.entries_count", MetaValue::U32(2)),
                ("quantize.imatrix.chunks_count", MetaValue::U32(7)),
            ]
        );
        let only = full.clone().filtered(&["weight".to_owned()], &[]);
        assert_eq!(only.names().collect::<Vec<_>>(), ["a.weight"]);
        assert!(
            full.filtered(&[], &["a".to_owned(), "b".to_owned()])
                .is_empty()
        );
    }

    #[test]
    fn damaged_legacy_files_are_errors() {
        let file = legacy();
        for cut in 0..file.len() {
            assert!(
                Imatrix::from_legacy(Path::new("x"), &file[..cut]).is_err(),
                "{cut}"
            );
        }
        let mut huge = file.clone();
        huge[4..8].copy_from_slice(&int(i32::MAX));
        assert!(Imatrix::from_legacy(Path::new("x"), &huge).is_err());
        huge[4..8].copy_from_slice(&int(-1));
        assert!(Imatrix::from_legacy(Path::new("x"), &huge).is_err());
        let mut nan = file;
        let last = nan.len() - 4;
        nan[last..].copy_from_slice(&f32::NAN.to_le_bytes());
        assert!(Imatrix::from_legacy(Path::new("x"), &nan).is_err());
    }

    #[test]
    fn gguf_sums_are_divided_by_the_counts_of_each_expert() {
        let strings = |list: &[&'static str]| {
            MetaValue::Array(Array::Str(
                list.iter()
                    .map(|s| Bytes::from_static(s.as_bytes()))
                    .collect(),
            ))
        };
        let builder = ModelBuilder::new()
            .tensor(
                "e.in_sum2",
                DType::F32,
                [2, 2],
                floats(&[2.0, 4.0, 6.0, 8.0]),
            )
            .tensor("e.counts", DType::F32, [2, 1], floats(&[2.0, 0.0]))
            .metadata(ns::GGUF, "imatrix.datasets", strings(&["t", "u"]))
            .metadata(ns::GGUF, "imatrix.chunk_count", MetaValue::U32(3));
        let limits = Limits::default();
        let name = Path::new("m.gguf");
        let model = builder.build().unwrap();
        assert!(Imatrix::from_model(name, &model, &limits).is_err());
        let mut model = model;
        model
            .metadata
            .set(ns::GGUF, "imatrix.chunk_size", MetaValue::U32(512));
        let matrix = Imatrix::from_model(name, &model, &limits).unwrap();
        assert_eq!(&matrix.get("e").unwrap()[..], [1.0, 2.0, 1.0, 1.0]);
        assert_eq!(matrix.metadata().len(), 4);
        assert_eq!(normalized(&[1.0], &[]), None);
        assert_eq!(&normalized(&[1.0], &[1.0, 1.0]).unwrap()[..], [0.0]);
    }
}
