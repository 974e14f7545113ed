//! Bad input is an error within limits: never a panic, never a partial output, never code run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use ir::Class;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};
use weightbridge::{ConvertRequest, Policy, Session};
use weightbridge_tests::{files, folder, left_in, short};

/// Longest any bad file may take. The figure promised is a second on a release build.
const PATIENCE: Duration = Duration::from_secs(10);

/// Converts a file into a fresh folder; a failure must be of a class a stranger's file can cause,
/// and leave nothing.
fn try_convert(path: &Path, policy: Policy) -> Result<(), String> {
    let dir = folder();
    let out = dir.path().join("out.safetensors");
    let start = Instant::now();
    let request = ConvertRequest {
        policy,
        verify: true,
        ..ConvertRequest::new(path, &out)
    };
    let done = weightbridge::convert(&request, &Session::default());
    assert!(
        start.elapsed() < PATIENCE,
        "{} took {:?}",
        short(path),
        start.elapsed()
    );
    match done {
        Ok(_) => {
            assert!(out.exists());
            Ok(())
        }
        Err(error) => {
            assert!(
                left_in(dir.path()).is_empty(),
                "{} left something",
                short(path)
            );
            assert!(
                matches!(
                    error.class(),
                    Class::Malformed | Class::Unsupported | Class::Limit | Class::Refused
                ),
                "{}: {error:?}",
                short(path)
            );
            assert!(
                error.path().is_some(),
                "{}: {error:?} names no file",
                short(path)
            );
            assert!(error.message().len() > 10, "{}: {error:?}", short(path));
            Err(error.to_string())
        }
    }
}

#[test]
fn malformed_files_are_refused() {
    let mut accepted = Vec::new();
    let bad = files("ckpt/bad")
        .into_iter()
        .chain(files("safetensors/bad"))
        .chain(files("gguf/bad"))
        .chain(files("onnx/bad").into_iter().filter(|path| is_onnx(path)));
    let mut tried = 0;
    for path in bad {
        tried += 1;
        // An odd file that the reference library loads too, with a note.
        let odd = path.ends_with("leading_space.safetensors");
        if try_convert(&path, Policy::Default).is_ok() != odd {
            accepted.push(short(&path));
        }
    }
    assert!(accepted.is_empty(), "accepted:\n{}", accepted.join("\n"));
    assert!(tried >= 180, "only {tried} files");
}

#[test]
fn hostile_files_are_refused_and_run_nothing() {
    let mut wrong = Vec::new();
    for path in files("ckpt/hostile") {
        let report = weightbridge::scan(std::slice::from_ref(&path), &Session::default()).unwrap();
        let verdict = report.files[0].verdict;
        if !matches!(verdict, scan::Verdict::Dangerous | scan::Verdict::Malformed) {
            wrong.push(format!("{} is called {verdict:?}", short(&path)));
        }
        if try_convert(&path, Policy::Default).is_ok() {
            wrong.push(format!("{} is converted", short(&path)));
        }
        // Whatever comes out under `extract`, it comes without a panic.
        let _ = try_convert(&path, Policy::Extract);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Archives that are no checkpoints, with the rule that tells of each: what a node of an exported
/// program calls, a size that sympy evaluates, an object array in an `.npz` that deflate did not pack.
const ARCHIVES: &[(&str, &[&str])] = &[
    (
        "again.joblib",
        &[
            "broken-pickle",
            "code-execution",
            "hidden-payload",
            "parser-disagreement",
        ],
    ),
    ("behind.joblib", &["code-execution"]),
    ("bzip2.npz", &["process"]),
    ("bzip2_behind.npz", &["process"]),
    ("element.joblib", &["process"]),
    ("export_file.pt2", &["torchscript-file-access"]),
    ("export_size.pt2", &["code-execution"]),
    ("export_system.pt2", &["config-callable"]),
    ("export_target.pt2", &["config-callable"]),
    (
        "filled.joblib",
        &["code-execution", "hidden-bytes", "nested-pickle"],
    ),
    (
        "frame.joblib",
        &[
            "broken-pickle",
            "code-execution",
            "indirection",
            "nested-pickle",
        ],
    ),
    ("lzma.npz", &["process"]),
    ("lzma_behind.npz", &["process"]),
    ("memo.joblib", &["process"]),
    ("old.joblib", &["code-execution"]),
    ("opcodes.joblib", &["code-execution"]),
    (
        "version.joblib",
        &["code-execution", "hidden-bytes", "nested-pickle"],
    ),
];

#[test]
fn archives_that_are_no_checkpoints_are_looked_through() {
    let hostile = files("scan/hostile");
    let names: Vec<_> = hostile
        .iter()
        .filter_map(|path| path.file_name()?.to_str())
        .collect();
    assert_eq!(names, ARCHIVES.iter().map(|row| row.0).collect::<Vec<_>>());
    for (path, (name, rules)) in hostile.iter().zip(ARCHIVES) {
        let report = weightbridge::scan(std::slice::from_ref(path), &Session::default()).unwrap();
        let file = &report.files[0];
        assert_eq!(file.verdict, scan::Verdict::Dangerous, "{name}");
        let found: BTreeSet<_> = file.findings.iter().map(|f| f.rule).collect();
        assert_eq!(found, rules.iter().copied().collect(), "{name}");
    }
    // The same archives with what people put into them.
    let harmless = files("scan/harmless");
    assert_eq!(harmless.len(), 7);
    let report = weightbridge::scan(&harmless, &Session::default()).unwrap();
    for file in &report.files {
        assert_eq!(file.verdict, scan::Verdict::Clean, "{file:?}");
        assert!(file.findings.is_empty(), "{file:?}");
    }
}

/// Data files of models are no models.
fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "onnx")
}
