//! Where trees stand. Plans hold places as text and everything below them as relative paths with
//! `/`, so that a place can become a URL without a change of the plan's shape.

use crate::MigrateError;
use ir::{Error, Result};
use std::fmt;
use std::path::{Path, PathBuf};

/// A root or a destination: today a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place(PathBuf);

impl Place {
    /// Reads a place as people write it. A relative one is meant from here, wherever it is used.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if let Some((scheme, _)) = text.split_once("://") {
            let scheme = scheme.to_owned();
            return Err(MigrateError::Scheme { scheme }.into());
        }
        let full = std::path::absolute(text).map_err(|e| Error::io("find", text, e))?;
        Ok(Self(full))
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.0
    }

    /// A file or folder below; the empty path is the place itself.
    pub(crate) fn at(&self, relative: &str) -> PathBuf {
        if relative.is_empty() {
            self.0.clone()
        } else {
            self.0.join(relative)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
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
    fn urls_are_named_as_such() {
        let error = Place::parse("s3://bucket/models").unwrap_err();
        assert!(error.to_string().contains("s3:// places"), "{error}");
    }
}
