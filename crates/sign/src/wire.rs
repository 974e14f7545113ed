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

use serde::{Deserialize, Serialize};

/// The type of the file.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
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

/// The bundle, as far as it is read here. Other fields are those of other kinds of signatures.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bundle {
    pub(crate) media_type: String,
    pub(crate) verification_material: Material,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dsse_envelope: Option<Envelope>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Material {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_key: Option<Hint>,
    #[serde(default)]
    pub(crate) tlog_entries: Vec<serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Hint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    pub(crate) payload: String,
    pub(crate) payload_type: String,
    pub(crate) signatures: Vec<Signature>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Signature {
    pub(crate) sig: String,
    #[serde(default)]
    pub(crate) keyid: String,
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
