//! The machine against pickles written out by hand.

use super::{Budget, Outcome, run};
use ir::{Call, CallKind, Class, Limits, Object, ObjectId, PatchKind, Region};

fn run_with(pickle: &[u8], limits: &Limits) -> Outcome {
    let region = Region::memory(pickle.to_vec());
    run(&region, 0, "test", &mut Budget::new(limits))
}

fn load(pickle: &[u8]) -> Outcome {
    run_with(pickle, &Limits::default())
}

/// The object as Python would show it, to a depth; calls as `callee(args)`.
fn show(outcome: &Outcome, id: ObjectId, depth: u8) -> String {
    let Some(depth) = depth.checked_sub(1) else {
        return "…".to_owned();
    };
    let all = |ids: &[ObjectId]| {
        let parts: Vec<_> = ids.iter().map(|&id| show(outcome, id, depth)).collect();
        parts.join(", ")
    };
    let pairs = |pairs: &[(ObjectId, ObjectId)]| {
        let parts: Vec<_> = pairs
            .iter()
            .map(|&(k, v)| format!("{}: {}", show(outcome, k, depth), show(outcome, v, depth)))
            .collect();
        parts.join(", ")
    };
    match outcome.objects.get(id) {
        Object::None => "None".to_owned(),
        Object::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
        Object::Int(n) => n.to_string(),
        Object::BigInt(bytes) => super::show_big(bytes),
        Object::Float(x) => format!("{x:?}"),
        Object::Str(text) => format!("{text:?}"),
        Object::WildStr(bytes) => format!("w{:?}", bytes.escape_ascii().to_string()),
        Object::Bytes(blob) => format!("b'{}'", blob.head(64).unwrap().escape_ascii()),
        Object::ByteArray(blob) => format!("ba'{}'", blob.head(64).unwrap().escape_ascii()),
        Object::List(items) => format!("[{}]", all(items)),
        Object::Tuple(items) => format!("({})", all(items)),
        Object::Set(items) => format!("set({})", all(items)),
        Object::FrozenSet(items) => format!("frozenset({})", all(items)),
        Object::Dict(items) => format!("{{{}}}", pairs(items)),
        Object::Global(global) => format!("{}.{}", global.module, global.name),
        Object::Extension(code) => format!("ext{code}"),
        Object::Call(call) => {
            let mut out = format!(
                "{}{}",
                show(outcome, call.callee, depth),
                show(outcome, call.args, depth)
            );
            if !call.states().is_empty() {
                out = format!("{out}!{}", all(call.states()));
            }
            if !call.items().is_empty() {
                out = format!("{out}+[{}]", all(call.items()));
            }
            if !call.pairs().is_empty() {
                out = format!("{out}+{{{}}}", pairs(call.pairs()));
            }
            out
        }
        Object::Persistent(id) => format!("persistent {}", show(outcome, *id, depth)),
        Object::OutOfBand => "buffer".to_owned(),
        Object::Patch(_) | Object::Tensor(_) => "?".to_owned(),
    }
}

fn value(pickle: &[u8]) -> String {
    let outcome = load(pickle);
    match (&outcome.error, outcome.objects.root()) {
        (None, Some(root)) => {
            assert_eq!(outcome.end, pickle.len() as u64);
            show(&outcome, root, 20)
        }
        (error, _) => format!("{error:?}"),
    }
}

fn calls(outcome: &Outcome) -> Vec<&Call> {
    outcome
        .objects
        .iter()
        .filter_map(|(_, node)| match &node.object {
            Object::Call(call) => Some(&**call),
            _ => None,
        })
        .collect()
}

#[test]
fn literals_of_every_protocol() {
    for (pickle, expected) in [
        (&b"N."[..], "None"),
        (b"I01\n.", "True"),
        (b"I00\n.", "False"),
        (b"I-7\n.", "-7"),
        (b"L12345678901234567890123L\n.", "12345678901234567890123"),
        (b"F1.5\n.", "1.5"),
        (b"S'a\\n\\x41'\n.", "\"a\\nA\""),
        (b"S'\\xff'\n.", "b'\\xff'"),
        (b"V\\u00e9\xe9\n.", "\"éé\""),
        (b"J\xff\xff\xff\xff.", "-1"),
        (b"K\xff.", "255"),
        (b"M\xff\xff.", "65535"),
        (b"G\x3f\xf8\0\0\0\0\0\0.", "1.5"),
        (b"U\x02ab.", "\"ab\""),
        (b"T\x02\0\0\0\xfe\xff.", "b'\\xfe\\xff'"),
        (b"X\x02\0\0\0\xc3\xa9.", "\"é\""),
        (b"\x80\x02\x88.", "True"),
        (b"\x80\x02\x89.", "False"),
        (b"\x8a\x00.", "0"),
        (b"\x8a\x02\xff\x00.", "255"),
        (b"\x8b\x01\0\0\0\x80.", "-128"),
        (b"\x80\x03B\x01\0\0\0x.", "b'x'"),
        (b"C\x01x.", "b'x'"),
        (b"\x8c\x01x.", "\"x\""),
        (b"\x8d\x01\0\0\0\0\0\0\0x.", "\"x\""),
        (b"\x8e\x01\0\0\0\0\0\0\0x.", "b'x'"),
        (b"\x96\x01\0\0\0\0\0\0\0x.", "ba'x'"),
        (b"X\x03\0\0\0\xed\xa0\x80.", "w\"\\\\xed\\\\xa0\\\\x80\""),
        (b"\x97.", "buffer"),
        (b"\x97\x98.", "buffer"),
    ] {
        assert_eq!(value(pickle), expected, "{}", pickle.escape_ascii());
    }
}

#[test]
fn containers_stack_and_memo() {
    for (pickle, expected) in [
        (&b"(I1\nI2\nl."[..], "[1, 2]"),
        (b"(I1\nI2\nt.", "(1, 2)"),
        (b"(I1\nI2\nd.", "{1: 2}"),
        (b"]K\x01a(K\x02K\x03e.", "[1, 2, 3]"),
        (b"}K\x01K\x02s(K\x03K\x04u.", "{1: 2, 3: 4}"),
        (b"K\x01\x85.", "(1)"),
        (b"K\x01K\x02\x86.", "(1, 2)"),
        (b"K\x01K\x02K\x03\x87.", "(1, 2, 3)"),
        (b").", "()"),
        (b"\x8f(K\x01K\x02\x90.", "set(1, 2)"),
        (b"(K\x01\x91.", "frozenset(1)"),
        (b"K\x01p7\n0g7\n.", "1"),
        (b"K\x01q\x07r\xff\0\0\0" as &[u8], ""),
        (b"K\x01\x94K\x02\x94\x94h\x02.", "2"),
        (b"K\x012\x86.", "(1, 1)"),
        (b"K\x01(K\x02(0010.", ""),
        (b"K\x01(K\x02(K\x031" as &[u8], ""),
        (b"]q\0h\0a.", "[[…]]"),
    ] {
        if expected.is_empty() {
            assert!(load(pickle).error.is_some(), "{}", pickle.escape_ascii());
        } else if expected.contains('…') {
            assert!(load(pickle).complete());
        } else {
            assert_eq!(value(pickle), expected, "{}", pickle.escape_ascii());
        }
    }
}

#[test]
fn calls_are_records() {
    for (pickle, expected) in [
        (&b"cos\nsystem\n(S'x'\ntR."[..], "os.system(\"x\")"),
        (b"(S'x'\nios\nsystem\n.", "os.system(\"x\")"),
        (b"(cos\nsystem\nS'x'\no.", "os.system(\"x\")"),
        (b"\x80\x02cm\nC\n)\x81}K\x01K\x02sb.", "m.C()!{1: 2}"),
        (b"cm\nL\n)R(K\x01K\x02eK\x03a.", "m.L()+[1, 2, 3]"),
        (b"cm\nD\n)RK\x01K\x02s.", "m.D()+{1: 2}"),
        (b"cm\nS\n)R(K\x01\x90.", "m.S()+[1]"),
        (b"Pabc\n.", "persistent \"abc\""),
        (b"K\x01Q.", "persistent 1"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "os.system"),
        (b"\x80\x04\x8c\x01m\x8c\x03a.b\x93.", "m.a.b"),
        (b"\x80\x02c__builtin__\neval\n.", "builtins.eval"),
        (b"\x80\x03c__builtin__\neval\n.", "__builtin__.eval"),
        (b"\x82\x05.", "ext5"),
        (
            b"\x80\x03ccopyreg\nadd_extension\n(S'os'\nS'system'\nK\x05tR0\x83\x05\0.",
            "os.system",
        ),
        (
            b"\x80\x03ccopyreg\n_inverted_registry\nK\x05S'os'\nS'system'\n\x86s0\x82\x05.",
            "os.system",
        ),
        (
            b"\x80\x03ccopyreg\n_extension_cache\nK\x05cos\nsystem\ns0\x84\x05\0\0\0.",
            "os.system",
        ),
        (
            b"\x8c\x02os\x8c\x04join\x8c\x01x\x93(tR\x93.",
            "pickle.Unpickler.find_class(\"os\", join.x())",
        ),
    ] {
        assert_eq!(value(pickle), expected, "{}", pickle.escape_ascii());
    }
    let outcome = load(b"\x80\x04cm\nC\n)}\x8c\x01kK\x01s\x92.");
    let [call] = calls(&outcome)[..] else {
        panic!("one call");
    };
    let CallKind::NewEx(kwargs) = call.kind else {
        panic!("{:?}", call.kind)
    };
    assert_eq!(outcome.objects.pairs(kwargs).unwrap().len(), 1);
}

#[test]
fn what_is_popped_stays_on_record() {
    for pickle in [
        &b"cos\nsystem\n)R0N."[..],
        b"(cos\nsystem\n)R1N.",
        b"cos\nsystem\n)Rq\0K\x01q\x000N.",
    ] {
        let outcome = load(pickle);
        assert!(outcome.complete());
        assert_eq!(calls(&outcome).len(), 1);
    }
    let outcome = load(b"csys\nmodules\nS'os'\nNs0N.");
    let patched = outcome.objects.iter().any(|(_, node)| {
        matches!(&node.object, Object::Patch(patch) if patch.kind == PatchKind::SetItems)
    });
    assert!(patched);
}

#[test]
fn what_cpython_refuses_is_refused() {
    for pickle in [
        &b""[..],
        b".",
        b"N",
        b"0.",
        b"R.",
        b"K\x01t.",
        b"h\0.",
        b"g-1\n.",
        b"N)R.",
        b"cm\nf\nNR.",
        b"K\x01K\x02a.",
        b"}(K\x01u.",
        b"}]K\x01s.",
        b"}(]K\x01\x86K\x01u.",
        b"\x80\x06N.",
        b"\xff.",
        b"X\x05\0\0\0abc.",
        b"X\x01\0\0\0\xff.",
        b"Sabc\n.",
        b"Ixyz\n.",
        b"I\n.",
        b"F1.2.3\n.",
        b"\x8b\xff\xff\xff\xff.",
        b"T\xff\xff\xff\xff.",
        b"\x84\0\0\0\0.",
        b"\x95\x01\0\0\0\0\0\0\x10N.",
        b"cm\n\n.",
        b"cm\nf",
        b"K\x01}b.",
        b"K\x01\x98.",
        b"K\x01K\x02\x93.",
        b"P\xe9\n.",
        b"Nr\xff\xff\xff\xff.",
    ] {
        let outcome = load(pickle);
        let error = outcome.error.as_ref();
        assert!(error.is_some(), "{}", pickle.escape_ascii());
        assert!(error.is_some_and(|e| e.place().is_some() || e.class() == Class::Limit));
        assert_eq!(outcome.objects.root(), None);
    }
}

#[test]
fn a_broken_pickle_keeps_what_it_did() {
    for tail in [
        &b""[..],
        b"\xff",
        b"X\x01\0\0\0\xff",
        b"\x8d\0\0\0\0\0\0\0\x40",
    ] {
        let outcome = load(&[&b"cos\nsystem\n(S'x'\ntR"[..], tail].concat());
        assert!(!outcome.complete());
        assert_eq!(calls(&outcome).len(), 1);
    }
}

#[test]
fn other_readings_are_noted() {
    for pickle in [
        &b"I0x10\n."[..],
        b"I010\n.",
        b"L0x10L\n.",
        b"I5\0junk\n.",
        b"F1.5\0junk\n.",
        b"S'\xe9'\n.",
        b"c\xc3\xa9\nx\n.",
    ] {
        let outcome = load(pickle);
        assert!(
            outcome.complete(),
            "{}: {:?}",
            pickle.escape_ascii(),
            outcome.error
        );
        assert_eq!(outcome.odd.len(), 1, "{}", pickle.escape_ascii());
    }
    assert!(load(b"I10\n.").odd.is_empty());
}

#[test]
fn long_bytes_stay_in_the_file() {
    let mut pickle = b"B\0\0\x02\0".to_vec();
    pickle.extend(vec![7; 1 << 17]);
    pickle.push(b'.');
    let outcome = load(&pickle);
    let root = outcome.objects.root().unwrap();
    let Object::Bytes(blob) = outcome.objects.get(root) else {
        panic!("bytes")
    };
    let ir::Blob::Stored(region) = &**blob else {
        panic!("bytes in the file");
    };
    assert_eq!((region.start(), region.len()), (5, 1 << 17));
}

#[test]
#[cfg_attr(miri, ignore = "millions of steps, each some hundred times slower")]
fn nothing_grows_beyond_the_limits() {
    let n = 1_000_000;
    let cases: [(&str, Vec<u8>); 10] = [
        ("marks", vec![b'('; 3 * n]),
        ("lists", vec![b']'; 2 * n]),
        (
            "nested lists",
            [vec![b']'; n], vec![b'a'; n - 1], vec![b'.']].concat(),
        ),
        ("tuples", [vec![b')'], vec![0x85; 2 * n]].concat()),
        ("dup", [vec![b'N'], vec![b'2'; 3 * n]].concat()),
        ("memo", [vec![b'N'], vec![0x94; 3 * n]].concat()),
        ("calls", [&b"cm\nf\n"[..], &b")R".repeat(n)].concat()),
        (
            "growing",
            [&b"]q\0"[..], &b"(h\0h\0h\0h\0h\0h\0h\0h\0e".repeat(n)].concat(),
        ),
        ("steps", b"N0".repeat(n)),
        ("globals", b"cm\nf\n0".repeat(n)),
    ];
    for (what, pickle) in cases {
        let start = std::time::Instant::now();
        let outcome = load(&pickle);
        if what != "nested lists" && what != "steps" && what != "globals" {
            assert!(outcome.error.is_some(), "{what}");
        }
        drop(outcome);
        assert!(
            start.elapsed().as_secs() < 5,
            "{what}: {:?}",
            start.elapsed()
        );
    }
    let limits = Limits {
        steps: 10,
        ..Limits::default()
    };
    let error = run_with(&[&b"N0".repeat(20)[..], b"N."].concat(), &limits).error;
    assert_eq!(error.unwrap().class(), Class::Limit);
}

#[test]
fn every_cut_and_flip_is_survived() {
    let pickle =
        b"\x80\x04\x95\x20\0\0\0\0\0\0\0}q\0(S'a'\nI1\nX\x01\0\0\0bcm\nf\n)R\x8c\x01cC\x02xyu.";
    for cut in 0..pickle.len() {
        assert!(load(&pickle[..cut]).error.is_some());
    }
    for at in 0..pickle.len() {
        for bit in 0..8 {
            let mut flipped = pickle.to_vec();
            flipped[at] ^= 1 << bit;
            drop(load(&flipped));
        }
    }
}

#[test]
fn frames_that_do_not_fit_are_told() {
    // The frame ends within the argument of LONG1; what a file reader drops is the `)` and `R`.
    let pickle = b"\x80\x04cm\nf\n\x95\x04\0\0\0\0\0\0\0)\x8a\x03\x01\x02\x03.";
    let strict = load(pickle);
    assert!(strict.error.is_some() && strict.crossed.is_some());
    let region = Region::memory(pickle.to_vec());
    let look = |reading| {
        let mut budget = Budget::tolerant(&Limits::default());
        super::run_as(&region, 0, "test", &mut budget, reading)
    };
    let ignored = look(super::Reading::Memory);
    assert!(ignored.complete() && ignored.crossed.is_some());
    let dropped = look(super::Reading::File);
    assert!(!dropped.complete());
    // A frame that goes on behind STOP.
    let behind = b"\x80\x04\x95\x05\0\0\0\0\0\0\0N.NNN";
    assert!(load(behind).error.is_some());
    let region = Region::memory(behind.to_vec());
    let mut budget = Budget::tolerant(&Limits::default());
    let told = run(&region, 0, "test", &mut budget);
    assert!(told.complete() && !told.odd.is_empty());
    let fitting = b"\x80\x04\x95\x03\0\0\0\0\0\0\0K\x01.";
    assert!(load(fitting).complete() && load(fitting).crossed.is_none());
}

fn joblib(name: &str) -> Region {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/scan/");
    Region::memory(std::fs::read([folder, name].concat()).unwrap())
}

#[test]
fn arrays_of_joblib_are_taken_out() {
    for (name, root, ambiguous) in [
        ("harmless/numbers.joblib", "\"name\": \"x\"", false),
        (
            "harmless/objects.joblib",
            "numpy.core.multiarray._reconstruct",
            true,
        ),
        (
            "harmless/objects_2.joblib",
            "numpy.core.multiarray._reconstruct",
            true,
        ),
        (
            "hostile/opcodes.joblib",
            "numpy.core.numeric._frombuffer",
            true,
        ),
        ("hostile/memo.joblib", "builtins.str", true),
    ] {
        let region = joblib(name);
        let looked = run(
            &region,
            0,
            "test",
            &mut Budget::tolerant(&Limits::default()),
        );
        assert!(looked.complete(), "{name}: {:?}", looked.error);
        let shown = show(&looked, looked.objects.root().unwrap(), 5);
        let shown = shown.replace("numpy._core.", "numpy.core.");
        assert!(shown.contains(root), "{name}: {shown}");
        let other = looked.ambiguous.iter().map(|(reading, ..)| *reading);
        let memory = other.clone().any(|it| it == super::Reading::Memory);
        assert_eq!(memory, ambiguous, "{name}");
        assert!(other.count() == 1, "{name}");
        // What converts a file does not follow them, and says so.
        let read = run(&region, 0, "test", &mut Budget::new(&Limits::default()));
        assert_eq!(read.error.unwrap().class(), Class::Unsupported, "{name}");
    }
}

#[test]
fn other_descriptions_of_arrays_are_left() {
    let pickle = joblib("harmless/numbers.joblib");
    let bytes = pickle
        .bytes(0, usize::try_from(pickle.len()).unwrap())
        .unwrap();
    let changed = |from: &[u8], to: &[u8]| {
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        let mut changed = bytes.to_vec();
        changed.splice(at..at + from.len(), to.iter().copied());
        let region = Region::memory(changed);
        let outcome = run(
            &region,
            0,
            "test",
            &mut Budget::tolerant(&Limits::default()),
        );
        let calls = outcome.objects.iter();
        let mut calls = calls.filter_map(|(id, _)| outcome.objects.named_call(id));
        calls.any(|(_, name, _)| name == "_frombuffer")
    };
    assert!(changed(b"f8", b"f8"));
    for (from, to) in [
        // A type that is not numpy's own, or has objects in it.
        (&b"f8"[..], &b"f9"[..]),
        (b"K\0t", b"K\x3ft"),
        // Sizes below nothing, and of what is no number.
        (b"K\x06\x85", b"N\x85"),
        (b"ndarray", b"recarra"),
        (b"order", b"orden"),
        (b"\x01C", b"\x01K"),
        // Other bytes filled in, or more.
        (b"\xff\xff\xff\xff\0\0", b"\xff\xff\xfe\xff\0\0"),
    ] {
        assert!(!changed(from, to), "{from:?}");
    }
}
