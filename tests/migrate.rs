//! Migrations as their users run them: trees, plans, kills, and everything that can be wrong.

#![allow(clippy::unwrap_used, clippy::panic)] // tests

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(name)
}

fn weightbridge() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weightbridge"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tree, and where its plan and its parallel tree go.
struct Bench {
    dir: TempDir,
}

const STATE_DICT: &str = "ckpt/good/zip/state_dict.pt";
const HOSTILE: &str = "ckpt/hostile/reduce_exec/exec_print_p2.pt";

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Puts a test file into the tree.
    fn put(&self, from: &str, to: &str) {
        let to = self.at("tree").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(data(from), to).unwrap();
    }

    fn write(&self, to: &str, text: &str) {
        let to = self.at("tree").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, text).unwrap();
    }

    /// Puts a checkpoint with one tensor of so many bytes into the tree.
    fn put_large(&self, to: &str, bytes: u64) {
        let [plain, torch] = ["large.safetensors", "large.pt"].map(|name| self.at(name));
        let header =
            format!(r#"{{"w":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#);
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        file.extend((0..bytes).map(|n| n.to_le_bytes()[0]));
        fs::write(&plain, file).unwrap();
        let done = weightbridge()
            .arg("convert")
            .args([&plain, &torch])
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", stderr(&done));
        let to = self.at("tree").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::rename(torch, to).unwrap();
    }

    /// So many plain repositories.
    fn repositories(&self, count: usize) {
        for n in 0..count {
            self.put(STATE_DICT, &format!("org/m{n:02}/pytorch_model.bin"));
            self.write(&format!("org/m{n:02}/config.json"), "{}");
        }
    }

    /// One model of each kind a tree has.
    fn every_kind(&self) {
        self.repositories(1);
        self.write("org/m00/README.md", "words");
        self.write("org/m00/1_Pooling/config.json", "{}");
        for name in [
            "pytorch_model-00001-of-00003.bin",
            "pytorch_model-00002-of-00003.bin",
            "pytorch_model-00003-of-00003.bin",
            "pytorch_model.bin.index.json",
        ] {
            self.put(
                &format!("ckpt/good/sharded_bin/{name}"),
                &format!("org/sharded/{name}"),
            );
        }
        self.write("org/sharded/config.json", "{}");
        self.write("pipe/model_index.json", "{}");
        self.put(
            "ckpt/good/zip/protocol4.pt",
            "pipe/unet/diffusion_pytorch_model.bin",
        );
        self.put(
            "ckpt/good/zip/protocol4.pt",
            "pipe/unet/diffusion_pytorch_model.fp16.bin",
        );
        self.write("pipe/unet/config.json", "{}");
        self.write("pipe/tokenizer/vocab.json", "{}");
        self.put(
            "ckpt/good/layouts/stable_diffusion.ckpt",
            "single/v1-5.ckpt",
        );
        self.put(STATE_DICT, "twin/pytorch_model.bin");
        self.put(
            "safetensors/good/library.safetensors",
            "twin/model.safetensors",
        );
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
        self.write("lfs/pytorch_model.bin", pointer);
        self.write("odd/vocab.bin", "these are words, no weights");
        self.put(STATE_DICT, "odd/training_args.bin");
    }

    /// The hub's cache: two snapshots that share a blob.
    #[cfg(unix)]
    fn cache(&self) {
        use std::os::unix::fs::symlink;
        self.put(STATE_DICT, "hub/models--org--cached/blobs/aaaa");
        self.write("hub/models--org--cached/blobs/bbbb", "{}");
        self.write("hub/models--org--cached/refs/main", "rev2");
        for revision in ["rev1", "rev2"] {
            let snapshot = self
                .at("tree/hub/models--org--cached/snapshots")
                .join(revision);
            fs::create_dir_all(&snapshot).unwrap();
            symlink("../../blobs/aaaa", snapshot.join("pytorch_model.bin")).unwrap();
            symlink("../../blobs/bbbb", snapshot.join("config.json")).unwrap();
        }
        self.write(
            "hub/models--org--cached/.no_exist/rev2/model.safetensors",
            "",
        );
    }

    fn plan_with(&self, args: &[&str]) -> Output {
        let mut command = weightbridge();
        command
            .args(["migrate", "plan"])
            .arg(self.at("tree"))
            .args(["--overwrite"]);
        if !args.contains(&"--to") {
            command.args(["--to", "safetensors"]);
        }
        command
            .arg("-o")
            .arg(self.at("plan.jsonl"))
            .args(args)
            .output()
            .unwrap()
    }

    fn plan(&self, args: &[&str]) {
        let done = self.plan_with(args);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    }

    /// A plan into the parallel tree.
    fn plan_dest(&self) {
        let dest = self.at("dest");
        self.plan(&["--dest", dest.to_str().unwrap()]);
    }

    fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.at("plan.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Edits the plan as a person would.
    fn edit(&self, edit: impl Fn(&mut Value)) {
        let mut text = String::new();
        for mut line in self.lines() {
            edit(&mut line);
            text += &format!("{line}\n");
        }
        fs::write(self.at("plan.jsonl"), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = weightbridge();
        command
            .args(["migrate", "run"])
            .arg(self.at("plan.jsonl"))
            .args(["--json"])
            .args(args);
        command
    }

    fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        ended(&self.command(args).output().unwrap())
    }

    fn done(&self) -> Value {
        let (code, report) = self.run(&[]);
        assert_eq!(code, Some(0), "{report}");
        report
    }

    fn status(&self) -> Value {
        let done = weightbridge()
            .args(["migrate", "status", "--json"])
            .arg(self.at("plan.jsonl"))
            .output()
            .unwrap();
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

fn ended(output: &Output) -> (Option<i32>, Value) {
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)));
    (output.status.code(), report)
}

/// All files below a folder with their bytes.
fn bytes_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        let Ok(listing) = fs::read_dir(&next) else {
            continue;
        };
        for entry in listing {
            let path = entry.unwrap().path();
            let name = path
                .strip_prefix(folder)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && !path.is_symlink() {
                // Empty folders count: none may be left over.
                found.insert(format!("{name}/"), Vec::new());
                folders.push(path);
            } else {
                found.insert(name, fs::read(&path).unwrap_or_default());
            }
        }
    }
    found
}

fn same(a: &Path, b: &Path) {
    let done = weightbridge().arg("diff").args([a, b]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    assert_eq!(
        done.status.code(),
        Some(0),
        "{} {}: {said}{}",
        a.display(),
        b.display(),
        stderr(&done)
    );
}

fn failures(report: &Value) -> Vec<(u64, String, String)> {
    let all = report["failed"].as_array().unwrap().iter();
    all.map(|f| {
        let text = |key: &str| f[key].as_str().unwrap_or_default().to_owned();
        (
            f["line"].as_u64().unwrap(),
            text("model"),
            format!("{} {}", text("message"), text("help")),
        )
    })
    .collect()
}

#[test]
fn a_plan_tells_every_model_and_changes_nothing() {
    let bench = Bench::new();
    bench.every_kind();
    #[cfg(unix)]
    bench.cache();
    let before = bytes_below(&bench.at("tree"));
    bench.plan_dest();
    assert_eq!(bytes_below(&bench.at("tree")), before);
    assert!(!bench.at("dest").exists());
    let lines = bench.lines();
    let of = |model: &str| {
        let found = lines.iter().find(|line| line["model"] == model);
        found.unwrap_or_else(|| panic!("no line for {model}"))
    };
    for (model, output) in [
        ("org/m00/pytorch_model.bin", "org/m00/model.safetensors"),
        (
            "org/sharded/pytorch_model.bin.index.json",
            "org/sharded/model.safetensors",
        ),
        (
            "pipe/unet/diffusion_pytorch_model.bin",
            "pipe/unet/diffusion_pytorch_model.safetensors",
        ),
        (
            "pipe/unet/diffusion_pytorch_model.fp16.bin",
            "pipe/unet/diffusion_pytorch_model.fp16.safetensors",
        ),
        ("single/v1-5.ckpt", "single/v1-5.safetensors"),
    ] {
        let line = of(model);
        assert_eq!(
            (line["action"].as_str(), line["output"].as_str()),
            (Some("convert"), Some(output))
        );
        assert!(
            line["problem"].is_null() && line["tensors"].as_u64() > Some(0),
            "{line}"
        );
        assert_eq!(line["version"], 1);
    }
    let sharded = of("org/sharded/pytorch_model.bin.index.json");
    assert_eq!(sharded["inputs"].as_array().unwrap().len(), 4);
    assert!(
        of("single/v1-5.ckpt")["report"]
            .to_string()
            .contains("chosen")
    );
    for (model, word) in [
        (
            "twin/pytorch_model.bin",
            "model.safetensors is in the folder",
        ),
        ("lfs/pytorch_model.bin", "git lfs pull"),
    ] {
        assert_eq!(of(model)["action"], "leave");
        assert!(of(model)["problem"].as_str().unwrap().contains(word));
    }
    assert_eq!(of("odd")["action"], "copy");
    assert_eq!(of("odd")["side"].as_array().unwrap().len(), 2);
    #[cfg(unix)]
    {
        assert_eq!(
            of("hub/models--org--cached/snapshots/rev1/pytorch_model.bin")["action"],
            "convert"
        );
        assert_eq!(
            of("hub/models--org--cached")["side"][0],
            "hub/models--org--cached/refs/main"
        );
    }
}

#[test]
fn a_parallel_tree_is_whole_and_the_same() {
    let bench = Bench::new();
    bench.every_kind();
    bench.plan_dest();
    // The shards of the test file are mostly headers: its cut is told by hand.
    bench.edit(|line| {
        if line["model"]
            .as_str()
            .is_some_and(|model| model.starts_with("org/sharded"))
        {
            line["settings"]["shard_size"] = 300.into();
        }
    });
    let before = bytes_below(&bench.at("tree"));
    let report = bench.done();
    assert_eq!(
        bytes_below(&bench.at("tree")),
        before,
        "sources were touched"
    );
    let (tree, dest) = (bench.at("tree"), bench.at("dest"));
    for (old, new) in [
        ("org/m00/pytorch_model.bin", "org/m00/model.safetensors"),
        (
            "org/sharded/pytorch_model.bin.index.json",
            "org/sharded/model.safetensors.index.json",
        ),
        (
            "pipe/unet/diffusion_pytorch_model.bin",
            "pipe/unet/diffusion_pytorch_model.safetensors",
        ),
        ("single/v1-5.ckpt", "single/v1-5.safetensors"),
    ] {
        same(&tree.join(old), &dest.join(new));
    }
    for path in [
        "org/m00/README.md",
        "org/m00/1_Pooling/config.json",
        "pipe/tokenizer/vocab.json",
        "twin/model.safetensors",
        "odd/vocab.bin",
    ] {
        assert_eq!(
            fs::read(tree.join(path)).unwrap(),
            fs::read(dest.join(path)).unwrap(),
            "{path}"
        );
    }
    for path in [
        "org/m00/pytorch_model.bin",
        "org/sharded/pytorch_model.bin.index.json",
        "lfs",
    ] {
        assert!(!dest.join(path).exists(), "{path}");
    }
    let sums = Command::new("sha256sum")
        .args(["-c", "--quiet", "SHA256SUMS"])
        .current_dir(dest.join("org/m00"))
        .output();
    if let Ok(sums) = sums {
        assert!(sums.status.success(), "{}", stderr(&sums));
    }
    let made = bytes_below(&dest);
    assert!(
        made.keys().all(|name| !name.contains(".weightbridge")),
        "{made:?}"
    );
    // Again: nothing is done twice.
    let again = bench.done();
    assert_eq!(again["done"], 0);
    assert_eq!(again["already"], report["done"]);
    assert_eq!(bytes_below(&dest), made);
    let status = bench.status();
    assert_eq!(
        (status["done"].as_u64(), status["pending"].as_u64()),
        (report["done"].as_u64(), Some(0))
    );
}

#[cfg(unix)]
#[test]
fn originals_go_only_when_asked_and_verified() {
    let bench = Bench::new();
    bench.repositories(2);
    bench.put(HOSTILE, "bad/pytorch_model.bin");
    bench.cache();
    bench.plan(&["--in-place"]);
    let (code, report) = bench.run(&[]);
    assert_eq!(code, Some(1), "{report}");
    let tree = bench.at("tree");
    same(
        &tree.join("org/m00/pytorch_model.bin"),
        &tree.join("org/m00/model.safetensors"),
    );
    let cache = tree.join("hub/models--org--cached");
    same(
        &cache.join("blobs/aaaa"),
        &cache.join("snapshots/rev2/model.safetensors"),
    );
    assert!(
        !cache.join(".no_exist/rev2/model.safetensors").exists(),
        "loaders believe the note"
    );
    let expected = fs::read(tree.join("org/m01/model.safetensors")).unwrap();
    // One is touched after it was verified: it stays, and is told.
    fs::write(tree.join("org/m01/pytorch_model.bin"), "another").unwrap();
    let (code, report) = bench.run(&["--delete-originals"]);
    assert_eq!(code, Some(1));
    let told = failures(&report);
    assert!(
        told.iter().any(
            |(_, model, what)| model == "org/m01/pytorch_model.bin" && what.contains("changed")
        ),
        "{told:?}"
    );
    assert!(!tree.join("org/m00/pytorch_model.bin").exists());
    assert!(tree.join("org/m01/pytorch_model.bin").exists());
    assert!(tree.join("bad/pytorch_model.bin").exists());
    assert!(!cache.join("blobs/aaaa").exists() && cache.join("blobs/bbbb").exists());
    assert!(cache.join("snapshots/rev1/config.json").exists());
    assert_eq!(
        fs::read(tree.join("org/m01/model.safetensors")).unwrap(),
        expected
    );
    assert!(report["nbytes_removed"].as_u64() > Some(0));
    // Done stays done when its original is gone.
    let (_, report) = bench.run(&["--delete-originals"]);
    assert_eq!(report["done"], 0, "{report}");
    assert_eq!(failures(&report).len(), 2, "{report}");
}

/// Nothing is removed while a line cannot be followed: it may be about the same files.
#[test]
fn originals_that_stay_for_a_bad_line_are_told() {
    let bench = Bench::new();
    bench.repositories(1);
    bench.put(STATE_DICT, "same/x.bin");
    bench.put(STATE_DICT, "same/x.ckpt");
    bench.plan(&["--in-place"]);
    let (code, report) = bench.run(&["--delete-originals"]);
    assert_eq!(code, Some(1));
    assert_eq!(report["originals_kept"], 1, "{report}");
    let told = failures(&report);
    let twins: Vec<&str> = told.iter().map(|(_, model, _)| model.as_str()).collect();
    assert_eq!(twins, ["same/x.bin", "same/x.ckpt"]);
    assert!(bench.at("tree/org/m00/pytorch_model.bin").exists());
    let plan = bench.at("plan.jsonl");
    let quiet = weightbridge()
        .args(["-q", "migrate", "run"])
        .arg(&plan)
        .output()
        .unwrap();
    assert!(
        stderr(&quiet).contains("same/x.ckpt: "),
        "{}",
        stderr(&quiet)
    );
    // As the help says: another output, and another manifest.
    let text = fs::read_to_string(&plan).unwrap();
    let mended: Vec<String> = text
        .lines()
        .map(|line| {
            if !line.contains(r#""model":"same/x.ckpt""#) {
                return line.to_owned();
            }
            line.replace("same/x.safetensors", "same/y.safetensors")
                .replace("x.safetensors.sha256", "y.safetensors.sha256")
        })
        .collect();
    fs::write(&plan, mended.join("\n")).unwrap();
    let (code, report) = bench.run(&["--delete-originals"]);
    assert_eq!(code, Some(0), "{report}");
    assert!(!bench.at("tree/org/m00/pytorch_model.bin").exists());
}

#[test]
fn a_damaged_output_keeps_its_original() {
    let bench = Bench::new();
    bench.repositories(1);
    bench.plan(&["--in-place"]);
    bench.done();
    let output = bench.at("tree/org/m00/model.safetensors");
    let mut bytes = fs::read(&output).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&output, bytes).unwrap();
    let (code, report) = bench.run(&["--delete-originals"]);
    assert_eq!(code, Some(1));
    assert!(
        failures(&report)[0].2.contains("originals were kept"),
        "{report}"
    );
    assert!(bench.at("tree/org/m00/pytorch_model.bin").exists());
}

#[test]
fn one_bad_model_stops_no_other() {
    let bench = Bench::new();
    bench.repositories(6);
    bench.put(HOSTILE, "org/m02/pytorch_model.bin");
    bench.write("org/cut/pytorch_model.bin", "");
    let whole = fs::read(data(STATE_DICT)).unwrap();
    fs::write(
        bench.at("tree/org/cut/pytorch_model.bin"),
        &whole[..whole.len() / 2],
    )
    .unwrap();
    bench.plan_dest();
    let problems = bench
        .lines()
        .iter()
        .filter(|line| line["problem"].is_string())
        .count();
    assert_eq!(problems, 2, "the plan tells what will not do");
    fs::remove_file(bench.at("tree/org/m03/pytorch_model.bin")).unwrap();
    fs::write(bench.at("tree/org/m04/pytorch_model.bin"), whole.repeat(2)).unwrap();
    let (code, report) = bench.run(&[]);
    assert_eq!(code, Some(1));
    assert_eq!(report["done"], 3, "{report}");
    let told: BTreeMap<String, String> = failures(&report)
        .into_iter()
        .map(|(_, model, what)| (model, what))
        .collect();
    assert_eq!(told.len(), 4);
    for (model, words) in [
        ("m02", "\"policy\": \"extract\""),
        ("m03", "is gone"),
        ("m04", "changed since the plan"),
        ("cut", ""),
    ] {
        assert!(
            told[&format!("org/{model}/pytorch_model.bin")].contains(words),
            "{model}: {told:?}"
        );
        assert!(
            !bench.at("dest/org").join(model).exists(),
            "{model} left something behind"
        );
    }
    let status = bench.status();
    assert_eq!(status["failed"].as_array().unwrap().len(), 4);
    // Mended, the rest goes through.
    bench.put(STATE_DICT, "org/m02/pytorch_model.bin");
    bench.put(STATE_DICT, "org/m03/pytorch_model.bin");
    bench.put(STATE_DICT, "org/m04/pytorch_model.bin");
    bench.put(STATE_DICT, "org/cut/pytorch_model.bin");
    bench.plan_dest();
    let report = bench.done();
    assert_eq!(
        (report["done"].as_u64(), report["already"].as_u64()),
        (Some(4), Some(3))
    );
}

#[test]
fn a_plan_edited_wrongly_is_told_by_its_line() {
    let bench = Bench::new();
    bench.repositories(4);
    bench.put(STATE_DICT, "same/x.bin");
    bench.put(STATE_DICT, "same/x.ckpt");
    bench.plan_dest();
    let text = fs::read_to_string(bench.at("plan.jsonl")).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let place = |model: &str| {
        bench
            .lines()
            .iter()
            .position(|line| line["model"] == model)
            .unwrap()
    };
    let [a, b, one, other] = [
        "org/m00/pytorch_model.bin",
        "org/m01/pytorch_model.bin",
        "same/x.bin",
        "same/x.ckpt",
    ]
    .map(place);
    lines[a] = lines[a].replace("\"convert\"", "\"convrt\"");
    lines[b] = lines[b].replace("org/m01/model.safetensors", "../../m01/model.safetensors");
    fs::write(bench.at("plan.jsonl"), lines.join("\n")).unwrap();
    let (code, report) = bench.run(&[]);
    assert_eq!(code, Some(1));
    let told: BTreeMap<u64, String> = failures(&report)
        .into_iter()
        .map(|(line, _, what)| (line, what))
        .collect();
    let at = |index: usize| {
        told.get(&(index as u64 + 1))
            .unwrap_or_else(|| panic!("line {}: {told:?}", index + 1))
    };
    assert!(at(a).contains("convrt") && at(b).contains("plain path"));
    assert!(at(one).contains("same/x.safetensors") && at(other).contains("same/x.safetensors"));
    assert_eq!(told.len(), 4);
    assert_eq!(report["done"], 2);
    assert!(!bench.dir.path().parent().unwrap().join("m01").exists());
}

#[test]
fn an_edit_after_the_fact_is_noticed() {
    let bench = Bench::new();
    bench.repositories(1);
    bench.plan_dest();
    bench.done();
    bench.edit(|line| line["settings"]["dtype"] = "f16".into());
    let (code, report) = bench.run(&[]);
    assert_eq!(code, Some(1));
    assert!(failures(&report)[0].2.contains("edited after"), "{report}");
    // What somebody else put there is not replaced.
    let other = Bench::new();
    other.repositories(1);
    other.plan_dest();
    fs::create_dir_all(other.at("dest/org/m00")).unwrap();
    fs::write(other.at("dest/org/m00/model.safetensors"), "mine").unwrap();
    let (code, report) = other.run(&[]);
    assert_eq!(code, Some(1));
    assert!(failures(&report)[0].2.contains("there already"), "{report}");
    let left: Vec<String> = bytes_below(&other.at("dest/org/m00")).into_keys().collect();
    assert_eq!(left, ["model.safetensors"]);
}

#[test]
fn no_room_is_told_before_anything_is_written() {
    let bench = Bench::new();
    bench.repositories(1);
    bench.plan_dest();
    bench.edit(|line| line["bytes_out"] = 1_000_000_000_000_000_000u64.into());
    let done = bench.command(&[]).output().unwrap();
    assert_eq!(done.status.code(), Some(4));
    assert!(stderr(&done).contains("are free"), "{}", stderr(&done));
    assert!(!bench.at("dest").exists());
}

/// A limit on file sizes stops writes in the middle, as a full disk does.
#[cfg(unix)]
#[test]
fn a_full_disk_in_the_middle_leaves_nothing() {
    let bench = Bench::new();
    bench.repositories(3);
    bench.put_large("big/pytorch_model.bin", 1 << 20);
    bench.plan_dest();
    let script = r#"trap '' XFSZ; ulimit -f "$1"; shift; exec "$@""#;
    let mut limited = Command::new("sh");
    // 64 or 128 KiB, as the shell counts: what the small ones and the journal need.
    limited.args(["-c", script, "sh", "128"]);
    limited
        .arg(env!("CARGO_BIN_EXE_weightbridge"))
        .args(["migrate", "run", "--json"])
        .arg(bench.at("plan.jsonl"));
    let (code, report) = ended(&limited.output().unwrap());
    assert_eq!(code, Some(1), "{report}");
    assert_eq!(report["done"], 3, "{report}");
    assert_eq!(failures(&report)[0].1, "big/pytorch_model.bin");
    assert_eq!(report["failed"][0]["class"], "io");
    assert!(!bench.at("dest/big").exists());
    let report = bench.done();
    assert_eq!(report["done"], 1);
    same(
        &bench.at("tree/big/pytorch_model.bin"),
        &bench.at("dest/big/model.safetensors"),
    );
}

/// Whoever may write everywhere runs it as somebody who may not.
#[cfg(target_os = "linux")]
#[test]
fn a_read_only_folder_is_told() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let bench = Bench::new();
    bench.repositories(2);
    let mode = |path: &str, mode| {
        fs::set_permissions(bench.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in ["", "tree", "tree/org", "tree/org/m01"] {
        mode(path, 0o777);
    }
    mode("tree/org/m00", 0o555);
    bench.plan(&["--in-place"]);
    let mut command = bench.command(&[]);
    if fs::metadata(bench.at("")).unwrap().uid() == 0 {
        let program = bench.at("weightbridge");
        fs::copy(env!("CARGO_BIN_EXE_weightbridge"), &program).unwrap();
        command = Command::new("setpriv");
        command
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(program);
        command
            .args(["migrate", "run", "--json"])
            .arg(bench.at("plan.jsonl"));
    }
    let (code, report) = ended(&command.output().unwrap());
    assert_eq!(
        (code, report["done"].as_u64()),
        (Some(1), Some(1)),
        "{report}"
    );
    let (_, model, what) = failures(&report).remove(0);
    assert!(
        model == "org/m00/pytorch_model.bin" && what.contains("Check who owns"),
        "{report}"
    );
    let left = fs::read_dir(bench.at("tree/org/m00")).unwrap().count();
    assert_eq!(left, 2);
    mode("tree/org/m00", 0o755);
}

#[cfg(target_os = "linux")]
#[test]
fn odd_names_and_loops_are_told_and_stop_nothing() {
    use std::os::unix::ffi::OsStrExt;
    let bench = Bench::new();
    bench.repositories(1);
    let odd = bench
        .at("tree")
        .join(std::ffi::OsStr::from_bytes(b"org/bad\xff.bin"));
    fs::copy(data(STATE_DICT), odd).unwrap();
    std::os::unix::fs::symlink("..", bench.at("tree/org/up")).unwrap();
    let dest = bench.at("dest");
    let done = bench.plan_with(&["--dest", dest.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0));
    let said = stderr(&done);
    assert!(
        said.contains("not UTF-8") && said.contains("walked already"),
        "{said}"
    );
    assert_eq!(bench.done()["done"], 1);
}

#[test]
fn two_runs_at_once_share_the_work() {
    let bench = Bench::new();
    bench.repositories(24);
    bench.plan_dest();
    let start = || {
        let mut command = bench.command(&["--jobs", "2", "--quiet"]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let runs = [start(), start(), start()].map(|run| ended(&run.wait_with_output().unwrap()));
    let sum: u64 = runs
        .iter()
        .map(|(_, report)| report["done"].as_u64().unwrap())
        .sum();
    assert!(runs.iter().all(|(code, _)| *code == Some(0)), "{runs:?}");
    assert_eq!(sum, 24);
    whole(&bench, 24);
}

#[test]
fn parts_of_a_plan_make_the_whole() {
    let bench = Bench::new();
    bench.repositories(7);
    bench.plan_dest();
    let mut done = 0;
    for task in ["0/3", "1/3", "1/3", "2/3"] {
        let (code, report) = bench.run(&["--task", task]);
        assert_eq!(code, Some(0));
        done += report["done"].as_u64().unwrap();
    }
    assert_eq!(done, 7);
    assert_eq!(bench.status()["pending"], 0);
    whole(&bench, 7);
    let (code, _) = (
        bench
            .command(&["--task", "3/3"])
            .output()
            .unwrap()
            .status
            .code(),
        0,
    );
    assert_eq!(code, Some(2));
}

/// Every repository is there, right, and nothing else.
fn whole(bench: &Bench, count: usize) {
    let made = bytes_below(&bench.at("dest"));
    let mut expected = BTreeSet::from(["org/".to_owned()]);
    for n in 0..count {
        for name in ["", "config.json", "model.safetensors", "SHA256SUMS"] {
            expected.insert(format!("org/m{n:02}/{name}"));
        }
        assert_eq!(
            made[&format!("org/m{n:02}/model.safetensors")],
            made["org/m00/model.safetensors"],
            "{n}"
        );
    }
    assert_eq!(made.keys().cloned().collect::<BTreeSet<_>>(), expected);
    same(
        &bench.at("tree/org/m00/pytorch_model.bin"),
        &bench.at("dest/org/m00/model.safetensors"),
    );
}

/// How often each model was verified, by the journal.
fn verified(bench: &Bench) -> BTreeMap<String, u32> {
    let mut times = BTreeMap::new();
    for text in bytes_below(&bench.at("plan.jsonl.journal")).values() {
        for line in text.split(|byte| *byte == b'\n') {
            let Ok(entry) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if entry["event"] == "verified" {
                *times
                    .entry(entry["id"].as_str().unwrap().to_owned())
                    .or_default() += 1;
            }
        }
    }
    times
}

/// `tests/interop/test_migrate.py` does it a hundred times.
#[test]
fn killed_at_any_moment_a_later_run_goes_on() {
    const KILLS: u32 = 10;
    let rehearsal = Bench::new();
    rehearsal.repositories(30);
    rehearsal.plan_dest();
    let start = Instant::now();
    rehearsal.done();
    let whole_run = start.elapsed();

    let bench = Bench::new();
    bench.repositories(30);
    bench.plan_dest();
    for kill in 0..KILLS {
        let mut run = bench.command(&["--jobs", "3", "--quiet"]);
        let mut run = run
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Later and later, each at another part of a model.
        std::thread::sleep(
            whole_run * (kill % 5 + 1) / 12 + Duration::from_millis(u64::from(kill * 7 % 10)),
        );
        run.kill().unwrap();
        run.wait().unwrap();
        let made = bytes_below(&bench.at("dest"));
        let halves = made.iter().filter(|(name, _)| {
            name.ends_with("model.safetensors") && !name.contains(".weightbridge")
        });
        for (name, bytes) in halves {
            let expected = fs::read(rehearsal.at("dest/org/m00/model.safetensors")).unwrap();
            assert_eq!(*bytes, expected, "{name} has its name and is not whole");
        }
    }
    bench.done();
    whole(&bench, 30);
    assert_eq!(
        bytes_below(&bench.at("dest")),
        bytes_below(&rehearsal.at("dest"))
    );
    let times = verified(&bench);
    assert_eq!(times.len(), 30);
    assert!(
        times.values().all(|times| *times == 1),
        "what was verified was done again: {times:?}"
    );
}

#[test]
fn empty_weights_are_told() {
    let bench = Bench::new();
    bench.repositories(1);
    bench.write("org/empty/pytorch_model.bin", "");
    bench.plan_dest();
    let lines = bench.lines();
    let empty = lines
        .iter()
        .find(|line| line["model"] == "org/empty/pytorch_model.bin");
    let empty = empty.unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(empty["action"], "leave");
    assert!(empty["problem"].as_str().unwrap().contains("is empty"));
    bench.done();
    assert!(!bench.at("dest/org/empty").exists());
}

#[test]
fn a_file_that_is_no_plan_is_one_error() {
    let bench = Bench::new();
    bench.repositories(1);
    fs::write(bench.at("plan.jsonl"), "no plan at all\n".repeat(3000)).unwrap();
    for step in ["run", "status"] {
        let plan = bench.at("plan.jsonl");
        let done = weightbridge()
            .args(["migrate", step])
            .arg(&plan)
            .output()
            .unwrap();
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(3), "{said}");
        assert!(
            said.contains("no plan of a migration") && said.lines().count() < 5,
            "{said}"
        );
    }
    assert!(!bench.at("plan.jsonl.journal").exists());
}

#[test]
fn patterns_that_match_nothing_are_told() {
    let bench = Bench::new();
    bench.repositories(6);
    let args = [
        "--in-place",
        "--include",
        "m03",
        "--include",
        "m99",
        "--exclude",
        "zz*",
    ];
    let done = bench.plan_with(&args);
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(0), "{said}");
    for word in [
        "--include m99: nothing matches",
        "--exclude zz*",
        "m00/pytorch_model.bin",
        "and 3 more",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(!said.contains("--include m03"), "{said}");
    assert_eq!(bench.lines().len(), 1);
    // Where results go must be said, and both ways are named.
    let done = bench.plan_with(&[]);
    let said = stderr(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--dest") && said.contains("--in-place"),
        "{said}"
    );
}

#[test]
fn a_finished_plan_is_told_in_its_order() {
    let bench = Bench::new();
    bench.repositories(24);
    bench.plan_dest();
    bench.done();
    let run = || {
        let mut command = weightbridge();
        let command = command.args(["migrate", "run"]).arg(bench.at("plan.jsonl"));
        stderr(&command.output().unwrap())
    };
    let told = (0..24).map(|n| format!("[{}/24] org/m{n:02}/pytorch_model.bin", n + 1));
    let said = run();
    assert!(told.eq(said.lines().take(24)), "{said}");
    // An output that is gone is made again, and told after what is there.
    fs::remove_file(bench.at("dest/org/m00/model.safetensors")).unwrap();
    let said = run();
    assert!(said.contains("[24/24] org/m00/"), "{said}");
    assert!(bench.at("dest/org/m00/model.safetensors").exists());
}

#[test]
fn advice_is_about_the_plan() {
    let bench = Bench::new();
    bench.put(HOSTILE, "evil/pytorch_model.bin");
    bench.write("evil/config.json", "{}");
    bench.plan_dest();
    let (_, report) = bench.run(&[]);
    let text = report.to_string() + &bench.lines()[0]["problem"].to_string();
    assert!(!text.contains("--policy"), "{text}");
    assert!(text.contains("settings"), "{text}");
    // What only `convert` can do is said to be its.
    let bench = Bench::new();
    bench.put(STATE_DICT, "odd/pytorch_model.bin");
    bench.write(
        "odd/config.json",
        r#"{"architectures": ["Unheard"], "model_type": "unheard"}"#,
    );
    let dest = bench.at("dest");
    bench.plan(&["--dest", dest.to_str().unwrap(), "--to", "gguf"]);
    let problem = bench.lines()[0]["problem"].to_string();
    assert!(
        problem.contains("--as container") && problem.contains("weightbridge convert"),
        "{problem}"
    );
}

#[test]
fn what_earlier_runs_began_in_vain_comes_last() {
    let bench = Bench::new();
    bench.repositories(4);
    bench.plan_dest();
    let journal = bench.at("plan.jsonl.journal");
    fs::create_dir(&journal).unwrap();
    let started = |model: &str| {
        let id = format!("org/{model}/model.safetensors");
        format!(r#"{{"version":1,"at":1,"id":"{id}","line":"","event":"started"}}"#) + "\n"
    };
    let text = ["m00", "m02", "m00"].map(started).concat();
    fs::write(journal.join("killed.jsonl"), text).unwrap();
    let mut command = weightbridge();
    let command = command
        .args(["migrate", "run", "--jobs", "1"])
        .arg(bench.at("plan.jsonl"));
    let said = stderr(&command.output().unwrap());
    let order = ["m01", "m03", "m02", "m00"].map(|model| said.find(model));
    assert!(order.is_sorted() && order[0].is_some(), "{said}");
}
