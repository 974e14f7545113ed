//! Numbers into numbers, slice to slice.
//!
//! [`cast()`] goes between the plain float types; [`quantize_rows`] and [`dequantize`] between
//! numbers and ggml's block formats, byte for byte as ggml 0.25 on x86-64 does it. Nothing here
//! knows files, names or threads: callers cut tensors into slices and hand them in.
//!
//! Each format has a plain scalar reference (`scalar/`), which documents its layout, and where it
//! pays a kernel that works on several blocks side by side (`fast/`) and gives the same bytes.
#![forbid(unsafe_code)]
// Kernels are compiled once per instruction set, which works only where everything is inlined
// into the one function that carries the features (see `dispatch`).
#![allow(clippy::inline_always)]
// Branches stop the vectoriser.
#![allow(clippy::needless_bitwise_bool)]

mod cast;
mod codec;
mod dispatch;
// C's narrowing, and float equality with zero, are the specification of these two.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::many_single_char_names,
    clippy::needless_range_loop, // indices mirror the documented layouts
    clippy::precedence // shifts and masks of bit fields
)]
mod fast;
mod float;
mod parts;
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    clippy::many_single_char_names,
    clippy::needless_range_loop,
    clippy::precedence
)]
mod scalar;

pub use cast::{CastError, CastStats, can_cast, cast, cast_at};
pub use codec::{
    Kernels, QuantError, can_dequantize, can_quantize, dequantize, dequantize_with, quantize_rows,
    quantize_rows_from, quantize_rows_from_with, quantize_rows_with, requires_importance,
};
pub use dispatch::Level;
pub use parts::{MXFP4_VALUES, PER_BLOCK, PartLayout, mxfp4_scales, pack_nibbles, unpack_nibbles};
