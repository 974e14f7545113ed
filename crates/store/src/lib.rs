//! Files in object storage: read by range, written in parts, seen only when whole.
//!
//! [`Store`] is the [`ir::Remote`] behind `s3://`, `gs://`, `az://`, `http://` and `https://`
//! names. Only this crate knows `object_store`, tokio and reqwest; everything it offers blocks,
//! and is called from any thread but its own.
//!
//! | file | what it does |
//! |---|---|
//! | `address.rs` | names: taken apart, and those of strangers made safe |
//! | `backend.rs` | one client a bucket, made from the environment |
//! | `connect.rs` | the condition `object_store` cannot put on the end of a multipart upload |
//! | `io.rs` | runs requests: how many at a time, how often again, until when |
//! | `cache.rs`, `source.rs` | reads by range, read-ahead, one version of an object or an error |
//! | `parts.rs`, `upload.rs` | writes at any offset become parts; the name comes last |
//! | `raw.rs` | what `object_store` has no call for: unfinished uploads, keys it cannot name |
//! | `change.rs` | second names, removals |
//! | `remote.rs` | kinds, listings, and the face of it all |
//!
//! What is promised, and what a storage must do for it, is in `docs/storage.md`.

#![forbid(unsafe_code)]

mod address;
mod backend;
mod cache;
mod change;
mod connect;
mod error;
mod io;
mod parts;
mod raw;
mod remote;
mod source;
mod upload;

#[cfg(test)]
mod tests;

pub use address::safe_relative;
pub use error::StoreError;
pub use remote::{Options, Store};
