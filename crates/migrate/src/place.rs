//! Where trees stand: a folder of this machine, or a prefix in object storage. Plans hold places as
//! text and everything below them as relative paths with `/`, so that both are written alike.

use crate::MigrateError;
use crate::line::FileFact;
use ir::{Cancel, Error, Kind, Places, Region, Remote, Result, Stat};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A root or a destination.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    path: PathBuf,
    places: Places,
}

/// What stands before `://` in a place that is no folder.
const SCHEMES: &[&str] = &["s3", "s3a", "gs", "az", "http", "https"];

impl Place {
    /// Reads a place as people write it. A relative folder is meant from here, wherever it is used.
    pub(crate) fn parse(text: &str, places: &Places) -> Result<Self> {
        let places = places.clone();
        if let Some((scheme, rest)) = text.split_once("://") {
            if !SCHEMES.contains(&scheme) {
                let scheme = scheme.to_owned();
                return Err(MigrateError::Scheme { scheme }.into());
            }
            // Below a bucket alone the join of paths needs its slash.
            let rest = rest.trim_end_matches('/');
            let path = PathBuf::from(format!("{scheme}://{rest}"));
            places.refuse_url(&path)?;
            return Ok(Self { path, places });
        }
        let path = std::path::absolute(text).map_err(|e| Error::io("find", text, e))?;
        Ok(Self { path, places })
    }

    /// The place itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A place below this one.
    pub(crate) fn below(&self, relative: &str) -> Self {
        Self {
            path: self.at(relative),
            places: self.places.clone(),
        }
    }

    /// A file or folder below; the empty path is the place itself.
    pub(crate) fn at(&self, relative: &str) -> PathBuf {
        if relative.is_empty() {
            self.path.clone()
        } else {
            self.path.join(relative)
        }
    }

    /// The storage that holds it, where it is no folder.
    pub(crate) fn remote(&self) -> Option<&Arc<dyn Remote>> {
        self.places.remote(&self.path)
    }

    /// Whether it is a folder of this machine.
    pub(crate) fn is_local(&self) -> bool {
        self.remote().is_none()
    }

    /// Whether files can be listed and written there.
    pub(crate) fn is_http(&self) -> bool {
        let text = self.path.to_string_lossy();
        text.starts_with("http://") || text.starts_with("https://")
    }

    /// Where files are, this place's and all others.
    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether anything has a name, even a link that leads nowhere.
    pub(crate) fn has(&self, relative: &str) -> Result<bool> {
        let path = self.at(relative);
        match self.remote() {
            Some(remote) => Ok(remote.kind(&path)? != Kind::Missing),
            None => Ok(fs::symlink_metadata(&path).is_ok()),
        }
    }

    /// The size of a plain file, where one has the name.
    pub(crate) fn len_of(&self, relative: &str) -> Result<Option<u64>> {
        if self.remote().is_some() {
            return match self.places.stat(&self.at(relative)) {
                Ok(stat) => Ok(Some(stat.len)),
                Err(error) if ir::is_missing(&error) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let meta = fs::symlink_metadata(self.at(relative)).ok();
        Ok(meta.filter(fs::Metadata::is_file).map(|meta| meta.len()))
    }

    /// Size, time and tag of a file as it is now; of a link, those of what it leads to.
    pub(crate) fn fact(&self, relative: &str) -> Result<FileFact> {
        let full = self.at(relative);
        let Stat { len, modified, tag } = self.places.stat(&full).map_err(|error| {
            if ir::is_missing(&error) {
                let path = relative.to_owned();
                return Error::from(MigrateError::Vanished { path });
            }
            error
        })?;
        Ok(FileFact {
            path: relative.to_owned(),
            bytes: len,
            mtime: u64::try_from(modified / 1000).unwrap_or_default(),
            tag,
            sha256: None,
        })
    }

    /// The one path of a file that links give several; none if it is gone. An object has one name.
    pub(crate) fn real(&self, path: PathBuf) -> Option<PathBuf> {
        if self.is_local() {
            return path.canonicalize().ok();
        }
        Some(path)
    }

    /// The bytes of a file.
    pub(crate) fn region(&self, relative: &str) -> Result<Region> {
        self.places.region(&self.at(relative))
    }

    /// The digest of a file.
    pub(crate) fn digest(&self, relative: &str, cancel: &Cancel) -> Result<String> {
        crate::digest::of_region(&self.region(relative)?, cancel)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

/// The folder part of a relative path: empty at the top.
pub(crate) fn parent(relative: &str) -> &str {
    relative.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// The last part of a relative path.
pub(crate) fn name(relative: &str) -> &str {
    relative.rsplit_once('/').map_or(relative, |(_, name)| name)
}

/// What stands behind the last point of a name.
pub(crate) fn extension(relative: &str) -> &str {
    let parts = name(relative).rsplit_once('.');
    parts.map_or("", |(_, extension)| extension)
}

/// `folder/name`, or `name` at the top.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        name.to_owned()
    } else if name.is_empty() {
        folder.to_owned()
    } else {
        format!("{folder}/{name}")
    }
}

/// Why a path in a plan may not be used: it must stay below its place.
pub(crate) fn objection(relative: &str) -> Option<&'static str> {
    if relative.len() > 4096 {
        return Some("is too long");
    }
    if relative.chars().any(char::is_control) {
        return Some("holds control characters");
    }
    if relative.starts_with('/') || cfg!(windows) && relative.contains(['\\', ':']) {
        return Some("is not relative");
    }
    let part_is_bad = |part: &str| matches!(part, "" | "." | "..");
    if !relative.is_empty() && relative.split('/').any(part_is_bad) {
        return Some("is not a plain path below its place");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_below() {
        for good in ["", "a", "a/b.bin", "..a/b"] {
            assert_eq!(objection(good), None, "{good}");
        }
        for bad in ["/a", "../a", "a/../b", "a//b", "a/", "a\nb"] {
            assert!(objection(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn urls_are_for_who_knows_them() {
        let parse = |text| Place::parse(text, &Places::default()).unwrap_err();
        let unknown = parse("ftp://host/models");
        assert!(unknown.to_string().contains("ftp:// places"), "{unknown}");
        assert_eq!(parse("s3://bucket/models").class(), ir::Class::Unsupported);
    }
}
