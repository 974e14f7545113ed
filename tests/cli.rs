//! The command line as scripts see it: exit codes, stdout, stderr.

#![allow(clippy::unwrap_used)] // tests

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata")
        .join(name)
}

fn run(args: &[&std::ffi::OsStr]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weightbridge"))
        .args(args)
        .output()
        .unwrap()
}

macro_rules! weightbridge {
    ($($arg:expr),* $(,)?) => { run(&[$(AsRef::<std::ffi::OsStr>::as_ref(&$arg)),*]) };
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const GOOD: &str = "ckpt/good/zip/state_dict.pt";
const FAIRSEQ: &str = "ckpt/good/layouts/fairseq.pt";
const EXEC: &str = "ckpt/hostile/reduce_exec/exec_print_p2.pt";

#[test]
fn converts_and_says_what_it_did() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    let done = weightbridge!("convert", data(GOOD), out);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(out.exists() && done.stdout.is_empty());
    assert!(stderr(&done).contains("wrote "));
}

#[test]
fn the_report_is_json() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    let done = weightbridge!("convert", "--json", "-q", data(FAIRSEQ), out);
    let document = json(&done);
    assert_eq!(document["from"], "ckpt");
    assert_eq!(document["to"], "safetensors");
    assert!(
        document["report"]
            .as_array()
            .unwrap()
            .iter()
            .any(|r| r["kind"] == "chosen")
    );
    assert!(done.stderr.is_empty());
}

#[test]
fn a_diffusion_model_names_its_family() {
    let dir = tempfile::tempdir().unwrap();
    let [flux, named] = ["flux.safetensors", "flux.gguf"].map(|name| dir.path().join(name));
    let rename = ".*=model.diffusion_model.double_blocks.0.img_attn.proj.weight";
    let one = data("safetensors/good/c64.safetensors");
    let done = weightbridge!("convert", one, flux, "--rename", rename);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let done = weightbridge!("convert", flux, named, "--as", "container");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let document = json(&weightbridge!("inspect", "--json", named));
    assert!(document["metadata"].to_string().contains("\"flux\""));
}

#[test]
fn scan_tells_of_danger_whatever_else_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let done = weightbridge!("scan", dir.path().join("nope"), data(EXEC));
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(
        text.contains("dangerous") && text.contains("nope"),
        "{text}"
    );
    let alone = weightbridge!("scan", dir.path().join("nope"));
    assert_eq!(alone.status.code(), Some(4));
    // What is not opened is not clean; what lies deep or behind a link is found.
    std::fs::write(dir.path().join("notes.txt"), "words").unwrap();
    assert_eq!(weightbridge!("scan", dir.path()).status.code(), Some(0));
    std::fs::write(dir.path().join("model.pkl.gz"), [0x1f, 0x8b, 8, 0, 0]).unwrap();
    assert_eq!(weightbridge!("scan", dir.path()).status.code(), Some(3));
    let deep = (0..100).fold(dir.path().to_owned(), |path, _| path.join("d"));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::copy(data(EXEC), deep.join("evil.pt")).unwrap();
    assert_eq!(weightbridge!("scan", dir.path()).status.code(), Some(1));
}

/// What cannot be listed hides nothing of what lies beside it.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_listed_is_told_beside_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    // Of the open files of the process one is the list itself, which is gone when it is looked at.
    std::os::unix::fs::symlink("/dev/fd", dir.path().join("fd")).unwrap();
    assert_eq!(weightbridge!("scan", dir.path()).status.code(), Some(4));
    std::fs::copy(data(EXEC), dir.path().join("evil.pt")).unwrap();
    // A way around to everything is none of the model's.
    std::os::unix::fs::symlink("/", dir.path().join("root")).unwrap();
    let done = weightbridge!("scan", dir.path());
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert_eq!(done.status.code(), Some(1), "{}", stderr(&done));
    assert!(
        text.contains("cannot list") && !text.contains("root/"),
        "{text}"
    );
}

#[test]
fn nothing_hides_in_json_that_only_python_reads() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("predictor.json");
    let deep = "[".repeat(300) + &"]".repeat(300);
    let many = format!("[{}1]", "\"\",".repeat(210_000));
    for (more, code) in [
        ("1e999", 1),
        (&many[..], 3),
        (r#""\ud800""#, 1),
        (&deep[..], 3),
    ] {
        let text = format!(r#"{{"_target_": "os.system", "x": {more}}}"#);
        std::fs::write(&path, text).unwrap();
        assert_eq!(
            weightbridge!("scan", path).status.code(),
            Some(code),
            "{more}"
        );
    }
    let within = "[".repeat(100) + r#"{"_target_": "os.system"}"# + &"]".repeat(100);
    std::fs::write(&path, within).unwrap();
    assert_eq!(weightbridge!("scan", path).status.code(), Some(1));
}

#[test]
fn strict_refuses_values_that_do_not_fit() {
    let dir = tempfile::tempdir().unwrap();
    let [large, out] = ["large.safetensors", "out.safetensors"].map(|name| dir.path().join(name));
    let header = br#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}  "#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(&1e6f32.to_le_bytes());
    std::fs::write(&large, bytes).unwrap();
    let done = weightbridge!("convert", large, out, "--dtype", "f16", "--strict");
    assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
    assert!(!out.exists());
    let done = weightbridge!("convert", large, out, "--dtype", "f16");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
}

#[test]
fn a_checkpoint_with_its_tree_has_lost_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.pt");
    let done = weightbridge!(
        "convert",
        data("ckpt/good/layouts/training.pt"),
        out,
        "--strict"
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(!stderr(&done).contains("dropped"), "{}", stderr(&done));
}

#[test]
fn an_existing_output_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    std::fs::write(&out, "precious").unwrap();
    let refused = weightbridge!("convert", data(GOOD), out);
    assert_eq!(refused.status.code(), Some(2));
    assert_eq!(std::fs::read(&out).unwrap(), b"precious");
    assert_eq!(
        weightbridge!("convert", "--overwrite", data(GOOD), out)
            .status
            .code(),
        Some(0)
    );
    assert_ne!(std::fs::read(&out).unwrap(), b"precious");
}

#[test]
fn a_dry_run_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    let done = weightbridge!("convert", "--dry-run", "--json", data(GOOD), out);
    assert!(!json(&done)["tensors"].as_array().unwrap().is_empty());
    assert!(!out.exists());
}

#[test]
fn exit_codes_tell_whose_fault_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    assert_eq!(weightbridge!("convert", "only-one").status.code(), Some(2));
    assert_eq!(
        weightbridge!("convert", data(GOOD), dir.path().join("x.xyz"))
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        weightbridge!("convert", "no-such-file.pt", out)
            .status
            .code(),
        Some(4)
    );
    assert_eq!(
        weightbridge!("convert", data("README.md"), out)
            .status
            .code(),
        Some(3)
    );
    let cut = weightbridge!(
        "convert",
        "--json",
        data("ckpt/bad/zip/cut_in_storage.pt"),
        out
    );
    assert_eq!(cut.status.code(), Some(3));
    assert_eq!(json(&cut)["error"]["class"], "malformed");
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
}

#[test]
fn the_fairseq_case() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    let strict = weightbridge!("convert", "--policy", "strict", data(FAIRSEQ), out);
    assert_eq!(strict.status.code(), Some(3));
    assert!(
        stderr(&strict).contains("fairseq.data.dictionary.Dictionary"),
        "{}",
        stderr(&strict)
    );
    assert!(stderr(&strict).contains("argparse.Namespace"));
    let allowed = weightbridge!(
        "convert",
        "--policy",
        "strict",
        "--allow-global",
        "fairseq.data.dictionary.Dictionary",
        "--allow-global",
        "argparse.Namespace",
        data(FAIRSEQ),
        out,
    );
    assert_eq!(allowed.status.code(), Some(0), "{}", stderr(&allowed));
}

#[test]
fn danger_is_refused_and_shown() {
    let dir = tempfile::tempdir().unwrap();
    let scan = weightbridge!("scan", "--json", data(EXEC), data(GOOD));
    assert_eq!(scan.status.code(), Some(1));
    let document = json(&scan);
    assert_eq!(document["files"][0]["verdict"], "dangerous");
    assert_eq!(document["files"][1]["verdict"], "clean");
    assert!(
        scan.stdout.windows(5).any(|w| w == b"hello"),
        "the code is shown"
    );
    let out = dir.path().join("x.safetensors");
    assert_eq!(
        weightbridge!("convert", data(EXEC), out).status.code(),
        Some(3)
    );
    assert_eq!(weightbridge!("scan", data(GOOD)).status.code(), Some(0));
}

#[test]
fn inspect_is_a_promise() {
    let done = weightbridge!("inspect", "--json", data(GOOD));
    let document = json(&done);
    for key in [
        "format",
        "version",
        "files",
        "metadata",
        "tensors",
        "tensor_count",
        "parameter_count",
        "nbytes",
        "graph",
        "tree",
        "notes",
    ] {
        assert!(document.get(key).is_some(), "{key}");
    }
    for key in ["name", "dtype", "shape", "nbytes", "file", "offset"] {
        assert!(document["tensors"][0].get(key).is_some(), "{key}");
    }
}

#[test]
fn diff_answers_yes_and_no() {
    let dir = tempfile::tempdir().unwrap();
    let (same, half) = (
        dir.path().join("a.safetensors"),
        dir.path().join("b.safetensors"),
    );
    weightbridge!("convert", data(GOOD), same);
    weightbridge!("convert", "--dtype", "bf16", data(GOOD), half);
    assert_eq!(
        weightbridge!("diff", data(GOOD), same).status.code(),
        Some(0)
    );
    let differ = weightbridge!("diff", "--json", data(GOOD), half);
    assert_eq!(differ.status.code(), Some(1));
    assert_eq!(json(&differ)["same"], false);
    assert_eq!(
        weightbridge!("diff", "--as-dtype", "bf16", data(GOOD), half)
            .status
            .code(),
        Some(0)
    );
}

#[test]
fn standard_input_is_an_input() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.safetensors");
    let status = Command::new(env!("CARGO_BIN_EXE_weightbridge"))
        .args([std::ffi::OsStr::new("convert"), "-".as_ref(), out.as_ref()])
        .stdin(std::fs::File::open(data(GOOD)).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn completions_and_manual_print() {
    assert!(!weightbridge!("completions", "bash").stdout.is_empty());
    assert!(weightbridge!("man").stdout.starts_with(b".ie"));
}

#[test]
fn the_input_is_never_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("a.pt");
    std::fs::copy(data(GOOD), &input).unwrap();
    let before = std::fs::read(&input).unwrap();
    let out = weightbridge!("convert", input, input, "--overwrite");
    assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    assert!(stderr(&out).contains("the output is the input"));
    assert_eq!(std::fs::read(&input).unwrap(), before);
}

/// A name that leads to a pipe is refused, with or without leave to overwrite.
#[cfg(unix)]
#[test]
fn only_regular_files_are_outputs() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.safetensors");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = dir.path().join("l.safetensors");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    for path in [&socket, &link] {
        let out = weightbridge!("convert", data(GOOD), path, "--overwrite");
        assert_eq!(out.status.code(), Some(2), "{}", stderr(&out));
    }
    assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
}

#[test]
fn limits_are_set_by_name() {
    let out = weightbridge!("inspect", data(GOOD), "--limit", "tensors=1");
    assert_eq!(out.status.code(), Some(3));
    assert!(
        stderr(&out).contains("over the limit of 1"),
        "{}",
        stderr(&out)
    );
    assert!(stderr(&out).contains("--limit"));
    let out = weightbridge!("inspect", data(GOOD), "--limit", "tensor=1");
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("there are header-bytes"));
}

/// Stopped in the middle, by request or by force, nothing is left behind.
#[cfg(target_os = "linux")]
#[test]
fn a_signal_leaves_nothing() {
    use std::io::Write;
    const ELEMENTS: u64 = 4 << 30;
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("large.safetensors");
    let header = format!(
        r#"{{"t":{{"dtype":"F16","shape":[{ELEMENTS}],"data_offsets":[0,{}]}}}}"#,
        ELEMENTS * 2
    );
    let mut file = std::fs::File::create(&input).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes())
        .unwrap();
    file.write_all(header.as_bytes()).unwrap();
    // A hole: no room on the disk, and more to write than the test waits for.
    file.set_len(8 + header.len() as u64 + ELEMENTS * 2)
        .unwrap();
    let output = dir.path().join("out.safetensors");
    for (signal, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weightbridge"))
            .args(["convert", "--dtype", "f32"])
            .args([&input, &output])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400));
        let kill = Command::new("kill")
            .args([format!("-{signal}"), child.id().to_string()])
            .status()
            .unwrap();
        assert!(kill.success());
        assert_eq!(child.wait().unwrap().code(), code, "{signal}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

const KEYS: &str = "gguf/good/llama.gguf";

#[test]
fn keys_are_changed_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    std::fs::copy(data(KEYS), &file).unwrap();
    let before = std::fs::read(&file).unwrap();
    let set = "--set=general.name=str:x";
    let dry = weightbridge!("convert", file, "--in-place", "--dry-run", set);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let done = weightbridge!("convert", file, "--in-place", "--json", set);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(json(&done)["in_place"], true);
    assert_eq!(std::fs::read(&file).unwrap().len(), before.len());
    let shown = json(&weightbridge!("inspect", "--json", file));
    assert_eq!(shown["metadata"]["general.name"], "x");
    assert_eq!(
        weightbridge!("diff", file, data(KEYS)).status.code(),
        Some(0)
    );
    let long = format!("--set=general.name=str:{}", "x".repeat(5000));
    let refused = weightbridge!("convert", file, "--in-place", long);
    assert_eq!(refused.status.code(), Some(3));
    assert!(stderr(&refused).contains("too many") && stderr(&refused).contains("OUTPUT"));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn in_place_stands_alone() {
    let out = tempfile::tempdir().unwrap().path().join("x.gguf");
    for more in [out.as_os_str(), "--dtype=f16".as_ref(), "--drop=x".as_ref()] {
        let done = weightbridge!("convert", data(KEYS), "--in-place", more);
        assert_eq!(done.status.code(), Some(2), "{more:?}");
    }
    assert_eq!(weightbridge!("convert", data(KEYS)).status.code(), Some(2));
    let other = weightbridge!("convert", data(GOOD), "--in-place", "--unset=x");
    assert_eq!(other.status.code(), Some(3), "{}", stderr(&other));
}

#[test]
fn quantize_takes_what_llama_quantize_takes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.gguf");
    std::fs::copy(data(KEYS), &file).unwrap();
    for (types, made) in [
        ("q4_k", "Q4_K"),
        ("7", "Q8_0"),
        ("15", "Q4_K"),
        ("COPY", "COPY"),
    ] {
        let _ = std::fs::remove_file(dir.path().join(format!("ggml-model-{made}.gguf")));
        let done = weightbridge!("quantize", "--allow-requantize", file, types, "2");
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        assert!(dir.path().join(format!("ggml-model-{made}.gguf")).exists());
    }
    let one = dir.path().join("one.gguf");
    let done = weightbridge!(
        "quantize",
        "--keep-split",
        "--max-buffer-size",
        "8",
        file,
        one,
        "F16"
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert!(dir.path().join("one-00001-of-00001.gguf").exists() && !one.exists());
    let folder = dir.path().join("all");
    let done = weightbridge!("quantize", "--json", file, folder, "F16,BF16", "1");
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(json(&done)["outputs"].as_array().unwrap().len(), 2);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 2);
    for bad in [
        &["Q4_0,Q8_0"][..],
        &["x.gguf"],
        &["x.gguf", "Q9"],
        &["x.gguf", "F16", "n"],
    ] {
        let mut args = vec!["quantize".as_ref(), file.as_os_str()];
        args.extend(bad.iter().map(std::ffi::OsStr::new));
        assert_eq!(run(&args).status.code(), Some(2), "{bad:?}");
    }
}

/// Shards of another count stay, as they may be somebody's; the report names them.
#[test]
fn what_an_earlier_output_left_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("m.safetensors");
    let write = |shards: &str| {
        let done = weightbridge!(
            "convert",
            "--json",
            data(FAIRSEQ),
            out,
            "--overwrite",
            "--shard-size",
            shards
        );
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let report = json(&done)["report"].as_array().unwrap().clone();
        let stale = report.into_iter().find(|record| record["kind"] == "stale");
        stale.map(|record| record["what"].as_str().unwrap().to_owned())
    };
    assert_eq!(write("64"), None);
    assert_eq!(write("64"), None);
    let told = write("1MB").unwrap();
    assert!(told.contains("m-00001-of-0000"), "{told}");
    assert!(told.contains("index.json") || told.contains('…'), "{told}");
}
