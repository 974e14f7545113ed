use super::*;
use crate::FORMAT;
use ir::{AnomalyKind, Class, DType};

/// A file of this header and body, padded as the library pads it.
fn file(header: &str, body: &[u8]) -> Vec<u8> {
    let mut header = header.as_bytes().to_vec();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut out = (header.len() as u64).to_le_bytes().to_vec();
    out.extend(header);
    out.extend(body);
    out
}

fn input(bytes: impl Into<Bytes>) -> Input {
    Input::from_region("m.safetensors", Region::memory(bytes))
}

fn open_bytes(bytes: impl Into<Bytes>) -> Result<Model> {
    SafetensorsReader.open(&input(bytes), &Context::default())
}

fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn refused(header: &str, body: &[u8], words: &str) {
    let error = open_bytes(file(header, body)).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(words), "{text:?} does not say {words:?}");
    assert!(text.starts_with("m.safetensors: "), "{text:?}");
    let class = error.class();
    assert!(
        matches!(class, Class::Malformed | Class::Unsupported | Class::Limit),
        "{error:?}"
    );
}

#[test]
fn tensors_come_in_the_headers_order() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt","weightbridge.dtype.b":"C128"}},{},{},{}}}"#,
        entry("z", "U8", "[2]", 4, 6),
        entry("b", "F16", "[2,1]", 0, 4),
        entry("none", "F64", "[0,3]", 4, 4),
    );
    let model = open_bytes(file(&header, b"abcdef")).unwrap();
    let names: Vec<_> = model.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["z", "b", "none"]);
    let b = model.tensors.by_name("b").unwrap();
    assert_eq!((b.dtype(), &b.spec.shape[..]), (DType::F16, &[2, 1][..]));
    assert_eq!(b.read_all().unwrap(), b"abcd");
    assert_eq!(
        b.as_plain().unwrap().start(),
        8 + (header.len() as u64).next_multiple_of(8)
    );
    assert_eq!(
        model
            .metadata
            .get(ns::SAFETENSORS, "format")
            .unwrap()
            .as_str(),
        Some("pt")
    );
    assert_eq!(
        model.metadata.get(ns::NOTE, "dtype.b").unwrap().as_str(),
        Some("C128")
    );
    assert_eq!(model.metadata.len(), 2);
    assert_eq!(model.provenance.format, "safetensors");
    model.validate(&Limits::default()).unwrap();
}

#[test]
fn what_the_library_loads_is_loaded() {
    for (header, body) in [
        ("{}".to_owned(), &b""[..]),
        (r#"{"__metadata__":null}"#.to_owned(), b""),
        (
            format!(" \n\t{{{}}}", entry("a", "BOOL", "[]", 0, 1)),
            b"\x07",
        ),
        (format!("{{{}}}", entry("a", "F4", "[2]", 0, 1)), b"\x07"),
        (
            format!("{{{}}}", entry("a", "F6_E2M3", "[4]", 0, 3)),
            b"abc",
        ),
        (
            r#"{"a":{"new":[{"x":1}],"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#.to_owned(),
            b"x",
        ),
    ] {
        let bytes = file(&header, body);
        let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let ours = open_bytes(bytes.clone()).unwrap();
        assert_eq!(theirs.len(), ours.tensors.len());
    }
}

#[test]
fn tensors_cover_the_buffer_exactly() {
    let a = entry("a", "U8", "[4]", 0, 4);
    let case = |b: &str, body: &[u8], words| refused(&format!("{{{a},{b}}}"), body, words);
    case(
        &entry("b", "U8", "[2]", 5, 7),
        b"1234567",
        "from 4 to there belong to no tensor",
    );
    case(
        &entry("b", "U8", "[2]", 3, 5),
        b"12345",
        "inside tensor \"a\", which ends at 4",
    );
    case(
        &entry("b", "U8", "[2]", 6, 4),
        b"123456",
        "run backwards, from 6 to 4",
    );
    case(
        &entry("b", "U8", "[2]", 4, 7),
        b"1234567",
        "take 2 bytes, its offsets 4 to 7 hold 3",
    );
    case(&entry("b", "U8", "[2]", 4, 6), b"12345", "cut short");
    case(
        &entry("b", "U8", "[2]", 4, 6),
        b"1234567",
        "1 more bytes follow",
    );
    case(
        &entry("b", "F4", "[3]", 4, 6),
        b"123456",
        "do not fill whole bytes",
    );
    case(
        &entry("b", "U8", "[18446744073709551615,2,0]", 4, 4),
        b"1234",
        "does not fit 64 bits",
    );
    case(&entry("b", "U8", "[-1]", 4, 4), b"1234", "tensor \"b\"");
    case(
        &entry("b", "F7", "[2]", 4, 6),
        b"123456",
        "its dtype is \"F7\"",
    );
    case(&entry("a", "U8", "[2]", 4, 6), b"123456", "used twice");
}

#[test]
fn headers_are_what_the_format_asks_for() {
    refused("", b"", "it is empty");
    refused("[]", b"", "begins with '[', not with '{'");
    refused("{", b"", "EOF");
    refused("{}x", b"", "trailing characters");
    refused(
        r#"{"a":{"dtype":"U8","shape":[0]}}"#,
        b"",
        "missing field `data_offsets`",
    );
    refused(
        r#"{"a":{"dtype":"U8","dtype":"U8"}}"#,
        b"",
        "\"dtype\" is there twice",
    );
    refused(r#"{"__metadata__":{"a":1}}"#, b"", "expected a string");
    refused(
        r#"{"__metadata__":{"a":"1","a":"2"}}"#,
        b"",
        "key \"a\" is there twice",
    );
    refused(
        r#"{"__metadata__":{},"__metadata__":{}}"#,
        b"",
        "there twice",
    );
    refused(
        &format!("{{{}}}", entry("a", "U8", &"[".repeat(500), 0, 0)),
        b"",
        "invalid type",
    );
    refused(
        &format!(r#"{{"a":{{"x":{}}}}}"#, "[".repeat(500)),
        b"",
        "recursion limit",
    );
    refused(
        &format!(
            "{{{}}}",
            entry("a", "U8", &format!("[{}0]", "1,".repeat(70)), 0, 0)
        ),
        b"",
        "dimensions: 65 is over the limit of 64",
    );
    let mut wild = file("{}", b"");
    wild[9] = 0xff;
    assert_eq!(open_bytes(wild).unwrap_err().place().unwrap(), "byte 9");
}

#[test]
fn lengths_are_checked_before_anything_is_read() {
    let with_length = |n: u64| [&n.to_le_bytes()[..], b"{}"].concat();
    let words = |bytes: Vec<u8>| open_bytes(bytes).unwrap_err().to_string();
    assert!(words(vec![1, 2]).contains("has 2 bytes"));
    assert!(words(with_length(3)).contains("takes bytes 8 to 11, the file has 10 bytes"));
    assert!(words(with_length(u64::MAX)).contains("at most 100000000 are allowed"));
    assert!(words(with_length(100_000_000)).contains("the file has 10 bytes"));
    assert!(words(with_length(0)).contains("it is empty"));
}

#[test]
fn other_files_are_called_what_they_are() {
    for (head, words) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0"[..],
            "Git LFS pointer",
        ),
        (b"<!DOCTYPE html><html><body>404", "web page"),
        (b"PK\x03\x04\x14\0\0\0\0\0\0\0", "zip archive"),
        (b"\x80\x02}q\x00(X\x01\0\0\0a", "pickle"),
        (&[0; 100], "zeros"),
    ] {
        let error = open_bytes(head).unwrap_err();
        assert!(error.message().contains(words), "{error}");
        assert!(error.help().is_some());
    }
}

#[test]
fn the_survey_sees_polyglots() {
    let look = |bytes: Vec<u8>| {
        let survey = SafetensorsReader.survey(&input(bytes), &Context::default());
        survey.anomalies.iter().map(|a| a.kind).collect::<Vec<_>>()
    };
    let header = format!("{{{}}}", entry("a", "U8", "[4]", 0, 4));
    assert_eq!(look(file(&header, b"1234")), []);
    assert_eq!(
        look(file(&header, b"1234#!/bin/sh")),
        [AnomalyKind::HiddenBytes]
    );
    assert_eq!(
        look(file(&format!("\n{header}"), b"1234")),
        [AnomalyKind::LooseHeader]
    );
    let twice = format!(
        "{{{},{}}}",
        entry("a", "U8", "[1]", 0, 1),
        entry("a", "U8", "[1]", 1, 2)
    );
    assert_eq!(look(file(&twice, b"12")), [AnomalyKind::DuplicateEntry]);
    let mut zip = b"PK\x01\x02".to_vec();
    zip.resize(46, 0);
    zip.extend(b"PK\x05\x06\0\0\0\0\x01\0\x01\0\x2e\0\0\0\0\0\0\0\0\0");
    let header = format!("{{{}}}", entry("a", "U8", "[68]", 0, 68));
    assert_eq!(look(file(&header, &zip)), [AnomalyKind::HiddenPayload]);
}

#[test]
fn cut_or_flipped_files_never_panic() {
    let header = format!(
        r#"{{"__metadata__":{{"k":"v"}},{},{}}}"#,
        entry("a", "F32", "[2]", 0, 8),
        entry("b", "U8", "[3]", 8, 11),
    );
    let whole = file(&header, b"12345678abc");
    assert!(open_bytes(whole.clone()).is_ok());
    for end in 0..whole.len() {
        assert!(open_bytes(whole[..end].to_vec()).is_err(), "cut at {end}");
    }
    let mut loads = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let theirs = safetensors::SafeTensors::deserialize(&flipped).is_ok();
            let ours = open_bytes(flipped.clone()).and_then(|model| {
                model
                    .tensors
                    .iter()
                    .try_for_each(|tensor| tensor.read_all().map(drop))?;
                model.validate(&Limits::default())
            });
            // Stricter than the library only where a flip made two names one.
            assert!(theirs || ours.is_err(), "byte {at} bit {bit}");
            if let (true, Err(error)) = (theirs, &ours) {
                assert!(error.message().contains("twice"), "{error}");
            }
            loads += u32::from(ours.is_ok());
        }
    }
    assert!(loads >= 8 * 11, "flips in the buffer are data");
}

#[test]
fn the_registry_entry_knows_its_own() {
    let peek = input(file("{}", b"")).peek().unwrap();
    assert_eq!((FORMAT.probe)(&peek).points, 95);
    assert!(FORMAT.reader.is_some() && FORMAT.writer.is_some());
}
