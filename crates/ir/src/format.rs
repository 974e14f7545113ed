//! The traits a format implements, and the value that describes it.

use crate::{Context, DType, Input, Model, Output, Region, Report, Result, Survey, TensorSpec};

/// Reads one format.
pub trait Reader: Send + Sync {
    /// Opens an input: headers only.
    fn open(&self, input: &Input, cx: &Context) -> Result<Model>;

    /// Looks at an input without trusting it, for `scan`. Never fails.
    fn survey(&self, input: &Input, cx: &Context) -> Survey {
        Survey::of("", self.open(input, cx))
    }
}

/// Writes one format.
pub trait Writer: Send + Sync {
    /// What the format can hold.
    fn capabilities(&self) -> &Capabilities;

    /// Writes a model that fits the capabilities. Nothing is converted here: what does not fit is
    /// an error, the planner has seen to it before.
    fn write(&self, model: &Model, out: &mut Output, cx: &Context) -> Result<Report>;
}

/// How a format keeps two names for one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aliasing {
    /// It stores shared bytes once by itself.
    Native,
    /// It stores each tensor; a second name is a note in its metadata.
    Note,
}

/// Where numbers of less than a byte may end, in a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Within a byte, the rest of which is filled up.
    Anywhere,
    /// The tensor's last number ends a byte.
    Bytes,
    /// So does the last of each row.
    Rows,
}

impl Packing {
    /// Whether a tensor ends where it may.
    pub fn allows(self, spec: &TensorSpec) -> bool {
        let count = match self {
            Self::Anywhere => return true,
            Self::Bytes => spec.elements(),
            Self::Rows => spec.shape.last().copied().or(Some(1)),
        };
        spec.dtype.fills_bytes(count.unwrap_or(0))
    }
}

/// What metadata a format keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataKinds {
    /// None.
    None,
    /// Strings.
    Strings,
    /// Typed values.
    Typed,
}

/// What a format can hold.
#[derive(Clone, Debug)]
pub struct Capabilities {
    /// Whether it has an element type.
    pub dtype: fn(DType) -> bool,
    /// Most dimensions of a tensor.
    pub max_rank: Option<usize>,
    /// Most bytes of a name.
    pub max_name_bytes: Option<usize>,
    /// Whether it holds operators.
    pub graph: bool,
    /// Whether it holds Python objects.
    pub objects: bool,
    /// How it keeps ties.
    pub aliasing: Aliasing,
    /// What metadata it keeps.
    pub metadata: MetadataKinds,
    /// Whether a model may be spread over several files.
    pub shards: bool,
    /// Where packed numbers may end.
    pub packing: Packing,
    /// Whether tensors stay in the order in which they are given.
    pub ordered: bool,
}

/// What a probe may look at.
#[derive(Clone, Debug)]
pub struct Peek {
    /// The file's name.
    pub name: String,
    /// Its first bytes, at most 64 KiB.
    pub head: Vec<u8>,
    /// Its last bytes, at most 64 KiB.
    pub tail: Vec<u8>,
    /// Its length.
    pub len: u64,
    /// The names in a folder, when the input is one.
    pub entries: Vec<String>,
    /// The file itself, for probes that must look further.
    pub region: Option<Region>,
}

impl Peek {
    /// The extension of the name, in lower case.
    pub fn extension(&self) -> String {
        let name = self.name.rsplit('/').next().unwrap_or_default();
        name.rsplit_once('.')
            .map(|(_, ext)| ext.to_ascii_lowercase())
            .unwrap_or_default()
    }
}

/// How sure a probe is, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// 0 for no, 100 for certain. An extension alone is worth 10 at most: it is a hint, no proof.
    pub points: u8,
    /// What was seen.
    pub reason: String,
}

impl Score {
    /// Not this format.
    pub fn no() -> Self {
        Self {
            points: 0,
            reason: String::new(),
        }
    }

    /// This sure, because of that.
    pub fn new(points: u8, reason: impl Into<String>) -> Self {
        Self {
            points,
            reason: reason.into(),
        }
    }
}

/// A format: its names, how to recognise it, its reader and writer.
#[derive(Clone, Copy)]
pub struct Format {
    /// A short word: what `--from` and `--to` take.
    pub id: &'static str,
    /// Other words for it.
    pub names: &'static [&'static str],
    /// Its name for people.
    pub title: &'static str,
    /// Extensions it goes by, without the dot, in lower case.
    pub extensions: &'static [&'static str],
    /// Recognises it.
    pub probe: fn(&Peek) -> Score,
    /// Reads it.
    pub reader: Option<&'static dyn Reader>,
    /// Writes it.
    pub writer: Option<&'static dyn Writer>,
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Format")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
