//! `docs/pairs.md` against the code: every ordered pair of the registry, in both intents.
//!
//! A row is `| FROM → TO | carried | changed | lost |`, the cells lists of the kinds of records that
//! the conversion gives; for `llm` also what becomes of the model. Where they differ, the row as it
//! should be is printed.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use convert::DiffOptions;
use ir::{Format, Outcome, ReadOptions, Record};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use weightbridge::{ConvertRequest, Edit, Intent, LlmOptions, Names, Session, registry};
use weightbridge_tests::{expected, folder, repository, samples};

fn writers() -> impl Iterator<Item = &'static Format> {
    registry()
        .iter()
        .copied()
        .filter(|format| format.writer.is_some())
}

fn by_id(id: &str) -> &'static Format {
    writers().find(|format| format.id == id).unwrap()
}

/// The rows of a section of the document: cells by pair.
fn documented(section: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(repository().join("docs/pairs.md")).unwrap();
    let after = text.split_once(&format!("\n## {section}\n")).unwrap().1;
    let part = after.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let (pair, cells) = line.strip_prefix("| ")?.split_once(" | ")?;
        pair.contains(" → ")
            .then(|| (pair.to_owned(), format!("| {pair} | {cells}")))
    };
    part.lines().filter_map(row).collect()
}

/// Kinds by outcome.
#[derive(Default)]
struct Seen([BTreeSet<&'static str>; 3]);

impl Seen {
    fn add(&mut self, records: &[Record]) {
        for record in records {
            let at = match record.outcome {
                Outcome::Carried => 0,
                Outcome::Changed => 1,
                Outcome::Dropped => 2,
            };
            self.0[at].insert(record.kind);
        }
    }

    fn row(&self, pair: &str, first: Option<&str>) -> String {
        let cell = |kinds: &BTreeSet<&str>| match kinds.len() {
            0 => "–".to_owned(),
            _ => kinds
                .iter()
                .map(|kind| format!("`{kind}`"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        let cells = first
            .map(str::to_owned)
            .into_iter()
            .chain(self.0.iter().map(cell));
        format!("| {pair} | {} |", cells.collect::<Vec<_>>().join(" | "))
    }
}

fn compare(section: &str, rows: &[(String, String)]) {
    let documented = documented(section);
    let names: BTreeSet<&String> = rows.iter().map(|(pair, _)| pair).collect();
    assert_eq!(
        names,
        documented.keys().collect(),
        "the pairs of {section:?}"
    );
    let wrong: Vec<&str> = (rows.iter())
        .filter(|(pair, row)| documented.get(pair) != Some(row))
        .map(|(_, row)| row.as_str())
        .collect();
    assert!(
        wrong.is_empty(),
        "docs/pairs.md, {section:?}, should say:\n{}",
        wrong.join("\n")
    );
}

/// Every kind in the tables is explained in the words, with the outcome it has there.
#[test]
fn every_kind_has_a_word() {
    let text = std::fs::read_to_string(repository().join("docs/pairs.md")).unwrap();
    let (tables, words) = text.split_once("\n## Words\n").unwrap();
    let quoted = |cell: &str| -> Vec<String> {
        let parts = cell.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    let mut explained = BTreeSet::new();
    for line in words.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
        let (kinds, outcome) = (cells.next().unwrap(), cells.next().unwrap());
        explained.extend(
            quoted(kinds)
                .into_iter()
                .map(|kind| (outcome.to_owned(), kind)),
        );
    }
    let mut tried = 0;
    for row in tables
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(" → "))
    {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").collect();
        let outcomes = ["dropped", "changed", "carried"];
        for (cell, outcome) in cells.iter().rev().zip(outcomes) {
            for kind in quoted(cell) {
                tried += 1;
                assert!(
                    explained.contains(&(outcome.to_owned(), kind.clone())),
                    "{outcome} {kind}"
                );
            }
        }
    }
    assert!(tried > 40, "{tried}");
}

/// The files a format's row is tried with: those of other programs, and one of everything.
fn starts(format: &Format, dir: &Path) -> Vec<PathBuf> {
    let everything = dir.join(format!("everything.{}", format.extensions[0]));
    samples::write(&samples::everything(format), format, &everything);
    let mut starts = vec![everything];
    for (path, truth) in expected(&format!("{}/good", format.id)) {
        let opened = weightbridge::open(&path, None, ReadOptions::default(), &Session::default());
        let filled = opened.is_ok_and(|opened| !opened.model.tensors.is_empty());
        if filled && truth["frozen"] != true {
            starts.push(path);
        }
    }
    starts
}

/// Carries the tensors of a file into another format; the records of it.
fn carried(start: &Path, to: &Format, output: &Path, keep_blocks: bool) -> Vec<Record> {
    let request = ConvertRequest {
        overwrite: true,
        keep_blocks,
        intent: Some(Intent::Container),
        ..ConvertRequest::new(start, output)
    };
    let done = weightbridge::convert(&request, &Session::default());
    let done = done.unwrap_or_else(|e| panic!("{} to {}: {e}", start.display(), to.id));
    done.report.records
}

#[test]
fn containers() {
    let mut rows = Vec::new();
    for from in writers() {
        let dir = folder();
        let starts = starts(from, dir.path());
        for to in writers() {
            let mut seen = Seen::default();
            for start in &starts {
                let output = dir.path().join(format!("to.{}", to.extensions[0]));
                seen.add(&carried(start, to, &output, false));
            }
            let pair = format!("{} → {}", from.title, to.title);
            rows.push((pair.clone(), seen.row(&pair, None)));
        }
    }
    compare("Tensors, carried", &rows);
}

/// What carries another format's tensors, by notes, is treated as either of the two.
#[test]
fn containers_of_containers() {
    let rows = documented("Tensors, carried");
    let cells = |from: &Format, to: &Format| -> Vec<String> {
        let row = &rows[&format!("{} → {}", from.title, to.title)];
        row.split(" | ").skip(1).map(str::to_owned).collect()
    };
    let dir = folder();
    let path = |name: &str, of: &Format| dir.path().join(format!("{name}.{}", of.extensions[0]));
    for origin in writers() {
        let everything = path("everything", origin);
        samples::write(&samples::everything(origin), origin, &everything);
        for from in writers() {
            let middle = path("middle", from);
            carried(&everything, from, &middle, true);
            for to in writers() {
                let (own, other) = (cells(from, to), cells(origin, to));
                for record in carried(&middle, to, &path("to", to), false) {
                    let at = match record.outcome {
                        Outcome::Carried => 0,
                        Outcome::Changed => 1,
                        Outcome::Dropped => 2,
                    };
                    let kind = format!("`{}`", record.kind);
                    let told = own[at].contains(&kind) || other[at].contains(&kind);
                    let (origin, from) = (origin.title, from.title);
                    assert!(told, "{origin} in {from} to {}: {record:?}", to.title);
                }
            }
        }
    }
}

/// Converts a language model as one; the GGUF's file, or the folder.
fn as_llm(
    input: &Path,
    to: &Format,
    output: &Path,
    keys: &[&str],
) -> ir::Result<(PathBuf, Vec<Record>)> {
    let output = match to.id {
        "gguf" => output.with_extension("gguf"),
        _ => output.join("tiny/"),
    };
    let request = ConvertRequest {
        intent: Some(Intent::Llm),
        to: Some(to.id.to_owned()),
        edits: keys.iter().map(|key| Edit::set(key).unwrap()).collect(),
        llm: LlmOptions {
            pre: Some("llama-bpe".to_owned()),
            ..LlmOptions::default()
        },
        ..ConvertRequest::new(input, &output)
    };
    let done = weightbridge::convert(&request, &Session::default())?;
    Ok((output, done.report.records))
}

#[test]
fn language_models() {
    let dir = folder();
    let path = |name: &str| dir.path().join(name);
    let st = by_id("safetensors");
    let original = path("original/tiny");
    samples::repository(&original, st);
    let session = Session::default();
    let mut models = BTreeMap::new();
    for format in writers() {
        // A key that nobody knows, and one of who quantized it.
        let keys: &[&str] = match format.id {
            "gguf" => &["somebody.list=[u16]:[1,2]", "general.quantized_by=str:me"],
            _ => &[],
        };
        let out = path(&format!("first-{}", format.id));
        let (made, _) = as_llm(&original, format, &out, keys).unwrap();
        models.insert(format.id, made);
    }
    let mut rows = Vec::new();
    for from in writers() {
        for to in writers() {
            let out = path(&format!("{}-{}", from.id, to.id));
            let mut seen = Seen::default();
            let pair = format!("{} → {}", from.title, to.title);
            let word = match as_llm(&models[from.id], to, &out, &[]) {
                Err(error) => panic!("{pair}: {error}"),
                Ok((made, records)) => {
                    seen.add(&records);
                    let options = DiffOptions::default();
                    let same =
                        weightbridge::diff(&made, &models[to.id], Names::Raw, options, &session);
                    if same.unwrap().same() {
                        "same"
                    } else {
                        "other"
                    }
                }
            };
            rows.push((pair.clone(), seen.row(&pair, Some(word))));
        }
    }
    compare("Language models", &rows);
}
