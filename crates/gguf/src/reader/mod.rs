//! The reader: header in, views out.

mod cursor;
mod probe;
mod split;
mod survey;
mod swap;
mod tensors;
mod values;

pub(crate) use probe::probe;

use crate::wire::{
    ALIGNMENT_KEY, ARCHITECTURE_KEY, BARE_END, DEFAULT_ALIGNMENT, ID, MAGIC, MAX_IMAGE_NAME_LEN,
    SPLIT_COUNT, SPLIT_NO, VERSION, name_limit,
};
use crate::{GgufError, carry};
use bytes::Bytes;
use cursor::Cursor;
use ir::{
    ByteOrder, Context, Input, Limits, MetaValue, Model, Provenance, Reader, Record, Region,
    Result, Survey, Tensor, TensorSpec, TensorTable, View,
};
use std::fmt::Write as _;
use tensors::End;
pub(crate) use tensors::Info;
use values::Pair;

/// Reads GGUF: versions 1 to 3, either byte order, single files and split sets.
///
/// Keys come in the file's order with their exact types, in the namespaces that
/// `docs/formats/gguf.md` lists. Any shard of a set opens the whole set from the files beside it:
/// tensors in the order of the shards, keys of the first, without those that tell of the split.
/// For one shard alone there is [`open_shard`].
#[derive(Debug, Clone, Copy)]
pub struct GgufReader;

impl Reader for GgufReader {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        let file = File::read(input, &cx.limits)?;
        match split_count(&file.pairs) {
            count if count > 1 => split::open(input, file, count, cx),
            _ => model_of(vec![file], &cx.limits),
        }
    }

    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        survey::survey(self.open(input, cx))
    }
}

/// Opens one file as it is, also where it is a shard of a set: its own tensors and keys, those that
/// tell of the split included.
pub fn open_shard(input: &Input, cx: &Context) -> Result<Model> {
    model_of(vec![File::read(input, &cx.limits)?], &cx.limits)
}

/// One file, its header read and checked.
pub(crate) struct File {
    input: Input,
    region: Region,
    version: u32,
    order: ByteOrder,
    pub(crate) pairs: Vec<Pair>,
    odd_bools: Option<values::OddBools>,
    pub(crate) infos: Vec<Info>,
    /// Where the data section begins.
    pub(crate) start: u64,
    end: End,
}

impl File {
    pub(crate) fn read(input: &Input, limits: &Limits) -> Result<Self> {
        let region = input.file()?;
        read(input, region, region.len(), limits).map_err(|error| {
            something_else(region)
                .unwrap_or(error)
                .in_file(input.path())
        })
    }

    /// The file as it would be read with another header.
    pub(crate) fn with_header(&self, header: &Bytes, limits: &Limits) -> Result<Self> {
        let region = Region::memory(header.clone());
        read(&self.input, &region, self.region.len(), limits)
    }

    /// The alignment of its data.
    pub(crate) fn alignment(&self) -> Result<u64> {
        alignment(&self.pairs)
    }
}

/// Reads a header from a region that may end with it; the file has `len` bytes.
fn read(input: &Input, region: &Region, len: u64, limits: &Limits) -> Result<File> {
    let mut cursor = Cursor::new(region, limits);
    let found = cursor.magic()?;
    if found != MAGIC {
        return Err(GgufError::BadMagic { found }.into());
    }
    let version = version(&mut cursor)?;
    let n_tensors_at = cursor.position();
    let n_tensors = cursor.length("the number of tensors")?;
    let n_pairs_at = cursor.position();
    let n_pairs = cursor.length("the number of keys")?;
    if version == 1 && n_tensors == 0 && n_pairs == 0 {
        // Nobody wrote such a file; a later version marked as 1 reads so.
        return Err(GgufError::EmptyVersion1.into());
    }
    let least = tensors::least_len(cursor.wide);
    let n_tensors = cursor.check_count("the number of tensors", n_tensors_at, n_tensors, least)?;
    let least = values::least_len(cursor.wide);
    let n_pairs = cursor.check_count("the number of keys", n_pairs_at, n_pairs, least)?;
    let (pairs, odd_bools) = values::pairs(&mut cursor, n_pairs, limits)?;
    let alignment = alignment(&pairs)?;
    let infos = tensors::infos(&mut cursor, n_tensors, longest_name(&pairs), limits)?;
    let (start, end) = tensors::lay_out(&infos, cursor.position(), alignment, len)?;
    Ok(File {
        input: input.clone(),
        region: region.clone(),
        version,
        order: cursor.order,
        pairs,
        odd_bools,
        infos,
        start,
        end,
    })
}

/// Reads the version, and from it the byte order and the width of lengths.
fn version(cursor: &mut Cursor<'_>) -> Result<u32> {
    let little = cursor.u32("the version")?;
    let found = if little != 0 && little.trailing_zeros() >= 16 {
        cursor.order = ByteOrder::Big;
        little.swap_bytes()
    } else {
        little
    };
    cursor.wide = found != 1;
    match found {
        1..=VERSION => Ok(found),
        0 => Err(GgufError::BadVersion { found }.into()),
        _ => Err(GgufError::NewVersion { found }.into()),
    }
}

/// How long names may be: a shard after the first does not say what it is part of.
fn longest_name(pairs: &[Pair]) -> usize {
    let of = |wanted: &str| {
        pairs
            .iter()
            .find(|(key, _)| key == wanted)
            .map(|(_, value)| value)
    };
    match of(ARCHITECTURE_KEY) {
        None if of(SPLIT_NO).is_some() => MAX_IMAGE_NAME_LEN,
        architecture => name_limit(architecture.and_then(MetaValue::as_str)),
    }
}

/// The file's alignment.
fn alignment(pairs: &[Pair]) -> Result<u64> {
    let Some((key, value)) = pairs.iter().find(|(key, _)| key == ALIGNMENT_KEY) else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    match value {
        MetaValue::U32(n) if n.is_power_of_two() => Ok((*n).into()),
        other => Err(GgufError::BadValue {
            key: key.clone(),
            found: describe(other),
            expected: "a power of two of type u32",
        }
        .into()),
    }
}

/// A value for a message, with its type.
fn describe(value: &MetaValue) -> String {
    let kind = match value {
        MetaValue::U8(_) => "u8",
        MetaValue::I8(_) => "i8",
        MetaValue::U16(_) => "u16",
        MetaValue::I16(_) => "i16",
        MetaValue::U32(_) => "u32",
        MetaValue::I32(_) => "i32",
        MetaValue::U64(_) => "u64",
        MetaValue::I64(_) => "i64",
        MetaValue::F32(_) => "f32",
        MetaValue::F64(_) => "f64",
        MetaValue::Bool(_) => "bool",
        MetaValue::Str(_) => return "a string".to_owned(),
        MetaValue::Array(_) => return "an array".to_owned(),
    };
    format!("{value} of type {kind}")
}

/// How many shards the set of a file with these keys has; 0 and 1 are a file of its own.
fn split_count(pairs: &[Pair]) -> u64 {
    number(pairs, SPLIT_COUNT).unwrap_or(0)
}

/// The value of a key, if it is a number.
pub(crate) fn number(pairs: &[Pair], key: &str) -> Option<u64> {
    pairs.iter().find(|pair| pair.0 == key)?.1.as_u64()
}

/// The error that names what a file that is not GGUF is, where that can be told.
fn something_else(region: &Region) -> Option<ir::Error> {
    let head = usize::try_from(region.len()).unwrap_or(64).min(64);
    let head = region.bytes(0, head).ok()?;
    if head.starts_with(&MAGIC) {
        return None;
    }
    let (what, help) = match probe::old_ggml(&head) {
        Some(what) => (
            what,
            "Convert it with llama.cpp's convert_llama_ggml_to_gguf.py",
        ),
        None => ir::sniff(&head).map(|found| (found.what, found.help))?,
    };
    Some(GgufError::SomethingElse { what, help }.into())
}

/// The model of one file, or of the files of a set in order.
fn model_of(mut files: Vec<File>, limits: &Limits) -> Result<Model> {
    let pairs = files
        .first_mut()
        .map(|file| std::mem::take(&mut file.pairs));
    let stored: Vec<(&str, &TensorSpec)> = files
        .iter()
        .flat_map(|file| &file.infos)
        .map(|info| (info.name.as_str(), &info.spec))
        .collect();
    let restored = carry::restore(pairs.unwrap_or_default(), &stored, limits);
    let mut names = restored.tensors.into_iter();
    let mut tensors = TensorTable::new();
    for file in &files {
        let data = file.region.tail(file.start.min(file.region.len()))?;
        for (info, (name, shape)) in file.infos.iter().zip(&mut names) {
            let spec = TensorSpec::new(info.spec.dtype, shape);
            let tensor = tensor(name, spec, info, &data, file.order);
            let pushed = tensor.and_then(|tensor| tensors.push(tensor));
            pushed.map_err(|error| {
                error
                    .in_file(file.input.path())
                    .with_help("Two shards of a set hold it: they belong to different models")
            })?;
        }
    }
    Ok(Model {
        tensors,
        metadata: restored.metadata,
        provenance: provenance(&files),
        ..Model::default()
    })
}

fn tensor(
    name: String,
    spec: TensorSpec,
    info: &Info,
    data: &Region,
    order: ByteOrder,
) -> Result<Tensor> {
    let view = View {
        region: data.slice(info.rel_offset, info.len)?,
        offset: 0,
        strides: None,
        byte_order: order,
    };
    match spec.dtype {
        ir::DType::Block(block) if order == ByteOrder::Big => swap::tensor(name, spec, block, view),
        _ => Ok(Tensor::stored(name, spec, view)),
    }
}

fn provenance(files: &[File]) -> Provenance {
    let mut out = Provenance {
        format: ID,
        ..Provenance::default()
    };
    for file in files {
        let path = file.input.path();
        out.files.push((path.to_owned(), file.region.len()));
        if let End::Trailing(n) = file.end {
            let what = format!("{n} bytes after the last tensor");
            let why = format!("they belong to nothing in {}", path.display());
            out.records
                .push(Record::dropped("trailing-bytes", what, why));
        }
    }
    // The keys of other shards are not the model's.
    if let Some(odd) = files.first().and_then(|file| file.odd_bools.as_ref()) {
        let what = match odd.n {
            1 => format!("key {:?}", odd.key),
            n => format!("key {:?} and {} more", odd.key, n - 1),
        };
        let why = format!(
            "a bool of byte {}, expected 0 or 1; ggml reads it as true, which is written as 1",
            odd.byte
        );
        out.records.push(Record::changed("bool-byte", what, why));
    }
    if let Some(first) = files.first() {
        let order = match first.order {
            ByteOrder::Little => "little",
            ByteOrder::Big => "big",
        };
        out.version = format!("GGUF v{}, {order} endian", first.version);
        if files.len() > 1 {
            let _ = write!(out.version, ", {} shards", files.len());
        } else if first.end == End::Bare {
            let _ = write!(out.version, ", {BARE_END}");
        }
    }
    out
}

#[cfg(test)]
mod tests;
