//! Reads and writes PyTorch checkpoints; a pickle is data and is never executed.
#![forbid(unsafe_code)]

pub mod writer;
