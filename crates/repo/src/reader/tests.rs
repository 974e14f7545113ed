use super::*;
use ir::{
    Class, DType, Error, Fault, MetaValue, Open, ReadOptions, Region, Tensor, TensorSpec, View,
    WriteOptions, ns,
};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("repo-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).unwrap();
    }

    fn open(&self, name: &str) -> Result<Model> {
        self.open_as(name, false)
    }

    fn open_as(&self, name: &str, partial: bool) -> Result<Model> {
        let path = if name.is_empty() {
            self.0.clone()
        } else {
            self.0.join(name)
        };
        let cx = Context {
            open: Some(Arc::new(Lines)),
            read: ReadOptions {
                partial,
                ..ReadOptions::default()
            },
            write: WriteOptions::default(),
            ..Context::default()
        };
        RepoReader.open(&Input::open(&path).unwrap(), &cx)
    }

    fn refused(&self, name: &str, words: &str) -> Error {
        let error = self.open(name).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.path().is_some(), "{error}");
        error
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A format of one line a tensor, its bytes the line itself; `key: value` lines are metadata.
struct Lines;

impl Open for Lines {
    fn open(&self, input: &Input, cx: &Context) -> Result<Model> {
        assert!(
            cx.open.is_none(),
            "what a set opens may open nothing further"
        );
        let region = input.file()?;
        let bytes = region.bytes(0, usize::try_from(region.len()).unwrap())?;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let mut model = Model::default();
        model.provenance.format = "safetensors";
        model
            .provenance
            .files
            .push((input.path().to_owned(), region.len()));
        for line in text.lines() {
            if let Some((key, value)) = line.split_once(": ") {
                model
                    .metadata
                    .set(ns::SAFETENSORS, key, MetaValue::text(value));
            } else if line == "broken" {
                return Err(Fault::Invalid {
                    what: "broken".to_owned(),
                }
                .into());
            } else {
                let bytes = line.as_bytes().to_vec();
                let spec = TensorSpec::new(DType::U8, [bytes.len() as u64]);
                let view = View::contiguous(Region::memory(bytes));
                model.tensors.push(Tensor::stored(line, spec, view))?;
            }
        }
        Ok(model)
    }
}

const ONE: &str = "model-00001-of-00002.safetensors";
const TWO: &str = "model-00002-of-00002.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn index(entries: &[(&str, &str)]) -> String {
    let map: Vec<_> = entries
        .iter()
        .map(|(t, f)| format!("{t:?}: {f:?}"))
        .collect();
    format!(
        "{{\"metadata\": {{\"total_size\": 3, \"tied\": \"a\"}}, \"weight_map\": {{{}}}}}",
        map.join(", ")
    )
}

fn sharded(name: &str) -> Folder {
    let folder = Folder::new(name);
    folder.put(ONE, "format: pt\nb\na");
    folder.put(TWO, "format: pt\nc");
    folder.put(INDEX, &index(&[("a", ONE), ("b", ONE), ("c", TWO)]));
    folder
}

fn names(model: &Model) -> Vec<&str> {
    model
        .tensors
        .iter()
        .map(|tensor| tensor.name.as_str())
        .collect()
}

#[test]
fn a_set_opens_by_its_folder_its_index_or_any_shard() {
    let folder = sharded("whole");
    for name in ["", INDEX, ONE, TWO] {
        let model = folder.open(name).unwrap();
        assert_eq!(names(&model), ["b", "a", "c"], "{name:?}");
        assert_eq!(model.provenance.format, "safetensors");
        assert_eq!(model.provenance.version, "2 shards");
        assert_eq!(model.provenance.files.len(), 3);
        assert!(model.provenance.notes.is_empty() && model.provenance.records.is_empty());
        let text = |key| {
            model
                .metadata
                .get(ns::SAFETENSORS, key)
                .unwrap()
                .to_string()
        };
        assert_eq!(
            (text("format"), text("tied")),
            ("pt".to_owned(), "a".to_owned())
        );
        assert_eq!(model.metadata.len(), 2);
    }
    fs::remove_file(folder.0.join(INDEX)).unwrap();
    for name in ["", ONE, TWO] {
        assert_eq!(names(&folder.open(name).unwrap()), ["b", "a", "c"]);
    }
}

#[test]
fn other_files_travel_along() {
    let folder = sharded("assets");
    for name in [
        "config.json",
        "tokenizer.model",
        "LICENSE",
        "modeling_x.py",
        ".gitattributes",
    ] {
        folder.put(name, "text");
    }
    folder.put("pytorch_model.bin", "z");
    folder.put("optimizer.pt", "z");
    let model = folder.open("").unwrap();
    let assets: Vec<_> = model
        .assets
        .iter()
        .map(|asset| asset.name.as_str())
        .collect();
    assert_eq!(
        assets,
        ["LICENSE", "config.json", "modeling_x.py", "tokenizer.model"]
    );
    let notes = model.provenance.notes.join("\n");
    assert!(
        notes.contains("pytorch_model.bin is in the folder too"),
        "{notes}"
    );
    assert!(
        notes.contains("1 other files stay where they are: optimizer.pt"),
        "{notes}"
    );
    assert_eq!(folder.open(TWO).unwrap().assets.len(), 4);
}

#[test]
fn missing_shards_are_named() {
    let folder = sharded("missing");
    fs::remove_file(folder.0.join(TWO)).unwrap();
    let error = folder.refused(
        "",
        "1 of the 2 files of the set are not there: model-00002-of",
    );
    assert_eq!(error.class(), Class::Malformed);
    folder.put("model-00002-of-00002.safetensors.incomplete", "");
    folder.refused(ONE, "a download did not finish, resume it");
    fs::remove_file(folder.0.join(INDEX)).unwrap();
    folder.refused(ONE, "1 of the 2 files");
}

/// The tensors, and the losses by what they are of.
fn part(folder: &Folder, name: &str) -> (Vec<String>, Vec<String>) {
    let model = folder.open_as(name, true).unwrap();
    let losses = model.provenance.records.iter().filter(|record| record.loss);
    let losses = losses.map(|record| format!("{} {}", record.what, record.why));
    (
        names(&model).into_iter().map(str::to_owned).collect(),
        losses.collect(),
    )
}

#[test]
fn what_is_there_is_taken_where_that_is_asked_for() {
    let folder = sharded("partial");
    assert_eq!(part(&folder, "").1, [""; 0]);
    fs::remove_file(folder.0.join(ONE)).unwrap();
    let (names, losses) = part(&folder, "");
    assert_eq!(names, ["c"]);
    let file = format!("{ONE} this file of the set is not there");
    let of = |name| format!("{name} it is in {ONE}, which is not there");
    assert_eq!(losses, [file.clone(), of("a"), of("b")]);
    fs::remove_file(folder.0.join(INDEX)).unwrap();
    assert_eq!(part(&folder, TWO), (vec!["c".to_owned()], vec![file]));
    fs::remove_file(folder.0.join(TWO)).unwrap();
    folder.put(INDEX, &index(&[("a", ONE), ("c", TWO)]));
    let error = folder.open_as(INDEX, true).unwrap_err();
    assert!(error.to_string().contains("2 of the 2 files"), "{error}");

    let folder = sharded("partial-index");
    folder.put(
        INDEX,
        &index(&[("a", ONE), ("b", ONE), ("c", TWO), ("d", TWO)]),
    );
    let (names, losses) = part(&folder, "");
    assert_eq!(names, ["b", "a", "c"]);
    assert_eq!(losses.len(), 1);
    assert!(losses[0].starts_with("d the index says that it is in model-00002"));
    // A tensor in another file is taken where it is: index and shards may be of two versions.
    folder.put(INDEX, &index(&[("a", ONE), ("b", TWO), ("c", TWO)]));
    assert!(folder.open_as("", false).is_err());
    let (names, losses) = part(&folder, "");
    assert_eq!(names, ["b", "a", "c"]);
    let elsewhere = format!("b the index says that it is in {TWO}, it is in {ONE}");
    assert_eq!(losses, [elsewhere]);
}

#[test]
fn index_and_shards_agree() {
    let folder = sharded("agree");
    folder.put(INDEX, &index(&[("a", ONE), ("c", ONE)]));
    let error = folder.refused(INDEX, "the index says that it is in model-00001");
    assert_eq!(error.place().unwrap(), "tensor \"c\"");
    folder.put(INDEX, &index(&[("a", ONE), ("d", TWO)]));
    folder.refused(
        INDEX,
        "tensor \"d\": the index says that it is in model-00002-of-00002.safetensors, no file",
    );
    folder.put(INDEX, &index(&[("a", ONE), ("a", ONE), ("c", TWO)]));
    folder.refused(INDEX, "used twice");
    folder.put(INDEX, &index(&[("a", ONE), ("c", TWO)]));
    let model = folder.open(INDEX).unwrap();
    let records: Vec<_> = (model.provenance.records.iter())
        .map(|record| (record.kind, record.what.as_str()))
        .collect();
    assert_eq!(records, [("not-in-index", "b")]);
    folder.put(INDEX, &index(&[("a", ONE)]));
    let model = folder.open(INDEX).unwrap();
    assert_eq!(names(&model), ["b", "a"]);
    assert!(
        model
            .provenance
            .notes
            .iter()
            .any(|note| note.contains("00002 is there")
                || note.starts_with("model-00002-of-00002.safetensors is there"))
    );
    folder.put(INDEX, &index(&[("a", ONE), ("b", ONE), ("c", TWO)]));
    folder.put(TWO, "c\na");
    let error = folder.refused(
        "",
        "it is in model-00001-of-00002.safetensors and again in model-00002",
    );
    assert_eq!(error.place().unwrap(), "tensor \"a\"");
}

#[test]
fn metadata_that_differs_is_told() {
    let folder = sharded("differs");
    folder.put(TWO, "format: tf\nonly: here\nc");
    let model = folder.open("").unwrap();
    let records = &model.provenance.records;
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].kind, records[0].what.as_str()),
        ("metadata", "safetensors: format")
    );
    assert!(model.metadata.get(ns::SAFETENSORS, "only").is_some());
}

#[test]
fn hostile_names_are_refused() {
    let folder = sharded("hostile");
    for name in [
        "../x.safetensors",
        "/etc/passwd",
        "a\\u0000.bin",
        INDEX,
        "sub/../x.bin",
    ] {
        let text = index(&[("a", "FILE")]).replace("FILE", name);
        folder.put(INDEX, &text);
        folder.refused(INDEX, "the index names the file");
    }
    let cx = Context::default();
    let input = Input::open(&folder.0.join(INDEX)).unwrap();
    let survey = RepoReader.survey(&input, &cx);
    assert_eq!(survey.anomalies[0].kind, AnomalyKind::UnsafeName);
}

#[test]
fn placeholders_and_broken_shards_are_called_what_they_are() {
    let folder = sharded("placeholders");
    folder.put(
        TWO,
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
    );
    let error = folder.refused("", "this is a Git LFS pointer");
    assert_eq!(error.path().unwrap(), folder.0.join(TWO));
    folder.put(TWO, "<!DOCTYPE html><html>");
    folder.refused("", "web page");
    folder.put(TWO, "broken");
    assert_eq!(
        folder.refused("", "broken").path().unwrap(),
        folder.0.join(TWO)
    );
    folder.put(INDEX, "<html>not found</html>");
    folder.refused("", "web page");
    folder.put(INDEX, "{\"weight_map\": [");
    folder.refused("", "the index is not what a sharded set's index is");
}

#[test]
fn folders_without_one_model_are_explained() {
    let folder = Folder::new("empty");
    folder.put("config.json", "{}");
    assert_eq!(
        folder.refused("", "no model weights").class(),
        Class::Unsupported
    );
    for part in ["vae", "unet", "tokenizer"] {
        fs::create_dir(folder.0.join(part)).unwrap();
    }
    folder.put("unet/diffusion_pytorch_model.safetensors", "u");
    folder.put("vae/diffusion_pytorch_model.safetensors", "v");
    let error = folder.refused("", "in this folder itself, but in unet, vae");
    assert!(error.help().unwrap().contains("Name one of these folders"));
    folder.put("model_index.json", "{}");
    let error = folder.refused("", "but in unet, vae");
    assert!(error.help().unwrap().contains("pipeline of diffusers"));
    folder.put("b.ckpt", "b");
    assert_eq!(names(&folder.open("").unwrap()), ["b"]);
    folder.put("a.ckpt", "a");
    folder.refused("", "several models: a.ckpt, b.ckpt");
    folder.put("model.safetensors", "m");
    assert_eq!(names(&folder.open("").unwrap()), ["m"]);
}

#[test]
fn the_probe_knows_folders_and_indexes() {
    let folder = sharded("probe");
    let points = |path: &PathBuf| {
        let peek = Input::open(path).unwrap().peek().unwrap();
        (crate::FORMAT.probe)(&peek).points
    };
    assert_eq!(points(&folder.0), 90);
    assert_eq!(points(&folder.0.join(INDEX)), 95);
    assert_eq!(points(&folder.0.join(ONE)), 0);
    folder.put("config.json", "{}");
    assert_eq!(points(&folder.0), 100);
    assert_eq!(points(&folder.0.join("config.json")), 0);
}
