//! A model held against what was signed.

use crate::manifest::Method;
use crate::{Digest, Manifest};
use std::collections::BTreeMap;

/// How a model differs from its signature. Names are those of files, also where shards were
/// signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Files that were signed and are not there.
    pub missing: Vec<String>,
    /// Files that are there and were not signed.
    pub extra: Vec<String>,
    /// Files with other bytes than were signed.
    pub changed: Vec<String>,
}

impl Difference {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.changed.is_empty()
    }
}

/// Holds the digests of a model's files, or of their shards, against a manifest.
pub fn compare(manifest: &Manifest, found: &[(String, Digest)]) -> Difference {
    let signed = manifest.resources.iter();
    let signed = by_file(manifest.method, signed.map(|r| (r.name.as_str(), r.digest)));
    let found = found.iter().map(|(name, digest)| (name.as_str(), *digest));
    let found = by_file(manifest.method, found);
    let mut difference = Difference::default();
    for (file, parts) in &signed {
        match found.get(file) {
            None => difference.missing.push((*file).to_owned()),
            Some(there) if there != parts => difference.changed.push((*file).to_owned()),
            Some(_) => {}
        }
    }
    let extra = found.keys().filter(|file| !signed.contains_key(*file));
    difference.extra = extra.map(|file| (*file).to_owned()).collect();
    difference
}

type Parts<'a> = BTreeMap<&'a str, Digest>;

/// The digests of each file, under their full names.
fn by_file<'a>(
    method: Method,
    digests: impl Iterator<Item = (&'a str, Digest)>,
) -> BTreeMap<&'a str, Parts<'a>> {
    let mut files: BTreeMap<&str, Parts> = BTreeMap::new();
    for (name, digest) in digests {
        files
            .entry(file_of(method, name))
            .or_default()
            .insert(name, digest);
    }
    files
}

/// The file of a resource.
pub(crate) fn file_of(method: Method, name: &str) -> &str {
    match method {
        Method::Files => name,
        Method::Shards(_) => {
            let file = name
                .rsplit_once(':')
                .and_then(|(rest, _)| rest.rsplit_once(':'));
            file.map_or(name, |(file, _)| file)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Resource, Scope};

    fn digests(list: &[(&str, u8)]) -> Vec<(String, Digest)> {
        let one = |&(name, byte): &(&str, u8)| (name.to_owned(), Digest([byte; 32]));
        list.iter().map(one).collect()
    }

    fn signed(method: Method, list: &[(&str, u8)]) -> Manifest {
        let resources = digests(list).into_iter();
        Manifest {
            name: String::new(),
            method,
            scope: Scope::default(),
            resources: resources
                .map(|(name, digest)| Resource { name, digest })
                .collect(),
        }
    }

    #[test]
    fn each_difference_is_named() {
        let manifest = signed(Method::Files, &[("a", 1), ("b", 2), ("c", 3)]);
        let same = digests(&[("c", 3), ("b", 2), ("a", 1)]);
        assert!(compare(&manifest, &same).is_empty());
        let other = compare(&manifest, &digests(&[("a", 1), ("b", 9), ("d:1:2", 4)]));
        assert_eq!(other.missing, ["c"]);
        assert_eq!(other.changed, ["b"]);
        assert_eq!(other.extra, ["d:1:2"]);
    }

    #[test]
    fn a_file_that_grew_is_changed_not_two_files() {
        let method = Method::Shards(2);
        let manifest = signed(method, &[("a:0:2", 1), ("a:2:3", 2), ("b:0:1", 3)]);
        let found = digests(&[("a:0:2", 1), ("a:2:4", 5), ("b:0:1", 3)]);
        let other = compare(&manifest, &found);
        assert_eq!(other.changed, ["a"]);
        assert!(other.missing.is_empty() && other.extra.is_empty());
        let short = compare(&manifest, &digests(&[("a:0:2", 1), ("b:0:1", 3)]));
        assert_eq!(short.changed, ["a"]);
    }
}
