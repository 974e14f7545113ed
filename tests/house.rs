//! The house's own rules: which crate stands on which, and where `unsafe` may be.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use std::collections::BTreeMap;
use std::fs;
use weightbridge_tests::repository;

/// What each crate may stand on. An arrow that is not here is a change of the house.
const STANDS_ON: &[(&str, &[&str])] = &[
    ("native", &[]),
    ("ir", &["native"]),
    ("quant", &["ir"]),
    ("safetensors", &["ir"]),
    ("ckpt", &["ir", "native"]),
    ("foreign", &["ir"]),
    ("gguf", &["ir"]),
    ("onnx", &["ir"]),
    ("repo", &["ir"]),
    ("arch", &["ir", "wording"]),
    ("unpack", &["ir", "quant"]),
    ("vocab", &["ir"]),
    ("decoder", &["ir"]),
    ("wording", &[]),
    ("scan", &["ir", "wording"]),
    ("store", &["ir", "native"]),
    ("sign", &["ir"]),
    ("convert", &["ir", "native", "quant"]),
    ("report", &["wording"]),
    (
        "weightbridge",
        &[
            "arch", "ckpt", "convert", "decoder", "foreign", "gguf", "ir", "native", "onnx",
            "repo", "report", "scan", "sign", "st", "store", "unpack", "vocab", "wording",
        ],
    ),
    (
        "migrate",
        &["convert", "ir", "native", "report", "weightbridge"],
    ),
    (
        "cli",
        &[
            "convert",
            "ir",
            "migrate",
            "native",
            "scan",
            "weightbridge",
            "wording",
        ],
    ),
];

const OURS: &[&str] = &[
    "native",
    "ir",
    "quant",
    "st",
    "ckpt",
    "foreign",
    "gguf",
    "onnx",
    "repo",
    "arch",
    "unpack",
    "vocab",
    "decoder",
    "scan",
    "store",
    "sign",
    "convert",
    "report",
    "weightbridge",
    "wording",
    "migrate",
];

#[test]
fn arrows_run_down() {
    let rules: BTreeMap<_, _> = STANDS_ON.iter().copied().collect();
    for entry in fs::read_dir(repository().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let allowed = rules
            .get(name.as_str())
            .unwrap_or_else(|| panic!("{name} has no room yet"));
        let manifest = fs::read_to_string(path.join("Cargo.toml")).unwrap();
        let start = manifest.find("\n[dependencies]").unwrap();
        let section = &manifest[start + 1..];
        let section = section.split("\n[").next().unwrap();
        for line in section.lines().skip(1) {
            let dependency = line.split(['.', ' ', '=']).next().unwrap();
            if OURS.contains(&dependency) {
                assert!(
                    allowed.contains(&dependency),
                    "{name} stands on {dependency}"
                );
            }
        }
    }
}

#[test]
fn unsafe_lives_in_native_only() {
    for entry in fs::read_dir(repository().join("crates")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("native") {
            continue;
        }
        let root = ["src/lib.rs", "src/main.rs"].map(|file| path.join(file));
        let text = root
            .iter()
            .find_map(|file| fs::read_to_string(file).ok())
            .unwrap();
        assert!(
            text.contains("#![forbid(unsafe_code)]"),
            "{}",
            path.display()
        );
    }
}

/// Each block says why it is sound.
#[test]
fn unsafe_has_its_reason() {
    let mut blocks = 0;
    for path in fs::read_dir(repository().join("crates/native/src")).unwrap() {
        let text = fs::read_to_string(path.unwrap().path()).unwrap();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let code = !line.starts_with("//");
            if code && (line.contains("unsafe {") || line.contains("unsafe fn")) {
                blocks += 1;
                let before = &lines[at.saturating_sub(6)..at];
                assert!(
                    before.iter().any(|line| line.starts_with("// SAFETY:")),
                    "{line}"
                );
            }
        }
    }
    assert_eq!(blocks, 9, "docs/safety.md tells how many there are");
}
