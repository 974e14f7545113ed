//! What a judgement says: a verdict, and the findings it rests on.

use std::fmt;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// Nobody here can say what it does; an honest file may hold it.
    Suspicious,
    /// It can run code, touch files, the network or other processes, or change the loader.
    Dangerous,
}

impl Severity {
    /// The word used in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Suspicious => "suspicious",
            Self::Dangerous => "dangerous",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The answer for one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Everything in it is known and harmless.
    Clean,
    /// It holds what nobody here knows, and nothing known to be dangerous.
    Suspicious,
    /// It holds danger.
    Dangerous,
    /// No danger was found, but not all of it could be read: it is not called clean.
    Malformed,
}

impl Verdict {
    /// The word used in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Suspicious => "suspicious",
            Self::Dangerous => "dangerous",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing worth telling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The rule that found it: a stable id, one of [`crate::RULES`].
    pub rule: &'static str,
    /// Where: the entry, and the offset of the opcode in it.
    pub where_: String,
    /// What: `builtins.exec`. Safe to print.
    pub what: String,
    /// Why it matters, and the call with its arguments. Safe to print; may hold several lines.
    pub detail: String,
}

/// The verdict on a file and what it rests on, the worst first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub verdict: Verdict,
    /// The findings: dangerous ones first, otherwise in the order of the file.
    pub findings: Vec<Finding>,
}
