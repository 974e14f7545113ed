//! One line of a plan. `docs/migration.md` describes every field for those who edit them.

use crate::place::objection;
use crate::{MigrateError, digest};
use convert::recipe::FileType;
use ir::{DType, Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use weightbridge::Policy;

/// The version of the lines this program writes.
pub(crate) const VERSION: u32 = 1;
/// Longest line that is read.
const LINE_MAX: u64 = 64 << 20;

/// What is to become of a model, or of files that belong to none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// The version of this form: 1.
    pub version: u32,
    /// What to do.
    pub action: Action,
    /// What it is about: the path of the weights, or of a folder, from `root`.
    pub model: String,
    /// The tree.
    pub root: String,
    /// The parallel tree; none to write beside the originals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dest: Option<String>,
    /// What is given to the converter: a file, an index, or a folder, from `root`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub input: String,
    /// The files that hold the model. With `--delete-originals` they are what is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<FileFact>,
    /// The file to write, from `dest` or `root`; a set is named after it. Of a copy, its folder.
    #[serde(default)]
    pub output: String,
    /// The manifest of digests beside the output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sums: String,
    /// Files that are copied along, from `root` and to the same path from `dest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub side: Vec<String>,
    /// How to convert.
    pub settings: Settings,
    /// Bytes of the inputs.
    #[serde(default)]
    pub bytes_in: u64,
    /// Bytes that will be written, roughly.
    #[serde(default)]
    pub bytes_out: u64,
    /// Tensors that will be written.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tensors: u64,
    /// What will be chosen, renamed, changed and left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub report: Vec<Told>,
    /// What the scan found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Found>,
    /// What stands in the way, as far as planning could see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// What to do with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Convert, compare, and name the result.
    Convert,
    /// Copy the side files.
    Copy,
    /// Nothing; the line is there to be seen.
    Leave,
}

/// How a model is converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The target: `safetensors` or `gguf`.
    pub to: String,
    /// Element type of floats: `f32`, `f16` or `bf16`; none to keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<String>,
    /// File type of GGUF, e.g. `Q4_K_M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantize: Option<String>,
    /// Most bytes of tensors in one file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard_size: Option<u64>,
    /// `default`, `strict` or `extract`; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Side files become hard links where the file system allows it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
}

/// A file as it was when the plan was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFact {
    /// From the root.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, in microseconds since 1970. Microseconds, for tools that read
    /// JSON's numbers as floats.
    pub mtime: u64,
    /// The storage's own tag of its content, of an object: where it is the same, so is the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Its SHA-256, where the plan was made with digests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Records of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// `carried`, `changed` or `dropped`.
    pub outcome: String,
    /// The record's kind.
    pub kind: String,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub what: Vec<String>,
    /// Why, of the first.
    pub why: String,
    /// Whether something is lost by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub loss: bool,
}

/// A finding of the scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// `dangerous` or `suspicious`.
    pub severity: String,
    /// The rule's id.
    pub rule: String,
    /// What was found.
    pub what: String,
    /// How often.
    pub count: u64,
}

impl Line {
    /// What the journal calls it. Outputs are unlike each other, so that is a name.
    pub fn id(&self) -> String {
        match self.action {
            Action::Convert | Action::Leave => self.output.clone(),
            Action::Copy => format!("{}/", self.output),
        }
    }

    /// Where its outputs stand.
    pub(crate) fn base(&self) -> &str {
        self.dest.as_deref().unwrap_or(&self.root)
    }

    /// A digest of all that decides which bytes come out: an edit of any of it is noticed.
    pub(crate) fn fingerprint(&self) -> String {
        let inputs: Vec<&str> = self.inputs.iter().map(|file| file.path.as_str()).collect();
        let decisive = serde_json::json!([
            self.action,
            self.root,
            self.dest,
            self.input,
            inputs,
            self.output,
            self.sums,
            self.side,
            self.settings,
        ]);
        digest::short(&decisive.to_string())
    }

    /// Bytes of work, to weigh it against others.
    pub(crate) fn weight(&self) -> u64 {
        self.bytes_out.max(self.bytes_in)
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.version != VERSION {
            return Err(format!(
                "\"version\" is {}, this program reads {VERSION}",
                self.version
            ));
        }
        let settings = &self.settings;
        settings.dtype()?;
        settings.quantize()?;
        settings.policy()?;
        if settings.shard_size == Some(0) {
            return Err("\"shard_size\" is 0".to_owned());
        }
        let files = self.inputs.iter().map(|file| file.path.as_str());
        let side = self.side.iter().map(String::as_str);
        for path in files
            .chain(side)
            .chain([self.input.as_str(), &self.output, &self.sums])
        {
            if let Some(why) = objection(path) {
                return Err(format!("the path {path:?} {why}"));
            }
        }
        if self.sums.contains('/') {
            return Err("\"sums\" is a name, not a path".to_owned());
        }
        match self.action {
            Action::Copy if self.dest.is_none() => {
                Err("there is nothing to copy without a \"dest\"".to_owned())
            }
            Action::Copy | Action::Leave => Ok(()),
            Action::Convert => self.check_conversion(),
        }
    }

    fn check_conversion(&self) -> std::result::Result<(), String> {
        let extension = match self.settings.to.as_str() {
            "safetensors" => ".safetensors",
            "gguf" => ".gguf",
            other => {
                return Err(MigrateError::Target {
                    to: other.to_owned(),
                }
                .to_string());
            }
        };
        if !self.output.ends_with(extension) || crate::place::name(&self.output) == extension {
            return Err(format!(
                "\"output\" is {:?}, a name ending in {extension} is wanted",
                self.output
            ));
        }
        if self.inputs.is_empty() {
            return Err("there are no \"inputs\" to convert".to_owned());
        }
        if self.settings.quantize.is_some() && extension != ".gguf" {
            return Err("\"quantize\" is for \"to\": \"gguf\"".to_owned());
        }
        if self.sums == crate::place::name(&self.output) {
            return Err("\"sums\" and \"output\" are one name".to_owned());
        }
        Ok(())
    }
}

impl Settings {
    /// The element type, read.
    pub(crate) fn dtype(&self) -> std::result::Result<Option<DType>, String> {
        match self.dtype.as_deref() {
            None | Some("keep") => Ok(None),
            Some("f32") => Ok(Some(DType::F32)),
            Some("f16") => Ok(Some(DType::F16)),
            Some("bf16") => Ok(Some(DType::BF16)),
            Some(other) => Err(format!(
                "\"dtype\" is {other:?}; there are keep, f32, f16 and bf16"
            )),
        }
    }

    /// The file type, read.
    pub(crate) fn quantize(&self) -> std::result::Result<Option<FileType>, String> {
        let parse = |name: &String| {
            name.parse::<FileType>()
                .map_err(|error| format!("\"quantize\": {error}"))
        };
        self.quantize.as_ref().map(parse).transpose()
    }

    /// The policy, read.
    pub(crate) fn policy(&self) -> std::result::Result<Policy, String> {
        let parse = |name: &String| name.parse().map_err(|error| format!("\"policy\": {error}"));
        self.policy.as_ref().map_or(Ok(Policy::Default), parse)
    }
}

/// A plan as it was read.
#[derive(Debug, Default)]
pub struct Plan {
    /// Its lines with their numbers, counted from 1.
    pub lines: Vec<(usize, Line)>,
    /// Lines that cannot be followed.
    pub bad: Vec<BadLine>,
}

/// A line of a plan that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Counted from 1.
    pub number: usize,
    /// Its model; empty where that could not be read.
    pub model: String,
    /// What is wrong with it.
    pub what: String,
}

impl BadLine {
    fn unread(number: usize, what: String) -> Self {
        let model = String::new();
        Self {
            number,
            model,
            what,
        }
    }
}

/// Lines of a file that are looked at for one that could be a plan's.
const STRANGE_MAX: usize = 100;

/// Reads a plan. A line that is wrong is told and passed over, so that it stops no other; only a
/// file that cannot be read at all, or has nothing of a plan, is an error.
pub fn read_plan(path: &Path) -> Result<Plan> {
    let failed = |source| Error::io("read the plan", path, source);
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut plan = Plan::default();
    let mut strange = true;
    for number in 1.. {
        let mut bytes = Vec::new();
        let n = reader
            .by_ref()
            .take(LINE_MAX)
            .read_until(b'\n', &mut bytes)
            .map_err(failed)?;
        if n == 0 {
            break;
        }
        if n as u64 == LINE_MAX {
            let what = format!("is longer than {LINE_MAX} bytes");
            plan.bad.push(BadLine::unread(number, what));
            break;
        }
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        match parse(&bytes) {
            Ok(line) => plan.lines.push((number, line)),
            Err(what) => plan.bad.push(BadLine::unread(number, what)),
        }
        strange = strange && plan.lines.is_empty() && !resembles(&bytes);
        if strange && plan.bad.len() >= STRANGE_MAX {
            break;
        }
    }
    if strange && !plan.bad.is_empty() {
        return Err(Error::from(MigrateError::NotAPlan).in_file(path));
    }
    plan.refuse_conflicts();
    Ok(plan)
}

/// Whether a line that cannot be read was one of a plan before somebody edited it.
fn resembles(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    text.trim_start().starts_with('{')
        && ["\"version\"", "\"action\"", "\"settings\""]
            .iter()
            .any(|key| text.contains(key))
}

fn parse(bytes: &[u8]) -> std::result::Result<Line, String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let what = text
            .rsplit_once(" at line ")
            .map_or(text.as_str(), |(what, _)| what);
        format!("{what}, at column {}", error.column())
    })?;
    line.check()?;
    Ok(line)
}

impl Plan {
    /// Two lines that write one file: neither is followed, for nobody knows which is meant.
    fn refuse_conflicts(&mut self) {
        self.refuse_shared(|line| Some(line.id()));
        self.refuse_shared(|line| (!line.sums.is_empty()).then(|| line.sums_path()));
        let bad: Vec<usize> = self.bad.iter().map(|bad| bad.number).collect();
        self.lines.retain(|(number, _)| !bad.contains(number));
        self.bad.sort_by_key(|bad| bad.number);
    }

    /// Tells of lines for which `name` is the same file.
    fn refuse_shared(&mut self, name: impl Fn(&Line) -> Option<String>) {
        let mut takers: BTreeMap<(&str, String), Vec<(usize, &str)>> = BTreeMap::new();
        let active = |(_, line): &&(usize, Line)| line.action != Action::Leave;
        for (number, line) in self.lines.iter().filter(active) {
            if let Some(name) = name(line) {
                let taker = (*number, line.model.as_str());
                takers.entry((line.base(), name)).or_default().push(taker);
            }
        }
        for ((_, name), numbers) in takers.iter().filter(|(_, numbers)| numbers.len() > 1) {
            for (number, model) in numbers {
                let others = numbers.iter().filter(|(other, _)| other != number);
                let others: Vec<String> = others.map(|(other, _)| other.to_string()).collect();
                let what = format!(
                    "writes {name:?}, and so does line {}",
                    others.join(", line ")
                );
                if !self.bad.iter().any(|bad| bad.number == *number) {
                    let number = *number;
                    let model = (*model).to_owned();
                    self.bad.push(BadLine {
                        number,
                        model,
                        what,
                    });
                }
            }
        }
    }
}

impl Line {
    /// The manifest's path from the base.
    pub(crate) fn sums_path(&self) -> String {
        crate::place::join(crate::place::parent(&self.output), &self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"version":1,"action":"convert","model":"a/pytorch_model.bin","root":"/r","input":"a/pytorch_model.bin","inputs":[{"path":"a/pytorch_model.bin","bytes":3,"mtime":4}],"output":"a/model.safetensors","sums":"SHA256SUMS","settings":{"to":"safetensors"}}"#;

    fn read(text: &str) -> Plan {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_plan(file.path()).unwrap()
    }

    #[test]
    fn a_line_reads_back() {
        let plan = read(&format!("{GOOD}\n\n"));
        assert!(plan.bad.is_empty(), "{:?}", plan.bad);
        let [(1, line)] = plan.lines.as_slice() else {
            panic!("{plan:?}")
        };
        let again = read(&serde_json::to_string(line).unwrap());
        assert_eq!(again.lines[0].1, *line);
        assert_eq!(again.lines[0].1.fingerprint(), line.fingerprint());
    }

    #[test]
    fn wrong_edits_are_told_by_line() {
        for (from, to, word) in [
            ("\"version\":1", "\"version\":9", "\"version\" is 9"),
            ("\"convert\"", "\"convrt\"", "convrt"),
            ("\"to\"", "\"dtype\":\"f61\",\"to\"", "f61"),
            ("\"to\"", "\"quantize\":\"Q9\",\"to\"", "quantize"),
            ("a/model.safetensors", "../model.safetensors", "plain path"),
            ("a/model.safetensors", "a/model.bin", ".safetensors"),
            ("\"sums\"", "\"sum\"", "sum"),
            ("}]", "}", "column"),
            ("\"SHA256SUMS\"", "\"model.safetensors\"", "one name"),
        ] {
            let wrong = GOOD.replacen(from, to, 1);
            assert_ne!(wrong, GOOD);
            let other = GOOD.replace("a/", "b/");
            let plan = read(&format!("{other}\n{wrong}\n"));
            assert_eq!(plan.lines.len(), 1, "{to}");
            assert_eq!(plan.bad.len(), 1, "{to}");
            assert_eq!(plan.bad[0].number, 2);
            assert!(
                plan.bad[0].what.contains(word),
                "{to}: {}",
                plan.bad[0].what
            );
        }
    }

    #[test]
    fn what_has_nothing_of_a_plan_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for strange in [
            "words\n".repeat(5000),
            "{\"a\": 1}\n[2]\n".to_owned(),
            "\u{0}\u{1}PK".to_owned(),
        ] {
            std::fs::write(file.path(), strange).unwrap();
            let error = read_plan(file.path()).unwrap_err();
            assert_eq!(error.class(), ir::Class::Malformed);
            assert!(error.to_string().contains("no plan of a migration"));
        }
        // A slip of the pen in its only line leaves it a plan.
        assert_eq!(read(&GOOD.replace("}]", "}")).bad.len(), 1);
        assert_eq!(read(&format!("# notes\n{GOOD}\n")).bad.len(), 1);
        assert!(read("\n").bad.is_empty());
    }

    #[test]
    fn one_output_has_one_line() {
        let plan = read(&format!("{GOOD}\n{GOOD}\n"));
        assert!(plan.lines.is_empty());
        assert_eq!(
            plan.bad[1].what,
            "writes \"a/model.safetensors\", and so does line 1"
        );
    }
}
