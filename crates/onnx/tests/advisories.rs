//! What the published advisories do that no file of the repository can hold: links, pipes, files
//! of ten thousand levels; and models that are newer than the schema here.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use ir::{AnomalyKind, Class, Context, Error, Input, Model, Reader};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use weightbridge_onnx::OnnxReader;

fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

/// A field of bytes.
fn field(number: usize, body: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(body.len()), body.to_vec()].concat()
}

/// A model of a graph.
fn model(graph: &[u8]) -> Vec<u8> {
    let opset = field(8, b"\x10\x15");
    [b"\x08\x0a".to_vec(), opset, field(7, graph)].concat()
}

/// A graph of one tensor of 8 bytes that lies at `location`.
fn outside(location: &str) -> Vec<u8> {
    let pair = [field(1, b"location"), field(2, location.as_bytes())].concat();
    let tensor = [
        b"\x08\x02\x10\x01".to_vec(),
        field(8, b"w"),
        field(13, &pair),
        b"\x70\x01".to_vec(),
    ];
    field(5, &tensor.concat())
}

fn open(path: &Path) -> Result<Model, Error> {
    OnnxReader.open(&Input::open(path)?, &Context::default())
}

#[cfg(unix)]
#[test]
fn links_and_pipes_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    fs::create_dir_all(home.join("real")).unwrap();
    fs::write(dir.path().join("secret"), [7; 8]).unwrap();
    fs::write(home.join("plain"), [1; 8]).unwrap();
    fs::write(home.join("real/data"), [2; 8]).unwrap();
    // CVE-2026-34447, CVE-2026-27489, CVE-2026-34446.
    std::os::unix::fs::symlink("../secret", home.join("link")).unwrap();
    std::os::unix::fs::symlink("plain", home.join("near")).unwrap();
    std::os::unix::fs::symlink("..", home.join("up")).unwrap();
    std::os::unix::fs::symlink("real", home.join("side")).unwrap();
    fs::hard_link(dir.path().join("secret"), home.join("hard")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(home.join("socket")).unwrap();
    let path = home.join("m.onnx");
    for good in ["plain", "real/data", "./plain"] {
        fs::write(&path, model(&outside(good))).unwrap();
        let opened = open(&path).unwrap();
        assert_eq!(opened.tensors.by_name("w").unwrap().byte_len(), 8);
        assert_eq!(opened.provenance.files.len(), 2);
    }
    for bad in [
        "link",
        "near",
        "up/secret",
        "side/data",
        "hard",
        "real",
        "real/",
        "plain/",
        "plain/.",
    ] {
        fs::write(&path, model(&outside(bad))).unwrap();
        let error = open(&path).unwrap_err();
        assert_eq!(error.class(), Class::Refused, "{bad}: {error}");
        assert!(error.to_string().contains("tensor \"w\""), "{error}");
        let survey = OnnxReader.survey(&Input::open(&path).unwrap(), &Context::default());
        assert_eq!(survey.anomalies[0].kind, AnomalyKind::ExternalPath, "{bad}");
        assert!(survey.error.is_some() && survey.model.is_some());
    }
    fs::write(&path, model(&outside("socket"))).unwrap();
    assert!(open(&path).is_err());
}

#[test]
fn depth_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep.onnx");
    let start = Instant::now();
    // From the innermost out, each level would copy all below it: built as one buffer from the end.
    let mut reversed: Vec<u8> = Vec::new();
    let push = |number: usize, extra: &[u8], reversed: &mut Vec<u8>| {
        let len = reversed.len();
        for part in [varint(len), varint(number << 3 | 2)] {
            reversed.extend(part.iter().rev());
        }
        reversed.extend(extra.iter().rev());
    };
    for _ in 0..10_000 {
        let kind: &[u8] = b"\xa0\x01\x05";
        let name = field(1, b"then_branch");
        push(6, &[kind, &name].concat(), &mut reversed);
        push(
            5,
            &[field(4, b"If"), field(2, b"y")].concat(),
            &mut reversed,
        );
        push(1, b"", &mut reversed);
    }
    reversed.reverse();
    fs::write(&path, model(&reversed)).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.class(), Class::Limit, "{error}");
    assert!(error.to_string().contains("node"), "{error}");
    assert!(error.to_string().contains("more than 32 deep"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
    // The figure is that of the limit that was passed.
    let plain = dir.path().join("plain.onnx");
    fs::write(&plain, model(b"\x12\x01g")).unwrap();
    for (limit, path) in [(0, &plain), (7, &path)] {
        let mut cx = Context::default();
        cx.limits.depth = limit;
        let error = OnnxReader
            .open(&Input::open(path).unwrap(), &cx)
            .unwrap_err();
        assert_eq!(error.class(), Class::Limit);
        let figure = format!("more than {limit} deep. See `--limit depth`");
        assert!(error.to_string().contains(&figure), "{error}");
    }
}

#[test]
fn many_things_in_few_bytes_are_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("many.onnx");
    // Six million opsets that say nothing, two bytes each.
    let opsets = [0x42, 0].repeat(6_000_000);
    let bytes = [model(b"\x12\x01g"), opsets].concat();
    fs::write(&path, bytes).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.class(), Class::Limit, "{error}");
}

#[test]
fn newer_fields_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("newer.onnx");
    // IR version 20, a graph with a field 40, a model with a field 99.
    let graph = [b"\x12\x01g".to_vec(), field(40, b"new")].concat();
    let opset = field(8, b"\x10\x15");
    let bytes = [
        b"\x08\x14".to_vec(),
        opset,
        field(7, &graph),
        field(99, b"x"),
    ]
    .concat();
    fs::write(&path, bytes).unwrap();
    let model = open(&path).unwrap();
    let kinds: Vec<_> = model.provenance.records.iter().map(|r| r.kind).collect();
    assert_eq!(kinds, ["unknown-field", "unknown-field"]);
    assert!(model.provenance.records.iter().all(|record| record.loss));
    assert!(model.provenance.notes[0].contains("IR version 20"));
}
