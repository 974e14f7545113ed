//! Everything that would run when somebody loads the file, or a part of it: for `scan`.
//!
//! Nothing is trusted: not names, not sizes, not the order of things. Every pickle that can be
//! found is run, on its own, and what it made is kept even where it breaks off.

mod archive;
mod inner;
mod npy;
mod stream;

use crate::CkptError;
use crate::container::{self, begins_tar, is_pickle_start, is_tar, is_zip};
use crate::pickle::{self, Budget, Outcome, Reading};
use ir::{
    Anomaly, AnomalyKind, Class, Context, Error, Input, Object, ObjectId, Region, Survey,
    SurveyedObjects,
};

/// Archives within archives that are looked into.
const DEPTH: u8 = 8;

/// Looks at what lies in an archive beside checkpoints: `scan` knows more kinds of files than this
/// crate does.
pub trait Beside {
    /// Looks at an entry. `place` says where it lies, `name` is its own. Answers whether it is of
    /// a kind that was looked at; if not, it is searched for pickles here.
    fn look(&mut self, place: &str, name: &str, bytes: &Region) -> bool;

    /// Unpacks an entry of a zip archive that is packed by a method which PyTorch does not know
    /// and Python does: what there is, and what stopped it. `None` if nobody can.
    fn unpack(&mut self, method: u16, packed: &Region, len: u64) -> Option<Unpacked> {
        let _ = (method, packed, len);
        None
    }
}

/// What an entry holds, as far as it could be unpacked, and what stopped it.
pub type Unpacked = ir::Result<(Region, Option<Error>)>;

/// For those who want the pickles only.
pub(super) struct Nobody;

impl Beside for Nobody {
    fn look(&mut self, _: &str, _: &str, _: &Region) -> bool {
        false
    }
}

/// Looks at a file without trusting it.
pub(super) fn survey(input: &Input, cx: &Context, beside: &mut dyn Beside) -> Survey {
    // First, so that the tree it builds is gone before the survey keeps its own.
    let opened = super::open(input, cx).map(|mut model| {
        model.objects = None;
        model
    });
    let len = input.region().map_or(0, Region::len);
    let mut surveyor = Surveyor::new(len, cx, beside);
    match input.file() {
        Ok(region) => {
            surveyor.region(region, "");
            let files = vec![(input.path().to_owned(), region.len())];
            surveyor.out.provenance.files = files;
        }
        Err(error) => surveyor.error(error),
    }
    surveyor.out.work = surveyor.budget.work();
    let (mut out, plain) = (surveyor.out, surveyor.plain);
    match opened {
        Ok(model) => {
            out.provenance = model.provenance.clone();
            out.model = Some(model);
        }
        // A file that is sound and cannot be converted is still one that can be judged. So is one that
        // torch does not load: others may take its pickles out.
        Err(error) if is_readable(&error) && (plain || !out.objects.is_empty()) => {
            out.provenance.notes.push(error.to_string());
        }
        Err(error) => {
            out.error.get_or_insert(error);
        }
    }
    out.error = out.error.map(|error| error.in_file(input.path()));
    out.provenance.format = "ckpt";
    out
}

/// Whether the parts of a file can be read, whatever is made of them.
fn is_readable(error: &Error) -> bool {
    let no_loader = matches!(error.downcast_ref(), Some(CkptError::NoLoader { .. }));
    no_loader || error.class() == Class::Unsupported
}

/// Looks at the zip archive that a file of another format ends as, if it does: Python and PyTorch look for
/// one from the end of a file, whatever it begins with.
pub(super) fn survey_end(input: &Input, cx: &Context, beside: &mut dyn Beside) -> Option<Survey> {
    let region = input.file().ok()?;
    if !container::ends_as_zip(region).unwrap_or(false) {
        return None;
    }
    let mut surveyor = Surveyor::new(region.len(), cx, beside);
    surveyor.zip_end(region, "");
    surveyor.out.work = surveyor.budget.work();
    let mut out = surveyor.out;
    out.error = out.error.map(|error| error.in_file(input.path()));
    Some(out)
}

/// What the pickle that a file may begin with names and calls, up to where it breaks. For files that
/// nothing else takes for a model: whoever unpickles one has imported by then what it names.
pub fn start(region: &Region, cx: &Context) -> Survey {
    begun(first(region, cx))
}

/// The same with the pickles behind it, for a program that reads one after the other.
pub fn stream(region: &Region, cx: &Context) -> Survey {
    let mut nobody = Nobody;
    let mut surveyor = Surveyor::new(region.len(), cx, &mut nobody);
    surveyor.stream(region, "", Expected::Yes);
    surveyor.out.work = surveyor.budget.work();
    surveyor.out
}

/// The same, if it calls something, or names something and runs to its end: lists of words may begin as
/// a pickle that imports.
pub fn active(region: &Region, cx: &Context) -> Option<Survey> {
    let outcome = first(region, cx);
    does_something(&outcome).then(|| begun(outcome))
}

/// The same of a file that is of another format as well: a file can be made to begin as both.
pub fn disguised(region: &Region, cx: &Context) -> Option<Survey> {
    let mut survey = active(region, cx)?;
    survey.error = None;
    survey.anomalies.push(Anomaly {
        kind: AnomalyKind::ParserDisagreement,
        place: "pickle".to_owned(),
        what: "whoever unpickles the file runs what it begins with".to_owned(),
    });
    Some(survey)
}

fn first(region: &Region, cx: &Context) -> Outcome {
    let mut budget = Budget::tolerant(&cx.limits.for_file(region.len()));
    pickle::run(region, 0, "pickle", &mut budget)
}

fn begun(outcome: Outcome) -> Survey {
    let objects = SurveyedObjects {
        place: "pickle".to_owned(),
        complete: outcome.complete(),
        objects: outcome.objects,
        misread: false,
    };
    Survey {
        format: "ckpt",
        objects: vec![objects],
        error: outcome.error,
        ..Survey::default()
    }
}

/// Bytes unpacked from the entries of all archives.
const UNPACKED: u64 = 256 << 20;
/// Entries of all archives in a file: this, or one for so many of its bytes. Only archives within archives
/// have more.
const ENTRIES: u64 = 20_000;
const ENTRY: u64 = 50;
/// Pickles of one file.
const PICKLES: u64 = 200_000;
/// Oddities of one kind.
const ODDITIES: usize = 2000;

struct Surveyor<'a> {
    budget: Budget,
    out: Survey,
    depth: u8,
    unpacked: u64,
    entries: u64,
    most_entries: u64,
    pickles: u64,
    /// Whether what is open is an archive of files, not one of PyTorch's: nothing is hidden there
    /// for not being where PyTorch looks.
    plain: bool,
    beside: &'a mut dyn Beside,
}

/// What a pickle was expected to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// A pickle must be here: if it breaks, the file is broken.
    Yes,
    /// There may be one.
    Perhaps,
}

impl<'a> Surveyor<'a> {
    fn new(len: u64, cx: &Context, beside: &'a mut dyn Beside) -> Self {
        let limits = cx.limits.for_file(len);
        // Of what was unpacked the limits are those of the file around it.
        let most_entries = ENTRIES.max((len / ENTRY).min(limits.objects / 5));
        Self {
            budget: Budget::tolerant(&limits),
            out: Survey {
                format: "ckpt",
                ..Survey::default()
            },
            depth: 0,
            unpacked: 0,
            entries: 0,
            most_entries,
            pickles: 0,
            plain: false,
            beside,
        }
    }
}

impl Surveyor<'_> {
    fn error(&mut self, error: Error) {
        self.out.error.get_or_insert(error);
    }

    /// Whether a limit was passed.
    fn spent(&self) -> bool {
        let error = self.out.error.as_ref();
        error.is_some_and(|error| error.class() == Class::Limit)
    }

    fn odd(&mut self, kind: AnomalyKind, place: impl Into<String>, what: impl Into<String>) {
        // Of each kind some are kept: a verdict is that of the worst.
        let alike = self.out.anomalies.iter().filter(|it| it.kind == kind);
        if self.out.anomalies.len() < ODDITIES || alike.count() == 0 {
            self.out.anomalies.push(Anomaly {
                kind,
                place: place.into(),
                what: what.into(),
            });
        }
    }

    /// Counts an entry of an archive. Answers whether it is still to be looked at.
    fn counts_entry(&mut self) -> bool {
        self.entries += 1;
        let most = self.most_entries;
        match ir::Limits::check("entries of archives in archives", self.entries, most) {
            Ok(()) => true,
            Err(error) => {
                self.error(error);
                false
            }
        }
    }

    /// Counts a pickle. Answers whether there may be another one.
    fn counts_pickle(&mut self, place: &str) -> bool {
        self.pickles += 1;
        match ir::Limits::check("pickles in a file", self.pickles, PICKLES) {
            Ok(()) => true,
            Err(error) => {
                self.error(error.at(place));
                false
            }
        }
    }

    /// Looks at bytes of any kind. `place` names them; empty for the file itself.
    fn region(&mut self, region: &Region, place: &str) {
        if self.depth >= DEPTH {
            let what = format!("more than {DEPTH} archives within archives");
            self.odd(AnomalyKind::Unreadable, place, what.clone());
            self.error(CkptError::container(place, what).into());
            return;
        }
        self.depth += 1;
        self.kinds(region, place);
        self.depth -= 1;
    }

    fn kinds(&mut self, region: &Region, place: &str) {
        let head_len = usize::try_from(region.len()).unwrap_or(usize::MAX).min(512);
        let head = match region.bytes(0, head_len) {
            Ok(head) => head,
            Err(error) => return self.error(error),
        };
        // A tar whose last member is a zip archive ends as one, too.
        if is_tar(&head) {
            return self.tar(region, place);
        }
        match is_zip(region, &head) {
            Ok(true) => return self.zip(region, place),
            Ok(false) => {}
            Err(error) => self.error(error),
        }
        if begins_tar(&head) {
            return self.tar(region, place);
        }
        if head.starts_with(b"\x93NUMPY") {
            self.plain |= place.is_empty();
            return self.npy(region, place);
        }
        if !place.is_empty() && self.beside.look(place, "", region) {
            return;
        }
        let gzip = head.starts_with(b"\x1f\x8b");
        if gzip || matches!(*head, [0x78, 0x01 | 0x5e | 0x9c | 0xda, ..]) {
            let inside = container::inflate::compressed(region, gzip, self.budget.holdable());
            if !inside.is_empty() {
                let inner = join(place, "unpacked");
                return self.region(&Region::memory(inside), &inner);
            }
        }
        let expected = if place.is_empty() || is_pickle_start(&head) {
            Expected::Yes
        } else {
            Expected::Perhaps
        };
        self.stream(region, place, expected);
    }

    /// Keeps what a pickle made, and looks into the byte strings it holds.
    fn keep(&mut self, mut outcome: Outcome, place: &str, expected: Expected) {
        for (at, what) in std::mem::take(&mut outcome.odd) {
            let place = join(place, &format!("byte {at}"));
            self.odd(AnomalyKind::ParserDisagreement, place, what);
        }
        let complete = outcome.complete();
        if let Some(error) = outcome.error.take()
            && (expected == Expected::Yes || error.class() == Class::Limit)
        {
            self.error(error);
        }
        if let Some((region, at)) = outcome.crossed.take() {
            let what = "an opcode reaches over the end of its frame: unpicklers disagree on what \
                        follows";
            self.odd(AnomalyKind::ParserDisagreement, place, what);
            self.error(CkptError::container(place, what).into());
            let mut other = pickle::run_as(&region, at, place, &mut self.budget, Reading::File);
            other.crossed = None;
            let place = join(
                place,
                "as read from a file, where the rest of a frame is dropped",
            );
            self.keep(other, &place, Expected::Perhaps);
        }
        let readings = std::mem::take(&mut outcome.ambiguous);
        self.inner(&outcome.objects, place);
        self.out.objects.push(SurveyedObjects {
            place: if place.is_empty() { "pickle" } else { place }.to_owned(),
            objects: outcome.objects,
            complete,
            misread: false,
        });
        self.misread(readings, place);
    }

    /// Keeps what other unpicklers make of a pickle, which may be nonsense.
    fn misread(&mut self, readings: Vec<(Reading, Region, u64)>, place: &str) {
        for (reading, region, at) in readings {
            let mut run = |reading| pickle::run_as(&region, at, place, &mut self.budget, reading);
            let mut other = run(reading);
            let from_file = other.crossed.is_some() && reading == Reading::Memory;
            let from_file = from_file.then(|| run(Reading::File));
            let sense = other.complete() || does_something(&other);
            for (at, what) in std::mem::take(&mut other.odd).into_iter().filter(|_| sense) {
                let place = join(place, &format!("byte {at}"));
                self.odd(AnomalyKind::ParserDisagreement, place, what);
            }
            for other in [Some(other), from_file].into_iter().flatten() {
                self.inner(&other.objects, place);
                self.out.objects.push(SurveyedObjects {
                    place: join(place, "as read by another unpickler than joblib's"),
                    complete: other.complete(),
                    objects: other.objects,
                    misread: true,
                });
                if let Some(error) = other.error.filter(|it| it.class() == Class::Limit) {
                    self.error(error);
                }
            }
        }
    }

    /// Runs what may be a pickle and keeps it if it does anything. Answers where it ended.
    fn attempt(&mut self, region: &Region, at: u64, place: &str) -> Option<u64> {
        let outcome = pickle::run(region, at, place, &mut self.budget);
        let limit = outcome
            .error
            .as_ref()
            .is_some_and(|error| error.class() == Class::Limit);
        if !limit && !does_something(&outcome) {
            return None;
        }
        let end = outcome.end;
        self.keep(outcome, place, Expected::Perhaps);
        Some(end)
    }
}

/// Whether a pickle does anything: calls something, or names something and runs to its end.
///
/// Ordinary text can pass for the beginning of a pickle: `class Linear(Module):` is the naming of
/// a global whose module is `lass Linear(Module):`. Such names are no names, and nothing calls
/// them.
fn does_something(outcome: &Outcome) -> bool {
    let named = |id: ObjectId| match outcome.objects.global(id) {
        Some((module, name)) => is_name(module) && is_name(name),
        None => true,
    };
    outcome.objects.iter().any(|(id, node)| match &node.object {
        Object::Call(call) => named(call.callee),
        Object::Patch(patch) => named(patch.target),
        Object::Global(_) | Object::Extension(_) => outcome.complete() && named(id),
        _ => false,
    })
}

/// Whether a module or attribute could be called so.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

fn join(place: &str, part: &str) -> String {
    if place.is_empty() {
        part.to_owned()
    } else {
        format!("{place}: {part}")
    }
}
