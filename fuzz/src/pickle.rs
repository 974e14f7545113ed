//! Pickles: opcodes with arguments that are mostly right.

use arbitrary::Arbitrary;

/// A pickle to be, bare or in the entry `data.pkl` of a checkpoint.
#[derive(Arbitrary, Debug)]
pub struct Pickle {
    protocol: Option<u8>,
    ops: Vec<Op>,
    stop: bool,
    tail: Vec<u8>,
    wrap: Wrap,
}

#[derive(Arbitrary, Debug)]
enum Wrap {
    Bare,
    Zip,
    Legacy,
}

#[derive(Arbitrary, Debug)]
enum Op {
    /// Any opcode without an argument.
    Plain(u8),
    Int(i32),
    Byte(u8),
    Short(u16),
    Float(f64),
    IntText(i64),
    LongText(String),
    FloatText(String),
    Long1(Vec<u8>),
    Long4(i32, Vec<u8>),
    Text(String),
    Word(u8),
    ShortText(String),
    Unicode8(Option<u64>, String),
    RawUnicode(String),
    Quoted(String),
    Bytes(Vec<u8>),
    Bytes4(Option<u32>, Vec<u8>),
    Bytes8(Option<u64>, Vec<u8>),
    ByteArray(Option<u64>, Vec<u8>),
    Global(u8),
    GlobalText(String, String),
    Inst(u8),
    StackGlobal(u8),
    Put(u8),
    LongPut(u32),
    PutText(i64),
    Memoize,
    Get(u8),
    LongGet(u32),
    GetText(i64),
    Frame(u64),
    Extension(u8, u32),
    Persistent(String),
    /// `torch._utils._rebuild_tensor_v2` over a storage, as torch writes it.
    Tensor(Tensor),
    /// The same a number of times, to reach depth or size.
    Repeat(u16, u8),
}

#[derive(Arbitrary, Debug)]
struct Tensor {
    class: u8,
    key: u8,
    elements: Count,
    offset: Count,
    shape: Vec<Count>,
    strides: Vec<Count>,
    finish: bool,
}

#[derive(Arbitrary, Debug)]
enum Count {
    Small(u8),
    Int(i32),
    Long(i64),
}

const PLAIN: &[u8] =
    b"(.012NR]eolasbdtu)}Qe\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98";

const WORDS: &[&str] = &[
    "state_dict",
    "model",
    "weight",
    "storage",
    "cpu",
    "_metadata",
    "0",
    "1",
    "shape",
    "dtype",
    "torch",
    "os",
    "system",
    "a.b",
    "__class__",
    "_extra_state",
    "",
    "data",
    "x",
];

const GLOBALS: &[(&str, &str)] = &[
    ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_qtensor"),
    ("torch._utils", "_rebuild_sparse_tensor"),
    ("torch._utils", "_rebuild_meta_tensor_no_storage"),
    ("torch._tensor", "_rebuild_from_type_v2"),
    ("torch", "FloatStorage"),
    ("torch", "HalfStorage"),
    ("torch", "QInt8Storage"),
    ("torch", "per_tensor_affine"),
    ("torch", "sparse_coo"),
    ("torch", "float32"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.storage", "UntypedStorage"),
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("argparse", "Namespace"),
    ("_codecs", "encode"),
    ("__builtin__", "set"),
    ("builtins", "bytearray"),
    ("builtins", "getattr"),
    ("copy_reg", "_reconstructor"),
    ("copyreg", "add_extension"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("os", "system"),
    ("pickle", "loads"),
    ("functools", "partial"),
    ("jax._src.array", "_reconstruct_array"),
];

impl Count {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Small(n) => to.extend([b'K', n % 9]),
            Self::Int(n) => {
                to.push(b'J');
                to.extend(n.to_le_bytes());
            }
            Self::Long(n) => {
                to.extend([0x8a, 8]);
                to.extend(n.to_le_bytes());
            }
        }
    }
}

fn global(n: u8) -> (&'static str, &'static str) {
    GLOBALS[usize::from(n) % GLOBALS.len()]
}

fn text(words: &str, to: &mut Vec<u8>) {
    to.push(b'X');
    to.extend((words.len() as u32).to_le_bytes());
    to.extend(words.as_bytes());
}

fn line(words: &str, to: &mut Vec<u8>) {
    to.extend(words.bytes().filter(|byte| *byte != b'\n'));
    to.push(b'\n');
}

impl Tensor {
    fn write(&self, to: &mut Vec<u8>) {
        const CLASSES: &[&str] = &[
            "FloatStorage",
            "HalfStorage",
            "BFloat16Storage",
            "ByteStorage",
            "BoolStorage",
            "QInt8Storage",
            "ComplexFloatStorage",
            "DoubleStorage",
        ];
        to.push(b'c');
        line("torch._utils", to);
        line("_rebuild_tensor_v2", to);
        to.extend(b"((");
        text("storage", to);
        to.push(b'c');
        line("torch", to);
        line(CLASSES[usize::from(self.class) % CLASSES.len()], to);
        text(&(self.key % 3).to_string(), to);
        text("cpu", to);
        self.elements.write(to);
        to.extend(b"tQ");
        self.offset.write(to);
        for list in [&self.shape, &self.strides] {
            to.push(b'(');
            for count in list {
                count.write(to);
            }
            to.push(b't');
        }
        to.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        if !self.finish {
            to.pop();
        }
    }
}

impl Op {
    fn write(&self, to: &mut Vec<u8>) {
        let sized = |to: &mut Vec<u8>, code: u8, len: Option<u64>, bytes: &[u8]| {
            to.push(code);
            to.extend(len.unwrap_or(bytes.len() as u64).to_le_bytes());
            to.extend(bytes);
        };
        match self {
            Self::Plain(n) => to.push(PLAIN[usize::from(*n) % PLAIN.len()]),
            Self::Int(n) => {
                to.push(b'J');
                to.extend(n.to_le_bytes());
            }
            Self::Byte(n) => to.extend([b'K', *n]),
            Self::Short(n) => {
                to.push(b'M');
                to.extend(n.to_le_bytes());
            }
            Self::Float(x) => {
                to.push(b'G');
                to.extend(x.to_be_bytes());
            }
            Self::IntText(n) => line(&format!("I{n}"), to),
            Self::LongText(words) => line(&format!("L{words}L"), to),
            Self::FloatText(words) => line(&format!("F{words}"), to),
            Self::Long1(bytes) => {
                let bytes = &bytes[..bytes.len().min(255)];
                to.extend([0x8a, bytes.len() as u8]);
                to.extend(bytes);
            }
            Self::Long4(len, bytes) => {
                let len = if *len < 0 { *len } else { bytes.len() as i32 };
                to.push(0x8b);
                to.extend(len.to_le_bytes());
                to.extend(bytes);
            }
            Self::Text(words) => text(words, to),
            Self::Word(n) => text(WORDS[usize::from(*n) % WORDS.len()], to),
            Self::ShortText(words) => {
                let bytes = &words.as_bytes()[..words.len().min(255)];
                to.extend([0x8c, bytes.len() as u8]);
                to.extend(bytes);
            }
            Self::Unicode8(len, words) => sized(to, 0x8d, *len, words.as_bytes()),
            Self::RawUnicode(words) => line(&format!("V{words}"), to),
            Self::Quoted(words) => line(&format!("S'{words}'"), to),
            Self::Bytes(bytes) => {
                let bytes = &bytes[..bytes.len().min(255)];
                to.extend([b'C', bytes.len() as u8]);
                to.extend(bytes);
            }
            Self::Bytes4(len, bytes) => {
                to.push(b'B');
                to.extend(len.unwrap_or(bytes.len() as u32).to_le_bytes());
                to.extend(bytes);
            }
            Self::Bytes8(len, bytes) => sized(to, 0x8e, *len, bytes),
            Self::ByteArray(len, bytes) => sized(to, 0x96, *len, bytes),
            Self::Global(n) => {
                let (module, name) = global(*n);
                line(&format!("c{module}"), to);
                line(name, to);
            }
            Self::GlobalText(module, name) => {
                line(&format!("c{module}"), to);
                line(name, to);
            }
            Self::Inst(n) => {
                let (module, name) = global(*n);
                line(&format!("i{module}"), to);
                line(name, to);
            }
            Self::StackGlobal(n) => {
                let (module, name) = global(*n);
                text(module, to);
                text(name, to);
                to.push(0x93);
            }
            Self::Put(n) => to.extend([b'q', *n]),
            Self::LongPut(n) => {
                to.push(b'r');
                to.extend(n.to_le_bytes());
            }
            Self::PutText(n) => line(&format!("p{n}"), to),
            Self::Memoize => to.push(0x94),
            Self::Get(n) => to.extend([b'h', *n]),
            Self::LongGet(n) => {
                to.push(b'j');
                to.extend(n.to_le_bytes());
            }
            Self::GetText(n) => line(&format!("g{n}"), to),
            Self::Frame(len) => sized(to, 0x95, Some(*len), &[]),
            Self::Extension(kind, n) => {
                let width = usize::from([1u8, 2, 4][usize::from(*kind) % 3]);
                to.push(0x82 + kind % 3);
                to.extend(&n.to_le_bytes()[..width]);
            }
            Self::Persistent(id) => line(&format!("P{id}"), to),
            Self::Tensor(tensor) => tensor.write(to),
            Self::Repeat(times, n) => {
                let code = PLAIN[usize::from(*n) % PLAIN.len()];
                to.extend(std::iter::repeat_n(code, usize::from(*times)));
            }
        }
    }
}

impl Pickle {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(protocol) = self.protocol {
            out.extend([0x80, protocol % 7]);
        }
        for op in &self.ops {
            op.write(&mut out);
        }
        if self.stop {
            out.push(b'.');
        }
        out.extend(&self.tail);
        match self.wrap {
            Wrap::Bare => out,
            Wrap::Zip => zip(&[
                ("m/data.pkl", &out),
                ("m/version", b"3\n"),
                ("m/data/0", &[7; 64]),
            ]),
            Wrap::Legacy => legacy(out),
        }
    }
}

/// The three pickles before a legacy checkpoint's own.
fn legacy(pickle: Vec<u8>) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    out.extend(b"\x80\x02}q\x00(X\x10\x00\x00\x00protocol_versionM\xe9\x03X\r\x00\x00\x00little_endian\x88u.");
    out.extend(pickle);
    out
}

/// An archive of stored entries.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let at = out.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        common.extend(crc(bytes).to_le_bytes());
        for _ in 0..2 {
            common.extend((bytes.len() as u32).to_le_bytes());
        }
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(at.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, len) = (out.len() as u32, directory.len() as u32);
    out.extend(directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    for _ in 0..2 {
        out.extend((entries.len() as u16).to_le_bytes());
    }
    out.extend(len.to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
