//! Names: `scheme://bucket/key`, taken apart; and names from listings, which strangers chose.

use crate::StoreError;
use object_store::path::Path as Key;
use std::path::{Component, Path, PathBuf};

/// What speaks to a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    S3,
    Gs,
    Az,
    /// Plain reads of one file.
    Http,
}

/// A name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) scheme: Scheme,
    /// The bucket; of `http` the origin, `https://host:port`.
    pub(crate) bucket: String,
    pub(crate) key: Key,
    /// Whether it is written as a folder.
    pub(crate) folder: bool,
}

/// The scheme of a name, if it is one of ours.
pub(crate) fn scheme_of(text: &str) -> Option<(Scheme, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let scheme = match scheme {
        "s3" | "s3a" => Scheme::S3,
        "gs" => Scheme::Gs,
        "az" => Scheme::Az,
        "http" | "https" => Scheme::Http,
        _ => return None,
    };
    Some((scheme, rest))
}

impl Address {
    /// Takes a name apart.
    pub(crate) fn parse(path: &Path) -> Result<Self, StoreError> {
        let text = path.to_str().ok_or(StoreError::Name("it is not UTF-8"))?;
        let (scheme, rest) = scheme_of(text).ok_or(StoreError::Name("its scheme is unknown"))?;
        let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(StoreError::Name("it names no bucket or host"));
        }
        // Both would end up in reports and in the journal of a migration.
        if host.contains('@') {
            let what = "it holds a user or password; credentials come from the environment";
            return Err(StoreError::Name(what));
        }
        if scheme == Scheme::Http && key.contains(['?', '#']) {
            let what = "it has a query, which often is a secret; download it with a tool that takes such URLs";
            return Err(StoreError::Name(what));
        }
        let bucket = match scheme {
            Scheme::Http => text
                .get(..text.len() - rest.len() + host.len())
                .unwrap_or_default()
                .to_owned(),
            _ => host.to_owned(),
        };
        let folder = key.is_empty() || key.ends_with('/');
        let parsed = match scheme {
            Scheme::Http => Key::from_url_path(key),
            _ => Key::parse(key),
        };
        let key = parsed.map_err(|_| {
            StoreError::Name("it holds an empty part, `.`, `..` or a control character")
        })?;
        Ok(Self {
            scheme,
            bucket,
            key,
            folder,
        })
    }
}

/// A name as it may be shown: without user, password and query, which may be secrets.
pub(crate) fn shown(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    let Some((scheme, rest)) = text.split_once("://") else {
        return path.to_owned();
    };
    let rest = match scheme {
        "http" | "https" => rest.split(['?', '#']).next().unwrap_or_default(),
        _ => rest,
    };
    let (host, key) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    PathBuf::from(format!("{scheme}://{host}/{key}"))
}

/// A name of one file, as a listing gives it, where it can be one: not `..`, no separators.
pub(crate) fn safe_name(name: &str) -> bool {
    !name.is_empty()
        && name != "."
        && name != ".."
        && !name.contains(['/', '\\', ':'])
        && !name.chars().any(char::is_control)
}

/// A key below a prefix as a path below a folder of this machine, or `None` where it could lead
/// elsewhere or hide something: `..`, absolute paths, drive letters, control characters.
pub fn safe_relative(key: &str) -> Option<PathBuf> {
    let path: PathBuf = key
        .split('/')
        .map(|name| safe_name(name).then_some(name))
        .collect::<Option<_>>()?;
    let plain = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    plain.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        let parse = |text: &str| Address::parse(Path::new(text)).unwrap();
        let address = parse("s3://bucket/a b/m%20.bin");
        assert_eq!((address.scheme, &*address.bucket), (Scheme::S3, "bucket"));
        assert_eq!(address.key.as_ref(), "a b/m%20.bin");
        assert!(!address.folder);
        assert!(parse("gs://b").folder && parse("az://b/x/").folder);
        let address = parse("https://host:8080/a%20b/c.onnx");
        assert_eq!(address.bucket, "https://host:8080");
        assert_eq!(address.key.as_ref(), "a b/c.onnx");
    }

    #[test]
    fn bad_names_are_refused_without_their_secrets() {
        for text in [
            "s3:///key",
            "s3://b/a//b",
            "s3://b/../a",
            "s3://b/a/./c",
            "s3://user:hunter2@b/k",
            "https://user:hunter2@h/k",
            "https://h/k?X-Amz-Signature=hunter2",
            "http://h/..%2f..%2fx",
            "ftp://h/k",
        ] {
            let error = Address::parse(Path::new(text)).unwrap_err();
            let error = error.about(Path::new(text)).to_string();
            assert!(!error.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn names_of_strangers_stay_below_the_folder() {
        for bad in [
            "",
            "..",
            "a/../b",
            "/etc/passwd",
            "a//b",
            "a/.",
            "C:/x",
            "a\\..\\b",
            "a\nb",
            "a/\0",
            "x/",
            "nul\u{7f}",
        ] {
            assert_eq!(safe_relative(bad), None, "{bad:?}");
        }
        for good in ["a", "a/b c/ä.bin", "...", "a/..b"] {
            assert_eq!(safe_relative(good), Some(PathBuf::from(good)));
        }
    }
}
