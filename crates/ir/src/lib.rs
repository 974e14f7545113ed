//! The model in memory.
mod dtype;
pub use dtype::{BlockFormat, DType, UnknownDType};
