//! A tree to migrate, and what is asked of it afterwards.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(name)
}

pub(crate) fn weightbridge() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weightbridge"))
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A tree, and where its plan and its parallel tree go.
pub(crate) struct Bench {
    pub(crate) dir: TempDir,
}

pub(crate) const STATE_DICT: &str = "ckpt/good/zip/state_dict.pt";

pub(crate) const HOSTILE: &str = "ckpt/hostile/reduce_exec/exec_print_p2.pt";

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        Self { dir }
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Puts a test file into the tree.
    pub(crate) fn put(&self, from: &str, to: &str) {
        let to = self.at("tree").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(data(from), to).unwrap();
    }

    pub(crate) fn write(&self, to: &str, text: &str) {
        let to = self.at("tree").join(to);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::write(to, text).unwrap();
    }

    /// Puts a checkpoint with one tensor of so many bytes into the tree.
    pub(crate) fn put_large(&self, to: &str, bytes: u64) {
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
    pub(crate) fn repositories(&self, count: usize) {
        for n in 0..count {
            self.put(STATE_DICT, &format!("org/m{n:02}/pytorch_model.bin"));
            self.write(&format!("org/m{n:02}/config.json"), "{}");
        }
    }

    /// One model of each kind a tree has.
    pub(crate) fn every_kind(&self) {
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
    pub(crate) fn cache(&self) {
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

    pub(crate) fn plan_with(&self, args: &[&str]) -> Output {
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

    pub(crate) fn plan(&self, args: &[&str]) {
        let done = self.plan_with(args);
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    }

    /// A plan into the parallel tree.
    pub(crate) fn plan_dest(&self) {
        let dest = self.at("dest");
        self.plan(&["--dest", dest.to_str().unwrap()]);
    }

    pub(crate) fn lines(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.at("plan.jsonl")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Edits the plan as a person would.
    pub(crate) fn edit(&self, edit: impl Fn(&mut Value)) {
        let mut text = String::new();
        for mut line in self.lines() {
            edit(&mut line);
            text += &format!("{line}\n");
        }
        fs::write(self.at("plan.jsonl"), text).unwrap();
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = weightbridge();
        command
            .args(["migrate", "run"])
            .arg(self.at("plan.jsonl"))
            .args(["--json"])
            .args(args);
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        ended(&self.command(args).output().unwrap())
    }

    pub(crate) fn done(&self) -> Value {
        let (code, report) = self.run(&[]);
        assert_eq!(code, Some(0), "{report}");
        report
    }

    pub(crate) fn status(&self) -> Value {
        let done = weightbridge()
            .args(["migrate", "status", "--json"])
            .arg(self.at("plan.jsonl"))
            .output()
            .unwrap();
        serde_json::from_slice(&done.stdout).unwrap()
    }
}

pub(crate) fn ended(output: &Output) -> (Option<i32>, Value) {
    let report =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(output)));
    (output.status.code(), report)
}

/// All files below a folder with their bytes.
pub(crate) fn bytes_below(folder: &Path) -> BTreeMap<String, Vec<u8>> {
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

pub(crate) fn same(a: &Path, b: &Path) {
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

pub(crate) fn failures(report: &Value) -> Vec<(u64, String, String)> {
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

/// Every repository is there, right, and nothing else.
pub(crate) fn whole(bench: &Bench, count: usize) {
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
pub(crate) fn verified(bench: &Bench) -> BTreeMap<String, u32> {
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
