//! Files of a megabyte built to make as much as they can of every byte: each is judged in little
//! memory, and quickly.

#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)] // tests

use peak_alloc::PeakAlloc;
use std::time::{Duration, Instant};
use weightbridge::Session;
use weightbridge_tests::{filled, folder};

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

const SIZE: usize = 1_000_000;
/// What is promised is 64 MiB for the process; without anything to read it takes some 10.
const MOST: f32 = 54.0;
/// A second is promised, of a release build on a machine with nothing else to do.
const PATIENCE: Duration = Duration::from_secs(15);

/// A tensor of PyTorch's, its storage not in the file.
const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n\
    FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x01tQK\0K\x01\x85K\x01\x85\x89}tR";

/// A name, how the pickle begins, what is said again and again, and how it ends.
type Flood = (&'static str, &'static [u8], &'static [u8], &'static [u8]);

const FLOODS: [Flood; 27] = [
    ("lists left on the stack", b"", b"]", b"."),
    ("a list of lists", b"(", b"]", b"l."),
    ("a list of dicts", b"](", b"}", b"e."),
    ("a list of made dicts", b"(", b"(d", b"l."),
    ("a list of pairs in dicts", b"(", b"(NNd", b"l."),
    ("tuples in a tuple", b"]", b"\x85", b"."),
    ("tuples of one", b"(", b"K\x01\x85", b"l."),
    ("tuples of two", b"(", b"K\x01K\x02\x86", b"l."),
    ("tuples of four", b"(", b"(NNNNt", b"l."),
    ("numbers", b"(", b"J\x01\x02\x03\x04", b"l."),
    ("empty numbers", b"(", b"\x8a\0", b"l."),
    ("lines of numbers", b"(", b"I9\n", b"l."),
    ("texts", b"(", b"\x8c\x01a", b"l."),
    ("bytes", b"(", b"C\x01a", b"l."),
    ("calls of calls", b"cbuiltins\nlist\n", b")R", b"."),
    ("calls", b"(cos\nsystem\nq\0", b"h\0)R", b"l."),
    ("calls with a name", b"(cos\nsystem\nq\0", b"h\0h\0R", b"l."),
    (
        "objects with a state",
        b"(cos\nsystem\nq\0",
        b"h\0)\x81}b",
        b"l.",
    ),
    ("states of a name", b"(cos\nsystem\nq\0", b"h\0}b", b"l."),
    ("instances", b"((", b"ios\nsystem\n(", b"tl."),
    ("names", b"(", b"cos\nx\n", b"l."),
    ("persistent ids", b"(", b"NQ", b"l."),
    ("a list that holds itself", b"]q\0", b"h\0a", b"."),
    ("memo slots", b"", b"N\x94", b"."),
    ("pickles one after another", b"", b"N.", b"."),
    ("things beside a state dict", b"", b"", b""),
    ("dicts of the same dict, six deep", b"", b"", b""),
];

/// Pairs with a number as key.
fn pairs(n: usize, value: &[u8]) -> Vec<u8> {
    let pair = |i: usize| [b"J", &(i as u32).to_le_bytes()[..], value].concat();
    (0..n).flat_map(pair).collect()
}

fn pickle(name: &str, start: &[u8], unit: &[u8], end: &[u8]) -> Vec<u8> {
    let mut out = b"\x80\x04".to_vec();
    match name {
        "things beside a state dict" => {
            out.extend(b"}(X\x0a\0\0\0state_dict}K\x01");
            out.extend(TENSOR);
            out.extend(b"s");
            out.extend(pairs(160_000, b"]"));
            out.extend(b"u.");
        }
        "dicts of the same dict, six deep" => {
            out.extend(b"}K\0");
            out.extend(TENSOR);
            out.extend(b"sq\0");
            for level in 1..=6u8 {
                out.extend(b"}(");
                out.extend(pairs(20_000, &[b'h', level - 1]));
                out.extend([b'u', b'q', level]);
            }
            out.extend(b".");
        }
        _ => {
            out.extend(start);
            out = filled(&out, unit, end, SIZE);
        }
    }
    assert!(out.len() <= SIZE, "{name}: {}", out.len());
    out
}

/// A field of a protobuf message: its number, and bytes of any length.
fn field(number: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = body.len();
    while len > 127 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    [out, body.to_vec()].concat()
}

/// A model of one node over `x`, which is fed, and `k`, which is known.
fn of_one_node(node: &[u8]) -> Vec<u8> {
    let known = [b"\x10\x01".to_vec(), field(8, b"k"), field(9, &[0; 4])].concat();
    let graph = [
        field(1, node),
        field(5, &known),
        field(11, &field(1, b"x")),
        field(12, &field(1, b"y")),
    ];
    let opset = field(8, b"\x10\x11");
    [b"\x08\x08".to_vec(), opset, field(7, &graph.concat())].concat()
}

/// One test at a time: they share the counting allocator and the clock.
static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// What a node takes and gives is looked at once, not each with each.
#[test]
fn one_node_as_wide_as_a_file_is_judged_in_time() {
    let _alone = ALONE.lock().unwrap();
    let many = |n: usize, name: &[u8], op: &[u8]| {
        let takes = field(1, name).repeat(n);
        [takes, field(2, b"y"), field(4, op)].concat()
    };
    let branch = [field(
        5,
        &[field(1, b"t"), field(6, b""), b"\xa0\x01\x05".to_vec()].concat(),
    )];
    let gives = [field(2, b"y"), field(2, b"").repeat(200_000)].concat();
    let branches = [
        field(1, b"x"),
        gives,
        field(4, b"If"),
        branch.concat().repeat(40_000),
    ];
    let dir = folder();
    let path = dir.path().join("model.onnx");
    for (name, node) in [
        ("fed values", many(300_000, b"x", b"Sum")),
        ("known values of a layer", many(300_000, b"k", b"MatMul")),
        ("branches", branches.concat()),
    ] {
        let model = of_one_node(&node);
        assert!(model.len() <= SIZE, "{name}: {}", model.len());
        std::fs::write(&path, model).unwrap();
        let begun = Instant::now();
        weightbridge::scan(std::slice::from_ref(&path), &Session::default()).unwrap();
        assert!(begun.elapsed() < PATIENCE, "{name}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_megabyte_of_anything_is_judged_in_little_memory() {
    let _alone = ALONE.lock().unwrap();
    let dir = folder();
    let path = dir.path().join("model.bin");
    let mut over = Vec::new();
    for (name, start, unit, end) in FLOODS {
        std::fs::write(&path, pickle(name, start, unit, end)).unwrap();
        let before = PEAK.current_usage_as_mb();
        PEAK.reset_peak_usage();
        let begun = Instant::now();
        let judged = weightbridge::scan(std::slice::from_ref(&path), &Session::default());
        let took = begun.elapsed();
        let peak = PEAK.peak_usage_as_mb() - before;
        drop(judged);
        if peak > MOST || took > PATIENCE {
            over.push(format!("{name}: {peak:.1} MiB, {took:?}"));
        }
    }
    assert!(over.is_empty(), "{over:#?}");
}
