//! Keys: PEM in, signatures out. Nothing here prints a private key, and its memory is wiped.

use crate::SignError;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _, EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// Longest key file.
const KEY_MAX: usize = 64 << 10;

/// A private key that signs.
pub struct PrivateKey(Private);

/// The curves; each signs with the hash of its own size, as Sigstore has it. The key types wipe
/// themselves when they are dropped.
enum Private {
    P256(p256::ecdsa::SigningKey),
    P384(p384::ecdsa::SigningKey),
    P521(p521::ecdsa::SigningKey),
}

/// A public key that verifies.
#[derive(Clone, Debug)]
pub struct PublicKey(Public);

#[derive(Clone, Debug)]
enum Public {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.curve())
    }
}

impl PrivateKey {
    /// Reads a PEM file, or standard input where the path is `-`.
    pub fn read(path: &Path) -> ir::Result<Self> {
        let text = read_text(path)?;
        Self::from_pem(&text).map_err(|e| ir::Error::from(e).in_file(path))
    }

    /// A key from PEM text: PKCS #8 (`PRIVATE KEY`) or SEC 1 (`EC PRIVATE KEY`), which may stand
    /// beside other blocks, as `openssl ecparam` writes them.
    pub fn from_pem(text: &str) -> Result<Self, SignError> {
        if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || text.contains("Proc-Type: 4,ENCRYPTED")
        {
            return Err(SignError::Encrypted);
        }
        let bad = |why| SignError::BadKey {
            wanted: "private",
            why,
        };
        if let Some(block) = block(text, "PRIVATE KEY") {
            let key = p256::SecretKey::from_pkcs8_pem(block)
                .map(|key| Private::P256(key.into()))
                .or_else(|_| {
                    p384::SecretKey::from_pkcs8_pem(block).map(|key| Private::P384(key.into()))
                })
                .or_else(|_| {
                    p521::SecretKey::from_pkcs8_pem(block).map(|key| Private::P521(key.into()))
                });
            return key.map(Self).map_err(|_| bad(OTHER));
        }
        let Some(block) = block(text, "EC PRIVATE KEY") else {
            return Err(bad("no PEM block of a private key"));
        };
        let key = p256::SecretKey::from_sec1_pem(block)
            .map(|key| Private::P256(key.into()))
            .or_else(|_| p384::SecretKey::from_sec1_pem(block).map(|key| Private::P384(key.into())))
            .or_else(|_| {
                p521::SecretKey::from_sec1_pem(block).map(|key| Private::P521(key.into()))
            });
        key.map(Self).map_err(|_| bad(OTHER))
    }

    /// The name of its curve.
    pub fn curve(&self) -> &'static str {
        self.public().curve()
    }

    /// The public key that belongs to it.
    pub fn public(&self) -> PublicKey {
        PublicKey(match &self.0 {
            Private::P256(key) => Public::P256(*key.verifying_key()),
            Private::P384(key) => Public::P384(*key.verifying_key()),
            Private::P521(key) => Public::P521(*key.verifying_key()),
        })
    }

    /// Signs, in DER. The nonce comes from key and message (RFC 6979), so that no weak source of
    /// chance can give the key away, and the same message gets the same signature.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.0 {
            Private::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Private::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
            Private::P521(key) => {
                let signature: p521::ecdsa::DerSignature = key.sign(message);
                signature.as_bytes().to_vec()
            }
        }
    }
}

impl PublicKey {
    /// Reads a PEM file, or standard input where the path is `-`.
    pub fn read(path: &Path) -> ir::Result<Self> {
        let text = read_text(path)?;
        Self::from_pem(&text).map_err(|e| ir::Error::from(e).in_file(path))
    }

    /// A key from PEM text (`PUBLIC KEY`).
    pub fn from_pem(text: &str) -> Result<Self, SignError> {
        let bad = |why| SignError::BadKey {
            wanted: "public",
            why,
        };
        let Some(block) = block(text, "PUBLIC KEY") else {
            let private = text.contains("PRIVATE KEY-----");
            return Err(bad(if private {
                "it is the private key, which stays with who signs"
            } else {
                "no PEM block of a public key"
            }));
        };
        p256::ecdsa::VerifyingKey::from_public_key_pem(block)
            .map(Public::P256)
            .or_else(|_| p384::ecdsa::VerifyingKey::from_public_key_pem(block).map(Public::P384))
            .or_else(|_| p521::ecdsa::VerifyingKey::from_public_key_pem(block).map(Public::P521))
            .map(Self)
            .map_err(|_| bad(OTHER))
    }

    /// The name of its curve.
    pub fn curve(&self) -> &'static str {
        match self.0 {
            Public::P256(_) => "P-256",
            Public::P384(_) => "P-384",
            Public::P521(_) => "P-521",
        }
    }

    /// What a bundle names it by: SHA-256 of its PEM text, in hex.
    pub fn hint(&self) -> String {
        let pem = match &self.0 {
            Public::P256(key) => key.to_public_key_pem(LineEnding::LF),
            Public::P384(key) => key.to_public_key_pem(LineEnding::LF),
            Public::P521(key) => key.to_public_key_pem(LineEnding::LF),
        };
        // A point that was read or computed always has an encoding.
        crate::hash::hex(&Sha256::digest(pem.unwrap_or_default()))
    }

    /// Whether a signature, in DER, is this key's over a message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Public::P256(key) => p256::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Public::P384(key) => p384::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
            Public::P521(key) => p521::ecdsa::DerSignature::try_from(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

const OTHER: &str = "it is damaged, or not ECDSA on P-256, P-384 or P-521";

/// The PEM block of a label, from its first dash to its last.
fn block<'a>(text: &'a str, label: &str) -> Option<&'a str> {
    let start = text.find(&format!("-----BEGIN {label}-----"))?;
    let end = format!("-----END {label}-----");
    let rest = text.get(start..)?;
    let len = rest.find(&end)? + end.len();
    rest.get(..len)
}

/// A short text that is wiped from memory; in one buffer of fixed size, so that growing leaves no
/// copies behind.
fn read_text(path: &Path) -> ir::Result<Zeroizing<String>> {
    let io = |source| ir::Error::io("read the key", path, source);
    let mut buffer = Zeroizing::new(vec![0; KEY_MAX + 1]);
    let mut len = 0;
    let mut file: Box<dyn Read> = if path.as_os_str() == "-" {
        standard_input().map_err(io)?
    } else {
        Box::new(std::fs::File::open(path).map_err(io)?)
    };
    while let Some(rest) = buffer.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
    }
    ir::Limits::check("bytes of a key", len as u64, KEY_MAX as u64)
        .map_err(|error| error.in_file(path))?;
    let text = buffer
        .get(..len)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    Ok(Zeroizing::new(text.unwrap_or_default().to_owned()))
}

/// Standard input without the buffer that the standard library would keep a copy in.
#[cfg(unix)]
fn standard_input() -> std::io::Result<Box<dyn Read>> {
    use std::os::fd::AsFd as _;
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    Ok(Box::new(std::fs::File::from(input)))
}

/// Standard input.
#[cfg(not(unix))]
fn standard_input() -> std::io::Result<Box<dyn Read>> {
    Ok(Box::new(std::io::stdin()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A key for tests only.
    pub(crate) const PRIVATE: &str = include_str!("../../../testdata/sign/key.pem");
    pub(crate) const PUBLIC: &str = include_str!("../../../testdata/sign/pub.pem");
    /// What `sha256sum` says of the public key's file.
    const HINT: &str = "f95592c62fd47d5cd4a6171446d23f1698a18eab88c0e836f6dce7033e44f1cc";

    #[test]
    fn the_public_key_is_known_by_its_text() {
        let public = PublicKey::from_pem(PUBLIC).unwrap();
        assert_eq!(public.hint(), HINT);
        let private = PrivateKey::from_pem(PRIVATE).unwrap();
        assert_eq!(private.public().hint(), HINT);
        assert_eq!(format!("{private:?}"), "PrivateKey(P-256)");
    }

    #[test]
    fn a_signature_holds_for_its_message_and_key_only() {
        let private = PrivateKey::from_pem(PRIVATE).unwrap();
        let signature = private.sign(b"weights");
        assert_eq!(signature, private.sign(b"weights"));
        assert!(private.public().verifies(b"weights", &signature));
        assert!(!private.public().verifies(b"weightz", &signature));
        assert!(!private.public().verifies(b"weights", &signature[1..]));
    }

    #[test]
    fn what_is_no_key_says_what_to_do() {
        for (text, want) in [
            ("", "no PEM block"),
            (PUBLIC, "no PEM block"),
            ("-----BEGIN ENCRYPTED PRIVATE KEY-----", "encrypted"),
            (
                "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
                "damaged",
            ),
        ] {
            let error = PrivateKey::from_pem(text).unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
            assert!(ir::Error::from(error).help().is_some());
        }
        let error = PublicKey::from_pem(PRIVATE).unwrap_err();
        assert!(error.to_string().contains("private key, which stays"));
    }
}
