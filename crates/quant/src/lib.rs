//! Numbers into numbers, slice to slice.
//!
//! [`cast`] goes between the plain float types. Nothing here knows files, names or threads:
//! callers cut tensors into slices and hand them in.
#![forbid(unsafe_code)]
// Kernels are compiled once per instruction set, which works only where everything is inlined
// into the one function that carries the features (see `dispatch`).
#![allow(clippy::inline_always)]
// Branches stop the vectoriser.
#![allow(clippy::needless_bitwise_bool)]

mod cast;
mod dispatch;
mod float;

pub use cast::{CastError, CastStats, can_cast, cast, cast_at};
pub use dispatch::Level;
