//! What can be wrong with models, names and disks: each is told, and the rest goes on.

use crate::bench::{Bench, HOSTILE, STATE_DICT, data, ended, failures, same, stderr};
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

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
