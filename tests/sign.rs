//! Signing, verifying and attesting on the command line.

#![allow(clippy::unwrap_used)] // tests

use serde_json::Value;
use sha2::Digest as _;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn data(name: &str) -> PathBuf {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    testdata.canonicalize().unwrap().join(name)
}

fn weightbridge<const N: usize>(args: [&OsStr; N]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
    command.args(args).output().unwrap()
}

macro_rules! run {
    ($($arg:expr),* $(,)?) => { weightbridge([$(AsRef::<OsStr>::as_ref(&$arg)),*]) };
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn ok(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
}

/// A copy of the model that the official tool signed.
fn model(dir: &Path) -> PathBuf {
    let model = dir.join("model");
    fs::create_dir_all(model.join("sub")).unwrap();
    for name in ["a.bin", "a-b", "empty", "sub/b.txt"] {
        fs::copy(data("sign/model").join(name), model.join(name)).unwrap();
    }
    model
}

#[test]
fn what_the_official_tool_signed_is_verified() {
    for signature in ["sign/files.sig", "sign/shards.sig"] {
        let (model, key) = (data("sign/model"), data("sign/pub.pem"));
        let done = run!(
            "verify",
            "--json",
            model,
            "--key",
            key,
            "--signature",
            data(signature)
        );
        ok(&done);
        let document = json(&done);
        assert_eq!(document["verified"], true, "{signature}");
        assert_eq!(document["standing"], "valid");
    }
}

#[test]
fn what_we_sign_is_verified_and_each_change_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (key, public) = (data("sign/key.pem"), data("sign/pub.pem"));
    for shards in [None, Some("3")] {
        let model = model(dir.path());
        let mut sign = vec![
            "sign".as_ref(),
            model.as_os_str(),
            "--key".as_ref(),
            key.as_os_str(),
        ];
        sign.extend(["--overwrite", "--json"].map(OsStr::new));
        sign.extend(
            shards
                .into_iter()
                .flat_map(|n| [OsStr::new("--shard-size"), OsStr::new(n)]),
        );
        let program = env!("CARGO_BIN_EXE_weightbridge");
        let done = Command::new(program).args(sign).output().unwrap();
        ok(&done);
        assert_eq!(json(&done)["files"], 4);
        // The same key and files give the same signature.
        let first = fs::read(model.join("model.sig")).unwrap();
        let check = || run!("verify", "--json", model, "--key", public);
        ok(&check());

        fs::write(model.join("a.bin"), "weighty and longer").unwrap();
        fs::write(model.join("new"), "n").unwrap();
        fs::remove_file(model.join("sub/b.txt")).unwrap();
        let done = check();
        assert_eq!(done.status.code(), Some(1));
        let document = json(&done);
        assert_eq!(document["changed"], serde_json::json!(["a.bin"]));
        assert_eq!(document["extra"], serde_json::json!(["new"]));
        assert_eq!(document["missing"], serde_json::json!(["sub/b.txt"]));
        let told = run!("verify", model, "--key", public);
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        assert!(
            told.contains("changed  a.bin") && told.contains("not verified"),
            "{told}"
        );

        fs::copy(data("sign/model/a.bin"), model.join("a.bin")).unwrap();
        fs::copy(data("sign/model/sub/b.txt"), model.join("sub/b.txt")).unwrap();
        assert_eq!(check().status.code(), Some(1));
        ok(&run!("verify", model, "--key", public, "--ignore-unsigned"));
        ok(&run!(
            "verify",
            model,
            "--key",
            public,
            "--ignore",
            model.join("new")
        ));
        fs::remove_file(model.join("new")).unwrap();
        // What git puts there does not count, unless it shall.
        fs::create_dir_all(model.join(".git")).unwrap();
        fs::write(model.join(".git/config"), "g").unwrap();
        ok(&check());
        let resigned = run!(
            "sign",
            model,
            "--key",
            key,
            "--with-git",
            "--json",
            "--overwrite"
        );
        assert_eq!(json(&resigned)["files"], 5);
        fs::remove_dir_all(model.join(".git")).unwrap();
        assert_ne!(fs::read(model.join("model.sig")).unwrap(), first);
        fs::remove_file(model.join("model.sig")).unwrap();
    }
}

/// The official tool takes a path as it is seen from here; in a signature it stands as it is seen
/// from the model's folder. Both lead to it, and what leads to nothing is a slip of the pen.
#[test]
fn what_is_ignored_is_named_from_here_or_from_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    // Of the same name here, and not meant.
    fs::write(dir.path().join("a.bin"), "elsewhere").unwrap();
    let (key, public) = (data("sign/key.pem"), data("sign/pub.pem"));
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
        command.current_dir(dir.path()).args(args).output().unwrap()
    };
    let (key, public) = (key.to_str().unwrap(), public.to_str().unwrap());
    let sign = [
        "sign",
        "model",
        "--json",
        "--overwrite",
        "--key",
        key,
        "--ignore",
    ];
    let full = model.join("a.bin");
    for path in [
        "model/a.bin",
        "a.bin",
        "./model/sub/../a.bin",
        full.to_str().unwrap(),
    ] {
        let done = run(&[&sign[..], &[path]].concat());
        ok(&done);
        assert_eq!(json(&done)["files"], 3, "{path}");
        // It is in the signature: who verifies need not say it.
        ok(&run(&["verify", "model", "--key", public]));
    }
    ok(&run(&[&sign[..], &["sub"]].concat()));
    fs::write(model.join("new"), "n").unwrap();
    let verify = ["verify", "model", "--key", public];
    assert_eq!(run(&verify).status.code(), Some(1));
    for path in ["new", "model/new"] {
        ok(&run(&[&verify[..], &["--ignore", path]].concat()));
    }
    let before = fs::read(model.join("model.sig")).unwrap();
    for path in ["nothing", "model/nothing", "model", ".", "/etc", "../x", ""] {
        for line in [&sign[..], &[&verify[..], &["--ignore"]].concat()] {
            let done = run(&[line, &[path]].concat());
            assert_eq!(done.status.code(), Some(2), "{path:?}: {}", stderr(&done));
        }
        let done = run(&[&verify[..], &["--ignore", path]].concat());
        assert!(stderr(&done).contains("to be ignored") || path.is_empty());
    }
    assert_eq!(fs::read(model.join("model.sig")).unwrap(), before);
}

#[test]
fn a_file_is_signed_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.bin");
    fs::write(&file, "weights").unwrap();
    ok(&run!("sign", file, "--key", data("sign/key.pem")));
    ok(&run!("verify", file, "--key", data("sign/pub.pem")));
    assert!(dir.path().join("x.bin.sig").is_file());
    let again = run!("sign", file, "--key", data("sign/key.pem"));
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    fs::write(&file, "weightz").unwrap();
    let done = run!("verify", file, "--key", data("sign/pub.pem"));
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn another_key_or_another_payload_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(data("sign/files.sig")).unwrap();
    let mut bundle: Value = serde_json::from_str(&text).unwrap();
    bundle["verificationMaterial"]["publicKey"]["hint"] = "00".into();
    let signature = dir.path().join("other.sig");
    fs::write(&signature, bundle.to_string()).unwrap();
    let (model, key) = (data("sign/model"), data("sign/pub.pem"));
    let check = || {
        run!(
            "verify",
            "--json",
            model,
            "--key",
            key,
            "--signature",
            signature
        )
    };
    let done = check();
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(json(&done)["standing"], "other-key");

    let shards = fs::read_to_string(data("sign/shards.sig")).unwrap();
    let shards: Value = serde_json::from_str(&shards).unwrap();
    let mut bundle: Value = serde_json::from_str(&text).unwrap();
    bundle["dsseEnvelope"]["payload"] = shards["dsseEnvelope"]["payload"].clone();
    fs::write(&signature, bundle.to_string()).unwrap();
    let done = check();
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(json(&done)["standing"], "invalid");
}

#[test]
fn what_is_no_signature_or_no_key_is_refused() {
    let (model, key) = (data("sign/model"), data("sign/pub.pem"));
    let not = data("sign/model/a.bin");
    let done = run!("verify", model, "--key", key, "--signature", not);
    assert_eq!(done.status.code(), Some(3), "{}", stderr(&done));
    let done = run!(
        "verify",
        model,
        "--key",
        data("sign/key.pem"),
        "--signature",
        not
    );
    assert_eq!(done.status.code(), Some(3));
    assert!(stderr(&done).contains("-pubout"), "{}", stderr(&done));
    let done = run!("sign", model, "--key", key);
    assert_eq!(done.status.code(), Some(3));
    assert!(
        stderr(&done).contains("openssl genpkey"),
        "{}",
        stderr(&done)
    );
    assert_eq!(run!("verify", model).status.code(), Some(2));
    // A key's text never reaches a message.
    let secret = fs::read_to_string(data("sign/key.pem")).unwrap();
    let secret = secret.lines().nth(4).unwrap();
    let done = run!(
        "sign",
        "-v",
        not,
        "--key",
        data("sign/key.pem"),
        "--signature",
        "/nowhere/x"
    );
    assert!(!stderr(&done).contains(secret));
    assert_ne!(done.status.code(), Some(0));
}

#[test]
fn the_key_may_come_from_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let mut child = Command::new(env!("CARGO_BIN_EXE_weightbridge"))
        .args([
            "sign".as_ref(),
            model.as_os_str(),
            "--key".as_ref(),
            "-".as_ref(),
        ])
        .stdin(Stdio::from(fs::File::open(data("sign/key.pem")).unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    ok(&run!("verify", model, "--key", data("sign/pub.pem")));
}

#[cfg(unix)]
#[test]
fn links_are_refused_unless_they_may_count() {
    let dir = tempfile::tempdir().unwrap();
    let model = model(dir.path());
    let key = data("sign/key.pem");
    fs::write(dir.path().join("blob"), "b").unwrap();
    std::os::unix::fs::symlink("../blob", model.join("link")).unwrap();
    let done = run!("sign", model, "--key", key);
    assert_eq!(done.status.code(), Some(3));
    assert!(stderr(&done).contains("--allow-symlinks"));
    assert!(!model.join("model.sig").exists());
    ok(&run!("sign", model, "--key", key, "--allow-symlinks"));
    let public = data("sign/pub.pem");
    ok(&run!("verify", model, "--key", public, "--allow-symlinks"));
    let done = run!("verify", "--json", model, "--key", public);
    assert_eq!(done.status.code(), Some(1));
    assert_eq!(json(&done)["unsuitable"][0]["name"], "link");
    assert_eq!(json(&done)["missing"][0], "link");
}

#[test]
fn a_conversion_carries_its_statement() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let input = data("ckpt/good/zip/state_dict.pt");
    let convert = |out: &str, statement: &str, key: Option<PathBuf>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_weightbridge"));
        command.args(["convert".as_ref(), input.as_os_str(), at(out).as_os_str()]);
        command
            .args(["--dtype", "f16", "--attest"])
            .arg(at(statement));
        if let Some(key) = key {
            command.arg("--attest-key").arg(key);
        }
        command.output().unwrap()
    };
    ok(&convert("x.safetensors", "x.json", None));
    let statement: Value = serde_json::from_slice(&fs::read(at("x.json")).unwrap()).unwrap();
    assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], "x.safetensors");
    let build = &statement["predicate"]["buildDefinition"];
    assert_eq!(build["externalParameters"]["options"]["dtype"], "f16");
    let read = build["resolvedDependencies"].as_array().unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0]["name"], "state_dict.pt");
    // The digests are those of sha256sum.
    let digest = |path: &Path| {
        let hash = sha2::Sha256::digest(fs::read(path).unwrap());
        let mut text = String::new();
        for byte in hash {
            text += &format!("{byte:02x}");
        }
        text
    };
    assert_eq!(read[0]["digest"]["sha256"], digest(&input));
    assert_eq!(
        statement["subject"][0]["digest"]["sha256"],
        digest(&at("x.safetensors"))
    );

    // Without a date the statement is the same each time.
    let again = fs::read(at("x.json")).unwrap();
    fs::remove_file(at("x.json")).unwrap();
    fs::remove_file(at("x.safetensors")).unwrap();
    ok(&convert("x.safetensors", "x.json", None));
    assert_eq!(fs::read(at("x.json")).unwrap(), again);

    let public = data("sign/pub.pem");
    ok(&run!("verify", "--statement", at("x.json")));
    let unsigned = run!(
        "verify",
        "--json",
        "--statement",
        at("x.json"),
        "--key",
        public
    );
    assert_eq!(unsigned.status.code(), Some(1));
    assert_eq!(json(&unsigned)["standing"], "not-signed");

    ok(&convert(
        "y.safetensors",
        "y.sig",
        Some(data("sign/key.pem")),
    ));
    let check = || {
        run!(
            "verify",
            "--json",
            "--statement",
            at("y.sig"),
            "--key",
            public
        )
    };
    ok(&check());
    let as_model = run!(
        "verify",
        dir.path(),
        "--key",
        public,
        "--signature",
        at("y.sig")
    );
    assert_eq!(as_model.status.code(), Some(3));
    assert!(stderr(&as_model).contains("--statement"));
    fs::write(at("y.safetensors"), "other").unwrap();
    assert_eq!(check().status.code(), Some(1));
    assert_eq!(json(&check())["changed"][0], "y.safetensors");
}

#[test]
fn a_conversion_that_fails_leaves_no_statement() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let bad = data("ckpt/hostile/reduce_exec/exec_print_p2.pt");
    let done = run!(
        "convert",
        bad,
        at("x.safetensors"),
        "--attest",
        at("x.json")
    );
    assert_eq!(done.status.code(), Some(3));
    fs::write(at("there.json"), "old").unwrap();
    let good = data("ckpt/good/zip/state_dict.pt");
    let done = run!(
        "convert",
        good,
        at("x.safetensors"),
        "--attest",
        at("there.json")
    );
    assert_eq!(done.status.code(), Some(2), "{}", stderr(&done));
    assert_eq!(fs::read(at("there.json")).unwrap(), b"old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
