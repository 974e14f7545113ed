//! The statement of what was converted from what: in-toto, with SLSA provenance 1 as its predicate.

use crate::envelope::statement;
use crate::{Digest, SignError, wire};
use serde_json::{Map, Value, json};

/// A file and its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its path inside the folder of the conversion's input or output, with `/` between names.
    pub name: String,
    /// Its digest.
    pub digest: Digest,
}

/// What a conversion made of what.
#[derive(Clone, Debug)]
pub struct Provenance {
    /// What was made.
    pub outputs: Vec<Artifact>,
    /// What was read.
    pub inputs: Vec<Artifact>,
    /// The options that were not the defaults, by their names on the command line.
    pub options: Map<String, Value>,
    /// The version of this program.
    pub version: String,
}

impl Artifact {
    fn descriptor(&self) -> Value {
        json!({ "name": self.name, "digest": { "sha256": self.digest.to_string() } })
    }
}

impl Provenance {
    /// The statement. It tells nothing of machine, user, place or time, so that the same conversion
    /// gives the same statement anywhere.
    pub fn statement(&self) -> Value {
        let all = |list: &[Artifact]| list.iter().map(Artifact::descriptor).collect::<Vec<_>>();
        json!({
            "_type": wire::STATEMENT,
            "subject": all(&self.outputs),
            "predicateType": wire::PROVENANCE,
            "predicate": {
                "buildDefinition": {
                    "buildType": wire::CONVERSION,
                    "externalParameters": { "options": self.options },
                    "resolvedDependencies": all(&self.inputs),
                },
                "runDetails": {
                    "builder": {
                        "id": wire::BUILDER,
                        "version": { "weightbridge": self.version },
                    },
                },
            },
        })
    }
}

/// Most files of one statement.
const SUBJECTS_MAX: usize = 1_000_000;

/// The files a statement is about, and what it says of them. Their names stay inside a folder.
pub fn subjects(value: &Value) -> Result<Vec<Artifact>, SignError> {
    let bad = |why: String| SignError::statement(why);
    if value["predicateType"] == wire::SIGNATURE {
        let why =
            "this is a model's signature; verify it with `weightbridge verify DIR --key PUB.pem`";
        return Err(bad(why.to_owned()));
    }
    let list = value["subject"]
        .as_array()
        .filter(|list| !list.is_empty() && list.len() <= SUBJECTS_MAX)
        .ok_or_else(|| bad("it names no file, or more than a million".to_owned()))?;
    let mut found: Vec<Artifact> = Vec::new();
    for item in list {
        let name = item["name"].as_str().unwrap_or_default();
        if !stays_inside(name) {
            return Err(bad(format!("{name:?} is no name of a file in a folder")));
        }
        let digest = item["digest"]["sha256"].as_str();
        let digest = digest.and_then(|text| text.parse().ok());
        let digest = digest.ok_or_else(|| bad(format!("{name:?} has no SHA-256 digest")))?;
        let name = name.to_owned();
        found.push(Artifact { name, digest });
    }
    Ok(found)
}

/// Reads a statement that nobody signed.
pub fn unsigned(text: &[u8]) -> Result<Value, SignError> {
    statement(text)
}

fn stays_inside(name: &str) -> bool {
    let plain = |step: &str| !matches!(step, "" | "." | "..") && !step.contains(['\\', '\0']);
    name.split('/').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str) -> Artifact {
        Artifact {
            name: name.to_owned(),
            digest: Digest([1; 32]),
        }
    }

    #[test]
    fn subjects_come_back() {
        let provenance = Provenance {
            outputs: vec![artifact("a.gguf"), artifact("deep/b")],
            inputs: vec![artifact("a.pt")],
            options: Map::new(),
            version: "0.1.0".to_owned(),
        };
        let statement = provenance.statement();
        assert_eq!(subjects(&statement).unwrap(), provenance.outputs);
        assert_eq!(
            statement["predicate"]["buildDefinition"]["buildType"],
            wire::CONVERSION
        );
    }

    #[test]
    fn names_stay_inside() {
        for (name, inside) in [
            ("a", true),
            ("a/b", true),
            ("", false),
            ("/a", false),
            ("../a", false),
            ("a/../../b", false),
            ("a//b", false),
            (".", false),
            ("a\\b", false),
        ] {
            let provenance = Provenance {
                outputs: vec![artifact(name)],
                inputs: Vec::new(),
                options: Map::new(),
                version: String::new(),
            };
            let found = subjects(&provenance.statement());
            assert_eq!(found.is_ok(), inside, "{name:?}");
        }
        assert!(subjects(&json!({ "subject": [] })).is_err());
    }
}
