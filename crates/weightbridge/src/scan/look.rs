//! One file, layer by layer: what it is packed in, what it holds, and what each part would do.

mod encoded;
mod names;
mod part;
mod paths;

use crate::detect;
use foreign::{Kind, Wrapping};
use ir::{Anomaly, AnomalyKind, Class, Context, Error, Input, Limits, Region, Survey, Text};
pub(super) use names::promises;
use names::{is_environment, is_exported, is_long, is_pipeline, is_settings, unpacked_name};
use part::Part;
use scan::{Finding, Judgement, Severity, Verdict};

/// Layers of compression and archives around a file.
const DEPTH: u8 = 8;
/// Bytes of a JSON document that is looked at.
const JSON: u64 = 4 << 20;
/// Bytes of other text.
const TEXT: u64 = 2 << 20;
/// Bytes of an exported graph, which says for each node where in the source it comes from; and of
/// indexes and notebooks.
const EXPORTED: u64 = 64 << 20;
/// Bytes of all texts of one file: a multiple of what the file has, between these.
const TEXTS: (u64, u64) = (8 << 20, 24 << 20);
const TEXT_TIMES: u64 = 8;
/// Opcodes of all pickles of one file that is packed: this, or a multiple of its bytes.
const WORK: u64 = 3_000_000;
const WORK_TIMES: u64 = 6;
/// Bytes that all layers of one file may unpack to: this, or a multiple of what the file has.
const UNPACKED: u64 = 48 << 20;
const TIMES: u64 = 48;
/// Findings of one file that are told.
const FINDINGS: usize = 10_000;
/// Parts of one file that are looked at by themselves.
const PARTS: u64 = 100_000;

/// Looks at one file and all it holds.
pub(super) struct Looker {
    cx: Context,
    depth: u8,
    unpacked: u64,
    most: u64,
    work: u64,
    most_work: u64,
    parts: u64,
    texts: u64,
    most_texts: u64,
    /// What the file itself is.
    pub(super) format: Option<&'static str>,
    pub(super) findings: Vec<Finding>,
    pub(super) error: Option<Error>,
    verdict: Option<Verdict>,
    /// Whether what is looked at was taken for a checkpoint, in which pickles are expected.
    unpickled: bool,
}

impl Looker {
    pub(super) fn new(mut cx: Context, len: u64) -> Self {
        // What is packed may ask for no more than the file around it.
        cx.limits = cx.limits.for_file(len);
        Self {
            cx,
            depth: 0,
            unpacked: 0,
            most: len.saturating_mul(TIMES).max(UNPACKED),
            work: 0,
            most_work: len.saturating_mul(WORK_TIMES).max(WORK),
            parts: 0,
            texts: 0,
            most_texts: len.saturating_mul(TEXT_TIMES).clamp(TEXTS.0, TEXTS.1),
            format: None,
            findings: Vec::new(),
            error: None,
            verdict: None,
            unpickled: false,
        }
    }

    /// The worst that any part is.
    pub(super) fn verdict(&self) -> Verdict {
        let verdict = self.verdict.unwrap_or(Verdict::Clean);
        match self.error {
            Some(_) if verdict != Verdict::Dangerous => Verdict::Malformed,
            _ => verdict,
        }
    }

    fn worse(&mut self, verdict: Verdict) {
        let rank = |verdict| match verdict {
            Verdict::Clean => 0,
            Verdict::Suspicious => 1,
            Verdict::Malformed => 2,
            Verdict::Dangerous => 3,
        };
        if self.verdict.is_none_or(|known| rank(known) < rank(verdict)) {
            self.verdict = Some(verdict);
        }
    }

    fn fail(&mut self, error: Error, place: &str) {
        let error = if place.is_empty() {
            error
        } else {
            error.at(place)
        };
        self.error.get_or_insert(error);
    }

    /// Judges a part and keeps what was found.
    fn keep(&mut self, mut survey: Survey, place: &str) {
        self.work = self.work.saturating_add(survey.work);
        let judgement = scan::judge(&survey);
        if let Some(error) = survey.error.take() {
            self.fail(error, place);
        }
        self.take(judgement, place);
    }

    fn take(&mut self, judgement: Judgement, place: &str) {
        self.worse(judgement.verdict);
        for mut finding in judgement.findings {
            // The worst are told, however many lesser ones there are.
            let most = match finding.severity {
                Severity::Dangerous => 2 * FINDINGS,
                Severity::Suspicious => FINDINGS,
            };
            if self.findings.len() >= most {
                continue;
            }
            if !place.is_empty() {
                finding.where_ = format!("{place}: {}", finding.where_);
            }
            self.findings.push(finding);
        }
    }

    fn odd(&mut self, kind: AnomalyKind, place: &str, what: &str) {
        let anomaly = Anomaly {
            kind,
            place: if place.is_empty() { "the file" } else { place }.to_owned(),
            what: what.to_owned(),
        };
        let survey = Survey {
            anomalies: vec![anomaly],
            ..Survey::default()
        };
        self.keep(survey, "");
    }

    /// Looks at bytes under a name. Answers whether they are of any known kind.
    pub(super) fn look(&mut self, input: &Input, place: &str) -> bool {
        let outer = std::mem::replace(&mut self.unpickled, false);
        let known = self.look_in(input, place).unwrap_or_else(|error| {
            self.fail(error, place);
            true
        });
        let unpickled = std::mem::replace(&mut self.unpickled, outer);
        if unpickled {
            return known;
        }
        if known
            && let Ok(region) = input.file()
            && let Some(survey) = ckpt::disguised(region, &self.cx)
        {
            self.keep(survey, place);
        }
        let archive = self.with_parts(place, |cx, part| {
            ckpt::CkptReader.survey_end(input, cx, part)
        });
        let known = known || archive.is_some();
        if let Some(survey) = archive {
            self.keep(survey, place);
        }
        known
    }

    /// Has the reader of checkpoints look at an archive, of which it hands over what is no pickle.
    fn with_parts<T>(&mut self, place: &str, look: impl FnOnce(&Context, &mut Part<'_>) -> T) -> T {
        let cx = self.cx.clone();
        self.depth += 1;
        let mut part = Part {
            looker: self,
            outer: place,
        };
        let seen = look(&cx, &mut part);
        self.depth -= 1;
        seen
    }

    fn look_in(&mut self, input: &Input, place: &str) -> ir::Result<bool> {
        self.cx.cancel.check()?;
        self.parts += 1;
        Limits::check("parts of a file", self.parts, PARTS)?;
        let what = "opcodes of pickles in one file";
        Limits::check(what, self.work, self.most_work)?;
        if self.depth >= DEPTH {
            Limits::check(
                "layers around a file",
                u64::from(self.depth) + 1,
                u64::from(DEPTH),
            )?;
        }
        let region = input.file()?;
        let head = head(region)?;
        let name = input.path().to_string_lossy();
        let kind = foreign::kind(&name, &head);
        if let Some(what) = ir::sniff(&head).filter(|it| it.closed) {
            let opened =
                matches!(kind, Kind::Packed(_) | Kind::Hdf5) || head.starts_with(b"\x93NUMPY");
            if !opened {
                self.name("archive");
                self.odd(AnomalyKind::ClosedArchive, place, what.what);
                return Ok(true);
            }
        }
        match kind {
            Kind::Packed(wrapping) => return self.packed(input, place, wrapping),
            Kind::Hdf5 => {
                self.hdf5(region, place);
                return Ok(true);
            }
            Kind::Native | Kind::Bytecode | Kind::Script | Kind::Shortcut | Kind::Serialized => {
                self.name("native");
                let what = match kind {
                    Kind::Native => "a program or library",
                    Kind::Script => "a script of a shell",
                    Kind::Shortcut => "a shortcut, which starts what it names",
                    Kind::Serialized => {
                        "objects of R or Java, which may run code when they are read: they cannot \
                         be judged here"
                    }
                    _ => "Python's bytecode",
                };
                self.odd(AnomalyKind::NativeCode, place, what);
                // An archive may stand behind a program, and is opened from its end.
                self.model(input, place, 15)?;
                return Ok(true);
            }
            Kind::Json | Kind::Yaml | Kind::Template | Kind::Python | Kind::Requirements => {
                let read = self.text(region, place, &name, kind)?;
                // What is a pickle as well is judged as one too.
                return Ok(self.model(input, place, 50)? || read);
            }
            Kind::Paths => {
                let read = self.paths(region, place)?;
                return Ok(self.model(input, place, 11)? || read);
            }
            Kind::Graph if self.model(input, place, 50)? => return Ok(true),
            Kind::Graph => {
                if self.graph(region, place) {
                    return Ok(true);
                }
                if names::is_saved_model(&name) {
                    self.name("tensorflow");
                    let what = "it is no graph that TensorFlow reads";
                    self.odd(AnomalyKind::Unreadable, place, what);
                    return Ok(true);
                }
            }
            Kind::Other => {}
        }
        self.model(input, place, 11)
    }

    /// Looks at what is no known kind as a loader does that takes it for a pickle, or for one after the
    /// other if it is named like a model. Answers whether that is dangerous, or the file is nothing but
    /// pickles: nothing else is said of it.
    pub(super) fn look_at_start(&mut self, input: &Input) -> ir::Result<bool> {
        let region = input.file()?;
        let found = if promises(input.path()) {
            Some(ckpt::stream(region, &self.cx))
        } else {
            ckpt::active(region, &self.cx)
        };
        let Some(mut survey) = found else {
            return Ok(false);
        };
        let judgement = scan::judge(&survey);
        let whole = promises(input.path()) && survey.error.is_none() && survey.anomalies.is_empty();
        let told = whole || judgement.verdict == Verdict::Dangerous;
        if told {
            self.name(ckpt::FORMAT.id);
            self.take(judgement, "");
            self.error = survey.error.take();
        }
        Ok(told)
    }

    fn name(&mut self, format: &'static str) {
        self.format.get_or_insert(format);
    }

    /// A model of a format of the registry, if one is at least so sure.
    fn model(&mut self, input: &Input, place: &str, sure: u8) -> ir::Result<bool> {
        let region = input.file()?;
        let head = head(region)?;
        // Archives and arrays without a checkpoint are for the reader of checkpoints too.
        let archive = ckpt::begins_tar(&head) || head.starts_with(b"\x93NUMPY");
        let (format, points) = match detect(input) {
            Ok(found) => (found.format, found.points),
            Err(error) if error.class() != Class::Unsupported => return Err(error),
            Err(_) if archive => (&ckpt::FORMAT, 50),
            Err(_) => return Ok(false),
        };
        if points < sure {
            return Ok(false);
        }
        let Some(reader) = format.reader else {
            return Ok(false);
        };
        let title = match (&*head, points) {
            ([b'P', b'K', ..], ..=20) => "zip",
            ([0x93, b'N', b'U', b'M', ..], _) => "numpy",
            _ if archive && points <= 50 => "tar",
            _ => format.id,
        };
        self.name(title);
        self.unpickled |= format.id == ckpt::FORMAT.id;
        let survey = if format.id == ckpt::FORMAT.id {
            self.with_parts(place, |cx, part| {
                ckpt::CkptReader.survey_with(input, cx, part)
            })
        } else {
            reader.survey(input, &self.cx)
        };
        self.keep(survey, place);
        Ok(true)
    }

    fn packed(&mut self, input: &Input, place: &str, wrapping: Wrapping) -> ir::Result<bool> {
        let region = input.file()?;
        let unpacked = foreign::unpack(region, wrapping, &self.cx.scratch);
        let (inside, stopped) = match unpacked {
            Ok(found) => found,
            Err(error) if error.class() == Class::Io => return Err(error),
            Err(error) => (Region::memory(Vec::new()), Some(error)),
        };
        // Two bytes may begin like zlib's by chance.
        if inside.is_empty() && matches!(wrapping, Wrapping::Zlib | Wrapping::Lzma) {
            return self.model(input, place, 11);
        }
        self.name(wrapping.name());
        self.unpacked = self.unpacked.saturating_add(inside.len());
        Limits::check("bytes unpacked of one file", self.unpacked, self.most)?;
        let here = join(place, &format!("unpacked {}", wrapping.name()));
        let inner = Input::from_region(unpacked_name(input), inside);
        self.depth += 1;
        let known = self.look(&inner, &here);
        self.depth -= 1;
        match stopped {
            // What was unpacked is none of ours, and something else may follow it.
            Some(error) if known || error.class() == Class::Limit || place.is_empty() => {
                self.fail(error, &here);
                Ok(true)
            }
            _ if known => Ok(true),
            // Named like a model, and none.
            _ if promises(inner.path()) => {
                detect(&inner)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn hdf5(&mut self, region: &Region, place: &str) {
        self.name("hdf5");
        let (contents, error) = foreign::hdf5::read(region);
        let mut survey = Survey {
            error,
            ..Survey::default()
        };
        for attribute in contents.attributes {
            if attribute.text.trim_start().starts_with(['{', '[']) {
                survey.texts.push(Text {
                    place: format!("attribute {:?} of {}", attribute.name, attribute.object),
                    language: "keras",
                    text: attribute.text,
                });
            }
        }
        for outside in contents.outside {
            survey.anomalies.push(Anomaly {
                kind: AnomalyKind::ExternalPath,
                place: outside.object,
                what: format!("{} to {}", outside.how, outside.file),
            });
            let file = outside.file;
            let error = foreign::ForeignError::Elsewhere { file };
            survey.error.get_or_insert_with(|| error.into());
        }
        self.keep(survey, place);
    }

    fn graph(&mut self, region: &Region, place: &str) -> bool {
        let (graph, error) = foreign::graph::read(region);
        if graph.nodes.is_empty() && graph.keras.is_empty() {
            return false;
        }
        self.name("tensorflow");
        let lines: Vec<String> = graph
            .nodes
            .iter()
            .map(|node| {
                let texts = node.texts.join("\t");
                let line = format!("{}\t{}\t{texts}", node.op, node.name);
                line.replace('\n', " ")
            })
            .collect();
        let text = |place: &str, language, text| Text {
            place: place.to_owned(),
            language,
            text,
        };
        let mut survey = Survey {
            error,
            ..Survey::default()
        };
        survey
            .texts
            .push(text("graph", "tensorflow", lines.join("\n")));
        for keras in graph.keras {
            survey.texts.push(text("Keras metadata", "keras", keras));
        }
        self.keep(survey, place);
        true
    }

    /// An index or a notebook, of which no more is kept than matters.
    fn long(&mut self, region: &Region, place: &str) -> ir::Result<bool> {
        self.name("json");
        let survey = whole(region, "JSON", "long json")?;
        self.keep(survey, place);
        Ok(true)
    }

    /// The graph of an exported program.
    fn exported(&mut self, region: &Region, place: &str) -> ir::Result<()> {
        if region.len() > EXPORTED {
            let what = "a graph longer than any: it is not looked at";
            self.odd(AnomalyKind::Unreadable, place, what);
            return Ok(());
        }
        let survey = whole(region, "graph", "export")?;
        self.keep(survey, place);
        Ok(())
    }

    /// A text that a loader interprets.
    fn text(&mut self, region: &Region, place: &str, name: &str, kind: Kind) -> ir::Result<bool> {
        let (language, most) = match kind {
            Kind::Json => ("json", JSON),
            Kind::Yaml => ("yaml", TEXT),
            Kind::Template => ("jinja", TEXT),
            Kind::Requirements => ("requirements", TEXT),
            _ => ("python", TEXT),
        };
        let base = name.rsplit('/').next().unwrap_or(name);
        // `data` is what stable-baselines3 keeps pickles in.
        let settings = is_settings(base) || (self.depth > 0 && base == "data");
        if kind == Kind::Json && self.depth > 0 && is_exported(name) {
            self.exported(region, place)?;
        }
        if region.len() > most {
            // Vocabularies are long, and nothing in them is interpreted.
            if kind == Kind::Json && !settings {
                let read = is_long(base) && region.len() <= EXPORTED;
                return if read {
                    self.long(region, place)
                } else {
                    Ok(false)
                };
            }
            self.name(language);
            let what = "longer than any of its kind: not all of it is looked at";
            self.odd(AnomalyKind::Unreadable, place, what);
            return Ok(true);
        }
        self.texts += region.len();
        Limits::check("bytes of texts in one file", self.texts, self.most_texts)?;
        let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
        let bytes = region.bytes(0, len)?;
        let Some(text) = decode(&bytes) else {
            if settings {
                self.name(language);
                self.odd(AnomalyKind::Unreadable, place, "it is not text");
            }
            return Ok(settings);
        };
        let how = match kind {
            Kind::Json if is_pipeline(base) => "pipeline",
            Kind::Yaml if is_environment(base) => "environment",
            Kind::Json if self.names_library(place, name, &text) => "json with its library",
            _ => language,
        };
        let hidden = match kind {
            Kind::Json => encoded::pickles(&text),
            _ => Vec::new(),
        };
        let mut survey = Survey::default();
        survey.texts.push(Text {
            place: language_place(kind).to_owned(),
            language: how,
            text,
        });
        let judgement = scan::judge(&survey);
        if kind == Kind::Json
            && !settings
            && judgement.verdict == Verdict::Malformed
            && judgement.findings.len() < 2
            && judgement
                .findings
                .iter()
                .all(|it| it.what != scan::LARGE_JSON)
        {
            // Lines of JSON, comments, fragments: no parser reads them as one document.
            return Ok(false);
        }
        self.name(language);
        self.take(judgement, place);
        if hidden.len() > encoded::MOST {
            let what = "more pickles in base64 than are looked at";
            self.odd(AnomalyKind::Unreadable, place, what);
        }
        for (key, bytes) in hidden {
            self.decoded(bytes, &join(place, &format!("base64 of {key:?}")));
        }
        Ok(true)
    }

    /// Judges a pickle that a text held, if it is one: it runs to its end, or what it does before it
    /// breaks is dangerous.
    fn decoded(&mut self, bytes: Vec<u8>, place: &str) {
        let region = Region::memory(bytes);
        let survey = ckpt::start(&region, &self.cx);
        let whole = survey.objects.iter().all(|pickle| pickle.complete);
        if whole || scan::judge(&survey).verdict == Verdict::Dangerous {
            drop(survey);
            self.depth += 1;
            self.look(&Input::from_region("pickle", region), place);
            self.depth -= 1;
        }
    }

    /// Whether a library of the machine lies beside a file that is not within another, and its name
    /// stands in the text.
    fn names_library(&self, place: &str, name: &str, text: &str) -> bool {
        const MOST: u64 = 10_000;
        if !place.is_empty() || self.depth > 0 || !text.contains("session_options") {
            return false;
        }
        let folder = std::path::Path::new(name).parent();
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(std::path::Path::new("."));
        let listing = self.cx.places.list(folder, MOST).unwrap_or_default();
        listing
            .names
            .iter()
            .any(|(file, _)| scan::is_library(file) && text.contains(file.as_str()))
    }
}

/// All of a file as one text.
fn whole(region: &Region, place: &str, language: &'static str) -> ir::Result<Survey> {
    let len = usize::try_from(region.len()).unwrap_or(usize::MAX);
    let bytes = region.bytes(0, len)?;
    let text = Text {
        place: place.to_owned(),
        language,
        text: decode(&bytes).unwrap_or_default(),
    };
    Ok(Survey {
        texts: vec![text],
        ..Survey::default()
    })
}

fn head(region: &Region) -> ir::Result<bytes::Bytes> {
    let len = usize::try_from(region.len())
        .unwrap_or(usize::MAX)
        .min(8192);
    region.bytes(0, len)
}

fn language_place(kind: Kind) -> &'static str {
    match kind {
        Kind::Json => "JSON",
        Kind::Yaml => "YAML",
        Kind::Template => "template",
        Kind::Requirements => "packages",
        _ => "code",
    }
}

fn join(place: &str, part: &str) -> String {
    if place.is_empty() {
        part.to_owned()
    } else {
        format!("{place}: {part}")
    }
}

/// Text in UTF-8, or in UTF-16 with its mark.
fn decode(bytes: &[u8]) -> Option<String> {
    let wide = |bytes: &[u8], of: fn([u8; 2]) -> u16| {
        let units = bytes.as_chunks::<2>().0.iter().map(|pair| of(*pair));
        Some(
            char::decode_utf16(units)
                .map(|c| c.unwrap_or('\u{fffd}'))
                .collect(),
        )
    };
    match bytes {
        [0xff, 0xfe, rest @ ..] => wide(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => wide(rest, u16::from_be_bytes),
        _ if bytes.contains(&0) => None,
        _ => Some(String::from_utf8_lossy(bytes).into_owned()),
    }
}
