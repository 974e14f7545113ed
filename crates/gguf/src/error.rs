//! What can be wrong with a GGUF file.

use ir::{BlockFormat, Class, DType, Diagnose, Shape};

const CUT_SHORT: &str = "The download may be cut short: compare its size with the original's";
const DAMAGED: &str = "The file is damaged or was written by hand: get it again, or write it again \
                       with llama.cpp's tools";
const SHARDS: &str = "All files of a set belong in one folder, under the names they were made with: \
                      NAME-00001-of-00003.gguf and so on";

/// An error of this crate. Offsets count from the start of the file unless they say otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file is something else.
    #[error("this is {what}, not GGUF")]
    SomethingElse {
        /// What it is.
        what: &'static str,
        /// What to do with it.
        help: &'static str,
    },
    /// The first bytes are not the magic.
    #[error("it begins with \"{}\", not with \"GGUF\"", found.escape_ascii())]
    BadMagic {
        /// What is there.
        found: [u8; 4],
    },
    /// A version nobody wrote.
    #[error("the version is {found}, expected 1 to 3")]
    BadVersion {
        /// What is there.
        found: u32,
    },
    /// A version newer than this program.
    #[error("the version is {found}, the newest known is 3")]
    NewVersion {
        /// What is there.
        found: u32,
    },
    /// A file of version 1 with nothing in it.
    #[error("it says version 1 and, read so, holds no tensors and no keys")]
    EmptyVersion1,
    /// The file ends inside the header.
    #[error("{what} at byte {offset} takes {wanted} bytes, the file ends at byte {len}")]
    HeaderCut {
        /// What was read.
        what: &'static str,
        /// Where it begins.
        offset: u64,
        /// How many bytes it takes.
        wanted: u64,
        /// Length of the file.
        len: u64,
    },
    /// A length or count that the rest of the file cannot hold.
    #[error("{what} is {found}, the {room} bytes that follow hold at most {most}")]
    BadCount {
        /// What is counted.
        what: &'static str,
        /// Where the count stands.
        offset: u64,
        /// The count.
        found: u64,
        /// Bytes left in the file.
        room: u64,
        /// The most they could hold.
        most: u64,
    },
    /// A key without a letter.
    #[error("the key is empty")]
    EmptyKey {
        /// Where it stands.
        offset: u64,
    },
    /// A key or name that is not text.
    #[error("{what} is not UTF-8: \"{}\"", found.escape_ascii())]
    NotText {
        /// What should be text.
        what: &'static str,
        /// Where it stands.
        offset: u64,
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// A key or name with a NUL in it, where ggml's functions end it.
    #[error("{what} holds a NUL byte, where ggml cuts it: \"{}\"", found.escape_ascii())]
    Nul {
        /// What holds it.
        what: &'static str,
        /// Where the NUL stands.
        offset: u64,
        /// The first bytes of the key or name.
        found: Vec<u8>,
    },
    /// A key that is there twice.
    #[error("the key is there twice, again at byte {offset}")]
    DuplicateKey {
        /// The key.
        key: String,
        /// Where it stands the second time.
        offset: u64,
    },
    /// A value type that does not exist.
    #[error("its value type is {found}, expected 0 to 12")]
    BadValueType {
        /// The key.
        key: String,
        /// Where the type stands.
        offset: u64,
        /// The type.
        found: u32,
    },
    /// A value that should be of another type.
    #[error("it is {found}, expected {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// What is there.
        found: String,
        /// What should be.
        expected: &'static str,
    },
    /// A name that is too long for ggml.
    #[error("the name has {found} bytes, at most {limit} are allowed")]
    LongName {
        /// The name.
        name: String,
        /// Where it stands.
        offset: u64,
        /// Its length.
        found: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that is there twice.
    #[error("the name is used twice, again at byte {offset}")]
    DuplicateName {
        /// The name.
        name: String,
        /// Where it stands the second time.
        offset: u64,
    },
    /// Too many dimensions.
    #[error("it has {found} dimensions at byte {offset}, at most 4 are allowed")]
    BadRank {
        /// The tensor.
        name: String,
        /// Where the number stands.
        offset: u64,
        /// The number.
        found: u32,
    },
    /// Dimensions whose product is too large.
    #[error("its dimensions at byte {offset} are {shape}: their product does not fit 63 bits")]
    BadShape {
        /// The tensor.
        name: String,
        /// Where they stand.
        offset: u64,
        /// The shape, outermost first.
        shape: Shape,
    },
    /// A type that ggml no longer has.
    #[error("its type at byte {offset} is {found}, {was}, which ggml has removed")]
    RemovedType {
        /// The tensor.
        name: String,
        /// Where the type stands.
        offset: u64,
        /// Its id.
        found: u32,
        /// What it was called.
        was: &'static str,
    },
    /// A type that is not known.
    #[error("its type at byte {offset} is {found}, which is not known")]
    UnknownType {
        /// The tensor.
        name: String,
        /// Where the type stands.
        offset: u64,
        /// Its id.
        found: u32,
    },
    /// Type and shape that give no size.
    #[error(
        "type {dtype} and shape {shape} have no size: a row must hold whole blocks and the bytes must fit 64 bits"
    )]
    NoSize {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its shape.
        shape: Shape,
    },
    /// Data that does not stand where it should.
    #[error("its data begins at {found} of the data section, expected {expected}: {why}")]
    BadOffset {
        /// The tensor.
        name: String,
        /// Where the offset stands.
        offset: u64,
        /// The offset, counted from the data section.
        found: u64,
        /// Where it should be.
        expected: u64,
        /// What that makes of it.
        why: &'static str,
    },
    /// Data that would reach beyond what 64 bits count.
    #[error("with it the data takes more bytes than 64 bits count")]
    TooMuchData {
        /// The tensor.
        name: String,
    },
    /// The data section would begin after the file's end.
    #[error("the data section begins at byte {start}, the file ends at byte {len}")]
    NoData {
        /// Where it begins.
        start: u64,
        /// Length of the file.
        len: u64,
    },
    /// Data that is not all there.
    #[error("it ends at byte {end}, the file ends at byte {len}")]
    DataCut {
        /// The tensor.
        name: String,
        /// One past its last byte.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// The file ends inside the padding after its last tensor.
    #[error("the padding ends at byte {end}, the file ends at byte {len}, inside it")]
    PaddingCut {
        /// Where the padding ends.
        end: u64,
        /// Length of the file.
        len: u64,
    },
    /// Blocks of a big-endian file whose layout is nowhere laid down.
    #[error("it is {block} in a big-endian file: the byte order inside such blocks is not defined")]
    BigEndianBlocks {
        /// The tensor.
        name: String,
        /// The format.
        block: BlockFormat,
    },
    /// A shard under a name from which the others' names do not follow.
    #[error("it is shard {no} of a set of {count}, counted from 0, but its name does not say so")]
    ShardName {
        /// Which shard, by its keys.
        no: u64,
        /// Of how many.
        count: u64,
    },
    /// A shard that is not there.
    #[error("it is not there, and {beside:?} is a shard of the same set")]
    MissingShard {
        /// The file that was opened.
        beside: String,
    },
    /// A shard that is not the one it should be.
    #[error("{key} is {found}, expected {expected}")]
    ShardKey {
        /// The key.
        key: &'static str,
        /// What is there.
        found: String,
        /// What should be.
        expected: u64,
    },
    /// A tensor cannot be written.
    #[error("{why}")]
    CannotWrite {
        /// The tensor.
        name: String,
        /// Why not.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// A key cannot be written.
    #[error("{why}")]
    CannotWriteKey {
        /// The key.
        key: String,
        /// Why not.
        why: String,
        /// What to do.
        help: &'static str,
    },
    /// A set of shards that cannot be made.
    #[error("{why}")]
    CannotSplit {
        /// Why not.
        why: String,
    },
    /// A header that does not fit where the old one stands.
    #[error("{why}")]
    NotInPlace {
        /// Why not, with the bytes.
        why: String,
    },
    /// What was written is not what was planned: a bug here.
    #[error("{found} bytes were written, {planned} were planned")]
    OffPlan {
        /// Bytes planned.
        planned: u64,
        /// Bytes there.
        found: u64,
    },
}

impl Diagnose for GgufError {
    fn class(&self) -> Class {
        match self {
            Self::SomethingElse { .. }
            | Self::NewVersion { .. }
            | Self::RemovedType { .. }
            | Self::UnknownType { .. }
            | Self::BigEndianBlocks { .. }
            | Self::CannotWrite { .. }
            | Self::NotInPlace { .. } => Class::Unsupported,
            Self::CannotSplit { .. } | Self::CannotWriteKey { .. } => Class::Usage,
            _ => Class::Malformed,
        }
    }

    fn place(&self) -> Option<String> {
        match self {
            Self::BadMagic { .. } => Some("byte 0".to_owned()),
            Self::BadVersion { .. } | Self::NewVersion { .. } | Self::EmptyVersion1 => {
                Some("byte 4".to_owned())
            }
            Self::EmptyKey { offset }
            | Self::NotText { offset, .. }
            | Self::Nul { offset, .. }
            | Self::BadCount { offset, .. } => Some(format!("byte {offset}")),
            Self::BadValueType { key, offset, .. } => Some(format!("key {key:?} at byte {offset}")),
            Self::DuplicateKey { key, .. }
            | Self::BadValue { key, .. }
            | Self::CannotWriteKey { key, .. } => Some(format!("key {key:?}")),
            Self::LongName { name, offset, .. } => {
                Some(format!("tensor {name:?} at byte {offset}"))
            }
            Self::DuplicateName { name, .. }
            | Self::BadRank { name, .. }
            | Self::BadShape { name, .. }
            | Self::RemovedType { name, .. }
            | Self::UnknownType { name, .. }
            | Self::NoSize { name, .. }
            | Self::BadOffset { name, .. }
            | Self::TooMuchData { name }
            | Self::DataCut { name, .. }
            | Self::BigEndianBlocks { name, .. }
            | Self::CannotWrite { name, .. } => Some(format!("tensor {name:?}")),
            _ => None,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::SomethingElse { help, .. }
            | Self::CannotWrite { help, .. }
            | Self::CannotWriteKey { help, .. } => help,
            Self::HeaderCut { .. }
            | Self::NoData { .. }
            | Self::DataCut { .. }
            | Self::PaddingCut { .. } => CUT_SHORT,
            Self::BadMagic { .. } => {
                "It is another kind of file, or its beginning is damaged; the format is told from \
                 the content, so its name does not matter"
            }
            Self::NewVersion { .. } | Self::UnknownType { .. } => {
                "A newer weightbridge may know it"
            }
            Self::RemovedType { .. } => {
                "No current program reads it: get the model in another type, or make it again from \
                 its original weights"
            }
            Self::Nul { .. } => {
                "Two readers would see two names: get the file from another source, or write it \
                 again with a name that holds no NUL"
            }
            Self::LongName { .. } => {
                "llama.cpp does not load it either: its names must be below 64 bytes"
            }
            Self::BigEndianBlocks { .. } => {
                "Write it little-endian on the machine it comes from, or get the unquantized model"
            }
            Self::ShardName { .. } | Self::MissingShard { .. } | Self::ShardKey { .. } => SHARDS,
            Self::CannotSplit { .. } => "Choose a larger --shard-size or --shard-tensors",
            Self::NotInPlace { .. } => {
                "Write a new file: give an OUTPUT instead of --in-place. The file is as it was"
            }
            Self::OffPlan { .. } => "This is a bug of weightbridge: please report it",
            _ => DAMAGED,
        };
        Some(text.to_owned())
    }
}
