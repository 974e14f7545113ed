//! Bad input is an error within limits: never a panic, never a partial output, never code run.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use ir::{Class, ReadOptions};
use std::fs;
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

/// Data files of models are no models.
fn is_onnx(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "onnx")
}

/// Small good files of every kind, to cut and flip.
fn seeds() -> Vec<std::path::PathBuf> {
    let good = files("ckpt/good")
        .into_iter()
        .chain(files("safetensors/good"))
        .chain(files("gguf/good"))
        .chain(files("onnx/good").into_iter().filter(|path| is_onnx(path)));
    good.filter(|path| fs::metadata(path).unwrap().len() < 6_000)
        .collect()
}

/// Opens bytes and reads every tensor: an answer or an error, never a panic.
fn open_all(path: &Path) {
    let session = Session::default();
    let start = Instant::now();
    let _ = weightbridge::scan(&[path.to_owned()], &session);
    let read = ReadOptions {
        all: true,
        ..ReadOptions::default()
    };
    if let Ok(opened) = weightbridge::open(path, None, read, &session) {
        for tensor in &opened.model.tensors {
            if tensor.byte_len() < 1 << 20 {
                let _ = tensor.read_all();
            }
        }
    }
    assert!(
        start.elapsed() < PATIENCE,
        "{} took {:?}",
        path.display(),
        start.elapsed()
    );
}

#[test]
fn cut_anywhere() {
    let dir = folder();
    let path = dir.path().join("cut");
    for seed in seeds() {
        let bytes = fs::read(&seed).unwrap();
        // Every byte of the first and last hundred, and a spread between.
        let step = (bytes.len() / 60).max(1);
        let cuts = (0..bytes.len()).filter(|i| *i < 100 || *i + 100 > bytes.len() || i % step == 0);
        for cut in cuts {
            fs::write(&path, &bytes[..cut]).unwrap();
            open_all(&path);
        }
    }
}

#[test]
fn flipped_anywhere() {
    let dir = folder();
    let path = dir.path().join("flipped");
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 16).unwrap() % below
    };
    for seed in seeds() {
        let bytes = fs::read(&seed).unwrap();
        if bytes.is_empty() {
            continue;
        }
        for round in 0..60 {
            let mut mutant = bytes.clone();
            for _ in 0..=round % 3 {
                let at = random(mutant.len());
                mutant[at] = match random(4) {
                    0 => 0,
                    1 => 0xff,
                    2 => mutant[at] ^ (1 << random(8)),
                    _ => u8::try_from(random(256)).unwrap(),
                };
            }
            fs::write(&path, &mutant).unwrap();
            open_all(&path);
        }
    }
}
