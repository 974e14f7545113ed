//! The layout of a signature, as the OpenSSF Model Signing specification 1.0 and the tool
//! `model_signing` have it.
//!
//! | part | what |
//! |---|---|
//! | file | Sigstore bundle 0.3, JSON: `mediaType`, `verificationMaterial`, `dsseEnvelope` |
//! | `verificationMaterial` | `publicKey.hint`: SHA-256, in hex, of the key's PEM text; `tlogEntries`: empty |
//! | `dsseEnvelope` | `payload` (base64), `payloadType`, `signatures`: one, `sig` (base64 of DER) and an empty `keyid` |
//! | what is signed | `pae` of the payload, with the hash that belongs to the curve |
//! | payload | in-toto Statement 1, JSON: `_type`, `subject`, `predicateType`, `predicate` |
//! | `subject` | one: the model's name, and SHA-256 over the raw digests of all resources in turn |
//! | `predicate.serialization` | `method` (`files` or `shards` with `shard_size`), `hash_type`, `allow_symlinks`, `ignore_paths` |
//! | `predicate.resources` | `name`, `algorithm`, `digest` of each file; of shards the name is `path:start:end` |

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde::de::{Deserializer, Error as _, IgnoredAny};
use serde::{Deserialize, Serialize};

/// The type of the file.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// What the types of bundles of all versions begin with.
pub(crate) const BUNDLES: &str = "application/vnd.dev.sigstore.bundle";
/// The type of what is in the envelope.
pub const PAYLOAD: &str = "application/vnd.in-toto+json";
/// The type of an in-toto statement.
pub const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate of a model's signature.
pub const SIGNATURE: &str = "https://model_signing/signature/v1.0";
/// The predicate that versions of `model_signing` before 1.0 wrote.
pub const SIGNATURE_BEFORE_1: &str = "https://model_signing/Digests/v0.1";
/// The predicate of a conversion: SLSA provenance.
pub const PROVENANCE: &str = "https://slsa.dev/provenance/v1";
/// What kind of build a conversion is; `docs/signing.md` has the parameters.
pub const CONVERSION: &str = "https://weightbridge/convert/v1";
/// Who builds.
pub const BUILDER: &str = "https://weightbridge/cli";

/// Largest signature or statement read: a million files take some 200 MB in none of them.
pub const FILE_MAX: u64 = 256 << 20;

/// The bundle: all fields that its definition has, and no others, as the parser of the official tool
/// has it (`sigstore-models`). What only other kinds of signatures have can be there as null.
#[allow(dead_code)] // some fields are there to be known
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Bundle {
    pub(crate) media_type: String,
    pub(crate) verification_material: Material,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dsse_envelope: Option<Envelope>,
    #[serde(skip_serializing)]
    pub(crate) message_signature: Option<IgnoredAny>,
}

#[allow(dead_code)] // some fields are there to be known
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Material {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<Hint>,
    #[serde(default)]
    pub(crate) tlog_entries: Vec<LogEntry>,
    #[serde(skip_serializing)]
    pub(crate) certificate: Option<IgnoredAny>,
    #[serde(skip_serializing, rename = "x509CertificateChain")]
    pub(crate) chain: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(crate) timestamp_verification_data: Option<Timestamps>,
}

/// Which key signed. The tool's versions before 1.0 wrote the key itself; the official tool passes
/// over what they wrote, whatever it is.
#[allow(dead_code)] // some fields are there to be known
#[allow(clippy::struct_field_names)] // they are the definition's
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Hint {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    #[serde(skip_serializing)]
    pub(crate) raw_bytes: Option<IgnoredAny>,
    #[serde(skip_serializing)]
    pub(crate) key_details: Option<IgnoredAny>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Envelope {
    pub(crate) payload: String,
    pub(crate) payload_type: String,
    pub(crate) signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    pub(crate) sig: String,
    pub(crate) keyid: Option<String>,
}

/// An entry of a transparency log. Nothing here is held against a log, which the official tool does
/// not do in key mode either; but what it calls malformed is malformed.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LogEntry {
    log_index: Whole,
    log_id: LogId,
    kind_version: KindVersion,
    integrated_time: Option<Whole>,
    inclusion_promise: Option<Promise>,
    inclusion_proof: Proof,
    canonicalized_body: Base64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct LogId {
    key_id: Base64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KindVersion {
    kind: String,
    version: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Promise {
    signed_entry_timestamp: Base64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Proof {
    log_index: Whole,
    root_hash: Base64,
    tree_size: Whole,
    hashes: Vec<Base64>,
    checkpoint: Option<Checkpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Checkpoint {
    envelope: String,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Timestamps {
    #[serde(rename = "rfc3161Timestamps")]
    stamps: Vec<Timestamp>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Timestamp {
    signed_timestamp: Base64,
}

/// A 64 bit number, which protobuf writes as text.
#[derive(Debug, Serialize)]
struct Whole(u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let bad = || D::Error::custom(format!("{text:?} is no whole number"));
        text.parse().map(Self).map_err(|_| bad())
    }
}

/// Bytes, which protobuf writes as base64.
#[derive(Debug, Serialize)]
struct Base64(String);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match BASE64.decode(&text) {
            Ok(_) => Ok(Self(text)),
            Err(_) => Err(D::Error::custom("this is no base64")),
        }
    }
}

impl LogEntry {
    /// Whether its place is one of the tree that is said to hold it.
    pub(crate) fn is_in_tree(&self) -> bool {
        self.inclusion_proof.log_index.0 < self.inclusion_proof.tree_size.0
    }
}

/// What a DSSE signature is made over: the payload with its type and both lengths before it.
pub(crate) fn pae(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD} {} ", PAYLOAD.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stand_before_what_they_count() {
        let text = String::from_utf8(pae(b"{}")).unwrap();
        assert_eq!(text, "DSSEv1 28 application/vnd.in-toto+json 2 {}");
    }
}
