//! The zip of `torch.save` and `torch.jit.save`. See [`crate::wire`].

use super::script::Script;
use super::{Document, Form, Pool, Storages, zip};
use crate::error::CkptError;
use crate::pickle::{self, Budget};
use ir::{ByteOrder, Class, Region, Result};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// The newest format version that PyTorch 2.15 reads (`kMaxSupportedFileFormatVersion`).
const VERSION_MAX: i64 = 10;
/// Bytes of the small text entries: `version`, `byteorder`.
const SMALL_TEXT: u64 = 64;
/// Bytes of TorchScript code read for its class declarations.
const CODE: u64 = 16 << 20;

/// Where the records of a checkpoint lie within an archive.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The top folder with its slash; empty where there is none.
    pub(crate) top: String,
    /// The entry `data.pkl`.
    pub(crate) object: usize,
    /// The entry `constants.pkl`.
    pub(crate) constants: Option<usize>,
}

impl Layout {
    /// Finds the records: in the folder of the archive's first entry, as torch does, or in the
    /// only folder that has a `data.pkl`.
    pub(crate) fn find(archive: &zip::Archive) -> Result<Self> {
        let first = String::from_utf8_lossy(archive.raw_name(0)).into_owned();
        let top = first.split_once('/').map_or("", |(top, _)| top);
        let mut roots: Vec<(usize, String)> = Vec::new();
        for entry in 0..archive.len() {
            let name = archive.raw_name(entry);
            let Some(folder) = name.strip_suffix(b"data.pkl") else {
                continue;
            };
            let shallow = folder.is_empty()
                || folder.iter().position(|&b| b == b'/') == folder.len().checked_sub(1);
            if shallow {
                let folder = String::from_utf8_lossy(folder).into_owned();
                if !roots.iter().any(|(_, known)| *known == folder) {
                    roots.push((entry, folder));
                }
            }
        }
        let top = match roots.as_slice() {
            [] => {
                return Err(CkptError::NotACheckpoint {
                    what: format!(
                        "a zip archive without data.pkl (its first entry is {:?})",
                        archive.name(0)
                    ),
                }
                .into());
            }
            [(_, only)] => only.clone(),
            [(_, one), (_, two), ..] => {
                let what = format!(
                    "two folders with a data.pkl, {one:?} and {two:?}: torch reads {top:?}, other \
                     readers another"
                );
                return Err(CkptError::container("", what).into());
            }
        };
        if let Some(what) = zip::Archive::unsafe_name(top.as_bytes()) {
            return Err(CkptError::container(format!("entry {top}data.pkl"), what).into());
        }
        let find = |name: &str| archive.find(format!("{top}{name}").as_bytes());
        let object = find("data.pkl")?.ok_or_else(|| {
            CkptError::container(format!("entry {top}data.pkl"), "it cannot be found")
        })?;
        Ok(Self {
            object,
            constants: find("constants.pkl")?,
            top,
        })
    }
}

/// Opens a zip checkpoint.
pub(super) fn open(region: &Region, budget: &mut Budget, scratch: &Path) -> Result<Document> {
    let limits = budget.limits().clone();
    let archive = Arc::new(zip::Archive::read(region, &limits)?);
    if archive.len() == 0 {
        return Err(CkptError::NotACheckpoint {
            what: "a zip archive of nothing".to_owned(),
        }
        .into());
    }
    if let Some(parts) = zip::chain(region, &limits) {
        return Err(CkptError::Unsupported {
            place: String::new(),
            what: format!(
                "{} archives one behind the other, as torch.distributed.checkpoint writes them",
                parts.len()
            ),
            help: "PyTorch makes one checkpoint of its folder: python -m \
                   torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE",
        }
        .into());
    }
    let layout = Layout::find(&archive)?;
    archive.check_honest()?;
    let text = |name: &str| -> Result<Option<Vec<u8>>> {
        let Some(entry) = archive.find(format!("{}{name}", layout.top).as_bytes())? else {
            return Ok(None);
        };
        let size = archive.size(entry);
        if size > SMALL_TEXT {
            let what = format!("{size} bytes where a word was expected");
            return Err(CkptError::container(archive.place(entry), what).into());
        }
        let region = archive.small(entry, &limits)?;
        let len = usize::try_from(region.len()).unwrap_or(0);
        Ok(Some(region.bytes(0, len)?.to_vec()))
    };
    let byte_order = match text("byteorder")?.as_deref() {
        None | Some(b"little") => ByteOrder::Little,
        Some(b"big") => ByteOrder::Big,
        Some(other) => {
            let what = format!(
                "byte order `{}` is neither little nor big",
                other.escape_ascii()
            );
            return Err(
                CkptError::container(format!("entry {}byteorder", layout.top), what).into(),
            );
        }
    };
    // Told only of an archive that is sound otherwise: what is wrong with its pickles says more.
    let version = match version_entry(&archive, &layout.top) {
        Some(name) => {
            let text = text(&name)?.unwrap_or_default();
            format_version(&format!("{}{name}", layout.top), &text)
        }
        None => Err(no_version(&layout.top)),
    };
    let version = match version {
        Err(error) if error.class() == Class::Unsupported => return Err(error),
        version => version,
    };
    let shown = version
        .as_ref()
        .map_or_else(|_| "unknown".to_owned(), i64::to_string);
    let run = |entry: usize, budget: &mut Budget| {
        let region = archive.small(entry, &limits)?;
        let mut outcome = pickle::run(&region, 0, &archive.place(entry), budget);
        match outcome.error.take() {
            Some(error) => Err(error),
            None => Ok((outcome, region.len())),
        }
    };
    let document = |entry: usize, folder: &str, budget: &mut Budget| -> Result<Document> {
        let (outcome, len) = run(entry, budget)?;
        let mut notes = Vec::new();
        if outcome.end < len {
            let place = archive.place(entry);
            notes.push(format!(
                "{} bytes follow the pickle of {place}",
                len - outcome.end
            ));
        }
        let form = if layout.constants.is_some() {
            Form::TorchScript
        } else {
            Form::Zip
        };
        Ok(Document {
            form,
            version: format!(
                "{}, format version {shown}, pickle protocol {}",
                form.name(),
                outcome.protocol
            ),
            slot: archive.place(entry),
            objects: outcome.objects,
            byte_order,
            storages: Storages::Entries {
                archive: Arc::clone(&archive),
                folder: format!("{}{folder}/", layout.top),
                pool: Pool::new(scratch.to_owned(), &limits),
                found: HashMap::new(),
            },
            script: None,
            constants: None,
            notes,
        })
    };
    let mut out = document(layout.object, "data", budget)?;
    if let Some(entry) = layout.constants {
        out.script = Some(read_code(&archive, &layout.top, &limits)?);
        out.constants = Some(Box::new(document(entry, "constants", budget)?));
    }
    version?;
    in_one_folder(&archive, &layout)?;
    Ok(out)
}

fn no_version(top: &str) -> ir::Error {
    let what = "the archive has no entry `version`, expected one with the format version (1 to 10)";
    let (entry, what) = (format!("entry {top}version"), what.to_owned());
    CkptError::NoLoader { entry, what }.into()
}

/// The entry of the format version that torch reads, without the top folder. It minds no case.
fn version_entry(archive: &zip::Archive, top: &str) -> Option<String> {
    [".data/version", "version"].into_iter().find_map(|name| {
        if !archive.named(format!("{top}{name}").as_bytes()).is_empty() {
            return Some(name.to_owned());
        }
        (0..archive.len()).find_map(|entry| {
            let raw = archive.raw_name(entry).strip_prefix(top.as_bytes())?;
            let same = raw.eq_ignore_ascii_case(name.as_bytes());
            same.then(|| String::from_utf8_lossy(raw).into_owned())
        })
    })
}

/// The format version, read as torch reads it: C's `stoull`, which skips white space, takes a sign and
/// leaves what follows the digits, into an `int64_t`.
fn format_version(name: &str, text: &[u8]) -> Result<i64> {
    let place = || format!("entry {name}");
    let word = text.trim_ascii_start();
    let (negative, digits) = match word.split_first() {
        Some((b'-', rest)) => (true, rest),
        Some((b'+', rest)) => (false, rest),
        _ => (false, word),
    };
    let len = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let number = digits
        .get(..len)
        .and_then(|it| std::str::from_utf8(it).ok());
    let number = number.and_then(|it| it.parse::<u64>().ok());
    let Some(number) = number else {
        let what = format!(
            "format version `{}`, expected a number from 1 to {VERSION_MAX}",
            text.escape_ascii()
        );
        return Err(CkptError::NoLoader {
            entry: place(),
            what,
        }
        .into());
    };
    let number = if negative {
        number.wrapping_neg()
    } else {
        number
    }
    .cast_signed();
    if number < 1 {
        let what = format!("format version {number}, expected 1 to {VERSION_MAX}");
        return Err(CkptError::NoLoader {
            entry: place(),
            what,
        }
        .into());
    }
    if number > VERSION_MAX {
        return Err(CkptError::Unsupported {
            place: place(),
            what: format!("format version {number}, PyTorch reads up to {VERSION_MAX}"),
            help: "A newer weightbridge may know it",
        }
        .into());
    }
    Ok(number)
}

/// Whether the entries lie in one folder, as torch asks: all of `torch.load`'s, and of a TorchScript
/// archive, whose other entries `torch.jit.load` does not look at, the first.
fn in_one_folder(archive: &zip::Archive, layout: &Layout) -> Result<()> {
    let asked = if layout.constants.is_some() {
        1
    } else {
        archive.len()
    };
    for entry in 0..asked {
        let top = &layout.top;
        let what = if top.is_empty() {
            "it lies in no folder, expected all entries in one".to_owned()
        } else if !archive.raw_name(entry).starts_with(top.as_bytes()) {
            format!("it lies outside the archive's folder, expected a name below {top}")
        } else {
            continue;
        };
        let entry = archive.place(entry);
        return Err(CkptError::NoLoader { entry, what }.into());
    }
    Ok(())
}

/// Reads the class declarations of all code entries.
fn read_code(archive: &zip::Archive, top: &str, limits: &ir::Limits) -> Result<Script> {
    let mut script = Script::default();
    let folder = format!("{top}code/");
    let mut read = 0u64;
    for entry in 0..archive.len() {
        let raw = archive.raw_name(entry);
        let Some(module) = raw
            .strip_prefix(folder.as_bytes())
            .and_then(|name| name.strip_suffix(b".py"))
        else {
            continue;
        };
        let module = String::from_utf8_lossy(module).replace('/', ".");
        read = read.saturating_add(archive.size(entry));
        ir::Limits::check("bytes of TorchScript code", read, CODE)?;
        let region = archive.small(entry, limits)?;
        let len = usize::try_from(region.len()).unwrap_or(0);
        let text = region.bytes(0, len)?;
        script.read(&module, &String::from_utf8_lossy(&text));
    }
    Ok(script)
}
