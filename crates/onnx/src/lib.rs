//! The ONNX schema as Rust types, and how an ONNX file is told.
//!
//! This version names ONNX files as what they are; it does not read or write them yet.

#![forbid(unsafe_code)]

mod probe;
pub mod wire;

pub use probe::probe;

/// ONNX models, recognised only.
pub static FORMAT: ir::Format = ir::Format {
    id: "onnx",
    names: &[],
    title: "ONNX model",
    extensions: &["onnx"],
    probe,
    reader: None,
    writer: None,
};
