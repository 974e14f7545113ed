//! Published advisories, replayed: each test is named after an id and builds the file it is about.
//! `docs/advisories.md` lists them. Nothing here is loaded by what it attacks, and every payload is
//! a word that does nothing.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

mod containers;
mod files;
mod formats;
mod pickles;

use files::scan as look;
use std::collections::BTreeSet;
use weightbridge_tests::repository;

/// The document and the tests tell the same ids.
#[test]
fn the_document_lists_every_test() {
    let sources = ["pickles.rs", "containers.rs", "formats.rs"];
    let mut tests = BTreeSet::new();
    for source in sources {
        let path = repository().join("tests/advisories").join(source);
        let text = std::fs::read_to_string(path).unwrap();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("ghsa_") || word.starts_with("cve_") {
                tests.insert(word.to_owned());
            }
        }
    }
    let text = std::fs::read_to_string(repository().join("docs/advisories.md")).unwrap();
    let listed: BTreeSet<String> = text
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .filter(|word| word.starts_with("ghsa_") || word.starts_with("cve_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(tests, listed);
    assert!(tests.len() >= 60, "{} ids", tests.len());
    for id in &tests {
        let shown = id.replace('_', "-");
        let shown = match shown.strip_prefix("ghsa-") {
            Some(rest) => format!("GHSA-{rest}"),
            None => shown.to_ascii_uppercase(),
        };
        assert!(text.contains(&format!("| {shown} |")), "{shown}");
    }
}

/// A harmless file of each kind is clean, so that the tests cannot pass by refusing everything.
#[test]
fn their_harmless_twins_are_clean() {
    for (name, bytes) in files::harmless() {
        let scanned = look(name, &bytes);
        let verdict = scanned.verdict;
        assert_eq!(verdict, scan::Verdict::Clean, "{name}: {scanned:?}");
    }
}
