//! What a reader sees in a file that it may not be able to open: the ground `scan` judges on.

use crate::{Error, Model, Objects, Provenance};

/// All that can be known of a file without trusting it. A survey never fails: what cannot be read
/// is told in [`Survey::error`], beside all that was seen before.
#[derive(Debug, Default)]
pub struct Survey {
    /// The format's id.
    pub format: &'static str,
    /// Every pickle found, with all it made before it ended or broke.
    pub objects: Vec<SurveyedObjects>,
    /// Code and other text a loader would run or interpret.
    pub texts: Vec<Text>,
    /// What the container says twice in different ways, hides, or should not hold.
    pub anomalies: Vec<Anomaly>,
    /// What the reader could not read.
    pub error: Option<Error>,
    /// The model, where it could be opened, for rules over metadata and graphs.
    pub model: Option<Model>,
    /// Where it comes from.
    pub provenance: Provenance,
    /// Opcodes that were run, and some more for each pickle and call: what looking at it took.
    pub work: u64,
}

/// One pickle.
#[derive(Debug)]
pub struct SurveyedObjects {
    /// Where it lies: an archive entry, a slot of a stream, a byte string in another pickle.
    pub place: String,
    /// What it made.
    pub objects: Objects,
    /// Whether it ran to its `STOP`.
    pub complete: bool,
    /// Whether this is how an unpickler reads it that it was not written for, which may make nonsense
    /// of it: what is broken or unknown there says nothing.
    pub misread: bool,
}

/// Code, or text that is interpreted.
#[derive(Debug)]
pub struct Text {
    /// Where it lies.
    pub place: String,
    /// What it is: `torchscript`, `jinja`, `python`, `json`, `keras`, `yaml`, `tensorflow`.
    pub language: &'static str,
    /// The text; its beginning, where it is long.
    pub text: String,
}

/// What is odd about a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AnomalyKind {
    /// Two entries of one name: loaders disagree on which counts.
    DuplicateEntry,
    /// An entry's own header and the archive's directory tell different names, sizes or methods.
    HeaderMismatch,
    /// An entry's bytes do not have the checksum they claim.
    ChecksumMismatch,
    /// Bytes before the archive, after it, or between its entries.
    HiddenBytes,
    /// More than one end-of-directory record.
    SecondDirectory,
    /// An entry is marked as encrypted or has flags no writer sets.
    OddFlags,
    /// An entry's name leaves the archive or has control characters.
    UnsafeName,
    /// A pickle or archive in a place where the loader does not look.
    HiddenPayload,
    /// Data follows the object a loader reads.
    TrailingPickle,
    /// A text opcode in a form that parsers read differently.
    ParserDisagreement,
    /// A header that loaders take and the format does not allow.
    LooseHeader,
    /// A record a loader needs has another size than it claims.
    SizeMismatch,
    /// An entry that could not be read.
    Unreadable,
    /// A path that leaves the model's folder, or passes a link.
    ExternalPath,
    /// A program, a library or bytecode.
    NativeCode,
    /// An archive of a kind that is not opened.
    ClosedArchive,
}

/// One odd thing.
#[derive(Clone, Debug)]
pub struct Anomaly {
    /// Its kind.
    pub kind: AnomalyKind,
    /// Where.
    pub place: String,
    /// What, with the values.
    pub what: String,
}

impl Survey {
    /// A survey of what a plain open gave: enough for formats that hold no code.
    pub fn of(format: &'static str, opened: crate::Result<Model>) -> Self {
        let mut survey = Self {
            format,
            ..Self::default()
        };
        match opened {
            Ok(model) => {
                survey.provenance = model.provenance.clone();
                survey.model = Some(model);
            }
            Err(error) => survey.error = Some(error),
        }
        survey
    }
}
