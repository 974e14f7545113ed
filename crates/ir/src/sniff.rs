//! Files that are not what their name says: what a reader tells instead of "bad magic".

/// What a file really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookalike {
    /// What it is, with its article: `a Git LFS pointer, not the file it points to`.
    pub what: &'static str,
    /// What to do about it.
    pub help: &'static str,
    /// Whether it stands where a model should: a pointer, a web page, a half download. `false` for
    /// a file that is sound, only of another format.
    pub placeholder: bool,
    /// Whether it may hold files or pickles that are not looked at.
    pub closed: bool,
}

const DOWNLOAD: &str = "Download the file again, and look at what the server answers";
const PROBE: &str = "Give it to this program as it is: the format is told from the content";

const UNPACK: &str = "Unpack it first";

/// A file that may hold others and is not opened.
const fn closed(
    magic: &'static [u8],
    what: &'static str,
    help: &'static str,
) -> (&'static [u8], Lookalike) {
    let found = Lookalike {
        what,
        help,
        placeholder: false,
        closed: true,
    };
    (magic, found)
}

/// Beginning of the file, what that means.
const HEADS: &[(&[u8], Lookalike)] = &[
    (
        b"version https://git-lfs",
        Lookalike {
            what: "a Git LFS pointer, not the file it points to",
            help: "Fetch the file itself: git lfs pull",
            placeholder: true,
            closed: false,
        },
    ),
    (
        b"PK\x03\x04",
        Lookalike {
            what: "a zip archive, as PyTorch checkpoints are",
            help: PROBE,
            placeholder: false,
            closed: false,
        },
    ),
    (
        b"GGUF",
        Lookalike {
            what: "a GGUF file",
            help: PROBE,
            placeholder: false,
            closed: false,
        },
    ),
    closed(
        b"\x89HDF\r\n",
        "an HDF5 file",
        "HDF5 is not read; save the weights as safetensors first",
    ),
    closed(
        b"\x93NUMPY",
        "a numpy array file",
        "Save the arrays as safetensors first",
    ),
    closed(b"\x1f\x8b", "a gzip archive", UNPACK),
    closed(b"BZh", "a bzip2 archive", UNPACK),
    closed(b"\xfd7zXZ\0", "an xz archive", UNPACK),
    closed(b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    closed(b"\x04\x22\x4d\x18", "an LZ4 archive", UNPACK),
    closed(b"Rar!\x1a\x07", "a RAR archive", UNPACK),
    closed(b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", UNPACK),
];

/// Tells what a file that is not in its format probably is, from its first bytes.
pub fn sniff(head: &[u8]) -> Option<Lookalike> {
    if let Some((_, known)) = HEADS.iter().find(|(magic, _)| head.starts_with(magic)) {
        return Some(*known);
    }
    if let [0x80, protocol @ 2..=5, next, ..] = head {
        // A pickle's second opcode is never NUL; the length of a short header is 0x0280 and the like.
        if *next != 0 {
            return Some(Lookalike {
                what: match protocol {
                    2 => "a Python pickle, as old PyTorch checkpoints are",
                    _ => "a Python pickle",
                },
                help: PROBE,
                placeholder: false,
                closed: false,
            });
        }
    }
    let text = head.trim_ascii_start();
    let begins = |with: &[u8]| {
        text.get(..with.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(with))
    };
    if begins(b"<!doctype html") || begins(b"<html") || begins(b"<?xml") {
        return Some(Lookalike {
            what: "a web page, not the file itself",
            help: DOWNLOAD,
            placeholder: true,
            closed: false,
        });
    }
    if begins(b"{\"error") || begins(b"Entry not found") || begins(b"Invalid credentials") {
        return Some(Lookalike {
            what: "the error message of a server, not the file itself",
            help: DOWNLOAD,
            placeholder: true,
            closed: false,
        });
    }
    if head.len() >= 16 && head.iter().all(|byte| *byte == 0) {
        return Some(Lookalike {
            what: "a file that begins with zeros",
            help: "A download that did not finish looks so: download the file again",
            placeholder: true,
            closed: false,
        });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_sees() {
        let what = |head: &[u8]| sniff(head).map_or("", |found| found.what);
        assert!(what(b"version https://git-lfs.github.com/spec/v1\n").contains("LFS"));
        assert!(what(b"\n <!DOCTYPE HTML><html>").contains("web page"));
        assert!(what(b"\x80\x02}q\x00").contains("pickle"));
        assert!(what(b"\x80\x02\0\0\0\0\0\0{").is_empty());
        assert!(what(&[0; 64]).contains("zeros"));
        assert!(what(b"").is_empty());
    }
}
