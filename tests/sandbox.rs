//! The sandbox as users meet it: it is on, it says so, and models that lie in several places still
//! convert. What it refuses is tested beside the code, where a stray write can be added.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used)] // tests

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn data(name: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    testdata.canonicalize().unwrap().join(name)
}

fn run(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
    command.current_dir(folder).args(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

#[test]
fn it_says_what_it_keeps() {
    let dir = tempfile::tempdir().unwrap();
    let input = data("ckpt/good/zip/state_dict.pt");
    let done = run(dir.path(), &["inspect", "-v", input.to_str().unwrap()]);
    ok(&done);
    assert!(stderr(&done).contains("sandbox: "), "{}", stderr(&done));
    let done = run(
        dir.path(),
        &["inspect", "-v", "--no-sandbox", input.to_str().unwrap()],
    );
    assert!(stderr(&done).contains("sandbox: switched off"));
    let quiet = run(dir.path(), &["inspect", input.to_str().unwrap()]);
    assert!(!stderr(&quiet).contains("sandbox"));
}

/// A cache keeps the files of a model elsewhere, under other names.
#[test]
fn links_out_of_a_model_are_followed() {
    let dir = tempfile::tempdir().unwrap();
    let [blobs, snapshot] = ["blobs", "snapshots/main"].map(|name| dir.path().join(name));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    let one = data("safetensors/good/c64.safetensors");
    fs::copy(&one, blobs.join("1f2e")).unwrap();
    symlink("../../blobs/1f2e", snapshot.join("model.safetensors")).unwrap();
    for (n, input) in ["snapshots/main", "snapshots/main/model.safetensors"]
        .into_iter()
        .enumerate()
    {
        let out = format!("out{n}.pt");
        ok(&run(dir.path(), &["convert", input, &out]));
        ok(&run(dir.path(), &["diff", input, &out]));
        ok(&run(dir.path(), &["scan", input, &out]));
        ok(&run(dir.path(), &["inspect", input]));
    }
}

/// What a file of the model names gives no right to the network.
#[test]
fn an_adapter_does_not_switch_the_network_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = r#"{"base_model_name_or_path": "https://model.example/base"}"#;
    fs::write(dir.path().join("adapter_config.json"), config).unwrap();
    fs::copy(
        data("safetensors/good/c64.safetensors"),
        dir.path().join("a.safetensors"),
    )
    .unwrap();
    let done = run(dir.path(), &["-v", "convert", "a.safetensors", "b.pt"]);
    ok(&done);
    let told = stderr(&done);
    assert!(
        told.contains("sandbox: ") && !told.contains("may use the network"),
        "{told}"
    );
}

/// A safetensors file of one number.
fn safetensors(name: &str) -> Vec<u8> {
    let header = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
    let len = u64::try_from(header.len()).unwrap().to_le_bytes();
    [&len[..], header.as_bytes(), &[0; 4]].concat()
}

/// The shards that an index names may lie in a folder below it.
#[test]
fn shards_below_their_index_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path();
    fs::create_dir(folder.join("sub")).unwrap();
    let shards = [
        "x-00001-of-00002.safetensors",
        "sub/x-00002-of-00002.safetensors",
    ];
    let mut map = serde_json::Map::new();
    for (name, shard) in ["a", "b"].into_iter().zip(shards) {
        fs::write(folder.join(shard), safetensors(name)).unwrap();
        map.insert(name.to_owned(), shard.into());
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(folder.join("x.safetensors.index.json"), index).unwrap();
    let (key, public) = (data("sign/key.pem"), data("sign/pub.pem"));
    // The index itself, and a shard that has it beside.
    for input in ["x.safetensors.index.json", shards[0]] {
        let told = run(folder, &["inspect", "--json", input]);
        ok(&told);
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(told["tensor_count"], 2, "{input}");
        for command in [
            &["scan", input][..],
            &["convert", input, "out.pt", "--overwrite"],
            &["diff", input, "out.pt"],
            &["report", input, "-o", "page.html", "--overwrite"],
            &[
                "quantize",
                input,
                "out.gguf",
                "F16",
                "--as",
                "container",
                "--overwrite",
            ],
            &["sign", input, "--key", key.to_str().unwrap()],
            &["verify", input, "--key", public.to_str().unwrap()],
        ] {
            ok(&run(folder, command));
        }
    }
}

/// Outputs go into folders that are made, and beside the working folder.
#[test]
fn outputs_go_where_they_should() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("work");
    fs::create_dir(&work).unwrap();
    let input = data("ckpt/good/zip/state_dict.pt");
    let input = input.to_str().unwrap();
    for output in [
        "x.safetensors",
        "new/deep/x.safetensors",
        "folder/",
        "../y.safetensors",
    ] {
        ok(&run(&work, &["convert", input, output]));
    }
    assert!(work.join("new/deep/x.safetensors").is_file());
    assert!(work.join("folder/model.safetensors").is_file());
    ok(&run(
        &work,
        &[
            "convert",
            "x.safetensors",
            "x.safetensors.gguf",
            "--as",
            "container",
        ],
    ));
    ok(&run(
        &work,
        &[
            "convert",
            "--in-place",
            "x.safetensors.gguf",
            "--set",
            "a=u32:1",
        ],
    ));
    ok(&run(
        &work,
        &["convert", "--dry-run", input, "none.safetensors"],
    ));
}
