//! The files of a repository, read within limits.

use crate::error::VocabError;
use bytes::Bytes;
use ir::{Asset, Error, Fault, Limits, Result};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A repository's files by their names.
pub trait Source {
    /// The bytes of a file, or `None` if it is not there. `max` bytes may be read.
    fn read(&self, name: &str, max: u64) -> Result<Option<Bytes>>;

    /// The names of all files, with their folders inside the repository.
    fn names(&self) -> Vec<String>;
}

impl Source for &[Asset] {
    fn read(&self, name: &str, max: u64) -> Result<Option<Bytes>> {
        let Some(asset) = self.iter().find(|asset| asset.name == name) else {
            return Ok(None);
        };
        let len = asset.bytes.len();
        Limits::check("bytes of a tokenizer file", len, max)?;
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        asset.bytes.bytes(0, len).map(Some)
    }

    fn names(&self) -> Vec<String> {
        self.iter().map(|asset| asset.name.clone()).collect()
    }
}

impl Source for &[(String, Bytes)] {
    fn read(&self, name: &str, max: u64) -> Result<Option<Bytes>> {
        let Some((_, bytes)) = self.iter().find(|(own, _)| own == name) else {
            return Ok(None);
        };
        Limits::check("bytes of a tokenizer file", bytes.len() as u64, max)?;
        Ok(Some(bytes.clone()))
    }

    fn names(&self) -> Vec<String> {
        self.iter().map(|(name, _)| name.clone()).collect()
    }
}

/// Bytes of a small JSON file: `tokenizer_config.json` of real models is at most 1 MB.
const SMALL: u64 = 16 << 20;

/// A source, and the limits its files are read within.
#[derive(Clone, Copy)]
pub(crate) struct Files<'a> {
    source: &'a dyn Source,
    pub(crate) limits: &'a Limits,
}

impl<'a> Files<'a> {
    pub(crate) fn new(source: &'a dyn Source, limits: &'a Limits) -> Self {
        Self { source, limits }
    }

    /// Names of all files.
    pub(crate) fn names(&self) -> Vec<String> {
        self.source.names()
    }

    /// Whether a file is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.source.names().iter().any(|own| own == name)
    }

    /// A file that may be large.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<Bytes>> {
        let read = self.source.read(name, self.limits.header_bytes);
        read.and_then(itself).map_err(|error| error.in_file(name))
    }

    /// A file that must be there.
    pub(crate) fn need(&self, name: &'static str) -> Result<Bytes> {
        let bytes = self.bytes(name)?;
        bytes.ok_or_else(|| VocabError::Missing { names: vec![name] }.into())
    }

    /// A small text file.
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>> {
        let max = SMALL.min(self.limits.header_bytes);
        let read = self.source.read(name, max);
        let read = read.and_then(itself).map_err(|error| error.in_file(name));
        let Some(bytes) = read? else {
            return Ok(None);
        };
        let text = utf8(&bytes, name)?;
        Ok(Some(text.to_owned()))
    }

    /// A small JSON file that holds an object.
    pub(crate) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        json(&text, name).map(Some)
    }
}

/// A file, unless something else stands in its place: a Git LFS pointer, a server's message.
fn itself(bytes: Option<Bytes>) -> Result<Option<Bytes>> {
    let found = bytes.as_deref().and_then(ir::sniff);
    match found.filter(|found| found.placeholder) {
        None => Ok(bytes),
        Some(found) => {
            let what = format!("this is {}", found.what);
            Err(Error::from(Fault::Invalid { what }).with_help(found.help))
        }
    }
}

/// The text of a file.
pub(crate) fn utf8<'b>(bytes: &'b [u8], name: &str) -> Result<&'b str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let why = format!("byte {} is not UTF-8", error.valid_up_to());
        Error::from(VocabError::malformed(why)).in_file(name)
    })
}

/// A JSON text as `T`, or what is wrong with it and where.
pub(crate) fn json<T: DeserializeOwned>(text: &str, name: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| json_error(&error, name))
}

/// Names the file and the line.
pub(crate) fn json_error(error: &serde_json::Error, name: &str) -> Error {
    let (line, column) = (error.line(), error.column());
    let why = error.to_string();
    let tail = format!(" at line {line} column {column}");
    Error::from(VocabError::Malformed {
        why: why.strip_suffix(&tail).unwrap_or(&why).to_owned(),
        whole: error.is_data(),
        place: (line > 0).then(|| format!("line {line}, column {column}")),
    })
    .in_file(name)
}
