//! Converts model files between formats: the registry and the one call.
#![forbid(unsafe_code)]
