//! Files written byte by byte.

use scan::Verdict;
use weightbridge::{Scanned, Session};

/// Scans bytes under a name.
pub(crate) fn scan(name: &str, bytes: &[u8]) -> Scanned {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let mut report = weightbridge::scan(&[path], &Session::default()).unwrap();
    report.files.pop().unwrap()
}

/// The file is dangerous, by this rule if one is named.
pub(crate) fn dangerous(name: &str, bytes: &[u8], rule: &str) {
    let scanned = scan(name, bytes);
    assert_eq!(scanned.verdict, Verdict::Dangerous, "{scanned:?}");
    let hit = rule.is_empty() || scanned.findings.iter().any(|f| f.rule == rule);
    assert!(hit, "{rule}: {scanned:?}");
}

/// The file is refused, with a word in the error.
pub(crate) fn refused(name: &str, bytes: &[u8], word: &str) {
    let scanned = scan(name, bytes);
    assert_eq!(scanned.verdict, Verdict::Malformed, "{scanned:?}");
    let error = scanned
        .error
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    assert!(error.contains(word), "{word}: {error}");
}

/// `module.name`, as protocol 4 names it.
pub(crate) fn global(module: &str, name: &str) -> Vec<u8> {
    [text(module), text(name), vec![0x93]].concat()
}

pub(crate) fn text(value: &str) -> Vec<u8> {
    let len = (value.len() as u32).to_le_bytes();
    [b"X", &len[..], value.as_bytes()].concat()
}

/// A call with these arguments.
pub(crate) fn call(callee: &[u8], args: &[&[u8]]) -> Vec<u8> {
    [callee, b"(", &args.concat(), b"tR"].concat()
}

/// A whole pickle.
pub(crate) fn pickle(body: &[u8]) -> Vec<u8> {
    [&b"\x80\x04"[..], body, b"."].concat()
}

/// `os.system("true")`.
pub(crate) fn payload() -> Vec<u8> {
    pickle(&call(&global("os", "system"), &[&text("true")]))
}

/// An entry of a zip archive.
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) local_name: &'a str,
    pub(crate) flags: u16,
    pub(crate) crc: Option<u32>,
    pub(crate) bytes: &'a [u8],
}

pub(crate) fn entry<'a>(name: &'a str, bytes: &'a [u8]) -> Entry<'a> {
    Entry {
        name,
        local_name: name,
        flags: 0,
        crc: None,
        bytes,
    }
}

/// A zip archive of stored entries.
pub(crate) fn zip(entries: &[Entry<'_>]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let at = (out.len() as u32).to_le_bytes();
        let crc = entry
            .crc
            .unwrap_or_else(|| crc32(entry.bytes))
            .to_le_bytes();
        let len = (entry.bytes.len() as u32).to_le_bytes();
        let flags = entry.flags.to_le_bytes();
        let common = |name: &str| {
            let name = (name.len() as u16).to_le_bytes();
            let head = [20, 0, flags[0], flags[1], 0, 0, 0, 0, 0, 0];
            [&head[..], &crc, &len, &len, &name, &[0, 0]].concat()
        };
        out.extend_from_slice(b"PK\x03\x04");
        out.extend(common(entry.local_name));
        out.extend_from_slice(entry.local_name.as_bytes());
        out.extend_from_slice(entry.bytes);
        directory.extend_from_slice(b"PK\x01\x02\x14\0");
        directory.extend(common(entry.name));
        directory.extend_from_slice(&[0; 10]);
        directory.extend_from_slice(&at);
        directory.extend_from_slice(entry.name.as_bytes());
    }
    let count = (entries.len() as u16).to_le_bytes();
    let size = (directory.len() as u32).to_le_bytes();
    let start = (out.len() as u32).to_le_bytes();
    let end = [
        b"PK\x05\x06\0\0\0\0",
        &count[..],
        &count,
        &size,
        &start,
        b"\0\0",
    ]
    .concat();
    [out, directory, end].concat()
}

fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 0 {
                crc >> 1
            } else {
                crc >> 1 ^ 0xedb8_8320
            };
        }
    }
    !crc
}

/// Bytes packed by gzip.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar archive of one member.
pub(crate) fn tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    tar_of(&[(name, bytes)])
}

/// A tar archive.
pub(crate) fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, bytes) in members {
        out.extend(member(name, bytes));
    }
    out.resize(out.len() + 1024, 0);
    out
}

fn member(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut head = vec![0; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..108].copy_from_slice(b"0000644\0");
    head[124..136].copy_from_slice(format!("{:011o}\0", bytes.len()).as_bytes());
    head[156] = b'0';
    head[257..265].copy_from_slice(b"ustar\x0000");
    head[148..156].fill(b' ');
    let sum: u32 = head.iter().map(|b| u32::from(*b)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = [&head[..], bytes].concat();
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

/// A GGUF file: counts, then whatever follows.
pub(crate) fn gguf(tensors: u64, pairs: u64, rest: &[&[u8]]) -> Vec<u8> {
    let head = [
        &b"GGUF\x03\0\0\0"[..],
        &tensors.to_le_bytes(),
        &pairs.to_le_bytes(),
    ];
    [head.concat(), rest.concat()].concat()
}

pub(crate) fn gguf_text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A key with a string.
pub(crate) fn gguf_pair(key: &str, value: &str) -> Vec<u8> {
    [
        gguf_text(key),
        8u32.to_le_bytes().to_vec(),
        gguf_text(value),
    ]
    .concat()
}

/// A tensor's row of the header: F32.
pub(crate) fn gguf_tensor(name: &str, dims: &[u64], offset: u64) -> Vec<u8> {
    let mut out = gguf_text(name);
    out.extend((dims.len() as u32).to_le_bytes());
    out.extend(dims.iter().flat_map(|d| d.to_le_bytes()));
    out.extend(0u32.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

/// Pads to GGUF's alignment, and adds data.
pub(crate) fn gguf_data(mut file: Vec<u8>, data: usize) -> Vec<u8> {
    file.resize(file.len().next_multiple_of(32) + data, 0);
    file
}

/// A zip of PyTorch's.
pub(crate) fn checkpoint(object: &[u8]) -> Vec<u8> {
    let (object, version) = (pickle(object), b"3\n");
    zip(&[
        entry("archive/data.pkl", &object),
        entry("archive/version", version),
    ])
}

/// One of each, without harm.
pub(crate) fn harmless() -> Vec<(&'static str, Vec<u8>)> {
    let dict = call(&global("collections", "OrderedDict"), &[]);
    let file = gguf(
        1,
        1,
        &[
            &gguf_pair("tokenizer.chat_template", "{{ messages }}"),
            &gguf_tensor("w", &[8], 0),
        ],
    );
    let keras = br#"{"module": "keras", "class_name": "Sequential", "config": {"layers": []}}"#;
    vec![
        ("a.pkl", pickle(&dict)),
        ("b.gguf", gguf_data(file, 32)),
        ("c.keras", zip(&[entry("config.json", keras)])),
        ("d.zip", zip(&[entry("x/notes.txt", b"words")])),
        ("e.tar", tar("weights.pkl", &pickle(&dict))),
        // Its end is that of a zip archive, too.
        (
            "weights.tar",
            tar_of(&[("a.yaml", b"a: 1"), ("w.ckpt", &checkpoint(&dict))]),
        ),
        // What torch.distributed.checkpoint writes.
        ("__0_0.distcp", checkpoint(&dict).repeat(3)),
        ("f.safetensors", super::formats::safetensors("{}", 0)),
        ("config.json", br#"{"architectures": ["X"]}"#.to_vec()),
    ]
}
