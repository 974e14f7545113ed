use super::*;
use crate::wire::MAX_NAME_LEN;
use ir::{BlockFormat, DType};

fn specs(list: &[(&str, DType, &[u64])]) -> Vec<(String, TensorSpec)> {
    let spec = |(name, dtype, shape): &(&str, DType, &[u64])| {
        (
            (*name).to_owned(),
            TensorSpec::new(*dtype, Shape::new(*shape)),
        )
    };
    list.iter().map(spec).collect()
}

fn named(specs: &[(String, TensorSpec)]) -> Vec<Named<'_>> {
    specs
        .iter()
        .map(|(name, spec)| (name.as_str(), spec))
        .collect()
}

/// The pairs a file gets from metadata and plan, as the writer puts them together.
fn pairs(metadata: &Metadata, plan: &Plan) -> Vec<(String, MetaValue)> {
    let mut out = Vec::new();
    for (at, entry) in metadata.iter().enumerate() {
        match plan.notes.get(&at) {
            Some(note) => out.extend(note.clone()),
            None => out.push((
                namespace::file_key(entry.namespace, &entry.key),
                entry.value.clone(),
            )),
        }
    }
    out.extend(plan.extra.clone());
    out
}

/// Reads what a plan writes.
fn read_back(
    pairs: &[(String, MetaValue)],
    plan: &Plan,
    specs: &[(String, TensorSpec)],
) -> Restored {
    let stored: Vec<_> = plan
        .stored
        .iter()
        .zip(specs)
        .map(|(stored, (_, spec))| {
            (
                stored.name.clone(),
                TensorSpec::new(spec.dtype, stored.shape.clone()),
            )
        })
        .collect();
    restore(pairs.to_vec(), &named(&stored), &Limits::default())
}

#[test]
fn what_the_writer_folds_comes_back_without_a_trace() {
    let long = "model.".repeat(20);
    let other = format!("{long}bias");
    let specs = specs(&[
        ("five", DType::F32, &[2, 3, 4, 5, 6]),
        ("scalar", DType::I64, &[]),
        ("plain", DType::F16, &[2, 2]),
        ("blocks", DType::Block(BlockFormat::Q4_0), &[2, 2, 1, 3, 64]),
        ("empty", DType::F32, &[0, 1, 1, 1, 7]),
        (&long, DType::F32, &[3]),
        (&other, DType::F32, &[1, 2, 1, 2, 1, 2]),
        (
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
            DType::F32,
            &[1],
        ),
    ]);
    let mut metadata = Metadata::new();
    metadata.push_new(ns::GGUF, "general.name".to_owned(), MetaValue::text("x"));
    metadata.push_new(ns::NOTE, "dtype.plain".to_owned(), MetaValue::text("U16"));
    let plan = plan(&named(&specs), &metadata).unwrap();
    assert_eq!(&plan.stored[0].shape[..], [6, 4, 5, 6]);
    assert_eq!(&plan.stored[1].shape[..], [1]);
    assert_eq!(&plan.stored[3].shape[..], [4, 1, 3, 64]);
    assert!(
        plan.stored
            .iter()
            .all(|s| s.name.len() <= MAX_NAME_LEN && s.shape.len() <= 4)
    );
    assert_eq!(plan.records.len(), 8);
    assert_ne!(plan.stored[5].name, plan.stored[6].name);
    assert!(plan.records.iter().all(|record| !record.loss));
    let pairs = pairs(&metadata, &plan);
    assert_eq!(pairs[2].0, "comfy.gguf.orig_shape.five");
    assert_eq!(
        pairs[2].1,
        MetaValue::Array(Array::I32(vec![2, 3, 4, 5, 6]))
    );
    let back = read_back(&pairs, &plan, &specs);
    assert_eq!(back.metadata, metadata);
    for ((name, shape), (wanted, spec)) in back.tensors.iter().zip(&specs) {
        assert_eq!((name, shape), (wanted, &spec.shape));
    }
}

#[test]
fn other_folds_leave_a_note_and_are_written_again() {
    let stored = specs(&[
        ("a", DType::F32, &[2, 256]),
        ("b", DType::F32, &[1]),
        ("s", DType::F32, &[]),
    ]);
    let value = |dims: &[i32]| MetaValue::Array(Array::I32(dims.to_vec()));
    let file = vec![
        ("comfy.gguf.orig_shape.a".to_owned(), value(&[16, 4, 2, 4])),
        ("weightbridge.name.b".to_owned(), MetaValue::text("bias")),
        ("general.name".to_owned(), MetaValue::text("x")),
    ];
    let back = restore(file.clone(), &named(&stored), &Limits::default());
    let keys: Vec<_> = back.metadata.iter().map(|e| e.key.as_str()).collect();
    assert_eq!(keys, ["dims.a", "name.b", "general.name", "dims.s"]);
    assert_eq!(back.tensors[0].1, Shape::from([16, 4, 2, 4]));
    assert_eq!(back.tensors[1].0, "bias");
    let restored: Vec<_> = back
        .tensors
        .iter()
        .map(|(name, shape)| (name.clone(), TensorSpec::new(DType::F32, shape.clone())))
        .collect();
    let again = plan(&named(&restored), &back.metadata).unwrap();
    assert_eq!(pairs(&back.metadata, &again), file);
    for (stored, (name, spec)) in again.stored.iter().zip(&stored) {
        assert_eq!((&stored.name, &stored.shape), (name, &spec.shape));
    }
    // The same by way of a format that knows strings only.
    let mut text = back.metadata.clone();
    text.set(ns::NOTE, "dims.a", MetaValue::text("[2, 256]"));
    assert_eq!(pairs(&text, &plan(&named(&restored), &text).unwrap()), file);
    // Without its tensor a note says nothing.
    let gone = plan(&named(&restored[2..]), &back.metadata).unwrap();
    assert_eq!(pairs(&back.metadata, &gone), &file[2..]);
}

#[test]
fn keys_that_do_not_fit_stay_keys() {
    let stored = specs(&[
        ("a", DType::F32, &[4]),
        ("b", DType::F32, &[4]),
        ("q", DType::Block(BlockFormat::Q4_K), &[2, 256]),
    ]);
    let i32s = |dims: &[i32]| MetaValue::Array(Array::I32(dims.to_vec()));
    let shape = |name: &str| format!("comfy.gguf.orig_shape.{name}");
    let file = vec![
        (shape("a"), i32s(&[3])),
        (shape("b"), i32s(&[-2, -2])),
        (shape("q"), i32s(&[8, 16, 2, 2])),
        (shape("gone"), i32s(&[1])),
        (shape("a.x"), MetaValue::text("[2, 2]")),
        ("weightbridge.name.a".to_owned(), MetaValue::text("b")),
        ("weightbridge.name.b".to_owned(), MetaValue::text("")),
        ("weightbridge.name.gone".to_owned(), MetaValue::text("c")),
        (
            "weightbridge.dims.a".to_owned(),
            MetaValue::Array(Array::U64(vec![2, 2])),
        ),
    ];
    let back = restore(file.clone(), &named(&stored), &Limits::default());
    assert!(
        back.metadata
            .iter()
            .all(|entry| entry.namespace == ns::GGUF)
    );
    for ((name, shape), (wanted, spec)) in back.tensors.iter().zip(&stored) {
        assert_eq!((name, shape), (wanted, &spec.shape));
    }
    let again = plan(&named(&stored), &back.metadata).unwrap();
    assert_eq!(pairs(&back.metadata, &again), file);
}

#[test]
fn short_names_are_unique() {
    let long = "x".repeat(100);
    let first = short_name(&long, MAX_NAME_LEN, |_| false);
    assert_eq!(first.len(), MAX_NAME_LEN);
    let second = short_name(&long, MAX_NAME_LEN, |name| name == first);
    assert_ne!(first, second);
    assert_eq!(
        shape_value(&Shape::from([1 << 40])),
        Some(MetaValue::Array(Array::I64(vec![1 << 40])))
    );
    assert!(fold("t", &Shape::from([u64::MAX, 2, 1, 1, 1])).is_err());
}

/// ggml would take "a\0b" for "a": the file has another name for it, and the key tells the real one.
#[test]
fn a_name_with_a_nul_is_stored_without_it() {
    let specs = specs(&[
        ("a\0b", DType::F32, &[2]),
        ("a", DType::F32, &[2]),
        ("\0", DType::F32, &[2]),
    ]);
    let mut metadata = Metadata::new();
    metadata.set(ns::NOTE, "name.x\0y", MetaValue::text("a\0b"));
    let plan = plan(&named(&specs), &metadata).unwrap();
    let stored: Vec<_> = plan.stored.iter().map(|s| s.name.as_str()).collect();
    // FNV-1a of the bytes 61 00 62 and of 00.
    assert_eq!(stored, ["a~e5d29919042666b2", "a", "~af63bd4c8601b7df"]);
    assert!(plan.records[0].why.contains("end at a NUL"));
    let back = read_back(&pairs(&metadata, &plan), &plan, &specs);
    let names: Vec<_> = back.tensors.iter().map(|t| t.0.as_str()).collect();
    assert_eq!(names, ["a\0b", "a", "\0"]);
}

#[test]
fn images_have_longer_names() {
    let long = "x".repeat(127);
    let longer = "y".repeat(128);
    let specs = specs(&[(&long, DType::F32, &[1]), (&longer, DType::F32, &[1])]);
    let mut metadata = Metadata::new();
    metadata.set(ns::GGUF, "general.architecture", MetaValue::text("sdxl"));
    let plan = plan(&named(&specs), &metadata).unwrap();
    assert_eq!(plan.stored[0].name, long);
    assert_eq!((plan.stored[1].name.len(), plan.records.len()), (127, 1));
}
