//! Numbers into numbers, slice to slice.
#![forbid(unsafe_code)]
