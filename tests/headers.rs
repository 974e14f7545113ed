//! No header of 1 KiB makes any reader allocate more than 8 MiB.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use peak_alloc::PeakAlloc;
use std::fs;
use std::io::Write;
use std::time::Instant;
use weightbridge_tests::targets::{self, TARGETS, Target};
use weightbridge_tests::{TENSOR, files, filled, gzipped};

/// Counts what is allocated, and the most there was at once.
#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const HEADER: usize = 1024;
const MOST: usize = 8 << 20;
/// Seconds for a header in a debug build on a busy machine.
const PATIENCE: f32 = 5.0;

/// The most memory a target held at once beyond what it began with. The first run is not counted:
/// it fills tables that are made once.
fn peak(target: Target, bytes: &[u8]) -> usize {
    target(bytes);
    let before = PEAK.current_usage();
    PEAK.reset_peak_usage();
    target(bytes);
    PEAK.peak_usage().saturating_sub(before)
}

fn u32s(values: &[u32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn gguf_headers() -> Vec<(String, Vec<u8>)> {
    let start = |tensors: u64, pairs: u64| {
        let mut out = b"GGUF\x03\0\0\0".to_vec();
        out.extend(tensors.to_le_bytes());
        out.extend(pairs.to_le_bytes());
        out
    };
    let text = |out: &mut Vec<u8>, words: &str| {
        out.extend((words.len() as u64).to_le_bytes());
        out.extend(words.as_bytes());
    };
    let mut all = Vec::new();
    for count in [1u64 << 16, 299_999, 300_001, 1 << 31, 1 << 40, u64::MAX] {
        all.push((format!("{count} tensors"), start(count, 0)));
        all.push((format!("{count} pairs"), start(0, count)));
        let mut key = start(0, 1);
        key.extend(count.to_le_bytes());
        all.push((format!("a key of {count}"), key));
        for kind in 0..14u32 {
            let mut array = start(0, 1);
            text(&mut array, "a");
            array.extend(u32s(&[9, kind]));
            array.extend(count.to_le_bytes());
            array.resize(HEADER, 0);
            all.push((format!("an array of {count} of type {kind}"), array));
        }
        let mut string = start(0, 1);
        text(&mut string, "a");
        string.extend(u32s(&[8]));
        string.extend(count.to_le_bytes());
        string.resize(HEADER, b' ');
        all.push((format!("a string of {count}"), string));
        let mut dims = start(1, 0);
        text(&mut dims, "t");
        dims.extend(u32s(&[count as u32]));
        dims.resize(HEADER, 1);
        all.push((format!("{count} dimensions"), dims));
        let mut tensor = start(1, 0);
        text(&mut tensor, "t");
        tensor.extend(u32s(&[1]));
        tensor.extend(count.to_le_bytes());
        tensor.extend(u32s(&[0, 0, 0]));
        tensor.resize(HEADER, 0);
        all.push((format!("a tensor of {count}"), tensor));
    }
    let mut nested = start(0, 1);
    text(&mut nested, "a");
    nested.extend(u32s(&[9]));
    while nested.len() + 12 < HEADER {
        nested.extend(u32s(&[9]));
        nested.extend(1u64.to_le_bytes());
    }
    all.push(("arrays in arrays".to_owned(), nested));
    let mut many = start(0, 40);
    while many.len() + 21 < HEADER {
        text(&mut many, "k");
        many.extend(u32s(&[8]));
        many.extend(0u64.to_le_bytes());
    }
    all.push(("empty texts".to_owned(), many));
    all
}

fn safetensors_headers() -> Vec<(String, Vec<u8>)> {
    let wrap = |len: u64, json: &str| {
        let mut out = len.to_le_bytes().to_vec();
        out.extend(json.as_bytes());
        out
    };
    let whole = |json: &str| wrap(json.len() as u64, json);
    let mut all = Vec::new();
    for len in [1_000, 100_000_000, 100_000_001, 1 << 40, u64::MAX] {
        all.push((format!("a header of {len}"), wrap(len, &"{".repeat(900))));
    }
    for open in ["[", "{\"a\":", "{\"__metadata__\":", "[[0,"] {
        let deep = open.repeat(900 / open.len());
        all.push((format!("{open} nested"), whole(&deep)));
        let inside = format!(r#"{{"t":{{"dtype":"F32","shape":{deep}"#);
        all.push((
            format!("a shape of {open}"),
            whole(&inside[..HEADER.min(inside.len()) - 8]),
        ));
    }
    let dims = "0,".repeat(450);
    let wide = format!(r#"{{"t":{{"dtype":"F32","shape":[{dims}0],"data_offsets":[0,0]}}}}"#);
    all.push(("450 dimensions".to_owned(), whole(&wide)));
    let many: Vec<_> = (0..18)
        .map(|n| format!(r#""{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#))
        .collect();
    all.push((
        "many empty tensors".to_owned(),
        whole(&format!("{{{}}}", many.join(","))),
    ));
    all
}

fn pickles() -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, code) in [
        ("BINUNICODE8", 0x8d),
        ("BINBYTES8", 0x8e),
        ("BYTEARRAY8", 0x96),
        ("FRAME", 0x95u8),
    ] {
        for len in [1u64 << 20, 1 << 26, 1 << 31, 1 << 62, u64::MAX] {
            let mut out = vec![0x80, 5, code];
            out.extend(len.to_le_bytes());
            out.resize(HEADER, b'a');
            all.push((format!("{name} of {len}"), out));
        }
    }
    for (name, code) in [
        ("LONG4", 0x8b),
        ("BINUNICODE", b'X'),
        ("BINSTRING", b'T'),
        ("BINBYTES", b'B'),
    ] {
        for len in [1u32 << 20, 1 << 26, i32::MAX as u32, u32::MAX] {
            let mut out = vec![0x80, 5, code];
            out.extend(len.to_le_bytes());
            out.resize(HEADER, b'7');
            all.push((format!("{name} of {len}"), out));
        }
    }
    for place in [1u32 << 20, 1 << 26, i32::MAX as u32, u32::MAX] {
        let mut out = b"\x80\x02Nr".to_vec();
        out.extend(place.to_le_bytes());
        out.push(b'.');
        all.push((format!("memo place {place}"), out));
        all.push((
            format!("memo place {place} in text"),
            format!("Np{place}\n.").into_bytes(),
        ));
    }
    for (name, start, part, end) in [
        (
            "tuples that double",
            &b"\x80\x02)"[..],
            &b"2\x86"[..],
            &b"."[..],
        ),
        (
            "lists that double",
            b"\x80\x02]",
            b"2\x86q\x00h\x00\x86",
            b".",
        ),
        ("lists in lists", b"\x80\x02", b"]", b"."),
        ("lists in lists, closed", b"\x80\x02(", b"(l", b"l."),
        ("dicts in dicts", b"\x80\x02}", b"X\x01\0\0\0a}", b"ssss."),
        ("marks", b"\x80\x02", b"(", b"."),
        ("memo of all", b"\x80\x04]", b"\x94", b"."),
        ("appended to itself", b"\x80\x02]q\x00", b"h\x00a", b"."),
        ("calls of calls", b"\x80\x02cx\ny\n", b")R", b"."),
        ("states of states", b"\x80\x02cx\ny\n)R", b"}b", b"."),
        (
            "integers of text",
            b"",
            b"L9999999999999999999999999999999999999999999999999999L\n",
            b".",
        ),
        ("one long integer", b"L", b"9", b"L\n."),
        ("many pickles", b"", b"\x80\x02N.", b""),
        (
            "text that is joined",
            b"\x80\x04X\x04\0\0\0abcd",
            b"2\x93",
            b".",
        ),
        (
            "frames",
            b"\x80\x04",
            b"\x95\x00\x00\x00\x00\x00\x00\x00\x00",
            b".",
        ),
        (
            "a dict that is shared at each level",
            b"\x80\x02}",
            b"q\x01}X\x01\0\0\0ah\x01sX\x01\0\0\0bh\x01s",
            b".",
        ),
    ] {
        all.push((name.to_owned(), filled(start, part, end, HEADER)));
    }
    // One tensor, by half a million names.
    let mut shared = [b"\x80\x02", TENSOR].concat();
    for _ in 0..19 {
        shared.extend(b"q\x010}X\x01\0\0\0ah\x01sX\x01\0\0\0bh\x01s");
    }
    shared.push(b'.');
    all.push((
        "a tensor by many names".to_owned(),
        zip(b"m/data.pkl", shared.len() as u32, &shared, 0, 1, (0, 0)),
    ));
    all.push(("a tensor of much".to_owned(), {
        let mut out = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuJ\xff\xff\xff\x7ftQK\0(J\xff\xff\xff\x7ft(K\x01t\x89}tR.".to_vec();
        out.push(0);
        out
    }));
    all
}

fn zip(
    name: &[u8],
    size: u32,
    packed: &[u8],
    method: u16,
    count: u16,
    lies: (u32, u32),
) -> Vec<u8> {
    let mut common = vec![20, 0, 0, 0];
    common.extend(method.to_le_bytes());
    common.extend([0; 8]);
    common.extend((packed.len() as u32).to_le_bytes());
    common.extend(size.to_le_bytes());
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);
    let mut out = b"PK\x03\x04".to_vec();
    out.extend(&common);
    out.extend(name);
    out.extend(packed);
    let at = out.len() as u32;
    out.extend(b"PK\x01\x02\x14\0");
    out.extend(&common);
    out.extend([0; 14]);
    out.extend(name);
    let len = out.len() as u32 - at;
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend(count.to_le_bytes());
    out.extend(count.to_le_bytes());
    out.extend(len.wrapping_add(lies.0).to_le_bytes());
    out.extend(at.wrapping_add(lies.1).to_le_bytes());
    out.extend([0, 0]);
    out
}

fn deflated(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn archives() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    // As much as fits: a thousand times its size.
    let zeros = deflated(&vec![0; 800 << 10]);
    assert!(zeros.len() < 900, "{}", zeros.len());
    for name in [
        "m/data.pkl",
        "m/data/0",
        "m/code/a.py",
        "a.npy",
        "m/extra/x.gz",
    ] {
        all.push((
            format!("zeros in {name}"),
            zip(name.as_bytes(), 800 << 10, &zeros, 8, 1, (0, 0)),
        ));
        all.push((
            format!("{name} of 4 GiB"),
            zip(name.as_bytes(), u32::MAX, &zeros, 8, 1, (0, 0)),
        ));
        all.push((
            format!("{name} of 4 GiB, stored"),
            zip(name.as_bytes(), u32::MAX, b"N.", 0, 1, (0, 0)),
        ));
    }
    for count in [2, 1000, u16::MAX] {
        all.push((
            format!("{count} entries"),
            zip(b"m/data.pkl", 2, b"N.", 0, count, (0, 0)),
        ));
        let far = zip(b"m/data.pkl", 2, b"N.", 0, count, (1 << 30, 0));
        all.push((format!("{count} entries, a directory of 1 GiB"), far));
        let far = zip(b"m/data.pkl", 2, b"N.", 0, count, (u32::MAX, 1 << 31));
        all.push((format!("{count} entries elsewhere"), far));
    }
    // A text of 700 KiB as the whole pickle; and one that is packed again and again.
    let mut text = b"\x80\x02X\0\0\x0a\0".to_vec();
    text.resize(7 + (0x000a_0000), b'a');
    text.push(b'.');
    all.push((
        "a long text".to_owned(),
        zip(
            b"m/data.pkl",
            text.len() as u32,
            &deflated(&text),
            8,
            1,
            (0, 0),
        ),
    ));
    let mut many = b"\x80\x02".to_vec();
    many.resize(600 << 10, b'N');
    many.push(b'.');
    all.push((
        "600,000 objects".to_owned(),
        zip(
            b"m/data.pkl",
            many.len() as u32,
            &deflated(&many),
            8,
            1,
            (0, 0),
        ),
    ));
    many.fill(b']');
    all.push((
        "600,000 lists in each other".to_owned(),
        zip(
            b"m/data.pkl",
            many.len() as u32,
            &deflated(&many),
            8,
            1,
            (0, 0),
        ),
    ));
    let mut layers = vec![0; 200 << 20];
    for layer in 0..4 {
        layers = gzipped(&layers);
        if layers.len() <= HEADER {
            all.push((format!("{} times packed", layer + 1), layers.clone()));
        }
    }
    drop(layers);
    let mut inner = b"N.".to_vec();
    while inner.len() < HEADER - 150 {
        inner = zip(b"m/data.pkl", inner.len() as u32, &inner, 0, 1, (0, 0));
    }
    all.push(("archives in archives".to_owned(), inner));
    let mut tar = vec![0; HEADER];
    tar[..7].copy_from_slice(b"storage");
    tar[124..135].copy_from_slice(b"77777777777");
    tar[257..262].copy_from_slice(b"ustar");
    tar[156] = b'0';
    let sum = tar[..512].iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    all.push(("a tar entry of 8 GiB".to_owned(), tar));
    let mut legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02N.\x80\x02]q\0(".to_vec();
    legacy.extend(b"X\x01\0\0\x000".repeat(40));
    legacy.extend(b"e.");
    legacy.extend(u64::MAX.to_le_bytes());
    all.push(("a legacy storage of all".to_owned(), legacy));
    all
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn protobufs() -> Vec<(String, Vec<u8>)> {
    let field = |number: u64, body: &[u8]| {
        let mut out = varint(number << 3 | 2);
        out.extend(varint(body.len() as u64));
        out.extend(body);
        out
    };
    let model = |graph: &[u8]| {
        let mut out = vec![8, 8];
        out.extend(field(8, &[0x10, 21]));
        out.extend(field(7, graph));
        out
    };
    let mut all = Vec::new();
    for number in 1..26u64 {
        for len in [1u64 << 20, 1 << 31, 1 << 40, u64::MAX] {
            let mut lie = varint(number << 3 | 2);
            lie.extend(varint(len));
            lie.resize(200, 1);
            all.push((format!("field {number} of {len}"), lie.clone()));
            all.push((format!("graph's field {number} of {len}"), model(&lie)));
            all.push((
                format!("tensor's field {number} of {len}"),
                model(&field(5, &lie)),
            ));
            all.push((
                format!("node's field {number} of {len}"),
                model(&field(1, &lie)),
            ));
        }
        for small in [&[][..], &[0], &[1, 1]] {
            let mut many = Vec::new();
            while many.len() < 900 {
                many.extend(field(number, small));
            }
            all.push((format!("many of field {number}"), many.clone()));
            all.push((format!("many of graph's field {number}"), model(&many)));
            all.push((
                format!("many of tensor's field {number}"),
                model(&field(5, &many)),
            ));
        }
    }
    // Graphs in attributes of nodes of graphs.
    let mut graph = Vec::new();
    while graph.len() < 900 {
        graph = field(1, &field(5, &field(6, &graph)));
    }
    all.push(("graphs in graphs".to_owned(), model(&graph)));
    for kind in 1..24u64 {
        let dims = [8].into_iter().chain(varint(1 << 40)).collect::<Vec<_>>();
        let mut tensor = dims.repeat(3);
        tensor.extend([0x10]);
        tensor.extend(varint(kind));
        tensor.extend(field(8, b"t"));
        all.push((
            format!("a tensor of type {kind} and 2^120 elements"),
            model(&field(5, &tensor)),
        ));
    }
    all
}

fn json_texts() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for open in [
        "[",
        "{\"a\":",
        "{\"weight_map\":",
        "{\"architectures\":[",
        "[[0,",
        "{\"vocab_size\":",
    ] {
        all.push((
            format!("{open} nested"),
            open.repeat(HEADER / open.len()).into_bytes(),
        ));
    }
    for number in ["1e308", "18446744073709551615", "1000000000", "-1", "1e999"] {
        for key in [
            "num_hidden_layers",
            "vocab_size",
            "num_local_experts",
            "hidden_size",
            "num_attention_heads",
        ] {
            let config = format!(
                r#"{{"architectures":["LlamaForCausalLM"],"model_type":"llama","hidden_size":4,"num_attention_heads":1,"{key}":{number}}}"#
            );
            all.push((format!("{key} of {number}"), config.into_bytes()));
        }
    }
    let pair = |n| format!(r#""{n}":"model-00001-of-00002.safetensors""#);
    let map = (0..22).map(pair).collect::<Vec<_>>().join(",");
    all.push((
        "an index".to_owned(),
        format!(r#"{{"weight_map":{{{map}}}}}"#).into_bytes(),
    ));
    all
}

/// Tokenizer files: one byte for the method, then each with its number and length.
fn tokenizers() -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let bundle = |method: u8, number: u8, bytes: &[u8]| {
        let mut out = vec![method, number];
        out.extend(&(bytes.len() as u32).to_le_bytes()[..3]);
        out.extend(bytes);
        out
    };
    let texts = [
        r#"{"model":{"type":"BPE","vocab":{"a":4294967295},"merges":[]}}"#.to_owned(),
        r#"{"model":{"type":"BPE","vocab":{"a":1000000},"merges":[]},"added_tokens":[{"id":900000000,"content":"b"}]}"#.to_owned(),
        r#"{"model":{"type":"WordPiece","vocab":{"a":1000000000}}}"#.to_owned(),
        r#"{"model":{"type":"Unigram","vocab":[["a",1e300]],"unk_id":4000000000}}"#.to_owned(),
        "[".repeat(900),
        "{\"model\":".repeat(100),
        format!(r#"{{"pre_tokenizer":{}"#, r#"{"type":"Sequence","pretokenizers":[{"#.repeat(20)),
        r#"{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(((((a{1000}){1000}){1000}){1000}){1000})"},"behavior":"Isolated","invert":false},"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}"#.to_owned(),
        r#"{"config":{"default_vocab_size":4000000000,"default_num_special_tokens":1000000000},"vocab":[]}"#.to_owned(),
    ];
    for method in 0..20 {
        for text in &texts {
            for number in [0, 1, 5, 8, 13] {
                let name = format!(
                    "method {method}, file {number}: {}",
                    &text[..text.len().min(40)]
                );
                all.push((name, bundle(method, number, text.as_bytes())));
            }
        }
        for (_, proto) in protobufs().into_iter().step_by(9) {
            all.push((
                format!("method {method}, a SentencePiece model"),
                bundle(method, 2, &proto),
            ));
        }
    }
    all
}

/// Makes headers: what each is, and its bytes.
type Made = fn() -> Vec<(String, Vec<u8>)>;

/// All in one test: what is counted is the whole process.
#[test]
fn no_header_of_1_kib_takes_8_mib() {
    let mut worst = (0, String::new());
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut measure = |kind: &str, name: &str, target: Target, bytes: &[u8]| {
        assert!(
            bytes.len() <= HEADER,
            "{kind}, {name}: {} bytes",
            bytes.len()
        );
        count += 1;
        let start = Instant::now();
        let peak = peak(target, bytes);
        let took = start.elapsed().as_secs_f32();
        if peak > MOST || took > PATIENCE {
            wrong.push(format!("{kind}, {name}: {} KiB, {took:.1} s", peak >> 10));
        }
        if peak > worst.0 {
            worst = (peak, format!("{kind}, {name}"));
        }
    };
    let made: [(&str, Made, &[Target]); 7] = [
        ("gguf", gguf_headers, &[targets::gguf, targets::scanned]),
        (
            "safetensors",
            safetensors_headers,
            &[targets::safetensors, targets::probe],
        ),
        ("pickle", pickles, &[targets::ckpt, targets::scanned]),
        ("archive", archives, &[targets::ckpt, targets::scanned]),
        ("onnx", protobufs, &[targets::onnx, targets::probe]),
        ("json", json_texts, &[targets::index, targets::config]),
        ("tokenizer", tokenizers, &[targets::tokenizer]),
    ];
    for (kind, headers, readers) in made {
        for (name, bytes) in headers() {
            for target in readers {
                measure(kind, &name, *target, &bytes);
            }
        }
    }
    // And whatever else: the beginnings of all test files, changed at random.
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize % bound.max(1)
    };
    let kinds = ["ckpt", "safetensors", "gguf", "onnx"];
    for path in kinds.iter().flat_map(|kind| files(kind)) {
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(HEADER);
        for _ in 0..8 {
            let mut mutant = bytes.clone();
            for _ in 0..random(4) {
                if mutant.is_empty() {
                    break;
                }
                let at = random(mutant.len());
                let end = mutant.len().min(at + [1, 4, 8][random(3)]);
                mutant[at..end].fill([0xff, 0x7f, 0, random(256) as u8][random(4)]);
            }
            let name = weightbridge_tests::short(&path);
            for (target_name, target) in TARGETS {
                if !matches!(
                    *target_name,
                    "config"
                        | "index"
                        | "vocab"
                        | "pickle"
                        | "pickle_ops"
                        | "ckpt_stream"
                        | "gguf_fields"
                ) {
                    measure(target_name, &name, *target, &mutant);
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(count > 20_000, "only {count}");
    assert!(worst.0 > 64 << 10, "nothing was measured: {worst:?}");
    report(count, &worst);
}

#[allow(clippy::print_stderr)] // shown with --nocapture, and when the test fails
fn report(count: usize, worst: &(usize, String)) {
    eprintln!(
        "{count} headers; the most was {} KiB: {}",
        worst.0 >> 10,
        worst.1
    );
}
