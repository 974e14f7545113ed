//! Pickles, as they are and packed.

use super::{SIZE, alone, over};
use weightbridge_tests::{TENSOR, filled, gzipped};

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
    out
}

#[test]
fn a_megabyte_of_anything_is_judged_in_little_memory() {
    let _alone = alone();
    let floods = FLOODS
        .iter()
        .map(|(name, start, unit, end)| (*name, pickle(name, start, unit, end)));
    let over = over("model.bin", floods);
    assert!(over.is_empty(), "{over:#?}");
}

/// What packs to a few kilobytes may unpack to more than a megabyte: of the floods above these, and
/// two of their own.
const PACKED: [&str; 7] = [
    "names",
    "memo slots",
    "a list of lists",
    "tuples of four",
    "texts",
    "calls with a name",
    "objects with a state",
];
const PACKED_ALONE: [Flood; 2] = [
    ("different names", b"(", b"", b"l."),
    ("memo slots of dicts", b"", b"}\x94", b"."),
];

#[test]
fn a_packed_pickle_is_judged_in_little_memory() {
    let _alone = alone();
    // A tiny file may ask for little: this does not pack.
    let mut state = 1u32;
    let mut noise = b"B\x60\xea\0\0".to_vec();
    noise.extend((0..60_000).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    noise.push(b'0');
    let mut floods = Vec::new();
    let packed = FLOODS.iter().filter(|flood| PACKED.contains(&flood.0));
    for (name, start, unit, end) in packed.chain(&PACKED_ALONE) {
        for times in [2, 4, 8, 20] {
            let mut out = [b"\x80\x04", noise.as_slice(), start].concat();
            if unit.is_empty() {
                out.extend((0..80_000 * times).flat_map(|n| format!("co\n{n}\n").into_bytes()));
            }
            let all = filled(
                &out,
                if unit.is_empty() { b"N" } else { unit },
                end,
                times * SIZE,
            );
            floods.push((*name, gzipped(&all)));
        }
    }
    let over = over(
        "model.bin",
        floods.into_iter().filter(|it| it.1.len() <= SIZE),
    );
    assert!(over.is_empty(), "{over:#?}");
}

/// Classes whose objects are judged in different ways.
const CLASSES: [&[u8]; 6] = [
    b"ca\nB\n",
    b"ctorch.nn.modules.linear\nLinear\n",
    b"ctransformers.models.cpm.tokenization_cpm\nCpmTokenizer\n",
    b"cmegatron.data\nIndexedDataset\n",
    b"cfunctools\npartial\n",
    b"c__torch__.a\nB\n",
];

#[test]
fn objects_that_share_a_state_take_no_longer_than_others() {
    let _alone = alone();
    let mut floods = Vec::new();
    for (class, many) in CLASSES
        .iter()
        .flat_map(|class| [(class, true), (class, false)])
    {
        // A dict of many keys, or a list of as many things, and as many objects as there is room for.
        let mut out = b"\x80\x04".to_vec();
        if many {
            out.extend(b"}(");
            out.extend(pairs(40_000, b"N"));
            out.extend(b"u");
        } else {
            out.extend(b"](");
            out.extend(b"N".repeat(200_000));
            out.extend(b"e");
        }
        out.extend(b"q\0(");
        out.extend(*class);
        out.extend(b"q\x01");
        let all = filled(&out, b"h\x01)\x81h\0b", b"l.", SIZE);
        floods.push((std::str::from_utf8(class).unwrap(), all));
    }
    let over = over("model.bin", floods);
    assert!(over.is_empty(), "{over:#?}");
}

/// A tar of as many members as there is room for, all the same.
fn tar(member: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let blocks = member.len().div_ceil(512) + 1;
    for n in 0..(SIZE - 1024) / (blocks * 512) {
        let mut head = vec![0; 512];
        let mut put =
            |at: usize, text: &str| head[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, &format!("{n}"));
        put(124, &format!("{:011o}", member.len()));
        put(148, "        ");
        put(156, "0");
        put(257, "ustar\x0000");
        let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
        head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(head);
        out.extend(member);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

#[test]
fn many_packed_parts_take_no_longer_than_one() {
    let _alone = alone();
    let parts = [
        (
            "a list of itself",
            filled(b"\x80\x02]", b"2a", b".", 60_000),
        ),
        ("pickles", filled(b"", b"\x80\x02N.", b"", 60_000)),
        ("calls of calls", filled(b"ca\nB\n", b")R", b".", 60_000)),
    ];
    let floods = parts
        .iter()
        .map(|(name, part)| (*name, tar(&gzipped(part))));
    let over = over("model.bin", floods);
    assert!(over.is_empty(), "{over:#?}");
}

#[test]
fn a_stream_of_many_pickles_is_judged_in_little_memory() {
    let _alone = alone();
    let streams = [("of nothing", &b"N."[..]), ("of names", b"cos\nsystem\n.")];
    let floods = streams.map(|(name, unit)| (name, filled(b"", unit, b"", SIZE)));
    let over = over("model.pkl", floods);
    assert!(over.is_empty(), "{over:#?}");
}
