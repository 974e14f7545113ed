//! Every test file, cut and flipped, through every reader: an error that a file can cause, or a
//! sound model. Never a panic, never a hang.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use convert::DiffOptions;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use weightbridge::{ConvertRequest, Names, Policy, Session};
use weightbridge_tests::targets::{self, TOKENIZER_FILES, Target};
use weightbridge_tests::{files, folder, short};

/// Longest any mutant may take. The figure promised is a second on a release build; this is a debug
/// build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file, the reader it is for, and how it comes to that.
struct Case {
    name: String,
    bytes: Vec<u8>,
    target: Target,
}

/// All files below `testdata` that a reader is for.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: [(&str, Target); 6] = [
        ("scan", targets::scanned),
        ("ckpt", targets::ckpt),
        ("safetensors", targets::safetensors),
        ("gguf", targets::gguf),
        ("onnx", targets::onnx),
        ("unpack", targets::safetensors),
    ];
    for (kind, target) in kinds {
        for path in files(kind) {
            let target = match extension(&path) {
                "json" => targets::index,
                "safetensors" => targets::safetensors,
                _ => target,
            };
            let bytes = fs::read(&path).unwrap();
            let name = short(&path);
            cases.push(Case {
                name,
                bytes,
                target,
            });
        }
    }
    for path in files("arch")
        .into_iter()
        .filter(|path| extension(path) == "json")
    {
        let case: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if let Some(config) = case.get("config") {
            let bytes = serde_json::to_vec(config).unwrap();
            cases.push(Case {
                name: short(&path),
                bytes,
                target: targets::config,
            });
        }
    }
    for path in files("vocab") {
        cases.push(Case {
            name: short(&path),
            bytes: bundle(&path),
            target: targets::tokenizer,
        });
    }
    assert!(cases.len() > 700, "{} cases", cases.len());
    cases
}

fn extension(path: &Path) -> &str {
    path.extension()
        .and_then(|it| it.to_str())
        .unwrap_or_default()
}

/// The text files of a tokenizer, as its target takes them.
fn bundle(path: &Path) -> Vec<u8> {
    let case: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let method = match path.file_name().unwrap().to_str().unwrap() {
        name if name.starts_with("bpe") => 0,
        name if name.starts_with("unigram-t5") => 19,
        name if name.starts_with("unigram") => 14,
        name if name.starts_with("wordpiece") => 12,
        _ => 3,
    };
    let mut out = vec![0x80 | method];
    for (name, content) in case["files"].as_object().unwrap() {
        let Some(number) = TOKENIZER_FILES.iter().position(|own| own == name) else {
            continue;
        };
        let bytes = match (
            content.get("json"),
            content["text"].as_str(),
            content["base64"].as_str(),
        ) {
            (Some(json), _, _) => serde_json::to_vec(json).unwrap(),
            (_, Some(text), _) => text.as_bytes().to_vec(),
            (_, _, Some(text)) => BASE64.decode(text).unwrap(),
            _ => panic!("{name}"),
        };
        out.push(number as u8);
        out.extend_from_slice(&(bytes.len() as u32).to_le_bytes()[..3]);
        out.extend_from_slice(&bytes);
    }
    out
}

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn of(name: &str) -> Self {
        let seed = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(seed | 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound.max(1)
    }
}

/// A mutant: some bytes others, in places that matter more often than not: lengths and counts are
/// small numbers and zeros.
fn flipped(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut mutant = bytes.to_vec();
    for _ in 0..=random.below(3) {
        if mutant.is_empty() {
            break;
        }
        let at = random.below(mutant.len());
        match random.below(8) {
            0 => mutant[at] = 0,
            1 => mutant[at] = 0xff,
            2 => mutant[at] = random.below(256) as u8,
            3 => mutant[at] = mutant[at].wrapping_add(1),
            4 => {
                // A number of eight bytes, huge.
                let end = mutant.len().min(at + 8);
                mutant[at..end].fill(0xff);
            }
            5 => {
                // Bytes moved: everything behind stands elsewhere.
                let n = random.below(9);
                let end = mutant.len().min(at + n);
                mutant.drain(at..end);
            }
            6 => {
                let from = random.below(mutant.len());
                let n = random.below(32).min(mutant.len() - from);
                let part = mutant[from..from + n].to_vec();
                mutant.splice(at..at, part);
            }
            _ => mutant[at] ^= 1 << random.below(8),
        }
    }
    mutant
}

/// Where a file is cut: at every byte of small ones, which are all boundaries there are; of larger
/// ones at every byte of beginning and end, wherever zeros begin or end, wherever a signature or a
/// line begins, and at every 32nd byte.
fn cuts(bytes: &[u8]) -> Vec<usize> {
    const SMALL: usize = 2048;
    let edge = |at: usize| {
        at < SMALL / 2
            || at + SMALL / 2 > bytes.len()
            || at.is_multiple_of(32)
            || (bytes[at] == 0) != (bytes[at - 1] == 0)
            || bytes[at..].starts_with(b"PK")
            || matches!(bytes[at], b'\n' | b'"' | b'{' | b'}' | b'.')
    };
    (0..bytes.len())
        .filter(|at| bytes.len() <= SMALL || edge(*at))
        .collect()
}

/// Runs `work` for every case, on as many threads as there are cores.
fn for_each(cases: &[Case], work: impl Fn(&Case) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(case);
                }
            });
        }
    });
}

fn survive(case: &Case, how: &str, bytes: &[u8]) {
    let start = Instant::now();
    let survived = std::panic::catch_unwind(|| (case.target)(bytes));
    let took = start.elapsed();
    if survived.is_err() || took > PATIENCE {
        let path = std::env::temp_dir().join("weightbridge-mutant");
        fs::write(&path, bytes).unwrap();
        panic!(
            "{}, {how}, {took:?}; it is kept as {}",
            case.name,
            path.display()
        );
    }
}

#[test]
fn cut_anywhere() {
    for_each(&cases(), |case| {
        for at in cuts(&case.bytes) {
            survive(case, &format!("cut at {at}"), &case.bytes[..at]);
        }
    });
}

#[test]
fn flipped_anywhere() {
    let total = AtomicUsize::new(0);
    for_each(&cases(), |case| {
        let mut random = Random::of(&case.name);
        // A repository's folder is written and read each time.
        let rounds = if case.name.starts_with("arch") {
            200
        } else {
            1000
        };
        for round in 0..rounds {
            let mutant = flipped(&case.bytes, &mut random);
            survive(case, &format!("round {round}"), &mutant);
            total.fetch_add(1, Ordering::Relaxed);
        }
    });
    let total = total.into_inner();
    assert!(total > 500_000, "only {total} mutants");
}

/// What is a model to no reader is scanned all the same, and so is what is one.
#[test]
fn scanned_whatever_it_is() {
    let cases: Vec<_> = cases()
        .into_iter()
        .filter(|case| !case.name.starts_with("arch"))
        .collect();
    for_each(&cases, |case| {
        let mut random = Random::of(&case.name);
        let case = Case {
            name: case.name.clone(),
            bytes: case.bytes.clone(),
            target: targets::scanned,
        };
        for round in 0..50 {
            let mutant = flipped(&case.bytes, &mut random);
            survive(&case, &format!("scanned, round {round}"), &mutant);
        }
        targets::probe(&flipped(&case.bytes, &mut random));
    });
}

/// A mutant that is accepted converts, and what comes out says the same.
#[test]
fn accepted_means_right() {
    let wanted = ["ckpt/good", "safetensors/good", "gguf/good", "onnx/good"];
    let paths: Vec<PathBuf> = wanted.iter().flat_map(|folder| files(folder)).collect();
    let cases: Vec<_> = paths
        .iter()
        .filter(|path| fs::metadata(path).unwrap().len() < 16 << 10 && extension(path) != "json")
        .map(|path| Case {
            name: short(path),
            bytes: fs::read(path).unwrap(),
            target: |_| (),
        })
        .collect();
    let (accepted, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let session = Session {
        threads: 1,
        ..Session::default()
    };
    for_each(&cases, |case| {
        let dir = folder();
        let input = dir.path().join("in");
        let out = dir.path().join("out.safetensors");
        let mut random = Random::of(&case.name);
        for _ in 0..12 {
            fs::write(&input, flipped(&case.bytes, &mut random)).unwrap();
            let request = ConvertRequest {
                policy: Policy::Extract,
                overwrite: true,
                keep_blocks: true,
                strict: true,
                ..ConvertRequest::new(&input, &out)
            };
            if weightbridge::convert(&request, &session).is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
                assert!(!out.exists(), "{}", case.name);
                continue;
            }
            accepted.fetch_add(1, Ordering::Relaxed);
            let report =
                weightbridge::diff(&input, &out, Names::Raw, DiffOptions::default(), &session);
            let report = report.unwrap_or_else(|error| panic!("{}: {error}", case.name));
            assert!(report.same(), "{}: {report:?}", case.name);
            fs::remove_file(&out).unwrap();
        }
    });
    let (accepted, refused) = (accepted.into_inner(), refused.into_inner());
    assert!(
        accepted > 100 && refused > 100,
        "{accepted} accepted, {refused} refused"
    );
}
