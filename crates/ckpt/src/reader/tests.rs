//! Selection and names, on pickles of small numpy arrays.

use super::CkptReader;
use crate::container::testing::pack;
use ir::{
    Class, Context, Input, MetaValue, Model, Object, ReadOptions, Reader, Region, Result, ns,
};

/// Opcodes of an array of one number.
fn array(value: f32) -> Vec<u8> {
    let bytes = value.to_le_bytes();
    [
        b"cnumpy.core.numeric\n_frombuffer\n(C\x04",
        &bytes[..],
        b"cnumpy\ndtype\n(S'f4'\ntRK\x01\x85S'C'\ntR",
    ]
    .concat()
}

fn text(text: &str) -> Vec<u8> {
    let len = u8::try_from(text.len()).unwrap();
    [&[0x8c, len], text.as_bytes()].concat()
}

fn dict(pairs: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = b"}(".to_vec();
    for (key, value) in pairs {
        out.extend([text(key), value.clone()].concat());
    }
    out.push(b'u');
    out
}

fn open(body: &[u8], read: ReadOptions) -> Result<Model> {
    let pickle = [b"\x80\x04", body, b"."].concat();
    let input = Input::from_region("test.pkl", Region::memory(pickle));
    let cx = Context {
        read,
        ..Context::default()
    };
    CkptReader.open(&input, &cx)
}

fn names(model: &Model) -> Vec<&str> {
    model.tensors.iter().map(|t| t.name.as_str()).collect()
}

fn all() -> ReadOptions {
    ReadOptions {
        all: true,
        ..ReadOptions::default()
    }
}

fn key(key: &str) -> ReadOptions {
    ReadOptions {
        key: Some(key.to_owned()),
        ..ReadOptions::default()
    }
}

fn training() -> Vec<u8> {
    let state = dict(&[("w", array(1.)), ("b", array(2.))]);
    let optimizer = dict(&[("state", dict(&[("m", array(3.))]))]);
    dict(&[
        ("epoch", b"K\x07".to_vec()),
        ("model", state),
        ("optimizer", optimizer),
    ])
}

#[test]
fn the_known_key_is_chosen_and_the_rest_accounted_for() {
    let model = open(&training(), ReadOptions::default()).unwrap();
    assert_eq!(names(&model), ["w", "b"]);
    assert_eq!(
        model.metadata.get(ns::CKPT, "epoch"),
        Some(&MetaValue::I64(7))
    );
    let records: Vec<String> = model
        .provenance
        .records
        .iter()
        .map(ToString::to_string)
        .collect();
    assert!(records[0].starts_with("carried: model"), "{records:?}");
    assert!(
        records[2].contains("optimizer (dict with 1 tensor)"),
        "{records:?}"
    );
    // The tree begins at the chosen subtree, with the tensors in their places.
    let objects = model.objects.as_ref().unwrap();
    let w = objects.lookup(objects.root().unwrap(), "w").unwrap();
    assert!(matches!(objects.get(w), Object::Tensor(id) if model.tensors[*id].name == "w"));
}

#[test]
fn keys_and_all() {
    let model = open(&training(), all()).unwrap();
    assert_eq!(names(&model), ["model.w", "model.b", "optimizer.state.m"]);
    let model = open(&training(), key("optimizer.state")).unwrap();
    assert_eq!(names(&model), ["m"]);
    let model = open(&training(), key("optimizer")).unwrap();
    assert_eq!(names(&model), ["state.m"]);
    let model = open(&training(), key("model.w")).unwrap();
    assert_eq!(names(&model), ["w"]);
    let error = open(&training(), key("nope")).unwrap_err();
    assert_eq!(error.class(), Class::Usage);
    assert!(error.to_string().contains("model, optimizer"), "{error}");
    // A key may hold dots itself.
    let dotted = dict(&[("a.b", dict(&[("w", array(1.))])), ("a", array(2.))]);
    assert_eq!(names(&open(&dotted, key("a.b")).unwrap()), ["w"]);
}

#[test]
fn nested_mappings_are_searched() {
    let state = dict(&[
        ("g", dict(&[("w", array(1.))])),
        ("d", dict(&[("w", array(2.))])),
    ]);
    let nested = dict(&[("model", state), ("loss", array(0.))]);
    assert_eq!(
        names(&open(&nested, ReadOptions::default()).unwrap()),
        ["g.w", "d.w"]
    );
    let deep = dict(&[(
        "model",
        dict(&[("state_dict", dict(&[("w", array(1.))])), ("o", training())]),
    )]);
    assert_eq!(names(&open(&deep, ReadOptions::default()).unwrap()), ["w"]);
}

#[test]
fn names_that_collide_are_both_kept() {
    let body = [
        dict(&[("a.b", array(1.)), ("a", dict(&[("b", array(2.))]))]),
        vec![],
    ]
    .concat();
    let model = open(&body, ReadOptions::default()).unwrap();
    assert_eq!(names(&model), ["a.b", "a.b#2"]);
    assert!(model.provenance.records.iter().any(|r| r.kind == "renamed"));
    // Of a key that comes twice the last value counts, as in Python.
    let twice = dict(&[("w", array(1.)), ("w", array(2.))]);
    let model = open(&twice, ReadOptions::default()).unwrap();
    assert_eq!(model.tensors.len(), 1);
    assert_eq!(
        model.tensors.iter().next().unwrap().read_all().unwrap(),
        2f32.to_le_bytes()
    );
}

#[test]
fn odd_keys_have_names() {
    let mut body = b"}(".to_vec();
    for key in [
        &b"K\x01"[..],
        b"N",
        b"\x88",
        b"K\x01K\x02\x86",
        b"C\x01x",
        b"G\x3f\xf8\0\0\0\0\0\0",
    ] {
        body.extend([key, &array(1.)].concat());
    }
    body.push(b'u');
    let model = open(&body, ReadOptions::default()).unwrap();
    assert_eq!(names(&model), ["1", "None", "True", "(1, 2)", "x", "1.5"]);
}

#[test]
fn a_bomb_of_names_is_refused() {
    let mut body = array(1.);
    for _ in 0..60 {
        body.extend(b"2\x86");
    }
    let error = open(&body, ReadOptions::default()).unwrap_err();
    assert_eq!(error.class(), Class::Limit);
}

#[test]
fn exported_programs_are_read() {
    let config = br#"{"config": {"l.weight": {"path_name": "weight_0", "use_pickle": false,
        "tensor_meta": {"dtype": 7, "sizes": [{"as_int": 2}], "strides": [{"as_int": 1}],
        "storage_offset": {"as_int": 1}}}}}"#;
    let mut data = vec![0; 4];
    data.extend([1f32, 2.].iter().flat_map(|x| x.to_le_bytes()));
    let archive = pack(&[
        ("m/data/weights/weight_0", &data),
        ("m/data/weights/model_weights_config.json", config),
    ]);
    let input = Input::from_region("m.pt2", Region::memory(archive));
    let model = CkptReader.open(&input, &Context::default()).unwrap();
    assert_eq!(names(&model), ["l.weight"]);
    assert_eq!(
        model.tensors.iter().next().unwrap().read_all().unwrap(),
        data[4..]
    );
    assert!(super::probe(&input.peek().unwrap()).points > 90);
}

/// An archive of a list of nothing, with these entries besides.
fn archive(entries: &[(&str, &[u8])]) -> Region {
    let object: (&str, &[u8]) = ("m/data.pkl", b"\x80\x02]q\x00.");
    Region::memory(pack(&[&[object], entries].concat()))
}

/// What is asked of archives is what torch 2.15 asks (`tests/interop/test_hostile.py` asks it again).
#[test]
fn archives_that_torch_does_not_load_are_refused_and_judged() {
    let good = ("m/version", &b"3\n"[..]);
    for entries in [
        vec![good],
        vec![("m/version", &b" +3 or so"[..])],
        vec![("m/VERSION", &b"1"[..])],
        vec![("m/version", &b"0"[..]), ("m/.data/version", b"10")],
        vec![good, ("m/", b""), ("m/../x", b"")],
        // TorchScript: no loader looks at other entries than those it wants.
        vec![good, ("m/constants.pkl", b"\x80\x02)."), ("../x", b"")],
    ] {
        let input = Input::from_region("m.pt", archive(&entries));
        let opened = CkptReader.open(&input, &Context::default());
        let error = opened
            .err()
            .filter(|error| error.class() != Class::Unsupported);
        assert!(error.is_none(), "{entries:?}: {error:?}");
    }
    for (entries, why) in [
        (vec![], "no entry `version`"),
        (
            vec![("m/version", &b""[..])],
            "format version ``, expected a number from 1 to 10",
        ),
        (
            vec![("m/version", b"abc")],
            "format version `abc`, expected a number",
        ),
        (
            vec![("m/version", b"0")],
            "format version 0, expected 1 to 10",
        ),
        (vec![("m/version", b"-1")], "format version -1"),
        (vec![("m/version", b"0x3")], "format version 0"),
        (
            vec![("m/version", b"99999999999999999999")],
            "expected a number",
        ),
        (vec![good, ("m/.data/version", b"0")], "format version 0"),
        (
            vec![good, ("/x", b"")],
            "/x: it lies outside the archive's folder, expected a name below m/",
        ),
        (vec![good, ("../x", b"")], "../x: it lies outside"),
        (vec![good, ("x", b"")], "x: it lies outside"),
        (vec![good, ("other/", b"")], "other/: it lies outside"),
    ] {
        let input = Input::from_region("m.pt", archive(&entries));
        let error = CkptReader.open(&input, &Context::default()).unwrap_err();
        assert_eq!(error.class(), Class::Malformed, "{error}");
        assert!(error.to_string().contains(why), "{error}, expected {why}");
        assert!(error.help().is_some());
        let seen = CkptReader.survey(&input, &Context::default());
        assert!(
            seen.error.is_none() && seen.objects.len() == 1,
            "{:?}",
            seen.error
        );
    }
}
