use super::*;
use crate::FORMAT;
use ir::{AnomalyKind, Array, Class, DType, ns};
use std::time::{Duration, Instant};

/// A file of version 3, little-endian, written here by hand.
#[derive(Default)]
struct Bytes3 {
    pairs: Vec<u8>,
    n_pairs: u64,
    infos: Vec<u8>,
    n_tensors: u64,
}

impl Bytes3 {
    fn key(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.pairs.extend((key.len() as u64).to_le_bytes());
        self.pairs.extend(key.as_bytes());
        self.pairs.extend(kind.to_le_bytes());
        self.pairs.extend(value);
        self.n_pairs += 1;
        self
    }

    fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.infos.extend((name.len() as u64).to_le_bytes());
        self.infos.extend(name.as_bytes());
        self.infos
            .extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        self.infos
            .extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        self.infos.extend(kind.to_le_bytes());
        self.infos.extend(offset.to_le_bytes());
        self.n_tensors += 1;
        self
    }

    fn done(self, data: &[u8]) -> Vec<u8> {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(self.n_tensors.to_le_bytes());
        out.extend(self.n_pairs.to_le_bytes());
        out.extend(self.pairs);
        out.extend(self.infos);
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
        out
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

fn open_bytes(bytes: impl Into<Bytes>) -> Result<Model> {
    let input = Input::from_region("m.gguf", Region::memory(bytes));
    GgufReader.open(&input, &Context::default())
}

fn small() -> Vec<u8> {
    Bytes3::default()
        .key("general.architecture", 8, &text("test"))
        .key("weightbridge.dtype.b", 8, &text("U8"))
        .key("safetensors.head", 8, &text("a"))
        .tensor("a", &[3, 2], 0, 0)
        .tensor("b", &[4], 24, 32)
        .done(&[[1; 32], [2; 32]].concat())
}

#[test]
fn keys_and_tensors_come_in_order() {
    let model = open_bytes(small()).unwrap();
    model.validate(&Limits::default()).unwrap();
    let a = model.tensors.by_name("a").unwrap();
    assert_eq!((a.dtype(), &a.spec.shape[..]), (DType::F32, &[2, 3][..]));
    assert_eq!(a.as_plain().unwrap().len(), 24);
    let b = model.tensors.by_name("b").unwrap();
    assert_eq!(b.read_all().unwrap(), [2; 4]);
    let keys: Vec<_> = model
        .metadata
        .iter()
        .map(|e| (e.namespace, e.key.as_str()))
        .collect();
    assert_eq!(
        keys,
        [
            (ns::GGUF, "general.architecture"),
            (ns::NOTE, "dtype.b"),
            (ns::SAFETENSORS, "head")
        ]
    );
    assert_eq!(model.provenance.format, "gguf");
    assert_eq!(model.provenance.version, "GGUF v3, little endian");
    let peek = Input::from_region("x.bin", Region::memory(small()))
        .peek()
        .unwrap();
    assert_eq!((FORMAT.probe)(&peek).points, 100);
}

#[test]
fn cut_files_are_refused() {
    let whole = small();
    for end in 0..whole.len() {
        let cut = open_bytes(whole[..end].to_vec());
        if end == whole.len() - 28 {
            // With the last tensor's last byte: a file whose writer does not pad the end.
            assert!(cut.unwrap().provenance.version.ends_with(BARE_END));
        } else {
            let error = cut.unwrap_err();
            assert_eq!(error.class(), Class::Malformed, "cut at {end}: {error}");
        }
    }
}

#[test]
fn flipped_files_never_panic() {
    let whole = small();
    let mut opened = 0;
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            let read = open_bytes(flipped).and_then(|model| {
                model.validate(&Limits::default())?;
                model
                    .tensors
                    .iter()
                    .try_for_each(|tensor| tensor.read_all().map(drop))
            });
            opened += u32::from(read.is_ok());
        }
    }
    assert!(opened >= 8 * 64, "flips in the data are data");
}

/// The classes of attack that a few bytes can carry out, each against the clock.
#[test]
fn attacks_cost_nothing() {
    let array = |kind: u32, n: u64| [&kind.to_le_bytes()[..], &n.to_le_bytes()].concat();
    let nested = |depth: usize| {
        let mut value = Vec::new();
        (0..depth).for_each(|_| value.extend(array(9, 1)));
        value.extend(array(0, 0));
        value
    };
    let key = |kind: u32, value: Vec<u8>| Bytes3::default().key("k", kind, &value).done(&[]);
    let mut wide = array(9, 1 << 20);
    (0..1 << 20).for_each(|_| wide.extend(array(8, 0)));
    let mut strings = array(8, 3 << 20);
    strings.resize(strings.len() + (24 << 20), 0);
    let many = (0..4000).fold(Bytes3::default(), |file, n| {
        file.tensor(&format!("t{n}"), &[1 << 20], 0, 0)
    });
    let attacks = [
        ("bytes", key(9, array(0, 1 << 40)), "number of elements"),
        (
            "strings",
            key(9, array(8, u64::MAX / 8)),
            "number of elements",
        ),
        ("arrays", key(9, array(9, 1 << 40)), "number of elements"),
        ("deep", key(9, nested(100_000)), "nested arrays"),
        (
            "string",
            key(8, u64::MAX.to_le_bytes().to_vec()),
            "length of the string",
        ),
        (
            "many strings",
            key(9, strings),
            "strings and arrays in arrays",
        ),
        ("one place", many.done(&[0; 4096]), "it overlaps"),
        (
            "large",
            Bytes3::default()
                .tensor("t", &[1 << 38], 0, 0)
                .done(&[0; 32]),
            "it ends at byte 1099511627840",
        ),
    ];
    for (name, bytes, words) in attacks {
        let start = Instant::now();
        let error = open_bytes(bytes).unwrap_err();
        assert!(error.to_string().contains(words), "{name}: {error}");
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{name}: {:?}",
            start.elapsed()
        );
    }
    // Many small arrays are lawful, if odd.
    assert!(open_bytes(key(9, wide)).is_ok());
    assert!(open_bytes(key(9, nested(511))).is_ok());
}

#[test]
fn a_vocabulary_is_sliced_not_copied() {
    let n = 150_000u64;
    let mut tokens = [&8u32.to_le_bytes()[..], &n.to_le_bytes()].concat();
    for i in 0..n {
        tokens.extend(text(&format!("token{i}")));
    }
    let file = Bytes3::default()
        .key("tokenizer.ggml.tokens", 9, &tokens)
        .done(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vocab.gguf");
    std::fs::write(&path, file).unwrap();
    let start = Instant::now();
    let model = GgufReader
        .open(&Input::open(&path).unwrap(), &Context::default())
        .unwrap();
    let took = start.elapsed();
    let Some(MetaValue::Array(Array::Str(list))) =
        model.metadata.get(ns::GGUF, "tokenizer.ggml.tokens")
    else {
        panic!("no tokens");
    };
    assert_eq!(
        (list.len(), &list[149_999][..]),
        (150_000, &b"token149999"[..])
    );
    // 20 ms is the aim of an optimised build; this one is not.
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn limits_hold() {
    let opened = |limits: Limits| {
        let cx = Context {
            limits,
            ..Context::default()
        };
        let input = Input::from_region("m.gguf", Region::memory(small()));
        GgufReader.open(&input, &cx).unwrap_err()
    };
    let base = Limits::default;
    let few = opened(Limits {
        tensors: 1,
        ..base()
    });
    assert_eq!(
        (few.class(), few.message().contains("limit of 1")),
        (Class::Limit, true)
    );
    let short = opened(Limits {
        header_bytes: 100,
        ..base()
    });
    assert_eq!(short.class(), Class::Limit);
    let keys = opened(Limits {
        entries: 2,
        ..base()
    });
    assert!(keys.message().starts_with("keys: 3"), "{keys}");
}

#[test]
fn other_files_are_called_what_they_are() {
    for (head, words) in [
        (
            &b"tjgg\x03\0\0\0\0\0\0\0"[..],
            "GGJT file, from before GGUF",
        ),
        (b"PK\x03\x04\x14\0\0\0", "zip archive"),
        (
            b"version https://git-lfs.github.com/spec/v1",
            "Git LFS pointer",
        ),
        (&[0; 64], "zeros"),
        (b"FUGG\x03\0\0\0", "begins with \"FUGG\""),
        (b"", "the file ends at byte 0"),
    ] {
        let error = open_bytes(head).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(error.help().is_some() && error.path().is_some());
    }
}

#[test]
fn the_survey_tells_templates_and_what_is_hidden() {
    let survey = |bytes: Vec<u8>| {
        let input = Input::from_region("m.gguf", Region::memory(bytes));
        GgufReader.survey(&input, &Context::default())
    };
    let mut file = Bytes3::default()
        .key("tokenizer.chat_template", 8, &text("{{ x }}"))
        .key("tokenizer.chat_template.tool_use", 8, &text("{{ y }}"))
        .tensor("a", &[8], 0, 0)
        .done(&[0; 32]);
    let clean = survey(file.clone());
    let texts: Vec<_> = clean
        .texts
        .iter()
        .map(|t| (t.language, t.text.as_str()))
        .collect();
    assert_eq!(texts, [("jinja", "{{ x }}"), ("jinja", "{{ y }}")]);
    assert!(clean.anomalies.is_empty() && clean.error.is_none());
    file.extend(b"PK\x05\x06");
    let hidden = survey(file);
    assert_eq!(hidden.anomalies[0].kind, AnomalyKind::HiddenBytes);
    let twice = Bytes3::default()
        .key("k", 0, &[1])
        .key("k", 0, &[2])
        .done(&[]);
    assert_eq!(survey(twice).anomalies[0].kind, AnomalyKind::DuplicateEntry);
}

#[test]
fn one_shard_alone_keeps_its_keys() {
    let shard = Bytes3::default()
        .key("split.no", 2, &[1, 0])
        .key("split.tensors.count", 5, &[2, 0, 0, 0])
        .key("split.count", 2, &[2, 0])
        .tensor("b", &[8], 0, 0)
        .done(&[7; 32]);
    let input = Input::from_region("m.gguf", Region::memory(shard.clone()));
    let model = open_shard(&input, &Context::default()).unwrap();
    assert_eq!((model.tensors.len(), model.metadata.len()), (1, 3));
    let error = open_bytes(shard).unwrap_err();
    assert!(
        error.to_string().contains("shard 1 of a set of 2"),
        "{error}"
    );
}

/// ggml and gguf-py read a bool of any byte but 0 as true; the specification allows 0 and 1.
#[test]
fn a_bool_of_another_byte_is_told_of() {
    let of = |one: u8, list: [u8; 3]| {
        let array = [&[7, 0, 0, 0][..], &3u64.to_le_bytes(), &list].concat();
        let file = Bytes3::default().key("a", 7, &[one]).key("b", 9, &array);
        let input = Input::from_region("m.gguf", Region::memory(file.done(&[])));
        open_shard(&input, &Context::default()).unwrap()
    };
    assert!(of(1, [0, 1, 1]).provenance.records.is_empty());
    let model = of(0, [0, 2, 255]);
    let [record] = &model.provenance.records[..] else {
        panic!("{:?}", model.provenance.records);
    };
    assert_eq!(
        (record.kind, record.what.as_str()),
        ("bool-byte", "key \"b\"")
    );
    assert!(record.loss && record.why.contains("a bool of byte 2"));
    let model = of(7, [0, 2, 255]);
    assert_eq!(model.provenance.records[0].what, "key \"a\" and 1 more");
    let values: Vec<_> = model
        .metadata
        .iter()
        .map(|entry| entry.value.clone())
        .collect();
    assert_eq!(
        values,
        [
            MetaValue::Bool(true),
            MetaValue::Array(Array::Bool(vec![false, true, true]))
        ]
    );
}
