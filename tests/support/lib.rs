//! What the tests that cross crates share: the test files, their expected contents, folders.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

pub mod samples;
pub mod targets;

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The folder of test files.
pub fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata")
        .canonicalize()
        .expect("testdata")
}

/// The top of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("repository")
}

/// All files below `testdata/FOLDER`, sorted.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![testdata().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found
}

/// `start`, as many times `part` as `size` bytes have room for, and `end`.
pub fn filled(start: &[u8], part: &[u8], end: &[u8], size: usize) -> Vec<u8> {
    let mut out = start.to_vec();
    while out.len() + part.len() + end.len() <= size {
        out.extend(part);
    }
    out.extend(end);
    out
}

/// A tensor of PyTorch's within a pickle, its storage not in the file.
pub const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n\
    FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0K\x01\x85K\x01\x85\x89}tR";

/// The bytes as a gzip file, packed as small as it goes.
pub fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

/// Test files that the original tools described, with what they said.
pub fn expected(folder: &str) -> Vec<(PathBuf, Value)> {
    files(&format!("expected/{folder}"))
        .into_iter()
        .map(|json| {
            let value: Value =
                serde_json::from_slice(&std::fs::read(&json).unwrap()).expect("expected JSON");
            (
                testdata().join(value["file"].as_str().expect("file")),
                value,
            )
        })
        .collect()
}

/// The name of a test file, short enough for a message.
pub fn short(path: &Path) -> String {
    path.strip_prefix(testdata())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// SHA-256 as lower-case hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A fresh folder, removed when dropped.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

/// The files in a folder, hidden ones too.
pub fn left_in(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}
