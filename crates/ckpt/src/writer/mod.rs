//! Writes checkpoints that `torch.load` opens, with `weights_only=True` and with `mmap=True`.
//!
//! A flat state dict comes out as `torch.save` of the same tensors writes it, byte for byte but
//! for `.data/serialization_id`, which there depends on the C++ library's string hash.

mod error;
mod notes;
mod pickle;
mod rebuild;
mod state;
mod tree;
mod zip;

pub use error::WriteError;

use bytes::Bytes;
use ir::shard::{Shard, render_index, shard_stem, split};
use ir::{
    Aliasing, Body, Capabilities, Class, Context, Metadata, MetadataKinds, Model, Output, Packing,
    Record, Report, Result, Tensor, TensorId, Writer,
};
use rebuild::{Storages, has_dtype};
use std::ffi::OsStr;
use std::path::Path;
use zip::{ALIGNMENT, Archive, Content};

/// The writer, for the registry.
pub static WRITER: CkptWriter = CkptWriter;

/// Writes a zip checkpoint: one file, or a set of shards with its index.
///
/// With an object tree ([`Model::objects`]) the tree is written again, tensors in their places;
/// it must hold every tensor of the table. Without one the file holds an `OrderedDict` of the
/// tensors under their names. Tied tensors share one storage.
#[derive(Debug, Clone, Copy)]
pub struct CkptWriter;

static CAPABILITIES: Capabilities = Capabilities {
    dtype: has_dtype,
    max_rank: None,
    max_name_bytes: None,
    graph: false,
    objects: true,
    aliasing: Aliasing::Native,
    metadata: MetadataKinds::Typed,
    shards: true,
    packing: Packing::Rows,
    ordered: true,
};

/// Digits of `.data/serialization_id`: two numbers of 64 bits.
const ID_DIGITS: usize = 20;

impl Writer for CkptWriter {
    fn capabilities(&self) -> &Capabilities {
        &CAPABILITIES
    }

    fn write(&self, model: &Model, out: &mut Output, cx: &Context) -> Result<Report> {
        let limit = cx.write.shard_size.unwrap_or(u64::MAX);
        let shards = split(&model.tensors, limit, Aliasing::Native)?;
        let count = shards.len();
        if count > 1 && tree_of(model).is_some() {
            return Err(WriteError::ShardedTree { count }.into());
        }
        let (stem, extension) = name_parts(out.target());
        let mut report = Report::default();
        let firsts = model.tensors.ties();
        let none = Metadata::new();
        let mut files = Vec::new();
        for (number, shard) in (1..).zip(&shards) {
            let stem = match count {
                1 => stem.clone(),
                _ => shard_stem(&stem, number, count),
            };
            // Of a set, the first file carries the metadata.
            let metadata = if number == 1 { &model.metadata } else { &none };
            let whole = plan(model, tree_of(model), &firsts, shard, &stem, metadata, cx);
            let planned = match whole {
                // A tree that cannot be written whole is left out as a whole, and told.
                Err(error) if tree_of(model).is_some() && error.class() != Class::Limit => {
                    let why = format!("{error}; the tensors are written alone");
                    let what = "the Python object tree";
                    report.add(Record::dropped("object-tree", what, why).flag("--key"));
                    plan(model, None, &firsts, shard, &stem, metadata, cx)?
                }
                planned => planned?,
            };
            files.push((format!("{stem}.{extension}"), planned));
        }
        let mut places = Vec::new();
        for ((name, planned), shard) in files.into_iter().zip(&shards) {
            let file = match count {
                1 => out.main_file()?,
                _ => out.side_file(&name)?,
            };
            report.tensors += planned.tensors;
            report.tensor_bytes = report.tensor_bytes.saturating_add(planned.tensor_bytes);
            let len = planned
                .archive
                .write(out.get(file)?, cx, serialization_id)?;
            report.file_bytes = report.file_bytes.saturating_add(len);
            let tensors = shard.tensors.iter().filter_map(|id| model.tensors.get(*id));
            places.extend(tensors.map(|tensor| (tensor.name.as_str(), name.clone())));
        }
        if count > 1 {
            let files = places.iter().map(|(tensor, file)| (*tensor, file.as_str()));
            let index = render_index(report.tensor_bytes, files);
            let number = out.side_file(&format!("{stem}.{extension}.index.json"))?;
            out.get(number)?.write_at(0, index.as_bytes())?;
            report.file_bytes = report.file_bytes.saturating_add(index.len() as u64);
        }
        Ok(report)
    }
}

/// `model` and `bin` of `folder/model.bin`.
fn name_parts(target: &Path) -> (String, String) {
    let text = |part: Option<&OsStr>| part.map(|part| part.to_string_lossy().into_owned());
    (
        text(target.file_stem()).unwrap_or_else(|| "model".to_owned()),
        text(target.extension()).unwrap_or_else(|| "bin".to_owned()),
    )
}

/// The top folder of an archive: the file's stem where that is ASCII, as in PyTorch.
fn prefix_of(stem: &str) -> String {
    let plain = !stem.is_empty()
        && stem
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'\\');
    let dots = stem.bytes().all(|b| b == b'.');
    if plain && !dots { stem } else { "archive" }.to_owned()
}

fn tree_of(model: &Model) -> Option<(&ir::Objects, ir::ObjectId)> {
    let objects = model.objects.as_ref()?;
    Some((objects, objects.root()?))
}

/// A file to be written, and what the report will say of it.
struct Planned<'a> {
    archive: Archive<'a>,
    tensors: u64,
    tensor_bytes: u64,
}

/// Lays out the archive of a shard; the whole model is the only shard where there is a tree.
fn plan<'a>(
    model: &'a Model,
    tree: Option<(&ir::Objects, ir::ObjectId)>,
    firsts: &'a [TensorId],
    shard: &Shard,
    stem: &str,
    metadata: &Metadata,
    cx: &Context,
) -> Result<Planned<'a>> {
    let mut storages = Storages::new(&model.tensors, firsts, &model.metadata);
    let pickle = if let Some((objects, root)) = tree {
        let pickle = tree::pickle_of(objects, root, &mut storages, &cx.limits)?;
        if let Some(Tensor { name, .. }) = storages.left_out() {
            return Err(WriteError::Unreached { name: name.clone() }.into());
        }
        pickle
    } else {
        state::pickle_of(&model.tensors, &shard.tensors, metadata, &mut storages)?
    };
    let mut archive = Archive::new(prefix_of(stem));
    let ready = |bytes: &'static [u8]| Content::Ready(Body::Bytes(Bytes::from_static(bytes)));
    archive.add("data.pkl", Content::Ready(Body::Bytes(pickle.into())))?;
    archive.add(".format_version", ready(b"1"))?;
    let alignment = Bytes::from(ALIGNMENT.to_string());
    archive.add(".storage_alignment", Content::Ready(Body::Bytes(alignment)))?;
    archive.add("byteorder", ready(b"little"))?;
    let mut tensor_bytes = 0u64;
    for (key, tensor) in storages.in_order().enumerate() {
        tensor_bytes = tensor_bytes.saturating_add(tensor.byte_len());
        archive.add(&format!("data/{key}"), Content::Ready(Body::Tensor(tensor)))?;
    }
    archive.add("version", ready(b"3\n"))?;
    archive.add(
        ".data/serialization_id",
        Content::Late(2 * ID_DIGITS as u64),
    )?;
    Ok(Planned {
        archive,
        tensors: shard.tensors.len() as u64,
        tensor_bytes,
    })
}

/// Forty digits that are the same for the same content: of the entries' names and lengths, and of
/// their checksums.
fn serialization_id(archive: &Archive<'_>, sums: &[u32]) -> Bytes {
    let mut names = Fnv::new();
    for (name, len) in archive.contents() {
        names.update(name.as_bytes());
        names.update(&[0]);
        names.update(&len.to_le_bytes());
    }
    let mut contents = Fnv::new();
    for sum in sums {
        contents.update(&sum.to_le_bytes());
    }
    format!("{:0ID_DIGITS$}{:0ID_DIGITS$}", names.0, contents.0).into()
}

/// FNV-1a: enough to tell two files apart, which is all the id is for.
struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests;
