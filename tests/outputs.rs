//! Every command that writes: what it reads, signs, scans or plans is never what it replaces,
//! whatever leave to overwrite it has.

#![allow(clippy::unwrap_used)] // tests

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn data(name: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    testdata.canonicalize().unwrap().join(name)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder in which commands are run.
struct Desk(tempfile::TempDir);

impl Desk {
    /// With a model, the keys, a text and a folder of two models.
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(desk.at("m")).unwrap();
        for name in ["s.pt", "m/a.pt", "m/b.pt"] {
            fs::copy(data("ckpt/good/zip/state_dict.pt"), desk.at(name)).unwrap();
        }
        fs::copy(data("sign/key.pem"), desk.at("key.pem")).unwrap();
        fs::write(desk.at("note.txt"), "a note").unwrap();
        desk
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
        command.current_dir(self.0.path()).args(line.split(' '));
        command.output().unwrap()
    }

    #[track_caller]
    fn code(&self, line: &str, code: i32) -> Output {
        let done = self.run(line);
        assert_eq!(done.status.code(), Some(code), "{line}: {}", stderr(&done));
        done
    }

    /// Every file with its bytes.
    fn all(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push((path.clone(), fs::read(&path).unwrap()));
                }
            }
        }
        found.sort();
        found
    }

    /// A line that is refused with the sentence, and after which everything is as it was.
    #[track_caller]
    fn refused(&self, line: &str, why: &str) {
        let before = self.all();
        let done = self.code(line, 2);
        assert!(stderr(&done).contains(why), "{line}: {}", stderr(&done));
        assert!(self.all() == before, "{line} changed a file");
    }
}

const INPUT: &str = "the output is the input";
const KEY: &str = "the output is the key";
const SIGNED: &str = "the output is a file that is signed";

#[test]
fn a_log_replaces_logs_only() {
    let desk = Desk::new();
    desk.refused("scan s.pt --sarif s.pt", INPUT);
    desk.refused("scan s.pt --sarif ./m/../s.pt --overwrite", INPUT);
    desk.refused("scan s.pt --sarif note.txt", "--overwrite");
    desk.refused("scan m --sarif m/a.pt", "exists already");
    let scanned = "the output is a file that is scanned";
    desk.refused("scan s.pt m --sarif m/a.pt --overwrite", scanned);
    fs::hard_link(desk.at("m/a.pt"), desk.at("hard")).unwrap();
    desk.refused("scan m --sarif hard --overwrite", scanned);
    desk.refused("scan hard --sarif m/a.pt --overwrite", INPUT);
    // A first log, one over that, also in the folder that is scanned, and over an empty file.
    desk.code("scan m --sarif m/log.sarif", 0);
    desk.code("scan m --sarif m/log.sarif", 0);
    fs::write(desk.at("empty"), "").unwrap();
    desk.code("scan m --sarif empty", 0);
    desk.code("scan m --sarif note.txt --overwrite", 0);
    for name in ["m/log.sarif", "empty", "note.txt"] {
        assert!(
            fs::read(desk.at(name))
                .unwrap()
                .starts_with(b"{\n  \"$schema\"")
        );
    }
    desk.code("scan m --overwrite", 2);
}

/// What `--sarif` names is looked at before anything is scanned, which may take long.
#[test]
fn a_refused_log_costs_no_scan() {
    let desk = Desk::new();
    let done = desk.code("scan s.pt --sarif note.txt", 2);
    assert!(done.stdout.is_empty());
    let done = desk.code("scan s.pt --sarif m", 2);
    assert!(done.stdout.is_empty() && stderr(&done).contains("the output is a folder"));
}

#[cfg(unix)]
#[test]
fn what_a_link_in_a_scanned_folder_leads_to_is_scanned() {
    let desk = Desk::new();
    std::os::unix::fs::symlink("../s.pt", desk.at("m/link.pt")).unwrap();
    let scanned = "the output is a file that is scanned";
    desk.refused("scan m --sarif s.pt --overwrite", scanned);
    desk.refused("scan m --sarif m/link.pt --overwrite", scanned);
}

#[test]
fn a_statement_replaces_nothing_that_is_read() {
    let desk = Desk::new();
    desk.refused(
        "convert s.pt o.safetensors --attest s.pt --overwrite",
        INPUT,
    );
    let keyed = "convert s.pt o.safetensors --overwrite --attest-key key.pem";
    desk.refused(&format!("{keyed} --attest key.pem"), KEY);
    desk.refused(&format!("{keyed} --attest ./key.pem"), KEY);
    // The key is not the output itself either, nor what else is read.
    let line = "convert s.pt key.pem --to safetensors --attest a --attest-key key.pem --overwrite";
    desk.refused(line, KEY);
    let line =
        "convert s.pt note.txt --to gguf --as container --chat-template note.txt --overwrite";
    desk.refused(line, "the output is a file that is read");
    // Nor does it take the name of another output.
    let twice = "convert s.pt d/ --to safetensors --attest d/./model.safetensors";
    desk.refused(twice, "the statement cannot have the output's name");
    desk.code("convert s.pt o.safetensors", 0);
    desk.refused(
        "convert s.pt o.safetensors --attest ./o.safetensors --overwrite",
        "the statement cannot have the output's name",
    );
    desk.refused(
        "convert s.pt x.safetensors --shard-size 40 --attest x.safetensors.index.json",
        "two files of the output would have this name",
    );
    desk.code("convert s.pt o.safetensors --attest o.json --overwrite", 0);
    desk.code("convert s.pt o.safetensors --attest o.json --overwrite", 0);
}

/// The names of shards are not those on the command line.
#[test]
fn a_set_does_not_replace_the_set_it_is_made_of() {
    let desk = Desk::new();
    desk.code("convert s.pt x.safetensors --shard-size 40", 0);
    let line = "convert x.safetensors.index.json x.safetensors --shard-size 40 --overwrite";
    desk.refused(line, INPUT);
    // Nor does what else is written replace any of it.
    let line = "convert x.safetensors.index.json y.safetensors --overwrite --attest";
    desk.refused(&format!("{line} x-00001-of-00002.safetensors"), INPUT);
    desk.refused(&format!("{line} x.safetensors.index.json"), INPUT);
    let line = "report x.safetensors.index.json --overwrite -o";
    desk.refused(&format!("{line} x-00001-of-00002.safetensors"), INPUT);
    let line = "report s.pt --against x.safetensors.index.json --overwrite -o";
    desk.refused(&format!("{line} x-00001-of-00002.safetensors"), INPUT);
}

#[cfg(unix)]
#[test]
fn another_name_of_the_input_is_the_input() {
    let desk = Desk::new();
    fs::hard_link(desk.at("s.pt"), desk.at("hard.pt")).unwrap();
    std::os::unix::fs::symlink("s.pt", desk.at("link.pt")).unwrap();
    for (a, b) in [
        ("s.pt", "hard.pt"),
        ("hard.pt", "s.pt"),
        ("link.pt", "s.pt"),
    ] {
        desk.refused(&format!("convert {a} {b} --overwrite"), INPUT);
        desk.refused(&format!("report {a} -o {b} --overwrite"), INPUT);
        desk.refused(&format!("scan {a} --sarif {b} --overwrite"), INPUT);
        let line = format!("quantize {a} {b} Q8_0 --as container --overwrite");
        desk.refused(&line, INPUT);
    }
}

#[test]
fn a_signature_replaces_signatures_only() {
    let desk = Desk::new();
    let sign = |model: &str, signature: &str| {
        format!("sign {model} --key key.pem --overwrite --signature {signature}")
    };
    desk.refused(&sign("m", "m/a.pt"), SIGNED);
    desk.refused(&sign("m", "./m/../m/a.pt"), SIGNED);
    desk.refused(&sign("m", "key.pem"), KEY);
    desk.refused(&sign("s.pt", "s.pt"), SIGNED);
    desk.refused(&format!("{} --ignore m/a.pt", sign("m", "m/a.pt")), SIGNED);
    fs::hard_link(desk.at("m/b.pt"), desk.at("hard")).unwrap();
    desk.refused(&sign("m", "hard"), SIGNED);
    // What stands in the usual place may be something else, too.
    fs::write(desk.at("m/model.sig"), "mine").unwrap();
    desk.refused("sign m --key key.pem --overwrite", SIGNED);
    fs::write(desk.at("m/model.sig"), "").unwrap();
    for _ in 0..2 {
        desk.code("sign m --key key.pem --overwrite", 0);
    }
    // A key in the folder is signed with the rest, and not replaced.
    fs::copy(desk.at("key.pem"), desk.at("m/key.pem")).unwrap();
    let line = "sign m --key m/key.pem --overwrite --signature m/key.pem";
    desk.refused(line, KEY);
}

#[test]
fn a_plan_replaces_no_file_of_its_tree() {
    let desk = Desk::new();
    let planned = "the output is a file of the tree that is planned";
    let plan = "migrate plan m --to safetensors --in-place --overwrite -o";
    desk.refused(&format!("{plan} m/a.pt"), planned);
    // One that is left out of the plan is a file of the tree all the same.
    desk.refused(&format!("{plan} m/a.pt --include b.pt"), planned);
    fs::hard_link(desk.at("m/a.pt"), desk.at("hard")).unwrap();
    desk.refused(&format!("{plan} hard"), planned);
    for _ in 0..2 {
        desk.code(&format!("{plan} m/plan.jsonl"), 0);
    }
    // The page about a plan.
    desk.refused("report m/plan.jsonl -o m/plan.jsonl --overwrite", INPUT);
}

/// Folders are converted into themselves: their side files stay, and what is read stays.
#[test]
fn a_repository_keeps_what_it_is_made_of() {
    let desk = Desk::new();
    fs::create_dir(desk.at("repo")).unwrap();
    fs::rename(desk.at("s.pt"), desk.at("repo/pytorch_model.bin")).unwrap();
    fs::write(desk.at("repo/config.json"), "{\"model_type\": \"x\"}").unwrap();
    desk.code("convert repo repo --overwrite", 0);
    assert!(desk.at("repo/model.safetensors").is_file());
    assert_eq!(
        fs::read_to_string(desk.at("repo/config.json")).unwrap(),
        "{\"model_type\": \"x\"}"
    );
    let line = "convert repo x.safetensors --overwrite --attest repo/config.json";
    let before = desk.all();
    assert_ne!(desk.run(line).status.code(), Some(0));
    assert!(before == desk.all());
}

/// Help and version are answers as any other: one that nobody got is none.
#[cfg(target_os = "linux")]
#[test]
fn help_that_could_not_be_printed_is_an_error() {
    for line in ["--help", "--version", "scan --help", "help", "man"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
        let done = command.args(line.split(' ')).stdout(full).output().unwrap();
        assert_eq!(done.status.code(), Some(4), "{line}");
        assert!(stderr(&done).contains("standard output"), "{line}");
        let done = Command::new(env!("CARGO_BIN_EXE_weightbridge"))
            .args(line.split(' ').map(OsStr::new))
            .output()
            .unwrap();
        assert_eq!(done.status.code(), Some(0), "{line}");
        assert!(!done.stdout.is_empty() && done.stderr.is_empty(), "{line}");
    }
    // What is wrong with a command line goes to stderr, as before.
    let done = Command::new(env!("CARGO_BIN_EXE_weightbridge"))
        .arg("--nothing")
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(2));
    assert!(done.stdout.is_empty() && stderr(&done).contains("--nothing"));
}
