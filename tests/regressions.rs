//! What fuzzing and the mutation tests found, again.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use std::fs;
use std::time::{Duration, Instant};
use weightbridge_tests::repository;
use weightbridge_tests::targets::{TARGETS, target};

#[test]
fn every_finding_stays_fixed() {
    let folder = repository().join("fuzz/regressions");
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        let run = target(&name).unwrap_or_else(|| panic!("no target {name}"));
        for file in fs::read_dir(entry.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            let start = Instant::now();
            // A panic names the file by what it prints here.
            println_path(&path);
            run(&bytes);
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "{} is slow",
                path.display()
            );
        }
    }
}

#[allow(clippy::print_stderr)] // shown only when the test fails
fn println_path(path: &std::path::Path) {
    eprintln!("{}", path.display());
}

/// Each target is a program of `fuzz/`, and each program a target.
#[test]
fn targets_and_programs_agree() {
    let programs = fs::read_dir(repository().join("fuzz/fuzz_targets")).unwrap();
    let mut programs: Vec<_> = programs
        .map(|entry| {
            entry
                .unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    programs.sort();
    let mut targets: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    targets.sort();
    assert_eq!(programs, targets);
}
