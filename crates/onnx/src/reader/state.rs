//! What one reading of a file carries along: the file, what was made so far, and what it may cost.

use super::external::Externals;
use super::source::{Field, Source, Span};
use crate::OnnxError;
use crate::wire::{MAX_DEPTH, field};
use ir::{
    Anomaly, AnomalyKind, Error, Limits, Record, Remark, Result, Tensor, TensorId, TensorTable,
};
use std::collections::{BTreeSet, HashMap};

/// Anomalies that are kept; a hostile file could have a million.
const ANOMALIES: usize = 100;

/// Bytes that what is made of a file may take for each of its own, and for each thing that it may
/// hold beside. Exporters write some hundred bytes for a node that takes six hundred here; a file
/// built to hurt writes ten.
const A_BYTE: u64 = 24;
const A_THING: u64 = 4;
/// Bytes that a tensor takes with its names and its place in the table.
const TENSOR: u64 = size_of::<Tensor>() as u64 + 128;
/// Bytes that an allocation takes beside its own, at most.
const APART: u64 = 16;

/// The state of one reading.
pub(super) struct State<'a> {
    pub(super) source: Source,
    pub(super) limits: &'a Limits,
    pub(super) tensors: TensorTable,
    pub(super) remarks: Vec<Remark>,
    pub(super) records: Vec<Record>,
    pub(super) notes: Vec<String>,
    pub(super) external: Externals,
    pub(super) survey: Option<Seen>,
    /// Whether attributes say what kind they are, as they must from IR version 2 on.
    pub(super) typed: bool,
    /// Bytes of text held so far, and things made so far.
    text: u64,
    things: u64,
    /// Bytes that all of it takes so far, and may take.
    made: u64,
    makes: u64,
    /// The last number given to tensors of one name.
    twins: HashMap<String, u64>,
    /// Fields that the schema does not have, by message.
    unknown: BTreeSet<(&'static str, u32)>,
}

/// What a survey gathers from a file that does not hold.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) anomalies: Vec<Anomaly>,
    /// The first thing that is wrong.
    pub(super) error: Option<Error>,
}

impl State<'_> {
    /// Refuses graphs or types that lie in `depth` others already. It bounds recursion.
    pub(super) fn check_depth(&self, depth: u64) -> Result<()> {
        let limit = MAX_DEPTH.min(self.limits.depth);
        if depth >= limit {
            return Err(OnnxError::TooDeep { limit }.into());
        }
        Ok(())
    }
}

impl<'a> State<'a> {
    pub(super) fn new(source: Source, external: Externals, limits: &'a Limits) -> Self {
        let len = source.whole().len();
        let makes = limits.objects.saturating_mul(A_THING);
        Self {
            made: 0,
            makes: makes.saturating_add(len.saturating_mul(A_BYTE)),
            source,
            limits,
            tensors: TensorTable::new(),
            remarks: Vec::new(),
            records: Vec::new(),
            notes: Vec::new(),
            external,
            survey: None,
            typed: false,
            text: 0,
            things: 0,
            twins: HashMap::new(),
            unknown: BTreeSet::new(),
        }
    }

    /// Counts bytes that are about to be held.
    pub(super) fn hold(&mut self, bytes: u64) -> Result<()> {
        self.text = self.text.saturating_add(bytes);
        Limits::check(
            "bytes of a graph's text",
            self.text,
            self.limits.header_bytes,
        )
    }

    /// Counts a thing that is about to be made, of a type that it is kept as: a node, a value, a
    /// pair. A few bytes of a file can be one, and take some hundred here.
    pub(super) fn count<T>(&mut self) -> Result<()> {
        self.things += 1;
        Limits::check("things in a graph", self.things, self.limits.objects)?;
        self.make(size_of::<T>() as u64)
    }

    /// Counts bytes that what is about to be made takes.
    fn make(&mut self, bytes: u64) -> Result<()> {
        self.made = self.made.saturating_add(bytes);
        Limits::check("bytes of a graph in memory", self.made, self.makes)
    }

    /// Keeps a record of what is not carried as it stands.
    pub(super) fn record(&mut self, record: Record) -> Result<()> {
        let texts = record.what.len() as u64 + record.why.len() as u64;
        self.make(texts.saturating_add(size_of::<Record>() as u64 + 2 * APART))?;
        self.records.push(record);
        Ok(())
    }

    /// A byte string, held.
    pub(super) fn blob(&mut self, field: Field) -> Result<Vec<u8>> {
        let span = field.span()?;
        self.hold(span.len())?;
        let apart = if span.len() == 0 { 0 } else { APART };
        self.make(span.len().saturating_add(apart))?;
        self.source.bytes(span)
    }

    /// A text, held.
    pub(super) fn text(&mut self, field: Field) -> Result<String> {
        String::from_utf8(self.blob(field)?).map_err(|_| {
            let why = format!("the text of field {} is not UTF-8", field.number);
            OnnxError::Encoding { at: field.at, why }.into()
        })
    }

    /// A name, held.
    pub(super) fn name(&mut self, field: Field) -> Result<String> {
        let span = field.span()?;
        Limits::check("bytes of a name", span.len(), self.limits.name_bytes)?;
        self.text(field)
    }

    /// A `StringStringEntryProto`.
    pub(super) fn pair(&mut self, field: Field) -> Result<(String, String)> {
        self.count::<(String, String)>()?;
        let mut span = field.span()?;
        let mut pair = (String::new(), String::new());
        while let Some(field) = self.source.field(&mut span)? {
            match field.number {
                field::pair::KEY => pair.0 = self.text(field)?,
                field::pair::VALUE => pair.1 = self.text(field)?,
                _ => self.unknown("StringStringEntryProto", field),
            }
        }
        Ok(pair)
    }

    /// Integers, sent one by one or packed.
    pub(super) fn ints(&mut self, field: Field, out: &mut Vec<i64>) -> Result<()> {
        if let super::source::Content::Span(mut span) = field.content {
            self.hold(span.len().saturating_mul(8))?;
            while span.at < span.end {
                out.push(self.source.varint(&mut span)?.cast_signed());
            }
        } else {
            self.hold(8)?;
            out.push(field.int()?);
        }
        Ok(())
    }

    /// Floats, sent one by one or packed.
    pub(super) fn floats(&mut self, field: Field, out: &mut Vec<f32>) -> Result<()> {
        let super::source::Content::Span(span) = field.content else {
            self.hold(4)?;
            out.push(field.float()?);
            return Ok(());
        };
        self.hold(span.len())?;
        let bytes = self.source.bytes(span)?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() {
            let why = format!("{} bytes of packed floats are no whole floats", span.len());
            return Err(OnnxError::Encoding { at: field.at, why }.into());
        }
        out.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
        Ok(())
    }

    /// Notes a field that the schema does not have.
    pub(super) fn unknown(&mut self, message: &'static str, field: Field) {
        // A hostile file could name half a billion.
        if self.unknown.len() < ANOMALIES && self.unknown.insert((message, field.number)) {
            let what = format!("field {} of {message}", field.number);
            let why = format!(
                "byte {}: this version's schema does not have it; the model may be newer",
                field.at
            );
            self.records
                .push(Record::dropped("unknown-field", what, why));
        }
    }

    /// Adds a tensor under a name, with a number behind it if the name is taken.
    pub(super) fn push(&mut self, tensor: Tensor, name: &str) -> Result<TensorId> {
        let count = self.tensors.len() as u64 + 1;
        // It has a name in the table's index too, and one of a value beside.
        self.make(TENSOR)?;
        Limits::check("tensors", count, self.limits.tensors)?;
        let free = |name: &str| !name.is_empty() && self.tensors.id_of(name).is_none();
        let name = if free(name) {
            name.to_owned()
        } else {
            let base = if name.is_empty() { "tensor" } else { name };
            // Counted on from the last one: a file may hold very many of one name.
            let last = self.twins.entry(base.to_owned()).or_insert(1);
            loop {
                *last += 1;
                let name = format!("{base}~{last}");
                if self.tensors.id_of(&name).is_none() {
                    break name;
                }
            }
        };
        self.tensors.push(Tensor { name, ..tensor })
    }

    /// What to do with an error of one tensor: a survey notes it and goes on.
    pub(super) fn or_note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) => match &mut self.survey {
                None => Err(error),
                Some(seen) => {
                    let kind = match error.downcast_ref::<OnnxError>() {
                        Some(OnnxError::BadLocation { .. }) => Some(AnomalyKind::ExternalPath),
                        Some(OnnxError::SizeMismatch { .. } | OnnxError::BeyondFile { .. }) => {
                            Some(AnomalyKind::SizeMismatch)
                        }
                        _ => None,
                    };
                    if let Some(kind) = kind.filter(|_| seen.anomalies.len() < ANOMALIES) {
                        seen.anomalies.push(Anomaly {
                            kind,
                            place: error.place().unwrap_or_default(),
                            what: error.message(),
                        });
                    }
                    seen.error.get_or_insert(error);
                    Ok(None)
                }
            },
        }
    }
}

/// A field that may stand once only: parsers differ on what twice means.
pub(super) fn once<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Result<()> {
    if slot.replace(value).is_some() {
        let what = format!("{what} is there twice");
        return Err(OnnxError::Contradiction { what }.into());
    }
    Ok(())
}

/// Collects the spans of a repeated message that becomes a `T`.
pub(super) fn keep<T>(list: &mut Vec<Span>, field: Field, state: &mut State<'_>) -> Result<()> {
    state.count::<(Span, T)>()?;
    list.push(field.span()?);
    Ok(())
}
