//! What a model's signature says: which files there are, and their digests.

use crate::{Digest, Found, SignError, Span, wire};
use serde_json::{Value, json};
use std::collections::HashSet;

/// What is left out of a signature, and what is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Paths inside the model's folder, with everything below them.
    pub ignore: Vec<String>,
    /// Whether a link to a file counts as that file.
    pub allow_symlinks: bool,
}

impl Scope {
    /// The scope that leaves out what git puts into a folder.
    pub fn with_git_ignored() -> Self {
        let git = [".git", ".gitattributes", ".github", ".gitignore"];
        Self {
            ignore: git.map(str::to_owned).to_vec(),
            allow_symlinks: false,
        }
    }

    /// Leaves out one more path.
    pub fn ignoring(&mut self, path: impl Into<String>) {
        let path = path.into();
        if !self.ignore.contains(&path) {
            self.ignore.push(path);
        }
    }

    /// Whether a file is left out.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        self.ignore.iter().any(|path| {
            let path = path.trim_end_matches('/');
            let rest = name.strip_prefix(path);
            path == "." || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

/// How files are cut for hashing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A digest a file.
    Files,
    /// A digest for each so many bytes of a file, and none for an empty file.
    Shards(u64),
}

/// A digest under its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// The file's path; of a shard with `:start:end` behind it.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// What is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The model's name, for people.
    pub name: String,
    /// How files were cut.
    pub method: Method,
    /// What was left out.
    pub scope: Scope,
    /// The digests.
    pub resources: Vec<Resource>,
}

impl Method {
    /// The names and spans that a model's files have under it, in a signature's order.
    pub fn spans(self, files: &[Found]) -> Result<Vec<(String, Span)>, SignError> {
        let mut spans = Vec::new();
        for file in files {
            let size = match self {
                Self::Files => {
                    spans.push((file.name.clone(), Span::file(&file.path, 0..file.len)));
                    continue;
                }
                Self::Shards(size) => size.max(1),
            };
            if file.name.contains(':') {
                return Err(SignError::NotCovered {
                    name: file.name.clone(),
                    why: "has a colon, which names of shards cannot have",
                });
            }
            let mut start = 0;
            while start < file.len {
                let end = start.saturating_add(size).min(file.len);
                let name = format!("{}:{start}:{end}", file.name);
                spans.push((name, Span::file(&file.path, start..end)));
                start = end;
            }
        }
        Ok(spans)
    }

    /// What a resource's digest is said to be.
    fn algorithm(self) -> String {
        match self {
            Self::Files => "sha256".to_owned(),
            Self::Shards(size) => format!("sha256-sharded-{size}"),
        }
    }
}

/// Most bytes of memory worth of resources: what a file of the largest size could hold.
const RESOURCES_MAX: usize = 2_000_000;

impl Manifest {
    /// The digest that stands for the whole model.
    pub fn root(&self) -> Digest {
        Digest::over(self.resources.iter().map(|resource| &resource.digest))
    }

    /// The files it is about; where shards were signed, each as often as it has shards.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let names = self.resources.iter().map(|resource| resource.name.as_str());
        names.map(|name| crate::compare::file_of(self.method, name))
    }

    /// The statement to sign.
    pub fn statement(&self) -> Value {
        let resources = self.resources.iter().map(|resource| {
            json!({
                "name": resource.name,
                "algorithm": self.method.algorithm(),
                "digest": resource.digest.to_string(),
            })
        });
        let mut serialization = json!({
            "method": "files",
            "hash_type": "sha256",
            "allow_symlinks": self.scope.allow_symlinks,
            "ignore_paths": self.scope.ignore,
        });
        if let Method::Shards(size) = self.method {
            serialization["method"] = "shards".into();
            serialization["shard_size"] = size.into();
        }
        json!({
            "_type": wire::STATEMENT,
            "subject": [{ "name": self.name, "digest": { "sha256": self.root().to_string() } }],
            "predicateType": wire::SIGNATURE,
            "predicate": {
                "serialization": serialization,
                "resources": resources.collect::<Vec<_>>(),
            },
        })
    }

    /// Reads a statement back. What is not as it should be is an error, as is a digest of the whole
    /// that its parts do not give.
    pub fn from_statement(statement: &Value) -> Result<Self, SignError> {
        let bad = |why: &str| SignError::signature(why);
        match statement["predicateType"].as_str() {
            Some(wire::SIGNATURE) => {}
            Some(wire::SIGNATURE_BEFORE_1) => {
                let what = "of model_signing before version 1.0".to_owned();
                return Err(SignError::OtherKind { what });
            }
            Some(other) => return Err(bad(&format!("the predicate is {other:?}"))),
            None => return Err(bad("it names no predicate")),
        }
        let subjects = statement["subject"]
            .as_array()
            .map_or(&[][..], Vec::as_slice);
        let [subject] = subjects else {
            let n = subjects.len();
            return Err(bad(&format!("there are {n} subjects, and one is wanted")));
        };
        let serialization = &statement["predicate"]["serialization"];
        let hash = serialization["hash_type"].as_str().unwrap_or_default();
        if hash != "sha256" {
            return Err(SignError::Hash {
                algorithm: hash.to_owned(),
            });
        }
        let method = match serialization["method"].as_str() {
            Some("files") => Method::Files,
            Some("shards") => {
                let size = whole(&serialization["shard_size"]);
                Method::Shards(size.ok_or_else(|| bad("the size of shards is no whole number"))?)
            }
            other => return Err(bad(&format!("the method is {other:?}"))),
        };
        let manifest = Self {
            name: subject["name"].as_str().unwrap_or_default().to_owned(),
            method,
            scope: scope(serialization),
            resources: resources(&statement["predicate"]["resources"], method)?,
        };
        let root = manifest.root().to_string();
        if subject["digest"]["sha256"].as_str() != Some(&root) {
            return Err(bad("the digest of the whole is not that of the parts"));
        }
        Ok(manifest)
    }
}

/// A whole number above zero. The official tool writes it by way of protobuf, which has only
/// doubles: `4.0`.
fn whole(value: &Value) -> Option<u64> {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    // range and sign just checked
    let double = || {
        let number = value.as_f64()?;
        ((1.0..9e15).contains(&number) && number.fract() == 0.0).then_some(number as u64)
    };
    value.as_u64().or_else(double).filter(|size| *size > 0)
}

/// What the signer left out. A path that leaves the folder leaves nothing out.
fn scope(serialization: &Value) -> Scope {
    let paths = serialization["ignore_paths"].as_array();
    let paths = paths.into_iter().flatten().filter_map(Value::as_str);
    let inside = |path: &&str| !path.starts_with('/') && !path.split('/').any(|step| step == "..");
    Scope {
        ignore: paths.filter(inside).map(str::to_owned).collect(),
        allow_symlinks: serialization["allow_symlinks"] == true,
    }
}

fn resources(value: &Value, method: Method) -> Result<Vec<Resource>, SignError> {
    let bad = |why: String| SignError::signature(why);
    let list = value
        .as_array()
        .ok_or_else(|| bad("there is no list of resources".to_owned()))?;
    if list.len() > RESOURCES_MAX {
        return Err(bad(format!("{} resources are too many", list.len())));
    }
    let algorithm = method.algorithm();
    let mut seen = HashSet::new();
    let mut resources = Vec::new();
    for item in list {
        let name = item["name"]
            .as_str()
            .ok_or_else(|| bad("a resource has no name".to_owned()))?;
        let digest = item["digest"].as_str().and_then(|text| text.parse().ok());
        let digest = digest.ok_or_else(|| bad(format!("{name:?} has no SHA-256 digest")))?;
        if item["algorithm"] != algorithm.as_str() {
            return Err(bad(format!("{name:?} has a digest of another kind")));
        }
        if !seen.insert(name) {
            return Err(bad(format!("{name:?} is there twice")));
        }
        let name = name.to_owned();
        resources.push(Resource { name, digest });
    }
    Ok(resources)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(method: Method) -> Manifest {
        let names = match method {
            Method::Files => ["a/b", "c"],
            Method::Shards(_) => ["a/b:0:2", "c:0:1"],
        };
        let resources = names.map(|name| Resource {
            name: name.to_owned(),
            digest: Digest([7; 32]),
        });
        Manifest {
            name: "model".to_owned(),
            method,
            scope: Scope::with_git_ignored(),
            resources: resources.to_vec(),
        }
    }

    #[test]
    fn a_statement_comes_back_as_it_was() {
        for method in [Method::Files, Method::Shards(2)] {
            let manifest = manifest(method);
            let back = Manifest::from_statement(&manifest.statement()).unwrap();
            assert_eq!(back, manifest);
        }
    }

    #[test]
    fn the_size_of_shards_may_be_a_double() {
        for (text, size) in [
            ("4", Some(4)),
            ("4.0", Some(4)),
            ("4.5", None),
            ("0", None),
            ("-1", None),
        ] {
            let value: Value = serde_json::from_str(text).unwrap();
            assert_eq!(whole(&value), size, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        type Spoil = fn(&mut Value);
        let good = manifest(Method::Files).statement();
        let spoils: [Spoil; 9] = [
            |s| s["subject"][0]["digest"]["sha256"] = "00".into(),
            |s| s["subject"] = json!([]),
            |s| s["predicateType"] = "https://example.com".into(),
            |s| s["predicateType"] = wire::SIGNATURE_BEFORE_1.into(),
            |s| s["predicate"]["serialization"]["hash_type"] = "blake3".into(),
            |s| s["predicate"]["serialization"]["method"] = "shards".into(),
            |s| s["predicate"]["resources"][1]["name"] = "a/b".into(),
            |s| s["predicate"]["resources"][1]["algorithm"] = "sha1".into(),
            |s| s["predicate"] = Value::Null,
        ];
        for (n, spoil) in spoils.iter().enumerate() {
            let mut statement = good.clone();
            spoil(&mut statement);
            assert!(Manifest::from_statement(&statement).is_err(), "{n}");
        }
    }

    #[test]
    fn shards_cover_a_file_once() {
        let file = |name: &str, len| Found {
            name: name.to_owned(),
            path: name.into(),
            len,
        };
        let files = [file("a", 5), file("empty", 0), file("z", 2)];
        let spans = Method::Shards(2).spans(&files).unwrap();
        let names: Vec<&str> = spans.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a:0:2", "a:2:4", "a:4:5", "z:0:2"]);
        assert!(Method::Shards(2).spans(&[file("a:b", 1)]).is_err());
        assert!(Method::Files.spans(&[file("a:b", 1)]).is_ok());
    }

    #[test]
    fn ignored_is_a_path_and_what_is_below_it() {
        let mut scope = Scope::with_git_ignored();
        scope.ignoring("deep/er");
        for (name, ignored) in [
            (".git/config", true),
            (".gitignore", true),
            (".gitmodules", false),
            ("x/.git/config", false),
            ("deep/er", true),
            ("deep/er/x", true),
            ("deep/erx", false),
        ] {
            assert_eq!(scope.ignores(name), ignored, "{name}");
        }
    }
}
