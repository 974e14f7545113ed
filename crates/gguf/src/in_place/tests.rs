use super::*;
use crate::{FORMAT, GgufReader, GgufWriter};
use ir::{DType, Model, ModelBuilder, Output, Reader, Writer, ns};
use std::path::{Path, PathBuf};

/// A change to the keys.
type Change = Box<dyn FnOnce(&mut Vec<(String, MetaValue)>)>;

fn folder(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("gguf-in-place-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn write(path: &Path, alignment: Option<u32>) {
    let mut model = ModelBuilder::new()
        .metadata(ns::GGUF, "general.architecture", MetaValue::text("llama"))
        .metadata(
            ns::GGUF,
            "general.name",
            MetaValue::text("a name of some length"),
        );
    if let Some(n) = alignment {
        model = model.metadata(ns::GGUF, ALIGNMENT_KEY, MetaValue::U32(n));
    }
    let model = model
        .tensor("a", DType::F32, [3], vec![1; 12])
        .tensor("b", DType::I8, [2, 5], vec![2; 10])
        .build()
        .unwrap();
    let mut out = Output::new(path, true);
    GgufWriter
        .write(&model, &mut out, &Context::default())
        .unwrap();
    out.commit().unwrap();
}

fn open(path: &Path) -> Model {
    GgufReader
        .open(&Input::open(path).unwrap(), &Context::default())
        .unwrap()
}

fn set(key: &str, value: &str) -> impl FnOnce(&mut Vec<(String, MetaValue)>) + use<> {
    let (key, value) = (key.to_owned(), MetaValue::text(value));
    move |pairs| match pairs.iter_mut().find(|pair| pair.0 == key) {
        Some(pair) => pair.1 = value,
        None => pairs.push((key, value)),
    }
}

/// Edits a file as the caller above does, and answers the records.
fn edit(path: &Path, by: impl FnOnce(&mut Vec<(String, MetaValue)>)) -> Result<Vec<Record>> {
    let header = new_header(&Input::open(path).unwrap(), &Context::default(), by)?;
    ir::replace_beginning(path, &header.old, &header.new)?;
    Ok(header.records)
}

#[test]
fn shorter_grows_a_filler_and_longer_uses_it_up() {
    let dir = folder("filler");
    let path = dir.join("m.gguf");
    for alignment in [None, Some(64), Some(4096)] {
        write(&path, alignment);
        let before = std::fs::read(&path).unwrap();
        let tensors = |model: &Model| -> Vec<_> {
            let tensors = model.tensors.iter();
            tensors
                .map(|t| (t.name.clone(), t.read_all().unwrap()))
                .collect()
        };
        let was = tensors(&open(&path));
        for len in [0, 1, 21, 20, 3, 19, 21, 0, 12] {
            let name = "n".repeat(len);
            edit(&path, set("general.name", &name)).unwrap();
            let model = open(&path);
            let found = model.metadata.get(ns::GGUF, "general.name");
            assert_eq!(found, Some(&MetaValue::text(&*name)));
            assert_eq!(tensors(&model), was);
            assert_eq!(std::fs::metadata(&path).unwrap().len(), before.len() as u64);
        }
        edit(&path, set("general.name", "a name of some length")).unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            before,
            "the filler went again"
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A whole key removed leaves more than the padding may be: the filler stands there.
#[test]
fn a_removed_key_leaves_a_filler() {
    let dir = folder("unset");
    let path = dir.join("m.gguf");
    write(&path, None);
    let records = edit(&path, |pairs| pairs.retain(|pair| pair.0 != "general.name")).unwrap();
    assert_eq!(records.len(), 1);
    let model = open(&path);
    assert!(model.metadata.get(ns::GGUF, "general.name").is_none());
    assert!(model.metadata.get(ns::GGUF, FILLER).is_some());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_with_the_bytes() {
    let dir = folder("refused");
    let path = dir.join("m.gguf");
    write(&path, Some(8));
    let before = std::fs::read(&path).unwrap();
    let refused = |by: Change| {
        let error = edit(&path, by).unwrap_err();
        assert_eq!(error.class(), ir::Class::Unsupported, "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
        error.to_string() + &error.help().unwrap_or_default()
    };
    let text = refused(Box::new(set("general.name", &"n".repeat(1000))));
    assert!(
        text.contains("too many") && text.contains("OUTPUT"),
        "{text}"
    );
    // Of the eight bytes' alignment a gap remains that no key is short enough for.
    let text = refused(Box::new(set("general.name", "a name")));
    assert!(text.contains("shortest"), "{text}");
    let text = refused(Box::new(|pairs| {
        pairs.retain(|pair| pair.0 != ALIGNMENT_KEY);
    }));
    assert!(text.contains(ALIGNMENT_KEY), "{text}");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Every good test file either keeps all its bytes when nothing is asked, or is refused.
#[test]
fn no_change_is_no_change() {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/gguf/good");
    let (mut kept, mut refused) = (0, 0);
    for entry in std::fs::read_dir(testdata).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ext| ext != FORMAT.id) {
            continue;
        }
        let input = Input::open(&path).unwrap();
        match new_header(&input, &Context::default(), |_| {}) {
            Ok(header) => {
                assert_eq!(header.old, header.new, "{path:?}");
                assert!(header.records.is_empty());
                kept += 1;
            }
            Err(_) => refused += 1,
        }
    }
    assert!(kept > 15 && refused > 2, "{kept} kept, {refused} refused");
}
