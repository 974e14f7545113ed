//! What a file is, for those that no format of the registry claims.

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One layer of compression around something else.
    Packed(Wrapping),
    /// An HDF5 file: Keras, and others.
    Hdf5,
    /// Text in JSON.
    Json,
    /// Text in YAML.
    Yaml,
    /// A Jinja template.
    Template,
    /// Python's source text.
    Python,
    /// The packages that a model asks for.
    Requirements,
    /// A graph of TensorFlow, by its name.
    Graph,
    /// A program or library for the machine itself.
    Native,
    /// A script of a shell.
    Script,
    /// Python compiled to bytecode.
    Bytecode,
    /// A shortcut of a desktop: opening it starts what it names.
    Shortcut,
    /// Objects that R or Java wrote: reading them may run code (CVE-2024-27322 of R).
    Serialized,
    /// Paths for Python, of which lines that begin with `import` are run: or a checkpoint, since
    /// those have the same extension.
    Paths,
    /// Nothing of these.
    Other,
}

/// A layer of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrapping {
    /// gzip.
    Gzip,
    /// A bare zlib stream.
    Zlib,
    /// zlib behind the header of joblib before 0.10.
    OldJoblib,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
    /// LZMA as `lzma.open(format=FORMAT_ALONE)` writes it.
    Lzma,
}

impl Wrapping {
    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zlib => "zlib",
            Self::OldJoblib => "joblib's old zlib",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma => "lzma",
        }
    }
}

/// Tells what a file is from its first bytes and, where those say nothing, from its name.
pub fn kind(name: &str, head: &[u8]) -> Kind {
    by_content(head).unwrap_or_else(|| by_name(name, head))
}

fn by_content(head: &[u8]) -> Option<Kind> {
    let wrapping = match head {
        [0x1f, 0x8b, 8, ..] => Some(Wrapping::Gzip),
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', b'&', ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, ..] => Some(Wrapping::Bzip2),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Wrapping::Xz),
        [b'Z', b'F', b'0', b'x', ..] => Some(Wrapping::OldJoblib),
        // Properties, a dictionary that is a power of two, a length that is unknown or small.
        [0x5d, 0, 0, _, _, size @ ..]
            if size.get(..8) == Some(&[0xff; 8]) || size.get(5..8) == Some(&[0; 3]) =>
        {
            Some(Wrapping::Lzma)
        }
        // CMF and FLG together are a multiple of 31.
        [0x78, flags @ (0x01 | 0x5e | 0x9c | 0xda), ..]
            if (0x7800 + u16::from(*flags)).is_multiple_of(31) =>
        {
            Some(Wrapping::Zlib)
        }
        _ => None,
    };
    if let Some(wrapping) = wrapping {
        return Some(Kind::Packed(wrapping));
    }
    if head.starts_with(b"\x89HDF\r\n\x1a\n") || later_signature(head) {
        return Some(Kind::Hdf5);
    }
    // The header of a shortcut has its length and a class in it.
    if head.starts_with(b"L\0\0\0\x01\x14\x02\0\0\0\0\0\xc0\0\0\0\0\0\0F") {
        return Some(Kind::Shortcut);
    }
    let serialized: [&[u8]; 5] = [
        b"RDA2\n",
        b"RDA3\n",
        b"RDX2\n",
        b"RDX3\n",
        // Java's magic, its version, and the object or block of data that comes first.
        b"\xac\xed\x00\x05",
    ];
    if serialized.iter().any(|magic| head.starts_with(magic)) {
        return Some(Kind::Serialized);
    }
    let native: [&[u8]; 6] = [
        b"\x7fELF",
        b"\xfe\xed\xfa\xce",
        b"\xfe\xed\xfa\xcf",
        b"\xce\xfa\xed\xfe",
        b"\xcf\xfa\xed\xfe",
        b"\xca\xfe\xba\xbe",
    ];
    let dos = head.starts_with(b"MZ") && head.get(..0x40).is_some_and(|h| h.contains(&0));
    if dos || native.iter().any(|magic| head.starts_with(magic)) {
        return Some(Kind::Native);
    }
    None
}

/// HDF5 allows a block of the user's before its own signature, of 512 bytes and powers of two.
fn later_signature(head: &[u8]) -> bool {
    let mut at = 512;
    while let Some(rest) = head.get(at..) {
        if rest.starts_with(b"\x89HDF\r\n\x1a\n") {
            return true;
        }
        at *= 2;
    }
    false
}

fn by_name(name: &str, head: &[u8]) -> Kind {
    let base = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let extension = base
        .rsplit_once('.')
        .map(|(_, extension)| extension.to_ascii_lowercase())
        .unwrap_or_default();
    match extension.as_str() {
        "jinja" | "jinja2" | "j2" => Kind::Template,
        "py" | "pyw" => Kind::Python,
        "pyc" | "pyo" if head.get(2..4) == Some(b"\r\n") => Kind::Bytecode,
        "sh" | "bash" | "zsh" | "bat" | "cmd" | "ps1" | "vbs" | "vbe" | "wsf" | "hta" => {
            Kind::Script
        }
        "desktop" | "lnk" => Kind::Shortcut,
        "rds" | "rda" | "rdata" => Kind::Serialized,
        "pth" if !head.is_empty() && !head.contains(&0) => Kind::Paths,
        "pb" => Kind::Graph,
        "yaml" | "yml" => Kind::Yaml,
        "json" => Kind::Json,
        "txt" if base.starts_with("requirements") => Kind::Requirements,
        "" if base == "MLmodel" => Kind::Yaml,
        _ if head.starts_with(b"#!/") || head.starts_with(b"#! /") => Kind::Script,
        _ => match text_start(head) {
            Some(b'{' | b'[') if looks_like_json(head) => Kind::Json,
            _ => Kind::Other,
        },
    }
}

/// The first byte of what may be text.
fn text_start(head: &[u8]) -> Option<u8> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    head.trim_ascii_start().first().copied()
}

/// Whether bytes go on as JSON does: `{` and a string or `}`, `[` and a value.
fn looks_like_json(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let mut bytes = head.iter().filter(|b| !b.is_ascii_whitespace());
    matches!(
        (bytes.next(), bytes.next()),
        (Some(b'{'), Some(b'"')) | (Some(b'['), Some(b'{' | b'"' | b'['))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_before_the_name() {
        assert_eq!(
            kind("config.json", b"\x1f\x8b\x08\0"),
            Kind::Packed(Wrapping::Gzip)
        );
        assert_eq!(kind("model", b" {\n \"a\": 1}"), Kind::Json);
        assert_eq!(kind("notes.txt", b"{% set x = 1 %}"), Kind::Other);
        assert_eq!(kind("run.sh", b"curl x | sh"), Kind::Script);
        assert_eq!(kind("run", b"#!/usr/bin/env python"), Kind::Script);
        assert_eq!(kind("lib.rs", b"#![allow(x)]"), Kind::Other);
        assert_eq!(kind("notes.sh.txt", b"curl x | sh"), Kind::Other);
        assert_eq!(kind("libx.bin", b"\x7fELF\x02"), Kind::Native);
        assert_eq!(kind("x.VBS", b"CreateObject(1)"), Kind::Script);
        assert_eq!(kind("x.hta", b"<script>"), Kind::Script);
        assert_eq!(kind("x.desktop", b"[Desktop Entry]"), Kind::Shortcut);
        assert_eq!(kind("x.rds", b"X\n\0\0\0\x03"), Kind::Serialized);
        assert_eq!(kind("x", b"RDX3\nX\n"), Kind::Serialized);
        assert_eq!(kind("x", b"\xac\xed\0\x05sr"), Kind::Serialized);
        assert_eq!(kind("x", b"RDX3 and words"), Kind::Other);
        assert_eq!(kind("x.pth", b"import os"), Kind::Paths);
        assert_eq!(kind("x.pth", b"\x80\x02\0"), Kind::Other);
        assert_eq!(kind("a/MLmodel", b"flavors:"), Kind::Yaml);
        assert_eq!(kind("requirements-dev.txt", b"x"), Kind::Requirements);
        let mut block = vec![0; 512];
        block.extend_from_slice(b"\x89HDF\r\n\x1a\n");
        assert_eq!(kind("a", &block), Kind::Hdf5);
        let alone = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff";
        assert_eq!(kind("a", alone), Kind::Packed(Wrapping::Lzma));
    }
}
