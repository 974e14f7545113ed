//! Containers that scanners could not open, or opened differently from loaders.

use super::files::{
    Entry, call, checkpoint, dangerous, entry, global, payload, pickle, scan, tar, tar_of, text,
    zip,
};
use scan::Verdict;

/// picklescan: an extension of PyTorch's on a plain pickle.
#[test]
fn ghsa_jgw4_cr84_mqxg() {
    for name in [
        "model.bin",
        "model.pt",
        "model.pth",
        "model.ckpt",
        "model.dat",
        "README",
    ] {
        dangerous(name, &payload(), "process");
    }
}

/// picklescan: a pickle under another extension inside the archive.
#[test]
fn cve_2025_1889() {
    let clean = pickle(b"}");
    let evil = payload();
    let file = zip(&[
        entry("model/data.pkl", &clean),
        entry("model/config.p", &evil),
    ]);
    dangerous("model.pt", &file, "process");
}

/// picklescan: the name in an entry's own header and in the directory differ.
#[test]
fn cve_2025_1944() {
    let evil = payload();
    let file = zip(&[Entry {
        local_name: "model/data.txt",
        ..entry("model/data.pkl", &evil)
    }]);
    dangerous("model.pt", &file, "header-mismatch");
}

/// picklescan: flag bits that make Python's reader give up.
#[test]
fn cve_2025_1945() {
    for flags in [0x1, 0x20, 0x40] {
        let evil = payload();
        let file = zip(&[Entry {
            flags,
            ..entry("model/data.pkl", &evil)
        }]);
        dangerous("model.pt", &file, "process");
    }
}

/// picklescan: a wrong checksum made it give up.
#[test]
fn ghsa_mjqp_26hc_grxg() {
    let evil = payload();
    let file = zip(&[Entry {
        crc: Some(0x1234_5678),
        ..entry("model/data.pkl", &evil)
    }]);
    dangerous("model.pt", &file, "process");
}

/// picklescan: the magic number of an old checkpoint made by a call.
#[test]
fn ghsa_97f8_7cmv_76j2() {
    let eval = global("builtins", "eval");
    let magic = pickle(&call(&eval, &[&text("119547037146038801333356")]));
    let rest = [
        pickle(b"M\xe9\x03"),
        pickle(b"}"),
        pickle(b"}"),
        pickle(b"]"),
    ]
    .concat();
    dangerous("model.pt", &[magic, rest].concat(), "code-execution");
}

/// PyTorch up to 2.5.1: a TorchScript archive under `weights_only`.
#[test]
fn cve_2025_32434() {
    let code = b"class M(Module):\n  def __setstate__(self, x: Tensor) -> None:\n    torch.save(x, \"/tmp/x\")\n";
    let (data, constants) = (pickle(b"}"), pickle(b")"));
    let file = zip(&[
        entry("m/data.pkl", &data),
        entry("m/code/__torch__.py", code),
        entry("m/constants.pkl", &constants),
        entry("m/version", b"3\n"),
    ]);
    dangerous("model.pt", &file, "torchscript-file-access");
}

/// PyTorch before 2.10: items set on what is no dictionary, under `weights_only`.
#[test]
fn cve_2026_24747() {
    // A class gets an item: its `__setitem__` would write where it likes.
    let body = [&global("torch", "Tensor")[..], &text("x"), b"K\x01s"].concat();
    let scanned = super::look("model.pkl", &pickle(&body));
    assert_ne!(scanned.verdict, Verdict::Clean, "{scanned:?}");
    // A storage that is shorter than the tensor that uses it.
    let storage = [
        &b"("[..],
        &text("storage"),
        &global("torch", "FloatStorage"),
        &text("0"),
        &text("cpu"),
        b"M\xe8\x03tQ",
    ]
    .concat();
    let none = call(&global("collections", "OrderedDict"), &[]);
    let tensor = call(
        &global("torch._utils", "_rebuild_tensor_v2"),
        &[
            &storage,
            b"K\0",
            b"M\xe8\x03\x85",
            b"K\x01\x85",
            b"\x89",
            &none,
        ],
    );
    let data = pickle(&[&b"}"[..], &text("w"), &tensor, b"s"].concat());
    let file = zip(&[
        entry("m/data.pkl", &data),
        entry("m/data/0", &[0; 4]),
        entry("m/version", b"3\n"),
    ]);
    super::files::refused("model.pt", &file, "1000 elements");
}

/// Keras: members of a downloaded tar that leave the folder.
#[test]
fn cve_2025_12060() {
    for name in [
        "../../weights.txt",
        "/tmp/weights.txt",
        "a/../../weights.txt",
    ] {
        let scanned = scan("weights.tar", &tar(name, b"words"));
        assert_eq!(scanned.verdict, Verdict::Suspicious, "{scanned:?}");
        assert!(scanned.findings.iter().any(|f| f.rule == "unsafe-name"));
    }
    let scanned = scan("weights.tar", &tar("a/weights.txt", b"words"));
    assert_eq!(scanned.verdict, Verdict::Clean, "{scanned:?}");
    let file = tar("../../weights.pkl", &payload());
    dangerous("weights.tar", &file, "process");
}

/// A tar whose last member is a checkpoint ends as a zip archive: what stands before it counts.
#[test]
fn a_tar_that_ends_as_a_zip() {
    let (evil, good) = (payload(), checkpoint(b"}"));
    let members: [(&str, &[u8]); 2] = [("evil.pkl", &evil), ("model.pt", &good)];
    dangerous("a.tar", &tar_of(&members), "process");
    // The zip archive stands behind the tar's end.
    let bad = zip(&[entry("model/data.pkl", &evil)]);
    dangerous("b.tar", &[tar("a.txt", b"words"), bad].concat(), "process");
}

/// Archives one behind the other, of which a reader sees the last, or the first.
#[test]
fn one_of_many_archives() {
    let (good, bad) = (
        checkpoint(b"}"),
        zip(&[entry("model/data.pkl", &payload())]),
    );
    for order in [
        [&bad, &good, &good],
        [&good, &bad, &good],
        [&good, &good, &bad],
    ] {
        dangerous(
            "__0_0.distcp",
            &order.map(Vec::as_slice).concat(),
            "process",
        );
    }
}
