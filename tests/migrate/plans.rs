//! What a plan tells, and what is said of one that is wrong.

use crate::bench::{Bench, HOSTILE, STATE_DICT, bytes_below, failures, stderr, weightbridge};
use std::collections::BTreeMap;
use std::fs;

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

/// Originals are removed by the plan's list: it must be what was read.
#[test]
fn inputs_that_are_not_what_is_read_are_refused() {
    let bench = Bench::new();
    bench.repositories(4);
    bench.write("org/m01/training_args.bin", "not part of the model");
    bench.plan(&["--in-place"]);
    let extra = bench.at("tree/org/m01/training_args.bin");
    let mtime = |line: &serde_json::Value| line["inputs"][0]["mtime"].clone();
    bench.edit(|line| {
        let model = line["model"].as_str().unwrap_or_default().to_owned();
        if model.starts_with("org/m00") {
            line["input"] = "org/m03/pytorch_model.bin".into();
        }
        if model.starts_with("org/m01") {
            let mut more = line["inputs"][0].clone();
            more["path"] = "org/m01/training_args.bin".into();
            more["bytes"] = fs::metadata(&extra).unwrap().len().into();
            line["inputs"].as_array_mut().unwrap().push(more);
        }
    });
    // The times of both files are the same, so that nothing else is wrong.
    let planned = bench.lines();
    let line = planned
        .iter()
        .find(|line| line["inputs"].as_array().is_some_and(|all| all.len() == 2));
    let time = mtime(line.unwrap()).as_u64().unwrap();
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_micros(time);
    fs::File::options()
        .write(true)
        .open(&extra)
        .unwrap()
        .set_modified(time)
        .unwrap();
    let before = bytes_below(&bench.at("tree"));
    let (code, report) = bench.run(&["--delete-originals"]);
    assert_eq!(code, Some(1));
    let told = failures(&report);
    let of = |model: &str| {
        let found = told.iter().find(|(_, name, _)| name.starts_with(model));
        found.map_or_else(|| panic!("{told:?}"), |(_, _, what)| what.clone())
    };
    assert!(of("org/m00").contains("is read without it"), "{told:?}");
    assert!(
        of("org/m01").contains("training_args.bin\" is among the \"inputs\""),
        "{told:?}"
    );
    assert_eq!(
        (told.len(), report["done"].as_u64()),
        (2, Some(2)),
        "{report}"
    );
    let after = bytes_below(&bench.at("tree"));
    for (name, bytes) in before
        .iter()
        .filter(|(name, _)| name.contains("m00/") || name.contains("m01/"))
    {
        assert_eq!(after.get(name), Some(bytes), "{name}");
    }
}
