//! One error type for the house: what is wrong, where, and what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What kind of trouble an error is. The command line turns it into an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The machine said no: I/O, disk full, permission.
    Io,
    /// The input does not follow its format.
    Malformed,
    /// The input is sound but this program cannot do that with it.
    Unsupported,
    /// The input asks for more than a limit allows.
    Limit,
    /// A policy forbids the input.
    Refused,
    /// Something would be lost, and the user asked for no loss.
    Lossy,
    /// The request itself makes no sense.
    Usage,
    /// The user stopped it.
    Interrupted,
}

/// What a crate's error enum tells besides its message.
pub trait Diagnose: std::error::Error + Send + Sync + 'static {
    /// The kind of trouble.
    fn class(&self) -> Class;

    /// Where inside the file: an entry, a byte offset, a tensor.
    fn place(&self) -> Option<String> {
        None
    }

    /// What the reader of the message can do next.
    fn help(&self) -> Option<String> {
        None
    }
}

/// Any error of the house, with the file it is about.
pub struct Error(Box<Inner>);

struct Inner {
    cause: Box<dyn Diagnose>,
    path: Option<PathBuf>,
    place: Option<String>,
    help: Option<String>,
}

/// The house's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The kind of trouble.
    pub fn class(&self) -> Class {
        self.0.cause.class()
    }

    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// Where inside the file.
    pub fn place(&self) -> Option<String> {
        self.0.place.clone().or_else(|| self.0.cause.place())
    }

    /// What is wrong, without file, place or help.
    pub fn message(&self) -> String {
        self.0.cause.to_string()
    }

    /// What to do next.
    pub fn help(&self) -> Option<String> {
        self.0.help.clone().or_else(|| self.0.cause.help())
    }

    /// Names the file, unless one is named already.
    #[must_use]
    pub fn in_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.0.path.get_or_insert_with(|| path.into());
        self
    }

    /// Names the file by its whole path, where `path` knows it by the short one.
    #[must_use]
    pub fn found_at(mut self, path: impl FnOnce(&Path) -> Option<PathBuf>) -> Self {
        if let Some(whole) = self.0.path.as_deref().and_then(path) {
            self.0.path = Some(whole);
        }
        self
    }

    /// Names the place inside the file, unless one is named already.
    #[must_use]
    pub fn at(mut self, place: impl Into<String>) -> Self {
        if self.place().is_none() {
            self.0.place = Some(place.into());
        }
        self
    }

    /// Says what to do next, unless that is said already.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        if self.help().is_none() {
            self.0.help = Some(help.into());
        }
        self
    }

    /// The crate's own error, if it is of type `E`.
    pub fn downcast_ref<E: Diagnose>(&self) -> Option<&E> {
        let cause: &(dyn std::error::Error + 'static) = &*self.0.cause;
        cause.downcast_ref()
    }

    /// An I/O error while `doing` something, e.g. `"read"`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::from(Fault::Io { doing, source }).in_file(path)
    }
}

impl<D: Diagnose> From<D> for Error {
    fn from(cause: D) -> Self {
        Self(Box::new(Inner {
            cause: Box::new(cause),
            path: None,
            place: None,
            help: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(path) = self.path() {
            write!(f, "{}: ", path.display())?;
        }
        if let Some(place) = self.place() {
            write!(f, "{place}: ")?;
        }
        write!(f, "{}", self.0.cause)?;
        if let Some(help) = self.help() {
            write!(f, ". {help}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} error: {self}", self.class())
    }
}

/// What can go wrong in the IR itself and in the plumbing under every format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The operating system refused.
    #[error("cannot {doing}: {source}")]
    Io {
        /// The verb, e.g. `read`.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes that were there when the file was opened are gone.
    #[error("the file ends at byte {end}, bytes {offset} to {until} were expected")]
    Truncated {
        /// First byte wanted.
        offset: u64,
        /// One past the last byte wanted.
        until: u64,
        /// Where the file ends.
        end: u64,
    },
    /// A slice that leaves its region.
    #[error("bytes {offset} to {until} lie outside the {len} bytes there are", until = offset.saturating_add(*wanted))]
    OutOfRegion {
        /// First byte wanted.
        offset: u64,
        /// How many.
        wanted: u64,
        /// What there is.
        len: u64,
    },
    /// The numbers of a spec do not fit 64 bits, or a row cuts a block.
    #[error("tensor {name:?} of type {dtype} and shape {shape} has no size: {why}")]
    BadSpec {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: crate::DType,
        /// Its shape.
        shape: crate::Shape,
        /// What does not work out.
        why: &'static str,
    },
    /// Two tensors of one name.
    #[error("tensor name {name:?} is used twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// An invariant of the model does not hold.
    #[error("{what}")]
    Invalid {
        /// Which, with the values.
        what: String,
    },
    /// A limit was passed.
    #[error("{what}: {found} is over the limit of {limit}")]
    OverLimit {
        /// What is limited.
        what: &'static str,
        /// What the input asks for.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// The output is there already.
    #[error("the output exists already")]
    OutputExists,
    /// The output would take the place of a file that the command reads.
    #[error("the output is {what}")]
    OutputIs {
        /// What that file is.
        what: &'static str,
    },
    /// The user stopped it.
    #[error("stopped; no output was left behind")]
    Interrupted,
    /// No known format fits.
    #[error("{why}")]
    UnknownFormat {
        /// What was seen.
        why: String,
    },
    /// A request that cannot be met.
    #[error("{what}")]
    Usage {
        /// What is wrong with it.
        what: String,
    },
    /// A thing that is not supported.
    #[error("{what}")]
    Unsupported {
        /// What is not.
        what: String,
    },
}

impl Diagnose for Fault {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Io,
            Self::Truncated { .. }
            | Self::OutOfRegion { .. }
            | Self::BadSpec { .. }
            | Self::DuplicateName { .. }
            | Self::Invalid { .. } => Class::Malformed,
            Self::OverLimit { .. } => Class::Limit,
            Self::OutputExists | Self::OutputIs { .. } | Self::Usage { .. } => Class::Usage,
            Self::Interrupted => Class::Interrupted,
            Self::UnknownFormat { .. } | Self::Unsupported { .. } => Class::Unsupported,
        }
    }

    fn help(&self) -> Option<String> {
        let text = match self {
            Self::Truncated { .. } => {
                "The download may be cut short, or the file changed while it was read"
            }
            Self::OutputExists => "Give another name, or --overwrite to replace it",
            Self::OutputIs { .. } => "Give the output another name",
            Self::UnknownFormat { .. } => "If you know what it is, say so with --from",
            Self::OverLimit { .. } => {
                "Real models stay far below it; if you trust the source, see `--limit` in the help"
            }
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull => "Free some space and run it again",
                io::ErrorKind::PermissionDenied => "Check who owns the file and its folder",
                _ => return None,
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_gets_its_folder() {
        let error = |name: &str| {
            Error::from(Fault::Invalid {
                what: "no".to_owned(),
            })
            .in_file(name)
        };
        let whole = |short: &Path| (short == Path::new("a.json")).then(|| "hf/a.json".into());
        let found = error("a.json").found_at(whole);
        assert_eq!(found.path(), Some(Path::new("hf/a.json")));
        assert_eq!(
            error("b.json").found_at(whole).path(),
            Some(Path::new("b.json"))
        );
        let bare = Error::from(Fault::Invalid {
            what: "no".to_owned(),
        });
        assert_eq!(bare.found_at(whole).path(), None);
    }

    #[test]
    fn reads_like_a_sentence() {
        let error = Error::from(Fault::Truncated {
            offset: 10,
            until: 20,
            end: 12,
        })
        .in_file("model.pt")
        .at("entry archive/data/0")
        .at("ignored, a place is known");
        assert_eq!(error.class(), Class::Malformed);
        assert_eq!(
            error.to_string(),
            "model.pt: entry archive/data/0: the file ends at byte 12, bytes 10 to 20 were \
             expected. The download may be cut short, or the file changed while it was read"
        );
        assert!(error.downcast_ref::<Fault>().is_some());
    }
}
