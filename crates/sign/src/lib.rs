//! Signatures of models, in the format of the OpenSSF Model Signing specification 1.0, and signed
//! statements of conversions.
//!
//! A signature is one JSON file: a Sigstore bundle with a DSSE envelope, whose payload is an in-toto
//! statement with the digest of every file. [`wire`] has the layout. [`survey`] lists a model's
//! files, [`digests`] reads them, [`Manifest`] is what is signed, [`compare`] holds a model against
//! it. [`Provenance`] is the statement of what a conversion made of what.
//!
//! Only keys are supported: ECDSA on P-256, P-384 and P-521. There is no keyless signing and there
//! are no certificates here; bundles of these kinds are refused by name.

#![forbid(unsafe_code)]

mod compare;
mod envelope;
mod error;
mod files;
mod hash;
mod key;
mod manifest;
mod provenance;
pub mod wire;

pub use compare::{Difference, compare};
pub use envelope::{Sealed, Signed, is_bundle, open, seal};
pub use error::SignError;
pub use files::{Found, Survey, survey};
pub use hash::{Digest, Source, Span, digests};
pub use key::{PrivateKey, PublicKey};
pub use manifest::{Manifest, Method, Resource, Scope};
pub use provenance::{Artifact, Provenance, subjects, unsigned};
