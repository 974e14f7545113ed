use super::*;
use crate::SafetensorsReader;
use ir::{Class, Input, MetaValue, ModelBuilder, PatternCompute, Reader, WriteOptions, ns};
use std::fs;
use std::path::PathBuf;

/// A folder of its own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("st-writer-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, model: &Model, shard_size: Option<u64>) -> Result<Report> {
        let cx = Context {
            write: WriteOptions {
                shard_size,
                ..WriteOptions::default()
            },
            ..Context::default()
        };
        let mut out = Output::new(&self.0.join(name), true);
        let report = SafetensorsWriter.write(model, &mut out, &cx)?;
        let files = out.commit()?;
        assert_eq!(
            files.iter().map(|(_, len)| len).sum::<u64>(),
            report.file_bytes
        );
        Ok(report)
    }

    fn read(&self, name: &str) -> Model {
        let input = Input::open(&self.0.join(name)).unwrap();
        SafetensorsReader.open(&input, &Context::default()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random and are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

struct Bytes8<'a>(safetensors::Dtype, Vec<usize>, &'a [u8]);

impl safetensors::View for &Bytes8<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        self.0
    }
    fn shape(&self) -> &[usize] {
        &self.1
    }
    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        self.2.into()
    }
    fn data_len(&self) -> usize {
        self.2.len()
    }
}

#[test]
fn random_tables_equal_the_library_and_come_back() {
    let folder = Folder::new("random");
    let dtypes: Vec<_> = DType::all().filter(|dtype| has_dtype(*dtype)).collect();
    assert_eq!(dtypes.len(), 22);
    let mut dice = Dice(7);
    for round in 0..60 {
        let mut builder = ModelBuilder::new();
        let odd_names = ["a.\"quoted\"", "\u{e9}\u{1f600}", "", "new\nline", "_", "A"];
        for n in 0..dice.roll(12) {
            let dtype = dtypes[usize::try_from(dice.roll(22)).unwrap()];
            let mut shape: Vec<u64> = (0..dice.roll(4)).map(|_| dice.roll(4)).collect();
            shape.push(4);
            if dice.roll(4) == 0 && dtype.block().0 == 1 {
                shape.clear();
            }
            let len = ir::TensorSpec::new(dtype, shape.clone())
                .byte_len()
                .unwrap();
            let bytes: Vec<u8> = (0..len)
                .map(|_| u8::try_from(dice.roll(256)).unwrap())
                .collect();
            let name = match odd_names.get(usize::try_from(n).unwrap()) {
                Some(name) if dice.roll(2) == 0 => (*name).to_owned(),
                _ => format!("layers.{n}.weight"),
            };
            builder = builder.tensor(&name, dtype, shape, bytes);
        }
        if round % 2 == 0 {
            builder = builder.metadata(ns::SAFETENSORS, "k\u{1}", MetaValue::text("v\\\u{7f}"));
        }
        let model = builder.build().unwrap();
        let report = folder.write("m.safetensors", &model, None).unwrap();
        assert_eq!(report.tensor_bytes, model.tensors.byte_len());

        let all: Vec<_> = model
            .tensors
            .iter()
            .map(|t| t.read_all().unwrap())
            .collect();
        let views: Vec<_> = model
            .tensors
            .iter()
            .zip(&all)
            .map(|(t, bytes)| {
                let shape = t
                    .spec
                    .shape
                    .iter()
                    .map(|d| usize::try_from(*d).unwrap())
                    .collect();
                (
                    t.name.clone(),
                    Bytes8(dtype_to_wire(t.dtype()).unwrap(), shape, bytes),
                )
            })
            .collect();
        let strings = model.metadata.of(ns::SAFETENSORS);
        let strings: std::collections::HashMap<_, _> = strings
            .map(|(k, v)| (k.to_owned(), v.to_string()))
            .collect();
        let theirs = safetensors::serialize(
            views.iter().map(|(name, view)| (name.as_str(), view)),
            (!strings.is_empty()).then_some(strings),
        )
        .unwrap();
        assert!(
            fs::read(folder.0.join("m.safetensors")).unwrap() == theirs,
            "round {round}"
        );

        let back = folder.read("m.safetensors");
        assert_eq!(back.tensors.len(), model.tensors.len());
        assert_eq!(back.metadata, model.metadata);
        for (tensor, bytes) in model.tensors.iter().zip(&all) {
            let twin = back.tensors.by_name(&tensor.name).unwrap();
            assert_eq!(twin.spec, tensor.spec);
            assert_eq!(&twin.read_all().unwrap(), bytes);
        }
    }
}

#[test]
fn metadata_of_every_namespace_is_text() {
    let folder = Folder::new("metadata");
    let model = ModelBuilder::new()
        .metadata(ns::GGUF, "general.alignment", MetaValue::U32(32))
        .metadata(ns::CKPT, "format", MetaValue::text("mine"))
        .metadata(ns::CKPT, "epoch", MetaValue::I64(3))
        .metadata(ns::ONNX, "epoch", MetaValue::text("four"))
        .metadata(ns::NOTE, "dtype.a", MetaValue::text("C128"))
        .metadata(ns::SAFETENSORS, "format", MetaValue::text("pt"))
        .metadata(ns::SAFETENSORS, "head", MetaValue::text("embed"))
        .metadata(ns::GGUF, "raw", MetaValue::Str(vec![0xff].into()))
        .build()
        .unwrap();
    let report = folder.write("m.safetensors", &model, None).unwrap();
    let kinds: Vec<_> = report.records.iter().map(|r| (r.kind, r.loss)).collect();
    let renamed = ("metadata-renamed", false);
    assert_eq!(kinds, [renamed, renamed, ("metadata-text", true)]);
    let back = folder.read("m.safetensors").metadata;
    let pairs: Vec<_> = back
        .iter()
        .map(|e| (e.namespace, e.key.as_str(), e.value.to_string()))
        .collect();
    let st = |key, value: &str| (ns::SAFETENSORS, key, value.to_owned());
    assert_eq!(
        pairs,
        [
            st("ckpt.format", "mine"),
            st("epoch", "3"),
            st("format", "pt"),
            st("general.alignment", "32"),
            st("head", "embed"),
            st("onnx.epoch", "four"),
            st("raw", "\u{fffd}"),
            (ns::NOTE, "dtype.a", "C128".to_owned()),
        ]
    );
}

#[test]
fn checkpoints_become_files_of_format_pt() {
    let folder = Folder::new("pt");
    let mut model = Model::default();
    model.provenance.format = "ckpt";
    folder.write("m.safetensors", &model, None).unwrap();
    let back = folder.read("m.safetensors");
    assert_eq!(
        back.metadata.get(ns::SAFETENSORS, "format"),
        Some(&MetaValue::text("pt"))
    );
}

#[test]
fn shards_are_named_and_indexed() {
    let folder = Folder::new("shards");
    let model = ModelBuilder::new()
        .metadata(ns::SAFETENSORS, "format", MetaValue::text("pt"))
        .metadata(ns::SAFETENSORS, "long", MetaValue::text("text"))
        .push(PatternCompute::tensor("b", DType::F32, [8]))
        .push(PatternCompute::tensor("a", DType::F32, [8]))
        .push(PatternCompute::tensor("c", DType::U8, [4]))
        .build()
        .unwrap();
    let report = folder.write("model.safetensors", &model, Some(40)).unwrap();
    assert_eq!((report.tensors, report.tensor_bytes), (3, 68));
    assert_eq!(
        folder.names(),
        [
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"
        ]
    );
    let index = fs::read_to_string(folder.0.join("model.safetensors.index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], 68);
    assert_eq!(index["weight_map"]["a"], "model-00002-of-00002.safetensors");
    let first = folder.read("model-00001-of-00002.safetensors");
    assert_eq!((first.tensors.len(), first.metadata.len()), (1, 2));
    let second = folder.read("model-00002-of-00002.safetensors");
    assert_eq!((second.tensors.len(), second.metadata.len()), (2, 1));

    let whole = Folder::new("whole");
    whole.write("model.safetensors", &model, Some(68)).unwrap();
    assert_eq!(whole.names(), ["model.safetensors"]);
}

#[test]
fn what_does_not_fit_is_an_error() {
    let folder = Folder::new("unfit");
    let refused = |model: Model| folder.write("m.safetensors", &model, None).unwrap_err();
    let one = |name: &str, dtype| ModelBuilder::new().tensor(name, dtype, [1], vec![0; 16]);
    let error = refused(one("x", DType::C128).build().unwrap());
    assert_eq!(error.class(), Class::Unsupported);
    assert!(
        error
            .to_string()
            .contains("tensor \"x\": the format has no type C128"),
        "{error}"
    );
    let error = refused(one("__metadata__", DType::U8).build().unwrap());
    assert!(error.message().contains("keeps this name"), "{error}");
    assert!(folder.names().is_empty());
}
