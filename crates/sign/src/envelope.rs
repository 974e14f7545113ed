//! The envelope around a signed statement.

use crate::wire::{self, Bundle, Envelope, Hint, LogEntry, Material, Signature};
use crate::{PrivateKey, PublicKey, SignError};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use serde_json::Value;

/// Signs a statement: the text of a bundle.
pub fn seal(statement: &Value, key: &PrivateKey) -> String {
    let payload = statement.to_string();
    let signature = key.sign(&wire::pae(payload.as_bytes()));
    let bundle = Bundle {
        media_type: wire::BUNDLE.to_owned(),
        verification_material: Material {
            public_key: Some(Hint {
                hint: Some(key.public().hint()),
                ..Hint::default()
            }),
            ..Material::default()
        },
        message_signature: None,
        dsse_envelope: Some(Envelope {
            payload: BASE64.encode(payload.as_bytes()),
            payload_type: wire::PAYLOAD.to_owned(),
            signatures: vec![Signature {
                sig: BASE64.encode(&signature),
                keyid: Some(String::new()),
            }],
        }),
    };
    // Strings and lists of strings: nothing in it cannot be written as JSON.
    serde_json::to_string(&bundle).unwrap_or_default()
}

/// An envelope that was read. What is in it is a stranger's word until [`Sealed::signed_by`] says
/// otherwise.
#[derive(Debug)]
pub struct Sealed {
    payload: Vec<u8>,
    signature: Vec<u8>,
    hint: Option<String>,
}

/// Whether a key made a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// It did.
    Yes,
    /// The bundle names another key.
    OtherKey,
    /// The bundle names this key or none, and the signature is not this key's over what is in it.
    No,
}

/// Whether a text is a bundle of any kind and version, by what it says of itself.
pub fn is_bundle(text: &[u8]) -> bool {
    let value = serde_json::from_slice::<Value>(text).ok();
    let kind = value.as_ref().and_then(|value| value["mediaType"].as_str());
    kind.is_some_and(|kind| kind.starts_with(wire::BUNDLES))
}

/// Reads a bundle, checking no signature.
pub fn open(text: &[u8]) -> Result<Sealed, SignError> {
    let bad = |why: String| SignError::signature(why);
    let value: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    match value["mediaType"].as_str() {
        Some(wire::BUNDLE) => {}
        Some(other) => {
            let why = format!("the media type is {other:?}, wanted is {:?}", wire::BUNDLE);
            return Err(bad(why));
        }
        None => {
            return Err(bad(
                "it is no Sigstore bundle: there is no mediaType".to_owned()
            ));
        }
    }
    let material = &value["verificationMaterial"];
    for (field, what) in [
        (
            "certificate",
            "signed with a certificate or without a key (Sigstore)",
        ),
        ("x509CertificateChain", "signed with certificates"),
    ] {
        if !material[field].is_null() {
            let what = what.to_owned();
            return Err(SignError::OtherKind { what });
        }
    }
    if !value["messageSignature"].is_null() {
        let what = "a signature of one message, not of a model".to_owned();
        return Err(SignError::OtherKind { what });
    }
    // From the text again: serde finds fields that are there twice, a Value does not.
    let bundle: Bundle = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    let envelope = bundle
        .dsse_envelope
        .ok_or_else(|| bad("there is no dsseEnvelope".to_owned()))?;
    if envelope.payload_type != wire::PAYLOAD {
        let why = format!(
            "the payload is {:?}, wanted is {:?}",
            envelope.payload_type,
            wire::PAYLOAD
        );
        return Err(bad(why));
    }
    let [signature] = envelope.signatures.as_slice() else {
        let n = envelope.signatures.len();
        return Err(bad(format!("there are {n} signatures, and one is wanted")));
    };
    let decode = |what: &str, text: &str| {
        BASE64
            .decode(text)
            .map_err(|_| bad(format!("the {what} is no base64")))
    };
    let material = bundle.verification_material;
    let Some(key) = material.public_key else {
        let why = "its verificationMaterial says nothing of a public key".to_owned();
        return Err(bad(why));
    };
    if !material.tlog_entries.iter().all(LogEntry::is_in_tree) {
        let why = "an entry of a log lies outside its tree".to_owned();
        return Err(bad(why));
    }
    Ok(Sealed {
        payload: decode("payload", &envelope.payload)?,
        signature: decode("signature", &signature.sig)?,
        hint: key.hint.filter(|hint| !hint.is_empty()),
    })
}

impl Sealed {
    /// Whether `key` signed it.
    pub fn signed_by(&self, key: &PublicKey) -> Signed {
        if self.hint.as_ref().is_some_and(|hint| *hint != key.hint()) {
            Signed::OtherKey
        } else if key.verifies(&wire::pae(&self.payload), &self.signature) {
            Signed::Yes
        } else {
            Signed::No
        }
    }

    /// The statement in it.
    pub fn statement(&self) -> Result<Value, SignError> {
        statement(&self.payload)
    }
}

/// Reads an in-toto statement.
pub(crate) fn statement(text: &[u8]) -> Result<Value, SignError> {
    let bad = |why: String| SignError::statement(why);
    let value: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    match value["_type"].as_str() {
        Some(wire::STATEMENT) => Ok(value),
        other => Err(bad(format!(
            "its type is {other:?}, wanted is {:?}",
            wire::STATEMENT
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::{PRIVATE, PUBLIC};
    use serde_json::json;

    fn sealed() -> (String, PublicKey) {
        let key = PrivateKey::from_pem(PRIVATE).unwrap();
        let statement = json!({ "_type": wire::STATEMENT, "subject": [] });
        (seal(&statement, &key), PublicKey::from_pem(PUBLIC).unwrap())
    }

    #[test]
    fn what_is_sealed_opens() {
        let (text, key) = sealed();
        let sealed = open(text.as_bytes()).unwrap();
        assert_eq!(sealed.signed_by(&key), Signed::Yes);
        assert_eq!(sealed.statement().unwrap()["subject"], json!([]));
    }

    #[test]
    fn another_payload_is_not_signed() {
        let (text, key) = sealed();
        let mut bundle: Value = serde_json::from_str(&text).unwrap();
        let other = BASE64.encode(br#"{"_type":"x"}"#);
        bundle["dsseEnvelope"]["payload"] = other.into();
        let sealed = open(bundle.to_string().as_bytes()).unwrap();
        assert_eq!(sealed.signed_by(&key), Signed::No);
        assert!(sealed.statement().is_err());
        bundle["verificationMaterial"]["publicKey"]["hint"] = "00".into();
        let sealed = open(bundle.to_string().as_bytes()).unwrap();
        assert_eq!(sealed.signed_by(&key), Signed::OtherKey);
    }

    fn log_entry() -> Value {
        json!({
            "logIndex": "1", "logId": { "keyId": "AAAA" }, "integratedTime": "1",
            "kindVersion": { "kind": "dsse", "version": "0.0.1" },
            "inclusionPromise": { "signedEntryTimestamp": "AAAA" },
            "inclusionProof": {
                "logIndex": "1", "rootHash": "AAAA", "treeSize": "2", "hashes": ["AAAA"],
                "checkpoint": { "envelope": "x" },
            },
            "canonicalizedBody": "AAAA",
        })
    }

    /// What the definition allows, and the official tool takes, though neither of us writes it.
    #[test]
    fn what_the_definition_allows_is_taken() {
        let (text, _) = sealed();
        for allow in [
            (|b| b["verificationMaterial"]["publicKey"] = json!({})) as fn(&mut Value),
            |b| b["verificationMaterial"]["publicKey"]["hint"] = Value::Null,
            |b| b["verificationMaterial"]["publicKey"]["rawBytes"] = "AA==".into(),
            |b| b["verificationMaterial"]["publicKey"]["keyDetails"] = "X".into(),
            |b| b["verificationMaterial"]["certificate"] = Value::Null,
            |b| b["verificationMaterial"]["x509CertificateChain"] = Value::Null,
            |b| b["verificationMaterial"]["tlogEntries"] = json!([log_entry()]),
            |b| {
                let stamps = json!({ "rfc3161Timestamps": [{ "signedTimestamp": "AAAA" }] });
                b["verificationMaterial"]["timestampVerificationData"] = stamps;
            },
            |b| b["verificationMaterial"]["timestampVerificationData"] = json!({}),
            |b| b["messageSignature"] = Value::Null,
            |b| b["dsseEnvelope"]["signatures"][0]["keyid"] = Value::Null,
            |b| {
                b["verificationMaterial"]
                    .as_object_mut()
                    .unwrap()
                    .remove("tlogEntries");
            },
        ] {
            let mut bundle: Value = serde_json::from_str(&text).unwrap();
            allow(&mut bundle);
            let text = bundle.to_string();
            open(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn other_kinds_and_broken_files_are_told_apart() {
        let (text, _) = sealed();
        let good: Value = serde_json::from_str(&text).unwrap();
        let spoilt = |spoil: fn(&mut Value)| {
            let mut bundle = good.clone();
            spoil(&mut bundle);
            open(bundle.to_string().as_bytes()).unwrap_err()
        };
        let kind = spoilt(|b| b["verificationMaterial"]["certificate"] = json!({}));
        assert!(matches!(kind, SignError::OtherKind { .. }), "{kind}");
        let kind = spoilt(|b| b["messageSignature"] = json!({}));
        assert!(matches!(kind, SignError::OtherKind { .. }), "{kind}");
        for spoil in [
            (|b| b["mediaType"] = "x".into()) as fn(&mut Value),
            // Each of these the official tool (model-signing 1.1.1) refuses too.
            |b| b["foo"] = 1.into(),
            |b| b["verificationMaterial"] = json!({}),
            |b| b["verificationMaterial"] = json!({ "tlogEntries": [] }),
            |b| b["verificationMaterial"]["publicKey"] = Value::Null,
            |b| b["verificationMaterial"]["publicKey"]["foo"] = 1.into(),
            |b| b["verificationMaterial"]["foo"] = 1.into(),
            |b| b["verificationMaterial"]["tlogEntries"] = Value::Null,
            |b| b["verificationMaterial"]["tlogEntries"] = json!([{}]),
            |b| b["verificationMaterial"]["tlogEntries"] = json!(["x"]),
            |b| {
                let mut entry = log_entry();
                entry["inclusionProof"]["treeSize"] = "1".into();
                b["verificationMaterial"]["tlogEntries"] = json!([entry]);
            },
            |b| {
                let stamps = json!({ "rfc3161Timestamps": [{}] });
                b["verificationMaterial"]["timestampVerificationData"] = stamps;
            },
            |b| b["dsseEnvelope"]["foo"] = 1.into(),
            |b| b["dsseEnvelope"]["signatures"][0]["foo"] = 1.into(),
            |b| b["dsseEnvelope"]["signatures"][0]["keyid"] = 1.into(),
            |b| b["dsseEnvelope"] = Value::Null,
            |b| b["dsseEnvelope"]["payloadType"] = "x".into(),
            |b| b["dsseEnvelope"]["payload"] = "%".into(),
            |b| b["dsseEnvelope"]["signatures"] = json!([]),
            |b| b["dsseEnvelope"]["signatures"][0]["sig"] = "%".into(),
        ] {
            let error = spoilt(spoil);
            assert!(matches!(error, SignError::Malformed { .. }), "{error}");
        }
        let twice = text.replacen('{', "{\"mediaType\":\"x\",", 1);
        for text in ["", "{}", "[]", "{", &twice] {
            assert!(open(text.as_bytes()).is_err(), "{text}");
        }
    }
}
