//! What a conversion carried, changed and dropped.

use std::fmt;

/// What became of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It is in the output, in another place or form, and nothing of it is lost.
    Carried,
    /// It is in the output, not quite as it was.
    Changed,
    /// It is not in the output.
    Dropped,
}

impl Outcome {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Carried => "carried",
            Self::Changed => "changed",
            Self::Dropped => "dropped",
        }
    }
}

/// One thing that was carried, changed or dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What became of it.
    pub outcome: Outcome,
    /// A stable word for scripts, e.g. `tied`, `left-out`, `cast`.
    pub kind: &'static str,
    /// The tensor, key or subtree.
    pub what: String,
    /// Why, with the figures.
    pub why: String,
    /// The flag that changes it.
    pub flag: Option<&'static str>,
    /// Whether information is lost by it: what `--strict` refuses.
    pub loss: bool,
}

impl Record {
    /// A thing that is all there, in another form.
    pub fn carried(kind: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Outcome::Carried, kind, what, why, false)
    }

    /// A thing that is not quite as it was: a loss.
    pub fn changed(kind: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Outcome::Changed, kind, what, why, true)
    }

    /// A thing that is gone: a loss.
    pub fn dropped(kind: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(Outcome::Dropped, kind, what, why, true)
    }

    fn new(
        outcome: Outcome,
        kind: &'static str,
        what: impl Into<String>,
        why: impl Into<String>,
        loss: bool,
    ) -> Self {
        Self {
            outcome,
            kind,
            what: what.into(),
            why: why.into(),
            flag: None,
            loss,
        }
    }

    /// Names the flag that changes it.
    #[must_use]
    pub fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }

    /// Says that the user asked for it, so that it is no loss to `--strict`.
    #[must_use]
    pub fn wanted(mut self) -> Self {
        self.loss = false;
        self
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.outcome.name(), self.what, self.why)?;
        if let Some(flag) = self.flag {
            write!(f, " [{flag}]")?;
        }
        Ok(())
    }
}

/// The account of one conversion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tensors written.
    pub tensors: u64,
    /// Bytes of tensors written.
    pub tensor_bytes: u64,
    /// Bytes of all files written.
    pub file_bytes: u64,
    /// Everything that was not simply copied, in order.
    pub records: Vec<Record>,
}

impl Report {
    /// Adds a record.
    pub fn add(&mut self, record: Record) {
        self.records.push(record);
    }

    /// The records that are losses.
    pub fn losses(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.loss)
    }
}
