//! Containers that scanners could not open, or opened differently from loaders.

use super::files::{
    Entry, call, checkpoint, dangerous, entry, gguf, global, gzip, payload, pickle, scan, tar,
    tar_of, text, zip,
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

/// An archive is found from its end, whatever the file begins with.
#[test]
fn an_archive_behind_a_file_of_another_kind() {
    let bad = zip(&[entry("model/data.pkl", &payload())]);
    let good = zip(&[entry("notes.txt", b"words")]);
    let key = (b"general.name".len() as u64).to_le_bytes();
    let value = |archive: &[u8]| {
        let len = (archive.len() as u64).to_le_bytes();
        let pair = [&key[..], b"general.name", &8u32.to_le_bytes(), &len];
        gguf(0, 1, &[&pair.concat(), archive])
    };
    let behind = |start: &[u8]| [start, &bad].concat();
    let broken_tar = {
        let mut tar = tar("a.txt", b"words");
        tar.truncate(1024);
        tar
    };
    for (name, file) in [
        ("model.gguf", value(&bad)),
        ("tail.gguf", behind(&gguf(0, 0, &[]))),
        ("settings.json", behind(br#"{"a": 1}"#)),
        ("broken.json", behind(br#"{"a": 1"#)),
        ("model.pt", behind(b"Rar!\x1a\x07\0")),
        ("model.tar", behind(&broken_tar)),
        ("model.gz", behind(b"\x1f\x8b\x08\0\0\0\0\0\0\x03")),
    ] {
        dangerous(name, &file, "process");
    }
    // … and a member of an archive is looked at in the same way.
    let nested = tar("inner.gguf", &value(&bad));
    dangerous("repository.tar", &nested, "process");
    // Python does not look at the number of the volume, nor at how many entries there are said to be.
    for at in [4, 8, 10] {
        let mut file = value(&bad);
        let end = file.len() - 22;
        file[end + at] = 9;
        dangerous("model.gguf", &file, "process");
    }
    let scanned = scan("model.gguf", &value(&good));
    assert_eq!(scanned.verdict, Verdict::Suspicious, "{scanned:?}");
}

/// Ten archives in each of ten, five times: more entries than a file of its length is about.
#[test]
fn archives_in_archives_come_to_an_end() {
    let mut file = zip(&[entry("data", b"\x80\x02}.")]);
    for _ in 0..5 {
        let names: Vec<String> = (0..10).map(|n| format!("{n}.zip")).collect();
        let entries: Vec<_> = names.iter().map(|name| entry(name, &file)).collect();
        file = zip(&entries);
    }
    let scanned = scan("many.zip.gz", &gzip(&file));
    assert_eq!(scanned.verdict, Verdict::Malformed, "{scanned:?}");
    assert!(scanned.findings.len() <= 20_000);
}

/// Pictures beside a model are none.
#[test]
fn a_picture_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let picture = [&b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"[..], &[7; 64]].concat();
    std::fs::write(folder.path().join("figure.png"), picture).unwrap();
    let session = weightbridge::Session::default();
    let report = weightbridge::scan(&[folder.path().to_owned()], &session).unwrap();
    assert!(report.files.is_empty(), "{report:?}");
}

/// What stands behind ten thousand pickles is looked at.
#[test]
fn a_pickle_behind_many() {
    let file = [b"\x80\x02K\x01.".repeat(12_000), payload()].concat();
    dangerous("stream.pkl", &file, "process");
}
