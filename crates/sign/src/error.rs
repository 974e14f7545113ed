//! What can go wrong with signatures.

use ir::{Class, Diagnose};

/// Why a key, a signature or a statement cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A file that is not what it should be.
    #[error("not a {expected}: {why}")]
    Malformed {
        /// What it should be, e.g. `signature`.
        expected: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A signature of a kind that is not known here.
    #[error("this is {what}, and only signatures made with a key are known here")]
    OtherKind {
        /// Of which kind.
        what: String,
    },
    /// A private key under a password.
    #[error("the private key is encrypted")]
    Encrypted,
    /// A key that cannot be used.
    #[error("there is no usable {wanted} key in it: {why}")]
    BadKey {
        /// `private` or `public`.
        wanted: &'static str,
        /// What was seen.
        why: &'static str,
    },
    /// Something in a model's folder that a signature cannot cover.
    #[error("{name:?} {why}")]
    NotCovered {
        /// The path inside the folder.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// A folder without files.
    #[error("there is no file in it to sign")]
    Nothing,
    /// A hash that is not known here.
    #[error("its digests are {algorithm:?}, and sha256 is what is known here")]
    Hash {
        /// The name of the hash.
        algorithm: String,
    },
}

impl SignError {
    pub(crate) fn signature(why: impl Into<String>) -> Self {
        Self::Malformed {
            expected: "signature",
            why: why.into(),
        }
    }

    pub(crate) fn statement(why: impl Into<String>) -> Self {
        Self::Malformed {
            expected: "statement",
            why: why.into(),
        }
    }
}

impl Diagnose for SignError {
    fn class(&self) -> Class {
        match self {
            Self::Malformed { .. } => Class::Malformed,
            Self::OtherKind { .. } | Self::Encrypted | Self::BadKey { .. } | Self::Hash { .. } => {
                Class::Unsupported
            }
            Self::NotCovered { .. } | Self::Nothing => Class::Refused,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::OtherKind { .. } => {
                "Verify it with the official tool: pip install model-signing; model_signing verify --help"
            }
            Self::Encrypted => {
                "Decrypt it on the way, so that no plain copy is left: openssl pkey -in KEY.pem | \
                 weightbridge sign DIR --key -"
            }
            Self::BadKey {
                wanted: "private", ..
            } => {
                "Keys are PEM files, ECDSA on P-256, P-384 or P-521: openssl genpkey -algorithm EC \
                 -pkeyopt ec_paramgen_curve:P-256 -out KEY.pem"
            }
            Self::BadKey { .. } => {
                "Get the public key out of the private one: openssl pkey -in KEY.pem -pubout -out PUB.pem"
            }
            Self::NotCovered { why, .. } if why.contains("link") => {
                "--allow-symlinks signs what links to files lead to"
            }
            Self::NotCovered { .. } => "Take it out of the folder",
            _ => return None,
        };
        Some(text.to_owned())
    }
}
