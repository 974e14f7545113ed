//! Tensor data in files beside the model.
//!
//! `location` is a path relative to the model's folder, with `/` between its parts. It comes from a
//! stranger, and loaders have been made to read secrets by it: through `..` (CVE-2022-25882,
//! CVE-2024-27318), symbolic links (CVE-2026-27489, CVE-2026-34447) and hard links
//! (CVE-2026-34446). So its text must be plain names, and the file is opened step by step below the
//! folder without following links.

use super::state::State;
use crate::OnnxError;
use crate::wire::MAX_FILES;
use ir::{Checksum, Digest, Payload, Places, Region, Result, TensorSpec, TensorTable};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

/// Keys that the format knows. `basepath` is set in memory by the reference library and means
/// nothing in a file.
const KNOWN: [&str; 5] = ["location", "offset", "length", "checksum", "basepath"];

/// The data files of a model.
#[derive(Debug)]
pub(super) struct Externals {
    /// The model's folder; `None` for a model that is no file.
    folder: Option<PathBuf>,
    places: Places,
    /// The tensors that stand for data, by their names, of a graph that was carried without it.
    table: Option<TensorTable>,
    open: HashMap<String, Region>,
    /// The files, in the order they were first named.
    pub(super) files: Vec<(PathBuf, u64)>,
    pub(super) checksums: Vec<Checksum>,
}

impl Externals {
    /// Those beside a model. What comes from a stream or an archive has a name and no folder.
    pub(super) fn beside(model: Option<&Path>, places: &Places) -> Self {
        let model = model.filter(|path| places.is_file(path));
        Self {
            folder: model.map(|path| path.parent().unwrap_or(Path::new("")).to_owned()),
            places: places.clone(),
            ..Self::among(None)
        }
    }

    /// No files: the data are these tensors.
    pub(super) fn among(table: Option<TensorTable>) -> Self {
        Self {
            folder: None,
            places: Places::default(),
            table,
            open: HashMap::new(),
            files: Vec::new(),
            checksums: Vec::new(),
        }
    }

    /// The data of a tensor that is among those given; none where data lie in files.
    pub(super) fn given(
        &self,
        entries: &[(String, String)],
        spec: &TensorSpec,
    ) -> Result<Option<Payload>> {
        let Some(table) = &self.table else {
            return Ok(None);
        };
        let name = entries.iter().find(|(key, _)| key == "location");
        let name = name.map_or("", |(_, name)| name);
        let shown = |spec: &TensorSpec| format!("{} {}", spec.dtype, spec.shape);
        let tensor = table
            .by_name(name)
            .ok_or_else(|| OnnxError::Contradiction {
                what: format!(
                    "the graph wants a tensor {name:?} of {}, which is not there",
                    shown(spec)
                ),
            })?;
        if tensor.spec != *spec {
            return Err(OnnxError::Changed {
                name: name.to_owned(),
                wanted: shown(spec),
                found: shown(&tensor.spec),
            }
            .into());
        }
        Ok(Some(tensor.payload.clone()))
    }

    fn file(&mut self, location: &str, limit: u64) -> Result<Region> {
        if let Some(region) = self.open.get(location) {
            return Ok(region.clone());
        }
        check(location).map_err(|why| bad(location, why))?;
        let Some(folder) = &self.folder else {
            let what = "its data lies beside the model, which is a stream and has no folder";
            return Err(OnnxError::Unsupported { what }.into());
        };
        ir::Limits::check("files of tensor data", self.open.len() as u64 + 1, limit)?;
        let path = folder.join(location);
        let region = self.places.region_beneath(folder, Path::new(location));
        let region = region.map_err(|error| {
            let Some(ir::Fault::Io { source, .. }) = error.downcast_ref() else {
                return error;
            };
            match (source.kind(), source.raw_os_error()) {
                (io::ErrorKind::PermissionDenied, None) => bad(location, source.to_string()),
                (io::ErrorKind::NotFound, _) => OnnxError::NoDataFile { path: path.clone() }.into(),
                _ => error,
            }
        })?;
        self.files.push((path, region.len()));
        self.open.insert(location.to_owned(), region.clone());
        Ok(region)
    }
}

/// Most bytes of a location, and of one name in it: what systems take.
const LOCATION: usize = 4096;
const NAME: usize = 255;
/// How much of a location a message shows.
const SHOWN: usize = 200;

fn bad(location: &str, why: String) -> ir::Error {
    let mut shown = location.chars();
    let mut location: String = shown.by_ref().take(SHOWN).collect();
    if shown.next().is_some() {
        location.push('…');
    }
    OnnxError::BadLocation { location, why }.into()
}

/// Whether a location is plain names with `/` between them.
fn check(location: &str) -> Result<(), String> {
    let why = if location.is_empty() {
        "it is empty"
    } else if location.contains('\0') {
        "it holds a NUL, where loaders cut it"
    } else if location.starts_with(['/', '\\']) || location.get(1..2) == Some(":") {
        "it is an absolute path"
    } else if location.split(['/', '\\']).any(|part| part == "..") {
        "it leaves the model's folder"
    } else if matches!(location.rsplit('/').next(), Some("" | ".")) {
        "it names a folder"
    } else if location.len() > LOCATION || location.split('/').any(|part| part.len() > NAME) {
        "no system has files of so long a name"
    } else if cfg!(windows) && location.contains('\\') {
        "it holds a backslash"
    } else {
        return Ok(());
    };
    Err(why.to_owned())
}

/// A number of bytes in plain digits: some parsers take signs, spaces and digits of other scripts.
fn number(key: &'static str, value: &str) -> Result<u64> {
    let plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = plain.then(|| value.parse().ok()).flatten();
    number.ok_or_else(|| {
        let value = value.to_owned();
        OnnxError::BadExternal { key, value }.into()
    })
}

/// The data of a tensor that takes `expected` bytes.
pub(super) fn resolve(
    state: &mut State<'_>,
    entries: &[(String, String)],
    expected: u64,
) -> Result<Region> {
    let get = |key: &'static str| {
        let mut values = entries.iter().filter(|(k, _)| k == key).map(|(_, v)| v);
        let first = values.next();
        if values.next().is_some() {
            let what = format!("{key} of its external data is there twice");
            return Err(ir::Error::from(OnnxError::Contradiction { what }));
        }
        Ok(first)
    };
    for (key, _) in entries
        .iter()
        .filter(|(key, _)| !KNOWN.contains(&key.as_str()))
    {
        let note = format!("external data has a key {key:?}, which the format does not know");
        if !state.notes.contains(&note) && state.notes.len() < 100 {
            state.notes.push(note);
        }
    }
    let location = get("location")?.ok_or(OnnxError::Missing {
        what: "the location of external data",
    })?;
    let offset = get("offset")?.map_or(Ok(0), |value| number("offset", value))?;
    let length = get("length")?
        .map(|value| number("length", value))
        .transpose()?;
    let limit = state.limits.entries.min(MAX_FILES);
    let file = state.external.file(location, limit)?;
    if let Some(found) = length.filter(|found| *found != expected) {
        let what = format!(
            "its external data has a length of {found}, its type and shape take {expected} bytes"
        );
        return Err(OnnxError::Contradiction { what }.into());
    }
    let beyond = OnnxError::BeyondFile {
        location: location.clone(),
        offset,
        wanted: expected,
        len: file.len(),
    };
    let inside = offset
        .checked_add(expected)
        .is_some_and(|end| end <= file.len());
    if !inside {
        return Err(beyond.into());
    }
    if let Some(text) = get("checksum")?.filter(|text| !text.is_empty()) {
        let sum = sha1(text).ok_or_else(|| OnnxError::BadExternal {
            key: "checksum",
            value: text.clone(),
        })?;
        let digest = Digest::Sha1(sum);
        let place = format!("external data {location:?}");
        let sums = &mut state.external.checksums;
        let known = |other: &Checksum| other.place == place && other.digest == digest;
        if !sums.iter().rev().take(16).any(known) {
            sums.push(Checksum {
                region: file.clone(),
                digest,
                place,
            });
        }
    }
    file.slice(offset, expected)
}

/// Forty hex digits.
fn sha1(text: &str) -> Option<[u8; 20]> {
    let mut out = [0; 20];
    if text.len() != 40 || !text.is_ascii() {
        return None;
    }
    for (n, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(n * 2..n * 2 + 2)?, 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_plain_names() {
        for good in ["data", "a/b.bin", "./x", "weights..bin", "..x"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a\0b",
            "C:\\x",
            "\\x",
            "a\\..\\x",
            "d.bin/",
            "d.bin//",
            "d.bin/.",
            ".",
            "./",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"a".repeat(255)).is_ok());
        for (part, times) in [("a", 256), ("d/", 2049)] {
            assert!(check(&part.repeat(times)).is_err(), "{part}");
        }
    }

    #[test]
    fn numbers_are_plain_digits() {
        assert_eq!(number("offset", "4096").unwrap(), 4096);
        for bad in [
            "",
            "-1",
            "+1",
            " 1",
            "1e3",
            "\u{661}",
            "18446744073709551616",
            "0x10",
        ] {
            assert!(number("offset", bad).is_err(), "{bad}");
        }
        assert_eq!(sha1(&"0a".repeat(20)), Some([10; 20]));
        assert_eq!(sha1("xyz"), None);
    }
}
