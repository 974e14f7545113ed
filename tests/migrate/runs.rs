//! What a run makes, removes and leaves, by itself, beside another and after a kill.

use crate::bench::{
    Bench, HOSTILE, STATE_DICT, bytes_below, ended, failures, same, stderr, verified, weightbridge,
    whole,
};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
