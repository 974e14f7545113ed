//! GGUF files: fields that are mostly right, some of them lies.

use arbitrary::Arbitrary;

/// A file to be.
#[derive(Arbitrary, Debug)]
pub struct File {
    version: Version,
    big_endian: bool,
    /// Added to the true counts of tensors and pairs.
    lies: (Lie, Lie),
    pairs: Vec<(Key, Value)>,
    tensors: Vec<TensorInfo>,
    /// Bytes of padding left out, and bytes of data.
    short: u8,
    data: u16,
}

#[derive(Arbitrary, Debug)]
enum Version {
    Three,
    Two,
    One,
    Other(u32),
}

/// How a count or a length differs from the truth.
#[derive(Arbitrary, Debug)]
enum Lie {
    None,
    Honest,
    True,
    Add(i8),
    Instead(u64),
    High(u8),
}

#[derive(Arbitrary, Debug)]
enum Key {
    Alignment,
    SplitNo,
    SplitCount,
    SplitTensors,
    Architecture,
    TokenizerModel,
    Tokens,
    Scores,
    TokenTypes,
    Merges,
    Pre,
    Quantization,
    Note(u8),
    Any(String),
    Long(u16),
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Value {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    I32(i32),
    F32(f32),
    F64(f64),
    Bool(u8),
    Text(String),
    Word(Word),
    Texts(Vec<String>),
    Array(Lie, Vec<Value>),
    Ints(Lie, Vec<i32>),
    Floats(Lie, Vec<f32>),
    OfType(u8, Vec<u8>),
    NestedDeep(u16),
}

#[derive(Arbitrary, Debug)]
enum Word {
    Gpt2,
    Llama,
    Bert,
    T5,
    Qwen2,
}

#[derive(Arbitrary, Debug)]
struct TensorInfo {
    name: Name,
    rank: Lie,
    dims: [Dim; 4],
    used: u8,
    kind: u8,
    offset: Offset,
}

#[derive(Arbitrary, Debug)]
enum Name {
    Numbered,
    Any(String),
    Long(u8),
    Bytes(Vec<u8>),
}

#[derive(Arbitrary, Debug)]
enum Dim {
    Small(u8),
    Block,
    Any(u64),
    Zero,
    Power(u8),
}

#[derive(Arbitrary, Debug)]
enum Offset {
    Next,
    Same,
    Any(u64),
    Add(u16),
}

struct Writer {
    out: Vec<u8>,
    big: bool,
    narrow: bool,
}

impl Writer {
    fn number<const N: usize>(&mut self, mut little: [u8; N]) {
        if self.big {
            little.reverse();
        }
        self.out.extend_from_slice(&little);
    }

    fn u32(&mut self, value: u32) {
        self.number(value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.number(value.to_le_bytes());
    }

    fn len(&mut self, value: u64) {
        if self.narrow {
            self.u32(value as u32);
        } else {
            self.u64(value);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.len(bytes.len() as u64);
        self.out.extend_from_slice(bytes);
    }
}

impl Lie {
    fn of(&self, truth: u64) -> u64 {
        match self {
            Self::None | Self::Honest | Self::True => truth,
            Self::Add(more) => truth.wrapping_add_signed(i64::from(*more)),
            Self::Instead(other) => *other,
            Self::High(shift) => truth | 1 << (shift % 64),
        }
    }
}

impl Key {
    fn bytes(&self) -> Vec<u8> {
        let text = match self {
            Self::Alignment => "general.alignment",
            Self::SplitNo => "split.no",
            Self::SplitCount => "split.count",
            Self::SplitTensors => "split.tensors.count",
            Self::Architecture => "general.architecture",
            Self::TokenizerModel => "tokenizer.ggml.model",
            Self::Tokens => "tokenizer.ggml.tokens",
            Self::Scores => "tokenizer.ggml.scores",
            Self::TokenTypes => "tokenizer.ggml.token_type",
            Self::Merges => "tokenizer.ggml.merges",
            Self::Pre => "tokenizer.ggml.pre",
            Self::Quantization => "general.quantization_version",
            Self::Note(n) => return format!("weightbridge.{n}").into_bytes(),
            Self::Any(text) => text,
            Self::Long(len) => return vec![b'k'; usize::from(*len)],
            Self::Bytes(bytes) => return bytes.clone(),
        };
        text.as_bytes().to_vec()
    }
}

impl Word {
    fn text(&self) -> &'static str {
        match self {
            Self::Gpt2 => "gpt2",
            Self::Llama => "llama",
            Self::Bert => "bert",
            Self::T5 => "t5",
            Self::Qwen2 => "qwen2",
        }
    }
}

impl Value {
    fn kind(&self) -> u32 {
        match self {
            Self::U8(_) => 0,
            Self::U16(_) => 2,
            Self::U32(_) => 4,
            Self::I32(_) => 5,
            Self::F32(_) => 6,
            Self::Bool(_) => 7,
            Self::Text(_) | Self::Word(_) => 8,
            Self::Texts(_)
            | Self::Array(..)
            | Self::Ints(..)
            | Self::Floats(..)
            | Self::NestedDeep(_) => 9,
            Self::U64(_) => 10,
            Self::F64(_) => 12,
            Self::OfType(kind, _) => u32::from(*kind),
        }
    }

    fn write(&self, to: &mut Writer) {
        match self {
            Self::U8(v) | Self::Bool(v) => to.out.push(*v),
            Self::U16(v) => to.number(v.to_le_bytes()),
            Self::U32(v) => to.u32(*v),
            Self::U64(v) => to.u64(*v),
            Self::I32(v) => to.number(v.to_le_bytes()),
            Self::F32(v) => to.number(v.to_le_bytes()),
            Self::F64(v) => to.number(v.to_le_bytes()),
            Self::Text(text) => to.bytes(text.as_bytes()),
            Self::Word(word) => to.bytes(word.text().as_bytes()),
            Self::Texts(list) => {
                to.u32(8);
                to.len(list.len() as u64);
                for text in list {
                    to.bytes(text.as_bytes());
                }
            }
            Self::Array(lie, list) => {
                to.u32(list.first().map_or(0, Self::kind));
                to.len(lie.of(list.len() as u64));
                for value in list {
                    value.write(to);
                }
            }
            Self::Ints(lie, list) => {
                to.u32(5);
                to.len(lie.of(list.len() as u64));
                for v in list {
                    to.number(v.to_le_bytes());
                }
            }
            Self::Floats(lie, list) => {
                to.u32(6);
                to.len(lie.of(list.len() as u64));
                for v in list {
                    to.number(v.to_le_bytes());
                }
            }
            Self::OfType(_, raw) => to.out.extend_from_slice(raw),
            Self::NestedDeep(depth) => {
                for _ in 0..*depth {
                    to.u32(9);
                    to.len(1);
                }
                to.u32(0);
                to.len(0);
            }
        }
    }
}

impl Dim {
    fn value(&self) -> u64 {
        match self {
            Self::Small(n) => u64::from(*n) + 1,
            Self::Block => 256,
            Self::Any(n) => *n,
            Self::Zero => 0,
            Self::Power(n) => 1 << (n % 64),
        }
    }
}

impl File {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let (version, narrow) = match self.version {
            Version::Three => (3, false),
            Version::Two => (2, false),
            Version::One => (1, true),
            Version::Other(other) => (other, false),
        };
        let mut to = Writer {
            out: b"GGUF".to_vec(),
            big: self.big_endian,
            narrow,
        };
        to.u32(version);
        to.len(self.lies.0.of(self.tensors.len() as u64));
        to.len(self.lies.1.of(self.pairs.len() as u64));
        for (key, value) in &self.pairs {
            to.bytes(&key.bytes());
            to.u32(value.kind());
            value.write(&mut to);
        }
        let mut next = 0u64;
        for (n, tensor) in self.tensors.iter().enumerate() {
            let name = match &tensor.name {
                Name::Numbered => format!("blk.{n}.weight").into_bytes(),
                Name::Any(text) => text.as_bytes().to_vec(),
                Name::Long(len) => vec![b'n'; usize::from(*len)],
                Name::Bytes(bytes) => bytes.clone(),
            };
            to.bytes(&name);
            let used = usize::from(tensor.used % 5);
            to.u32(tensor.rank.of(used as u64) as u32);
            for dim in tensor.dims.iter().take(used) {
                to.len(dim.value());
            }
            to.u32(u32::from(tensor.kind % 48));
            let offset = match tensor.offset {
                Offset::Next => next,
                Offset::Same => 0,
                Offset::Any(other) => other,
                Offset::Add(more) => next.wrapping_add(u64::from(more)),
            };
            to.u64(offset);
            // Right for four-byte numbers only: other types make overlaps and holes.
            let elements = tensor.dims.iter().take(used).map(Dim::value);
            let bytes = elements.fold(4u64, u64::wrapping_mul);
            next = next.wrapping_add(bytes.wrapping_add(31) & !31);
        }
        let padded = to.out.len().next_multiple_of(32);
        to.out.resize(padded, 0);
        let len = to.out.len() - usize::from(self.short % 4) + usize::from(self.data);
        to.out.resize(len, 0x3c);
        to.out
    }
}
