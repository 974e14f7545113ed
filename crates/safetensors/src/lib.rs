//! Reads and writes safetensors, single files and sharded sets.
#![forbid(unsafe_code)]
