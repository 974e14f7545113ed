//! Files written by real PyTorch and numpy, read tensor by tensor and compared with what those
//! libraries find in them (`testdata/expected`, see `testdata/README.md`).

#![allow(clippy::unwrap_used)] // a test

use ckpt::CkptReader;
use ir::{Context, Input, Model, Reader, Tensor};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use weightbridge_ckpt as ckpt;

fn testdata() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata");
    path.join("ckpt/good").is_dir().then_some(path)
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .map(|list| list.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    entries.sort();
    for entry in entries {
        if entry.is_dir() {
            files(&entry, out);
        } else {
            out.push(entry);
        }
    }
}

fn open(path: &Path) -> ir::Result<Model> {
    CkptReader.open(&Input::open(path)?, &Context::default())
}

fn digest(tensor: &Tensor) -> String {
    let bytes = tensor.read_all().unwrap();
    let digest = Sha256::digest(&bytes);
    digest
        .iter()
        .fold(String::new(), |hex, b| hex + &format!("{b:02x}"))
}

/// What differs between a model and its expected document.
fn compare(model: &Model, expected: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = expected["tensors"].as_array().unwrap();
    let rows: Vec<&Value> = rows.iter().filter(|row| !row["sha256"].is_null()).collect();
    let frozen = expected["frozen"] == true;
    if model.tensors.len() != rows.len() && !frozen {
        let names: Vec<_> = model.tensors.iter().map(|t| &t.name).collect();
        let theirs: Vec<_> = rows.iter().map(|row| row["name"].to_string()).collect();
        wrong.push(format!("tensors {names:?}, expected {theirs:?}"));
        return wrong;
    }
    for (tensor, row) in model.tensors.iter().zip(rows) {
        let name = row["name"].as_str().unwrap();
        if tensor.name != name && expected["nameless"] != true {
            wrong.push(format!("name {:?}, expected {name:?}", tensor.name));
        }
        let dtype = row["dtype"].as_str().unwrap();
        if tensor.dtype().name() != dtype {
            wrong.push(format!("{name}: type {}, expected {dtype}", tensor.dtype()));
        }
        let shape: Vec<u64> = serde_json::from_value(row["shape"].clone()).unwrap();
        if tensor.spec.shape.to_vec() != shape {
            wrong.push(format!(
                "{name}: shape {}, expected {shape:?}",
                tensor.spec.shape
            ));
        }
        let sha = digest(tensor);
        if sha != row["sha256"].as_str().unwrap() {
            wrong.push(format!("{name}: other bytes"));
        }
        if let Some(quant) = row["quant"].as_object() {
            let note = model.metadata.get(ir::ns::NOTE, &format!("quant.{name}"));
            let note: Value =
                serde_json::from_str(note.and_then(|v| v.as_str()).unwrap_or("{}")).unwrap();
            for key in ["scheme", "scale", "zero_point", "axis"] {
                let theirs = quant.get(key).unwrap_or(&Value::Null);
                if note[key] != *theirs {
                    wrong.push(format!("{name}: {key} {}, expected {theirs}", note[key]));
                }
            }
        }
    }
    let chosen = model.provenance.records.iter().find(|r| r.kind == "chosen");
    let chosen = chosen.map_or("top level", |r| r.what.as_str());
    let theirs = match expected["selected"].as_str() {
        Some("") | None => "top level",
        Some(key) => key,
    };
    if chosen != theirs && !frozen {
        wrong.push(format!("chose {chosen:?}, expected {theirs:?}"));
    }
    wrong.extend(compare_ties(model, expected));
    wrong
}

fn compare_ties(model: &Model, expected: &Value) -> Option<String> {
    let ties = model.tensors.ties();
    let mut groups: Vec<Vec<&str>> = Vec::new();
    for (id, tensor) in model.tensors.ids() {
        let first = ties[id.index()];
        if first == id {
            groups.push(vec![&tensor.name]);
        } else if let Some(group) = groups
            .iter_mut()
            .find(|group| group[0] == model.tensors[first].name)
        {
            group.push(&tensor.name);
        }
    }
    groups.retain(|group| group.len() > 1);
    let theirs: Vec<Vec<&str>> = expected["ties"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            group
                .as_array()
                .unwrap()
                .iter()
                .map(|n| n.as_str().unwrap())
                .collect()
        })
        .collect();
    (groups != theirs).then(|| format!("ties {groups:?}, expected {theirs:?}"))
}

#[test]
fn good_files_are_read_as_pytorch_reads_them() {
    let Some(testdata) = testdata() else {
        eprintln!("skipped: no testdata/ckpt/good here");
        return;
    };
    let mut paths = Vec::new();
    files(&testdata.join("ckpt/good"), &mut paths);
    let (mut checked, mut wrong) = (0, Vec::new());
    for path in paths {
        let relative = path.strip_prefix(&testdata).unwrap();
        let document = testdata
            .join("expected")
            .join(format!("{}.json", relative.display()));
        let Ok(text) = std::fs::read_to_string(&document) else {
            continue;
        };
        if path.extension().is_some_and(|ext| ext == "json") {
            continue;
        }
        let expected: Value = serde_json::from_str(&text).unwrap();
        checked += 1;
        match open(&path) {
            Ok(model) => {
                for what in compare(&model, &expected) {
                    wrong.push(format!("{}: {what}", relative.display()));
                }
            }
            Err(error) => wrong.push(error.to_string()),
        }
        let peek = Input::open(&path).unwrap().peek().unwrap();
        let score = ckpt::probe(&peek);
        if score.points < 50 {
            wrong.push(format!("{}: probe says {score:?}", relative.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {checked}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(checked > 50);
}

#[test]
fn bad_files_are_refused_in_time() {
    let Some(testdata) = testdata() else {
        eprintln!("skipped: no testdata/ckpt/good here");
        return;
    };
    let mut paths = Vec::new();
    files(&testdata.join("ckpt/bad"), &mut paths);
    let mut wrong = Vec::new();
    for path in paths {
        // What is wrong with a set of shards is the index's matter.
        if path.parent().unwrap().to_string_lossy().contains("index_") {
            continue;
        }
        let start = std::time::Instant::now();
        match open(&path) {
            // Checksums of storages are not verified: that would read the whole file twice.
            Ok(_) if path.ends_with("zip/crc_storage.pt") => {}
            Ok(model) => wrong.push(format!(
                "{}: opened, {} tensors",
                path.display(),
                model.tensors.len()
            )),
            Err(error) => {
                if matches!(error.class(), ir::Class::Io | ir::Class::Usage) {
                    wrong.push(format!("{error:?}"));
                }
            }
        }
        if start.elapsed().as_secs() > 2 {
            wrong.push(format!("{}: {:?}", path.display(), start.elapsed()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn good_files_have_nothing_odd() {
    let Some(testdata) = testdata() else {
        eprintln!("skipped: no testdata/ckpt/good here");
        return;
    };
    let mut paths = Vec::new();
    files(&testdata.join("ckpt/good"), &mut paths);
    let mut wrong = Vec::new();
    for path in paths {
        if path.extension().is_some_and(|ext| ext == "json") {
            continue;
        }
        let survey = CkptReader.survey(&Input::open(&path).unwrap(), &Context::default());
        if let Some(error) = &survey.error {
            wrong.push(error.to_string());
        }
        let incomplete = survey.objects.iter().filter(|part| !part.complete).count();
        if !survey.anomalies.is_empty() || incomplete > 0 {
            wrong.push(format!("{}: {:?}", path.display(), survey.anomalies));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn hostile_files_are_surveyed() {
    let Some(testdata) = testdata() else {
        eprintln!("skipped: no testdata/ckpt/good here");
        return;
    };
    let mut paths = Vec::new();
    files(&testdata.join("ckpt/hostile"), &mut paths);
    let facts = catalogue(&testdata);
    let mut wrong = Vec::new();
    for path in paths {
        let relative = path.strip_prefix(&testdata).unwrap().display().to_string();
        let Some(fact) = facts.iter().find(|fact| fact["path"] == relative.as_str()) else {
            continue;
        };
        let survey = CkptReader.survey(&Input::open(&path).unwrap(), &Context::default());
        let mut seen: Vec<String> = survey
            .objects
            .iter()
            .flat_map(|part| {
                part.objects
                    .iter()
                    .filter_map(|(_, node)| match &node.object {
                        ir::Object::Global(global) => {
                            Some(format!("{}.{}", global.module, global.name))
                        }
                        _ => None,
                    })
            })
            .collect();
        // Code is text; the calls in it are names with dots.
        let code: Vec<&str> = survey.texts.iter().map(|text| text.text.as_str()).collect();
        for name in ["torch.save"] {
            if code.iter().any(|text| text.contains(name)) {
                seen.push(name.to_owned());
            }
        }
        for wanted in fact["globals"].as_array().into_iter().flatten() {
            let wanted = wanted.as_str().unwrap();
            // Names that only running the pickle would tell are not in it.
            let computed = relative.contains("name_joined")
                || relative.contains("name_rot13")
                || relative.contains("compressed")
                || relative.contains("getattr_import");
            if !seen.iter().any(|name| name == wanted) && !computed {
                wrong.push(format!("{relative}: {wanted} not seen, {:?}", survey.error));
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

fn catalogue(testdata: &Path) -> Vec<Value> {
    let mut paths = Vec::new();
    files(&testdata.join("make/catalogue"), &mut paths);
    let mut facts = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        let list: Vec<Value> = serde_json::from_str(&text).unwrap();
        facts.extend(list);
    }
    facts
}
