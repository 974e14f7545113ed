use super::*;
use crate::{GgufReader, open_shard};
use ir::{
    Array, BlockFormat, Class, Input, MetaValue, ModelBuilder, PatternCompute, Reader,
    WriteOptions, ns,
};
use std::fs;
use std::path::Path;

fn write(folder: &Path, model: &Model, options: WriteOptions) -> Result<Report> {
    let cx = Context {
        write: options,
        ..Context::default()
    };
    let mut out = Output::new(&folder.join("m.gguf"), true);
    let report = GgufWriter.write(model, &mut out, &cx)?;
    let files = out.commit()?;
    assert_eq!(
        files.iter().map(|(_, len)| len).sum::<u64>(),
        report.file_bytes
    );
    Ok(report)
}

fn read(path: &Path) -> Model {
    GgufReader
        .open(&Input::open(path).unwrap(), &Context::default())
        .unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn round_trip(model: &Model) -> (Model, Report) {
    let folder = tempfile::tempdir().unwrap();
    let report = write(folder.path(), model, WriteOptions::default()).unwrap();
    let first = fs::read(folder.path().join("m.gguf")).unwrap();
    let input = Input::from_region("m.gguf", ir::Region::memory(first.clone()));
    let back = GgufReader.open(&input, &Context::default()).unwrap();
    write(folder.path(), &back, WriteOptions::default()).unwrap();
    assert!(
        fs::read(folder.path().join("m.gguf")).unwrap() == first,
        "written again"
    );
    (back, report)
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

#[test]
fn random_models_come_back_whole() {
    let dtypes: Vec<_> = DType::all().filter(|dtype| has_dtype(*dtype)).collect();
    assert_eq!(dtypes.len(), 35);
    let mut dice = Dice(11);
    for round in 0..80 {
        let mut builder = ModelBuilder::new();
        for n in 0..dice.roll(9) {
            let dtype = dtypes[usize::try_from(dice.roll(35)).unwrap()];
            let mut shape: Vec<u64> = (0..dice.roll(7)).map(|_| 1 + dice.roll(3)).collect();
            if let Some(last) = shape.last_mut() {
                *last = u64::from(dtype.block().0) * dice.roll(3);
            } else if dtype.block().0 > 1 {
                shape.push(u64::from(dtype.block().0));
            }
            let name = format!(
                "{}{n}",
                "layer.".repeat(usize::try_from(dice.roll(20)).unwrap())
            );
            builder = builder.push(PatternCompute::tensor(&name, dtype, shape));
        }
        for n in 0..dice.roll(6) {
            let value = match dice.roll(5) {
                0 => MetaValue::text("été"),
                1 => MetaValue::Array(Array::Str(vec!["a".into(), "".into()])),
                2 => MetaValue::F32(f32::from_bits(0x7f80_0001)),
                3 => MetaValue::Array(Array::Bool(vec![true, false])),
                _ => MetaValue::I64(i64::MIN),
            };
            let namespaces = [ns::GGUF, ns::SAFETENSORS, ns::CKPT, ns::ONNX, ns::NOTE];
            let namespace = namespaces[usize::try_from(dice.roll(5)).unwrap()];
            builder = builder.metadata(namespace, &format!("key.{n}"), value);
        }
        if round % 3 == 0 {
            let alignment = MetaValue::U32(1 << dice.roll(9));
            builder = builder.metadata(ns::GGUF, "general.alignment", alignment);
        }
        let model = builder.build().unwrap();
        let (back, report) = round_trip(&model);
        assert_eq!(report.tensor_bytes, model.tensors.byte_len());
        // Not `==`: one of the values is a NaN.
        assert_eq!(
            format!("{:?}", back.metadata),
            format!("{:?}", model.metadata)
        );
        assert_eq!(back.tensors.len(), model.tensors.len());
        for (ours, back) in model.tensors.iter().zip(&back.tensors) {
            assert_eq!((&ours.name, &ours.spec), (&back.name, &back.spec));
            assert!(ours.read_all().unwrap() == back.read_all().unwrap());
        }
    }
}

#[test]
fn everything_is_aligned_and_padded() {
    let folder = tempfile::tempdir().unwrap();
    let model = ModelBuilder::new()
        .tensor("a", DType::I8, [3], vec![1, 2, 3])
        .tensor("b", DType::I8, [0], vec![])
        .tensor("c", DType::F16, [1], vec![4, 5])
        .build()
        .unwrap();
    let report = write(folder.path(), &model, WriteOptions::default()).unwrap();
    let bytes = fs::read(folder.path().join("m.gguf")).unwrap();
    assert_eq!(bytes.len() as u64, report.file_bytes);
    let (header, data) = bytes.split_at(bytes.len() - 64);
    assert!(header.len().is_multiple_of(32));
    let mut wanted = vec![0; 64];
    wanted[..3].copy_from_slice(&[1, 2, 3]);
    wanted[32..34].copy_from_slice(&[4, 5]);
    assert_eq!(data, wanted);
}

#[test]
fn a_key_with_a_nul_is_not_written_and_told() {
    let model = ModelBuilder::new()
        .metadata(ns::SAFETENSORS, "a\0b", MetaValue::text("x"))
        .metadata(ns::SAFETENSORS, "a", MetaValue::text("y\0z"))
        .build()
        .unwrap();
    let (back, report) = round_trip(&model);
    let [record] = &report.records[..] else {
        panic!("{:?}", report.records);
    };
    assert_eq!(
        (record.kind, &record.what[..], record.loss),
        ("metadata-nul", "safetensors.a\0b", true)
    );
    assert_eq!(back.metadata.len(), 1);
    let kept = back.metadata.get(ns::SAFETENSORS, "a");
    assert_eq!(kept, Some(&MetaValue::text("y\0z")));
}

#[test]
fn metadata_of_every_namespace_has_a_key() {
    let nested = Array::Array(vec![Array::I64(vec![1]), Array::I64(vec![2])]);
    let model = ModelBuilder::new()
        .metadata(ns::CKPT, "epoch", MetaValue::I64(3))
        .metadata(ns::CKPT, "steps", MetaValue::Array(nested))
        .metadata(ns::SAFETENSORS, "head", MetaValue::text("embed"))
        .metadata(ns::GGUF, "safetensors.head", MetaValue::text("other"))
        .build()
        .unwrap();
    let (back, report) = round_trip(&model);
    let kinds: Vec<_> = report.records.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, ["metadata-text", "metadata-twice"]);
    let pairs: Vec<_> = back
        .metadata
        .iter()
        .map(|e| (e.namespace, e.key.as_str(), e.value.to_string()))
        .collect();
    assert_eq!(
        pairs,
        [
            (ns::CKPT, "epoch", "3".to_owned()),
            (ns::CKPT, "steps", "[[1], [2]]".to_owned()),
            (ns::SAFETENSORS, "head", "embed".to_owned()),
        ]
    );
    assert_eq!(back.metadata.get(ns::GGUF, "general.architecture"), None);
}

#[test]
fn shards_are_cut_by_size_and_by_number() {
    let model = ModelBuilder::new()
        .metadata(ns::GGUF, "general.architecture", MetaValue::text("test"))
        .metadata(ns::GGUF, "split.count", MetaValue::U16(0))
        .metadata(ns::GGUF, "general.alignment", MetaValue::U32(64))
        .push(PatternCompute::tensor("a", DType::F32, [64]))
        .push(PatternCompute::tensor(
            "b",
            DType::Block(BlockFormat::Q8_0),
            [2, 32],
        ))
        .push(PatternCompute::tensor("c", DType::I8, [3]))
        .push(PatternCompute::tensor("d", DType::F32, [64]))
        .build()
        .unwrap();
    let cut = |shard_size, shard_tensors, shard_empty_first| {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions {
            shard_size,
            shard_tensors,
            shard_empty_first,
            ..WriteOptions::default()
        };
        write(folder.path(), &model, options).unwrap();
        let mut counts = Vec::new();
        for name in names(folder.path()) {
            let path = folder.path().join(&name);
            let input = Input::open(&path).unwrap();
            let shard = open_shard(&input, &Context::default()).unwrap();
            counts.push(shard.tensors.len());
            let whole = read(&path);
            assert_eq!(whole.tensors.len(), 4);
            for (ours, back) in model.tensors.iter().zip(&whole.tensors) {
                assert_eq!(ours.spec, back.spec);
                assert!(
                    ours.read_all().unwrap() == back.read_all().unwrap(),
                    "{name}"
                );
            }
        }
        counts
    };
    // Padded to 32, they are 256, 96, 32 and 256 bytes long.
    assert_eq!(cut(Some(352), None, false), [2, 2]);
    assert_eq!(cut(Some(351), None, false), [1, 2, 1]);
    assert_eq!(cut(Some(100), None, false), [1, 1, 1, 1]);
    assert_eq!(cut(Some(640), None, false), [4]);
    assert_eq!(cut(None, Some(3), false), [3, 1]);
    assert_eq!(cut(None, Some(3), true), [0, 3, 1]);
    assert_eq!(cut(Some(352), Some(1), false), [1, 1, 1, 1]);
    assert_eq!(cut(None, Some(4), true), [4]);
}

#[test]
fn sets_are_named_after_their_output() {
    let folder = tempfile::tempdir().unwrap();
    let model = ModelBuilder::new()
        .push(PatternCompute::tensor("a", DType::F32, [4]))
        .push(PatternCompute::tensor("b", DType::F32, [4]))
        .build()
        .unwrap();
    let cx = Context {
        write: WriteOptions {
            shard_tensors: Some(1),
            ..WriteOptions::default()
        },
        ..Context::default()
    };
    let mut out = Output::new(&folder.path().join("x-00001-of-00009.gguf"), false);
    GgufWriter.write(&model, &mut out, &cx).unwrap();
    out.commit().unwrap();
    assert_eq!(
        names(folder.path()),
        ["x-00001-of-00002.gguf", "x-00002-of-00002.gguf"]
    );
}

#[test]
fn what_does_not_fit_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |model: Model, options: WriteOptions| {
        let error = write(folder.path(), &model, options).unwrap_err();
        assert!(error.help().is_some());
        (error.class(), error.to_string())
    };
    let one = || ModelBuilder::new().tensor("x", DType::F32, [1], vec![0; 4]);
    let unsigned = ModelBuilder::new()
        .tensor("x", DType::U8, [1], vec![0])
        .build()
        .unwrap();
    let (class, text) = refused(unsigned, WriteOptions::default());
    assert!(class == Class::Unsupported && text.contains("\"x\": the format has no type U8"));
    for (value, why) in [
        (MetaValue::U32(48), "it is 48"),
        (MetaValue::U64(32), "of type u32"),
    ] {
        let model = one()
            .metadata(ns::GGUF, "general.alignment", value)
            .build()
            .unwrap();
        let (class, text) = refused(model, WriteOptions::default());
        assert!(class == Class::Usage && text.contains(why), "{text}");
    }
    let empty = one()
        .metadata(ns::GGUF, "", MetaValue::Bool(true))
        .build()
        .unwrap();
    assert!(
        refused(empty, WriteOptions::default())
            .1
            .contains("no empty keys")
    );
    let zero = WriteOptions {
        shard_tensors: Some(0),
        ..WriteOptions::default()
    };
    assert!(
        refused(one().build().unwrap(), zero)
            .1
            .contains("0 tensors")
    );
    assert!(names(folder.path()).is_empty());
}
