//! What several tests share.

use ir::{Context, Error, Input, Model, Reader};
use weightbridge_onnx::OnnxReader;

/// Reads a model of these bytes.
pub(crate) fn open_bytes(bytes: &[u8]) -> Result<Model, Error> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    std::fs::write(&path, bytes).unwrap();
    OnnxReader.open(&Input::open(&path)?, &Context::default())
}
