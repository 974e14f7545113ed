//! The containers PyTorch has written, each opened to one [`Document`].
//!
//! | form | told by |
//! |---|---|
//! | zip | `PK\x03\x04`, or an end record at the end |
//! | TorchScript | a zip with `constants.pkl` |
//! | legacy | a first pickle that is the magic number |
//! | tar | a tar header with members `storages`, `tensors`, `pickle` |
//! | pickle | a pickle that runs |

mod archive;
pub(crate) mod inflate;
mod legacy;
mod members;
pub(crate) mod script;
mod tar;
pub(crate) mod zip;

pub(crate) use legacy::{SLOTS, StorageId, is_magic, run_stream, storage_id};
pub use members::begins_tar;
pub(crate) use members::{Listing, is_tar, members};
pub(crate) use tar::run_slots as run_tar_slots;

#[cfg(test)]
pub(crate) mod testing;

use crate::error::CkptError;
use crate::pickle::{self, Budget};
use crate::wire::{self, StorageClass};
use inflate::Pool;
use ir::{ByteOrder, Objects, Region, Result};
use script::Script;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// What kind of container a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Zip,
    TorchScript,
    Legacy,
    Tar,
    Pickle,
}

impl Form {
    /// Its name for people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zip => "zip",
            Self::TorchScript => "TorchScript",
            Self::Legacy => "legacy stream",
            Self::Tar => "tar",
            Self::Pickle => "pickle",
        }
    }
}

/// One object tree and the storages it names.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) form: Form,
    /// Format version and pickle protocol, in words.
    pub(crate) version: String,
    /// The name of the pickle, for messages.
    pub(crate) slot: String,
    pub(crate) objects: Objects,
    pub(crate) byte_order: ByteOrder,
    pub(crate) storages: Storages,
    /// Classes of TorchScript code.
    pub(crate) script: Option<Script>,
    /// `constants.pkl` of a TorchScript archive.
    pub(crate) constants: Option<Box<Document>>,
    pub(crate) notes: Vec<String>,
}

/// Where a document's storages are.
#[derive(Debug)]
pub(crate) enum Storages {
    /// Entries of an archive under a folder.
    Entries {
        archive: Arc<zip::Archive>,
        /// `archive/data/`.
        folder: String,
        pool: Pool,
        /// Those found already.
        found: HashMap<String, Region>,
    },
    /// Parts of a stream.
    Parts(HashMap<String, Region>),
    /// Tensors of the old tar form, by key.
    Tensors(HashMap<i64, tar::TarTensor>),
    /// None: a plain pickle.
    None,
}

impl Storages {
    /// The bytes of the storage `key` of `numel` elements.
    pub(crate) fn get(&mut self, key: &str, class: StorageClass, numel: u64) -> Result<Region> {
        let place = || format!("storage {key:?}");
        let region = match self {
            Self::Entries {
                archive,
                folder,
                pool,
                found,
            } => {
                if let Some(region) = found.get(key) {
                    region.clone()
                } else {
                    if zip::Archive::unsafe_name(key.as_bytes()).is_some() {
                        return Err(
                            CkptError::container(place(), "its key is no entry name").into()
                        );
                    }
                    let name = format!("{folder}{key}");
                    let entry = archive.find(name.as_bytes())?.ok_or_else(|| {
                        CkptError::cut(place(), format!("the archive has no entry {name}"))
                    })?;
                    let region = archive.storage(entry, pool)?;
                    found.insert(key.to_owned(), region.clone());
                    region
                }
            }
            Self::Parts(parts) => parts
                .get(key)
                .cloned()
                .ok_or_else(|| CkptError::container(place(), "the file has no such storage"))?,
            Self::Tensors(_) | Self::None => {
                return Err(CkptError::container(
                    place(),
                    "a plain pickle has no storages: this is a part of a checkpoint",
                )
                .into());
            }
        };
        let wanted = numel.checked_mul(class.width());
        if wanted != Some(region.len()) {
            return Err(CkptError::container(
                place(),
                format!(
                    "{numel} elements of {} bytes are expected, it has {} bytes",
                    class.width(),
                    region.len()
                ),
            )
            .into());
        }
        Ok(region)
    }
}

/// Opens whatever container `region` holds.
pub(crate) fn open(region: &Region, budget: &mut Budget, scratch: &Path) -> Result<Document> {
    let head_len = usize::try_from(region.len()).unwrap_or(usize::MAX).min(512);
    let head = region.bytes(0, head_len)?;
    // A tar whose last member is a zip archive ends as one, too.
    if is_tar(&head) {
        return tar::open(region, budget);
    }
    if is_zip(region, &head)? {
        return archive::open(region, budget, scratch);
    }
    if head.is_empty() {
        return Err(CkptError::cut("", "the file is empty").into());
    }
    let first = pickle::run(region, 0, "pickle", budget);
    let legacy = is_magic(&first)
        || wire::is_legacy_magic(&head)
        || legacy::computes_magic(region, &first, budget);
    if legacy {
        return legacy::open(region, first, budget);
    }
    if let Some(error) = first.error {
        // Words begin as pickles of text opcodes do; a few objects are no accident.
        let sniffed =
            is_pickle_start(&head) || error.class() == ir::Class::Limit || first.objects.len() > 2;
        return Err(if sniffed {
            error
        } else {
            CkptError::NotACheckpoint {
                what: "neither a zip, a tar, nor a pickle".to_owned(),
            }
            .into()
        });
    }
    let mut notes = Vec::new();
    if first.end < region.len() {
        let n = region.len() - first.end;
        notes.push(format!("{n} bytes follow the pickle; they were not read"));
    }
    Ok(Document {
        form: Form::Pickle,
        version: format!("pickle protocol {}", first.protocol),
        slot: "pickle".to_owned(),
        objects: first.objects,
        byte_order: ByteOrder::Little,
        storages: Storages::None,
        script: None,
        constants: None,
        notes,
    })
}

/// Whether bytes begin as a pickle of protocol 2 and later does.
pub(crate) fn is_pickle_start(head: &[u8]) -> bool {
    matches!(head, [0x80, 0..=5, next, ..] if pickle::opcode::exists(*next))
}

/// Whether a file is a zip archive, also with something before it.
pub(crate) fn is_zip(region: &Region, head: &[u8]) -> Result<bool> {
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Ok(true);
    }
    // A legacy stream may end in any bytes, so only an end record that is whole counts.
    if is_pickle_start(head) {
        return Ok(false);
    }
    ends_as_zip(region)
}

/// Whether a file ends as a zip archive, whatever it begins with.
pub(crate) fn ends_as_zip(region: &Region) -> Result<bool> {
    ends_as_zip_within(region, region.len())
}

/// Whether the record that ends a zip archive is among the last `most` bytes of a file.
pub(crate) fn ends_as_zip_within(region: &Region, most: u64) -> Result<bool> {
    let len = region.len().min(65_557).min(most);
    let tail = region.bytes(region.len() - len, usize::try_from(len).unwrap_or(0))?;
    Ok(zip::has_end(&tail)
        && (zip::Archive::read(region, &ir::Limits::default()).is_ok()
            || zip::has_directory(region)))
}
