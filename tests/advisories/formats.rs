//! GGUF, ONNX, safetensors, Keras and templates.

use super::files::{
    dangerous, entry, gguf, gguf_data, gguf_pair, gguf_tensor, gguf_text, payload, refused, scan,
    zip,
};
use std::time::{Duration, Instant};

/// Refused, and at once: these files made readers allocate what they say.
fn refused_quickly(name: &str, bytes: &[u8], word: &str) {
    let start = Instant::now();
    refused(name, bytes, word);
    assert!(start.elapsed() < Duration::from_secs(2));
}

/// The count of keys times the size of a record wraps.
#[test]
fn cve_2024_25664() {
    refused_quickly("a.gguf", &gguf(0, u64::MAX / 48 + 2, &[]), "number of keys");
}

/// The same, as TALOS-2024-1916 has it.
#[test]
fn cve_2024_23605() {
    refused_quickly(
        "a.gguf",
        &gguf(0, 1 << 60, &[&gguf_pair("a", "b")]),
        "number of keys",
    );
}

/// The count of tensors times the size of a record wraps.
#[test]
fn cve_2024_25666() {
    refused_quickly(
        "a.gguf",
        &gguf(u64::MAX / 88 + 2, 0, &[]),
        "number of tensors",
    );
}

/// The same, as TALOS-2024-1915 has it.
#[test]
fn cve_2024_21836() {
    refused_quickly(
        "a.gguf",
        &gguf(1 << 59, 0, &[&gguf_tensor("w", &[1], 0)]),
        "number of tensors",
    );
}

/// A key of 2^64-1 bytes: plus one it is none.
#[test]
fn cve_2024_25665() {
    refused_quickly(
        "a.gguf",
        &gguf(0, 1, &[&[0xff; 8], &[b'k'; 64]]),
        "length of the",
    );
}

/// A value of 2^64-1 bytes.
#[test]
fn cve_2024_23496() {
    let pair = [gguf_text("k"), 8u32.to_le_bytes().to_vec(), vec![0xff; 8]].concat();
    refused_quickly(
        "a.gguf",
        &gguf(0, 1, &[&pair, b"value"]),
        "length of the string",
    );
}

/// An array of that many elements.
fn array(kind: u32, count: u64) -> Vec<u8> {
    let pair = [
        gguf_text("k"),
        9u32.to_le_bytes().to_vec(),
        kind.to_le_bytes().to_vec(),
        count.to_le_bytes().to_vec(),
        vec![0; 32],
    ];
    gguf(0, 1, &[&pair.concat()])
}

/// The count of an array times the size of an element wraps.
#[test]
fn cve_2024_25667() {
    refused_quickly("a.gguf", &array(10, 1 << 61), "number of elements");
}

/// The same with strings.
#[test]
fn cve_2024_25668() {
    refused_quickly("a.gguf", &array(8, 1 << 60), "number of elements");
}

/// The same, as TALOS-2024-1912 has it.
#[test]
fn cve_2024_21825() {
    refused_quickly("a.gguf", &array(8, u64::MAX / 16 + 2), "number of elements");
}

/// More dimensions than a tensor has room for.
#[test]
fn cve_2024_21802() {
    let file = gguf(1, 0, &[&gguf_tensor("w", &[1; 64], 0)]);
    refused_quickly("a.gguf", &gguf_data(file, 32), "64 dimensions");
}

/// The sum of all sizes wraps: behind a tensor that is there, one that ends at byte 0.
#[test]
fn cve_2025_53630() {
    let rows = [
        gguf_tensor("a", &[8], 0),
        gguf_tensor("b", &[(1 << 62) - 8], 32),
    ];
    refused_quickly(
        "a.gguf",
        &gguf_data(gguf(2, 0, &[&rows.concat()]), 32),
        "tensor \"b\": with it the data takes more bytes",
    );
}

/// Padding makes the sum wrap after the check.
#[test]
fn cve_2026_27940() {
    let row = gguf_tensor("a", &[(u64::MAX - 15) / 4], 0);
    refused_quickly(
        "a.gguf",
        &gguf_data(gguf(1, 0, &[&row]), 32),
        "the data takes more bytes",
    );
}

/// Dimensions whose product wraps to a small number.
#[test]
fn cve_2026_33298() {
    let row = gguf_tensor("a", &[1 << 32, 1 << 32], 0);
    refused_quickly(
        "a.gguf",
        &gguf_data(gguf(1, 0, &[&row]), 64),
        "product does not fit",
    );
}

/// A tensor that says it is larger than the file.
#[test]
fn cve_2026_7482() {
    let row = gguf_tensor("a", &[4096], 0);
    refused_quickly(
        "a.gguf",
        &gguf_data(gguf(1, 0, &[&row]), 64),
        "the file ends at byte 128",
    );
}

/// A template that leaves the sandbox there is none of.
#[test]
fn cve_2024_34359() {
    let evil = "{% for x in ().__class__.__base__.__subclasses__() %}{% endfor %}";
    for key in [
        "tokenizer.chat_template",
        "tokenizer.chat_template.tool_use",
    ] {
        let file = gguf(0, 1, &[&gguf_pair(key, evil)]);
        dangerous("a.gguf", &gguf_data(file, 0), "template-escape");
    }
    dangerous("chat_template.jinja", evil.as_bytes(), "template-escape");
    let settings = format!(r#"{{"chat_template": "{evil}"}}"#);
    dangerous(
        "tokenizer_config.json",
        settings.as_bytes(),
        "template-escape",
    );
}

/// A setting behind more blanks than a document is read for: loaders read it whatever its size.
#[test]
fn settings_too_long_to_read_are_never_clean() {
    let evil = r#"{"chat_template": "{{ x.__class__ }}", "auto_map": {"AutoModel": "m.M"}, "#;
    let long = format!("{evil}{}\"a\": 1}}", " ".repeat(5 << 20));
    for name in [
        "adapter_config.json",
        "chat_template.json",
        "config.json",
        "config.4.0.0.json",
        "processor_config.json",
        "tokenizer_config.json",
    ] {
        let scanned = scan(name, long.as_bytes());
        assert_eq!(
            scanned.verdict,
            scan::Verdict::Malformed,
            "{name}: {scanned:?}"
        );
        let short = format!("{evil}\"a\": 1}}");
        dangerous(name, short.as_bytes(), "template-escape");
    }
    // A vocabulary is long, and nothing in it is interpreted.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, long).unwrap();
    let report = weightbridge::scan(&[path], &weightbridge::Session::default()).unwrap();
    assert!(report.files.is_empty());
}

/// Indexes and notebooks are long by nature: what counts in them is found behind any number of bytes.
#[test]
fn long_indexes_and_notebooks_are_read() {
    let blanks = " ".repeat(5 << 20);
    let index =
        |file: &str| format!(r#"{{"metadata": {{}}, {blanks} "weight_map": {{"a": "{file}"}}}}"#);
    let name = "model.safetensors.index.json";
    let scanned = scan(name, index("../../secret").as_bytes());
    assert_eq!(scanned.findings[0].rule, "external-path", "{scanned:?}");
    let scanned = scan(name, index("model-1.safetensors").as_bytes());
    // The shard is not there, which is all that is said.
    assert!(scanned.findings.is_empty(), "{scanned:?}");
    let notebook = |code: &str| {
        let cell =
            format!(r#"{{"cell_type": "code", "outputs": ["{blanks}"], "source": "{code}"}}"#);
        format!(r#"{{"cells": [{cell}], "nbformat": 4}}"#)
    };
    let evil = notebook("import os\\nos.system('true')");
    dangerous("train.ipynb", evil.as_bytes(), "python-danger");
    let scanned = scan("train.ipynb", notebook("print(1)").as_bytes());
    assert_eq!(scanned.verdict, scan::Verdict::Suspicious, "{scanned:?}");
}

/// A pickle that breaks before it calls has imported by then what it names.
#[test]
fn a_broken_pickle_without_a_protocol_is_named_by_what_it_imports() {
    for bytes in [
        &b"cos\nsystem\n\xff"[..],
        b"(cos\nsystem\n(S'x",
        b"cposix\nsystem\n",
    ] {
        dangerous("model.pkl", bytes, "process");
    }
    for (name, bytes) in [
        ("model.pkl", &b"cmine\nModel\n\xff"[..]),
        ("model.bin", b"\xff\xfe\0cos\nsystem\n"),
        ("words", b"cos\nsystem\n\0\xff"),
    ] {
        refused(name, bytes, "");
    }
}

/// A safetensors file of one header.
pub(crate) fn safetensors(header: &str, data: usize) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [&len[..], header.as_bytes(), &vec![0; data]].concat()
}

fn varint(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn field(number: usize, body: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(body.len()), body.to_vec()].concat()
}

/// A model whose one tensor lies elsewhere.
fn onnx(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut tensor = [b"\x08\x02\x10\x01".to_vec(), field(8, b"w")].concat();
    for (key, value) in pairs {
        let pair = [field(1, key.as_bytes()), field(2, value.as_bytes())].concat();
        tensor.extend(field(13, &pair));
    }
    tensor.extend(b"\x70\x01");
    let graph = field(5, &tensor);
    let opset = field(8, b"\x10\x15");
    [b"\x08\x0a".to_vec(), field(7, &graph), opset].concat()
}

fn onnx_refused(location: &str) {
    let scanned = super::look("model.onnx", &onnx(&[("location", location)]));
    assert_eq!(scanned.verdict, scan::Verdict::Malformed, "{scanned:?}");
    let hit = scanned.findings.iter().any(|f| f.rule == "external-path");
    assert!(hit, "{scanned:?}");
}

/// Data in a parent folder.
#[test]
fn cve_2022_25882() {
    onnx_refused("../../etc/passwd");
    onnx_refused("/etc/passwd");
}

/// The same behind a name that passes a check of the beginning.
#[test]
fn cve_2024_27318() {
    onnx_refused("data/../../etc/passwd");
}

/// Places before the file's beginning or far behind its end.
#[test]
fn ghsa_538c_55jv_c5g9() {
    for pairs in [
        [("location", "model.onnx"), ("offset", "-8")],
        [("location", "model.onnx"), ("length", "1125899906842624")],
    ] {
        refused("model.onnx", &onnx(&pairs), "");
    }
}

#[cfg(unix)]
fn linked(link: impl Fn(&std::path::Path, &std::path::Path)) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, [7; 8]).unwrap();
    link(folder.path(), &home);
    let path = home.join("model.onnx");
    for location in ["data", "data/secret"] {
        std::fs::write(&path, onnx(&[("location", location)])).unwrap();
        let paths = [path.clone()];
        let report = weightbridge::scan(&paths, &weightbridge::Session::default()).unwrap();
        assert_eq!(report.files[0].verdict, scan::Verdict::Malformed);
    }
}

/// A folder on the way is a link.
#[cfg(unix)]
#[test]
fn cve_2026_27489() {
    linked(|folder, home| std::os::unix::fs::symlink(folder, home.join("data")).unwrap());
}

/// The file is a link.
#[cfg(unix)]
#[test]
fn cve_2026_34447() {
    linked(|folder, home| {
        std::os::unix::fs::symlink(folder.join("secret"), home.join("data")).unwrap();
    });
}

/// The file is another name of a secret.
#[cfg(unix)]
#[test]
fn cve_2026_34446() {
    linked(|folder, home| std::fs::hard_link(folder.join("secret"), home.join("data")).unwrap());
}

/// A Keras model of one layer, as the archive of Keras 3 and as bare settings.
fn keras(layer: &str, rule: &str) {
    let config = format!(
        r#"{{"module": "keras", "class_name": "Sequential", "config": {{"layers": [{layer}]}}}}"#
    );
    let file = zip(&[
        entry("metadata.json", b"{}"),
        entry("config.json", config.as_bytes()),
    ]);
    dangerous("model.keras", &file, rule);
    dangerous("config.json", config.as_bytes(), rule);
}

/// An HDF5 file of one attribute of the root, with a text of this length in a heap.
fn hdf5(name: &str, text: &str) -> Vec<u8> {
    let mut file = b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0\x04\0\x10\0\0\0\0\0".to_vec();
    for address in [0, u64::MAX, 0, u64::MAX, 0, 96] {
        file.extend(u64::to_le_bytes(address));
    }
    file.resize(96, 0);
    let padded = (name.len() + 1).next_multiple_of(8);
    let heap = 512u64;
    let mut attribute = vec![1, 0];
    for size in [name.len() + 1, 16, 8] {
        attribute.extend((size as u16).to_le_bytes());
    }
    attribute.extend(name.as_bytes());
    attribute.resize(8 + padded, 0);
    // A text of any length, one of it, and where it lies.
    attribute.extend([0x19, 1, 0, 0, 16, 0, 0, 0, 0x10, 0, 0, 0, 1, 0, 0, 0]);
    attribute.extend([1, 0, 0, 0, 0, 0, 0, 0]);
    attribute.extend((text.len() as u32).to_le_bytes());
    attribute.extend(heap.to_le_bytes());
    attribute.extend(1u32.to_le_bytes());
    let size = attribute.len() as u16;
    file.extend([1, 0, 1, 0, 1, 0, 0, 0]);
    file.extend((u32::from(size) + 8).to_le_bytes());
    file.extend([0; 4]);
    file.extend([0x0c, 0]);
    file.extend(size.to_le_bytes());
    file.extend([0; 4]);
    file.extend(attribute);
    file.resize(heap as usize, 0);
    let len = text.len().next_multiple_of(8);
    file.extend(b"GCOL\x01\0\0\0");
    file.extend((16 + 16 + len as u64 + 16).to_le_bytes());
    file.extend([1, 0, 1, 0, 0, 0, 0, 0]);
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
    file.resize(file.len().next_multiple_of(8) + 16, 0);
    file
}

/// A Lambda layer's bytecode.
#[test]
fn cve_2024_3660() {
    keras(
        r#"{"class_name": "Lambda", "config": {"function": ["4wEAAAAA", null, null]}}"#,
        "keras-lambda",
    );
}

/// The same in HDF5, where safe mode is not looked at.
#[test]
fn cve_2025_9905() {
    let text = r#"{"class_name": "Model", "config": {"layers": [{"class_name": "Lambda", "config":
        {"function": ["4wEAAAAA", null, null]}}]}}"#;
    dangerous("model.h5", &hdf5("model_config", text), "keras-lambda");
    let honest = r#"{"class_name": "Model", "config": {"layers": []}}"#;
    let clean = super::look("model.h5", &hdf5("model_config", honest));
    assert_eq!(clean.verdict, scan::Verdict::Clean, "{clean:?}");
}

/// Any function of any module.
#[test]
fn cve_2025_1550() {
    keras(
        r#"{"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}"#,
        "keras-import",
    );
}

/// The function that downloads and unpacks.
#[test]
fn cve_2025_8747() {
    keras(
        r#"{"module": "keras.utils", "class_name": "function", "config": "get_file"}"#,
        "keras-import",
    );
}

/// The function that switches safe mode off.
#[test]
fn cve_2025_9906() {
    keras(
        r#"{"module": "keras.config", "class_name": "function", "config": "enable_unsafe_deserialization"}"#,
        "keras-import",
    );
}

/// A vocabulary that is a file of the loader's machine.
#[test]
fn cve_2025_12058() {
    keras(
        r#"{"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}}"#,
        "keras-external",
    );
}

/// A layer that loads a SavedModel.
#[test]
fn cve_2026_1462() {
    keras(
        r#"{"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/x"}}"#,
        "keras-external",
    );
}

/// A layer that holds a pickle of PyTorch.
#[test]
fn cve_2025_49655() {
    keras(
        r#"{"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gAR9"}}"#,
        "keras-pickle",
    );
}

/// A dataset whose numbers are another file's.
#[test]
fn cve_2026_1669() {
    let mut file = hdf5("x", "y");
    // The one message becomes a list of external files, its names in a heap of the old kind.
    let message = [
        &[1, 0, 0, 0, 1, 0, 1, 0][..],
        &2048u64.to_le_bytes(),
        &8u64.to_le_bytes(),
        &[0; 16],
    ]
    .concat();
    file[112..114].copy_from_slice(&[7, 0]);
    file[120..120 + message.len()].copy_from_slice(&message);
    file.resize(2048, 0);
    file.extend(b"HEAP\0\0\0\0");
    for number in [32, 1, 2080] {
        file.extend(u64::to_le_bytes(number));
    }
    file.extend(b"\0\0\0\0\0\0\0\0/etc/passwd\0");
    file.resize(4096, 0);
    let scanned = super::look("model.h5", &file);
    assert_eq!(scanned.verdict, scan::Verdict::Malformed, "{scanned:?}");
    assert!(
        scanned
            .findings
            .iter()
            .any(|f| f.rule == "external-path" && f.detail.contains("/etc/passwd"))
    );
}

/// No id: files that are two things at once.
#[test]
fn polyglots_are_told() {
    let evil = payload();
    let archive = zip(&[entry("m/data.pkl", &evil)]);
    let file = [safetensors("{}", 0), archive].concat();
    let scanned = super::look("model.safetensors", &file);
    assert_ne!(scanned.verdict, scan::Verdict::Clean, "{scanned:?}");
}
