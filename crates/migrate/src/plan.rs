//! From a tree to a plan: a dry run of every model, headers only. Nothing is changed.

use crate::advice::tell;
use crate::line::{Action, FileFact, Found as Finding, Line, Settings, Told, VERSION};
use crate::models::{self, Candidate};
use crate::place::{self, Place};
use crate::select::Selection;
use crate::walk::{self, Remark, Tree};
use crate::{MigrateError, Observer, beside, names, steps};
use ir::{Error, Fault, Output, Places, Record, Result};
use std::collections::BTreeMap;
use std::path::Path;
use weightbridge::Session;

/// What a plan is asked to cover.
#[derive(Clone, Debug, Default)]
pub struct PlanRequest {
    /// The tree.
    pub root: String,
    /// The parallel tree; none to write beside the originals.
    pub dest: Option<String>,
    /// Globs of models to take.
    pub include: Vec<String>,
    /// Globs of models and side files to leave out.
    pub exclude: Vec<String>,
    /// How to convert; `quantize` is set for each of the types below.
    pub settings: Settings,
    /// File types of GGUF, a line each.
    pub quantize: Vec<String>,
    /// Whether to digest every input.
    pub digests: bool,
}

/// A plan, and what it is not about.
#[derive(Debug, Default)]
pub struct Planned {
    /// Its lines.
    pub lines: Vec<Line>,
    /// What the walk passed over.
    pub remarks: Vec<Remark>,
    /// Patterns, with their flag, that nothing in the tree matches, and what is there.
    pub unmatched: Vec<Remark>,
}

impl Planned {
    /// Writes the plan, whole or not at all, and over no file that it is about.
    pub fn write(&self, path: &Path, overwrite: bool) -> Result<()> {
        let mut places = Places::default();
        // Where nothing is there is nothing to spare.
        for line in self.lines.iter().filter(|_| path.exists()) {
            for file in &line.inputs {
                places.spare(&Path::new(&line.root).join(&file.path), PLANNED);
            }
        }
        let mut out = Output::new(path, overwrite).within(&places);
        let number = out.main_file()?;
        let mut at = 0;
        for line in &self.lines {
            let mut text = steps::json(line);
            text.push('\n');
            out.get(number)?.write_at(at, text.as_bytes())?;
            at += text.len() as u64;
        }
        out.commit()?;
        Ok(())
    }
}

/// What a plan never replaces.
const PLANNED: &str = "a file of the tree that is planned";

/// Refuses a plan that would go where a file of the tree is. A plan that lies there may be replaced.
pub fn refuse_output(root: &str, plan: &Path) -> Result<()> {
    let empty = std::fs::metadata(plan).is_ok_and(|meta| meta.len() == 0);
    if plan.is_file() && ir::is_inside(Path::new(root), plan) && !empty && !crate::is_plan(plan) {
        return Err(Error::from(Fault::OutputIs { what: PLANNED }).in_file(plan));
    }
    Ok(())
}

/// Makes a plan of a tree.
pub fn plan(request: &PlanRequest, session: &Session, observer: &dyn Observer) -> Result<Planned> {
    let to = request.settings.to.as_str();
    if !["safetensors", "gguf"].contains(&to) {
        return Err(MigrateError::Target { to: to.to_owned() }.into());
    }
    let selection = Selection::new(&request.include, &request.exclude)?;
    let parse = |text: &str| Place::parse(text, &session.places);
    let root = parse(&request.root)?;
    let dest = request.dest.as_deref().map(parse).transpose()?;
    let target = dest.as_ref().unwrap_or(&root);
    if target.is_http() {
        return Err(Error::from(MigrateError::ReadOnly).in_file(target.path()));
    }
    refuse_nested(&root, dest.as_ref())?;
    let (root, tree) = walk::tree(root, &session.cancel)?;
    let planner = Planner {
        request,
        root,
        dest,
        session,
    };
    let mut candidates = Vec::new();
    for (folder, files) in &tree.folders {
        session.cancel.check()?;
        candidates.extend(models::in_folder(&planner.root, folder, files, to));
    }
    let unmatched = unmatched(request, &candidates, &tree)?;
    // Models that are not meant travel as nothing: neither converted nor copied.
    let (candidates, unmeant): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|one| one.action == Action::Copy || selection.takes(&one.model));
    let convert: Vec<&Candidate> = candidates
        .iter()
        .filter(|one| one.action != Action::Copy)
        .collect();
    observer.begin(convert.len() as u64, 0);
    let threads = crate::run::threads(session.threads);
    let done = crate::run::parallel(threads, convert.len(), |worker, index| {
        let one = convert.get(index)?;
        observer.started(worker, &one.model, 0);
        let lines = planner.lines_of(one, &tree);
        observer.idle(worker);
        observer.finished(&one.model, None);
        Some(lines)
    });
    observer.end();
    session.cancel.check()?;
    let mut lines: Vec<Line> = done.into_iter().flatten().flatten().collect();
    if planner.dest.is_some() {
        let unmeant = unmeant.into_iter().flat_map(|one| one.files);
        let blank = |folder: &str| planner.blank(&Candidate::copy_of(folder));
        let gguf = to == "gguf";
        beside::give(
            &mut lines,
            &tree,
            &selection,
            unmeant.collect(),
            gguf,
            blank,
        );
    }
    beside::name_manifests(&mut lines, &tree);
    tell_conflicts(&mut lines);
    Ok(Planned {
        lines,
        remarks: tree.remarks,
        unmatched,
    })
}

/// Patterns that nothing matches: a slip of the pen, most likely.
fn unmatched(request: &PlanRequest, models: &[Candidate], tree: &Tree) -> Result<Vec<Remark>> {
    let (include, exclude) = (&request.include, &request.exclude);
    if include.is_empty() && exclude.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<String> = tree
        .folders
        .iter()
        .flat_map(|(folder, files)| files.iter().map(|file| place::join(folder, &file.name)))
        .collect();
    let models: Vec<&str> = models
        .iter()
        .filter(|one| one.action != Action::Copy)
        .map(|one| one.model.as_str())
        .collect();
    let paths: Vec<&str> = files
        .iter()
        .map(String::as_str)
        .chain(models.clone())
        .collect();
    let there = match models.len() {
        0 => "and there is no model in the tree".to_owned(),
        n => {
            let named = models.iter().take(NAMED).copied().collect::<Vec<_>>();
            let more = match n - named.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            format!("there are {}{more}", named.join(", "))
        }
    };
    let mut remarks = Vec::new();
    for (flag, patterns) in [("--include", include), ("--exclude", exclude)] {
        for pattern in Selection::unmatched(patterns, &paths)? {
            remarks.push(Remark {
                path: format!("{flag} {pattern}"),
                what: format!("nothing matches; {there}"),
            });
        }
    }
    Ok(remarks)
}

fn refuse_nested(root: &Place, dest: Option<&Place>) -> Result<()> {
    let Some(dest) = dest else { return Ok(()) };
    // Names in a storage are what they are: nothing leads elsewhere.
    let real = |place: &Place| {
        let path = place.path();
        let real = place.is_local().then(|| path.canonicalize().ok());
        real.flatten().unwrap_or_else(|| path.to_owned())
    };
    let (root, target) = (real(root), real(dest));
    if root.starts_with(&target) || target.starts_with(&root) {
        return Err(Error::from(MigrateError::Nested).in_file(dest.path()));
    }
    Ok(())
}

struct Planner<'a> {
    request: &'a PlanRequest,
    root: Place,
    dest: Option<Place>,
    session: &'a Session,
}

impl Planner<'_> {
    /// The lines of one model: for GGUF one a file type.
    fn lines_of(&self, one: &Candidate, tree: &Tree) -> Vec<Line> {
        let kinds: Vec<Option<String>> = match self.request.quantize.as_slice() {
            [] => vec![None],
            types => types.iter().cloned().map(Some).collect(),
        };
        let mut line = self.blank(one);
        if one.action == Action::Leave {
            line.problem.clone_from(&one.why);
            line.inputs = self.facts(&one.files, false).unwrap_or_default();
            line.bytes_in = sum(&line.inputs);
            return vec![line];
        }
        line.findings = self.findings(&one.files);
        let each = kinds.into_iter().map(|kind| {
            let mut line = line.clone();
            line.settings.quantize = kind;
            line.output = match one.main.as_str() {
                "" => place::join(
                    &one.model,
                    &names::gguf(&one.model, line.settings.quantize.as_deref()),
                ),
                main => place::join(place::parent(&one.model), &names::safetensors(main)),
            };
            self.dry_run(&mut line, one, tree);
            line
        });
        each.collect()
    }

    fn blank(&self, one: &Candidate) -> Line {
        Line {
            version: VERSION,
            action: one.action,
            model: one.model.clone(),
            root: self.root.to_string(),
            dest: self.dest.as_ref().map(ToString::to_string),
            input: one.input.clone(),
            inputs: Vec::new(),
            output: String::new(),
            sums: String::new(),
            side: Vec::new(),
            settings: self.request.settings.clone(),
            bytes_in: 0,
            bytes_out: 0,
            tensors: 0,
            report: Vec::new(),
            findings: Vec::new(),
            problem: None,
        }
    }

    /// Fills in what a conversion would do; what keeps it from being done is the line's problem.
    fn dry_run(&self, line: &mut Line, one: &Candidate, tree: &Tree) {
        let mut files = one.files.clone();
        // A set keeps its cut: shards as large as those it came in.
        if line.settings.shard_size.is_none()
            && line.settings.to == "safetensors"
            && files.len() > 1
        {
            let largest = files.iter().filter_map(|file| size(tree, file)).max();
            line.settings.shard_size = largest.filter(|size| *size > 0);
        }
        let session = Session {
            threads: 1,
            ..self.session.clone()
        };
        let base = self.dest.as_ref().unwrap_or(&self.root);
        let output = base.at(&line.output);
        let done = steps::request(line, &self.root.at(&line.input), &output)
            .map(|request| weightbridge::ConvertRequest {
                dry_run: true,
                ..request
            })
            .and_then(|request| weightbridge::convert(&request, &session));
        match done {
            Ok(done) => {
                line.tensors = done.report.tensors;
                // A header has a name, a type, a shape and two offsets for each tensor.
                line.bytes_out = done.report.tensor_bytes + done.report.tensors * 192 + 4096;
                line.report = told(&done.report.records);
                if one.main.is_empty() {
                    // Of several weights in a repository, those that were read.
                    let real = |path| self.root.real(path);
                    let read = done.planned.provenance.files.iter();
                    let read: Vec<_> = read.filter_map(|(path, _)| real(path.clone())).collect();
                    files.retain(|file| {
                        real(self.root.at(file)).is_some_and(|path| read.contains(&path))
                    });
                }
            }
            Err(error) => line.problem = Some(tell(&error)),
        }
        if line.problem.is_none() {
            line.problem = match base.has(&line.output) {
                Ok(false) => None,
                Ok(true) => {
                    let path = line.output.clone();
                    Some(tell(&MigrateError::Taken { path }.into()))
                }
                Err(error) => Some(tell(&error)),
            };
        }
        match self.facts(&files, self.request.digests) {
            Ok(facts) => line.inputs = facts,
            Err(error) => line.problem = Some(tell(&error)),
        }
        line.bytes_in = sum(&line.inputs);
    }

    fn facts(&self, files: &[String], digests: bool) -> Result<Vec<FileFact>> {
        let one = |file: &String| {
            let mut fact = self.root.fact(file)?;
            if digests {
                fact.sha256 = Some(self.root.digest(file, &self.session.cancel)?);
            }
            Ok(fact)
        };
        files.iter().map(one).collect()
    }

    /// What a scan of the files finds, alike ones together.
    fn findings(&self, files: &[String]) -> Vec<Finding> {
        let paths: Vec<_> = files
            .iter()
            .filter(|file| place::extension(file) != "json")
            .map(|file| self.root.at(file))
            .collect();
        let Ok(report) = weightbridge::scan(&paths, self.session) else {
            return Vec::new();
        };
        let mut found: Vec<Finding> = Vec::new();
        for finding in report.files.iter().flat_map(|file| &file.findings) {
            let severity = finding.severity.name();
            if let Some(known) = found
                .iter_mut()
                .find(|f| f.rule == finding.rule && f.what == finding.what)
            {
                known.count += 1;
            } else if found.len() < FINDINGS {
                found.push(Finding {
                    severity: severity.to_owned(),
                    rule: finding.rule.to_owned(),
                    what: finding.what.clone(),
                    count: 1,
                });
            }
        }
        found
    }
}

/// Findings of a model that are listed.
const FINDINGS: usize = 20;
/// Records of a kind, and models beside a pattern that fits none, that are named.
const NAMED: usize = 3;

/// Two models that would be one file: each is told of the other, and a person decides.
fn tell_conflicts(lines: &mut [Line]) {
    let mut takers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.action == Action::Convert) {
        takers
            .entry(line.output.clone())
            .or_default()
            .push(line.model.clone());
    }
    for line in lines
        .iter_mut()
        .filter(|line| line.action == Action::Convert)
    {
        let Some(models) = takers.get(&line.output).filter(|models| models.len() > 1) else {
            continue;
        };
        let others = models.iter().filter(|model| **model != line.model).cloned();
        let others = others.collect::<Vec<_>>().join(", ");
        line.problem = Some(format!(
            "{others} would be written to {} too. Give one of the lines another \"output\", or set its \"action\" to \"leave\"",
            line.output
        ));
    }
}

fn sum(facts: &[FileFact]) -> u64 {
    facts
        .iter()
        .fold(0, |sum, fact| sum.saturating_add(fact.bytes))
}

fn size(tree: &Tree, path: &str) -> Option<u64> {
    let files = tree.folders.get(place::parent(path))?;
    files
        .iter()
        .find(|file| file.name == place::name(path))
        .map(|file| file.bytes)
}

/// Records, alike ones together.
pub(crate) fn told(records: &[Record]) -> Vec<Told> {
    let mut all: Vec<Told> = Vec::new();
    for record in records {
        let outcome = record.outcome.name();
        let alike = |told: &&mut Told| {
            told.kind == record.kind && told.outcome == outcome && told.loss == record.loss
        };
        if let Some(told) = all.iter_mut().find(alike) {
            told.count += 1;
            if told.what.len() < NAMED {
                told.what.push(record.what.clone());
            }
        } else {
            all.push(Told {
                outcome: outcome.to_owned(),
                kind: record.kind.to_owned(),
                count: 1,
                what: vec![record.what.clone()],
                why: record.why.clone(),
                loss: record.loss,
            });
        }
    }
    all
}
